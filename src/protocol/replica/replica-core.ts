/**
 * A replica: takes one message, tick or completion at a time and passes it to the role that handles it.
 *
 * To read on: replica-state.ts for what a replica is, requests.ts for normal operation, agreement/ for what keeps the logs of
 * a view equal, views/ for what carries the log into the next view, suspicion/ for when that happens. The contract with
 * the host is contract.ts. A broken invariant throws InvariantError out of any method here.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import type { StateMachine } from '../../machine/state-machine.js';
import * as wire from '../../wire/messages.js';
import { ReplicaStatus, typeOf, type TypesFor } from '../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../wire/u64.js';
import { checkLimits, DEFAULT_LATE, type ReplicaConfig } from '../config.js';
import {
  unkeyedChain,
  type Chain,
  type FirstStart,
  type Hasher,
  type Instant,
  type Outbox,
  type Recovered,
  type ReplicaObserver,
  type Storage,
} from '../contract.js';
import { SLOTS } from '../configuration.js';
import { Counter } from '../counters.js';
import { MemberSearch } from './membership/member-search.js';
import { Renewal } from './membership/renewal.js';
import { Divergence } from './divergence.js';
import { EarlyRequests } from './early-requests.js';
import { HoldBack } from './hold-back.js';
import { Introduction } from './introduction.js';
import { ORDER_RECORD_BYTES } from '../log/log.js';
import { OrderPush } from './agreement/order-push.js';
import { OtherChains } from './other-chains.js';
import { Repair } from './agreement/repair.js';
import { ReplicaState } from './replica-state.js';
import { ClientAnswers } from './client-answers.js';
import { KEPT, NOT_HELD, Requests } from './requests.js';
import { Sender } from './replica-sender.js';
import { TransferSender } from './transfer-sender.js';
import { Serving } from './agreement/serve.js';
import { NO_OWNER } from '../log/session-owner.js';
import { REGISTER_BYTES } from '../log/sessions.js';
import type { ReplicaClocks } from './suspicion/replica-clocks.js';
import { SyncAnswers } from './suspicion/sync-answers.js';
import { Suspicion } from './suspicion/suspicion.js';
import { Synchronization } from './agreement/synchronization.js';
import { ViewChanges } from './views/view-changes.js';

/** Types that another replica may send. A client may send the first group only. */
type FromReplica = TypesFor<'replicaFromReplica'>;
type Known = TypesFor<'replicaFromAnyone'> | FromReplica;

export class ReplicaCore {
  /** For reading only, by hosts, tools and checks. */
  readonly state: ReplicaState;
  private readonly requests: Requests;
  private readonly repair: Repair;
  private readonly synchronization: Synchronization;
  private readonly viewChanges: ViewChanges;
  private readonly suspicion: Suspicion;
  /** What other replicas report that cannot be true. For reading only. */
  readonly divergence: Divergence;
  /** The clocks of all replicas, as seen by this one while it is the primary. For reading only. */
  readonly clocks: ReplicaClocks;
  private readonly serving: Serving;
  private readonly introduction: Introduction;
  private first: FirstStart | undefined;
  private readonly holdBack: HoldBack;
  private readonly early: EarlyRequests;
  private readonly renewal: Renewal;
  private readonly otherChains: OtherChains;
  private readonly wake = new Float64Array(1);
  private lastTurnUs = DOUBLE_ZERO;
  /** When the present turn began; −Infinity between turns. */
  private turnUs = -Infinity;

