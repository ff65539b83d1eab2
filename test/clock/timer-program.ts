/**
 * Timers of a thread or a process that ends, or does not, in the way the test specifies. Run by deadline-timer.test.ts,
 * which sees how it ended.
 */
import { readdirSync } from 'node:fs';
import { setImmediate as pass } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { openDeadlineTimer, type DeadlineTimer } from '../../src/clock/deadline-timer.js';
import { native } from '../../src/native/addon.js';

const CYCLES = 2_000;
const IDLE_MS = 1_000;
const how = (workerData as string | null) ?? process.argv[2];
const nowUs = (): number => performance.now() * 1000;

/** Fires every millisecond until it is closed. */
function ticking(each: () => void): DeadlineTimer {
  const timer: DeadlineTimer = openDeadlineTimer(() => {
    each();
    timer.arm(nowUs() + 1_000, nowUs());
  });
  timer.arm(nowUs(), nowUs());
  return timer;
}

if (how === 'unarmed') {
  // A timer that was never armed, has fired, or was disarmed does not keep the process alive.
  openDeadlineTimer(() => undefined);
  openDeadlineTimer(() => console.log('fired')).arm(nowUs() + 20_000, nowUs());
  const disarmed = openDeadlineTimer(() => console.log('fired though disarmed'));
  disarmed.arm(nowUs() + 1e9, nowUs());
  disarmed.disarm();
} else if (how === 'throws') {
  process.on('uncaughtException', (error) => console.log(`caught ${error.message}`));
  let fires = 0;
  const timer: DeadlineTimer = openDeadlineTimer(() => {
    if (++fires > 1) return console.log('and again');
    timer.arm(nowUs() + 100, nowUs());
    throw new Error('on purpose');
  });
  timer.arm(nowUs(), nowUs());
} else if (how === 'cycles') {
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < CYCLES; i++) {
    const timer = openDeadlineTimer(() => undefined);
    timer.arm(nowUs() + (i % 3) * 50, nowUs());
    if (i % 2 === 0) await pass();
    if (i % 5 !== 0) timer.close();
    else if (native.available) openDeadlineTimer(() => timer.close()).arm(nowUs(), nowUs());
    if (i % 100 === 0) globalThis.gc!();
  }
  const deadline = performance.now() + 10_000;
  let left = Infinity;
  while (left > CYCLES / 5 && performance.now() < deadline) {
    await pass();
    left = readdirSync('/proc/self/fd').length - before;
  }
  console.log(JSON.stringify({ cycles: CYCLES, descriptors: left }));
  process.exit(0);
} else if (how === 'idle') {
  openDeadlineTimer(() => undefined).arm(nowUs() + 3600e6, nowUs());
  await new Promise((resolve) => setTimeout(resolve, 200));
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ coreShare: (user + system) / 1000 / IDLE_MS }));
  process.exit(0);
} else {
  let fires = 0;
  const timer = ticking(() => {
    if (++fires === 3) parentPort?.postMessage('ticks');
    if (fires > 3 && how === 'throw') throw new Error('on purpose');
    if (fires > 3 && how === 'exit') process.exit(0);
    if (fires > 3 && how === 'close') setImmediate(() => timer.close());
  });
}
