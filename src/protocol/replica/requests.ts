/**
 * Normal operation: what a replica does with a client's Request, Read and Reconcile.
 *
 * Rule S guarded here: a request is appended only by a member of the view it names, in status normal, and only when its
 * key is above the last key of the log. What the lane's log already holds is answered, never appended again.
 */
import { LastView } from '../../wire/copy.js';
import {
  Read,
  Reconcile,
  RejectReason,
  type RejectReasonCode,
  ReplicaStatus,
  ReplyStatus,
  Request,
  RequestFlag,
} from '../../wire/messages.js';
import { addHi, addLo, compareU64, differenceU64, readI32, readIndex, readU16 } from '../../wire/u64.js';
import { Budget } from './budget.js';
import { DEFAULT_LATE } from '../config.js';
import type { Instant } from '../contract.js';
import { Counter, REJECT_COUNTERS } from '../counters.js';
import type { HoldBack } from './hold-back.js';
import { invariant } from '../invariant.js';
import type { Repair } from './agreement/repair.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './replica-sender.js';
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

const NOTHING = new Uint8Array(0);
const INT32_MAX = 0x7fffffff;

export class Requests {
  /** How long the request that is handled now was held back, whole µs: its slack is that of its arrival. */
  heldUs = 0;
  /** Arrival clock − timestamp of the request that is handled now, as it came, whatever key it gets. */
  private slackUs = 0;
  private readonly restamps: boolean;
  private readonly lateRegisters = new Budget(LATE_REGISTERS, LATE_REGISTER_US);
  private readonly received = new LastView();

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

  /** `released`: it was held back until its timestamp was due, and is not held again, whatever the clock says now. */
  onRequest(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant, released: boolean): void {
    const { state } = this;
    const at = Request.at;
    const message = this.received.of(bytes);
    if (!released) state.counters[Counter.requests]!++;
    const view = message.getInt32(o + at.view);
    if (view !== state.view || !state.isMember) {
      this.notMine(bytes, o, view, from, now);
      return;
    }
    const sessionHi = message.getInt32(o + at.session);
    const sessionLo = message.getInt32(o + at.session + 4);
    const lane = message.getUint16(o + at.lane);
    const request = message.getInt32(o + at.request);
    const register = (message.getUint8(o + at.flags) & RequestFlag.register) !== 0;
    const length = message.getUint16(o + at.operation);
    if (
      request <= 0 ||
      (sessionHi | sessionLo) === 0 ||
      length > state.config.limits.operationBytes ||
      register !== (lane === REGISTER_LANE) ||
      (register && length !== REGISTER_BYTES)
    ) {
      this.reject(bytes, o, from, RejectReason.badRequest, now);
      return;
    }
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    // What was held back was its owner's when it came.
    if (
      !released &&
      isForeign(
        state.log,
        state.tail,
        session,
        sessionHi,
        sessionLo,
        register ? message.getInt32(o + Request.size) : undefined,
        owner,
      )
    ) {
      this.reject(bytes, o, from, RejectReason.sessionUnknown, now);
      return;
    }
    if (session !== undefined) session.replyTo = from;
    const timestampHi = message.getInt32(o + at.timestamp);
    const timestampLo = message.getInt32(o + at.timestamp + 4);
    this.slackUs = slackUs(now, timestampHi, timestampLo);
    const newest = state.tail.find(sessionHi, sessionLo, lane);
    if (this.isKnown(session, newest, lane, request, register)) {
      if (newest !== 0) this.answerAppended(newest, request, timestampHi, timestampLo, from, now);
      else this.answerExecuted(bytes, o, session!, lane, request, register, from);
      return;
    }
    if (!register) {
      if (session === undefined) {
        if (state.tail.find(sessionHi, sessionLo, REGISTER_LANE) === 0) {
          this.reject(bytes, o, from, RejectReason.sessionUnknown, now);
          return;
        }
      } else if (lane >= session.lanes) {
        this.reject(bytes, o, from, RejectReason.badRequest, now);
        return;
      }
    }
    if (!released) {
      const isAhead = compareU64(timestampHi, timestampLo, now.wallHi, now.wallLo) > 0;
      if (isAhead || this.holdBack.sorts(now.monotonicUs)) {
        const aheadNs = differenceU64(timestampHi, timestampLo, now.wallHi, now.wallLo);
        if (
          aheadNs > state.config.timings.maxAheadNs &&
          state.log.compareToLast(timestampHi, timestampLo, sessionHi, sessionLo) > 0 &&
          !this.isWithinOrder(timestampHi, timestampLo)
        ) {
          this.append(
            bytes,
            o,
            timestampHi,
            timestampLo,
            sessionHi,
            sessionLo,
            lane,
            request,
            length,
            from,
            now,
            RejectReason.tooFarAhead,
          );
          return;
        }
        if (
          aheadNs <= this.holdBack.limitNs &&
          this.holdBack.hold(
            bytes,
            o,
            Request.size + length,
            from,
            timestampHi,
            timestampLo,
            now.monotonicUs,
            now.monotonicUs + aheadNs / 1000,
          )
        ) {
          if (isAhead) state.counters[Counter.requests_held]!++;
          return;
        }
      }
    }
    this.append(bytes, o, timestampHi, timestampLo, sessionHi, sessionLo, lane, request, length, from, now, 0);
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
    this.reject(bytes, o, from, RejectReason.busy, now);
  }

