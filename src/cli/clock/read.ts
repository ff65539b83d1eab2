/** `jitpaxos clock read`: every clock of this host side by side, with the cost of a reading. */
import type { Clock } from '../../clock/clock.js';
import { listDevices } from '../../clock/devices.js';
import { openClock } from '../../clock/open.js';
import { readKernel } from '../../clock/quality/kernel.js';
import { native } from '../../native/addon.js';
import { difference } from './difference.js';
import { defineCommand } from '../../console/command.js';
import { Exit } from '../../console/exit.js';
import { signed } from '../../console/clock-values.js';
import { Colour, paint, table } from '../../console/terminal.js';
import { formatDuration } from '../../console/units.js';

const SYSTEM = ['realtime', 'tai', 'monotonic', 'monotonic-raw'] as const;
/** Readings over which a cost is measured: enough to outweigh the clock's resolution and the compiler. */
const READINGS = 20_000;
/** The fastest of this many rounds counts: the others were disturbed, or not compiled yet. */
const ROUNDS = 5;
/** A device is read less often: a reading may take microseconds. */
const DEVICE_READINGS = 500;

interface Reading {
  readonly clock: string;
  readonly epoch: string;
  readonly ns: string;
  /** This clock minus the system clock, and the precision of that; null if the two use different epochs. */
  readonly fromRealtimeNs: number | null;
  readonly uncertaintyNs: number | null;
  readonly costNs: number;
}

export const clockRead = defineCommand(
  {
    name: 'clock read',
    summary:
      'Reads all clocks of this host side by side: reading, distance from the system clock, and the cost of a reading.',
    positionals: [],
    flags: {},
    examples: ['jitpaxos clock read'],
  },
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
    const taiOffsetS = kernelTaiOffset();
    if (output.json) {
      output.line(JSON.stringify({ schema: 'jitpaxos.clock-read/1', readings, refused, taiOffsetS }));
      return Exit.done;
    }
    const title = (text: string): string => paint(output.colours, Colour.dim, text);
    const rows = readings.map(({ clock, epoch, ns, fromRealtimeNs, uncertaintyNs, costNs }) => [
      clock,
      epoch,
      ns,
      ...distance(clock, fromRealtimeNs, uncertaintyNs),
      `${costNs.toFixed(0)} ns`,
    ]);
    for (const line of table(
      [['clock', 'epoch', 'reading, ns', 'from realtime', 'to within', 'cost'].map(title), ...rows],
      new Set([2, 3, 4, 5]),
    ))
      output.line(line);
    for (const { clock, reason } of refused) output.line(`${paint(output.colours, Colour.yellow, clock)}: ${reason}`);
    output.line(
      taiOffsetS === null
        ? 'the kernel has not been told the offset of TAI from UTC: tai reads as realtime'
        : `TAI is ${taiOffsetS} s ahead of UTC, as the kernel was told`,
    );
    return Exit.done;
  },
);

/** Shows whole seconds separately, so that the rest stays readable. */
function distance(clock: string, fromRealtimeNs: number | null, uncertaintyNs: number | null): [string, string] {
  if (fromRealtimeNs === null || clock === 'realtime') return ['–', '–'];
  const seconds = Math.round(fromRealtimeNs / 1e9);
  return [
    `${seconds === 0 ? '' : `${seconds > 0 ? '+' : '−'}${Math.abs(seconds)} s `}${signed(fromRealtimeNs - seconds * 1e9)}`,
    `±${formatDuration(uncertaintyNs!)}`,
  ];
}

/** Null until a daemon has told the kernel; before that the kernel says 0. */
function kernelTaiOffset(): number | null {
  const stated = readKernel(native);
  const offset = stated.available ? stated.statement.detail['taiOffsetS'] : null;
  return typeof offset === 'number' && offset !== 0 ? offset : null;
}

function measure(spec: string, clock: Clock, realtime: Clock): Reading {
  const halves = new Int32Array(2);
  const count = spec.startsWith('phc:') ? DEVICE_READINGS : READINGS;
  let costNs = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const started = process.hrtime.bigint();
    for (let i = 0; i < count; i++) clock.writeHalves(halves, 0);
    costNs = Math.min(costNs, Number(process.hrtime.bigint() - started) / count);
  }
  const { offsetNs, delayNs } = difference(clock, realtime, 0n, process.hrtime.bigint());
  const apart = clock.epoch === 'boot' ? null : offsetNs;
  return {
    clock: spec,
    epoch: clock.epoch,
    ns: String(clock.nowBigInt()),
    fromRealtimeNs: apart,
    uncertaintyNs: apart === null ? null : delayNs / 2,
    costNs,
  };
}
