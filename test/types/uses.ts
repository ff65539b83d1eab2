// Right uses of the public API. They are compiled, never run: see misuses.ts for what this is for.
import {
  Client,
  DEFAULT_LIMITS,
  expose,
  JitPaxosError,
  KvClient,
  StoreClient,
  type Leader,
  type StoreValue,
  KvError,
  KvMachine,
  lineLogger,
  MetricsServer,
  RedisFrontEnd,
  Replica,
  StatusClient,
  type ApplyContext,
  type ClusterConfig,
  type ErrorCode,
  type Operation,
  type Reply,
  type RestoreInPieces,
  type SnapshotInPieces,
  type StateMachine,
} from '../../src/index.js';

/** An exact type: neither wider nor narrower, and not `any`. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function holds<T extends true>(): T | undefined {
  return undefined;
}

export const cluster: ClusterConfig = {
  schema: 'jitpaxos.cluster/1',
  id: '00c0ffee12345678',
  replicas: ['127.0.0.1:7400'],
};

/** Every result is what the docs say, and nothing more is needed to use it. */
export async function keyValues(): Promise<void> {
  await using client = await Client.connect({ cluster: 'cluster.json', timeout: 2_000, transport: 'native' });
  const store = new KvClient(client);
  const stop = new AbortController();
  const value = await store.get('key', { signal: stop.signal, timeout: 100 });
  holds<Same<typeof value, Uint8Array<ArrayBufferLike> | undefined>>();
  await store.put(new Uint8Array(1), 'value');
  const removed = await store.delete('key');
  holds<Same<typeof removed, boolean>>();
  const swapped = await store.compareAndSet('key', null, 'value');
  holds<Same<typeof swapped, boolean>>();
  const sum = await store.increment('counter', -1n);
  holds<Same<typeof sum, bigint>>();
  const { entries, more } = await store.scan({ from: 'a', to: 'b', limit: 10 });
  holds<Same<typeof more, boolean>>();
  for (const entry of entries) holds<Same<typeof entry.key, Uint8Array<ArrayBufferLike>>>();
  const { commits, fastCommits } = client.stats();
  holds<Same<typeof commits | typeof fastCommits, number>>();
}

/** The store: what was found says which revision it is of, and a transaction's results say what they are of. */
export async function transactions(client: Client): Promise<void> {
  const store = new StoreClient(client);
  const found = await store.get('key');
  holds<Same<typeof found, StoreValue | undefined>>();
  if (found !== undefined) holds<Same<typeof found.revision, number>>();
  const { ok, ends } = await store.put('key', 'value', { ttl: 5_000, if: { absent: true }, timeout: 100 });
  holds<Same<typeof ok, boolean>>();
  holds<Same<typeof ends, number | undefined>>();
  const granted = await store.grant({ ttl: 10_000 });
  await store.put('key', 'value', { lease: granted });
  await using lease = await store.lease({ ttl: 10_000, margin: 100, timeout: 500 });
  holds<Same<typeof lease.signal, AbortSignal>>();
  await store.put('key', 'value', { lease });
  await using lock = await store.lock('name', { ttl: 10_000, wait: 500, signal: lease.signal });
  if (lock.isHeld()) await store.put('key', 'value', { fence: lock });
  await store.delete('key', { fence: { key: lock.key, token: lock.token } });
  await using permit = await store.semaphore('name', 3, { ttl: 10_000 });
  permit.throwIfLost();
  for await (const leader of store.leaders('name')) holds<Same<typeof leader, Leader | undefined>>();
  const renewed = await store.renew([lease, granted]);
  holds<Same<typeof renewed, readonly (number | undefined)[]>>();
  const { results } = await store.transact({
    if: [
      { key: 'a', revision: 5 },
      { key: 'b', absent: true },
      { key: 'c', value: 'v' },
    ],
    do: [{ put: 'a', value: 'v', lease }, { delete: 'b' }],
    else: [{ get: 'a' }, { range: { prefix: 'jobs/', limit: 10 } }],
  });
  for (const result of results) {
    if (result.kind === 'get') holds<Same<typeof result.found, StoreValue | undefined>>();
    if (result.kind === 'range') holds<Same<typeof result.next, Uint8Array | undefined>>();
  }
  const machine: StateMachine = new KvMachine();
  machine.raise?.(1);
}

/** Any machine can be written with the exported types alone; parameters that are not used may be left out. */
export class Length implements StateMachine {
  private value = 0;
  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    this.value = operation.length + context.index;
    reply.bytes[reply.offset] = this.value;
    reply.length = 1;
  }
  query(): void {
    this.value = 0;
  }
  snapshot(): Uint8Array {
    return Uint8Array.of(this.value);
  }
  restore(snapshot: Uint8Array): void {
    this.value = snapshot[0] ?? 0;
  }
  beginSnapshot(): SnapshotInPieces {
    const whole = this.snapshot();
    return { length: whole.length, step: () => whole, abort: () => undefined };
  }
  beginRestore(length: number): RestoreInPieces {
    let value = length;
    return {
      step: (piece) => void (value = piece[0] ?? 0),
      end: () => void (this.value = value),
      abort: () => undefined,
    };
  }
}

export async function replicas(): Promise<void> {
  await using replica = await Replica.start({
    cluster,
    id: 0,
    machine: new Length(),
    durability: 'fsync',
    idle: 'busy',
    late: 'reject',
    limits: { ...DEFAULT_LIMITS, operationBytes: 1_000 },
    timings: { syncIntervalUs: 1_000 },
    logger: lineLogger({ level: 'warn', format: 'json', write: (line) => void line }),
  });
  await Replica.start({ cluster, id: 1, machine: new KvMachine({ maxKeys: 10 }) });
  await MetricsServer.start('127.0.0.1:0', replica);
  await MetricsServer.start('0', replica, { serves: 'health', names: ['replica0.example.org'] });
  const front = await RedisFrontEnd.start({ cluster, listen: '127.0.0.1:0', users: 'users.json', maxClients: 100 });
  await MetricsServer.start('127.0.0.1:0', front);
  holds<Same<typeof front.feature, boolean | undefined>>();
  await front.close();
  const text = expose(replica.metrics());
  holds<Same<typeof text, string>>();
  const { view } = replica.status();
  holds<Same<typeof view, number>>();
}

export async function status(): Promise<void> {
  await using asked = await StatusClient.open({ cluster });
  for (const { report, silence } of await asked.ask()) {
    holds<Same<typeof silence, string | undefined>>();
    const version = report?.version;
    holds<Same<typeof version, string | undefined>>();
  }
}

/** One `instanceof` for all errors; the code says which one, and the compiler knows the codes. */
export function retry(error: unknown): boolean {
  if (error instanceof KvError) return error.code === 'kv-limit';
  if (!(error instanceof JitPaxosError)) return false;
  const code: ErrorCode = 'outcome-unknown';
  return error.retryable && error.code !== code && error.category !== 'invariant';
}
