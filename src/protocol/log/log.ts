/**
 * The log: entries in the order of their keys, in an arena.
 *
 * The rule (S): the key of an appended entry, (timestamp, session), is above the key of the last entry. The chain of an
 * entry covers everything up to it, so replicas whose chains are equal at an index have equal logs up to there. Model:
 * the guard of `Request`, and the invariant `Chronological` (model/JITPaxos.tla).
 *
 * Entries are added at the end (`append`), removed from the end (`truncate`: they were not committed), and removed from
 * the front (`cut`: a snapshot covers them). Their bytes lie in one preallocated ring. Their places, chains and lengths
 * lie in rows of a typed array, row `index & mask`. Nothing is allocated after construction, except by `moveTogether`,
 * which is rare.
 *
 * chain(i) = hash(chain(i−1) ‖ timestamp ‖ session ‖ request ‖ lane ‖ flags ‖ 0 ‖ operation), all big-endian. The hash is
 * XXH3-64 without keys, and SipHash-2-4 under the cluster's secret with keys (contract.ts, Chain). The ring holds each
 * entry in exactly this form, in one piece, so its chain takes one call of the hash:
 *
 *      0         8           16        24        28     30      31   32
 *      | chain   | timestamp | session | request | lane | flags | 0  | operation …
 *      | of i−1  | <------------------- the entry's own header ----> |
 *
 * On the wire (Chunk) and on disk an entry is this without the first eight bytes: ENTRY_HEADER_BYTES, then the operation.
 *
 * A record never wraps: where it would, the end of the arena is left empty and the record starts at offset 0. How much is
 * left empty differs between replicas, but how much a log holds must not, or the log of one would not fit another. So
 * room is counted in records: a log holds `limit` bytes of them. If the free room lies in pieces that are too short, the
 * records are moved together. The arena is longer than `limit` by the longest record, so a full log never needs that:
 * the part that is left empty is shorter than a record.
 *
 * Only as much of the arena and of the rows is used as was needed recently, and twice that if it is not enough. So a log
 * that is cut often stays in the processor's cache, however large it may become. Using the whole arena in turn costs a
 * third of the throughput.
 */
import { copyBytes, copyWords, LastWords, wordsOf } from '../../wire/copy.js';
import { compareU64, readI32, readU16, writeI32, writeU16 } from '../../wire/u64.js';
import type { Limits } from '../config.js';
import { HashField, type HashArena, type Hasher } from '../contract.js';
import { invariant } from '../invariant.js';
import { Entry, ENTRY_HEADER_BYTES } from './entry.js';

/** An entry begins with its key: timestamp and session, most significant byte first. */
const KEY_BYTES = 16;
/** An entry in an Order: its header, and its chain. */
export const ORDER_RECORD_BYTES = ENTRY_HEADER_BYTES + 8;
/** Offsets in the record of an entry in the arena. */
export const RecordAt = { timestamp: 8, session: 16, request: 24, lane: 28, flags: 30, operation: 32 } as const;
const RECORD_HEADER_BYTES = RecordAt.operation;

/**
 * An entry's row of int32: what is known of it besides its record, side by side, so that one cache line holds all of it.
 * `laneBefore` is a distance; 0: no entry. tail-index.ts owns `hash` and `laneBefore`.
 */
const Row = {
  place: 0,
  operationLength: 1,
  chainHi: 2,
  chainLo: 3,
  replyTo: 4,
  laneBefore: 5,
  hash: 6,
  owner: 7,
} as const;
const ROW_SHIFT = 3;

/** The least that is used of the arena, bytes, and of the rows, unless they are smaller. */
const ROOM_MIN = 1 << 18;
const SLOTS_MIN = 1 << 10;
/** If less than one part in SPARSE of the room in use is needed, half of it is given up. */
const SPARSE = 8;

/** The last entry that a snapshot covers: its index, chain and key. */
export interface LogBase {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly timestampHi: number;
  readonly timestampLo: number;
  readonly sessionHi: number;
  readonly sessionLo: number;
}

export class Log {
  /** Entries up to here were cut; a snapshot covers them. */
  baseIndex = 0;
  /** Index of the last entry; `baseIndex` if the log is empty. */
  lastIndex = 0;
  /** The arena. */
  readonly bytes: Uint8Array;
  readonly words: DataView;

