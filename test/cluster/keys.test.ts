// Keys with real processes: who is heard, who is not, and that rotating them disturbs nobody.
import t from 'tap';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ClientHost } from '../../src/client/client-host.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { LocalCluster, MAIN } from '../../src/measure/local-cluster.js';
import { encodePut } from '../../src/machine/kv-codec.js';
import { loadHash } from '../../src/native/hash64.js';
import { Outcome } from '../../src/protocol/contract.js';
import type { Finding } from '../../src/cli/doctor/finding.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { silentLogger } from '../../src/host/logger.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { CLIENT_SENDER, Envelope } from '../../src/wire/envelope.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { begin, type Message } from '../../src/wire/layout.js';
import { Probe, Request, Status, ViewChange } from '../../src/wire/messages.js';
import { writeI32 } from '../../src/wire/u64.js';
import { jitpaxos, type Ended } from './processes.js';

/** However late this host wakes its processes, nobody is suspected: the view stays 0, and replica 0 its primary. */
const PATIENT = { main: MAIN, flags: ['--suspect-after', '30s', '--slow-after', '0s'] };
const OPTIONS = {
  replicas: 3,
  machine: 'kv',
  transport: 'auto',
  durability: 'memory',
  authenticated: true,
  program: PATIENT,
} as const;
/** An operation of a client that is heard takes no longer, however busy the host is. */
const TIMEOUT_MS = 60_000;
const PATIENCE_MS = 60_000;
const hash = loadHash();

async function reports(cluster: LocalCluster): Promise<ReplicaStatusReport[]> {
  return (await cluster.ask('stats')).map((answer) => answer!.status as unknown as ReplicaStatusReport);
}

/** Runs `jitpaxos keys …` and returns what it reports. */
async function keys(cluster: LocalCluster, ...args: string[]): Promise<Record<string, string | number>> {
  const { code, stdout, stderr } = await jitpaxos(['keys', ...args, '--cluster', cluster.clusterFile, '--json']);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, string | number>;
}

/** SIGHUP to these replicas, and waits until each has said that it read its keys. */
async function reload(cluster: LocalCluster, ids: readonly number[] = [0, 1, 2]): Promise<void> {
  const count = (id: number): number => cluster.replicas[id]!.complaint.split('"keys.reloaded"').length;
  const before = new Map(ids.map((id) => [id, count(id)]));
  for (const id of ids) cluster.replicas[id]!.kill('SIGHUP');
  if (!(await until(() => ids.every((id) => count(id) > before.get(id)!))))
    throw new Error('a replica did not read its keys again');
}

t.test(
  "the replicas' key is rotated under load: no operation fails, and the old key is not heard any more",
  async (t) => {
    await using cluster = await LocalCluster.start(OPTIONS);
    await using client = await Client.connect({
      cluster: cluster.clusterFile,
      lanes: 4,
      timeout: TIMEOUT_MS,
      connectTimeout: TIMEOUT_MS,
    });
    const kv = new KvClient(client);
    const old = JSON.parse(readFileSync(join(cluster.directory, 'replica.keys'), 'utf8')) as KeyFile;
    let running = true;
    let done = 0;
    const failed: unknown[] = [];
    const load = Array.from({ length: 4 }, async (_, writer) => {
      for (let i = 0; running; i++) {
        try {
          await kv.put(`${writer}-${i}`, `${i}`);
          done++;
        } catch (error) {
          failed.push(error);
        }
      }
    });
    const progress = async (): Promise<void> => {
      const before = done;
      t.ok(await until(() => done >= before + 50), 'operations go on');
    };
    await progress();
    const { added } = await keys(cluster, 'add', '--role', 'replica');
    await reload(cluster);
    await progress();
    await keys(cluster, 'use', String(added));
    await reload(cluster);
    await progress();
    await keys(cluster, 'remove', String(old.use));
    await reload(cluster);
    await progress();
    running = false;
    await Promise.all(load);
    t.same(failed, [], 'no operation failed');
    // The old key: a ViewChange under it, which a replica under a good key would obey.
    const [before] = await reports(cluster);
    const forged = datagram(cluster, ViewChange, 1, new Keyring(old, true));
    writeI32(forged.bytes, forged.head + ViewChange.at.view, before!.view + 3);
    await throwAt(cluster, 0, [forged.seal()]);
    const [after] = await reports(cluster);
    t.equal(after!.view, before!.view, 'the removed key moves nobody');
    t.equal(after!.drops['key'], before!.drops['key']! + 1, 'it is counted');
  },
);

