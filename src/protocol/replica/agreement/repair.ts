/**
 * The repair rule (S), for both forms in which a segment of the primary's log of this view arrives: its entries (Chunk),
 * or their order alone (Order), whose operations are taken from what this member saw itself.
 *
 * A log that agrees with the segment is not changed; otherwise it is cut at the *first* entry that differs and the rest of
 * the segment appended. A log is never shortened where its compared part matches: what lies behind may be committed. An
 * entry that an Order names is believed, acknowledged and counted as synced only when its own chain, computed here from
 * the operation in the cache, is the primary's; otherwise it leaves the log again and is fetched.
 *
 * Own entries behind the repaired part are kept behind it when their key is larger and their request is not in it
 * (TailRule "keep" of the model); an acknowledgement sent from here on covers the log as it is then. While the primary
 * pushes its order, those that were kept are acknowledged when it confirms them, so that clients hear once, not each time
 * that they move.
 *
 * When an Order names a request that this member has not seen, the order *waits*: the request is probably on its way, and
 * what arrives meanwhile goes to the cache, because the log's next entries are known to be others.
 */
import { copyBytes } from '../../../wire/copy.js';
import { Chunk, Order } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import type { Divergence } from '../divergence.js';
import { ENTRY_HEADER_BYTES, Entry } from '../../log/entry.js';
import { appendEntry, entryFollows, ORDER_RECORD_BYTES } from '../../log/log.js';
import type { ReplicaState } from '../replica-state.js';
import { RequestCache } from './request-cache.js';
import type { Sender } from '../replica-sender.js';
import { REGISTER_BORN, REGISTER_LANE } from '../../log/sessions.js';

/** Entries whose order may be known and wait for a request, a power of two; what is ordered beyond is fetched. */
export const ORDERS_MAX = 1024;

export class Repair {
  readonly cache: RequestCache;
  /** An Order contradicted what is here, or made an entry with another chain: the entries have to be fetched. */
  broken = false;

