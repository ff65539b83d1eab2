/**
 * The part of another replica's log that has arrived and is not taken up yet: entries behind a base that this log has too,
 * or behind a snapshot. It computes the chain of each entry as it comes.
 */
import { readI32, writeI32 } from '../../../wire/u64.js';
import type { RestoreInPieces } from '../../../machine/state-machine.js';
import type { Hasher, Snapshot } from '../../contract.js';
import { entryFollows, keyFollows, type Log } from '../../log/log.js';
import { followsSnapshot } from '../../log/snapshots.js';
import { ENTRY_HEADER_BYTES } from '../../log/entry.js';

export class StagedLog {
  /** The staged part begins behind `baseIndex`, and ends with `endIndex` under that chain. */
  baseIndex = 0;
  endIndex = 0;
  endChainHi = 0;
  endChainLo = 0;
  /** What the entries follow, if it is not the own log. */
  snapshot: Snapshot | undefined;
  /** It has all of the machine's part of that snapshot. */
  restore: RestoreInPieces | undefined;
  /** In wire form. */
  entries: Uint8Array[] = [];
  private bytes = 0;
  private longestOperation = 0;
  private readonly digest = new Uint8Array(8);

  constructor(
    private readonly log: Log,
    private readonly chain: Hasher,
  ) {}

  clear(): void {
    this.entries = [];
    this.bytes = 0;
    this.longestOperation = 0;
    this.snapshot = undefined;
    this.forgetRestore();
  }

  /** If the snapshot is installed, the machine's part of it is then restored at once. */
  forgetRestore(): void {
    this.restore?.abort();
    this.restore = undefined;
  }

  /** Another one has it now. */
  releaseRestore(): void {
    this.restore = undefined;
  }

  /** Begins behind entry `index`, which the own log has under that chain. */
  beginBehind(index: number, chainHi: number, chainLo: number): void {
    this.clear();
    this.baseIndex = index;
    this.endIndex = index;
    this.endChainHi = chainHi;
    this.endChainLo = chainLo;
  }

  beginBehindSnapshot(snapshot: Snapshot, restore: RestoreInPieces | undefined): void {
    this.beginBehind(snapshot.index, snapshot.chainHi, snapshot.chainLo);
    this.snapshot = snapshot;
    this.restore = restore;
  }

  endsWith(index: number, chainHi: number, chainLo: number): boolean {
    return this.endIndex === index && this.endChainHi === chainHi && this.endChainLo === chainLo;
  }

  /** Whether the key of the entry in wire form at `bytes[offset]` is above that of what it would be staged behind. */
  isInOrder(bytes: Uint8Array, offset: number): boolean {
    const previous = this.entries.at(-1);
    if (previous !== undefined) return keyFollows(previous, 0, bytes, offset);
    if (this.snapshot !== undefined) return followsSnapshot(this.snapshot, bytes, offset);
    // Where the own log was cut beyond the base, both logs are the same, so the order was checked.
    return this.baseIndex < this.log.baseIndex || entryFollows(this.log, this.baseIndex, bytes, offset);
  }

  /** Keeps an entry in wire form, and extends the chain over it. */
  stage(bytes: Uint8Array, offset: number, length: number): void {
    const record = new Uint8Array(8 + length);
    writeI32(record, 0, this.endChainHi);
    writeI32(record, 4, this.endChainLo);
    record.set(bytes.subarray(offset, offset + length), 8);
    this.chain.hash64(record, 0, record.length, this.digest, 0);
    this.endChainHi = readI32(this.digest, 0);
    this.endChainLo = readI32(this.digest, 4);
    this.entries.push(record.subarray(8));
    this.bytes += record.length;
    this.longestOperation = Math.max(this.longestOperation, length - ENTRY_HEADER_BYTES);
    this.endIndex++;
  }

  /** A log of these limits has room for it. */
  fits(operationBytes: number, logBytes: number, logEntries: number): boolean {
    return this.longestOperation <= operationBytes && this.bytes <= logBytes && this.entries.length <= logEntries;
  }
}
