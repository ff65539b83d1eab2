/**
 * Arrays for long payloads (payloads.ts) that are not in use now. A slot holds an array only while its payload is long, so
 * that memory is bounded by what the payloads need; and a lane whose results are long and short in turn allocates
 * nothing, because it gets back an array that was given up. So do the lanes of a session that comes in place of an evicted
 * one: arrays made and left by the thousand would stop the process for V8's collector again and again.
 */
import { wordsOf } from '../../wire/copy.js';

const SHORTEST = 128;
const LENGTHS = 12;
/** Arrays kept of each length. */
const KEPT_ARRAYS = 4096;
/** Bytes kept of all lengths together. */
const KEPT_BYTES = 3 << 20;

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
  /** Arrays made since construction. */
  made = 0;
  /** Bytes that are kept. */
  kept = 0;

  constructor(private readonly keptMax = KEPT_BYTES) {}

  /** An array of that length, which is a power of two, with whatever it held before. */
  take(size: number): Uint8Array {
    const level = levelOf(size);
    if (this.counts[level] === 0) {
      const made = new Uint8Array(size);
      this.taken = wordsOf(made);
      this.made++;
      return made;
    }
    this.kept -= size;
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
    if (at >= KEPT_ARRAYS || this.kept + bytes.length > this.keptMax) return;
    this.kept += bytes.length;
    this.bytes[level]![at] = bytes;
    this.words[level]![at] = words;
    this.counts[level] = at + 1;
  }
}

function levelOf(size: number): number {
  return 31 - Math.clz32(size / SHORTEST);
}
