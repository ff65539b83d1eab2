/**
 * The primary's order, as far as it is known beyond what the log has: headers and chains of entries without their
 * operations (message Order), in a ring.
 *
 * It only keeps what was said. What of it is believed is decided in repair.ts.
 */
import { copyBytes } from '../../../wire/copy.js';
import { Order } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import { ENTRY_HEADER_BYTES, type Entry } from '../../log/entry.js';
import { type Log, ORDER_RECORD_BYTES } from '../../log/log.js';

/** Entries whose order may be known and wait for a request, a power of two; what is ordered beyond is fetched. */
export const ORDERS_MAX = 1024;

/** What `take` did with an Order. */
export const Taken = {
  /** It goes on behind what is known. */
  follows: 0,
  /** It says nothing new. */
  known: 1,
  /** It does not follow what is known, or contradicts it. */
  apart: 2,
} as const;

/** Entries that the Order at `bytes[o]` names; 0 when it is malformed. */
export function entriesOfOrder(bytes: Uint8Array, o: number): number {
  const length = readU16(bytes, o + Order.at.orders);
  return length % ORDER_RECORD_BYTES === 0 ? length / ORDER_RECORD_BYTES : 0;
}

/** Index of the last entry that the Order at `bytes[o]` names. */
export function lastOfOrder(bytes: Uint8Array, o: number): number {
  return readIndex(bytes, o + Order.at.baseIndex) + entriesOfOrder(bytes, o);
}

/** True when the log already ends an Order as the primary does. */
export function endsAs(log: Log, bytes: Uint8Array, o: number): boolean {
  const base = readIndex(bytes, o + Order.at.baseIndex);
  const end = lastOfOrder(bytes, o);
  const chain = chainAt(o, base, end);
  return log.matches(end, readI32(bytes, chain), readI32(bytes, chain + 4));
}

export class OrderBuffer {
  /** The log equals the primary's up to here, … */
  base = 0;
  /** … and its order is known from there up to here. */
  end = 0;
  private readonly records = new Uint8Array(ORDERS_MAX * ORDER_RECORD_BYTES);

  /** The primary's order goes on behind the log, with a request that is not here. */
  get waits(): boolean {
    return this.end > this.base;
  }

  forget(): void {
    this.base = 0;
    this.end = 0;
  }

  /** The log equals the primary's up to `index` now. */
  reached(index: number): void {
    this.base = index;
  }

  /** Takes the Order at `bytes[o]`, which names entries. Returns one of Taken. */
  take(log: Log, bytes: Uint8Array, o: number): number {
    const base = readIndex(bytes, o + Order.at.baseIndex);
    const end = lastOfOrder(bytes, o);
    if (this.waits) {
      if (base > this.end) return Taken.apart;
      if (end <= this.end) return Taken.known;
      const meet = chainAt(o, base, this.end);
      if (this.chainHi(this.end) !== readI32(bytes, meet) || this.chainLo(this.end) !== readI32(bytes, meet + 4))
        return Taken.apart;
    } else {
      if (end <= log.baseIndex) return Taken.known;
      const start = Math.max(base, log.baseIndex);
      const meet = chainAt(o, base, start);
      if (!log.matches(start, readI32(bytes, meet), readI32(bytes, meet + 4))) return Taken.apart;
      this.base = start;
      this.end = start;
    }
    while (this.end < end && this.end - this.base < ORDERS_MAX) {
      const from = o + Order.size + (this.end - base) * ORDER_RECORD_BYTES;
      copyBytes(bytes, from, this.records, recordAt(++this.end), ORDER_RECORD_BYTES);
    }
    return Taken.follows;
  }

  /** Points `entry` at what the primary ordered at `index`. What the entry says of its operation stays as it was. */
  pointAt(index: number, entry: Entry): Entry {
    return entry.pointAtHeader(this.records, recordAt(index));
  }

  chainHi(index: number): number {
    return readI32(this.records, recordAt(index) + ENTRY_HEADER_BYTES);
  }

  chainLo(index: number): number {
    return readI32(this.records, recordAt(index) + ENTRY_HEADER_BYTES + 4);
  }

  /** True when entry `index` of the log is the one that the primary ordered there. */
  standsIn(log: Log, index: number): boolean {
    return log.matches(index, this.chainHi(index), this.chainLo(index));
  }
}

function recordAt(index: number): number {
  return (index & (ORDERS_MAX - 1)) * ORDER_RECORD_BYTES;
}

/** Where the chain of `index`, from `base` to the end of an Order, stands in its message. */
function chainAt(o: number, base: number, index: number): number {
  return index === base ? o + Order.at.baseChain : o + Order.size + (index - base) * ORDER_RECORD_BYTES - 8;
}
