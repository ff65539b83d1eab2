/**
 * Whose clock is off: what the acknowledgements of Syncs tell the primary of the clocks of all replicas, spares included. May be
 * changed freely.
 *
 * A clock that is an hour behind makes its replica reject every request as too far ahead, and each of them then needs the primary's
 * order. Nothing is wrong, but nothing is fast. The primary cannot ask what time it is; it can see which clocks agree. An
 * acknowledgement carries its sender's clock, and came within the round trip of its Sync, so the offset is known to half of
 * that (clock-offsets.ts). A majority of all replicas' clocks that agree to `OFF_PART` of `maxAheadNs` are right; a clock outside is off,
 * be it the primary's own. Without such a majority no clock is called off, and the primary says so.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import { differenceU64 } from '../../../wire/u64.js';
import { ClockOffsets } from '../../clock-offsets.js';
import { SLOTS } from '../../configuration.js';
import type { Hosts } from '../hosts.js';
import type { Instant } from '../../contract.js';
import { count, lowest } from '../../masks.js';
import type { Views } from '../../views.js';

/** What clocks may differ by, as a part of `maxAheadNs`. */
const OFF_PART = 0.5;
const CHECK_INTERVAL_US = 250_000;
/** A finding has to hold for this long before it counts. */
const SURE_AFTER_US = 1_000_000;

export class ReplicaClocks {
  /** Replicas whose clocks are off; a mask. Only at a primary, and only when a majority agrees. */
  off = 0;
  /** Replicas whose clocks are right; a mask. */
  right = 0;
  /** Enough clocks are known, and there is no majority of clocks that agree. */
  divided = false;

  private readonly offsets: ClockOffsets;
  private readonly toleranceUs: number;
  private checkUs = DOUBLE_ZERO;
  private pendingOff = 0;
  private pendingDivided = false;
  private pendingUs = DOUBLE_ZERO;

  constructor(
    private readonly id: number,
    private readonly views: Views,
    maxAheadNs: number,
  ) {
    this.offsets = new ClockOffsets(SLOTS);
    this.toleranceUs = (maxAheadNs / 1000) * OFF_PART;
  }

  /** Nothing is known any more: this replica leads no view. */
  reset(): void {
    this.off = this.right = this.pendingOff = 0;
    this.divided = this.pendingDivided = false;
  }

  /** A replica answered the Sync of `sentUs`; its clock showed this then, ns, 0: it does not say. */
  heard(replica: number, clockHi: number, clockLo: number, sentUs: number, now: Instant): void {
    if ((clockHi | clockLo) === 0) return;
    const roundTripUs = now.monotonicUs - sentUs;
    // The clock showed this some part of the round trip ago.
    const offsetUs = differenceU64(clockHi, clockLo, now.wallHi, now.wallLo) / 1000 + roundTripUs;
    this.offsets.heard(replica, offsetUs, roundTripUs, now.monotonicUs);
  }

  /** At the primary, now and then: looks again. True when the finding that counts has changed. */
  judge(now: Instant): boolean {
    if (now.monotonicUs < this.checkUs) return false;
    this.checkUs = now.monotonicUs + CHECK_INTERVAL_US;
    this.offsets.heard(this.id, 0, 0, now.monotonicUs);
    const { voters, n } = this.views.present;
    let known = 0;
    let agreeing = 0;
    for (let rest = voters; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (Number.isNaN(this.offsets.offsetUs(r))) continue;
      known |= 1 << r;
      const with_ = this.agreeingWith(r);
      if (count(with_) > count(agreeing) || (count(with_) === count(agreeing) && r === this.id)) agreeing = with_;
    }
    const majority = count(agreeing) > n / 2;
    const off = majority ? known & ~agreeing : 0;
    const divided = !majority && count(known) > n / 2;
    if (off !== this.pendingOff || divided !== this.pendingDivided) {
      this.pendingOff = off;
      this.pendingDivided = divided;
      this.pendingUs = now.monotonicUs;
    }
    this.right = majority ? agreeing : 0;
    if (now.monotonicUs - this.pendingUs < SURE_AFTER_US || (off === this.off && divided === this.divided))
      return false;
    this.off = off;
    this.divided = divided;
    return true;
  }

  /** A replica's clock minus this one's, µs, to half of `uncertaintyUs`; NaN when it was not heard recently. */
  offsetUs(replica: number): number {
    return replica === this.id ? 0 : this.offsets.offsetUs(replica);
  }

  /** For people. */
  describe(hosts: Pick<Hosts, 'idOf' | 'idsOf'>): string {
    const of = (mask: number): number[] =>
      Array.from({ length: SLOTS }, (_, r) => r).filter((r) => ((mask >>> r) & 1) === 1);
    if (this.divided) {
      const others = of(this.views.present.voters).filter((r) => r !== this.id && !Number.isNaN(this.offsetUs(r)));
      return `no majority of the replicas' clocks agree: against that of replica ${hosts.idOf(this.id)}, ${others.map((r) => `replica ${hosts.idOf(r)} ${this.offsetUs(r) < 0 ? '−' : '+'}${amount(this.offsetUs(r))}`).join(', ')}`;
    }
    if (this.off === 0) return 'the clocks of the replicas agree';
    const reference = of(this.right)[0] ?? this.id;
    return of(this.off)
      .map(
        (r) =>
          `the clock of replica ${hosts.idOf(r)} is ${difference(this.offsetUs(r) - this.offsetUs(reference))} those of ${hosts.idsOf(this.right).join(', ')}`,
      )
      .join('; ');
  }

  private agreeingWith(replica: number): number {
    const { offsets } = this;
    let mask = 0;
    for (let rest = this.views.present.voters; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      const openUs = (offsets.roundTripUs(r) + offsets.roundTripUs(replica)) / 2;
      if (Math.abs(offsets.offsetUs(r) - offsets.offsetUs(replica)) <= this.toleranceUs + openUs) mask |= 1 << r;
    }
    return mask;
  }
}

function difference(us: number): string {
  return `${amount(us)} ${us < 0 ? 'behind' : 'ahead of'}`;
}

function amount(us: number): string {
  const s = Math.abs(us) / 1e6;
  return s >= 7200
    ? `${(s / 3600).toFixed(1)} h`
    : s >= 120
      ? `${(s / 60).toFixed(1)} min`
      : s >= 1
        ? `${s.toFixed(1)} s`
        : `${(s * 1000).toFixed(0)} ms`;
}
