/**
 * The timestamps that a client gives its requests. Speed only.
 *
 * A timestamp is the clock's reading (client-clock.ts) plus the lead (lead.ts). It is always above the last one that the
 * client gave or was told, and further above if the primary rejected the request as late (margins.ts). A slot per lane.
 */
import { addHi, addLo, compareU64, differenceU64 } from '../../wire/u64.js';
import { ClientClock } from './client-clock.js';
import type { ClientConfig } from '../config.js';
import type { Instant } from '../contract.js';
import { Margins } from './margins.js';

export class Timestamps {
  readonly clock: ClientClock;
  readonly margins: Margins;
  /** The present timestamp of each slot. */
  readonly hi: Int32Array;
  readonly lo: Int32Array;
  /** Last timestamp given, or told by the primary. */
  lastHi: number;
  lastLo: number;

  constructor(slots: number, config: ClientConfig) {
    this.clock = new ClientClock(slots, config.slots ?? config.replicas, config.aheadNs ?? 0, config.correctionNs ?? 0);
    this.margins = new Margins(slots, this.clock);
    this.hi = new Int32Array(slots);
    this.lo = new Int32Array(slots);
    this.lastHi = config.afterHi ?? 0;
    this.lastLo = config.afterLo ?? 0;
  }

  /** Gives the request of `slot` a new timestamp. */
  stamp(slot: number, leadNs: number, now: Instant): void {
    const { clock, margins } = this;
    clock.read(now, leadNs);
    let { hi, lo } = clock;
    if (compareU64(hi, lo, this.lastHi, this.lastLo) <= 0) {
      hi = addHi(this.lastHi, this.lastLo, 1);
      lo = addLo(this.lastLo, 1);
    }
    if (margins.hasMargin(slot)) {
      margins.raise(slot, hi, lo, now);
      ({ hi, lo } = margins);
    }
    this.lastHi = hi;
    this.lastLo = lo;
    this.hi[slot] = hi;
    this.lo[slot] = lo;
    clock.stamped(slot, hi, lo, now);
  }

  isPresent(slot: number, hi: number, lo: number): boolean {
    return hi === this.hi[slot] && lo === this.lo[slot];
  }

  /** The primary gave the request another key: our next timestamp must be above it. */
  learn(slot: number, hi: number, lo: number): void {
    if (compareU64(hi, lo, this.hi[slot]!, this.lo[slot]!) > 0) this.raiseTo(hi, lo);
  }

  /** The primary rejected the present timestamp of `slot` as late; its log ends at `lastHi`, `lastLo`. */
  rejectedLate(slot: number, lastHi: number, lastLo: number, slackUs: number, now: Instant): void {
    this.clock.correctBehind(slackUs);
    this.margins.rejectedLate(slot, this.hi[slot]!, this.lo[slot]!, lastHi, lastLo, slackUs, now);
    this.raiseTo(lastHi, lastLo);
  }

  /**
   * The primary refused the present timestamp of `slot` as too far ahead of what it accepts now: that replaces our
   * clock from here on.
   */
  refusedAhead(slot: number, leadNs: number, nowHi: number, nowLo: number): void {
    this.clock.refusedAhead(slot, differenceU64(this.hi[slot]!, this.lo[slot]!, nowHi, nowLo), leadNs);
    this.margins.refusedAhead(slot);
    this.lastHi = nowHi;
    this.lastLo = nowLo;
  }

  private raiseTo(hi: number, lo: number): void {
    if (compareU64(hi, lo, this.lastHi, this.lastLo) <= 0) return;
    this.lastHi = hi;
    this.lastLo = lo;
  }
}
