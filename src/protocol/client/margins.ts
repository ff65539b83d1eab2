/**
 * How far above its clock a client stamps a request that the primary rejected as late, so that it gets in at last. Speed only.
 *
 * A request stamped anew without a margin arrives as late as the one before: what came from nearer clients meanwhile is
 * above it. So from the second rejection on (a Register from its first), a request is stamped by what the primary's clock
 * will show when it arrives: our reading, plus how late the reading before arrived there, plus an extra for the jitter of the
 * way, which doubles with each rejection. Members hold what arrives before its time, so nobody else is made late by it.
 *
 * Where the log is ahead of the primary's clock its time hardly moves, and small steps above its end are enough: more would push it
 * further ahead.
 */
import type { ClientClock } from './client-clock.js';
import type { Instant } from '../contract.js';
import { addHi, addLo, compareU64, differenceU64 } from '../../wire/u64.js';

/** First extra: this, or an eighth of the way there, ns; and the most that doubling makes of it. */
const EXTRA_NS = 50_000;
const EXTRA_WAY = 1 / 8;
const EXTRA_MAX_NS = 20_000_000;
/** First step above a log that is ahead of the clock, ns. */
const STEP_NS = 1_000;
const DOUBLINGS_MAX = 20;
/** A slack of this many µs or more was saturated. */
const SLACK_MAX_US = 0x7fffffff;

export class Margins {
  /** What `raise` found. */
  hi = 0;
  lo = 0;
  /** Rejections as late by the primary, of the open request of each slot. */
  private readonly lates: Uint8Array;
  /** Added to the clock's reading for the next timestamp, ns. */
  private readonly byClockNs: Float64Array;
  /** Added to the timestamp that there would be otherwise, ns. */
  private readonly stepNs: Float64Array;

  constructor(
    slots: number,
    private readonly clock: ClientClock,
  ) {
    this.lates = new Uint8Array(slots);
    this.byClockNs = new Float64Array(slots);
    this.stepNs = new Float64Array(slots);
  }

  /** Another request is open on the slot. */
  clear(slot: number): void {
    this.lates[slot] = 0;
  }

  /** The request counts as rejected once more. */
  late(slot: number): void {
    if (this.lates[slot] === 0) this.lates[slot] = 1;
  }

  /** The request was rejected often enough to be given a margin. */
  isLate(slot: number): boolean {
    return this.lates[slot]! > 1;
  }

  /** The primary rejected the present timestamp of `slot` as late; its log ends at `last`. */
  rejected(
    slot: number,
    timestampHi: number,
    timestampLo: number,
    lastHi: number,
    lastLo: number,
    slackUs: number,
    now: Instant,
  ): void {
    if (this.lates[slot]! < DOUBLINGS_MAX) this.lates[slot]!++;
    if (this.lates[slot]! < 2) return;
    const doublings = 2 ** (this.lates[slot]! - 2);
    this.byClockNs[slot] = 0;
    if (slackUs >= SLACK_MAX_US) {
      // Our clock is so far behind that nobody says how far: from the end of the log on, which goes on while the next one is on its way.
      const wayNs = this.clock.ageNs(slot, now);
      this.stepNs[slot] = wayNs + Math.min(EXTRA_MAX_NS, doublings * Math.max(EXTRA_NS, wayNs * EXTRA_WAY));
    } else if (differenceU64(lastHi, lastLo, timestampHi, timestampLo) > slackUs * 1000 + EXTRA_NS) {
      this.stepNs[slot] = Math.min(EXTRA_MAX_NS, doublings * STEP_NS);
    } else {
      const wayNs = Math.max(0, this.clock.lateNs(slot, slackUs));
      this.stepNs[slot] = 0;
      this.byClockNs[slot] =
        wayNs +
        Math.min(
          EXTRA_MAX_NS,
          doublings * Math.max(EXTRA_NS, Math.min(wayNs, this.clock.ageNs(slot, now)) * EXTRA_WAY),
        );
    }
  }

  /** The primary refused the present timestamp as too far ahead: less is tried. */
  tooMuch(slot: number): void {
    this.lates[slot]! >>= 1;
  }

  /** Raises the timestamp `hi`, `lo` of a request that is late, into `this.hi` and `this.lo`. */
  raise(slot: number, hi: number, lo: number, now: Instant): void {
    this.hi = addHi(hi, lo, Math.round(this.stepNs[slot]!));
    this.lo = addLo(lo, Math.round(this.stepNs[slot]!));
    if (this.byClockNs[slot]! > 0) {
      const ns = Math.round(this.byClockNs[slot]!);
      const byClockHi = addHi(now.wallHi, now.wallLo, ns);
      const byClockLo = addLo(now.wallLo, ns);
      if (compareU64(byClockHi, byClockLo, this.hi, this.lo) > 0) {
        this.hi = byClockHi;
        this.lo = byClockLo;
      }
    }
  }
}
