/** What the commands on hashes, sets, sorted sets and lists share. */
import { KV_ENTRY_OVERHEAD_BYTES, ValueType } from '../kv-layout.js';
import { elementCost, keyCost, memberCost, type Collection } from '../store/collection.js';
import { NOT_A_COUNT, NOT_AN_INTEGER, PATTERN_STEPS_MAX, SYNTAX_ERROR, type Call } from './call.js';
import { doubleText } from './doubles.js';
import { INT64_MAX, INT64_MIN } from './numbers.js';
import { readCursor, readScanOptions } from './scan-options.js';

/** Most members that one command writes, removes or compares: some tens of milliseconds in a store of a million. */
export const MEMBERS_MAX = 4096;
/** Up to this many members, a random one is counted to, so that each is as likely as the others. */
const COUNTED_MAX = 512;
/** Up to this many members, HSCAN, SSCAN and ZSCAN give all at once, as Redis does with small collections. */
const SCANNED_AT_ONCE = 512;
const SCAN_COUNT_MAX = 4096;
/** How often a random member is looked for, for each one that is wanted. */
const TRIES = 4;
const HASH_LIMIT = 2 ** 32;
/** Longest score in an answer. */
const SCORE_TEXT_BYTES_MAX = 24;
const INTEGER_SCORE_MAX = 2 ** 62;

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

/** Answers with what belongs to a member: the value of a field, or a score. */
function answerValue(call: Call, collection: Collection, id: number): void {
  if (collection.type === ValueType.zset) call.out.double(collection.scoreOf(id));
  else call.bulkOf(id);
}

/** Answers with a random member of the collection in argument 1, or with nothing: HRANDFIELD, ZRANDMEMBER and SRANDMEMBER without a count. */
export function oneRandomMember(call: Call, type: number): void {
  const { out, first } = call;
  if (!call.open(first, 1, type)) return;
  if (first.count === 0) out.nil();
  else bulkMember(call, first, randomMember(call, first));
}

/** HRANDFIELD and ZRANDMEMBER key [count [WITHVALUES | WITHSCORES]] @param option in lower case */
export function randomMembersOf(call: Call, type: number, option: string): void {
  const { out, first } = call;
  if (call.argc === 2) return oneRandomMember(call, type);
  const exact = call.int64(2);
  if (exact === undefined) return call.error(NOT_AN_INTEGER);
  if (exact === INT64_MIN) return call.error(NOT_A_COUNT);
  if (call.argc > 4 || (call.argc === 4 && !call.is(3, option))) return call.error(SYNTAX_ERROR);
  const withValues = call.argc === 4;
  if (withValues && (exact > INT64_MAX / 2n || exact < -(INT64_MAX / 2n)))
    return call.error('ERR value is out of range');
  const count = Number(exact);
  if (!call.open(first, 1, type)) return;
  if (count === 0 || first.count === 0) return out.array(0);
  const wanted = count < 0 ? -count : Math.min(count, first.count);
  // No member is shorter in the answer.
  if (6 * wanted > out.room) return out.overflow(6 * wanted);
  if (!fewMembers(call, wanted)) return;
  out.array(withValues && !out.isResp3 ? 2 * wanted : wanted);
  for (const id of count < 0 ? randomPicks(call, first, wanted) : randomMembers(call, first, wanted)) {
    if (withValues && out.isResp3) out.array(2);
    bulkMember(call, first, id);
    if (withValues) answerValue(call, first, id);
  }
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

/** HSCAN, SSCAN and ZSCAN: key cursor [MATCH pattern] [COUNT n] */
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
  const perMember = type === ValueType.set ? 1 : 2;
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
      bytes +=
        first.memberLength(id) +
        (type === ValueType.hash ? records.valueLength(id) : type === ValueType.zset ? SCORE_TEXT_BYTES_MAX : 0) +
        10 * perMember;
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
    if (type === ValueType.zset) out.bulkText(scannedScore(first.scoreOf(id)));
    else if (type === ValueType.hash) call.bulkOf(id);
  }
}

/** A string in RESP3 as well; an integer in all its digits, as Redis writes it of a small sorted set. */
function scannedScore(score: number): string {
  return Number.isInteger(score) && Math.abs(score) <= INTEGER_SCORE_MAX ? BigInt(score).toString() : doubleText(score);
}
