/**
 * The newest changes of a store, for those who watch it: revision, index of the entry of the log, kind and key of each.
 * A message that was published is one of them: its key is its channel, and it has its bytes here as well.
 *
 * It is local to a replica and not part of the state: no result and no snapshot depends on it. Its memory is bounded: a
 * new change takes the place of the oldest ones. `floor` says from which revision on it is complete. A change allocates
 * nothing. The ring also has changes of entries that are not committed, so a reader stops at the committed index (S: what
 * may be undone is never shown).
 */
import { compareBytes } from '../bytes.js';
import { copyBytes } from '../../wire/copy.js';
import { KV_KEY_BYTES_MAX } from '../kv-layout.js';

export const ChangeKind = { put: 0, delete: 1, expire: 2, message: 3 } as const;
export type ChangeKindCode = (typeof ChangeKind)[keyof typeof ChangeKind];

/** What somebody who watches needs of a store. `KvStore` is one. */
export interface WatchableStore {
  readonly changes: ChangeRing;
  /** The number of the last change. */
  readonly revision: number;
  /** The agreed time at which the next key or lease ends, ms; 0 if none will. */
  readonly nextEnd: number;
  /** The entry id of a key that has not ended, or -1. */
  find(key: Uint8Array, offset: number, length: number): number;
  /** The number of the last change of an entry. */
  revisionOf(id: number): number;
  /** Whether its value is not a string. */
  isCollection(id: number): boolean;
  readonly records: {
    valueLength(id: number): number;
    copyValue(id: number, target: Uint8Array, offset: number): void;
  };
}

/** Bytes of keys for each change that the ring has room for. */
const KEY_BYTES_EACH = 64;
const KEY_BYTES_MIN = 4 * KV_KEY_BYTES_MAX;

/** A message longer than this part of the memory for keys is not kept: it would take the place of too much. */
const MESSAGE_SHARE = 1 / 16;

/**
 * A change, in 8-byte columns: revision f64 | index of its entry f64 | head, place of the key | bytes taken, length of the
 * message. The last two are halves of a column each. Head: length of the key, 16 bits; kind, 3; event, 9. Bytes taken:
 * those of key and message, with those that were left free before them because they are never cut. Length of the
 * message: -1 if it was not kept.
 */
const REVISION = 0;
const INDEX = 1;
const COLUMNS = 4;
const HEAD = 4;
const PLACE = 5;
const TAKEN = 6;
const MESSAGE = 7;
const HALVES = 8;
const KIND_SHIFT = 16;
const KIND_MASK = 0x7;
const EVENT_SHIFT = 20;
const EVENT_MASK = 0x1ff;
const LENGTH_MASK = 0xffff;

/**
 * What made a change: a number that whoever changes the store gives (0: none), with what the store adds. It is a hint for
 * people who watch, and nothing is computed from it.
 */
export const EVENT_CODE_MASK = 0x7f;
export const EventFlag = {
  /** The key was not there before. */
  added: 0x80,
  /** It was given an end. */
  ends: 0x100,
} as const;

export class ChangeRing {
  /** Most changes that it holds; 0: it is off. */
  readonly size: number;
  private readonly keyBytes: number;
  private numbers = new Float64Array(0);
  private halves = new Int32Array(0);
  private bytes = new Uint8Array(0);
  /** `floor`, and the index of the entry that made the change with that revision. */
  private readonly complete = Float64Array.of(0, 0);
  /** Slot of the oldest change. */
  private first = 0;
  private held = 0;
  private keyEnd = 0;
  private keyBytesHeld = 0;

  constructor(size: number) {
    this.size = size;
    this.keyBytes = Math.max(KEY_BYTES_MIN, size * KEY_BYTES_EACH);
  }

  /** Changes that it holds, from 0, the oldest, to `count` − 1. */
  get count(): number {
    return this.held;
  }

  /** All changes after this revision are there, and no others. */
  get floor(): number {
    return this.complete[0]!;
  }

  /**
   * Index of the entry at `floor`; 0: that of a snapshot. Above the committed index, the floor may be lowered by undoing,
   * and then belongs to other changes (S: nobody has seen everything up to such a floor).
   */
  get floorIndex(): number {
    return this.complete[1]!;
  }

  /** Forgets everything: changes after this revision follow. @param index of the entry that led to it; 0: a snapshot */
  begin(revision: number, index = 0): void {
    this.first = this.held = this.keyEnd = this.keyBytesHeld = 0;
    this.complete[0] = revision;
    this.complete[1] = index;
  }

  /**
   * @param index of the entry that makes the change
   * @param event what made it, with its EventFlags
   */
  add(
    revision: number,
    index: number,
    kind: ChangeKindCode,
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    event = 0,
  ): void {
    if (this.size === 0) return;
    const place = this.place(revision, index, kind, keyLength, 0, event);
    copyBytes(key, keyOffset, this.bytes, place, keyLength);
  }

  /** A message on a channel. A long one is noted without its bytes. */
  addMessage(
    revision: number,
    index: number,
    bytes: Uint8Array,
    channelOffset: number,
    channelLength: number,
    messageOffset: number,
    messageLength: number,
  ): void {
    if (this.size === 0) return;
    const isKept = channelLength + messageLength <= this.keyBytes * MESSAGE_SHARE;
    const length = isKept ? messageLength : -1;
    const place = this.place(revision, index, ChangeKind.message, channelLength, length, 0);
    copyBytes(bytes, channelOffset, this.bytes, place, channelLength);
    if (isKept) copyBytes(bytes, messageOffset, this.bytes, place + channelLength, messageLength);
  }

