/**
 * Stores the keys and values: records in 256 KiB segments, found by a small entry id.
 *
 * New records are only ever appended to the open segment. An overwrite or a delete leaves garbage behind until the
 * segment is cleaned: the live records of the segment with the most garbage move to the open one, and the segment is
 * used again. One call cleans at most two segments, so the pause is bounded (some tens of microseconds). Garbage stays
 * near a third of the filled bytes. No result of the store depends on where a record lies or when it moves.
 *
 *     segment | record | record | record | … |
 *     record | id i32 | size i32 | meta, 16 bytes | key | value | padding to 8 | in words of the machine
 *     meta   | revision, lower half | upper half, type in the top byte | hold, lower half | upper half, kind in the top byte |
 *
 * The meta says what the change of the key was numbered, of what type its value is (kv-layout.ts, ValueType), and how
 * long the key stays (Hold). It is 0 in a store of level 0, and in a part of a collection: a record's key may be the name
 * of a part, and the length of it then has PART_FLAG.
 *
 * The rule: the row of `id` names the one live record of `id`. Any other record that carries this id is garbage.
 *
 * Rows lie in pages, so that no call copies those of a million entries to make room for more.
 */
import { copyBytes } from '../wire/copy.js';
import { readI32, writeI32 } from '../wire/u64.js';
import { compareBytes, equalBytes } from './bytes.js';
import { NAME_BYTES_MASK, PART_FLAG } from './kv-layout.js';

const SEGMENT_BYTES = 256 * 1024;
/** Bytes of the meta in a snapshot. */
export const META_BYTES = 16;
const META_WORD = 2;
const META_WORDS = META_BYTES / 4;
const RECORD_HEADER_BYTES = 8 + META_BYTES;
const TWO_32 = 4294967296;
/** The upper half of a safe integer has 21 bits. */
const UPPER_MASK = 0x1fffff;
const TOP_SHIFT = 24;
/** Unit of places, so that an int32 reaches 8 GiB. */
const PLACE_UNIT_BYTES = 8;
const PLACE_SHIFT = 3;
const UNITS_PER_SEGMENT_SHIFT = 15; // 256 KiB / 8
const UNITS_PER_SEGMENT_MASK = (1 << UNITS_PER_SEGMENT_SHIFT) - 1;
/** A row: where the record lies, and `key length << 16 | value length`. A free id's row links to the next free id. */
const ROW_WORDS = 2;
const PAGE_SHIFT = 12;
const PAGE_ROWS = 1 << PAGE_SHIFT;
const PAGE_MASK = PAGE_ROWS - 1;
/** Most empty segments that are kept for reuse. Further ones go to the garbage collector. */
const SPARE_SEGMENTS_MAX = 4;
/** With less garbage than this, cleaning does not pay. */
const GARBAGE_BYTES_MIN = 2 * SEGMENT_BYTES;
const CLEANED_SEGMENTS_PER_CALL_MAX = 2;

class Segment {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** End of the last record. */
  filledBytes = 0;
  liveBytes = 0;

  constructor() {
    this.words = new Int32Array(SEGMENT_BYTES / 4);
    this.bytes = new Uint8Array(this.words.buffer);
  }
}

export class RecordHeap {
  #segments: (Segment | null)[] = [];
  #emptyIndexes: number[] = [];
  #spares: Segment[] = [];
  #open = 0;
  #sealedBytes = 0;
  #liveBytes = 0;

  readonly #pages: Int32Array[] = [];
  #idCount = 0;
  /** The free id that is used next, or -1. */
  #freeId = -1;

  constructor() {
    this.#openSegment();
  }

