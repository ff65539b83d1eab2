/**
 * The keys that a bench writes into the store of a running cluster. They have their own prefix, so that they touch nobody
 * else's data, and are removed at the end as far as possible. The bench reports what is left.
 */
import { workerKeys } from '../../console/settings.js';
import { Client } from '../../client/client.js';
import { KvClient } from '../../client/kv-client.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import { formatCount } from '../../console/units.js';

/** Prefix of every key that a bench writes. */
export const BENCH_PREFIX = 'jitpaxos-bench/';

const LANES = 32;
const OPERATION_TIMEOUT_MS = 5_000;
/** Removing a million keys would take longer than users wait. */
const REMOVE_LIMIT_MS = 30_000;

export class BenchKeys {
  constructor(
    private readonly cluster: string,
    private readonly prefix: string,
    private readonly count: number,
    private readonly choice: TransportChoice,
    private readonly limitMs = REMOVE_LIMIT_MS,
  ) {}

  /** Shown before anything is written. */
  get announcement(): string {
    return `store: writes up to ${formatCount(this.count)} keys from ${this.prefix}0 on into ${this.cluster}, and removes them at the end`;
  }

  /** Shown if nothing could be removed. */
  get abandoned(): string {
    return `store: up to ${formatCount(this.count)} keys from ${this.prefix}0 on may be left in ${this.cluster}; the next run with as many --keys removes them`;
  }

  /** Returns how many keys may be left. Never throws: the measurement is worth more than a clean store. */
  async remove(): Promise<number> {
    let done = 0;
    let client: Client | undefined;
    try {
      client = await Client.connect({
        cluster: this.cluster,
        ...workerKeys(),
        lanes: LANES,
        timeout: OPERATION_TIMEOUT_MS,
        ...this.choice,
      });
      const store = new KvClient(client);
      const deadline = performance.now() + this.limitMs;
      let next = 0;
      const lane = async (): Promise<void> => {
        while (next < this.count && performance.now() < deadline) {
          await store.delete(`${this.prefix}${next++}`);
          done++;
        }
      };
      await Promise.all(Array.from({ length: LANES }, lane));
    } catch {
      // the cluster is gone, or does not answer: the rest is left
    } finally {
      await client?.close().catch(() => undefined);
    }
    return this.count - done;
  }
}
