// A replica whose data directory is lost, as processes: refused by name, and back with its operator's word.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { clusterConfig } from '../server/fixtures.js';

t.setTimeout(300_000);
const MAIN = new URL('../../src/cli/main.js', import.meta.url).pathname;

t.test('an empty directory under the id of a replica that was in use', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'jitpaxos-forgotten-'));
  const cluster = await clusterConfig(3);
  const file = join(home, 'cluster.json');
  writeFileSync(file, JSON.stringify(cluster));
  const data = (id: number): string => join(home, `r${id}`);
  const start = (id: number, logLost = false): Promise<Replica> =>
    Replica.start({
      cluster: file,
      id,
      machine: new KvMachine(),
      data: data(id),
      durability: 'fsync',
      logger: silentLogger,
      logLost,
    });
  const replicas = await Promise.all([0, 1, 2].map((id) => start(id)));
  t.teardown(async () => {
    await Promise.all(replicas.map((replica) => replica.close().catch(() => undefined)));
    rmSync(home, { recursive: true, force: true });
  });
  await using client = await Client.connect({
    cluster: file,
    lanes: 2,
    connectTimeout: 60_000,
    timeout: 60_000,
    logger: silentLogger,
  });
  const kv = new KvClient(client);
  await kv.put('a', '1');
  await replicas[1]!.close();
  rmSync(data(1), { recursive: true });

  const child = spawn(
    process.execPath,
    [
      MAIN,
      'replica',
      '--cluster',
      file,
      '--id',
      '1',
      '--data',
      data(1),
      '--durability',
      'fsync',
      '--log-level',
      'error',
      '--log-format',
      'text',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  const code = await new Promise((resolve) => child.once('exit', resolve));
  t.equal(code, 2, 'a supervisor need not try again');
  t.match(
    said,
    /promises-forgotten: replica 1 was in use before: replica [02] remembers its incarnation 1, and .*r1 is empty\..*--log-lost/,
  );
  await kv.put('b', '2');

  // The library, and the process ends itself: `closed` tells.
  const refused = await start(1);
  await t.rejects(refused.closed, { code: 'promises-forgotten', category: 'caller' });

  replicas[1] = await start(1, true);
  for (let tries = 0; tries < 6_000 && replicas[1].status().status !== 'normal'; tries++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  t.match(replicas[1].status(), { status: 'normal' });
  await kv.put('c', '3');
  t.same(
    (await Promise.all(['a', 'b', 'c'].map((key) => kv.get(key)))).map((value) => Buffer.from(value!).toString()),
    ['1', '2', '3'],
  );
  await replicas[1].close();
  replicas[1] = await start(1);
  for (let tries = 0; tries < 6_000 && replicas[1].status().status !== 'normal'; tries++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  t.match(replicas[1].status(), { status: 'normal' }, 'from then on without the flag');
});
