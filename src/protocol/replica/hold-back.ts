/**
 * Holds requests back until their timestamp is due, so that requests that several clients stamped with a lead are appended
 * in the same order by all members. May be changed freely: a request that cannot be held is handled at once.
 *
 * A process that was not running when requests were due finds several of them waiting, in the order in which they came. While
 * any client uses a lead, requests that are already due wait until the end of the turn, so that they too are appended in
 * timestamp order. Without a lead, arrival order is kept (requests.ts).
 *
 * A binary heap of slots, ordered by timestamp and then by slot, over one preallocated slab; bounded in requests and in
 * the length of each.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import { copyBytes } from '../../wire/copy.js';
import { compareU64 } from '../../wire/u64.js';
import type { ArrivedRequest } from './arrived-request.js';

/** Longest message that is held; longer ones are handled at once. */
const SLOT_BYTES = 512;
/** Clients are taken to use a lead for this long after a request that was stamped ahead. */
const SORT_US = 100_000;
/** Longest hold by a clock that is not trusted, ns: the most that a client whose clock disagrees with it can lose. */
const UNTRUSTED_HOLD_NS = 250_000;

export class HoldBack {
  /** Monotonic µs at which the first request is due, Infinity when none is held. */
  dueUs = Infinity;
  /** Requests that are ahead of the clock by more than this are not held, ns. */
  limitNs: number;
  readonly bytes: Uint8Array;
  private readonly heap: Int32Array;
  private readonly free: Int32Array;
  private readonly lengths: Int32Array;
  private readonly from: Int32Array;
  private readonly owners: Int32Array;
  private readonly timestamps: Int32Array;
  private readonly due: Float64Array;
  /** When each request arrived, monotonic µs. */
  private readonly arrived: Float64Array;
  private count = 0;
  private sortsUntilUs = DOUBLE_ZERO;

  /** @param maxHoldNs longest hold by a clock that is trusted, ns */
  constructor(
    private readonly capacity: number,
    private readonly maxHoldNs: number,
  ) {
    this.limitNs = maxHoldNs;
    this.bytes = new Uint8Array(capacity * SLOT_BYTES);
    this.heap = new Int32Array(capacity);
    this.free = Int32Array.from({ length: capacity }, (_, i) => i);
    this.lengths = new Int32Array(capacity);
    this.from = new Int32Array(capacity);
    this.owners = new Int32Array(capacity);
    this.timestamps = new Int32Array(capacity * 2);
    this.due = new Float64Array(capacity);
    this.arrived = new Float64Array(capacity);
  }

  get size(): number {
    return this.count;
  }

  /** Whether the clock by which requests are held is trusted. */
  trustClock(trusted: boolean): void {
    this.limitNs = trusted ? this.maxHoldNs : Math.min(this.maxHoldNs, UNTRUSTED_HOLD_NS);
  }

  /** Some client uses a lead: requests that are already due are held until the end of the turn. */
  sorts(nowUs: number): boolean {
    return nowUs < this.sortsUntilUs;
  }

  /** Takes a request in until `dueUs`; false when there is no room for it. */
  hold(arrived: ArrivedRequest, nowUs: number, dueUs: number): boolean {
    const length = arrived.messageLength;
    if (this.count === this.capacity || length > SLOT_BYTES) return false;
    if (dueUs > nowUs) this.sortsUntilUs = nowUs + SORT_US;
    const slot = this.free[this.count]!;
    copyBytes(arrived.operationBytes, arrived.messageOffset, this.bytes, slot * SLOT_BYTES, length);
    this.lengths[slot] = length;
    this.from[slot] = arrived.replyTo;
    this.owners[slot] = arrived.owner;
    this.timestamps[2 * slot] = arrived.timestampHi;
    this.timestamps[2 * slot + 1] = arrived.timestampLo;
    this.due[slot] = dueUs;
    this.arrived[slot] = nowUs;
    let hole = this.count++;
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (this.before(this.heap[parent]!, slot)) break;
      this.heap[hole] = this.heap[parent]!;
      hole = parent;
    }
    this.heap[hole] = slot;
    this.dueUs = this.due[this.heap[0]!]!;
    return true;
  }

  /** Slot of the first request when it is due at `nowUs`, else −1. It stays valid until the next `hold`. */
  take(nowUs: number): number {
    return this.count === 0 || this.due[this.heap[0]!]! > nowUs ? -1 : this.takeFirst();
  }

  /** Slot of the first request when its timestamp is at most this one, else −1. It stays valid until the next `hold`. */
  takeUpTo(timestampHi: number, timestampLo: number): number {
    if (this.count === 0) return -1;
    const first = this.heap[0]!;
    return compareU64(this.timestamps[2 * first]!, this.timestamps[2 * first + 1]!, timestampHi, timestampLo) > 0
      ? -1
      : this.takeFirst();
  }

  private takeFirst(): number {
    const slot = this.heap[0]!;
    const last = this.heap[--this.count]!;
    this.free[this.count] = slot;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= this.count) break;
      if (child + 1 < this.count && this.before(this.heap[child + 1]!, this.heap[child]!)) child++;
      if (this.before(last, this.heap[child]!)) break;
      this.heap[hole] = this.heap[child]!;
      hole = child;
    }
    if (this.count > 0) this.heap[hole] = last;
    this.dueUs = this.count === 0 ? Infinity : this.due[this.heap[0]!]!;
    return slot;
  }

  offsetOf(slot: number): number {
    return slot * SLOT_BYTES;
  }

  /** How long a request has been held, µs. */
  heldUs(slot: number, nowUs: number): number {
    return nowUs - this.arrived[slot]!;
  }

  fromOf(slot: number): number {
    return this.from[slot]!;
  }

  ownerOf(slot: number): number {
    return this.owners[slot]!;
  }

  /** A view ended: requests that are held were not acknowledged, and their clients will send them again. */
  clear(): void {
    this.count = 0;
    this.dueUs = Infinity;
    for (let i = 0; i < this.capacity; i++) this.free[i] = i;
  }

  private before(a: number, b: number): boolean {
    const order = compareU64(
      this.timestamps[2 * a]!,
      this.timestamps[2 * a + 1]!,
      this.timestamps[2 * b]!,
      this.timestamps[2 * b + 1]!,
    );
    return order !== 0 ? order < 0 : a < b;
  }
}
