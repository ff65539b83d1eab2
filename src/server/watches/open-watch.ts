/**
 * One watch at a replica: how far its client is, and how much may be on its way to it.
 *
 * The rule: until the client acknowledges something, at most 4 KiB are on their way. The window then grows by what is
 * acknowledged, up to what the client says. After two repetitions without an acknowledgement nothing more is sent.
 */
import { DOUBLE_ZERO } from '../../protocol/double-zero.js';
import { readU16 } from '../../wire/u64.js';
import type { ChangeRing } from '../../machine/store/change-ring.js';
import type { Interest, Waiting } from './interests.js';

/** May be on their way before anything was acknowledged. */
export const FIRST_WINDOW_BYTES = 4096;
/** More bytes are never on their way to one watch, whatever its client's window. */
const WINDOW_BYTES_MAX = 1 << 20;
/** Repetitions without an acknowledgement, be they asked for or not. */
export const REPETITIONS_MAX = 2;
/**
 * What is not acknowledged is sent again after this time, or twice the time that acknowledgements took lately, on a busy
 * host; after twice as long each time, until something is acknowledged.
 */
export const RESEND_US = 50_000;
const RESEND_MAX_US = 1_000_000;

/** `blocked`: it waits for an acknowledgement. `queued`: it has work to do. `waiting`: for a change of its keys. */
export type WatchState = 'waiting' | 'queued' | 'blocked';

interface Sent {
  readonly atUs: number;
  readonly last: number;
  readonly bytes: number;
}

export class OpenWatch implements Waiting {
  readonly interests: Interest[] = [];
  state: WatchState = 'blocked';
  flags = 0;
  /** As the client says. */
  window = 0;
  /** Revisions: the client has everything up to `acknowledged`, was told up to `told`; no key of it changed up to `seen`. */
  acknowledged: number;
  told: number;
  seen: number;
  /** The client is to be told how far the store is, even if nothing changed. */
  mustTell = true;
  heardUs = DOUBLE_ZERO;
  toldUs = -Infinity;
  repeatedUs = -Infinity;
  /** After this time without an acknowledgement it is told again. */
  private resendUs = RESEND_US;
  /** Comparisons with a key, in those of short ones. */
  readonly cost: number;
  /** Since when nothing was acknowledged, if something is to be. */
  private awaitingUs = DOUBLE_ZERO;
  /** How long acknowledgements took lately. */
  private tookUs = DOUBLE_ZERO;
  private allowed = FIRST_WINDOW_BYTES;
  private sent: Sent[] = [];
  private sentBytes = 0;
  private repetitions = 0;

  /** @param prefixes as in a Watch */
  constructor(
    readonly endpoint: number,
    readonly id: number,
    readonly token: number,
    readonly owner: number,
    readonly group: number,
    readonly prefixes: Uint8Array,
    after: number,
  ) {
    this.acknowledged = this.told = this.seen = after;
    this.cost = costOf(prefixes);
  }

  /** Bytes that may be sent now; not positive: none before an acknowledgement. */
  get room(): number {
    return Math.min(this.window, this.allowed) - this.sentBytes;
  }

  /** Something should have been acknowledged by now. */
  isLate(nowUs: number): boolean {
    return this.sent.length > 0 && nowUs - this.awaitingUs > this.resendUs;
  }

  /** Changes up to `last` were sent. */
  send(last: number, bytes: number, nowUs: number): void {
    if (this.sent.length === 0) this.awaitingUs = nowUs;
    this.sent.push({ last, bytes, atUs: nowUs });
    this.sentBytes += bytes;
  }

  /** @param upTo as the client says. It may have more than it was told here: from another replica. */
  acknowledge(upTo: number, nowUs: number): void {
    const after = Math.min(upTo, this.told);
    if (after <= this.acknowledged) return;
    this.acknowledged = after;
    this.awaitingUs = nowUs;
    const before = this.sentBytes;
    let count = 0;
    while (count < this.sent.length && this.sent[count]!.last <= after) this.sentBytes -= this.sent[count++]!.bytes;
    if (count > 0) this.tookUs = Math.max(nowUs - this.sent[count - 1]!.atUs, (7 / 8) * this.tookUs);
    this.sent.splice(0, count);
    this.allowed = Math.min(WINDOW_BYTES_MAX, this.allowed + before - this.sentBytes);
    this.resendUs = Math.min(RESEND_MAX_US, Math.max(RESEND_US, 2 * this.tookUs));
    this.repetitions = 0;
  }

  /** Goes on behind what the client has. False if it has been repeated too often. */
  repeat(nowUs: number): boolean {
    if (this.repetitions === REPETITIONS_MAX) return false;
    this.repetitions++;
    this.resendUs *= 2;
    this.told = this.seen = this.acknowledged;
    this.sent.length = 0;
    this.sentBytes = 0;
    this.allowed = FIRST_WINDOW_BYTES;
    this.repeatedUs = nowUs;
    return true;
  }
}

/** Whether the key of a change begins with one of these prefixes, as in a Watch. */
export function isWanted(prefixes: Uint8Array, changes: ChangeRing, change: number): boolean {
  for (let at = 0; at < prefixes.length; ) {
    const length = readU16(prefixes, at);
    if (changes.hasPrefix(change, prefixes, at + 2, length)) return true;
    at += 2 + length;
  }
  return false;
}

/** What it costs to compare a key with all these prefixes, in comparisons of short ones. */
function costOf(prefixes: Uint8Array): number {
  let cost = 0;
  for (let at = 0; at < prefixes.length; at += 2 + readU16(prefixes, at)) cost += 1 + (readU16(prefixes, at) >> 6);
  return cost;
}
