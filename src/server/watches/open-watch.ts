/**
 * One watch at a replica: how far its client is, and how much may be on its way to it.
 *
 * The rule: until the client acknowledges something, at most 4 KiB are on their way, or one message that is longer. The
 * window then grows by what is acknowledged, up to what the client says. After two repetitions without an acknowledgement
 * nothing more is sent. Each begins with 4 KiB again; if it turns out that nothing was lost, the window is as large as before.
 */
import { DOUBLE_ZERO } from '../../protocol/double-zero.js';
import { WatchFlag } from '../../wire/messages.js';
import { readU16 } from '../../wire/u64.js';
import { ChangeKind, type ChangeRing } from '../../machine/store/change-ring.js';
import type { Interest, Waiting } from './interests.js';

/** May be on their way before anything was acknowledged. */
export const FIRST_WINDOW_BYTES = 4096;
/** More bytes are never on their way to one watch, whatever its client's window. */
const WINDOW_BYTES_MAX = 1 << 20;
/** A client may ask for a repetition this often, and once in the time that acknowledgements take. */
export const AGAIN_US = 20_000;
/** Repetitions without an acknowledgement, be they asked for or not. */
export const REPETITIONS_MAX = 2;
/**
 * What is not acknowledged is sent again after this time, or twice the time that acknowledgements took recently, on a long
 * way or a busy host; after twice as long each time, until something is acknowledged.
 */
export const RESEND_US = 50_000;
const RESEND_MAX_US = 1_000_000;
/** Messages on their way that are remembered one by one. Those beyond count as one. */
export const SENT_MAX = 256;

/** `blocked`: it waits for an acknowledgement. `queued`: it has work to do. `waiting`: for a change of its keys. */
export type WatchState = 'waiting' | 'queued' | 'blocked';

interface Sent {
  readonly atUs: number;
  last: number;
  bytes: number;
}

export class OpenWatch implements Waiting {
  readonly interests: Interest[] = [];
  state: WatchState = 'blocked';
  /** Of the last Watch that was heard. */
  count = 0;
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
  private repeatedUs = -Infinity;
  /** The most that was ever told: a repetition begins anew, and what was sent before it may still arrive. */
  private toldMost: number;
  /** Grows with each repetition. A client says which it answers, so that the time that it took is known. */
  flight = 0;
  /** When the oldest was sent of what was repeated last. */
  private earlierUs = DOUBLE_ZERO;
  private isMeasured = false;
  /** After this time without an acknowledgement it is told again. */
  private resendUs = DOUBLE_ZERO;
  /** Comparisons with a key, in those of short ones. */
  readonly cost: number;
  /** Since when nothing was acknowledged, if something is to be. */
  private awaitingUs = DOUBLE_ZERO;
  /** How long acknowledgements took recently. */
  private tookUs = DOUBLE_ZERO;
  private allowed = FIRST_WINDOW_BYTES;
  /** What was allowed before a repetition that the client did not ask for: perhaps it, or this host, only stood still. */
  private allowedBefore = 0;
  private sent: Sent[] = [];
  private sentBytes = 0;
  private repetitions = 0;

  /**
   * @param prefixes as in a Watch
   * @param tookUs after this time the client said the token that it was given
   */
  constructor(
    readonly endpoint: number,
    readonly id: number,
    readonly token: number,
    readonly owner: number,
    readonly group: number,
    readonly prefixes: Uint8Array,
    after: number,
    tookUs: number,
  ) {
    this.acknowledged = this.told = this.toldMost = this.seen = after;
    this.cost = costOf(prefixes);
    this.tookUs = tookUs;
    this.adjustResend();
  }

  /** Bytes that may be sent now; not positive: none before an acknowledgement. */
  get room(): number {
    return Math.min(this.window, this.allowed) - this.sentBytes;
  }

