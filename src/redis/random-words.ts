/**
 * Random numbers of 32 bits for operations. The system is asked for many at once: a question takes microseconds, which is
 * a tenth of what the front end does for a command of a single connection.
 */

const WORDS = 1024;

export class RandomWords {
  private readonly words = new Int32Array(WORDS);
  private at = WORDS;

  /** A signed int32. */
  next(): number {
    if (this.at === WORDS) {
      crypto.getRandomValues(this.words);
      this.at = 0;
    }
    return this.words[this.at++]!;
  }
}
