/**
 * A snapshot of the key-value store that is taken in pieces while the store changes.
 *
 * The leases come first (store/leases.ts). Then it walks through the keys in their order. What a write would destroy
 * before the walk has come there is kept: the old record of a key goes to a heap of its own, once, in the same order.
 * Entries that differ from the beginning, because they were changed or came later, are marked, and the walk passes over
 * them. So the walk merges two ordered lists, and its bytes are those of a snapshot at the beginning.
 *
 * A store has one of these for all its snapshots. It is asked at each write, and V8 throws its compiled callers away when
 * a collection has removed the only object of a class that they met.
 */
import { copyBytes } from '../wire/copy.js';
import { writeU16 } from '../wire/u64.js';
import { META_BYTES, RecordHeap } from './kv-heap.js';
import { KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX, PART_FLAG } from './kv-layout.js';
import { OrderIndex, type OrderCursor } from './kv-order.js';
import type { SnapshotInPieces } from './state-machine.js';
import type { Leases } from './store/leases.js';

// level 0:  snapshot := magic u32, count u32, count × ( key u16, value u16, key, value ), keys ascending
// level 1:  snapshot := magic u32, count u32, level u32, leases u32, revision u64, now u64,
//                       leases × ( number u64, ends u64, ttl u64 ), numbers ascending,
//                       count × ( key u16, value u16, meta, key, value ), keys ascending
//           meta     := type u8 (0) and revision u56 as two u32 words, lower first; hold kind u8 and hold u56 likewise
// level 2:  the same with parts u32 before the leases, the type of the value in the meta, and behind the keys
//                       parts × ( name u16 with PART_FLAG, value u16, name, value ), names ascending
//           count has keys and parts
export const SNAPSHOT_MAGIC = 0x4b565331; // "KVS1"
export const LEVELLED_MAGIC = 0x4b565332; // "KVS2"
export const SNAPSHOT_HEADER_BYTES = 8;
export const LEVELLED_HEADER_BYTES = 32;
export const SNAPSHOT_ENTRY_BYTES = 4;

/** Bytes before the leases. */
export function headerBytes(level: number): number {
  return level === 0 ? SNAPSHOT_HEADER_BYTES : level === 1 ? LEVELLED_HEADER_BYTES : LEVELLED_HEADER_BYTES + 4;
}

/** Bytes of a key's entry besides the key and its value. */
export function entryBytes(level: number): number {
  return SNAPSHOT_ENTRY_BYTES + (level > 0 ? META_BYTES : 0);
}

/** Writes an entry of a snapshot; returns where it ends. */
export function writeEntry(heap: RecordHeap, id: number, level: number, target: Uint8Array, offset: number): number {
  const keyLength = heap.keyLength(id);
  const bytes = heap.keyBytes(id) + heap.valueLength(id);
  writeU16(target, offset, keyLength);
  writeU16(target, offset + 2, heap.valueLength(id));
  let at = offset + SNAPSHOT_ENTRY_BYTES;
  if (level > 0 && (keyLength & PART_FLAG) === 0) {
    heap.copyMeta(id, target, at);
    at += META_BYTES;
  }
  copyBytes(heap.valueBytes(id), heap.keyOffset(id), target, at, bytes);
  return at + bytes;
}

/** What passing over a marked entry counts as, bytes: about as much time as copying them. */
const PASSED_BYTES = 64;
const NO_BYTES: Uint8Array = new Uint8Array(0);

export class StoreSnapshot {
  /** A snapshot of what the store holds is being taken: `changes` and `comes` are to be called. */
  isUnderway = false;
  /** A snapshot is being taken, maybe of what the store held before it was emptied. */
  #isOpen = false;
  /** Number of the snapshot that began last. */
  #number = 0;
  /** What it walks through. */
  #heap: RecordHeap;
  #order: OrderIndex;
  /** What the store holds. */
  #ofStore: { readonly heap: RecordHeap; readonly order: OrderIndex };
  #leases: Leases;
  /** What comes before the leases. */
  #head = NO_BYTES;
  #level = 0;
  #length = 0;
  /** By id: 1 if the entry is not what it was at the beginning. */
  #marks = NO_BYTES;
  /** Old records; undefined before the first one, because a heap begins with a whole segment. */
  #kept: RecordHeap | undefined;
  #keptOrder: OrderIndex | undefined;
  /** Everything up to this key is written; length -1: nothing is. */
  readonly #reached = new Uint8Array(KV_KEY_BYTES_MAX);
  #reachedLength = -1;
  #written = 0;
  /** Holds the present piece. */
  #piece = NO_BYTES;
  readonly #cursor: OrderCursor = { block: 0, position: 0 };
  readonly #keptCursor: OrderCursor = { block: 0, position: 0 };

  constructor(heap: RecordHeap, order: OrderIndex, leases: Leases) {
    this.#heap = heap;
    this.#order = order;
    this.#ofStore = { heap, order };
    this.#leases = leases;
  }

  /** From now on snapshots are taken of these. One that is in progress is over. */
  of(heap: RecordHeap, order: OrderIndex, leases: Leases): void {
    this.#over();
    this.turnTo(heap, order);
    this.#leases = leases;
  }

