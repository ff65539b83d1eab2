/**
 * Reads a snapshot of the key-value store that comes in pieces, checks it, and hands its parts to a store that is built
 * apart from the present one. A piece may end anywhere, so the beginning of a part whose rest is in the next piece is
 * kept. The layout is in kv-snapshot.ts.
 */
import { readI32, readIndex, readU16 } from '../wire/u64.js';
import {
  Hold,
  KV_ENTRY_OVERHEAD_BYTES,
  KV_KEY_BYTES_MAX,
  KV_KEY_BYTES_MIN,
  KV_VALUE_BYTES_MAX,
  NAME_BYTES_MASK,
  PART_FLAG,
  ValueType,
} from './kv-layout.js';
import {
  entryBytes,
  headerBytes,
  LEVELLED_HEADER_BYTES,
  LEVELLED_MAGIC,
  SNAPSHOT_ENTRY_BYTES,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_MAGIC,
} from './kv-snapshot.js';
import { META_BYTES } from './kv-heap.js';
import { SnapshotError } from './machine-error.js';
import type { RestoreInPieces } from './state-machine.js';
import { TTL_MS_MAX } from './store/layout.js';
import { LEASE_BYTES } from './store/leases.js';
import { GRAVE_NAME_BYTES } from './store/parts.js';
import { PartsCheck } from './store/parts-check.js';

const TWO_32 = 4294967296;
/** The agreed time is below 2⁶⁴ ns. */
const NOW_MS_MAX = 2 ** 64 / 1e6;
/** So that it can still grow for ever, and stays exact. */
const REVISION_MAX = 2 ** 52;

/** What a snapshot is measured by. */
export interface RestoreBounds {
  readonly maxKeys: number;
  readonly maxBytes: number;
  /** The highest level that is known. */
  readonly maxLevel: number;
}

/** The store that is being built. Everything that it gets is checked. */
export interface RestoredStore {
  /** @param keys that will come, at most; parts likewise */
  begin(keys: number, parts: number, level: number, revision: number, nowMs: number): void;
  lease(bytes: Uint8Array, offset: number): void;
  hasLease(number: number): boolean;
  /** Whether a key that ends with the same lease, or at the same time, has this revision. @param kind of Hold */
  hasHeld(kind: number, hold: number, revision: number): boolean;
  /**
   * False, with nothing changed, if the key is not above the one before. The name of a part has a length with PART_FLAG.
   * @param meta where it is in `bytes`; at level 0, and for parts, there is none
   */
  entry(bytes: Uint8Array, key: number, keyLength: number, valueLength: number, meta: number): boolean;
  /** It is complete. */
  end(): void;
}

const Part = { header: 0, lease: 1, entry: 2, nothing: 3 } as const;

export class StoreRestore implements RestoreInPieces {
  #store: RestoredStore | undefined;
  /** What comes next. */
  #part: number = Part.header;
  #level = 0;
  #revision = 0;
  #nowMs = 0;
  /** What the header promises, and what has come of it. */
  #leases = 0;
  #leasesTaken = 0;
  #entries = 0;
  #entriesTaken = 0;
  #keys = 0;
  readonly #collections = new PartsCheck();
  #lastLease = 0;
  /** What counts towards `maxBytes`. */
  #contentBytes = 0;
  /** Bytes before what comes next. */
  #passed = 0;
  /** The beginning of a part whose rest is in the next piece. */
  #carry: Uint8Array | undefined;
  #carried = 0;

  constructor(
    private readonly bounds: RestoreBounds,
    /** Bytes of the whole snapshot. */
    private readonly length: number,
    store: RestoredStore,
  ) {
    this.#store = store;
  }

