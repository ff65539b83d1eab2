/**
 * The repair rule (S; `Repaired` and `SyncRepair` in model/JITPaxos.tla), for both forms in which a segment of the
 * primary's log of this view arrives: its entries (Chunk), or their order alone (Order), whose operations are taken from
 * what this member saw itself.
 *
 * A log that agrees with the segment is not changed. Otherwise it is cut at the *first* entry that differs, and the rest
 * of the segment is appended. A log is never shortened where its compared part matches: what lies behind may be
 * committed. An entry that an Order names is believed, acknowledged and counted as synced only when its own chain,
 * computed here from the operation in the cache, is the primary's; otherwise it leaves the log again and is fetched.
 *
 * Own entries behind the repaired part may stay behind it (kept-tail.ts). While the primary pushes its order, those that
 * were kept are acknowledged when it confirms them, so that clients hear once, not each time that they move.
 *
 * When an Order names a request that this member has not seen, the order *waits*: the request is probably on its way, and
 * what arrives meanwhile goes to the cache, because the log's next entries are known to be others.
 */
import { Chunk, ReplicaStatus } from '../../../wire/messages.js';
import { readU16 } from '../../../wire/u64.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { invariant } from '../../invariant.js';
import { ENTRY_HEADER_BYTES, Entry } from '../../log/entry.js';
import { entryFollows } from '../../log/log.js';
import type { ClientAnswers } from '../client-answers.js';
import type { Contradictions } from '../contradictions.js';
import type { ReplicaState } from '../replica-state.js';
import { KeptTail } from './kept-tail.js';
import { OutOfStep } from './out-of-step.js';
import { endsAs, lastOfOrder, entriesOfOrder, OrderBuffer, Taken } from './order-buffer.js';
import { RequestCache } from './request-cache.js';

export class Repair {
  readonly cache: RequestCache;
  readonly outOfStep: OutOfStep;
  private readonly tail: KeptTail;
  private readonly order = new OrderBuffer();
  /** Entries that were put back and whose clients do not know where they stand; none when `quietFrom > quietTo`. */
  private quietFrom = 1;
  private quietTo = 0;
  /** Points at the entry of the order that is handled now. */
  private readonly ordered = new Entry();
  /** Points at the same entry with the operation from the cache. */
  private readonly placed = new Entry();

  constructor(
    private readonly state: ReplicaState,
    private readonly answers: ClientAnswers,
    private readonly contradictions: Contradictions,
  ) {
    const { cachedRequests, cachedBytes } = state.config.limits;
    this.cache = new RequestCache(cachedRequests, cachedBytes);
    this.outOfStep = new OutOfStep(state);
    this.tail = new KeptTail(state, this.cache, this.outOfStep);
  }

  /** The primary's order goes on behind the log, with a request that is not here. */
  get waits(): boolean {
    return this.order.waits;
  }

  /** A view was joined or given up: its order says nothing any more. Requests that were seen stay in the cache. */
  reset(): void {
    this.order.forget();
    this.tail.forget();
    this.outOfStep.reset();
    this.quietFrom = 1;
    this.quietTo = 0;
  }

  /** The log up to `index` is known to equal the primary's. */
  confirm(index: number): void {
    this.state.confirm(index);
    while (this.quietFrom <= this.quietTo && this.quietFrom <= index) this.acknowledge(this.quietFrom++);
  }

  /** Keeps a request that has no place in the log now. */
  remember(request: Entry): void {
    this.cache.put(request);
  }

  /**
   * Takes a request in while the order waits; goes on with the order when it is the one that was missing. False when the
   * entries have to be fetched (`settle`).
   */
  hold(request: Entry, quiet: boolean): boolean {
    this.tail.open();
    this.remember(request);
    return !this.order.pointAt(this.order.base + 1, this.ordered).isSameRequest(request) || this.settle(quiet);
  }

