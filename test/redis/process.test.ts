/** `jitpaxos redis` as a process: what it says, TLS, signals, and clusters that are not there or not ready. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { KvMachine } from '../../src/machine/kv.js';
import { RedisFrontEnd } from '../../src/redis/server.js';
import { silentLogger } from '../../src/host/logger.js';
import { jitpaxos, MAIN } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';
import { command, Wire } from './stand-in.js';

const folder = mkdtempSync(join(tmpdir(), 'redis-process-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(cluster: ClusterConfig, name: string): string {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify(cluster));
  return path;
}

/** The process, once it has said that it listens. */
class Running {
  stdout = '';
  stderr = '';
  readonly ended: Promise<number | null>;
  private wake: () => void = () => undefined;

  private constructor(readonly child: ChildProcess) {
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.wake();
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.wake();
    });
    this.ended = new Promise((resolve) => child.once('exit', resolve));
    void this.ended.then(() => this.wake());
  }

  static async start(t: Test, args: readonly string[]): Promise<Running> {
    const child = spawn(process.execPath, [MAIN, 'redis', '--listen', '127.0.0.1:0', '--log-format', 'json', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const running = new Running(child);
    t.teardown(async () => {
      child.kill('SIGKILL');
      await running.ended;
    });
    await running.until(() => running.stdout.includes('\n') || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error(running.stderr);
    return running;
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => (this.wake = resolve));
  }

  /** Waits for a line of the log. */
  async logs(event: string): Promise<void> {
    await this.until(() => this.stderr.includes(`"${event}"`) || this.child.exitCode !== null);
  }

  get ready(): { readonly port: number; readonly metrics?: string; readonly tls: boolean } {
    return JSON.parse(/^ready (\{.*\})$/m.exec(this.stdout)![1]!) as { port: number; tls: boolean };
  }
}

t.test('a cluster with the feature', async (t) => {
  const cluster: ClusterConfig = { ...(await clusterConfig(3)), features: ['store', 'redis'] };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const path = fileOf(cluster, 'on.json');
  const running = await Running.start(t, ['--cluster', path, '--metrics', '0']);
  await running.logs('redis.serving');
  const wire = await Wire.open(running.ready.port);
  t.teardown(() => wire.close());
  t.equal(await wire.ask(command('SET', 'key', 'value'), '+OK\r\n'), '+OK\r\n');
  t.equal(await wire.ask(command('GET', 'key'), '$5\r\nvalue\r\n'), '$5\r\nvalue\r\n');
  t.equal(await wire.ask(command('INCR', 'n') + command('INCR', 'n'), ':1\r\n:2\r\n'), ':1\r\n:2\r\n');
  const answer = await fetch(running.ready.metrics!);
  const text = await answer.text();
  t.match(text, /^jitpaxos_redis_cluster_connected 1$/m);
  t.match(text, /^jitpaxos_redis_commands_total\{kind="write"\} 3$/m);
  t.match(text, /^jitpaxos_commits_total/m, 'those of its client, too');
  t.equal((await fetch(running.ready.metrics!.replace('/metrics', '/readyz'))).status, 200);
  // Nobody reads its output any more: that is no reason to end.
  running.child.stdout!.destroy();
  running.child.stderr!.destroy();
  t.equal(await wire.ask(command('GET', 'n'), '$1\r\n2\r\n'), '$1\r\n2\r\n');
  running.child.kill('SIGHUP');
  t.equal(await wire.ask(command('GET', 'n'), '$1\r\n2\r\n'), '$1\r\n2\r\n');
  running.child.kill('SIGTERM');
  t.equal(await wire.rest(), '');
  wire.close();
  t.equal(await running.ended, 0);

  await t.test('embedded', async (t) => {
    await using front = await RedisFrontEnd.start({ cluster, listen: '127.0.0.1:0', logger: silentLogger });
    const wire = await Wire.open(front.port);
    t.teardown(() => wire.close());
    while (!front.isConnected) await new Promise(setImmediate);
    t.equal(await wire.ask(command('GET', 'key'), '$5\r\nvalue\r\n'), '$5\r\nvalue\r\n');
    t.equal(front.unready(), undefined);
  });
});

const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
const made = spawnSync('openssl', [
  ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
  ...['-subj', '/CN=localhost', '-keyout', key, '-out', cert],
]);
const withoutTls = made.status === 0 ? false : 'openssl is not installed: apt-get install openssl';
t.test('TLS', { skip: withoutTls }, async (t) => {
  const path = fileOf(await clusterConfig(1), 'tls.json');
  const running = await Running.start(t, ['--cluster', path, '--tls-cert', cert, '--tls-key', key]);
  t.equal(running.ready.tls, true);
  const plain = await Wire.open(running.ready.port);
  plain.send('PING\r\n');
  await plain.rest();
  t.notMatch(plain.text, /PONG/, 'nothing is said without TLS');
  plain.close();
  const socket = connectTls({ port: running.ready.port, host: '127.0.0.1', rejectUnauthorized: false });
  t.teardown(() => socket.destroy());
  const read = new Promise<string>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('data', (chunk: Buffer) => resolve(chunk.toString()));
  });
  socket.write('PING\r\n');
  t.equal(await read, '+PONG\r\n');
  running.child.kill('SIGTERM');
  t.equal(await running.ended, 0);
});

