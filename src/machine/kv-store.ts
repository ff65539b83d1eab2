/**
 * The state of the key-value machine: an ordered map from key bytes to value bytes, within `maxKeys` and `maxBytes`.
 *
 * The contents alone decide whether a write fits (number of keys; bytes of keys and values plus a fixed charge for each
 * entry), never the memory layout. So all replicas decide alike. The store has three parts: records (kv-heap), the hash
 * table that finds them (kv-table) and their order (kv-order).
 */
import { KvError, SnapshotError } from './machine-error.js';
import { RecordHeap } from './kv-heap.js';
import { KV_ENTRY_OVERHEAD_BYTES, KV_KEY_BYTES_MAX, KV_KEY_BYTES_MIN, KV_VALUE_BYTES_MAX } from './kv-layout.js';
import { OrderIndex, type OrderCursor } from './kv-order.js';
import { SNAPSHOT_ENTRY_BYTES, SNAPSHOT_HEADER_BYTES, SNAPSHOT_MAGIC, StoreSnapshot } from './kv-snapshot.js';
import { KeyTable } from './kv-table.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { compareBytes } from './bytes.js';

/**
 * All replicas of a cluster must have the same `maxKeys` and `maxBytes`: they decide which writes are answered `full`.
 */
export interface KvOptions {
  /** Default 1,048,576. */
  maxKeys?: number;
  /** Bytes of keys and values plus 32 bytes for each entry; default 256 MiB. Memory use is up to about twice this. */
  maxBytes?: number;
  /**
   * Sizes the hash table in advance, which saves the work of growing. Local to a replica: results do not depend on it.
   * Default 1,024.
   */
  expectedKeys?: number;
}

const MAX_KEYS_DEFAULT = 1 << 20;
const MAX_KEYS_LIMIT = 1 << 27;
const MAX_BYTES_DEFAULT = 256 * 1024 * 1024;
const MAX_BYTES_LIMIT = 1 << 30;
const EXPECTED_KEYS_DEFAULT = 1024;

export class KvStore {
  readonly maxKeys: number;
  readonly maxBytes: number;
  readonly #expectedKeys: number;
  #heap!: RecordHeap;
  #table!: KeyTable;
  #order!: OrderIndex;
  #contentBytes = 0;
  /** The snapshot that is being taken in pieces. */
  #inProgress: StoreSnapshot | undefined;

  /** Throws `KvError` (`kv-option`) for an unknown option or a value out of range. */
  constructor(options: KvOptions = {}) {
    const known = ['maxKeys', 'maxBytes', 'expectedKeys'];
    for (const name of Object.keys(options)) {
      if (!known.includes(name))
        throw new KvError('kv-option', `unknown option "${name}"; the options are ${known.join(', ')}`);
    }
    this.maxKeys = option('maxKeys', options.maxKeys, MAX_KEYS_DEFAULT, MAX_KEYS_LIMIT);
    this.maxBytes = option('maxBytes', options.maxBytes, MAX_BYTES_DEFAULT, MAX_BYTES_LIMIT);
    const expectedKeys = option(
      'expectedKeys',
      options.expectedKeys,
      Math.min(EXPECTED_KEYS_DEFAULT, this.maxKeys),
      MAX_KEYS_LIMIT,
    );
    this.#expectedKeys = Math.min(expectedKeys, this.maxKeys);
    this.#clear(this.#expectedKeys);
  }

  get keyCount(): number {
    return this.#table.count;
  }

  /** The bytes that count towards `maxBytes`. */
  get contentBytes(): number {
    return this.#contentBytes;
  }

  /** Memory held for records, including garbage and reserve. */
  get heldBytes(): number {
    return this.#heap.heldBytes;
  }

  /** Keys and values by entry id. Read-only for callers; ids are valid until the next write. */
  get records(): Pick<
    RecordHeap,
    'keyLength' | 'valueLength' | 'copyKey' | 'copyValue' | 'compareKey' | 'valueEquals' | 'valueBytes' | 'valueOffset'
  > {
    return this.#heap;
  }

  /** The entry id of a key, or -1. */
  find(key: Uint8Array, offset: number, length: number): number {
    return this.#table.find(key, offset, length);
  }