  private readonly rows: Int32Array;
  /** Rows in use, a power of two, less one. */
  private mask: number;
  /** Bytes of the arena in use: a record that would end beyond them starts at offset 0. */
  private room: number;
  /** Where the last record ends. If that is not behind the first record, the records go round the end of the arena. */
  private head = 0;
  /** Sum of the records of all entries. */
  private recordBytes = 0;
  private readonly baseChain = new Int32Array(2);
  private readonly baseKey = new Int32Array(4);
  private readonly arena: HashArena;
  private readonly sources = new LastWords();
  /** Points at the entry that `appendEntry` appends. */
  readonly stored = new Entry();
  /** Key of entry `lastIndex`: timestamp and session, two halves each. */
  private readonly lastKey = new Int32Array(4);

  /**
   * @param capacity entries, a power of two
   * @param limit bytes of records
   * @param operationBytes longest operation; its entry must be within `limit`
   * @param chain the hash that chains the entries
   */
  constructor(
    readonly capacity: number,
    private readonly limit: number,
    readonly operationBytes: number,
    chain: Hasher,
  ) {
    invariant(capacity > 0 && (capacity & (capacity - 1)) === 0, 'the log holds a power of two of entries');
    invariant(RECORD_HEADER_BYTES + operationBytes <= limit, 'the log has room for the longest entry');
    const size = limit + RECORD_HEADER_BYTES + operationBytes;
    this.arena = chain.hashArena?.(size) ?? plainArena(size, chain);
    this.bytes = this.arena.bytes;
    this.words = wordsOf(this.bytes);
    this.room = Math.min(size, ROOM_MIN);
    this.mask = Math.min(capacity, SLOTS_MIN) - 1;
    this.rows = new Int32Array(capacity << ROW_SHIFT);
  }

  has(index: number): boolean {
    return index > this.baseIndex && index <= this.lastIndex;
  }

  /** chain(index), upper half; `index` from baseIndex to lastIndex. */
  chainHi(index: number): number {
    return index === this.baseIndex ? this.baseChain[0]! : this.rows[this.row(index) + Row.chainHi]!;
  }

  chainLo(index: number): number {
    return index === this.baseIndex ? this.baseChain[1]! : this.rows[this.row(index) + Row.chainLo]!;
  }

  /** True if `index` is in the log, or is its base, and its chain is the given one. */
  matches(index: number, chainHi: number, chainLo: number): boolean {
    return (
      index >= this.baseIndex &&
      index <= this.lastIndex &&
      this.chainHi(index) === chainHi &&
      this.chainLo(index) === chainLo
    );
  }

  timestampHi(index: number): number {
    return index === this.baseIndex ? this.baseKey[0]! : readI32(this.bytes, this.record(index) + RecordAt.timestamp);
  }

  timestampLo(index: number): number {
    return index === this.baseIndex
      ? this.baseKey[1]!
      : readI32(this.bytes, this.record(index) + RecordAt.timestamp + 4);
  }

  sessionHi(index: number): number {
    return index === this.baseIndex ? this.baseKey[2]! : readI32(this.bytes, this.record(index) + RecordAt.session);
  }

  sessionLo(index: number): number {
    return index === this.baseIndex ? this.baseKey[3]! : readI32(this.bytes, this.record(index) + RecordAt.session + 4);
  }

  request(index: number): number {
    return readI32(this.bytes, this.record(index) + RecordAt.request);
  }

  lane(index: number): number {
    return readU16(this.bytes, this.record(index) + RecordAt.lane);
  }

  flags(index: number): number {
    return this.bytes[this.record(index) + RecordAt.flags]!;
  }

  /** Where the record of an entry of the log lies in `bytes`. A caller that needs several fields asks once. */
  record(index: number): number {
    return this.rows[this.row(index) + Row.place]!;
  }

  /** Where the operation lies in `bytes`. */
  operationOffset(index: number): number {
    return this.record(index) + RecordAt.operation;
  }

  operationLength(index: number): number {
    return this.rows[this.row(index) + Row.operationLength]!;
  }

  /** The client's endpoint by which the entry came, or −1: volatile, for answers to requests that a repair brings. */
  replyTo(index: number): number {
    return this.rows[this.row(index) + Row.replyTo]!;
  }

  /** Points `entry` at entry `index`; its operation stays where it is until the log changes. */
  pointAt(index: number, entry: Entry): Entry {
    const { words } = this;
    const at = this.record(index);
    entry.timestampHi = words.getInt32(at + RecordAt.timestamp);
    entry.timestampLo = words.getInt32(at + RecordAt.timestamp + 4);
    entry.sessionHi = words.getInt32(at + RecordAt.session);
    entry.sessionLo = words.getInt32(at + RecordAt.session + 4);
    entry.request = words.getInt32(at + RecordAt.request);
    entry.lane = words.getUint16(at + RecordAt.lane);
    entry.flags = words.getUint8(at + RecordAt.flags);
    entry.operationBytes = this.bytes;
    entry.operationOffset = at + RecordAt.operation;
    entry.operationLength = this.operationLength(index);
    entry.replyTo = this.replyTo(index);
    entry.owner = this.rows[this.row(index) + Row.owner]!;
    return entry;
  }

