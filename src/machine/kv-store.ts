/**
 * The state of the key-value machine: an ordered map from key bytes to value bytes, within `maxKeys` and `maxBytes`.
 *
 * The contents alone decide whether a write fits (number of keys; bytes of keys and values plus a fixed charge for each
 * entry), never the memory layout. So all replicas decide alike. The store has three parts: records (kv-heap), the hash
 * table that finds them (kv-table) and their order (kv-order).
 *
 * From level 1 on, changes are numbered, and a key can have an end: an agreed time, or that of a lease. The rule (S): *a
 * key is there if its end lies behind the agreed time of the present operation.* What has ended is removed a little at
 * a time, in the order of (end, revision); until then it counts towards the limits, and nothing else shows it.
 *
 * From level 2 on, a value can be a collection. Its parts (store/parts.ts) lie with the keys in the heap and in the
 * order, behind all of them, and in a table of their own. They have no revision, no end and no place among the changes.
 * When the key of a collection goes, its parts are removed a little at a time; until then they count towards the limits.
 */
import { KvError } from './machine-error.js';
import { Contents } from './kv-contents.js';
import { META_BYTES, type RecordHeap } from './kv-heap.js';
import { Hold, KEEP_HOLD, KV_ENTRY_OVERHEAD_BYTES, NAME_BYTES_MASK, PART_FLAG, ValueType } from './kv-layout.js';
import type { OrderCursor } from './kv-order.js';
import type { KeyTable } from './kv-table.js';
import { StoreRestore } from './kv-restore.js';
import {
  entryBytes,
  headerBytes,
  LEVELLED_HEADER_BYTES,
  LEVELLED_MAGIC,
  SNAPSHOT_ENTRY_BYTES,
  SNAPSHOT_MAGIC,
  StoreSnapshot,
  writeEntry,
} from './kv-snapshot.js';
import { KeyWalk } from './kv-walk.js';
import type { SnapshotInPieces } from './state-machine.js';
import { copyBytes } from '../wire/copy.js';
import { readIndex, readU16, writeI32, writeIndex, writeU16 } from '../wire/u64.js';
import { UndoLog } from '../wire/undo-log.js';
import { ChangeKind, ChangeRing, EventFlag, type ChangeKindCode } from './store/change-ring.js';
import { LEASE_BYTES, LEASE_COUNTS, LeaseCount, Leases, type LeaseFigures } from './store/leases.js';
import { GRAVE_BYTES, GRAVE_NAME_BYTES, PartKind, readGeneration, writeGeneration } from './store/parts.js';
import type { RankOrder } from './store/rank-order.js';

/**
 * All replicas of a cluster must have the same `maxKeys` and `maxBytes`: they decide which writes are answered `full`.
 */
export interface KvOptions {
  /** From level 2 on, members and elements of collections count, too. Default 1,048,576. */
  maxKeys?: number;
  /** Bytes of keys and values plus 32 bytes for each entry; default 256 MiB. Memory use is up to about twice this. */
  maxBytes?: number;
  /**
   * Sizes the hash table in advance, which saves the work of growing. Local to a replica: results do not depend on it.
   * Default 1,024.
   */
  expectedKeys?: number;
  /**
   * The newest changes that are kept for those who watch, from level 1 on; 0: none. Each takes 96 bytes. Local to a
   * replica. Default 65,536.
   */
  changes?: number;
}

const MAX_KEYS_DEFAULT = 1 << 20;
const MAX_KEYS_LIMIT = 1 << 27;
const MAX_BYTES_DEFAULT = 256 * 1024 * 1024;
const MAX_BYTES_LIMIT = 1 << 30;
const EXPECTED_KEYS_DEFAULT = 1024;
const CHANGES_DEFAULT = 1 << 16;
const CHANGES_LIMIT = 1 << 22;

/** The highest level that this version knows. */
export const KV_LEVEL_MAX = 2;
/** Most keys and leases that one operation removes because they have ended. */
const ENDED_PER_OPERATION = 16;
/** Most parts of collections that are gone which one operation removes. */
const BURIED_PER_OPERATION = 64;

/** Index in the store's numbers. */
const REVISION = 0;
const NOW = 1;
const TWO_26 = 67108864;
const NS_UNITS = 15625;

/** What is kept to undo entries that are not committed takes no more than this. */
const UNDO_BYTES_MAX = 16 << 20;
/** So many contents from before the store was emptied are kept to undo that, and no more bytes of them than `maxBytes`. */
const EMPTIED_MAX = 8;
/**
 * What was there before an entry changed it. From level 1 on, undoing a change of a key, or a grant, also takes back the
 * revision that it was given.
 *
 *     key    | absent or present u8 | key u16 | value u16 | meta, if it was present, from level 1 on | key | value |
 *     lease  | not granted or lease u8 | number f64 | end f64 | ttl f64 |
 *     part   | absent or present u8 | name u16 with PART_FLAG | value u16 | name | value |; it was given no revision
 *     time   | time u8 | agreed time of the operation before, f64 |
 *     number | number u8 |: a number was taken for a generation or a message
 *     all    | emptied u8 |: the store was emptied; what it held is kept as it was
 */
