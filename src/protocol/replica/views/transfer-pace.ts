/**
 * When the source of a transfer is asked again, and when it is given up. May be changed freely: what arrives is checked,
 * whenever it was asked for.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import type { Instant } from '../../contract.js';
import type { Timings } from '../../config.js';

/** A source is given up when it has brought nothing for this many times `fetchTimeoutUs`; twice as many after each failure. */
const SOURCE_TIMEOUTS = 4;
/** Failures in a row that count. */
const FAILURES_MAX = 4;
/** No source is waited for longer than this, µs, unless SOURCE_TIMEOUTS already are. */
const GIVE_UP_US_MAX = 2_000_000;

export class TransferPace {
  /** Monotonic µs at which something last arrived. */
  progressUs = DOUBLE_ZERO;
  private askedUs = DOUBLE_ZERO;
  private waits = 1;
  private usual = 1;
  /** Sources in a row that were given up. */
  private failures = 0;

  constructor(private readonly timings: Timings) {}

  progressed(now: Instant): void {
    this.progressUs = now.monotonicUs;
  }

  /**
   * @param waits how many times `fetchTimeoutUs` the answer is waited for
   * @param usual how many times an answer usually takes, at least 1: a source that takes long is given up later
   */
  asked(now: Instant, waits = 1, usual = 1): void {
    this.askedUs = now.monotonicUs;
    this.waits = waits;
    this.usual = usual;
  }

  succeeded(): void {
    this.failures = 0;
  }

  /** The host stood still for `gapUs`. */
  forgive(gapUs: number): void {
    this.progressUs += gapUs;
  }

  /** Monotonic µs at which the source is asked again. */
  get askAgainUs(): number {
    return this.askedUs + this.waits * this.timings.fetchTimeoutUs;
  }

  mayAskAgain(now: Instant): boolean {
    return now.monotonicUs >= this.askAgainUs;
  }

  /**
   * True when the source has brought nothing for so long that it is given up. It may only be far away: the next one is waited
   * for twice as long.
   * @param isPatient it is waited for as long as any: another source would have to bring again what this one brought
   */
  gaveUp(now: Instant, isPatient: boolean): boolean {
    const leastUs = SOURCE_TIMEOUTS * this.timings.fetchTimeoutUs;
    const mostUs = Math.max(leastUs, GIVE_UP_US_MAX);
    const waitUs = isPatient ? mostUs : Math.min(mostUs, leastUs * 2 ** this.failures * this.usual);
    if (now.monotonicUs - this.progressUs < waitUs) return false;
    this.failures = Math.min(this.failures + 1, FAILURES_MAX);
    return true;
  }
}
