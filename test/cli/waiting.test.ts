// A process that waits to be added: what it tells an operator's tool, what it keeps, which directories it refuses, and
// when its wait ends.
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Inquiry, type AskedHost } from '../../src/client/inquiry.js';
import { OperatorClient } from '../../src/client/operator-client.js';
import { switchOn } from '../../src/client/feature-switch.js';
import { WAITING_QUESTION } from '../../src/client/waiting-question.js';
import { openChain } from '../../src/host/chain.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { silentLogger } from '../../src/host/logger.js';
import { decodeWaiting, encodeWaiting, type WaitingReport } from '../../src/host/waiting-report.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { FEATURE_NAMES, featureOperation } from '../../src/protocol/log/features.js';
import { Replica } from '../../src/server/replica.js';
import { AskPace } from '../../src/cli/members/ask-pace.js';
import { WaitingHost } from '../../src/cli/members/waiting-host.js';
import { decodeJoining, encodeJoining } from '../../src/storage/joining-file.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import { writeMembers } from '../../src/storage/members-file.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { WAITING_ID } from '../../src/wire/host-ids.js';
import { clusterConfig, freePorts, startReplicas } from '../server/fixtures.js';

const TIMEOUT_MS = 60_000;

async function place(): Promise<AskedHost['at']> {
  return { host: '127.0.0.1', port: (await freePorts(1))[0]! };
}

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-waiting-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return join(path, 'data');
}

async function ask(
  cluster: ClusterConfig,
  at: AskedHost['at'],
  keys?: KeyFile,
  id = WAITING_ID,
): Promise<WaitingReport | undefined> {
  await using inquiry = await Inquiry.open(
    'test',
    { cluster, ...(keys === undefined ? {} : { keys }) },
    WAITING_QUESTION,
    [{ id, at }],
  );
  return (await inquiry.ask(TIMEOUT_MS))[0]!.answer;
}

t.test('it tells what it is, under an identity that is durable first, and ends when the log lists that', async (t) => {
  const cluster = await clusterConfig(3);
  const data = directory(t);
  const listen = await place();
  const options = { cluster, listen, data, logger: silentLogger };
  let identity: string;
  {
    await using waiting = await WaitingHost.open(options);
    ({ identity } = waiting);
    t.match(identity, /^[0-9a-f]{16}$/);
    t.match(await ask(cluster, listen), {
      cluster: cluster.id,
      identity,
      address: `127.0.0.1:${listen.port}`,
      limits: loadCluster(cluster).limits,
      chain: { function: 'xxh3-64' },
      pid: process.pid,
    });
    await t.rejects(WaitingHost.open(options), { code: 'data-directory-locked' });
  }
  t.same(
    readdirSync(data).filter((name) => !name.startsWith('lock')),
    ['joining'],
  );
  await using waiting = await WaitingHost.open(options);
  t.equal(waiting.identity, identity, 'started again, it is the same');
  const added = waiting.added();
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const connect = { cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS };
  const number = FEATURE_NAMES.indexOf('membership') + 1;
  const chain = openChain(loadCluster(cluster), undefined, loadHash());
  await switchOn(connect, featureOperation(number, chain), TIMEOUT_MS);
  await using operator = await OperatorClient.open(connect);
  for (const id of [0, 1, 2])
    await operator.change(
      { kind: 'name', id, identityHi: 7, identityLo: id, address: cluster.replicas[id]! },
      TIMEOUT_MS,
    );
  const [identityHi, identityLo] = [parseInt(identity.slice(0, 8), 16) | 0, parseInt(identity.slice(8), 16) | 0];
  const address = `127.0.0.1:${listen.port}`;
  t.match(await operator.change({ kind: 'learn', identityHi, identityLo, address }, TIMEOUT_MS), { id: 3 });
  t.match(await added, { id: 3, list: { hosts: [{}, {}, {}, { id: 3, address, identity, votes: false }] } });
});

