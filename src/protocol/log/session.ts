/**
 * A session: who registered it, and of each of its lanes the request that was executed last, with its result. What the
 * table does with sessions: sessions.ts.
 */
import { wordsOf } from '../../wire/copy.js';
import { ReplyStatus } from '../../wire/messages.js';
import { invariant } from '../invariant.js';
import { Payloads } from './payloads.js';
import type { Share } from './session-shares.js';
import { SpareArrays } from './spare-arrays.js';

const NO_WORDS = wordsOf(new Uint8Array(0));

/** Every lane has this much room for a result. */
export const SHORT_RESULT_BYTES = 64;

/** Bytes of a session in a snapshot (session-bytes.ts), of each lane's request number, and of the rest before a result. */
export const SESSION_BYTES = 50;
export const NUMBER_BYTES = 4;
export const EXECUTED_BYTES = 19;

/** What registers a session: its id, what its Register says (session-owner.ts, `born` above), and that entry. */
export interface Registered {
  readonly hi: number;
  readonly lo: number;
  readonly nonceHi: number;
  readonly nonceLo: number;
  readonly lanes: number;
  readonly bornHi: number;
  readonly bornLo: number;
  readonly registerIndex: number;
  readonly registerChainHi: number;
  readonly registerChainLo: number;
}

/** An executed request, on its way into its session: a flyweight that is filled in for one request after another. */
export class Executed {
  lane = 0;
  request = 0;
  /** Index and chain of its entry. */
  index = 0;
  chainHi = 0;
  chainLo = 0;
  /** ReplyStatus. */
  status = 0;
  /** Where the result is. */
  resultWords = NO_WORDS;
  resultOffset = 0;
  resultLength = 0;
}

/** Lanes that a session has room for when the first of them is used. */
const FIRST_LANES = 4;

/** About what a session takes, and each lane that it has room for: without results that are not short. */
const SESSION_HELD_BYTES = 1024;
const LANE_HELD_BYTES = 110;

/** In place of a lane. */
const NO_LANE = -1;

/** The place of a session that no copy has still to write. */
export const NOT_COPIED = -1;

/**
 * The last executed request of each lane of one session. Memory for a lane is allocated when that lane, or one above it,
 * is first used: a session that only registers costs no more than its Register.
 */
export class Session implements Registered {
  readonly hi: number;
  readonly lo: number;
  readonly nonceHi: number;
  readonly nonceLo: number;
  readonly lanes: number;
  readonly bornHi: number;
  readonly bornLo: number;
  readonly registerIndex: number;
  readonly registerChainHi: number;
  readonly registerChainLo: number;
  /** Number of the last executed request; 0: none yet. Only as long as lanes were used: see `lastRequest`. */
  request = new Int32Array(0);
  /** Log index and chain of that request's entry. */
  index = new Float64Array(0);
  chainHi = new Int32Array(0);
  chainLo = new Int32Array(0);
  status = new Uint8Array(0);
  readonly results: Payloads;
  /** Bytes of the results that are kept, as far as they are not short. */
  resultBytes = 0;
  /** Bytes in a snapshot of what its lanes executed. */
  private executedBytes = 0;
  /** Its place in the copy that still has to write it (session-copy.ts), or NOT_COPIED. */
  place = NOT_COPIED;
  /** It gives up its results when it is copied. */
  private leaves = false;
  /**
   * The lanes whose results are not short, linked in log order, so that finding the oldest result needs no search:
   * neighbours of each lane, and both ends. Only as long as lanes had such a result.
   */
  private olderLane = new Int32Array(0);
  private newerLane = new Int32Array(0);
  private oldestLane = NO_LANE;
  private newestLane = NO_LANE;
  /** Where it is counted, as long as it is in a table. */
  share: Share<Session> | undefined;
  /** Index of the entry that used the session last; `SessionTable.used` sets it. */
  lastUsed: number;
  /** Neighbours in the order of last use. */
  older: Session | undefined;
  newer: Session | undefined;
  /** Where the client was last heard from, or −1. Volatile, not part of the replicated state. */
  replyTo = -1;

  /** @param spares of the table that the session is for */
  constructor(registered: Registered, spares = new SpareArrays()) {
    this.results = new Payloads(0, SHORT_RESULT_BYTES, spares);
    this.hi = registered.hi;
    this.lo = registered.lo;
    this.nonceHi = registered.nonceHi;
    this.nonceLo = registered.nonceLo;
    this.lanes = registered.lanes;
    this.bornHi = registered.bornHi;
    this.bornLo = registered.bornLo;
    this.registerIndex = registered.registerIndex;
    this.registerChainHi = registered.registerChainHi;
    this.registerChainLo = registered.registerChainLo;
    this.lastUsed = registered.registerIndex;
  }

  /** Bytes of memory that it takes, about. */
  get heldBytes(): number {
    return SESSION_HELD_BYTES + LANE_HELD_BYTES * this.request.length + this.resultBytes;
  }

  /** Its bytes in a snapshot. */
  get encodedBytes(): number {
    return SESSION_BYTES + NUMBER_BYTES * this.lanes + this.executedBytes;
  }

  /** Number of the last executed request of a lane; 0: none yet. */
  lastRequest(lane: number): number {
    return lane < this.request.length ? this.request[lane]! : 0;
  }

