/** A few bytes for each of a fixed number of slots: operations that wait to commit, results that wait to be asked for again. */
import { copyWords, viewOf } from '../wire/copy.js';

const EMPTY = new Uint8Array(0);
const EMPTY_VIEW = viewOf(EMPTY);
const BYTES_MIN = 16;

export class Payloads {
  private readonly arrays: Uint8Array[];
  private readonly views: DataView[];
  private readonly lengths: Int32Array;

  constructor(slots: number) {
    this.arrays = new Array<Uint8Array>(slots).fill(EMPTY);
    this.views = new Array<DataView>(slots).fill(EMPTY_VIEW);
    this.lengths = new Int32Array(slots);
  }

  /** Copies `length` bytes into a slot. Allocates when no payload of this slot was so long before. */
  put(slot: number, source: DataView, offset: number, length: number): void {
    if (length > this.arrays[slot]!.length) {
      const array = new Uint8Array(roundUp(length));
      this.arrays[slot] = array;
      this.views[slot] = viewOf(array);
    }
    copyWords(source, offset, this.views[slot]!, 0, length);
    this.lengths[slot] = length;
  }

  length(slot: number): number {
    return this.lengths[slot]!;
  }

  /** The payload, from 0 to `length`; valid until the next `put`. */
  bytes(slot: number): Uint8Array {
    return this.arrays[slot]!;
  }

  view(slot: number): DataView {
    return this.views[slot]!;
  }
}

function roundUp(length: number): number {
  let size = BYTES_MIN;
  while (size < length) size *= 2;
  return size;
}