t.test('its cluster file is old: a host of it that has left leads on to those that know', async (t) => {
  const cluster = await clusterConfig(1);
  const listen = await place();
  const lines: unknown[] = [];
  const heard = (event: string, fields: unknown): void => void lines.push([event, fields]);
  const logger = { ...silentLogger, warn: heard };
  await using waiting = await WaitingHost.open({ cluster, listen, data: directory(t), logger });
  const added = waiting.added();
  while (lines.length === 0) await sleep(20);
  t.match(lines, [['replica.nobody-answers', { asked: cluster.replicas, next: /member list --write FILE/ }]]);

  // Each answers as a host does, with its own list.
  const host = { identity: 'ab'.repeat(8), votes: true, willVote: true };
  const at = await place();
  const member = { ...host, id: 1, slot: 1, address: `127.0.0.1:${at.port}` };
  const old = { started: 1, decided: 1, index: 10, nextId: 2, hosts: [member] };
  const own = { ...host, id: 2, slot: 2, address: `127.0.0.1:${listen.port}`, identity: waiting.identity };
  const { idHi: clusterHi, idLo: clusterLo } = loadCluster(cluster);
  const start = async (id: number, list: MemberList, where: string): Promise<void> => {
    const data = directory(t);
    mkdirSync(data);
    writeFileSync(join(data, 'joining'), encodeJoining('ab'.repeat(8), { clusterHi, clusterLo }, loadHash()));
    await writeMembers(new DirectoryFiles(data), list, { clusterHi, clusterLo }, loadHash());
    const replica = await Replica.start({
      ...{ cluster, id, data, machine: new KvMachine(), logger: silentLogger, listen: where },
    });
    t.teardown(() => replica.close());
  };
  await start(0, old, cluster.replicas[0]!);
  await start(1, { ...old, index: 11, nextId: 3, hosts: [member, own] }, member.address);
  t.match(await added, { id: 2, list: { index: 11 } });
});

t.test('closed, it waits no longer: while nobody answers', async (t) => {
  const cluster = await clusterConfig(1);
  const waiting = await WaitingHost.open({ cluster, listen: await place(), data: directory(t), logger: silentLogger });
  const added = waiting.added();
  await waiting.close();
  t.equal(await added, undefined);
});

t.test('closed, it waits no longer: in the pause behind a round in which all answered', async (t) => {
  const cluster = await clusterConfig(1);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const waiting = await WaitingHost.open({ cluster, listen: await place(), data: directory(t), logger: silentLogger });
  const pause = new Promise<void>((resolve) => {
    let timer: unknown;
    const set = (begun: unknown): void => {
      timer = begun;
      resolve();
    };
    Object.defineProperty(waiting, 'timer', { get: () => timer, set });
  });
  const added = waiting.added();
  await pause;
  await waiting.close();
  t.equal(await added, undefined);
});

t.test('directories that cannot be those of a new host', async (t) => {
  const cluster = await clusterConfig(1);
  const open = async (data: string, of = cluster): Promise<WaitingHost> =>
    WaitingHost.open({ cluster: of, listen: await place(), data, logger: silentLogger });
  const full = directory(t);
  mkdirSync(full);
  writeFileSync(join(full, 'notes.txt'), 'x');
  await t.rejects(open(full), {
    code: 'data-directory-unusable',
    message: /is not empty \(notes\.txt\), and a host that is added begins with an empty directory; give another one/,
  });
  const other = directory(t);
  await (await open(other)).close();
  const file = join(other, 'joining');
  const foreign = { ...cluster, id: 'ffffffffffffffff' };
  await t.rejects(open(other, foreign), {
    code: 'data-directory-foreign',
    message: /joining is of cluster 00c0ffee12345678, not of cluster ffffffffffffffff/,
  });
  const bytes = readFileSync(file);
  for (const at of [0, 5, 9, 20, 31]) {
    const damaged = Buffer.from(bytes);
    damaged[at]! ^= 1;
    writeFileSync(file, damaged);
    await t.rejects(open(other), { code: 'data-directory-unusable', message: /joining is damaged/ }, `byte ${at}`);
  }
  writeFileSync(file, bytes.subarray(0, 20));
  await t.rejects(open(other), { code: 'data-directory-unusable', message: /joining is damaged/ });
  writeFileSync(file, bytes);
  await (await open(other)).close();

  t.equal(await WaitingHost.idIn(other, loadCluster(cluster)), undefined);
  t.equal(await WaitingHost.idIn(directory(t), loadCluster(cluster)), undefined, 'a directory that does not exist');
  const used = directory(t);
  const replica = await Replica.start({ cluster, id: 0, machine: new KvMachine(), data: used, logger: silentLogger });
  await replica.close();
  t.equal(await WaitingHost.idIn(used, loadCluster(cluster)), 0);
  await t.rejects(WaitingHost.idIn(used, loadCluster(foreign)), { code: 'data-directory-foreign' });
});

