/**
 * Requests that this replica saw and that are not in its log: rejected as late, cut by a repair, or arrived while the
 * primary's order has a gap. An Order names requests without their operations; they are found here.
 *
 * A ring of slots over a ring of bytes, preallocated; the oldest requests leave when there is no room. They are found by
 * (session, lane, request), through open addressing with backward shift. A hint only: a request from here is believed when the
 * chain of the entry that it makes is the primary's (repair.ts).
 */
import { copyBytes } from '../../../wire/copy.js';
import { invariant } from '../../invariant.js';
import type { Entry } from '../../log/entry.js';

const DEAD = -1;

export class RequestCache {
  /** Operations. */
  readonly bytes: Uint8Array;
  readonly timestampHi: Int32Array;
  readonly timestampLo: Int32Array;
  readonly sessionHi: Int32Array;
  readonly sessionLo: Int32Array;
  readonly request: Int32Array;
  readonly lane: Uint16Array;
  readonly flags: Uint8Array;
  /** The client's endpoint by which it came, or −1. */
  readonly replyTo: Int32Array;
  /** See Entry. */
  readonly owner: Int32Array;
  /** When the primary's order overtook it (out-of-step.ts); 0: it did not. */
  readonly overtakenUs: Float64Array;

  private readonly lengths: Int32Array;
  /** Virtual offset in the ring of bytes; physical offset = start mod capacity. */
  private readonly starts: Float64Array;
  /** Slot + 1 of each request, 0 = empty. Twice the slots, so that it is never more than half full. */
  private readonly table: Int32Array;
  private readonly mask: number;
  private head = 0;
  /** Numbers of the oldest request kept, and of the next one; slot = number & (capacity − 1). */
  private first = 0;
  private next = 0;

  /**
   * @param capacity requests, a power of two
   * @param arenaBytes bytes of their operations
   */
  constructor(
    private readonly capacity: number,
    arenaBytes: number,
  ) {
    invariant(capacity > 0 && (capacity & (capacity - 1)) === 0, 'the cache holds a power of two of requests');
    this.bytes = new Uint8Array(arenaBytes);
    this.timestampHi = new Int32Array(capacity);
    this.timestampLo = new Int32Array(capacity);
    this.sessionHi = new Int32Array(capacity);
    this.sessionLo = new Int32Array(capacity);
    this.request = new Int32Array(capacity);
    this.lane = new Uint16Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.replyTo = new Int32Array(capacity);
    this.owner = new Int32Array(capacity);
    this.overtakenUs = new Float64Array(capacity);
    this.lengths = new Int32Array(capacity).fill(DEAD);
    this.starts = new Float64Array(capacity);
    this.table = new Int32Array(capacity * 2);
    this.mask = this.table.length - 1;
  }

  /** Number of the next request that is put here. Numbers count up, so requests put since then are those from here to `end`. */
  get end(): number {
    return this.next;
  }

  /** The larger of `number` and the oldest number that is still kept: the first to look at. */
  from(number: number): number {
    return number < this.first ? this.first : number;
  }

  /** Slot of the request with that number; −1: it was replaced or dropped. */
  slotOf(number: number): number {
    const slot = number & (this.capacity - 1);
    return this.lengths[slot] === DEAD ? -1 : slot;
  }

  /** Points `entry` at the request of a slot; its operation stays where it is until the next `put`. */
  pointAt(slot: number, entry: Entry): Entry {
    entry.timestampHi = this.timestampHi[slot]!;
    entry.timestampLo = this.timestampLo[slot]!;
    entry.sessionHi = this.sessionHi[slot]!;
    entry.sessionLo = this.sessionLo[slot]!;
    entry.request = this.request[slot]!;
    entry.lane = this.lane[slot]!;
    entry.flags = this.flags[slot]!;
    entry.operationBytes = this.bytes;
    entry.operationOffset = this.starts[slot]! % this.bytes.length;
    entry.operationLength = this.lengths[slot]!;
    entry.replyTo = this.replyTo[slot]!;
    entry.owner = this.owner[slot]!;
    return entry;
  }

  /** Keeps a request, in place of an earlier copy of it. One that is longer than the whole arena is not kept. */
  put(entry: Entry): void {
    const { sessionHi, sessionLo, lane, request, operationLength: length } = entry;
    const size = this.bytes.length;
    if (length > size) return;
    const known = this.find(sessionHi, sessionLo, lane, request);
    if (known >= 0) this.drop(known);
    let start = this.head;
    if ((start % size) + length > size) start += size - (start % size);
    while (
      this.first < this.next &&
      (this.next - this.first === this.capacity ||
        start + length - this.starts[this.first & (this.capacity - 1)]! > size)
    )
      this.evict();
    const slot = this.next & (this.capacity - 1);
    this.next++;
    this.head = start + length;
    this.starts[slot] = start;
    this.lengths[slot] = length;
    this.timestampHi[slot] = entry.timestampHi;
    this.timestampLo[slot] = entry.timestampLo;
    this.sessionHi[slot] = sessionHi;
    this.sessionLo[slot] = sessionLo;
    this.request[slot] = request;
    this.lane[slot] = lane;
    this.flags[slot] = entry.flags;
    this.replyTo[slot] = entry.replyTo;
    this.owner[slot] = entry.owner;
    this.overtakenUs[slot] = 0;
    copyBytes(entry.operationBytes, entry.operationOffset, this.bytes, start % size, length);
    this.table[this.locate(sessionHi, sessionLo, lane, request)] = slot + 1;
  }

  /** Slot of a request, or −1. It stays valid until the next `put` or `drop`. */
  find(sessionHi: number, sessionLo: number, lane: number, request: number): number {
    return this.table[this.locate(sessionHi, sessionLo, lane, request)]! - 1;
  }

  /** Forgets the request of a slot. */
  drop(slot: number): void {
    this.remove(this.locate(this.sessionHi[slot]!, this.sessionLo[slot]!, this.lane[slot]!, this.request[slot]!));
    this.lengths[slot] = DEAD;
  }

  private evict(): void {
    const slot = this.first & (this.capacity - 1);
    this.first++;
    if (this.lengths[slot] !== DEAD) this.drop(slot);
  }

  private locate(sessionHi: number, sessionLo: number, lane: number, request: number): number {
    for (let at = this.home(sessionHi, sessionLo, lane, request); ; at = (at + 1) & this.mask) {
      const slot = this.table[at]! - 1;
      if (slot < 0) return at;
      if (
        this.request[slot] === request &&
        this.sessionLo[slot] === sessionLo &&
        this.sessionHi[slot] === sessionHi &&
        this.lane[slot] === lane
      )
        return at;
    }
  }

  private home(sessionHi: number, sessionLo: number, lane: number, request: number): number {
    const h = Math.imul(
      sessionHi ^ Math.imul(sessionLo, 0x9e3779b1) ^ Math.imul(lane + 1, 0xc2b2ae35) ^ Math.imul(request, 0x27d4eb2f),
      0x85ebca6b,
    );
    return (h ^ (h >>> 15)) & this.mask;
  }

  private remove(at: number): void {
    let hole = at;
    for (let next = (hole + 1) & this.mask; this.table[next] !== 0; next = (next + 1) & this.mask) {
      const slot = this.table[next]! - 1;
      const home = this.home(this.sessionHi[slot]!, this.sessionLo[slot]!, this.lane[slot]!, this.request[slot]!);
      // A request may move into the hole when its home is not between the hole and where it stands.
      if (((next - home) & this.mask) >= ((next - hole) & this.mask)) {
        this.table[hole] = slot + 1;
        hole = next;
      }
    }
    this.table[hole] = 0;
  }
}
