// The examples of the documentation, run against replicas on loopback.
import t, { type Test } from 'tap';
import { main as cachedReads } from '../examples/cached-reads.js';
import { main as counter } from '../examples/counter.js';
import { main as deadlines, putWithin } from '../examples/deadlines.js';
import { main as fencingLock } from '../examples/fencing-lock.js';
import { main as leaderElection } from '../examples/leader-election.js';
import { main as ownStateMachine, Maximum } from '../examples/own-state-machine.js';
import { main as rateLimiter } from '../examples/rate-limiter.js';
import { main as serviceDiscovery } from '../examples/service-discovery.js';
import { InOrder, main as testYourMachine, workload } from '../examples/test-your-machine.js';
import { main as workQueue } from '../examples/work-queue.js';
import { simulate } from '../src/testing/simulate.js';
import { Client } from '../src/client/client.js';
import { KvClient } from '../src/client/kv-client.js';
import { KvMachine } from '../src/machine/kv.js';
import type { ClusterConfig } from '../src/host/cluster-config.js';
import type { Replica } from '../src/server/replica.js';
import { clusterConfig, startReplicas } from './server/fixtures.js';

async function store(
  t: Test,
  features: readonly string[] = [],
): Promise<{ cluster: ClusterConfig; replicas: Replica[] }> {
  const cluster = { ...(await clusterConfig(3)), features: [...features] } as ClusterConfig;
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  return { cluster, replicas };
}

t.test('own-state-machine', async (t) => {
  t.same(await ownStateMachine(await clusterConfig(3)), [3, 9, 9, 9]);
  t.throws(() => new Maximum().restore(new Uint8Array(3)), /4 bytes, not 3/);
});

t.test('deadlines', async (t) => {
  const { cluster, replicas } = await store(t);
  t.same(await deadlines(cluster), { inTime: 'done', aborted: 'not executed', value: '42' });
  const client = await Client.connect({ cluster });
  t.teardown(() => client.close());
  await Promise.all(replicas.map((replica) => replica.close()));
  t.equal(await putWithin(new KvClient(client), 'answer', '44', 100), 'unknown', 'nobody answers');
});

t.test('counter', async (t) => {
  const { cluster } = await store(t);
  const sums = await counter(cluster);
  t.same(
    sums.map(Number).sort((a, b) => a - b),
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
});

t.test('fencing-lock', async (t) => {
  const { cluster } = await store(t);
  t.same(await fencingLock(cluster), {
    tokens: [1, 2, 3],
    written: ['first', 'second'],
    refused: 'token 1 is over, 2 was here',
  });
});

t.test('test-your-machine', async (t) => {
  const { wrong, right } = await testYourMachine();
  t.match(wrong, /^results-differ with seed \d+: replica \d executed entry \d+/);
  t.match(right, /^20 runs without a failure, \d+ operations committed$/);
  t.equal(simulate({ machine: () => new InOrder(), workload, seeds: [21, 25] }).failure, undefined);
});

t.test('leader-election', async (t) => {
  const { cluster } = await store(t, ['store']);
  t.same(await leaderElection(cluster), { led: ['one', 'two'], observed: ['one', 'two'], refused: 'fenced' });
});

t.test('work-queue', async (t) => {
  const { cluster } = await store(t, ['store']);
  const { done, late } = await workQueue(cluster);
  t.equal(done.length, 10);
  t.ok(done.every((by) => /^by [abc]$/.test(by)));
  t.equal(late, false);
});

t.test('service-discovery', async (t) => {
  const { cluster } = await store(t, ['store']);
  t.same(await serviceDiscovery(cluster), [[], ['10.0.0.1:80'], ['10.0.0.1:80', '10.0.0.2:80'], ['10.0.0.2:80']]);
});

t.test('rate-limiter', async (t) => {
  const { cluster } = await store(t, ['store']);
  t.same(await rateLimiter(cluster), { permitted: 5, later: true });
});

t.test('cached-reads', async (t) => {
  const { cluster } = await store(t, ['store']);
  const { hits, values } = await cachedReads(cluster);
  t.ok(hits > 0);
  t.same(values, ['old', 'new']);
});
