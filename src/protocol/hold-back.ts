/**
 * Holds requests back until their timestamp is due, so that requests of several clients that are stamped with a lead
 * reach the logs of all members in the same order. Speed only: a request that cannot be held is handled at once.
 *
 * A binary heap of slots, ordered by timestamp and then by slot, over one preallocated slab; bounded in requests and in
 * the length of each.
 */
import { copyBytes } from '../wire/copy.js';
import { compareU64 } from '../wire/u64.js';

/** Longest message that is held; longer ones are handled at once. */
const SLOT_BYTES = 512;

export class HoldBack {
  /** Monotonic µs at which the first one is due, Infinity when none is held. */
  dueUs = Infinity;
  /** False: nothing more is held, because the clock that would say for how long is not trusted. */
  enabled = true;
  readonly bytes: Uint8Array;
  private readonly heap: Int32Array;
  private readonly free: Int32Array;
  private readonly lengths: Int32Array;
  private readonly from: Int32Array;
  private readonly timestamps: Int32Array;
  private readonly due: Float64Array;
  /** When each arrived, monotonic µs. */
  private readonly arrived: Float64Array;
  private count = 0;

  constructor(private readonly capacity: number) {
    this.bytes = new Uint8Array(capacity * SLOT_BYTES);
    this.heap = new Int32Array(capacity);
    this.free = Int32Array.from({ length: capacity }, (_, i) => i);
    this.lengths = new Int32Array(capacity);
    this.from = new Int32Array(capacity);
    this.timestamps = new Int32Array(capacity * 2);
    this.due = new Float64Array(capacity);
    this.arrived = new Float64Array(capacity);
  }

  get size(): number {
    return this.count;
  }

  /** Takes a message in; false when there is no room for it, or nothing is to be held. */
  hold(source: Uint8Array, offset: number, length: number, from: number, timestampHi: number, timestampLo: number, nowUs: number, dueUs: number): boolean {
    if (!this.enabled || this.count === this.capacity || length > SLOT_BYTES) return false;
    const slot = this.free[this.count]!;
    copyBytes(source, offset, this.bytes, slot * SLOT_BYTES, length);
    this.lengths[slot] = length;
    this.from[slot] = from;
    this.timestamps[2 * slot] = timestampHi;
    this.timestamps[2 * slot + 1] = timestampLo;
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
    if (this.count === 0 || this.due[this.heap[0]!]! > nowUs) return -1;
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

  /** A view ended: what is held was not acknowledged, and its clients will send it again. */
  clear(): void {
    this.count = 0;
    this.dueUs = Infinity;
    for (let i = 0; i < this.capacity; i++) this.free[i] = i;
  }

  private before(a: number, b: number): boolean {
    const order = compareU64(this.timestamps[2 * a]!, this.timestamps[2 * a + 1]!, this.timestamps[2 * b]!, this.timestamps[2 * b + 1]!);
    return order !== 0 ? order < 0 : a < b;
  }
}
