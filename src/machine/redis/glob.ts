/**
 * Patterns of KEYS and of MATCH, as Redis compares them: `*`, `?`, `[a-z]`, `[^a]` and a backslash before a character that
 * stands for itself. Bytes are compared.
 *
 * After a star that could not be matched with what follows it, earlier stars need not be tried again. So the time stays
 * within the product of the lengths.
 */
const STAR = 0x2a;
const QUESTION = 0x3f;
const OPEN = 0x5b;
const CLOSE = 0x5d;
const CARET = 0x5e;
const BACKSLASH = 0x5c;
const DASH = 0x2d;

export function matchesGlob(
  pattern: Uint8Array,
  patternOffset: number,
  patternLength: number,
  text: Uint8Array,
  textOffset: number,
  textLength: number,
): boolean {
  const patternEnd = patternOffset + patternLength;
  const textEnd = textOffset + textLength;
  let p = patternOffset;
  let t = textOffset;
  /** Where to go on if what follows the last star does not match: it takes one byte more. */
  let starAt = -1;
  let starText = 0;
  for (;;) {
    if (p < patternEnd && pattern[p] === STAR) {
      while (p < patternEnd && pattern[p] === STAR) p++;
      if (p === patternEnd) return true;
      starAt = p;
      starText = t;
      continue;
    }
    if (t === textEnd) {
      return p === patternEnd;
    }
    const next = p < patternEnd ? matchOne(pattern, p, patternEnd, text[t]!) : -1;
    if (next >= 0) {
      p = next;
      t++;
      continue;
    }
    if (starAt < 0) return false;
    p = starAt;
    t = ++starText;
  }
}

/** Where the pattern goes on if its next element matches the byte; -1 if it does not. */
function matchOne(pattern: Uint8Array, at: number, end: number, byte: number): number {
  switch (pattern[at]) {
    case QUESTION:
      return at + 1;
    case OPEN:
      return matchClass(pattern, at + 1, end, byte);
    case BACKSLASH:
      if (at + 1 < end) return pattern[at + 1] === byte ? at + 2 : -1;
      return byte === BACKSLASH ? at + 1 : -1;
    default:
      return pattern[at] === byte ? at + 1 : -1;
  }
}

/** A class without its end reaches to the end of the pattern. */
function matchClass(pattern: Uint8Array, from: number, end: number, byte: number): number {
  let at = from;
  const isNegated = at < end && pattern[at] === CARET;
  if (isNegated) at++;
  let matches = false;
  for (; ; at++) {
    if (at < end && pattern[at] === BACKSLASH && at + 1 < end) {
      at++;
      if (pattern[at] === byte) matches = true;
    } else if (at >= end) break;
    else if (pattern[at] === CLOSE) {
      at++;
      break;
    } else if (at + 2 < end && pattern[at + 1] === DASH) {
      const low = Math.min(pattern[at]!, pattern[at + 2]!);
      const high = Math.max(pattern[at]!, pattern[at + 2]!);
      at += 2;
      if (byte >= low && byte <= high) matches = true;
    } else if (pattern[at] === byte) matches = true;
  }
  return matches !== isNegated ? at : -1;
}