  /**
   * The store has other keys now: it was emptied, or that was undone. A snapshot in progress goes on with those of its
   * beginning, which nobody changes unless the store has them again.
   */
  turnTo(heap: RecordHeap, order: OrderIndex): void {
    this.#ofStore = { heap, order };
    this.isUnderway = this.#isOpen && heap === this.#heap;
    if (!this.#isOpen) this.#letGo();
  }

  /**
   * Begins a snapshot, which takes the place of one that is in progress.
   * @param head what comes before the leases
   * @param length of all pieces together
   */
  begin(head: Uint8Array, level: number, length: number): SnapshotInPieces {
    this.#over();
    this.#head = head;
    this.#level = level;
    this.#length = length;
    this.#marks = new Uint8Array(this.#heap.idCount);
    this.#reachedLength = -1;
    this.#written = 0;
    this.#leases.copy.begin();
    this.isUnderway = this.#isOpen = true;
    const number = ++this.#number;
    return {
      length,
      step: (maxBytes) => (this.#isOpen && number === this.#number ? this.#step(maxBytes) : NO_BYTES),
      abort: () => {
        if (number === this.#number) this.#over();
      },
    };
  }

  #over(): void {
    if (!this.#isOpen) return;
    this.isUnderway = this.#isOpen = false;
    this.#leases.copy.over();
    this.#letGo();
  }

  /** Holds no more than what the store holds. */
  #letGo(): void {
    this.#heap = this.#ofStore.heap;
    this.#order = this.#ofStore.order;
    this.#head = NO_BYTES;
    this.#marks = NO_BYTES;
    this.#kept = undefined;
    this.#keptOrder = undefined;
  }

  /** The entry `id` is about to be changed or removed. */
  changes(id: number): void {
    if (this.#marks[id] === 1) return;
    const heap = this.#heap;
    if (this.#reachedLength >= 0 && heap.compareKey(id, this.#reached, 0, this.#reachedLength) <= 0) return;
    this.#marks[id] = 1;
    const bytes = heap.valueBytes(id);
    const key = heap.keyOffset(id);
    const keyLength = heap.keyLength(id);
    const kept = (this.#kept ??= new RecordHeap());
    this.#keptOrder ??= new OrderIndex(kept);
    this.#keptOrder.insert(kept.addFrom(heap, id), bytes, key, keyLength);
  }

  /** The entry `id` is new. */
  comes(id: number): void {
    if (id >= this.#marks.length) {
      const marks = new Uint8Array(2 * this.#marks.length + 1024);
      marks.set(this.#marks);
      this.#marks = marks;
    }
    this.#marks[id] = 1;
  }

  #step(maxBytes: number): Uint8Array {
    const head = this.#head;
    const leases = this.#leases.copy;
    const room = Math.max(1, maxBytes) + entryBytes(this.#level) + KV_KEY_BYTES_MAX + KV_VALUE_BYTES_MAX;
    if (this.#piece.length < room) this.#piece = new Uint8Array(room);
    const ofHead = Math.max(0, Math.min(head.length - this.#written, Math.max(1, maxBytes)));
    for (let i = 0; i < ofHead; i++) this.#piece[i] = head[this.#written + i]!;
    let filled = ofHead;
    if (this.#written + ofHead >= head.length) {
      if (leases.left > 0) filled = leases.write(this.#piece, filled, maxBytes);
      if (leases.left === 0) filled = this.#walk(filled, maxBytes);
    }
    this.#written += filled;
    if (this.#written === this.#length) this.#over();
    return this.#piece.subarray(0, filled);
  }

  /** Writes entries to the piece from `from` on; returns its length. */
  #walk(from: number, maxBytes: number): number {
    const heap = this.#heap;
    this.#seek(heap, this.#order, this.#cursor);
    const kept = this.#kept;
    if (kept !== undefined) this.#seek(kept, this.#keptOrder!, this.#keptCursor);
    let at = from;
    let passed = 0;
    let lastHeap = heap;
    let last = -1;
    let id = this.#order.idAt(this.#cursor);
    let old = kept === undefined ? -1 : this.#keptOrder!.idAt(this.#keptCursor);
    while ((id >= 0 || old >= 0) && at + passed < maxBytes) {
      const order =
        id < 0
          ? 1
          : old < 0
            ? -1
            : heap.compareKey(id, kept!.valueBytes(old), kept!.keyOffset(old), kept!.keyLength(old));
      if (order >= 0) {
        at = writeEntry(kept!, old, this.#level, this.#piece, at);
        lastHeap = kept!;
        last = old;
        this.#keptOrder!.advance(this.#keptCursor);
        old = this.#keptOrder!.idAt(this.#keptCursor);
      } else {
        if (this.#marks[id] === 0) at = writeEntry(heap, id, this.#level, this.#piece, at);
        else passed += PASSED_BYTES;
        lastHeap = heap;
        last = id;
      }
      if (order > 0) continue;
      this.#order.advance(this.#cursor);
      id = this.#order.idAt(this.#cursor);
    }
    if (last >= 0) {
      lastHeap.copyKey(last, this.#reached, 0);
      this.#reachedLength = lastHeap.keyLength(last);
    }
    return at;
  }

  /** Sets the cursor behind what is written. */
  #seek(heap: RecordHeap, order: OrderIndex, cursor: OrderCursor): void {
    order.seek(this.#reached, 0, Math.max(0, this.#reachedLength), cursor);
    const id = order.idAt(cursor);
    if (id >= 0 && this.#reachedLength >= 0 && heap.keyEquals(id, this.#reached, 0, this.#reachedLength))
      order.advance(cursor);
  }
}
