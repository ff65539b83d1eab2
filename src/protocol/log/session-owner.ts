/**
 * Who owns a session. A client with keys writes its identity (the id of its first key) into the nonce of its Register,
 * and draws an even session id, which marks that it did. The rule: a member accepts a Register only from the client
 * that its nonce names, and requests of a session only from the client that its Register named. So holding a key opens
 * no session of another client.
 *
 * Nothing more is replicated for this: the nonce is already part of the Register and of the session table, and
 * execution does not depend on the owner. Each member decides alone whether to accept a request; all decide alike,
 * because all have the same Register. An odd session id has no owner, like those of clients without keys, and of
 * earlier versions.
 */
import { readI32 } from '../../wire/u64.js';
import type { Log } from './log.js';
import { NO_OWNER } from './owners.js';
import type { Session } from './session.js';
import { REGISTER_LANE } from './sessions.js';
import type { TailIndex } from './tail-index.js';

export { NO_OWNER };

/** Turns a session id into one with an owner, or one without. Never zero. */
export function ownedSessionLo(lo: number, owner: number): number {
  return owner === NO_OWNER ? lo | 1 : (lo & ~1) | 2;
}

/**
 * True if `owner` may not send a request of this session.
 * @param session undefined if it is unknown, or if its Register has not been executed yet
 * @param nonceHi upper half of the nonce if the request is a Register, otherwise undefined
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
