/**
 * When the primary sends a Sync, and who was heard recently. May be changed freely: what a Sync says is replica-sender.ts,
 * and what follows from silence is decided in suspicion/.
 */
import type { Instant } from '../../contract.js';
import { SLOTS } from '../../configuration.js';
import { Counter } from '../../counters.js';
import { DOUBLE_ZERO } from '../../double-zero.js';
import { lowest } from '../../masks.js';
import { Silence } from '../../silence.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';

/** Hears of Syncs and their answers at the primary, and judges by them who is slow and whose clock is off (suspicion/). */
export interface SyncListener {
  /** Another view, or none: its Syncs are counted anew. */
  reset(): void;
  /** The host stood still for `gapUs`: no answer was slow in that time. */
  forgive(gapUs: number): void;
  sent(sequence: number, now: Instant): void;
  /**
   * Replica `from` has answered, having heard the Syncs up to `sequence`.
   * @param clockHi with `clockLo`: what its clock showed then, ns; 0: it does not say
   */
  answered(from: number, sequence: number, clockHi: number, clockLo: number, now: Instant): void;
}

/** Between two Syncs that a replica asked for, at least. */
const EAGER_INTERVAL_US = 250;

export class Heartbeat {
  /** Monotonic µs at which the primary was last heard in this view. */
  primaryHeardUs = DOUBLE_ZERO;
  /** At the primary: when each replica last answered a Sync of this view. */
  readonly ackedUs: Float64Array;
  /** Silences of the primary that were harmless; at the primary, those of its members. */
  readonly silence = new Silence();
  /**
   * At the primary: too few replicas answer to lead any view. It then sends no Sync, so that replicas that still hear
   * it continue without it: a primary that hears no replica cannot be told to stop.
   */
  unheard = false;
  /** At the primary: replicas that have written who votes in the epoch that is decided; a mask. */
  membersWritten = 0;

