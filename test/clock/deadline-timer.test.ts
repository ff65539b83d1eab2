/**
 * One-shot timers: what they promise, with the addon and without, and what is left of them. How late they are is
 * bench:timer's.
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { Pacer, type PacingKind } from '../../src/measure/load/pacer.js';
import { openDeadlineTimer } from '../../src/clock/deadline-timer.js';
import { hostMonotonicNs, monotonicOriginNs, openMonotonic } from '../../src/clock/monotonic.js';
import { native, type NativeBinding } from '../../src/native/addon.js';
import { freeAddress, nativeTransport, withoutNative } from '../transport/fixtures.js';

const program = fileURLToPath(new URL('./timer-program.js', import.meta.url));
const bindings = {
  'with the addon': native,
  without: { available: false, addon: null, reason: 'left out' } satisfies NativeBinding,
};
const nowUs = (): number => performance.now() * 1000;
/** Node's timers may come up to one of their milliseconds early. */
const EARLY_US = 1_000;

for (const [name, binding] of Object.entries(bindings)) {
  t.test(`a timer, ${name}`, async (t) => {
    let fires = 0;
    let firedUs = 0;
    const timer = openDeadlineTimer(() => {
      fires++;
      firedUs = nowUs();
    }, binding);
    t.teardown(() => timer.close());
    t.equal(timer.isPrecise, binding.available);
    const fired = async (count: number): Promise<void> => {
      for (let i = 0; i < 2_000 && fires < count; i++) await sleep(1);
      await sleep(10);
      t.equal(fires, count);
    };

    for (const [index, delayUs] of [-5_000, 0, 70, 1_300, 20_000].entries()) {
      const atUs = nowUs() + delayUs;
      timer.arm(atUs, nowUs());
      await fired(index + 1);
      t.ok(firedUs >= atUs - (timer.isPrecise ? 1 : EARLY_US), `${delayUs} µs: not before its time`);
    }

    timer.arm(nowUs() + 3600e6, nowUs());
    timer.arm(nowUs() + 500, nowUs());
    await fired(6);
    timer.arm(nowUs() + 500, nowUs());
    timer.arm(nowUs() + 3600e6, nowUs());
    await fired(6);
    timer.arm(nowUs() + 500, nowUs());
    timer.disarm();
    timer.arm(nowUs() + 500, nowUs());
    timer.arm(Infinity, nowUs());
    await fired(6);
    timer.arm(nowUs() + 1e19, nowUs());
    timer.arm(nowUs() + 500, nowUs());
    const until = nowUs() + 3_000;
    while (nowUs() < until); // it has expired, and is set anew before the loop could see that
    timer.arm(nowUs() + 3600e6, nowUs());
    await fired(6);
    timer.arm(nowUs() + 500, nowUs());
    timer.close();
    timer.close();
    timer.arm(nowUs(), nowUs());
    timer.disarm();
    await fired(6);
  });

  t.test(`a pacer, ${name}`, async (t) => {
    for (const kind of ['sleep', 'spin'] satisfies PacingKind[]) {
      let wakes = 0;
      let earlyUs = -Infinity;
      let atUs = 0;
      const pacer = new Pacer(
        kind,
        () => {
          wakes++;
          if (kind === 'sleep') earlyUs = Math.max(earlyUs, atUs - nowUs());
          if (wakes < 50) next();
        },
        binding,
      );
      const next = (): void => pacer.arm((atUs = nowUs() + (wakes % 5) * 600), nowUs());
      next();
      for (let i = 0; i < 5_000 && wakes < 50; i++) await sleep(1);
      t.equal(wakes, 50, `${kind}: wakes each time`);
      t.ok(earlyUs < EARLY_US, `${kind}: and not early`);
      pacer.arm(nowUs() + 200, nowUs());
      pacer.arm(nowUs(), nowUs());
      pacer.disarm();
      pacer.arm(Infinity, nowUs());
      await sleep(10);
      t.equal(wakes, 50, `${kind}: disarmed`);
      pacer.arm(nowUs(), nowUs());
      pacer.close();
      await sleep(10);
      t.equal(wakes, 50, `${kind}: closed`);
    }
  });
}

