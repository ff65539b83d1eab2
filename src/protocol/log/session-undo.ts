/**
 * What it takes to undo what entries that are not committed did to the session table: before each change of a lane, what
 * was there; each registration; each eviction, with the session itself, whose results stay its own until the entry that
 * evicted it is committed. Like the machine's part it has a bound (undo-log.ts).
 */
import { UndoLog } from '../../wire/undo-log.js';
import { copyWords } from '../../wire/copy.js';
import { Executed, type Session } from './session.js';

const LANE = 0;
const REGISTERED = 1;
const EVICTED = 2;

// A record: kind u8, then
//   LANE:       session i32 × 2, last use f64, lane u16, request i32, index f64, chain i32 × 2, status u8, length i32, result
//   REGISTERED: session i32 × 2
//   EVICTED:    horizon before i32 × 2; the session is the last one of `evicted`
const SESSION_AT = 1;
const LAST_USED_AT = 9;
const LANE_AT = 17;
const REQUEST_AT = 19;
const INDEX_AT = 23;
const CHAIN_AT = 31;
const STATUS_AT = 39;
const LENGTH_AT = 40;
const RESULT_AT = 44;

/** The table, as far as undoing is concerned. */
interface Undoable {
  find(hi: number, lo: number): Session | undefined;
  /** A lane of the session had this. */
  hadLane(session: Session, before: Executed, lastUsed: number): void;
  /** The session was not there. */
  hadNot(session: Session): void;
  /** The session was there, and the horizon was this. */
  had(session: Session, horizonHi: number, horizonLo: number): void;
}

export class SessionUndo {
  private readonly log: UndoLog;
  /** Oldest first. */
  private readonly evicted: { readonly index: number; readonly session: Session }[] = [];
  /** What these take. */
  private evictedBytes = 0;
  /** What entries up to this index do will not be undone. */
  private readonly committed = Float64Array.of(Infinity);
  private readonly before = new Executed();

  constructor(private readonly maxBytes: number) {
    this.log = new UndoLog(maxBytes);
  }

  /** Entry `index` is about to change this lane of the session, or to use it. */
  changes(session: Session, lane: number, index: number): void {
    if (index <= this.committed[0]!) return;
    const { log } = this;
    const request = session.lastRequest(lane);
    const length = request === 0 ? 0 : session.results.length(lane);
    if (!log.add(index, RESULT_AT + length)) {
      this.leave(index);
      return;
    }
    const { words, offset } = log;
    words.setUint8(offset, LANE);
    words.setInt32(offset + SESSION_AT, session.hi);
    words.setInt32(offset + SESSION_AT + 4, session.lo);
    words.setFloat64(offset + LAST_USED_AT, session.lastUsed);
    words.setUint16(offset + LANE_AT, lane);
    words.setInt32(offset + REQUEST_AT, request);
    words.setInt32(offset + LENGTH_AT, length);
    if (request === 0) return;
    words.setFloat64(offset + INDEX_AT, session.index[lane]!);
    words.setInt32(offset + CHAIN_AT, session.chainHi[lane]!);
    words.setInt32(offset + CHAIN_AT + 4, session.chainLo[lane]!);
    words.setUint8(offset + STATUS_AT, session.status[lane]!);
    if (length > 0)
      copyWords(session.results.words(lane), session.results.offset(lane), words, offset + RESULT_AT, length);
  }

  /** Its entry has registered the session. */
  registered(session: Session): void {
    const index = session.registerIndex;
    if (index <= this.committed[0]!) return;
    const { log } = this;
    if (!log.add(index, LAST_USED_AT)) {
      this.leave(index);
      return;
    }
    log.words.setUint8(log.offset, REGISTERED);
    log.words.setInt32(log.offset + SESSION_AT, session.hi);
    log.words.setInt32(log.offset + SESSION_AT + 4, session.lo);
  }

  /** Entry `index` has evicted the session, and the horizon was this before. False: it will not come back. */
  evicts(session: Session, index: number, horizonHi: number, horizonLo: number): boolean {
    if (index <= this.committed[0]!) return false;
    const { log } = this;
    if (this.evictedBytes + session.heldBytes > this.maxBytes) {
      log.lose(index);
      this.leave(index);
    }
    if (!log.reaches(index - 1)) return false;
    if (!log.add(index, LAST_USED_AT)) {
      this.leave(index);
      return false;
    }
    log.words.setUint8(log.offset, EVICTED);
    log.words.setInt32(log.offset + SESSION_AT, horizonHi);
    log.words.setInt32(log.offset + SESSION_AT + 4, horizonLo);
    this.evicted.push({ index, session });
    this.evictedBytes += session.heldBytes;
    return true;
  }

  /** Whether what entries behind `index` did can be undone. */
  reaches(index: number): boolean {
    return this.log.reaches(index);
  }

  /** Undoes it, newest first. */
  undoTo(index: number, table: Undoable): void {
    const { log, before } = this;
    for (; log.last(index); log.pop()) {
      const { words, offset } = log;
      const hi = words.getInt32(offset + SESSION_AT);
      const lo = words.getInt32(offset + SESSION_AT + 4);
      const kind = words.getUint8(offset);
      if (kind === EVICTED) {
        const { session } = this.evicted.pop()!;
        this.evictedBytes -= session.heldBytes;
        table.had(session, hi, lo);
      } else if (kind === REGISTERED) table.hadNot(table.find(hi, lo)!);
      else {
        before.lane = words.getUint16(offset + LANE_AT);
        before.request = words.getInt32(offset + REQUEST_AT);
        const wasUsed = before.request !== 0;
        before.index = wasUsed ? words.getFloat64(offset + INDEX_AT) : 0;
        before.chainHi = wasUsed ? words.getInt32(offset + CHAIN_AT) : 0;
        before.chainLo = wasUsed ? words.getInt32(offset + CHAIN_AT + 4) : 0;
        before.status = wasUsed ? words.getUint8(offset + STATUS_AT) : 0;
        before.resultWords = words;
        before.resultOffset = offset + RESULT_AT;
        before.resultLength = words.getInt32(offset + LENGTH_AT);
        table.hadLane(table.find(hi, lo)!, before, words.getFloat64(offset + LAST_USED_AT));
      }
    }
  }

  /** Nothing up to entry `index` will be undone, whether it was executed already or is still to come. */
  committedTo(index: number): void {
    this.committed[0] = index;
    this.log.release(index);
    this.leave(index);
  }

  /** The table is replaced: nothing has to be undone. */
  clear(): void {
    this.log.clear();
    this.leave(Infinity);
  }

  /** Sessions that entries up to `index` evicted do not come back. */
  private leave(index: number): void {
    const { evicted } = this;
    while (evicted.length > 0 && evicted[0]!.index <= index) {
      const { session } = evicted.shift()!;
      this.evictedBytes -= session.heldBytes;
      session.left();
    }
  }
}
