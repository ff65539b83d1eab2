/**
 * The next write: the net change of all batches since the last write began, as the body of one frame.
 *
 * Batches that arrive while the disk is busy are merged, so one write and one sync serve them all, and entries that a
 * later batch replaced are not written at all. This bounds it: it never holds more than the log does.
 */
import { invariant } from '../protocol/invariant.js';
import type { HardState, PersistBatch, Snapshot } from '../protocol/contract.js';
import { readI32, writeI32 } from '../wire/u64.js';
import { ENTRY_LENGTH_BYTES, FRAME_HEADER_BYTES } from './log-format.js';

const FIRST_BYTES = 1 << 16;

export class PendingChange {
  /** A frame under construction: room for its header, then the body. */
  bytes = new Uint8Array(FIRST_BYTES);
  bodyBytes = 0;
  /** Token of the last batch; 0: nothing is pending. */
  token = 0;
  count = 0;
  entriesFrom = 1;
  committed = 0;
  hardState: HardState = { view: 0, logView: 0, incarnation: 0 };
  /** Messages wait for the hard state, not only for the log. */
  awaitsHardState = false;
  /** Earlier state does not count. */
  reset = false;
  /** The snapshot on which this change stands; it must be on disk first. */
  snapshot: Snapshot | undefined;

  clear(): void {
    this.token = 0;
    this.bodyBytes = 0;
    this.count = 0;
    this.awaitsHardState = false;
    this.reset = false;
    this.snapshot = undefined;
  }

  /**
   * Adds a batch. Entries up to `base` are covered by a snapshot and left out. `onSnapshot`: the entries stand on the
   * batch's snapshot, and nothing stored earlier counts.
   */
  add(token: number, batch: PersistBatch, base: number, onSnapshot: boolean): void {
    if (onSnapshot) {
      const { awaitsHardState } = this;
      this.clear();
      this.awaitsHardState = awaitsHardState;
      this.snapshot = batch.snapshot;
      this.reset = true;
    }
    const from = Math.max(batch.entriesFrom, base + 1);
    if (this.token === 0 || from <= this.entriesFrom) {
      this.entriesFrom = from;
      this.count = 0;
      this.bodyBytes = 0;
    } else {
      this.truncate(from);
    }
    for (let index = from; index <= batch.lastIndex; index++) this.append(batch, index);
    this.token = token;
    this.committed = batch.committed;
    this.hardState = batch.hardState;
  }

  get lastIndex(): number {
    return this.entriesFrom + this.count - 1;
  }

  /** Drops the entries from `from` on. */
  private truncate(from: number): void {
    invariant(from <= this.lastIndex + 1, 'what is written next follows what is pending');
    const keep = from - this.entriesFrom;
    if (keep === this.count) return;
    let at = FRAME_HEADER_BYTES;
    for (let i = 0; i < keep; i++) at += ENTRY_LENGTH_BYTES + readI32(this.bytes, at);
    this.bodyBytes = at - FRAME_HEADER_BYTES;
    this.count = keep;
  }

  private append(batch: PersistBatch, index: number): void {
    const length = batch.entryBytes(index);
    const at = FRAME_HEADER_BYTES + this.bodyBytes;
    const end = at + ENTRY_LENGTH_BYTES + length;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(2 * end);
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
    }
    writeI32(this.bytes, at, length);
    const written = batch.readEntry(index, this.bytes, at + ENTRY_LENGTH_BYTES);
    invariant(written === length, 'an entry is as long as it said');
    this.bodyBytes = end - FRAME_HEADER_BYTES;
    this.count++;
  }
}
