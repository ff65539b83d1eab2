/**
 * The session table: part of the replicated state, changed only by executing entries in log order.
 *
 * The rule (S), *at most once*: an operation is executed only if its request number is above the last one executed in its
 * lane (`AtMostOnce` in model/JITPaxos.tla). The result of that last one is kept to answer retries, across view changes
 * and snapshots.
 *
 * It is bounded by the number of sessions and of lanes, and with the feature `session-quotas` by the bytes of results that
 * are kept. What is beyond a bound evicts sessions, by log index, so that every replica decides alike.
 *
 * - Without the feature the least recently used session of all is evicted. One client can then evict those of all others.
 * - With it the table is shared by owners (session-shares.ts). While others have sessions, an owner that asks for more than
 *   a quarter of a bound gives up sessions of its own for it. When all together reach a bound, the owner that holds most
 *   gives up sessions. In both cases they are its least recently used ones. So an owner that holds little loses nothing to
 *   one that asks for much. Sessions without an owner are one owner together.
 * - The session of the entry that is executed stays, and the result of that entry. If its owner has no other session to
 *   give up, the session gives up the results that it has kept for longest. Of those requests it still knows that they
 *   were executed: a retry is answered `sessionUnknown`, so that its client does not take the outcome for known.
 *
 * A request of an evicted session is refused, never executed again. A
 * delayed copy of its Register must not bring the session back without its memory of what it executed. Therefore a
 * Register is refused if its first timestamp (`born`) is not later than that of every session evicted before.
 *
 * Lookups allocate nothing (open addressing, removal by backward shift); registering a session does. The sessions are
 * linked in the order of their last use, so finding the one to evict needs no search.
 */
