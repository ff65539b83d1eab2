/**
 * Holds requests back until their timestamp is due, so that requests that several clients stamped with a lead are appended
 * in the same order by all members, and no key in a log is ahead of its time. May be changed freely: a request that is ahead
 * and cannot be held is rejected (requests.ts).
 *
 * A process that was not running when requests were due finds several of them waiting, in the order in which they came. While
 * clients use a lead, requests that are already due wait until the end of the turn, so that they too are appended in
 * timestamp order. Without a lead, arrival order is kept (requests.ts).
 *
 * A binary heap of slots, ordered by timestamp and then by slot, over one preallocated slab; bounded in requests. Most slots
 * are short, and a few hold the longest request. No owner gets more than a part of either, so that a client that stamps
 * ahead takes no other client's slot.
 */
import type { LateRule } from '../config.js';
import { DOUBLE_ZERO } from '../double-zero.js';
import { copyBytes } from '../../wire/copy.js';
import { compareU64 } from '../../wire/u64.js';
import { NO_OWNER } from '../log/session-owner.js';
import type { ArrivedRequest } from './arrived-request.js';

/** Longest message that a short slot holds. */
const SLOT_BYTES = 512;
/** Slots for longer ones. */
export const LONG_SLOTS = 16;
/** Once half of the short slots are taken, no owner gets more than this part of them. Of the long ones it never does. */
export const OWNER_PART = 1 / 4;
/**
 * Clients are taken to use a lead while more of their requests arrive ahead of their time than due: each that is ahead counts
 * one, up to the first of these, and each that is due takes one away. From the second on, requests are sorted. One client
 * that stamps ahead at one member only must not change the order of all others' requests there.
 */
const LEADS_MAX = 64;
const LEADS_SORT = 2;
/** And only for this long after a request that was ahead. */
const SORT_US = 100_000;
/** Longest hold by a clock that is not trusted, ns: the most that a client whose clock disagrees with it can lose. */
const UNTRUSTED_HOLD_NS = 250_000;
/**
 * Under `late: reject` requests are held for this long by any clock, ns: a distant client gets a request in only by stamping
 * it ahead, by at most the extra of margins.ts and the jitter of its way.
 */
const REJECTING_HOLD_NS = 25_000_000;
/** And so many can always be held under that rule. */
const REJECTING_CAPACITY = 16;
/** Where nothing is held, a request that is ahead by no more than this is appended at once, ns. */
const NEVER_HELD_NS = 250_000;

export class HoldBack {
  /** Monotonic µs at which the first request is due, Infinity when none is held. */
  dueUs = Infinity;
  /** Requests that are ahead of the clock by more than this are not held, ns. */
  limitNs: number;
  /** Requests that are ahead by no more than this need not be held, ns. */
  readonly atOnceNs: number;
  readonly bytes: Uint8Array;
  private readonly leastNs: number;
  private readonly heap: Int32Array;
  /** Free short slots, and how many are taken; then the same for the long ones. */
  private readonly free: Int32Array;
  private taken = 0;
  private readonly freeLong: Int32Array;
  private takenLong = 0;
  private readonly lengths: Int32Array;
  private readonly from: Int32Array;
  private readonly owners: Int32Array;
  /** Whose part each slot counts to; 0: it is free. */
  private readonly parties: Int32Array;
  private readonly timestamps: Int32Array;
  private readonly due: Float64Array;
  /** When each request arrived, monotonic µs. */
  private readonly arrived: Float64Array;
  private count = 0;
  private sortsUntilUs = DOUBLE_ZERO;
  private leads = 0;

  /** Short slots. */
  private readonly capacity: number;

