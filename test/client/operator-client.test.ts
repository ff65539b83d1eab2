// An operator's changes of the members: what the log says of each, by name, and whose keys may send them.
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { switchOn } from '../../src/client/feature-switch.js';
import { OperatorClient } from '../../src/client/operator-client.js';
import { openChain } from '../../src/host/chain.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { FEATURE_NAMES, featureOperation } from '../../src/protocol/log/features.js';
import type { ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { OUTCOME_NAMES, readChangeResult, RESULT_BYTES } from '../../src/protocol/membership/results.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

/** On a busy host. */
const TIMEOUT_MS = 60_000;

const entry = (id: number, role: KeyEntry['role']): KeyEntry => ({ id, role, secret: randomBytes(32).toString('hex') });

function enable(cluster: ClusterConfig, keys?: KeyFile): Promise<void> {
  const operation = featureOperation(
    FEATURE_NAMES.indexOf('membership') + 1,
    openChain(loadCluster(cluster), undefined, loadHash()),
  );
  const options = { cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS };
  return switchOn({ ...options, ...(keys === undefined ? {} : { keys }) }, operation, TIMEOUT_MS);
}

t.test('what became of an operation, by name', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await enable(cluster);
  await using operator = await OperatorClient.open({ cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS });
  const asked = async (operation: ConfigureOperation): Promise<unknown> => {
    const said = await operator.change(operation, TIMEOUT_MS);
    t.ok(said !== undefined, `${operation.kind} is answered in time`);
    return { ...said!, outcome: OUTCOME_NAMES[said!.outcome] };
  };
  const in0 = { started: 0, decided: 0 };
  const identity = (identityLo: number) => ({ identityHi: 1, identityLo });
  const name = (id: number): ConfigureOperation => ({
    kind: 'name',
    id,
    ...identity(id),
    address: cluster.replicas[id]!,
  });
  t.same(
    await asked({ kind: 'learn', ...identity(9), address: 'new:1' }),
    { ...in0, outcome: 'identity-unknown', id: undefined },
    'nobody is added before all directories have names',
  );
  for (const id of [0, 1, 2]) t.same(await asked(name(id)), { ...in0, outcome: 'done', id });
  t.same(await asked(name(2)), { ...in0, outcome: 'identity-listed', id: 2 }, 'asked twice, it is told what is so');
  t.same(await asked({ kind: 'forget', id: 1 }), { ...in0, outcome: 'votes', id: 1 });
  t.same(await asked({ kind: 'forget', id: 7 }), { ...in0, outcome: 'not-listed', id: undefined });
  t.same(await asked({ kind: 'move', id: 1, address: cluster.replicas[0]! }), {
    ...in0,
    outcome: 'address-listed',
    id: 0,
  });
  t.same(await asked({ kind: 'change', from: 0, to: 1, ids: [0, 1, 5] }), { ...in0, outcome: 'not-listed', id: 5 });
  await t.rejects(
    operator.change({ kind: 'change', from: 3, to: 4, ids: [0, 1, 2] }, TIMEOUT_MS),
    { code: 'operation-refused', message: /the primary does not take a change: another epoch runs/ },
    'for another epoch than the one that runs',
  );
  await t.rejects(operator.change({ kind: 'go', epoch: 1 }, TIMEOUT_MS), { code: 'operation-refused' });
  t.same(await asked(name(0)), { ...in0, outcome: 'identity-listed', id: 0 }, 'the session goes on after a refusal');
});

t.test('in a cluster with keys, an operator has to have a key of that role', async (t) => {
  const cluster = { ...(await clusterConfig(1)), authentication: 'keys' as const };
  const [own, client, operator, reader] = [
    entry(1, 'replica'),
    entry(22, 'client'),
    entry(23, 'operator'),
    entry(24, 'read-only'),
  ] as const;
  const file = (use: KeyEntry, ...more: KeyEntry[]): KeyFile => ({
    schema: 'jitpaxos.keys/1',
    cluster: cluster.id,
    use: use.id,
    keys: [use, ...more],
  });
  const replicas = await startReplicas(cluster, () => new KvMachine(), { keys: file(own, client, operator, reader) });
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const open = (use: KeyEntry): Promise<OperatorClient> =>
    OperatorClient.open({ cluster, keys: file(use), logger: silentLogger, connectTimeout: TIMEOUT_MS });
  for (const use of [client, reader])
    await t.rejects(open(use), {
      code: 'key-role',
      message: new RegExp(`^key ${use.id} may not change who the members are, and nothing was sent; use an operator's`),
    });
  await enable(cluster, file(operator));
  // The file of this client says what its key may not do: the replicas have it as a client's.
  await using forger = await open({ ...client, role: 'operator' });
  await t.rejects(
    forger.change({ kind: 'forget', id: 0 }, TIMEOUT_MS),
    { code: 'operation-refused' },
    'replicas answer that it is no request for a client',
  );
  const { counters, drops } = replicas[0]!.status();
  t.ok(counters['rejected_bad_request']! > 0, `rejected: ${JSON.stringify(counters)}`);
  t.equal(drops['role'], 0, 'it was answered, not dropped');
  await using allowed = await open(operator);
  const name = { kind: 'name', id: 0, identityHi: 0, identityLo: 5, address: cluster.replicas[0]! } as const;
  t.match(await allowed.change(name, TIMEOUT_MS), { outcome: 0, id: 0 });
});

t.test('only what an entry can have answered is taken for its result', (t) => {
  const bytes = new Uint8Array(RESULT_BYTES);
  t.equal(readChangeResult(bytes, RESULT_BYTES - 1), undefined);
  bytes[0] = OUTCOME_NAMES.length;
  t.equal(readChangeResult(bytes, RESULT_BYTES), undefined);
  bytes[0] = OUTCOME_NAMES.length - 1;
  t.match(readChangeResult(bytes, RESULT_BYTES), { outcome: OUTCOME_NAMES.length - 1, id: 0, started: 0, decided: 0 });
  t.end();
});
