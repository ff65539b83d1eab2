/**
 * The session table as it was at some moment, written in pieces while it changes.
 *
 * Where each session's bytes begin is known at the beginning. So a lane that is about to change before its turn has come
 * is written at once, to its place, and nothing has to be kept elsewhere. A session that is evicted meanwhile changes no
 * more; it keeps its results until it is written, at most as long as the copy takes. Lanes that were never used are
 * zeros.
 *
 * A table has one of these for all its life, whose arrays are let go between two copies. `changes` is called for each
 * operation: V8 throws its compiled callers away when a collection has removed the only object of a class that they met.
 */
import { smallInteger } from '../../wire/u64.js';
import { TABLE_BYTES, laneBytes, writeLane, writeSession } from './session-bytes.js';
import { NOT_COPIED, SESSION_BYTES, type Session } from './session.js';

const NO_SESSIONS: readonly Session[] = [];
const NO_BYTES: Uint8Array = new Uint8Array(0);
const NO_PLACES = new Float64Array(0);

export class SessionCopy {
  private sessions = NO_SESSIONS;
  private target = NO_BYTES;
  /** Where each session begins in the target; at the end, where the last one ends. */
  private starts = NO_PLACES;
  /** Where the lanes of each session begin in `lanesAt`; at the end, their number. */
  private firstLanes = NO_PLACES;
  /** Where each lane begins in the target; below 0: it is written. Known of sessions that are open. */
  private lanesAt = NO_PLACES;
  /** 1: the session is written but for its lanes. */
  private open = NO_BYTES;
  /** The session and the lane whose turn it is. */
  private position = 0;
  private lane = 0;
  /** The target is complete up to here. */
  reached = 0;
  /** Where it ends in the target. */
  end = 0;

  /**
   * Begins a copy; the one before is over.
   * @param sessions of the table, by id
   * @param target has room for the table from `offset` on; what is there is written over
   */
  begin(sessions: readonly Session[], target: Uint8Array, offset: number): void {
    this.sessions = sessions;
    this.target = target;
    this.position = 0;
    this.lane = 0;
    const count = sessions.length;
    this.starts = new Float64Array(count + 1);
    this.firstLanes = new Float64Array(count + 1);
    this.open = new Uint8Array(count);
    let at = offset + TABLE_BYTES;
    let lanes = 0;
    for (let place = 0; place < count; place++) {
      const session = sessions[place]!;
      session.place = place;
      this.starts[place] = at;
      this.firstLanes[place] = lanes;
      at += session.encodedBytes;
      lanes += session.request.length;
    }
    this.starts[count] = at;
    this.firstLanes[count] = lanes;
    this.lanesAt = new Float64Array(lanes);
    this.reached = offset + TABLE_BYTES;
    this.end = at;
    if (count === 0) this.over();
  }

  /** Sessions are still to be written. */
  get isUnderway(): boolean {
    return this.sessions !== NO_SESSIONS;
  }

  /** A lane of the session is about to change. */
  changes(session: Session, lane: number): void {
    const { place } = session;
    if (place === NOT_COPIED) return;
    if (this.open[place] === 0) this.openSession(place);
    if (lane < this.lanesOf(place)) this.write(place, lane);
  }

  /** Writes about as many bytes, by at most one result more. */
  step(maxBytes: number): void {
    const until = this.reached + Math.max(1, maxBytes);
    const { sessions } = this;
    while (this.reached < until && this.position < sessions.length) {
      const place = this.position;
      if (this.open[place] === 0) this.openSession(place);
      const lanes = this.lanesOf(place);
      while (this.lane < lanes && this.reached < until) {
        this.write(place, this.lane++);
        if (this.lane < lanes)
          this.reached = smallInteger(Math.abs(this.lanesAt[this.firstLanes[place]! + this.lane]!));
      }
      if (this.lane < lanes) return;
      this.reached = smallInteger(this.starts[place + 1]!);
      this.lane = 0;
      this.position++;
      sessions[place]!.copied();
    }
    if (this.position === sessions.length) this.over();
  }

  /** The rest is not wanted. */
  abort(): void {
    const { sessions } = this;
    for (; this.position < sessions.length; this.position++) sessions[this.position]!.copied();
    this.over();
  }

  /** Lets go of what it held. */
  private over(): void {
    this.sessions = NO_SESSIONS;
    this.target = NO_BYTES;
    this.starts = NO_PLACES;
    this.firstLanes = NO_PLACES;
    this.lanesAt = NO_PLACES;
    this.open = NO_BYTES;
  }

  /** Lanes that the session had room for at the beginning. */
  private lanesOf(place: number): number {
    return this.firstLanes[place + 1]! - this.firstLanes[place]!;
  }

  private openSession(place: number): void {
    this.open[place] = 1;
    const session = this.sessions[place]!;
    writeSession(session, this.target, this.starts[place]!);
    const first = this.firstLanes[place]!;
    const lanes = this.lanesOf(place);
    let at = this.starts[place]! + SESSION_BYTES;
    for (let lane = 0; lane < lanes; lane++) {
      this.lanesAt[first + lane] = at;
      at += laneBytes(session, lane);
    }
    // Lanes for which the session has made no room.
    this.target.fill(0, at, this.starts[place + 1]);
  }

  private write(place: number, lane: number): void {
    const i = this.firstLanes[place]! + lane;
    const at = this.lanesAt[i]!;
    if (at < 0) return;
    this.lanesAt[i] = -at;
    writeLane(this.sessions[place]!, lane, this.target, at);
  }
}