  /** Quorum read: where the log ends, and at the primary the answer. */
  onRead(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const at = Read.at;
    state.counters[Counter.reads]!++;
    const view = readI32(bytes, o + at.view);
    const sessionHi = readI32(bytes, o + at.session);
    const sessionLo = readI32(bytes, o + at.session + 4);
    const lane = readU16(bytes, o + at.lane);
    const request = readI32(bytes, o + at.request);
    if (view !== state.view || !state.isMember) {
      if (view < state.view)
        this.sender.reject(from, sessionHi, sessionLo, lane, request, RejectReason.wrongView, 0, 0, 0, 0, 0);
      else if (view > state.view) this.suspicion.askAbout(view, now);
      return;
    }
    if (!state.isPrimary) {
      this.sender.readReply(from, sessionHi, sessionLo, lane, request, NOTHING, 0, 0);
      return;
    }
    const { execution } = state;
    execution.query(bytes, o + Read.size, readU16(bytes, o + at.operation));
    this.sender.readReply(
      from,
      sessionHi,
      sessionLo,
      lane,
      request,
      execution.reply.bytes,
      execution.reply.offset,
      execution.reply.length,
    );
  }

  /** A client says that the primary has its request at `index` under `chain`. */
  onReconcile(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant): void {
    const { state } = this;
    const at = Reconcile.at;
    if (readI32(bytes, o + at.view) !== state.view || !state.isMember || state.isPrimary) return;
    state.counters[Counter.reconciles]!++;
    const sessionHi = readI32(bytes, o + at.session);
    const sessionLo = readI32(bytes, o + at.session + 4);
    const lane = readU16(bytes, o + at.lane);
    const request = readI32(bytes, o + at.request);
    const index = readIndex(bytes, o + at.index);
    const chainHi = readI32(bytes, o + at.chain);
    const chainLo = readI32(bytes, o + at.chain + 4);
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    if (isForeign(state.log, state.tail, session, sessionHi, sessionLo, undefined, owner)) return;
    if (session !== undefined) session.replyTo = from;
    if (this.acknowledgeAt(from, sessionHi, sessionLo, lane, request, index, chainHi, chainLo)) return;
    if (index > state.log.baseIndex)
      this.synchronization.waitFor(index, chainHi, chainLo, sessionHi, sessionLo, lane, request, from, now);
  }

