// Features are switched on in clusters that are in use: by the command, on real processes, and they stay on.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { jitpaxos } from './processes.js';

const TIMEOUT_MS = 60_000;
const NAME = 'session-quotas';

async function features(cluster: LocalCluster): Promise<ReplicaStatusReport['features'][]> {
  return (await cluster.ask('stats')).map(
    (answer) => (answer?.status as unknown as ReplicaStatusReport | undefined)?.features,
  );
}

t.test('an old cluster: all replicas are asked, then all change, and a restart keeps it', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'os',
    authenticated: true,
    features: [],
  });
  const run = (...args: string[]): ReturnType<typeof jitpaxos> =>
    jitpaxos(['features', ...args, '--cluster', cluster.clusterFile, '--timeout', '2s']);
  await using client = await Client.connect({
    cluster: cluster.clusterFile,
    lanes: 2,
    timeout: TIMEOUT_MS,
    connectTimeout: TIMEOUT_MS,
  });
  const kv = new KvClient(client);
  await kv.put('before', '1');
  t.match(await run('list'), { code: 0, stdout: /session-quotas +off +off +off/ });
  t.match(await run('enable', 'no-such-feature'), {
    code: 2,
    stderr: /is not a feature; this version knows session-quotas/,
  });

  await cluster.replicas[2]!.stop();
  t.match(await run('enable', NAME), {
    code: 3,
    stderr: /feature-not-everywhere: nothing was changed: replica 2: no answer/,
  });
  t.match(await run('list'), { code: 3, stdout: /session-quotas +off +off +no answer/ });
  await cluster.spawn(2).waitReady();

  for (let attempt = 0; ; attempt++) {
    const { code, stdout, stderr } = await run('enable', NAME);
    if (code === 0) {
      t.match(stdout, /session-quotas is on/);
      break;
    }
    if (attempt === 20) t.fail(stderr);
  }
  t.equal(Buffer.from((await kv.get('before'))!).toString(), '1');
  await kv.put('after', '2');
  const all = async (): Promise<boolean> => (await features(cluster)).every((each) => each?.on.includes(NAME) === true);
  for (let i = 0; i < 600 && !(await all()); i++) await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(await all(), 'all replicas have executed that entry');
  t.match(await run('enable', NAME), { code: 0 }, 'once more does no harm');

  for (const id of [0, 1, 2]) {
    await cluster.replicas[id]!.stop();
    await cluster.spawn(id).waitReady();
  }
  for (let i = 0; i < 600 && !(await all()); i++) await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(await all(), 'it is in their logs');
  t.equal(Buffer.from((await kv.get('after'))!).toString(), '2');
});

t.test('a new cluster: the store is off, and says how to switch it on', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
    authenticated: true,
  });
  t.same((JSON.parse(readFileSync(cluster.clusterFile, 'utf8')) as ClusterConfig).features, [
    'session-quotas',
    'membership',
  ]);
  const at = ['--cluster', cluster.clusterFile, '--timeout', '60s'];
  const txn = ['kv', 'txn', '{"do":[{"put":"a","value":"1"}]}', ...at];
  const refused = await jitpaxos(txn);
  t.match(refused, { stderr: /the feature store is off.*jitpaxos features enable store/s });
  t.not(refused.code, 0);
  const early = await jitpaxos(['features', 'enable', 'redis', ...at]);
  t.match(early, { code: 3, stderr: /nothing was changed: redis does nothing without store/ });
  t.match(await jitpaxos(['features', 'enable', 'store', ...at]), { code: 0, stdout: /store is on/ });
  t.match(await jitpaxos(txn), { code: 0, stdout: /"ok":true/ });
  t.match(await jitpaxos(['features', 'enable', 'redis', ...at]), { code: 0, stdout: /redis is on/ });
  t.match(await jitpaxos(txn), { code: 0, stdout: /"ok":true/ });
});

t.test('a cluster file cannot name redis without store', (t) => {
  const cluster = { schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678', replicas: ['a:1'] } as const;
  t.same(loadCluster({ ...cluster, features: ['store', 'redis'] }).features, ['store', 'redis']);
  t.throws(() => loadCluster({ ...cluster, features: ['redis'] }), {
    message: /"redis", which does nothing without "store"/,
  });
  t.end();
});
