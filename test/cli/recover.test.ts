// recover: what is left of a cluster that lost a majority for good becomes a backup for a new one. What may be lost is
// said first, and nothing is given up that need not be.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bestOf, enoughOf, lossOf, type Survivor } from '../../src/cli/recover.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { freePorts } from '../../src/host/free-ports.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import type { HardState } from '../../src/protocol/contract.js';
import { change } from '../../src/protocol/membership/changes.js';
import { encodeMembership, firstMembership } from '../../src/protocol/membership/membership.js';
import type { ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { Replica } from '../../src/server/replica.js';
import { bootDigits } from '../../src/server/storage-choice.js';
import { decodeBackup } from '../../src/storage/backup.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import type { LogMode } from '../../src/storage/log-format.js';
import { writeI32 } from '../../src/wire/u64.js';
import { jitpaxos, type Ended } from '../cluster/processes.js';

const KEYS = 30;
const hash = loadHash();

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-recover-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const addresses = async (count: number): Promise<string[]> =>
  (await freePorts(count)).map((port) => `127.0.0.1:${port}`);

/** The files of a data directory, as on a disk that was taken out of its host: without the lock. */
function copyOf(directory: string, target: string): string {
  cpSync(directory, target, { recursive: true, filter: (path) => !/[\\/]lock[^\\/]*$/.test(path) });
  return target;
}

const start = (clusterFile: string, id: number, data: string): Promise<Replica> =>
  Replica.start({
    cluster: clusterFile,
    id,
    machine: new KvMachine(),
    data,
    durability: 'fsync',
    logger: silentLogger,
  });

t.test('two of three hosts burnt down: the third has everything that was acknowledged', async (t) => {
  const home = folder(t);
  const old = join(home, 'old');
  mkdirSync(old);
  const clusterFile = join(old, 'cluster.json');
  t.match(await jitpaxos(['init', '--replicas', (await addresses(3)).join(), '--out', clusterFile]), { code: 0 });
  const data = (id: number): string => join(home, `data-${id}`);
  const rest = join(home, 'rest.jpb');
  const recover = (...args: string[]): Promise<Ended> =>
    jitpaxos(['recover', ...args, '--cluster', clusterFile, '--out', rest, '--timeout', '20s']);
  {
    const replicas = await Promise.all([0, 1, 2].map((id) => start(clusterFile, id, data(id))));
    try {
      await using client = await Client.connect({ cluster: clusterFile, lanes: 4, timeout: 60_000 });
      const kv = new KvClient(client);
      for (let i = 0; i < KEYS; i++) await kv.put(`k${i}`, `${i}`);
      t.match(await recover(data(0), '--accept-loss'), {
        code: 1,
        stderr: new RegExp(`^data-directory-locked: .*data-0 is in use by process ${process.pid}; stop`, 'm'),
      });
      const copy = copyOf(data(0), join(home, 'copy'));
      t.match(await recover(copy, '--accept-loss'), {
        code: 1,
        stderr: /^cluster-running: replicas (\d, )*\d answer, which is a majority of 3/m,
      });
    } finally {
      await Promise.all(replicas.map((replica) => replica.close()));
    }
  }
  const short = (...args: string[]): Promise<Ended> =>
    jitpaxos(['recover', ...args, '--cluster', clusterFile, '--out', rest, '--timeout', '300ms']);
  t.match(await short(data(0), data(2), '--accept-loss'), {
    code: 1,
    stderr: /^recovery-needless: the directories of replicas 0, 2 are whole, which is a majority of 3: start these/m,
  });
  t.notOk(existsSync(rest));
  // On a busy host another replica than 0 may have been the last primary: the one that knows most survives.
  const known = async (id: number): Promise<number> =>
    (JSON.parse((await jitpaxos(['inspect', data(id), '--json'])).stdout) as { log: { committed: number } }).log
      .committed;
  const committed = [await known(0), await known(1), await known(2)];
  const survivor = committed.indexOf(Math.max(...committed));
  for (const id of [0, 1, 2]) if (id !== survivor) rmSync(data(id), { recursive: true });

  const warned = await short(data(survivor));
  t.match(warned, { code: 1, stdout: '', stderr: /^loss-not-accepted: nothing was written/m });
  t.match(
    warned.stderr,
    new RegExp(`Entry ${committed[survivor]} is the last one that this directory knows to be committed`),
  );
  t.match(warned.stderr, /is LOST\. Nothing that is left tells whether there was any/);
  t.notOk(existsSync(rest));

  const before = readdirSync(data(survivor)).map((name) => [name, readFileSync(join(data(survivor), name))]);
  const ended = await short(data(survivor), '--accept-loss', '--json');
  t.equal(ended.code, 0, ended.stderr);
  t.match(JSON.parse(ended.stdout), {
    schema: 'jitpaxos.recover/1',
    replica: survivor,
    knownCommitted: committed[survivor],
    sealed: true,
    survivors: [{ replica: survivor, doubts: [] }],
  });
  t.same(
    readdirSync(data(survivor)).map((name) => [name, readFileSync(join(data(survivor), name))]),
    before,
    'the directory stays as it was',
  );
  t.match(await short(data(survivor), '--accept-loss'), { code: 2, stderr: /^file-exists: / });

  const next = join(home, 'new');
  mkdirSync(next);
  const newFile = join(next, 'cluster.json');
  const keys = ['--backup-keys', join(old, 'replica.keys')];
  t.match(
    await jitpaxos(['init', '--replicas', (await addresses(3)).join(), '--restore', rest, ...keys, '--out', newFile]),
    { code: 0 },
  );
  t.not(
    (JSON.parse(readFileSync(newFile, 'utf8')) as { id: string }).id,
    (JSON.parse(readFileSync(clusterFile, 'utf8')) as { id: string }).id,
    'it is another cluster',
  );
  for (const id of ['0', '1', '2'])
    t.match(
      await jitpaxos(['restore', rest, ...keys, '--cluster', newFile, '--id', id, '--data', join(next, id)]),
      { code: 0 },
      `replica ${id}`,
    );
  const replicas = await Promise.all([0, 1, 2].map((id) => start(newFile, id, join(next, String(id)))));
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await using client = await Client.connect({ cluster: newFile, lanes: 4, timeout: 60_000 });
  const kv = new KvClient(client);
  const wrong: string[] = [];
  for (let i = 0; i < KEYS; i++) {
    const found = Buffer.from((await kv.get(`k${i}`)) ?? []).toString();
    if (found !== String(i)) wrong.push(`k${i}: "${found}"`);
  }
  t.same(wrong, []);
  await kv.put('more', 'x');
});

/** Entries with ascending timestamps, of which each has its index and a mark as its operation. */
function entriesOf(count: number, mark: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const entry = new Uint8Array(24 + 8);
    writeI32(entry, 4, i + 1);
    writeI32(entry, 12, 7);
    writeI32(entry, 24, i + 1);
    writeI32(entry, 28, mark);
    return entry;
  });
}

