/**
 * The session table: part of the replicated state, changed only by executing entries in log order.
 *
 * The rule (S), *at most once*: an operation is executed only if its request number is above the last one executed in its
 * lane (`AtMostOnce` in model/JITPaxos.tla). The result of that last one is kept to answer retries, across view changes
 * and snapshots.
 *
 * It is bounded by the number of sessions and of lanes. Registering evicts the least recently used session, by log
 * index, so that every replica decides alike. A request of an evicted session is refused, never executed again. A
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
  readonly results = new Payloads(0, SHORT_RESULT_BYTES);
  /** Index of the entry that used the session last; `SessionTable.used` sets it. */
  lastUsed: number;
  /** Neighbours in the order of last use. */
  older: Session | undefined;
  newer: Session | undefined;
  /** Where the client was last heard from, or −1. Volatile, not part of the replicated state. */
  replyTo = -1;

  constructor(registered: Registered) {
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

  /** Records the executed request of a lane, with a copy of its result. Its number is above the last one (S). */
  record(executed: Executed): void {
    const { lane, request } = executed;
    if (lane >= this.request.length) this.grow(lane);
    invariant(request > this.request[lane]!, 'a lane executes requests in the order of their numbers, each once');
    this.request[lane] = request;
    this.index[lane] = executed.index;
    this.chainHi[lane] = executed.chainHi;
    this.chainLo[lane] = executed.chainLo;
    this.status[lane] = executed.status;
    this.results.put(lane, executed.resultWords, executed.resultOffset, executed.resultLength);
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
  private oldest: Session | undefined;
  private newest: Session | undefined;
  /** The latest `born` of all sessions ever evicted. */
  private horizonHi = 0;
  private horizonLo = 0;
  /** Sessions evicted since construction, for the counters. */
  evicted = 0;

  constructor(
    private readonly maxSessions: number,
    private readonly maxLanes: number,
  ) {
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

  /** Adds a session that is not in the table, and evicts the least recently used ones if the bounds require it. */
  register(session: Session): void {
    invariant(this.find(session.hi, session.lo) === undefined, 'a session is registered once');
    invariant(session.lanes <= this.maxLanes, 'a session has no more lanes than the table');
    while (this.count >= this.maxSessions || this.laneCount + session.lanes > this.maxLanes) this.evictOldest();
    this.insert(session);
  }

  /** The entry `index`, the last executed one, used the session. */
  used(session: Session, index: number): void {
    session.lastUsed = index;
    if (session === this.newest) return;
    this.unlink(session);
    this.link(session);
  }

  /** True if a session first registered at that time may have been here before and been evicted. */
  mayBeEvicted(bornHi: number, bornLo: number): boolean {
    return compareU64(bornHi, bornLo, this.horizonHi, this.horizonLo) <= 0;
  }

  private clear(): void {
    this.found = undefined;
    this.slots.fill(undefined);
    this.count = 0;
    this.laneCount = 0;
    this.oldest = undefined;
    this.newest = undefined;
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
      const session = new Session({
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
      });
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
        session.record(executed);
        at += EXECUTED_BYTES + executed.resultLength;
      }
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
    this.link(session);
  }

  /** Puts a session in its place in the order of last use: the end, since the log only grows. */
  private link(session: Session): void {
    invariant(this.newest === undefined || this.newest.lastUsed < session.lastUsed, 'sessions are used in log order');
    session.older = this.newest;
    session.newer = undefined;
    if (this.newest === undefined) this.oldest = session;
    else this.newest.newer = session;
    this.newest = session;
  }

  private unlink(session: Session): void {
    const { older, newer } = session;
    if (older === undefined) this.oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.newest = older;
    else newer.older = older;
  }

  private evictOldest(): void {
    const { oldest } = this;
    invariant(oldest !== undefined, 'a full session table has a session to evict');
    if (!this.mayBeEvicted(oldest.bornHi, oldest.bornLo)) {
      this.horizonHi = oldest.bornHi;
      this.horizonLo = oldest.bornLo;
    }
    this.unlink(oldest);
    this.remove(oldest);
    this.count--;
    this.laneCount -= oldest.lanes;
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

export interface SessionBounds {
  readonly maxSessions: number;
  readonly maxLanes: number;
  readonly lanesPerSession: number;
  readonly resultBytes: number;
}

/**
 * Why `bytes[offset … end)` cannot be a table that `write` wrote after entry `index`, whose timestamp is given, in a
 * few words; undefined if it can be. `read` accepts whatever passes, and `write` then writes the same bytes again.
 */
export function sessionsFault(
  source: Uint8Array,
  offset: number,
  end: number,
  index: number,
  timestampHi: number,
  timestampLo: number,
  bounds: SessionBounds,
): string | undefined {
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