  /** Bytes of memory held in segments: live records, garbage, the unused rest and spares. For tests and metrics. */
  get heldBytes(): number {
    return (this.#segments.length - this.#emptyIndexes.length + this.#spares.length) * SEGMENT_BYTES;
  }

  /** Every id is below this. */
  get idCount(): number {
    return this.#idCount;
  }

  /** Of a part with PART_FLAG. */
  keyLength(id: number): number {
    return this.#lengths(id) >>> 16;
  }

  /** The same without the flag. */
  keyBytes(id: number): number {
    return (this.#lengths(id) >>> 16) & NAME_BYTES_MASK;
  }

  isPart(id: number): boolean {
    // The flag is the sign.
    return this.#lengths(id) < 0;
  }

  valueLength(id: number): number {
    return this.#lengths(id) & 0xffff;
  }

  add(
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): number {
    const id = this.#takeId();
    const keyBytes = keyLength & NAME_BYTES_MASK;
    const place = this.#append(id, recordSize(keyBytes, valueLength));
    const segment = this.#segmentAt(place);
    const at = offsetAt(place) + RECORD_HEADER_BYTES;
    copyBytes(key, keyOffset, segment.bytes, at, keyBytes);
    copyBytes(value, valueOffset, segment.bytes, at + keyBytes, valueLength);
    const meta = (offsetAt(place) >> 2) + META_WORD;
    for (let i = 0; i < META_WORDS; i++) segment.words[meta + i] = 0;
    this.#setRow(id, place, keyLength, valueLength);
    this.#clean();
    return id;
  }

  /** Adds a copy of another heap's record. */
  addFrom(source: RecordHeap, sourceId: number): number {
    const bytes = source.valueBytes(sourceId);
    const key = source.keyOffset(sourceId);
    const value = source.valueOffset(sourceId);
    const id = this.add(bytes, key, source.keyLength(sourceId), bytes, value, source.valueLength(sourceId));
    const words = this.#wordsOf(id);
    const from = source.#wordsOf(sourceId);
    const at = this.#metaAt(id);
    const fromAt = source.#metaAt(sourceId);
    for (let i = 0; i < META_WORDS; i++) words[at + i] = from[fromAt + i]!;
    return id;
  }

  /** What the last change of the key was numbered; 0 if that was before changes were numbered. */
  revision(id: number): number {
    const words = this.#wordsOf(id);
    const at = this.#metaAt(id);
    return (words[at + 1]! & UPPER_MASK) * TWO_32 + (words[at]! >>> 0);
  }

  holdKind(id: number): number {
    return this.#wordsOf(id)[this.#metaAt(id) + 3]! >>> TOP_SHIFT;
  }

  hold(id: number): number {
    const words = this.#wordsOf(id);
    const at = this.#metaAt(id);
    return (words[at + 3]! & UPPER_MASK) * TWO_32 + (words[at + 2]! >>> 0);
  }

  /** The type of a key's value. */
  type(id: number): number {
    return this.#wordsOf(id)[this.#metaAt(id) + 1]! >>> TOP_SHIFT;
  }

  /** The value was changed, and is a string. */
  setRevision(id: number, revision: number): void {
    const words = this.#wordsOf(id);
    const at = this.#metaAt(id);
    words[at] = revision;
    words[at + 1] = revision / TWO_32;
  }

  /** To be called after `setRevision`. */
  setType(id: number, type: number): void {
    this.#wordsOf(id)[this.#metaAt(id) + 1]! |= type << TOP_SHIFT;
  }

  setHold(id: number, kind: number, hold: number): void {
    const words = this.#wordsOf(id);
    const at = this.#metaAt(id);
    words[at + 2] = hold;
    words[at + 3] = (hold / TWO_32) | (kind << TOP_SHIFT);
  }

  /** Writes the meta as META_BYTES bytes, the same in every process. */
  copyMeta(id: number, target: Uint8Array, offset: number): void {
    const words = this.#wordsOf(id);
    const at = this.#metaAt(id);
    for (let i = 0; i < META_WORDS; i++) writeI32(target, offset + 4 * i, words[at + i]!);
  }

  /** Sets the meta to what `copyMeta` wrote. */
  setMeta(id: number, source: Uint8Array, offset: number): void {
    const words = this.#wordsOf(id);
    const at = this.#metaAt(id);
    for (let i = 0; i < META_WORDS; i++) words[at + i] = readI32(source, offset + 4 * i);
  }

  /** Writes in place if the record is large enough and not more than half of it stays unused. */
  setValue(id: number, value: Uint8Array, valueOffset: number, valueLength: number): void {
    const place = this.#place(id);
    const segment = this.#segmentAt(place);
    const offset = offsetAt(place);
    const keyLength = this.keyLength(id);
    const keyBytes = keyLength & NAME_BYTES_MASK;
    const size = segment.words[(offset >> 2) + 1]!;
    const needed = recordSize(keyBytes, valueLength);
    if (needed <= size && needed * 2 >= size) {
      copyBytes(value, valueOffset, segment.bytes, offset + RECORD_HEADER_BYTES + keyBytes, valueLength);
      this.#setRow(id, place, keyLength, valueLength);
      return;
    }
    const newPlace = this.#append(id, needed);
    const target = this.#segmentAt(newPlace).bytes;
    const at = offsetAt(newPlace) + RECORD_HEADER_BYTES;
    // Two records may share a segment, but a record never overlaps another.
    copyBytes(segment.bytes, offset + RECORD_HEADER_BYTES, target, at, keyBytes);
    copyBytes(value, valueOffset, target, at + keyBytes, valueLength);
    const { words } = this.#segmentAt(newPlace);
    const meta = (offset >> 2) + META_WORD;
    const newMeta = (offsetAt(newPlace) >> 2) + META_WORD;
    for (let i = 0; i < META_WORDS; i++) words[newMeta + i] = segment.words[meta + i]!;
    this.#setRow(id, newPlace, keyLength, valueLength);
    this.#discard(place, size);
    this.#clean();
  }

  remove(id: number): void {
    const place = this.#place(id);
    const size = this.#segmentAt(place).words[(offsetAt(place) >> 2) + 1]!;
    // Below 0, which no place is, so that its garbage is not taken for a live record.
    this.#setRow(id, -2 - this.#freeId, 0, 0);
    this.#freeId = id;
    this.#discard(place, size);
    this.#clean();
  }

  keyEquals(id: number, bytes: Uint8Array, offset: number, length: number): boolean {
    const page = this.#pages[id >>> PAGE_SHIFT]!;
    const row = (id & PAGE_MASK) * ROW_WORDS;
    if (page[row + 1]! >>> 16 !== length) return false;
    const place = page[row]!;
    const at = offsetAt(place) + RECORD_HEADER_BYTES;
    return equalBytes(this.#segmentAt(place).bytes, at, bytes, offset, length & NAME_BYTES_MASK);
  }

  /** Sign of (key of `id`) − (the bytes given). A part is above every key. */
  compareKey(id: number, bytes: Uint8Array, offset: number, length: number): number {
    const place = this.#place(id);
    const own = this.keyLength(id);
    if (((own ^ length) & PART_FLAG) !== 0) return own - length;
    return compareBytes(
      this.#segmentAt(place).bytes,
      offsetAt(place) + RECORD_HEADER_BYTES,
      own & NAME_BYTES_MASK,
      bytes,
      offset,
      length & NAME_BYTES_MASK,
    );
  }

  valueEquals(id: number, bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.valueLength(id) !== length) return false;
    return equalBytes(this.valueBytes(id), this.valueOffset(id), bytes, offset, length);
  }

  copyKey(id: number, target: Uint8Array, offset: number): void {
    copyBytes(this.valueBytes(id), this.keyOffset(id), target, offset, this.keyBytes(id));
  }

  copyValue(id: number, target: Uint8Array, offset: number): void {
    copyBytes(this.valueBytes(id), this.valueOffset(id), target, offset, this.valueLength(id));
  }

  /**
   * The array that holds the key, at `keyOffset(id)`, and the value, at `valueOffset(id)`; valid until the heap changes.
   */
  valueBytes(id: number): Uint8Array {
    return this.#segmentAt(this.#place(id)).bytes;
  }

  keyOffset(id: number): number {
    return offsetAt(this.#place(id)) + RECORD_HEADER_BYTES;
  }

  valueOffset(id: number): number {
    return this.keyOffset(id) + this.keyBytes(id);
  }

  #place(id: number): number {
    return this.#pages[id >>> PAGE_SHIFT]![(id & PAGE_MASK) * ROW_WORDS]!;
  }

  #wordsOf(id: number): Int32Array {
    return this.#segmentAt(this.#place(id)).words;
  }

  /** Where the meta of a record begins, in words of its segment. */
  #metaAt(id: number): number {
    return (offsetAt(this.#place(id)) >> 2) + META_WORD;
  }

  #lengths(id: number): number {
    return this.#pages[id >>> PAGE_SHIFT]![(id & PAGE_MASK) * ROW_WORDS + 1]!;
  }

  #setRow(id: number, place: number, keyLength: number, valueLength: number): void {
    const page = this.#pages[id >>> PAGE_SHIFT]!;
    const row = (id & PAGE_MASK) * ROW_WORDS;
    page[row] = place;
    page[row + 1] = (keyLength << 16) | valueLength;
  }

