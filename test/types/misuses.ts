// Wrong uses of the public API that the compiler must refuse. `tsc` fails if one of them compiles, so a type that was
// loosened by mistake is found. Each one has its reason. scripts/check-package.mjs compiles this folder again in a
// project that has installed the package, with the import of src/index.js turned into 'jitpaxos', and likewise for
// every other entry of package.json's `exports`.
import {
  Client,
  type KvClient,
  type StoreClient,
  type KvError,
  KvMachine,
  lineLogger,
  MetricsServer,
  RedisFrontEnd,
  openClock,
  Replica,
  StatusClient,
  type ApplyContext,
  type CallOptions,
  type ClusterConfig,
  type ErrorCode,
  type Operation,
  type Reply,
  type StateMachine,
} from '../../src/index.js';
import { cluster, Length } from './uses.js';

const machine = new Length();

export const clusters: ClusterConfig[] = [
  // @ts-expect-error: another version of the file has another schema
  { schema: 'jitpaxos.cluster/2', id: '00c0ffee12345678', replicas: ['127.0.0.1:7400'] },
  // @ts-expect-error: a cluster has replicas
  { schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678' },
  // @ts-expect-error: an address is a string, not a port
  { schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678', replicas: [7400] },
];

export async function options(): Promise<void> {
  // @ts-expect-error: an option that does not exist, as a misspelt one
  await Client.connect({ cluster, timeOut: 2_000 });
  // @ts-expect-error: without a cluster there is nothing to connect to
  await Client.connect({ timeout: 2_000 });
  // @ts-expect-error: milliseconds are a number
  await Client.connect({ cluster, timeout: '2s' });
  // @ts-expect-error: there is no such transport
  await Client.connect({ cluster, transport: 'tcp' });
  // @ts-expect-error: a client has no durability
  await Client.connect({ cluster, durability: 'fsync' });
  // @ts-expect-error: there is no such durability
  await Replica.start({ cluster, id: 0, machine, durability: 'disk' });
  // @ts-expect-error: the id is a number, also if it comes from the environment
  await Replica.start({ cluster, id: '0', machine });
  // @ts-expect-error: a replica has a machine
  await Replica.start({ cluster, id: 0 });
  // @ts-expect-error: the machine itself, not its class
  await Replica.start({ cluster, id: 0, machine: Length });
  // @ts-expect-error: there is no such way to wait
  await Replica.start({ cluster, id: 0, machine, idle: 'spin' });
  // @ts-expect-error: there is no such rule for late requests
  await Replica.start({ cluster, id: 0, machine, late: 'drop' });
  // @ts-expect-error: a limit that does not exist
  await Replica.start({ cluster, id: 0, machine, limits: { operations: 5 } });
  // @ts-expect-error: a time of a client, not of a replica
  await Replica.start({ cluster, id: 0, machine, timings: { retryUs: 5 } });
  // @ts-expect-error: a logger has three functions
  await Replica.start({ cluster, id: 0, machine, logger: { info: () => undefined } });
  // @ts-expect-error: console.log is no logger
  await StatusClient.open({ cluster, logger: console.log });
  // @ts-expect-error: there is no such level
  lineLogger({ level: 'debug', format: 'json', write: () => undefined });
  // @ts-expect-error: a client has no health to serve
  await MetricsServer.start('127.0.0.1:0', {} as Client);
  // @ts-expect-error: it is `serves`
  await MetricsServer.start('0', {} as Replica, { only: 'health' });
  // @ts-expect-error: a port alone is no address
  await RedisFrontEnd.start({ cluster, listen: 6379 });
  // @ts-expect-error: a certificate without its key
  await RedisFrontEnd.start({ cluster, tls: { cert: 'cert.pem' } });
  // @ts-expect-error: a clock is named by a string
  openClock(0);
  // @ts-expect-error: an option of another machine
  new KvMachine({ keys: 5 });
  // @ts-expect-error: made by Client.connect, which waits until it is connected
  new Client({ cluster });
  // @ts-expect-error: made by Replica.start
  new Replica({ cluster, id: 0, machine });
}

export async function transactions(store: StoreClient): Promise<void> {
  // @ts-expect-error: one of absent, present and revision
  await store.put('key', 'value', { if: { value: 'v' } });
  // @ts-expect-error: a lease, not its number
  await store.put('key', 'value', { lease: 5 });
  // @ts-expect-error: a time to live is given
  await store.lease({});
  // @ts-expect-error: a lock has a time to live
  await store.lock('name', {});
  // @ts-expect-error: a lock, not its token
  await store.put('key', 'value', { fence: 5 });
  // @ts-expect-error: how many permits there are
  await store.semaphore('name', { ttl: 10_000 });
  // @ts-expect-error: the branches are do and else
  await store.transact({ success: [] });
  // @ts-expect-error: a put has a value
  await store.transact({ do: [{ put: 'a' }] });
  // @ts-expect-error: an end may be missing
  (await store.put('key', 'value')).ends.toFixed();
}

export async function calls(client: Client, store: KvClient): Promise<void> {
  // @ts-expect-error: values are bytes or text
  await store.put('key', 5);
  // @ts-expect-error: a value is given; delete removes
  await store.put('key');
  // @ts-expect-error: keys are bytes or text
  await store.get(5);
  // @ts-expect-error: absent is null, so that a forgotten argument is not taken for it
  await store.compareAndSet('key', undefined, 'value');
  // @ts-expect-error: by a whole number
  await store.increment('key', '1');
  // @ts-expect-error: the value may be absent
  (await store.get('key')).length;
  // @ts-expect-error: a counter is a bigint
  (await store.increment('key')) + 1;
  // @ts-expect-error: a number of entries
  await store.scan({ limit: '10' });
  // @ts-expect-error: an option that does not exist
  await store.scan({ prefix: 'a' });
  // @ts-expect-error: operations are bytes
  await client.execute('text');
  // @ts-expect-error: the signal, not its controller
  await client.execute(new Uint8Array(1), { signal: new AbortController() });
  // @ts-expect-error: a deadline is no option
  await client.query(new Uint8Array(1), { deadline: 5 });
  // @ts-expect-error: what it has counted is read only
  client.stats().commits = 0;
  // @ts-expect-error: options are read only
  (({}) as CallOptions).timeout = 5;
  // @ts-expect-error: the numbers come from stats()
  client.commits;
}

// @ts-expect-error: a machine can be restored
export class Unrestorable implements StateMachine {
  apply(): void {}
  query(): void {}
  snapshot(): Uint8Array {
    return new Uint8Array(0);
  }
}

export class Wrong implements StateMachine {
  // @ts-expect-error: an operation is bytes within an array, not a text
  apply(operation: string): void {
    operation.trim();
  }
  // @ts-expect-error: the fourth argument does not exist
  query(operation: Operation, context: ApplyContext, reply: Reply, now: number): void {
    reply.length = operation.length + context.index + now;
  }
  // @ts-expect-error: a snapshot is taken at once; a promise would be of a later state
  async snapshot(): Promise<Uint8Array> {
    return new Uint8Array(0);
  }
  // @ts-expect-error: a snapshot is bytes
  restore(snapshot: string): void {
    snapshot.trim();
  }
  // @ts-expect-error: what is begun has to be ended or given up
  beginRestore(): { step(piece: Uint8Array): void } {
    return { step: () => undefined };
  }
}

export function fields(operation: Operation, context: ApplyContext, reply: Reply): void {
  // @ts-expect-error: bytes, offset and length; there is no copy
  operation.data;
  // @ts-expect-error: a timestamp is two halves, since a number cannot hold it
  context.timestamp;
  // @ts-expect-error: the result is written to `bytes`
  reply.value = 5;
}

export function codes(error: KvError): boolean {
  // @ts-expect-error: there is no such code
  const code: ErrorCode = 'timeout';
  // @ts-expect-error: an error of the store has a code of the store
  return error.code === 'port-in-use' && code !== 'option-invalid';
}