  /**
   * @param places short slots; 0: nothing is held. Under `late: reject` there are a few in any case
   * @param maxHoldNs longest hold by a clock that is trusted, ns
   * @param longBytes longest message
   * @param late what is done with late requests
   */
  constructor(
    places: number,
    private readonly maxHoldNs: number,
    private readonly longBytes: number,
    late: LateRule,
  ) {
    const capacity = late === 'reject' && maxHoldNs > 0 ? Math.max(places, REJECTING_CAPACITY) : places;
    this.capacity = capacity;
    const long = capacity === 0 ? 0 : LONG_SLOTS;
    const slots = capacity + long;
    this.leastNs = late === 'reject' && maxHoldNs > 0 ? REJECTING_HOLD_NS : 0;
    this.limitNs = Math.max(maxHoldNs, this.leastNs);
    this.atOnceNs = capacity === 0 || maxHoldNs === 0 ? NEVER_HELD_NS : 0;
    this.bytes = new Uint8Array(capacity * SLOT_BYTES + long * longBytes);
    this.heap = new Int32Array(slots);
    this.free = Int32Array.from({ length: capacity }, (_, i) => i);
    this.freeLong = Int32Array.from({ length: long }, (_, i) => capacity + i);
    this.lengths = new Int32Array(slots);
    this.from = new Int32Array(slots);
    this.owners = new Int32Array(slots);
    this.parties = new Int32Array(slots);
    this.timestamps = new Int32Array(slots * 2);
    this.due = new Float64Array(slots);
    this.arrived = new Float64Array(slots);
  }

  get size(): number {
    return this.count;
  }

  get hasPlaces(): boolean {
    return this.capacity > 0;
  }

  /** Whether the clock by which requests are held is trusted. */
  trustClock(trusted: boolean): void {
    this.limitNs = Math.max(trusted ? this.maxHoldNs : Math.min(this.maxHoldNs, UNTRUSTED_HOLD_NS), this.leastNs);
  }

  /** A new request arrived, ahead of its time or not. */
  arrive(isAhead: boolean, nowUs: number): void {
    if (isAhead) {
      this.sortsUntilUs = nowUs + SORT_US;
      if (this.leads < LEADS_MAX) this.leads++;
    } else if (this.leads > 0) this.leads--;
  }

  /** Clients use a lead: requests that are already due are held until the end of the turn. */
  sorts(nowUs: number): boolean {
    return this.leads >= LEADS_SORT && nowUs < this.sortsUntilUs;
  }

  /** Takes a request in until `dueUs`; false when there is no room for it. */
  hold(arrived: ArrivedRequest, nowUs: number, dueUs: number): boolean {
    const length = arrived.messageLength;
    // Without keys a session stands for its owner.
    const party = arrived.owner !== NO_OWNER ? arrived.owner : arrived.sessionHi ^ arrived.sessionLo || 1;
    const slot = this.slotFor(length, party);
    if (slot < 0) return false;
    copyBytes(arrived.operationBytes, arrived.messageOffset, this.bytes, this.offsetOf(slot), length);
    this.parties[slot] = party;
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
    this.parties[slot] = 0;
    if (slot < this.capacity) this.free[--this.taken] = slot;
    else this.freeLong[--this.takenLong] = slot;
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
    const { capacity } = this;
    return slot < capacity ? slot * SLOT_BYTES : capacity * SLOT_BYTES + (slot - capacity) * this.longBytes;
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
    while (this.count > 0) this.takeFirst();
  }

  /** A free slot, or −1. */
  private slotFor(length: number, party: number): number {
    const { capacity, freeLong } = this;
    if (length <= SLOT_BYTES && this.taken < capacity) {
      const isHisPart = 2 * this.taken < capacity || this.heldBy(party, 0, capacity) < capacity * OWNER_PART;
      return isHisPart ? this.free[this.taken++]! : -1;
    }
    if (length <= SLOT_BYTES || length > this.longBytes || this.takenLong === freeLong.length) return -1;
    const isHisPart = this.heldBy(party, capacity, this.parties.length) < freeLong.length * OWNER_PART;
    return isHisPart ? freeLong[this.takenLong++]! : -1;
  }

  private heldBy(party: number, first: number, end: number): number {
    let held = 0;
    for (let slot = first; slot < end; slot++) if (this.parties[slot] === party) held++;
    return held;
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
