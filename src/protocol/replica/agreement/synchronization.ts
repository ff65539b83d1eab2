/**
 * Keeps the logs of one view equal: the primary's Sync, the commit index, when a differing member asks for which kind
 * of repair, how spares learn, and the entries that all of them fetch. The repair rule itself is in repair.ts.
 *
 * A member that differs reports it, and the primary pushes its order (order-push.ts). If that is switched off, or did
 * not help within `repairDelayUs`, the member fetches the entries. There is no blocking status: a lost answer leaves a
 * timer, nothing else.
 */
import { Chunk, Fetch, Order, ReplicaStatus, Sync, SyncAck } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import type { Divergence } from '../divergence.js';
import type { OrderPush } from './order-push.js';
import type { Repair } from './repair.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';
import { Silence } from '../../silence.js';

/** A client's Reconcile that waits for a repair. */
interface Waiting {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly from: number;
}

/** Hears of Syncs and their answers at the primary, and judges by them who is slow and whose clock is off (suspicion/). */
export interface SyncListener {
  /** Another view, or none: its Syncs are counted anew. */
  reset(): void;
  /** The host stood still for `gapUs`: nobody's answer was late in that time. */
  forgive(gapUs: number): void;
  sent(sequence: number, now: Instant): void;
  /** Replica `from` has answered, having heard the Syncs up to `sequence`; its clock showed this then, ns, 0: it does not say. */
  answered(from: number, sequence: number, clockHi: number, clockLo: number, now: Instant): void;
}

export class Synchronization {
  /** Monotonic µs at which the primary was last heard in this view. */
  primaryHeardUs = 0;
  /** At the primary: when each replica last answered a Sync of this view. */
  readonly ackedUs: Float64Array;
  /**
   * At the primary: up to which index each replica's log equals its own, as far as it knows, and how long the replica
   * takes to answer.
   */
  readonly matched: Float64Array;
  /** Silence of the primary; at the primary, of its members. */
  readonly silence = new Silence();
  /**
   * At the primary: too few replicas answer to lead any view. It then sends no Sync, so that replicas that still hear
   * it continue without it: a primary that hears no replica cannot be told to stop.
   */
  unheard = false;

  private readonly needed: Float64Array;
  /** Sequence of the newest Sync that each replica reported; an older one is not a sign of life (isNewer). */
  private readonly ackedSequence: Int32Array;
  private lastSyncUs = -Infinity;
  private lastSyncIndex = 0;

