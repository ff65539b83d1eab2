/**
 * The bytes of what a replica and its watches say to each other: Watch as it comes, Changes, WatchLost and the hurry that
 * goes to a primary. What is said, and when: watch-service.ts.
 */
import { ChangeKind, type ChangeRing, type WatchableStore } from '../../machine/store/change-ring.js';
import { KV_KEY_BYTES_MAX } from '../../machine/kv-layout.js';
import type { Outbox } from '../../protocol/contract.js';
import { begin } from '../../wire/layout.js';
import { Changes, Watch, WatchFlag, WatchLost } from '../../wire/messages.js';
import { readU16, writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { CHANGE_BYTES, EVENT_BYTES, NO_VALUE, PREFIX_BYTES_MAX, PREFIXES_MAX } from '../../wire/watches.js';
import type { OpenWatch } from './open-watch.js';

/** Room for the longest key. */
export const LEAST_ROOM = Changes.size + CHANGE_BYTES + KV_KEY_BYTES_MAX;

/** @param start of the prefixes of a Watch */
export function hasGoodPrefixes(bytes: Uint8Array, start: number, length: number): boolean {
  const end = start + length;
  if (length > PREFIX_BYTES_MAX + 2 * PREFIXES_MAX) return false;
  let count = 0;
  let total = 0;
  let at = start;
  for (; at + 2 <= end; count++) {
    const prefixLength = readU16(bytes, at);
    total += prefixLength;
    at += 2 + prefixLength;
  }
  return at === end && count >= 1 && count <= PREFIXES_MAX && total <= PREFIX_BYTES_MAX;
}

/** Bytes of a change in a Changes, without the value of a key. */
export function changeBytes(changes: ChangeRing, change: number): number {
  const isMessage = changes.kindOf(change) === ChangeKind.message;
  return CHANGE_BYTES + changes.keyLength(change) + (isMessage ? Math.max(0, changes.messageLength(change)) : 0);
}

/**
 * The value is given if it is still that of this change, no collection, and fits. There is room for a message.
 * @param flags of the watch
 */
export function writeChange(
  store: WatchableStore,
  change: number,
  flags: number,
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
  if (changes.kindOf(change) === ChangeKind.message) {
    const messageLength = changes.messageLength(change);
    if (messageLength < 0) return length;
    writeU16(bytes, o + 11, messageLength);
    changes.copyMessage(change, bytes, key + keyLength);
    return length + messageLength;
  }
  if ((flags & WatchFlag.events) !== 0) {
    if (length + EVENT_BYTES > room) return length;
    writeU16(bytes, o + 11, EVENT_BYTES);
    writeU16(bytes, key + keyLength, changes.eventOf(change));
    return length + EVENT_BYTES;
  }
  if ((flags & WatchFlag.values) === 0) return length;
  const id = store.find(bytes, key, keyLength);
  if (id < 0 || store.revisionOf(id) !== changes.revisionOf(change) || store.isCollection(id)) return length;
  const valueLength = store.records.valueLength(id);
  if (length + valueLength > room) return length;
  writeU16(bytes, o + 11, valueLength);
  store.records.copyValue(id, bytes, key + keyLength);
  return length + valueLength;
}

/**
 * All of a Changes but its changes, which stand behind it.
 * @param changeBytes of the changes
 */
export function writeChangesHead(
  bytes: Uint8Array,
  o: number,
  watch: OpenWatch,
  replica: { readonly view: () => number; readonly isPrimary: () => boolean },
  nextEnd: number,
  changeBytes: number,
): void {
  begin(Changes, bytes, o);
  writeI32(bytes, o + Changes.at.view, replica.view());
  writeI32(bytes, o + Changes.at.watch, watch.id);
  bytes[o + Changes.at.primary] = replica.isPrimary() ? 1 : 0;
  bytes[o + Changes.at.flight] = watch.flight;
  writeIndex(bytes, o + Changes.at.previous, watch.told);
  writeIndex(bytes, o + Changes.at.last, watch.seen);
  writeIndex(bytes, o + Changes.at.nextEnd, nextEnd);
  writeU16(bytes, o + Changes.at.changes, changeBytes);
}

/** Asks a primary to say at once what is committed. Without room it is as if it was lost. */
export function writeHurry(outbox: Outbox, primary: number, view: number): void {
  const o = outbox.reserve(primary, Watch.size);
  if (o < 0) return;
  const { bytes } = outbox;
  begin(Watch, bytes, o);
  writeI32(bytes, o + Watch.at.view, view);
  writeI32(bytes, o + Watch.at.watch, 0);
  writeI32(bytes, o + Watch.at.token, 0);
  writeI32(bytes, o + Watch.at.count, 0);
  bytes[o + Watch.at.flight] = 0;
  bytes[o + Watch.at.flags] = WatchFlag.hurry;
  writeI32(bytes, o + Watch.at.window, 0);
  writeIndex(bytes, o + Watch.at.after, 0);
  writeU16(bytes, o + Watch.at.prefixes, 0);
  outbox.commit(Watch.size);
}

/** False: there was no room, and it is as if it was lost. */
export function writeLost(
  outbox: Outbox,
  endpoint: number,
  view: number,
  { id, reason, token, oldest }: Readonly<Record<'id' | 'reason' | 'token' | 'oldest', number>>,
): boolean {
  const o = outbox.reserve(endpoint, WatchLost.size);
  if (o < 0) return false;
  const { bytes } = outbox;
  begin(WatchLost, bytes, o);
  writeI32(bytes, o + WatchLost.at.view, view);
  writeI32(bytes, o + WatchLost.at.watch, id);
  bytes[o + WatchLost.at.reason] = reason;
  writeI32(bytes, o + WatchLost.at.token, token);
  writeIndex(bytes, o + WatchLost.at.oldest, oldest);
  outbox.commit(WatchLost.size);
  return true;
}
