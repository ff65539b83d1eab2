/**
 * Normal operation: what a replica does with a client's Request, Read and Reconcile.
 *
 * Rule S guarded here (`Request` in model/JITPaxos.tla; reads: `ReadAnswer`): a request is appended only by a member of the
 * view it names, in status normal, and only when its key is above the last key of the log. A request that the log already
 * holds is answered, never appended again (known-requests.ts).
 */
import { LastWords } from '../../wire/copy.js';
import {
  Read,
  Reconcile,
  RejectReason,
  type RejectReasonCode,
  ReplicaStatus,
  RequestFlag,
} from '../../wire/messages.js';
import { addHi, addLo, compareU64, differenceU64, readI32, readIndex, readU16 } from '../../wire/u64.js';
import type { CatchUp } from './agreement/catch-up.js';
import { BATCH_US, type OutOfStep } from './agreement/out-of-step.js';
import type { Repair } from './agreement/repair.js';
import type { Synchronization } from './agreement/synchronization.js';
import { ArrivedRequest } from './arrived-request.js';
import type { ClientAnswers } from './client-answers.js';
import type { ClusterTime } from './cluster-time.js';
import type { Instant } from '../contract.js';
import { Counter } from '../counters.js';
import type { EarlyRequests } from './early-requests.js';
import type { HoldBack } from './hold-back.js';
import { invariant } from '../invariant.js';
import { KnownRequests } from './known-requests.js';
import { EPOCH_VIEWS } from '../configuration.js';
import { Feature, featureOf, maskOf, unknownIn } from '../log/features.js';
import { decodeOperation } from '../membership/operations.js';
import { olderHosts, SignsOfLife, unheardHosts } from './who-speaks.js';
import { isForeign } from '../log/session-owner.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../log/sessions.js';
import { NO_RESULT } from './message-writer.js';
import { Rejections } from './rejections.js';
import { RegisterRate } from './register-rate.js';
import type { ReplicaState } from './replica-state.js';
import { Restamping } from './restamping.js';
import type { Suspicion } from './suspicion/suspicion.js';

/** In place of how long a request was held: it has just arrived. */
export const NOT_HELD = -1;
/** The same: it came before its view had begun here (early-requests.ts), and was counted then. */
export const KEPT = -2;

/** What `placeInTime` says of a request that is held back now. */
const HELD = -1;

export class Requests {
  private readonly rejections: Rejections;
  private readonly known: KnownRequests;
  private readonly signsOfLife = new SignsOfLife();
  private readonly restamping: Restamping;
  private readonly registers = new RegisterRate();
  private readonly catchUp: CatchUp;
  private readonly time: ClusterTime;
  private readonly outOfStep: OutOfStep;
  /** Points at the message that is handled now. */
  private readonly arrived = new ArrivedRequest();
  private readonly received = new LastWords();

  constructor(
    private readonly state: ReplicaState,
    private readonly answers: ClientAnswers,
    private readonly synchronization: Synchronization,
    private readonly repair: Repair,
    private readonly suspicion: Suspicion,
    private readonly holdBack: HoldBack,
    private readonly early: EarlyRequests,
  ) {
    this.catchUp = synchronization.catchUp;
    this.rejections = new Rejections(state, answers);
    this.known = new KnownRequests(state, answers);
    this.time = synchronization.time;
    this.outOfStep = repair.outOfStep;
    this.restamping = new Restamping(state, this.time);
  }

