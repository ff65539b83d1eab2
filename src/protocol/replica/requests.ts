/**
 * Normal operation: what a replica does with a client's Request, Read and Reconcile.
 *
 * Rule S guarded here: a request is appended only by a member of the view it names, in status normal, and only when its
 * key is above the last key of the log. What the lane's log already holds is answered, never appended again.
 */
import { LastWords } from '../../wire/copy.js';
import type { Reply } from '../../machine/state-machine.js';
import {
  Read,
  Reconcile,
  RejectReason,
  type RejectReasonCode,
  ReplicaStatus,
  ReplyStatus,
} from '../../wire/messages.js';
import { addHi, addLo, compareU64, differenceU64, readI32, readIndex, readU16 } from '../../wire/u64.js';
import { ArrivedRequest } from './arrived-request.js';
import { Budget } from './budget.js';
import { DEFAULT_LATE } from '../config.js';
import type { Instant } from '../contract.js';
import { Counter, REJECT_COUNTERS } from '../counters.js';
import type { HoldBack } from './hold-back.js';
import { invariant } from '../invariant.js';
import type { Repair } from './agreement/repair.js';
import type { ReplicaState } from './replica-state.js';
import { NO_RESULT, type Sender } from './replica-sender.js';
import { isForeign } from '../log/session-owner.js';
import { REGISTER_BORN, REGISTER_BYTES, REGISTER_LANE, type Session } from '../log/sessions.js';
import type { Synchronization } from './agreement/synchronization.js';
import type { Suspicion } from './suspicion/suspicion.js';

/**
 * Late Registers that a primary stamps anew: this many at once, and another one after each interval. Somebody who registers without end
 * would otherwise evict the sessions of all others; an honest client beyond them is told that it is late, and stamps ahead (margins.ts).
 */
export const LATE_REGISTERS = 16;
export const LATE_REGISTER_US = 100_000;

/** In place of how long a request was held: it has just arrived. */
export const NOT_HELD = -1;

