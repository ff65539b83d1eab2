/**
 * A few bytes for each of a fixed number of slots: operations that wait to commit, results that may be requested again.
 *
 * Short payloads lie side by side in one array, so writing one needs no lookup and touches little memory. A longer one
 * has an array of its own, which is given up when the slot's payload needs another length (spare-arrays.ts).
 */
import { copyWords, wordsOf } from '../../wire/copy.js';
import { roomFor, SpareArrays } from './spare-arrays.js';

const EMPTY = new Uint8Array(0);
const EMPTY_WORDS = wordsOf(EMPTY);

export class Payloads {
  private lengths: Int32Array;
  /** Created when the first short payload arrives. */
  private short = EMPTY;
  private shortWords = EMPTY_WORDS;
  private readonly long: Uint8Array[];
  private readonly longWords: DataView[];
  /** Parts of `short`, for callers that need an array that begins with the payload. */
  private readonly parts: (Uint8Array | undefined)[];

  /** @param shortBytes longest short payload */
  constructor(
    private slots: number,
    private readonly shortBytes: number,
    private readonly spares = new SpareArrays(),
  ) {
    this.lengths = new Int32Array(slots);
    this.long = new Array<Uint8Array>(slots).fill(EMPTY);
    this.longWords = new Array<DataView>(slots).fill(EMPTY_WORDS);
    this.parts = new Array<Uint8Array | undefined>(slots).fill(undefined);
  }

  /** Makes room for more slots; the first ones stay as they are. */
  grow(slots: number): void {
    const { lengths, short } = this;
    this.lengths = new Int32Array(slots);
    this.lengths.set(lengths);
    for (let slot = this.slots; slot < slots; slot++) {
      this.long.push(EMPTY);
      this.longWords.push(EMPTY_WORDS);
      this.parts.push(undefined);
    }
    this.slots = slots;
    if (short.length === 0) return;
    this.makeShort();
    this.short.set(short);
    this.parts.fill(undefined);
  }

  /** Copies `length` bytes into a slot. Allocates if no array of that length was given up before. */
  put(slot: number, source: DataView, offset: number, length: number): void {
    this.lengths[slot] = length;
    const size = this.sizeOf(length);
    if (size !== this.long[slot]!.length) this.exchange(slot, size);
    if (size > 0) {
      copyWords(source, offset, this.longWords[slot]!, 0, length);
      return;
    }
    if (this.short.length === 0) this.makeShort();
    copyWords(source, offset, this.shortWords, slot * this.shortBytes, length);
  }

  /** Bytes that a payload of that length has for itself. */
  sizeOf(length: number): number {
    return length > this.shortBytes ? roomFor(length) : 0;
  }

  length(slot: number): number {
    return this.lengths[slot]!;
  }

  /** Where the payload is: from `offset` of `words` on; valid until the next `put`. */
  words(slot: number): DataView {
    return this.lengths[slot]! > this.shortBytes ? this.longWords[slot]! : this.shortWords;
  }

  offset(slot: number): number {
    return this.lengths[slot]! > this.shortBytes ? 0 : slot * this.shortBytes;
  }

  /** An array that begins with the payload. Allocates the first time. */
  bytes(slot: number): Uint8Array {
    if (this.lengths[slot]! > this.shortBytes) return this.long[slot]!;
    if (this.short.length === 0) this.makeShort();
    return (this.parts[slot] ??= this.short.subarray(slot * this.shortBytes, (slot + 1) * this.shortBytes));
  }

  /** Empties a slot; its array goes to the spares. */
  clear(slot: number): void {
    this.lengths[slot] = 0;
    if (this.long[slot]!.length > 0) this.exchange(slot, 0);
  }

  private makeShort(): void {
    this.short = new Uint8Array(this.slots * this.shortBytes);
    this.shortWords = wordsOf(this.short);
  }

  private exchange(slot: number, size: number): void {
    const { spares, long, longWords } = this;
    if (long[slot]!.length > 0) spares.give(long[slot]!, longWords[slot]!);
    long[slot] = size === 0 ? EMPTY : spares.take(size);
    longWords[slot] = size === 0 ? EMPTY_WORDS : spares.taken;
  }
}