interface Made {
  readonly logView?: number;
  readonly last: number;
  readonly committed: number;
  readonly mark?: number;
  readonly mode?: LogMode;
  readonly boot?: string;
  /** The file of the promises says more than the log: its end is missing. */
  readonly promised?: number;
  readonly clusterId?: string;
}

function open(
  directory: string,
  replica: number,
  {
    boot,
    mode,
    clusterId = CLUSTER_ID,
  }: { readonly boot: string; readonly mode: LogMode; readonly clusterId?: string },
): Promise<DurableStorage> {
  return DurableStorage.open({
    files: new DirectoryFiles(directory),
    directory,
    owner: {
      clusterHi: parseInt(clusterId.slice(0, 8), 16) | 0,
      clusterLo: parseInt(clusterId.slice(8), 16) | 0,
      replica,
    },
    hash,
    mode,
    bootId: boot,
    segmentBytes: 1 << 16,
    nowMs: () => performance.now(),
    random: () => 7,
    later: () => undefined,
  });
}

/** Resolves when the entries from `from` on are durable. */
function write(
  storage: DurableStorage,
  token: number,
  hardState: HardState,
  entries: readonly Uint8Array[],
  from: number,
  committed: number,
): Promise<void> {
  return new Promise((done, failed) => {
    storage.events = {
      persisted: () => done(),
      failed,
      broken: failed,
      rewrite: () => undefined,
      healed: () => undefined,
    };
    storage.persist(token, {
      hardState,
      entriesFrom: from,
      lastIndex: entries.length,
      committed,
      snapshot: undefined,
      entryBytes: (index) => entries[index - 1]!.length,
      readEntry: (index, bytes, offset) => (bytes.set(entries[index - 1]!, offset), entries[index - 1]!.length),
    });
  });
}

