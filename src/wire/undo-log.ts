/**
 * What it takes to undo the newest entries of a log: a stack of records, each with the index of the entry that it belongs
 * to. The newest are read back and taken off; the oldest are released when their entries are committed.
 *
 * Its memory is bounded. Where the bound is reached the oldest records are lost, and so is what came before them: `reaches`
 * says how far back one can go. Writing a record allocates nothing, except for the first of a segment.
 */
import { wordsOf } from './copy.js';

const SEGMENT_BYTES = 1 << 18;
/** At least so many segments, so that at the bound a part is lost and not all. */
const SEGMENTS_MIN = 4;
/** Behind each record: index of its entry f64, its length i32. */
const FOOTER_BYTES = 12;
const EMPTY: Uint8Array = new Uint8Array(0);
const EMPTY_WORDS = wordsOf(EMPTY);

class Segment {
  readonly bytes: Uint8Array;
  readonly words: DataView;
  filled = 0;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.words = wordsOf(this.bytes);
  }

  /** Index of the newest record. */
  get newest(): number {
    return this.words.getFloat64(this.filled - FOOTER_BYTES);
  }
}

export class UndoLog {
  /** Where the record is that was added or read last: `length` bytes from `offset` on. */
  bytes = EMPTY;
  words = EMPTY_WORDS;
  offset = 0;
  length = 0;

  /** Oldest first. Only the last one may be empty. */
  private readonly segments: Segment[] = [];
  /** A segment that was released, if there is one. */
  private spare: Segment | undefined;
  private readonly segmentBytes: number;
  private readonly segmentsMax: number;
  /** In an array, because a field that outgrows 31 bits would allocate. Of the newest record that was lost: its index. */
  private readonly lostTo = new Float64Array(1);

  constructor(maxBytes: number) {
    this.segmentBytes = Math.min(SEGMENT_BYTES, Math.floor(maxBytes / SEGMENTS_MIN));
    this.segmentsMax = this.segmentBytes === 0 ? 0 : Math.floor(maxBytes / this.segmentBytes);
  }

  /** Bytes of memory that it holds. For tests. */
  get heldBytes(): number {
    return (this.segments.length + (this.spare === undefined ? 0 : 1)) * this.segmentBytes;
  }

  /**
   * Adds a record of entry `index`, which is not below that of the one before. Write it to `bytes` from `offset` on. False
   * if it is longer than a segment: then everything up to this entry is lost.
   */
  add(index: number, length: number): boolean {
    const size = length + FOOTER_BYTES;
    if (size > this.segmentBytes) {
      this.lose(index);
      return false;
    }
    const { segments } = this;
    let segment = segments.length === 0 ? this.open() : segments[segments.length - 1]!;
    if (segment.filled + size > this.segmentBytes) segment = this.open();
    this.pointAt(segment, segment.filled, length);
    segment.words.setFloat64(segment.filled + length, index);
    segment.words.setInt32(segment.filled + length + 8, length);
    segment.filled += size;
    return true;
  }

  /** Points at the newest record. False if there is none that belongs to an entry behind `index`. */
  last(index: number): boolean {
    const segment = this.segments[this.segments.length - 1];
    if (segment === undefined || segment.filled === 0 || segment.newest <= index) return false;
    const length = segment.words.getInt32(segment.filled - 4);
    this.pointAt(segment, segment.filled - FOOTER_BYTES - length, length);
    return true;
  }

  /** Takes the newest record off. What was pointed at stays readable until the next `add`. */
  pop(): void {
    const { segments } = this;
    const segment = segments[segments.length - 1]!;
    segment.filled -= segment.words.getInt32(segment.filled - 4) + FOOTER_BYTES;
    if (segment.filled === 0 && segments.length > 1) this.spare = segments.pop();
  }

  /** Whether what entries behind `index` did can be undone. */
  reaches(index: number): boolean {
    return index >= this.lostTo[0]!;
  }

  /** Nothing up to entry `index` will be undone. */
  release(index: number): void {
    const { segments } = this;
    while (segments.length > 0 && segments[0]!.filled > 0 && segments[0]!.newest <= index) {
      if (segments.length > 1) this.spare = segments.shift();
      else segments[0]!.filled = 0;
    }
  }

  /** Nothing up to entry `index`, the newest one, can be undone any more. */
  lose(index: number): void {
    this.clear();
    this.lostTo[0] = index;
  }

  /** There is nothing to be undone. */
  clear(): void {
    this.lostTo[0] = 0;
    if (this.segments.length > 0) this.segments.length = 1;
    if (this.segments.length > 0) this.segments[0]!.filled = 0;
  }

  private open(): Segment {
    const { segments } = this;
    let segment = this.spare;
    if (segments.length >= this.segmentsMax) {
      segment = segments.shift()!;
      this.lostTo[0] = segment.newest;
    } else this.spare = undefined;
    segment ??= new Segment(this.segmentBytes);
    segment.filled = 0;
    segments.push(segment);
    return segment;
  }

  private pointAt(segment: Segment, offset: number, length: number): void {
    this.bytes = segment.bytes;
    this.words = segment.words;
    this.offset = offset;
    this.length = length;
  }
}
