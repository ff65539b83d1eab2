/**
 * What a replica spends on datagrams of strangers: senders from whose address no authentic datagram has come yet. They
 * cannot wait in the fair queue, since anyone can make up addresses by the million. The rule: all strangers together
 * have one share, and what exceeds it is dropped unread. A new client's hello is among them; it is repeated.
 *
 * - The native transport hands over STRANGERS, and drops the others before JavaScript sees them.
 * - In a crowd (turn-loop.ts) they have CROWD_BYTES between two looks at the queue: four turns of one client.
 * - Long datagrams are limited at any time, because the longer a datagram is, the longer checking it takes.
 */
import { DOUBLE_ZERO } from '../protocol/double-zero.js';

/** Checking one takes one to two µs, so this is some hundredths of a processor, and no pause of more than 0.2 ms. */
export const STRANGERS = { atOnce: 64, perSecond: 20_000 } as const;

/** Bytes between two looks at the queue. A datagram counts for at least LEAST_BYTES, as in the queue. */
const CROWD_BYTES = 6_000;
const LEAST_BYTES = 256;
/** A datagram above this is long. */
export const LONG_BYTES = 2_048;
/** Bytes of long datagrams: this many at once, and this many each µs. */
export const LONG_BYTES_AT_ONCE = 4 << 20;
export const LONG_BYTES_PER_US = 32;

export class StrangersShare {
  private left = CROWD_BYTES;
  private longLeft = LONG_BYTES_AT_ONCE + DOUBLE_ZERO;
  private longUs = DOUBLE_ZERO;

  /** A look at the queue begins. */
  renew(): void {
    this.left = CROWD_BYTES;
  }

  /** In a crowd: whether a stranger's datagram may be checked; if so, it is counted. */
  take(length: number): boolean {
    if (this.left <= 0) return false;
    this.left -= Math.max(length, LEAST_BYTES);
    return true;
  }

  /** Whether a stranger's long datagram may be checked; if so, it is counted. */
  takeLong(length: number, monotonicUs: number): boolean {
    const earned = LONG_BYTES_PER_US * Math.max(0, monotonicUs - this.longUs);
    this.longLeft = Math.min(LONG_BYTES_AT_ONCE, this.longLeft + earned);
    this.longUs = monotonicUs;
    if (this.longLeft < length) return false;
    this.longLeft -= length;
    return true;
  }
}
