/**
 * Tells clients what changes in the store, for a replica, beside its core. Wire: Watch, Changes, WatchLost.
 *
 * Rules: only changes of committed entries are told (S); each Changes continues where the one before ended, so that a
 * client sees a gap; a primary serves only clients that nobody else serves. Only an endpoint that has proven its address
 * is served, and at most `window` bytes are on their way to it. A client that says nothing for three seconds is
 * forgotten. This reads no clock and has no timer, so tests run it in virtual time.
 */
import type { Instant, Outbox } from '../protocol/contract.js';
import { DOUBLE_ZERO } from '../protocol/double-zero.js';
import type { WatchableStore } from '../machine/store/change-ring.js';
import { KV_KEY_BYTES_MAX } from '../machine/kv-layout.js';
import { ENVELOPE_BYTES_MAX } from '../wire/envelope.js';
import { begin } from '../wire/layout.js';
import { Changes, Watch, WatchFlag, WatchLost, WatchLostReason } from '../wire/messages.js';
import { readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../wire/u64.js';
import { CHANGE_BYTES, NO_VALUE, PREFIX_BYTES_MAX, PREFIXES_MAX } from '../wire/watches.js';

/** Watches of a replica, and of one client. */
export const WATCHES_MAX = 1024;
export const WATCHES_PER_CLIENT_MAX = 64;
/** A watch is forgotten after this much silence. */
export const FORGOTTEN_US = 3_000_000;
/** More bytes are never on their way to one watch, whatever its window. */
const WINDOW_BYTES_MAX = 1 << 20;

/** What is not acknowledged is sent again after this time; twice as long each time, until something is acknowledged. */
const RESEND_US = 50_000;
const RESEND_MAX_US = 1_000_000;
/** A client may ask for a repetition this often. */
const AGAIN_US = 20_000;
/** Even if nothing happens to its keys, a client hears this often up to where that is so. */
const TOLD_US = 250_000;
const CHECK_US = 10_000;
/** Changes that one watch looks through before the others get their turn. */
const LOOKED_AT_MAX = 2048;

/** What the service asks of its replica. */
export interface WatchedReplica {
  /** Undefined: its machine keeps no changes. */
  readonly store: () => WatchableStore | undefined;
  /** Index of the last entry that is known here to be committed. */
  readonly committed: () => number;
  readonly view: () => number;
  /** It takes part; one that does not may lag behind for long. */
  readonly serves: () => boolean;
  readonly isPrimary: () => boolean;
  /** The endpoint has proven its address under a key of this owner. */
  readonly isProven: (endpoint: number, owner: number) => boolean;
}

interface Sent {
  readonly last: number;
  readonly bytes: number;
}

class OpenWatch {
  flags = 0;
  window = 0;
  /** Revisions: the client has everything up to `acknowledged`, was told up to `told`; no key of it changed up to `seen`. */
  acknowledged = 0;
  told = 0;
  seen = 0;
  readonly sent: Sent[] = [];
  sentBytes = 0;
  heardUs = DOUBLE_ZERO;
  toldUs = -Infinity;
  repeatedUs = -Infinity;
  resendUs = RESEND_US;

  constructor(
    readonly endpoint: number,
    readonly id: number,
    readonly owner: number,
    readonly prefixes: Uint8Array,
  ) {}

  acknowledge(after: number): void {
    this.acknowledged = after;
    while (this.sent.length > 0 && this.sent[0]!.last <= after) this.sentBytes -= this.sent.shift()!.bytes;
    this.resendUs = RESEND_US;
  }

  /** Goes on behind what the client has. */
  repeat(nowUs: number): void {
    this.told = this.seen = this.acknowledged;
    this.sent.length = 0;
    this.sentBytes = 0;
    this.repeatedUs = nowUs;
  }
}

export class WatchService {
  /** Changes that were told, each time. */
  told = 0;
  /** Watches that were not served, and why is told to the client or, without a proven address, to nobody. */
  refused = 0;
  /** By endpoint. */
  private readonly clients = new Map<number, OpenWatch[]>();
  private count = 0;
  private pushedTo = DOUBLE_ZERO;
  /** Something was left to be looked at. */
  private isBehind = false;
  private checkedUs = -Infinity;

  constructor(
    private readonly replica: WatchedReplica,
    private readonly outbox: Outbox,
    private readonly datagramBytes: number,
  ) {}

  /** Watches that are open. */
  get open(): number {
    return this.count;
  }

  /**
   * Takes one Watch that passed `validate`.
   * @param owner of its key
   */
  onWatch(bytes: Uint8Array, o: number, from: number, now: Instant, owner: number): void {
    const { replica } = this;
    const { at } = Watch;
    const after = readIndex(bytes, o + at.after);
    const flags = bytes[o + at.flags]!;
    const id = readI32(bytes, o + at.watch);
    if (!replica.isProven(from, owner) || Number.isNaN(after) || !hasGoodPrefixes(bytes, o)) {
      this.refused++;
      return;
    }
    let watch = this.clients.get(from)?.find((each) => each.id === id);
    if ((flags & WatchFlag.end) !== 0) {
      if (watch !== undefined) this.forget(watch);
      return;
    }
    if (!replica.serves()) return;
    const isNew = watch === undefined;
    if (watch === undefined) {
      const reason = this.reasonAgainst(from);
      if (reason !== 0) return this.lose(from, id, reason);
      const start = o + Watch.size;
      watch = new OpenWatch(from, id, owner, bytes.slice(start, start + readU16(bytes, o + at.prefixes)));
      watch.acknowledged = watch.told = watch.seen = after;
      this.remember(watch);
    }
    if (replica.isPrimary() && (flags & WatchFlag.anyone) === 0) return this.end(watch, WatchLostReason.primary);
    watch.flags = flags;
    watch.window = Math.min(WINDOW_BYTES_MAX, readI32(bytes, o + at.window) >>> 0);
    watch.heardUs = now.monotonicUs;
    if (after > watch.acknowledged && after <= watch.told) watch.acknowledge(after);
    // One that was overtaken by an acknowledgement asks for nothing any more.
    const isAgain =
      (flags & WatchFlag.again) !== 0 && after === watch.acknowledged && now.monotonicUs - watch.repeatedUs >= AGAIN_US;
    if (isAgain) watch.repeat(now.monotonicUs);
    this.serve(watch, now, isNew || isAgain);
  }

  /** Ends a turn: tells what was committed in it. */
  push(now: Instant): void {
    if (this.count === 0) return;
    const committed = this.replica.committed();
    if (committed === this.pushedTo && !this.isBehind) return;
    this.pushedTo = committed;
    this.isBehind = false;
    for (const watches of this.clients.values())
      for (let i = watches.length - 1; i >= 0; i--) this.serve(watches[i]!, now, false);
  }

  /** Sends again what was lost, and forgets those that are gone. */
  tick(now: Instant): void {
    if (this.count === 0 || now.monotonicUs - this.checkedUs < CHECK_US) return;
    this.checkedUs = now.monotonicUs;
    for (const watches of this.clients.values())
      for (let i = watches.length - 1; i >= 0; i--) this.check(watches[i]!, now);
  }

  private check(watch: OpenWatch, now: Instant): void {
    if (now.monotonicUs - watch.heardUs > FORGOTTEN_US || !this.replica.isProven(watch.endpoint, watch.owner))
      return this.forget(watch);
    if (watch.sent.length > 0 && now.monotonicUs - watch.toldUs > watch.resendUs) {
      watch.resendUs = Math.min(RESEND_MAX_US, 2 * watch.resendUs);
      watch.repeat(now.monotonicUs);
      this.serve(watch, now, true);
    } else if (now.monotonicUs - watch.toldUs > TOLD_US) this.serve(watch, now, true);
  }

  /** Why another watch of this client is not served; 0: it is. */
  private reasonAgainst(from: number): number {
    if (this.replica.store() === undefined) return WatchLostReason.notKept;
    const isFull = this.count >= WATCHES_MAX || (this.clients.get(from)?.length ?? 0) >= WATCHES_PER_CLIENT_MAX;
    return isFull ? WatchLostReason.tooMany : 0;
  }

  /** Tells what comes next. @param isAsked also that there is nothing */
  private serve(watch: OpenWatch, now: Instant, isAsked: boolean): void {
    const { replica, outbox } = this;
    const store = replica.store();
    if (store === undefined) return this.end(watch, WatchLostReason.notKept);
    if (!replica.serves()) return;
    const { changes } = store;
    if (watch.seen < changes.floor) return this.end(watch, WatchLostReason.compacted);
    const committed = replica.committed();
    let next = changes.after(watch.seen);
    const end = Math.min(changes.count, next + LOOKED_AT_MAX);
    let mustTell = isAsked;
    while (mustTell || (next < end && changes.indexOf(next) <= committed)) {
      if (watch.sentBytes >= watch.window && !mustTell) return;
      // Skips what the client does not want before there is a message.
      while (next < end && changes.indexOf(next) <= committed && !wants(watch, store, next))
        watch.seen = changes.revisionOf(next++);
      const hasMore = next < end && changes.indexOf(next) <= committed && watch.sentBytes < watch.window;
      if (!hasMore && !mustTell) break;
      const room = Math.max(this.datagramBytes - ENVELOPE_BYTES_MAX, Changes.size + CHANGE_BYTES + KV_KEY_BYTES_MAX);
      const o = outbox.reserve(watch.endpoint, hasMore ? room : Changes.size);
      if (o < 0) {
        this.isBehind = true;
        return;
      }
      const { bytes } = outbox;
      begin(Changes, bytes, o);
      let length = Changes.size;
      while (hasMore && next < end && changes.indexOf(next) <= committed) {
        if (wants(watch, store, next)) {
          if (length + CHANGE_BYTES + changes.keyLength(next) > room) break;
          length += writeChange(store, next, (watch.flags & WatchFlag.values) !== 0, bytes, o + length, room - length);
          this.told++;
        }
        watch.seen = changes.revisionOf(next++);
      }
      writeI32(bytes, o + Changes.at.view, replica.view());
      writeI32(bytes, o + Changes.at.watch, watch.id);
      writeIndex(bytes, o + Changes.at.previous, watch.told);
      writeIndex(bytes, o + Changes.at.last, watch.seen);
      writeIndex(bytes, o + Changes.at.time, store.nowMs);
      writeIndex(bytes, o + Changes.at.nextEnd, store.nextEnd);
      writeU16(bytes, o + Changes.at.changes, length - Changes.size);
      outbox.commit(length);
      if (length > Changes.size) {
        watch.sent.push({ last: watch.seen, bytes: length });
        watch.sentBytes += length;
      }
      watch.told = watch.seen;
      watch.toldUs = now.monotonicUs;
      mustTell = false;
    }
    if (next === end && end < changes.count) this.isBehind = true;
  }

  private remember(watch: OpenWatch): void {
    const watches = this.clients.get(watch.endpoint);
    if (watches === undefined) this.clients.set(watch.endpoint, [watch]);
    else watches.push(watch);
    this.count++;
  }

  private forget(watch: OpenWatch): void {
    const watches = this.clients.get(watch.endpoint)!;
    watches.splice(watches.indexOf(watch), 1);
    if (watches.length === 0) this.clients.delete(watch.endpoint);
    this.count--;
  }

  private end(watch: OpenWatch, reason: number): void {
    this.forget(watch);
    this.lose(watch.endpoint, watch.id, reason);
  }

  private lose(endpoint: number, id: number, reason: number): void {
    this.refused++;
    const { outbox } = this;
    const o = outbox.reserve(endpoint, WatchLost.size);
    if (o < 0) return;
    const { bytes } = outbox;
    begin(WatchLost, bytes, o);
    writeI32(bytes, o + WatchLost.at.view, this.replica.view());
    writeI32(bytes, o + WatchLost.at.watch, id);
    bytes[o + WatchLost.at.reason] = reason;
    writeIndex(bytes, o + WatchLost.at.oldest, this.replica.store()?.changes.floor ?? 0);
    outbox.commit(WatchLost.size);
  }
}

function hasGoodPrefixes(bytes: Uint8Array, o: number): boolean {
  const start = o + Watch.size;
  const end = start + readU16(bytes, o + Watch.at.prefixes);
  if (end - start > PREFIX_BYTES_MAX + 2 * PREFIXES_MAX) return false;
  let count = 0;
  let total = 0;
  let at = start;
  for (; at + 2 <= end; count++) {
    const length = readU16(bytes, at);
    total += length;
    at += 2 + length;
  }
  return at === end && count >= 1 && count <= PREFIXES_MAX && total <= PREFIX_BYTES_MAX;
}

function wants({ prefixes }: OpenWatch, { changes }: WatchableStore, change: number): boolean {
  for (let at = 0; at < prefixes.length; ) {
    const length = readU16(prefixes, at);
    if (changes.hasPrefix(change, prefixes, at + 2, length)) return true;
    at += 2 + length;
  }
  return false;
}

/** The value is given if it is still that of this change, and fits. */
function writeChange(
  store: WatchableStore,
  change: number,
  withValue: boolean,
  bytes: Uint8Array,
  o: number,
  room: number,
): number {
  const { changes } = store;
  const keyLength = changes.keyLength(change);
  const key = o + CHANGE_BYTES;
  bytes[o] = changes.kindOf(change);
  writeIndex(bytes, o + 1, changes.revisionOf(change));
  writeU16(bytes, o + 9, keyLength);
  writeU16(bytes, o + 11, NO_VALUE);
  changes.copyKey(change, bytes, key);
  const length = CHANGE_BYTES + keyLength;
  if (!withValue) return length;
  const id = store.find(bytes, key, keyLength);
  if (id < 0 || store.revisionOf(id) !== changes.revisionOf(change)) return length;
  const valueLength = store.records.valueLength(id);
  if (length + valueLength > room) return length;
  writeU16(bytes, o + 11, valueLength);
  store.records.copyValue(id, bytes, key + keyLength);
  return length + valueLength;
}
