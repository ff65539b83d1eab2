/**
 * A cache in the process that a watch keeps right: a change of a key removes it from the cache. Reads from the cache cost
 * nothing and are behind the store by as much as a change takes to arrive; where that is too much, read the store.
 */
import { randomUUID } from 'node:crypto';
import { Client, JitPaxosError, StoreClient, type ClientOptions, type StoreValue } from '../src/index.js';
import { runAsProgram } from './run.js';

export class CachedReads implements AsyncDisposable {
  hits = 0;
  private readonly cached = new Map<string, StoreValue | undefined>();
  private readonly stop = new AbortController();
  /** All changes up to this revision have been taken into account. */
  private seen = 0;
  private readonly watching: Promise<void>;

  constructor(
    private readonly store: StoreClient,
    private readonly prefix: string,
  ) {
    this.watching = this.watch();
  }

  async get(key: string): Promise<StoreValue | undefined> {
    if (this.cached.has(key)) {
      this.hits++;
      return this.cached.get(key);
    }
    const before = this.seen;
    const found = await this.store.get(key);
    // What changed while it was read may have changed this key: then it is not kept.
    if (before > 0 && before === this.seen) this.cached.set(key, found);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await this.watching;
  }

  private async watch(): Promise<void> {
    while (!this.stop.signal.aborted) {
      this.cached.clear();
      try {
        this.seen = (await this.store.scan({ prefix: this.prefix, limit: 1 })).revision;
        for await (const { key, revision } of this.store.watch(this.prefix, {
          from: this.seen,
          signal: this.stop.signal,
        })) {
          this.seen = revision;
          this.cached.delete(new TextDecoder().decode(key));
        }
      } catch (error) {
        // Changes were missed, or the watch is over: nothing may be answered from the cache until it is watched again.
        this.cached.clear();
        this.seen = 0;
        if (this.stop.signal.aborted) return;
        if (!(error instanceof JitPaxosError)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }
}

export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ hits: number; values: string[] }> {
  await using client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }) });
  const store = new StoreClient(client);
  const prefix = `cache ${randomUUID()}/`; // only for this run
  await store.put(`${prefix}a`, 'old');
  await using cache = new CachedReads(store, prefix);
  const read = async (): Promise<string> => new TextDecoder().decode((await cache.get(`${prefix}a`))?.value);
  const values: string[] = [];
  while (cache.hits === 0) {
    values[0] = await read();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await store.put(`${prefix}a`, 'new');
  while (values.at(-1) !== 'new') {
    values[1] = await read();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await store.delete(`${prefix}a`);
  return { hits: cache.hits, values };
}

await runAsProgram(import.meta.url, main);