  /**
   * Throws RangeError if the configuration is out of range.
   * @param hasher XXH3-64, for digests of snapshots
   * @param chain what chains the log; default XXH3-64
   */
  constructor(
    config: ReplicaConfig,
    outbox: Outbox,
    storage: Storage,
    machine: StateMachine,
    hasher: Hasher,
    observer: ReplicaObserver,
    chain: Chain = unkeyedChain(hasher),
  ) {
    checkLimits(config.limits);
    const end = config.hostId === undefined ? config.replicas : SLOTS;
    if (!Number.isInteger(config.id) || config.id < 0 || config.id >= end)
      throw new RangeError(`replica id ${config.id} is not one of 0…${end - 1}`);
    this.state = new ReplicaState(config, outbox, storage, machine, chain, observer, hasher);
    const sender = new Sender(this.state);
    const answers = new ClientAnswers(this.state);
    const transfers = new TransferSender(this.state);
    this.otherChains = new OtherChains(this.state);
    this.holdBack = new HoldBack(
      config.limits.held,
      config.timings.maxHoldNs,
      wire.Request.size + Math.max(config.limits.operationBytes, REGISTER_BYTES),
      config.late ?? DEFAULT_LATE,
    );
    this.early = new EarlyRequests(config.limits.held);
    this.divergence = new Divergence(this.state, sender, hasher);
    const { contradictions } = this.divergence;
    this.repair = new Repair(this.state, answers, contradictions);
    const orderPush = new OrderPush(this.state, sender, transfers, this.repair.outOfStep);
    this.serving = new Serving(this.state, transfers, hasher, contradictions, orderPush);
    const syncAnswers = new SyncAnswers(this.state);
    this.clocks = syncAnswers.clocks;
    this.synchronization = new Synchronization(
      this.state,
      sender,
      transfers,
      answers,
      this.repair,
      orderPush,
      contradictions,
      syncAnswers,
    );
    const memberSearch = new MemberSearch(this.state);
    this.renewal = new Renewal(this.state);
    this.viewChanges = new ViewChanges(this.state, sender, this.synchronization, transfers, hasher, contradictions, {
      promised: (left, wasWaiting, reason, at) => {
        this.suspicion.promised(left, wasWaiting, reason, at);
        this.viewEnded();
      },
      asked: (reason, at) => this.suspicion.asked(reason, at),
      unknownEpoch: (from, _view, at) => memberSearch.ask(from, at),
      started: (at) => this.suspicion.started(at),
    });
    this.suspicion = new Suspicion(
      this.state,
      sender,
      this.synchronization,
      this.viewChanges,
      syncAnswers,
      memberSearch,
    );
    this.introduction = new Introduction(
      this.state,
      sender,
      () => this.first,
      (now) => this.begin(now),
      (from, at) => memberSearch.ask(from, at),
    );
    this.requests = new Requests(
      this.state,
      answers,
      this.synchronization,
      this.repair,
      this.suspicion,
      this.holdBack,
      this.early,
    );
  }

  /** These are the members, committed somewhere; older ones than are known here change nothing. */
  takeMembers(members: Uint8Array, now: Instant): void {
    this.enter(now);
    this.state.learnMembers(members);
  }

  /**
   * At the primary: up to which entry the log of the host in `slot` equals this one, as it confirmed in this view. 0: it
   * has confirmed nothing.
   */
  matchedAt(slot: number): number {
    return this.synchronization.commitIndex.matched[slot]!;
  }

  /**
   * Whether it has heard its primary within `withinUs`, and got what this one said to be committed before that; at the
   * primary: whether enough others answer it.
   */
  isInTouch(now: Instant, withinUs: number): boolean {
    const { heartbeat } = this.synchronization;
    if (this.state.isPrimary) return !heartbeat.unheard;
    return now.monotonicUs - heartbeat.primaryHeardUs <= withinUs && heartbeat.laggingUs(now) <= withinUs;
  }

  /** Somebody waits for what is committed: for `forUs` this replica, while it is the primary, says it at once. */
  hurry(now: Instant, forUs: number): void {
    this.synchronization.heartbeat.hurry(now.monotonicUs + forUs);
  }

  /** Counters by index of COUNTER_NAMES. */
  get counters(): Float64Array {
    return this.state.counters;
  }

  /** Begins a life. Call once, before anything else. */
  start(recovered: Recovered, now: Instant): void {
    this.first = recovered.first;
    this.state.recover(recovered);
    this.lastTurnUs = now.monotonicUs;
    if (!this.state.starting) this.begin(now);
    this.introduction.start(now);
    this.flush(now);
  }

  private begin(now: Instant): void {
    this.suspicion.start(now);
    this.state.transition('start', `incarnation ${this.state.incarnation}`);
    this.divergence.start(now);
  }

  /** Whether this host's clock is good enough to hold requests back by it. Speed only. */
  trustClock(trusted: boolean): void {
    this.holdBack.trustClock(trusted);
  }

  /** Monotonic µs at which `tick` should be called next. */
  get wakeAtUs(): number {
    this.writeWakeUs(this.wake);
    return this.wake[0]!;
  }

  /** Writes the same to `out[0]`, because a double that a call returns may be allocated on the heap. */
  writeWakeUs(out: Float64Array): void {
    out[0] = this.holdBack.dueUs;
    this.state.wakeBefore(out);
    this.synchronization.wakeBefore(out);
    if (!this.state.starting) this.suspicion.wakeBefore(out);
    this.divergence.wakeBefore(out);
    this.introduction.wakeBefore(out);
  }

