/** `jitpaxos clock read`: every clock of this host side by side, with what a reading costs. */
import { toBigInt } from '../wire/u64.js';
import type { Clock } from '../clock/clock.js';
import { listDevices } from '../clock/devices.js';
import { openClock } from '../clock/open.js';
import { defineCommand } from './command.js';
import { Exit } from './exit.js';
import { signed } from './clock-values.js';
import { table } from './terminal.js';

const SYSTEM = ['realtime', 'tai', 'monotonic', 'monotonic-raw'] as const;
/** Readings that a cost is measured over: a multiple of what the clock's own resolution and the compiler disturb. */
const READINGS = 20_000;
/** The fastest of so many counts: the others were disturbed, or not compiled yet. */
const ROUNDS = 5;
/** A device is asked less often: a reading may take microseconds. */
const DEVICE_READINGS = 500;

interface Reading {
  readonly clock: string;
  readonly epoch: string;
  readonly ns: string;
  readonly fromRealtimeNs: number | null;
  readonly costNs: number;
}

export const clockRead = defineCommand(
  { name: 'clock read', summary: 'Reads all clocks of this host side by side: reading, distance from the system clock, and the cost of a reading.', positionals: [], flags: {}, examples: ['jitpaxos clock read'] },
  async (_, output) => {
    const specs = [...SYSTEM, ...listDevices().flatMap(({ path }) => [`phc:${path}`, `disciplined:${path}`])];
    const readings: Reading[] = [];
    const refused: { clock: string; reason: string }[] = [];
    const realtime = openClock('realtime');
    for (const spec of specs) {
      try {
        const clock = openClock(spec);
        readings.push(measure(spec, clock, realtime));
        clock.close();
      } catch (error) {
        refused.push({ clock: spec, reason: (error as Error).message });
      }
    }
    realtime.close();
    if (output.json) {
      output.line(JSON.stringify({ schema: 'jitpaxos.clock-read/1', readings, refused }));
      return Exit.done;
    }
    const rows = readings.map(({ clock, epoch, ns, fromRealtimeNs, costNs }) => [clock, epoch, ns, fromRealtimeNs === null ? '' : signed(fromRealtimeNs), `${costNs.toFixed(0)} ns`]);
    for (const line of table([['clock', 'epoch', 'reading, ns', 'from realtime', 'a reading'], ...rows], new Set([2, 3, 4]))) output.line(line);
    for (const { clock, reason } of refused) output.line(`${clock}: ${reason}`);
    return Exit.done;
  },
);

function measure(spec: string, clock: Clock, realtime: Clock): Reading {
  const halves = new Int32Array(2);
  const count = spec.startsWith('phc:') ? DEVICE_READINGS : READINGS;
  let costNs = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const started = process.hrtime.bigint();
    for (let i = 0; i < count; i++) clock.writeHalves(halves, 0);
    costNs = Math.min(costNs, Number(process.hrtime.bigint() - started) / count);
  }
  const before = realtime.nowBigInt();
  clock.writeHalves(halves, 0);
  const after = realtime.nowBigInt();
  const ns = toBigInt(halves[0]!, halves[1]!);
  return { clock: spec, epoch: clock.epoch, ns: String(ns), fromRealtimeNs: clock.epoch === 'boot' ? null : Number(ns - (before + after) / 2n), costNs };
}
