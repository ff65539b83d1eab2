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
import { wordsOf } from '../../wire/copy.js';
import { ReplyStatus } from '../../wire/messages.js';
import { compareU64, readI32, readIndex, readU16, writeI32 } from '../../wire/u64.js';
import { invariant } from '../invariant.js';
import { TABLE_BYTES, writeLane, writeSession } from './session-bytes.js';
import { SessionCopy } from './session-copy.js';
import { EXECUTED_BYTES, Executed, NUMBER_BYTES, SESSION_BYTES, Session, SHORT_RESULT_BYTES } from './session.js';
import { ownerOfSession, Shares, type Measure, type Share } from './session-shares.js';
import { SessionUndo } from './session-undo.js';
import { roomFor, SpareArrays } from './spare-arrays.js';

/** The lane number of a Register entry, above those that requests may use. */
export const REGISTER_LANE = 0xffff;
/** A Register operation: nonce (8 bytes), lanes (u16), timestamp of its first attempt (u64, ns). */
export const REGISTER_BYTES = 18;
/** Offset of that timestamp in it. */
export const REGISTER_BORN = 10;

/** Default for `undoBytes`. */
const DEFAULT_UNDO_BYTES = 8 << 20;

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
  private readonly undo: SessionUndo;
  /** Writes the table in pieces. */
  readonly copy = new SessionCopy();
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
    /** Bytes for what undoes entries that are not committed. */
    undoBytes = DEFAULT_UNDO_BYTES,
  ) {
    this.undo = new SessionUndo(undoBytes);
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

  /** The entry of that request was executed. */
  executed(session: Session, done: Executed): void {
    this.undo.changes(session, done.lane, done.index);
    this.copy.changes(session, done.lane);
    this.used(session, done.index, session.record(done));
  }

  /** Nothing that entries up to `index` do will be undone, whether they were executed already or are still to come. */
  committedTo(index: number): void {
    this.undo.committedTo(index);
  }

  /** Whether what entries behind `index` did can be undone. */
  canUndoTo(index: number): boolean {
    return this.undo.reaches(index);
  }

  /** Undoes what entries behind `index` did; none of them switched quotas on. */
  undoTo(index: number): void {
    this.found = undefined;
    const changed = new Set<Session>();
    this.undo.undoTo(index, {
      find: (hi, lo) => this.search(hi, lo),
      hadLane: (session, before, lastUsed) => {
        changed.add(session);
        this.byteCount += session.putBack(before);
        session.lastUsed = lastUsed;
      },
      hadNot: (session) => {
        changed.delete(session);
        session.share = undefined;
        this.dropped(session);
      },
      had: (session, horizonHi, horizonLo) => {
        this.horizonHi = horizonHi;
        this.horizonLo = horizonLo;
        this.place(session);
      },
    });
    for (const session of changed) session.linkResults();
    this.shareAll();
  }

  /** Whether sessions are shared by owners, and their results bounded from the next use on (features.ts). */
  setQuotas(on: boolean): void {
    if (on === this.byOwner) return;
    this.byOwner = on;
    this.shareAll();
  }

  private shareAll(): void {
    const all = this.sorted().sort((a, b) => a.lastUsed - b.lastUsed);
    this.shares.clear();
    for (const session of all) this.share(session);
  }

  /** Adds a session that is not in the table, and evicts others if the bounds require it. */
  register(session: Session): void {
    invariant(this.find(session.hi, session.lo) === undefined, 'a session is registered once');
    invariant(session.lanes <= this.maxLanes, 'a session has no more lanes than the table');
    const owner = this.ownerOf(session);
    const index = session.registerIndex;
    this.keepToQuarter(owner, 'sessions', 1, this.maxSessions, index);
    this.keepToQuarter(owner, 'lanes', session.lanes, this.maxLanes, index);
    while (this.count >= this.maxSessions) this.evictFor('sessions', owner, 1, index);
    while (this.laneCount + session.lanes > this.maxLanes) this.evictFor('lanes', owner, session.lanes, index);
    this.insert(session);
    this.undo.registered(session);
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
      this.evict(share.oldest!, index);
      return;
    }
    const lane = inUse.oldestResult(index);
    invariant(lane >= 0, 'a quarter of the bound holds the longest result');
    this.undo.changes(inUse, lane, index);
    this.copy.changes(inUse, lane);
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
  private keepToQuarter(owner: number, measure: Measure, more: number, bound: number, index: number): void {
    const share = this.shares.find(owner);
    if (!this.byOwner || share === undefined || this.shares.size === 1) return;
    const allowed = Math.max(Math.floor(bound / 4), share[measure]);
    while (share.sessions > 0 && share[measure] + more > allowed) this.evict(share.oldest!, index);
  }

  private evictFor(measure: Measure, owner: number, more: number, index: number): void {
    const share = this.shares.heaviest(measure, owner, more);
    invariant(share !== undefined, 'a full session table has a session to evict');
    this.evict(share.oldest!, index);
  }

  /** True if a session first registered at that time may have been here before and been evicted. */
  mayBeEvicted(bornHi: number, bornLo: number): boolean {
    return compareU64(bornHi, bornLo, this.horizonHi, this.horizonLo) <= 0;
  }

  private clear(): void {
    invariant(!this.copy.isUnderway, 'no copy of the sessions goes on when they are replaced');
    this.found = undefined;
    this.undo.clear();
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
    let length = TABLE_BYTES;
    for (const session of this.slots) if (session) length += session.encodedBytes;
    return length;
  }

  /** Writes the whole table; the same table always gives the same bytes. Returns the offset after them. */
  write(target: Uint8Array, offset: number): number {
    const sessions = this.sorted();
    this.writeHead(target, offset);
    let at = offset + TABLE_BYTES;
    for (const session of sessions) {
      writeSession(session, target, at);
      at += SESSION_BYTES;
      for (let lane = 0; lane < session.lanes; lane++) at = writeLane(session, lane, target, at);
    }
    return at;
  }

  /**
   * Begins to write, in pieces, what `write` would write now. At most one is in progress, and none when the table is read.
   * Each call returns the same object.
   * @param target zeros from `offset` on
   */
  beginCopy(target: Uint8Array, offset: number): SessionCopy {
    invariant(!this.copy.isUnderway, 'one copy of the sessions is over before the next one');
    this.writeHead(target, offset);
    this.copy.begin(this.sorted(), target, offset);
    return this.copy;
  }

  private writeHead(target: Uint8Array, offset: number): void {
    writeI32(target, offset, this.count);
    writeI32(target, offset + 4, this.horizonHi);
    writeI32(target, offset + 8, this.horizonLo);
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
    at += TABLE_BYTES;
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
    this.place(session);
    this.share(session);
  }

  /** Puts a session into the table, not into its share. */
  private place(session: Session): void {
    if ((this.count + 1) * 2 > this.slots.length) this.rehash(this.slots.length * 2);
    let slot = hash(session.hi, session.lo) & this.mask;
    while (this.slots[slot] !== undefined) slot = (slot + 1) & this.mask;
    this.slots[slot] = session;
    this.count++;
    this.laneCount += session.lanes;
    this.byteCount += session.resultBytes;
  }

  private share(session: Session): void {
    session.share = this.shares.of(this.ownerOf(session));
    session.share.add(session);
  }

  /** Entry `index` evicts. The horizon is never later than that: no session is born later than its own Register. */
  private evict(session: Session, index: number): void {
    const { horizonHi, horizonLo } = this;
    if (!this.mayBeEvicted(session.bornHi, session.bornLo)) {
      this.horizonHi = session.bornHi;
      this.horizonLo = session.bornLo;
    }
    const share = session.share!;
    share.remove(session);
    this.shares.drop(share);
    session.share = undefined;
    this.dropped(session);
    if (!this.undo.evicts(session, index, horizonHi, horizonLo)) session.left();
    this.evicted++;
  }

  private dropped(session: Session): void {
    this.remove(session);
    this.count--;
    this.laneCount -= session.lanes;
    this.byteCount -= session.resultBytes;
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
    TABLE_BYTES +
    maxSessions * SESSION_BYTES +
    maxLanes * (NUMBER_BYTES + EXECUTED_BYTES + SHORT_RESULT_BYTES) +
    keptResultBytes
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
  if (beyond(TABLE_BYTES)) return 'the session table is cut off';
  const count = readI32(source, at);
  if (count < 0 || count > bounds.maxSessions) return `${count >>> 0} sessions, of at most ${bounds.maxSessions}`;
  if (compareU64(readI32(source, at + 4), readI32(source, at + 8), timestampHi, timestampLo) > 0)
    return 'the horizon of evicted sessions is later than its last entry';
  at += TABLE_BYTES;
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