t.test('status and doctor show which keys each replica has loaded, and name one that lacks a key', async (t) => {
  await using cluster = await LocalCluster.start(OPTIONS);
  const shown = async (): Promise<{ status: string; json: ReplicaStatusReport[]; doctor: Finding[] }> => {
    const [status, json, doctor] = await Promise.all([
      jitpaxos(['status', '--cluster', cluster.clusterFile, '--interval', '0s', '--timeout', '60s']),
      jitpaxos(['status', '--cluster', cluster.clusterFile, '--interval', '0s', '--timeout', '60s', '--json']),
      jitpaxos(['doctor', '--cluster', cluster.clusterFile, '--timeout', '60s', '--json']),
    ]);
    const { replicas } = JSON.parse(json.stdout) as { replicas: { report: ReplicaStatusReport }[] };
    const { findings } = JSON.parse(doctor.stdout) as { findings: Finding[] };
    return {
      status: status.stdout,
      json: replicas.map(({ report }) => report),
      doctor: findings.filter(({ check }) => check === 'loaded keys'),
    };
  };
  const { use } = JSON.parse(readFileSync(join(cluster.directory, 'replica.keys'), 'utf8')) as KeyFile;
  const first = await shown();
  t.match(first.status, new RegExp(`^keys of replicas 0, 1, 2: ${use} \\(in use\\), \\d+$`, 'm'));
  t.same(
    first.json.map(({ keys }) => keys),
    first.json.map(() => first.json[0]!.keys),
    'all have the same',
  );
  t.equal(first.json[0]!.keys!.use, use);
  t.match(first.doctor, [{ level: 'ok', found: `the same 2, and use key ${use}` }]);

  const { added } = await keys(cluster, 'add', '--role', 'replica');
  await reload(cluster, [0, 2]);
  const added1 = await shown();
  t.match(added1.doctor, [{ level: 'warn', found: `replica 1 lacks key ${added}, which others have` }]);
  t.match(added1.status, `! replica 1 lacks key ${added}`);
  await reload(cluster);
  t.match((await shown()).doctor, [{ level: 'ok', found: 'the same 3' }]);
});

