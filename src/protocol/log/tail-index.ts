/**
 * The tail index: the requests of each lane in the part of the log that was not executed yet.
 *
 * The rule (S): no log holds a request twice (`AtMostOnce` in model/JITPaxos.tla, the guard of `Request`). The session
 * table knows the executed requests. A member appends ahead of execution, so it must also recognise the requests that it
 * appended since, or a retry would enter its log twice. Keys are (session, lane); the value is the lane's newest entry
 * in (executed, last]. Older entries of the same lane are linked by `log.laneBefore`, so that truncating the log brings
 * them back. The log also keeps the hash of each entry's key, so that moving an entry in the table hashes nothing
 * again. On a primary, which executes as it appends, it is empty. Open addressing with backward shift: no tombstones,
 * no allocation.
 */
import { readI32, readU16 } from '../../wire/u64.js';
import { invariant } from '../invariant.js';
import { RecordAt, type Log } from './log.js';

export class TailIndex {
  /** Log index, 0 = empty. Twice the capacity of the log, so that it is never more than half full. */
  private readonly table: Float64Array;
  private readonly mask: number;
  private used = 0;

  constructor(private readonly log: Log) {
    this.table = new Float64Array(log.capacity * 2);
    this.mask = this.table.length - 1;
  }

  get size(): number {
    return this.used;
  }

  /** Index of the lane's newest entry that was not executed, or 0. */
  find(sessionHi: number, sessionLo: number, lane: number): number {
    if (this.used === 0) return 0;
    return this.table[this.locate(sessionHi, sessionLo, lane, hash(sessionHi, sessionLo, lane))]!;
  }

  /** The entry `index`, just appended, becomes its lane's newest. */
  add(index: number): void {
    const { log, table } = this;
    const at = log.record(index);
    const sessionHi = readI32(log.bytes, at + RecordAt.session);
    const sessionLo = readI32(log.bytes, at + RecordAt.session + 4);
    const lane = readU16(log.bytes, at + RecordAt.lane);
    const hashed = hash(sessionHi, sessionLo, lane);
    const slot = this.locate(sessionHi, sessionLo, lane, hashed);
    const before = table[slot]!;
    invariant(before < index && index <= log.lastIndex, 'an entry that is added is the newest of its lane in the log');
    log.setLane(index, before, hashed);
    if (before === 0) this.used++;
    table[slot] = index;
    invariant(2 * this.used <= table.length, 'the tail index is at most half full');
  }

  /** The entry `index` is executed: entries leave in log order. */
  executed(index: number): void {
    const slot = this.slotOf(index);
    if (slot >= 0) this.remove(slot);
  }

  /**
   * The entry `index` is about to be truncated; called from the last entry downwards. `executed`: entries up to there
   * are not in the index.
   */
  truncated(index: number, executed: number): void {
    const slot = this.slotOf(index);
    if (slot < 0) return;
    const before = this.log.laneBefore(index);
    invariant(before < index, 'an entry of a lane stands before the next one');
    if (before > executed) this.table[slot] = before;
    else this.remove(slot);
  }

  clear(): void {
    if (this.used === 0) return;
    this.table.fill(0);
    this.used = 0;
  }

  /** Where the lane's entry is, or would be put. */
  private locate(sessionHi: number, sessionLo: number, lane: number, hashed: number): number {
    const { log, table, mask } = this;
    const { bytes } = log;
    for (let slot = hashed & mask; ; slot = (slot + 1) & mask) {
      const index = table[slot]!;
      if (index === 0) return slot;
      const at = log.record(index);
      if (
        readU16(bytes, at + RecordAt.lane) === lane &&
        readI32(bytes, at + RecordAt.session + 4) === sessionLo &&
        readI32(bytes, at + RecordAt.session) === sessionHi
      )
        return slot;
    }
  }

  /** The slot of `index` itself, as long as it is its lane's newest; otherwise −1. */
  private slotOf(index: number): number {
    const { table, mask } = this;
    for (let slot = this.log.laneHash(index) & mask; ; slot = (slot + 1) & mask) {
      const other = table[slot]!;
      if (other === index) return slot;
      if (other === 0) return -1;
    }
  }

  private remove(slot: number): void {
    const { log, table, mask } = this;
    let hole = slot;
    for (let next = (hole + 1) & mask; table[next] !== 0; next = (next + 1) & mask) {
      const index = table[next]!;
      // An entry may move into the hole if its home is not between the hole and its present slot.
      if (((next - log.laneHash(index)) & mask) >= ((next - hole) & mask)) {
        table[hole] = index;
        hole = next;
      }
    }
    table[hole] = 0;
    this.used--;
  }
}

/** Neighbouring lanes are mostly used one after another, so they are neighbours in the table: eight share a cache line. */
function hash(sessionHi: number, sessionLo: number, lane: number): number {
  const h = Math.imul(
    sessionHi ^ Math.imul(sessionLo, 0x9e3779b1) ^ Math.imul((lane >>> 3) + 1, 0xc2b2ae35),
    0x85ebca6b,
  );
  return ((h ^ (h >>> 15)) << 3) | (lane & 7);
}
