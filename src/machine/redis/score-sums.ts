/** Commands on several sorted sets, or sets, whose members then have the score 1: ZUNION, ZINTER, ZDIFF and their kin. */
import { ValueType } from '../kv-layout.js';
import { ABSENT } from '../store/collection.js';
import { NOT_AN_INTEGER, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { fewMembers } from './collections.js';
import { readDouble } from './doubles.js';
import { latin1, writeLatin1 } from './numbers.js';
import { storeScores, type Scores } from './sorted-sets.js';

type Operator = 'union' | 'inter' | 'diff';
type Aggregate = 'sum' | 'min' | 'max';

interface Source {
  /** Argument of its key. */
  readonly key: number;
  readonly count: number;
  weight: number;
}

interface Options {
  aggregate: Aggregate;
  withScores: boolean;
  limit: number;
}

/** What a command of the family answers with. `store`: a number, and it writes a key. */
type Result = 'members' | 'store' | 'count';

function combined(operator: Operator, result: Result): Handler {
  return (call) => {
    const numberAt = result === 'store' ? 2 : 1;
    const count = call.integer(numberAt);
    if (Number.isNaN(count)) return call.error(NOT_AN_INTEGER);
    if (count < 1) return call.error(`ERR at least 1 input key is needed for '${call.name}' command`);
    const first = numberAt + 1;
    if (count > call.argc - first) return call.error(SYNTAX_ERROR);
    const sources: Source[] = [];
    for (let key = first; key < first + count; key++) {
      const members = openSource(call, key);
      if (members < 0) return;
      sources.push({ key, count: members, weight: 1 });
    }
    const options: Options = { aggregate: 'sum', withScores: false, limit: 0 };
    if (!readOptions(call, first + count, operator, result, sources, options)) return;
    if (!isFew(call, operator, sources)) return;
    // The order of sums shows in their last digits.
    if (operator !== 'diff') sources.sort((a, b) => a.count - b.count);
    const scores =
      operator === 'union' ? union(call, sources, options.aggregate) : chosen(call, operator, sources, options);
    if (result === 'store') return storeScores(call, 1, scores);
    if (result === 'count')
      return call.out.integer(options.limit === 0 ? scores.length : Math.min(options.limit, scores.length));
    answer(call, scores, options.withScores);
  };
}

/** How many members a source has; −1: it is of another type, and the answer says so. */
function openSource(call: Call, key: number): number {
  const id = call.find(key);
  const isSet = id >= 0 && call.store.records.type(id) === ValueType.set;
  return call.open(call.first, key, isSet ? ValueType.set : ValueType.zset) ? call.first.count : -1;
}

function readOptions(
  call: Call,
  index: number,
  operator: Operator,
  result: Result,
  sources: Source[],
  options: Options,
): boolean {
  const canWeigh = operator !== 'diff' && result !== 'count';
  for (let i = index; i < call.argc; ) {
    const left = call.argc - i;
    if (canWeigh && left > sources.length && call.is(i, 'weights')) {
      i++;
      for (const source of sources) {
        const weight = readDouble(call.bytes, call.starts[i]!, call.lengths[i]!);
        if (weight === undefined) return refused(call, 'ERR weight value is not a float');
        source.weight = weight;
        i++;
      }
    } else if (canWeigh && left > 1 && call.is(i, 'aggregate')) {
      const aggregate = (['sum', 'min', 'max'] as const).find((one) => call.is(i + 1, one));
      if (aggregate === undefined) return refused(call, SYNTAX_ERROR);
      options.aggregate = aggregate;
      i += 2;
    } else if (result === 'members' && call.is(i, 'withscores')) {
      options.withScores = true;
      i++;
    } else if (result === 'count' && left > 1 && call.is(i, 'limit')) {
      options.limit = call.integer(i + 1);
      if (Number.isNaN(options.limit) || options.limit < 0) return refused(call, "ERR LIMIT can't be negative");
      i += 2;
    } else return refused(call, SYNTAX_ERROR);
  }
  return true;
}

function refused(call: Call, error: string): false {
  call.error(error);
  return false;
}

/** Every member that is walked through is looked for in the other sources. */
function isFew(call: Call, operator: Operator, sources: readonly Source[]): boolean {
  const counts = sources.map(({ count }) => count);
  if (operator === 'union')
    return fewMembers(
      call,
      counts.reduce((sum, count) => sum + count, 0),
    );
  const walked = operator === 'diff' ? counts[0]! : Math.min(...counts);
  return fewMembers(call, walked * sources.length);
}

function scoresOf(call: Call, { key, weight }: Source): Scores {
  const { records } = call.store;
  const scores: Scores = [];
  if (openSource(call, key) <= 0) return scores;
  const open = call.first;
  open.seek(0);
  for (let id = open.next(); id >= 0; id = open.next()) {
    const score = (open.type === ValueType.zset ? open.scoreOf(id) : 1) * weight;
    const member = latin1(records.valueBytes(id), open.memberOffset(id), open.memberLength(id));
    scores.push([member, Number.isNaN(score) ? 0 : score]);
  }
  return scores;
}

function aggregated(aggregate: Aggregate, a: number, b: number): number {
  if (aggregate === 'min') return b < a ? b : a;
  if (aggregate === 'max') return b > a ? b : a;
  // Of both infinities.
  return Number.isNaN(a + b) ? 0 : a + b;
}

function union(call: Call, sources: readonly Source[], aggregate: Aggregate): Scores {
  const all = new Map<string, number>();
  for (const source of sources)
    for (const [member, score] of scoresOf(call, source)) {
      const before = all.get(member);
      all.set(member, before === undefined ? score : aggregated(aggregate, before, score));
    }
  return inOrder([...all]);
}

/** The intersection or the difference: members of the first source. */
function chosen(call: Call, operator: 'inter' | 'diff', sources: readonly Source[], { aggregate }: Options): Scores {
  let found = scoresOf(call, sources[0]!);
  for (const { key, weight } of sources.slice(1)) {
    if (found.length === 0) break;
    const isEmpty = openSource(call, key) <= 0;
    const open = call.first;
    const left: Scores = [];
    for (const [member, score] of found) {
      writeLatin1(call.value, 0, member);
      const id = isEmpty ? ABSENT : open.find(call.value, 0, member.length);
      if (operator === 'diff') {
        if (id < 0) left.push([member, score]);
      } else if (id >= 0) {
        const other = (open.type === ValueType.zset ? open.scoreOf(id) : 1) * weight;
        left.push([member, aggregated(aggregate, score, other)]);
      }
    }
    found = left;
  }
  return inOrder(found);
}

function inOrder(scores: Scores): Scores {
  return scores.sort(([a, x], [b, y]) => x - y || (a < b ? -1 : a > b ? 1 : 0));
}

function answer(call: Call, scores: Scores, withScores: boolean): void {
  const { out } = call;
  out.array(withScores && !out.isResp3 ? 2 * scores.length : scores.length);
  for (const [member, score] of scores) {
    if (withScores && out.isResp3) out.array(2);
    out.bulkText(member);
    if (withScores) out.double(score);
    if (out.overflows) return;
  }
}

export const SCORE_SUM_HANDLERS: Readonly<Record<string, Handler>> = {
  zunion: combined('union', 'members'),
  zinter: combined('inter', 'members'),
  zdiff: combined('diff', 'members'),
  zunionstore: combined('union', 'store'),
  zinterstore: combined('inter', 'store'),
  zdiffstore: combined('diff', 'store'),
  zintercard: combined('inter', 'count'),
};
