// The keyed chain with real replicas: what a client's key could do to the chain of before and cannot to this one; what
// replicas with another secret do; and the way from the one to the other.
import t, { type Test } from 'tap';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { writeFirstKeys } from '../../src/console/key-files.js';
import { freePorts } from '../../src/host/free-ports.js';
import { authenticationOf } from '../../src/measure/local-cluster.js';
import { encodeGet, encodePut } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { Sample } from '../../src/metrics/exposition.js';
import { loadHash } from '../../src/native/hash64.js';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { silentLogger, type Logger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import type { ReplicaOptions } from '../../src/server/replica-options.js';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { wordsOf } from '../../src/wire/copy.js';
import { CLIENT_SENDER, Envelope } from '../../src/wire/envelope.js';
import { Request, RequestFlag } from '../../src/wire/messages.js';
import { encode } from '../protocol/harness.js';
import { jitpaxos } from './processes.js';

const SECRET = Buffer.from(
  'b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c',
  'hex',
);
const PATIENCE_MS = 60_000;
const ATTEMPTS = 40;
const hash = loadHash();

t.setTimeout(600_000);

/** Two operations under which XXH3 has one chain: test/protocol/chain.test.ts. */
function colliding(free: string, query: boolean): Uint8Array {
  const block = Buffer.concat([SECRET.subarray(56, 64), SECRET.subarray(16, 24), Buffer.from(free)]);
  const out = new Uint8Array(64);
  return out.slice(
    0,
    query
      ? encodeGet(out, 0, Buffer.concat([Buffer.from('abcde'), block]))
      : encodePut(out, 0, Buffer.from('abc'), block),
  );
}

interface Home {
  readonly directory: string;
  readonly clusterFile: string;
  readonly config: ClusterConfig;
  file(name: string): string;
  /** What each replica logged: [event, fields]. */
  readonly said: [string, Record<string, unknown>][][];
  start(id: number, options?: Partial<ReplicaOptions>): Promise<Replica>;
}

/** Cluster file and keys of three replicas on loopback. */
async function home(t: Test, { unkeyedChain = false } = {}): Promise<Home> {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-chain-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const file = (name: string): string => join(directory, name);
  const clusterFile = file('cluster.json');
  const config: ClusterConfig = {
    schema: 'jitpaxos.cluster/1',
    id: '00c0ffee0000ba5e',
    replicas: (await freePorts(3)).map((port) => `127.0.0.1:${port}`),
    ...authenticationOf({ authenticated: true, unkeyedChain }),
    limits: { logEntries: 1 << 12, logBytes: 1 << 18, operationBytes: 4096 },
  };
  writeFileSync(clusterFile, JSON.stringify(config));
  writeFirstKeys(clusterFile, config.id, !unkeyedChain);
  const said: [string, Record<string, unknown>][][] = [[], [], []];
  const running = new Set<Replica>();
  t.teardown(() => Promise.all([...running].map((replica) => replica.close().catch(() => undefined))));
  const start = async (id: number, options: Partial<ReplicaOptions> = {}): Promise<Replica> => {
    const note = (event: string, fields?: unknown): void =>
      void said[id]!.push([event, fields as Record<string, unknown>]);
    const logger: Logger = { info: note, warn: note, error: note };
    const replica = await Replica.start({
      cluster: clusterFile,
      id,
      machine: new KvMachine(),
      data: file(`data-${id}`),
      idle: 'block',
      logger,
      ...options,
    });
    running.add(replica);
    return replica;
  };
  return { directory, clusterFile, config, file, said, start };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; !holds(); ) {
    if (performance.now() > end) throw new Error(`not within a minute: ${what}`);
    await sleep(10);
  }
}

/** The committed entries in a replica's memory, as text; they are looked up where they are. */
function entriesOf(replica: Replica, committed: number): string[] {
  const { state } = (replica as unknown as { core: ReplicaCore }).core;
  return Array.from({ length: committed - state.log.baseIndex }, (_, i) => {
    const index = state.log.baseIndex + 1 + i;
    const bytes = Buffer.alloc(ENTRY_HEADER_BYTES + state.log.operationLength(index));
    state.log.writeEntry(index, wordsOf(bytes), 0);
    return bytes.toString('hex');
  });
}

/** Not of the public interface, and not secret: it stands in every Request in clear. */
const sessionOf = (client: Client): bigint =>
  BigInt(`0x${(client as unknown as { host: { sessionId: string } }).host.sessionId}`);

const keysOf = (file: string): KeyFile => JSON.parse(readFileSync(file, 'utf8')) as KeyFile;
const textOf = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : Buffer.from(value).toString();