t.test(
  "a client's key that was removed is not heard, another's is; a key that only reads does not write",
  async (t) => {
    await using cluster = await LocalCluster.start(OPTIONS);
    const { added: reader, clientFile: readerFile } = await keys(cluster, 'add', '--role', 'read-only');
    const { added: other, clientFile: otherFile } = await keys(cluster, 'add', '--role', 'client');
    await reload(cluster);
    const connect = (file: string | number): Promise<Client> =>
      Client.connect({
        cluster: cluster.clusterFile,
        keys: String(file),
        lanes: 1,
        timeout: TIMEOUT_MS,
        connectTimeout: TIMEOUT_MS,
        logger: silentLogger,
      });
    await using first = await Client.connect({
      cluster: cluster.clusterFile,
      lanes: 1,
      timeout: TIMEOUT_MS,
      connectTimeout: TIMEOUT_MS,
    });
    await using second = await connect(otherFile!);
    await using third = await connect(readerFile!);
    await t.rejects(
      Client.connect({ cluster: cluster.clusterFile, keys: String(readerFile), lanes: 65, logger: silentLogger }),
      { code: 'option-invalid', message: /read-only key at most 64/ },
    );
    await new KvClient(second).put('k', 'v');
    t.equal(Buffer.from((await new KvClient(first).get('k'))!).toString(), 'v');
    t.equal(Buffer.from((await new KvClient(third).get('k'))!).toString(), 'v');
    await t.rejects(new KvClient(third).put('k', 'w'), { code: 'read-only' });

    // The library refuses by itself; a client that does not is not heard by the replicas.
    const before = await reports(cluster);
    const write = datagram(
      cluster,
      Request,
      CLIENT_SENDER,
      new Keyring(JSON.parse(readFileSync(String(readerFile), 'utf8')) as KeyFile, false),
    );
    t.equal(await throwAt(cluster, 0, [write.seal()]), 0, 'no answer to a write under a key that only reads');
    const after = await reports(cluster);
    t.equal(after[0]!.drops['role']!, before[0]!.drops['role']! + 1);

    await keys(cluster, 'remove', String(other));
    await reload(cluster);
    await t.rejects(
      new KvClient(second).get('k', { timeout: 500 }),
      { code: 'outcome-unknown' },
      'a removed key is not heard',
    );
    await t.rejects(
      Client.connect({
        cluster: cluster.clusterFile,
        keys: String(otherFile),
        connectTimeout: 500,
        logger: silentLogger,
      }),
      { code: 'cluster-unavailable' },
    );
    await new KvClient(first).put('k', 'x');
    t.equal(Buffer.from((await new KvClient(third).get('k'))!).toString(), 'x', 'the others are');
    t.not(reader, other);
  },
);

t.test(
  "a session is its client's: another key uses up none of its numbers, a further key of the same client goes on with it",
  async (t) => {
    await using cluster = await LocalCluster.start(OPTIONS);
    const { clientFile: otherFile } = await keys(cluster, 'add', '--role', 'client');
    await reload(cluster);
    const file = join(cluster.directory, 'mine.keys');
    writeFileSync(file, readFileSync(join(cluster.directory, 'client.keys')), { mode: 0o600 });
    const old = (JSON.parse(readFileSync(file, 'utf8')) as KeyFile).use;
    let completed: ((outcome: number) => void) | undefined;
    const host = await ClientHost.connect(
      { cluster: cluster.clusterFile, keys: file, lanes: 1, logger: silentLogger },
      {
        completed: (_lane, outcome) => completed!(outcome),
        ready: () => undefined,
        failed: (error) => t.fail(String(error)),
      },
    );
    t.teardown(() => host.close());
    const operation = new Uint8Array(64);
    const put = (value: string): Promise<number> =>
      new Promise((resolve) => {
        completed = resolve;
        host.submit(0, operation, 0, encodePut(operation, 0, Buffer.from('k'), Buffer.from(value)), Infinity);
      });
    t.equal(await put('first'), Outcome.committed);

    const session = BigInt(`0x${host.sessionId}`);
    const forged = datagram(
      cluster,
      Request,
      CLIENT_SENDER,
      new Keyring(JSON.parse(readFileSync(String(otherFile), 'utf8')) as KeyFile, false),
    );
    const view = new DataView(forged.bytes.buffer);
    view.setBigUint64(forged.head + Request.at.session, session);
    view.setUint32(forged.head + Request.at.request, 2); // the number that comes next
    view.setBigUint64(forged.head + Request.at.timestamp, BigInt(Date.now()) * 1_000_000n);
    const before = (await reports(cluster))[0]!;
    t.equal(await throwAt(cluster, 0, [forged.seal()]), 1, 'it is told so');
    const after = (await reports(cluster))[0]!;
    t.equal(after.counters['rejected_session_unknown'], before.counters['rejected_session_unknown']! + 1);
    t.equal(after.lastIndex, before.lastIndex, 'nothing was appended');
    t.equal(await put('second'), Outcome.committed);
    await using reader = await Client.connect({
      cluster: cluster.clusterFile,
      keys: String(otherFile),
      lanes: 1,
      timeout: TIMEOUT_MS,
      connectTimeout: TIMEOUT_MS,
    });
    t.equal(Buffer.from((await new KvClient(reader).get('k'))!).toString(), 'second', 'the number was its own to use');

    const { clientFile: next } = await keys(cluster, 'add', '--for', String(old));
    await reload(cluster);
    writeFileSync(file, readFileSync(String(next)), { mode: 0o600 });
    host.reloadKeys();
    t.equal(await put('third'), Outcome.committed);
    await keys(cluster, 'remove', String(old));
    await reload(cluster);
    t.equal(await put('fourth'), Outcome.committed);
    t.equal(BigInt(`0x${host.sessionId}`), session, 'in the same session all the time');
  },
);

