/** Patterns for the few names that the front end itself lists: as the machine's, but the case of letters is ignored. */
import { matchesGlob } from '../machine/redis/glob.js';

/** @param pattern a byte a character, like the text */
export function matches(pattern: string, text: string): boolean {
  const [p, t] = [Buffer.from(pattern.toLowerCase(), 'latin1'), Buffer.from(text.toLowerCase(), 'latin1')];
  return matchesGlob(p, 0, p.length, t, 0, t.length);
}
