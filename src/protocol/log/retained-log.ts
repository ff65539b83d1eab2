/**
 * Entries that were cut from the log, for replicas that fetch this one's state and will ask for those behind it. So the log
 * itself stays as short as it may be, however long a transfer takes. May be changed freely: what is here is committed.
 *
 * They are copied a little in each turn, ahead of the cut, because copying a whole log at once would stop the turn. Each
 * is kept as in the log's arena: behind the chain of the entry before it. As long as anything is here, it reaches up to the
 * base of the log at least.
 */
import { copyWords, wordsOf } from '../../wire/copy.js';
import { readI32, smallInteger } from '../../wire/u64.js';
import { invariant } from '../invariant.js';
import { ENTRY_HEADER_BYTES } from './entry.js';
import { RecordAt, type Log } from './log.js';

/** Entries are kept together in blocks. Each is given back when nothing in it is needed any more. */
const BLOCK_BYTES_MAX = 1 << 18;
/** Blocks that the memory is divided into, at least. */
const BLOCKS_MIN = 16;

interface Block {
  /** Index of its first entry. */
  readonly first: number;
  readonly bytes: Uint8Array;
  readonly words: DataView;
  /** Where the record of each entry begins, and where the last one ends. */
  readonly places: number[];
}

export class RetainedLog {
  /** The entries behind this index are here, … */
  baseIndex = 0;
  /** … up to this one. */
  endIndex = 0;
  private blocks: Block[] = [];
  private used = 0;
  private readonly blockBytes: number;
  private readonly blockEntries: number;

  /** When `bytesMax` or `entriesMax` is not enough, the oldest entries are given up. */
  constructor(
    private readonly bytesMax: number,
    private readonly entriesMax: number,
  ) {
    this.blockBytes = Math.min(BLOCK_BYTES_MAX, Math.ceil(bytesMax / BLOCKS_MIN));
    this.blockEntries = Math.max(1, Math.floor(entriesMax / BLOCKS_MIN));
  }

  /** Entries are retained, or will be. */
  get isActive(): boolean {
    return this.blocks.length > 0;
  }

  /** Share of what it may hold, 0…1: the larger of entries and bytes. */
  get fill(): number {
    return this.isActive ? Math.max((this.endIndex - this.baseIndex) / this.entriesMax, this.used / this.bytesMax) : 0;
  }

  clear(): void {
    this.blocks = [];
    this.used = 0;
  }

  /** Retains the committed entries of `log` behind `index`, which it has. */
  begin(log: Log, index: number): void {
    invariant(index >= log.baseIndex && index <= log.lastIndex, 'entries are retained from a place in the log on');
    this.clear();
    this.baseIndex = this.endIndex = smallInteger(index);
    this.addBlock(this.blockBytes);
  }

  /**
   * Copies entries up to `committed`, about `bytes` of them. When the memory is not enough, the oldest entries go: a replica
   * that is slow takes nothing from those that have come further.
   */
  follow(log: Log, committed: number, bytes: number): void {
    for (let left = bytes; this.endIndex < committed && left > 0; ) {
      const index = this.endIndex + 1;
      const length = RecordAt.operation + log.operationLength(index);
      let block = this.blocks[this.blocks.length - 1]!;
      let at = block.places[block.places.length - 1]!;
      if (at + length > block.bytes.length || block.places.length > this.blockEntries) {
        block = this.addBlock(Math.max(this.blockBytes, length));
        at = 0;
      }
      while (this.blocks.length > 1 && (this.used > this.bytesMax || index - this.baseIndex > this.entriesMax))
        this.dropOldest();
      copyWords(log.words, log.record(index), block.words, at, length);
      block.places.push(at + length);
      this.endIndex = index;
      left -= length;
    }
  }

  /** Entries up to `index` are not needed any more. */
  forgetTo(index: number): void {
    if (index >= this.endIndex) this.clear();
    while (this.blocks.length > 1 && this.blocks[1]!.first <= index + 1) this.dropOldest();
  }

  private dropOldest(): void {
    const [gone, next] = this.blocks;
    this.used -= gone!.bytes.length;
    this.blocks.shift();
    this.baseIndex = next!.first - 1;
  }

  /** The entries behind `base` are here, and its chain is the given one. */
  matches(base: number, chainHi: number, chainLo: number): boolean {
    return (
      this.isActive &&
      base >= this.baseIndex &&
      base < this.endIndex &&
      this.chainHi(base) === chainHi &&
      this.chainLo(base) === chainLo
    );
  }

  /** chain(index), upper half; `index` from `baseIndex` to one below `endIndex`. */
  chainHi(index: number): number {
    const block = this.blockOf(index + 1);
    return readI32(block.bytes, block.places[index + 1 - block.first]!);
  }

  chainLo(index: number): number {
    const block = this.blockOf(index + 1);
    return readI32(block.bytes, block.places[index + 1 - block.first]! + 4);
  }

  operationLength(index: number): number {
    const { places, first } = this.blockOf(index);
    return places[index + 1 - first]! - places[index - first]! - RecordAt.operation;
  }

  /** Writes entry `index` (ENTRY_HEADER_BYTES + operation) and returns its length. */
  writeEntry(index: number, target: DataView, offset: number): number {
    const { words, places, first } = this.blockOf(index);
    const length = ENTRY_HEADER_BYTES + this.operationLength(index);
    copyWords(words, places[index - first]! + RecordAt.timestamp, target, offset, length);
    return length;
  }

  private blockOf(index: number): Block {
    const { blocks } = this;
    let low = 0;
    let high = blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (blocks[middle]!.first <= index) low = middle;
      else high = middle - 1;
    }
    return blocks[low]!;
  }

  private addBlock(length: number): Block {
    const bytes = new Uint8Array(length);
    const block: Block = { first: this.endIndex + 1, bytes, words: wordsOf(bytes), places: [0] };
    this.blocks.push(block);
    this.used += length;
    return block;
  }
}
