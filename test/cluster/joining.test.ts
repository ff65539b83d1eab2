// Hosts that were removed, with real processes: how they may be started again, and what `member add` says of them.
import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { LocalCluster, MAIN } from '../../src/measure/local-cluster.js';
import { clusterConfig, freePorts } from '../server/fixtures.js';
import { jitpaxos, type Ended } from './processes.js';

/** On a busy host. */
const TIMEOUT_MS = 300_000;
t.setTimeout(4 * TIMEOUT_MS);

t.test('a process that waits to be added ends when the process that started it has gone', async (t) => {
  const directory = t.testdir({});
  const cluster = join(directory, 'cluster.json');
  writeFileSync(cluster, JSON.stringify(await clusterConfig(3)));
  const [port] = await freePorts(1);
  const args = ['replica', '--join', cluster, '--listen', `127.0.0.1:${port}`, '--data', join(directory, 'data')];
  const child = fork(MAIN, args, { stdio: ['ignore', 'pipe', 'ignore', 'ipc'] });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  await once(child.stdout!, 'data');
  child.disconnect();
  const [code] = (await Promise.race([ended, sleep(TIMEOUT_MS, ['it waits still'], { ref: false })])) as [unknown];
  t.equal(code, 0);
});

/** Starts a process, and resolves when it has written this to stdout or stderr. Throws if it ends before. */
async function says(t: Test, args: readonly string[], pattern: RegExp): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it does not say ${pattern}: ${said}`)), TIMEOUT_MS);
    const hear = (text: string): void => {
      said += text;
      if (pattern.test(said)) clearTimeout(timer), resolve();
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', hear);
    child.once('exit', (code) => (clearTimeout(timer), reject(new Error(`it ended with ${code}: ${said}`))));
  });
  return child;
}

t.test('hosts that were removed are started again, and addresses that cannot be added are refused', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'os',
    stopTimeoutMs: TIMEOUT_MS,
  });
  const { clusterFile, directory } = cluster;
  const files = ['--cluster', clusterFile];
  const member = (...args: string[]): Promise<Ended> => jitpaxos(['member', ...args, ...files, '--silence', '60s']);
  const joining = [await cluster.spawnJoining(), await cluster.spawnJoining()];
  const added = await member('add', ...joining.map(({ address }) => address));
  t.equal(added.code, 0, added.stderr);
  const ids = [];
  for (const each of joining) ids.push(await cluster.joins(each));
  const removed = await member('remove', ...ids.map(String));
  t.equal(removed.code, 0, removed.stderr);
  // It may have been stopped before it heard of the end.
  const [{ address, data }] = joining as [(typeof joining)[0]];
  const [id] = ids as [number];
  const isTold = async (): Promise<boolean> => {
    const report = (await cluster.replicas[id]!.ask('stats'))?.status as unknown as
      | { membership?: { role: string } }
      | undefined;
    return report?.membership?.role === 'removed';
  };
  for (const deadline = performance.now() + TIMEOUT_MS; !(await isTold()) && performance.now() < deadline; )
    await sleep(50);
  t.ok(await isTold(), 'it finds that it was removed');
  await Promise.all(ids.map((each) => cluster.replicas[each]!.stop()));

  const durable = ['--durability', 'os', '--data', data];
  for (const listen of [[], ['--listen', address]]) {
    const again = await jitpaxos(['replica', '--join', clusterFile, ...listen, ...durable]);
    t.match(again, { code: 1, stderr: /replica-removed.*give an empty directory.*start it with --cluster FILE --id/ });
    t.match(again.stderr, `--id ${id} --listen HOST:PORT`);
  }
  const nowhere = await jitpaxos(['replica', ...files, '--id', String(id), ...durable]);
  t.match(nowhere, { code: 1, stderr: /replica-removed.*does not say where it was.*start it with --listen HOST:PORT/ });

  const running = ['replica', ...files, '--id', String(id), '--listen', address, ...durable];
  const old = await says(t, running, /^ready /m);
  const unlisted = await member('add', address, '--allow-even');
  t.match(unlisted, {
    code: 1,
    stderr: /member-unfit: .*of a replica that is, or was, a host; .*begins with an empty/,
  });
  const seeds = join(directory, 'led.json');
  writeFileSync(seeds, JSON.stringify({ ...cluster.config(), replicas: [address, '127.0.0.1:9', '127.0.0.1:10'] }));
  const led = await jitpaxos(['kv', 'put', 'a', '1', '--cluster', seeds, '--timeout', '120s']);
  t.equal(led.code, 0, `it leads to the members: ${led.stderr}`);
  old.kill('SIGKILL');

  const listed = await member('add', cluster.config().replicas[0]!, '--allow-even');
  t.match(listed, { code: 0, stdout: /host 0 at .* votes/ }, 'who votes there is added already');

  const full = join(directory, 'full');
  mkdirSync(full);
  writeFileSync(join(full, 'notes.txt'), 'not a directory of a replica');
  const other = await jitpaxos(['replica', '--join', clusterFile, '--listen', address, '--data', full]);
  t.match(other, { code: 1, stderr: /data-directory-unusable.*is not empty \(notes\.txt\).*give another one/ });
  rmSync(full, { recursive: true });
});