for (const unkeyedChain of [true, false]) {
  for (const query of [false, true]) {
    t.test(
      `${query ? 'reads through the log under a read-only key' : "writes under a client's key"} that XXH3 cannot tell apart, another one to each replica: ${unkeyedChain ? 'the chain of before lets their logs differ' : 'with the keyed chain all logs are the same'}`,
      async (t) => {
        const at = await home(t, { unkeyedChain });
        const keyFile = at.file('mallory.keys');
        const added = await jitpaxos([
          'keys',
          'add',
          '--role',
          query ? 'read-only' : 'client',
          '--cluster',
          at.clusterFile,
          '--out',
          keyFile,
        ]);
        t.equal(added.code, 0, added.stderr);
        const replicas = await Promise.all([0, 1, 2].map((id) => at.start(id)));
        await using mallory = await Client.connect({
          cluster: at.clusterFile,
          keys: keyFile,
          lanes: 2,
          timeout: PATIENCE_MS,
        });
        const ring = new Keyring(keysOf(keyFile), false);
        const envelope = new Envelope(hash, 0x00c0ffee, 0x0000ba5e, CLIENT_SENDER, 3, ring);
        const socket = createSocket('udp4');
        socket.bind(0, '127.0.0.1');
        await once(socket, 'listening');
        // On a busy host a view may change in between, or a member fetch the entry before it is sent its own: then it
        // is tried again.
        let differ = false;
        let committed = 0;
        for (let request = 1; request <= ATTEMPTS && !differ && (unkeyedChain || committed === 0); request++) {
          const { view, primary, lastIndex } = replicas[0]!.status();
          const timestamp = BigInt(Date.now()) * 1_000_000n;
          for (const id of [0, 1, 2]) {
            const operation = colliding(id === primary ? 'AAAAAAAA' : 'BBBBBBBB', query);
            const message = encode(Request, {
              view,
              session: sessionOf(mallory),
              lane: 1,
              request,
              flags: query ? RequestFlag.query : 0,
              timestamp,
              operation,
            });
            const head = envelope.bytesIn(envelope.newest);
            const bytes = new Uint8Array(head + message.length);
            bytes.set(message, head);
            t.ok(envelope.seal(bytes, 0, bytes.length, ring.own));
            await new Promise((resolve) =>
              socket.send(bytes, Number(at.config.replicas[id]!.split(':')[1]), '127.0.0.1', resolve),
            );
          }
          const everywhere = (): boolean => replicas.every((replica) => replica.status().committedIndex > lastIndex);
          for (let waited = 0; waited < 500 && !everywhere(); waited++) await sleep(10);
          if (!everywhere()) continue;
          committed++;
          const logs = replicas.map((replica) =>
            entriesOf(replica, Math.min(...replicas.map((each) => each.status().committedIndex))),
          );
          differ = logs.some((log) => log.join() !== logs[0]!.join());
        }
        socket.close();
        ring.close();
        t.ok(committed > 0, 'the entry was committed');
        t.equal(
          differ,
          unkeyedChain,
          unkeyedChain ? 'and replicas hold different ones' : 'and all replicas hold the same',
        );
        await until(
          'all have all of it',
          () => new Set(replicas.map((replica) => replica.status().lastIndex)).size === 1,
        );
        t.equal(
          new Set(replicas.map((replica) => replica.status().lastChain)).size,
          1,
          'all take their logs to be the same',
        );
        t.equal(
          at.said[0]!.some(([event]) => event === 'chain.unkeyed'),
          unkeyedChain,
          'said at the start',
        );
      },
    );
  }
}

