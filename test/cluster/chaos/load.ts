/**
 * What clients do during a chaos run, recorded. There are two kinds of keys. All clients race on shared keys (new ones
 * every few seconds, so that no key's history grows without bound). Other keys are written once, by one client: every
 * acknowledged one must be there in the end.
 */
import { KvClient } from '../../../src/client/kv-client.js';
import type { Client } from '../../../src/client/client.js';
import { RecordedKv, type KvOperation } from '../../../src/measure/load/recorded-kv.js';
import type { Random } from '../../../src/sim/random.js';

const SHARED_KEYS = 4;
const PERIOD_MS = 2_000;
const OPERATION_TIMEOUT_MS = 600;
/**
 * Longest pause between two operations of a process, ms: the relay and the replicas may have to share two cores with
 * the clients.
 */
const THINK_MS_MAX = 4;

export class Load {
  readonly recorded = new RecordedKv();
  /** Keys written once, and acknowledged: key → value. */
  readonly acknowledged = new Map<string, string>();
  readonly shared = new Set<string>();
  committed = 0;
  unknown = 0;
  /** Longest time in which nothing committed, ms. */
  longestPauseMs = 0;
  private lastCommitMs = performance.now();
  private readonly startedMs = performance.now();
  private running = true;
  private readonly leaving = new Set<Client>();
  private values = 0;
  private readonly done: { readonly client: Client; readonly ended: Promise<void> }[] = [];

  /** @param timeoutMs an operation that takes longer counts as unknown */
  constructor(private readonly timeoutMs = OPERATION_TIMEOUT_MS) {}

  /** Starts `processes` logical clients on a connection. */
  start(client: Client, processes: number, random: Random): void {
    const kv = new KvClient(client);
    // the start of the cluster does not count as a pause
    if (this.done.length === 0) this.lastCommitMs = performance.now();
    for (let i = 0; i < processes; i++)
      this.done.push({ client, ended: this.process(client, kv, random.fork(`process ${i}`)) });
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.done.map(({ ended }) => ended));
  }

  /** Ends what runs on one connection; the others continue. */
  async leave(client: Client): Promise<void> {
    this.leaving.add(client);
    await Promise.all(this.done.filter((each) => each.client === client).map(({ ended }) => ended));
  }

  /**
   * Reads everything back, in the same history. Returns the keys whose acknowledged value is missing, or that could not
   * be read.
   */
  async readBack(client: Client, lanes: number): Promise<string[]> {
    const kv = new KvClient(client);
    const keys = [...this.acknowledged.keys(), ...this.shared];
    const wrong: string[] = [];
    const reader = async (first: number): Promise<void> => {
      const process = this.recorded.newProcess();
      for (let i = first; i < keys.length; i += lanes) {
        const key = keys[i]!;
        const seen = await this.recorded.run(kv, process, { f: 'read', key }, 30_000);
        const expected = this.acknowledged.get(key);
        if (seen === undefined) {
          wrong.push(`${key}: not readable`);
          return;
        }
        if (expected !== undefined && seen.value !== expected)
          wrong.push(`${key}: ${String(seen.value)} instead of ${expected}`);
      }
    };
    await Promise.all(Array.from({ length: lanes }, (_, first) => reader(first)));
    return wrong;
  }

  /** Each client that was there during the trouble commits once more. Returns those that did not within `timeoutMs`. */
  async commitOnceMore(clients: readonly Client[], timeoutMs: number): Promise<number[]> {
    const results = await Promise.all(
      clients.map((client, i) =>
        this.recorded.run(
          new KvClient(client),
          this.recorded.newProcess(),
          { f: 'write', key: `last-${i}`, value: `v${++this.values}` },
          timeoutMs,
        ),
      ),
    );
    return results.flatMap((result, i) => (result === undefined ? [i] : []));
  }

  private async process(client: Client, kv: KvClient, random: Random): Promise<void> {
    let id = this.recorded.newProcess();
    const seen = new Map<string, string | null>();
    while (this.running && !this.leaving.has(client)) {
      const operation = this.choose(random, seen);
      const result = await this.recorded.run(kv, id, operation, this.timeoutMs);
      const nowMs = performance.now();
      if (result === undefined) {
        this.unknown++;
        id = this.recorded.newProcess();
      } else {
        this.committed++;
        this.longestPauseMs = Math.max(this.longestPauseMs, nowMs - this.lastCommitMs);
        this.lastCommitMs = nowMs;
        if (operation.f === 'read') seen.set(operation.key, result.value as string | null);
        else if (operation.key.startsWith('own-')) this.acknowledged.set(operation.key, operation.value);
      }
      await new Promise((resolve) => setTimeout(resolve, random.below(THINK_MS_MAX + 1)));
    }
  }

  private choose(random: Random, seen: ReadonlyMap<string, string | null>): KvOperation {
    const value = `v${++this.values}`;
    const draw = random.unit();
    if (draw < 0.2) return { f: 'write', key: `own-${value}`, value };
    const key = `k${Math.floor((performance.now() - this.startedMs) / PERIOD_MS)}-${random.below(SHARED_KEYS)}`;
    this.shared.add(key);
    if (draw < 0.6) return { f: 'read', key };
    if (draw < 0.85) return { f: 'write', key, value };
    return { f: 'cas', key, compare: seen.get(key) ?? null, value };
  }
}