/** A directory as a killed replica left it. */
async function make(home: string, replica: number, made: Made): Promise<string> {
  const { logView = 0, last, committed, mark = 0, mode = 'fsync', boot = bootDigits(), clusterId = CLUSTER_ID } = made;
  const directory = join(home, `made-${replica}`);
  const target = join(home, `replica-${replica}-${logView}-${last}`);
  mkdirSync(directory);
  const entries = entriesOf(last, mark);
  const storage = await open(directory, replica, { boot, mode, clusterId });
  await write(storage, 1, { view: logView, logView, incarnation: 1 }, entries, 1, committed);
  copyOf(directory, target);
  if (made.promised !== undefined) {
    await write(storage, 2, { view: made.promised, logView, incarnation: 1 }, entries, last + 1, committed);
    cpSync(join(directory, 'hard-state'), join(target, 'hard-state'));
  }
  await storage.close();
  rmSync(directory, { recursive: true });
  return target;
}

/** A start on a directory whose log counts as lost: it begins a log that is empty. */
async function begin(
  directory: string,
  replica: number,
  { boot, mode }: { readonly boot: string; readonly mode: LogMode },
): Promise<void> {
  const storage = await open(directory, replica, { boot, mode });
  t.equal(storage.recovered().log, undefined);
  await write(
    storage,
    1,
    { view: 0, logView: -1, incarnation: storage.recovered().hardState!.incarnation + 1 },
    [],
    1,
    0,
  );
  await storage.close();
}

const CLUSTER_ID = '00c0ffee12345678';

t.test('directories of killed replicas', async (t) => {
  const home = folder(t);
  const clusterFile = join(home, 'cluster.json');
  writeFileSync(
    clusterFile,
    JSON.stringify({ schema: 'jitpaxos.cluster/1', id: CLUSTER_ID, replicas: await addresses(5) }),
  );
  let out = 0;
  const recover = async (...directories: string[]): Promise<Ended & { readonly file: string }> => {
    const file = join(home, `${++out}.jpb`);
    const args = ['--cluster', clusterFile, '--out', file, '--timeout', '200ms', '--accept-loss'];
    return { ...(await jitpaxos(['recover', ...directories, ...args])), file };
  };
  const operationsIn = (file: string): string[] =>
    decodeBackup(readFileSync(file), hash, file).log.entries.map((entry) =>
      Buffer.from(entry.subarray(24)).toString('hex'),
    );
  const operations = (last: number, mark: number): string[] =>
    entriesOf(last, mark).map((entry) => Buffer.from(entry.subarray(24)).toString('hex'));

  const long = await make(home, 0, { logView: 4, last: 30, committed: 20, mark: 1 });
  const late = await make(home, 1, { logView: 6, last: 25, committed: 22, mark: 2 });
  const same = await make(home, 2, { logView: 6, last: 24, committed: 24, mark: 2 });

  await t.test('the latest view is chosen, then the longest log; all of its entries are kept', async (t) => {
    const two = await recover(long, late);
    t.equal(two.code, 0, two.stderr);
    t.match(two.stdout, /Entries 1 to 25 are kept: the log of replica 1, of view 6\./);
    t.match(two.stdout, /Entry 22 is the last one that this directory knows to be committed\./);
    t.match(two.stdout, /Entries 23 to 25 are kept too\. Each of them may have been acknowledged, or not/);
    t.match(two.stdout, /acknowledged behind entry 25, or in a later view, is LOST/);
    t.same(operationsIn(two.file), operations(25, 2));
    t.match(two.stderr, /no keys|next: jitpaxos init --replicas … --restore/);
    const one = await recover(same, long);
    t.same(operationsIn(one.file), operations(24, 2));
    t.notMatch(one.stdout, /are kept too/, 'nothing behind what is known to be committed');
  });

  await t.test('three of five that are whole lose nothing: they are to be started', async (t) => {
    t.match(await recover(long, late, same), {
      code: 1,
      stderr: /recovery-needless: the directories of replicas 0, 1, 2/,
    });
  });

  await t.test('a log whose end may be missing is used, and it is said', async (t) => {
    const restarted = await make(home, 3, { last: 12, committed: 11, mark: 3, mode: 'os', boot: 'ab'.repeat(16) });
    const inspected = JSON.parse((await jitpaxos(['inspect', restarted, '--json'])).stdout) as {
      log: { found: string };
    };
    t.equal(inspected.log.found, 'lost', 'a start would count it as lost');
    const after = await recover(restarted);
    t.match(after, { code: 0, stdout: /may lack its end: the host was restarted since/ }, after.stderr);
    t.same(operationsIn(after.file), operations(12, 3));
    t.match(await recover(long, late, restarted), { code: 0 }, 'such a log is none that is whole');

    // The host is up again, and so was its replica, twice, before anybody looked.
    for (const boot of [bootDigits(), 'cd'.repeat(16)]) {
      await begin(restarted, 3, { boot, mode: 'os' });
      t.ok(
        readdirSync(restarted).some((name) => name.startsWith('lost-log-')),
        readdirSync(restarted).join(' '),
      );
    }
    const aside = await recover(restarted);
    t.match(
      aside,
      { code: 0, stdout: /may lack its end: the replica was started again, and set it aside/ },
      aside.stderr,
    );
    t.same(operationsIn(aside.file), operations(12, 3));

    const cut = await make(home, 4, { logView: 2, last: 9, committed: 9, mark: 4, promised: 5 });
    t.match(await recover(cut), { code: 0, stdout: /may lack its end: the log ends with view 2/ });
    for (const rot of ['missing', 'damaged'] as const) {
      if (rot === 'missing') rmSync(join(cut, 'hard-state'));
      else writeFileSync(join(cut, 'hard-state'), 'rot');
      const ended = await recover(cut);
      t.match(ended, { code: 0, stdout: new RegExp(`may lack its end: its promises are ${rot}`) }, ended.stderr);
      t.same(operationsIn(ended.file), operations(9, 4));
    }
  });

  await t.test('what cannot be used is refused by name', async (t) => {
    const damaged = copyOf(long, join(home, 'damaged'));
    const segment = readdirSync(damaged).find((name) => name.startsWith('log-'))!;
    const bytes = readFileSync(join(damaged, segment));
    bytes[20]! ^= 1;
    writeFileSync(join(damaged, segment), bytes);
    t.match(await recover(damaged), { code: 1, stderr: /backup-empty: no directory holds a log: .*damaged at byte/ });
    t.match(await recover(late, join(home, 'nowhere')), {
      code: 2,
      stderr: /argument-invalid: .*there is no such directory/,
    });
    t.match(await recover(late, copyOf(late, join(home, 'twice'))), {
      code: 2,
      stderr: /argument-invalid: .* both belong to replica 1; name one of them/,
    });
    const foreign = await make(folder(t), 0, { last: 3, committed: 3, clusterId: '0'.repeat(16) });
    t.match(await recover(foreign), {
      code: 2,
      stderr: /data-directory-foreign: .*belongs to replica 0 of cluster 0{16}/,
    });
    t.match(await jitpaxos(['recover', late, '--cluster', clusterFile]), {
      code: 2,
      stderr: /flag-invalid: --out is missing/,
    });
    t.match(await jitpaxos(['recover', '--cluster', clusterFile]), {
      code: 2,
      stderr: /argument-invalid: DIR… is missing/,
    });
  });
});