import { copyBytes, wordsOf } from '../../wire/copy.js';
import { ReplyStatus } from '../../wire/messages.js';
import { compareU64, readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { invariant } from '../invariant.js';
import { Payloads } from './payloads.js';
import { ownerOfSession, Shares, type Measure, type Share } from './session-shares.js';
import { roomFor, SpareArrays } from './spare-arrays.js';

/** The lane number of a Register entry, above those that requests may use. */
export const REGISTER_LANE = 0xffff;
/** A Register operation: nonce (8 bytes), lanes (u16), timestamp of its first attempt (u64, ns). */
export const REGISTER_BYTES = 18;
/** Offset of that timestamp in it. */
export const REGISTER_BORN = 10;

/**
 * Fixed bytes of a session in a snapshot; and of a lane that executed a request: the request number, and what precedes
 * the result.
 */
const SESSION_BYTES = 50;
const NUMBER_BYTES = 4;
const EXECUTED_BYTES = 19;

const NO_WORDS = wordsOf(new Uint8Array(0));

/** Every lane has this much room for a result. */
const SHORT_RESULT_BYTES = 64;

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

/** In place of a lane. */
const NO_LANE = -1;

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
    invariant(request > this.request[lane]!, 'a lane executes requests in the order of their numbers, each once');
    this.request[lane] = request;
    this.index[lane] = executed.index;
    this.chainHi[lane] = executed.chainHi;
    this.chainLo[lane] = executed.chainLo;
    this.status[lane] = executed.status;
    const { results } = this;
    const grown = results.sizeOf(executed.resultLength) - results.sizeOf(results.length(lane));
    results.put(lane, executed.resultWords, executed.resultOffset, executed.resultLength);
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
    results.clear(lane);
    this.status[lane] = ReplyStatus.sessionUnknown;
    this.resultBytes -= shrunk;
    return shrunk;
  }

  /** The session has left the table: its arrays are for others. */
  left(): void {
    while (this.oldestLane !== NO_LANE) this.forget(this.oldestLane);
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

export class SessionTable {
  private slots: (Session | undefined)[];
  /** The session looked up last, as long as it is in the table: requests of one session come in a row. */
  private found: Session | undefined;
  private mask: number;
  private count = 0;
  private laneCount = 0;
  /** Bytes of results that all sessions keep. */
  private byteCount = 0;
  /** Sessions are shared by owners; otherwise all are one share. */
  private byOwner = false;
  private readonly shares = new Shares<Session>();
  /** Arrays of results that were given up: an owner's share of results at most. */
  readonly spares: SpareArrays;
  /** The latest `born` of all sessions ever evicted. */
  private horizonHi = 0;
  private horizonLo = 0;
  /** Sessions evicted since construction, for the counters. */
  evicted = 0;

  constructor(
    private readonly maxSessions: number,
    private readonly maxLanes: number,
    /** Bytes of results that are kept. */
    private readonly maxBytes: number = 1 << 30,
  ) {
    this.spares = new SpareArrays(maxBytes >>> 2);
    let capacity = 16;
    while (capacity < maxSessions * 2 && capacity < 1024) capacity *= 2;
    this.slots = new Array<Session | undefined>(capacity).fill(undefined);
    this.mask = capacity - 1;
  }

  get size(): number {
    return this.count;
  }

  find(hi: number, lo: number): Session | undefined {
    const { found } = this;
    if (found !== undefined && found.lo === lo && found.hi === hi) return found;
    return (this.found = this.search(hi, lo));
  }

  private search(hi: number, lo: number): Session | undefined {
    for (let slot = hash(hi, lo) & this.mask; ; slot = (slot + 1) & this.mask) {
      const session = this.slots[slot];
      if (session === undefined || (session.hi === hi && session.lo === lo)) return session;
    }
  }

  /** Bytes of results that are kept, beyond the short ones. */
  get resultBytes(): number {
    return this.byteCount;
  }

  /** Whether sessions are shared by owners, and their results bounded from the next use on (features.ts). */
  setQuotas(on: boolean): void {
    if (on === this.byOwner) return;
    this.byOwner = on;
    const all = this.sorted().sort((a, b) => a.lastUsed - b.lastUsed);
    this.shares.clear();
    for (const session of all) this.share(session);
  }

  /** Adds a session that is not in the table, and evicts others if the bounds require it. */
  register(session: Session): void {
    invariant(this.find(session.hi, session.lo) === undefined, 'a session is registered once');
    invariant(session.lanes <= this.maxLanes, 'a session has no more lanes than the table');
    const owner = this.ownerOf(session);
    this.keepToQuarter(owner, 'sessions', 1, this.maxSessions);
    this.keepToQuarter(owner, 'lanes', session.lanes, this.maxLanes);
    while (this.count >= this.maxSessions) this.evictFor('sessions', owner, 1);
    while (this.laneCount + session.lanes > this.maxLanes) this.evictFor('lanes', owner, session.lanes);
    this.insert(session);
  }

  /**
   * The entry `index`, the last executed one, used the session, whose results grew by that many bytes. Also keeps the
   * results of all within their bound, which they may exceed when quotas are switched on.
   */
  used(session: Session, index: number, grown = 0): void {
    session.lastUsed = index;
    const share = session.share!;
    share.used(session);
    this.byteCount += grown;
    share.bytes += grown;
    if (!this.byOwner) return;
    const quarter = this.maxBytes >>> 2;
    // It grew already: what it asks for more is what it has now.
    if (grown > 0 && share.bytes > quarter && this.shares.size > 1) {
      const allowed = Math.max(quarter, share.bytes - grown);
      while (share.bytes > allowed) this.giveUp(share, session, index);
    }
    while (this.byteCount > this.maxBytes) this.giveUp(this.heaviestBeside(session, index), session, index);
  }

  /** The share that has to give up results; not that of the session in use if the newest result is all that it has. */
  private heaviestBeside(session: Session, index: number): Share<Session> {
    const share = session.share!;
    const keepsOne = share.oldest === session && session.oldestResult(index) < 0;
    const found = this.shares.heaviest('bytes', share.owner, 0, keepsOne ? share : undefined);
    invariant(found !== undefined, 'one result fits the bound of all');
    return found;
  }

  /** Evicts a share's oldest session; of the one in use, forgets the oldest result, but that of entry `index`. */
  private giveUp(share: Share<Session>, inUse: Session, index: number): void {
    if (share.oldest !== inUse) {
      this.evict(share.oldest!);
      return;
    }
    const lane = inUse.oldestResult(index);
    invariant(lane >= 0, 'a quarter of the bound holds the longest result');
    const shrunk = inUse.forget(lane);
    share.bytes -= shrunk;
    this.byteCount -= shrunk;
  }

  private ownerOf(session: Session): number {
    return this.byOwner ? ownerOfSession(session.lo, session.nonceHi) : 0;
  }

  /**
   * While others have sessions, an owner that asks for more than a quarter gives up its own for it. One that has more than
   * that already does not grow, and keeps what it has. One session is never too much.
   */
  private keepToQuarter(owner: number, measure: Measure, more: number, bound: number): void {
    const share = this.shares.find(owner);
    if (!this.byOwner || share === undefined || this.shares.size === 1) return;
    const allowed = Math.max(Math.floor(bound / 4), share[measure]);
    while (share.sessions > 0 && share[measure] + more > allowed) this.evict(share.oldest!);
  }

  private evictFor(measure: Measure, owner: number, more: number): void {
    const share = this.shares.heaviest(measure, owner, more);
    invariant(share !== undefined, 'a full session table has a session to evict');
    this.evict(share.oldest!);
  }

  /** True if a session first registered at that time may have been here before and been evicted. */
  mayBeEvicted(bornHi: number, bornLo: number): boolean {
    return compareU64(bornHi, bornLo, this.horizonHi, this.horizonLo) <= 0;
  }

  private clear(): void {
    this.found = undefined;
    for (const session of this.slots) session?.left();
    this.slots.fill(undefined);
    this.count = 0;
    this.laneCount = 0;
    this.byteCount = 0;
    this.shares.clear();
  }

  /** Every session, by id: an order that does not depend on the table's history. */
  sorted(): Session[] {
    const all: Session[] = [];
    for (const session of this.slots) if (session) all.push(session);
    return all.sort((a, b) => compareU64(a.hi, a.lo, b.hi, b.lo));
  }

  /** The number of bytes that `write` writes. */
  encodedLength(): number {
    let length = 12;
    for (const session of this.slots) {
      if (!session) continue;
      length += SESSION_BYTES;
      length += session.lanes * NUMBER_BYTES;
      for (let lane = 0; lane < session.request.length; lane++)
        if (session.request[lane] !== 0) length += EXECUTED_BYTES + session.results.length(lane);
    }
    return length;
  }

  /** Writes the whole table; the same table always gives the same bytes. Returns the offset after them. */
  write(target: Uint8Array, offset: number): number {
    const sessions = this.sorted();
    let at = offset;
    writeI32(target, at, sessions.length);
    writeI32(target, at + 4, this.horizonHi);
    writeI32(target, at + 8, this.horizonLo);
    at += 12;
    for (const session of sessions) {
      writeI32(target, at, session.hi);
      writeI32(target, at + 4, session.lo);
      writeI32(target, at + 8, session.nonceHi);
      writeI32(target, at + 12, session.nonceLo);
      writeU16(target, at + 16, session.lanes);
      writeIndex(target, at + 18, session.registerIndex);
      writeI32(target, at + 26, session.registerChainHi);
      writeI32(target, at + 30, session.registerChainLo);
      writeIndex(target, at + 34, session.lastUsed);
      writeI32(target, at + 42, session.bornHi);
      writeI32(target, at + 46, session.bornLo);
      at += SESSION_BYTES;
      for (let lane = 0; lane < session.lanes; lane++) {
        const request = session.lastRequest(lane);
        writeI32(target, at, request);
        at += NUMBER_BYTES;
        if (request === 0) continue;
        writeIndex(target, at, session.index[lane]!);
        writeI32(target, at + 8, session.chainHi[lane]!);
        writeI32(target, at + 12, session.chainLo[lane]!);
        target[at + 16] = session.status[lane]!;
        writeU16(target, at + 17, session.results.length(lane));
        at += EXECUTED_BYTES;
        copyBytes(session.results.bytes(lane), 0, target, at, session.results.length(lane));
        at += session.results.length(lane);
      }
    }
    return at;
  }

  /** Replaces the table by what `write` wrote. Accepts nothing else: see `sessionsFault`. */
  read(source: Uint8Array, offset: number): void {
    const heard = new Map<string, number>();
    for (const session of this.slots) if (session) heard.set(`${session.hi},${session.lo}`, session.replyTo);
    this.clear();
    let at = offset;
    const count = readI32(source, at);
    this.horizonHi = readI32(source, at + 4);
    this.horizonLo = readI32(source, at + 8);
    at += 12;
    const sessions: Session[] = [];
    const executed = new Executed();
    executed.resultWords = wordsOf(source);
    for (let i = 0; i < count; i++) {
      const session = new Session(
        {
          hi: readI32(source, at),
          lo: readI32(source, at + 4),
          nonceHi: readI32(source, at + 8),
          nonceLo: readI32(source, at + 12),
          lanes: readU16(source, at + 16),
          bornHi: readI32(source, at + 42),
          bornLo: readI32(source, at + 46),
          registerIndex: readIndex(source, at + 18),
          registerChainHi: readI32(source, at + 26),
          registerChainLo: readI32(source, at + 30),
        },
        this.spares,
      );
      session.lastUsed = readIndex(source, at + 34);
      session.replyTo = heard.get(`${session.hi},${session.lo}`) ?? -1;
      at += SESSION_BYTES;
      for (let lane = 0; lane < session.lanes; lane++) {
        const request = readI32(source, at);
        at += NUMBER_BYTES;
        if (request === 0) continue;
        executed.lane = lane;
        executed.request = request;
        executed.index = readIndex(source, at);
        executed.chainHi = readI32(source, at + 8);
        executed.chainLo = readI32(source, at + 12);
        executed.status = source[at + 16]!;
        executed.resultOffset = at + EXECUTED_BYTES;
        executed.resultLength = readU16(source, at + 17);
        session.keep(executed);
        at += EXECUTED_BYTES + executed.resultLength;
      }
      session.linkResults();
      sessions.push(session);
    }
    sessions.sort((a, b) => a.lastUsed - b.lastUsed);
    for (const session of sessions) this.insert(session);
  }

  private insert(session: Session): void {
    if ((this.count + 1) * 2 > this.slots.length) this.rehash(this.slots.length * 2);
    let slot = hash(session.hi, session.lo) & this.mask;
    while (this.slots[slot] !== undefined) slot = (slot + 1) & this.mask;
    this.slots[slot] = session;
    this.count++;
    this.laneCount += session.lanes;
    this.byteCount += session.resultBytes;
    this.share(session);
  }

  private share(session: Session): void {
    session.share = this.shares.of(this.ownerOf(session));
    session.share.add(session);
  }

  /** The horizon is never later than the entry that evicts: no session is born later than its own Register. */
  private evict(session: Session): void {
    if (!this.mayBeEvicted(session.bornHi, session.bornLo)) {
      this.horizonHi = session.bornHi;
      this.horizonLo = session.bornLo;
    }
    const share = session.share!;
    share.remove(session);
    this.shares.drop(share);
    session.share = undefined;
    this.remove(session);
    this.count--;
    this.laneCount -= session.lanes;
    this.byteCount -= session.resultBytes;
    session.left();
    this.evicted++;
  }

  private remove(session: Session): void {
    this.found = undefined;
    const { slots, mask } = this;
    let hole = hash(session.hi, session.lo) & mask;
    while (slots[hole] !== session) hole = (hole + 1) & mask;
    for (let next = (hole + 1) & mask; slots[next] !== undefined; next = (next + 1) & mask) {
      const home = hash(slots[next]!.hi, slots[next]!.lo) & mask;
      // An entry may move into the hole if its home is not between the hole and its present slot.
      if (((next - home) & mask) >= ((next - hole) & mask)) {
        slots[hole] = slots[next];
        hole = next;
      }
    }
    slots[hole] = undefined;
  }

  private rehash(capacity: number): void {
    const all = this.slots;
    this.slots = new Array<Session | undefined>(capacity).fill(undefined);
    this.mask = capacity - 1;
    for (const session of all) {
      if (!session) continue;
      let slot = hash(session.hi, session.lo) & this.mask;
      while (this.slots[slot] !== undefined) slot = (slot + 1) & this.mask;
      this.slots[slot] = session;
    }
  }
}

/** The most bytes that `write` writes with quotas. */
export function tableBytesMax({
  maxSessions,
  maxLanes,
  keptResultBytes,
}: Omit<SessionBounds, 'lanesPerSession' | 'resultBytes'>): number {
  return (
    12 + maxSessions * SESSION_BYTES + maxLanes * (NUMBER_BYTES + EXECUTED_BYTES + SHORT_RESULT_BYTES) + keptResultBytes
  );
}

export interface SessionBounds {
  readonly maxSessions: number;
  readonly maxLanes: number;
  readonly lanesPerSession: number;
  readonly resultBytes: number;
  readonly keptResultBytes: number;
}

/**
 * Why `bytes[offset … end)` cannot be a table that `write` wrote after entry `index`, whose timestamp is given, in a
 * few words; undefined if it can be. `quotas`: the table was shared by owners. `read` accepts whatever passes, and `write` then writes the same bytes again.
 */
export function sessionsFault(
  source: Uint8Array,
  offset: number,
  end: number,
  index: number,
  timestampHi: number,
  timestampLo: number,
  bounds: SessionBounds,
  quotas: boolean,
): string | undefined {
  const bytesMax = quotas ? bounds.keptResultBytes : Infinity;
  let bytesOfAll = 0;
  let at = offset;
  const beyond = (length: number): boolean => at + length > end;
  if (beyond(12)) return 'the session table is cut off';
  const count = readI32(source, at);
  if (count < 0 || count > bounds.maxSessions) return `${count >>> 0} sessions, of at most ${bounds.maxSessions}`;
  if (compareU64(readI32(source, at + 4), readI32(source, at + 8), timestampHi, timestampLo) > 0)
    return 'the horizon of evicted sessions is later than its last entry';
  at += 12;
  let lanesOfAll = 0;
  let previousHi = 0;
  let previousLo = 0;
  /** Each entry registered one session, or is the last one of one lane. */
  const entries = new Set<number>();
  const uses = new Set<number>();
  const isEntry = (entry: number, above: number): boolean =>
    entry > above && entry <= index && entries.size < entries.add(entry).size;
  for (let i = 0; i < count; i++) {
    if (beyond(SESSION_BYTES)) return `session ${i + 1} of ${count} is cut off`;
    const hi = readI32(source, at);
    const lo = readI32(source, at + 4);
    const lanes = readU16(source, at + 16);
    const registered = readIndex(source, at + 18);
    const lastUsed = readIndex(source, at + 34);
    const name = `session ${i + 1} of ${count}`;
    if (i > 0 && compareU64(hi, lo, previousHi, previousLo) <= 0)
      return `${name} is not above the one before it, or is that one again`;
    previousHi = hi;
    previousLo = lo;
    if (lanes < 1 || lanes > bounds.lanesPerSession)
      return `${name} has ${lanes} lanes, of at most ${bounds.lanesPerSession}`;
    if ((lanesOfAll += lanes) > bounds.maxLanes) return `more than ${bounds.maxLanes} lanes`;
    if (!isEntry(registered, 0)) return `${name} was registered by an entry that cannot have done it`;
    if (compareU64(readI32(source, at + 42), readI32(source, at + 46), timestampHi, timestampLo) > 0)
      return `${name} was born later than the last entry`;
    at += SESSION_BYTES;
    let newest = registered;
    for (let lane = 0; lane < lanes; lane++) {
      if (beyond(NUMBER_BYTES)) return `lane ${lane} of ${name} is cut off`;
      const request = readI32(source, at);
      at += NUMBER_BYTES;
      if (request === 0) continue;
      if (request < 0) return `lane ${lane} of ${name} has executed a request without a number`;
      if (beyond(EXECUTED_BYTES)) return `lane ${lane} of ${name} is cut off`;
      const executed = readIndex(source, at);
      if (!isEntry(executed, registered))
        return `lane ${lane} of ${name} was used by an entry that cannot have done it`;
      if (source[at + 16]! > ReplyStatus.badRequest)
        return `lane ${lane} of ${name} has a result without a known status`;
      newest = Math.max(newest, executed);
      const length = readU16(source, at + 17);
      at += EXECUTED_BYTES;
      if (length > bounds.resultBytes) return `a result of ${length} bytes, of at most ${bounds.resultBytes}`;
      if (length > SHORT_RESULT_BYTES && (bytesOfAll += roomFor(length)) > bytesMax)
        return `more than ${bounds.keptResultBytes} bytes of results`;
      if (beyond(length)) return `the result of lane ${lane} of ${name} is cut off`;
      at += length;
    }
    if (!(lastUsed >= newest && lastUsed <= index) || uses.size === uses.add(lastUsed).size)
      return `${name} was used last by an entry that cannot have done it`;
  }
  return at === end ? undefined : `${end - at} bytes behind the last session`;
}

/** Spreads a session id, which is random if an honest client drew it. */
function hash(hi: number, lo: number): number {
  const h = Math.imul(hi ^ Math.imul(lo, 0x9e3779b1), 0x85ebca6b);
  return h ^ (h >>> 15);
}
