// inspect, backup and restore, on the directories of real replicas.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { freePorts } from '../../src/host/free-ports.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { decodeBackup, encodeBackup, restoreBackup } from '../../src/storage/backup.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import type { Inspection } from '../../src/storage/inspection.js';
import { HardStateFile } from '../../src/storage/hard-state.js';
import { jitpaxos, jitpaxosEach } from '../cluster/processes.js';

const KEYS = 40;
const hash = loadHash();
const home = mkdtempSync(join(tmpdir(), 'jitpaxos-data-'));
t.teardown(() => rmSync(home, { recursive: true, force: true }));

async function inspected(directory: string, code = 0): Promise<Inspection> {
  const ended = await jitpaxos(['inspect', directory, '--json', '--frames']);
  t.equal(ended.code, code, ended.stderr);
  return JSON.parse(ended.stdout) as Inspection;
}

/** Every file with its content. */
function contentOf(directory: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name)).toString('base64')]),
  );
}

t.test('inspect, backup, restore', async (t) => {
  const stopped = join(home, 'stopped');
  const live = join(home, 'live.jpb');
  const whole = join(home, 'whole.jpb');
  let config: { readonly id: string } | undefined;
  const oldFile = join(home, 'old.json');
  {
    await using cluster = await LocalCluster.start({
      replicas: 3,
      machine: 'kv',
      transport: 'auto',
      durability: 'fsync',
    });
    const directory = join(cluster.directory, 'replica-0');
    config = cluster.config();
    copyFileSync(cluster.clusterFile, oldFile);
    await using client = await Client.connect({ cluster: cluster.clusterFile, lanes: 8, timeout: 20_000 });
    const kv = new KvClient(client);
    for (let i = 0; i < KEYS; i++) await kv.put(`k${i}`, `${i}`);

    await t.test('inspect shows the directory of a running replica', async (t) => {
      let found = await inspected(directory);
      for (let tries = 0; tries < 200 && found.log.lastIndex! <= KEYS; tries++) found = await inspected(directory); // a spare is a little behind
      t.match(found, {
        cluster: config!.id,
        replica: 0,
        lockedBy: cluster.replicas[0]!.child.pid,
        log: { found: 'whole', baseIndex: 0 },
        snapshots: [],
        damage: [],
      });
      t.ok(found.log.lastIndex! > KEYS, `${found.log.lastIndex}`);
      const frames = found.segments.flatMap((segment) => segment.frames);
      t.equal(frames.at(-1)!.to, found.log.lastIndex);
      t.equal(frames[0]!.reset, true);
      const text = await jitpaxos(['inspect', directory]);
      t.match(
        text.stdout,
        new RegExp(`replica +0 of cluster ${config!.id}, running: process ${cluster.replicas[0]!.child.pid}\n`),
      );
    });
    // What is committed is written with the next batch: a spare that fetched everything in one knows of nothing yet.
    let ended = await jitpaxos(['backup', directory, '--out', live]);
    for (let tries = 0; tries < 20 && ended.code === 1; tries++) {
      await kv.put('k0', '0');
      ended = await jitpaxos(['backup', directory, '--out', live]);
    }
    t.equal(ended.code, 0, ended.stderr);
    t.ok(
      decodeBackup(readFileSync(live), hash, live).lastIndex > 0,
      'it may lag by what the disk does not know as committed yet',
    );
    await Promise.all(cluster.replicas.map((replica) => replica.stop()));
    // On a busy host replica 0 may have become a spare, which is a little behind.
    let best = { committed: -1, from: '' };
    for (const id of [0, 1, 2]) {
      const from = join(cluster.directory, `replica-${id}`);
      const committed = (await inspected(from)).log.committed ?? -1;
      if (committed > best.committed) best = { committed, from };
    }
    mkdirSync(stopped);
    for (const name of readdirSync(best.from)) copyFileSync(join(best.from, name), join(stopped, name));
  }

  await t.test('inspect names damage by file and offset, and changes nothing', async (t) => {
    const before = contentOf(stopped);
    const found = await inspected(stopped);
    t.match(found, { lockedBy: null, damage: [], log: { found: 'whole', clean: true }, torn: null });
    t.equal(found.log.committed, found.log.lastIndex, 'a clean stop says that all is committed');
    t.match(found.identity, /^[0-9a-f]{16}$/);
    t.match((await jitpaxos(['inspect', stopped])).stdout, new RegExp(`identity +${found.identity}`));
    t.same(contentOf(stopped), before);
    const segment = found.segments[0]!;
    const damaged = join(home, 'damaged');
    mkdirSync(damaged);
    for (const name of Object.keys(before)) copyFileSync(join(stopped, name), join(damaged, name));
    const bytes = readFileSync(join(damaged, segment.name));
    const { offset } = segment.frames[1]!;
    bytes[offset + 10]! ^= 4;
    writeFileSync(join(damaged, segment.name), bytes);
    writeFileSync(join(damaged, 'notes'), '');
    t.match(await inspected(damaged, 1), {
      log: { found: 'lost', why: /damaged at byte/ },
      damage: [{ file: segment.name, offset }],
      others: [{ name: 'notes', what: 'not of a replica' }],
    });
    const refused = await jitpaxos(['backup', damaged, '--out', join(home, 'x.jpb')]);
    t.match(refused, { code: 1, stderr: /^backup-empty: .*damaged at byte/ });
    writeFileSync(join(damaged, 'hard-state'), 'rot');
    t.match(await inspected(damaged, 1), {
      damage: [
        { file: 'hard-state', offset: 0 },
        { file: segment.name, offset },
      ],
    });
  });

  await t.test('inspect shows hostile names without their controls, and bounds what it reads', async (t) => {
    const hostile = join(home, 'hostile');
    mkdirSync(hostile);
    for (const name of readdirSync(stopped)) copyFileSync(join(stopped, name), join(hostile, name));
    const names = ['\x1b[2J\x1b[1;1Hreplica 7', 'two\nlines', '\x9b31m', '\u202etxt.exe'];
    for (const name of names) writeFileSync(join(hostile, name), '');
    const text = await jitpaxos(['inspect', hostile]);
    t.equal(text.code, 0, text.stderr);
    t.notMatch(text.stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    t.match(text.stdout, '\\u001b[2J\\u001b[1;1Hreplica 7');
    t.match(text.stdout, 'two\\u000alines');
    const { others } = JSON.parse((await jitpaxos(['inspect', hostile, '--json'])).stdout) as Inspection;
    t.same(others.map(({ name }) => name).sort(), [...names].sort(), 'JSON has the names as they are');

    writeFileSync(join(hostile, 'log-00000099-00000000'), '');
    truncateSync(join(hostile, 'log-00000099-00000000'), 3 * 2 ** 30); // sparse
    const refused = await jitpaxos(['inspect', hostile]);
    t.match(refused, {
      code: 2,
      stderr:
        /^argument-invalid: .* have 32\d{8} bytes, and at most 1073741824 are read into memory; .*--max-bytes 4GiB/,
    });
    const longer = await jitpaxos(['inspect', hostile, '--max-bytes', '4GiB']);
    t.match(longer, { code: 1, stderr: /^data-directory-unusable: .*log-00000099-00000000 has 3221225472 bytes/ });
  });

  await t.test('inspect and backup refuse what is no data directory', async (t) => {
    const commands = [join(home, 'nowhere'), oldFile, home].flatMap((path) => [
      ['inspect', path],
      ['backup', path, '--out', join(home, 'x.jpb')],
    ]);
    for (const [index, ended] of (await jitpaxosEach(commands)).entries())
      t.match(
        ended,
        { code: 2, stdout: '', stderr: /^argument-invalid: .* is not a data directory: / },
        commands[index]!.join(' '),
      );
    t.notOk(existsSync(join(home, 'x.jpb')));
  });

  await t.test('backup of a stopped replica has everything; never over a file', async (t) => {
    const ended = await jitpaxos(['backup', stopped, '--cluster', oldFile, '--out', whole, '--json']);
    t.equal(ended.code, 0, ended.stderr);
    t.match(JSON.parse(ended.stdout), {
      schema: 'jitpaxos.backup/1',
      cluster: config!.id,
      lastIndex: (await inspected(stopped)).log.lastIndex,
    });
    t.match(await jitpaxos(['backup', stopped, '--out', whole]), { code: 2, stderr: /^file-exists: / });
  });

  await t.test('every flipped byte of a backup is noticed', async (t) => {
    const bytes = readFileSync(whole);
    const unnoticed: number[] = [];
    for (let at = 0; at < bytes.length; at++) {
      bytes[at]! ^= 1 << (at % 8);
      try {
        decodeBackup(bytes, hash, 'file');
        unnoticed.push(at);
      } catch (error) {
        if ((error as { code?: string }).code !== 'backup-unusable') throw error;
      }
      bytes[at]! ^= 1 << (at % 8);
    }
    t.same(unnoticed, []);
    t.throws(() => decodeBackup(bytes.subarray(0, bytes.length - 1), hash, 'file'), {
      code: 'backup-unusable',
      message: /copy it again/,
    });
  });

  await t.test('a backup of nothing: neither written nor taken', async (t) => {
    const { owner, log } = decodeBackup(readFileSync(whole), hash, whole);
    const nothing = join(home, 'nothing.jpb');
    const data = join(home, 'lost');
    const options = {
      files: new DirectoryFiles(data),
      directory: data,
      owner,
      hash,
      mode: 'fsync',
      bootId: '0'.repeat(32),
      nowMs: () => performance.now(),
      random: () => 7,
      later: () => undefined,
    } as const;
    // A log of before (logView −1: lost since), and one of a cluster that was never written to.
    for (const [logView, why] of [
      [-1, /lost at an earlier start/],
      [0, /no committed entry/],
    ] as const) {
      rmSync(data, { recursive: true, force: true });
      mkdirSync(data);
      await restoreBackup(
        {
          lastIndex: 0,
          log: {
            hardState: { view: 3, logView, incarnation: 2 },
            snapshot: undefined,
            entries: [],
            committed: 0,
            clean: true,
          },
        },
        options,
      );
      const ended = await jitpaxos(['backup', data, '--out', nothing]);
      t.match(ended, { code: 1, stdout: '', stderr: /^backup-empty: / });
      t.match(ended.stderr, why);
      t.notOk(existsSync(nothing));
    }
    t.equal((await inspected(data)).log.found, 'whole');
    writeFileSync(nothing, encodeBackup({ ...log, entries: [], snapshot: undefined, committed: 0 }, owner, hash));
    const clusterFile = join(home, 'of-nothing.json');
    t.match(
      await jitpaxos([
        'init',
        '--insecure',
        '--replicas',
        '127.0.0.1:7400',
        '--out',
        clusterFile,
        '--restore',
        nothing,
      ]),
      { code: 1, stderr: /^backup-empty: / },
    );
    t.notOk(existsSync(clusterFile));
    t.match(
      await jitpaxos(['restore', nothing, '--cluster', oldFile, '--id', '0', '--data', join(home, 'of-nothing')]),
      { code: 1, stderr: /^backup-empty: / },
    );
    t.notOk(existsSync(join(home, 'of-nothing')));
  });

  const shorter = join(home, 'shorter.jpb');
  {
    const { owner, log } = decodeBackup(readFileSync(whole), hash, whole);
    writeFileSync(shorter, encodeBackup({ ...log, committed: log.committed - 1 }, owner, hash));
  }

  await t.test('restore to a new cluster: all replicas, and only before it has begun', async (t) => {
    const clusterFile = join(home, 'cluster.json');
    const ports = await freePorts(3);
    const init = await jitpaxos([
      'init',
      '--insecure',
      '--replicas',
      ports.map((port) => `127.0.0.1:${port}`).join(','),
      '--out',
      clusterFile,
      '--restore',
      whole,
    ]);
    t.equal(init.code, 0, init.stderr);
    const data = (id: number): string => join(home, `restored-${id}`);
    const restoring = (id: number, file = whole, cluster = clusterFile, to = data(id)): ReturnType<typeof jitpaxos> =>
      jitpaxos(['restore', file, '--cluster', cluster, '--id', String(id), '--data', to, '--quiet']);
    t.match(
      await restoring(0, whole, oldFile),
      { code: 2, stderr: /^backup-other: / },
      'the cluster that it was taken from',
    );
    t.match(await restoring(0, shorter), { code: 2, stderr: /^backup-other: / }, 'another backup');
    t.match(
      await restoring(0, whole, clusterFile, stopped),
      { code: 2, stderr: /^file-exists: / },
      'a directory that was in use',
    );
    const start = (id: number, durability: 'fsync' | 'memory' = 'fsync'): Promise<Replica> =>
      Replica.start({
        cluster: clusterFile,
        id,
        machine: new KvMachine(),
        data: data(id),
        durability,
        logger: silentLogger,
      });
    await t.rejects(start(0), { code: 'restore-missing' }, 'an empty log could outvote the others');
    await t.rejects(start(0, 'memory'), { code: 'option-invalid' });
    for (const id of [0, 1, 2]) {
      const ended = await restoring(id);
      t.equal(ended.code, 0, ended.stderr);
    }
    const replicas = await Promise.all([0, 1, 2].map((id) => start(id)));
    try {
      await using client = await Client.connect({ cluster: clusterFile, lanes: 8, timeout: 20_000 });
      const kv = new KvClient(client);
      const wrong: number[] = [];
      for (let i = 0; i < KEYS; i++)
        if (Buffer.from((await kv.get(`k${i}`)) ?? []).toString() !== String(i)) wrong.push(i);
      t.same(wrong, []);
      await kv.put('more', 'x');
      t.match(await restoring(0, whole, clusterFile, join(home, 'again')), { code: 1, stderr: /^cluster-running: / });
      await replicas[0]!.close();
      await kv.put('more', 'y');
      t.equal(Buffer.from((await kv.get('k7'))!).toString(), '7', 'without the first primary too');
    } finally {
      await Promise.all(replicas.map((replica) => replica.close()));
    }
  });
});

t.test('inspect does not call the log of a replica of durability memory lost', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-inspect-memory-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const owner = { clusterHi: 1, clusterLo: 2, replica: 0 };
  const file = HardStateFile.open(directory, owner, hash);
  await file.write({ view: 3, logView: -1, incarnation: 2 });
  file.close();
  const { stdout } = await jitpaxos(['inspect', directory]);
  t.match(stdout, /promises +view 3, incarnation 2\n/);
  t.match(stdout, /log +none in the directory: durability memory keeps it in memory/);
});
