/**
 * Arrays for datagrams, in two sizes, that are lent and given back. They are made when first needed and then kept, so
 * the steady state allocates nothing. Their number is bounded: if a peer does not take our datagrams, some are lost,
 * but memory does not grow.
 */
import { MAX_DATAGRAM_BYTES } from '../wire/envelope.js';

/**
 * A stack of arrays of one length, with fixed capacity. A plain array that pushes and pops would reallocate again and
 * again whenever it is nearly empty.
 */
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
   * @param smallMax most arrays of that length
   * @param largeMax most arrays of MAX_DATAGRAM_BYTES
   * @param make makes a new array of a length; called at most smallMax and largeMax times
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

  /** The number of arrays that are lent now. */
  get lent(): number {
    return this.small.out + this.large.out;
  }

  /** An array of at least `length` bytes. Undefined if all are lent, or none is that long. */
  acquire(length: number): Uint8Array | undefined {
    if (length <= this.smallBytes) return this.small.take();
    return length <= MAX_DATAGRAM_BYTES ? this.large.take() : undefined;
  }

  release(bytes: Uint8Array): void {
    if (bytes.length === this.smallBytes) this.small.give(bytes);
    else this.large.give(bytes);
  }
}
