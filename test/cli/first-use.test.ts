// What somebody meets who uses the commands for the first time, or in a directory that has a cluster already.
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { dataBeside } from '../../src/console/data-beside.js';
import { freePorts } from '../../src/host/free-ports.js';
import { writeTogether } from '../../src/console/output-file.js';
import { writeDuration, parseDuration } from '../../src/console/units.js';
import { KvMachine } from '../../src/machine/kv.js';
import { FIRST_FEATURES } from '../../src/protocol/log/features.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { jitpaxos, jitpaxosEach, type Ended } from '../cluster/processes.js';

type Teardown = Pick<typeof import('tap').default, 'teardown'>;

function folder(t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function addresses(count = 3): Promise<string> {
  return (await freePorts(count)).map((port) => `127.0.0.1:${port}`).join(',');
}

const keyFile = (directory: string, name: string): KeyFile =>
  JSON.parse(readFileSync(join(directory, name), 'utf8')) as KeyFile;

const featuresOf = (directory: string, name: string): unknown =>
  (JSON.parse(readFileSync(join(directory, name), 'utf8')) as { features: unknown }).features;

t.test('init writes all of its files or none, and two clusters share a directory', async (t) => {
  const cwd = folder(t);
  const run = async (...args: string[]): Promise<Ended> =>
    jitpaxos(['init', '--replicas', await addresses(), ...args], { cwd });
  t.equal((await run()).code, 0);
  t.same(readdirSync(cwd).sort(), ['client.keys', 'cluster.json', 'replica.keys']);
  t.same(featuresOf(cwd, 'cluster.json'), FIRST_FEATURES);
  t.equal((await run('--out', 'monday.json')).code, 0, 'another cluster in the same directory');
  t.same(readdirSync(cwd).sort(), [
    'client.keys',
    'cluster.json',
    'monday.client.keys',
    'monday.json',
    'monday.replica.keys',
    'replica.keys',
  ]);
  for (const [cluster, keys] of [
    ['cluster.json', 'client.keys'],
    ['monday.json', 'monday.client.keys'],
  ] as const) {
    t.equal(
      keyFile(cwd, keys).cluster,
      (JSON.parse(readFileSync(join(cwd, cluster), 'utf8')) as { id: string }).id,
      `${keys} is of ${cluster}`,
    );
  }
  writeFileSync(join(cwd, 'b.client.keys'), 'mine');
  const refused = await run('--out', 'b.json');
  t.match(refused, { code: 2, stderr: /^file-exists: b\.client\.keys already exists, and nothing was written/ });
  t.notOk(existsSync(join(cwd, 'b.json')) || existsSync(join(cwd, 'b.replica.keys')), 'nothing was');
  t.equal(readFileSync(join(cwd, 'b.client.keys'), 'utf8'), 'mine');
  t.match(await run('--out', 'absent/c.json'), {
    code: 1,
    stderr:
      /^output-unwritable: absent\/.* cannot be written, and nothing was written: there is no directory absent; make it/,
  });
  t.equal(readdirSync(cwd).filter((name) => name.includes('.new')).length, 0, 'no file is left aside');
});

t.test('files that belong together: what is written in between is not overwritten, and all is taken back', (t) => {
  const cwd = folder(t);
  const [first, second] = [join(cwd, 'first'), join(cwd, 'gone', 'second')];
  t.throws(
    () =>
      writeTogether([
        { path: first, content: 'x' },
        { path: second, content: 'y' },
      ]),
    { code: 'output-unwritable', message: new RegExp(`^${second} cannot be written.*there is no directory`) },
  );
  t.same(readdirSync(cwd), [], 'not even the first');
  writeTogether([{ path: first, content: 'x', mode: 0o600 }]);
  t.throws(() => writeTogether([{ path: first, content: 'z' }]), { code: 'file-exists' });
  writeTogether([{ path: first, content: 'z' }], true);
  t.equal(readFileSync(first, 'utf8'), 'z');
  t.end();
});

t.test('data directories of two clusters in one directory; one from before is not lost', async (t) => {
  const cwd = folder(t);
  await jitpaxos(['init', '--insecure', '--replicas', await addresses(1)], { cwd });
  await jitpaxos(['init', '--insecure', '--replicas', await addresses(1), '--out', 'monday.json'], { cwd });
  const [plain, own] = [join(cwd, '.jitpaxos', 'replica-0'), join(cwd, '.jitpaxos', 'monday', 'replica-0')];
  t.equal(dataBeside(join(cwd, 'cluster.json'), 0), plain);
  t.equal(dataBeside(join(cwd, 'monday.json'), 0), own);
  const use = async (cluster: string): Promise<void> =>
    (
      await Replica.start({
        cluster: join(cwd, cluster),
        id: 0,
        machine: new KvMachine(),
        data: plain,
        logger: silentLogger,
      })
    ).close();
  await use('monday.json');
  t.equal(dataBeside(join(cwd, 'monday.json'), 0), plain, 'it has the data of this cluster');
  rmSync(plain, { recursive: true });
  await use('cluster.json');
  t.equal(dataBeside(join(cwd, 'monday.json'), 0), own, "it has another cluster's");
});

t.test('backup and restore as they are documented, in a directory that has a cluster', async (t) => {
  const cwd = folder(t);
  t.equal((await jitpaxos(['init', '--replicas', await addresses(1)], { cwd })).code, 0);
  await (
    await Replica.start({
      cluster: join(cwd, 'cluster.json'),
      id: 0,
      machine: new KvMachine(),
      data: join(cwd, '.jitpaxos', 'replica-0'),
      logger: silentLogger,
    })
  ).close();
  const ports = await freePorts(1);
  writeFileSync(
    join(cwd, 'one.json'),
    JSON.stringify({ schema: 'jitpaxos.cluster/1', id: '00c0ffee00000001', replicas: [`127.0.0.1:${ports[0]}`] }),
  );
  const replica = await Replica.start({
    cluster: join(cwd, 'one.json'),
    id: 0,
    machine: new KvMachine(),
    data: join(cwd, 'one-data'),
    durability: 'os',
    logger: silentLogger,
  });
  const client = await Client.connect({ cluster: join(cwd, 'one.json'), timeout: 30_000, connectTimeout: 30_000 });
  await new KvClient(client).put('a', 'b');
  await client.close();
  await replica.close();
  t.match(await jitpaxos(['backup', 'one-data', '--out', 'monday.jpb'], { cwd }), { code: 0 });
  t.match(
    await jitpaxos(['init', '--replicas', await addresses(), '--restore', 'monday.jpb', '--out', 'new.json'], { cwd }),
    { code: 1, stderr: /^backup-unauthenticated: / },
    'a cluster without keys seals no backup',
  );
  const unsealed = ['--restore', 'monday.jpb', '--unauthenticated', '--out', 'new.json'];
  const init = ['init', '--replicas', await addresses(), ...unsealed];
  t.match(
    await jitpaxos(init, { cwd }),
    { code: 2, stderr: /does not say with which features .* cluster 00c0ffee00000001 with --backup-cluster/ },
    'a log from its first entry on means what the features say that its cluster began with',
  );
  t.match(await jitpaxos([...init, '--backup-cluster', 'cluster.json'], { cwd }), {
    code: 2,
    stderr: /--backup-cluster cluster\.json is of cluster /,
  });
  t.match(await jitpaxos([...init, '--backup-cluster', 'one.json'], { cwd }), { code: 0 });
  t.same(featuresOf(cwd, 'new.json'), [], 'it began with none');
  for (const id of [0, 1, 2])
    t.match(
      await jitpaxos(['restore', 'monday.jpb', '--cluster', 'new.json', '--id', String(id), ...unsealed.slice(2, 3)], {
        cwd,
      }),
      { code: 0, stdout: new RegExp(`in .*\\.jitpaxos/new/replica-${id}`) },
    );
});

t.test('a backup of a cluster with keys is sealed, and restored beside its keys without a flag', async (t) => {
  const cwd = folder(t);
  t.equal((await jitpaxos(['init', '--replicas', await addresses(1)], { cwd })).code, 0);
  const replica = await Replica.start({
    cluster: join(cwd, 'cluster.json'),
    id: 0,
    machine: new KvMachine(),
    data: join(cwd, '.jitpaxos', 'replica-0'),
    durability: 'os',
    logger: silentLogger,
  });
  const client = await Client.connect({ cluster: join(cwd, 'cluster.json'), timeout: 30_000, connectTimeout: 30_000 });
  await new KvClient(client).put('a', 'b');
  await client.close();
  await replica.close();
  t.match(await jitpaxos(['backup', '.jitpaxos/replica-0', '--out', 'monday.jpb'], { cwd }), {
    code: 0,
    stdout: /sealed with its keys/,
  });
  // The key of today opens it, whatever happened to the others since: the seal is of the secret of the chain.
  t.match(await jitpaxos(['keys', 'add', '--role', 'replica'], { cwd }), { code: 0 });
  const { use: old, keys } = keyFile(cwd, 'replica.keys');
  const added = keys.find(({ id, role }) => role === 'replica' && id !== old)!.id;
  t.match(await jitpaxos(['keys', 'use', String(added)], { cwd }), { code: 0 });
  t.match(await jitpaxos(['keys', 'remove', String(old)], { cwd }), { code: 0 });
  const init = ['init', '--replicas', await addresses(), '--restore', 'monday.jpb', '--out'];
  t.match(await jitpaxos([...init, 'new.json'], { cwd }), { code: 0 });
  t.same(featuresOf(cwd, 'new.json'), FIRST_FEATURES, 'those of the old cluster');
  writeFileSync(
    join(cwd, 'edited.json'),
    JSON.stringify({ ...(JSON.parse(readFileSync(join(cwd, 'new.json'), 'utf8')) as object), features: [] }),
  );
  t.match(await jitpaxos(['restore', 'monday.jpb', '--cluster', 'edited.json', '--id', '0'], { cwd }), {
    code: 2,
    stderr: /^backup-other: .* begins with the features none, .* with session-quotas, membership/,
  });
  t.match(await jitpaxos(['restore', 'monday.jpb', '--cluster', 'new.json', '--id', '0'], { cwd }), { code: 0 });
  const elsewhere = folder(t);
  t.match(await jitpaxos([...init, 'new.json'], { cwd: elsewhere }), {
    code: 2,
    stderr: /^argument-invalid: monday\.jpb can't be read \(ENOENT/,
  });
  copyFileSync(join(cwd, 'monday.jpb'), join(elsewhere, 'monday.jpb'));
  t.match(await jitpaxos([...init, 'new.json'], { cwd: elsewhere }), {
    code: 1,
    stderr: /^backup-unauthenticated: nothing shows who made monday\.jpb/,
  });
});

t.test('a key file has one flag with every command, and the variable is never ignored', async (t) => {
  const cwd = folder(t);
  await jitpaxos(['init', '--replicas', await addresses()], { cwd });
  t.equal((await jitpaxos(['keys', 'add', '--role', 'read-only', '--out', 'reader.keys'], { cwd })).code, 0);
  const reader = keyFile(cwd, 'reader.keys').use;
  const own = keyFile(cwd, 'client.keys').use;
  const ids = [0, 1, 2];
  const replicas = await Promise.all(
    ids.map((id) =>
      Replica.start({ cluster: join(cwd, 'cluster.json'), id, machine: new KvMachine(), logger: silentLogger }),
    ),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const put = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> =>
    jitpaxos(['kv', 'put', 'a', 'b', '--timeout', '30s', ...args], { cwd, env });
  t.match(await put([]), { code: 0 });
  const added = await jitpaxos(['keys', 'add', '--role', 'operator', '--out', 'operator.keys'], { cwd });
  t.match(added, { code: 0, stdout: /^key \d+ \(operator\) is in replica\.keys; the client's file is operator\.keys/ });
  replicas.forEach((replica) => replica.reloadKeys());
  t.match(await put(['--key-file', 'operator.keys']), { code: 0 }, 'an operator may what a client may');
  for (const flag of ['--key-file', '--keys'])
    t.match(await put([flag, 'reader.keys']), { code: 2, stderr: /^read-only: / }, flag);
  t.match(await put([], { JITPAXOS_KEYS: 'reader.keys' }), { code: 2, stderr: /^read-only: / }, 'the variable');
  t.match(
    await put(['--key-file', 'client.keys'], { JITPAXOS_KEYS: 'reader.keys' }),
    { code: 0 },
    'the flag goes before it',
  );
  t.match(await put([], { JITPAXOS_KEYS: 'absent.keys' }), { code: 1, stderr: /^key-file-unreadable: / });
  for (const command of [
    ['status', '--interval', '0s', '--timeout', '10s'],
    ['doctor', '--cluster', 'cluster.json'],
    ['top', '--count', '1', '--json'],
  ]) {
    const ended = await jitpaxos([...command, '--key-file', 'absent.keys'], { cwd });
    t.match(ended.stderr + ended.stdout, /key file absent\.keys cannot be read/, command[0]!);
    t.not(ended.code, 0);
  }
  t.match(
    await jitpaxos(['bench', 'latency', '--cluster', 'cluster.json', '--key-file', 'absent.keys', '--ops', '10'], {
      cwd,
    }),
    { code: 1, stderr: /absent\.keys/ },
  );
  const bench = await jitpaxos(
    [
      'bench',
      'latency',
      '--cluster',
      'cluster.json',
      '--machine',
      'kv',
      '--key-file',
      'client.keys',
      '--ops',
      '20',
      '--warmup',
      '0',
      '--timeout',
      '60s',
    ],
    { cwd, env: { JITPAXOS_KEYS: 'absent.keys' } },
  );
  t.equal(bench.code, 0, bench.stderr);

  const listed = await jitpaxos(['keys', 'list', '--json'], { cwd });
  t.match(JSON.parse(listed.stdout), {
    schema: 'jitpaxos.keys-list/1',
    file: 'replica.keys',
    keys: [
      { role: 'replica', inUse: true },
      { id: own, role: 'client' },
      { id: reader, role: 'read-only' },
      { role: 'operator' },
    ],
  });
  const secrets = ['replica.keys', 'client.keys', 'reader.keys'].flatMap((name) =>
    keyFile(cwd, name).keys.map(({ secret }) => secret),
  );
  t.notOk(
    secrets.some((secret) => listed.stdout.includes(secret.slice(0, 12))),
    'no secret is shown',
  );
  const of = (text: string, id: number): string =>
    (JSON.parse(text) as { keys: { id: number; check: string }[] }).keys.find((key) => key.id === id)!.check;
  const mine = await jitpaxos(['keys', 'list', '--key-file', 'client.keys', '--json'], { cwd });
  t.equal(of(mine.stdout, own), of(listed.stdout, own), 'equal secrets are seen to be equal');
  t.not(of(listed.stdout, own), of(listed.stdout, reader));
});

t.test('--timeout bounds connecting as well', async (t) => {
  const cwd = folder(t);
  await jitpaxos(['init', '--insecure', '--replicas', await addresses()], { cwd });
  t.match(await jitpaxos(['kv', 'get', 'a', '--timeout', '300ms'], { cwd }), {
    code: 3,
    stderr: /^cluster-unavailable: no session within 300 ms /m,
  });
});

t.test('help, version, durations, and why a replica does not start', async (t) => {
  const helps = [['-h'], ['kv', '-h'], ['kv', 'get', '-h'], ['replica', '-h']];
  const others = [
    ['version'],
    ['--version'],
    ['--help'],
    ['kv', 'get', 'a', '--timeout', '0s'],
    ['status', '--timeout', '5'],
  ];
  const ends = await jitpaxosEach([...helps, ...others]);
  for (const [index, args] of helps.entries()) t.match(ends[index], { code: 0, stdout: /jitpaxos/ }, args.join(' '));
  const [word, flag, overview, zero, unitless] = ends.slice(helps.length) as [Ended, Ended, Ended, Ended, Ended];
  t.match(flag, { code: 0, stdout: /^\d+\.\d+\.\d+/ });
  t.equal(word.stdout, flag.stdout);
  const kv = [...overview.stdout.matchAll(/^ {2}(\w+)/gm)].map(([, word]) => word!);
  t.equal(
    kv.lastIndexOf('kv') - kv.indexOf('kv') + 1,
    kv.filter((word) => word === 'kv').length,
    'a group stands together',
  );
  t.match(zero, {
    code: 2,
    stderr: /^flag-invalid: --timeout "0s" is out of range; it has to be from 1ms to 1h\n$/,
  });
  t.match(unitless, { code: 2, stderr: /is not a duration with a unit/ });
  for (const text of ['1ms', '90s', '2m', '24h', '500us', '1500ms', '0s'])
    t.equal(parseDuration(writeDuration(parseDuration(text)!)), parseDuration(text), text);

  const cwd = folder(t);
  await jitpaxos(['init', '--insecure', '--replicas', await addresses()], { cwd });
  const line = async (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Record<string, unknown>> => {
    const { code, stderr } = await jitpaxos(['replica', ...args], { cwd, env });
    t.equal(code, 2);
    t.equal(stderr.trim().split('\n').length, 1, stderr);
    return JSON.parse(stderr) as Record<string, unknown>;
  };
  t.match(await line(['--id', '9', '--log-format', 'json']), {
    level: 'error',
    event: 'replica.ended',
    code: 'replica-id-out-of-range',
    error: /replicas 0 to 2/,
    exitCode: 2,
  });
  t.match(
    await line(['--id', 'x', '--log-format=json']),
    { event: 'replica.ended', code: 'flag-invalid' },
    'also where the command line itself is wrong',
  );
  t.match(await line(['--id', '0', '--suspect-after', '1ms'], { JITPAXOS_LOG_FORMAT: 'json' }), {
    event: 'replica.ended',
    code: 'flag-invalid',
  });
  t.match(
    await line(['--id', '9']),
    { event: 'replica.ended', code: 'replica-id-out-of-range' },
    'auto, where stderr is no terminal',
  );
  t.match(await line(['--id', 'x', '--log-format', 'auto']), { event: 'replica.ended', code: 'flag-invalid' });
  t.match(await line(['--id', '9'], { JITPAXOS_LOG_FORMAT: 'auto' }), {
    event: 'replica.ended',
    code: 'replica-id-out-of-range',
  });
  t.match(
    (await jitpaxos(['replica', '--id', '9', '--log-format', 'text'], { cwd })).stderr,
    /^replica-id-out-of-range: /,
    'for people',
  );
});

t.test('config explain says what would be used', async (t) => {
  const { stdout } = await jitpaxos(['config', 'explain', '--json']);
  const { settings } = JSON.parse(stdout) as { settings: { name: string; value: string | null; from: string }[] };
  t.same(
    settings.filter(({ value }) => value === null).map(({ name }) => name),
    ['id'],
    'only what has no default is unset',
  );
  t.match(
    settings.find(({ name }) => name === 'suspect-after'),
    { value: '40ms', from: 'default' },
  );
});

t.test('demo: a report that cannot be written is found before anything starts', async (t) => {
  t.match(await jitpaxos(['demo', '--report', '/absent/report.html']), {
    code: 2,
    stderr: /^flag-invalid: --report \/absent\/report\.html can't be written: there is no directory/,
  });
});

t.test('what the walk of the README leaves in a checkout is ignored by git and by container builds', (t) => {
  for (const [file, patterns] of [
    ['.gitignore', ['*.keys', '/cluster.json', '.jitpaxos/', '/jitpaxos-report.html']],
    ['.dockerignore', ['*.keys', '**/*.keys', '.jitpaxos', '**/.jitpaxos']],
  ] as const) {
    const lines = readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8').split('\n');
    for (const pattern of patterns) t.ok(lines.includes(pattern), `${file}: ${pattern}`);
  }
  t.end();
});
