/**
 * Messages from a replica to the other replicas, and probes. Answers to clients: client-answers.ts. Entries and
 * snapshots: transfer-sender.ts.
 *
 * Rules S guarded here (model/JITPaxos.tla): only the primary of a running view says where its log ends and in which
 * order (`msgSync`); only another replica of that view says how far its log equals the primary's (`msgAck`); only a
 * replica that promised a view and has its log votes (`Promise`).
 */
import * as wire from '../../wire/messages.js';
import { Differed, type DifferedCode } from '../../wire/messages.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import type { Instant } from '../contract.js';
import { invariant } from '../invariant.js';
import { ENTRY_HEADER_BYTES } from '../log/entry.js';
import { ORDER_RECORD_BYTES } from '../log/log.js';
import { MessageWriter } from './message-writer.js';

export class Sender extends MessageWriter {
  /**
   * Where the log ends, and what is committed.
   * @param sequence 0 when the answer is not to be timed
   */
  sync(to: number, sequence: number): void {
    const { isPrimary, committed, log } = this.state;
    invariant(
      isPrimary && committed <= log.lastIndex,
      'only the primary of a running view says where the log ends and what of it is committed',
    );
    const o = this.open(wire.Sync, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.Sync.at;
    writeI32(bytes, o + at.sequence, sequence);
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, log.lastIndex);
    this.indexAndChain(bytes, o + at.committedIndex, o + at.committedChain, committed);
    writeI32(bytes, o + at.fingerprint, this.state.chain.fingerprint);
    this.state.out.commit(wire.Sync.size);
  }

  /** Tells the primary up to where this log equals its own, and whether it differed behind. */
  syncAck(to: number, now: Instant): void {
    const { state } = this;
    if (this.acknowledge(to, state.synced, state.differed ? Differed.differs : Differed.no, now))
      state.forgetDifference();
  }

  /**
   * Tells the primary that the entry behind `matched`, up to which this log equals its own, is of an owner that is out of
   * step (out-of-step.ts).
   */
  outOfStep(to: number, matched: number, how: typeof Differed.lacks | typeof Differed.awaits, now: Instant): void {
    this.acknowledge(to, matched, how, now);
  }

  /** Tells a member that this primary appends the requests of the owner of the entry behind `matched` in batches. */
  servedApart(to: number, matched: number): void {
    const { state } = this;
    const o = this.open(wire.SyncAck, to, 0);
    if (o < 0) return;
    const { bytes } = state.out;
    const at = wire.SyncAck.at;
    writeI32(bytes, o + at.sequence, 0);
    bytes[o + at.differed] = Differed.awaits;
    writeIndex(bytes, o + at.matchedIndex, matched);
    writeIndex(bytes, o + at.neededIndex, 0);
    writeI32(bytes, o + at.clock, 0);
    writeI32(bytes, o + at.clock + 4, 0);
    state.out.commit(wire.SyncAck.size);
  }

  /** False when there was no room. */
  private acknowledge(to: number, matched: number, differed: DifferedCode, now: Instant): boolean {
    const { state } = this;
    invariant(
      state.status === wire.ReplicaStatus.normal &&
        !state.isPrimary &&
        matched <= state.synced &&
        state.synced <= state.log.lastIndex,
      'what a replica confirms to its primary stands in its log, in a running view',
    );
    const o = this.open(wire.SyncAck, to, 0);
    if (o < 0) return false;
    const bytes = state.out.bytes;
    const at = wire.SyncAck.at;
    writeI32(bytes, o + at.sequence, state.syncHeard);
    bytes[o + at.differed] = differed | (state.nextIsWritten ? wire.MEMBERS_WRITTEN : 0);
    writeIndex(bytes, o + at.matchedIndex, matched);
    writeIndex(bytes, o + at.neededIndex, Math.min(matched, state.committed));
    writeI32(bytes, o + at.clock, now.wallHi);
    writeI32(bytes, o + at.clock + 4, now.wallLo);
    state.out.commit(wire.SyncAck.size);
    return true;
  }

  /** The order of the entries behind `base` up to `last`, without their operations. */
  order(to: number, base: number, last: number): void {
    const { log, isPrimary } = this.state;
    invariant(
      isPrimary && base >= log.baseIndex && last <= log.lastIndex,
      'only the primary of a running view says which order its log has',
    );
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

  /**
   * Asks for a promise of `view`, which need not be this replica's own.
   * @param reason ViewReason
   */
  viewChange(to: number, view: number, reason: number): void {
    const o = this.open(wire.ViewChange, to, 0);
    if (o < 0) return;
    writeI32(this.state.out.bytes, o + wire.ViewChange.at.view, view);
    this.state.out.bytes[o + wire.ViewChange.at.reason] = reason;
    this.state.out.commit(wire.ViewChange.size);
  }

  /** What the log is that stands for this replica's vote. */
  vote(to: number): void {
    const { state } = this;
    const { log } = state;
    invariant(
      state.status === wire.ReplicaStatus.viewChange && state.logView < state.view,
      'a vote is cast by a replica that promised a view and has an older log',
    );
    const o = this.open(wire.Vote, to, 0);
    if (o < 0) return;
    const bytes = state.out.bytes;
    const at = wire.Vote.at;
    writeI32(bytes, o + at.logView, state.logView);
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, log.lastIndex);
    this.indexAndChain(bytes, o + at.committedIndex, o + at.committedChain, state.committed);
    writeI32(bytes, o + at.fingerprint, state.chain.fingerprint);
    state.out.commit(wire.Vote.size);
  }

  /** Asks how a replica is. */
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

  /**
   * How this replica is.
   * @param heardPrimary nothing says that the primary, or at the primary a member, is gone
   */
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
    writeI32(bytes, o + at.knownIncarnation, state.hosts.has(to) ? state.others.known[to]! : 0);
    writeI32(bytes, o + at.knownLife, state.hosts.has(to) ? state.others.lives[to]! : 0);
    writeI32(bytes, o + at.life, state.life);
    bytes[o + at.condition] =
      (state.others.lostLogs === 0 ? 0 : wire.ReplicaCondition.majorityLost) |
      (state.starting
        ? wire.ReplicaCondition.starting |
          (state.hosts.has(to) && state.others.hasMet(to) ? wire.ReplicaCondition.met : 0)
        : state.hosts.has(to) && state.mayBeNamed(to)
          ? wire.ReplicaCondition.named
          : 0);
    writeI32(bytes, o + at.list, state.list);
    writeI32(bytes, o + at.fingerprint, state.chain.fingerprint);
    state.out.commit(wire.ProbeReply.size);
  }

  /**
   * The chain at an index and the digest of the state there; a digest of zero: the chain alone.
   * @param asks `to` is to say what it has there
   * @param nonce at index 0: of this question, or of the question that this answers
   */
  stateDigest(
    to: number,
    index: number,
    chainHi: number,
    chainLo: number,
    digestHi: number,
    digestLo: number,
    asks: boolean,
    nonce: number,
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
    writeI32(bytes, o + at.nonce, nonce);
    this.state.out.commit(wire.StateDigest.size);
  }
}