const Undo = { absent: 0, present: 1, notGranted: 2, lease: 3, time: 4, number: 5, emptied: 6 } as const;
const UNDO_HEADER_BYTES = 5;
const UNDO_LEASE_BYTES = 25;
const UNDO_TIME_BYTES = 9;

export class KvStore {
  readonly maxKeys: number;
  readonly maxBytes: number;
  readonly #expectedKeys: number;
  #held!: Contents;
  /** Its heap and its table of keys, which every operation uses. */
  #heap!: RecordHeap;
  #table!: KeyTable;
  #level = 0;
  /** The number of the last change, and the agreed time of the last operation, ms; 0 at level 0. */
  readonly #numbers = new Float64Array(2);
  #leases!: Leases;
  /** By LeaseCount. */
  readonly #leaseCounts = new Float64Array(LEASE_COUNTS);
  /** Takes snapshots in pieces. */
  #copy!: StoreSnapshot;
  readonly #changes: ChangeRing;
  /** What changes the store now, for those who watch: see EventFlag. 0: nobody says. Not part of the state. */
  event = 0;
  readonly #undo = new UndoLog(UNDO_BYTES_MAX);
  /** What it held before it was emptied, as long as that may be undone; oldest first. */
  readonly #emptied: { readonly index: number; readonly held: Contents }[] = [];
  readonly #graveName = new Uint8Array(GRAVE_NAME_BYTES);
  readonly #graveCursor: OrderCursor = { block: 0, position: 0 };
  readonly #buried = new Int32Array(BURIED_PER_OPERATION);
  /** Index of the entry that is applied; and only entries behind which changes are kept. */
  readonly #indexes = Float64Array.of(0, Infinity);
  #keeps = false;

  /** Throws `KvError` (`kv-option`) for an unknown option or a value out of range. */
  constructor(options: KvOptions = {}) {
    const known = ['maxKeys', 'maxBytes', 'expectedKeys', 'changes'];
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
    this.#changes = new ChangeRing(option('changes', options.changes, CHANGES_DEFAULT, CHANGES_LIMIT, 0));
    this.#clear(this.#expectedKeys);
  }

  get keyCount(): number {
    return this.#table.count;
  }

  /** The bytes that count towards `maxBytes`. */
  get contentBytes(): number {
    return this.#held.bytes;
  }

  /** Memory held for records, including garbage and reserve. */
  get heldBytes(): number {
    return this.#heap.heldBytes;
  }

  /** Keys and values by entry id. Read-only for callers; ids are valid until the next write. */
  get records(): Pick<
    RecordHeap,
    | 'keyLength'
    | 'valueLength'
    | 'copyKey'
    | 'copyValue'
    | 'compareKey'
    | 'valueEquals'
    | 'valueBytes'
    | 'valueOffset'
    | 'hold'
    | 'holdKind'
    | 'keyBytes'
    | 'keyOffset'
    | 'type'
  > {
    return this.#heap;
  }

  /**
   * Which operations the machine understands: 0, those of the first release; 1, those of the store (store/layout.ts); 2,
   * commands, and values can be collections.
   */
  get level(): number {
    return this.#level;
  }

  /** What follows is changed by entry `index` of the log. */
  entry(index: number): void {
    this.#indexes[0] = index;
    this.#keeps = index > this.#indexes[1]!;
  }

  /** Changes of entries up to `index` will not be undone. */
  committedTo(index: number): void {
    this.#indexes[1] = index;
    this.#undo.release(index);
    while (this.#emptied.length > 0 && this.#emptied[0]!.index <= index) this.#emptied.shift();
  }

  /** Undoes the changes of entries behind `index`. False, and nothing is changed, if that is not known any more. */
  undoTo(index: number): boolean {
    const undo = this.#undo;
    if (!undo.reaches(index)) return false;
    this.#keeps = false;
    for (; undo.last(index); undo.pop()) {
      switch (undo.bytes[undo.offset]) {
        case Undo.notGranted:
        case Undo.lease:
          this.#undoLease();
          break;
        case Undo.time:
          this.#numbers[NOW] = undo.words.getFloat64(undo.offset + 1);
          break;
        case Undo.number:
          this.#numbers[REVISION]!--;
          break;
        case Undo.emptied:
          this.#numbers[REVISION]!--;
          this.#turnTo(this.#emptied.pop()!.held);
          break;
        default:
          this.#undoKey();
      }
    }
    this.#changes.undoTo(index, this.#numbers[REVISION]!);
    return true;
  }

  #undoLease(): void {
    const { bytes, words, offset } = this.#undo;
    const number = words.getFloat64(offset + 1);
    const end = words.getFloat64(offset + 9);
    const slot = this.#leases.find(number);
    if (bytes[offset] === Undo.notGranted) {
      this.#numbers[REVISION]!--;
      this.#leases.remove(slot);
    } else if (slot >= 0) this.#leases.setEnd(slot, end);
    else this.#leases.add(number, end, words.getFloat64(offset + 17));
  }

