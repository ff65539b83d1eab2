/** Ranges of sorted sets: by rank, by score, and by member where all scores are the same. */
import { ValueType } from '../kv-layout.js';
import { compareBytes } from '../bytes.js';
import type { Collection } from '../store/collection.js';
import { NOT_AN_INTEGER, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { bulkMember, fewMembers } from './collections.js';
import { readScoreBound } from './doubles.js';
import { latin1 } from './numbers.js';
import { storeScores, type Scores } from './sorted-sets.js';

const NOT_A_SCORE = 'ERR min or max is not a float';
const NOT_A_MEMBER = 'ERR min or max not valid string range item';
/** No member is shorter in an answer. */
const MEMBER_ANSWER_BYTES_MIN = 6;
const OPENING = 0x28;
const INCLUDING = 0x5b;
const PLUS = 0x2b;
const MINUS = 0x2d;

type RangeKind = 'rank' | 'score' | 'lex';

/** Ranks from the first one to behind the last one. */
interface Ranks {
  from: number;
  to: number;
}

/** One end of a range that was read. `value`: a rank or a score; `at` and `length`: a member; `end`: −1 below all, 1 above all. */
interface Bound {
  value: number;
  isOpen: boolean;
  end: number;
  at: number;
  length: number;
}

/** Reads both ends of a range; undefined: an error, which is the answer. */
function readBounds(call: Call, kind: RangeKind, min: number, max: number): readonly [Bound, Bound] | undefined {
  const read = kind === 'rank' ? readRank : kind === 'score' ? readScoreEnd : readMemberEnd;
  const a = read(call, min);
  const b = a === undefined ? undefined : read(call, max);
  if (a !== undefined && b !== undefined) return [a, b];
  call.error(kind === 'rank' ? NOT_AN_INTEGER : kind === 'score' ? NOT_A_SCORE : NOT_A_MEMBER);
  return undefined;
}

function readRank(call: Call, index: number): Bound | undefined {
  const value = call.integer(index);
  return Number.isNaN(value) ? undefined : { value, isOpen: false, end: 0, at: 0, length: 0 };
}

function readScoreEnd(call: Call, index: number): Bound | undefined {
  const at = call.starts[index]!;
  const length = call.lengths[index]!;
  const skipped = length > 0 && call.bytes[at] === OPENING ? 1 : 0;
  call.scanned(length);
  const value = readScoreBound(call.bytes, at + skipped, length - skipped);
  return value === undefined ? undefined : { value, isOpen: skipped === 1, end: 0, at: 0, length: 0 };
}

function readMemberEnd(call: Call, index: number): Bound | undefined {
  const at = call.starts[index]!;
  const length = call.lengths[index]!;
  const mark = length === 0 ? 0 : call.bytes[at];
  if (mark === OPENING || mark === INCLUDING)
    return { value: 0, isOpen: mark === OPENING, end: 0, at: at + 1, length: length - 1 };
  // Redis looks at these as at a string of C.
  if ((mark !== PLUS && mark !== MINUS) || (length > 1 && call.bytes[at + 1] !== 0)) return undefined;
  return { value: 0, isOpen: false, end: mark === PLUS ? 1 : -1, at: 0, length: 0 };
}

/** The ranks of a range in a sorted set that has members. Undefined: an error, which is the answer. */
function ranksOf(
  call: Call,
  zset: Collection,
  kind: RangeKind,
  bounds: readonly [Bound, Bound],
  isReverse: boolean,
): Ranks | undefined {
  const [min, max] = bounds;
  if (kind === 'score')
    return {
      from: zset.rankOfScore(min.value, min.isOpen),
      to: Math.max(zset.rankOfScore(min.value, min.isOpen), zset.rankOfScore(max.value, !max.isOpen)),
    };
  if (kind === 'lex') return ranksOfMembers(call, zset, min, max, isReverse);
  const { count } = zset;
  let from = min.value < 0 ? Math.max(0, count + min.value) : min.value;
  let to = Math.min(count, (max.value < 0 ? count + max.value : max.value) + 1);
  if (from >= to) return { from: 0, to: 0 };
  if (isReverse) [from, to] = [count - to, count - from];
  return { from, to };
}

function ranksOfMembers(call: Call, zset: Collection, min: Bound, max: Bound, isReverse: boolean): Ranks | undefined {
  const { count } = zset;
  const score = scoreAt(zset, 0);
  if (score !== scoreAt(zset, count - 1)) return ranksOfMixed(call, zset, min, max, isReverse);
  const rank = ({ end, at, length }: Bound, orEqual: boolean): number =>
    end === 0 ? zset.rankOfMember(score, call.bytes, at, length, orEqual) : end < 0 ? 0 : count;
  const from = rank(min, min.isOpen);
  return { from, to: Math.max(from, rank(max, !max.isOpen)) };
}

/** What Redis answers for a small set whose scores differ: the members that follow each other, from the first one that is in the range. */
function ranksOfMixed(call: Call, zset: Collection, min: Bound, max: Bound, isReverse: boolean): Ranks | undefined {
  const { count } = zset;
  if (!fewMembers(call, count)) return undefined;
  const nothing = { from: 0, to: 0 };
  const compare = (rank: number, { end, at, length }: Bound): number => {
    if (end !== 0) return -end;
    zset.seekRank(rank);
    const id = zset.nextByScore(false);
    const bytes = call.store.records.valueBytes(id);
    return compareBytes(bytes, zset.memberOffset(id), zset.memberLength(id), call.bytes, at, length);
  };
  const isAbove = (rank: number): boolean => compare(rank, min) >= (min.isOpen ? 1 : 0);
  const isBelow = (rank: number): boolean => compare(rank, max) <= (max.isOpen ? -1 : 0);
  if (isNothing(call, min, max) || !isAbove(count - 1) || !isBelow(0)) return nothing;
  let from = 0;
  let to = count;
  if (isReverse) {
    while (to > 0 && !isBelow(to - 1)) to--;
    from = to;
    while (from > 0 && isAbove(from - 1)) from--;
  } else {
    while (from < count && !isAbove(from)) from++;
    to = from;
    while (to < count && isBelow(to)) to++;
  }
  return { from, to };
}

/** Whether no member can be in the range. */
function isNothing(call: Call, min: Bound, max: Bound): boolean {
  const order =
    min.end !== 0 || max.end !== 0
      ? min.end - max.end
      : compareBytes(call.bytes, min.at, min.length, call.bytes, max.at, max.length);
  return order > 0 || (order === 0 && (min.isOpen || max.isOpen));
}

function scoreAt(zset: Collection, rank: number): number {
  zset.seekRank(rank);
  return zset.scoreOf(zset.nextByScore(false));
}

/** What a command of the family says behind the range. */
interface RangeOptions {
  kind: RangeKind | undefined;
  isReverse: boolean | undefined;
  withScores: boolean;
  offset: number;
  limit: number;
}

/** Reads options from argument `index` on; false: an error, which is the answer. */
function readOptions(call: Call, index: number, isStore: boolean, options: RangeOptions): boolean {
  for (let i = index; i < call.argc; i++) {
    if (!isStore && call.is(i, 'withscores')) options.withScores = true;
    else if (call.is(i, 'limit') && i + 2 < call.argc) {
      options.offset = call.integerOrError(i + 1);
      if (Number.isNaN(options.offset)) return false;
      options.limit = call.integerOrError(i + 2);
      if (Number.isNaN(options.limit)) return false;
      i += 2;
    } else if (options.isReverse === undefined && call.is(i, 'rev')) options.isReverse = true;
    else if (options.kind === undefined && call.is(i, 'bylex')) options.kind = 'lex';
    else if (options.kind === undefined && call.is(i, 'byscore')) options.kind = 'score';
    else return refused(call, SYNTAX_ERROR);
  }
  options.kind ??= 'rank';
  if (options.limit !== -1 && options.kind === 'rank')
    return refused(call, `${SYNTAX_ERROR}, LIMIT is only supported in combination with either BYSCORE or BYLEX`);
  if (options.withScores && options.kind === 'lex')
    return refused(call, `${SYNTAX_ERROR}, WITHSCORES not supported in combination with BYLEX`);
  return true;
}

function refused(call: Call, error: string): false {
  call.error(error);
  return false;
}

/**
 * ZRANGE and all that came before it: key min max [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]; ZRANGESTORE with
 * a destination in front. What the name says already is given here.
 */
function range(kind: RangeKind | undefined, isReverse: boolean | undefined, isStore = false): Handler {
  return (call) => {
    const key = isStore ? 2 : 1;
    const options: RangeOptions = { kind, isReverse, withScores: false, offset: 0, limit: -1 };
    if (!readOptions(call, key + 3, isStore, options)) return;
    const own = options.kind!;
    const isBack = options.isReverse === true;
    // In reverse the end comes first, but not of ranks.
    const isSwapped = isBack && own !== 'rank';
    const bounds = readBounds(call, own, isSwapped ? key + 2 : key + 1, isSwapped ? key + 1 : key + 2);
    if (bounds === undefined) return;
    const zset = call.first;
    if (!call.open(zset, key, ValueType.zset)) return;
    const ranks = zset.count === 0 ? { from: 0, to: 0 } : ranksOf(call, zset, own, bounds, isBack);
    if (ranks === undefined) return;
    cut(ranks, options, isBack);
    if (isStore) storeRange(call, ranks);
    else answerRange(call, zset, ranks, isBack, options.withScores);
  };
}

/** Applies LIMIT. Of ranks, only `LIMIT offset -1` was let through, and Redis then does not look at the offset. */
function cut(ranks: Ranks, { kind, offset, limit }: RangeOptions, isBack: boolean): void {
  if (kind === 'rank') return;
  const count = ranks.to - ranks.from;
  const skipped = offset < 0 ? count : Math.min(offset, count);
  const kept = limit < 0 ? count - skipped : Math.min(limit, count - skipped);
  if (isBack) {
    ranks.to -= skipped;
    ranks.from = ranks.to - kept;
  } else {
    ranks.from += skipped;
    ranks.to = ranks.from + kept;
  }
}

function answerRange(call: Call, zset: Collection, { from, to }: Ranks, isBack: boolean, withScores: boolean): void {
  const { out } = call;
  const count = to - from;
  if (count * MEMBER_ANSWER_BYTES_MIN > out.room) return out.overflow(count * MEMBER_ANSWER_BYTES_MIN);
  call.work += withScores ? 2 * count : count;
  out.array(withScores && !out.isResp3 ? 2 * count : count);
  if (count === 0) return;
  zset.seekRank(isBack ? to - 1 : from);
  for (let i = 0; i < count && !out.overflows; i++) {
    const id = zset.nextByScore(isBack);
    if (withScores && out.isResp3) out.array(2);
    bulkMember(call, zset, id);
    if (withScores) out.double(zset.scoreOf(id));
  }
}

function storeRange(call: Call, { from, to }: Ranks): void {
  const zset = call.first;
  const { records } = call.store;
  if (!fewMembers(call, to - from)) return;
  const scores: Scores = [];
  if (to > from) zset.seekRank(from);
  for (let i = from; i < to; i++) {
    const id = zset.nextByScore(false);
    scores.push([latin1(records.valueBytes(id), zset.memberOffset(id), zset.memberLength(id)), zset.scoreOf(id)]);
  }
  storeScores(call, 1, scores);
}

/** ZCOUNT and ZLEXCOUNT key min max */
function count(kind: RangeKind): Handler {
  return (call) => {
    const bounds = readBounds(call, kind, 2, 3);
    if (bounds === undefined || !call.open(call.first, 1, ValueType.zset)) return;
    if (call.first.count === 0) return call.out.integer(0);
    const ranks = ranksOf(call, call.first, kind, bounds, false);
    if (ranks !== undefined) call.out.integer(ranks.to - ranks.from);
  };
}

/** ZREMRANGEBYRANK, ZREMRANGEBYSCORE and ZREMRANGEBYLEX key min max */
function remove(kind: RangeKind): Handler {
  return (call) => {
    const bounds = readBounds(call, kind, 2, 3);
    const zset = call.first;
    if (bounds === undefined || !call.open(zset, 1, ValueType.zset, true)) return;
    if (zset.count === 0) return call.out.integer(0);
    const ranks = ranksOf(call, zset, kind, bounds, false);
    if (ranks === undefined) return;
    const removed = ranks.to - ranks.from;
    if (removed === zset.count) call.remove(1);
    else {
      if (!fewMembers(call, removed)) return;
      for (const id of partsAt(zset, ranks.from, removed, false)) zset.removePart(id);
      zset.save();
    }
    call.out.integer(removed);
  };
}

/** The parts from a rank on, or from there back. */
function partsAt(zset: Collection, rank: number, count: number, isBack: boolean): number[] {
  if (count === 0) return [];
  zset.seekRank(rank);
  return Array.from({ length: count }, () => zset.nextByScore(isBack));
}

export const SCORE_RANGE_HANDLERS: Readonly<Record<string, Handler>> = {
  zrange: range(undefined, undefined),
  zrevrange: range('rank', true),
  zrangebyscore: range('score', false),
  zrevrangebyscore: range('score', true),
  zrangebylex: range('lex', false),
  zrevrangebylex: range('lex', true),
  zrangestore: range(undefined, undefined, true),
  zcount: count('score'),
  zlexcount: count('lex'),
  zremrangebyrank: remove('rank'),
  zremrangebyscore: remove('score'),
  zremrangebylex: remove('lex'),
};