  /** Number in the cache of the first request that goes back into the log behind what is repaired, or −1. */
  private keptFrom = -1;
  /** Entries that were put back and whose clients do not know where they stand; none when `quietFrom > quietTo`. */
  private quietFrom = 1;
  private quietTo = 0;
  /** The primary's order behind `orderBase`, which is in the log as it is at the primary, up to `orderEnd`. */
  private orderBase = 0;
  private orderEnd = 0;
  /** Points at the entry of the order that is handled now. */
  private readonly ordered = new Entry();
  /** Points at the entry of the log or of the cache that is moved now. */
  private readonly moved = new Entry();
  private readonly orders = new Uint8Array(ORDERS_MAX * ORDER_RECORD_BYTES);

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly divergence: Divergence,
  ) {
    const { cachedRequests, cachedBytes } = state.config.limits;
    this.cache = new RequestCache(cachedRequests, cachedBytes);
  }

  /** The primary's order goes on behind the log, with a request that is not here. */
  get waits(): boolean {
    return this.orderEnd > this.orderBase;
  }

  /** A view was joined or given up: its order says nothing any more. What was seen of requests stays. */
  reset(): void {
    this.forgetOrder();
    this.broken = false;
    this.keptFrom = -1;
    this.quietFrom = 1;
    this.quietTo = 0;
  }

  /** The log up to `index` is known to equal the primary's. */
  confirm(index: number): void {
    const { state } = this;
    state.confirm(index);
    while (this.quietFrom <= this.quietTo && this.quietFrom <= index) this.acknowledge(this.quietFrom++);
  }

  /** Keeps a request that has no place in the log now. */
  remember(request: Entry): void {
    this.cache.put(request);
  }

  /** Takes a request in while the order waits; goes on with the order when it is the one that was missing. */
  hold(request: Entry, quiet: boolean): void {
    if (this.keptFrom < 0) this.keptFrom = this.cache.end;
    this.remember(request);
    if (this.ordered.pointAtHeader(this.orders, this.recordAt(this.orderBase + 1)).isSameRequest(request))
      this.settle(quiet);
  }

  /**
   * Takes an Order of this view's primary. False when it does not follow what is known here: something is missing before it.
   * @param quiet see `settle`
   */
  take(bytes: Uint8Array, o: number, quiet: boolean): boolean {
    const { log } = this.state;
    const at = Order.at;
    const length = readU16(bytes, o + at.orders);
    const count = length / ORDER_RECORD_BYTES;
    if (length === 0 || length % ORDER_RECORD_BYTES !== 0) return true;
    const base = readIndex(bytes, o + at.baseIndex);
    const end = base + count;
    if (!this.waits) {
      const last = chainAt(o, base, end);
      if (log.matches(end, readI32(bytes, last), readI32(bytes, last + 4))) {
        this.confirm(end);
        return true;
      }
      if (end <= log.baseIndex) return true;
      const start = Math.max(base, log.baseIndex);
      const meet = chainAt(o, base, start);
      if (!log.matches(start, readI32(bytes, meet), readI32(bytes, meet + 4))) return false;
      this.orderBase = start;
      this.orderEnd = start;
    } else {
      if (base > this.orderEnd) return false;
      if (end <= this.orderEnd) return true;
      const mine = this.recordAt(this.orderEnd) + ENTRY_HEADER_BYTES;
      const meet = chainAt(o, base, this.orderEnd);
      if (
        readI32(this.orders, mine) !== readI32(bytes, meet) ||
        readI32(this.orders, mine + 4) !== readI32(bytes, meet + 4)
      ) {
        this.broken = true;
        return false;
      }
    }
    while (this.orderEnd < end && this.orderEnd - this.orderBase < ORDERS_MAX) {
      const from = o + Order.size + (this.orderEnd - base) * ORDER_RECORD_BYTES;
      copyBytes(bytes, from, this.orders, this.recordAt(++this.orderEnd), ORDER_RECORD_BYTES);
    }
    this.settle(quiet);
    return true;
  }

  /**
   * Applies the entries of a Chunk, which follow `base`. Returns the index up to which the log equals the segment; short of
   * its end when an entry is malformed or does not fit.
   */
  apply(bytes: Uint8Array, o: number, base: number, quiet: boolean, from: number, now: Instant): number {
    const { state } = this;
    const { log } = state;
    let offset = o + Chunk.size;
    const end = offset + readU16(bytes, o + Chunk.at.entries);
    let index = base;
    let firstNew = Infinity;
    while (offset < end) {
      const length = offset + 2 <= end ? ENTRY_HEADER_BYTES + readU16(bytes, offset) : Infinity;
      if (offset + 2 + length > end) break;
      offset += 2;
      if (!log.has(index + 1) || !log.equalsEntry(index + 1, bytes, offset, length)) {
        if (index < state.synced) {
          // It follows an entry of the primary's log, and so does the one that is here and was known to.
          if (index >= log.baseIndex)
            this.divergence.impossible(
              from,
              `sends an entry ${index + 1} of the primary's log, and another one is known to stand there`,
              now,
            );
          break;
        }
        if (!entryFollows(log, index, bytes, offset)) {
          this.divergence.impossible(from, `sends an entry ${index + 1} whose key is not above the one before it`, now);
          break;
        }
        this.cutBehind(index);
        if (!appendEntry(log, bytes, offset, length)) {
          state.makeRoom();
          if (!appendEntry(log, bytes, offset, length)) break;
        }
        state.appended();
        state.counters[Counter.entries_fetched]!++;
        if (firstNew === Infinity) firstNew = log.lastIndex;
      }
      index++;
      offset += length;
    }
    this.confirm(index);
    if (state.isMember) for (let i = firstNew; i <= index; i++) this.acknowledge(i);
    this.settle(quiet);
    return index;
  }

  /**
   * Goes as far with the primary's order as requests are here, then puts back what was kept.
   * @param quiet the primary pushes its order: what is put back is acknowledged when it confirms it
   */
  private settle(quiet: boolean): void {
    if (this.waits) this.follow();
    if (!this.waits && this.keptFrom >= 0) this.putBack(quiet);
  }

  private follow(): void {
    const { log } = this.state;
    let index = Math.max(this.orderBase, log.baseIndex);
    if (index >= this.orderEnd || index > log.lastIndex) {
      this.forgetOrder();
      return;
    }
    while (index < this.orderEnd && this.stands(index + 1)) index++;
    this.confirm(index);
    this.orderBase = index;
    if (index === this.orderEnd) return;
    if (index < this.state.synced) {
      // What follows here is known to be the primary's: the order is not.
      this.contradicted();
      return;
    }
    this.cutBehind(index);
    while (index < this.orderEnd && this.place(index + 1)) this.orderBase = ++index;
  }

  /** True when entry `index` of the log is the one that the primary ordered there. */
  private stands(index: number): boolean {
    const chain = this.recordAt(index) + ENTRY_HEADER_BYTES;
    return this.state.log.matches(index, readI32(this.orders, chain), readI32(this.orders, chain + 4));
  }

  /** Appends the entry that the primary ordered at `index`, the next one of the log; false when its request is not here, or not the one that the primary has. */
  private place(index: number): boolean {
    const { state, cache, orders } = this;
    const { log } = state;
    const at = this.recordAt(index);
    const ordered = this.ordered.pointAtHeader(orders, at);
    const slot = cache.find(ordered.sessionHi, ordered.sessionLo, ordered.lane, ordered.request);
    if (slot < 0) return false;
    if (log.compareToLast(ordered.timestampHi, ordered.timestampLo, ordered.sessionHi, ordered.sessionLo) <= 0)
      return this.contradicted();
    // The primary's timestamp and flags, the operation from the cache.
    const { moved } = this;
    cache.pointAt(slot, moved).pointAtHeader(orders, at);
    if (!log.append(moved)) {
      state.makeRoom();
      if (!log.append(moved)) return this.contradicted();
    }
    if (!this.stands(index)) {
      // Another operation under the same number: nobody has heard of this entry yet.
      log.truncate(index - 1);
      cache.drop(slot);
      return this.contradicted();
    }
    state.appended();
    state.counters[Counter.entries_ordered]!++;
    this.confirm(index);
    this.acknowledge(index);
    return true;
  }

  private contradicted(): false {
    this.broken = true;
    this.state.counters[Counter.orders_refused]!++;
    this.forgetOrder();
    return false;
  }

  private forgetOrder(): void {
    this.orderBase = 0;
    this.orderEnd = 0;
  }

  /** Cuts the entries behind `index`, the first of which differs from the primary's; they go to the cache, in order. */
  private cutBehind(index: number): void {
    const { state, cache } = this;
    const { log } = state;
    if (log.lastIndex === index) return;
    if (this.keptFrom < 0) this.keptFrom = cache.end;
    for (let i = index + 1; i <= log.lastIndex; i++) cache.put(log.pointAt(i, this.moved));
    if (this.quietTo > index) this.quietTo = index;
    state.differed = true;
    state.truncate(index);
  }

  /** Appends kept requests, in the order in which they were kept, whose key is above the last one and which are not in the log. */
  private putBack(quiet: boolean): void {
    const { state, cache } = this;
    const { log } = state;
    const first = log.lastIndex + 1;
    const end = cache.end;
    for (let number = cache.from(this.keptFrom); number < end; number++) {
      const slot = cache.slotOf(number);
      if (slot < 0 || !this.mayGoBack(slot)) continue;
      if (!log.append(cache.pointAt(slot, this.moved))) break;
      state.appended();
      state.counters[Counter.entries_kept]!++;
    }
    this.keptFrom = -1;
    if (!quiet) {
      for (let index = first; index <= log.lastIndex; index++) this.acknowledge(index);
    } else if (log.lastIndex >= first) {
      this.quietFrom = first;
      this.quietTo = log.lastIndex;
    }
  }

  private mayGoBack(slot: number): boolean {
    const { state, cache } = this;
    const { moved } = this;
    cache.pointAt(slot, moved);
    const { sessionHi, sessionLo, lane, request } = moved;
    if (state.log.compareToLast(moved.timestampHi, moved.timestampLo, sessionHi, sessionLo) <= 0) return false;
    const newest = state.tail.find(sessionHi, sessionLo, lane);
    if (newest !== 0 && state.log.request(newest) >= request) return false;
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    if (session !== undefined) return lane < session.lanes && session.request[lane]! < request;
    // What requests.ts would not append now: it may be of a session that was evicted meanwhile.
    if (lane !== REGISTER_LANE) return state.tail.find(sessionHi, sessionLo, REGISTER_LANE) !== 0;
    const born = moved.operationOffset + REGISTER_BORN;
    return !state.execution.sessions.mayBeEvicted(readI32(cache.bytes, born), readI32(cache.bytes, born + 4));
  }

  /** Tells the client of entry `index`, which a repair brought or moved, where it stands now, so that it need not ask. */
  private acknowledge(index: number): void {
    const { log, execution } = this.state;
    if (!log.has(index)) return;
    let to = log.replyTo(index);
    if (to < 0) to = execution.sessions.find(log.sessionHi(index), log.sessionLo(index))?.replyTo ?? -1;
    if (to >= 0) this.sender.acknowledge(to, index, 0, 1);
  }

  private recordAt(index: number): number {
    return (index & (ORDERS_MAX - 1)) * ORDER_RECORD_BYTES;
  }
}

/** Where the chain of `index`, from `base` to the end of an Order, stands in its message. */
function chainAt(o: number, base: number, index: number): number {
  return index === base ? o + Order.at.baseChain : o + Order.size + (index - base) * ORDER_RECORD_BYTES - 8;
}