  /**
   * @param heldUs how long it was held back until its timestamp was due, whole µs: such a request is not held again, whatever
   * the clock says now. NOT_HELD: it has just arrived. KEPT: it had arrived, and was only counted.
   */
  onRequest(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant, heldUs: number): void {
    const { state } = this;
    const isNew = heldUs < 0;
    const arrived = this.pointAt(bytes, o, from, isNew ? 0 : heldUs, now);
    arrived.owner = owner;
    if (heldUs === NOT_HELD) state.counters[Counter.requests]!++;
    if (arrived.view !== state.view || !state.isMember) {
      this.notMine(arrived, now);
      return;
    }
    // The checks stand here, not in functions of their own: V8 would inline those and leave the look-ups below as calls.
    const { sessionHi, sessionLo, lane, isRegister, operationLength } = arrived;
    if (
      arrived.request <= 0 ||
      (sessionHi | sessionLo) === 0 ||
      operationLength > state.config.limits.operationBytes ||
      isRegister !== (lane === REGISTER_LANE) ||
      (isRegister && operationLength !== REGISTER_BYTES)
    ) {
      this.reject(arrived, RejectReason.badRequest, now);
      return;
    }
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    // A request that was held back was its owner's when it came.
    const registers = isRegister ? readI32(bytes, arrived.operationOffset) : undefined;
    if (isNew && isForeign(state.log, state.tail, session, sessionHi, sessionLo, registers, owner)) {
      this.reject(arrived, RejectReason.sessionUnknown, now);
      return;
    }
    if (session !== undefined) session.replyTo = from;
    const newest = state.tail.find(sessionHi, sessionLo, lane);
    if (this.known.isKnown(arrived, session, newest)) {
      if (this.known.answer(arrived, session, newest)) this.catchUp.mayDiffer(now);
      return;
    }
    // The session first: `session-unknown` leaves open whether the request was executed; the other reasons deny it.
    let fault: RejectReasonCode | 0 = 0;
    if (!isRegister && session === undefined) fault = this.unknownSession(arrived);
    else if (!isRegister && lane >= session!.lanes) fault = RejectReason.badRequest;
    if (fault === 0 && arrived.flags === RequestFlag.feature) fault = this.mayNotSwitch(arrived, now);
    if (fault === 0 && arrived.flags === RequestFlag.configure && !this.mayChange(arrived))
      fault = RejectReason.badRequest;
    if (fault !== 0) {
      this.reject(arrived, fault, now);
      return;
    }
    const misplaced = isNew ? this.placeInTime(arrived, now) : 0;
    if (misplaced !== HELD) this.append(arrived, misplaced, now);
  }

  /** A request that this replica's host does not let pass. */
  refuse(bytes: Uint8Array, o: number, from: number, reason: RejectReasonCode, now: Instant): void {
    this.state.counters[Counter.requests]!++;
    this.reject(this.pointAt(bytes, o, from, 0, now), reason, now);
  }

  /** Quorum read: where the log ends, and at the primary the answer. */
  onRead(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    state.counters[Counter.reads]!++;
    const read = this.arrived.pointAtRead(bytes, o, from);
    if (read.view !== state.view || !state.isMember) {
      if (read.view < state.view) this.answers.reject(read, RejectReason.wrongView, 0, 0);
      else if (read.view > state.view) this.suspicion.askAbout(read.view, now);
      return;
    }
    if (!state.isPrimary) {
      this.answers.readReply(read, NO_RESULT);
      return;
    }
    const { execution } = state;
    invariant(execution.executed === state.log.lastIndex, 'a primary reads from the state behind its whole log');
    execution.query(bytes, o + Read.size, readU16(bytes, o + Read.at.operation));
    this.answers.readReply(read, execution.reply);
  }

  /** A client says that the primary has its request at `index` under `chain`. */
  onReconcile(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant): void {
    const { state } = this;
    const at = Reconcile.at;
    const named = this.arrived.pointAtReconcile(bytes, o, from);
    if (named.view !== state.view || !state.isMember || state.isPrimary) return;
    state.counters[Counter.reconciles]!++;
    const { sessionHi, sessionLo } = named;
    const index = readIndex(bytes, o + at.index);
    const chainHi = readI32(bytes, o + at.chain);
    const chainLo = readI32(bytes, o + at.chain + 4);
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    if (isForeign(state.log, state.tail, session, sessionHi, sessionLo, undefined, owner)) return;
    if (session !== undefined) session.replyTo = from;
    if (this.known.acknowledgeAt(named, index, chainHi, chainLo)) return;
    if (index > state.log.baseIndex) this.synchronization.waitFor(index, chainHi, chainLo, from, now);
  }

  private pointAt(bytes: Uint8Array, o: number, from: number, heldUs: number, now: Instant): ArrivedRequest {
    return this.arrived.pointAtRequest(this.received.of(bytes), bytes, o, from, heldUs, now);
  }

  /** The request names another view than this replica's, or this replica is no member of it. */
  private notMine(arrived: ArrivedRequest, now: Instant): void {
    const { state } = this;
    if (arrived.view > state.view) {
      this.suspicion.askAbout(arrived.view, now);
      this.keep(arrived);
    } else if (arrived.view < state.view) {
      this.reject(arrived, RejectReason.wrongView, now);
    } else if (state.status === ReplicaStatus.normal) {
      this.reject(arrived, RejectReason.notInQuorum, now);
    } else {
      this.keep(arrived);
    }
  }

  /** The request is of a view that has not begun here: it waits for that, if this replica is a member of the view. */
  private keep(arrived: ArrivedRequest): void {
    const { state } = this;
    if (!state.views.isMember(arrived.view, state.id) || !this.early.keep(arrived)) state.counters[Counter.ignored]!++;
  }