  step(piece: Uint8Array): void {
    try {
      this.#take(piece);
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  end(): void {
    const store = this.#open;
    const missing =
      this.#part === Part.header
        ? `${this.#carried} bytes are less than a header`
        : this.#part === Part.lease
          ? 'it ends in its leases'
          : this.#part === Part.entry
            ? `it ends in entry ${this.#entriesTaken} of ${this.#entries}`
            : this.#collections.missing();
    this.abort();
    if (missing !== undefined) throw invalid(missing);
    store.end();
  }

  abort(): void {
    this.#store = undefined;
    this.#carry = undefined;
  }

  get #open(): RestoredStore {
    if (this.#store === undefined) throw invalid('restoring it is over');
    return this.#store;
  }

  #take(piece: Uint8Array): void {
    const store = this.#open;
    let at = 0;
    while (this.#carried > 0 && at < piece.length) {
      const carry = this.#carry!;
      const missing = this.#bytesOfNext(carry, 0, this.#carried) - this.#carried;
      const there = Math.min(missing, piece.length - at);
      carry.set(piece.subarray(at, at + there), this.#carried);
      this.#carried += there;
      at += there;
      // With its first bytes a part may be known to be longer.
      if (there < missing || this.#bytesOfNext(carry, 0, this.#carried) > this.#carried) continue;
      const whole = this.#carried;
      this.#carried = 0;
      this.#add(store, carry, 0, whole);
    }
    while (at < piece.length) {
      const left = piece.length - at;
      const bytes = this.#bytesOfNext(piece, at, left);
      if (bytes > left) {
        this.#carry ??= new Uint8Array(entryBytes(1) + KV_KEY_BYTES_MAX + KV_VALUE_BYTES_MAX);
        this.#carry.set(piece.subarray(at));
        this.#carried = left;
        return;
      }
      this.#add(store, piece, at, bytes);
      at += bytes;
    }
  }

  /** Length of what comes next, as far as it can be told from the `there` bytes of it that are at `bytes[at]`. */
  #bytesOfNext(bytes: Uint8Array, at: number, there: number): number {
    const left = this.length - this.#passed;
    switch (this.#part) {
      case Part.header: {
        const isLevelled = there >= 4 && readI32(bytes, at) === LEVELLED_MAGIC;
        const level = isLevelled && there >= SNAPSHOT_HEADER_BYTES + 4 ? readI32(bytes, at + 8) >>> 0 : 1;
        const header = isLevelled ? headerBytes(Math.max(1, level)) : SNAPSHOT_HEADER_BYTES;
        if (left < header) throw invalid(`${left} bytes are less than a header`);
        return header;
      }
      case Part.lease:
        return LEASE_BYTES;
      case Part.entry:
        return this.#bytesOfEntry(bytes, at, there, left);
      default:
        throw invalid(`${left} bytes follow the last entry`);
    }
  }

  #bytesOfEntry(bytes: Uint8Array, at: number, there: number, left: number): number {
    const entry = this.#entriesTaken;
    const isPart = entry >= this.#keys;
    const fixed = isPart ? SNAPSHOT_ENTRY_BYTES : entryBytes(this.#level);
    if (left < fixed) throw invalid(`it ends in entry ${entry} of ${this.#entries}`);
    if (there < SNAPSHOT_ENTRY_BYTES) return SNAPSHOT_ENTRY_BYTES;
    const nameLength = readU16(bytes, at);
    const keyLength = isPart ? nameLength & NAME_BYTES_MASK : nameLength;
    const valueLength = readU16(bytes, at + 2);
    if (isPart && (nameLength & PART_FLAG) === 0) throw invalid(`entry ${entry} is a key behind parts`);
    if (keyLength < (isPart ? GRAVE_NAME_BYTES : KV_KEY_BYTES_MIN) || keyLength > KV_KEY_BYTES_MAX)
      throw invalid(`entry ${entry} has a key of ${keyLength} bytes`);
    if (valueLength > KV_VALUE_BYTES_MAX) throw invalid(`entry ${entry} has a value of ${valueLength} bytes`);
    const length = fixed + keyLength + valueLength;
    if (length > left) throw invalid(`it ends in entry ${entry} of ${this.#entries}`);
    return length;
  }

  #add(store: RestoredStore, bytes: Uint8Array, at: number, length: number): void {
    this.#passed += length;
    if (this.#part === Part.header) this.#begin(store, bytes, at);
    else if (this.#part === Part.lease) this.#addLease(store, bytes, at);
    else this.#addEntry(store, bytes, at, length);
    this.#part =
      this.#leasesTaken < this.#leases ? Part.lease : this.#entriesTaken < this.#entries ? Part.entry : Part.nothing;
  }

  #begin(store: RestoredStore, bytes: Uint8Array, at: number): void {
    const magic = readI32(bytes, at);
    if (magic !== SNAPSHOT_MAGIC && magic !== LEVELLED_MAGIC) throw invalid('it does not begin with "KVS1" or "KVS2"');
    this.#entries = readI32(bytes, at + 4) >>> 0;
    let parts = 0;
    if (magic === LEVELLED_MAGIC) {
      const { maxLevel } = this.bounds;
      this.#level = readI32(bytes, at + 8) >>> 0;
      if (this.#level < 1 || this.#level > maxLevel)
        throw invalid(`it is of level ${this.#level}, and this version knows those up to ${maxLevel}`);
      this.#leases = readI32(bytes, at + 12) >>> 0;
      this.#revision = readIndex(bytes, at + 16);
      this.#nowMs = readIndex(bytes, at + 24);
      if (!(this.#revision >= 1 && this.#revision < REVISION_MAX)) throw invalid('its revision cannot be');
      if (!(this.#nowMs >= 0 && this.#nowMs <= NOW_MS_MAX)) throw invalid('its time cannot be');
      if (this.#level > 1) parts = readI32(bytes, at + LEVELLED_HEADER_BYTES) >>> 0;
      if (parts > this.#entries) throw invalid(`${parts} parts are more than its ${this.#entries} entries`);
    }
    this.#keys = this.#entries - parts;
    const { maxKeys } = this.bounds;
    if (this.#entries + this.#leases > maxKeys)
      throw invalid(
        `${this.#entries} ${parts === 0 ? 'keys' : 'keys and parts'}${this.#leases === 0 ? '' : ` and ${this.#leases} leases`} are more than maxKeys ${maxKeys}`,
      );
    if (this.#passed + this.#leases * LEASE_BYTES > this.length) throw invalid('it ends in its leases');
    this.#count(this.#leases * KV_ENTRY_OVERHEAD_BYTES);
    // The header is no reason to make room for more entries than the bytes can hold.
    const keys = Math.min(this.#keys, Math.floor(this.length / (entryBytes(this.#level) + KV_KEY_BYTES_MIN)));
    const possible = Math.floor(this.length / (SNAPSHOT_ENTRY_BYTES + GRAVE_NAME_BYTES));
    store.begin(keys, Math.min(parts, possible), this.#level, this.#revision, this.#nowMs);
  }

  #addLease(store: RestoredStore, bytes: Uint8Array, at: number): void {
    const number = readIndex(bytes, at);
    const ttl = readIndex(bytes, at + 16);
    const isNumbered = number > this.#lastLease && number <= this.#revision;
    if (!(isNumbered && this.#canEnd(readIndex(bytes, at + 8)) && ttl > 0 && ttl <= TTL_MS_MAX))
      throw invalid(`lease ${this.#leasesTaken} is damaged`);
    store.lease(bytes, at);
    this.#lastLease = number;
    this.#leasesTaken++;
  }

  #addEntry(store: RestoredStore, bytes: Uint8Array, at: number, length: number): void {
    const isPart = this.#entriesTaken >= this.#keys;
    const fixed = isPart ? SNAPSHOT_ENTRY_BYTES : entryBytes(this.#level);
    const meta = at + SNAPSHOT_ENTRY_BYTES;
    const keyLength = readU16(bytes, at);
    const keyBytes = keyLength & NAME_BYTES_MASK;
    const valueLength = length - fixed - keyBytes;
    if (isPart) this.#checkPart(bytes, meta, keyBytes, valueLength);
    else if (this.#level > 0) this.#checkMeta(store, bytes, meta, keyBytes, valueLength);
    this.#count(KV_ENTRY_OVERHEAD_BYTES + keyBytes + valueLength);
    if (!store.entry(bytes, at + fixed, keyLength, valueLength, meta))
      throw invalid(`the key of entry ${this.#entriesTaken} is not above the one before it`);
    this.#entriesTaken++;
  }

  #checkPart(bytes: Uint8Array, name: number, nameBytes: number, valueLength: number): void {
    if (!this.#collections.part(bytes, name, nameBytes, valueLength, this.#revision))
      throw invalid(`entry ${this.#entriesTaken} is a part of no collection`);
  }

  #count(bytes: number): void {
    this.#contentBytes += bytes;
    const { maxBytes } = this.bounds;
    if (this.#contentBytes > maxBytes)
      throw invalid(`${this.#contentBytes} bytes of contents are more than maxBytes ${maxBytes}`);
  }

  #checkMeta(store: RestoredStore, bytes: Uint8Array, at: number, keyBytes: number, valueLength: number): void {
    const lower = (word: number): number => readI32(bytes, at + 4 * word) >>> 0;
    const upper = (word: number): number => readI32(bytes, at + 4 * word + 4) & 0xffffff;
    const own = upper(0) * TWO_32 + lower(0);
    const hold = upper(2) * TWO_32 + lower(2);
    const kind = bytes[at + 12]!;
    const isHeld =
      kind === Hold.none ? hold === 0 : own > 0 && (kind === Hold.lease ? store.hasLease(hold) : this.#canKeyEnd(hold));
    const type = bytes[at + 4]!;
    if ((this.#level < 2 && type !== ValueType.string) || own > this.#revision || kind > Hold.lease || !isHeld)
      throw invalid(`what entry ${this.#entriesTaken} says of its change or its end is damaged`);
    // No change has the number of another one.
    if (kind !== Hold.none && store.hasHeld(kind, hold, own))
      throw invalid(`entry ${this.#entriesTaken} has the end and the revision of another one`);
    const value = at + META_BYTES + keyBytes;
    if (type !== ValueType.string && !this.#collections.collection(bytes, value, valueLength, type, this.#revision))
      throw invalid(`what entry ${this.#entriesTaken} says of its collection is damaged`);
  }

  /** Redis commands, which come with level 2, set any end. */
  #canKeyEnd(ms: number): boolean {
    return this.#level < 2 ? this.#canEnd(ms) : ms <= Number.MAX_SAFE_INTEGER;
  }

  /** Nothing stays for longer than a time to live can be. */
  #canEnd(ms: number): boolean {
    return ms >= 0 && ms <= this.#nowMs + TTL_MS_MAX;
  }
}

function invalid(problem: string): SnapshotError {
  return new SnapshotError('kv', problem);
}
