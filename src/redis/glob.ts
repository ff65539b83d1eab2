/** Patterns as Redis has them, for the few names that the front end itself lists. The case of letters is ignored. */

/** `*`, `?`, `[a-c]`, `[^a]` and `\`. Takes at most the product of both lengths. */
export function matches(pattern: string, text: string): boolean {
  const [p, t] = [pattern.toLowerCase(), text.toLowerCase()];
  let at = 0;
  let in_ = 0;
  let star = -1;
  let starIn = 0;
  while (in_ < t.length) {
    const next = at < p.length ? one(p, at, t[in_]!) : -1;
    if (p[at] === '*') {
      star = at++;
      starIn = in_;
    } else if (next >= 0) {
      at = next;
      in_++;
    } else if (star >= 0) {
      at = star + 1;
      in_ = ++starIn;
    } else return false;
  }
  while (p[at] === '*') at++;
  return at >= p.length;
}

/** Behind the part of the pattern that stands for this character; −1: it does not. */
function one(pattern: string, at: number, character: string): number {
  switch (pattern[at]) {
    case '?':
      return at + 1;
    case '\\':
      if (at + 1 < pattern.length) return pattern[at + 1] === character ? at + 2 : -1;
      return character === '\\' ? at + 1 : -1;
    case '[': {
      const isNot = pattern[at + 1] === '^';
      let from = at + (isNot ? 2 : 1);
      let isIn = false;
      for (; from < pattern.length && pattern[from] !== ']'; from++) {
        if (pattern[from] === '\\' && from + 1 < pattern.length) from++;
        if (pattern[from + 1] === '-' && from + 2 < pattern.length) {
          const [low, high] = [pattern[from]!, pattern[from + 2]!].sort();
          isIn ||= low! <= character && character <= high!;
          from += 2;
        } else isIn ||= pattern[from] === character;
      }
      return isIn !== isNot ? Math.min(from + 1, pattern.length) : -1;
    }
    default:
      return pattern[at] === character ? at + 1 : -1;
  }
}
