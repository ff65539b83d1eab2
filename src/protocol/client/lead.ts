/**
 * How far ahead of its clock a client sets the timestamps of all its requests: the lead. Speed only. What a single request
 * that was rejected as late gets on top of it is in margins.ts; timestamps.ts applies both.
 *
 * Members hold a request until its timestamp is due. So requests of several clients that arrive before their timestamps
 * enter all logs in the same order. A client with a lead waits longer, but misses less often; therefore:
 *
 * - The lead is zero until rejects and mismatches show contention.
 * - It starts at the longest delay to a member that was seen recently, and grows while misses remain. One request that is
 *   late at one member makes all behind it miss until the primary's order is there: at 500,000 operations a second and 20 µs
 *   one way, a dozen. So a lead that covers 99 requests of 100 leaves more than a tenth of them on the slow path.
 * - It is never more than a round trip: a request that waits for its time then takes no longer than one that misses and is
 *   corrected by the primary's order.
 * - It must pay off. A lead that does not halve the misses, in two trials in a row if it did before, is given up, and tried
 *   again only after a pause that doubles: if processes wait for a processor, not for the network, no affordable lead covers that.
 * - It decays when there is no contention.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import type { Instant } from '../contract.js';

/** The share of misses is checked after this many requests. */
const WINDOW = 64;
/** Above RISE, the share of misses in a window, the lead rises; below FALL it may fall. */
const RISE = 0.02;
const FALL = 0.005;
/** Consecutive quiet windows before the lead falls. */
const QUIET_WINDOWS = 8;
/**
 * A lead is judged after this many windows or more, without the first half of these: it shows only once others lead too.
 * And not before this time, µs: a burst must not look like a lead that fails for good.
 */
const TRIAL_WINDOWS = 16;
const TRIAL_US = 50_000;
/** The largest share of the earlier misses that may remain. */
const WORTH = 0.5;
/** Growth of the lead, as a multiple of the longest delay, with each window that misses too much. */
const GROWTH = 1.25;
/** The multiple grows no further than this. */
const MULTIPLE_MAX = 4;
/** Windows without a lead after one was given up: the first pause, and the longest. */
const PAUSE_WINDOWS = 32;
const PAUSE_WINDOWS_MAX = 1024;
/** A window with fewer than WINDOW requests ends after this, µs. */
const WINDOW_US = 100_000;
const SMOOTHING = 1 / 16;

export class LeadControl {
  /** Nanoseconds to add to the clock reading. */
  leadNs: number;
  /** The longest (arrival clock − our clock) of each replica in this window and in the one before, µs. */
  private readonly delayUs: Float64Array;
  private readonly delayBeforeUs: Float64Array;
  /** Smoothed round trip of fast commits without a lead, µs. */
  private readonly roundTripUs = Float64Array.of(DOUBLE_ZERO);
  private seen = 0;
  private misses = 0;
  private quiet = 0;
  private windowEndUs = DOUBLE_ZERO;
  /** Share of misses before the lead rose; windows with the lead since it was judged, and the sum of their shares. */
  private shareBefore = DOUBLE_ZERO;
  private trial = 0;
  private trialBeganUs = DOUBLE_ZERO;
  private nowUs = DOUBLE_ZERO;
  private trialShares = DOUBLE_ZERO;
  /** The last trial found that the lead pays off: one that fails after that may have been a burst. */
  private hasPaid = false;
  /** The lead as a multiple of the longest delay. */
  private multiple = 1;
  private pause = 0;
  private nextPause = PAUSE_WINDOWS;

  constructor(
    private readonly minNs: number,
    private readonly maxNs: number,
    replicas: number,
  ) {
    this.leadNs = minNs;
    this.delayUs = new Float64Array(replicas);
    this.delayBeforeUs = new Float64Array(replicas);
  }

  /** A reply carried its slack: arrival clock − timestamp, µs. */
  heard(replica: number, slackUs: number): void {
    const sample = slackUs + this.leadNs / 1000;
    if (sample > this.delayUs[replica]!) this.delayUs[replica] = sample;
  }

