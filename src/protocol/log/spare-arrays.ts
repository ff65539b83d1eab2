/**
 * Arrays for long payloads (payloads.ts) that are not in use now. A slot holds an array only while its payload is long, so
 * that memory is bounded by what the payloads need; and a lane whose results are long and short in turn allocates
 * nothing, because it gets back an array that was given up.
 */
import { wordsOf } from '../../wire/copy.js';

/** Shortest array, and bytes kept for each length. */
const SHORTEST = 128;
const KEPT_BYTES = 1 << 18;
const LENGTHS = 12;

/** Length of the array that holds a long payload: a power of two. */
export function roomFor(length: number): number {
  let size = SHORTEST;
  while (size < length) size *= 2;
  return size;
}

export class SpareArrays {
  private readonly bytes: (Uint8Array | undefined)[][] = Array.from({ length: LENGTHS }, () => []);
  private readonly words: (DataView | undefined)[][] = Array.from({ length: LENGTHS }, () => []);
  private readonly counts = new Int32Array(LENGTHS);
  /** The view of the array that `take` returned last. */
  taken = wordsOf(new Uint8Array(0));

  /** An array of that length, which is a power of two, with whatever it held before. */
  take(size: number): Uint8Array {
    const level = levelOf(size);
    if (this.counts[level] === 0) {
      const made = new Uint8Array(size);
      this.taken = wordsOf(made);
      return made;
    }
    const at = --this.counts[level]!;
    const found = this.bytes[level]![at]!;
    this.taken = this.words[level]![at]!;
    this.bytes[level]![at] = undefined;
    this.words[level]![at] = undefined;
    return found;
  }

  give(bytes: Uint8Array, words: DataView): void {
    const level = levelOf(bytes.length);
    const at = this.counts[level]!;
    if ((at + 1) * bytes.length > KEPT_BYTES) return;
    this.bytes[level]![at] = bytes;
    this.words[level]![at] = words;
    this.counts[level] = at + 1;
  }
}

function levelOf(size: number): number {
  return 31 - Math.clz32(size / SHORTEST);
}
