/**
 * The leases of the store: a number, an end, and how far a renewal moves the end. Which keys belong to one is known to
 * the store.
 *
 * The number is the revision of the grant. It is never used again, so that a holder whose lease has ended cannot take
 * another one for it.
 */
import { readIndex, writeIndex } from '../../wire/u64.js';
import { NumberOrder } from './number-order.js';

/** number u64 | ends u64 | ttl u64 */
export const LEASE_BYTES = 24;

const FIRST_SLOTS = 16;

export class Leases {
  #numbers = new Float64Array(FIRST_SLOTS);
  #ends = new Float64Array(FIRST_SLOTS);
  #ttls = new Float64Array(FIRST_SLOTS);
  #slots = 0;
  readonly #free: number[] = [];
  readonly #byNumber = new NumberOrder();
  /** By end and number. */
  readonly #due = new NumberOrder();

  get count(): number {
    return this.#byNumber.count;
  }

  /** The slot of a lease, or -1. */
  find(number: number): number {
    const slot = this.#byNumber.atOrAbove(number, 0);
    return slot >= 0 && this.#numbers[slot] === number ? slot : -1;
  }

  number(slot: number): number {
    return this.#numbers[slot]!;
  }

  /** The agreed time from which on it has ended, ms. */
  ends(slot: number): number {
    return this.#ends[slot]!;
  }

  /** ms */
  ttl(slot: number): number {
    return this.#ttls[slot]!;
  }

  add(number: number, ends: number, ttl: number): void {
    const slot = this.#free.pop() ?? this.#slots++;
    if (slot === this.#numbers.length) {
      this.#numbers = doubled(this.#numbers);
      this.#ends = doubled(this.#ends);
      this.#ttls = doubled(this.#ttls);
    }
    this.#numbers[slot] = number;
    this.#ends[slot] = ends;
    this.#ttls[slot] = ttl;
    this.#byNumber.insert(number, 0, slot);
    this.#due.insert(ends, number, slot);
  }

  setEnd(slot: number, ends: number): void {
    const number = this.#numbers[slot]!;
    this.#due.remove(this.#ends[slot]!, number);
    this.#ends[slot] = ends;
    this.#due.insert(ends, number, slot);
  }

  remove(slot: number): void {
    const number = this.#numbers[slot]!;
    this.#due.remove(this.#ends[slot]!, number);
    this.#byNumber.remove(number, 0);
    this.#free.push(slot);
  }

  /** The lease that ends first, or -1. */
  first(): number {
    return this.#due.lowest();
  }

  /** When the first one ends, ms; 0 if there is no lease. */
  firstEnd(): number {
    return this.#due.lowestFirst();
  }

  /** Writes all of them, in the order of their numbers. */
  write(target: Uint8Array, offset: number): void {
    let at = offset;
    this.#byNumber.forEach((slot) => {
      writeIndex(target, at, this.#numbers[slot]!);
      writeIndex(target, at + 8, this.#ends[slot]!);
      writeIndex(target, at + 16, this.#ttls[slot]!);
      at += LEASE_BYTES;
    });
  }

  /** Adds the lease that `write` wrote. */
  read(source: Uint8Array, offset: number): void {
    this.add(readIndex(source, offset), readIndex(source, offset + 8), readIndex(source, offset + 16));
  }
}

function doubled(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * array.length);
  larger.set(array);
  return larger;
}
