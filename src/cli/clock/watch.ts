/**
 * `jitpaxos clock watch`: one line a second, in the words and order of linuxptp's phc2sys, so that a program that reads
 * phc2sys's log can read this one: the clock, its reference, their offset, state, freq, delay. The time in brackets is
 * CLOCK_MONOTONIC, as in phc2sys. Freq is measured here, not set.
 */
import { defineCommand } from '../../console/command.js';
import { defaultPair, measurements, ratePpb, type Difference } from './difference.js';
import { Exit } from '../../console/exit.js';

/** Measurements from which the frequency is computed. */
const RATE_WINDOW = 16;
/** A jump beyond this is state s1, just set. s0: no frequency yet, or the device is lost; s2: following. */
const STEP_NS = 100_000;
const FOREVER = Number.MAX_SAFE_INTEGER;

export const clockWatch = defineCommand(
  {
    name: 'clock watch',
    summary:
      'Watches clock A against clock B (by default the system clock against the best hardware clock). Prints one line a second in the format of phc2sys: offset (A minus B), state, freq (how much faster A runs, ppb), delay.',
    positionals: ['[A]', '[B]'],
    flags: {
      interval: { kind: 'duration', default: '1s', min: 1e6, max: 3600e9, help: 'time between two lines' },
      count: { kind: 'count', min: 1, help: 'lines to print (default: until interrupted)' },
    },
    examples: ['jitpaxos clock watch', 'jitpaxos clock watch realtime phc:/dev/ptp0 --count 10 --json'],
  },
  async ({ values, positionals }, output) => {
    const [defaultA, defaultB] = await defaultPair();
    const [a = defaultA, b = defaultB] = positionals;
    const window: Difference[] = [];
    let lost = false;
    const stop = new AbortController();
    process.once('SIGINT', () => stop.abort());
    for await (const one of measurements(a, b, values.interval, values.count ?? FOREVER, stop.signal)) {
      if ((one.lost !== undefined) !== lost) {
        lost = !lost;
        window.length = 0;
        output.note(
          lost
            ? `the device of ${one.lost} stopped answering, or was set to no time that can be used: the system clock is read in its place`
            : 'the device is back',
        );
      }
      if (window.length === 0 && one.baseNs !== 0n)
        output.note(`${a} and ${b} use different epochs: offsets are relative to ${one.baseNs} ns`);
      const last = window.at(-1);
      const predicted =
        last === undefined ? one.offsetNs : last.offsetNs + (ratePpb(window) * (one.elapsedNs - last.elapsedNs)) / 1e9;
      const stepped = window.length >= 2 && Math.abs(one.offsetNs - predicted) > STEP_NS + one.delayNs;
      if (stepped) window.length = 0;
      window.push(one);
      if (window.length > RATE_WINDOW) window.shift();
      const state = stepped ? 1 : lost || window.length < 2 ? 0 : 2;
      const frequencyPpb = ratePpb(window);
      if (output.json)
        output.line(
          JSON.stringify({
            schema: 'jitpaxos.clock-watch/1',
            a,
            b,
            baseNs: String(one.baseNs),
            offsetNs: one.offsetNs,
            state: `s${state}`,
            frequencyPpb,
            delayNs: one.delayNs,
            lost,
          }),
        );
      else
        output.line(
          `jitpaxos[${(Number(process.hrtime.bigint() / 1_000_000n) / 1e3).toFixed(3)}]: ${a} ${b} offset ${Math.round(one.offsetNs).toString().padStart(9)} s${state} freq ${frequencyText(frequencyPpb)} delay ${String(one.delayNs).padStart(6)}`,
        );
    }
    return Exit.done;
  },
);

function frequencyText(ppb: number): string {
  return `${ppb < 0 ? '-' : '+'}${Math.abs(ppb).toFixed(0)}`.padStart(7);
}