for (const durability of ['os', 'fsync'] as const) {
  t.test(`durability ${durability}: a log is taken up again under its secret, and under no other`, async (t) => {
    const at = await home(t);
    const round = async (options: Partial<ReplicaOptions> = {}): Promise<void> => {
      const replicas = await Promise.all([0, 1, 2].map((id) => at.start(id, { durability, ...options })));
      const client = await Client.connect({ cluster: at.clusterFile, lanes: 1, timeout: PATIENCE_MS });
      const kv = new KvClient(client);
      const before = textOf(await kv.get('rounds')) ?? '';
      t.equal(before.length, rounds++, 'what was written is there');
      await kv.put('rounds', `${before}x`);
      await client.close();
      for (const replica of replicas) await replica.close();
    };
    let rounds = 0;
    await round();
    await round();
    const names = readdirSync(at.file('data-0')).filter((name) => name.startsWith('log-'));
    t.equal(readFileSync(join(at.file('data-0'), names[0]!)).readInt32BE(4), 2, 'segments are of format 2');

    const file = at.file('replica.keys');
    const good = keysOf(file);
    const refused = async (code: string, says: RegExp, cluster: ClusterConfig, keys: KeyFile): Promise<void> => {
      const error: unknown = await at.start(0, { durability, cluster, keys }).then(
        (replica) => replica.close(),
        (error: unknown) => error,
      );
      t.match(error, { code }, String(error));
      t.match((error as Error).message, says);
      t.notOk((error as Error).message.includes(good.chainSecret!.slice(0, 8)), 'no secret');
    };
    const { chain: _, ...unkeyed } = at.config;
    const { chainSecret: __, ...without } = good;
    await refused(
      'chain-differs',
      /data-0\/log-.* belongs to a log whose chain has the secret with the fingerprint [0-9a-f]{8}, but by .* it has the secret with the fingerprint [0-9a-f]{8}; use .*replica\.keys/,
      at.config,
      { ...good, chainSecret: '5a'.repeat(16) },
    );
    await refused('chain-differs', /whose chain has the secret .* it has no secret/, unkeyed, without);
    await refused(
      'chain-secret-missing',
      /"chainSecret"; copy the key file of a replica that has it/,
      at.config,
      without,
    );
    await refused('chain-differs', /does not say "chain": "siphash-2-4"/, unkeyed, good);
    await round({ keys: { ...good, chainSecret: good.chainSecret!.toUpperCase() } });
  });
}

t.test('a log of before is not taken up under a keyed chain', async (t) => {
  const at = await home(t, { unkeyedChain: true });
  // It writes nothing before it knows that it is new.
  const first = await Promise.all([0, 1, 2].map((id) => at.start(id, { durability: 'fsync' })));
  await until('it has begun', () => first[0]!.status().status === 'normal');
  await Promise.all(first.map((replica) => replica.close()));
  const keys = { ...keysOf(at.file('replica.keys')), chainSecret: '5a'.repeat(16) };
  const error: unknown = await at
    .start(0, { durability: 'fsync', cluster: { ...at.config, chain: 'siphash-2-4' }, keys })
    .then(
      (replica) => replica.close(),
      (error: unknown) => error,
    );
  t.match(error, { code: 'chain-differs' });
  t.match((error as Error).message, /whose chain has no secret, .*; take "chain" out of the cluster file again/);
  await (await at.start(0, { durability: 'fsync' })).close();
});

t.test(
  'a replica with another secret is named by the others, by itself, by status and by doctor, and the others serve',
  async (t) => {
    const at = await home(t);
    const wrong = { ...keysOf(at.file('replica.keys')), chainSecret: '5a'.repeat(16) };
    const replicas = await Promise.all([at.start(0), at.start(1, { keys: wrong }), at.start(2)]);
    await using client = await Client.connect({
      cluster: at.clusterFile,
      lanes: 1,
      timeout: PATIENCE_MS,
      connectTimeout: PATIENCE_MS,
    });
    await new KvClient(client).put('k', 'v');
    await until('all have said it', () =>
      [0, 1, 2].every((id) => at.said[id]!.some(([event]) => event === 'replica.chain-differs')),
    );
    t.match(at.said[0]!.find(([event]) => event === 'replica.chain-differs')![1], {
      detail: /^replica 1 chains its log under another secret/,
      next: /the same replica\.keys/,
    });
    t.same(replicas[0]!.status().chain!.differs, [1]);
    await until('it has heard both', () => replicas[1]!.status().chain!.differs?.length === 2);
    t.match(replicas[1]!.unready(), /chain has another secret than that of replicas 0, 2|status is/);
    t.equal(replicas[0]!.unready(), undefined);
    const others = replicas.map(
      (replica) => replica.metrics().find(({ name }) => name === 'jitpaxos_replicas_set_up_otherwise')!,
    );
    t.same(
      others.map(({ samples }) => (samples as readonly Sample[]).map(({ labels, value }) => [labels?.['in'], value])),
      [1, 2, 1].map((n) => [
        ['chain', n],
        ['cluster_file', 0],
      ]),
      'in metrics, which an alert watches',
    );
    const status = await jitpaxos([
      'status',
      '--cluster',
      at.clusterFile,
      '--json',
      '--interval',
      '0s',
      '--timeout',
      '20s',
    ]);
    const { remarks } = JSON.parse(status.stdout) as { remarks: string[] };
    t.match(
      remarks.join('\n'),
      /chained under different secrets \(replica 0, 2: siphash-2-4, fingerprint [0-9a-f]{8}; replica 1: siphash-2-4, fingerprint [0-9a-f]{8}\)/,
    );
    const doctor = await jitpaxos(['doctor', '--cluster', at.clusterFile, '--json', '--timeout', '20s']);
    t.match(doctor.stdout, /chained under different secrets/);
    for (const text of [status.stdout, doctor.stdout, JSON.stringify(at.said)])
      t.notOk(
        text.includes(wrong.chainSecret.slice(0, 8)) ||
          text.includes(keysOf(at.file('replica.keys')).chainSecret!.slice(0, 8)),
        'no secret',
      );
  },
);

