/**
 * A snapshot of the key-value store that is taken in pieces while the store changes.
 *
 * It walks through the keys in their order. What a write would destroy before the walk has come there is kept: the old
 * record of a key goes to a heap of its own, once, in the same order. Entries that differ from the beginning, because
 * they were changed or came later, are marked, and the walk passes over them. So the walk merges two ordered lists, and
 * its bytes are those of a snapshot at the beginning.
 */
import { copyBytes } from '../wire/copy.js';
import { writeI32, writeU16 } from '../wire/u64.js';
import { RecordHeap } from './kv-heap.js';
import { KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX } from './kv-layout.js';
import { OrderIndex, type OrderCursor } from './kv-order.js';
import type { SnapshotInPieces } from './state-machine.js';

// snapshot := magic u32, count u32, count × ( key u16, value u16, key, value ), keys ascending
export const SNAPSHOT_MAGIC = 0x4b565331; // "KVS1"
export const SNAPSHOT_HEADER_BYTES = 8;
export const SNAPSHOT_ENTRY_BYTES = 4;

/** What passing over a marked entry counts as, bytes: about as much time as copying them. */
const PASSED_BYTES = 64;
const NO_BYTES = new Uint8Array(0);

export class StoreSnapshot implements SnapshotInPieces {
  readonly #heap: RecordHeap;
  readonly #order: OrderIndex;
  /** By id: 1 if the entry is not what it was at the beginning. */
  #marks: Uint8Array;
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

  constructor(
    heap: RecordHeap,
    order: OrderIndex,
    private readonly count: number,
    readonly length: number,
    /** Called when it is over. */
    private readonly ended: () => void,
  ) {
    this.#heap = heap;
    this.#order = order;
    this.#marks = new Uint8Array(heap.idCount);
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
    const old = kept.add(bytes, key, keyLength, bytes, key + keyLength, heap.valueLength(id));
    this.#keptOrder.insert(old, bytes, key, keyLength);
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

  step(maxBytes: number): Uint8Array {
    if (this.#written === this.length) return NO_BYTES;
    const room = Math.max(1, maxBytes) + SNAPSHOT_ENTRY_BYTES + KV_KEY_BYTES_MAX + KV_VALUE_BYTES_MAX;
    if (this.#piece.length < room) this.#piece = new Uint8Array(room);
    const end = this.#written === 0 ? this.#writeHeader() : 0;
    const filled = this.#walk(end, maxBytes);
    this.#written += filled;
    if (this.#written === this.length) this.ended();
    return this.#piece.subarray(0, filled);
  }

  abort(): void {
    this.ended();
  }

  #writeHeader(): number {
    writeI32(this.#piece, 0, SNAPSHOT_MAGIC);
    writeI32(this.#piece, 4, this.count);
    return SNAPSHOT_HEADER_BYTES;
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
        at = this.#write(kept!, old, at);
        lastHeap = kept!;
        last = old;
        this.#keptOrder!.advance(this.#keptCursor);
        old = this.#keptOrder!.idAt(this.#keptCursor);
      } else {
        if (this.#marks[id] === 0) at = this.#write(heap, id, at);
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

  #write(heap: RecordHeap, id: number, at: number): number {
    const piece = this.#piece;
    const bytes = heap.valueBytes(id);
    const keyLength = heap.keyLength(id);
    const valueLength = heap.valueLength(id);
    writeU16(piece, at, keyLength);
    writeU16(piece, at + 2, valueLength);
    copyBytes(bytes, heap.keyOffset(id), piece, at + SNAPSHOT_ENTRY_BYTES, keyLength + valueLength);
    return at + SNAPSHOT_ENTRY_BYTES + keyLength + valueLength;
  }
}
