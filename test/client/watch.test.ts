/** StoreClient.watch over replicas in this process, one of which is stopped. */
import { getEventListeners } from 'node:events';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import { StoreClient } from '../../src/client/store-client.js';
import type { StoreChange } from '../../src/client/watch-reader.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { Replica } from '../../src/server/replica.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const text = ({ kind, key }: StoreChange): string => `${kind} ${Buffer.from(key).toString()}`;

async function started(
  t: Test,
  features: readonly string[],
  machine = (): KvMachine => new KvMachine(),
): Promise<{ client: Client; cluster: ClusterConfig; store: StoreClient; replicas: Replica[] }> {
  const cluster = { ...(await clusterConfig(3)), features: [...features] } as ClusterConfig;
  const replicas = await startReplicas(cluster, machine);
  const client = await Client.connect({ cluster, logger: silentLogger, timeout: 60_000, connectTimeout: 60_000 });
  t.teardown(async () => {
    await client.close();
    for (const replica of replicas) await replica.close();
  });
  return { client, cluster, store: new StoreClient(client), replicas };
}

t.test('changes from a revision, with values, and from the call on', async (t) => {
  const { store } = await started(t, ['store']);
  const first = await store.put('a/1', 'one');
  await store.put('b', 'x');
  await store.transact({ do: [{ put: 'a/2', value: 'two' }, { delete: 'a/1' }] });
  const watch = store.watch('a/', { from: first.revision - 1, values: true });
  const seen: string[] = [];
  for await (const change of watch) {
    seen.push(text(change));
    const value = change.value === undefined ? undefined : Buffer.from(change.value).toString();
    // The others may be gone again when they are told.
    if (seen.length === 2) t.equal(value, 'two');
    else if (change.kind !== 'put') t.equal(value, undefined);
    if (seen.length === 3) await store.put('a/3', 'three', { ttl: 30 });
    if (seen.length === 5) break;
  }
  t.strictSame(seen, ['put a/1', 'put a/2', 'delete a/1', 'put a/3', 'expire a/3']);
  t.strictSame(await watch.next(), { done: true, value: undefined }, 'left is over');

  await using present = store.watch(['none', 'a/']);
  await store.get('a/1');
  const next = present.next();
  const last = await store.put('a/9', 'nine');
  t.match(await next, { value: { kind: 'put', value: undefined, revision: last.revision } });
});

t.test('a replica that is stopped: another one goes on, and nothing is missing', async (t) => {
  const { client, store, replicas } = await started(t, ['store']);
  const begun = await store.put('begin', '');
  const watches = Array.from({ length: 5 }, () => store.watch('k', { from: begun.revision })[Symbol.asyncIterator]());
  const collected = watches.map(async (watch) => {
    const keys: string[] = [];
    for (let i = 0; i < 300; i++) {
      const { value } = await watch.next();
      keys.push(Buffer.from(value!.key).toString());
    }
    return keys;
  });
  const expected = Array.from({ length: 300 }, (_, i) => `k${i}`);
  for (const [i, key] of expected.entries()) {
    await store.put(key, 'x');
    // Members serve; one of them is gone from here on.
    if (i === 150) await replicas[(client.stats().view + 1) % 3]!.close();
  }
  for (const keys of await Promise.all(collected)) t.strictSame(keys, expected);
  const open = watches[0]!.next();
  await client.close();
  await t.rejects(open, { code: 'client-closed' });
});

t.test('a client that closes, and a replica that does, tell the other end', async (t) => {
  const { store, replicas, cluster } = await started(t, ['store']);
  const begun = await store.put('begin', '');
  const other = await Client.connect({ cluster, logger: silentLogger });
  const open = (): number => replicas.reduce((sum, replica) => sum + replica.status().watches!.open, 0);
  const until = async (count: number): Promise<void> => {
    while (open() !== count) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const forgotten = (): number => replicas.reduce((sum, replica) => sum + replica.status().watches!.forgotten, 0);
  const watch = new StoreClient(other).watch('k', { from: begun.revision });
  const next = watch.next();
  await until(1);
  await other.close();
  await t.rejects(next, { code: 'client-closed' });
  await until(0);
  t.equal(forgotten(), 0, 'no replica had to notice');

  const mine = store.watch('k', { from: begun.revision });
  await until(1);
  const at = replicas.findIndex((replica) => replica.status().watches!.open > 0);
  const asked = replicas.map((replica) => replica.status().watches!.refused);
  await replicas[at]!.close();
  t.equal(replicas[at]!.status().watches!.refused, asked[at]! + 1, 'it tells its watch');
  await store.put('k', 'x');
  t.match(await mine.next(), { value: { kind: 'put' } }, 'another one goes on');
});

t.test('bad input, a signal, and replicas that keep nothing', async (t) => {
  const { store } = await started(t, ['store'], () => new KvMachine({ changes: 0 }));
  await t.rejects(store.watch('a').next(), { code: 'watch-refused' });
  t.throws(() => store.watch([]), { code: 'option-invalid' });
  t.throws(() => store.watch('a'.repeat(1025)), { code: 'option-invalid' });
  t.throws(() => store.watch('a', { from: -1 }), { code: 'option-invalid' });
  t.throws(() => store.watch('a', { form: 1 } as object), { code: 'option-invalid' });
  const aborting = new AbortController();
  const watch = store.watch('a', { signal: aborting.signal });
  const next = watch.next();
  aborting.abort();
  await t.rejects(next, { code: 'aborted' });
  t.strictSame(await watch.next(), { done: true, value: undefined });
});

t.test('a watch that is over leaves no listener on its signal, however it ended', async (t) => {
  const { client, store } = await started(t, ['store']);
  const { signal } = new AbortController();
  const listeners = (of = signal): number => getEventListeners(of, 'abort').length;
  const left = store.watch('a', { from: 0, signal });
  t.equal(listeners(), 1);
  await left.return();
  t.equal(listeners(), 0, 'left');
  const aborted = AbortSignal.abort();
  await t.rejects(store.watch('a', { from: 0, signal: aborted }).next(), { code: 'aborted' });
  t.equal(listeners(aborted), 0, 'aborted before it began');
  const open = store.watch('a', { from: 0, signal });
  const next = open.next();
  await client.close();
  await t.rejects(next, { code: 'client-closed' });
  t.equal(listeners(), 0, 'closed with its client');
  for (const from of [0, undefined]) {
    await t.rejects(store.watch('a', { ...(from === undefined ? {} : { from }), signal }).next(), {
      code: 'client-closed',
    });
    t.equal(listeners(), 0, 'the client was closed before');
  }
});

t.test('a reader that is too slow is told, after what it has', async (t) => {
  const { store } = await started(t, ['store'], () => new KvMachine({ changes: 64 }));
  const begun = await store.put('begin', '');
  const value = 'v'.repeat(20_000);
  const watch = store.watch('k', { from: begun.revision });
  await t.resolves(store.put('k', value));
  t.match(await watch.next(), { value: { kind: 'put' } });
  // It acknowledges none of these: they are more than it keeps, and then more than a replica keeps.
  const names = Array.from({ length: 40 }, (_, i) => `k${i}`.padEnd(1000));
  for (let round = 0; round < 40; round++) await Promise.all(names.map((name) => store.put(name, '')));
  let revision = 0;
  let failure: unknown;
  try {
    for (;;) {
      const { value: change } = await watch.next();
      if (change!.revision !== revision + 1 && revision > 0) t.fail('a gap that is not told');
      revision = change!.revision;
    }
  } catch (error) {
    failure = error;
  }
  t.match(failure, { code: 'watch-compacted' });
});