t.test('performance.now() lies in CLOCK_MONOTONIC where it is said to', (t) => {
  const outside: string[] = [];
  for (let i = 0; i < 100; i++) {
    const before = hostMonotonicNs();
    const between = performance.now() * 1e6 + monotonicOriginNs();
    const after = hostMonotonicNs();
    if (between < before - 20_000 || between > after + 20_000) outside.push(`${before} ≤ ${between} ≤ ${after}`);
  }
  t.same(outside, []);
  t.end();
});

t.test('a monotonic reader reads performance.now() in µs, with the addon and without', (t) => {
  for (const binding of [native, { available: false, addon: null, reason: 'none in this test' } as const]) {
    const reader = openMonotonic(binding);
    const outside: string[] = [];
    for (let i = 0; i < 100; i++) {
      const before = performance.now() * 1e3;
      reader.read();
      const after = performance.now() * 1e3;
      if (reader.at[0]! < before - 20 || reader.at[0]! > after + 20)
        outside.push(`${before} ≤ ${reader.at[0]!} ≤ ${after}`);
    }
    t.same(outside, [], binding.available ? 'addon' : 'no addon');
  }
  t.end();
});

t.test(
  'fires while a transport polls, also one that is set or closed from there',
  { skip: withoutNative },
  async (t) => {
    for (const idle of ['adaptive', 'busy'] as const) {
      const address = await freeAddress(4);
      const transport = nativeTransport({ idle, replicas: [address], listen: address });
      await transport.open();
      let fires = 0;
      const either: string[] = [];
      const one = openDeadlineTimer(() => void (either.push('one'), other.close()));
      const other = openDeadlineTimer(() => void (either.push('other'), one.close()));
      const timer = openDeadlineTimer(() => {
        if (++fires < 200) timer.arm(nowUs() + 30, nowUs());
        else {
          timer.close();
          void transport.close();
        }
        const bytes = transport.acquire(10);
        if (bytes !== undefined) transport.send(bytes, 10, 0);
        transport.flush(); // to itself: a reason to poll
      });
      timer.arm(nowUs(), nowUs());
      one.arm(nowUs(), nowUs());
      other.arm(nowUs(), nowUs());
      for (let i = 0; i < 5_000 && fires < 200; i++) await sleep(1);
      await sleep(10);
      t.equal(fires, 200, idle);
      t.equal(either.length, 1, `of two that are due, the first closed the other: ${either[0]}`);
      one.close();
      other.close();
    }
  },
);

t.test('who throws in one is heard, and the timer goes on', (t) => {
  const run = spawnSync(process.execPath, [program, 'throws'], { encoding: 'utf8', timeout: 30_000 });
  t.equal(run.stdout, 'caught on purpose\nand again\n', run.stderr);
  t.end();
});

t.test('one that is not armed does not keep the process, one that is does', (t) => {
  const run = spawnSync(process.execPath, [program, 'unarmed'], { encoding: 'utf8', timeout: 30_000 });
  t.equal(run.status, 0, run.stderr);
  t.equal(run.stdout, 'fired\n');
  t.end();
});

t.test('waiting for one costs nothing', (t) => {
  const run = spawnSync(process.execPath, [program, 'idle'], { encoding: 'utf8', timeout: 30_000 });
  const { coreShare } = JSON.parse(run.stdout) as { coreShare: number };
  t.comment(`${(100 * coreShare).toFixed(2)} % of a core`);
  t.ok(coreShare < 0.2, 'a loop that turns would take all of it');
  t.end();
});

t.test('nothing is left behind', { skip: withoutNative }, async (t) => {
  const run = spawnSync(process.execPath, ['--expose-gc', program, 'cycles'], { encoding: 'utf8', timeout: 60_000 });
  const { cycles, descriptors } = JSON.parse(run.stdout) as { cycles: number; descriptors: number };
  t.ok(descriptors <= cycles / 5, `${descriptors}: closed is closed; left are the closers, which nobody closes`);
  for (const how of ['terminate', 'exit', 'close', 'throw']) {
    const worker = new Worker(program, { workerData: how, stderr: true });
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    worker.on('error', () => undefined);
    await new Promise<void>((resolve) => worker.once('message', () => resolve()));
    if (how === 'terminate') await worker.terminate();
    await ended;
    t.pass(`a thread ends with it: ${how}`);
  }
});