  /**
   * Takes an Order of this view's primary. False when the entries have to be fetched: something is missing before it, or
   * it contradicts what is known here.
   * @param quiet see `settle`
   */
  take(bytes: Uint8Array, o: number, quiet: boolean): boolean {
    const { log } = this.state;
    if (entriesOfOrder(bytes, o) === 0) return true;
    const end = lastOfOrder(bytes, o);
    if (!this.order.waits && endsAs(log, bytes, o)) {
      this.confirm(end);
      return true;
    }
    const taken = this.order.take(log, bytes, o);
    return taken === Taken.follows ? this.settle(quiet) : taken === Taken.known;
  }

  /**
   * Applies the entries of a Chunk, which follow `base`; the caller settles afterwards. Returns the index up to which the
   * log equals the segment. That is short of the segment's end when an entry is malformed or does not fit.
   */
  apply(bytes: Uint8Array, o: number, base: number, from: number, now: Instant): number {
    const { state } = this;
    const { log } = state;
    const lastBefore = log.lastIndex;
    let offset = o + Chunk.size;
    const end = offset + readU16(bytes, o + Chunk.at.entries);
    let index = base;
    let differs = false;
    let firstNew = Infinity;
    while (offset < end) {
      const length = offset + 2 <= end ? ENTRY_HEADER_BYTES + readU16(bytes, offset) : Infinity;
      if (offset + 2 + length > end) break;
      offset += 2;
      if (!log.has(index + 1) || !log.equalsEntry(index + 1, bytes, offset, length)) {
        if (!this.mayReplace(index, bytes, offset, from, now)) break;
        differs = true;
        this.cutBehind(index);
        if (!state.appendStored(bytes, offset, length)) {
          state.makeRoom();
          if (!state.appendStored(bytes, offset, length)) break;
        }
        invariant(log.lastIndex === index + 1, 'a repair appends the entry that follows the part that agrees');
        state.counters[Counter.entries_fetched]!++;
        if (state.isMember) this.caughtUp(log.lastIndex);
        if (firstNew === Infinity) firstNew = log.lastIndex;
      }
      index++;
      offset += length;
    }
    invariant(differs || log.lastIndex === lastBefore, "a log that agrees with a part of the primary's is not changed");
    this.confirm(index);
    if (state.isMember) for (let i = firstNew; i <= index; i++) this.acknowledge(i);
    return index;
  }

  /** Whether what follows entry `index` may give way to the entry at `bytes[offset]`. If not, replica `from` is named. */
  private mayReplace(index: number, bytes: Uint8Array, offset: number, from: number, now: Instant): boolean {
    const { log, synced } = this.state;
    if (index < synced) {
      // The sent entry follows an entry of the primary's log, and the one that stands here was known to do so.
      if (index >= log.baseIndex)
        this.contradictions.impossible(
          from,
          `sends an entry ${index + 1} of the primary's log, and another one is known to stand there`,
          now,
        );
      return false;
    }
    if (entryFollows(log, index, bytes, offset)) return true;
    this.contradictions.impossible(from, `sends an entry ${index + 1} whose key is not above the one before it`, now);
    return false;
  }

  /**
   * Goes as far with the primary's order as requests are here, then puts back what was kept. False when the order
   * contradicted what is here, or made an entry with another chain: the entries have to be fetched.
   * @param quiet the primary pushes its order: what is put back is acknowledged when it confirms it
   */
  settle(quiet: boolean): boolean {
    const agrees = !this.order.waits || this.follow();
    if (!this.order.waits && this.tail.isOpen) this.putBack(quiet);
    return agrees;
  }

  private follow(): boolean {
    const { state, order } = this;
    const { log } = state;
    let index = Math.max(order.base, log.baseIndex);
    if (index >= order.end || index > log.lastIndex) {
      order.forget();
      return true;
    }
    while (index < order.end && order.standsIn(log, index + 1)) index++;
    this.confirm(index);
    order.reached(index);
    if (index === order.end) return true;
    // What follows here is known to be the primary's: the order is not.
    if (index < state.synced) return this.contradicted();
    this.cutBehind(index);
    while (index < order.end) {
      const slot = this.slotOf(index + 1);
      if (slot < 0) return true;
      if (!this.place(index + 1, slot)) return this.contradicted();
      order.reached(++index);
    }
    return true;
  }

