/**
 * Clocks of simulated hosts. Each host's wall clock is the true time plus an error that is a function of that time, so a
 * run is the same whenever a clock is read.
 */
import type { Random } from '../src/sim/random.js';

/** What clocks a run has: all exact; all within ±1 µs, as PTP keeps them; these, but with bad ones among the clients. */
export const CLOCKS = ['exact', 'ptp', 'mixed'] as const;
export type Clocks = (typeof CLOCKS)[number];

/** The error of a wall clock at this true time since the start, both ns. */
export type ClockError = (ns: number) => number;

const PTP_NS = 1_000;
/** With `mixed`, each of these is the clock of one client in 16: wrong, drifting, stepping. */
const BAD_EVERY = 16;
const WRONG_NS = 500_000;
const DRIFT = 100e-6;
const STEP_NS = 100_000;
const STEP_EVERY_NS = 10e6;

/** @param client its number, −1 for a replica */
export function clockError(clocks: Clocks, client: number, random: Random): ClockError {
  const offset = clocks === 'exact' ? 0 : Math.round((2 * random.unit() - 1) * PTP_NS);
  if (clocks !== 'mixed' || client < 0) return () => offset;
  switch (client % BAD_EVERY) {
    case 0:
      return () => (Math.floor(client / BAD_EVERY) % 2 === 0 ? WRONG_NS : -WRONG_NS);
    case 1:
      return (ns) => offset + Math.round(ns * DRIFT);
    case 2:
      return (ns) => offset + (Math.floor(ns / STEP_EVERY_NS) % 2 === 0 ? 0 : STEP_NS);
    default:
      return () => offset;
  }
}
