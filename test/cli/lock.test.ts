/** `jitpaxos lock`, `lease` and `kv watch` as processes, against three replicas in this one. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { StoreClient } from '../../src/client/store-client.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import { jitpaxos, MAIN } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const PATIENT = ['--timeout', '60s'];

interface Running {
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string; stdout: string }>;
}

/** Its output is collected. */
function started(cwd: string, args: readonly string[]): Running {
  const process_ = spawn(process.execPath, [MAIN, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  process_.stdout.on('data', (data) => (stdout += String(data)));
  process_.stderr.on('data', (data) => (stderr += String(data)));
  const ended = new Promise<Awaited<Running['ended']>>((resolve) =>
    process_.on('close', (code, signal) => resolve({ code, signal, stdout, stderr })),
  );
  return { process: process_, ended };
}

/** Resolves to what the file contains, once it contains something. */
async function contentOf(file: string): Promise<string> {
  while (!existsSync(file) || readFileSync(file, 'utf8') === '') await sleep(10);
  return readFileSync(file, 'utf8');
}

/** Resolves once there is no such process. */
async function gone(pid: number): Promise<void> {
  try {
    for (;;) {
      process.kill(pid, 0);
      await sleep(5);
    }
  } catch {
    // It has ended, and was waited for.
  }
}

t.test('over a cluster', async (t) => {
  const cluster: ClusterConfig = { ...(await clusterConfig(3)), features: ['store'] };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const client = await Client.connect({ cluster, logger: silentLogger, timeout: 60_000, connectTimeout: 60_000 });
  const store = new StoreClient(client);
  const cwd = mkdtempSync(join(tmpdir(), 'jitpaxos-lock-'));
  writeFileSync(join(cwd, 'cluster.json'), JSON.stringify(cluster));
  t.teardown(async () => {
    await client.close();
    for (const replica of replicas) await replica.close();
    rmSync(cwd, { recursive: true, force: true });
  });
  const run = (...args: string[]) => jitpaxos(args, { cwd });
  const start = (...args: string[]): Running => started(cwd, args);
  const there = (file: string): Promise<string> => contentOf(join(cwd, file));

  await t.test('the exit code and the environment of the command', async (t) => {
    const script =
      'console.log(process.env.JITPAXOS_LOCK, process.env.JITPAXOS_LOCK_TOKEN > 0, process.env.JITPAXOS_LOCK_END > Date.now()); process.exit(7)';
    const ended = await run('lock', 'a', ...PATIENT, '--ttl', '60s', '--', process.execPath, '-e', script);
    t.equal(ended.code, 7, ended.stderr);
    t.equal(ended.stdout.trim(), 'a true true');
    const killed = await run(
      'lock',
      'a',
      ...PATIENT,
      '--json',
      '--',
      process.execPath,
      '-e',
      'process.kill(process.pid)',
    );
    t.equal(killed.code, 128 + 15, killed.stderr);
    t.match(JSON.parse(killed.stdout), { schema: 'jitpaxos.lock/1', name: 'a', lost: false, exitCode: 143 });
    t.match(await run('lock', 'a', ...PATIENT, '--', 'no-such-command'), { code: 2, stderr: /argument-invalid/ });
    t.match(await run('lock', 'a'), { code: 2, stderr: /COMMAND/ });
    t.match(await run('lock', 'a', '--', ''), { code: 2, stderr: /argument-invalid: COMMAND is empty/ });
    t.match(await run('lock', 'a', '--ttl', '2s', '--grace', '1s', '--', 'true'), { code: 2, stderr: /two fifths/ });
    t.match(await run('lock', 'a', '--ttl', '0s', '--', 'true'), { code: 2, stderr: /out of range/ });
    t.match(await run('lock', 'a'.repeat(1007), ...PATIENT, '--', 'true'), { code: 2, stderr: /option-invalid/ });
  });

  await t.test('one that is held, and signals', async (t) => {
    const script = `require('fs').writeFileSync('one', 'here'); process.on('SIGTERM', () => process.exit(9)); setInterval(() => {}, 1000)`;
    const holder = start('lock', 'b', ...PATIENT, '--ttl', '60s', '--', process.execPath, '-e', script);
    await there('one');
    t.match(await run('lock', 'b', ...PATIENT, '--wait', '0s', '--', 'true'), { code: 1, stderr: /^lock-held/m });
    t.match(await run('lock', 'b', ...PATIENT, '--wait', '50ms', '--', 'true'), { code: 1, stderr: /^lock-held/m });
    const next = start('lock', 'b', ...PATIENT, '--', process.execPath, '-e', 'console.log("next")');
    const quits = start('lock', 'b', ...PATIENT, '--', 'true');
    while ((await store.scan({ prefix: 'b\0' })).entries.length < 3) await sleep(10);
    quits.process.kill('SIGINT');
    t.equal((await quits.ended).code, 130);
    holder.process.kill('SIGTERM');
    t.equal((await holder.ended).code, 9, 'passed on');
    t.match(await next.ended, { code: 0, stdout: 'next\n' });
  });

  await t.test('stopped for longer than the lease: the next one has it, and the first one is told', async (t) => {
    const script = `const fs = require('fs'); process.on('SIGTERM', () => fs.writeFileSync('told', 'x')); fs.writeFileSync('pid', process.env.JITPAXOS_LOCK_TOKEN); setInterval(() => {}, 1000)`;
    const first = start(
      'lock',
      'c',
      ...PATIENT,
      '--ttl',
      '2s',
      '--grace',
      '100ms',
      '--',
      process.execPath,
      '-e',
      script,
    );
    const token = Number(await there('pid'));
    first.process.kill('SIGSTOP');
    const second = await store.lock('c', { ttl: 60_000 });
    t.ok(second.token > token);
    first.process.kill('SIGCONT');
    t.match(await first.ended, { code: 1, stderr: /^lease-lost: /m });
    t.equal(await there('told'), 'x', 'SIGTERM came first');
    await second.release();
  });

  await t.test('nobody reads the output: the lock is released all the same', async (t) => {
    const script = `const fs = require('fs'); fs.writeFileSync('started', 'x'); setInterval(() => fs.existsSync('over') && process.exit(0), 10)`;
    const holder = start('lock', 'e', ...PATIENT, '--ttl', '60s', '--json', '--', process.execPath, '-e', script);
    await there('started');
    t.equal((await store.scan({ prefix: 'e\0' })).entries.length, 1);
    holder.process.stdout!.destroy();
    writeFileSync(join(cwd, 'over'), 'x');
    await holder.ended;
    t.strictSame((await store.scan({ prefix: 'e\0' })).entries, []);
  });

  await t.test('leases, and a revoked lock', async (t) => {
    const held = await store.lock('d', { ttl: 6_000 });
    const { number } = held.lease;
    const listed = await run('lease', 'list', 'd', ...PATIENT, '--json');
    t.match(JSON.parse(listed.stdout), { leases: [{ lease: number, keys: [String] }] });
    t.match((await run('lease', 'list', ...PATIENT)).stdout, new RegExp(`${number}\tends in `));
    t.match(await run('lease', 'show', String(number), ...PATIENT), { code: 0, stdout: /1 key\n.*d/ });
    t.match(await run('lease', 'revoke', String(number), ...PATIENT), { code: 0 });
    while (!held.signal.aborted) await sleep(20);
    t.match(held.signal.reason, { message: /revoked/ });
    t.match(await run('lease', 'revoke', String(number), ...PATIENT), { code: 1, stderr: /^key-not-found/m });
    t.match(await run('lease', 'show', String(number), ...PATIENT), { code: 1, stderr: /^key-not-found/m });
    t.match(await run('lease', 'revoke', 'x', ...PATIENT), { code: 2 });
  });

  await t.test('kv watch, and kv get and scan of what has ended', async (t) => {
    const { revision } = await store.put('w/1', 'one');
    await store.put('w/2', 'two', { ttl: 1 });
    await sleep(50);
    t.match(await run('kv', 'get', 'w/2', ...PATIENT), { code: 1, stderr: /^key-not-found/m });
    t.match(await run('kv', 'scan', 'w/', 'w0', ...PATIENT), { code: 0, stdout: 'w/1\tone\n' });
    const seen = await run('kv', 'watch', 'w/', '--from', String(revision - 1), '--values', '--count', '3', ...PATIENT);
    t.equal(seen.code, 0, seen.stderr);
    t.match(seen.stdout, new RegExp(`^put\t${revision}\tw/1\tone\nput\t${revision + 1}\tw/2.*\nexpire\t\\d+\tw/2\n$`));
    const json = await run('kv', 'watch', 'w/', '--from', String(revision - 1), '--count', '1', '--json', ...PATIENT);
    t.match(JSON.parse(json.stdout), { command: 'watch', kind: 'put', key: 'w/1', revision });
    const open = start('kv', 'watch', 'w/', ...PATIENT);
    await new Promise<void>((resolve) =>
      open.process.stderr!.on('data', (data) => {
        if (/watching/.test(String(data))) resolve();
      }),
    );
    open.process.kill('SIGINT');
    t.equal((await open.ended).code, 0);
  });
});

t.test('over a replica that does not answer any more', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 1,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
    features: ['store'],
  });
  const [replica] = cluster.replicas;
  const cwd = mkdtempSync(join(tmpdir(), 'jitpaxos-lock-'));
  t.teardown(() => rmSync(cwd, { recursive: true, force: true }));
  const lock = (name: string, script: string, ...flags: string[]): Running =>
    started(cwd, [
      'lock',
      name,
      '--cluster',
      cluster.clusterFile,
      ...PATIENT,
      ...flags,
      '--',
      process.execPath,
      '-e',
      script,
    ]);

  await t.test("the lease's end: SIGTERM, then SIGKILL for the whole group of a command that goes on", async (t) => {
    const deaf = `process.on('SIGTERM', () => require('fs').appendFileSync('told', 'x')); setInterval(() => {}, 1000);`;
    const script = `const { spawn } = require('child_process'); ${deaf}
      const child = spawn(process.execPath, ['-e', ${JSON.stringify(`${deaf} process.send('ready')`)}], { stdio: [0, 1, 2, 'ipc'] });
      child.once('message', () => require('fs').writeFileSync('pids', process.pid + ' ' + child.pid));`;
    const running = lock('a', script, '--ttl', '2s', '--grace', '100ms');
    const pids = (await contentOf(join(cwd, 'pids'))).split(' ').map(Number);
    replica!.kill('SIGSTOP');
    t.match(await running.ended, { code: 1, stderr: /^lease-lost: /m });
    t.match(await contentOf(join(cwd, 'told')), /^x+$/, 'SIGTERM came first');
    for (const pid of pids) await gone(pid);
    replica!.kill('SIGCONT');
  });

  await t.test('a signal after the end of the command ends the process, which waits for the release', async (t) => {
    const script = `require('fs').writeFileSync('pid', String(process.pid)); setInterval(() => require('fs').existsSync('over') && process.exit(0), 10)`;
    const running = lock('b', script, '--ttl', '600s', '--json');
    const pid = Number(await contentOf(join(cwd, 'pid')));
    replica!.kill('SIGSTOP');
    writeFileSync(join(cwd, 'over'), 'x');
    await gone(pid);
    // It may not have heard yet that the command has ended; then this is passed on to nobody.
    const again = setInterval(() => running.process.kill('SIGTERM'), 10);
    const { code, signal, stdout, stderr } = await running.ended;
    clearInterval(again);
    t.match({ code, signal }, { code: null, signal: 'SIGTERM' }, stderr);
    t.equal(stdout, '', 'before the release was given up');
    replica!.kill('SIGCONT');
  });
});