  /**
   * Why the feature that the request names is not switched on by it; 0: it is. An operator of this cluster names one that
   * this replica knows. For `membership`, see who-speaks.ts.
   */
  private mayNotSwitch(
    { operationBytes, operationOffset, operationLength }: ArrivedRequest,
    now: Instant,
  ): RejectReasonCode | 0 {
    const { state } = this;
    const number = featureOf(operationBytes, operationOffset, operationLength, state.chain);
    if (number === 0 || unknownIn(maskOf(number)) !== 0) return RejectReason.badRequest;
    const feature = maskOf(number);
    if (feature !== Feature.membership || (state.execution.features & feature) !== 0) return 0;
    if (olderHosts(state) !== 0) return RejectReason.badRequest;
    const unheard = unheardHosts(state);
    if (unheard === 0 || this.signsOfLife.areInVain(now)) return 0;
    this.suspicion.greet(unheard);
    return RejectReason.busy;
  }

  /**
   * The request changes who the hosts are, as an operator can ask for it. Where the feature `membership` is off, its flag
   * means nothing.
   *
   * Rule S (`overflow` in the model): an epoch is decided only by members in a view of the one right below, so that no
   * view of it was ever anything else.
   */
  private mayChange({ operationBytes, operationOffset, operationLength }: ArrivedRequest): boolean {
    const { state } = this;
    if ((state.execution.features & Feature.membership) === 0) return true;
    const operation = decodeOperation(operationBytes, operationOffset, operationLength);
    if (operation === undefined || operation.kind === 'go') return false;
    return operation.kind !== 'change' || operation.to === Math.floor(state.view / EPOCH_VIEWS) + 1;
  }

  /** The request is of a session that was not executed here. 0: its Register is in the log. */
  private unknownSession(arrived: ArrivedRequest): RejectReasonCode | 0 {
    const register = this.state.tail.find(arrived.sessionHi, arrived.sessionLo, REGISTER_LANE);
    return register === 0 ? RejectReason.sessionUnknown : 0;
  }

  /**
   * Holds a request back whose time has not come. Speed only, but for one client that would push everybody's log into the
   * future: no key enters a log ahead of its time. What is ahead and cannot be held is refused.
   * @returns HELD; `tooFarAhead`: its timestamp is not to be taken as it is; 0: it is
   */
  private placeInTime(arrived: ArrivedRequest, now: Instant): typeof HELD | typeof RejectReason.tooFarAhead | 0 {
    const { state, holdBack, time } = this;
    const { timestampHi, timestampLo } = arrived;
    const isAhead = compareU64(timestampHi, timestampLo, now.wallHi, now.wallLo) > 0;
    const isBatched = state.isPrimary && this.outOfStep.isApart(arrived) && this.mayBatch(arrived);
    if (!isBatched) {
      holdBack.arrive(isAhead, now.monotonicUs);
      if (!isAhead && !holdBack.sorts(now.monotonicUs)) return 0;
    }
    const aheadNs = differenceU64(timestampHi, timestampLo, now.wallHi, now.wallLo);
    const isNear = aheadNs <= state.config.timings.maxAheadNs;
    if (isBatched && isNear && aheadNs <= holdBack.limitNs) {
      this.batch(arrived, isAhead ? aheadNs / 1000 : 0, now);
      return HELD;
    }
    if (
      isNear &&
      aheadNs <= holdBack.limitNs &&
      holdBack.hold(arrived, now.monotonicUs, now.monotonicUs + aheadNs / 1000)
    ) {
      if (isAhead) state.counters[Counter.requests_held]!++;
      return HELD;
    }
    if (!isAhead || (isNear && aheadNs <= holdBack.atOnceNs)) return 0;
    time.read(now);
    if (compareU64(timestampHi, timestampLo, time.hi, time.lo) <= 0) return 0;
    // One that is not above the last key of a log is late, wherever that log is.
    return state.log.compareToLast(timestampHi, timestampLo, arrived.sessionHi, arrived.sessionLo) > 0
      ? RejectReason.tooFarAhead
      : 0;
  }

