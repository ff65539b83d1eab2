/**
 * Tells clients what changes in the store, for a replica, beside its core. Their bytes: watch-messages.ts; whose turn it
 * is: watch-table.ts.
 *
 * Rules: only changes of committed entries are told (S); each Changes continues where the one before ended, so that a
 * client sees a gap; a primary serves only clients that say that nobody else does. Only an endpoint that has proven its address,
 * and has said the token that it was given for this watch, is told anything; how much: open-watch.ts.
 *
 * What watches cost is bounded, over all of them: comparisons and bytes by time and in each turn. Owners take turns, and
 * the watches of an owner do. A watch that thereby falls behind what the store keeps is told so. This reads no clock and
 * has no timer, so tests run it in virtual time.
 */
import type { Instant, Outbox } from '../../protocol/contract.js';
import { DOUBLE_ZERO } from '../../protocol/double-zero.js';
import { NO_OWNER } from '../../protocol/log/session-owner.js';
import { ChangeKind, type WatchableStore } from '../../machine/store/change-ring.js';
import { KV_KEY_BYTES_MAX } from '../../machine/kv-layout.js';
import { ENVELOPE_BYTES_MAX } from '../../wire/envelope.js';
import { HOST_PLACES } from '../../wire/host-ids.js';
import { Changes, Watch, WatchFlag, WatchLostReason } from '../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../wire/u64.js';
import { Allowance } from './allowance.js';
import { isWanted, OpenWatch } from './open-watch.js';
import { Openings } from './openings.js';
import {
  changeBytes,
  hasGoodPrefixes,
  LEAST_ROOM,
  writeChange,
  writeChangesHead,
  writeHurry,
  writeLost,
} from './watch-messages.js';
import { WatchTable } from './watch-table.js';

/** A watch is forgotten after this much silence. */
export const FORGOTTEN_US = 3_000_000;
/** What all watches may cost. A comparison is that of a key with a prefix; a change that is told counts as one, too. */
export const COMPARISONS_PER_SECOND = 2_000_000;
export const COMPARISONS_BURST = 20_000;
export const BYTES_PER_SECOND = 32 * 1024 * 1024;
export const BYTES_BURST = 256 * 1024;
/**
 * To find out who is to be told there is an allowance of its own, so that owners who are told much do not spend it. Once it
 * is spent, all are woken, and each watch looks for itself, at the expense of its owner.
 */
const SEARCH_PER_SECOND = 1_000_000;
const SEARCH_BURST = 20_000;
/**
 * In one turn: comparisons to find out who is to be told, comparisons to tell them, messages, and their bytes. The last
 * piece of work may go beyond: by the watches that one change finds, by a message.
 */
export const TURN_COMPARISONS = 256;
export const TURN_MESSAGES = 16;
const TURN_DATAGRAMS = 4;
/** After this many comparisons, or a datagram, it is the next owner's turn. */
const QUANTUM = 64;
/** What a watch costs that has its turn, in comparisons. */
const LEAST_COST = 8;

/** A sign of life is answered if nothing was told for this long. */
const ANSWER_US = 20_000;
/** Watches are looked after in turns: this many at once, this often. */
const CHECKED_AT_ONCE = 64;
const CHECK_US = 1_000;
/** The primary is asked this often to say at once what is committed, and does for a little longer. */
const HURRY_EVERY_US = 500_000;
export const HURRY_US = 1_200_000;
/** The outbox had no room. */
const STALLED_US = 1_000;

/** What the service asks of its replica. */
export interface WatchedReplica {
  /** Undefined: its machine keeps no changes. */
  readonly store: () => WatchableStore | undefined;
  /** Index of the last entry that is known here to be committed. */
  readonly committed: () => number;
  readonly view: () => number;
  /** It takes part in a view. */
  readonly serves: () => boolean;
  /** It has heard its primary lately, and follows it: it does not lag behind for long. */
  readonly isInTouch: (now: Instant) => boolean;
  readonly isPrimary: () => boolean;
  /** The primary's place; −1: none is known. */
  readonly primary: () => number;
  /** Says at once what is committed, if this is the primary. */
  readonly hurry: (now: Instant) => void;
  /** The endpoint has proven its address under a key of this owner. */
  readonly isProven: (endpoint: number, owner: number) => boolean;
  /** Asks the endpoint to prove its address. */
  readonly challenge: (endpoint: number) => void;
}