  /** The entry before it of the same lane that was not executed when it was appended, or 0. */
  laneBefore(index: number): number {
    const distance = this.rows[this.row(index) + Row.laneBefore]!;
    return distance === 0 ? 0 : index - distance;
  }

  /** The hash that `setLane` was given. */
  laneHash(index: number): number {
    return this.rows[this.row(index) + Row.hash]!;
  }

  /** @param before an entry of the log, or 0 */
  setLane(index: number, before: number, hash: number): void {
    const row = this.row(index);
    this.rows[row + Row.laneBefore] = before === 0 ? 0 : index - before;
    this.rows[row + Row.hash] = hash;
  }

  /** Sign of (timestamp, session) − key of the last entry. */
  compareToLast(timestampHi: number, timestampLo: number, sessionHi: number, sessionLo: number): number {
    const { lastKey } = this;
    return (
      compareU64(timestampHi, timestampLo, lastKey[0]!, lastKey[1]!) ||
      compareU64(sessionHi, sessionLo, lastKey[2]!, lastKey[3]!)
    );
  }

  /** Share of the capacity in use, 0…1: the larger of entries and bytes. */
  fill(): number {
    return Math.max((this.lastIndex - this.baseIndex) / this.capacity, this.recordBytes / this.limit);
  }

  /**
   * Appends an entry. Returns false, and changes nothing, if the log is full or the operation is too long.
   * The key must be above the last one (S): the caller has checked it, and this asserts it.
   */
  append(entry: Entry): boolean {
    const { timestampHi, timestampLo, sessionHi, sessionLo, operationLength: length } = entry;
    if (this.lastIndex - this.baseIndex >= this.capacity) return false;
    const need = RECORD_HEADER_BYTES + length;
    if (length > this.operationBytes || this.recordBytes + need > this.limit) return false;
    invariant(
      this.compareToLast(timestampHi, timestampLo, sessionHi, sessionLo) > 0,
      'the key of an appended entry is above the last key of the log',
    );
    const last = this.lastIndex;
    if (last - this.baseIndex > this.mask) this.useRows((this.mask + 1) * 2);
    const at = this.placeFor(need);
    const bytes = this.bytes;
    writeI32(bytes, at, this.chainHi(last));
    writeI32(bytes, at + 4, this.chainLo(last));
    writeI32(bytes, at + RecordAt.timestamp, timestampHi);
    writeI32(bytes, at + RecordAt.timestamp + 4, timestampLo);
    writeI32(bytes, at + RecordAt.session, sessionHi);
    writeI32(bytes, at + RecordAt.session + 4, sessionLo);
    writeI32(bytes, at + RecordAt.request, entry.request);
    writeU16(bytes, at + RecordAt.lane, entry.lane);
    bytes[at + RecordAt.flags] = entry.flags;
    bytes[at + RecordAt.flags + 1] = 0;
    copyWords(
      this.sources.of(entry.operationBytes),
      entry.operationOffset,
      this.words,
      at + RECORD_HEADER_BYTES,
      length,
    );
    const { rows } = this;
    const { fields } = this.arena;
    fields[HashField.offset] = at;
    fields[HashField.length] = need;
    this.arena.hash();
    const row = this.row(last + 1);
    rows[row + Row.place] = at;
    rows[row + Row.operationLength] = length;
    rows[row + Row.chainHi] = fields[HashField.hi]!;
    rows[row + Row.chainLo] = fields[HashField.lo]!;
    rows[row + Row.replyTo] = entry.replyTo;
    rows[row + Row.laneBefore] = 0;
    rows[row + Row.owner] = entry.owner;
    this.head = at + need;
    this.recordBytes += need;
    this.lastIndex = last + 1;
    const { lastKey } = this;
    lastKey[0] = timestampHi;
    lastKey[1] = timestampLo;
    lastKey[2] = sessionHi;
    lastKey[3] = sessionLo;
    invariant(
      this.lastIndex - this.baseIndex <= this.capacity && this.recordBytes <= this.limit,
      'a log that has grown is within its bounds',
    );
    return true;
  }

