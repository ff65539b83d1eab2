/**
 * What a replica takes for now before it refuses a request as ahead of its time. Speed only.
 *
 * A primary goes by its clock. So does a member, unless its clock is behind: then every request looks ahead there, and the
 * member would refuse what the primary takes. An entry of the primary's log proves that the primary's clock had reached the
 * entry's timestamp. From there the time goes on by this host's monotonic clock. A client cannot bring it ahead: a primary
 * appends nothing that is ahead of its own clock.
 *
 * One exception: the primary's log itself may be ahead of all clocks, because a clock once was (restamping.ts). Then its
 * time stands still. So where the log seems to be ahead of this clock by more than `maxAheadNs`, now is at most
 * `maxAheadNs` above the last entry that is known to be the primary's.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import type { Instant } from '../contract.js';
import { addHi, addLo, compareU64, differenceU64 } from '../../wire/u64.js';
import type { ReplicaState } from './replica-state.js';

/** What is proven goes on a little slower than the monotonic clock, because hosts' clocks drift apart: 50 ppm. */
const NS_PER_US = 999.95;
/** What is proven is behind the primary's clock by the way of a request and an Order, or less than this, ns. */
const WAY_NS = 250_000;

export class ClusterTime {
  /** What `read` found. */
  hi = 0;
  lo = 0;
  /** The primary's clock had reached this timestamp at `provenUs`; −Infinity: nothing is proven in this view. */
  private provenHi = 0;
  private provenLo = 0;
  private provenUs = DOUBLE_ZERO;
  /** The last entry that was known to be the primary's when it was last looked. */
  private lastHi = 0;
  private lastLo = 0;
  private lastIndex = 0;

  constructor(private readonly state: ReplicaState) {
    this.forget();
  }

  /** Another view has another primary. */
  forget(): void {
    this.provenUs = -Infinity;
    this.lastIndex = 0;
  }

  /** At a member, not at the primary: more of the log may be known to be the primary's. */
  learn(now: Instant): void {
    const { log, synced, isMember } = this.state;
    if (!isMember || synced === this.lastIndex || synced < log.baseIndex) return;
    this.lastIndex = synced;
    this.lastHi = log.timestampHi(synced);
    this.lastLo = log.timestampLo(synced);
    if (this.provenUs !== -Infinity) {
      this.readProven(now);
      if (compareU64(this.lastHi, this.lastLo, this.hi, this.lo) <= 0) return;
    }
    this.provenHi = this.lastHi;
    this.provenLo = this.lastLo;
    this.provenUs = now.monotonicUs;
  }

  /** Writes what is now to `hi` and `lo`. */
  read(now: Instant): void {
    const { maxAheadNs } = this.state.config.timings;
    if (this.provenUs !== -Infinity && !this.state.isPrimary) {
      this.readProven(now);
      this.hi = addHi(this.hi, this.lo, WAY_NS);
      this.lo = addLo(this.lo, WAY_NS);
      const aheadNs = differenceU64(this.hi, this.lo, now.wallHi, now.wallLo);
      if (aheadNs > maxAheadNs && differenceU64(this.hi, this.lo, this.lastHi, this.lastLo) > maxAheadNs) {
        this.hi = addHi(this.lastHi, this.lastLo, maxAheadNs);
        this.lo = addLo(this.lastLo, maxAheadNs);
      }
      if (compareU64(this.hi, this.lo, now.wallHi, now.wallLo) > 0) return;
    }
    this.hi = now.wallHi;
    this.lo = now.wallLo;
  }

  private readProven(now: Instant): void {
    const ns = Math.max(0, Math.floor((now.monotonicUs - this.provenUs) * NS_PER_US));
    this.hi = addHi(this.provenHi, this.provenLo, ns);
    this.lo = addLo(this.provenLo, ns);
  }
}
