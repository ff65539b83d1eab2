/**
 * Keeps the logs of one view equal: what a replica does with Sync, SyncAck, Order and Chunk.
 *
 * Rule S guarded here (`SyncRepair` in model/JITPaxos.tla): only what the primary of the present view says of its log
 * changes or confirms this one, in status normal, and from an entry on that both have under the same chain. How the log
 * changes then is repair.ts, what is committed commit-index.ts. When a replica asks is catch-up.ts, when the primary speaks
 * heartbeat.ts; both may be changed freely.
 */
import { Chunk, Differed, MEMBERS_WRITTEN, Order, ReplicaStatus, Sync, SyncAck } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Instant } from '../../contract.js';
import { invariant } from '../../invariant.js';
import { Entry } from '../../log/entry.js';
import { lowest } from '../../masks.js';
import type { ClientAnswers } from '../client-answers.js';
import { ClusterTime } from '../cluster-time.js';
import type { Contradictions } from '../contradictions.js';
import { EarlyMessages } from '../early-messages.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';
import type { TransferSender } from '../transfer-sender.js';
import { CatchUp } from './catch-up.js';
import { CommitIndex } from './commit-index.js';
import { Heartbeat, type SyncListener } from './heartbeat.js';
import type { OrderPush } from './order-push.js';
import { LACK_WEIGHT } from './out-of-step.js';
import type { Repair } from './repair.js';
import { WaitingClients } from './waiting-clients.js';