  /**
   * Takes one message that has passed `validate`.
   * @param from replica index, or an endpoint ≥ N if the envelope says that a client sent it
   * @param owner owner of the key it came under (session-owner.ts)
   */
  receive(
    bytes: Uint8Array,
    offset: number,
    length: number,
    from: number,
    now: Instant,
    owner: number = NO_OWNER,
  ): void {
    this.enter(now);
    const { state } = this;
    const type = typeOf(bytes, offset);
    if (state.hosts.has(from) && this.otherChains.refuses(type, bytes, offset, from)) return;
    if (state.starting) {
      this.receiveWhileStarting(type, bytes, offset, from, now);
      return;
    }
    // A message of another type, such as one that a client's core takes, is counted as ignored by `default`.
    const known = type as Known;
    switch (known) {
      case wire.Request.type:
        if (state.alone) state.counters[Counter.ignored]!++;
        else this.requests.onRequest(bytes, offset, from, owner, now, NOT_HELD);
        return;
      case wire.Read.type:
        this.requests.onRead(bytes, offset, from, now);
        return;
      case wire.Reconcile.type:
        this.requests.onReconcile(bytes, offset, from, owner, now);
        return;
      case wire.Probe.type:
        this.introduction.onProbe(bytes, offset, from);
        this.suspicion.onProbe(bytes, offset, from, now);
        return;
      case wire.Plea.type:
        this.suspicion.onPlea(bytes, offset, from, owner, now);
        return;
      default:
        // All other types are between replicas.
        if (state.hosts.has(from) && from !== state.id && length > 0)
          this.receiveFromReplica(known, bytes, offset, from, now);
        else state.counters[Counter.ignored]!++;
    }
  }

  /**
   * Like `receive`, for a client that has sent more than its share: a Request is rejected as `busy`, the rest is
   * ignored.
   */
  refuse(bytes: Uint8Array, offset: number, from: number, now: Instant): void {
    if (typeOf(bytes, offset) === wire.Request.type)
      this.requests.refuse(bytes, offset, from, wire.RejectReason.busy, now);
    else this.state.counters[Counter.ignored]!++;
  }

  /** Like `receive`, for a Request that its sender's key does not allow: it is rejected as a bad one. */
  refuseRole(bytes: Uint8Array, offset: number, from: number, now: Instant): void {
    if (!this.state.starting) this.requests.refuse(bytes, offset, from, wire.RejectReason.badRequest, now);
  }

  /**
   * The operating system of replica `replica` reports that no process listens at its address. Speed only: without such
   * a report, silence shows it later.
   */
  unreachable(replica: number, now: Instant): void {
    this.enter(now);
    if (!this.state.starting) this.suspicion.unreachable(replica, now);
  }

  /** Time passed. */
  tick(now: Instant): void {
    this.enter(now);
    this.introduction.tick(now);
    if (this.state.starting) return;
    this.synchronization.tick(now);
    this.serving.tick(now);
    this.viewChanges.tick(now);
    this.suspicion.tick(now);
    this.viewChanges.giveUpSource(now);
    this.renewal.tick();
    this.divergence.tick(now);
  }

  /** Ends a turn: writes what became durable state in it. */
  flush(now: Instant): void {
    if (this.early.count > 0 && this.state.status === ReplicaStatus.normal) this.releaseEarly(now);
    if (this.holdBack.dueUs <= this.turnUs) this.releaseHeld(now);
    this.turnUs = -Infinity;
    this.synchronization.flush(now);
    this.suspicion.improve(now);
    this.state.bound();
    this.state.takePiece(now);
    this.divergence.flush(now);
    this.state.persist();
  }

  /**
   * A clean stop: ends the open turn, and gives the storage the commit index. Nothing but `persisted` is called
   * afterwards.
   */
  finish(now: Instant): void {
    this.state.markCommitted();
    this.flush(now);
  }

  /** What was done so far is durable with this token. */
  get awaited(): number {
    return this.state.out.awaited;
  }

  /** Everything up to this token is durable, and the messages that waited for it have left. */
  isDurable(token: number): boolean {
    return this.state.out.isDurable(token);
  }

  /** The storage made everything up to `token` durable. */
  persisted(token: number): void {
    this.state.persisted(token);
  }

  /** The storage lost its data, for example after a disk error: makes it persist everything when the turn ends. */
  rewriteLog(): void {
    this.state.rewriteLog();
  }

  /** Nothing is known yet: this replica says that it is starting, and listens to what others remember. */
  private receiveWhileStarting(type: number, bytes: Uint8Array, offset: number, from: number, now: Instant): void {
    if (type === wire.Probe.type) {
      this.introduction.onProbe(bytes, offset, from);
      this.suspicion.onProbe(bytes, offset, from, now);
    } else if (type === wire.ProbeReply.type && this.state.hosts.has(from) && from !== this.state.id)
      this.introduction.onProbeReply(bytes, offset, from, now);
    else this.state.counters[Counter.ignored]!++;
  }