  /** Another view: its members may differ, and replicas that are no longer members do not count. */
  forget(): void {
    this.delayUs.fill(0);
    this.delayBeforeUs.fill(0);
  }

  /** A request sent at `sentUs[slot]` was committed in one round trip. The arguments are those of Retries.committed. */
  committedFast(sentUs: Float64Array, slot: number, now: Instant): void {
    const { roundTripUs } = this;
    this.nowUs = now.monotonicUs;
    const us = now.monotonicUs - sentUs[slot]!;
    if (this.leadNs === this.minNs)
      roundTripUs[0] = roundTripUs[0]! < 1 ? us : roundTripUs[0]! + (us - roundTripUs[0]!) * SMOOTHING;
    if (++this.seen >= WINDOW) this.endWindow();
  }

  /** A request was rejected as late, or a member differed. */
  missed(): void {
    this.misses++;
    if (++this.seen >= WINDOW) this.endWindow();
  }

  tick(nowUs: number): void {
    this.nowUs = nowUs;
    if (nowUs < this.windowEndUs) return;
    this.windowEndUs = nowUs + WINDOW_US;
    if (this.seen > 0) this.endWindow();
  }

  private endWindow(): void {
    const share = this.misses / this.seen;
    const enough = this.seen >= WINDOW / 4;
    this.seen = 0;
    this.misses = 0;
    if (this.maxNs === 0 || !enough) return;
    this.change(share);
    this.delayBeforeUs.set(this.delayUs);
    this.delayUs.fill(0);
  }

  private change(share: number): void {
    if (this.leadNs > this.minNs) this.judge(share);
    else if (this.pause > 0) this.pause--;
    else if (share > RISE) this.rise(share);
  }

  private rise(share: number): void {
    this.shareBefore = share;
    this.beginTrial();
    this.quiet = 0;
    this.multiple = 1;
    this.hasPaid = false;
    this.leadNs = this.wantedNs();
  }

  private judge(share: number): void {
    this.leadNs = Math.min(this.leadNs, this.wantedNs()); // the delays became shorter
    if (++this.trial > TRIAL_WINDOWS / 2) this.trialShares += share;
    if (this.trial >= TRIAL_WINDOWS && this.nowUs - this.trialBeganUs >= TRIAL_US) {
      if (this.trialShares / (this.trial - TRIAL_WINDOWS / 2) > Math.max(RISE, WORTH * this.shareBefore)) {
        if (!this.hasPaid) {
          this.giveUp();
          return;
        }
        this.hasPaid = false;
      } else this.hasPaid = true;
      this.beginTrial();
    }
    if (share > RISE) {
      this.quiet = 0;
      this.multiple = Math.min(MULTIPLE_MAX, this.multiple * GROWTH);
      this.leadNs = this.wantedNs();
    } else if (share < FALL && ++this.quiet >= QUIET_WINDOWS) {
      this.quiet = 0;
      this.nextPause = PAUSE_WINDOWS;
      this.multiple = Math.max(1, this.multiple * 0.8);
      this.leadNs = Math.max(this.minNs, Math.floor(this.leadNs * 0.8));
      if (this.leadNs < this.minNs + 1000) this.leadNs = this.minNs;
    }
  }

  private beginTrial(): void {
    this.trial = 0;
    this.trialShares = 0;
    this.trialBeganUs = this.nowUs;
  }

  private giveUp(): void {
    this.leadNs = this.minNs;
    this.pause = this.nextPause;
    this.nextPause = Math.min(PAUSE_WINDOWS_MAX, 2 * this.nextPause);
  }

  /** The lead that the longest recent delay asks for, within a round trip and the bounds. */
  private wantedNs(): number {
    let us = 0;
    for (let r = 0; r < this.delayUs.length; r++) us = Math.max(us, this.delayUs[r]!, this.delayBeforeUs[r]!);
    // Under contention from the start there was no fast commit: two ways are a round trip.
    const roundTripUs = this.roundTripUs[0]! >= 1 ? this.roundTripUs[0]! : 2 * us;
    const wanted = Math.min(us * this.multiple, roundTripUs);
    return Math.max(this.minNs, Math.min(this.maxNs, Math.round(1000 * wanted)));
  }
}
