/**
 * The entry ids in the order of their keys, for scans and snapshots: a list of sorted blocks of up to 512 ids each.
 *
 * Only the first write of a key and its deletion change the order: two binary searches and a move within one block.
 * Overwriting a key costs nothing here. A full block splits. Neighbouring blocks merge if together they fill less than
 * half a block.
 */
import type { RecordHeap } from './kv-heap.js';

const BLOCK_IDS_MAX = 512;

class Block {
  readonly ids = new Int32Array(BLOCK_IDS_MAX);
  count = 0;
}

/** A place in the order; `OrderIndex.advance` moves it. Valid until the next insert or remove. */
export interface OrderCursor {
  block: number;
  position: number;
}

export class OrderIndex {
  readonly #heap: RecordHeap;
  readonly #blocks: Block[] = [];
  readonly #found: OrderCursor = { block: 0, position: 0 };

  constructor(heap: RecordHeap) {
    this.#heap = heap;
  }

  /** Inserts an id; its key, given here, must not be in the order yet. */
  insert(id: number, key: Uint8Array, offset: number, length: number): void {
    if (this.#blocks.length === 0) {
      const first = new Block();
      first.ids[0] = id;
      first.count = 1;
      this.#blocks.push(first);
      return;
    }
    const at = this.#found;
    this.seek(key, offset, length, at);
    if (at.block === this.#blocks.length || (at.position === 0 && at.block > 0)) {
      // Between two blocks, use the end of the earlier one: an ascending load keeps appending there.
      at.block--;
      at.position = this.#blocks[at.block]!.count;
    }
    if (this.#blocks[at.block]!.count === BLOCK_IDS_MAX) this.#split(at);
    const block = this.#blocks[at.block]!;
    block.ids.copyWithin(at.position + 1, at.position, block.count);
    block.ids[at.position] = id;
    block.count++;
  }

  /** Inserts an id whose key is above all others, without looking at it. */
  append(id: number): void {
    let last = this.#blocks.at(-1);
    if (last === undefined || last.count === BLOCK_IDS_MAX) {
      last = new Block();
      this.#blocks.push(last);
    }
    last.ids[last.count++] = id;
  }

  /** The id of the highest key, or -1. */
  last(): number {
    const last = this.#blocks.at(-1);
    return last === undefined ? -1 : last.ids[last.count - 1]!;
  }

  /** Must be called while the heap still holds the key. */
  remove(key: Uint8Array, offset: number, length: number): void {
    const at = this.#found;
    this.seek(key, offset, length, at);
    const block = this.#blocks[at.block]!;
    block.ids.copyWithin(at.position, at.position + 1, block.count);
    block.count--;
    this.#mergeAround(at.block);
  }

  /** Removes this many ids from the cursor on, which is not valid afterwards. There are so many. */
  removeRun(cursor: OrderCursor, count: number): void {
    const blocks = this.#blocks;
    for (let left = count; left > 0; ) {
      const block = blocks[cursor.block]!;
      const removed = Math.min(left, block.count - cursor.position);
      block.ids.copyWithin(cursor.position, cursor.position + removed, block.count);
      block.count -= removed;
      left -= removed;
      if (block.count === 0) blocks.splice(cursor.block, 1);
      else if (cursor.position === block.count) {
        cursor.block++;
        cursor.position = 0;
      }
    }
    if (!this.#mergeWithNext(cursor.block - 1)) this.#mergeWithNext(cursor.block);
  }

  /** Sets the cursor to the first key that is not below the given one. */
  seek(key: Uint8Array, offset: number, length: number, cursor: OrderCursor): void {
    const blocks = this.#blocks;
    let low = 0;
    let high = blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const block = blocks[middle]!;
      if (this.#heap.compareKey(block.ids[block.count - 1]!, key, offset, length) < 0) low = middle + 1;
      else high = middle;
    }
    cursor.block = low;
    cursor.position = 0;
    if (low === blocks.length) return;
    const ids = blocks[low]!.ids;
    let from = 0;
    let to = blocks[low]!.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#heap.compareKey(ids[middle]!, key, offset, length) < 0) from = middle + 1;
      else to = middle;
    }
    cursor.position = from;
  }

  /** The id at the cursor, or -1 at the end. */
  idAt(cursor: OrderCursor): number {
    return cursor.block < this.#blocks.length ? this.#blocks[cursor.block]!.ids[cursor.position]! : -1;
  }

  advance(cursor: OrderCursor): void {
    if (++cursor.position < this.#blocks[cursor.block]!.count) return;
    cursor.block++;
    cursor.position = 0;
  }

  /**
   * Splits the full block at the cursor and moves the cursor along. An append leaves the old block full, so ascending
   * loads fill blocks completely.
   */
  #split(at: OrderCursor): void {
    const block = this.#blocks[at.block]!;
    const added = new Block();
    const keep = at.position === block.count ? block.count : block.count >>> 1;
    added.ids.set(block.ids.subarray(keep, block.count));
    added.count = block.count - keep;
    block.count = keep;
    this.#blocks.splice(at.block + 1, 0, added);
    if (at.position > keep || added.count === 0) {
      at.block++;
      at.position -= keep;
    }
  }

  #mergeAround(index: number): void {
    const blocks = this.#blocks;
    if (blocks[index]!.count === 0) {
      blocks.splice(index, 1);
      return;
    }
    if (!this.#mergeWithNext(index - 1)) this.#mergeWithNext(index);
  }

  #mergeWithNext(left: number): boolean {
    const blocks = this.#blocks;
    if (left < 0 || left + 1 >= blocks.length) return false;
    const a = blocks[left]!;
    const b = blocks[left + 1]!;
    if (a.count + b.count >= BLOCK_IDS_MAX / 2) return false;
    a.ids.set(b.ids.subarray(0, b.count), a.count);
    a.count += b.count;
    blocks.splice(left + 1, 1);
    return true;
  }
}
