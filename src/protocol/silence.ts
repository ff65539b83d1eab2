/**
 * How long others were recently silent and yet alive: stalled hosts, garbage collections, network delays. A replica that
 * has been silent for not much longer than that is not suspected, so a loaded host costs patience, not views. A process
 * that is gone is found by its host's report (Suspicion.unreachable), however patient this makes a replica.
 */
import { DOUBLE_ZERO } from './double-zero.js';

const FORGOTTEN_AFTER_US = 30_000_000;
/** A longer silence counts as this long: it was a stop, not a stall, and says nothing about the next one. */
const LONGEST_US = 700_000;

export class Silence {
  /** Longest recent silence, µs; older ones count for less and less. */
  worstUs = DOUBLE_ZERO;

  /** A replica was silent for `gapUs`, and lives. */
  note(gapUs: number): void {
    if (gapUs <= 0) return;
    const rest = this.worstUs * (1 - Math.min(1, gapUs / FORGOTTEN_AFTER_US));
    this.worstUs = Math.min(LONGEST_US, gapUs > rest ? gapUs : rest);
  }
}