  private receiveFromReplica(known: FromReplica, bytes: Uint8Array, offset: number, from: number, now: Instant): void {
    switch (known) {
      case wire.Sync.type:
        if (!this.viewChanges.onSync(bytes, offset, from, now)) this.synchronization.onSync(bytes, offset, from, now);
        return;
      case wire.SyncAck.type:
        this.synchronization.onSyncAck(bytes, offset, from, now);
        return;
      case wire.Order.type:
        this.releaseOrdered(bytes, offset, now);
        this.synchronization.onOrder(bytes, offset, from, now);
        return;
      case wire.Fetch.type:
        this.serving.onFetch(bytes, offset, from, now);
        return;
      case wire.Chunk.type:
        if (!this.viewChanges.installation.onChunk(bytes, offset, from, now))
          this.synchronization.onChunk(bytes, offset, from, now);
        return;
      case wire.ViewChange.type:
        this.viewChanges.onViewChange(bytes, offset, from, now);
        return;
      case wire.Vote.type:
        this.viewChanges.onVote(bytes, offset, from, now);
        return;
      case wire.ProbeReply.type:
        this.introduction.onProbeReply(bytes, offset, from, now);
        this.suspicion.onProbeReply(bytes, offset, from, now);
        return;
      case wire.SnapshotOffer.type:
        this.synchronization.catchUp.snapshotOffered(from, readIndex(bytes, offset + wire.SnapshotOffer.at.index));
        this.viewChanges.installation.onSnapshotOffer(bytes, offset, from, now);
        return;
      case wire.SnapshotFetch.type:
        this.serving.onSnapshotFetch(bytes, offset, from, now);
        return;
      case wire.SnapshotChunk.type:
        this.viewChanges.installation.onSnapshotChunk(bytes, offset, from, now);
        return;
      case wire.StateDigest.type:
        this.divergence.onStateDigest(bytes, offset, from, now);
        return;
      default:
        known satisfies never; // each message that a replica may send has its case
        this.state.counters[Counter.ignored]!++;
    }
  }

  /** A stalled host has heard no replica in that time, and must not suspect them for it. */
  private enter(now: Instant): void {
    if (this.turnUs === -Infinity) this.turnUs = now.monotonicUs;
    const gap = now.monotonicUs - this.lastTurnUs;
    this.lastTurnUs = now.monotonicUs;
    if (gap <= this.state.config.timings.suspectUs / 4) return;
    this.synchronization.forgive(gap);
    this.suspicion.forgive(gap);
    this.viewChanges.forgive(gap);
  }

  /**
   * Releases what was due when the turn began. By the turn's end, everything that had arrived by then was looked at and
   * is in its place. Requests that became due since then may have to wait for others that arrived meanwhile.
   */
  private releaseHeld(now: Instant): void {
    const { turnUs, holdBack } = this;
    const { outOfStep } = this.repair;
    for (let slot = holdBack.take(turnUs); slot >= 0; slot = outOfStep.isTurnFull ? -1 : holdBack.take(turnUs))
      this.release(slot, now);
    outOfStep.turnEnded();
  }

  /** The view has begun: what came for it before comes now. What came for another one is of no use any more. */
  private releaseEarly(now: Instant): void {
    const { early, requests, state } = this;
    const { count } = early;
    early.clear();
    for (let place = 0; place < count; place++)
      if (early.viewOf(place) === state.view)
        requests.onRequest(early.bytes, early.offsetOf(place), early.fromOf(place), early.ownerOf(place), now, KEPT);
  }

  /**
   * The primary has placed the requests that it names, and those before them: they are due, whatever the clock here
   * says.
   */
  private releaseOrdered(bytes: Uint8Array, o: number, now: Instant): void {
    const { holdBack } = this;
    const length = readU16(bytes, o + wire.Order.at.orders);
    if (holdBack.size === 0 || length < ORDER_RECORD_BYTES) return;
    const last = o + wire.Order.size + length - ORDER_RECORD_BYTES;
    const hi = readI32(bytes, last);
    const lo = readI32(bytes, last + 4);
    for (let slot = holdBack.takeUpTo(hi, lo); slot >= 0; slot = holdBack.takeUpTo(hi, lo)) this.release(slot, now);
  }

  private release(slot: number, now: Instant): void {
    const { holdBack, requests } = this;
    const heldUs = Math.round(holdBack.heldUs(slot, now.monotonicUs));
    const owner = holdBack.ownerOf(slot);
    requests.onRequest(holdBack.bytes, holdBack.offsetOf(slot), holdBack.fromOf(slot), owner, now, heldUs);
  }

  private viewEnded(): void {
    if (this.state.status === ReplicaStatus.normal) return;
    this.holdBack.clear();
    this.synchronization.viewEnded();
  }
}
