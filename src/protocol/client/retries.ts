/**
 * When a client takes a request for lost, and how many it may send again. Speed only: a request that is sent again is the
 * same request.
 *
 * What is lost on a network is rare; what is late where hosts are overloaded is not, and sending that again is more work for
 * those who have too much. Two rules keep a burst of load from feeding itself:
 *
 * - The wait is twice the longest round trip of the last seconds, and at least `retryUs`. Only requests that were sent once
 *   are measured: of others nobody knows which copy was answered (Karn and Partridge, 1987). But where every request of a while was
 *   sent again, the wait is shorter than the way there and back; then they are measured from their first copy.
 * - What is sent again is paid for with tokens: each commit earns a part of one, and time a few.
 */

import type { Instant } from '../contract.js';

/** Longest wait, whatever was seen, µs. */
const WAIT_MAX_US = 250_000;
/** The longest round trip is that of the present window and the one before, µs each. */
const WINDOW_US = 2_000_000;
/** Commits in a row of requests that were sent again, after which these are measured. */
const REPEATED_ROW = 4;
/** Tokens that a commit earns, and the most that are kept: a burst of losses, as when a buffer ran over. */
const TOKENS_A_COMMIT = 0.125;
const TOKENS_MAX = 64;

export class Retries {
  /** Longest round trip lately, µs. */
  longestUs = 0.5;
  private present = 0.5;
  /** Commits in a row of requests that were sent again. */
  private repeated = 0;
  private windowEndUs = 0.5;
  private tokens = TOKENS_MAX + 0.5;
  private earnedUs = 0.5;

  /** @param retryUs shortest wait; a token comes this often, too @param retryMaxUs what the wait of a request doubles up to */
  constructor(
    private readonly retryUs: number,
    private readonly retryMaxUs: number,
  ) {}

  /** A request that was sent once, at `sentUs[slot]`, was committed. Not told the time that it took, which would be a number on the heap. */
  committed(sentUs: Float64Array, slot: number, now: Instant): void {
    this.repeated = 0;
    this.tokens = Math.min(TOKENS_MAX, this.tokens + TOKENS_A_COMMIT);
    this.measure(sentUs, slot, now);
  }

  /** The same of one that was sent more than once, `sentUs[slot]` the first time: how long it took is at least a round trip. */
  committedAgain(sentUs: Float64Array, slot: number, now: Instant): void {
    if (this.repeated < REPEATED_ROW) this.repeated++;
    else this.measure(sentUs, slot, now);
  }

  private measure(sentUs: Float64Array, slot: number, now: Instant): void {
    const nowUs = now.monotonicUs;
    const us = nowUs - sentUs[slot]!;
    if (nowUs >= this.windowEndUs) this.turn(nowUs);
    if (us > this.present) this.present = us;
    if (us > this.longestUs) this.longestUs = us;
  }

  /** How long to wait for an answer after so many attempts without one, µs. */
  waitUs(attempts: number): number {
    const usualUs = Math.min(WAIT_MAX_US, 2 * this.longestUs);
    return Math.min(
      Math.max(this.retryMaxUs, usualUs),
      Math.max(this.retryUs, usualUs) * (1 << Math.min(attempts, 10)),
    );
  }

  /** Whether a request may be sent again now. */
  spend(nowUs: number): boolean {
    this.tokens = Math.min(TOKENS_MAX, this.tokens + (nowUs - this.earnedUs) / this.retryUs);
    this.earnedUs = nowUs;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }

  private turn(nowUs: number): void {
    // After a pause the window before is old.
    this.longestUs = nowUs >= this.windowEndUs + WINDOW_US ? 0.5 : this.present;
    this.present = 0.5;
    this.windowEndUs = nowUs + WINDOW_US;
  }
}
