// Clients whose cluster file lists another number of replicas than the replicas' own, on real replicas.
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { silentLogger } from '../../src/host/logger.js';
import type { JitPaxosError } from '../../src/errors.js';
import { clusterConfig, freePorts, startReplicas } from '../server/fixtures.js';
import { until } from '../transport/fixtures.js';

/** Long, for a busy host: what is refused is refused as soon as enough have answered. */
const CONNECT_MS = 60_000;

async function get(client: Client): Promise<string | undefined> {
  const value = await new KvClient(client).get('a', { timeout: CONNECT_MS });
  return value && Buffer.from(value).toString();
}

t.test('a client that lists fewer replicas, or more, is refused by name', async (t) => {
  const cluster = await clusterConfig(5);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const fewer = { ...cluster, replicas: cluster.replicas.slice(0, 3) };
  const spare = (await freePorts(2)).map((port) => `127.0.0.1:${port}`);
  const more = { ...cluster, replicas: [...cluster.replicas, ...spare] };
  for (const [file, listed, at] of [
    [fewer, 3, 2],
    [more, 7, 4],
  ] as const) {
    const error = await Client.connect({ cluster: file, connectTimeout: CONNECT_MS, logger: silentLogger }).then(
      (client) => client.close(),
      (thrown: unknown) => thrown as JitPaxosError,
    );
    t.match(error, { code: 'cluster-file-changed', category: 'caller', retryable: false });
    t.match(
      error?.message,
      new RegExp(
        `^connecting is refused: this client's cluster file lists ${listed} replicas(, that of replica \\d 5){${at},}\\. Quorums follow from the number[^]*Give this client the cluster file that the replicas have`,
      ),
    );
  }
  await using client = await Client.connect({ cluster, connectTimeout: CONNECT_MS, logger: silentLogger });
  await new KvClient(client).put('a', 'b', { timeout: CONNECT_MS });
  t.equal(await get(client), 'b', 'and one with the right file is served');
});

t.test('replicas that come back with another number, and remember nothing, serve no client of before', async (t) => {
  const cluster = await clusterConfig(3);
  const spare = (await freePorts(2)).map((port) => `127.0.0.1:${port}`);
  const five = { ...cluster, replicas: [...cluster.replicas, ...spare] };
  const said: string[] = [];
  const logger = { ...silentLogger, warn: (event: string) => void said.push(event) };
  let replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await using client = await Client.connect({ cluster, connectTimeout: CONNECT_MS, logger });
  const kv = new KvClient(client);
  await kv.put('a', 'b', { timeout: CONNECT_MS });
  await Promise.all(replicas.map((replica) => replica.close()));
  replicas = await startReplicas(five, () => new KvMachine());
  const error = await kv.put('a', 'c', { timeout: 2000 }).then(
    () => undefined,
    (thrown: unknown) => thrown as JitPaxosError,
  );
  t.ok(error instanceof Error, 'nothing is acknowledged');
  await until(() => said.includes('client.cluster-differs'), 'the client says why');
  await using other = await Client.connect({ cluster: five, connectTimeout: CONNECT_MS, logger: silentLogger });
  t.equal(await get(other), undefined, 'those five are another, empty cluster');
});
