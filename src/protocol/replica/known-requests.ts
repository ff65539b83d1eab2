/**
 * Requests that a replica has had before: it answers them again, and never appends them again.
 *
 * Rule S guarded here (the guard `op \notin OpsIn(log[r])` of `Request` in model/JITPaxos.tla, `AtMostOnce`): a request is
 * known when its lane has had it, or a later one, in the log or in what was executed and cut from the log.
 */
import type { Reply } from '../../machine/state-machine.js';
import { ReplyStatus } from '../../wire/messages.js';
import { compareU64, readI32 } from '../../wire/u64.js';
import { Counter } from '../counters.js';
import { invariant } from '../invariant.js';
import type { Session } from '../log/session.js';
import { REGISTER_BYTES } from '../log/sessions.js';
import type { ArrivedRequest } from './arrived-request.js';
import type { ClientAnswers } from './client-answers.js';
import { NO_RESULT } from './message-writer.js';
import type { ReplicaState } from './replica-state.js';

export class KnownRequests {
  /** Points at the result that is sent now, where the session table keeps it. */
  private readonly kept: Reply = { bytes: NO_RESULT.bytes, offset: 0, capacity: 0, length: 0 };

  constructor(
    private readonly state: ReplicaState,
    private readonly answers: ClientAnswers,
  ) {}

  /**
   * The lane had this request, or a later one.
   * @param newest the lane's newest entry in the log that is not executed, 0: none
   */
  isKnown(arrived: ArrivedRequest, session: Session | undefined, newest: number): boolean {
    const { lane, request } = arrived;
    if (newest !== 0) return request <= this.state.log.request(newest);
    return (
      session !== undefined && (arrived.isRegister || (lane < session.lanes && request <= session.lastRequest(lane)))
    );
  }

  /**
   * Answers a request that is known, unless its lane has gone on to a later one. True when the primary may hold it under
   * another timestamp than this replica.
   */
  answer(arrived: ArrivedRequest, session: Session | undefined, newest: number): boolean {
    this.state.counters[Counter.requests_duplicate]!++;
    if (newest !== 0) return this.answerAppended(arrived, newest);
    if (arrived.isRegister) this.answerRegistered(arrived, session!);
    else this.answerExecuted(arrived, session!);
    return false;
  }

  /** The lane's newest request in the log, `newest`, is this one or a later one. */
  private answerAppended(arrived: ArrivedRequest, newest: number): boolean {
    const { log, synced } = this.state;
    if (arrived.request < log.request(newest)) return false;
    this.answers.acknowledge(arrived.replyTo, newest, arrived.slackUs, 0);
    // The client moved on to a later timestamp, so the primary may hold the request under that one.
    return (
      newest > synced &&
      compareU64(arrived.timestampHi, arrived.timestampLo, log.timestampHi(newest), log.timestampLo(newest)) > 0
    );
  }

  /** The lane's last executed request is this one or a later one. */
  private answerExecuted(arrived: ArrivedRequest, session: Session): void {
    const { state, kept } = this;
    const { lane } = arrived;
    if (arrived.request < session.lastRequest(lane)) return;
    invariant(session.index[lane]! <= state.executed, 'what a session remembers of a request was executed');
    kept.bytes = session.results.bytes(lane);
    kept.length = state.isPrimary ? session.results.length(lane) : 0;
    this.answers.reply(
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
    this.answers.reply(
      register,
      isMine ? ReplyStatus.ok : ReplyStatus.sessionTaken,
      session.registerIndex,
      session.registerChainHi,
      session.registerChainLo,
      NO_RESULT,
    );
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
      this.answers.acknowledge(named.replyTo, index, 0, 1);
      return true;
    }
    const session = execution.sessions.find(sessionHi, sessionLo);
    if (
      index > log.baseIndex ||
      session === undefined ||
      lane >= session.lanes ||
      session.lastRequest(lane) !== request ||
      session.index[lane] !== index
    )
      return false;
    if (session.chainHi[lane] !== chainHi || session.chainLo[lane] !== chainLo) return false;
    this.answers.reply(named, ReplyStatus.ok, index, chainHi, chainLo, NO_RESULT);
    return true;
  }
}
