/**
 * How far above its clock a client sets the timestamp of a request that the primary rejected as late, so that it is
 * accepted at last. Speed only. The lead of all requests is in lead.ts; timestamps.ts applies both.
 *
 * Restamped without a margin, a request arrives as late as before: requests from nearer clients are above it by then.
 * So from the second rejection on (for a Register, from the first), the timestamp is what the primary's clock will show
 * at its arrival: our reading, plus how late the previous reading arrived there, plus an extra for jitter, which
 * doubles with each rejection. Members hold early requests, so this makes no other request late.
 *
 * If the log is ahead of the primary's clock, its time hardly moves, and small steps above its end are enough: larger
 * ones would push it further ahead.
 */
import type { ClientClock } from './client-clock.js';
import type { Instant } from '../contract.js';
import { addHi, addLo, compareU64, differenceU64 } from '../../wire/u64.js';

/** First extra: this, or an eighth of the delay, ns; and the limit for doubling. */
const EXTRA_NS = 50_000;
const EXTRA_WAY = 1 / 8;
const EXTRA_MAX_NS = 20_000_000;
/** First step above a log that is ahead of the clock, ns. */
const STEP_NS = 1_000;
const DOUBLINGS_MAX = 20;
/** A slack of this many µs or more was saturated. */
const SLACK_MAX_US = 0x7fffffff;

export class Margins {
  /** The timestamp that `raise` found. */
  hi = 0;
  lo = 0;
  /** How often the primary rejected the open request of each slot as late. */
  private readonly rejections: Uint8Array;
  /** Added to the clock's reading for the next timestamp, ns. */
  private readonly byClockNs: Float64Array;
  /** Added to the timestamp that the request would get otherwise, ns. */
  private readonly stepNs: Float64Array;

  constructor(
    slots: number,
    private readonly clock: ClientClock,
  ) {
    this.rejections = new Uint8Array(slots);
    this.byClockNs = new Float64Array(slots);
    this.stepNs = new Float64Array(slots);
  }

  /** The slot has a new request. */
  clear(slot: number): void {
    this.rejections[slot] = 0;
  }

  /** A Register gets a margin from its first rejection on: it counts as rejected once before that. */
  countRegister(slot: number): void {
    if (this.rejections[slot] === 0) this.rejections[slot] = 1;
  }

  /** The request was rejected often enough to get a margin. */
  hasMargin(slot: number): boolean {
    return this.rejections[slot]! > 1;
  }

  /** The primary rejected the present timestamp of `slot` as late; its log ends at `last`. */
  rejectedLate(
    slot: number,
    timestampHi: number,
    timestampLo: number,
    lastHi: number,
    lastLo: number,
    slackUs: number,
    now: Instant,
  ): void {
    if (this.rejections[slot]! < DOUBLINGS_MAX) this.rejections[slot]!++;
    if (this.rejections[slot]! < 2) return;
    const doublings = 2 ** (this.rejections[slot]! - 2);
    this.byClockNs[slot] = 0;
    if (slackUs >= SLACK_MAX_US) {
      // Our clock is so far behind that the difference is unknown: start at the end of the log, which moves on while
      // the request travels.
      const wayNs = this.clock.ageNs(slot, now);
      this.stepNs[slot] = wayNs + Math.min(EXTRA_MAX_NS, doublings * Math.max(EXTRA_NS, wayNs * EXTRA_WAY));
    } else if (differenceU64(lastHi, lastLo, timestampHi, timestampLo) > slackUs * 1000 + EXTRA_NS) {
      this.stepNs[slot] = Math.min(EXTRA_MAX_NS, doublings * STEP_NS);
    } else {
      const wayNs = Math.max(0, this.clock.arrivedAfterNs(slot, slackUs));
      this.stepNs[slot] = 0;
      this.byClockNs[slot] =
        wayNs +
        Math.min(
          EXTRA_MAX_NS,
          doublings * Math.max(EXTRA_NS, Math.min(wayNs, this.clock.ageNs(slot, now)) * EXTRA_WAY),
        );
    }
  }

  /** The primary refused the present timestamp as too far ahead: try less. */
  refusedAhead(slot: number): void {
    this.rejections[slot]! >>= 1;
  }

  /** Raises the timestamp `hi`, `lo` of a late request, into `this.hi` and `this.lo`. */
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
