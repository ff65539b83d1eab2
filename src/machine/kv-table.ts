/**
 * Maps key bytes to entry ids: an open-addressing table with linear probing over one Int32Array.
 *
 *     slot i | id + 1, EMPTY, or GONE | hash of the key |
 *
 * The upper bits of the hash say in which slot an entry is at home. So slots are in the order of hashes, but for the
 * length of a probe run, and entries can be walked through in that order (kv-walk.ts), whatever the size of the table.
 *
 * The table is at most half full, and a removal shifts the following entries back, so probe runs stay short whatever the
 * mix of inserts and deletes. It grows in steps: a full table becomes the old one beside a new one twice as large, and
 * each write moves a few of its slots. An entry is always in exactly one of the two. What is moved or removed is marked
 * GONE in the old one, which takes no entries, so that its probe runs stay whole.
 *
 * The obvious alternative, a Map with latin1 string keys, was slower at 100,000 keys: 1.7 instead of 2.1 million gets
 * and puts a second. It also left 32 bytes of garbage per operation; this table leaves none. bench/kv.ts measures both.
 */
import { hashBytes } from './bytes.js';
import type { RecordHeap } from './kv-heap.js';
import { NAME_BYTES_MASK } from './kv-layout.js';

const SLOT_WORDS = 2;
const HASH_SEED = 0x4a495450;
const EMPTY = 0;
const GONE = -1;
const ALL_BITS = 0xffffffff;
/** Every hash is below this. */
export const HASHES = 2 ** 32;
const SLOTS_MIN = 32;
/** Slots of the old table that one write moves; two would be enough to be done before the new table is full. */
const MOVED_SLOTS_PER_WRITE = 64;

/** An entry with its hash, from 0 to HASHES − 1. */
export interface HashedEntry {
  readonly hash: number;
  readonly id: number;
}

export class KeyTable {
  readonly #heap: RecordHeap;
  #slots: Int32Array;
  #mask: number;
  /** Bits of a hash below those that say where an entry is at home. */
  #shift: number;
  #count = 0;
  /** The table that is being left, if there is one; slots below `#moved` are empty or GONE. */
  #old: Int32Array | undefined;
  #oldShift = 0;
  #moved = 0;

  constructor(heap: RecordHeap, expectedEntries: number) {
    let capacity = SLOTS_MIN;
    while (capacity < expectedEntries * 2) capacity *= 2;
    this.#heap = heap;
    this.#slots = new Int32Array(capacity * SLOT_WORDS);
    this.#mask = capacity - 1;
    this.#shift = Math.clz32(this.#mask);
  }

  get count(): number {
    return this.#count;
  }

