/** `jitpaxos clock compare A B`: offset and rate of two clocks over time. */
import { defineCommand } from '../../console/command.js';
import { measurements, ratePpb, type Difference } from './difference.js';
import { signed } from '../../console/clock-values.js';
import { Exit } from '../../console/exit.js';
import { Colour, paint, plotLines } from '../../console/terminal.js';
import { formatCount, formatDuration } from '../../console/units.js';

const PLOT_COLUMNS = 64;
const PLOT_ROWS = 7;

export const clockCompare = defineCommand(
  {
    name: 'clock compare',
    summary:
      'Compares two clocks of this host: minimum, median and maximum of the offset (A minus B), the rate, and a small plot.',
    positionals: ['A', 'B'],
    flags: {
      duration: { kind: 'duration', default: '5s', min: 1e6, max: 86_400e9, help: 'how long to compare' },
      interval: { kind: 'duration', default: '100ms', min: 1e6, max: 60e9, help: 'time between two measurements' },
    },
    examples: [
      'jitpaxos clock compare realtime monotonic-raw',
      'jitpaxos clock compare disciplined:/dev/ptp0 realtime --duration 1m',
    ],
  },
  async ({ values, positionals }, output) => {
    const [a, b] = positionals as [string, string];
    const count = Math.max(2, Math.floor(values.duration / values.interval) + 1);
    const measured: Difference[] = [];
    for await (const one of measurements(a, b, values.interval, count)) measured.push(one);
    const lost = measured.find((one) => one.lost !== undefined)?.lost;
    const offsets = measured.map(({ offsetNs }) => offsetNs).sort((x, y) => x - y);
    const result = {
      schema: 'jitpaxos.clock-compare/1',
      a,
      b,
      baseNs: String(measured[0]!.baseNs),
      measurements: measured.length,
      offsetNs: { min: offsets[0]!, median: offsets[offsets.length >> 1]!, max: offsets.at(-1)! },
      ratePpb: Number(ratePpb(measured).toFixed(1)),
      ...(lost === undefined ? {} : { lost }),
      delayNs: { min: Math.min(...measured.map(({ delayNs }) => delayNs)) },
    };
    if (output.json) {
      output.line(
        JSON.stringify({
          ...result,
          series: measured.map(({ elapsedNs, offsetNs, delayNs }) => ({ elapsedNs, offsetNs, delayNs })),
        }),
      );
      return Exit.done;
    }
    output.line(
      `${a} − ${b}, ${measured.length} measurements over ${formatDuration(measured.at(-1)!.elapsedNs)}, each to within ${formatDuration(result.delayNs.min / 2)} at best`,
    );
    if (measured[0]!.baseNs !== 0n) output.line(`epochs  differ: offsets are relative to ${measured[0]!.baseNs} ns`);
    if (lost !== undefined)
      output.line(
        paint(
          output.colours,
          Colour.red,
          `lost    the device of ${lost} stopped answering, and the system clock was read instead`,
        ),
      );
    output.line(
      `offset  min ${exact(offsets[0]!)}   median ${exact(result.offsetNs.median)}   max ${exact(offsets.at(-1)!)}`,
    );
    output.line(`rate    ${result.ratePpb >= 0 ? '+' : '−'}${Math.abs(result.ratePpb).toFixed(1)} ppb`);
    output.line(`around the median, ${formatDuration(measured.at(-1)!.elapsedNs)} from left to right`);
    for (const line of plotLines(
      measured.map(({ offsetNs }) => offsetNs - result.offsetNs.median),
      PLOT_COLUMNS,
      PLOT_ROWS,
      signed,
    ))
      output.line(line);
    return Exit.done;
  },
);

/** To the nanosecond, however large. */
function exact(ns: number): string {
  return `${ns < 0 ? '−' : '+'}${formatCount(Math.abs(ns))} ns`;
}
