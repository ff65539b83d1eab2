/**
 * The clock from which a client takes its timestamps: its host's readings, corrected by what the cluster says about
 * them. Speed only.
 *
 * There are two corrections: the one that the host asks for when it does not trust its clock, and what a replica's
 * refusal of a timestamp as `too-far-ahead` has proved since. The first is measured, and replaces the second whenever
 * it changes. It may be old, though: if the replicas' clocks were set back or slew meanwhile, only the refusals show
 * it, because no answer arrives that could be measured.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import { ClockOffsets } from '../clock-offsets.js';
import type { Instant } from '../contract.js';
import { addHi, addLo, differenceU64 } from '../../wire/u64.js';

const TWO_32 = 4294967296;

export class ClientClock {
  /** Each replica's clock compared with ours. */
  readonly offsets: ClockOffsets;
  /** The last reading. */
  hi = 0;
  lo = 0;
  /** How far our clock, corrected by the host, is ahead of the cluster's clocks; 0 as long as no replica objects. */
  aheadNs = DOUBLE_ZERO;
  /** What the host adds to readings; 0 leaves them unchanged. */
  correctionNs = DOUBLE_ZERO;
  /**
   * When the present timestamp of each slot was made, monotonic µs, and how far it is above the clock's reading, ns.
   */
  private readonly stampedUs: Float64Array;
  private readonly stampAheadNs: Float64Array;
  /** Our clock less the monotonic one at that time, µs. */
  private readonly basesUs: Float64Array;

  constructor(slots: number, replicas: number, aheadNs: number, correctionNs: number) {
    this.offsets = new ClockOffsets(replicas);
    this.stampedUs = new Float64Array(slots);
    this.stampAheadNs = new Float64Array(slots);
    this.basesUs = new Float64Array(slots);
    this.aheadNs = aheadNs;
    this.correctionNs = correctionNs;
  }

  /** The host adds `ns` from now on. Refusals under another correction do not apply to this one. */
  correct(ns: number): void {
    if (ns === this.correctionNs) return;
    this.correctionNs = ns;
    this.aheadNs = 0;
  }

  /** Writes `now` plus `leadNs`, corrected, to `hi` and `lo`. */
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
    this.basesUs[slot] = ((now.wallHi >>> 0) * TWO_32 + (now.wallLo >>> 0)) / 1000 - now.monotonicUs;
  }

  /**
   * The first answer to the present timestamp of `slot`, which was sent once: it shows the replica's clock and the
   * delay to it.
   */
  heard(replica: number, slot: number, slackUs: number, now: Instant): void {
    this.offsets.heard(
      replica,
      slackUs + this.stampAheadNs[slot]! / 1000,
      now.monotonicUs - this.stampedUs[slot]!,
      now.monotonicUs,
      this.basesUs[slot]!,
    );
  }

  /**
   * How long after our clock's reading for the present timestamp of `slot` a replica received it, by that replica's
   * clock, ns: the network delay plus what our clock is behind, whatever was added to the reading.
   */
  arrivedAfterNs(slot: number, slackUs: number): number {
    return slackUs * 1000 + this.stampAheadNs[slot]!;
  }

  /** How long ago the present timestamp of `slot` was made, ns. */
  ageNs(slot: number, now: Instant): number {
    return Math.round((now.monotonicUs - this.stampedUs[slot]!) * 1000);
  }

  /**
   * A replica refused the present timestamp of `slot`, which is ahead of its clock by `ns`. What was added on top of
   * our reading is not our clock's fault.
   */
  refusedAhead(slot: number, ns: number, leadNs: number): void {
    const aboveNs = Math.max(0, this.stampAheadNs[slot]! - this.shiftNs(leadNs));
    this.aheadNs += Math.max(0, ns - aboveNs);
  }

  /** What is added to readings. */
  private shiftNs(leadNs: number): number {
    return leadNs + this.correctionNs - this.aheadNs;
  }

  /** Our clock no longer runs ahead, or less so: what was subtracted from the readings is given back. */
  correctBehind(slackUs: number): void {
    if (this.aheadNs > 0 && slackUs > 1000) this.aheadNs = Math.max(0, this.aheadNs - slackUs * 1000);
  }
}
