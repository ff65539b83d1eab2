/**
 * The identity of a data directory: 64 random bits, drawn when the directory is made and kept with the promises.
 *
 * The rule: two directories never have the same identity, and one directory has the same all its life. A directory that
 * was emptied, or made anew, has another one. So a list of hosts can name the directory that speaks under an id, and a
 * wiped one under its old id is told apart. A copy of a directory has the same identity; keeping copies apart stays the
 * operator's task. An identity is told to others only when it is durable: otherwise the next start draws another.
 *
 * This is not the `life` of protocol/replica/introduction.ts. That tells two beginnings of one id apart among replicas
 * that have no list of identities, and it also exists without a directory.
 */
import { toHex } from '../wire/u64.js';

/** What stands for an identity that was never drawn, in bytes. */
export const NO_IDENTITY = '0000000000000000';

/** @param random a random int32 @returns sixteen hexadecimal digits, not all zero */
export function drawIdentity(random: () => number): string {
  const hi = random();
  const lo = random();
  return toHex(hi, hi === 0 && lo === 0 ? 1 : lo);
}
