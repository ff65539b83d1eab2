/**
 * Messages of a transfer, by which a replica gets entries or a snapshot from another one.
 *
 * Rule S guarded here (`SyncRepair`, `SyncInstall` and `Start` in model/JITPaxos.tla read the log of a primary, or of a
 * vote): entries beyond the committed ones are given to others only from a log that cannot change any more in the view
 * named, which is the primary's, or one that a promise froze.
 */
import * as wire from '../../wire/messages.js';
import { copyBytes } from '../../wire/copy.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES_MAX } from '../../wire/envelope.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { invariant } from '../invariant.js';
import { Jitter } from '../jitter.js';
import { ENTRY_HEADER_BYTES } from '../log/entry.js';
import type { Log } from '../log/log.js';
import { SNAPSHOT_BYTES_MAX } from '../log/snapshots.js';
import type { Snapshot } from '../contract.js';
import { MessageWriter } from './message-writer.js';

/** Answers of a transfer that are on their way at once: 128 KiB of default size, which any socket has room for. */
export const ANSWERS_AHEAD = 8;
/** A series of Fetches has a number from 1 to this; after the last comes the first. */
export const SERIES_NUMBERS = 255;
/** Distinguishes the draw of the first series from others of the same seed. */
const SERIES_SEED = 0x1f3d5b79;

/** Where the entries that are sent are read: the log, or what is retained of it. */
type Entries = Pick<Log, 'operationLength' | 'chainHi' | 'chainLo' | 'writeEntry'>;

export class TransferSender extends MessageWriter {
  /** Index of the snapshot that was last found to be too long. */
  private tooLong = -1;
  /** The number of the last series; 0: none yet. */
  private series = 0;

  /**
   * The number of a new series of Fetches. A source remembers the last one, and would answer a second series of the same
   * number from where the first one ended. So all that fetch share one count, and each life begins elsewhere.
   */
  nextSeries(): number {
    if (this.series === 0)
      this.series = 1 + Math.floor(new Jitter(this.state.config.seed ^ SERIES_SEED).next() * SERIES_NUMBERS);
    else this.series = (this.series % SERIES_NUMBERS) + 1;
    return this.series;
  }

  /**
   * Asks for the entries behind `baseIndex`.
   * @param view the view that `to` is in
   * @param series of questions that are answered one behind the other (fetch-series.ts)
   */
  fetch(
    to: number,
    view: number,
    logView: number,
    baseIndex: number,
    baseChainHi: number,
    baseChainLo: number,
    series: number,
  ): void {
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
    bytes[o + at.series] = series;
    this.state.out.commit(wire.Fetch.size);
  }

  /**
   * Sends the entries behind `base`, which are in the log or retained, none behind `limit`, in Chunks that fit a datagram each; an entry that is longer than a
   * datagram travels alone. The first Chunk is always sent, with at least one entry if there is one; further ones while
   * `room` lasts. Returns the index of the last entry that was sent; `base` if none was.
   * @param series of the question; 0: nobody asked
   */
  chunks(to: number, base: number, limit: number, room: number, series: number): number {
    const { log, retained, status, isPrimary, committed } = this.state;
    invariant(base >= this.state.givenFrom && limit <= log.lastIndex, 'only entries that are here are sent');
    invariant(
      limit <= committed || isPrimary || status === wire.ReplicaStatus.viewChange,
      'beyond what is committed, others get entries only of a log that cannot change in its view',
    );
    const longest = this.transferBytes(wire.Chunk.size);
    let left = Math.min(room, this.state.config.limits.chunkBytes);
    const source = base < log.baseIndex ? retained : log;
    const end = source === log ? limit : Math.min(limit, retained.endIndex);
    for (let from = base; ; ) {
      let length = 0;
      let last = from;
      while (last < end) {
        const entry = 2 + (ENTRY_HEADER_BYTES + source.operationLength(last + 1));
        if (last > from && length + entry > (from === base ? longest : Math.min(longest, left))) break;
        length += entry;
        last++;
      }
      left -= length;
      const more = last < end && left >= 2 + (ENTRY_HEADER_BYTES + source.operationLength(last + 1));
      if (!this.chunk(source, to, from, last, limit, length, more, series)) return from;
      if (!more) return last;
      from = last;
    }
  }

