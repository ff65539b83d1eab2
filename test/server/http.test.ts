// Who may ask the HTTP server, and who cannot keep others from asking: slow connections, many connections, foreign
// names.
import { spawn, type ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { SlowConnections } from '../../bench/slow-connections.js';
import { gauge } from '../../src/metrics/exposition.js';
import {
  CONNECTIONS_BY_ADDRESS,
  CONNECTIONS_BY_LOOPBACK,
  CONNECTIONS_MAX,
  HEADERS_MS,
  HttpConnections,
} from '../../src/server/http-connections.js';
import { MetricsServer, type Monitored, type MetricsServerOptions } from '../../src/server/metrics-server.js';
import { jitpaxos, MAIN } from '../cluster/processes.js';
import { clusterConfig } from './fixtures.js';

const WELL: Monitored = {
  metrics: () => [gauge('jitpaxos_view', 'View', 3)],
  unhealthy: () => undefined,
  unready: () => undefined,
};

async function serve(t: Test, options?: MetricsServerOptions): Promise<MetricsServer> {
  const server = await MetricsServer.start('0', WELL, options);
  t.teardown(() => server.close());
  return server;
}

/** Sends a text and resolves with all that comes back until the connection ends. */
function exchange(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    connect(port, '127.0.0.1')
      .on('error', reject)
      .on('data', (data) => (answer += String(data)))
      .on('close', () => resolve(answer))
      .write(text);
  });
}

const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);

t.test('40 connections that send a byte every 500 ms, and come back, keep nobody from asking', async (t) => {
  const server = await serve(t);
  const slow = new SlowConnections(server.port, 40);
  t.teardown(() => slow.close());
  let asked = 0;
  // Until each has come back twice: the server has cut them, and they have taken their places again.
  while (slow.cut < 80 || asked < 20) {
    const beganMs = performance.now();
    const answer = await exchange(server.port, 'GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n').catch(String);
    // A host that stalled for so long made the question itself a slow one. What slow connections do comes at once.
    if (statusOf(answer) === 408 && performance.now() - beganMs >= HEADERS_MS) continue;
    asked++;
    if (statusOf(answer) !== 200) t.fail(`question ${asked}, after ${slow.cut} were cut: ${answer}`);
  }
  t.pass(`${asked} questions were answered, while ${slow.cut} slow connections were cut`);
});

/** A connection as the server sees it. */
class Arrival extends EventEmitter {
  destroyed = false;
  constructor(readonly remoteAddress: string) {
    super();
  }
  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.emit('close');
  }
}

/** Connections from these addresses, one after the other. */
function arrive(addresses: readonly string[]): {
  connections: HttpConnections;
  arrivals: Arrival[];
  server: EventEmitter;
} {
  const connections = new HttpConnections();
  const server = new EventEmitter();
  connections.guard(server as Server);
  const arrivals = addresses.map((address) => new Arrival(address));
  for (const arrival of arrivals) server.emit('connection', arrival);
  return { connections, arrivals, server };
}

const cutOf = (arrivals: readonly Arrival[]): number[] =>
  arrivals.flatMap(({ destroyed }, index) => (destroyed ? [index] : []));

t.test('an address that has all of its places cuts one of its own', (t) => {
  const attacker = new Array<string>(CONNECTIONS_BY_ADDRESS).fill('192.0.2.1');
  const { connections, arrivals, server } = arrive(['192.0.2.9', ...attacker]);
  t.same(cutOf(arrivals), []);
  server.emit('connection', new Arrival('192.0.2.1'));
  t.same(cutOf(arrivals), [1], 'the one that has waited longest');
  connections.asked(arrivals[2] as unknown as Socket);
  server.emit('connection', new Arrival('::ffff:192.0.2.1'));
  t.same(cutOf(arrivals), [1, 3], 'a request that is being answered is spared, and both notations are one address');
  for (let i = 0; i < 1_000; i++) server.emit('connection', new Arrival('192.0.2.1'));
  t.notOk(arrivals[0]!.destroyed, 'another address notices nothing');
  t.end();
});

t.test('this host has more places', (t) => {
  for (const loopback of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1']) {
    const { arrivals, server } = arrive(new Array<string>(CONNECTIONS_BY_LOOPBACK).fill(loopback));
    t.same(cutOf(arrivals), [], loopback);
    server.emit('connection', new Arrival(loopback));
    t.same(cutOf(arrivals), [0], loopback);
  }
  t.end();
});

t.test('when all places are taken, the connection is cut that has waited longest without a whole request', (t) => {
  const { connections, arrivals, server } = arrive(
    Array.from({ length: CONNECTIONS_MAX }, (_, i) => `192.0.2.${i >> 1}`),
  );
  t.same(cutOf(arrivals), []);
  connections.asked(arrivals[0] as unknown as Socket);
  server.emit('connection', new Arrival('203.0.113.1'));
  t.same(cutOf(arrivals), [1]);
  for (const arrival of arrivals) connections.asked(arrival as unknown as Socket);
  const newest = new Arrival('203.0.113.2');
  server.emit('connection', newest);
  t.same([cutOf(arrivals), newest.destroyed], [[1], false], 'the one that came just before waited for its request');
  connections.asked(newest as unknown as Socket);
  const next = new Arrival('203.0.113.3');
  server.emit('connection', next);
  t.same([cutOf(arrivals), next.destroyed], [[0, 1], false], 'if all have asked, the oldest');
  t.end();
});