  /**
   * Records the executed request of a lane, with a copy of its result. Its number is above the last one (S), and its entry
   * is later than all that the session recorded. Returns by how many bytes `resultBytes` grew.
   */
  record(executed: Executed): number {
    const { lane } = executed;
    const wasLong = this.isLong(lane);
    const grown = this.keep(executed);
    if (wasLong) this.unlink(lane);
    if (this.isLong(lane)) this.link(lane);
    return grown;
  }

  /** The same for lanes in any order: call `linkResults` when all are there. */
  keep(executed: Executed): number {
    const { lane, request } = executed;
    if (lane >= this.request.length) this.grow(lane);
    const last = this.request[lane]!;
    invariant(request > last, 'a lane executes requests in the order of their numbers, each once');
    this.request[lane] = request;
    this.index[lane] = executed.index;
    this.chainHi[lane] = executed.chainHi;
    this.chainLo[lane] = executed.chainLo;
    this.status[lane] = executed.status;
    const { results } = this;
    const grown = results.sizeOf(executed.resultLength) - results.sizeOf(results.length(lane));
    this.executedBytes += executed.resultLength - results.length(lane) + (last === 0 ? EXECUTED_BYTES : 0);
    results.put(lane, executed.resultWords, executed.resultOffset, executed.resultLength);
    this.resultBytes += grown;
    return grown;
  }

  /** What the lane had before. The links are as they were, and wrong, until `linkResults`. Returns like `record`. */
  putBack(before: Executed): number {
    const { lane, request } = before;
    const { results } = this;
    const kept = results.sizeOf(results.length(lane));
    this.executedBytes += before.resultLength - results.length(lane) - (request === 0 ? EXECUTED_BYTES : 0);
    this.request[lane] = request;
    this.index[lane] = before.index;
    this.chainHi[lane] = before.chainHi;
    this.chainLo[lane] = before.chainLo;
    this.status[lane] = before.status;
    if (before.resultLength === 0) results.clear(lane);
    else results.put(lane, before.resultWords, before.resultOffset, before.resultLength);
    const grown = results.sizeOf(before.resultLength) - kept;
    this.resultBytes += grown;
    return grown;
  }

  /** Puts the lanes with long results in order. */
  linkResults(): void {
    const { index } = this;
    const lanes: number[] = [];
    for (let lane = 0; lane < this.request.length; lane++) if (this.isLong(lane)) lanes.push(lane);
    this.oldestLane = this.newestLane = NO_LANE;
    for (const lane of lanes.sort((a, b) => index[a]! - index[b]!)) this.link(lane);
  }

  /** The lane whose result, if it is not short, has been kept for longest; −1: only that of entry `index` is long. */
  oldestResult(index: number): number {
    const { oldestLane } = this;
    return oldestLane === NO_LANE || this.index[oldestLane]! >= index ? NO_LANE : oldestLane;
  }

  /** Gives up the result of a lane. Returns by how many bytes `resultBytes` shrank. */
  forget(lane: number): number {
    const { results } = this;
    const shrunk = results.sizeOf(results.length(lane));
    if (shrunk > 0) this.unlink(lane);
    this.executedBytes -= results.length(lane);
    results.clear(lane);
    this.status[lane] = ReplyStatus.sessionUnknown;
    this.resultBytes -= shrunk;
    return shrunk;
  }

  /** The session has left the table: its arrays are for others, once it is copied. */
  left(): void {
    if (this.place !== NOT_COPIED) {
      this.leaves = true;
      return;
    }
    while (this.oldestLane !== NO_LANE) this.forget(this.oldestLane);
  }

  /** No copy has to write it any more. */
  copied(): void {
    this.place = NOT_COPIED;
    if (this.leaves) this.left();
  }

  private isLong(lane: number): boolean {
    return lane < this.request.length && this.results.sizeOf(this.results.length(lane)) > 0;
  }

  private link(lane: number): void {
    if (this.newerLane.length < this.request.length) {
      const { olderLane, newerLane } = this;
      this.olderLane = new Int32Array(this.request.length);
      this.olderLane.set(olderLane);
      this.newerLane = new Int32Array(this.request.length);
      this.newerLane.set(newerLane);
    }
    const { newestLane } = this;
    this.olderLane[lane] = newestLane;
    this.newerLane[lane] = NO_LANE;
    if (newestLane === NO_LANE) this.oldestLane = lane;
    else this.newerLane[newestLane] = lane;
    this.newestLane = lane;
    invariant(newestLane === NO_LANE || this.index[newestLane]! < this.index[lane]!, 'results are kept in log order');
  }

  private unlink(lane: number): void {
    const older = this.olderLane[lane]!;
    const newer = this.newerLane[lane]!;
    if (older === NO_LANE) this.oldestLane = newer;
    else this.newerLane[older] = newer;
    if (newer === NO_LANE) this.newestLane = older;
    else this.olderLane[newer] = older;
  }

  private grow(lane: number): void {
    invariant(lane < this.lanes, 'a session has the lanes that its Register named');
    let size = FIRST_LANES;
    while (size <= lane) size *= 2;
    const room = Math.min(size, this.lanes);
    const { request, index, chainHi, chainLo, status } = this;
    this.request = new Int32Array(room);
    this.request.set(request);
    this.index = new Float64Array(room);
    this.index.set(index);
    this.chainHi = new Int32Array(room);
    this.chainHi.set(chainHi);
    this.chainLo = new Int32Array(room);
    this.chainLo.set(chainLo);
    this.status = new Uint8Array(room);
    this.status.set(status);
    this.results.grow(room);
  }
}
