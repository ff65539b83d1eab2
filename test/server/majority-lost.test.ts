// A cluster of durability memory that was stopped as a whole: everything that shows a cluster says that its majority is
// lost.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { expose } from '../../src/metrics/exposition.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { jitpaxos } from '../cluster/processes.js';
import { clusterConfig } from './fixtures.js';

t.test('all stopped, all started: majority-lost, everywhere', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'jitpaxos-lost-'));
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const cluster = await clusterConfig(3);
  const file = join(home, 'cluster.json');
  writeFileSync(file, JSON.stringify(cluster));
  const start = (): Promise<Replica[]> =>
    Promise.all(
      [0, 1, 2].map((id) =>
        Replica.start({
          cluster: file,
          id,
          machine: new KvMachine(),
          data: join(home, `r${id}`),
          durability: 'memory',
          logger: silentLogger,
        }),
      ),
    );
  const connect = (connectTimeout: number): Promise<Client> =>
    Client.connect({ cluster: file, lanes: 2, connectTimeout, timeout: 20_000, logger: silentLogger });

  let replicas = await start();
  {
    await using client = await connect(60_000);
    await new KvClient(client).put('a', 'b');
  }
  await Promise.all(replicas.map((replica) => replica.close()));
  replicas = await start();
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  for (
    let tries = 0;
    tries < 3_000 && !replicas.every((replica) => replica.status().majorityLost?.length === 3);
    tries++
  )
    await sleep(10);

  for (const replica of replicas) {
    t.match(replica.status(), { status: 'majority-lost', majorityLost: [0, 1, 2] });
    t.match(
      replica.unready(),
      /^majority-lost: replicas 0, 1, 2 lost their logs, 3 of 3, and this cluster survives 1\. .*docs\/operate\/recovery\.md/,
    );
    t.equal(replica.unhealthy(), undefined, 'to start it anew would help nobody');
    const metrics = expose(replica.metrics());
    t.match(metrics, /jitpaxos_status\{status="majority-lost"\} 1\n/);
    t.match(metrics, /jitpaxos_status\{status="recovering"\} 0\n/);
  }
  const text = await jitpaxos(['status', '--cluster', file]);
  t.match(text, {
    code: 3,
    stdout: /majority-lost: not available[^]*! majority-lost: replicas 0, 1, 2 lost their logs/,
  });
  t.notMatch(text.stdout, /fetches one/, 'nothing will be fetched');
  const json = await jitpaxos(['status', '--json', '--cluster', file]);
  t.match(JSON.parse(json.stdout), {
    available: false,
    majorityLost: [0, 1, 2],
    replicas: [{ report: { status: 'majority-lost', majorityLost: [0, 1, 2] } }],
  });
  t.match((await jitpaxos(['top', '--json', '--count', '1', '--cluster', file])).stdout, /"majorityLost":\[0,1,2\]/);
  t.match(await jitpaxos(['doctor', '--cluster', file]), {
    code: 1,
    stdout: /\[FAIL\] quorum .*majority-lost: replicas 0, 1, 2/,
  });
  await t.rejects(connect(3_000), {
    code: 'majority-lost',
    category: 'environment',
    retryable: false,
    message: /majority-lost: replicas? .* more logs are lost than the cluster survives/,
  });
  t.match(await jitpaxos(['kv', 'get', 'a', '--cluster', file]), { code: 3, stderr: /^majority-lost: /m });
});

t.test('all stopped, all started, in the durability that nobody chose: everything is there', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'jitpaxos-kept-'));
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const cluster = await clusterConfig(3);
  const start = (): Promise<Replica[]> =>
    Promise.all(
      [0, 1, 2].map((id) =>
        Replica.start({ cluster, id, machine: new KvMachine(), data: join(home, `r${id}`), logger: silentLogger }),
      ),
    );
  let replicas = await start();
  for (const replica of replicas) t.equal(replica.status().durability, 'os');
  {
    await using client = await Client.connect({
      cluster,
      lanes: 2,
      connectTimeout: 60_000,
      timeout: 60_000,
      logger: silentLogger,
    });
    await new KvClient(client).put('a', 'b');
  }
  await Promise.all(replicas.map((replica) => replica.close()));
  replicas = await start();
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await using client = await Client.connect({
    cluster,
    lanes: 2,
    connectTimeout: 60_000,
    timeout: 60_000,
    logger: silentLogger,
  });
  t.equal(Buffer.from((await new KvClient(client).get('a'))!).toString(), 'b');
});