  /** Something should have been acknowledged by now. */
  isLate(nowUs: number): boolean {
    return this.sent.length > 0 && nowUs - this.awaitingUs > this.resendUs;
  }

  /** The client was told all up to `seen`. @param bytes of changes; 0: there were none, so nothing is to be acknowledged */
  sentSeen(bytes: number, nowUs: number): void {
    this.told = this.seen;
    this.toldMost = Math.max(this.toldMost, this.told);
    this.toldUs = nowUs;
    this.mustTell = false;
    if (bytes === 0) return;
    const { sent } = this;
    if (sent.length === 0) this.awaitingUs = nowUs;
    this.sentBytes += bytes;
    if (sent.length < SENT_MAX) {
      sent.push({ last: this.told, bytes, atUs: nowUs });
      return;
    }
    const newest = sent[SENT_MAX - 1]!;
    newest.last = this.told;
    newest.bytes += bytes;
  }

  /** Messages on their way that are remembered. */
  get onWay(): number {
    return this.sent.length;
  }

  /** @param upTo as the client says. It may have more than it was told here: from another replica. */
  acknowledge(upTo: number, flight: number, nowUs: number): void {
    const after = Math.min(upTo, this.toldMost);
    if (after <= this.acknowledged) return;
    this.acknowledged = after;
    // More than what was told since the last repetition: it has what was sent before.
    this.told = Math.max(this.told, after);
    this.seen = Math.max(this.seen, after);
    this.awaitingUs = nowUs;
    const { sent } = this;
    const before = this.sentBytes;
    let count = 0;
    while (count < sent.length && sent[count]!.last <= after) this.sentBytes -= sent[count++]!.bytes;
    if (flight !== this.flight) {
      this.measure(nowUs - this.earlierUs);
      this.allowed = Math.max(this.allowed, this.allowedBefore);
    } else if (count > 0) this.measure(nowUs - sent[count - 1]!.atUs);
    sent.splice(0, count);
    this.allowed = Math.min(WINDOW_BYTES_MAX, this.allowed + before - this.sentBytes);
    this.allowedBefore = 0;
    this.adjustResend();
    this.repetitions = 0;
  }

  private measure(us: number): void {
    this.tookUs = this.isMeasured ? Math.max(us, (7 / 8) * this.tookUs) : us;
    this.isMeasured = true;
  }

  /** A client that asks for a repetition has not seen the one before, if there was one. */
  mayRepeat(nowUs: number): boolean {
    return nowUs - this.repeatedUs >= Math.max(AGAIN_US, this.tookUs);
  }

  /**
   * Goes on behind what the client has. False if it has been repeated too often.
   * @param isAsked the client misses something, so it was lost
   */
  repeat(isAsked: boolean, nowUs: number): boolean {
    if (this.repetitions === REPETITIONS_MAX) return false;
    this.allowedBefore = isAsked ? 0 : Math.max(this.allowedBefore, this.allowed);
    this.repetitions++;
    this.resendUs *= 2;
    this.flight = (this.flight + 1) & 0xff;
    this.earlierUs = this.sent[0]?.atUs ?? nowUs;
    this.told = this.seen = this.acknowledged;
    this.sent.length = 0;
    this.sentBytes = 0;
    this.allowed = FIRST_WINDOW_BYTES;
    this.repeatedUs = nowUs;
    return true;
  }

  private adjustResend(): void {
    this.tookUs = Math.min(this.tookUs, RESEND_MAX_US / 2);
    this.resendUs = Math.max(RESEND_US, 2 * this.tookUs);
  }
}

/** Whether a watch with these flags and prefixes, as in a Watch, is told a change. */
export function isWanted(flags: number, prefixes: Uint8Array, changes: ChangeRing, change: number): boolean {
  const isMessage = changes.kindOf(change) === ChangeKind.message;
  if (isMessage ? (flags & WatchFlag.messages) === 0 : (flags & WatchFlag.noKeys) !== 0) return false;
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
