/**
 * Arrays for datagrams, in two sizes, lent and given back. Made when first needed and then kept, so the steady state
 * allocates nothing; bounded, so a peer that does not take what we send costs datagrams, not memory.
 */
import { MAX_DATAGRAM_BYTES } from '../wire/envelope.js';

export class ArrayPool {
  private readonly small: Uint8Array[] = [];
  private readonly large: Uint8Array[] = [];
  private smallOut = 0;
  private largeOut = 0;

  /**
   * @param smallBytes length of most arrays
   * @param smallMax arrays of that length at once
   * @param largeMax arrays of MAX_DATAGRAM_BYTES at once
   * @param make a new array of a length; called at most smallMax and largeMax times
   */
  constructor(
    private readonly smallBytes: number,
    private readonly smallMax: number,
    private readonly largeMax: number,
    private readonly make: (length: number) => Uint8Array = (length) => new Uint8Array(length),
  ) {}

  /** Arrays lent now. */
  get lent(): number {
    return this.smallOut + this.largeOut;
  }

  /** An array of at least `length` bytes, or undefined: all are lent, or it is longer than any. */
  acquire(length: number): Uint8Array | undefined {
    if (length <= this.smallBytes) {
      if (this.smallOut >= this.smallMax) return undefined;
      this.smallOut++;
      return this.small.pop() ?? this.make(this.smallBytes);
    }
    if (length > MAX_DATAGRAM_BYTES || this.largeOut >= this.largeMax) return undefined;
    this.largeOut++;
    return this.large.pop() ?? this.make(MAX_DATAGRAM_BYTES);
  }

  release(bytes: Uint8Array): void {
    if (bytes.length === this.smallBytes) {
      this.smallOut--;
      this.small.push(bytes);
    } else {
      this.largeOut--;
      this.large.push(bytes);
    }
  }
}