export class WatchService {
  /** Changes that were told, each time. */
  told = 0;
  /** Times that a watch was not served (any more). The client is told why, unless its address is not proven. */
  refused = 0;
  /** Those of them whose changes were no longer there. */
  behind = 0;
  /** Watches of clients that said nothing for long, or acknowledged nothing. */
  forgotten = 0;
  private readonly table = new WatchTable();
  private readonly openings: Openings;
  private readonly comparisons = new Allowance(COMPARISONS_PER_SECOND, COMPARISONS_BURST);
  private readonly search = new Allowance(SEARCH_PER_SECOND, SEARCH_BURST);
  private readonly bytes = new Allowance(BYTES_PER_SECOND, BYTES_BURST);
  private readonly key = new Uint8Array(KV_KEY_BYTES_MAX);
  private readonly roomBytes: number;
  /** Watches that wait have seen everything up to this revision. */
  private frontier = DOUBLE_ZERO;
  private isLagging = false;
  private pushedTo = DOUBLE_ZERO;
  private stalledUntilUs = -Infinity;
  private checkedUs = -Infinity;
  private hurriedUs = -Infinity;
  private cursor = 0;
  /** Sent in this turn. */
  private turnMessages = 0;

  /** @param draw 32 random bits, not 0 */
  constructor(
    private readonly replica: WatchedReplica,
    private readonly outbox: Outbox,
    private readonly datagramBytes: number,
    draw: () => number,
  ) {
    this.openings = new Openings(draw);
    this.roomBytes = Math.max(datagramBytes - ENVELOPE_BYTES_MAX, LEAST_ROOM);
  }

  /** Watches that are open. */
  get open(): number {
    return this.table.all.length;
  }

  /** Nodes of the tree of prefixes. */
  get nodes(): number {
    return this.table.nodes;
  }

  /**
   * Takes one Watch that passed `validate`.
   * @param owner of its key
   */
  onWatch(bytes: Uint8Array, o: number, from: number, now: Instant, owner: number): void {
    if (from < HOST_PLACES) {
      if ((bytes[o + Watch.at.flags]! & WatchFlag.hurry) !== 0) this.replica.hurry(now);
      return;
    }
    const { at } = Watch;
    const after = readIndex(bytes, o + at.after);
    const id = readI32(bytes, o + at.watch);
    const length = readU16(bytes, o + at.prefixes);
    const isProven = this.replica.isProven(from, owner);
    // A client whose port was translated anew on the way may say nothing but Watch, to which there is no other answer.
    if (!isProven) this.replica.challenge(from);
    if (!isProven || Number.isNaN(after) || (length > 0 && !hasGoodPrefixes(bytes, o + Watch.size, length))) {
      this.refused++;
      return;
    }
    const watch = this.table.find(from, id, owner);
    if (watch !== undefined) this.hear(watch, bytes, o, now);
    else if ((bytes[o + at.flags]! & WatchFlag.end) === 0 && this.replica.serves())
      this.consider(bytes, o, from, now, owner);
  }

  /** A Watch of one that is not open. */
  private consider(bytes: Uint8Array, o: number, from: number, now: Instant, owner: number): void {
    const { at } = Watch;
    const after = readIndex(bytes, o + at.after);
    const id = readI32(bytes, o + at.watch);
    const group = owner === NO_OWNER ? -1 - from : owner;
    const reason = this.reasonAgainst(from, group, bytes[o + at.flags]!, after, now);
    if (reason !== 0) return this.lose(from, id, reason);
    const length = readU16(bytes, o + at.prefixes);
    const token = readI32(bytes, o + at.token);
    const givenUs = length === 0 ? -1 : this.openings.take(group, from, id, token);
    if (givenUs < 0) return this.challenge(from, id, this.openings.tokenFor(group, from, id, now.monotonicUs));
    const prefixes = bytes.slice(o + Watch.size, o + Watch.size + length);
    // What is not committed has not been seen by anybody, whatever a client says.
    const seen = Math.min(after, this.committedRevision);
    const watch = new OpenWatch(from, id, token, owner, group, prefixes, seen, now.monotonicUs - givenUs);
    watch.flags = bytes[o + at.flags]!;
    this.remember(watch);
    this.hear(watch, bytes, o, now);
  }