  /** Where the cache has the request that the primary ordered at `index`; −1 when it has not been seen. */
  private slotOf(index: number): number {
    const { sessionHi, sessionLo, lane, request } = this.order.pointAt(index, this.ordered);
    return this.cache.find(sessionHi, sessionLo, lane, request);
  }

  /**
   * Appends what the primary ordered at `index`, the next entry of the log, with the operation in `slot` of the cache.
   * False, and the log as before, when it cannot be what the primary has.
   */
  private place(index: number, slot: number): boolean {
    const { state, cache, order, ordered, placed } = this;
    const { log } = state;
    invariant(log.lastIndex === index - 1, 'the order is followed entry by entry');
    if (log.compareToLast(ordered.timestampHi, ordered.timestampLo, ordered.sessionHi, ordered.sessionLo) <= 0)
      return false;
    // The primary's timestamp and flags, the operation from the cache.
    order.pointAt(index, cache.pointAt(slot, placed));
    if (!log.append(placed)) {
      state.makeRoom();
      if (!log.append(placed)) return false;
    }
    if (!order.standsIn(log, index)) {
      // Another operation under the same number: no client has heard of this entry yet.
      log.truncate(index - 1);
      cache.drop(slot);
      return false;
    }
    state.appended();
    state.counters[Counter.entries_ordered]!++;
    this.confirm(index);
    this.acknowledge(index);
    this.noLongerOvertaken(slot, placed);
    this.outOfStep.ordered(placed, index);
    return true;
  }

  /** The primary sent entry `index`: if its request was seen here and overtaken, that was perhaps a crossing. */
  private caughtUp(index: number): void {
    const { cache, placed } = this;
    const { sessionHi, sessionLo, lane, request } = this.state.log.pointAt(index, placed);
    const slot = cache.find(sessionHi, sessionLo, lane, request);
    // Only the request says who sent it: an entry that was fetched has no owner.
    if (slot >= 0) this.noLongerOvertaken(slot, cache.pointAt(slot, placed));
  }

  private noLongerOvertaken(slot: number, entry: Entry): void {
    const { overtakenUs } = this.cache;
    if (overtakenUs[slot] !== 0) this.outOfStep.caughtUp(entry, overtakenUs[slot]!);
    overtakenUs[slot] = 0;
  }

  private contradicted(): false {
    this.state.counters[Counter.orders_refused]!++;
    this.order.forget();
    return false;
  }

  /** Cuts the entries behind `index`, the first of which differs from the primary's; they go to the cache, in order. */
  private cutBehind(index: number): void {
    const { state } = this;
    invariant(
      state.status === ReplicaStatus.normal && !state.isPrimary,
      "a repair changes the log of a running view, and never the primary's",
    );
    invariant(
      index >= state.synced && index >= state.committed,
      "a repair cuts neither what is known to be the primary's nor what is committed",
    );
    if (state.log.lastIndex === index) return;
    this.tail.keepBehind(index);
    if (this.quietTo > index) this.quietTo = index;
    state.noteDifference();
    state.truncate(index);
  }

  private putBack(quiet: boolean): void {
    const { log } = this.state;
    const first = log.lastIndex + 1;
    this.tail.putBack();
    if (!quiet) {
      for (let index = first; index <= log.lastIndex; index++) this.acknowledge(index);
    } else if (log.lastIndex >= first) {
      this.quietFrom = first;
      this.quietTo = log.lastIndex;
    }
  }

  /** Tells the client of entry `index`, which a repair brought or moved, where it stands now, so that it need not ask. */
  private acknowledge(index: number): void {
    const { log, execution } = this.state;
    if (!log.has(index)) return;
    let to = log.replyTo(index);
    if (to < 0) to = execution.sessions.find(log.sessionHi(index), log.sessionLo(index))?.replyTo ?? -1;
    if (to >= 0) this.answers.acknowledge(to, index, 0, 1);
  }
}