t.test('keys are rotated, and the secret of the chain stays', async (t) => {
  const at = await home(t);
  const file = at.file('replica.keys');
  const { chainSecret, use } = keysOf(file);
  const replicas = await Promise.all([0, 1, 2].map((id) => at.start(id)));
  const { fingerprint } = replicas[0]!.status().chain!;
  const keys = async (...args: string[]): Promise<Record<string, number>> => {
    const { code, stdout, stderr } = await jitpaxos(['keys', ...args, '--cluster', at.clusterFile, '--json']);
    t.equal(code, 0, stderr);
    t.notOk((stdout + stderr).includes(chainSecret!.slice(0, 8)), 'it is not printed');
    for (const replica of replicas) replica.reloadKeys();
    return JSON.parse(stdout) as Record<string, number>;
  };
  await using client = await Client.connect({ cluster: at.clusterFile, lanes: 1, timeout: PATIENCE_MS });
  const kv = new KvClient(client);
  const { added } = await keys('add', '--role', 'replica');
  await kv.put('k', '1');
  await keys('use', String(added));
  await kv.put('k', '2');
  await keys('remove', String(use));
  await kv.put('k', '3');
  await keys('add', '--role', 'read-only', '--out', at.file('reader.keys'));
  t.equal(textOf(await kv.get('k')), '3');
  t.equal(keysOf(file).chainSecret, chainSecret);
  t.notOk('chainSecret' in keysOf(at.file('reader.keys')), "a client's file has none");
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(replicas[0]!.status().chain!.fingerprint, fingerprint);
  for (const changed of [{ chainSecret: '5a'.repeat(16) }, { chainSecret: undefined }]) {
    writeFileSync(file, JSON.stringify({ ...keysOf(file), ...changed }));
    t.throws(() => replicas[0]!.reloadKeys(), { code: 'chain-differs', message: /not the one in use; put that back/ });
  }
  await kv.put('k', '4');
});

/** A key file like this one, with other secrets. */
function otherKeys(path: string, directory: string): string {
  const file = JSON.parse(readFileSync(path, 'utf8')) as KeyFile;
  const keys = file.keys.map((key) => ({ ...key, secret: randomBytes(32).toString('hex') }));
  const other = join(directory, 'other.keys');
  writeFileSync(other, JSON.stringify({ ...file, keys }), { mode: 0o600 });
  return other;
}