  /** A Fetch within the view is open: since when, and to which replica. */
  private fetching = false;
  private fetchSentUs = 0;
  private fetchBase = 0;
  private fetchFailures = 0;
  /** The primary's log reaches this index; this one does not, since `behindUs`. */
  private behindIndex = 0;
  private behindUs = Infinity;
  /** What the primary reports as committed; the own log may not reach it yet. */
  private heardCommitted = 0;
  private waiting: Waiting[] = [];
  /** Since when this member's log differs, or may, and nothing has settled it. */
  private doubtUs = Infinity;
  /** When it last reported that, when it last fetched because of a late request, and when an Order last arrived. */
  private reportedUs = -Infinity;
  private lateUs = -Infinity;
  private orderHeardUs = -Infinity;
  private sequence = 0;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly repairs: Repair,
    private readonly orderPush: OrderPush,
    private readonly divergence: Divergence,
    private readonly listener: SyncListener,
  ) {
    this.ackedUs = new Float64Array(state.n);
    this.matched = new Float64Array(state.n);
    this.needed = new Float64Array(state.n);
    this.ackedSequence = new Int32Array(state.n);
  }

  /** A view was joined (status normal): nothing heard in an earlier view counts. */
  viewStarted(now: Instant): void {
    this.primaryHeardUs = now.monotonicUs;
    this.ackedUs.fill(now.monotonicUs);
    this.matched.fill(0);
    this.needed.fill(this.state.committed);
    this.lastSyncUs = -Infinity;
    this.lastSyncIndex = 0;
    this.heardCommitted = 0;
    this.viewEnded();
  }

  /** The view is given up: drops what it left open. */
  viewEnded(): void {
    this.fetching = false;
    this.fetchFailures = 0;
    this.behindUs = Infinity;
    this.behindIndex = 0;
    this.waiting = [];
    this.doubtUs = Infinity;
    this.orderHeardUs = -Infinity;
    this.sequence = 0;
    this.unheard = false;
    this.ackedSequence.fill(0);
    this.listener.reset();
    this.state.syncHeard = 0;
    this.state.differed = false;
    this.repairs.reset();
    this.orderPush.reset();
  }

  /** The host was stalled for `gapUs`: silence in that time says nothing about others. */
  forgive(gapUs: number): void {
    this.primaryHeardUs += gapUs;
    for (let r = 0; r < this.ackedUs.length; r++) this.ackedUs[r]! += gapUs;
    this.listener.forgive(gapUs);
  }

  /** At the primary: replica `replica` has answered a Sync of this view. */
  wasHeard(replica: number): boolean {
    return this.ackedSequence[replica]! > 0;
  }

  /** At the primary: some replica has answered a Sync of this view. */
  heardAnyone(): boolean {
    return this.ackedSequence.some((sequence) => sequence > 0);
  }

  /**
   * At the primary of a running view: members that have never acknowledged in it, for example because they are still
   * fetching its log.
   */
  absentMembers(): number {
    const { state } = this;
    let mask = 0;
    if (!state.isPrimary || state.log.lastIndex === 0) return mask;
    for (let r = 0; r < state.n; r++)
      if (r !== state.id && state.views.isMember(state.view, r) && this.matched[r] === 0) mask |= 1 << r;
    return mask;
  }

  /** At the primary: replicas that answer Syncs, including itself, one bit each. */
  answering(now: Instant): number {
    const { state } = this;
    let mask = 1 << state.id;
    for (let r = 0; r < state.n; r++)
      if (now.monotonicUs - this.ackedUs[r]! < state.config.timings.suspectUs) mask |= 1 << r;
    return mask;
  }

  /** Lowers `out[0]` to the time of the next timed action, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    const { state } = this;
    const { timings } = state.config;
    let at = out[0]!;
    if (state.isPrimary) at = Math.min(at, this.lastSyncUs + timings.syncIntervalUs);
    else {
      if (this.fetching) at = Math.min(at, this.fetchSentUs + timings.fetchTimeoutUs);
      if (this.behindUs !== Infinity) at = Math.min(at, this.behindUs + timings.repairDelayUs);
      if (this.doubtUs !== Infinity) at = Math.min(at, this.doubtUs + timings.repairDelayUs);
    }
    out[0] = at;
  }

  tick(now: Instant): void {
    const { state } = this;
    const { timings } = state.config;
    if (state.status !== ReplicaStatus.normal) return;
    if (state.isPrimary) {
      if (now.monotonicUs - this.lastSyncUs >= timings.syncIntervalUs) this.sync(now);
      return;
    }
    if (this.fetching && now.monotonicUs - this.fetchSentUs >= timings.fetchTimeoutUs) {
      this.fetching = false;
      this.fetchFailures++;
      this.pull(now);
    }
    if (now.monotonicUs - this.behindUs >= timings.repairDelayUs) {
      this.behindUs = Infinity;
      if (state.log.lastIndex < this.behindIndex || state.synced < Math.min(state.log.lastIndex, this.behindIndex))
        this.pull(now);
    }
    if (now.monotonicUs - this.doubtUs >= timings.repairDelayUs) {
      this.doubtUs = Infinity;
      if (state.isMember) this.pull(now);
    }
  }

  /** End of a turn at the primary: sends its order if members differ, and a Sync after every `syncEntries` entries. */
  flush(now: Instant): void {
    const { state } = this;
    if (state.pushing) this.orderPush.flush(now);
    if (state.isPrimary && state.log.lastIndex - this.lastSyncIndex >= state.config.timings.syncEntries) this.sync(now);
  }

  /** Primary: tells all replicas where the log ends and what is committed. */
  sync(now: Instant): void {
    const { state } = this;
    this.lastSyncUs = now.monotonicUs;
    this.lastSyncIndex = state.log.lastIndex;
    if (this.unheard) return;
    state.counters[Counter.syncs]!++;
    this.sequence = (this.sequence + 1) & 0x7fffffff || 1;
    this.listener.sent(this.sequence, now);
    for (let r = 0; r < state.n; r++) if (r !== state.id) this.sender.sync(r, this.sequence);
    this.advanceCommit();
  }

  onSyncAck(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    if (readI32(bytes, o + SyncAck.at.view) !== state.view || !state.isPrimary) return;
    const matched = readIndex(bytes, o + SyncAck.at.matchedIndex);
    if (matched > state.log.lastIndex) return;
    const sequence = readI32(bytes, o + SyncAck.at.sequence);
    if (isNewer(sequence, this.ackedSequence[from]!) && !isNewer(sequence, this.sequence)) {
      this.ackedSequence[from] = sequence;
      if (state.views.isMember(state.view, from)) this.silence.note(now.monotonicUs - this.ackedUs[from]!);
      this.ackedUs[from] = now.monotonicUs;
    }
    this.listener.answered(
      from,
      sequence,
      readI32(bytes, o + SyncAck.at.clock),
      readI32(bytes, o + SyncAck.at.clock + 4),
      now,
    );
    this.needed[from] = readIndex(bytes, o + SyncAck.at.neededIndex);
    if (matched > this.matched[from]!) this.matched[from] = matched;
    this.advanceCommit();
    if (bytes[o + SyncAck.at.differed] === 1 && state.views.isMember(state.view, from)) this.differs(now);
  }

  /** Primary: a member differs, or a late request suggests that it may. */
  differs(now: Instant): void {
    const { state } = this;
    let agreed = state.log.lastIndex;
    for (let r = 0; r < state.n; r++)
      if (r !== state.id && state.views.isMember(state.view, r)) agreed = Math.min(agreed, this.matched[r]!);
    this.orderPush.needed(agreed, now);
  }

  /** The primary pushes its order, as far as this member knows: it will report differences by itself. */
  follows(now: Instant): boolean {
    return now.monotonicUs - this.orderHeardUs < this.state.config.timings.orderHoldUs / 2;
  }

  /** A Sync of the present view, in status normal. */
  onSync(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const at = Sync.at;
    const sequence = readI32(bytes, o + at.sequence);
    if (isNewer(sequence, state.syncHeard)) {
      state.syncHeard = sequence;
      this.silence.note(now.monotonicUs - this.primaryHeardUs);
      this.primaryHeardUs = now.monotonicUs;
    }
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    if (
      committed > lastIndex ||
      this.divergence.contradicts(
        from,
        committed,
        readI32(bytes, o + at.committedChain),
        readI32(bytes, o + at.committedChain + 4),
        now,
      )
    )
      return;
    if (log.matches(lastIndex, readI32(bytes, o + at.lastChain), readI32(bytes, o + at.lastChain + 4)))
      this.repairs.confirm(lastIndex);
    else if (log.matches(committed, readI32(bytes, o + at.committedChain), readI32(bytes, o + at.committedChain + 4)))
      this.repairs.confirm(committed);
    if (committed > this.heardCommitted) this.heardCommitted = committed;
    state.commitTo(Math.min(this.heardCommitted, state.synced));

    if (!state.isMember) {
      if (committed > state.synced && !this.fetching) this.pull(now);
    } else if (lastIndex > log.lastIndex) {
      // The missing requests may be on their way from the clients.
      if (committed > state.synced) this.pull(now);
      else if (this.behindUs === Infinity) this.behindUs = now.monotonicUs;
      if (lastIndex > this.behindIndex) this.behindIndex = lastIndex;
    } else if (lastIndex > state.synced) {
      this.doubt(now);
    }
    this.sender.syncAck(from, now);
  }

  /** The primary's order of what it appended. */
  onOrder(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state, repairs } = this;
    if (
      readI32(bytes, o + Order.at.view) !== state.view ||
      from !== state.primary ||
      !state.isMember ||
      state.isPrimary
    )
      return;
    this.orderHeardUs = now.monotonicUs;
    const follows = repairs.take(bytes, o, true);
    state.commitTo(Math.min(this.heardCommitted, state.synced));
    this.answerWaiting(Infinity);
    if (!follows || repairs.broken) {
      this.pull(now);
    } else if (!repairs.waits) {
      this.doubtUs = Infinity;
    } else if (this.doubtUs === Infinity) {
      this.doubtUs = now.monotonicUs;
    }
    repairs.broken = false;
    if (state.differed) this.report(now);
  }

  /** A request arrived for which the primary's order may be waiting. */
  held(now: Instant): void {
    if (!this.repairs.broken) return;
    this.repairs.broken = false;
    this.pull(now);
  }

  /** A client sent a request that no longer has a place in the log: the primary may have it. */
  late(now: Instant): void {
    const { timings } = this.state.config;
    if (timings.orderHoldUs > 0) {
      this.repair(now);
    } else if (timings.lateRepairUs > 0 && now.monotonicUs - this.lateUs >= timings.lateRepairUs) {
      this.lateUs = now.monotonicUs;
      this.repair(now);
    }
  }

  /** This member's log differs, or reportedly differs, from the primary's. */
  repair(now: Instant): void {
    if (!this.state.isMember || this.state.isPrimary) return;
    this.doubt(now);
    if (this.state.differed) this.report(now);
  }

  private doubt(now: Instant): void {
    const { state } = this;
    if (state.config.timings.orderHoldUs > 0) {
      state.differed = true;
      if (this.doubtUs === Infinity) {
        this.doubtUs = now.monotonicUs;
        state.counters[Counter.repairs]!++;
      }
    } else if (!this.fetching) {
      state.counters[Counter.repairs]!++;
      this.pull(now);
    }
  }

  /**
   * Reports to the primary that this member differs; repeated now and then while the primary pushes its order, so that
   * it continues.
   */
  private report(now: Instant): void {
    const { timings } = this.state.config;
    const pauseUs = this.follows(now) ? timings.orderHoldUs / 4 : timings.lateRepairUs;
    if (now.monotonicUs - this.reportedUs < pauseUs) return;
    this.reportedUs = now.monotonicUs;
    this.sender.syncAck(this.state.primary, now);
  }

  /** A client waits until entry `index` is here as it is at the primary. */
  waitFor(index: number, chainHi: number, chainLo: number, from: number, now: Instant): void {
    // If the list is full the client asks again: its request is not lost.
    if (this.waiting.length < this.state.config.limits.waiting) this.waiting.push({ index, chainHi, chainLo, from });
    this.repair(now);
  }

  /** Another replica asks for entries: of the log as it is, or frozen by a promise. */
  onFetch(bytes: Uint8Array, o: number, from: number, now: Instant, offerSnapshot: (to: number) => void): void {
    const { state } = this;
    const { log } = state;
    const at = Fetch.at;
    if (state.status === ReplicaStatus.recovering) return;
    if (readI32(bytes, o + at.view) !== state.view || readI32(bytes, o + at.logView) !== state.logView) return;
    // Beyond the committed entries, only the primary's log, or one that a vote stands for, may be given to others.
    const limit = state.status === ReplicaStatus.viewChange || state.isPrimary ? log.lastIndex : state.committed;
    const base = readIndex(bytes, o + at.baseIndex);
    if (base < log.baseIndex) {
      offerSnapshot(from);
      return;
    }
    if (base > limit) return;
    if (!log.matches(base, readI32(bytes, o + at.baseChain), readI32(bytes, o + at.baseChain + 4))) {
      this.divergence.correct(from, base, now);
      return;
    }
    state.counters[Counter.fetches_answered]!++;
    this.sender.chunks(from, base, limit, readU16(bytes, o + at.room));
    if (state.isPrimary && state.views.isMember(state.view, from)) this.orderPush.needed(limit, now);
  }

  /** Entries of the primary's log of this view (from the primary, or committed ones from a member). */
  onChunk(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const at = Chunk.at;
    if (state.isPrimary || state.status !== ReplicaStatus.normal) return;
    if (readI32(bytes, o + at.view) !== state.view || readI32(bytes, o + at.logView) !== state.logView) return;
    const base = readIndex(bytes, o + at.baseIndex);
    if (!log.matches(base, readI32(bytes, o + at.baseChain), readI32(bytes, o + at.baseChain + 4))) return;
    const end = this.repairs.apply(bytes, o, base, this.follows(now), from, now);
    // A spare executes what it fetched at once: it may become the primary before the next Sync.
    state.commitTo(Math.min(this.heardCommitted, state.synced));
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    this.answerWaiting(lastIndex);
    if (!this.repairs.waits && state.synced >= lastIndex) this.doubtUs = Infinity;
    const more = bytes[o + at.more] === 1;
    if (this.fetching && base === this.fetchBase) {
      this.fetchFailures = 0;
      if (more && end > base) {
        this.fetchBase = end;
        this.fetchSentUs = now.monotonicUs;
      } else {
        this.fetching = false;
        // Without progress (a full log) the next Sync tries again, not this answer.
        if (end > base && state.synced < lastIndex) this.pull(now);
      }
    }
    this.held(now);
    if (!more) this.sender.syncAck(state.primary, now);
  }

  /** The primary answered a probe: it lives, whatever happened to its Syncs. After a restart it counts them anew. */
  primaryAnswered(now: Instant): void {
    this.silence.note(now.monotonicUs - this.primaryHeardUs);
    this.primaryHeardUs = now.monotonicUs;
    this.state.syncHeard = 0;
  }

  private advanceCommit(): void {
    const { state } = this;
    let committed = state.log.lastIndex;
    let needed = Infinity;
    for (let r = 0; r < state.n; r++) {
      if (r === state.id) continue;
      if (state.views.isMember(state.view, r) && this.matched[r]! < committed) committed = this.matched[r]!;
      if (this.needed[r]! < needed) needed = this.needed[r]!;
    }
    state.neededFrom = needed;
    const before = state.committed;
    state.commitTo(committed);
    // Counted only here, at a primary: a log that was fetched or read from the disk is also committed, but was not
    // committed now.
    state.counters[Counter.entries_committed]! += state.committed - before;
  }

  /**
   * Asks for what follows `synced`: a member asks the primary; a spare asks a member that is not the primary, as long
   * as that answers.
   */
  private pull(now: Instant): void {
    const { state } = this;
    if (this.fetching) return;
    this.fetching = true;
    this.fetchSentUs = now.monotonicUs;
    let source = state.primary;
    if (!state.isMember && this.fetchFailures % 2 === 0) {
      const others = state.views.members(state.view).filter((r) => r !== state.primary);
      if (others.length > 0) source = others[(this.fetchFailures / 2 + state.id) % others.length]!;
    }
    const base = state.synced;
    this.fetchBase = base;
    this.sender.fetch(source, state.view, state.logView, base, state.log.chainHi(base), state.log.chainLo(base));
  }

  /** `primaryLast`: the end of the primary's log; waiting for anything beyond it is pointless. */
  private answerWaiting(primaryLast: number): void {
    if (this.waiting.length === 0) return;
    const { state } = this;
    const { log } = state;
    const open: Waiting[] = [];
    for (const w of this.waiting) {
      if (log.has(w.index) && log.matches(w.index, w.chainHi, w.chainLo)) {
        this.sender.acknowledge(w.from, w.index, 0, 1);
      } else if (w.index > state.synced && w.index <= primaryLast) {
        open.push(w);
      }
    }
    this.waiting = open;
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
