/** Commands on sorted sets, but for ranges (score-ranges.ts) and those on several sets (score-sums.ts). */
import { KV_ENTRY_OVERHEAD_BYTES, ValueType } from '../kv-layout.js';
import { keyCost, memberCost, SCORE_BYTES, type Collection } from '../store/collection.js';
import { NOT_A_FLOAT, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { bulkMember, fewMembers, randomMembersOf, scanMembers } from './collections.js';
import { tellAs } from './events.js';
import { readDouble } from './doubles.js';
import { writeLatin1 } from './numbers.js';

const NOT_POSITIVE = 'ERR value is out of range, must be positive';
const NOT_A_SUM = 'ERR resulting score is not a number (NaN)';

/** Members, as strings of bytes, with their scores. */
export type Scores = (readonly [string, number])[];

function partOf(call: Call, zset: Collection, index: number): number {
  return zset.count === 0 ? -1 : zset.find(call.bytes, call.starts[index]!, call.lengths[index]!);
}

interface AddOptions {
  nx: boolean;
  xx: boolean;
  gt: boolean;
  lt: boolean;
  ch: boolean;
  incr: boolean;
}

/** Which of the scores an argument asks for: the score that the member gets; undefined: it stays as it is. */
function newScore(options: AddOptions, before: number | undefined, given: number): number | undefined {
  if (before === undefined) return options.xx ? undefined : given;
  if (options.nx) return undefined;
  const score = options.incr ? before + given : given;
  if ((options.lt && score >= before) || (options.gt && score <= before)) return undefined;
  return score;
}

/** ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member …, from argument `from` on. */
function add(call: Call, from: number, options: AddOptions): void {
  const { out, bytes, starts, lengths } = call;
  const zset = call.first;
  const scores = new Float64Array((call.argc - from) / 2);
  for (let i = 0; i < scores.length; i++) {
    const at = from + 2 * i;
    const score = readDouble(bytes, starts[at]!, lengths[at]!);
    if (score === undefined) return call.error(NOT_A_FLOAT);
    call.scanned(lengths[at]!);
    scores[i] = score;
  }
  if (!call.open(zset, 1, ValueType.zset, true)) return;
  const isNew = zset.count === 0;
  if (isNew && options.xx) return options.incr ? out.nil() : out.integer(0);
  if (!call.keyFits(1)) return;
  let keys = isNew ? 1 : 0;
  let needed = isNew ? keyCost(ValueType.zset, lengths[1]!) : 0;
  for (let i = from + 1; i < call.argc; i += 2) {
    if (!call.memberFits(i)) return;
    // A member that comes twice counts twice, which is more than it needs.
    if (options.xx || partOf(call, zset, i) >= 0) continue;
    keys++;
    needed += memberCost(lengths[i]!, SCORE_BYTES);
  }
  if (options.incr) {
    const id = partOf(call, zset, from + 1);
    if (id >= 0 && !options.nx && Number.isNaN(zset.scoreOf(id) + scores[0]!)) return call.error(NOT_A_SUM);
  }
  if (!call.fits(keys, needed)) return;
  call.work += call.argc;
  if (isNew) zset.create(ValueType.zset);
  let added = 0;
  let changed = 0;
  let last: number | undefined;
  for (let i = 0; i < scores.length; i++) {
    const at = from + 1 + 2 * i;
    const id = partOf(call, zset, at);
    const before = id < 0 ? undefined : zset.scoreOf(id);
    last = newScore(options, before, scores[i]!);
    if (last === undefined || last === before) continue;
    if (zset.setScore(bytes, starts[at]!, lengths[at]!, last)) added++;
    else changed++;
  }
  zset.save();
  if (!options.incr) out.integer(options.ch ? added + changed : added);
  else if (last === undefined) out.nil();
  else out.double(last);
}

function zadd(call: Call): void {
  const options: AddOptions = { nx: false, xx: false, gt: false, lt: false, ch: false, incr: false };
  const names = Object.keys(options) as (keyof AddOptions)[];
  let from = 2;
  for (; from < call.argc; from++) {
    const name = names.find((one) => call.is(from, one));
    if (name === undefined) break;
    options[name] = true;
  }
  const { nx, xx, gt, lt, incr } = options;
  const rest = call.argc - from;
  if (rest === 0 || rest % 2 === 1) return call.error(SYNTAX_ERROR);
  if (nx && xx) return call.error('ERR XX and NX options at the same time are not compatible');
  if ((gt && nx) || (lt && nx) || (gt && lt))
    return call.error('ERR GT, LT, and/or NX options at the same time are not compatible');
  if (incr && rest > 2) return call.error('ERR INCR option supports a single increment-element pair');
  add(call, from, options);
}

/** ZINCRBY key n member */
function zincrby(call: Call): void {
  add(call, 2, { nx: false, xx: false, gt: false, lt: false, ch: false, incr: true });
}

function zcard(call: Call): void {
  if (call.open(call.first, 1, ValueType.zset)) call.out.integer(call.first.count);
}

function zrem(call: Call): void {
  const zset = call.first;
  if (!call.open(zset, 1, ValueType.zset, true)) return;
  let removed = 0;
  for (let i = 2; i < call.argc && zset.count > 0; i++)
    if (zset.remove(call.bytes, call.starts[i]!, call.lengths[i]!)) removed++;
  zset.save();
  call.work += call.argc;
  call.out.integer(removed);
}

function answerScore(call: Call, index: number): void {
  const id = partOf(call, call.first, index);
  if (id < 0) call.out.nil();
  else call.out.double(call.first.scoreOf(id));
}

function zscore(call: Call): void {
  if (call.open(call.first, 1, ValueType.zset)) answerScore(call, 2);
}

function zmscore(call: Call): void {
  if (!call.open(call.first, 1, ValueType.zset)) return;
  call.work += call.argc;
  call.out.array(call.argc - 2);
  for (let i = 2; i < call.argc && !call.out.overflows; i++) answerScore(call, i);
}

/** ZRANK and ZREVRANK key member */
function rank(isReverse: boolean): Handler {
  return (call) => {
    const { out, first } = call;
    if (!call.open(first, 1, ValueType.zset)) return;
    const id = partOf(call, first, 2);
    if (id < 0) return out.nil();
    out.integer(isReverse ? first.count - 1 - first.rankOf(id) : first.rankOf(id));
  };
}

/**
 * Answers with members from one end of the open sorted set, which has some, and removes them if the answer fits. The
 * caller has asked whether they are few.
 * @param isNested each member with its score is an array
 */
function popFrom(call: Call, key: number, isMax: boolean, count: number, isNested: boolean): void {
  const { out } = call;
  const zset = call.first;
  const popped = Math.min(count, zset.count);
  zset.seekRank(isMax ? zset.count - 1 : 0);
  const ids = Array.from({ length: popped }, () => zset.nextByScore(isMax));
  out.array(isNested ? popped : 2 * popped);
  for (const id of ids) {
    if (isNested) out.array(2);
    bulkMember(call, zset, id);
    out.double(zset.scoreOf(id));
    if (out.overflows) return;
  }
  if (popped === zset.count) return call.remove(key);
  for (const id of ids) zset.removePart(id);
  zset.save();
}

/** ZPOPMIN and ZPOPMAX key [count] */
function pop(isMax: boolean): Handler {
  return (call) => {
    if (call.argc > 3) return call.error(SYNTAX_ERROR);
    const count = call.argc === 3 ? call.integer(2) : 1;
    if (Number.isNaN(count) || count < 0) return call.error(NOT_POSITIVE);
    if (!call.open(call.first, 1, ValueType.zset, true)) return;
    if (call.first.count === 0 || count === 0) return call.out.array(0);
    if (!fewMembers(call, Math.min(count, call.first.count))) return;
    popFrom(call, 1, isMax, count, call.out.isResp3 && call.argc === 3);
  };
}

/** What ZMPOP and LMPOP say: numkeys key … end [COUNT n]. */
export interface PopOptions {
  /** Number of keys, from argument 2 on. */
  readonly keys: number;
  /** The word behind the keys is the second one of the two. */
  readonly isLast: boolean;
  readonly count: number;
}

/** Undefined: an error, which is the answer. @param ends in lower case */
export function readPopOptions(call: Call, ends: readonly [string, string]): PopOptions | undefined {
  const refused = (error: string): undefined => {
    call.error(error);
    return undefined;
  };
  const keys = call.integer(1);
  if (Number.isNaN(keys) || keys < 1) return refused('ERR numkeys should be greater than 0');
  const where = 2 + keys;
  if (where >= call.argc) return refused(SYNTAX_ERROR);
  const isLast = call.is(where, ends[1]);
  if (!isLast && !call.is(where, ends[0])) return refused(SYNTAX_ERROR);
  let count = -1;
  for (let i = where + 1; i < call.argc; i += 2) {
    if (count !== -1 || !call.is(i, 'count') || i + 1 === call.argc) return refused(SYNTAX_ERROR);
    count = call.integer(i + 1);
    if (Number.isNaN(count) || count < 1) return refused('ERR count should be greater than 0');
  }
  return { keys, isLast, count: count === -1 ? 1 : count };
}

/** ZMPOP numkeys key … MIN | MAX [COUNT n] */
function zmpop(call: Call): void {
  const { out, first } = call;
  const options = readPopOptions(call, ['min', 'max']);
  if (options === undefined) return;
  for (let i = 2; i < 2 + options.keys; i++) {
    if (!call.open(first, i, ValueType.zset, true)) return;
    if (first.count === 0) continue;
    if (!fewMembers(call, Math.min(options.count, first.count))) return;
    out.array(2);
    out.bulk(call.bytes, call.starts[i]!, call.lengths[i]!);
    tellAs(call, options.isLast ? 'zpopmax' : 'zpopmin');
    return popFrom(call, i, options.isLast, options.count, true);
  }
  out.nilArray();
}

/** Makes a key a sorted set of these members, or removes it if there are none, and answers with their number. */
export function storeScores(call: Call, key: number, scores: Scores): void {
  if (!call.keyFits(key)) return;
  if (scores.length > 0) {
    // One more for what is left of a collection that is replaced.
    let bytes = keyCost(ValueType.zset, call.lengths[key]!) + KV_ENTRY_OVERHEAD_BYTES;
    for (const [member] of scores) bytes += memberCost(member.length, SCORE_BYTES);
    if (!call.fits(scores.length + 2, bytes)) return;
  }
  call.remove(key);
  if (scores.length > 0) {
    const zset = call.first;
    zset.openToChange(call.bytes, call.starts[key]!, call.lengths[key]!);
    zset.create(ValueType.zset);
    for (const [member, score] of scores) {
      writeLatin1(call.value, 0, member);
      zset.setScore(call.value, 0, member.length, score);
    }
    zset.save();
  }
  call.out.integer(scores.length);
}

export const SORTED_SET_HANDLERS: Readonly<Record<string, Handler>> = {
  zadd,
  zincrby,
  zcard,
  zrem,
  zscore,
  zmscore,
  zrank: rank(false),
  zrevrank: rank(true),
  zpopmin: pop(false),
  zpopmax: pop(true),
  zmpop,
  zrandmember: (call) => randomMembersOf(call, ValueType.zset, 'withscores'),
  zscan: (call) => scanMembers(call, ValueType.zset),
};
