// Real processes whose stdout and stderr nobody reads: what only informs decides nothing.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { StatusClient } from '../../src/client/status-client.js';
import { Exit } from '../../src/console/exit.js';
import { freePorts } from '../../src/host/free-ports.js';
import { jitpaxos, MAIN } from './processes.js';

/** Three replicas, each with the pipes or files that the test gives it; killed in the end. */
async function startThree(
  t: Pick<typeof import('tap').default, 'teardown'>,
  stdio: () => (number | 'pipe' | 'ignore')[],
  flags: readonly string[] = [],
): Promise<{ clusterFile: string; children: ChildProcess[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-test-'));
  const clusterFile = join(directory, 'cluster.json');
  const ports = await freePorts(3);
  writeFileSync(
    clusterFile,
    JSON.stringify({
      schema: 'jitpaxos.cluster/1',
      id: randomBytes(8).toString('hex'),
      replicas: ports.map((port) => `127.0.0.1:${port}`),
      authentication: 'none',
    }),
  );
  const children = ports.map((_, id) =>
    spawn(process.execPath, [MAIN, 'replica', '--cluster', clusterFile, '--id', String(id), ...flags], {
      stdio: stdio(),
    }),
  );
  t.teardown(async () => {
    await Promise.all(children.map((child) => end(child, 'SIGKILL')));
    rmSync(directory, { recursive: true, force: true });
  });
  return { clusterFile, children };
}

function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code));
    child.kill(signal);
  });
}

/** Resolves when all replicas but `gone` answer. */
async function allAnswer(clusterFile: string, gone: readonly number[] = []): Promise<void> {
  await using status = await StatusClient.open({ cluster: clusterFile });
  for (let attempt = 0; attempt < 60; attempt++) {
    const answers = await status.ask(1_000);
    if (answers.every(({ id, report }) => gone.includes(id) || report?.status === 'normal')) return;
    await sleep(100);
  }
  throw new Error('the replicas do not all answer');
}

t.test('the readers of all logs go away, and then everybody logs a change of view', async (t) => {
  const { clusterFile, children } = await startThree(t, () => ['ignore', 'pipe', 'pipe']);
  // Nobody ever reads stdout; the readers of stderr leave after the first words.
  for (const { stdout } of children) stdout!.destroy();
  await Promise.all(
    children.map(
      (child) =>
        new Promise<void>((resolve) =>
          child.stderr!.once('data', () => child.stderr!.destroy()).once('close', resolve),
        ),
    ),
  );
  await allAnswer(clusterFile);
  await using client = await Client.connect({ cluster: clusterFile, timeout: 30_000, connectTimeout: 30_000 });
  const kv = new KvClient(client);
  await kv.put('k', 'v');
  await end(children[0]!, 'SIGKILL');
  await kv.put('k', 'w');
  t.equal(Buffer.from((await kv.get('k'))!).toString(), 'w', 'what was acknowledged is there');
  await allAnswer(clusterFile, [0]);
  for (const id of [1, 2]) t.equal(children[id]!.exitCode, null, `replica ${id} lives`);
  t.equal(await end(children[1]!, 'SIGTERM'), 0, 'and ends when it is told to');
});

/** A pipe that is full, and that nobody reads. */
function fullPipe(t: Pick<typeof import('tap').default, 'teardown'>): number {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  const pipe = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const bytes = new Uint8Array(4096);
  for (;;) {
    try {
      writeSync(pipe, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return pipe;
      throw error;
    }
  }
}

t.test('pipes that are full and never read: a replica serves, and ends when it is told to', async (t) => {
  const pipe = fullPipe(t);
  const { clusterFile, children } = await startThree(t, () => ['ignore', pipe, pipe]);
  await allAnswer(clusterFile);
  for (const child of children) t.equal(await end(child, 'SIGTERM'), 0);
});

t.test(
  'stdout and stderr on a full disk',
  { skip: existsSync('/dev/full') ? false : 'this system has no /dev/full' },
  async (t) => {
    const full = openSync('/dev/full', 'w');
    const { clusterFile, children } = await startThree(t, () => ['ignore', full, full]);
    await allAnswer(clusterFile);
    for (const child of children) t.equal(child.exitCode, null);
  },
);

t.test('an address for metrics that is taken keeps no replica from serving', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => new Promise<void>((resolve) => taken.close(() => resolve())));
  const { port } = taken.address() as { port: number };
  const { clusterFile, children } = await startThree(t, () => ['ignore', 'ignore', 'pipe'], [
    '--metrics',
    String(port),
  ]);
  let log = '';
  children[0]!.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
  for (const id of [1, 2]) children[id]!.stderr!.resume();
  await allAnswer(clusterFile);
  while (!log.includes('metrics.not-served')) await sleep(20);
  t.match(log, /"event":"metrics.not-served","replica":0,"code":"port-in-use"/);
  const wrong = await jitpaxos(['replica', '--cluster', clusterFile, '--id', '0', '--metrics', 'nowhere:1']);
  t.equal(wrong.code, Exit.usage, 'what is no address is refused as before');
});

t.test('a tool whose reader has gone ends quietly, and not as if it had succeeded', async (t) => {
  const child = spawn(process.execPath, [MAIN, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  t.equal(await new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code))), Exit.readerGone);
  t.equal(said, '');
  if (!existsSync('/dev/full')) return;
  const full = openSync('/dev/full', 'w');
  const file = join(mkdtempSync(join(tmpdir(), 'jitpaxos-test-')), 'stderr');
  const unwritable = spawn(process.execPath, [MAIN, '--help'], { stdio: ['ignore', full, openSync(file, 'w')] });
  t.equal(
    await new Promise<number | null>((resolve) => unwritable.once('close', (code) => resolve(code))),
    Exit.failed,
  );
  t.match(readFileSync(file, 'utf8'), /^output-unwritable: stdout cannot be written \(ENOSPC\)/);
});