t.test('datagrams of strangers get no answer and change nothing; they are counted', async (t) => {
  await using cluster = await LocalCluster.start(OPTIONS);
  await using client = await Client.connect({
    cluster: cluster.clusterFile,
    lanes: 1,
    timeout: TIMEOUT_MS,
    connectTimeout: TIMEOUT_MS,
  });
  await new KvClient(client).put('k', 'v');
  t.ok(
    await until(async () => (await reports(cluster))[0]!.committedIndex === (await reports(cluster))[0]!.lastIndex),
    'the commit reached the primary',
  );
  const before = (await reports(cluster))[0]!;
  const file = JSON.parse(readFileSync(join(cluster.directory, 'replica.keys'), 'utf8')) as KeyFile;
  const strangers = file.keys.map((key) => ({ ...key, secret: '5a'.repeat(32) }));
  const datagrams: Uint8Array[] = [];
  for (const message of [Request, Probe, Status, ViewChange]) {
    datagrams.push(datagram(cluster, message, CLIENT_SENDER, undefined).seal()); // a checksum, no key
    datagrams.push(datagram(cluster, message, 1, undefined).seal());
    for (const use of file.keys)
      datagrams.push(
        datagram(
          cluster,
          message,
          use.role === 'replica' ? 1 : CLIENT_SENDER,
          new Keyring({ ...file, use: use.id, keys: strangers }, use.role === 'replica'),
        ).seal(),
      ); // the right id, the wrong secret
  }
  t.equal(await throwAt(cluster, 0, datagrams), 0, 'no answer');
  const after = (await reports(cluster))[0]!;
  const count = (drops: Readonly<Record<string, number>>): number => Object.values(drops).reduce((a, b) => a + b, 0);
  t.equal(count(after.drops) - count(before.drops), datagrams.length, 'each is counted');
  const forged = ({ forgedByKey }: ReplicaStatusReport, id: number): number => forgedByKey![id] ?? 0;
  for (const { id } of file.keys)
    t.equal(forged(after, id) - forged(before, id), 4, `under the key that it named: ${id}`);
  const quiet = ({ view, logView, status, lastIndex, lastChain, committedIndex }: ReplicaStatusReport): unknown => ({
    view,
    logView,
    status,
    lastIndex,
    lastChain,
    committedIndex,
  });
  t.same(quiet(after), quiet(before), 'nothing changed');
  const handled = ['requests', 'reads', 'reconciles', 'entries_appended', 'requests_duplicate', 'ignored'] as const;
  for (const name of handled)
    t.equal(
      (after.counters as Record<string, number>)[name],
      (before.counters as Record<string, number>)[name],
      `${name}: the core heard nothing`,
    );
});

