/**
 * When a client considers a request lost, and how many it may resend: the retry budget. Speed only: a resent request is
 * the same request. A request that was rejected is stamped anew instead: margins.ts says how far ahead.
 *
 * Losses on a network are rare; delays on overloaded hosts are not, and resending adds work where there is already too
 * much. Two rules keep a burst of load from feeding itself:
 *
 * - The wait is twice the longest round trip of the last seconds, and at least `retryUs`. Only requests that were sent
 *   once are measured: for others it is unknown which copy was answered (Karn and Partridge, 1987). But if every
 *   request of some time was resent, the wait is shorter than the round trip; then they are measured from their first
 *   copy.
 * - Resending costs tokens: each commit earns a part of one, and time a few. While nothing commits at all, time earns fewer
 *   and fewer (`pauseUs`), but not as few while members acknowledge. A client that gets nothing through, and many that wait
 *   for the same, would only add load, and on a path that forgets it for its datagrams use up the answers of each other.
 */

import { DOUBLE_ZERO } from '../double-zero.js';
import type { Instant } from '../contract.js';

/** Longest wait, whatever was observed, µs. */
const WAIT_MAX_US = 250_000;
/** The longest round trip is that of the present window and the previous one, µs each. */
const WINDOW_US = 2_000_000;
/** After this many consecutive commits of resent requests, these are measured. */
const REPEATED_ROW = 4;
/** Tokens that a commit earns, and the most that are kept: enough for a burst of losses, as when a buffer overflowed. */
const TOKENS_A_COMMIT = 0.125;
const TOKENS_MAX = 64;
/** While nothing commits, the pause is this part of the time for which that has been so, and at most this, µs. */
const PAUSE_PART = 1 / 64;
const PAUSE_MAX_US = 64_000;
/** A silence in which a member acknowledges something counts as no longer than this, µs: a way there is open again. */
const HEARD_US = 1_000_000;
/** Open requests are looked at far more often, µs: before that, nothing waited, and nothing was silent. */
const RESTED_US = 1_000_000;

export class Retries {
  /** Longest recent round trip, µs. */
  longestUs = DOUBLE_ZERO;
  private present = DOUBLE_ZERO;
  /** Consecutive commits of resent requests. */
  private repeated = 0;
  private windowEndUs = DOUBLE_ZERO;
  private tokens = TOKENS_MAX + DOUBLE_ZERO;
  private earnedUs = DOUBLE_ZERO;
  /** When a request was first resent since the last commit; −Infinity: none was. */
  private quietFromUs = -Infinity;

  /**
   * @param retryUs shortest wait; also the shortest interval at which a token is added
   * @param retryMaxUs limit up to which the wait of a request doubles
   */
  constructor(
    private readonly retryUs: number,
    private readonly retryMaxUs: number,
  ) {}

  /**
   * A request that was sent once, at `sentUs[slot]`, was committed. Takes the array instead of a duration, which would
   * be a number on the heap.
   */
  committed(sentUs: Float64Array, slot: number, now: Instant): void {
    this.repeated = 0;
    this.quietFromUs = -Infinity;
    this.tokens = Math.min(TOKENS_MAX, this.tokens + TOKENS_A_COMMIT);
    this.measure(sentUs, slot, now);
  }

  /**
   * A request that was sent more than once, first at `sentUs[slot]`, was committed. The time it took is at least a
   * round trip.
   */
  committedAgain(sentUs: Float64Array, slot: number, now: Instant): void {
    this.quietFromUs = -Infinity;
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

  /** How long to wait for an answer after this many attempts without one, µs. */
  waitUs(attempts: number): number {
    const usualUs = Math.min(WAIT_MAX_US, 2 * this.longestUs);
    return Math.min(
      Math.max(this.retryMaxUs, usualUs),
      Math.max(this.retryUs, usualUs) * (1 << Math.min(attempts, 10)),
    );
  }

  /** A member acknowledged a request. */
  acknowledged(now: Instant): void {
    if (this.quietFromUs < 0) return;
    const nowUs = now.monotonicUs;
    if (nowUs - this.quietFromUs > HEARD_US) this.quietFromUs = nowUs - HEARD_US;
  }

  /** Whether a request may be resent now. */
  spend(nowUs: number): boolean {
    if (this.quietFromUs < 0 || nowUs - this.earnedUs > RESTED_US) this.quietFromUs = nowUs;
    this.tokens = Math.min(TOKENS_MAX, this.tokens + (nowUs - this.earnedUs) / this.pauseUs(nowUs));
    this.earnedUs = nowUs;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }

  /** The interval at which a token is added, and at which replicas are asked about the view, at most, µs. */
  pauseUs(nowUs: number): number {
    const { quietFromUs, retryUs } = this;
    if (quietFromUs < 0) return retryUs;
    return Math.max(retryUs, Math.min(PAUSE_MAX_US, (nowUs - quietFromUs) * PAUSE_PART));
  }

  private turn(nowUs: number): void {
    // After a pause the previous window is too old.
    this.longestUs = nowUs >= this.windowEndUs + WINDOW_US ? DOUBLE_ZERO : this.present;
    this.present = DOUBLE_ZERO;
    this.windowEndUs = nowUs + WINDOW_US;
  }
}