  /**
   * Writes the value of a key; `id` must be the result of `find` for that key. False if the store has no room. Nothing
   * is then changed.
   */
  put(
    id: number,
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): boolean {
    if (id >= 0) {
      const growth = valueLength - this.#heap.valueLength(id);
      // A store that was restored at its limits may still shrink.
      if (growth > 0 && this.#contentBytes + growth > this.maxBytes) return false;
      this.#inProgress?.changes(id);
      this.#heap.setValue(id, value, valueOffset, valueLength);
      this.#contentBytes += growth;
      return true;
    }
    const size = KV_ENTRY_OVERHEAD_BYTES + keyLength + valueLength;
    if (this.#table.count >= this.maxKeys || this.#contentBytes + size > this.maxBytes) return false;
    const added = this.#heap.add(key, keyOffset, keyLength, value, valueOffset, valueLength);
    this.#inProgress?.comes(added);
    this.#order.insert(added, key, keyOffset, keyLength);
    this.#table.add(added, key, keyOffset, keyLength);
    this.#contentBytes += size;
    return true;
  }

  /** Removes the entry `id` with this key. */
  remove(id: number, key: Uint8Array, offset: number, length: number): void {
    this.#inProgress?.changes(id);
    this.#contentBytes -= KV_ENTRY_OVERHEAD_BYTES + length + this.#heap.valueLength(id);
    this.#order.remove(key, offset, length);
    this.#table.remove(key, offset, length);
    this.#heap.remove(id);
  }

  /** Sets the cursor to the first key at or above the given one. */
  seek(key: Uint8Array, offset: number, length: number, cursor: OrderCursor): void {
    this.#order.seek(key, offset, length, cursor);
  }

  /** The entry id at the cursor, or -1 at the end. Moves the cursor on by one. */
  next(cursor: OrderCursor): number {
    const id = this.#order.idAt(cursor);
    if (id >= 0) this.#order.advance(cursor);
    return id;
  }

  /** Depends on the contents only, not on their history. */
  snapshot(): Uint8Array {
    const bytes = new Uint8Array(this.#snapshotBytes());
    writeI32(bytes, 0, SNAPSHOT_MAGIC);
    writeI32(bytes, 4, this.#table.count);
    let at = SNAPSHOT_HEADER_BYTES;
    const cursor = { block: 0, position: 0 };
    for (let id = this.next(cursor); id >= 0; id = this.next(cursor)) {
      const keyLength = this.#heap.keyLength(id);
      const valueLength = this.#heap.valueLength(id);
      writeU16(bytes, at, keyLength);
      writeU16(bytes, at + 2, valueLength);
      at += SNAPSHOT_ENTRY_BYTES;
      this.#heap.copyKey(id, bytes, at);
      this.#heap.copyValue(id, bytes, at + keyLength);
      at += keyLength + valueLength;
    }
    return bytes;
  }

  /** Takes the place of one that is in progress. */
  beginSnapshot(): StoreSnapshot {
    const begun: StoreSnapshot = new StoreSnapshot(
      this.#heap,
      this.#order,
      this.#table.count,
      this.#snapshotBytes(),
      () => {
        if (this.#inProgress === begun) this.#inProgress = undefined;
      },
    );
    this.#inProgress = begun;
    return begun;
  }

  /**
   * Replaces the contents. Throws `SnapshotError`, with the contents unchanged, if the bytes are not a snapshot or
   * exceed the limits.
   */
  restore(snapshot: Uint8Array): void {
    const count = this.#validate(snapshot);
    this.#clear(Math.max(count, this.#expectedKeys));
    let at = SNAPSHOT_HEADER_BYTES;
    for (let i = 0; i < count; i++) {
      const keyLength = readU16(snapshot, at);
      const valueLength = readU16(snapshot, at + 2);
      at += SNAPSHOT_ENTRY_BYTES;
      this.put(-1, snapshot, at, keyLength, snapshot, at + keyLength, valueLength);
      at += keyLength + valueLength;
    }
  }

  #clear(expectedKeys: number): void {
    this.#inProgress = undefined;
    this.#heap = new RecordHeap();
    this.#table = new KeyTable(this.#heap, expectedKeys);
    this.#order = new OrderIndex(this.#heap);
    this.#contentBytes = 0;
  }

  #snapshotBytes(): number {
    const { count } = this.#table;
    return SNAPSHOT_HEADER_BYTES + this.#contentBytes + count * (SNAPSHOT_ENTRY_BYTES - KV_ENTRY_OVERHEAD_BYTES);
  }

  /** Number of entries of a valid snapshot. */
  #validate(snapshot: Uint8Array): number {
    if (snapshot.length < SNAPSHOT_HEADER_BYTES) throw invalid(`${snapshot.length} bytes are less than a header`);
    if (readI32(snapshot, 0) !== SNAPSHOT_MAGIC) throw invalid('it does not begin with "KVS1"');
    const count = readI32(snapshot, 4) >>> 0;
    if (count > this.maxKeys) throw invalid(`${count} keys are more than maxKeys ${this.maxKeys}`);
    let at = SNAPSHOT_HEADER_BYTES;
    let contentBytes = 0;
    let previousAt = 0;
    let previousLength = 0;
    for (let i = 0; i < count; i++) {
      if (at + SNAPSHOT_ENTRY_BYTES > snapshot.length) throw invalid(`it ends in entry ${i} of ${count}`);
      const keyLength = readU16(snapshot, at);
      const valueLength = readU16(snapshot, at + 2);
      at += SNAPSHOT_ENTRY_BYTES;
      if (keyLength < KV_KEY_BYTES_MIN || keyLength > KV_KEY_BYTES_MAX)
        throw invalid(`entry ${i} has a key of ${keyLength} bytes`);
      if (valueLength > KV_VALUE_BYTES_MAX) throw invalid(`entry ${i} has a value of ${valueLength} bytes`);
      if (at + keyLength + valueLength > snapshot.length) throw invalid(`it ends in entry ${i} of ${count}`);
      if (i > 0 && compareBytes(snapshot, previousAt, previousLength, snapshot, at, keyLength) >= 0) {
        throw invalid(`the key of entry ${i} is not above the one before it`);
      }
      previousAt = at;
      previousLength = keyLength;
      contentBytes += KV_ENTRY_OVERHEAD_BYTES + keyLength + valueLength;
      at += keyLength + valueLength;
    }
    if (at !== snapshot.length) throw invalid(`${snapshot.length - at} bytes follow the last entry`);
    if (contentBytes > this.maxBytes)
      throw invalid(`${contentBytes} bytes of contents are more than maxBytes ${this.maxBytes}`);
    return count;
  }
}

function invalid(problem: string): SnapshotError {
  return new SnapshotError('kv', problem);
}

function option(name: string, value: number | undefined, byDefault: number, limit: number): number {
  if (value === undefined) return byDefault;
  if (!Number.isInteger(value) || value < 1 || value > limit) {
    throw new KvError('kv-option', `${name} must be an integer from 1 to ${limit}, not ${String(value)}`);
  }
  return value;
}