t.test('without replicas it answers, and says that nothing was executed', async (t) => {
  const running = await Running.start(t, [
    '--cluster',
    fileOf(await clusterConfig(3), 'silent.json'),
    '--timeout',
    '300ms',
  ]);
  const wire = await Wire.open(running.ready.port);
  t.teardown(() => wire.close());
  t.equal(await wire.ask('PING\r\n', '+PONG\r\n'), '+PONG\r\n');
  wire.send(command('SET', 'a', '1'));
  while (!wire.text.endsWith('\n')) await wire.read(0).then(() => new Promise(setImmediate));
  t.match(wire.text, /^-TRYAGAIN .*nothing was executed\r\n$/);
  await running.logs('redis.not-connected');
  t.match(running.stderr, /cluster-unavailable|no replica|TRYAGAIN/);
  wire.text = '';
  wire.send('INFO\r\n');
  while (!wire.text.includes('cluster_enabled')) await new Promise(setImmediate);
  t.match(wire.text, /loading:0\r\n/);
  running.child.kill('SIGINT');
  t.equal(await running.ended, 0);
});

t.test('a cluster without the feature', async (t) => {
  const cluster = await clusterConfig(1);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => replicas[0]!.close());
  const running = await Running.start(t, ['--cluster', fileOf(cluster, 'off.json')]);
  await running.logs('redis.feature-off');
  t.match(running.stderr, /jitpaxos features enable redis/);
  const wire = await Wire.open(running.ready.port);
  t.teardown(() => wire.close());
  wire.send(command('SET', 'a', '1'));
  while (!wire.text.endsWith('\n')) await new Promise(setImmediate);
  t.match(wire.text, /^-ERR the feature redis is off.*jitpaxos features enable redis\r\n$/);
});

t.test('what cannot work is said, with an exit code', async (t) => {
  const path = fileOf(await clusterConfig(1), 'refused.json');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const keys = fileOf({ ...(await clusterConfig(1)), authentication: 'keys' }, 'keys.json');
  for (const [args, code, words] of [
    [['--cluster', path, '--listen', `127.0.0.1:${port}`], 1, /^port-in-use: .*choose another port/],
    [['--cluster', path, '--listen', '6379'], 2, /^option-invalid: .*ADDRESS:PORT/],
    [['--cluster', path, '--listen', '192.0.2.1:0'], 1, /^address-unavailable: /],
    [['--cluster', join(folder, 'none.json')], 1, /^cluster-file-unreadable: /],
    [['--cluster', path, '--users', join(folder, 'none.json')], 1, /^redis-users-unreadable: .*redis-user/],
    [['--cluster', path, '--tls-cert', 'x'], 2, /^flag-invalid: .*belong together/],
    [['--cluster', path, '--tls-cert', 'x', '--tls-key', 'y'], 2, /^option-invalid: .*certificate x cannot be read/],
    [['--cluster', keys, '--listen', '127.0.0.1:0'], 1, /key-file-unreadable: /m],
  ] as const) {
    const ended = await jitpaxos(['redis', ...args, '--log-format', 'text', '--log-level', 'error']);
    t.equal(ended.code, code, args.join(' '));
    t.match(ended.stderr, words);
  }
});