t.test('no connection lasts, whether it asked or not', async (t) => {
  const { connections, arrivals } = arrive(['192.0.2.1', '192.0.2.2']);
  connections.asked(arrivals[0] as unknown as Socket);
  const alive = setInterval(() => undefined, 1_000); // the server's own timers keep no process alive
  await Promise.all(arrivals.map((arrival) => new Promise<void>((resolve) => arrival.once('close', resolve))));
  clearInterval(alive);
  t.same(cutOf(arrivals), [0, 1]);
});

t.test('only an address, localhost or a name of its own is answered', async (t) => {
  const server = await serve(t, { names: ['Replica0.example.org', 'db'] });
  const ask = async (host: string, path = '/metrics'): Promise<number> =>
    statusOf(await exchange(server.port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
  for (const host of [
    '127.0.0.1',
    '10.1.2.3:9464',
    '[::1]',
    '[fd00::7]:9464',
    'localhost',
    'LOCALHOST:80',
    'localhost.',
    'replica0.example.org:9464',
    'REPLICA0.EXAMPLE.ORG.',
    'db',
  ])
    t.equal(await ask(host), 200, host);
  for (const host of [
    'evil.example',
    'evil.example:9464',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evil.localhost',
    'example.org',
    'x.replica0.example.org',
    '[localhost]',
    '[::1].evil.example',
    '127.1',
    '2130706433',
    'localhost, evil.example',
    'evil.example:localhost',
    '',
  ])
    for (const path of ['/metrics', '/healthz', '/']) t.equal(await ask(host, path), 421, `${host} ${path}`);
  const old = await exchange(server.port, 'GET /healthz HTTP/1.0\r\n\r\n');
  t.equal(statusOf(old), 200, 'HTTP/1.0 has no Host');
  const without = await serve(t);
  t.equal(
    statusOf(await exchange(without.port, 'GET /healthz HTTP/1.1\r\nHost: replica0.example.org\r\n\r\n')),
    421,
    'nothing is a name by itself',
  );
  for (const names of [['a:80'], [''], ['*'], ['[::1]'], ['a..b'], ['x'.repeat(254)], [3], 'db'])
    await t.rejects(MetricsServer.start('0', WELL, { names } as never), { code: 'option-invalid' }, String(names));
  await t.rejects(MetricsServer.start('0', WELL, { serves: 'metrics' } as never), { code: 'option-invalid' });
  await t.rejects(MetricsServer.start('0', WELL, { name: ['db'] } as never), { code: 'option-invalid' });
});

/** A replica of its own cluster, as a process. Resolves with its ready line. */
async function startReplica(
  t: Test,
  flags: readonly string[],
): Promise<{ child: ChildProcess; ready: Record<string, unknown>; clusterFile: string; stderr: () => string }> {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-http-'));
  const clusterFile = join(directory, 'cluster.json');
  writeFileSync(clusterFile, JSON.stringify(await clusterConfig(1)));
  const child = spawn(process.execPath, [MAIN, 'replica', '--cluster', clusterFile, '--id', '0', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ready = await new Promise<Record<string, unknown>>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith('ready ')) resolve(JSON.parse(line.slice(6)) as Record<string, unknown>);
    });
    child.once('exit', () => reject(new Error(`the replica ended: ${stderr}`)));
  });
  return { child, ready, clusterFile, stderr: () => stderr };
}

t.test('jitpaxos replica serves its health at an address of its own', async (t) => {
  const { ready } = await startReplica(t, ['--metrics', '0', '--health', '0', '--metrics-names', 'a.example,b']);
  const health = new URL(ready['health'] as string);
  const metrics = new URL(ready['metrics'] as string);
  t.match([health.hostname, health.pathname], ['127.0.0.1', '/healthz']);
  t.not(health.port, metrics.port);
  for (const [url, expected] of [
    [health, 200],
    [new URL('/readyz', health), 200],
    [new URL('/metrics', health), 404],
    [metrics, 200],
    [new URL('/healthz', metrics), 200],
  ] as const)
    t.equal((await fetch(url)).status, expected, url.href);
  for (const [host, expected] of [
    ['b', 200],
    ['c', 421],
  ] as const)
    for (const { port } of [health, metrics])
      t.equal(
        statusOf(await exchange(Number(port), `GET /healthz HTTP/1.1\r\nHost: ${host}\r\n\r\n`)),
        expected,
        `${host} at ${port}`,
      );
  const refused = await jitpaxos(['replica', '--id', '0', '--health', 'localhost:1']);
  t.match([refused.code, refused.stderr], [2, /option-invalid/]);
});