  /** Acknowledges the request of entry `index` when it stands there under that chain. */
  acknowledgeAt(
    to: number,
    sessionHi: number,
    sessionLo: number,
    lane: number,
    request: number,
    index: number,
    chainHi: number,
    chainLo: number,
  ): boolean {
    const { log, execution } = this.state;
    if (log.has(index)) {
      if (
        !log.matches(index, chainHi, chainLo) ||
        log.request(index) !== request ||
        log.lane(index) !== lane ||
        log.sessionHi(index) !== sessionHi ||
        log.sessionLo(index) !== sessionLo
      )
        return false;
      this.sender.acknowledge(to, index, 0, 1);
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
    this.sender.reply(
      to,
      sessionHi,
      sessionLo,
      lane,
      request,
      ReplyStatus.ok,
      index,
      chainHi,
      chainLo,
      0,
      0,
      0,
      NOTHING,
      0,
      0,
    );
    return true;
  }

  /**
   * Appends a request that is new, under the key that it came with; gives it another one, or rejects it, when it is late or the log is full.
   * @param misplaced `tooFarAhead`: its timestamp is not to be taken as it is; else 0
   */
  private append(
    bytes: Uint8Array,
    o: number,
    timestampHi: number,
    timestampLo: number,
    sessionHi: number,
    sessionLo: number,
    lane: number,
    request: number,
    length: number,
    from: number,
    now: Instant,
    misplaced: RejectReasonCode | 0,
  ): void {
    const { state } = this;
    const { log, execution } = state;
    if (this.repair.waits) {
      // Under a timestamp that is not to be taken it would be put back behind the order: under none it comes in by the primary's alone.
      this.repair.hold(
        misplaced === 0 ? timestampHi : 0,
        misplaced === 0 ? timestampLo : 0,
        sessionHi,
        sessionLo,
        lane,
        request,
        bytes[o + Request.at.flags]!,
        bytes,
        o + Request.size,
        length,
        from,
        this.synchronization.follows(now),
      );
      this.synchronization.held(now);
      return;
    }
    if (misplaced !== 0 || log.compareToLast(timestampHi, timestampLo, sessionHi, sessionLo) <= 0) {
      this.misplaced(
        bytes,
        o,
        timestampHi,
        timestampLo,
        sessionHi,
        sessionLo,
        lane,
        request,
        length,
        from,
        now,
        misplaced === 0 ? RejectReason.late : misplaced,
      );
      return;
    }
    if (
      !log.append(
        timestampHi,
        timestampLo,
        sessionHi,
        sessionLo,
        lane,
        request,
        bytes[o + Request.at.flags]!,
        bytes,
        o + Request.size,
        length,
      )
    ) {
      this.reject(bytes, o, from, RejectReason.busy, now);
      return;
    }
    const index = log.lastIndex;
    state.appended();
    log.setReplyTo(index, from);
    const slack = this.slackUs - this.heldUs;
    state.arrivalSlackUs.record(slack);
    if (!state.isPrimary) {
      this.sender.acknowledge(from, index, slack, 0);
      return;
    }
    execution.executeTo(index);
    const { reply } = execution;
    this.sender.answer(
      from,
      index,
      execution.lastStatus,
      slack,
      state.pushing ? 1 : 0,
      reply.bytes,
      reply.offset,
      reply.length,
    );
  }

  /** The key of a new request is not above the last one of the log (`late`), or further ahead of the clock than may be (`tooFarAhead`). */
  private misplaced(
    bytes: Uint8Array,
    o: number,
    timestampHi: number,
    timestampLo: number,
    sessionHi: number,
    sessionLo: number,
    lane: number,
    request: number,
    length: number,
    from: number,
    now: Instant,
    reason: RejectReasonCode,
  ): void {
    const { state, synchronization } = this;
    if (this.restamp(bytes, o, sessionHi, sessionLo, lane, request, length, from, now, reason)) return;
    if (state.isPrimary) {
      if (reason === RejectReason.late) synchronization.differs(now);
      this.reject(bytes, o, from, reason, now);
      return;
    }
    // The primary may have taken it: then it comes back in its order, or by a repair. By nothing else where it is too far ahead.
    const isLate = reason === RejectReason.late;
    this.repair.remember(
      isLate ? timestampHi : 0,
      isLate ? timestampLo : 0,
      sessionHi,
      sessionLo,
      lane,
      request,
      bytes[o + Request.at.flags]!,
      bytes,
      o + Request.size,
      length,
      from,
    );
    if (!synchronization.follows(now)) this.reject(bytes, o, from, reason, now);
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
  private restamp(
    bytes: Uint8Array,
    o: number,
    sessionHi: number,
    sessionLo: number,
    lane: number,
    request: number,
    length: number,
    from: number,
    now: Instant,
    reason: RejectReasonCode,
  ): boolean {
    const { state } = this;
    const { log } = state;
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
      if (!state.isPrimary || !this.mayRegister(bytes, o, hi, lo) || !this.lateRegisters.has(now)) return false;
      this.lateRegisters.spend(now);
    } else if (state.execution.sessions.find(sessionHi, sessionLo) === undefined) return false;
    state.counters[Counter.restamped]!++;
    this.append(bytes, o, hi, lo, sessionHi, sessionLo, lane, request, length, from, now, 0);
    return true;
  }

  /** Execution will not refuse this Register, under that timestamp, as born too late or as one that may have been evicted. */
  private mayRegister(bytes: Uint8Array, o: number, timestampHi: number, timestampLo: number): boolean {
    const { execution, log } = this.state;
    invariant(execution.executed === log.lastIndex, 'a primary has executed its whole log');
    const bornHi = readI32(bytes, o + Request.size + REGISTER_BORN);
    const bornLo = readI32(bytes, o + Request.size + REGISTER_BORN + 4);
    return (
      compareU64(bornHi, bornLo, timestampHi, timestampLo) <= 0 && !execution.sessions.mayBeEvicted(bornHi, bornLo)
    );
  }

  /** The lane had this request, or a later one: of what is in the log its newest is `newest`, 0 when all of it was executed. */
  private isKnown(
    session: Session | undefined,
    newest: number,
    lane: number,
    request: number,
    register: boolean,
  ): boolean {
    if (newest !== 0) return request <= this.state.log.request(newest);
    return session !== undefined && (register || (lane < session.lanes && request <= session.request[lane]!));
  }

  /** The lane's newest request in the log, `newest`, is this one or a later one. */
  private answerAppended(
    newest: number,
    request: number,
    timestampHi: number,
    timestampLo: number,
    from: number,
    now: Instant,
  ): void {
    const { state } = this;
    const { log } = state;
    state.counters[Counter.requests_duplicate]!++;
    if (request < log.request(newest)) return;
    this.sender.acknowledge(from, newest, this.slackUs, 0);
    // The client moved on to a later timestamp, so the primary may hold the request under that one.
    if (
      newest > state.synced &&
      compareU64(timestampHi, timestampLo, log.timestampHi(newest), log.timestampLo(newest)) > 0
    )
      this.synchronization.repair(now);
  }

  /** The lane's last executed request is this one or a later one. */
  private answerExecuted(
    bytes: Uint8Array,
    o: number,
    session: Session,
    lane: number,
    request: number,
    register: boolean,
    from: number,
  ): void {
    const { state } = this;
    state.counters[Counter.requests_duplicate]!++;
    if (register) {
      this.answerRegistered(bytes, o, session, from, this.slackUs);
      return;
    }
    if (request < session.request[lane]!) return;
    const timestampHi = readI32(bytes, o + Request.at.timestamp);
    const timestampLo = readI32(bytes, o + Request.at.timestamp + 4);
    const length = state.isPrimary ? session.results.length(lane) : 0;
    this.sender.reply(
      from,
      session.hi,
      session.lo,
      lane,
      request,
      session.status[lane]!,
      session.index[lane]!,
      session.chainHi[lane]!,
      session.chainLo[lane]!,
      timestampHi,
      timestampLo,
      this.slackUs,
      session.results.bytes(lane),
      0,
      length,
    );
  }

  private answerRegistered(bytes: Uint8Array, o: number, session: Session, from: number, slack: number): void {
    const at = Request.at;
    const operation = o + Request.size;
    const mine =
      readU16(bytes, o + at.operation) === REGISTER_BYTES &&
      readI32(bytes, operation) === session.nonceHi &&
      readI32(bytes, operation + 4) === session.nonceLo;
    const status = mine ? ReplyStatus.ok : ReplyStatus.sessionTaken;
    this.sender.reply(
      from,
      session.hi,
      session.lo,
      REGISTER_LANE,
      readI32(bytes, o + at.request),
      status,
      session.registerIndex,
      session.registerChainHi,
      session.registerChainLo,
      readI32(bytes, o + at.timestamp),
      readI32(bytes, o + at.timestamp + 4),
      slack,
      NOTHING,
      0,
      0,
    );
  }

  private notMine(bytes: Uint8Array, o: number, view: number, from: number, now: Instant): void {
    const { state } = this;
    if (view > state.view) {
      this.suspicion.askAbout(view, now);
      state.counters[Counter.ignored]!++;
    } else if (view < state.view) {
      this.reject(bytes, o, from, RejectReason.wrongView, now);
    } else if (state.status === ReplicaStatus.normal) {
      this.reject(bytes, o, from, RejectReason.notInQuorum, now);
    } else {
      state.counters[Counter.ignored]!++;
    }
  }

  private reject(bytes: Uint8Array, o: number, from: number, reason: RejectReasonCode, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const at = Request.at;
    state.counters[REJECT_COUNTERS[reason]!]!++;
    const timestampHi = readI32(bytes, o + at.timestamp);
    const timestampLo = readI32(bytes, o + at.timestamp + 4);
    // What the cluster takes for now: the clock, or the end of a log that is ahead of it.
    const last = log.lastIndex;
    const clock =
      reason === RejectReason.tooFarAhead &&
      compareU64(now.wallHi, now.wallLo, log.timestampHi(last), log.timestampLo(last)) > 0;
    const slack = slackUs(now, timestampHi, timestampLo);
    if (reason === RejectReason.tooFarAhead || reason === RejectReason.late) state.arrivalSlackUs.record(slack);
    this.sender.reject(
      from,
      readI32(bytes, o + at.session),
      readI32(bytes, o + at.session + 4),
      readU16(bytes, o + at.lane),
      readI32(bytes, o + at.request),
      reason,
      timestampHi,
      timestampLo,
      clock ? now.wallHi : log.timestampHi(last),
      clock ? now.wallLo : log.timestampLo(last),
      slack,
    );
  }
}

/** Arrival clock − timestamp in µs, saturated to an int32. */
function slackUs(now: Instant, timestampHi: number, timestampLo: number): number {
  const us = Math.trunc(differenceU64(now.wallHi, now.wallLo, timestampHi, timestampLo) / 1000);
  return us > INT32_MAX ? INT32_MAX : us < -INT32_MAX ? -INT32_MAX : us;
}