  private hear(watch: OpenWatch, bytes: Uint8Array, o: number, now: Instant): void {
    const { at } = Watch;
    if (readI32(bytes, o + at.token) !== watch.token) return this.challenge(watch.endpoint, watch.id, watch.token);
    const flags = bytes[o + at.flags]!;
    const after = readIndex(bytes, o + at.after);
    const count = readI32(bytes, o + at.count) >>> 0;
    // Somebody recorded it, or a later one overtook it.
    if (count <= watch.count || after < watch.acknowledged) return;
    watch.count = count;
    if ((flags & WatchFlag.end) !== 0) return this.table.remove(watch);
    this.leaveWaiting(watch);
    watch.flags = flags;
    watch.window = readI32(bytes, o + at.window) >>> 0;
    watch.heardUs = now.monotonicUs;
    watch.acknowledge(after, bytes[o + at.flight]!, now.monotonicUs);
    const isAgain = (flags & WatchFlag.again) !== 0 && watch.mayRepeat(now.monotonicUs);
    if ((isAgain && watch.repeat(true, now.monotonicUs)) || now.monotonicUs - watch.toldUs >= ANSWER_US)
      watch.mustTell = true;
    this.table.enqueue(watch);
  }

  /** Ends a turn: tells what was committed, as much as a turn may. */
  push(now: Instant): void {
    if (this.table.all.length === 0) return;
    this.comparisons.refill(now.monotonicUs);
    this.search.refill(now.monotonicUs);
    this.bytes.refill(now.monotonicUs);
    const committed = this.replica.committed();
    if (committed !== this.pushedTo || this.isLagging) this.advance(committed);
    if (now.monotonicUs < this.stalledUntilUs) return;
    const leastComparisons = this.comparisons.left - TURN_COMPARISONS;
    const leastBytes = this.bytes.left - TURN_DATAGRAMS * this.datagramBytes;
    this.turnMessages = 0;
    while (
      this.table.hasReady &&
      this.comparisons.left > Math.max(0, leastComparisons) &&
      this.bytes.left > Math.max(0, leastBytes) &&
      this.turnMessages < TURN_MESSAGES &&
      now.monotonicUs >= this.stalledUntilUs
    ) {
      this.table.takeTurn(this.serve, now);
    }
  }

  /** Looks after some of the watches: sends again what was lost, and forgets those that are gone. */
  tick(now: Instant): void {
    if (this.table.all.length === 0 || now.monotonicUs - this.checkedUs < CHECK_US) return;
    this.checkedUs = now.monotonicUs;
    if (now.monotonicUs - this.hurriedUs >= HURRY_EVERY_US) this.hurry(now);
    for (let i = 0; i < CHECKED_AT_ONCE && this.table.all.length > 0; i++) {
      this.cursor = (this.cursor + 1) % this.table.all.length;
      this.check(this.table.all[this.cursor]!, now);
      if (i + 1 >= this.table.all.length) return;
    }
  }

  /** The replica stops: clients need not wait until they notice. */
  close(): void {
    for (const watch of [...this.table.all]) this.end(watch, WatchLostReason.behind);
  }