  /**
   * Appends a request that is new, under the key that it came with. A late or misplaced one gets another key or is
   * rejected; so is one for which the log has no room.
   * @param misplaced `tooFarAhead`: its timestamp is not to be taken as it is; else 0
   */
  private append(arrived: ArrivedRequest, misplaced: RejectReasonCode | 0, now: Instant): void {
    const { state } = this;
    const { log, execution } = state;
    invariant(
      arrived.view === state.view && state.isMember && !state.alone,
      'a request is appended by a member of the view that it names, in status normal',
    );
    if (arrived.isRegister && !this.registers.permits(arrived.owner, now)) {
      state.counters[Counter.registers_refused]!++;
      this.reject(arrived, RejectReason.busy, now);
      return;
    }
    if (this.repair.waits) {
      // Its own timestamp, which is not to be taken, would put it back behind the order: under none it comes in by the
      // primary's alone.
      if (misplaced !== 0) arrived.stamp(0, 0);
      this.outOfStep.at(now);
      if (!this.repair.hold(arrived, this.catchUp.isPushed(now))) this.catchUp.fetch(now);
      return;
    }
    if (!state.isPrimary && this.outOfStep.isApart(arrived)) {
      this.awaitOrder(arrived, misplaced, now);
      return;
    }
    if (
      misplaced !== 0 ||
      log.compareToLast(arrived.timestampHi, arrived.timestampLo, arrived.sessionHi, arrived.sessionLo) <= 0
    ) {
      this.misplaced(arrived, misplaced === 0 ? RejectReason.late : misplaced, now);
      return;
    }
    if (!state.append(arrived)) {
      this.reject(arrived, RejectReason.busy, now);
      return;
    }
    if (arrived.isRegister) this.registers.spend(arrived.owner, now);
    this.outOfStep.appended(arrived);
    if (state.isPrimary && arrived.heldUs > 0) this.outOfStep.batched(arrived);
    const index = log.lastIndex;
    const from = arrived.replyTo;
    const slackUs = arrived.slackUs - arrived.heldUs;
    state.arrivalSlackUs.record(slackUs);
    if (!state.isPrimary) {
      this.answers.acknowledge(from, index, slackUs, 0);
      return;
    }
    execution.executeTo(index);
    invariant(execution.executed === log.lastIndex, 'a primary has executed its whole log when it answers');
    this.answers.answer(from, index, execution.lastStatus, slackUs, state.pushing ? 1 : 0, execution.reply);
  }

  /**
   * Whether this request of an owner that is out of step waits for the next batch. It is late then: a Register may be
   * refused for that, and under `late: reject` any request.
   */
  private mayBatch(arrived: ArrivedRequest): boolean {
    return !arrived.isRegister && this.restamping.lateGetOne && this.holdBack.hasPlaces;
  }

  /**
   * At the primary: holds a request until the next batch of requests that are out of step, but not before its own timestamp
   * is due.
   */
  private batch(arrived: ArrivedRequest, aheadUs: number, now: Instant): void {
    const { state, holdBack } = this;
    const dueUs = (Math.floor((now.monotonicUs + aheadUs) / BATCH_US) + 1) * BATCH_US;
    const aheadNs = Math.round((dueUs - now.monotonicUs) * 1000);
    // Requests are held in the order of their timestamps.
    arrived.stamp(addHi(now.wallHi, now.wallLo, aheadNs), addLo(now.wallLo, aheadNs));
    if (holdBack.hold(arrived, now.monotonicUs, dueUs)) state.counters[Counter.requests_apart]!++;
    else this.reject(arrived, RejectReason.busy, now);
  }

  /** At a member: a request of an owner that is out of step comes in by the primary's order only. */
  private awaitOrder(arrived: ArrivedRequest, misplaced: RejectReasonCode | 0, now: Instant): void {
    const { catchUp } = this;
    this.state.counters[Counter.requests_apart]!++;
    if (misplaced !== 0) arrived.stamp(0, 0);
    this.repair.remember(arrived);
    if (!catchUp.isPushed(now)) catchUp.lateRequest(now);
  }

  /** The key of a new request is not above the last one of the log (`late`), or is ahead and cannot be held (`tooFarAhead`). */
  private misplaced(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): void {
    const { state, catchUp } = this;
    if (this.restamping.restamp(arrived, reason, now)) {
      this.append(arrived, 0, now);
      return;
    }
    const isLate = reason === RejectReason.late;
    if (state.isPrimary) {
      if (isLate) this.synchronization.pushOrder(now);
      this.reject(arrived, reason, now);
      return;
    }
    // The primary may have taken it: then it comes back in the primary's order, or by a repair. One that is too far ahead
    // comes back by nothing else.
    if (!isLate) arrived.stamp(0, 0);
    this.repair.remember(arrived);
    if (!catchUp.isPushed(now)) this.reject(arrived, reason, now);
    if (isLate) catchUp.lateRequest(now);
  }

  private reject(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): void {
    this.rejections.reject(arrived, reason, now);
  }
}