t.test('a key file that others may read, or of another cluster, is refused with exit code and reason', async (t) => {
  await using cluster = await LocalCluster.start(OPTIONS);
  const file = join(cluster.directory, 'client.keys');
  const get = (): Promise<Ended> => jitpaxos(['kv', 'put', 'k', 'v', '--cluster', cluster.clusterFile]);
  t.equal((await get()).code, 0);
  chmodSync(file, 0o644);
  const exposed = await get();
  t.equal(exposed.code, 1);
  t.match(exposed.stderr, /^key-file-exposed: .*chmod 600/m);
  chmodSync(file, 0o600);
  writeFileSync(file, readFileSync(file, 'utf8').replace(cluster.config().id, '0'.repeat(16)));
  const foreign = await get();
  t.equal(foreign.code, 2);
  t.match(foreign.stderr, /^key-file-invalid: /m);
  const replicaFile = join(cluster.directory, 'replica.keys');
  chmodSync(replicaFile, 0o640);
  const replica = await jitpaxos([
    'replica',
    '--cluster',
    cluster.clusterFile,
    '--id',
    '0',
    '--data',
    join(cluster.directory, 'other'),
    '--log-format',
    'text',
  ]);
  t.equal(replica.code, 1);
  t.match(replica.stderr, /key-file-exposed: /);
  // A running replica keeps the keys that it has.
  cluster.replicas[0]!.kill('SIGHUP');
  t.ok(await until(() => cluster.replicas[0]!.complaint.includes('keys.not-reloaded')));
  t.equal(cluster.replicas[0]!.exited, false);
});

t.test('a FIFO in place of the key file does not hang a replica that reads its keys again', async (t) => {
  await using cluster = await LocalCluster.start(OPTIONS);
  const file = join(cluster.directory, 'replica.keys');
  const content = readFileSync(file);
  rmSync(file);
  execFileSync('mkfifo', ['-m', '600', file]);
  for (const replica of cluster.replicas) replica.kill('SIGHUP');
  for (const replica of cluster.replicas)
    t.ok(await until(() => /keys\.not-reloaded.*it is a FIFO/.test(replica.complaint)), replica.complaint);
  const put = await jitpaxos(['kv', 'put', 'k', 'v', '--cluster', cluster.clusterFile]);
  t.equal(put.code, 0, `with the keys that they had: ${put.stderr}`);
  rmSync(file);
  writeFileSync(file, content, { mode: 0o600 });
});

/** A datagram with one message of zeros behind its head, to be filled in and sealed once. `ring` undefined: a checksum in place of a MAC. */
function datagram(
  cluster: LocalCluster,
  message: Message,
  sender: number,
  ring: Keyring | undefined,
): { readonly bytes: Uint8Array; readonly head: number; seal(): Uint8Array } {
  const { id } = cluster.config();
  const envelope = new Envelope(
    hash,
    parseInt(id.slice(0, 8), 16) | 0,
    parseInt(id.slice(8), 16) | 0,
    sender,
    OPTIONS.replicas,
    ring,
  );
  const head = envelope.bytesIn(WIRE_VERSION);
  const bytes = new Uint8Array(head + message.size);
  begin(message, bytes, head);
  return {
    bytes,
    head,
    seal: () => {
      if (!envelope.seal(bytes, 0, bytes.length, ring?.own ?? -1)) throw new Error('not sealed');
      return bytes;
    },
  };
}

/**
 * Sends datagrams to a replica from a socket of our own, and waits until each was answered or dropped. How many were
 * answered.
 */
async function throwAt(cluster: LocalCluster, replica: number, datagrams: readonly Uint8Array[]): Promise<number> {
  const dropped = async (): Promise<number> =>
    Object.values((await reports(cluster))[replica]!.drops).reduce((sum, count) => sum + count, 0);
  const before = await dropped();
  const socket = createSocket('udp4');
  let answers = 0;
  socket.on('message', () => answers++);
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  for (const bytes of datagrams)
    await new Promise((resolve) => socket.send(bytes, cluster.replicas[replica]!.ready!.port, '127.0.0.1', resolve));
  if (!(await until(async () => answers + (await dropped()) >= before + datagrams.length)))
    throw new Error(`of ${datagrams.length} datagrams ${answers} were answered, and not all others were dropped`);
  await sleep(200); // for an answer that must not come
  socket.close();
  return answers;
}

/** Whether something became true in time. */
async function until(condition: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const deadline = performance.now() + PATIENCE_MS; performance.now() < deadline; await sleep(20))
    if (await condition()) return true;
  return false;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
