/**
 * The clock that a client stamps by: its host's readings, corrected by what the cluster says of them. Speed only.
 *
 * Two corrections: what the host asks for when it does not trust its clock, and what a replica's refusal of a timestamp as
 * `too-far-ahead` proved since. The first is measured, and replaces the second whenever it changes. It may be old, though: where the
 * replicas' clocks were set back or slew meanwhile, only the refusals tell, because no answer comes that could be measured.
 */
import { ClockOffsets } from '../clock-offsets.js';
import type { Instant } from '../contract.js';
import { addHi, addLo, differenceU64 } from '../../wire/u64.js';

const TWO_32 = 4294967296;

export class ClientClock {
  /** Each replica's clock against ours. */
  readonly offsets: ClockOffsets;
  /** The last reading. */
  hi = 0;
  lo = 0;
  /** What the cluster's clocks say our clock, corrected by the host, is ahead; 0 as long as nobody minds. */
  aheadNs = 0.5;
  /** What the host adds to readings; 0 takes them as they are. */
  correctionNs = 0.5;
  /** When the present timestamp of each slot was made, monotonic µs, and how far above the clock's reading it is, ns. */
  private readonly stampedUs: Float64Array;
  private readonly stampAheadNs: Float64Array;

  constructor(slots: number, replicas: number, aheadNs: number, correctionNs: number) {
    this.offsets = new ClockOffsets(replicas);
    this.stampedUs = new Float64Array(slots);
    this.stampAheadNs = new Float64Array(slots);
    this.aheadNs = aheadNs;
    this.correctionNs = correctionNs;
  }

  /** The host adds `ns` from now on. What refusals said of another correction is not said of this one. */
  correct(ns: number): void {
    if (ns === this.correctionNs) return;
    this.correctionNs = ns;
    this.aheadNs = 0;
  }

  /** `now` plus `leadNs`, corrected, into `hi` and `lo`. */
  read(now: Instant, leadNs: number): void {
    const shiftNs = this.shiftNs(leadNs);
    this.hi = now.wallHi;
    this.lo = now.wallLo;
    if (shiftNs >= 0) {
      this.hi = addHi(now.wallHi, now.wallLo, shiftNs);
      this.lo = addLo(now.wallLo, shiftNs);
    } else if (differenceU64(now.wallHi, now.wallLo, 0, 0) > -shiftNs) {
      const borrow = now.wallLo >>> 0 < -shiftNs % TWO_32 ? 1 : 0;
      this.hi = (now.wallHi - Math.floor(-shiftNs / TWO_32) - borrow) | 0;
      this.lo = (now.wallLo - (-shiftNs % TWO_32)) | 0;
    }
  }

  /** The request of `slot` got this timestamp. */
  stamped(slot: number, hi: number, lo: number, now: Instant): void {
    this.stampedUs[slot] = now.monotonicUs;
    this.stampAheadNs[slot] = differenceU64(hi, lo, now.wallHi, now.wallLo);
  }

  /** The first answer to the present timestamp of `slot`, sent once: what it says of the replica's clock and the way there. */
  heard(replica: number, slot: number, slackUs: number, now: Instant): void {
    this.offsets.heard(
      replica,
      slackUs + this.stampAheadNs[slot]! / 1000,
      now.monotonicUs - this.stampedUs[slot]!,
      now.monotonicUs,
    );
  }

  /**
   * How late the reading of our clock at the present timestamp of `slot` reached a replica, by that one's clock, ns: the way there and what
   * our clock is behind, whatever was added to the reading.
   */
  lateNs(slot: number, slackUs: number): number {
    return slackUs * 1000 + this.stampAheadNs[slot]!;
  }

  /** How long ago the present timestamp of `slot` was made, ns. */
  ageNs(slot: number, now: Instant): number {
    return Math.round((now.monotonicUs - this.stampedUs[slot]!) * 1000);
  }

  /** A replica refused the present timestamp of `slot`, which is ahead of its clock by `ns`. What was not our reading, but put on top of it, is not our clock's fault. */
  refusedAhead(slot: number, ns: number, leadNs: number): void {
    const aboveNs = Math.max(0, this.stampAheadNs[slot]! - this.shiftNs(leadNs));
    this.aheadNs += Math.max(0, ns - aboveNs);
  }

  /** What is added to readings. */
  private shiftNs(leadNs: number): number {
    return leadNs + this.correctionNs - this.aheadNs;
  }

  /** Our clock no longer runs ahead, or less: what was taken off the readings is given back. */
  correctBehind(slackUs: number): void {
    if (this.aheadNs > 0 && slackUs > 1000) this.aheadNs = Math.max(0, this.aheadNs - slackUs * 1000);
  }
}