t.test('with keys, an operator asks it, and it asks for the members under a key of a client', async (t) => {
  const cluster = { ...(await clusterConfig(1)), authentication: 'keys' as const };
  const entry = (id: number, role: KeyEntry['role']): KeyEntry => ({
    id,
    role,
    secret: randomBytes(32).toString('hex'),
  });
  const [own, operator, client, unknown] = [
    entry(1, 'replica'),
    entry(22, 'operator'),
    entry(23, 'client'),
    entry(24, 'operator'),
  ] as const;
  const file = (use: KeyEntry, ...more: KeyEntry[]): KeyFile => ({
    schema: 'jitpaxos.keys/1',
    cluster: cluster.id,
    use: use.id,
    keys: [use, ...more],
  });
  const listen = await place();
  const options = { cluster, listen, data: directory(t), logger: silentLogger };
  await t.rejects(WaitingHost.open({ ...options, keys: file(own) }), {
    code: 'key-role',
    message: /the replicas' key file has no client's key, and one is needed to ask who the members are/,
  });
  await using waiting = await WaitingHost.open({ ...options, keys: file(own, operator, client) });
  t.match(await ask(cluster, listen, file(operator)), { identity: waiting.identity });
  await using stranger = await Inquiry.open('test', { cluster, keys: file(unknown) }, WAITING_QUESTION, [
    { id: WAITING_ID, at: listen },
  ]);
  t.equal((await stranger.ask(500))[0]!.answer, undefined, 'nobody else is answered');
});

t.test('a report of a waiting process is whole and harmless, or it is none', (t) => {
  const report: Omit<WaitingReport, 'schema'> = {
    cluster: '00c0ffee12345678',
    version: '1.0.0',
    pid: 5,
    address: 'a:1',
    identity: '00000000000000a1',
    limits: loadCluster({ schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678', replicas: ['a:1'] }).limits,
    chain: { function: 'xxh3-64', fingerprint: '00000000' },
    features: ['membership'],
    view: 0,
  };
  t.match(decodeWaiting(encodeWaiting(report)), report);
  for (const wrong of [
    { identity: '0000000000000000' },
    { identity: 'x' },
    { version: 'a\u001b[2J' },
    { limits: { ...report.limits, logEntries: 'many' } },
    { chain: {} },
    { features: [1] },
    { address: undefined },
  ])
    t.equal(decodeWaiting(encodeWaiting({ ...report, ...wrong } as never)), undefined, JSON.stringify(wrong));
  const bytes = encodeWaiting(report);
  for (let length = 0; length < bytes.length; length++) t.equal(decodeWaiting(bytes.subarray(0, length)), undefined);
  const hash = loadHash();
  const owner = { clusterHi: 1, clusterLo: 2 };
  t.equal(decodeJoining(encodeJoining('00000000000000a1', owner, hash), owner, hash, 'x'), '00000000000000a1');
  t.end();
});

t.test('a dead host keeps no news from it, and no host is asked more often than it can answer', (t) => {
  const pace = new AskPace();
  const near = { roundTripUs: 300 };
  const dead = { roundTripUs: undefined };
  pace.heard([near, dead, near]);
  t.equal(pace.roundMs, 100, 'the dead one is not waited for');
  for (const roundMs of [200, 400, 800, 1_600, 2_000, 2_000]) {
    pace.heard([dead, dead]);
    t.equal(pace.roundMs, roundMs, 'nobody answered: they may be further than a round');
  }
  pace.heard([dead, { roundTripUs: 150_000 }]);
  t.equal(pace.roundMs, 600);
  pace.heard([near, { roundTripUs: 150_000 }]);
  t.equal(pace.roundMs, 100);
  pace.heard([{ roundTripUs: 5_000_000 }]);
  t.equal(pace.roundMs, 2_000);
  t.end();
});

t.test('a port that is taken is named with the flag that gave it', async (t) => {
  const cluster = await clusterConfig(1);
  const listen = await place();
  await using first = await WaitingHost.open({ cluster, listen, data: directory(t), logger: silentLogger });
  t.ok(first.identity);
  for (const transport of ['auto', 'dgram'] as const)
    await t.rejects(WaitingHost.open({ cluster, listen, data: directory(t), transport, logger: silentLogger }), {
      code: 'port-in-use',
      message:
        /^another socket listens at UDP 127\.0\.0\.1:\d+; .*, or give another port with --listen \(library: listen\)$/,
    });
  await t.rejects(
    Replica.start({
      cluster,
      id: 0,
      listen: `127.0.0.1:${listen.port}`,
      machine: new KvMachine(),
      logger: silentLogger,
    }),
    { code: 'port-in-use', message: /give another port with --listen/ },
  );
  const [host, port] = cluster.replicas[0]!.split(':');
  await using other = await WaitingHost.open({
    cluster,
    listen: { host: host!, port: Number(port) },
    data: directory(t),
    logger: silentLogger,
  });
  t.ok(other.identity);
  await t.rejects(Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger }), {
    code: 'port-in-use',
    message: /give the replica another port in the cluster file$/,
  });
});
