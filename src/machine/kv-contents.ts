/**
 * What a store holds at one time: records (kv-heap), the tables that find them (kv-table), their order (kv-order), the
 * order of scores (store/rank-order), and when keys end. All of it can be put aside, and another one taken, when the store is emptied.
 *
 * Every record is in the heap, in one table and in the order, and counts in `bytes`; every member of a sorted set is in
 * `ranks`; every key that ends is in `due` or in `attached`. What is numbered, undone or shown to others is the store's business (kv-store).
 */
import { RecordHeap } from './kv-heap.js';
import { Hold, KV_ENTRY_OVERHEAD_BYTES, NAME_BYTES_MASK, PART_FLAG } from './kv-layout.js';
import { OrderIndex, type OrderCursor } from './kv-order.js';
import { KeyTable } from './kv-table.js';
import { NumberOrder } from './store/number-order.js';
import { PartKind } from './store/parts.js';
import { RankOrder } from './store/rank-order.js';

export class Contents {
  readonly heap = new RecordHeap();
  /** Finds keys. */
  readonly table: KeyTable;
  /** Finds parts. */
  readonly parts: KeyTable;
  /** Keys, and behind them parts. */
  readonly order: OrderIndex;
  /** Members of sorted sets, by score. */
  readonly ranks: RankOrder;
  /** Keys with an end of their own, by end and revision. */
  readonly due = new NumberOrder();
  /** Keys of leases, by the lease's number and the key's revision. */
  readonly attached = new NumberOrder();
  /** What counts towards `maxBytes`. */
  bytes = 0;
  /** Parts that are graves. */
  graves = 0;

  constructor(expectedKeys: number, expectedParts = 0) {
    this.table = new KeyTable(this.heap, expectedKeys);
    this.parts = new KeyTable(this.heap, expectedParts);
    this.order = new OrderIndex(this.heap);
    this.ranks = new RankOrder(this.heap);
  }

  /** The entry id of a key or a part, or -1. */
  find(key: Uint8Array, offset: number, length: number): number {
    return this.tableOf(length).find(key, offset, length);
  }

  add(
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): number {
    const added = this.heap.add(key, keyOffset, keyLength, value, valueOffset, valueLength);
    this.order.insert(added, key, keyOffset, keyLength);
    this.count(added, key, keyOffset, keyLength, valueLength);
    return added;
  }

  /**
   * Adds an entry whose key is above all others; false, with nothing changed, if it is not.
   * @param meta where it is in `bytes`; below 0: the entry has none, as a part
   */
  load(bytes: Uint8Array, key: number, keyLength: number, valueLength: number, meta: number): boolean {
    const { heap } = this;
    const last = this.order.last();
    if (last >= 0 && heap.compareKey(last, bytes, key, keyLength) >= 0) return false;
    const added = heap.add(bytes, key, keyLength, bytes, key + (keyLength & NAME_BYTES_MASK), valueLength);
    this.order.append(added);
    this.count(added, bytes, key, keyLength, valueLength);
    if (meta >= 0 && (keyLength & PART_FLAG) === 0) {
      heap.setMeta(added, bytes, meta);
      this.hold(added);
    }
    return true;
  }

  private count(id: number, key: Uint8Array, keyOffset: number, keyLength: number, valueLength: number): void {
    this.tableOf(keyLength).add(id, key, keyOffset, keyLength);
    this.bytes += KV_ENTRY_OVERHEAD_BYTES + (keyLength & NAME_BYTES_MASK) + valueLength;
    if (isGrave(key, keyOffset, keyLength)) this.graves++;
    if (isRanked(key, keyOffset, keyLength)) this.ranks.insert(id);
  }

  setValue(id: number, value: Uint8Array, valueOffset: number, valueLength: number): void {
    const { heap } = this;
    this.bytes += valueLength - heap.valueLength(id);
    if (!heap.isPart(id) || !isRanked(heap.valueBytes(id), heap.keyOffset(id), PART_FLAG))
      return heap.setValue(id, value, valueOffset, valueLength);
    this.ranks.remove(id);
    heap.setValue(id, value, valueOffset, valueLength);
    this.ranks.insert(id);
  }

  /** `letGo` was called before, if the key could have an end. */
  drop(id: number, key: Uint8Array, offset: number, length: number): void {
    this.bytes -= KV_ENTRY_OVERHEAD_BYTES + (length & NAME_BYTES_MASK) + this.heap.valueLength(id);
    if (isGrave(key, offset, length)) this.graves--;
    if (isRanked(key, offset, length)) this.ranks.remove(id);
    this.order.remove(key, offset, length);
    this.tableOf(length).remove(key, offset, length);
    this.heap.remove(id);
  }

  /** The same for `count` parts that follow each other in the order from the cursor on, no graves among them. */
  dropParts(ids: Int32Array, count: number, cursor: OrderCursor): void {
    const { heap, parts, ranks } = this;
    this.order.removeRun(cursor, count);
    for (let i = 0; i < count; i++) {
      const id = ids[i]!;
      this.bytes -= KV_ENTRY_OVERHEAD_BYTES + heap.keyBytes(id) + heap.valueLength(id);
      if (isRanked(heap.valueBytes(id), heap.keyOffset(id), PART_FLAG)) ranks.remove(id);
      parts.remove(heap.valueBytes(id), heap.keyOffset(id), heap.keyLength(id));
      heap.remove(id);
    }
  }

  /** Notes the end of an entry, if it has one. */
  hold(id: number): void {
    const { heap } = this;
    const kind = heap.holdKind(id);
    if (kind === Hold.none) return;
    (kind === Hold.until ? this.due : this.attached).insert(heap.hold(id), heap.revision(id), id);
  }

  /** The end of an entry, if it has one, no longer counts. */
  letGo(id: number): void {
    const { heap } = this;
    const kind = heap.holdKind(id);
    if (kind === Hold.none) return;
    (kind === Hold.until ? this.due : this.attached).remove(heap.hold(id), heap.revision(id));
  }

  /** The key or part at the cursor, which moves on by one; -1 at the end. */
  next(cursor: OrderCursor): number {
    const id = this.order.idAt(cursor);
    if (id >= 0) this.order.advance(cursor);
    return id;
  }

  private tableOf(length: number): KeyTable {
    return (length & PART_FLAG) === 0 ? this.table : this.parts;
  }
}

function isGrave(name: Uint8Array, offset: number, length: number): boolean {
  return (length & PART_FLAG) !== 0 && name[offset] === PartKind.grave;
}

function isRanked(name: Uint8Array, offset: number, length: number): boolean {
  return (length & PART_FLAG) !== 0 && name[offset] === PartKind.ranked;
}