  #segmentAt(place: number): Segment {
    return this.#segments[place >>> UNITS_PER_SEGMENT_SHIFT] as Segment;
  }

  #takeId(): number {
    const id = this.#freeId;
    if (id >= 0) {
      this.#freeId = -2 - this.#place(id);
      return id;
    }
    if (this.#idCount === this.#pages.length << PAGE_SHIFT) this.#pages.push(new Int32Array(PAGE_ROWS * ROW_WORDS));
    return this.#idCount++;
  }

  /** Reserves a record at the end of the open segment and writes its header. */
  #append(id: number, size: number): number {
    let segment = this.#segments[this.#open] as Segment;
    if (segment.filledBytes + size > SEGMENT_BYTES) {
      this.#seal();
      this.#openSegment();
      segment = this.#segments[this.#open] as Segment;
    }
    const offset = segment.filledBytes;
    segment.words[offset >> 2] = id;
    segment.words[(offset >> 2) + 1] = size;
    segment.filledBytes += size;
    segment.liveBytes += size;
    this.#liveBytes += size;
    return (this.#open << UNITS_PER_SEGMENT_SHIFT) | (offset >> PLACE_SHIFT);
  }

  #openSegment(): void {
    const segment = this.#spares.pop() ?? new Segment();
    const index = this.#emptyIndexes.pop() ?? this.#segments.length;
    this.#segments[index] = segment;
    this.#open = index;
  }

  #seal(): void {
    this.#sealedBytes += SEGMENT_BYTES;
    if ((this.#segments[this.#open] as Segment).liveBytes === 0) this.#release(this.#open);
  }

  /** Takes a sealed segment without live records out of use. */
  #release(index: number): void {
    const segment = this.#segments[index] as Segment;
    this.#sealedBytes -= SEGMENT_BYTES;
    this.#segments[index] = null;
    this.#emptyIndexes.push(index);
    segment.filledBytes = 0;
    if (this.#spares.length < SPARE_SEGMENTS_MAX) this.#spares.push(segment);
  }

  #discard(place: number, size: number): void {
    const segment = this.#segmentAt(place);
    segment.liveBytes -= size;
    this.#liveBytes -= size;
    const index = place >>> UNITS_PER_SEGMENT_SHIFT;
    if (segment.liveBytes === 0 && index !== this.#open) this.#release(index);
  }

  #clean(): void {
    for (let cleaned = 0; cleaned < CLEANED_SEGMENTS_PER_CALL_MAX; cleaned++) {
      const filled = this.#sealedBytes + (this.#segments[this.#open] as Segment).filledBytes;
      const garbage = filled - this.#liveBytes;
      if (garbage < GARBAGE_BYTES_MIN || garbage * 3 < filled) return;
      this.#cleanSegment(this.#emptiestSealed());
    }
  }

  /** The sealed segment with the most garbage. There is one: the open segment alone cannot hold this much garbage. */
  #emptiestSealed(): number {
    let best = -1;
    let bestLive = SEGMENT_BYTES + 1;
    for (let i = 0; i < this.#segments.length; i++) {
      const segment = this.#segments[i] as Segment | null;
      if (segment === null || i === this.#open || segment.liveBytes >= bestLive) continue;
      best = i;
      bestLive = segment.liveBytes;
    }
    return best;
  }

  #cleanSegment(index: number): void {
    const source = this.#segments[index] as Segment;
    const end = source.filledBytes;
    for (let offset = 0; offset < end; ) {
      const word = offset >> 2;
      const id = source.words[word]!;
      const size = source.words[word + 1]!;
      const place = (index << UNITS_PER_SEGMENT_SHIFT) | (offset >> PLACE_SHIFT);
      if (this.#place(id) === place) {
        const newPlace = this.#append(id, size);
        const target = this.#segmentAt(newPlace).words;
        const targetWord = offsetAt(newPlace) >> 2;
        for (let i = META_WORD; i < size / 4; i++) target[targetWord + i] = source.words[word + i]!;
        this.#setRow(id, newPlace, this.keyLength(id), this.valueLength(id));
        this.#discard(place, size);
      }
      offset += size;
    }
  }
}

function recordSize(keyLength: number, valueLength: number): number {
  return (RECORD_HEADER_BYTES + keyLength + valueLength + PLACE_UNIT_BYTES - 1) & ~(PLACE_UNIT_BYTES - 1);
}

function offsetAt(place: number): number {
  return (place & UNITS_PER_SEGMENT_MASK) << PLACE_SHIFT;
}
