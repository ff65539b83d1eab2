/**
 * A rate limiter that all processes share: so many calls in a time, counted in one key that ends with that time. The
 * agreed time of the log decides when it begins anew, not the clock of any process.
 */
import { randomUUID } from 'node:crypto';
import { Client, StoreClient, type ClientOptions } from '../src/index.js';
import { runAsProgram } from './run.js';

export class RateLimiter {
  /** @param perMs how long a count lasts @param limit calls in that time */
  constructor(
    private readonly store: StoreClient,
    private readonly key: string,
    private readonly limit: number,
    private readonly perMs: number,
  ) {}

  /** Whether a call may be made now. */
  async take(): Promise<boolean> {
    for (;;) {
      const present = await this.store.get(this.key);
      const count = present === undefined ? 0 : Number(new TextDecoder().decode(present.value));
      if (count >= this.limit) return false;
      const { ok } = await this.store.put(this.key, String(count + 1), {
        // The first one begins the time; the others leave its end as it is.
        ...(present === undefined
          ? { ttl: this.perMs, if: { absent: true } }
          : { keep: true, if: { revision: present.revision } }),
      });
      if (ok) return true;
    }
  }
}

/** Twenty calls at once, of which five are let through; and one more when the time is over. */
export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ permitted: number; later: boolean }> {
  await using client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }) });
  const store = new StoreClient(client);
  const key = `rate ${randomUUID()}`; // only for this run
  const limiter = new RateLimiter(store, key, 5, 3_600_000);
  const answers = await Promise.all(Array.from({ length: 20 }, () => limiter.take()));
  await store.delete(key); // in place of an hour
  const later = await limiter.take();
  await store.delete(key);
  return { permitted: answers.filter(Boolean).length, later };
}

await runAsProgram(import.meta.url, main);
