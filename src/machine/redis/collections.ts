/** What the commands on hashes, sets and lists share. */
import { KV_ENTRY_OVERHEAD_BYTES, ValueType } from '../kv-layout.js';
import { elementCost, keyCost, memberCost, type Collection } from '../store/collection.js';
import { PATTERN_STEPS_MAX, type Call } from './call.js';
import { readCursor, readScanOptions } from './scan-options.js';

/** Most members that one command writes, removes or compares: some milliseconds. */
export const MEMBERS_MAX = 4096;
/** Up to this many members, a random one is counted to, so that each is as likely as the others. */
const COUNTED_MAX = 512;
/** Up to this many members, HSCAN and SSCAN give all at once, as Redis does with small collections. */
const SCANNED_AT_ONCE = 512;
const SCAN_COUNT_MAX = 4096;
/** How often a random member is looked for, for each one that is wanted. */
const TRIES = 4;
const HASH_LIMIT = 2 ** 32;

/** Whether a command may take this many members in hand, with the error as the answer. */
export function fewMembers(call: Call, count: number): boolean {
  call.work += count;
  if (count <= MEMBERS_MAX) return true;
  call.error(`ERR the command would take ${count} members in hand, of at most ${MEMBERS_MAX} at once`);
  return false;
}

/** Copies the collection of one key to another key, which it replaces. False: an error, which is the answer. */
export function copyCollection(call: Call, from: number, to: number): boolean {
  const { first, second, bytes } = call;
  first.open(bytes, call.starts[from]!, call.lengths[from]!);
  if (!fewMembers(call, first.count)) return false;
  const needed = keyCost(first.type, call.lengths[to]!) + KV_ENTRY_OVERHEAD_BYTES;
  const content = contentBytes(call, first);
  if (!call.fewBytes(content) || !call.fits(first.count + 2, needed + content)) return false;
  call.remove(to);
  first.open(bytes, call.starts[from]!, call.lengths[from]!);
  second.openToChange(bytes, call.starts[to]!, call.lengths[to]!);
  second.create(first.type);
  second.copyFrom(first);
  second.save();
  return true;
}

/** What the parts of a collection count as towards `maxBytes`. */
export function contentBytes(call: Call, collection: Collection): number {
  const { records } = call.store;
  let bytes = 0;
  if (collection.type === ValueType.list) {
    for (let i = 0; i < collection.count; i++) bytes += elementCost(records.valueLength(collection.at(i)));
    return bytes;
  }
  collection.seek(0);
  for (let id = collection.next(); id >= 0; id = collection.next())
    bytes += memberCost(collection.memberLength(id), records.valueLength(id));
  return bytes;
}

/** Answers with the member of a part. */
export function bulkMember(call: Call, collection: Collection, id: number): void {
  call.out.bulk(call.store.records.valueBytes(id), collection.memberOffset(id), collection.memberLength(id));
}

/** Answers with a random member of the collection in argument 1, or with nothing: HRANDFIELD and SRANDMEMBER without a count. */
export function oneRandomMember(call: Call, type: number): void {
  const { out, first } = call;
  if (!call.open(first, 1, type)) return;
  if (first.count === 0) out.nil();
  else bulkMember(call, first, randomMember(call, first));
}

/** A random member of a collection that has one. */
export function randomMember(call: Call, collection: Collection): number {
  if (collection.count > COUNTED_MAX) return collection.random(call.random.u32());
  collection.seek(0);
  call.work += collection.count / 16;
  for (let left = call.random.below(collection.count); left > 0; left--) collection.next();
  return collection.next();
}

/** This many random members of a collection that has one, the same one again and again if chance has it. */
export function randomPicks(call: Call, collection: Collection, count: number): number[] {
  if (collection.count > COUNTED_MAX) return Array.from({ length: count }, () => randomMember(call, collection));
  const ids: number[] = [];
  collection.seek(0);
  for (let id = collection.next(); id >= 0; id = collection.next()) ids.push(id);
  return Array.from({ length: count }, () => ids[call.random.below(ids.length)]!);
}

/** Different random members, fewer than the collection has; as many as were asked for. */
export function randomMembers(call: Call, collection: Collection, count: number): number[] {
  const chosen = new Set<number>();
  if (3 * count > collection.count || collection.count <= COUNTED_MAX) {
    call.work += collection.count;
    let left = collection.count;
    collection.seek(0);
    for (let id = collection.next(); id >= 0 && chosen.size < count; id = collection.next(), left--)
      if (call.random.below(left) < count - chosen.size) chosen.add(id);
    return [...chosen];
  }
  // Members of one hash, which who writes them can bring about, are not found by chance.
  for (let left = TRIES * count; left > 0 && chosen.size < count; left--) chosen.add(randomMember(call, collection));
  if (chosen.size < count) {
    collection.seek(call.random.u32());
    for (let wraps = 0; chosen.size < count && wraps < 2; ) {
      const id = collection.next();
      if (id >= 0) {
        chosen.add(id);
        continue;
      }
      collection.seek(0);
      wraps++;
    }
  }
  return [...chosen];
}

/** HSCAN and SSCAN: key cursor [MATCH pattern] [COUNT n] */
export function scanMembers(call: Call, type: number): void {
  const { out, first } = call;
  const from = readCursor(call, 2);
  if (Number.isNaN(from) || !call.open(first, 1, type)) return;
  if (first.count === 0) {
    out.array(2);
    out.bulkText('0');
    return out.array(0);
  }
  const options = readScanOptions(call, 3, false);
  if (options === undefined) return;
  const { records } = call.store;
  const count = first.count <= SCANNED_AT_ONCE ? SCANNED_AT_ONCE : Math.min(options.count, SCAN_COUNT_MAX);
  const perMember = type === ValueType.hash ? 2 : 1;
  const found: number[] = [];
  // Members of one hash come together or not at all: the cursor is a hash.
  let foundBefore = 0;
  let hash = -1;
  let groups = 0;
  let bytes = 0;
  let visited = 0;
  let cursor = 0;
  if (from < HASH_LIMIT) {
    first.seek(from);
    for (let id = first.next(); id >= 0; id = first.next()) {
      const own = first.hashOf(id);
      if (own !== hash) {
        cursor = own;
        if (visited >= count) break;
        hash = own;
        groups++;
        foundBefore = found.length;
      }
      cursor = 0;
      visited++;
      const at = first.memberOffset(id);
      const { pattern } = options;
      const matches = pattern === 0 || call.matches(pattern, records.valueBytes(id), at, first.memberLength(id));
      if (call.patternSteps > PATTERN_STEPS_MAX) {
        if (groups === 1) return call.patternTooLong();
        found.length = foundBefore;
        cursor = own;
        break;
      }
      if (!matches) continue;
      // The marks of bulk strings, at most.
      bytes += first.memberLength(id) + (perMember === 2 ? records.valueLength(id) : 0) + 10 * perMember;
      if (bytes + 64 > out.room && groups === 1) return out.overflow(bytes);
      if (bytes + 64 > out.room) {
        found.length = foundBefore;
        cursor = own;
        break;
      }
      found.push(id);
    }
  }
  call.work += visited;
  out.array(2);
  out.bulkText(String(cursor));
  out.array(found.length * perMember);
  for (const id of found) {
    bulkMember(call, first, id);
    if (perMember === 2) call.bulkOf(id);
  }
}