  /** False when there was no room. */
  private chunk(
    source: Entries,
    to: number,
    base: number,
    last: number,
    limit: number,
    length: number,
    more: boolean,
    series: number,
  ): boolean {
    const o = this.open(wire.Chunk, to, length);
    if (o < 0) return false;
    const bytes = this.state.out.bytes;
    const at = wire.Chunk.at;
    writeI32(bytes, o + at.logView, this.state.logView);
    writeIndex(bytes, o + at.baseIndex, base);
    writeI32(bytes, o + at.baseChain, source.chainHi(base));
    writeI32(bytes, o + at.baseChain + 4, source.chainLo(base));
    this.indexAndChain(bytes, o + at.lastIndex, o + at.lastChain, limit);
    bytes[o + at.more] = more ? 1 : 0;
    bytes[o + at.series] = series;
    writeU16(bytes, o + at.entries, length);
    let offset = o + wire.Chunk.size;
    const target = this.outWords();
    for (let index = base + 1; index <= last; index++) {
      writeU16(bytes, offset, source.operationLength(index));
      offset += 2 + source.writeEntry(index, target, offset + 2);
    }
    this.state.out.commit(wire.Chunk.size + length);
    return true;
  }

  snapshotOffer(to: number, snapshot: Snapshot, digestHi: number, digestLo: number): void {
    const { state } = this;
    if (snapshot.bytes.length > SNAPSHOT_BYTES_MAX) {
      this.sayTooLong(snapshot);
      return;
    }
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

  /** Once a snapshot. */
  private sayTooLong({ index, bytes }: Snapshot): void {
    if (index === this.tooLong) return;
    this.tooLong = index;
    this.state.transition(
      'snapshot-too-long',
      `the snapshot of ${index} has ${bytes.length} bytes, of at most ${SNAPSHOT_BYTES_MAX} that can be handed to another replica: a replica that needs it stays behind`,
    );
  }

  /**
   * Asks for `room` bytes of the snapshot of `index`, from byte `offset` on.
   * @param view the view that `to` is in
   */
  snapshotFetch(
    to: number,
    view: number,
    index: number,
    chainHi: number,
    chainLo: number,
    offset: number,
    room: number,
  ): void {
    const o = this.open(wire.SnapshotFetch, to, 0);
    if (o < 0) return;
    const bytes = this.state.out.bytes;
    const at = wire.SnapshotFetch.at;
    writeI32(bytes, o + at.view, view);
    writeIndex(bytes, o + at.index, index);
    writeI32(bytes, o + at.chain, chainHi);
    writeI32(bytes, o + at.chain + 4, chainLo);
    writeI32(bytes, o + at.offset, offset);
    writeU16(bytes, o + at.room, room);
    this.state.out.commit(wire.SnapshotFetch.size);
  }

  /**
   * Up to where a snapshot is sent to one who asks for it from `offset` on.
   * @param room bytes that it has room for, in as many SnapshotChunks as that takes; 0: one SnapshotChunk
   */
  endOfPieces(snapshot: Snapshot, offset: number, room: number): number {
    const longest = this.transferBytes(wire.SnapshotChunk.size);
    return Math.min(
      snapshot.bytes.length,
      offset + Math.max(longest, Math.min(room, this.state.config.limits.chunkBytes)),
    );
  }

  /** Sends a snapshot from `offset` to `end`. */
  snapshotChunks(to: number, snapshot: Snapshot, offset: number, end: number): void {
    const longest = this.transferBytes(wire.SnapshotChunk.size);
    for (let at = offset; at < end; at += longest)
      if (!this.snapshotChunk(to, snapshot, at, Math.min(longest, end - at), at + longest < end)) return;
  }

  /** False when there was no room. */
  private snapshotChunk(to: number, snapshot: Snapshot, offset: number, length: number, more: boolean): boolean {
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

  /** Bytes of log or snapshot that one message carries, besides its own `size` bytes. */
  private transferBytes(size: number): number {
    const { datagramBytes = DEFAULT_DATAGRAM_BYTES, limits } = this.state.config;
    return Math.max(1, Math.min(limits.chunkBytes, datagramBytes - ENVELOPE_BYTES_MAX - size));
  }
}
