/**
 * What Redis clients do during a chaos run, recorded. All clients race on shared keys, by SET, SET IFEQ, transactions
 * under WATCH and GET, and append to shared lists; new ones every few seconds, so that no history grows without bound.
 * Other keys are written once: every acknowledged one must be there in the end. And each client sends a write and a read
 * of a key of its own at once: the read must see the write.
 *
 * A command that ioredis may have sent again stands in the history once for each time, all but the last of unknown
 * outcome.
 */
import type { HistoryEvent, HistoryOperation } from '../../../src/sim/history.js';
import type { Random } from '../../../src/sim/random.js';
import type { Append, ListRead } from './lists.js';
import type { Outcome, RedisClient, Value } from './redis-clients.js';
import { sleep } from './verdict.js';

const SHARED_KEYS = 4;
const SHARED_LISTS = 3;
const PERIOD_MS = 2_000;
const THINK_MS_MAX = 4;
/** A command that has no reply by then counts as unanswered: the front end promises one earlier. */
const ANSWER_LIMIT_MS = 20_000;
const KEYS_A_READ = 100;

type Operation = Pick<HistoryOperation, 'f' | 'key' | 'value'>;

/** What is known of an outcome. `refused`: surely not executed. */
type Known = { readonly value: Value } | 'unknown' | 'refused';

interface Recorded extends Operation {
  readonly invokedNs: number;
  readonly completed?: { readonly ns: number; readonly value?: string | null; readonly result?: boolean };
}

export class RedisLoad {
  /** Keys written once, and acknowledged: key → value. */
  readonly acknowledged = new Map<string, string>();
  readonly appends: Append[] = [];
  readonly listReads: ListRead[] = [];
  committed = 0;
  unknown = 0;
  /** Replies that say that nothing was executed. */
  refused = 0;
  /** Longest time in which nothing was acknowledged, ms. */
  longestPauseMs = 0;
  /** Writes that were followed by a read at once. */
  pairs = 0;
  /** Reads that did not see the write before them. */
  readonly blind: string[] = [];
  /** What ioredis was told, by its words: errors of the server, and its own. */
  readonly errors = new Map<string, number>();
  /** Replies that no command of the load may have. */
  readonly wrong: string[] = [];
  private readonly operations: Recorded[] = [];
  private readonly shared = new Set<string>();
  private readonly lists = new Set<string>();
  private readonly startedMs = performance.now();
  private lastCommitMs = performance.now();
  private isRunning = true;
  private values = 0;
  private readonly ended: Promise<void>[] = [];

  start(client: RedisClient, random: Random): void {
    if (this.ended.length === 0) this.lastCommitMs = performance.now();
    this.ended.push(this.process(client, random));
  }

  async stop(): Promise<void> {
    this.isRunning = false;
    await Promise.all(this.ended);
  }

  /** In the order of time, for the checker. */
  get events(): HistoryEvent[] {
    const events: HistoryEvent[] = [];
    for (const [process, { f, key, value, invokedNs, completed }] of this.operations.entries()) {
      events.push({ process, type: 'invoke', f, key, value, time: invokedNs });
      if (completed === undefined) continue;
      const { ns, value: seen, result } = completed;
      const end: HistoryEvent = { process, type: 'ok', f, key, value: f === 'read' ? seen! : value, time: ns };
      events.push(result === undefined ? end : { ...end, result });
    }
    return events.sort((a, b) => a.time - b.time);
  }

  /** Each client writes once more. Returns those whose write is not acknowledged within `limitMs`. */
  async commitOnceMore(clients: readonly RedisClient[], limitMs: number): Promise<string[]> {
    const results = await Promise.all(
      clients.map(async (client) => {
        const value = this.newValue();
        const outcome = await within(limitMs, client.ask(['SET', `own-${value}`, value]));
        if (typeof outcome !== 'object' || !('value' in outcome)) return client.name;
        this.acknowledged.set(`own-${value}`, value);
        return undefined;
      }),
    );
    return results.filter((name) => name !== undefined);
  }