  /** Drops every entry behind `index`. */
  truncate(index: number): void {
    invariant(index >= this.baseIndex && index <= this.lastIndex, 'a log is truncated at an index that it holds');
    if (index === this.lastIndex) return;
    this.recordBytes -= this.bytesOf(index, this.lastIndex);
    this.head = this.record(index + 1);
    this.lastIndex = index;
    this.takeLastKey();
    invariant(this.recordBytes >= 0, 'a log has no fewer bytes than it gives up');
  }

  /** Forgets every entry up to `index`, which a snapshot covers. */
  cut(index: number): void {
    invariant(index >= this.baseIndex && index <= this.lastIndex, 'a log is cut at an index that it holds');
    if (index === this.baseIndex) return;
    const chainHi = this.chainHi(index);
    const chainLo = this.chainLo(index);
    this.recordBytes -= this.bytesOf(this.baseIndex, index);
    this.setBase({
      index,
      chainHi,
      chainLo,
      timestampHi: this.timestampHi(index),
      timestampLo: this.timestampLo(index),
      sessionHi: this.sessionHi(index),
      sessionLo: this.sessionLo(index),
    });
    this.takeLastKey();
    invariant(this.matches(index, chainHi, chainLo), 'a cut keeps the chain at its index');
    const slots = (this.mask + 1) / 2;
    if (slots >= SLOTS_MIN && (this.lastIndex - index) * SPARSE <= slots) this.useRows(slots);
  }

  /** Starts again, empty, behind the entry that `base` describes. */
  install(base: LogBase): void {
    this.recordBytes = 0;
    this.lastIndex = base.index;
    this.setBase(base);
    this.takeLastKey();
    invariant(
      this.lastIndex === this.baseIndex && this.matches(base.index, base.chainHi, base.chainLo),
      'a log that is installed is empty and begins with the chain of its base',
    );
  }

  /** Writes entry `index` (ENTRY_HEADER_BYTES + operation) and returns its length. */
  writeEntry(index: number, target: DataView, offset: number): number {
    const length = ENTRY_HEADER_BYTES + this.operationLength(index);
    copyWords(this.words, this.record(index) + RecordAt.timestamp, target, offset, length);
    return length;
  }

  /** Writes the header of entry `index`, ENTRY_HEADER_BYTES. */
  writeHeader(index: number, target: Uint8Array, offset: number): void {
    copyBytes(this.bytes, this.record(index) + RecordAt.timestamp, target, offset, ENTRY_HEADER_BYTES);
  }

  /** True if entry `index` equals the `length` bytes of an entry at `source[offset]`. */
  equalsEntry(index: number, source: Uint8Array, offset: number, length: number): boolean {
    if (length !== ENTRY_HEADER_BYTES + this.operationLength(index)) return false;
    const at = this.record(index) + RecordAt.timestamp;
    for (let i = 0; i < length; i++) if (this.bytes[at + i] !== source[offset + i]) return false;
    return true;
  }

  private row(index: number): number {
    return (index & this.mask) << ROW_SHIFT;
  }

  /** Where a record of `need` bytes goes. With all others it is within the limit. */
  private placeFor(need: number): number {
    if (this.recordBytes === 0) return 0;
    const { bytes } = this;
    const first = this.record(this.baseIndex + 1);
    if (this.head <= first) {
      if (this.head + need <= first) return this.head;
    } else {
      if (this.head + need <= this.room) return this.head;
      if (need <= first) {
        if (this.recordBytes * SPARSE <= this.room && this.room > ROOM_MIN)
          this.room = Math.max(ROOM_MIN, this.room >>> 1);
        return 0;
      }
    }
    this.moveTogether(first, need);
    this.room = Math.min(bytes.length, Math.max(this.room * 2, this.head + need));
    invariant(this.head + need <= this.room, 'records within the limit fit the arena');
    return this.head;
  }

  /** Leaves no gap between the records, and room for `need` bytes behind the last. */
  private moveTogether(first: number, need: number): void {
    const { bytes, rows, head, baseIndex, lastIndex } = this;
    let start = 0;
    if (head > first) bytes.copyWithin(0, first, head);
    else {
      // The records from `first` to `end` come first, then those from 0 to `head`.
      const end = first + this.recordBytes - head;
      if (end + head + need <= bytes.length) {
        bytes.copyWithin(end, 0, head);
        start = first;
      } else {
        const behind = bytes.slice(0, head);
        bytes.copyWithin(0, first, end);
        bytes.set(behind, end - first);
      }
    }
    let at = start;
    for (let index = baseIndex + 1; index <= lastIndex; index++) {
      rows[this.row(index) + Row.place] = at;
      at += RECORD_HEADER_BYTES + this.operationLength(index);
    }
    invariant(at === start + this.recordBytes, 'the records of a log are as long as their sum');
    this.head = at;
  }

