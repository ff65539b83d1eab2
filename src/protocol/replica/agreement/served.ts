/**
 * What is kept for replicas that fetch this one's state: the snapshot that they are fetching, though a newer one has taken
 * its place, and the entries behind it. Without this, a transfer that takes longer than the time between two snapshots
 * begins anew each time, and never ends under load. May be changed freely: what is given is committed.
 *
 * Kept is one snapshot besides the stable one, as long as a replica that fetches it comes further every KEPT_US, and the
 * entries behind it. They stay in the log until it is three quarters full, and are retained apart then (retained-log.ts),
 * RETAINED_TIMES as many as the log holds: who is not done by then begins with the stable snapshot. A replica that began
 * anew comes further too, and one that has asked for the last piece has RESTORED_US to restore it.
 *
 * Because only one is kept, it is offered to others as well, until half of what can be retained is in use: later there may
 * be too little time left for it.
 */
import { MEMBERS_WIRE_VERSION } from '../../../wire/versions.js';
import { SLOTS } from '../../configuration.js';
import type { Instant, Snapshot } from '../../contract.js';
import { SHARED_FILL } from '../log-capacity.js';
import type { ReplicaState } from '../replica-state.js';
import { ANSWERS_AHEAD } from '../transfer-sender.js';

/** A replica that has come no further for this long, monotonic µs, is not waited for. */
export const KEPT_US = 5_000_000;
/** From its question for the last piece to its first one for entries: it checks, restores and installs the state. */
export const RESTORED_US = 30_000_000;

/** Replicas of an older version refuse more entries behind a snapshot than a log holds. */
const LONG_TRANSFERS_WIRE_VERSION = MEMBERS_WIRE_VERSION;

export class Served {
  /** The snapshot that is being fetched; it may be the stable one. */
  private fetched: Snapshot | undefined;
  /** By slot: how far it has asked for that snapshot; Infinity: for entries behind it. */
  private readonly reached = new Float64Array(SLOTS).fill(-1);
  /** By slot: it will ask for the entries behind this index; Infinity: it fetches no state from here. */
  private readonly behind = new Float64Array(SLOTS).fill(Infinity);
  /** By slot: the end of the first answer that brought all that there was; -1: none has. */
  private readonly whole = new Float64Array(SLOTS).fill(-1);
  /** By slot: until when it is waited for. */
  private readonly untilUs = new Float64Array(SLOTS).fill(Infinity);
  /** The earliest of these. */
  private nextUs = Infinity;
  /** The lowest of `behind`. */
  private lowest = Infinity;

  constructor(private readonly state: ReplicaState) {
    // A storage that keeps the log writes a snapshot for longer than it is the stable one.
    state.execution.isHeld = (snapshot) => state.keepsLog || snapshot === this.fetched;
    state.hosts.onOther((slot) => {
      this.end(slot);
      this.reached[slot] = -1;
      this.look();
    });
  }

  /** The snapshot that a replica asks for, if it is still here. */
  find(index: number, chainHi: number, chainLo: number): Snapshot | undefined {
    const { stable } = this.state.execution;
    if (index === stable.index && chainHi === stable.chainHi && chainLo === stable.chainLo) return stable;
    const { fetched } = this;
    return index === fetched?.index && chainHi === fetched.chainHi && chainLo === fetched.chainLo ? fetched : undefined;
  }

  /** The snapshot to offer: to a replica that is fetching one, the same; to others too, while there is time for it. */
  offerFor(slot: number): Snapshot {
    const { fetched, state } = this;
    const { execution, retained } = state;
    if (fetched === undefined) return execution.stable;
    if (this.behind[slot] === fetched.index) return fetched;
    const from = state.out.speaks(slot) < LONG_TRANSFERS_WIRE_VERSION ? state.log.baseIndex : state.givenFrom;
    return fetched.index >= from && retained.fill < SHARED_FILL ? fetched : execution.stable;
  }

  /** Replica `slot` asks for the bytes of `snapshot` from `offset` to `end`. */
  askedForBytes(slot: number, snapshot: Snapshot, offset: number, end: number, now: Instant): void {
    if (this.fetched !== snapshot) {
      if (this.fetched !== undefined) return;
      this.fetched = snapshot;
      this.reached.fill(-1);
    }
    // It began anew, after a restart perhaps. One that got nothing yet asks from the start as well, but never beyond this.
    const isAnew = offset === 0 && this.reached[slot]! >= ANSWERS_AHEAD * this.state.config.limits.chunkBytes;
    // Asked for again, it has come no further.
    if (offset <= this.reached[slot]! && !isAnew) return;
    this.reached[slot] = offset;
    this.waitFor(slot, snapshot.index, now, end >= snapshot.bytes.length ? RESTORED_US : KEPT_US);
  }

  /**
   * Replica `slot` asked for the entries behind `base`, and the answer ended with `end`. It is no fetcher any more when it
   * has asked behind an answer that brought all there was, and got all again.
   * @param isAll nothing that it may have is behind `end`
   */
  answeredEntries(slot: number, base: number, end: number, isAll: boolean, now: Instant): void {
    const behind = this.behind[slot]!;
    // It has the whole snapshot already, from another source perhaps.
    const begins = behind === Infinity && !isAll && this.isSnapshot(base);
    if (behind === Infinity ? !begins : base < behind) return;
    const whole = this.whole[slot]!;
    if (isAll && whole >= 0 && base >= whole) {
      this.end(slot);
      this.look();
      return;
    }
    if (isAll && whole < 0) this.whole[slot] = end;
    if (base === behind && this.reached[slot] === Infinity) return;
    this.reached[slot] = Infinity;
    this.waitFor(slot, base, now, KEPT_US);
  }

  private isSnapshot(index: number): boolean {
    return index > 0 && (index === this.state.execution.stable.index || index === this.fetched?.index);
  }

  private waitFor(slot: number, index: number, now: Instant, forUs: number): void {
    this.behind[slot] = index;
    this.untilUs[slot] = now.monotonicUs + forUs;
    this.look();
  }

  tick(now: Instant): void {
    if (now.monotonicUs >= this.nextUs) {
      for (let slot = 0; slot < SLOTS; slot++) if (now.monotonicUs >= this.untilUs[slot]!) this.end(slot);
      this.look();
    }
    // What they will ask for is gone.
    if (this.lowest < this.state.givenFrom) {
      for (let slot = 0; slot < SLOTS; slot++) if (this.behind[slot]! < this.state.givenFrom) this.end(slot);
      this.look();
    }
  }

  private end(slot: number): void {
    this.behind[slot] = Infinity;
    this.whole[slot] = -1;
    this.untilUs[slot] = Infinity;
  }

  private look(): void {
    this.lowest = Infinity;
    let isFetched = false;
    this.nextUs = Infinity;
    for (let slot = 0; slot < SLOTS; slot++) {
      const index = this.behind[slot]!;
      if (index < this.lowest) this.lowest = index;
      if (index === this.fetched?.index) isFetched = true;
      if (this.untilUs[slot]! < this.nextUs) this.nextUs = this.untilUs[slot]!;
    }
    if (!isFetched) this.fetched = undefined;
    this.state.keepForTransfers(this.lowest);
  }
}
