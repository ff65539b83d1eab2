/**
 * A replica's answers to clients. What they say of the log is what commits a request at the client (`Vouched` in
 * model/JITPaxos.tla).
 *
 * Rule S guarded here: only a member of the present view's quorum, in status normal, answers for its log, and it names
 * an index and chain that its log, or the state made from it, has.
 */
import * as wire from '../../wire/messages.js';
import { copyWords } from '../../wire/copy.js';
import { mark } from '../../wire/layout.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import type { Reply } from '../../machine/state-machine.js';
import { invariant } from '../invariant.js';
import { RecordAt } from '../log/log.js';
import type { ArrivedRequest } from './arrived-request.js';
import { MessageWriter, NO_RESULT } from './message-writer.js';

const TWO_32 = 4294967296;

export class ClientAnswers extends MessageWriter {
  /**
   * Tells a client that its request stands in the log as entry `index`.
   * @param ordered see Reply
   */
  acknowledge(to: number, index: number, slackUs: number, ordered: number): void {
    this.answer(to, index, wire.ReplyStatus.ok, slackUs, ordered, NO_RESULT);
  }

  /**
   * Tells a client where its request stands in the log, and at the primary its result. What the log says of the entry is
   * copied from its bytes to the message's.
   * @param ordered see Reply
   */
  answer(to: number, index: number, status: number, slackUs: number, ordered: number, result: Reply): void {
    const resultLength = result.length;
    const { out, log, view, isMember } = this.state;
    invariant(
      isMember && index > log.baseIndex && index <= log.lastIndex,
      'only a member of a running view acknowledges, and only what stands in its log',
    );
    const o = out.reserve(to, wire.Reply.size + resultLength);
    if (o < 0) return this.noRoom();
    const target = this.outWords();
    const entry = log.words;
    const record = log.record(index);
    const at = wire.Reply.at;
    mark(wire.Reply, target, o);
    target.setInt32(o + at.view, view);
    target.setInt32(o + at.session, entry.getInt32(record + RecordAt.session));
    target.setInt32(o + at.session + 4, entry.getInt32(record + RecordAt.session + 4));
    target.setInt16(o + at.lane, entry.getInt16(record + RecordAt.lane));
    target.setInt32(o + at.request, entry.getInt32(record + RecordAt.request));
    target.setInt8(o + at.status, status);
    target.setInt32(o + at.index, (index / TWO_32) | 0);
    target.setInt32(o + at.index + 4, index | 0);
    target.setInt32(o + at.chain, log.chainHi(index));
    target.setInt32(o + at.chain + 4, log.chainLo(index));
    target.setInt32(o + at.timestamp, entry.getInt32(record + RecordAt.timestamp));
    target.setInt32(o + at.timestamp + 4, entry.getInt32(record + RecordAt.timestamp + 4));
    target.setInt32(o + at.slack, slackUs);
    target.setInt8(o + at.ordered, ordered);
    target.setInt32(o + at.list, this.state.list);
    target.setInt16(o + at.result, resultLength);
    if (resultLength > 0)
      copyWords(this.sources.of(result.bytes), result.offset, target, o + wire.Reply.size, resultLength);
    out.commit(wire.Reply.size + resultLength);
  }

  /** Answers `request`, whose entry may be executed and cut from the log. */
  reply(request: ArrivedRequest, status: number, index: number, chainHi: number, chainLo: number, result: Reply): void {
    const { out } = this.state;
    invariant(this.state.isMember, 'only a member of a running view answers for its log');
    const resultLength = result.length;
    const o = out.reserve(request.replyTo, wire.Reply.size + resultLength);
    if (o < 0) return this.noRoom();
    const { bytes } = out;
    const at = wire.Reply.at;
    mark(wire.Reply, this.outWords(), o);
    writeI32(bytes, o + at.view, this.state.view);
    writeI32(bytes, o + at.session, request.sessionHi);
    writeI32(bytes, o + at.session + 4, request.sessionLo);
    writeU16(bytes, o + at.lane, request.lane);
    writeI32(bytes, o + at.request, request.request);
    bytes[o + at.status] = status;
    writeIndex(bytes, o + at.index, index);
    writeI32(bytes, o + at.chain, chainHi);
    writeI32(bytes, o + at.chain + 4, chainLo);
    writeI32(bytes, o + at.timestamp, request.stampedHi);
    writeI32(bytes, o + at.timestamp + 4, request.stampedLo);
    writeI32(bytes, o + at.slack, request.slackUs);
    bytes[o + at.ordered] = this.state.pushing ? 1 : 0;
    writeI32(bytes, o + at.list, this.state.list);
    writeU16(bytes, o + at.result, resultLength);
    this.copyResult(result, o + wire.Reply.size);
    out.commit(wire.Reply.size + resultLength);
  }

  /**
   * Tells a client that its request was not appended.
   * @param lastHi with `lastLo`: the timestamp that the client has to exceed, or for `tooFarAhead` the replica's clock
   */
  reject(request: ArrivedRequest, reason: number, lastHi: number, lastLo: number): void {
    const o = this.open(wire.Reject, request.replyTo, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.Reject.at;
    writeI32(bytes, o + at.session, request.sessionHi);
    writeI32(bytes, o + at.session + 4, request.sessionLo);
    writeU16(bytes, o + at.lane, request.lane);
    writeI32(bytes, o + at.request, request.request);
    bytes[o + at.reason] = reason;
    writeI32(bytes, o + at.timestamp, request.stampedHi);
    writeI32(bytes, o + at.timestamp + 4, request.stampedLo);
    writeI32(bytes, o + at.lastTimestamp, lastHi);
    writeI32(bytes, o + at.lastTimestamp + 4, lastLo);
    writeI32(bytes, o + at.slack, request.slackUs);
    this.state.out.commit(wire.Reject.size);
  }

  /** Answers a quorum read: where the log ends, and at the primary the result. */
  readReply(read: ArrivedRequest, result: Reply): void {
    const { log } = this.state;
    invariant(this.state.isMember, 'only a member of a running view answers for its log');
    const o = this.open(wire.ReadReply, read.replyTo, result.length);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.ReadReply.at;
    writeI32(bytes, o + at.session, read.sessionHi);
    writeI32(bytes, o + at.session + 4, read.sessionLo);
    writeU16(bytes, o + at.lane, read.lane);
    writeI32(bytes, o + at.request, read.request);
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, log.lastIndex);
    writeI32(bytes, o + at.list, this.state.list);
    writeU16(bytes, o + at.result, result.length);
    this.copyResult(result, o + wire.ReadReply.size);
    this.state.out.commit(wire.ReadReply.size + result.length);
  }
}