t.test('a change was decided, and then hosts were lost', async (t) => {
  const home = folder(t);
  const clusterFile = join(home, 'cluster.json');
  const replicas = await addresses(4);
  writeFileSync(
    clusterFile,
    JSON.stringify({ schema: 'jitpaxos.cluster/1', id: CLUSTER_ID, replicas: replicas.slice(0, 3) }),
  );
  let membership = firstMembership(3);
  const operations: readonly ConfigureOperation[] = [
    ...[0, 1, 2].map((id) => ({
      kind: 'name' as const,
      id,
      identityHi: 7,
      identityLo: id + 1,
      address: replicas[id]!,
    })),
    { kind: 'learn', identityHi: 7, identityLo: 9, address: replicas[3]! },
    { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] },
  ];
  for (const [at, operation] of operations.entries()) {
    const { outcome, membership: next } = change(membership, operation, at + 1, false);
    t.equal(outcome, 0);
    membership = next;
  }
  const members = encodeMembership(membership);
  const disk = async (replica: number, view: number, logView: number): Promise<string> => {
    const directory = join(home, `host-${replica}-${view}-${logView}`);
    mkdirSync(directory);
    const storage = await open(directory, replica, { boot: bootDigits(), mode: 'fsync' });
    await write(storage, 1, { view, logView, incarnation: 1, known: [], lives: [], members }, entriesOf(6, 1), 1, 6);
    await storage.close();
    return directory;
  };
  let out = 0;
  const recover = (...directories: string[]): Promise<Ended> =>
    jitpaxos([
      ...['recover', ...directories, '--cluster', clusterFile, '--out', join(home, `${++out}.jpb`)],
      ...['--timeout', '200ms', '--accept-loss'],
    ]);
  const next = EPOCH_VIEWS;
  const [promised, joiner] = [await disk(0, next, 1), await disk(3, next, 1)];
  const stuck = await recover(promised, joiner);
  t.equal(stuck.code, 0, `a majority of the new voters, and one of the old: nothing can begin. ${stuck.stderr}`);
  const begun = await disk(3, next, next);
  const needless = await recover(promised, begun);
  t.match(needless, {
    code: 1,
    stderr: /recovery-needless: the directories of replicas 0, 3 are whole, which is a majority of 3/,
  });
  t.match(await recover(await disk(1, 1, 1), await disk(2, 1, 1)), {
    code: 1,
    stderr: /recovery-needless: the directories of replicas 1, 2 are whole/,
  });

  rmSync(join(promised, 'members'));
  const listless = await recover(promised, begun);
  t.equal(listless.code, 0, `a start would refuse it. ${listless.stderr}`);
  t.match(listless.stdout, /\n +0 .* may lack its end\n/);
});