export class Requests {
  /** Points at the message that is handled now. */
  private readonly arrived = new ArrivedRequest();
  /** Points at the result that is sent now, where the session table keeps it. */
  private readonly kept: Reply = { bytes: NO_RESULT.bytes, offset: 0, capacity: 0, length: 0 };
  private readonly restamps: boolean;
  private readonly lateRegisters = new Budget(LATE_REGISTERS, LATE_REGISTER_US);
  private readonly received = new LastWords();

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly synchronization: Synchronization,
    private readonly repair: Repair,
    private readonly suspicion: Suspicion,
    private readonly holdBack: HoldBack,
  ) {
    this.restamps = (state.config.late ?? DEFAULT_LATE) === 'restamp';
  }

  /**
   * @param heldUs how long it was held back until its timestamp was due, whole µs: such a request is not held again, whatever the
   * clock says now. NOT_HELD: it has just arrived.
   */
  onRequest(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant, heldUs: number): void {
    const { state } = this;
    const isNew = heldUs === NOT_HELD;
    const arrived = this.pointAt(bytes, o, from, isNew ? 0 : heldUs, now);
    if (isNew) state.counters[Counter.requests]!++;
    if (arrived.view !== state.view || !state.isMember) {
      this.notMine(arrived, now);
      return;
    }
    const { sessionHi, sessionLo, lane, isRegister } = arrived;
    if (
      arrived.request <= 0 ||
      (sessionHi | sessionLo) === 0 ||
      arrived.operationLength > state.config.limits.operationBytes ||
      isRegister !== (lane === REGISTER_LANE) ||
      (isRegister && arrived.operationLength !== REGISTER_BYTES)
    ) {
      this.reject(arrived, RejectReason.badRequest, now);
      return;
    }
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    // What was held back was its owner's when it came.
    if (
      isNew &&
      isForeign(
        state.log,
        state.tail,
        session,
        sessionHi,
        sessionLo,
        isRegister ? readI32(bytes, arrived.operationOffset) : undefined,
        owner,
      )
    ) {
      this.reject(arrived, RejectReason.sessionUnknown, now);
      return;
    }
    if (session !== undefined) session.replyTo = from;
    const newest = state.tail.find(sessionHi, sessionLo, lane);
    if (this.isKnown(arrived, session, newest)) {
      if (newest !== 0) this.answerAppended(arrived, newest, now);
      else this.answerExecuted(arrived, session!);
      return;
    }
    if (!isRegister) {
      if (session === undefined) {
        if (state.tail.find(sessionHi, sessionLo, REGISTER_LANE) === 0) {
          this.reject(arrived, RejectReason.sessionUnknown, now);
          return;
        }
      } else if (lane >= session.lanes) {
        this.reject(arrived, RejectReason.badRequest, now);
        return;
      }
    }
    if (isNew) {
      const { timestampHi, timestampLo } = arrived;
      const isAhead = compareU64(timestampHi, timestampLo, now.wallHi, now.wallLo) > 0;
      if (isAhead || this.holdBack.sorts(now.monotonicUs)) {
        const aheadNs = differenceU64(timestampHi, timestampLo, now.wallHi, now.wallLo);
        if (
          aheadNs > state.config.timings.maxAheadNs &&
          state.log.compareToLast(timestampHi, timestampLo, sessionHi, sessionLo) > 0 &&
          !this.isWithinOrder(timestampHi, timestampLo)
        ) {
          this.append(arrived, RejectReason.tooFarAhead, now);
          return;
        }
        if (
          aheadNs <= this.holdBack.limitNs &&
          this.holdBack.hold(arrived, now.monotonicUs, now.monotonicUs + aheadNs / 1000)
        ) {
          if (isAhead) state.counters[Counter.requests_held]!++;
          return;
        }
      }
    }
    this.append(arrived, 0, now);
  }

  private pointAt(bytes: Uint8Array, o: number, from: number, heldUs: number, now: Instant): ArrivedRequest {
    return this.arrived.pointAtRequest(this.received.of(bytes), bytes, o, from, heldUs, now);
  }

  /**
   * A member's clock may be behind while the log is not: what the primary took says more of the time than this clock. Only of the
   * log that is known to be the primary's, so that nobody can push a member's log ahead step by step.
   */
  private isWithinOrder(timestampHi: number, timestampLo: number): boolean {
    const { state } = this;
    if (state.isPrimary || state.synced < state.log.baseIndex) return false;
    return (
      differenceU64(
        timestampHi,
        timestampLo,
        state.log.timestampHi(state.synced),
        state.log.timestampLo(state.synced),
      ) <= state.config.timings.maxAheadNs
    );
  }

  /** Its host has no time for it. */
  refuse(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    this.state.counters[Counter.requests]!++;
    this.reject(this.pointAt(bytes, o, from, 0, now), RejectReason.busy, now);
  }

  /** Quorum read: where the log ends, and at the primary the answer. */
  onRead(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    state.counters[Counter.reads]!++;
    const read = this.arrived.pointAtRead(bytes, o, from);
    if (read.view !== state.view || !state.isMember) {
      if (read.view < state.view) this.sender.reject(read, RejectReason.wrongView, 0, 0);
      else if (read.view > state.view) this.suspicion.askAbout(read.view, now);
      return;
    }
    if (!state.isPrimary) {
      this.sender.readReply(read, NO_RESULT);
      return;
    }
    const { execution } = state;
    execution.query(bytes, o + Read.size, readU16(bytes, o + Read.at.operation));
    this.sender.readReply(read, execution.reply);
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
    if (this.acknowledgeAt(named, index, chainHi, chainLo)) return;
    if (index > state.log.baseIndex) this.synchronization.waitFor(index, chainHi, chainLo, from, now);
  }

  /** Acknowledges the request that a Reconcile names when entry `index` is that request, under that chain. */
  acknowledgeAt(named: ArrivedRequest, index: number, chainHi: number, chainLo: number): boolean {
    const { log, execution } = this.state;
    const { sessionHi, sessionLo, lane, request } = named;
    if (log.has(index)) {
      if (
        !log.matches(index, chainHi, chainLo) ||
        log.request(index) !== request ||
        log.lane(index) !== lane ||
        log.sessionHi(index) !== sessionHi ||
        log.sessionLo(index) !== sessionLo
      )
        return false;
      this.sender.acknowledge(named.replyTo, index, 0, 1);
      return true;
    }
    const session = execution.sessions.find(sessionHi, sessionLo);
    if (
      index > log.baseIndex ||
      session === undefined ||
      lane >= session.lanes ||
      session.request[lane] !== request ||
      session.index[lane] !== index
    )
      return false;
    if (session.chainHi[lane] !== chainHi || session.chainLo[lane] !== chainLo) return false;
    this.sender.reply(named, ReplyStatus.ok, index, chainHi, chainLo, NO_RESULT);
    return true;
  }

  /**
   * Appends a request that is new, under the key that it came with; gives it another one, or rejects it, when it is late or the log is full.
   * @param misplaced `tooFarAhead`: its timestamp is not to be taken as it is; else 0
   */
  private append(arrived: ArrivedRequest, misplaced: RejectReasonCode | 0, now: Instant): void {
    const { state } = this;
    const { log, execution } = state;
    if (this.repair.waits) {
      // Under a timestamp that is not to be taken it would be put back behind the order: under none it comes in by the primary's alone.
      if (misplaced !== 0) arrived.stamp(0, 0);
      this.repair.hold(arrived, this.synchronization.follows(now));
      this.synchronization.held(now);
      return;
    }
    if (
      misplaced !== 0 ||
      log.compareToLast(arrived.timestampHi, arrived.timestampLo, arrived.sessionHi, arrived.sessionLo) <= 0
    ) {
      this.misplaced(arrived, misplaced === 0 ? RejectReason.late : misplaced, now);
      return;
    }
    if (!log.append(arrived)) {
      this.reject(arrived, RejectReason.busy, now);
      return;
    }
    const index = log.lastIndex;
    state.appended();
    const from = arrived.replyTo;
    const slack = arrived.slackUs - arrived.heldUs;
    state.arrivalSlackUs.record(slack);
    if (!state.isPrimary) {
      this.sender.acknowledge(from, index, slack, 0);
      return;
    }
    execution.executeTo(index);
    this.sender.answer(from, index, execution.lastStatus, slack, state.pushing ? 1 : 0, execution.reply);
  }

  /** The key of a new request is not above the last one of the log (`late`), or further ahead of the clock than may be (`tooFarAhead`). */
  private misplaced(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): void {
    const { state, synchronization } = this;
    if (this.restamp(arrived, reason, now)) return;
    const isLate = reason === RejectReason.late;
    if (state.isPrimary) {
      if (isLate) synchronization.differs(now);
      this.reject(arrived, reason, now);
      return;
    }
    // The primary may have taken it: then it comes back in its order, or by a repair. By nothing else where it is too far ahead.
    if (!isLate) arrived.stamp(0, 0);
    this.repair.remember(arrived);
    if (!synchronization.follows(now)) this.reject(arrived, reason, now);
    if (isLate) synchronization.late(now);
  }

  /**
   * Appends a misplaced request with the smallest key above the last one; false when it may not have one.
   *
   * - `late: restamp` gives one to every late request. Members do as the primary does: where requests reach both in one order,
   *   clocks or not, their logs stay equal. Not to a request of a session whose Register was not executed here: the lateness of
   *   a delayed copy is what keeps it out once its session was evicted (sessions.ts).
   * - A Register gets one from the primary under either rule, or a client that is farther away than the busy ones would be late for
   *   ever. What keeps a delayed copy of it out is the eviction horizon, which the primary, having executed its whole log, knows
   *   as execution will (mayRegister). A member, which has not, waits for the primary's order.
   * - A request ahead of the clock gets one while the log is ahead of the clock: above its last key there is nothing else to stamp. Its own
   *   timestamp would let a client walk the log's time ahead; by the smallest step the log stands still until the clock has caught up.
   */
  private restamp(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): boolean {
    const { state } = this;
    const { log } = state;
    const { sessionHi, sessionLo, lane } = arrived;
    const last = log.lastIndex;
    let hi = log.timestampHi(last);
    let lo = log.timestampLo(last);
    if (reason === RejectReason.tooFarAhead) {
      if (compareU64(hi, lo, now.wallHi, now.wallLo) <= 0) return false;
    } else if (!this.restamps && lane !== REGISTER_LANE) return false;
    // A Register always takes the next timestamp: its client was told the last one, and is born right above it.
    if (lane === REGISTER_LANE || compareU64(sessionHi, sessionLo, log.sessionHi(last), log.sessionLo(last)) <= 0) {
      hi = addHi(hi, lo, 1);
      lo = addLo(lo, 1);
    }
    // The end of time: the sum began anew.
    if (log.compareToLast(hi, lo, sessionHi, sessionLo) <= 0) return false;
    if (lane === REGISTER_LANE) {
      if (!state.isPrimary || !this.mayRegister(arrived, hi, lo) || !this.lateRegisters.has(now)) return false;
      this.lateRegisters.spend(now);
    } else if (state.execution.sessions.find(sessionHi, sessionLo) === undefined) return false;
    state.counters[Counter.restamped]!++;
    arrived.stamp(hi, lo);
    this.append(arrived, 0, now);
    return true;
  }

  /** Execution will not refuse this Register, under that timestamp, as born too late or as one that may have been evicted. */
  private mayRegister(register: ArrivedRequest, timestampHi: number, timestampLo: number): boolean {
    const { execution, log } = this.state;
    invariant(execution.executed === log.lastIndex, 'a primary has executed its whole log');
    const born = register.operationOffset + REGISTER_BORN;
    const bornHi = readI32(register.operationBytes, born);
    const bornLo = readI32(register.operationBytes, born + 4);
    return (
      compareU64(bornHi, bornLo, timestampHi, timestampLo) <= 0 && !execution.sessions.mayBeEvicted(bornHi, bornLo)
    );
  }

  /** The lane had this request, or a later one: of what is in the log its newest is `newest`, 0 when all of it was executed. */
  private isKnown(arrived: ArrivedRequest, session: Session | undefined, newest: number): boolean {
    const { lane, request } = arrived;
    if (newest !== 0) return request <= this.state.log.request(newest);
    return session !== undefined && (arrived.isRegister || (lane < session.lanes && request <= session.request[lane]!));
  }

  /** The lane's newest request in the log, `newest`, is this one or a later one. */
  private answerAppended(arrived: ArrivedRequest, newest: number, now: Instant): void {
    const { state } = this;
    const { log } = state;
    state.counters[Counter.requests_duplicate]!++;
    if (arrived.request < log.request(newest)) return;
    this.sender.acknowledge(arrived.replyTo, newest, arrived.slackUs, 0);
    // The client moved on to a later timestamp, so the primary may hold the request under that one.
    if (
      newest > state.synced &&
      compareU64(arrived.timestampHi, arrived.timestampLo, log.timestampHi(newest), log.timestampLo(newest)) > 0
    )
      this.synchronization.repair(now);
  }

  /** The lane's last executed request is this one or a later one. */
  private answerExecuted(arrived: ArrivedRequest, session: Session): void {
    const { state, kept } = this;
    const { lane } = arrived;
    state.counters[Counter.requests_duplicate]!++;
    if (arrived.isRegister) {
      this.answerRegistered(arrived, session);
      return;
    }
    if (arrived.request < session.request[lane]!) return;
    kept.bytes = session.results.bytes(lane);
    kept.length = state.isPrimary ? session.results.length(lane) : 0;
    this.sender.reply(
      arrived,
      session.status[lane]!,
      session.index[lane]!,
      session.chainHi[lane]!,
      session.chainLo[lane]!,
      kept,
    );
  }

  private answerRegistered(register: ArrivedRequest, session: Session): void {
    const { operationBytes, operationOffset } = register;
    const isMine =
      register.operationLength === REGISTER_BYTES &&
      readI32(operationBytes, operationOffset) === session.nonceHi &&
      readI32(operationBytes, operationOffset + 4) === session.nonceLo;
    this.sender.reply(
      register,
      isMine ? ReplyStatus.ok : ReplyStatus.sessionTaken,
      session.registerIndex,
      session.registerChainHi,
      session.registerChainLo,
      NO_RESULT,
    );
  }

  private notMine(arrived: ArrivedRequest, now: Instant): void {
    const { state } = this;
    if (arrived.view > state.view) {
      this.suspicion.askAbout(arrived.view, now);
      state.counters[Counter.ignored]!++;
    } else if (arrived.view < state.view) {
      this.reject(arrived, RejectReason.wrongView, now);
    } else if (state.status === ReplicaStatus.normal) {
      this.reject(arrived, RejectReason.notInQuorum, now);
    } else {
      state.counters[Counter.ignored]!++;
    }
  }

  private reject(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): void {
    const { state } = this;
    const { log } = state;
    state.counters[REJECT_COUNTERS[reason]!]!++;
    // What the cluster takes for now: the clock, or the end of a log that is ahead of it.
    const last = log.lastIndex;
    const clock =
      reason === RejectReason.tooFarAhead &&
      compareU64(now.wallHi, now.wallLo, log.timestampHi(last), log.timestampLo(last)) > 0;
    if (reason === RejectReason.tooFarAhead || reason === RejectReason.late)
      state.arrivalSlackUs.record(arrived.slackUs);
    this.sender.reject(
      arrived,
      reason,
      clock ? now.wallHi : log.timestampHi(last),
      clock ? now.wallLo : log.timestampLo(last),
    );
  }
}
