// What an operator sees of a change of the members in a running cluster: reports, status, metrics and logs.
import t, { type Test } from 'tap';
import { AllMembers } from '../../src/cli/cluster/all-members.js';
import { summarize, type ClusterSummary } from '../../src/cli/cluster/summary.js';
import { switchOn } from '../../src/client/feature-switch.js';
import { OperatorClient } from '../../src/client/operator-client.js';
import { openChain } from '../../src/host/chain.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger, type Logger } from '../../src/host/logger.js';
import { spokenIn } from '../../src/host/status.js';
import { KvMachine } from '../../src/machine/kv.js';
import { expose } from '../../src/metrics/exposition.js';
import { loadHash } from '../../src/native/hash64.js';
import { FEATURE_NAMES, featureOperation } from '../../src/protocol/log/features.js';
import type { ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { clusterConfig, startReplicas } from './fixtures.js';

/** On a busy host. */
const TIMEOUT_MS = 60_000;

/** Switches the feature on. Returns what carries out an operation, which must not be refused. */
async function operatorOf(t: Test, cluster: ClusterConfig): Promise<(operation: ConfigureOperation) => Promise<void>> {
  const options = { cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS };
  await switchOn(
    options,
    featureOperation(FEATURE_NAMES.indexOf('membership') + 1, openChain(loadCluster(cluster), undefined, loadHash())),
    TIMEOUT_MS,
  );
  const operator = await OperatorClient.open(options);
  t.teardown(() => operator.close());
  return async (operation) => {
    t.match(await operator.change(operation, TIMEOUT_MS), { outcome: 0 }, operation.kind);
  };
}

/** What returns the cluster once something is so, or as it is when the time is up. */
function onceIn(
  { id }: ClusterConfig,
  status: AllMembers,
): (isSo: (summary: ClusterSummary) => boolean) => Promise<ClusterSummary> {
  return async (isSo) => {
    const endMs = Date.now() + TIMEOUT_MS;
    for (;;) {
      const summary = summarize(id, await status.ask(1_000));
      if (isSo(summary) || Date.now() > endMs) return summary;
    }
  };
}

t.test('a learner, and an epoch with fewer voters', async (t) => {
  const cluster = await clusterConfig(3);
  const logged: string[] = [];
  const note = (event: string, fields: object): void =>
    void logged.push(`${event} ${(fields as { replica?: number }).replica}`);
  const logger: Logger = { ...silentLogger, info: note, warn: note };
  const replicas = await startReplicas(cluster, () => new KvMachine(), { logger });
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const change = await operatorOf(t, cluster);
  await using status = await AllMembers.open({ cluster });
  const once = onceIn(cluster, status);
  const role = (summary: ClusterSummary, id: number): string | undefined =>
    summary.replicas.find((row) => row.id === id)?.role;

  for (const id of [0, 1, 2])
    await change({ kind: 'name', id, identityHi: 1, identityLo: id + 1, address: cluster.replicas[id]! });
  await change({ kind: 'learn', identityHi: 1, identityLo: 9, address: '127.0.0.1:9' });
  const learnt = await once(({ replicas: rows }) =>
    rows.every(({ inFile, report }) => !inFile || report?.membership?.hosts.length === 4),
  );
  t.equal(role(learnt, 3), 'learner');
  t.same(learnt.membership, { epoch: 0, pending: null });
  t.match(
    learnt.replicas.find(({ id }) => id === 3),
    { asked: true, inFile: false, report: undefined },
    'it is asked at the address that the members have',
  );
  t.ok(
    learnt.remarks.some((text) => text.startsWith('replica 3 (127.0.0.1:9) does not answer')),
    learnt.remarks.join('\n'),
  );
  const lags = (): unknown =>
    replicas.map((each) => each.status().membership!.learnerLag).find((lag) => lag !== undefined);
  await once(() => lags() !== undefined); // a primary may be on its way
  t.same(lags(), { 3: null }, 'nothing was heard of it');
  for (const replica of replicas) {
    t.match(expose(replica.metrics()), /^jitpaxos_learners 1$/m);
    t.notMatch(expose(replica.metrics()), /^jitpaxos_learner_lag_entries\{/m);
  }

  await change({ kind: 'change', from: 0, to: 1, ids: [0, 1] });
  const begun = await once(
    ({ membership, replicas: rows, available }) =>
      available &&
      membership?.epoch === 1 &&
      membership.pending === null &&
      rows.slice(0, 2).every(({ report }) => report?.membership?.epoch === 1),
  );
  t.same(begun.membership, { epoch: 1, pending: null }, JSON.stringify(begun.remarks));
  t.same(begun.members, [0, 1], 'the quorum of the view, by the ids of the hosts');
  t.equal(role(begun, 2), 'removed');
  t.ok(
    begun.remarks.some((text) => text.startsWith('epoch 1 has 2 voters')),
    begun.remarks.join('\n'),
  );
  for (const id of [0, 1]) {
    t.equal(replicas[id]!.status().membership!.openSeconds, null);
    t.match(expose(replicas[id]!.metrics()), /^jitpaxos_epoch 1$/m);
    t.match(expose(replicas[id]!.metrics()), /^jitpaxos_voters 2$/m);
    t.ok(logged.includes(`replica.epoch-started ${id}`), 'its log says so');
  }
  t.ok(
    logged.some((line) => line.startsWith('replica.change-decided')),
    'that it was decided was logged before',
  );
  const left = await once(({ replicas: rows }) => rows[2]?.report?.membership?.role === 'removed');
  t.equal(left.replicas[2]!.report?.membership?.role, 'removed', 'it has heard that it is not listed any more');
  t.ok(logged.includes('replica.removed 2'), 'and warns of that');
  t.ok(
    left.remarks.some((text) => /^replica 2 \(.*\) is not a member any more in epoch 1, and still runs/.test(text)),
    left.remarks.join('\n'),
  );
});

t.test('an old cluster file shows the whole cluster, as long as one replica in it answers', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await using status = await AllMembers.open({ cluster: { ...cluster, replicas: [cluster.replicas[0]!] } });
  const once = onceIn(cluster, status);
  const all = await once(({ answered, available }) => answered === 3 && available);
  t.match(all, { answered: 3, available: true });
  t.same(
    all.replicas.map(({ id, address, inFile, asked }) => [id, address, inFile, asked]),
    cluster.replicas.map((address, id) => [id, address, id === 0, true]),
  );
  t.ok(
    all.remarks.includes(
      `the cluster file lacks 1 (${cluster.replicas[1]}), 2 (${cluster.replicas[2]}): jitpaxos member list --write FILE writes a cluster file with the addresses of the voters`,
    ),
    all.remarks.join('\n'),
  );
  await replicas[2]!.close();
  const less = await once(({ answered }) => answered === 2);
  t.equal(less.replicas[2]!.report, undefined);
  t.ok(less.remarks.some((text) => text.startsWith('replica 2 (')));
  await replicas[0]!.close();
  const blind = await once(({ answered }) => answered === 1);
  t.equal(blind.replicas[1]!.report?.id, 1, 'whoever was found is still asked');
});

t.test('a host in the place of one that is gone is named by its own id', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const change = await operatorOf(t, cluster);
  for (const id of [0, 1, 2])
    await change({ kind: 'name', id, identityHi: 1, identityLo: id + 1, address: cluster.replicas[id]! });
  await change({ kind: 'learn', identityHi: 1, identityLo: 9, address: '127.0.0.1:9' });
  await change({ kind: 'forget', id: 3 });
  await change({ kind: 'learn', identityHi: 1, identityLo: 10, address: '127.0.0.1:10' });
  const endMs = Date.now() + TIMEOUT_MS;
  while (Date.now() < endMs && replicas.some((each) => each.status().membership!.hosts.every(({ id }) => id !== 4)))
    await new Promise((resolve) => setTimeout(resolve, 10));
  for (const replica of replicas) {
    const report = replica.status();
    t.same(report.entriesOf, [0, 1, 2, 4]);
    t.same([report.wire.length, report.peers!.length], [4, 4]);
    t.equal(report.peers![replica.id], null);
    t.same(report.peers![3], { speaks: null, encrypted: null }, 'the new host was never heard');
    t.equal(spokenIn(report), WIRE_VERSION);
    const text = expose(replica.metrics());
    t.match(text, /^jitpaxos_wire_version_written\{replica="4"\} \d+$/m);
    t.notMatch(text, /replica="3"/);
    if (report.replicaClocks !== undefined) t.equal(report.replicaClocks.offsetsNs.length, 4);
  }
});