  #undoKey(): void {
    const { bytes, offset } = this.#undo;
    const heap = this.#heap;
    const wasThere = bytes[offset] === Undo.present;
    const keyLength = readU16(bytes, offset + 1);
    const valueLength = readU16(bytes, offset + 3);
    const isNumbered = this.#level > 0 && (keyLength & PART_FLAG) === 0;
    const meta = offset + UNDO_HEADER_BYTES;
    const key = wasThere && isNumbered ? meta + META_BYTES : meta;
    const value = key + (keyLength & NAME_BYTES_MASK);
    if (isNumbered) this.#numbers[REVISION]!--;
    let id = this.#held.find(bytes, key, keyLength);
    if (id >= 0 && isNumbered) this.#held.letGo(id);
    if (!wasThere) return this.#drop(id, bytes, key, keyLength);
    if (id < 0) id = this.#add(bytes, key, keyLength, bytes, value, valueLength);
    else this.#setValue(id, bytes, value, valueLength);
    if (!isNumbered) return;
    heap.setMeta(id, bytes, meta);
    this.#held.hold(id);
  }

  /**
   * The level is at least this from now on. Keys that are there already have revision 1. A snapshot in progress stays one
   * of its own level.
   */
  raise(level: number): void {
    if (level <= this.#level) return;
    if (this.#level === 0) {
      this.#numbers[REVISION] = 1;
      // What was there before has no numbers; an empty store has lost nothing.
      this.#changes.begin(this.keyCount === 0 ? 0 : 1);
    }
    this.#keeps = false;
    this.#undo.lose(this.#indexes[0]!);
    this.#emptied.length = 0;
    this.#level = level;
  }

  /** The newest changes, from level 1 on. For reading only. */
  get changes(): ChangeRing {
    return this.#changes;
  }

  /** The number of the last change. */
  get revision(): number {
    return this.#numbers[REVISION]!;
  }

  /** The number of the last change of an entry. */
  revisionOf(id: number): number {
    return this.#heap.revision(id) || 1;
  }

  /** The agreed time of the last operation, ms. */
  get nowMs(): number {
    return this.#numbers[NOW]!;
  }

  get leases(): Pick<Leases, 'find' | 'ends' | 'ttl' | 'count'> {
    return this.#leases;
  }

  /** What happened to leases at this replica. The counts are not part of the state: what is undone stays counted. Allocates. */
  get leaseFigures(): LeaseFigures {
    const counts = this.#leaseCounts;
    return {
      held: this.#leases.count,
      granted: counts[LeaseCount.granted]!,
      renewed: counts[LeaseCount.renewed]!,
      ended: counts[LeaseCount.ended]!,
      revoked: counts[LeaseCount.revoked]!,
    };
  }

  /** When the next key or lease ends, ms; 0 if none will. */
  get nextEnd(): number {
    const due = this.#held.due.lowestFirst();
    const lease = this.#leases.firstEnd();
    return due === 0 || (lease !== 0 && lease < due) ? lease : due;
  }

  /** An operation with this agreed timestamp, ns, comes next: removes some of what has ended. Only from level 1 on. */
  advance(timestampHi: number, timestampLo: number): void {
    // A million is 2^6 times NS_UNITS, and what is left of the upper half keeps the sum exact.
    const upper = timestampHi >>> 0;
    const units = (upper % NS_UNITS) * TWO_26 + (timestampLo >>> 6);
    const now = Math.floor(upper / NS_UNITS) * TWO_26 + Math.floor(units / NS_UNITS);
    if (now > this.#numbers[NOW]!) {
      if (this.#keeps) this.#keepTime();
      this.#numbers[NOW] = now;
    }
    if (this.#held.due.count > 0 || this.#leases.count > 0) this.#removeEnded();
    if (this.#held.graves > 0) this.#removeBuried();
  }

  /** The entry id of a key that has not ended, or -1. */
  find(key: Uint8Array, offset: number, length: number): number {
    const id = this.#table.find(key, offset, length);
    return id >= 0 && this.#level > 0 && this.hasEnded(id) ? -1 : id;
  }

  /** The same for a key that is to be written or removed: one that has ended is removed at once. */
  findToChange(key: Uint8Array, offset: number, length: number): number {
    const id = this.#table.find(key, offset, length);
    if (id < 0 || this.#level === 0 || !this.hasEnded(id)) return id;
    this.remove(id, key, offset, length, ChangeKind.expire);
    return -1;
  }

  /** Whether the entry is there only because nobody has removed it yet. */
  hasEnded(id: number): boolean {
    return this.#heap.holdKind(id) !== Hold.none && this.endOf(id) <= this.#numbers[NOW]!;
  }

  /** The agreed time at which a key that does not stay for ever ends, ms. */
  endOf(id: number): number {
    const hold = this.#heap.hold(id);
    return this.#heap.holdKind(id) === Hold.lease ? this.#leases.ends(this.#leases.find(hold)) : hold;
  }

  /** A lease from now on; its number, or -1 if the store has no room. */
  grant(ttlMs: number): number {
    if (this.#countWithLeases >= this.maxKeys || this.#usedBytes + KV_ENTRY_OVERHEAD_BYTES > this.maxBytes) return -1;
    const number = ++this.#numbers[REVISION]!;
    if (this.#keeps) this.#keepLease(Undo.notGranted, number, 0, 0);
    this.#leases.add(number, this.#numbers[NOW]! + ttlMs, ttlMs);
    this.#leaseCounts[LeaseCount.granted]!++;
    return number;
  }

  /** The end of a lease after its renewal, ms; 0 if it has ended. */
  renew(number: number): number {
    const slot = this.#liveLease(number);
    if (slot < 0) return 0;
    const end = this.#numbers[NOW]! + this.#leases.ttl(slot);
    if (end > this.#leases.ends(slot)) {
      if (this.#keeps) this.#keepLeaseAt(slot);
      this.#leases.setEnd(slot, end);
    }
    this.#leaseCounts[LeaseCount.renewed]!++;
    return this.#leases.ends(slot);
  }

  /** Ends a lease; false if it has ended. Its keys are no longer there. */
  revoke(number: number): boolean {
    const slot = this.#liveLease(number);
    if (slot < 0) return false;
    if (this.#keeps) this.#keepLeaseAt(slot);
    this.#leases.setEnd(slot, this.#numbers[NOW]!);
    this.#leaseCounts[LeaseCount.revoked]!++;
    this.#removeEnded();
    return true;
  }

  /** Whether a key can be held by this lease. */
  hasLease(number: number): boolean {
    return this.#liveLease(number) >= 0;
  }

  #liveLease(number: number): number {
    const slot = this.#leases.find(number);
    return slot >= 0 && this.#leases.ends(slot) > this.#numbers[NOW]! ? slot : -1;
  }

  get #countWithLeases(): number {
    return this.#table.count + this.#held.parts.count + this.#leases.count;
  }

  get #usedBytes(): number {
    return this.#held.bytes + this.#leases.count * KV_ENTRY_OVERHEAD_BYTES;
  }

  /** Removes what ended first, and at most ENDED_PER_OPERATION of it. A lease goes after its keys. */
  #removeEnded(): void {
    const heap = this.#heap;
    const leases = this.#leases;
    for (let removed = 0; removed < ENDED_PER_OPERATION; removed++) {
      const now = this.#numbers[NOW]!;
      const isDue = this.#held.due.begins(now);
      const lease = leases.first();
      const leaseIsDue = lease >= 0 && leases.ends(lease) <= now;
      if (!isDue && !leaseIsDue) return;
      let id = isDue ? this.#held.due.lowest() : -1;
      if (leaseIsDue && (id < 0 || this.#isBefore(lease, id))) {
        id = this.#held.attached.atOrAbove(leases.number(lease), 0);
        if (id < 0 || heap.hold(id) !== leases.number(lease)) {
          if (this.#keeps) this.#keepLeaseAt(lease);
          leases.remove(lease);
          this.#leaseCounts[LeaseCount.ended]!++;
          continue;
        }
      }
      this.remove(id, heap.valueBytes(id), heap.keyOffset(id), heap.keyLength(id), ChangeKind.expire);
    }
  }

  /** Whether a lease ends before a key with an end of its own. */
  #isBefore(lease: number, id: number): boolean {
    const leases = this.#leases;
    const difference = leases.ends(lease) - this.#heap.hold(id);
    return difference < 0 || (difference === 0 && leases.number(lease) < this.#heap.revision(id));
  }

  /**
   * Writes the value of a key; `id` must be the result of `findToChange` for that key. False if the store has no room.
   * Nothing is then changed.
   */
  put(
    id: number,
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
    kind: number = Hold.none,
    hold = 0,
  ): boolean {
    const fits = this.fitsWrite(id, keyLength, valueLength);
    if (fits) this.set(id, key, keyOffset, keyLength, value, valueOffset, valueLength, kind, hold);
    return fits;
  }

  /** Whether the store has room for a write of the entry `id`; -1: of a key that is not there. */
  fitsWrite(id: number, keyLength: number, valueLength: number): boolean {
    if (id >= 0 && !this.isCollection(id)) return this.fits(0, valueLength - this.#heap.valueLength(id));
    return this.fits(1, this.bytesAdded(id, keyLength, valueLength));
  }

  /** How many more keys the store has after a write of the entry `id`; -1: of a key that is not there. */
  keysAdded(id: number): number {
    return id < 0 || this.isCollection(id) ? 1 : 0;
  }

  /** How many more bytes. */
  bytesAdded(id: number, keyLength: number, valueLength: number): number {
    if (id < 0) return KV_ENTRY_OVERHEAD_BYTES + keyLength + valueLength;
    return valueLength - this.#heap.valueLength(id) + (this.isCollection(id) ? GRAVE_BYTES : 0);
  }

  /** How many keys fewer it has after the removal of an entry. */
  keysFreed(id: number): number {
    return this.isCollection(id) ? 0 : 1;
  }

  bytesFreed(id: number, keyLength: number): number {
    const bytes = KV_ENTRY_OVERHEAD_BYTES + keyLength + this.#heap.valueLength(id);
    return this.isCollection(id) ? bytes - GRAVE_BYTES : bytes;
  }

  /** Whether the value of a key is not a string. */
  isCollection(id: number): boolean {
    return this.#level > 1 && this.#heap.type(id) !== ValueType.string;
  }

  /** The same without a check of the limits: `fits` said that there is room. */
  set(
    id: number,
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
    kind: number,
    hold: number,
  ): void {
    if (id < 0) {
      const added = this.#add(key, keyOffset, keyLength, value, valueOffset, valueLength);
      if (this.#level > 0) {
        this.#number(added, kind, hold);
        this.#note(ChangeKind.put, key, keyOffset, keyLength, EventFlag.added | endsFlag(kind));
      }
      return;
    }
    const buried = this.isCollection(id) ? this.#generationOf(id) : 0;
    if (this.#keeps) this.#keep(id, key, keyOffset, keyLength);
    this.#setValue(id, value, valueOffset, valueLength);
    if (this.#level === 0) return;
    this.#number(id, kind, hold);
    this.#note(ChangeKind.put, key, keyOffset, keyLength, endsFlag(kind));
    if (buried > 0) this.#bury(buried);
  }

  /**
   * Writes the value of a key that is a collection, without a check of the limits, and gives the key a revision. `id` is
   * -1, and the key is then added, or an entry that is not a collection of another generation. Returns the id.
   */
  setCollection(
    id: number,
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    type: number,
    value: Uint8Array,
    valueLength: number,
  ): number {
    let written = id;
    if (id < 0) written = this.#add(key, keyOffset, keyLength, value, 0, valueLength);
    else {
      if (this.#keeps) this.#keep(id, key, keyOffset, keyLength);
      this.#setValue(id, value, 0, valueLength);
    }
    this.#number(written, id < 0 ? Hold.none : KEEP_HOLD, 0);
    this.#heap.setType(written, type);
    this.#note(ChangeKind.put, key, keyOffset, keyLength, id < 0 ? EventFlag.added : 0);
    return written;
  }

  /** Changes how long a key stays. That is a change of the key. Only from level 1 on. */
  setHold(id: number, key: Uint8Array, keyOffset: number, keyLength: number, kind: number, hold: number): void {
    const type = this.#heap.type(id);
    if (this.#keeps) this.#keep(id, key, keyOffset, keyLength);
    if (this.#copy.isUnderway) this.#copy.changes(id);
    this.#number(id, kind, hold);
    this.#heap.setType(id, type);
    this.#note(ChangeKind.put, key, keyOffset, keyLength, endsFlag(kind));
  }

  /**
   * Gives what a key holds, with its end, another key: the entry `toId`, or -1 if it is to be added. A collection stays
   * the same one. Without a check of the limits. The key's own bytes must not be those in the heap.
   */
  move(
    id: number,
    from: Uint8Array,
    fromOffset: number,
    fromLength: number,
    toId: number,
    to: Uint8Array,
    toOffset: number,
    toLength: number,
  ): void {
    const heap = this.#heap;
    const type = heap.type(id);
    const kind = heap.holdKind(id);
    const hold = heap.hold(id);
    const value = new Uint8Array(heap.valueLength(id));
    heap.copyValue(id, value, 0);
    this.#removeKey(id, from, fromOffset, fromLength, ChangeKind.delete);
    this.set(toId, to, toOffset, toLength, value, 0, value.length, kind, hold);
    if (type !== ValueType.string) heap.setType(this.#table.find(to, toOffset, toLength), type);
  }

  /** Leaves a message in the ring of changes. It has a revision of its own, so all who watch have one order. */
  publish(
    bytes: Uint8Array,
    channelOffset: number,
    channelLength: number,
    messageOffset: number,
    messageLength: number,
  ): void {
    const revision = this.takeNumber();
    const index = this.#indexes[0]!;
    this.#changes.addMessage(revision, index, bytes, channelOffset, channelLength, messageOffset, messageLength);
  }

  /** A number that the store gives only once: for the generation of a collection, or a message. */
  takeNumber(): number {
    if (this.#keeps && this.#undo.add(this.#indexes[0]!, 1)) this.#undo.bytes[this.#undo.offset] = Undo.number;
    return ++this.#numbers[REVISION]!;
  }

  /** The entry id of a part, or -1. @param length with PART_FLAG, as everywhere */
  findPart(name: Uint8Array, length: number): number {
    return this.#held.parts.find(name, 0, length);
  }

  /** Adds a part, or writes its value: `id` is what `findPart` said. Without a check of the limits. */
  setPart(
    id: number,
    name: Uint8Array,
    length: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): void {
    if (id < 0) {
      this.#add(name, 0, length, value, valueOffset, valueLength);
      return;
    }
    if (this.#keeps) this.#keep(id, name, 0, length);
    this.#setValue(id, value, valueOffset, valueLength);
  }

  removePart(id: number, name: Uint8Array, offset: number, length: number): void {
    if (this.#keeps) this.#keep(id, name, offset, length);
    this.#drop(id, name, offset, length);
  }

  /** The part at the cursor, which moves on by one; -1 at the end. `seek` has set it to one. */
  nextPart(cursor: OrderCursor): number {
    return this.#held.next(cursor);
  }

  /** The members of all sorted sets by score. Read-only for callers. */
  get ranks(): Pick<RankOrder, 'before' | 'beforeSet' | 'beforeScore' | 'beforeMember' | 'seek' | 'next'> {
    return this.#held.ranks;
  }

  /** Keys, also those that have ended, in the order of their hashes from this one on. */
  walkFrom(hash: number): KeyWalk {
    return new KeyWalk(this.#heap, this.#table, hash);
  }

  /** Removes all keys, at once, if there are any. Who watches has lost what changed. Leases stay. */
  empty(): void {
    if (this.#table.count === 0) return;
    if (this.#keeps) this.#keepContents();
    this.#turnTo(new Contents(this.#expectedKeys));
    this.#changes.begin(++this.#numbers[REVISION]!, this.#indexes[0]!);
  }

  #turnTo(held: Contents): void {
    this.#hold(held);
    this.#copy.turnTo(held.heap, held.order);
  }

  #hold(held: Contents): void {
    this.#held = held;
    this.#heap = held.heap;
    this.#table = held.table;
  }

  /** The generation of a collection. */
  #generationOf(id: number): number {
    return readIndex(this.#heap.valueBytes(id), this.#heap.valueOffset(id));
  }

  /** The key of a collection is gone: its parts are to be removed. */
  #bury(generation: number): void {
    writeGeneration(this.#graveName, PartKind.grave, generation);
    this.#add(this.#graveName, 0, GRAVE_NAME_BYTES | PART_FLAG, this.#graveName, 0, 0);
  }

  /** Removes parts of the first collection that is gone; the grave goes after them. */
  #removeBuried(): void {
    const heap = this.#heap;
    const { order } = this.#held;
    const name = this.#graveName;
    const cursor = this.#graveCursor;
    order.seek(name, 0, PART_FLAG, cursor);
    const grave = order.idAt(cursor);
    const generation = readGeneration(heap.valueBytes(grave), heap.keyOffset(grave));
    let left = BURIED_PER_OPERATION;
    left -= this.#removeParts(PartKind.living, generation, left);
    left -= this.#removeParts(PartKind.ranked, generation, left);
    if (left === 0) return;
    writeGeneration(name, PartKind.grave, generation);
    this.removePart(grave, name, 0, GRAVE_NAME_BYTES | PART_FLAG);
  }

  /** Removes parts of a generation, at most so many. Returns how many. */
  #removeParts(kind: number, generation: number, most: number): number {
    const heap = this.#heap;
    const { order } = this.#held;
    const name = this.#graveName;
    const cursor = this.#graveCursor;
    const ids = this.#buried;
    writeGeneration(name, kind, generation);
    order.seek(name, 0, GRAVE_NAME_BYTES | PART_FLAG, cursor);
    let count = 0;
    for (; count < most; count++) {
      const id = this.#held.next(cursor);
      if (id < 0 || !isPartOf(heap.valueBytes(id), heap.keyOffset(id), kind, generation)) break;
      if (this.#keeps) this.#keep(id, heap.valueBytes(id), heap.keyOffset(id), heap.keyLength(id));
      if (this.#copy.isUnderway) this.#copy.changes(id);
      ids[count] = id;
    }
    if (count > 0) {
      order.seek(name, 0, GRAVE_NAME_BYTES | PART_FLAG, cursor);
      this.#held.dropParts(ids, count, cursor);
    }
    return count;
  }

  /** The last change, for those who watch. */
  #note(kind: ChangeKindCode, key: Uint8Array, keyOffset: number, keyLength: number, flags = 0): void {
    const event = this.event | flags;
    this.#changes.add(this.#numbers[REVISION]!, this.#indexes[0]!, kind, key, keyOffset, keyLength, event);
  }

  #setValue(id: number, value: Uint8Array, valueOffset: number, valueLength: number): void {
    if (this.#copy.isUnderway) this.#copy.changes(id);
    this.#held.setValue(id, value, valueOffset, valueLength);
  }

  /** Whether the store has room for this many more keys and bytes. One that is at its limits may still shrink. */
  fits(keys: number, bytes: number): boolean {
    return (
      (keys <= 0 || this.#countWithLeases + keys <= this.maxKeys) &&
      (bytes <= 0 || this.#usedBytes + bytes <= this.maxBytes)
    );
  }

  #add(
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): number {
    if (this.#keeps) this.#keep(-1, key, keyOffset, keyLength);
    const added = this.#held.add(key, keyOffset, keyLength, value, valueOffset, valueLength);
    if (this.#copy.isUnderway) this.#copy.comes(added);
    return added;
  }

  /** The entry was changed: gives it the next revision, and notes how long it stays. */
  #number(id: number, kind: number, hold: number): void {
    const heap = this.#heap;
    const revision = ++this.#numbers[REVISION]!;
    const before = heap.holdKind(id);
    if (before === Hold.none && kind <= Hold.none) {
      heap.setRevision(id, revision);
      return;
    }
    const number = kind === KEEP_HOLD ? heap.hold(id) : hold;
    this.#held.letGo(id);
    heap.setRevision(id, revision);
    heap.setHold(id, kind === KEEP_HOLD ? before : kind, number);
    this.#held.hold(id);
  }

  /** Removes the entry `id` with this key. */
  remove(id: number, key: Uint8Array, offset: number, length: number, kind: ChangeKindCode = ChangeKind.delete): void {
    const buried = this.isCollection(id) ? this.#generationOf(id) : 0;
    this.#removeKey(id, key, offset, length, kind);
    // Not before, because the key may be the one in the heap.
    if (buried > 0) this.#bury(buried);
  }

  /** The same for a collection that has no part left. */
  removeEmpty(id: number, key: Uint8Array, offset: number, length: number): void {
    this.#removeKey(id, key, offset, length, ChangeKind.delete);
  }

  #removeKey(id: number, key: Uint8Array, offset: number, length: number, kind: ChangeKindCode): void {
    if (this.#keeps) this.#keep(id, key, offset, length);
    if (this.#level > 0) {
      this.#numbers[REVISION]!++;
      this.#note(kind, key, offset, length);
      this.#held.letGo(id);
    }
    this.#drop(id, key, offset, length);
  }

  #drop(id: number, key: Uint8Array, offset: number, length: number): void {
    if (this.#copy.isUnderway) this.#copy.changes(id);
    this.#held.drop(id, key, offset, length);
  }

  /** Sets the cursor to the first key at or above the given one. */
  seek(key: Uint8Array, offset: number, length: number, cursor: OrderCursor): void {
    this.#held.order.seek(key, offset, length, cursor);
  }

  /** The entry id at the cursor, or -1 behind the last key. Moves the cursor on by one. */
  next(cursor: OrderCursor): number {
    const id = this.#held.next(cursor);
    return id >= 0 && this.#heap.isPart(id) ? -1 : id;
  }

  /** Depends on the contents only, not on their history. */
  snapshot(): Uint8Array {
    const bytes = new Uint8Array(this.#snapshotBytes());
    bytes.set(this.#head());
    this.#leases.write(bytes, headerBytes(this.#level));
    let at = this.#headBytes;
    const cursor = { block: 0, position: 0 };
    for (let id = this.#held.next(cursor); id >= 0; id = this.#held.next(cursor))
      at = writeEntry(this.#heap, id, this.#level, bytes, at);
    return bytes;
  }

  /** What a snapshot holds before the leases. */
  #head(): Uint8Array {
    const head = new Uint8Array(headerBytes(this.#level));
    writeI32(head, 0, this.#level === 0 ? SNAPSHOT_MAGIC : LEVELLED_MAGIC);
    writeI32(head, 4, this.#table.count + this.#held.parts.count);
    if (this.#level === 0) return head;
    writeI32(head, 8, this.#level);
    writeI32(head, 12, this.#leases.count);
    writeIndex(head, 16, this.#numbers[REVISION]!);
    writeIndex(head, 24, this.#numbers[NOW]!);
    if (this.#level > 1) writeI32(head, LEVELLED_HEADER_BYTES, this.#held.parts.count);
    return head;
  }

  /** Bytes of a snapshot before the entries. */
  get #headBytes(): number {
    return headerBytes(this.#level) + this.#leases.count * LEASE_BYTES;
  }

  /** Takes the place of one that is in progress. */
  beginSnapshot(): SnapshotInPieces {
    return this.#copy.begin(this.#head(), this.#level, this.#snapshotBytes());
  }

  /**
   * Replaces the contents. Throws `SnapshotError`, with the contents unchanged, if the bytes are not a snapshot or
   * exceed the limits.
   */
  restore(snapshot: Uint8Array): void {
    const restore = this.beginRestore(snapshot.length);
    restore.step(snapshot);
    restore.end();
  }

  /** Like `restore`, in pieces. Until it ends there are two stores in memory. */
  beginRestore(length: number): StoreRestore {
    const { maxKeys, maxBytes } = this;
    const built = new KvStore({ maxKeys, maxBytes, expectedKeys: 1, changes: 0 });
    return new StoreRestore({ maxKeys, maxBytes, maxLevel: KV_LEVEL_MAX }, length, {
      begin: (keys, parts, level, revision, nowMs) => {
        built.#clear(Math.max(keys, this.#expectedKeys), parts);
        built.#level = level;
        built.#numbers[REVISION] = revision;
        built.#numbers[NOW] = nowMs;
      },
      lease: (bytes, offset) => built.#leases.read(bytes, offset),
      hasLease: (number) => built.#leases.find(number) >= 0,
      hasHeld: (kind, hold, revision) => {
        const id = (kind === Hold.until ? built.#held.due : built.#held.attached).atOrAbove(hold, revision);
        return id >= 0 && built.#held.heap.hold(id) === hold && built.#held.heap.revision(id) === revision;
      },
      entry: (bytes, key, keyLength, valueLength, meta) =>
        built.#held.load(bytes, key, keyLength, valueLength, built.#level > 0 ? meta : -1),
      end: () => this.#takeOver(built),
    });
  }

  /** The contents of another store, which is not used any more, take the place of the present ones. */
  #takeOver(other: KvStore): void {
    this.#keeps = false;
    this.#undo.clear();
    this.#emptied.length = 0;
    this.#hold(other.#held);
    this.#level = other.#level;
    this.#numbers.set(other.#numbers);
    this.#leases = other.#leases;
    this.#copy.of(this.#heap, this.#held.order, this.#leases);
    this.#changes.begin(this.#numbers[REVISION]!);
  }

  /** Keeps what a key has: the entry `id`, or nothing if that is -1. */
  #keep(id: number, key: Uint8Array, keyOffset: number, keyLength: number): void {
    const heap = this.#heap;
    const valueLength = id < 0 ? 0 : heap.valueLength(id);
    const metaLength = id < 0 || this.#level === 0 || (keyLength & PART_FLAG) !== 0 ? 0 : META_BYTES;
    const keyBytes = keyLength & NAME_BYTES_MASK;
    const undo = this.#undo;
    if (!undo.add(this.#indexes[0]!, UNDO_HEADER_BYTES + metaLength + keyBytes + valueLength)) return;
    const { bytes, offset } = undo;
    bytes[offset] = id < 0 ? Undo.absent : Undo.present;
    writeU16(bytes, offset + 1, keyLength);
    writeU16(bytes, offset + 3, valueLength);
    const meta = offset + UNDO_HEADER_BYTES;
    if (metaLength > 0) heap.copyMeta(id, bytes, meta);
    copyBytes(key, keyOffset, bytes, meta + metaLength, keyBytes);
    if (id >= 0) heap.copyValue(id, bytes, meta + metaLength + keyBytes);
  }

  /** Keeps all that the store holds, as it is, if there is room for it. */
  #keepContents(): void {
    const emptied = this.#emptied;
    let bytes = this.#held.bytes;
    for (const { held } of emptied) bytes += held.bytes;
    const index = this.#indexes[0]!;
    if (emptied.length === EMPTIED_MAX || bytes > this.maxBytes || !this.#undo.add(index, 1)) {
      this.#undo.lose(index);
      emptied.length = 0;
      return;
    }
    this.#undo.bytes[this.#undo.offset] = Undo.emptied;
    emptied.push({ index, held: this.#held });
  }

  #keepLeaseAt(slot: number): void {
    const leases = this.#leases;
    this.#keepLease(Undo.lease, leases.number(slot), leases.ends(slot), leases.ttl(slot));
  }

  #keepLease(kind: number, number: number, end: number, ttl: number): void {
    const undo = this.#undo;
    if (!undo.add(this.#indexes[0]!, UNDO_LEASE_BYTES)) return;
    undo.bytes[undo.offset] = kind;
    undo.words.setFloat64(undo.offset + 1, number);
    undo.words.setFloat64(undo.offset + 9, end);
    undo.words.setFloat64(undo.offset + 17, ttl);
  }

  #keepTime(): void {
    const undo = this.#undo;
    if (!undo.add(this.#indexes[0]!, UNDO_TIME_BYTES)) return;
    undo.bytes[undo.offset] = Undo.time;
    undo.words.setFloat64(undo.offset + 1, this.#numbers[NOW]!);
  }

  #clear(expectedKeys: number, expectedParts = 0): void {
    this.#keeps = false;
    this.#undo.clear();
    this.#hold(new Contents(expectedKeys, expectedParts));
    this.#level = 0;
    this.#numbers.fill(0);
    this.#leases = new Leases();
    this.#copy = new StoreSnapshot(this.#heap, this.#held.order, this.#leases);
    this.#changes.begin(0);
  }

  #snapshotBytes(): number {
    const { table, parts, bytes } = this.#held;
    const ofKeys = table.count * (entryBytes(this.#level) - KV_ENTRY_OVERHEAD_BYTES);
    return this.#headBytes + bytes + ofKeys + parts.count * (SNAPSHOT_ENTRY_BYTES - KV_ENTRY_OVERHEAD_BYTES);
  }
}

function isPartOf(name: Uint8Array, offset: number, kind: number, generation: number): boolean {
  return name[offset] === kind && readGeneration(name, offset) === generation;
}

function endsFlag(kind: number): number {
  return kind === Hold.until ? EventFlag.ends : 0;
}

function option(name: string, value: number | undefined, byDefault: number, limit: number, least = 1): number {
  if (value === undefined) return byDefault;
  if (!Number.isInteger(value) || value < least || value > limit) {
    throw new KvError('kv-option', `${name} must be an integer from ${least} to ${limit}, not ${String(value)}`);
  }
  return value;
}
