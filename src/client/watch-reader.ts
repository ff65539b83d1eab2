/**
 * One watch, as a client sees it: asks a replica for the changes of a store, acknowledges them, and turns to the next
 * replica when one is silent or does not serve. Wire: Watch, Changes, WatchLost; the other end is server/watches/.
 *
 * The rule: a change is handed on if its revision is above all before it, and if no change can lie between. So what
 * comes twice, late or not at all costs time, and never shows. This reads no clock and has no timer.
 */
import { JitPaxosError } from '../errors.js';
import { KV_KEY_BYTES_MAX } from '../machine/kv-layout.js';
import type { Instant, Outbox } from '../protocol/contract.js';
import { DOUBLE_ZERO } from '../protocol/double-zero.js';
import { begin } from '../wire/layout.js';
import { Changes, Watch, WatchFlag, WatchLost, WatchLostReason } from '../wire/messages.js';
import { readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../wire/u64.js';
import { CHANGE_BYTES, NO_VALUE } from '../wire/watches.js';

/** A sign of life is due after this time. */
const SIGN_US = 250_000;
/** So often it is said while the replica has not told anything. */
const OPENING_US = 100_000;
/** After this much silence a replica is asked again, and then another one. */
const DOUBT_US = 400_000;
const SILENCE_US = 1_000_000;
/** A primary that serves because nobody else does is left for another one after this time, and then after twice as long. */
const PRIMARY_US = 10_000_000;
const PRIMARY_MAX_US = 320_000_000;
/** A gap is reported this often. */
const GAP_US = 25_000;
/** All replicas were silent or refused: the next round. */
const ROUND_US = 200_000;
/** Bytes that wait for the reader; what is kept beside key and value counts as well. */
const BUFFERED_BYTES_MAX = 1 << 20;
const KEPT_BYTES = 128;
const KIND_NAMES = ['put', 'delete', 'expire', 'message'] as const;
const MESSAGE = KIND_NAMES.indexOf('message');
const SILENT = 0;
/** Why a replica does not serve now, and may in the next round. */
const MAY_SERVE_LATER: ReadonlySet<number> = new Set([SILENT, WatchLostReason.primary, WatchLostReason.behind]);

/** One change of a key. */
export interface StoreChange {
  /** `expire`: its time, or that of its lease, was over. */
  readonly kind: 'put' | 'delete' | 'expire';
  readonly key: Uint8Array;
  /** Undefined: not asked for, changed again since, or too long for a datagram with the key. Then read the key. */
  readonly value: Uint8Array | undefined;
  /** The number of this change in the store. */
  readonly revision: number;
}

/** With WatchFlag.messages also a message: its channel is the key. */
export type WatchedChange = Omit<StoreChange, 'kind'> & { readonly kind: (typeof KIND_NAMES)[number] };

export interface WatchRequest {
  readonly prefixes: readonly Uint8Array[];
  readonly values: boolean;
  /** WatchFlags `messages`, `noKeys` and `events`. Default: changes of keys. */
  readonly flags?: number;
  /** Changes after this revision. */
  readonly after: number;
  /** @param bytes that it counts for until it is `taken` */
  readonly changed: (change: WatchedChange, bytes: number) => void;
  /** Everything up to this revision was handed on. */
  readonly upTo?: (revision: number) => void;
  /** When the next key or lease ends, agreed time in ms; 0: none will. @param last the replica has told all up to it */
  readonly nextEnd: (ms: number, last: number) => void;
  /** It is over: `watch-compacted`, `watch-refused`, `client-closed`. */
  readonly failed: (error: JitPaxosError) => void;
}

export class WatchReader {
  /** Everything up to this revision was handed on. */
  after: number;
  /** Where it is served; −1: nowhere. */
  place = -1;
  private id = 0;
  /** As the replica said; 0: it has said none. */
  private token = 0;
  /** Watches that were sent: an older one that comes late counts for nothing. */
  private count = 0;
  /** Of the last Changes that came. */
  private flight = 0;
  /** The replica has told something: it knows the prefixes. */
  private isOpen = false;
  private buffered = 0;
  private isFull = false;
  private isOver = false;
  private isDue = false;
  private hasGap = false;
  private heardUs = DOUBLE_ZERO;
  private signUs = DOUBLE_ZERO;
  private gapUs = -Infinity;
  private roundUs = -Infinity;
  /** Why a place does not serve, a WatchLostReason or SILENT; since one did. */
  private readonly tried = new Map<number, number>();
  private anyone = false;
  private primaryUs = PRIMARY_US;
  /** When a primary that would rather not began to serve. */
  private primarySinceUs = Infinity;
  private oldest = Infinity;
  private readonly prefixes: Uint8Array;

  /**
   * @param places of the replicas that may be asked, the best one first
   * @param draw a number that no other watch has
   */
  constructor(
    private readonly request: WatchRequest,
    private readonly places: () => readonly number[],
    private readonly draw: () => number,
    private readonly outbox: Outbox,
  ) {
    this.after = request.after;
    const total = request.prefixes.reduce((sum, { length }) => sum + 2 + length, 0);
    this.prefixes = new Uint8Array(total);
    let at = 0;
    for (const prefix of request.prefixes) {
      writeU16(this.prefixes, at, prefix.length);
      this.prefixes.set(prefix, at + 2);
      at += 2 + prefix.length;
    }
  }

  tick(now: Instant): void {
    if (this.isOver) return;
    if (this.place < 0) {
      if (now.monotonicUs >= this.roundUs) this.turnToNext(now);
    } else if (now.monotonicUs - this.heardUs > SILENCE_US) this.giveUp(SILENT, now);
    else if (now.monotonicUs - this.primarySinceUs > this.primaryUs) this.leavePrimary(now);
    else if (now.monotonicUs - this.signUs > (this.isOpen ? SIGN_US : OPENING_US)) this.isDue = true;
    this.endTurn(now);
  }

  /** Says what has to be said. */
  endTurn(now: Instant): void {
    if (this.isOver || this.place < 0) return;
    const isGapDue = this.hasGap && now.monotonicUs - this.gapUs > GAP_US;
    if (isGapDue) this.gapUs = now.monotonicUs;
    if (!this.isDue && !isGapDue) return;
    const isDoubtful = now.monotonicUs - this.heardUs > DOUBT_US;
    this.say(isGapDue || isDoubtful ? WatchFlag.again : 0, now);
  }

  /** The host of a replica says that nothing is there. */
  unreachable(replica: number, now: Instant): void {
    if (!this.isOver && replica === this.place) this.giveUp(SILENT, now);
  }

  /** Takes a Changes message that passed `validate`. */
  onChanges(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { at } = Changes;
    if (this.isOver || from !== this.place || readI32(bytes, o + at.watch) !== this.id) return;
    const previous = readIndex(bytes, o + at.previous);
    const last = readIndex(bytes, o + at.last);
    const nextEnd = readIndex(bytes, o + at.nextEnd);
    const start = o + Changes.size;
    const end = start + readU16(bytes, o + at.changes);
    if (!isWellFormed(bytes, start, end, last)) return;
    this.heardUs = now.monotonicUs;
    this.isOpen = true;
    this.flight = bytes[o + at.flight]!;
    this.tried.clear();
    if (bytes[o + at.primary] === 0) {
      this.anyone = false;
      this.primaryUs = PRIMARY_US;
      this.primarySinceUs = Infinity;
    } else if (this.primarySinceUs === Infinity) this.primarySinceUs = now.monotonicUs;
    this.request.nextEnd(nextEnd, last);
    if (previous > this.after) {
      this.hasGap = true;
      return;
    }
    if (end > start) this.isDue = true;
    if (last <= this.after) return;
    // A replica that keeps to the window does not come this far.
    if (this.buffered >= 2 * BUFFERED_BYTES_MAX) return;
    for (let entry = start; entry < end; ) {
      const keyLength = readU16(bytes, entry + 9);
      const valueField = readU16(bytes, entry + 11);
      const valueLength = valueField === NO_VALUE ? 0 : valueField;
      const revision = readIndex(bytes, entry + 1);
      const key = entry + CHANGE_BYTES;
      entry = key + keyLength + valueLength;
      if (revision <= this.after) continue;
      const counted = KEPT_BYTES + keyLength + valueLength;
      this.buffered += counted;
      const value = valueField === NO_VALUE ? undefined : bytes.slice(key + keyLength, entry);
      const kind = KIND_NAMES[bytes[key - CHANGE_BYTES]!]!;
      this.request.changed({ kind, key: bytes.slice(key, key + keyLength), value, revision }, counted);
    }
    this.after = last;
    this.hasGap = false;
    this.request.upTo?.(last);
  }

  /** Takes a WatchLost message that passed `validate`. */
  onLost(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { at } = WatchLost;
    if (this.isOver || from !== this.place || readI32(bytes, o + at.watch) !== this.id) return;
    const reason = bytes[o + at.reason]!;
    if (reason === WatchLostReason.token) return this.takeToken(readI32(bytes, o + at.token), now);
    if (reason === WatchLostReason.compacted) this.oldest = Math.min(this.oldest, readIndex(bytes, o + at.oldest));
    this.giveUp(reason, now);
  }

  /** The reader has taken changes that count for this many bytes. True if the replica should hear of it. */
  taken(bytes: number): boolean {
    this.buffered -= bytes;
    if (!this.isFull || this.buffered > BUFFERED_BYTES_MAX / 2) return false;
    this.isFull = false;
    return (this.isDue = true);
  }

  /** The replica is to say how far it is, which it does unless it told something just before. */
  ask(now: Instant): void {
    if (this.isOver || !this.isOpen) return;
    this.isDue = true;
    this.endTurn(now);
  }

  /** The replica need not wait for another sign of life. */
  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.place >= 0) this.write(WatchFlag.end);
  }

  fail(error: JitPaxosError): void {
    if (this.isOver) return;
    this.close();
    this.request.failed(error);
  }

  /** The replica does not know this watch, or not any more. */
  private takeToken(token: number, now: Instant): void {
    if (token === this.token && this.isOpen) return;
    this.token = token;
    this.isOpen = false;
    this.heardUs = now.monotonicUs;
    this.isDue = true;
  }

  /** Others may serve by now; if not, the primary does again. */
  private leavePrimary(now: Instant): void {
    this.primaryUs = Math.min(PRIMARY_MAX_US, 2 * this.primaryUs);
    this.write(WatchFlag.end);
    this.anyone = false;
    this.giveUp(WatchLostReason.primary, now);
  }

  private giveUp(reason: number, now: Instant): void {
    this.tried.set(this.place, reason);
    if (reason === SILENT) this.write(WatchFlag.end);
    this.turnToNext(now);
  }

  private turnToNext(now: Instant): void {
    const places = this.places();
    const next = this.untried(places);
    if (next === undefined) return this.endRound(now);
    this.place = next;
    this.id = this.draw();
    this.token = this.flight = 0;
    this.isOpen = this.hasGap = false;
    this.primarySinceUs = Infinity;
    this.heardUs = now.monotonicUs;
    this.say(0, now);
  }

  private untried(places: readonly number[]): number | undefined {
    return places.find((place) => !this.tried.has(place));
  }

  /** Every replica was silent, or has said why it does not serve. */
  private endRound(now: Instant): void {
    const reasons = [...this.tried.values()];
    const wasPatient = !this.anyone;
    this.anyone = true;
    const isPrimaryNext = wasPatient && reasons.includes(WatchLostReason.primary);
    for (const [place, reason] of this.tried)
      if (isPrimaryNext ? reason === WatchLostReason.primary : MAY_SERVE_LATER.has(reason)) this.tried.delete(place);
    if (isPrimaryNext) return this.turnToNext(now);
    if (reasons.includes(WatchLostReason.compacted))
      return this.fail(
        new WatchCompactedError(
          this.oldest,
          `changes after revision ${this.after} are no longer there, the oldest follow revision ${this.oldest}; read what you watch again, and watch from the revision of that read`,
        ),
      );
    if (reasons.some((reason) => !MAY_SERVE_LATER.has(reason)))
      return this.fail(
        new JitPaxosError(
          'watch-refused',
          reasons.includes(WatchLostReason.tooMany)
            ? 'the replicas serve as many watches as they can: 1,024 each, 256 of them for one owner and 64 for one client; close some, or watch several prefixes in one'
            : 'the replicas keep no changes: the feature store is off, or their state machine is not the key-value store, or has `changes` 0',
        ),
      );
    this.place = -1;
    this.roundUs = now.monotonicUs + ROUND_US;
  }

  private say(flags: number, now: Instant): void {
    this.isDue = false;
    this.signUs = now.monotonicUs;
    const { values, flags: wanted = 0 } = this.request;
    this.write(flags | wanted | (values ? WatchFlag.values : 0) | (this.anyone ? WatchFlag.anyone : 0));
  }

  private write(flags: number): void {
    const { outbox } = this;
    const prefixBytes = this.isOpen ? 0 : this.prefixes.length;
    const o = outbox.reserve(this.place, Watch.size + prefixBytes);
    if (o < 0) return; // as if lost
    const window = Math.max(0, BUFFERED_BYTES_MAX - this.buffered);
    if (window === 0) this.isFull = true;
    const { bytes } = outbox;
    begin(Watch, bytes, o);
    writeI32(bytes, o + Watch.at.view, 0);
    writeI32(bytes, o + Watch.at.watch, this.id);
    writeI32(bytes, o + Watch.at.token, this.token);
    writeI32(bytes, o + Watch.at.count, ++this.count);
    bytes[o + Watch.at.flight] = this.flight;
    bytes[o + Watch.at.flags] = flags;
    writeI32(bytes, o + Watch.at.window, window);
    writeIndex(bytes, o + Watch.at.after, this.after);
    writeU16(bytes, o + Watch.at.prefixes, prefixBytes);
    if (prefixBytes > 0) bytes.set(this.prefixes, o + Watch.size);
    outbox.commit(Watch.size + prefixBytes);
  }
}

/** `watch-compacted`. */
export class WatchCompactedError extends JitPaxosError {
  constructor(
    /** All changes after this revision are still there. */
    readonly oldest: number,
    message: string,
  ) {
    super('watch-compacted', message);
  }
}

/** Whether the changes are whole and in order, none above `last`. */
function isWellFormed(bytes: Uint8Array, start: number, end: number, last: number): boolean {
  let before = 0;
  let at = start;
  while (at + CHANGE_BYTES <= end) {
    const revision = readIndex(bytes, at + 1);
    const keyLength = readU16(bytes, at + 9);
    const valueField = readU16(bytes, at + 11);
    if (!(revision > before && revision <= last) || bytes[at]! >= KIND_NAMES.length) return false;
    if ((keyLength === 0 && bytes[at] !== MESSAGE) || keyLength > KV_KEY_BYTES_MAX) return false;
    before = revision;
    at += CHANGE_BYTES + keyLength + (valueField === NO_VALUE ? 0 : valueField);
  }
  return at === end && !Number.isNaN(last);
}
