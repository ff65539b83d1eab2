/**
 * LCS: the longest common subsequence of two strings. Its table has the product of their lengths as cells, so that there is
 * a bound on that.
 */
import { SYNTAX_ERROR, type Call, type Handler } from './call.js';

/** Some milliseconds. */
const CELLS_MAX = 1 << 21;
const CELLS_PER_WORK = 256;

interface Match {
  readonly aFrom: number;
  readonly aTo: number;
  readonly bFrom: number;
  readonly bTo: number;
}

/** LCS key key [LEN | IDX [MINMATCHLEN n] [WITHMATCHLEN]] */
function lcs(call: Call): void {
  const { out } = call;
  const aId = call.find(1);
  const bId = call.find(2);
  const { store } = call;
  if ((aId >= 0 && store.isCollection(aId)) || (bId >= 0 && store.isCollection(bId)))
    return call.error('ERR The specified keys must contain string values');
  let isLength = false;
  let isIndexes = false;
  let hasLengths = false;
  let shortest = 0;
  for (let i = 3; i < call.argc; i++) {
    if (call.is(i, 'idx')) isIndexes = true;
    else if (call.is(i, 'len')) isLength = true;
    else if (call.is(i, 'withmatchlen')) hasLengths = true;
    else if (call.is(i, 'minmatchlen') && i + 1 < call.argc) {
      shortest = call.integerOrError(++i);
      if (Number.isNaN(shortest)) return;
      shortest = Math.max(0, shortest);
    } else return call.error(SYNTAX_ERROR);
  }
  if (isIndexes && isLength) return call.error('ERR If you want both the length and indexes, please just use IDX.');
  const a = stringOf(call, aId);
  const b = stringOf(call, bId);
  const cells = (a.length + 1) * (b.length + 1);
  if (cells > CELLS_MAX)
    return call.error('ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len');
  call.work += Math.ceil(cells / CELLS_PER_WORK);
  const width = b.length + 1;
  const table = new Uint16Array(cells);
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      table[i * width + j] =
        a[i - 1] === b[j - 1]
          ? table[(i - 1) * width + j - 1]! + 1
          : Math.max(table[(i - 1) * width + j]!, table[i * width + j - 1]!);
    }
  }
  const length = table[cells - 1]!;
  if (isLength) return out.integer(length);
  const common = new Uint8Array(length);
  const matches = trace(a, b, table, common, shortest);
  if (!isIndexes) return out.bulk(common, 0, length);
  out.map(2);
  out.bulkText('matches');
  out.array(matches.length);
  for (const { aFrom, aTo, bFrom, bTo } of matches) {
    out.array(hasLengths ? 3 : 2);
    out.array(2);
    out.integer(aFrom);
    out.integer(aTo);
    out.array(2);
    out.integer(bFrom);
    out.integer(bTo);
    if (hasLengths) out.integer(aTo - aFrom + 1);
  }
  out.bulkText('len');
  out.integer(length);
}

/** From the end to the beginning: writes the common bytes, and returns the ranges that match. */
function trace(a: Uint8Array, b: Uint8Array, table: Uint16Array, common: Uint8Array, shortest: number): Match[] {
  const width = b.length + 1;
  const matches: Match[] = [];
  let at = common.length;
  let i = a.length;
  let j = b.length;
  // No range is open while this is the length of `a`.
  let aFrom = a.length;
  let aTo = 0;
  let bFrom = 0;
  let bTo = 0;
  const end = (): void => {
    if (aFrom < a.length && aTo - aFrom + 1 >= shortest) matches.push({ aFrom, aTo, bFrom, bTo });
    aFrom = a.length;
  };
  while (i > 0 && j > 0) {
    if (a[i - 1] !== b[j - 1]) {
      if (table[(i - 1) * width + j]! > table[i * width + j - 1]!) i--;
      else j--;
      end();
      continue;
    }
    common[--at] = a[i - 1]!;
    if (aFrom === a.length) {
      aTo = i - 1;
      bTo = j - 1;
    } else if (aFrom !== i || bFrom !== j) {
      end();
      aTo = i - 1;
      bTo = j - 1;
    }
    aFrom = --i;
    bFrom = --j;
  }
  end();
  return matches;
}

function stringOf(call: Call, id: number): Uint8Array {
  if (id < 0) return new Uint8Array(0);
  const { records } = call.store;
  const from = records.valueOffset(id);
  return records.valueBytes(id).subarray(from, from + records.valueLength(id));
}

export const LCS_HANDLERS: Readonly<Record<string, Handler>> = { lcs };
