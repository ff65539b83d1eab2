/**
 * Walks through the keys of a store in the order of their hashes, in as many steps as wanted: where it stopped is a
 * number, and another replica goes on from there.
 *
 * The order is that of (hash, key), so it depends on the keys alone, not on the size of the table or its history. A key
 * that is there from the first step to the last is met exactly once, whatever comes and goes meanwhile.
 */
import type { RecordHeap } from './kv-heap.js';
import { HASHES, type HashedEntry, type KeyTable } from './kv-table.js';

export class KeyWalk {
  /** Hash of the key that `next` returned last. */
  hash = 0;
  readonly #heap: RecordHeap;
  readonly #table: KeyTable;
  /** The next keys, sorted; those before `#at` were returned. */
  readonly #found: HashedEntry[] = [];
  #at = 0;
  /** All keys with lower hashes are found or passed. */
  #reached: number;

  /** Begins at this hash, from 0 to HASHES − 1. The store must not change until the walk is over. */
  constructor(heap: RecordHeap, table: KeyTable, hash: number) {
    this.#heap = heap;
    this.#table = table;
    this.#reached = hash;
  }

  /** The entry id of the next key, or -1 at the end. */
  next(): number {
    const found = this.#found;
    if (this.#at === found.length) {
      if (this.#reached === HASHES) return -1;
      this.#at = found.length = 0;
      this.#reached = this.#table.entriesFrom(this.#reached, found);
      if (found.length === 0) return -1;
      if (found.length > 1) found.sort((a, b) => a.hash - b.hash || this.#compare(a.id, b.id));
    }
    const { hash, id } = found[this.#at++]!;
    this.hash = hash;
    return id;
  }

  #compare(a: number, b: number): number {
    const heap = this.#heap;
    return heap.compareKey(a, heap.valueBytes(b), heap.keyOffset(b), heap.keyLength(b));
  }
}
