/** The keys that a connection watches. The rule: they are bounded like an operation, and each is kept once. */
import type { WatchedKey } from '../machine/redis/codec.js';
import { WATCHED_BYTES } from '../machine/redis/layout.js';
import { textOf } from './resp-reader.js';

/** Most keys of a connection. */
const KEYS_MAX = 1024;

export class Watched {
  /** The revision that each had when it was watched first. Keys are a byte a character. */
  private readonly revisions = new Map<string, number>();
  private sum = 0;

  get size(): number {
    return this.revisions.size;
  }

  /** Bytes of an operation that they take. */
  get bytes(): number {
    return this.sum;
  }

  /**
   * Adds keys, all or none. Returns why none is added; undefined: they are watched.
   * @param bytesMax of all keys of the connection
   */
  add(found: readonly WatchedKey[], bytesMax: number): string | undefined {
    const added = new Map<string, number>();
    let sum = this.sum;
    for (const { key, revision } of found) {
      const text = textOf(key);
      if (this.revisions.has(text) || added.has(text)) continue;
      added.set(text, revision);
      sum += WATCHED_BYTES + key.length;
    }
    if (this.revisions.size + added.size > KEYS_MAX) return `ERR more than ${KEYS_MAX} keys are watched`;
    if (sum > bytesMax)
      return `ERR the watched keys have more than ${bytesMax} bytes, which this cluster does not take`;
    for (const [text, revision] of added) this.revisions.set(text, revision);
    this.sum = sum;
    return undefined;
  }

  /** As an operation has them. Allocates. */
  list(): WatchedKey[] {
    return [...this.revisions].map(([text, revision]) => ({ key: Buffer.from(text, 'latin1'), revision }));
  }

  clear(): void {
    this.revisions.clear();
    this.sum = 0;
  }
}
