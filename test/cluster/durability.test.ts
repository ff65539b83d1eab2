// Real processes with the log on disk: all of them killed at once lose nothing that was acknowledged.
import t from 'tap';
import { readdirSync, writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';

const ROUNDS = 3;

async function killAll(cluster: LocalCluster): Promise<void> {
  const ended = cluster.replicas.map(({ child, exited }) =>
    exited ? undefined : new Promise<void>((resolve) => child.once('exit', () => resolve())),
  );
  for (const replica of cluster.replicas) replica.kill('SIGKILL');
  await Promise.all(ended);
}

async function restartAll(cluster: LocalCluster): Promise<void> {
  for (let id = 0; id < cluster.options.replicas; id++) cluster.spawn(id);
  await Promise.all(cluster.replicas.map((replica) => replica.waitReady()));
}

for (const durability of ['fsync', 'os'] as const) {
  t.test(
    `mode ${durability}: kill -9 of all three under load, ${ROUNDS} times: every acknowledged write is there`,
    async (t) => {
      await using cluster = await LocalCluster.start({ replicas: 3, machine: 'kv', transport: 'auto', durability });
      const acknowledged: string[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const client = await Client.connect({ cluster: cluster.clusterFile, lanes: 8, timeout: 20_000 });
        const kv = new KvClient(client);
        let stop = false;
        const writers = Array.from({ length: 8 }, async (_, writer) => {
          for (let i = 0; !stop; i++) {
            const key = `${round}-${writer}-${i}`;
            try {
              await kv.put(key, key);
            } catch {
              return; // not acknowledged
            }
            acknowledged.push(key);
          }
        });
        const before = acknowledged.length;
        for (let waited = 0; waited < 200 && acknowledged.length < before + 200; waited++)
          await new Promise((resolve) => setTimeout(resolve, 50));
        await killAll(cluster);
        stop = true;
        await client.close();
        await Promise.all(writers);
        t.ok(
          acknowledged.length >= before + 200,
          `round ${round}: ${acknowledged.length - before} writes acknowledged before the kill`,
        );
        await restartAll(cluster);
        await using reader = await Client.connect({ cluster: cluster.clusterFile, lanes: 16, timeout: 20_000 });
        const read = new KvClient(reader);
        const missing: string[] = [];
        await Promise.all(
          Array.from({ length: 16 }, async (_, lane) => {
            for (let i = lane; i < acknowledged.length; i += 16) {
              const value = await read.get(acknowledged[i]!);
              if (value === undefined || Buffer.from(value).toString() !== acknowledged[i])
                missing.push(acknowledged[i]!);
            }
          }),
        );
        t.same(missing, [], `round ${round}: nothing is missing`);
      }
    },
  );
}

t.test('a log that rotted counts as lost, is named, and is refilled by the others', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'fsync',
  });
  await using client = await Client.connect({ cluster: cluster.clusterFile, lanes: 1, timeout: 20_000 });
  const kv = new KvClient(client);
  for (let i = 0; i < 20; i++) await kv.put(`k${i}`, `${i}`);
  const [first] = cluster.replicas;
  const ended = new Promise<void>((resolve) => first!.child.once('exit', () => resolve()));
  first!.kill('SIGKILL');
  await ended;
  const directory = join(cluster.directory, 'replica-0');
  const segment = join(directory, readdirSync(directory).find((name) => /^log-.*-00000000$/.test(name))!);
  const bytes = readFileSync(segment);
  bytes[512 + 3]! ^= 1;
  writeFileSync(segment, bytes);
  const again = cluster.spawn(0);
  await again.waitReady();
  let status: Record<string, unknown> = {};
  for (let waited = 0; waited < 200 && status['status'] !== 'normal'; waited++) {
    await kv.put('more', `${waited}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    status = { ...(await again.ask('stats'))!.status };
  }
  t.equal(status['status'], 'normal');
  t.match(again.complaint, /log\.lost/);
  t.match(again.complaint, /damaged at byte 512/);
  for (let i = 0; i < 20; i++) t.equal(Buffer.from((await kv.get(`k${i}`))!).toString(), `${i}`);
});
