/**
 * Arrays for datagrams, in two sizes, lent and given back. Made when first needed and then kept, so the steady state
 * allocates nothing; bounded, so a peer that does not take what we send costs datagrams, not memory.
 */
import { MAX_DATAGRAM_BYTES } from '../wire/envelope.js';

/** Arrays of one length. A stack in an array of fixed length: one that pushes and pops reallocates around empty, again and again. */
class Stack {
  out = 0;
  private free = 0;
  private readonly arrays: (Uint8Array | undefined)[];

  constructor(
    private readonly bytes: number,
    private readonly max: number,
    private readonly make: (length: number) => Uint8Array,
  ) {
    this.arrays = new Array<Uint8Array | undefined>(max).fill(undefined);
  }

  take(): Uint8Array | undefined {
    if (this.out === this.max) return undefined;
    this.out++;
    if (this.free === 0) return this.make(this.bytes);
    return this.arrays[--this.free];
  }

  give(array: Uint8Array): void {
    this.out--;
    this.arrays[this.free++] = array;
  }
}

export class ArrayPool {
  private readonly small: Stack;
  private readonly large: Stack;

  /**
   * @param smallBytes length of most arrays
   * @param smallMax arrays of that length at once
   * @param largeMax arrays of MAX_DATAGRAM_BYTES at once
   * @param make a new array of a length; called at most smallMax and largeMax times
   */
  constructor(
    private readonly smallBytes: number,
    smallMax: number,
    largeMax: number,
    make: (length: number) => Uint8Array = (length) => new Uint8Array(length),
  ) {
    this.small = new Stack(smallBytes, smallMax, make);
    this.large = new Stack(MAX_DATAGRAM_BYTES, largeMax, make);
  }

  /** Arrays lent now. */
  get lent(): number {
    return this.small.out + this.large.out;
  }

  /** An array of at least `length` bytes, or undefined: all are lent, or it is longer than any. */
  acquire(length: number): Uint8Array | undefined {
    if (length <= this.smallBytes) return this.small.take();
    return length <= MAX_DATAGRAM_BYTES ? this.large.take() : undefined;
  }

  release(bytes: Uint8Array): void {
    if (bytes.length === this.smallBytes) this.small.give(bytes);
    else this.large.give(bytes);
  }
}