  /** Sequence of the newest Sync that each replica reported; an older one is not a sign of life (isNewer). */
  private readonly ackedSequence: Int32Array;
  private lastSyncUs = -Infinity;
  private lastSyncIndex = 0;
  private lastSyncCommitted = 0;
  /** Until then what is new is said at once, monotonic µs. */
  private eagerUntilUs = -Infinity;
  private sequence = 0;
  /** The primary said that entries up to here are committed while this replica lacked some; and when it said so. */
  private promisedIndex = 0;
  private promisedUs = -Infinity;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly listener: SyncListener,
  ) {
    this.ackedUs = new Float64Array(SLOTS);
    this.ackedSequence = new Int32Array(SLOTS);
  }

  viewStarted(now: Instant): void {
    this.primaryHeardUs = now.monotonicUs;
    this.ackedUs.fill(now.monotonicUs);
    this.lastSyncUs = -Infinity;
    this.lastSyncIndex = this.lastSyncCommitted = 0;
  }

  viewEnded(): void {
    this.sequence = 0;
    this.unheard = false;
    this.membersWritten = 0;
    this.ackedSequence.fill(0);
    this.listener.reset();
    this.state.forgetSyncs();
  }

  /** Another host is there, and was not heard. */
  forget(replica: number): void {
    this.ackedSequence[replica] = 0;
    this.membersWritten &= ~(1 << replica);
  }

  /** The host was stalled for `gapUs`: silence in that time says nothing about others. */
  forgive(gapUs: number): void {
    this.primaryHeardUs += gapUs;
    this.promisedUs += gapUs;
    for (let r = 0; r < this.ackedUs.length; r++) this.ackedUs[r]! += gapUs;
    this.listener.forgive(gapUs);
  }

  /** At the primary: monotonic µs at which the next Sync is due. */
  get dueUs(): number {
    const { syncIntervalUs } = this.state.config.timings;
    return this.lastSyncUs + (this.isEager ? Math.min(EAGER_INTERVAL_US, syncIntervalUs) : syncIntervalUs);
  }

  /** Until then somebody waits for what is committed: what is new is said at once. Monotonic µs. */
  hurry(untilUs: number): void {
    this.eagerUntilUs = Math.max(this.eagerUntilUs, untilUs);
  }

  /** At the primary: somebody waits for what is committed, and something is new since the last Sync. */
  get isEager(): boolean {
    return (
      this.eagerUntilUs > this.lastSyncUs &&
      (this.state.log.lastIndex > this.lastSyncIndex || this.state.committed > this.lastSyncCommitted)
    );
  }

  /** At the primary: `syncEntries` were appended since the last Sync, so the next one does not wait. */
  get isBehind(): boolean {
    return this.state.log.lastIndex - this.lastSyncIndex >= this.state.config.timings.syncEntries;
  }

  /** The primary tells all replicas where the log ends and what is committed. False when it is silent (`unheard`). */
  beat(now: Instant): boolean {
    const { state } = this;
    this.lastSyncUs = now.monotonicUs;
    this.lastSyncIndex = state.log.lastIndex;
    this.lastSyncCommitted = state.committed;
    if (this.unheard) return false;
    state.counters[Counter.syncs]!++;
    this.sequence = (this.sequence + 1) & 0x7fffffff || 1;
    this.listener.sent(this.sequence, now);
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1) this.sender.sync(lowest(rest), this.sequence);
    return true;
  }

  /** At the primary: replica `from` has answered, having heard the Syncs up to `sequence`; see SyncListener. */
  answered(from: number, sequence: number, clockHi: number, clockLo: number, now: Instant): void {
    if (isNewer(sequence, this.ackedSequence[from]!) && !isNewer(sequence, this.sequence)) {
      this.ackedSequence[from] = sequence;
      if (this.state.views.isMember(this.state.view, from)) this.silence.note(now.monotonicUs - this.ackedUs[from]!);
      this.ackedUs[from] = now.monotonicUs;
    }
    this.listener.answered(from, sequence, clockHi, clockLo, now);
  }

  /** A Sync of the primary came. Only a newer one than those before is a sign of life. */
  heard(sequence: number, now: Instant): void {
    if (!isNewer(sequence, this.state.syncHeard)) return;
    this.state.heardSync(sequence);
    this.primaryLives(now);
  }

  /** The primary answered a probe: it lives, whatever happened to its Syncs. After a restart it counts them anew. */
  primaryAnswered(now: Instant): void {
    this.primaryLives(now);
    this.state.forgetSyncs();
  }

  /** The primary said that entries up to `index` are committed. This replica knows by now what it can. */
  committedHeard(index: number, now: Instant): void {
    const { committed } = this.state;
    if (committed < this.promisedIndex || index <= committed) return;
    this.promisedIndex = index;
    this.promisedUs = now.monotonicUs;
  }

  /** For how long this replica has known that it lacks committed entries that it still lacks, µs; 0: it lacks none. */
  laggingUs(now: Instant): number {
    return this.state.committed >= this.promisedIndex ? 0 : now.monotonicUs - this.promisedUs;
  }

  private primaryLives(now: Instant): void {
    this.silence.note(now.monotonicUs - this.primaryHeardUs);
    this.primaryHeardUs = now.monotonicUs;
  }

  /** At the primary: replica `replica` has answered a Sync of this view. */
  wasHeard(replica: number): boolean {
    return this.ackedSequence[replica]! > 0;
  }

  /** At the primary: the sequence of the newest Sync. */
  get sent(): number {
    return this.sequence;
  }

  /** At the primary: replica `replica` has answered a Sync that was sent after the one with this sequence. */
  hasAnsweredSince(replica: number, sequence: number): boolean {
    return isNewer(this.ackedSequence[replica]!, sequence);
  }

  /** At the primary: some replica has answered a Sync of this view. */
  heardAnyone(): boolean {
    return this.ackedSequence.some((sequence) => sequence > 0);
  }

  /** At the primary: replicas that answer Syncs, including itself; a mask. */
  answering(now: Instant): number {
    const { state } = this;
    let mask = 1 << state.id;
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1)
      if (now.monotonicUs - this.ackedUs[lowest(rest)]! < state.config.timings.suspectUs) mask |= rest & -rest;
    return mask;
  }
}

/**
 * Whether Sync `sequence` was sent after Sync `other`; 0: none. Only then is it, or the answer to it, a sign of life.
 * Otherwise anyone who recorded one datagram could replay it and make a dead replica look alive, and no view would ever
 * replace it. Sequences wrap around: a Sync from more than 2³⁰ Syncs ago looks new.
 */
function isNewer(sequence: number, other: number): boolean {
  return sequence > 0 && (other === 0 || (sequence !== other && ((sequence - other) & 0x7fffffff) < 0x40000000));
}