  /** Makes room for a change, and notes it. Returns where its key belongs. @param messageLength -1: it is not kept */
  private place(
    revision: number,
    index: number,
    kind: ChangeKindCode,
    keyLength: number,
    messageLength: number,
    event: number,
  ): number {
    if (this.bytes.length === 0) this.open();
    const length = keyLength + Math.max(0, messageLength);
    const isCut = this.keyEnd + length > this.keyBytes;
    const taken = isCut ? this.keyBytes - this.keyEnd + length : length;
    while (this.held === this.size || this.keyBytesHeld + taken > this.keyBytes) this.drop();
    const place = isCut ? 0 : this.keyEnd;
    let slot = this.first + this.held;
    if (slot >= this.size) slot -= this.size;
    this.numbers[COLUMNS * slot + REVISION] = revision;
    this.numbers[COLUMNS * slot + INDEX] = index;
    this.halves[HALVES * slot + HEAD] = (event << EVENT_SHIFT) | (kind << KIND_SHIFT) | keyLength;
    this.halves[HALVES * slot + PLACE] = place;
    this.halves[HALVES * slot + TAKEN] = taken;
    this.halves[HALVES * slot + MESSAGE] = messageLength;
    this.keyEnd = place + length;
    this.keyBytesHeld += taken;
    this.held++;
    return place;
  }

  /** The changes of entries behind `index` were undone; the store's revision is `revision` again. */
  undoTo(index: number, revision: number): void {
    while (this.held > 0 && this.indexOf(this.held - 1) > index) {
      const slot = this.slotOf(--this.held);
      this.keyBytesHeld -= this.halves[HALVES * slot + TAKEN]!;
      this.keyEnd -= this.halves[HALVES * slot + TAKEN]!;
      if (this.keyEnd < 0) this.keyEnd += this.keyBytes;
    }
    if (this.held > 0) return;
    this.complete[0] = Math.min(this.complete[0]!, revision);
    this.complete[1] = Math.min(this.complete[1]!, index);
  }

  /** The first change after this revision, which is not below `floor`; `count` if there is none. */
  after(revision: number): number {
    let low = 0;
    let high = this.held;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.revisionOf(middle) <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The store's revision after the entry with this index; −1: that is no longer known. */
  revisionAt(index: number): number {
    const next = this.behind(index);
    if (next > 0) return this.revisionOf(next - 1);
    return this.floorIndex <= index ? this.floor : -1;
  }

  /** The first change of an entry behind `index`; `count` if there is none. */
  behind(index: number): number {
    let low = 0;
    let high = this.held;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.indexOf(middle) <= index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  revisionOf(change: number): number {
    return this.numbers[COLUMNS * this.slotOf(change) + REVISION]!;
  }

  /** Index of the entry that made it. */
  indexOf(change: number): number {
    return this.numbers[COLUMNS * this.slotOf(change) + INDEX]!;
  }

  kindOf(change: number): ChangeKindCode {
    return ((this.halves[HALVES * this.slotOf(change) + HEAD]! >> KIND_SHIFT) & KIND_MASK) as ChangeKindCode;
  }

  /** What made it, with its EventFlags. */
  eventOf(change: number): number {
    return (this.halves[HALVES * this.slotOf(change) + HEAD]! >>> EVENT_SHIFT) & EVENT_MASK;
  }

  /** -1: its bytes were not kept. */
  messageLength(change: number): number {
    return this.halves[HALVES * this.slotOf(change) + MESSAGE]!;
  }

  /** Copies the bytes of a message that were kept. */
  copyMessage(change: number, target: Uint8Array, offset: number): void {
    const slot = this.slotOf(change);
    const place = this.halves[HALVES * slot + PLACE]! + (this.halves[HALVES * slot + HEAD]! & LENGTH_MASK);
    copyBytes(this.bytes, place, target, offset, this.halves[HALVES * slot + MESSAGE]!);
  }

  keyLength(change: number): number {
    return this.halves[HALVES * this.slotOf(change) + HEAD]! & LENGTH_MASK;
  }

  copyKey(change: number, target: Uint8Array, offset: number): void {
    const slot = this.slotOf(change);
    copyBytes(
      this.bytes,
      this.halves[HALVES * slot + PLACE]!,
      target,
      offset,
      this.halves[HALVES * slot + HEAD]! & LENGTH_MASK,
    );
  }

  hasPrefix(change: number, prefix: Uint8Array, offset: number, length: number): boolean {
    const slot = this.slotOf(change);
    const place = this.halves[HALVES * slot + PLACE]!;
    return (
      (this.halves[HALVES * slot + HEAD]! & LENGTH_MASK) >= length &&
      compareBytes(this.bytes, place, length, prefix, offset, length) === 0
    );
  }

  private slotOf(change: number): number {
    const slot = this.first + change;
    return slot >= this.size ? slot - this.size : slot;
  }

  private drop(): void {
    const slot = this.first;
    this.complete[0] = this.numbers[COLUMNS * slot + REVISION]!;
    this.complete[1] = this.numbers[COLUMNS * slot + INDEX]!;
    this.keyBytesHeld -= this.halves[HALVES * slot + TAKEN]!;
    this.first = slot + 1 === this.size ? 0 : slot + 1;
    this.held--;
  }

  /** At the first change: a store without any needs no memory for it. */
  private open(): void {
    this.numbers = new Float64Array(COLUMNS * this.size);
    this.halves = new Int32Array(this.numbers.buffer);
    this.bytes = new Uint8Array(this.keyBytes);
  }
}
