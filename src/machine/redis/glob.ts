/**
 * Patterns of KEYS and of MATCH, as Redis compares them: `*`, `?`, `[a-z]`, `[^a]` and a backslash before a character that
 * stands for itself. Bytes are compared.
 *
 * After a star that could not be matched with what follows it, earlier stars need not be tried again. So the steps stay
 * within the product of the lengths, and a little more. They are counted, for who compares has a bound on them.
 */
const STAR = 0x2a;
const QUESTION = 0x3f;
const OPEN = 0x5b;
const CLOSE = 0x5d;
const CARET = 0x5e;
const BACKSLASH = 0x5c;
const DASH = 0x2d;

/** Whether the text matches. */
export function matchesGlob(
  pattern: Uint8Array,
  patternOffset: number,
  patternLength: number,
  text: Uint8Array,
  textOffset: number,
  textLength: number,
): boolean {
  return globSteps(pattern, patternOffset, patternLength, text, textOffset, textLength) > 0;
}

/** How many bytes of the pattern were looked at, at least 1: positive if the text matches, otherwise negative. */
export function globSteps(
  pattern: Uint8Array,
  patternOffset: number,
  patternLength: number,
  text: Uint8Array,
  textOffset: number,
  textLength: number,
): number {
  const patternEnd = patternOffset + patternLength;
  const textEnd = textOffset + textLength;
  let p = patternOffset;
  let t = textOffset;
  /** Where to go on if what follows the last star does not match: it takes one byte more. */
  let starAt = -1;
  let starText = 0;
  let steps = 1;
  for (;;) {
    if (p < patternEnd && pattern[p] === STAR) {
      for (; p < patternEnd && pattern[p] === STAR; p++) steps++;
      if (p === patternEnd) return steps;
      starAt = p;
      starText = t;
      continue;
    }
    if (t === textEnd) {
      return p === patternEnd ? steps : -steps;
    }
    let matches = false;
    if (p < patternEnd) {
      const next = matchOne(pattern, p, patternEnd, text[t]!);
      matches = next > 0;
      steps += Math.abs(next) - p;
      if (matches) p = next;
    } else steps++;
    if (matches) {
      t++;
      continue;
    }
    if (starAt < 0) return -steps;
    p = starAt;
    t = ++starText;
  }
}

/** Where the pattern goes on behind its next element: positive if that matches the byte, otherwise negative. */
function matchOne(pattern: Uint8Array, at: number, end: number, byte: number): number {
  switch (pattern[at]) {
    case QUESTION:
      return at + 1;
    case OPEN:
      return matchClass(pattern, at + 1, end, byte);
    case BACKSLASH:
      if (at + 1 < end) return pattern[at + 1] === byte ? at + 2 : -(at + 2);
      return byte === BACKSLASH ? at + 1 : -(at + 1);
    default:
      return pattern[at] === byte ? at + 1 : -(at + 1);
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
  return matches !== isNegated ? at : -at;
}