  /** Reads all keys back. Returns those whose acknowledged value is missing, or that could not be read. */
  async readBack(client: RedisClient): Promise<string[]> {
    const wrong: string[] = [];
    const own = [...this.acknowledged];
    for (let from = 0; from < own.length; from += KEYS_A_READ) {
      const part = own.slice(from, from + KEYS_A_READ);
      const outcome = await client.ask(['MGET', ...part.map(([key]) => key)]);
      const values = valuesOf(outcome);
      for (const [i, [key, value]] of part.entries())
        if (values?.[i] !== value)
          wrong.push(`${key}: ${values === undefined ? said(outcome) : values[i]} instead of ${value}`);
    }
    for (const key of this.shared) {
      const known = await this.run(client, { f: 'read', key, value: null }, () => client.ask(['GET', key]), readOf);
      if (typeof known === 'string') wrong.push(`${key}: not readable`);
    }
    return wrong;
  }

  /** What the lists hold; one that cannot be read is missing. */
  async readLists(client: RedisClient): Promise<Map<string, readonly string[]>> {
    const found = new Map<string, readonly string[]>();
    for (const list of this.lists) {
      const values = valuesOf(await client.ask(['LRANGE', list, '0', '-1']));
      if (values !== undefined) found.set(list, values as readonly string[]);
    }
    return found;
  }

  private async process(client: RedisClient, random: Random): Promise<void> {
    /** By shared key: what it held when it was last read. */
    const seen = new Map<string, string | null>();
    while (this.isRunning) {
      const draw = random.unit();
      const period = Math.floor((performance.now() - this.startedMs) / PERIOD_MS);
      const key = `k${period}-${random.below(SHARED_KEYS)}`;
      const list = `l${period}-${random.below(SHARED_LISTS)}`;
      if (draw < 0.15) await this.writeOnce(client);
      else if (draw < 0.25) await this.writeAndRead(client);
      else if (draw < 0.45) await this.append(client, list);
      else if (draw < 0.5) await this.readList(client, list);
      else if (draw < 0.7) await this.read(client, key, seen);
      else if (draw < 0.8) await this.write(client, key);
      else if (draw < 0.92) await this.swap(client, key, seen.get(key) ?? null);
      else await this.transaction(client, key);
      await sleep(random.below(THINK_MS_MAX + 1));
    }
  }

  private async writeOnce(client: RedisClient): Promise<void> {
    const value = this.newValue();
    const known = await this.ask(client, () => client.ask(['SET', `own-${value}`, value]));
    if (typeof known === 'object') this.acknowledged.set(`own-${value}`, value);
  }

  private async writeAndRead(client: RedisClient): Promise<void> {
    const value = this.newValue();
    const key = `pair-${client.name}`;
    const { closes } = client;
    const [written, read] = await Promise.all([
      this.ask(client, () => client.ask(['SET', key, value])),
      this.ask(client, () => client.ask(['GET', key])),
    ]);
    // Over two connections there is no order.
    if (typeof written !== 'object' || typeof read !== 'object' || client.closes !== closes) return;
    this.pairs++;
    if (read.value !== value) this.blind.push(`${key}: ${String(read.value)} after ${value} was set`);
  }

  private async read(client: RedisClient, key: string, seen: Map<string, string | null>): Promise<void> {
    const known = await this.run(client, { f: 'read', key, value: null }, () => client.ask(['GET', key]), readOf);
    if (typeof known === 'object') seen.set(key, known.value as string | null);
  }

  private async write(client: RedisClient, key: string): Promise<void> {
    const value = this.newValue();
    await this.run(
      client,
      { f: 'write', key, value },
      () => client.ask(['SET', key, value]),
      () => ({}),
    );
  }

  private async swap(client: RedisClient, key: string, compare: string | null): Promise<void> {
    const value = this.newValue();
    const words = compare === null ? ['SET', key, value, 'NX'] : ['SET', key, value, 'IFEQ', compare];
    await this.run(
      client,
      { f: 'cas', key, value: [compare, value] },
      () => client.ask(words),
      (reply) => ({
        result: reply === 'OK',
      }),
    );
  }