t.test('directories on which the cluster can go on while a change is open', (t) => {
  const survivor = (replica: number, promised: number, logView: number, ...doubts: string[]): Survivor => ({
    directory: '',
    replica,
    log: {
      hardState: { view: promised, logView, incarnation: 1 },
      snapshot: undefined,
      entries: [],
      committed: 0,
      clean: false,
    },
    why: undefined,
    doubts,
    promised,
  });
  const E = EPOCH_VIEWS;
  const replaced = { started: 0, voters: [0, 1, 2], next: { epoch: 1, voters: [0, 1, 3] } };
  const idsOf = (survivors: readonly Survivor[], electorate = replaced): readonly number[] | undefined =>
    enoughOf(survivors, electorate)?.ids;
  const before = [survivor(0, 4, 4), survivor(1, 4, 4), survivor(2, 4, 4), survivor(3, 4, 4)] as const;
  const moved = [survivor(0, E, 4), survivor(1, E, 4), survivor(2, E, 4), survivor(3, E, 4)] as const;
  t.same(idsOf([before[0], before[2]]), [0, 2], 'the epoch in force goes on');
  t.same(idsOf([before[0], before[3]]), undefined, 'one of three');
  t.same(
    idsOf([before[2], moved[1]]),
    undefined,
    'one of the old voters has left their epoch, and the new ones are few',
  );
  t.same(idsOf([moved[0], moved[1]]), [0, 1], 'they are a majority of both');
  t.same(idsOf([moved[0], moved[3]]), undefined, 'a majority of the new ones, without a log of theirs');
  t.same(idsOf([survivor(0, E + 3, E + 2), moved[3]]), [0, 3], 'one has a log of the decided epoch');
  t.same(idsOf([survivor(0, E, E, 'torn'), moved[3], before[1]]), undefined, 'whose log is not whole');
  const other = { started: 0, voters: [0, 1, 2], next: { epoch: 1, voters: [3, 4, 5] } };
  t.same(
    idsOf([before[0], before[1], moved[3]], other),
    undefined,
    'a new voter would draw the old ones into its epoch',
  );
  t.same(idsOf([before[0], before[1], moved[3], survivor(5, E, 4)], other), [0, 1, 3, 5]);
  t.end();
});

t.test('what is said of a loss', (t) => {
  const survivor = (replica: number, logView: number, last: number, committed: number): Survivor & { log: object } => ({
    directory: `/d/${replica}`,
    replica,
    log: {
      hardState: { view: logView, logView, incarnation: 1 },
      snapshot: undefined,
      entries: entriesOf(last, 0),
      committed,
      clean: false,
    },
    why: undefined,
    doubts: [],
  });
  const none: Survivor = { directory: '/d/9', replica: 9, log: undefined, why: 'lost', doubts: [] };
  t.equal(bestOf([none]), undefined);
  t.equal(bestOf([]), undefined);
  const [a, b, c] = [survivor(0, 1, 10, 9), survivor(1, 2, 8, 5), survivor(2, 2, 8, 7)];
  t.equal(bestOf([none, a, b, c])!.replica, 1, 'the view first, then the length, then the lower id');
  t.match(lossOf(bestOf([a, b, c])!, [a, b, c]), [
    /^Entries 1 to 8 are kept/,
    /^Entry 5 is the last/,
    /^Entries 6 to 8 are kept too/,
    /^Entries 9 to 9 were committed, as another directory knows, and are LOST/,
    /behind entry 9/,
  ]);
  t.match(lossOf({ ...a, doubts: ['it rained'] } as never, [a]), [
    /^Entries 1 to 10/,
    /^Entry 9/,
    /^Entries 10 to 10/,
    /behind entry 10/,
    /^The log may lack its end: it rained\./,
  ]);
  t.end();
});