  /** Lowers `out[0]` to the time at which there is work again, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    if (this.table.all.length === 0) return;
    if (this.isLagging) out[0] = Math.min(out[0]!, this.search.readyUs);
    if (!this.table.hasReady) return;
    out[0] = Math.min(out[0]!, Math.max(this.comparisons.readyUs, this.bytes.readyUs, this.stalledUntilUs));
  }

  /** Finds the watches that wait for what was committed. */
  private advance(committed: number): void {
    const { store } = this;
    if (store === undefined) return;
    const { changes } = store;
    this.pushedTo = committed;
    if (this.frontier < changes.floor) {
      this.wakeAll();
      // S: a floor that may be undone is not what anybody has seen. Those who wait have lost changes nevertheless.
      if (changes.floorIndex > committed) return void (this.isLagging = false);
      this.frontier = changes.floor;
    }
    const { key, wake } = this;
    const end = changes.behind(committed);
    let next = changes.after(this.frontier);
    let left = Math.min(TURN_COMPARISONS, this.search.left);
    const begun = left;
    for (; left > 0 && next < end; next++) {
      const length = changes.keyLength(next);
      changes.copyKey(next, key, 0);
      const { interests, messages } = this.table;
      left -= (changes.kindOf(next) === ChangeKind.message ? messages : interests).take(key, length, wake);
      this.frontier = changes.revisionOf(next);
    }
    this.search.left -= begun - left;
    this.isLagging = next < end;
    if (!this.isLagging || begun <= 0 || this.search.left > 0) return;
    this.wakeAll();
    this.frontier = changes.revisionOf(end - 1);
    this.isLagging = false;
  }

  /** Each looks for itself whether anything that it waits for was changed. */
  private wakeAll(): void {
    this.search.left -= this.table.all.length;
    for (const watch of this.table.all) this.wake(watch);
  }

  /** The revision that is known here to be committed; −1: the changes that would tell are no longer there. */
  private get committedRevision(): number {
    return this.store?.changes.revisionAt(this.replica.committed()) ?? -1;
  }

  private get store(): WatchableStore | undefined {
    return this.replica.store();
  }

  private readonly wake = (watch: OpenWatch): void => {
    if (watch.state !== 'waiting') return;
    this.leaveWaiting(watch);
    this.table.enqueue(watch);
  };

  private leaveWaiting(watch: OpenWatch): void {
    if (watch.state !== 'waiting') return;
    watch.seen = Math.max(watch.seen, this.frontier);
    watch.state = 'blocked';
    this.table.interests.leave(watch);
  }

  /** The primary is to say at once what is committed: otherwise clients hear of it some milliseconds later. */
  private hurry(now: Instant): void {
    const { replica, outbox } = this;
    this.hurriedUs = now.monotonicUs;
    if (replica.isPrimary()) return replica.hurry(now);
    const primary = replica.primary();
    if (primary >= 0) writeHurry(outbox, primary, replica.view());
  }

  private check(watch: OpenWatch, now: Instant): void {
    const reason = this.reasonToEnd(watch, now);
    if (reason !== 0) return this.end(watch, reason);
    const isGone =
      now.monotonicUs - watch.heardUs > FORGOTTEN_US || !this.replica.isProven(watch.endpoint, watch.owner);
    if (!isGone && !watch.isLate(now.monotonicUs)) return;
    this.leaveWaiting(watch);
    if (isGone || !watch.repeat(false, now.monotonicUs)) {
      this.forgotten++;
      return this.table.remove(watch);
    }
    watch.mustTell = true;
    this.table.enqueue(watch);
  }

  /** Why a watch that is open is not served any more; 0: it is. */
  private reasonToEnd(watch: OpenWatch, now: Instant): number {
    const { store, replica } = this;
    if (store === undefined) return WatchLostReason.notKept;
    if (replica.isPrimary() && (watch.flags & WatchFlag.anyone) === 0) return WatchLostReason.primary;
    if (!replica.isInTouch(now)) return WatchLostReason.behind;
    return watch.state !== 'waiting' && watch.seen < store.changes.floor ? WatchLostReason.compacted : 0;
  }

  /** Why another watch is not served; 0: it is. */
  private reasonAgainst(from: number, group: number, flags: number, after: number, now: Instant): number {
    const { replica, store } = this;
    if (store === undefined) return WatchLostReason.notKept;
    if (replica.isPrimary() && (flags & WatchFlag.anyone) === 0) return WatchLostReason.primary;
    if (!replica.isInTouch(now)) return WatchLostReason.behind;
    if (after < store.changes.floor) return WatchLostReason.compacted;
    // It has executed more than the ring holds and does not know that it is committed. What the client lacks may be there.
    if (this.committedRevision < 0) return WatchLostReason.behind;
    return this.table.isFullFor(from, group) ? WatchLostReason.tooMany : 0;
  }

