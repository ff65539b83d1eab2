/**
 * A session in a snapshot: SESSION_BYTES, then of each lane the number of its last request, and if that is not 0,
 * EXECUTED_BYTES and the result. All big-endian.
 */
import { copyBytes } from '../../wire/copy.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { EXECUTED_BYTES, NUMBER_BYTES, type Session } from './session.js';

/** Number of sessions, and the horizon: what comes before the first session. */
export const TABLE_BYTES = 12;

/** Writes all but the lanes. */
export function writeSession(session: Session, target: Uint8Array, at: number): void {
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
}

/** Writes one lane; returns where it ends. */
export function writeLane(session: Session, lane: number, target: Uint8Array, offset: number): number {
  const request = session.lastRequest(lane);
  writeI32(target, offset, request);
  let at = offset + NUMBER_BYTES;
  if (request === 0) return at;
  const length = session.results.length(lane);
  writeIndex(target, at, session.index[lane]!);
  writeI32(target, at + 8, session.chainHi[lane]!);
  writeI32(target, at + 12, session.chainLo[lane]!);
  target[at + 16] = session.status[lane]!;
  writeU16(target, at + 17, length);
  at += EXECUTED_BYTES;
  copyBytes(session.results.bytes(lane), 0, target, at, length);
  return at + length;
}

/** Bytes of one lane. */
export function laneBytes(session: Session, lane: number): number {
  return session.lastRequest(lane) === 0 ? NUMBER_BYTES : NUMBER_BYTES + EXECUTED_BYTES + session.results.length(lane);
}
