/**
 * Gives a new request another key than its client did, where the client's has no place in the log: it is late, or too far
 * ahead of the clock.
 *
 * The order of the log is safe with any key above the last one (`Request` in model/JITPaxos.tla takes any timestamp). Two
 * rules S are guarded here, which say who gets one at all:
 * - A *Register* gets one only from the primary, and only if execution will not refuse it. What keeps a delayed copy of an
 *   evicted session's Register out is the eviction horizon, which the primary, having executed its whole log, knows as
 *   execution will (`mayRegister`). A member has not executed its whole log: it waits for the primary's order.
 * - A request of a session whose Register was not executed here gets none: the lateness of a delayed copy is what keeps it
 *   out once its session was evicted (sessions.ts).
 */
import { RejectReason, type RejectReasonCode } from '../../wire/messages.js';
import { addHi, addLo, compareU64, readI32 } from '../../wire/u64.js';
import { DEFAULT_LATE } from '../config.js';
import type { Instant } from '../contract.js';
import { Counter } from '../counters.js';
import { invariant } from '../invariant.js';
import { REGISTER_BORN, REGISTER_LANE } from '../log/sessions.js';
import type { ArrivedRequest } from './arrived-request.js';
import type { ClusterTime } from './cluster-time.js';
import type { ReplicaState } from './replica-state.js';
import { TriggerBudget } from './trigger-budget.js';

/**
 * Late Registers that a primary stamps anew: this many at once, and another one after each interval. A client that
 * registers without end would otherwise evict the sessions of all others. An honest client beyond them is told that it is
 * late, and stamps ahead (margins.ts).
 */
export const LATE_REGISTERS = 16;
export const LATE_REGISTER_US = 100_000;

export class Restamping {
  /** Late requests get another key (`late: restamp`); otherwise only Registers do. */
  readonly lateGetOne: boolean;
  private readonly lateRegisters = new TriggerBudget(LATE_REGISTERS, LATE_REGISTER_US);

  constructor(
    private readonly state: ReplicaState,
    private readonly time: ClusterTime,
  ) {
    this.lateGetOne = (state.config.late ?? DEFAULT_LATE) === 'restamp';
  }

  /**
   * Stamps a misplaced request with the smallest key above the last one; false when it may not have one.
   *
   * - Under `late: restamp` every late request gets one. Members do as the primary does: if requests reach both in one order,
   *   their logs stay equal, whatever their clocks say.
   * - A Register gets one under either rule. Otherwise a client that is farther away than the busy ones would be late for ever.
   * - A request ahead of the clock gets one while the log is ahead of the clock: above its last key there is no other timestamp.
   *   The request's own would let a client walk the log's time ahead; by the smallest step the log stands still until the
   *   clock has caught up.
   */
  restamp(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): boolean {
    const { state } = this;
    const { log } = state;
    const { sessionHi, sessionLo, lane } = arrived;
    const last = log.lastIndex;
    let hi = log.timestampHi(last);
    let lo = log.timestampLo(last);
    if (reason === RejectReason.tooFarAhead) {
      this.time.read(now);
      if (compareU64(hi, lo, this.time.hi, this.time.lo) <= 0) return false;
    } else if (!this.lateGetOne && lane !== REGISTER_LANE) return false;
    // A Register always takes the next timestamp: its client was told the last one, and is born right above it.
    if (lane === REGISTER_LANE || compareU64(sessionHi, sessionLo, log.sessionHi(last), log.sessionLo(last)) <= 0) {
      hi = addHi(hi, lo, 1);
      lo = addLo(lo, 1);
    }
    // At the end of time the sum wraps to zero.
    if (log.compareToLast(hi, lo, sessionHi, sessionLo) <= 0) return false;
    if (lane === REGISTER_LANE) {
      if (!state.isPrimary || !this.mayRegister(arrived, hi, lo) || !this.lateRegisters.has(now)) return false;
      this.lateRegisters.spend(now);
    } else if (state.execution.sessions.find(sessionHi, sessionLo) === undefined) return false;
    state.counters[Counter.restamped]!++;
    arrived.stamp(hi, lo);
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
}
