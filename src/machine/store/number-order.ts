/**
 * Ids in the order of a pair of numbers: what is due first, and which keys belong to a lease.
 *
 * A list of sorted blocks. The numbers lie beside the ids, so that a search touches nothing else. One call moves at most
 * one block's entries. Pairs are unique: the second number is a revision.
 */

const BLOCK_ENTRIES_MAX = 256;

/** A place in the order. */
export interface NumberCursor {
  block: number;
  at: number;
}

class Block {
  readonly first = new Float64Array(BLOCK_ENTRIES_MAX);
  readonly second = new Float64Array(BLOCK_ENTRIES_MAX);
  readonly ids = new Int32Array(BLOCK_ENTRIES_MAX);
  count = 0;

  /** Makes room for one entry at `at`. Loops, because at this length calls of copyWithin take longer. */
  open(at: number): void {
    const { first, second, ids } = this;
    for (let i = this.count++; i > at; i--) {
      first[i] = first[i - 1]!;
      second[i] = second[i - 1]!;
      ids[i] = ids[i - 1]!;
    }
  }

  /** Takes the entry at `at` out. */
  close(at: number): void {
    const { first, second, ids } = this;
    const last = --this.count;
    for (let i = at; i < last; i++) {
      first[i] = first[i + 1]!;
      second[i] = second[i + 1]!;
      ids[i] = ids[i + 1]!;
    }
  }

  /** Moves the entries from `from` on behind those of an earlier block. */
  moveTo(target: Block, from: number): void {
    target.first.set(this.first.subarray(from, this.count), target.count);
    target.second.set(this.second.subarray(from, this.count), target.count);
    target.ids.set(this.ids.subarray(from, this.count), target.count);
    target.count += this.count - from;
    this.count = from;
  }
}

export class NumberOrder {
  readonly #blocks: Block[] = [];
  #count = 0;
  /** Where the last search ended: the lowest entry at or above the pair. */
  #block = 0;
  #at = 0;

  get count(): number {
    return this.#count;
  }

  /** The pair must not be there yet. */
  insert(first: number, second: number, id: number): void {
    const blocks = this.#blocks;
    if (blocks.length === 0) blocks.push(new Block());
    this.#search(first, second);
    // Between two blocks the end of the earlier one is used, so that ascending entries fill blocks.
    if (this.#block === blocks.length || (this.#at === 0 && this.#block > 0)) this.#at = blocks[--this.#block]!.count;
    if (blocks[this.#block]!.count === BLOCK_ENTRIES_MAX) this.#split();
    const block = blocks[this.#block]!;
    block.open(this.#at);
    block.first[this.#at] = first;
    block.second[this.#at] = second;
    block.ids[this.#at] = id;
    this.#count++;
  }

  /** The pair must be there. */
  remove(first: number, second: number): void {
    this.#search(first, second);
    const block = this.#blocks[this.#block]!;
    block.close(this.#at);
    this.#count--;
    if (block.count === 0) this.#blocks.splice(this.#block, 1);
    else if (block.count < BLOCK_ENTRIES_MAX / 4) this.#merge(block);
  }

  /** The id of the lowest pair at or above this one, or -1. */
  atOrAbove(first: number, second: number): number {
    this.#search(first, second);
    return this.#block < this.#blocks.length ? this.#blocks[this.#block]!.ids[this.#at]! : -1;
  }

  /** The id of the lowest pair, or -1. */
  lowest(): number {
    return this.#count === 0 ? -1 : this.#blocks[0]!.ids[0]!;
  }

  /** Whether the first number of the lowest pair is at most this. */
  begins(atMost: number): boolean {
    return this.#count > 0 && this.#blocks[0]!.first[0]! <= atMost;
  }

  /** The first number of the lowest pair; 0 if there is no pair. */
  lowestFirst(): number {
    return this.#count === 0 ? 0 : this.#blocks[0]!.first[0]!;
  }

  /** The first number of the highest pair; 0 if there is no pair. */
  highestFirst(): number {
    const last = this.#blocks[this.#blocks.length - 1];
    return this.#count === 0 ? 0 : last!.first[last!.count - 1]!;
  }

  /** Sets the cursor to the lowest pair at or above this one. It is valid until the next change. */
  seek(first: number, second: number, cursor: NumberCursor): void {
    this.#search(first, second);
    cursor.block = this.#block;
    cursor.at = this.#at;
  }

  /** The id at the cursor, which moves on by one; -1 at the end. */
  next(cursor: NumberCursor): number {
    const block = this.#blocks[cursor.block];
    if (block === undefined) return -1;
    const id = block.ids[cursor.at]!;
    if (++cursor.at === block.count) {
      cursor.block++;
      cursor.at = 0;
    }
    return id;
  }

  #search(first: number, second: number): void {
    const blocks = this.#blocks;
    let low = 0;
    let high = blocks.length;
    // What comes is above all others most of the time.
    if (high > 0 && isBelow(blocks[high - 1]!, blocks[high - 1]!.count - 1, first, second)) low = high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBelow(blocks[middle]!, blocks[middle]!.count - 1, first, second)) low = middle + 1;
      else high = middle;
    }
    this.#block = low;
    this.#at = 0;
    if (low === blocks.length) return;
    const block = blocks[low]!;
    high = block.count;
    low = 0;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBelow(block, middle, first, second)) low = middle + 1;
      else high = middle;
    }
    this.#at = low;
  }

  /** Splits the full block that the search ended in. At its end a new block is begun instead. */
  #split(): void {
    const block = this.#blocks[this.#block]!;
    const keep = this.#at === block.count ? block.count : block.count >>> 1;
    const added = new Block();
    block.moveTo(added, keep);
    this.#blocks.splice(this.#block + 1, 0, added);
    if (this.#at <= keep && added.count > 0) return;
    this.#block++;
    this.#at -= keep;
  }

  /** Moves the entries of the next block into this one if both fill less than half of it. */
  #merge(block: Block): void {
    const next = this.#blocks[this.#block + 1];
    if (next === undefined || block.count + next.count > BLOCK_ENTRIES_MAX / 2) return;
    next.moveTo(block, 0);
    this.#blocks.splice(this.#block + 1, 1);
  }
}

function isBelow(block: Block, at: number, first: number, second: number): boolean {
  const own = block.first[at]!;
  return own < first || (own === first && block.second[at]! < second);
}