  /** The entry id, or -1. */
  find(key: Uint8Array, offset: number, length: number): number {
    const hash = hashOf(key, offset, length);
    const stored = this.#slots[this.#slotIn(this.#slots, this.#shift, key, offset, length, hash) * SLOT_WORDS]!;
    if (stored !== EMPTY || this.#old === undefined) return stored - 1;
    return this.#old[this.#slotIn(this.#old, this.#oldShift, key, offset, length, hash) * SLOT_WORDS]! - 1;
  }

  /** Adds an id; its key, given here, must not be in the table yet. */
  add(id: number, key: Uint8Array, offset: number, length: number): void {
    if (this.#old !== undefined) this.#move(this.#old);
    if ((this.#count + 1) * 2 > this.#mask + 1) this.#grow();
    this.#put(id + 1, hashOf(key, offset, length));
    this.#count++;
  }

  /** Must be called while the heap still holds the key, which must be in the table. */
  remove(key: Uint8Array, offset: number, length: number): void {
    const hash = hashOf(key, offset, length);
    const slot = this.#slotIn(this.#slots, this.#shift, key, offset, length, hash);
    if (this.#slots[slot * SLOT_WORDS] !== EMPTY) this.#close(slot);
    else {
      const old = this.#old!;
      old[this.#slotIn(old, this.#oldShift, key, offset, length, hash) * SLOT_WORDS] = GONE;
    }
    this.#count--;
    if (this.#old !== undefined) this.#move(this.#old);
  }

  /**
   * Adds to `found`, in no order, the next entries whose hashes are at or above `hash`: all those below the hash that is
   * returned, which is HASHES at the end. There are entries unless that is the end. Allocates.
   */
  entriesFrom(hash: number, found: HashedEntry[]): number {
    const old = this.#old;
    // What is at home in one slot of the old table is so in one of two slots of the new one.
    const shift = old === undefined ? this.#shift : this.#oldShift;
    const homes = HASHES / 2 ** shift;
    for (let home = hash >>> shift; home < homes; home++) {
      if (old === undefined) collect(this.#slots, shift, home, hash, found);
      else {
        collect(old, shift, home, hash, found);
        collect(this.#slots, this.#shift, 2 * home, hash, found);
        collect(this.#slots, this.#shift, 2 * home + 1, hash, found);
      }
      if (found.length > 0) return (home + 1) * 2 ** shift;
    }
    return HASHES;
  }

  /** The slot that holds the key, or the empty slot where its probe run ends. */
  #slotIn(slots: Int32Array, shift: number, key: Uint8Array, offset: number, length: number, hash: number): number {
    const mask = ALL_BITS >>> shift;
    let slot = hash >>> shift;
    for (;;) {
      const stored = slots[slot * SLOT_WORDS]!;
      if (stored === EMPTY) return slot;
      if (
        slots[slot * SLOT_WORDS + 1] === hash &&
        stored !== GONE &&
        this.#heap.keyEquals(stored - 1, key, offset, length)
      )
        return slot;
      slot = (slot + 1) & mask;
    }
  }

  /** Empties a slot of the new table. */
  #close(slot: number): void {
    const slots = this.#slots;
    const mask = this.#mask;
    let hole = slot;
    for (let next = (hole + 1) & mask; slots[next * SLOT_WORDS] !== EMPTY; next = (next + 1) & mask) {
      const home = slots[next * SLOT_WORDS + 1]! >>> this.#shift;
      // An entry may move into the hole only if the hole lies on its way from home.
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      slots[hole * SLOT_WORDS] = slots[next * SLOT_WORDS]!;
      slots[hole * SLOT_WORDS + 1] = slots[next * SLOT_WORDS + 1]!;
      hole = next;
    }
    slots[hole * SLOT_WORDS] = EMPTY;
  }

  #put(stored: number, hash: number): void {
    const slots = this.#slots;
    let slot = hash >>> this.#shift;
    while (slots[slot * SLOT_WORDS] !== EMPTY) slot = (slot + 1) & this.#mask;
    slots[slot * SLOT_WORDS] = stored;
    slots[slot * SLOT_WORDS + 1] = hash;
  }

  #grow(): void {
    // It was moved long ago: a table has as many slots as writes fill its successor with.
    while (this.#old !== undefined) this.#move(this.#old);
    this.#old = this.#slots;
    this.#oldShift = this.#shift;
    this.#moved = 0;
    this.#slots = new Int32Array(this.#old.length * 2);
    this.#mask = this.#slots.length / SLOT_WORDS - 1;
    this.#shift--;
  }

  #move(old: Int32Array): void {
    const slots = old.length / SLOT_WORDS;
    const end = Math.min(this.#moved + MOVED_SLOTS_PER_WRITE, slots);
    for (let at = this.#moved * SLOT_WORDS; at < end * SLOT_WORDS; at += SLOT_WORDS) {
      const stored = old[at]!;
      if (stored === EMPTY || stored === GONE) continue;
      this.#put(stored, old[at + 1]!);
      old[at] = GONE;
    }
    this.#moved = end;
    if (end === slots) this.#old = undefined;
  }
}

/** Adds the entries that are at home in a slot, and whose hashes are at least this. */
function collect(slots: Int32Array, shift: number, home: number, least: number, found: HashedEntry[]): void {
  const mask = ALL_BITS >>> shift;
  for (let slot = home; ; slot = (slot + 1) & mask) {
    const stored = slots[slot * SLOT_WORDS]!;
    if (stored === EMPTY) return;
    const hash = slots[slot * SLOT_WORDS + 1]! >>> 0;
    if (stored !== GONE && hash >>> shift === home && hash >= least) found.push({ hash, id: stored - 1 });
  }
}

/** Of the bytes of a name. */
function hashOf(name: Uint8Array, offset: number, length: number): number {
  return hashBytes(name, offset, length & NAME_BYTES_MASK, HASH_SEED);
}
