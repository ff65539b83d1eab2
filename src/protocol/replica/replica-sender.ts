/** Writes the messages of a replica into the outbox: one method a message, so that a handler reads as what it says to whom. */
import type { Reply } from '../../machine/state-machine.js';
import * as wire from '../../wire/messages.js';
import { copyBytes, copyWords, LastWords } from '../../wire/copy.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES } from '../../wire/envelope.js';
import { begin, mark, type Message } from '../../wire/layout.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import type { ArrivedRequest } from './arrived-request.js';
import type { Instant } from '../contract.js';
import { Counter } from '../counters.js';
import { ENTRY_HEADER_BYTES } from '../log/entry.js';
import { ORDER_RECORD_BYTES, RecordAt } from '../log/log.js';
import type { ReplicaState } from './replica-state.js';

/** What a member answers in place of a result. */
export const NO_RESULT: Reply = { bytes: new Uint8Array(0), offset: 0, capacity: 0, length: 0 };
const TWO_32 = 4294967296;

export class Sender {
  private readonly sources = new LastWords();
  private readonly targets = new LastWords();

  constructor(private readonly state: ReplicaState) {}

  /** Tells a client that its request stands in the log as entry `index`. `ordered`: see Reply. */
  acknowledge(to: number, index: number, slackUs: number, ordered: number): void {
    this.answer(to, index, wire.ReplyStatus.ok, slackUs, ordered, NO_RESULT);
  }

