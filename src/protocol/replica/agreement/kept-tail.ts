/**
 * The own entries that a repair cuts, and what arrives while it goes on: all of it goes back behind the repaired part.
 *
 * Rule S guarded here (`Behind` in model/JITPaxos.tla, with TailRule "keep"): an entry goes back only if its key is above
 * the last one of the log and its request is not in the log already, nor executed. An acknowledgement that was sent for
 * it earlier named another chain, so it counts for no commit any more; one that is sent from here on covers the log as it
 * is then.
 *
 * Which requests go back is speed only. Those of an owner that is out of step (out-of-step.ts) stay in the cache until the
 * primary names them.
 */
import { readI32 } from '../../../wire/u64.js';
import { Counter } from '../../counters.js';
import { invariant } from '../../invariant.js';
import { Entry } from '../../log/entry.js';
import { REGISTER_BORN, REGISTER_LANE } from '../../log/sessions.js';
import type { ReplicaState } from '../replica-state.js';
import type { OutOfStep } from './out-of-step.js';
import type { RequestCache } from './request-cache.js';

export class KeptTail {
  /** Number in the cache of the first request that goes back, or −1. */
  private from = -1;
  /** The entries that were cut from the log have these numbers, the second one not included. */
  private cutFrom = 0;
  private cutTo = 0;
  /** Points at the entry of the log or of the cache that is moved now. */
  private readonly moved = new Entry();

  constructor(
    private readonly state: ReplicaState,
    private readonly cache: RequestCache,
    private readonly outOfStep: OutOfStep,
  ) {}

  /** Something is to go back. */
  get isOpen(): boolean {
    return this.from >= 0;
  }

  /** Nothing goes back. The requests stay in the cache. */
  forget(): void {
    this.from = -1;
    this.cutFrom = this.cutTo;
  }

  /** From here on, what is put into the cache goes back into the log. */
  open(): void {
    if (this.from < 0) this.from = this.cache.end;
  }

  /** Copies the entries behind `index` to the cache, in order; they are about to be cut. */
  keepBehind(index: number): void {
    const { log } = this.state;
    this.open();
    this.cutFrom = this.cache.end;
    for (let i = index + 1; i <= log.lastIndex; i++) this.cache.put(log.pointAt(i, this.moved));
    this.cutTo = this.cache.end;
  }

  /** Appends the kept requests that may go back, in the order in which they were kept. */
  putBack(): void {
    const { state, cache } = this;
    const { log } = state;
    const { synced } = state;
    const end = cache.end;
    this.countOvertaken();
    for (let number = cache.from(this.from); number < end; number++) {
      const slot = cache.slotOf(number);
      if (slot < 0 || !this.mayGoBack(slot)) continue;
      if (!state.append(cache.pointAt(slot, this.moved))) break;
      state.counters[Counter.entries_kept]!++;
    }
    this.from = -1;
    invariant(
      synced <= log.lastIndex && state.synced === synced,
      "what goes back stands behind the part that is the primary's, and is not taken for the primary's",
    );
  }

  /**
   * Counts the requests that the primary's order overtook: those that stood in this log before one that the order has, that
   * it does not have, and that do not go back.
   */
  private countOvertaken(): void {
    const { cache, moved, outOfStep } = this;
    const first = cache.from(this.cutFrom);
    let isBefore = false;
    outOfStep.beginRepair();
    for (let number = this.cutTo - 1; number >= first; number--) {
      const slot = cache.slotOf(number);
      if (slot < 0) continue;
      cache.pointAt(slot, moved);
      if (this.isOrdered(moved)) isBefore = true;
      else if (isBefore && !this.mayGoBack(slot)) cache.overtakenUs[slot] = outOfStep.overtaken(moved);
    }
    this.cutFrom = this.cutTo;
  }

  /** The repaired part of the log has just this request, or it was executed last of its lane. */
  private isOrdered({ sessionHi, sessionLo, lane, request }: Entry): boolean {
    const { log, tail, execution } = this.state;
    let index = tail.find(sessionHi, sessionLo, lane);
    while (log.has(index) && log.request(index) > request) index = log.laneBefore(index);
    if (log.has(index)) return log.request(index) === request;
    const session = execution.sessions.find(sessionHi, sessionLo);
    if (session === undefined) return false;
    return lane === REGISTER_LANE || (lane < session.lanes && session.lastRequest(lane) === request);
  }

  private mayGoBack(slot: number): boolean {
    const { state, cache, moved } = this;
    cache.pointAt(slot, moved);
    if (this.outOfStep.isApart(moved)) return false;
    const { sessionHi, sessionLo, lane, request } = moved;
    if (state.log.compareToLast(moved.timestampHi, moved.timestampLo, sessionHi, sessionLo) <= 0) return false;
    const newest = state.tail.find(sessionHi, sessionLo, lane);
    if (newest !== 0 && state.log.request(newest) >= request) return false;
    const session = state.execution.sessions.find(sessionHi, sessionLo);
    if (session !== undefined) return lane < session.lanes && session.lastRequest(lane) < request;
    // What requests.ts would not append now stays out: it may be of a session that was evicted meanwhile.
    if (lane !== REGISTER_LANE) return state.tail.find(sessionHi, sessionLo, REGISTER_LANE) !== 0;
    const born = moved.operationOffset + REGISTER_BORN;
    return !state.execution.sessions.mayBeEvicted(readI32(cache.bytes, born), readI32(cache.bytes, born + 4));
  }
}