  /** Tells a client what comes next: at most one message, and what a quantum finds. */
  private readonly serve = (watch: OpenWatch, now: Instant): void => {
    const { replica, store } = this;
    watch.state = 'blocked';
    const reason = this.reasonToEnd(watch, now);
    if (reason !== 0 || store === undefined) {
      this.comparisons.left -= LEAST_COST;
      return this.end(watch, reason);
    }
    if (!replica.serves()) return this.stall(watch, now);
    const { changes } = store;
    const end = changes.after(this.frontier);
    let next = changes.after(watch.seen);
    let left = QUANTUM;
    let isFound = false;
    // What the client does not want is skipped before there is a message.
    while (watch.room > 0 && next < end && left > 0) {
      left -= watch.cost;
      if ((isFound = isWanted(watch.flags, watch.prefixes, changes, next))) break;
      watch.seen = changes.revisionOf(next++);
    }
    if (isFound || watch.mustTell) {
      const told = this.tell(watch, store, next, isFound ? end : next, left, now);
      if (told < 0) return this.stall(watch, now);
      left -= (told - next) * watch.cost;
      next = told;
    }
    this.comparisons.left -= Math.max(LEAST_COST, QUANTUM - left);
    if (next >= end) {
      watch.seen = Math.max(watch.seen, this.frontier);
      watch.state = 'waiting';
      this.table.interests.wait(watch);
    } else if (watch.room > 0) this.table.enqueue(watch);
  };

  /** The outbox is full, or the replica between two views. */
  private stall(watch: OpenWatch, now: Instant): void {
    this.stalledUntilUs = now.monotonicUs + STALLED_US;
    this.table.enqueue(watch);
  }

  /**
   * Sends changes from `next` on, and before `end`: at least one if there is any, as many as fit and `comparisons` allow.
   * @returns the first change that was not looked at; −1: the outbox is full
   */
  private tell(
    watch: OpenWatch,
    store: WatchableStore,
    next: number,
    end: number,
    comparisons: number,
    now: Instant,
  ): number {
    const { replica, outbox } = this;
    const { changes } = store;
    const isEmpty = next === end;
    const usual = Math.min(this.roomBytes, Math.max(LEAST_ROOM, watch.room));
    // A message that is longer than a datagram should be goes alone, as a long operation does.
    const room = isEmpty ? Changes.size : Math.max(usual, Changes.size + changeBytes(changes, next));
    const o = outbox.reserve(watch.endpoint, room);
    if (o < 0) return -1;
    const { bytes } = outbox;
    let length = Changes.size;
    let left = Math.max(1, comparisons);
    let at = next;
    for (; at < end && left > 0; at++) {
      left -= watch.cost;
      if (isWanted(watch.flags, watch.prefixes, changes, at)) {
        if (length + changeBytes(changes, at) > room) break;
        length += writeChange(store, at, watch.flags, bytes, o + length, room - length);
        this.told++;
      }
      watch.seen = changes.revisionOf(at);
    }
    writeChangesHead(bytes, o, watch, replica, store.nextEnd, length - Changes.size);
    outbox.commit(length);
    this.bytes.left -= length;
    this.turnMessages++;
    watch.sentSeen(isEmpty ? 0 : length, now.monotonicUs);
    return at;
  }

  private remember(watch: OpenWatch): void {
    const { store } = this;
    if (this.table.all.length === 0 && store !== undefined) {
      this.pushedTo = this.replica.committed();
      this.frontier = this.committedRevision;
      this.isLagging = false;
    }
    this.table.add(watch);
  }

  private end(watch: OpenWatch, reason: number): void {
    this.table.remove(watch);
    this.lose(watch.endpoint, watch.id, reason);
  }

  private lose(endpoint: number, id: number, reason: number): void {
    this.refused++;
    if (reason === WatchLostReason.compacted) this.behind++;
    this.writeLost(endpoint, id, reason, 0);
  }

  private challenge(endpoint: number, id: number, token: number): void {
    this.writeLost(endpoint, id, WatchLostReason.token, token);
  }

  private writeLost(endpoint: number, id: number, reason: number, token: number): void {
    const oldest = this.store?.changes.floor ?? 0;
    if (writeLost(this.outbox, endpoint, this.replica.view(), { id, reason, token, oldest })) this.turnMessages++;
  }
}
