// A data directory was copied, and both copies run. The others hear two processes under one id, and say so. They go on.
import { fork } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { freePorts } from '../../src/host/free-ports.js';
import { silentLogger } from '../../src/host/logger.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { LocalCluster, MAIN, type ReplicaProcess } from '../../src/measure/local-cluster.js';
import { jitpaxos } from './processes.js';

/** On a busy host. */
const TIMEOUT_MS = 300_000;
t.setTimeout(3 * TIMEOUT_MS);

async function until(condition: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const deadline = performance.now() + TIMEOUT_MS; performance.now() < deadline; await sleep(100))
    if (await condition()) return true;
  return false;
}

async function twoLivesSaidBy(replica: ReplicaProcess): Promise<readonly number[] | undefined> {
  const report = (await replica.ask('stats'))?.status as unknown as ReplicaStatusReport | undefined;
  return report?.twoLives;
}

t.test('two processes under one id are warned of in log, status and doctor, and nobody stops for that', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'os',
    authenticated: true,
    stopTimeoutMs: TIMEOUT_MS,
  });
  const { clusterFile, directory } = cluster;
  const others = cluster.replicas.slice(0, 2);
  let logged = '';
  for (const { child } of others) child.stderr!.on('data', (text: string) => (logged += text));
  t.equal(await twoLivesSaidBy(others[0]!), undefined);
  await cluster.replicas[2]!.stop();
  const copy = join(directory, 'copy');
  cpSync(join(directory, 'replica-2'), copy, {
    recursive: true,
    filter: (path) => !/[\\/]lock[^\\/]*$/.test(path),
  });
  await cluster.spawn(2).waitReady();
  const [port] = await freePorts(1);
  const second = fork(
    MAIN,
    [
      ...['replica', '--cluster', clusterFile, '--id', '2', '--data', copy, '--durability', 'os'],
      ...['--listen', `127.0.0.1:${port}`],
    ],
    { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] },
  );
  let complaint = '';
  second.stderr!.setEncoding('utf8').on('data', (text: string) => (complaint += text));
  const gone = new Promise<void>((resolve) => second.once('exit', () => resolve()));
  t.teardown(async () => {
    second.kill('SIGKILL');
    await gone;
  });

  const said = async (): Promise<boolean> => {
    const lists = await Promise.all(others.map(twoLivesSaidBy));
    return lists.some((list) => list?.join() === '2');
  };
  t.ok(await until(said), `status: ${complaint}`);
  t.ok(await until(() => /two-lives.*two processes seem to speak as host 2/.test(logged)), 'log');
  t.ok(await until(() => /listens-elsewhere.*stop this one/.test(complaint)), `the copy's log: ${complaint}`);
  // Those who hear two processes answer at once, or the next time.
  const files = ['--cluster', clusterFile, '--timeout', '2s'];
  const shown = async (command: string, pattern: RegExp): Promise<boolean> =>
    pattern.test((await jitpaxos([command, ...files])).stdout);
  t.ok(
    await until(() => shown('status', /two processes seem to speak as host 2: either its data directory was copied/)),
    'status',
  );
  t.ok(
    await until(() => shown('doctor', /\[WARN\] copied directory +two processes seem to speak as host 2/)),
    'doctor',
  );

  t.same(
    cluster.replicas.map(({ exited }) => exited),
    [false, false, false],
    'each replica lives on',
  );
  second.kill('SIGKILL');
  await gone;
  await using client = await Client.connect({
    cluster: clusterFile,
    timeout: TIMEOUT_MS,
    connectTimeout: TIMEOUT_MS,
    logger: silentLogger,
  });
  const kv = new KvClient(client);
  await kv.put('after', '1');
  t.equal(Buffer.from((await kv.get('after'))!).toString(), '1');
});
