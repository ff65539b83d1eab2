/**
 * The session table as it was at some moment, written in pieces while it changes.
 *
 * Where each session's bytes begin is known at the beginning. So a lane that is about to change before its turn has come
 * is written at once, to its place, and nothing has to be kept elsewhere. A session that is evicted meanwhile changes no
 * more; it keeps its results until it is written, at most as long as the copy takes. Lanes that were never used are
 * zeros, as the target is.
 */
import { TABLE_BYTES, laneBytes, writeLane, writeSession } from './session-bytes.js';
import { NOT_COPIED, SESSION_BYTES, type Session } from './session.js';

export class SessionCopy {
  /** Where each session begins in the target; at the end, where the last one ends. */
  private readonly starts: Float64Array;
  /** Where the lanes of each session begin in `lanesAt`; at the end, their number. */
  private readonly firstLanes: Float64Array;
  /** Where each lane begins in the target; below 0: it is written. Known of sessions that are open. */
  private readonly lanesAt: Float64Array;
  /** 1: the session is written but for its lanes. */
  private readonly open: Uint8Array;
  /** The session and the lane whose turn it is. */
  private position = 0;
  private lane = 0;
  /** The target is complete up to here. */
  reached: number;

  /**
   * @param sessions of the table, by id
   * @param target zeros from `offset` on, as many as the table has bytes
   * @param ended called when it is over
   */
  constructor(
    private readonly sessions: readonly Session[],
    private readonly target: Uint8Array,
    offset: number,
    private readonly ended: () => void,
  ) {
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
  }

  /** Where it ends in the target. */
  get end(): number {
    return this.starts[this.sessions.length]!;
  }

  /** A lane of the session is about to change. */
  changes(session: Session, lane: number): void {
    const { place } = session;
    if (place === NOT_COPIED) return;
    if (this.open[place] === 0) this.begin(place);
    if (lane < this.lanesOf(place)) this.write(place, lane);
  }

  /** Writes about as many bytes, by at most one result more. */
  step(maxBytes: number): void {
    const until = this.reached + Math.max(1, maxBytes);
    const { sessions } = this;
    while (this.reached < until && this.position < sessions.length) {
      const place = this.position;
      if (this.open[place] === 0) this.begin(place);
      const lanes = this.lanesOf(place);
      while (this.lane < lanes && this.reached < until) {
        this.write(place, this.lane++);
        if (this.lane < lanes) this.reached = Math.abs(this.lanesAt[this.firstLanes[place]! + this.lane]!);
      }
      if (this.lane < lanes) return;
      this.reached = this.starts[place + 1]!;
      this.lane = 0;
      this.position++;
      sessions[place]!.copied();
    }
    if (this.position === sessions.length) this.ended();
  }

  /** The rest is not wanted. */
  abort(): void {
    const { sessions } = this;
    for (; this.position < sessions.length; this.position++) sessions[this.position]!.copied();
    this.ended();
  }

  /** Lanes that the session had room for at the beginning. */
  private lanesOf(place: number): number {
    return this.firstLanes[place + 1]! - this.firstLanes[place]!;
  }

  private begin(place: number): void {
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
  }

  private write(place: number, lane: number): void {
    const i = this.firstLanes[place]! + lane;
    const at = this.lanesAt[i]!;
    if (at < 0) return;
    this.lanesAt[i] = -at;
    writeLane(this.sessions[place]!, lane, this.target, at);
  }
}
