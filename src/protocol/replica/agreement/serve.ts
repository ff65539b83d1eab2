/**
 * What a replica gives to others of its log and its state: entries for a Fetch, a snapshot where the entries are gone.
 *
 * Rule S guarded here (model/JITPaxos.tla: `SyncRepair`, `SyncInstall` and `Start` take over the log of a primary, or of a
 * vote): beyond the committed entries a replica gives only a log that cannot change in the view named, the primary's or
 * one that a promise froze, and only behind an entry that both have. A replica that lost its log gives nothing.
 */
import { Fetch, ReplicaStatus, SnapshotFetch } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Hasher, Instant, Snapshot } from '../../contract.js';
import { Counter } from '../../counters.js';
import { writeDigest } from '../../log/snapshots.js';
import type { Contradictions } from '../contradictions.js';
import { AnsweredSeries } from '../fetch-series.js';
import type { ReplicaState } from '../replica-state.js';
import type { TransferSender } from '../transfer-sender.js';
import type { OrderPush } from './order-push.js';
import { Served } from './served.js';

export class Serving {
  private readonly served: Served;
  private readonly series = new AnsweredSeries();
  /** Hashing a large snapshot takes milliseconds. */
  private readonly digests = new WeakMap<Snapshot, Uint8Array>();

  constructor(
    private readonly state: ReplicaState,
    private readonly transfers: TransferSender,
    private readonly hasher: Hasher,
    private readonly contradictions: Contradictions,
    private readonly orderPush: OrderPush,
  ) {
    this.served = new Served(state);
    state.hosts.onOther((slot) => this.series.forget(slot));
  }

  tick(now: Instant): void {
    this.served.tick(now);
  }

  /** Another replica asks for entries: of the log as it is, or frozen by a promise. */
  onFetch(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const at = Fetch.at;
    if (state.status === ReplicaStatus.recovering) return;
    if (readI32(bytes, o + at.view) !== state.view || readI32(bytes, o + at.logView) !== state.logView) return;
    const limit = state.status === ReplicaStatus.viewChange || state.isPrimary ? log.lastIndex : state.committed;
    const base = readIndex(bytes, o + at.baseIndex);
    if (base < state.givenFrom) {
      this.offerSnapshot(from);
      return;
    }
    if (base > limit) return;
    const chainHi = readI32(bytes, o + at.baseChain);
    const chainLo = readI32(bytes, o + at.baseChain + 4);
    if (!(base < log.baseIndex ? state.retained : log).matches(base, chainHi, chainLo)) {
      this.contradictions.correct(from, base, now);
      return;
    }
    const series = bytes[o + at.series]!;
    const beginning = this.series.beginning(from, series, base, limit);
    if (beginning < 0) return;
    state.counters[Counter.fetches_answered]!++;
    const end = this.transfers.chunks(from, beginning, limit, readU16(bytes, o + at.room), series);
    this.series.answered(from, series, end);
    this.served.answeredEntries(from, base, end, end === limit, now);
    if (state.isPrimary && state.views.isMember(state.view, from)) this.orderPush.needed(limit, now);
  }

  onSnapshotFetch(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = SnapshotFetch.at;
    if (readI32(bytes, o + at.view) !== this.state.view) return;
    const snapshot = this.served.find(
      readIndex(bytes, o + at.index),
      readI32(bytes, o + at.chain),
      readI32(bytes, o + at.chain + 4),
    );
    // A newer snapshot took its place: it is offered, and the other side starts over.
    if (snapshot === undefined) {
      this.offerSnapshot(from);
      return;
    }
    const offset = readI32(bytes, o + at.offset);
    if (offset < 0 || offset >= snapshot.bytes.length) return;
    const end = this.transfers.endOfPieces(snapshot, offset, readU16(bytes, o + at.room));
    this.served.askedForBytes(from, snapshot, offset, end, now);
    this.transfers.snapshotChunks(from, snapshot, offset, end);
  }

  /** Offers a snapshot to a replica that asks for entries that are cut. */
  private offerSnapshot(to: number): void {
    const snapshot = this.served.offerFor(to);
    let digest = this.digests.get(snapshot);
    if (digest === undefined) {
      digest = new Uint8Array(8);
      writeDigest(snapshot, this.hasher, digest, 0);
      this.digests.set(snapshot, digest);
    }
    this.transfers.snapshotOffer(to, snapshot, readI32(digest, 0), readI32(digest, 4));
  }
}
