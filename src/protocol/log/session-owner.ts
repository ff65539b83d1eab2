/**
 * Whose session it is. A client with keys writes who it is (the id of its first key) into the nonce of its Register, and draws an
 * even session id, which says that it did. The rule: a member takes a Register only from whom its nonce names, and
 * requests of a session only from whom its Register named. So holding a key opens no session of another client.
 *
 * Nothing is replicated for it that was not before: the nonce is part of the Register and of the session table, and what
 * is executed does not depend on the owner. Whether a request is taken is decided by each member alone, all alike because all
 * have the same Register. An odd session id is nobody's, as those of clients without keys, and of earlier versions.
 */
import { readI32 } from '../../wire/u64.js';
import type { Log } from './log.js';
import { REGISTER_LANE, type Session } from './sessions.js';
import type { TailIndex } from './tail-index.js';

/** Of a sender without a key. */
export const NO_OWNER = 0;

/** Makes a session id one that has an owner, or one that has none. Never zero. */
export function ownedSessionLo(lo: number, owner: number): number {
  return owner === NO_OWNER ? lo | 1 : (lo & ~1) | 2;
}

/**
 * True when a request of this session is not `owner`'s to send.
 * @param session undefined when it is not known, or its Register not executed yet
 * @param nonceHi upper half of the nonce when the request is a Register, else undefined
 */
export function isForeign(
  log: Log,
  tail: TailIndex,
  session: Session | undefined,
  sessionHi: number,
  sessionLo: number,
  nonceHi: number | undefined,
  owner: number,
): boolean {
  if ((sessionLo & 1) !== 0) return false;
  if (nonceHi !== undefined) return nonceHi !== owner;
  if (session !== undefined) return session.nonceHi !== owner;
  const index = tail.find(sessionHi, sessionLo, REGISTER_LANE);
  return index !== 0 && readI32(log.bytes, log.operationOffset(index)) !== owner;
}
