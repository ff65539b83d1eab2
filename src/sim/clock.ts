/**
 * The two clocks of a simulated host. The monotonic one may drift but never jumps or stops: the protocol may rely on
 * that. The wall clock may be off, drift, jump either way and stand still: answers must not depend on it.
 */
import type { Instant } from '../protocol/contract.js';
import { addHi, addLo } from '../wire/u64.js';

/** Wall time when a simulation starts, ns: some day in 2026. Halves as in wire/u64.ts. */
const EPOCH_HI = 0x18a9_5c00;
const EPOCH_LO = 0;
/** Seconds per unit of a timestamp's upper half. */
const HI_SECONDS = 2 ** 32 / 1e9;

/** Added to every wall reading, so that no sum of offsets becomes negative: 10,000 s in ns. */
const HEADROOM_NS = 1e13;

/** The date of a clock that was never set: it starts at the beginning of 1970. */
export const NEVER_SET = -Infinity;

export class SimulatedClock {
  private offsetNs = 0;
  private epochHi = EPOCH_HI;
  private driftPpm = 0;
  private frozenAtNs = -1;
  private readonly monotonicStartUs: number;
  private readonly monotonicRate: number;

  /**
   * @param monotonicStartUs reading of the monotonic clock at virtual time 0
   * @param monotonicPpm how much too fast it runs
   */
  constructor(monotonicStartUs: number, monotonicPpm: number) {
    this.monotonicStartUs = monotonicStartUs;
    this.monotonicRate = 1 + monotonicPpm / 1e6;
  }

  /** Sets the difference from true time and its growth, from now on; ends a freeze. */
  set(offsetNs: number, driftPpm: number): void {
    this.offsetNs = offsetNs;
    this.driftPpm = driftPpm;
    this.frozenAtNs = -1;
  }

  /**
   * A wrong date, independent of `set` and `step`: seconds that the clock is ahead, negative if behind, or NEVER_SET.
   */
  setDate(aheadS: number): void {
    // In units of the upper half of a timestamp, 4.3 s: that sum is exact, whereas a year in nanoseconds exceeds the
    // whole numbers of a double.
    this.epochHi = aheadS === NEVER_SET ? 0 : EPOCH_HI + Math.round(aheadS / HI_SECONDS);
  }

  step(byNs: number): void {
    this.offsetNs += byNs;
    if (this.frozenAtNs >= 0) this.frozenAtNs += byNs;
  }

  /** The wall clock stands still until `thaw`. */
  freeze(trueUs: number): void {
    this.frozenAtNs = this.wallNs(trueUs);
  }

  thaw(): void {
    this.frozenAtNs = -1;
  }

  read(trueUs: number, instant: Instant): void {
    const ns = this.wallNs(trueUs);
    instant.wallHi = addHi(this.epochHi, EPOCH_LO, ns);
    instant.wallLo = addLo(EPOCH_LO, ns);
    instant.monotonicUs = this.monotonicUs(trueUs);
  }

  monotonicUs(trueUs: number): number {
    return this.monotonicStartUs + trueUs * this.monotonicRate;
  }

  /** The earliest virtual time at which the monotonic clock shows `monotonicUs`. */
  trueUs(monotonicUs: number): number {
    if (monotonicUs === Infinity) return Infinity;
    let trueUs = Math.ceil((monotonicUs - this.monotonicStartUs) / this.monotonicRate);
    while (this.monotonicUs(trueUs) < monotonicUs) trueUs++;
    return trueUs;
  }

  /** Nanoseconds since EPOCH, minus HEADROOM_NS. */
  private wallNs(trueUs: number): number {
    if (this.frozenAtNs >= 0) return this.frozenAtNs;
    return Math.max(0, Math.round(HEADROOM_NS + trueUs * 1000 + this.offsetNs + (trueUs * this.driftPpm) / 1000));
  }
}