  /** Tells a client where its request stands in the log, and what became of it at the primary. What the log says of the entry goes from its bytes to the message's. */
  answer(to: number, index: number, status: number, slackUs: number, ordered: number, result: Reply): void {
    const resultLength = result.length;
    const { out, log, view } = this.state;
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

  /** Answers `request`, whose entry the log need not hold any more. */
  reply(request: ArrivedRequest, status: number, index: number, chainHi: number, chainLo: number, result: Reply): void {
    const { out } = this.state;
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

  /** `lastHi, lastLo`: the timestamp that the client has to exceed, or for `tooFarAhead` the replica's clock. */
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

  readReply(read: ArrivedRequest, result: Reply): void {
    const { log } = this.state;
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

  /** @param sequence 0 when the answer is not to be timed */
  sync(to: number, sequence: number): void {
    const o = this.open(wire.Sync, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.Sync.at;
    writeI32(bytes, o + at.sequence, sequence);
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, this.state.log.lastIndex);
    this.indexAndChain(bytes, o + at.committedIndex, o + at.committedChain, this.state.committed);
    writeI32(bytes, o + wire.Sync.at.fingerprint, this.state.chain.fingerprint);
    this.state.out.commit(wire.Sync.size);
  }

  syncAck(to: number, now: Instant): void {
    const o = this.open(wire.SyncAck, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    writeI32(bytes, o + wire.SyncAck.at.sequence, this.state.syncHeard);
    bytes[o + wire.SyncAck.at.differed] = this.state.differed ? 1 : 0;
    this.state.differed = false;
    writeIndex(bytes, o + wire.SyncAck.at.matchedIndex, this.state.synced);
    writeIndex(bytes, o + wire.SyncAck.at.neededIndex, Math.min(this.state.synced, this.state.committed));
    writeI32(bytes, o + wire.SyncAck.at.clock, now.wallHi);
    writeI32(bytes, o + wire.SyncAck.at.clock + 4, now.wallLo);
    this.state.out.commit(wire.SyncAck.size);
  }

  /** The order of the entries behind `base` up to `last`. */
  order(to: number, base: number, last: number): void {
    const { log } = this.state;
    const length = (last - base) * ORDER_RECORD_BYTES;
    const o = this.open(wire.Order, to, length);
    if (o < 0) return;
    const { bytes } = this.state.out;
    const at = wire.Order.at;
    this.indexAndChain(bytes, o + at.baseIndex, o + at.baseChain, base);
    writeU16(bytes, o + at.orders, length);
    let offset = o + wire.Order.size;
    for (let index = base + 1; index <= last; index++) {
      log.writeHeader(index, bytes, offset);
      writeI32(bytes, offset + ENTRY_HEADER_BYTES, log.chainHi(index));
      writeI32(bytes, offset + ENTRY_HEADER_BYTES + 4, log.chainLo(index));
      offset += ORDER_RECORD_BYTES;
    }
    this.state.out.commit(wire.Order.size + length);
  }

  /** `view`: the view that `to` is in. */
  fetch(to: number, view: number, logView: number, baseIndex: number, baseChainHi: number, baseChainLo: number): void {
    const o = this.open(wire.Fetch, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.Fetch.at;
    writeI32(bytes, o + at.view, view);
    writeI32(bytes, o + at.logView, logView);
    writeIndex(bytes, o + at.baseIndex, baseIndex);
    writeI32(bytes, o + at.baseChain, baseChainHi);
    writeI32(bytes, o + at.baseChain + 4, baseChainLo);
    writeU16(bytes, o + at.room, this.state.config.limits.chunkBytes);
    this.state.out.commit(wire.Fetch.size);
  }

  /**
   * Sends the entries behind `base`, none behind `limit`, in Chunks that datagrams carry whole; an entry that is longer than a
   * datagram travels alone. At least one Chunk, with at least one entry where there is one; further ones while `room` lasts.
   */
  chunks(to: number, base: number, limit: number, room: number): void {
    const longest = this.transferBytes(wire.Chunk.size);
    let left = Math.min(room, this.state.config.limits.chunkBytes);
    for (let from = base; ; ) {
      let length = 0;
      let last = from;
      while (last < limit) {
        const entry = 2 + this.state.entryBytes(last + 1);
        if (last > from && length + entry > (from === base ? longest : Math.min(longest, left))) break;
        length += entry;
        last++;
      }
      left -= length;
      const more = last < limit && left >= 2 + this.state.entryBytes(last + 1);
      if (!this.chunk(to, from, last, limit, length, more) || !more) return;
      from = last;
    }
  }

  /** False when there was no room. */
  private chunk(to: number, base: number, last: number, limit: number, length: number, more: boolean): boolean {
    const { log } = this.state;
    const o = this.open(wire.Chunk, to, length);
    if (o < 0) return false;
    const bytes = this.state.out.bytes;
    const at = wire.Chunk.at;
    writeI32(bytes, o + at.logView, this.state.logView);
    this.indexAndChain(bytes, o + at.baseIndex, o + at.baseChain, base);
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, limit);
    bytes[o + at.more] = more ? 1 : 0;
    writeU16(bytes, o + at.entries, length);
    let offset = o + wire.Chunk.size;
    const target = this.outWords();
    for (let index = base + 1; index <= last; index++) {
      writeU16(bytes, offset, log.operationLength(index));
      offset += 2 + log.writeEntry(index, target, offset + 2);
    }
    this.state.out.commit(wire.Chunk.size + length);
    return true;
  }

  /** Names the view to be promised, which need not be this replica's own. `reason`: ViewReason. */
  viewChange(to: number, view: number, reason: number): void {
    const o = this.open(wire.ViewChange, to, 0);
    if (o < 0) return;
    writeI32(this.state.out.bytes, o + wire.ViewChange.at.view, view);
    this.state.out.bytes[o + wire.ViewChange.at.reason] = reason;
    this.state.out.commit(wire.ViewChange.size);
  }

  vote(to: number): void {
    const { state } = this;
    const { log } = state;
    const o = this.open(wire.Vote, to, 0);
    if (o < 0) return;
    const bytes = state.out.bytes;
    const at = wire.Vote.at;
    writeI32(bytes, o + at.logView, state.logView);
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, log.lastIndex);
    this.indexAndChain(bytes, o + at.committedIndex, o + at.committedChain, state.committed);
    writeI32(bytes, o + wire.Vote.at.fingerprint, this.state.chain.fingerprint);
    state.out.commit(wire.Vote.size);
  }

  probe(to: number, nonce: number): void {
    const o = this.open(wire.Probe, to, 0, this.state.isLively);
    if (o < 0) return;
    const { bytes } = this.state.out;
    const at = wire.Probe.at;
    writeI32(bytes, o + at.nonce, nonce);
    writeI32(bytes, o + at.incarnation, this.state.incarnation);
    writeI32(bytes, o + at.life, this.state.life);
    writeI32(bytes, o + at.list, this.state.list);
    writeI32(bytes, o + at.fingerprint, this.state.chain.fingerprint);
    this.state.out.commit(wire.Probe.size);
  }

  probeReply(to: number, nonce: number, heardPrimary: boolean): void {
    const { state } = this;
    const o = this.open(wire.ProbeReply, to, 0, state.isLively);
    if (o < 0) return;
    const bytes = state.out.bytes;
    const at = wire.ProbeReply.at;
    writeI32(bytes, o + at.nonce, nonce);
    writeI32(bytes, o + at.logView, state.logView);
    bytes[o + at.status] = state.status;
    bytes[o + at.heardPrimary] = heardPrimary ? 1 : 0;
    writeI32(bytes, o + at.incarnation, state.incarnation);
    writeIndex(bytes, o + at.lastIndex, state.log.lastIndex);
    writeIndex(bytes, o + at.committedIndex, state.committed);
    writeI32(bytes, o + at.knownIncarnation, to < state.n ? state.known[to]! : 0);
    writeI32(bytes, o + at.knownLife, to < state.n ? state.lives[to]! : 0);
    writeI32(bytes, o + at.life, state.life);
    bytes[o + at.condition] =
      (state.lostLogs === 0 ? 0 : wire.ReplicaCondition.majorityLost) |
      (state.starting
        ? wire.ReplicaCondition.starting |
          (((state.met >>> to) & 1) === 1 && to < state.n ? wire.ReplicaCondition.met : 0)
        : 0);
    writeI32(bytes, o + at.list, state.list);
    writeI32(bytes, o + at.fingerprint, state.chain.fingerprint);
    state.out.commit(wire.ProbeReply.size);
  }

  snapshotOffer(to: number, digestHi: number, digestLo: number): void {
    const { state } = this;
    const snapshot = state.execution.stable;
    const o = this.open(wire.SnapshotOffer, to, 0);
    if (o < 0) return;
    const bytes = state.out.bytes;
    const at = wire.SnapshotOffer.at;
    writeI32(bytes, o + at.logView, state.logView);
    writeIndex(bytes, o + at.index, snapshot.index);
    writeI32(bytes, o + at.chain, snapshot.chainHi);
    writeI32(bytes, o + at.chain + 4, snapshot.chainLo);
    writeI32(bytes, o + at.length, snapshot.bytes.length);
    writeI32(bytes, o + at.digest, digestHi);
    writeI32(bytes, o + at.digest + 4, digestLo);
    state.out.commit(wire.SnapshotOffer.size);
  }

  /** `view`: the view that `to` is in. */
  snapshotFetch(to: number, view: number, index: number, chainHi: number, chainLo: number, offset: number): void {
    const o = this.open(wire.SnapshotFetch, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.SnapshotFetch.at;
    writeI32(bytes, o + at.view, view);
    writeIndex(bytes, o + at.index, index);
    writeI32(bytes, o + at.chain, chainHi);
    writeI32(bytes, o + at.chain + 4, chainLo);
    writeI32(bytes, o + at.offset, offset);
    writeU16(bytes, o + at.room, this.state.config.limits.chunkBytes);
    this.state.out.commit(wire.SnapshotFetch.size);
  }

  /** Sends the stable snapshot from `offset` on, in at least one SnapshotChunk; with `room` in as many as hold that many bytes. */
  snapshotChunks(to: number, offset: number, room: number): void {
    const { chunkBytes } = this.state.config.limits;
    const longest = this.transferBytes(wire.SnapshotChunk.size);
    const end = Math.min(
      this.state.execution.stable.bytes.length,
      offset + Math.max(longest, Math.min(room, chunkBytes)),
    );
    const last = room === 0 ? Math.min(end, offset + longest) : end;
    for (let at = offset; at < last; at += longest)
      if (!this.snapshotChunk(to, at, Math.min(longest, last - at), at + longest < last)) return;
  }

  /** False when there was no room. */
  private snapshotChunk(to: number, offset: number, length: number, more: boolean): boolean {
    const snapshot = this.state.execution.stable;
    const o = this.open(wire.SnapshotChunk, to, length);
    if (o < 0) return false;
    const bytes = this.state.out.bytes;
    const at = wire.SnapshotChunk.at;
    writeIndex(bytes, o + at.index, snapshot.index);
    writeI32(bytes, o + at.chain, snapshot.chainHi);
    writeI32(bytes, o + at.chain + 4, snapshot.chainLo);
    writeI32(bytes, o + at.offset, offset);
    bytes[o + at.more] = more ? 1 : 0;
    writeU16(bytes, o + at.data, length);
    copyBytes(snapshot.bytes, offset, bytes, o + wire.SnapshotChunk.size, length);
    this.state.out.commit(wire.SnapshotChunk.size + length);
    return true;
  }

  /** Bytes of log or snapshot that one message of a transfer carries, of which `size` bytes are its own. */
  private transferBytes(size: number): number {
    const { datagramBytes = DEFAULT_DATAGRAM_BYTES, limits } = this.state.config;
    return Math.max(1, Math.min(limits.chunkBytes, datagramBytes - ENVELOPE_BYTES - size));
  }

  /** Digest zero: of the chain alone. `asks`: for the same of `to`. */
  stateDigest(
    to: number,
    index: number,
    chainHi: number,
    chainLo: number,
    digestHi: number,
    digestLo: number,
    asks: boolean,
  ): void {
    const o = this.open(wire.StateDigest, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.StateDigest.at;
    writeIndex(bytes, o + at.index, index);
    writeI32(bytes, o + at.chain, chainHi);
    writeI32(bytes, o + at.chain + 4, chainLo);
    writeI32(bytes, o + at.digest, digestHi);
    writeI32(bytes, o + at.digest + 4, digestLo);
    bytes[o + at.asks] = asks ? 1 : 0;
    this.state.out.commit(wire.StateDigest.size);
  }

  /** Reserves room, writes the constant part and the present view; −1 when there is no room. `ahead`: a sign of life, which need not wait for the log. */
  private open(message: Message, to: number, extra: number, ahead = false): number {
    const { out } = this.state;
    const o = ahead ? out.reserveAhead(to, message.size + extra) : out.reserve(to, message.size + extra);
    if (o < 0) {
      this.noRoom();
      return -1;
    }
    begin(message, out.bytes, o);
    // `view` is the first field of every message: array header, type, marker.
    writeI32(out.bytes, o + 3, this.state.view);
    return o;
  }

  private noRoom(): void {
    this.state.counters[Counter.outbox_full]!++;
  }

  private copyResult(result: Reply, target: number): void {
    if (result.length > 0)
      copyWords(this.sources.of(result.bytes), result.offset, this.outWords(), target, result.length);
  }

  /** Of what was reserved last. */
  private outWords(): DataView {
    const { out } = this.state;
    return out.words ?? this.targets.of(out.bytes);
  }

  private indexAndChain(bytes: Uint8Array, indexAt: number, chainAt: number, index: number): void {
    const { log } = this.state;
    writeIndex(bytes, indexAt, index);
    writeI32(bytes, chainAt, log.chainHi(index));
    writeI32(bytes, chainAt + 4, log.chainLo(index));
  }
}
