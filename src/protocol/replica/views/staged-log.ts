/**
 * The part of another replica's log that has arrived and is not taken up yet: entries behind a base that this log has too,
 * or behind a snapshot. It computes the chain of each entry as it comes.
 */
import { copyBytes } from '../../../wire/copy.js';
import { readI32, writeI32 } from '../../../wire/u64.js';
import type { RestoreInPieces } from '../../../machine/state-machine.js';
import type { Hasher, Snapshot } from '../../contract.js';
import { entryFollows, keyFollows, type Log } from '../../log/log.js';
import { followsSnapshot } from '../../log/snapshots.js';
import { ENTRY_HEADER_BYTES } from '../../log/entry.js';
import { RETAINED_TIMES } from '../log-capacity.js';

/** Entries are kept together in blocks, each longer than the one before up to this: an array an entry is much garbage. */
const BLOCK_BYTES = 1 << 18;
const FIRST_BLOCK_BYTES = 1 << 12;

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
  /** Entries behind the base. */
  length = 0;
  /** Entries in wire form, each behind the chain of what it follows. */
  private blocks: Uint8Array[] = [];
  private filled = 0;
  /** Of each entry: its block, and where it begins and ends there. */
  private places: number[] = [];
  private bytes = 0;
  /** The same of the entries that are not known to be committed. */
  private openBytes = 0;
  private openLength = 0;
  private longestOperation = 0;
  private readonly digest = new Uint8Array(8);

  constructor(
    private readonly log: Log,
    private readonly chain: Hasher,
  ) {}

  clear(): void {
    this.length = 0;
    this.blocks = [];
    this.filled = 0;
    this.places = [];
    this.bytes = 0;
    this.openBytes = 0;
    this.openLength = 0;
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
    if (this.length > 0)
      return keyFollows(this.blockOf(this.length - 1), this.offsetOf(this.length - 1), bytes, offset);
    if (this.snapshot !== undefined) return followsSnapshot(this.snapshot, bytes, offset);
    // Where the own log was cut beyond the base, both logs are the same, so the order was checked.
    return this.baseIndex < this.log.baseIndex || entryFollows(this.log, this.baseIndex, bytes, offset);
  }

  /**
   * Keeps an entry in wire form, and extends the chain over it.
   * @param committed entries up to here are known to be committed
   */
  stage(bytes: Uint8Array, offset: number, length: number, committed: number): void {
    const recordBytes = 8 + length;
    if (this.endIndex >= committed) {
      this.openBytes += recordBytes;
      this.openLength++;
    }
    if (this.filled + recordBytes > (this.blocks[this.blocks.length - 1]?.length ?? 0)) {
      const last = this.blocks[this.blocks.length - 1];
      const roomy = last === undefined ? FIRST_BLOCK_BYTES : Math.min(BLOCK_BYTES, 4 * last.length);
      this.blocks.push(new Uint8Array(Math.max(roomy, recordBytes)));
      this.filled = 0;
    }
    const block = this.blocks[this.blocks.length - 1]!;
    const at = this.filled;
    writeI32(block, at, this.endChainHi);
    writeI32(block, at + 4, this.endChainLo);
    copyBytes(bytes, offset, block, at + 8, length);
    this.chain.hash64(block, at, recordBytes, this.digest, 0);
    this.endChainHi = readI32(this.digest, 0);
    this.endChainLo = readI32(this.digest, 4);
    this.places.push(this.blocks.length - 1, at + 8, at + recordBytes);
    this.filled = at + recordBytes;
    this.length++;
    this.bytes += recordBytes;
    this.longestOperation = Math.max(this.longestOperation, length - ENTRY_HEADER_BYTES);
    this.endIndex++;
  }

  /** The array that has entry `baseIndex + 1 + i` in wire form, at `offsetOf(i)`. */
  blockOf(i: number): Uint8Array {
    return this.blocks[this.places[3 * i]!]!;
  }

  offsetOf(i: number): number {
    return this.places[3 * i + 1]!;
  }

  lengthOf(i: number): number {
    return this.places[3 * i + 2]! - this.places[3 * i + 1]!;
  }

  /**
   * A log of these limits can take it up: what is not known to be committed has to fit it at once, the rest goes behind
   * snapshots. There is no more of that than a source gives (log-capacity.ts).
   */
  fits(operationBytes: number, logBytes: number, logEntries: number): boolean {
    return (
      this.longestOperation <= operationBytes &&
      this.openBytes <= logBytes &&
      this.openLength <= logEntries &&
      this.bytes <= (1 + RETAINED_TIMES) * logBytes &&
      this.length <= (1 + RETAINED_TIMES) * logEntries
    );
  }
}