  /** WATCH, GET, and a transaction that writes. It fails if the key has changed meanwhile. */
  private async transaction(client: RedisClient, key: string): Promise<void> {
    const { closes } = client;
    const watching = await this.ask(client, () => client.ask(['WATCH', key]));
    if (typeof watching !== 'object') return;
    const read = await this.run(client, { f: 'read', key, value: null }, () => client.ask(['GET', key]), readOf);
    if (typeof read !== 'object') return;
    const compare = read.value as string | null;
    const value = this.newValue();
    const invokedNs = nowNs();
    const known = await this.ask(client, () =>
      client.transaction([
        ['GET', key],
        ['SET', key, value],
        ['GET', key],
      ]),
    );
    this.shared.add(key);
    if (known === 'refused') return;
    if (client.closes !== closes) {
      // Another connection watches nothing: it may have been a plain write, and more than one.
      for (let i = closes; i <= client.closes; i++) this.operations.push({ f: 'write', key, value, invokedNs });
      return;
    }
    const operation: Operation = { f: 'cas', key, value: [compare, value] };
    if (known === 'unknown') this.operations.push({ ...operation, invokedNs });
    // Whoever set the same value again changed the key, so a transaction that fails has seen nothing for certain.
    else if (known.value !== null) {
      this.operations.push({ ...operation, invokedNs, completed: { ns: nowNs(), result: true } });
      const expected = JSON.stringify([compare, 'OK', value]);
      if (JSON.stringify(known.value) !== expected)
        this.wrong.push(`a transaction on ${key} says ${JSON.stringify(known.value)}, not ${expected}`);
    }
  }

  private async append(client: RedisClient, list: string): Promise<void> {
    const element = this.newValue();
    this.lists.add(list);
    const invokedMs = performance.now();
    const { closes } = client;
    const known = await this.ask(client, () => client.ask(['RPUSH', list, element]));
    if (known === 'refused') return;
    const repeats = client.repeats ? client.closes - closes : 0;
    const length = typeof known === 'object' ? Number(known.value) : undefined;
    const completedMs = length === undefined ? undefined : performance.now();
    this.appends.push({ list, element, invokedMs, completedMs, length, repeats });
  }

  private async readList(client: RedisClient, list: string): Promise<void> {
    const invokedMs = performance.now();
    const known = await this.ask(client, () => client.ask(['LRANGE', list, '0', '-1']));
    if (typeof known !== 'object') return;
    this.listReads.push({
      list,
      invokedMs,
      completedMs: performance.now(),
      elements: known.value as readonly string[],
    });
  }

  /** One operation of the history. @param completion what its reply says */
  private async run(
    client: RedisClient,
    operation: Operation,
    send: () => Promise<Outcome>,
    completion: (reply: Value) => { readonly value?: string | null; readonly result?: boolean },
  ): Promise<Known> {
    this.shared.add(operation.key);
    const invokedNs = nowNs();
    const { closes } = client;
    const known = await this.ask(client, send);
    const { operations } = this;
    const repeats = client.repeats && operation.f !== 'read' ? client.closes - closes : 0;
    for (let i = 0; i < repeats; i++) operations.push({ ...operation, invokedNs });
    if (typeof known === 'object')
      operations.push({ ...operation, invokedNs, completed: { ns: nowNs(), ...completion(known.value) } });
    else if (known === 'unknown') operations.push({ ...operation, invokedNs });
    return known;
  }

  private async ask(client: RedisClient, send: () => Promise<Outcome>): Promise<Known> {
    const outcome = await within(ANSWER_LIMIT_MS, send());
    if (outcome === undefined) this.wrong.push(`${client.name}: no reply within ${ANSWER_LIMIT_MS / 1000} s`);
    if (typeof outcome === 'object' && 'value' in outcome) {
      const now = performance.now();
      this.committed++;
      this.longestPauseMs = Math.max(this.longestPauseMs, now - this.lastCommitMs);
      this.lastCommitMs = now;
      return outcome;
    }
    const error = typeof outcome === 'object' ? outcome.error : '';
    if (client.repeats) this.errors.set(error, (this.errors.get(error) ?? 0) + 1);
    if (error.startsWith('TRYAGAIN')) {
      this.refused++;
      return 'refused';
    }
    // ioredis has words of its own for what it gave up.
    if (error !== '' && !error.startsWith('INDOUBT') && !client.repeats) this.wrong.push(`${client.name}: ${error}`);
    this.unknown++;
    return 'unknown';
  }

  private newValue(): string {
    return `v${++this.values}`;
  }
}

const readOf = (reply: Value): { value: string | null } => ({ value: reply as string | null });

function valuesOf(outcome: Outcome): readonly Value[] | undefined {
  return typeof outcome === 'object' && 'value' in outcome && Array.isArray(outcome.value) ? outcome.value : undefined;
}

function said(outcome: Outcome): string {
  return typeof outcome === 'object' && 'error' in outcome ? outcome.error : JSON.stringify(outcome);
}

/** Undefined: it took longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(resolve, ms, undefined)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function nowNs(): number {
  return Math.round(performance.now() * 1e6);
}
