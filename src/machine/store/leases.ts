/**
 * The leases of the store: a number, an end, and how far a renewal moves the end. Which keys belong to one is known to
 * the store.
 *
 * The number is the revision of the grant. It is never used again, so that a holder whose lease has ended cannot take
 * another one for it.
 */
import { readIndex, writeIndex } from '../../wire/u64.js';
import { NumberOrder, type NumberCursor } from './number-order.js';

/** number u64 | ends u64 | ttl u64 */
export const LEASE_BYTES = 24;

/** What is counted of the leases of a store: `ended` has those that were revoked, too, and counts a lease after its keys. */
export const LeaseCount = { granted: 0, renewed: 1, ended: 2, revoked: 3 } as const;
export const LEASE_COUNTS = 4;

/** The leases of a store at one replica, for operators. The counts begin with the process. */
export interface LeaseFigures extends Readonly<Record<keyof typeof LeaseCount, number>> {
  /** Leases that are there, also those that have ended and are not removed yet. */
  readonly held: number;
}

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
  /** Writes all of them in pieces. */
  readonly copy = new LeasesCopy(this);

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
    if (this.copy.isUnderway) this.copy.changes(slot);
    this.#due.remove(this.#ends[slot]!, number);
    this.#ends[slot] = ends;
    this.#due.insert(ends, number, slot);
  }

  remove(slot: number): void {
    const number = this.#numbers[slot]!;
    if (this.copy.isUnderway) this.copy.changes(slot);
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

  /** The number of the newest lease; 0 if there is no lease. */
  highest(): number {
    return this.#byNumber.highestFirst();
  }

  /** Sets the cursor to the first lease with this number or a higher one. */
  seek(number: number, cursor: NumberCursor): void {
    this.#byNumber.seek(number, 0, cursor);
  }

  /** The slot of the lease at the cursor, which moves on by one, in the order of the numbers; -1 at the end. */
  next(cursor: NumberCursor): number {
    return this.#byNumber.next(cursor);
  }

  /** Writes all of them, in the order of their numbers. */
  write(target: Uint8Array, offset: number): void {
    const cursor = { block: 0, at: 0 };
    let at = offset;
    for (let slot = this.next(cursor); slot >= 0; slot = this.next(cursor)) {
      this.writeOne(slot, target, at);
      at += LEASE_BYTES;
    }
  }

  writeOne(slot: number, target: Uint8Array, offset: number): void {
    writeIndex(target, offset, this.#numbers[slot]!);
    writeIndex(target, offset + 8, this.#ends[slot]!);
    writeIndex(target, offset + 16, this.#ttls[slot]!);
  }

  /** Adds the lease that `write` wrote. */
  read(source: Uint8Array, offset: number): void {
    this.add(readIndex(source, offset), readIndex(source, offset + 8), readIndex(source, offset + 16));
  }
}

/**
 * The leases as they were at the beginning, written in the order of their numbers while they change. One that changes or
 * goes before it is written is kept, once. One that comes has a higher number than all of the beginning: the number of a
 * grant is used again only after the grant was undone, and nothing from before the beginning is undone.
 *
 * There is one of these for all copies, for the reason that kv-snapshot.ts gives.
 */
class LeasesCopy {
  /** A copy is being written: `changes` is to be called. */
  isUnderway = false;
  #left = 0;
  /** All leases up to this number are written. */
  #reached = 0;
  /** The number of the newest lease of the beginning. */
  #last = 0;
  #kept: Leases | undefined;
  readonly #cursor: NumberCursor = { block: 0, at: 0 };
  readonly #keptCursor: NumberCursor = { block: 0, at: 0 };

  constructor(private readonly leases: Leases) {}

  /** What `Leases.write` would write now is written in pieces, while leases change. Takes the place of the copy before. */
  begin(): void {
    this.#left = this.leases.count;
    this.#reached = 0;
    this.#last = this.leases.highest();
    this.#kept = undefined;
    this.isUnderway = true;
  }

  /** Leases may change as if there were no copy: it is written, or not wanted. */
  over(): void {
    this.isUnderway = false;
    this.#kept = undefined;
  }

  /** Leases that are not written yet. */
  get left(): number {
    return this.#left;
  }

  /** The lease is about to change, or to go. */
  changes(slot: number): void {
    const { leases } = this;
    const number = leases.number(slot);
    if (number <= this.#reached || number > this.#last) return;
    const kept = (this.#kept ??= new Leases());
    if (kept.find(number) < 0) kept.add(number, leases.ends(slot), leases.ttl(slot));
  }

  /** Writes the next ones, until `end` is reached or no lease is left. Returns where they end. */
  write(target: Uint8Array, offset: number, end: number): number {
    const { leases } = this;
    const kept = this.#kept;
    leases.seek(this.#reached + 1, this.#cursor);
    kept?.seek(this.#reached + 1, this.#keptCursor);
    let slot = leases.next(this.#cursor);
    let old = kept === undefined ? -1 : kept.next(this.#keptCursor);
    let at = offset;
    for (; this.#left > 0 && at < end; this.#left--, at += LEASE_BYTES) {
      const number = slot < 0 ? Infinity : leases.number(slot);
      const keptNumber = old < 0 ? Infinity : kept!.number(old);
      if (keptNumber <= number) {
        kept!.writeOne(old, target, at);
        old = kept!.next(this.#keptCursor);
      } else leases.writeOne(slot, target, at);
      if (number <= keptNumber) slot = leases.next(this.#cursor);
      this.#reached = Math.min(number, keptNumber);
    }
    return at;
  }
}

function doubled(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * array.length);
  larger.set(array);
  return larger;
}