t.test('an old cluster with keys warns, and moves to a keyed chain by a backup', async (t) => {
  const old = await home(t, { unkeyedChain: true });
  const before = await Promise.all([0, 1, 2].map((id) => old.start(id, { durability: 'os' })));
  {
    await using client = await Client.connect({ cluster: old.clusterFile, lanes: 4, timeout: PATIENCE_MS });
    const kv = new KvClient(client);
    // More than the log holds at once: the backup begins with a snapshot, whose chain is of the old function.
    for (let i = 0; i < 40; i++)
      await Promise.all(Array.from({ length: 4 }, (_, lane) => kv.put(`k${lane}-${i}`, 'v'.repeat(4000))));
    await kv.put('last', 'old');
  }
  const doctor = await jitpaxos(['doctor', '--cluster', old.clusterFile, '--timeout', '20s']);
  t.match(doctor.stdout, /chain .*has no secret: the holder of any of its keys/);
  const status = await jitpaxos([
    'status',
    '--cluster',
    old.clusterFile,
    '--json',
    '--interval',
    '0s',
    '--timeout',
    '20s',
  ]);
  t.match(
    (JSON.parse(status.stdout) as { remarks: string[] }).remarks[0],
    /has no secret.*"A keyed chain for an old cluster"/,
  );
  for (const replica of before) await replica.close();

  const backup = old.file('old.jpb');
  const made = await jitpaxos(['backup', old.file('data-0'), '--out', backup, '--cluster', old.clusterFile]);
  t.equal(made.code, 0, made.stderr);
  t.match(made.stdout, /, sealed with its keys\n$/, 'with a key of the replicas: there is no secret of the chain');
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-chain-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const clusterFile = join(directory, 'cluster.json');
  const replicaPorts = (await freePorts(3)).map((port) => `127.0.0.1:${port}`).join(',');
  const init = (...more: string[]): ReturnType<typeof jitpaxos> =>
    jitpaxos(['init', '--replicas', replicaPorts, '--out', clusterFile, '--restore', backup, ...more]);
  t.match(
    await init(),
    { code: 1, stderr: /^backup-unauthenticated: nothing shows who made .*--backup-keys.*--unauthenticated/ },
    'a cluster with keys asks who made the backup',
  );
  t.match(
    await init('--backup-keys', otherKeys(old.file('replica.keys'), directory)),
    { code: 1, stderr: /^backup-unauthenticated: .* was not sealed with the keys in .*: it was changed, or is forged/ },
    'a forger has no key of the cluster',
  );
  const unsealed = join(directory, 'unsealed.jpb');
  t.match(await jitpaxos(['backup', old.file('data-0'), '--out', unsealed, '--json']), {
    code: 0,
    stdout: /"sealed":false/,
    stderr: /not sealed.*--cluster or --replica-keys/,
  });
  t.match(
    await jitpaxos([
      'init',
      '--replicas',
      replicaPorts,
      '--out',
      clusterFile,
      '--restore',
      unsealed,
      '--backup-keys',
      old.file('replica.keys'),
    ]),
    { code: 1, stderr: /^backup-unauthenticated: .* has no seal: / },
  );
  t.equal(existsSync(clusterFile), false, 'nothing was written');
  const written = await init('--backup-keys', old.file('replica.keys'));
  t.equal(written.code, 0, written.stderr);
  writeFileSync(
    clusterFile,
    JSON.stringify({ ...(JSON.parse(readFileSync(clusterFile, 'utf8')) as object), limits: old.config.limits }),
  );
  const data = (id: number): string => join(directory, `data-${id}`);
  const restore = (id: number, ...more: string[]): ReturnType<typeof jitpaxos> =>
    jitpaxos(['restore', backup, '--cluster', clusterFile, '--id', String(id), '--data', data(id), '--quiet', ...more]);
  const sealing = ['--backup-keys', old.file('replica.keys')];
  t.match(await restore(0), { code: 1, stderr: /^backup-unauthenticated: / });
  t.match(
    await restore(0, ...sealing, '--machine', 'echo'),
    { code: 1, stderr: /^backup-unusable: the machine "echo" refuses the state in / },
    'the machine checks its state before anything is written',
  );
  t.equal(existsSync(data(0)), false);
  t.match(
    await restore(0, ...sealing, '--replica-keys', old.file('replica.keys')),
    { code: 2, stderr: /key-file-invalid/ },
    "it needs the replicas' key file: segments name the secret",
  );
  t.match(await restore(0, '--unauthenticated'), { code: 0 });
  for (const id of [1, 2]) t.match(await restore(id, ...sealing), { code: 0 });
  const inspected = JSON.parse((await jitpaxos(['inspect', data(0), '--json'])).stdout) as {
    chain: { keyed: boolean };
    log: { baseIndex: number };
  };
  t.equal(inspected.chain.keyed, true);
  t.ok(inspected.log.baseIndex > 0, 'it stands on a snapshot of the old cluster');

  const start = (id: number): Promise<Replica> =>
    Replica.start({
      cluster: clusterFile,
      id,
      machine: new KvMachine(),
      data: data(id),
      durability: 'os',
      idle: 'block',
      logger: silentLogger,
    });
  const replicas = await Promise.all([0, 1, 2].map(start));
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close().catch(() => undefined))));
  await using client = await Client.connect({ cluster: clusterFile, lanes: 4, timeout: PATIENCE_MS });
  const kv = new KvClient(client);
  t.equal(textOf(await kv.get('last')), 'old');
  t.equal(textOf(await kv.get('k3-39'))!.length, 4000);
  for (let i = 0; i < 20; i++) await kv.put('last', `new ${i}`);
  await replicas[0]!.close();
  t.equal(textOf(await kv.get('last')), 'new 19', 'another one is primary');
  await kv.put('last', 'without 0');
  replicas[0] = await start(0);
  await until(
    'the one that was away has it all',
    () =>
      replicas[0]!.status().committedIndex >= replicas[1]!.status().committedIndex &&
      replicas[0]!.status().status === 'normal',
  );
  t.equal(replicas[0]!.status().lastChain.length, 16);
  t.same(new Set(replicas.map((replica) => replica.status().chain!.fingerprint)).size, 1);
  t.equal(textOf(await kv.get('last')), 'without 0');
});
