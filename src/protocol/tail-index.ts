/**
 * The tail index: which request each lane has in the part of the log that was not executed yet.
 *
 * The session table knows what was executed; a member that appends ahead of execution must also recognise what it
 * appended since, or a retry would enter its log twice. Keys are (session, lane), the value is the lane's newest entry in
 * (executed, last]; older ones of the same lane are linked by `log.laneBefore`, so that truncating the log brings them back.
 * On a primary, which executes as it appends, it is empty. Open addressing with backward shift: no tombstones, no allocation.
 */
import type { Log } from './log.js';

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
    return this.table[this.locate(sessionHi, sessionLo, lane)]!;
  }

  /** The entry `index`, just appended, is its lane's newest. */
  add(index: number): void {
    const log = this.log;
    const slot = this.locate(log.sessionHi(index), log.sessionLo(index), log.lane(index));
    log.laneBefore[log.slot(index)] = this.table[slot]!;
    if (this.table[slot] === 0) this.used++;
    this.table[slot] = index;
  }

  /** The entry `index` is executed: entries leave in log order. */
  executed(index: number): void {
    const log = this.log;
    const slot = this.locate(log.sessionHi(index), log.sessionLo(index), log.lane(index));
    if (this.table[slot] === index) this.remove(slot);
  }

  /** The entry `index` is about to be truncated; called from the last entry downwards. `executed`: entries up to there are not in the index. */
  truncated(index: number, executed: number): void {
    const log = this.log;
    const slot = this.locate(log.sessionHi(index), log.sessionLo(index), log.lane(index));
    const before = log.laneBefore[log.slot(index)]!;
    if (before > executed) this.table[slot] = before;
    else if (this.table[slot] !== 0) this.remove(slot);
  }

  clear(): void {
    this.table.fill(0);
    this.used = 0;
  }

  private locate(sessionHi: number, sessionLo: number, lane: number): number {
    const log = this.log;
    for (let slot = this.home(sessionHi, sessionLo, lane); ; slot = (slot + 1) & this.mask) {
      const index = this.table[slot]!;
      if (index === 0) return slot;
      if (log.lane(index) === lane && log.sessionLo(index) === sessionLo && log.sessionHi(index) === sessionHi) return slot;
    }
  }

  private home(sessionHi: number, sessionLo: number, lane: number): number {
    const h = Math.imul(sessionHi ^ Math.imul(sessionLo, 0x9e3779b1) ^ Math.imul(lane + 1, 0xc2b2ae35), 0x85ebca6b);
    return (h ^ (h >>> 15)) & this.mask;
  }

  private remove(slot: number): void {
    const log = this.log;
    let hole = slot;
    for (let next = (hole + 1) & this.mask; this.table[next] !== 0; next = (next + 1) & this.mask) {
      const index = this.table[next]!;
      const home = this.home(log.sessionHi(index), log.sessionLo(index), log.lane(index));
      // An entry may move into the hole when its home is not between the hole and where it stands.
      if (((next - home) & this.mask) >= ((next - hole) & this.mask)) {
        this.table[hole] = index;
        hole = next;
      }
    }
    this.table[hole] = 0;
    this.used--;
  }
}