  /** Changes the number of rows in use, and moves those whose place changes. */
  private useRows(slots: number): void {
    const { rows, mask } = this;
    this.mask = slots - 1;
    for (let index = this.baseIndex + 1; index <= this.lastIndex; index++) {
      const from = (index & mask) << ROW_SHIFT;
      const to = this.row(index);
      if (from !== to) rows.copyWithin(to, from, from + (1 << ROW_SHIFT));
    }
  }

  /** Bytes of the records behind `after` up to `last`. */
  private bytesOf(after: number, last: number): number {
    let sum = 0;
    for (let index = after + 1; index <= last; index++) sum += RECORD_HEADER_BYTES + this.operationLength(index);
    return sum;
  }

  private setBase(base: LogBase): void {
    this.baseIndex = base.index;
    this.baseChain[0] = base.chainHi;
    this.baseChain[1] = base.chainLo;
    this.baseKey[0] = base.timestampHi;
    this.baseKey[1] = base.timestampLo;
    this.baseKey[2] = base.sessionHi;
    this.baseKey[3] = base.sessionLo;
  }

  private takeLastKey(): void {
    const { lastKey, lastIndex } = this;
    lastKey[0] = this.timestampHi(lastIndex);
    lastKey[1] = this.timestampLo(lastIndex);
    lastKey[2] = this.sessionHi(lastIndex);
    lastKey[3] = this.sessionLo(lastIndex);
  }
}

function plainArena(length: number, hasher: Hasher): HashArena {
  const bytes = new Uint8Array(length);
  const fields = new Int32Array(4);
  const written = new Uint8Array(8);
  const hash = (): void => {
    hasher.hash64(bytes, fields[HashField.offset]!, fields[HashField.length]!, written, 0);
    fields[HashField.hi] = readI32(written, 0);
    fields[HashField.lo] = readI32(written, 4);
  };
  return { bytes, fields, hash };
}

/** Appends an entry in its wire form. Returns false if the log is full. */
export function appendEntry(log: Log, source: Uint8Array, offset: number, length: number): boolean {
  return log.append(log.stored.pointAtEntry(source, offset, length));
}

/** True if the key of the entry in wire form at `source[offset]` is above that of the one at `before[beforeOffset]`. */
export function keyFollows(before: Uint8Array, beforeOffset: number, source: Uint8Array, offset: number): boolean {
  for (let i = 0; i < KEY_BYTES; i++)
    if (source[offset + i] !== before[beforeOffset + i]) return source[offset + i]! > before[beforeOffset + i]!;
  return false;
}

/** True if the key of the entry in wire form at `source[offset]` is above that of entry `index` of the log. */
export function entryFollows(log: Log, index: number, source: Uint8Array, offset: number): boolean {
  return (
    (compareU64(readI32(source, offset), readI32(source, offset + 4), log.timestampHi(index), log.timestampLo(index)) ||
      compareU64(
        readI32(source, offset + 8),
        readI32(source, offset + 12),
        log.sessionHi(index),
        log.sessionLo(index),
      )) > 0
  );
}

/**
 * Why a stored log does not fit within `limits`, in words for people; undefined if it fits. Committed entries may be
 * covered by a snapshot while the log is read; those that are not known to be committed have to fit at once.
 * @param entries the entries from `firstIndex` on
 */
export function misfitOf(
  entries: Iterable<Uint8Array>,
  firstIndex: number,
  committed: number,
  limits: Pick<Limits, 'logEntries' | 'logBytes' | 'operationBytes'>,
): string | undefined {
  let index = firstIndex - 1;
  let count = 0;
  let bytes = 0;
  for (const entry of entries) {
    index++;
    const operationBytes = entry.length - ENTRY_HEADER_BYTES;
    if (operationBytes > limits.operationBytes)
      return `entry ${index} has an operation of ${operationBytes} bytes, and operationBytes is ${limits.operationBytes}`;
    if (index <= committed) continue;
    count++;
    bytes += RECORD_HEADER_BYTES + operationBytes;
  }
  if (count > limits.logEntries)
    return `${count} entries are not known to be committed, and logEntries is ${limits.logEntries}`;
  if (bytes > limits.logBytes)
    return `the entries not known to be committed take ${bytes} bytes, and logBytes is ${limits.logBytes}`;
  return undefined;
}
