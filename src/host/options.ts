/**
 * Checks options one by one. The message names the wrong one, says what was expected, and suggests the word
 * that was probably meant.
 */
import { JitPaxosError, type ErrorCode } from '../errors.js';

/**
 * Throws JitPaxosError `code` for the first key of `value` that is not in `known`. `where` begins the message:
 * "Replica.start".
 */
export function checkKeys(code: ErrorCode, where: string, value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    const meant = nearest(key, known);
    throw new JitPaxosError(
      code,
      `${where}: "${key}" is not known here; ${meant === undefined ? `use one of ${known.join(', ')}` : `did you mean "${meant}"?`}`,
    );
  }
}

/** Also what JSON calls an object: not null, and no list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The names of all options of `T`, for `checkKeys`. A table with a name too few or too many is a type error. */
export function optionNames<T extends object>(table: Readonly<Record<keyof T, true>>): readonly string[] {
  return Object.keys(table);
}

/** Returns an integer in a range, or throws JitPaxosError `code`. */
export function checkInteger(code: ErrorCode, where: string, value: unknown, low: number, high: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
  throw new JitPaxosError(code, `${where} is ${show(value)}; it has to be an integer from ${low} to ${high}`);
}

/** Any value, short and on one line, for messages. */
export function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

/** The known word with the fewest edits, if these are few for its length. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase().slice(0, 64), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return bestDistance <= Math.max(1, Math.floor(word.length / 3)) ? best : undefined;
}

/** The Levenshtein distance of two words. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
