/**
 * The keys of a store in the order of their hashes (kv-walk.ts), without those that have ended: for SCAN and RANDOMKEY.
 */
import type { KvStore } from '../kv-store.js';
import { HASHES } from '../kv-table.js';
import type { KeyWalk } from '../kv-walk.js';
import { PASSED_KEYS_MAX } from './layout.js';

/** How often `randomKey` goes on behind PASSED_KEYS_MAX keys that have ended. */
const RANDOM_STEPS_MAX = 16;

export class KeyScan {
  /** The hash of the key that `next` returned last, 0 to 2³² − 1. */
  hash = 0;
  /**
   * When `next` has returned -1: where the scan goes on; 0: it is complete. A caller that stops earlier goes on at the hash
   * of a key that it leaves out; keys of one hash stay together, so it leaves out all of them.
   */
  cursor = 0;
  readonly #store: KvStore;
  readonly #walk: KeyWalk;
  #passed = 0;

  /** @param cursor 0 to 2³² − 1 */
  constructor(store: KvStore, cursor: number) {
    this.#store = store;
    this.#walk = store.walkFrom(cursor);
  }

  /** The entry id of the next key; -1 at the end, or after PASSED_KEYS_MAX keys that have ended. */
  next(): number {
    const walk = this.#walk;
    for (let id = walk.next(); id >= 0; id = walk.next()) {
      if (this.#passed >= PASSED_KEYS_MAX && walk.hash !== this.hash) {
        this.cursor = walk.hash;
        return -1;
      }
      this.hash = walk.hash;
      if (!this.#store.hasEnded(id)) return id;
      this.#passed++;
    }
    this.cursor = 0;
    return -1;
  }
}

/**
 * A key, or -1 if the store has none; also if no key is found behind very many that have ended.
 * @param random 0 to 2³² − 1
 */
export function randomKey(store: KvStore, random: number): number {
  let from = random % HASHES;
  for (let step = 0; step < RANDOM_STEPS_MAX; step++) {
    const scan = new KeyScan(store, from);
    const id = scan.next();
    if (id >= 0) return id;
    // At the end it begins anew, once.
    if (scan.cursor === 0 && from === 0) return -1;
    from = scan.cursor;
  }
  return -1;
}