export class Synchronization {
  readonly heartbeat: Heartbeat;
  readonly commitIndex: CommitIndex;
  readonly catchUp: CatchUp;
  /** What is now, as far as the primary's log shows it. */
  readonly time: ClusterTime;
  private readonly waiting: WaitingClients;
  /** Chunks that overtook others of one answer, and who sent them. */
  private readonly early = new EarlyMessages();
  private earlyFrom = -1;
  /** Points at the entry of which a member says that its request is out of step. */
  private readonly reported = new Entry();

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    transfers: TransferSender,
    answers: ClientAnswers,
    private readonly repair: Repair,
    private readonly orderPush: OrderPush,
    private readonly contradictions: Contradictions,
    listener: SyncListener,
  ) {
    this.heartbeat = new Heartbeat(state, sender, listener);
    this.commitIndex = new CommitIndex(state);
    this.catchUp = new CatchUp(state, sender, transfers);
    this.waiting = new WaitingClients(state, answers);
    this.time = new ClusterTime(state);
    state.hosts.onOther((slot) => {
      this.heartbeat.forget(slot);
      this.commitIndex.forget(slot);
    });
  }

  /** A view was joined (status normal): nothing heard in an earlier view counts. */
  viewStarted(now: Instant): void {
    this.heartbeat.viewStarted(now);
    this.commitIndex.viewStarted();
    this.viewEnded();
  }

  /** The view is given up: drops what it left open. */
  viewEnded(): void {
    this.catchUp.reset();
    this.early.clear();
    this.time.forget();
    this.waiting.forget();
    this.heartbeat.viewEnded();
    this.repair.reset();
    this.orderPush.reset();
  }

  /** The host was stalled for `gapUs`: silence in that time says nothing about others. */
  forgive(gapUs: number): void {
    this.heartbeat.forgive(gapUs);
  }

  /** Lowers `out[0]` to the time of the next timed action, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    if (this.state.isPrimary) out[0] = Math.min(out[0]!, this.heartbeat.dueUs);
    else this.catchUp.wakeBefore(out);
  }

  tick(now: Instant): void {
    const { state } = this;
    if (state.status !== ReplicaStatus.normal) return;
    if (!state.isPrimary) {
      if (this.catchUp.tick(now) && this.repair.waits) this.reportLack(now);
    } else if (now.monotonicUs >= this.heartbeat.dueUs) this.sync(now);
  }

  /**
   * End of a turn at the primary: sends its order if members differ, and a Sync after every `syncEntries` entries, or at
   * once if somebody waits for it.
   */
  flush(now: Instant): void {
    const { state } = this;
    if (state.pushing) this.orderPush.flush(now);
    if (!state.isPrimary) return;
    if (this.heartbeat.isBehind || (this.heartbeat.isEager && now.monotonicUs >= this.heartbeat.dueUs)) this.sync(now);
  }

  /** Primary: tells all replicas where the log ends and what is committed. */
  sync(now: Instant): void {
    if (this.heartbeat.beat(now)) this.commitIndex.advance();
    const agreed = this.commitIndex.agreed();
    this.repair.outOfStep.tick(now);
    this.repair.outOfStep.look(agreed, now);
    this.tellApart(agreed, now);
  }

  /** Primary: tells the members whose requests it appends in batches. */
  private tellApart(agreed: number, now: Instant): void {
    const { state } = this;
    const { outOfStep } = this.repair;
    if (!outOfStep.noticeDue(agreed, now)) return;
    const members = state.views.memberMask(state.view) & ~(1 << state.id);
    for (let index = outOfStep.noticed(); index > 0; index = outOfStep.noticed())
      for (let rest = members; rest !== 0; rest &= rest - 1) this.sender.servedApart(lowest(rest), index - 1);
  }

  /** At the primary: a replica says up to where its log equals this one. At a member: the primary says whom it serves apart. */
  onSyncAck(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const at = SyncAck.at;
    if (readI32(bytes, o + at.view) !== state.view) return;
    const matched = readIndex(bytes, o + at.matchedIndex);
    if (!state.isPrimary) {
      if (from === state.primary && bytes[o + at.differed] === Differed.awaits) this.primaryBatches(matched + 1);
      return;
    }
    if (matched > state.log.lastIndex) return;
    this.heartbeat.answered(
      from,
      readI32(bytes, o + at.sequence),
      readI32(bytes, o + at.clock),
      readI32(bytes, o + at.clock + 4),
      now,
    );
    this.commitIndex.confirmed(from, matched, readIndex(bytes, o + at.neededIndex));
    const said = bytes[o + at.differed]!;
    if ((said & MEMBERS_WRITTEN) !== 0) this.heartbeat.membersWritten |= 1 << from;
    const differed = said & ~MEMBERS_WRITTEN;
    if (differed === Differed.no || !state.views.isMember(state.view, from)) return;
    if (differed === Differed.differs) this.repair.outOfStep.differs(now);
    else this.outOfStep(matched + 1, differed === Differed.awaits);
    this.pushOrder(now);
  }

  /** At the primary: a member lacks the request of entry `index`, or makes it wait for the order. */
  private outOfStep(index: number, awaits: boolean): void {
    const { log } = this.state;
    const { outOfStep } = this.repair;
    if (!log.has(index)) return;
    log.pointAt(index, this.reported);
    if (awaits) {
      outOfStep.awaitedBy(this.reported);
      return;
    }
    outOfStep.beginRepair();
    outOfStep.overtaken(this.reported, LACK_WEIGHT);
  }

  /** At a member: the primary appends the requests of this entry's owner in batches. */
  private primaryBatches(index: number): void {
    const { log, synced, isMember } = this.state;
    if (!isMember || index > synced || !log.has(index)) return;
    log.pointAt(index, this.reported);
    this.repair.outOfStep.awaitedBy(this.reported);
  }

  /** At a member: the request that the primary's order names next has not come. */
  private reportLack(now: Instant): void {
    const { state } = this;
    if (this.repair.outOfStep.lacks(state.synced + 1))
      this.sender.outOfStep(state.primary, state.synced, Differed.lacks, now);
  }

  /** At a member: a request that had to wait for the primary's order was ordered. */
  private reportAwaited(now: Instant): void {
    const index = this.repair.outOfStep.reportDue(now);
    if (index > 0) this.sender.outOfStep(this.state.primary, index - 1, Differed.awaits, now);
  }

  /** Primary: a member differs, or a late request suggests that it may. */
  pushOrder(now: Instant): void {
    this.orderPush.needed(this.commitIndex.agreed(), now);
  }

  /** A Sync of the present view from its primary, in status normal. */
  onSync(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    invariant(
      from === state.primary && !state.isPrimary && state.status === ReplicaStatus.normal,
      'the primary of a running view says how its log is, to others that run it',
    );
    const { log } = state;
    const at = Sync.at;
    this.heartbeat.heard(readI32(bytes, o + at.sequence), now);
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    const committedHi = readI32(bytes, o + at.committedChain);
    const committedLo = readI32(bytes, o + at.committedChain + 4);
    if (committed > lastIndex || this.contradictions.contradicts(from, committed, committedHi, committedLo, now))
      return;
    if (log.matches(lastIndex, readI32(bytes, o + at.lastChain), readI32(bytes, o + at.lastChain + 4)))
      this.repair.confirm(lastIndex);
    else if (log.matches(committed, committedHi, committedLo)) this.repair.confirm(committed);
    this.time.learn(now);
    this.repair.outOfStep.tick(now);
    this.commitIndex.hear(committed);
    this.catchUp.hear(lastIndex, committed, now);
    this.heartbeat.committedHeard(committed, now);
    this.sender.syncAck(from, now);
  }

  /** The primary's order of what it appended. */
  onOrder(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state, repair, catchUp } = this;
    if (
      readI32(bytes, o + Order.at.view) !== state.view ||
      from !== state.primary ||
      !state.isMember ||
      state.isPrimary
    )
      return;
    catchUp.orderHeard(now);
    repair.outOfStep.at(now);
    const follows = repair.take(bytes, o, true);
    this.time.learn(now);
    this.commitIndex.follow();
    this.waiting.answer(Infinity);
    if (!follows) catchUp.fetch(now);
    else if (repair.waits) catchUp.orderWaits(now);
    else catchUp.settled();
    this.reportAwaited(now);
    catchUp.tellPrimary(now);
  }

  /** Entries of the primary's log of this view (from the primary, or committed ones from a member). */
  onChunk(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state, repair, catchUp } = this;
    const { log } = state;
    const at = Chunk.at;
    if (state.isPrimary || state.status !== ReplicaStatus.normal) return;
    if (readI32(bytes, o + at.view) !== state.view || readI32(bytes, o + at.logView) !== state.logView) return;
    const base = readIndex(bytes, o + at.baseIndex);
    if (!log.matches(base, readI32(bytes, o + at.baseChain), readI32(bytes, o + at.baseChain + 4))) {
      // It may have overtaken the one before it.
      if (catchUp.comesEarly(base, from)) this.keepEarly(base, bytes, o, from, now);
      return;
    }
    repair.outOfStep.at(now);
    const end = repair.apply(bytes, o, base, from, now);
    this.time.learn(now);
    const follows = repair.settle(catchUp.isPushed(now));
    // A spare executes what it fetched at once: it may become the primary before the next Sync.
    this.commitIndex.follow();
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    this.waiting.answer(lastIndex);
    if (!repair.waits && state.synced >= lastIndex) catchUp.settled();
    const more = bytes[o + at.more] === 1;
    catchUp.chunkApplied(base, end, lastIndex, more, bytes[o + at.series]!, now);
    if (!follows) catchUp.fetch(now);
    if (!more) this.sender.syncAck(state.primary, now);
    const next = this.earlyFrom === from ? this.early.take(end) : undefined;
    if (next !== undefined) this.onChunk(next, 0, from, now);
  }

  private keepEarly(base: number, bytes: Uint8Array, o: number, from: number, now: Instant): void {
    if (from !== this.earlyFrom) this.early.clear();
    this.earlyFrom = from;
    this.early.keep(base, bytes, o, Chunk.size + readU16(bytes, o + Chunk.at.entries));
    if (this.early.isLost(this.catchUp.awaitedBehind)) this.catchUp.chunkLost(now);
  }

  /** A client waits until entry `index` is here as it is at the primary. */
  waitFor(index: number, chainHi: number, chainLo: number, from: number, now: Instant): void {
    this.waiting.add(index, chainHi, chainLo, from);
    this.catchUp.mayDiffer(now);
  }
}
