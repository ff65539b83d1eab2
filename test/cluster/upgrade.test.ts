/**
 * A cluster is upgraded, and taken back, one replica at a time under load: processes of two versions beside each other.
 *
 * The previous version is the last commit before the present one, packed (packed-program.ts), for replicas and clients.
 * PREVIOUS=DIR takes another checkout, built, in its place. PREVIOUS=held takes this build, held back
 * (`--wire-version 4`), which also reads the present version:
 *
 *     git worktree add ../previous e10929c && (cd ../previous && npm ci)
 *     PREVIOUS=../previous node scripts/test.mjs dist/test/cluster/upgrade.test.js
 */
import t from 'tap';
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { joinedId } from '../../src/cli/members/join.js';
import { Reach } from '../../src/cli/members/reach.js';
import { runChange } from '../../src/cli/members/run.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { LocalCluster, MAIN, type ReplicaProgram } from '../../src/measure/local-cluster.js';
import type { ClusterConfig, Encryption } from '../../src/host/cluster-config.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { KEY_FILE_NAMES } from '../../src/host/keyring.js';
import { silentLogger } from '../../src/host/logger.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { KvMachine } from '../../src/machine/kv.js';
import { Replica } from '../../src/server/replica.js';
import { checkHistory, explain } from '../../src/sim/linearizability.js';
import { Random } from '../../src/sim/random.js';
import { MEMBERS_HARD_STATE_FORMAT } from '../../src/storage/formats.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { freePorts } from '../server/fixtures.js';
import { Load } from './chaos/load.js';
import { unpackProgram, VERSION_4 } from './packed-program.js';
import { runNode } from './processes.js';

const given = process.env['PREVIOUS'];
const packed = given === undefined ? unpackProgram(VERSION_4) : undefined;
if (packed !== undefined) t.teardown(() => packed.remove());
/** Where the previous version is; undefined: it is this build, held back. */
const checkout = given === 'held' ? undefined : (packed?.directory ?? given);
const PRESENT: ReplicaProgram = { main: MAIN, flags: [] };
const PREVIOUS: ReplicaProgram =
  checkout === undefined
    ? { main: MAIN, flags: ['--wire-version', String(PREVIOUS_WIRE_VERSION)] }
    : { main: resolve(checkout, 'dist/src/cli/main.js'), flags: [] };
/** Writes the previous version, and reads both. */
const HELD: ReplicaProgram = { main: MAIN, flags: ['--wire-version', String(PREVIOUS_WIRE_VERSION)] };
/** The data directory of a replica in epoch 1 (test/golden/README.md). */
const GOLDEN_OF_EPOCHS = fileURLToPath(new URL('../../../test/golden/disk-3', import.meta.url));
const STEP_OPERATIONS = 200;
const OPERATION_TIMEOUT_MS = 20_000;
const PATIENCE_MS = 20_000;

t.comment(`the previous version: ${checkout === undefined ? 'this build, held back' : (packed?.commit ?? checkout)}`);

type Connect = typeof Client.connect;

/** `Client.connect` of the previous version, and what tells it to be that. */
async function previousClient(): Promise<{
  readonly connect: Connect;
  readonly options: { readonly wireVersion?: number };
}> {
  if (checkout === undefined)
    return { connect: (options) => Client.connect(options), options: { wireVersion: PREVIOUS_WIRE_VERSION } };
  const library = (await import(pathToFileURL(resolve(checkout, 'dist/src/index.js')).href)) as {
    readonly Client: { readonly connect: Connect };
  };
  return { connect: (options) => library.Client.connect(options), options: {} };
}

async function until(check: () => Promise<boolean>): Promise<boolean> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    if (await check()) return true;
    if (performance.now() > deadline) return false;
    await sleep(50);
  }
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

async function reportOf(cluster: LocalCluster, id: number): Promise<ReplicaStatusReport | undefined> {
  return (await cluster.replicas[id]!.ask('stats'))?.status as ReplicaStatusReport | undefined;
}

/**
 * Stops a replica, starts it as another version, and waits until it has a log again: as docs/operate/operations.md
 * says.
 */
async function replace(cluster: LocalCluster, id: number, program: ReplicaProgram): Promise<void> {
  await cluster.replicas[id]!.stop();
  await cluster.spawn(id, program).waitReady();
  const deadline = performance.now() + PATIENCE_MS;
  while ((await reportOf(cluster, id))?.status !== 'normal') {
    if (performance.now() > deadline)
      throw new Error(`replica ${id} has no log ${PATIENCE_MS / 1000} s after its restart`);
    await sleep(50);
  }
}

/** Writes the cluster file that processes read when they start from now on. */
function writeEncryption(cluster: LocalCluster, encryption: Encryption | undefined): void {
  const { encryption: _, ...config } = cluster.config();
  const next: ClusterConfig = encryption === undefined ? config : { ...config, encryption };
  writeFileSync(cluster.clusterFile, JSON.stringify(next, null, 2));
}

t.test(
  'the previous version refuses a directory that knows who the hosts are, and leaves it as it was',
  { skip: checkout === undefined && 'it is this build' },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-upgrade-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const file = join(directory, 'cluster.json');
    const config = {
      schema: 'jitpaxos.cluster/1',
      id: '0123456709abcdef',
      replicas: ['127.0.0.1:24786'],
      authentication: 'none',
      limits: { logEntries: 16 },
    } satisfies ClusterConfig;
    writeFileSync(file, JSON.stringify(config));
    for (const durability of ['fsync', 'memory']) {
      const data = join(directory, durability);
      cpSync(GOLDEN_OF_EPOCHS, data, { recursive: true });
      const contents = (): string[] =>
        readdirSync(data).map((name) => `${name} ${readFileSync(join(data, name)).toString('hex')}`);
      const before = contents();
      const flags = ['--cluster', file, '--id', '0', '--data', data, '--durability', durability];
      const ended = await runNode([PREVIOUS.main, 'replica', ...flags]);
      t.equal(ended.code, 1, ended.stdout);
      t.match(ended.stderr, /hard-state was written in format 2, and this version of jitpaxos reads format 1/);
      t.same(contents(), before);
    }
  },
);

t.test('the members change when all are of the present version, and never before', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    idle: 'block',
    durability: 'os',
    authenticated: false,
    unkeyedChain: true,
    program: PREVIOUS,
  });
  const connect = { cluster: cluster.config(), logger: silentLogger, connectTimeout: OPERATION_TIMEOUT_MS } as const;
  const previous = await previousClient();
  await using old = await previous.connect({ ...connect, ...previous.options });
  await using present = await Client.connect(connect);
  const put = (value: string): Promise<void> =>
    new KvClient(present).put('key', value, { timeout: OPERATION_TIMEOUT_MS });
  const reaching = { cluster: cluster.clusterFile, replicaKeys: undefined, answerMs: 1_000, decisionMs: 10_000 };
  const reach = new Reach({ ...reaching, logger: silentLogger });
  t.teardown(() => reach.close());
  const listen = { host: '127.0.0.1', port: (await freePorts(1))[0]! };
  const data = join(cluster.directory, 'joined');
  const stopping = new AbortController();
  t.teardown(() => stopping.abort());
  let joined!: Promise<number | undefined>;
  await new Promise<void>((resolve, reject) => {
    const options = { cluster: cluster.clusterFile, data, listen, logger: silentLogger, waits: () => resolve() };
    joined = joinedId(options, stopping.signal);
    joined.catch(reject);
  });
  let ran: Promise<Replica> | undefined;
  t.teardown(async () => (await ran)?.close());
  void joined
    .then((id) => {
      if (id === undefined) return;
      const machine = new KvMachine();
      ran = Replica.start({ cluster: cluster.clusterFile, id, data, machine, logger: silentLogger });
      return ran;
    })
    .catch(() => undefined); // the learner then never catches up
  const add = async (address = `127.0.0.1:${listen.port}`): Promise<string> =>
    runChange({ kind: 'add-learner', address }, reach, {
      timeoutMs: 10 * PATIENCE_MS,
      patienceMs: 2_000,
      nowMs: () => performance.now(),
      sleep,
      done: () => undefined,
      waits: () => undefined,
    }).then(
      ({ says }) => says,
      (error: unknown) => `${(error as { code: string }).code}: ${(error as Error).message}`,
    );
  const on = async (): Promise<boolean[]> =>
    Promise.all(
      [0, 1, 2].map(async (id) => (await reportOf(cluster, id))?.features?.on.includes('membership') === true),
    );

  const enable = async (): Promise<string> =>
    reach.switchOn().then(
      () => 'on',
      (error: unknown) => (error as { code: string }).code,
    );
  for (const id of [2, 1]) await replace(cluster, id, PRESENT);
  await put('of two versions');
  t.match(
    await add(),
    checkout === undefined
      ? /^member-unfit: host 0 at .* speaks only version 4 of the wire/
      : /^member-unfit: host 0 at .* runs version .*, which does not know changes of the members; upgrade it first/,
    'the tool names the host that is not upgraded',
  );
  t.equal(await enable(), 'operation-refused', 'and where a tool does not look, the members do');
  t.same(await on(), [false, false, false]);
  await put('still of two');

  await replace(cluster, 0, PRESENT);
  await put('of the present version');
  t.ok(await until(async () => (await enable()) === 'on'), 'then it can be switched on');
  t.match(await add(), /is a learner, and has caught up/);
  t.same(await on(), [true, true, true]);

  // A process of the previous version, for which the file says that host 2 is there.
  const elsewhere = `127.0.0.1:${(await freePorts(1))[0]}`;
  const older = join(cluster.directory, 'older.json');
  const config = cluster.config();
  writeFileSync(older, JSON.stringify({ ...config, replicas: [...config.replicas.slice(0, 2), elsewhere] }));
  const alone = spawn(process.execPath, [
    ...[PREVIOUS.main, 'replica', '--cluster', older, '--id', '2', '--data', join(cluster.directory, 'older')],
    ...PREVIOUS.flags,
  ]);
  t.teardown(() => alone.kill('SIGKILL'));
  await new Promise((resolve) => alone.stdout.once('data', resolve));
  t.match(await add(elsewhere), /^member-unfit: at .* is the data directory of a replica that is, or was, a host/);
  alone.kill('SIGKILL');
  const heard = await new KvClient(old).put('key', 'of the previous version', { timeout: 2_000 }).then(
    () => 'answered',
    (error: unknown) => (error as { code: string }).code,
  );
  t.equal(heard, 'outcome-unknown', 'a client of the previous version is not answered any more');
  t.ok(
    await until(
      async () =>
        (await reportOf(cluster, 1))!.drops['outdated']! + (await reportOf(cluster, 0))!.drops['outdated']! > 0,
    ),
    'which is counted',
  );
  await cluster.replicas[0]!.stop();
  const directory = join(cluster.directory, 'replica-0');
  t.equal(
    readFileSync(join(directory, 'hard-state')).readInt32BE(4),
    MEMBERS_HARD_STATE_FORMAT,
    'its directory knows who the hosts are',
  );
  const flags = ['--cluster', cluster.clusterFile, '--id', '0', '--data', directory, ...PREVIOUS.flags];
  const ended = await runNode([PREVIOUS.main, 'replica', ...flags]);
  t.equal(ended.code, checkout === undefined ? 2 : 1, ended.stdout);
  t.match(
    ended.stderr,
    checkout === undefined ? /start this replica without --wire-version/ : /was written in format 3/,
  );
  await put('without it');
  await replace(cluster, 0, PRESENT);
  await put('with it');
  const found = await new KvClient(present).get('key', { timeout: OPERATION_TIMEOUT_MS });
  t.equal(Buffer.from(found!).toString(), 'with it');
});

for (const { durability, authenticated } of [
  { durability: 'fsync', authenticated: true },
  { durability: 'memory', authenticated: false },
] as const) {
  t.test(
    `durability ${durability}, ${authenticated ? 'with' : 'without'} keys: three replicas are upgraded one by one, then the clients; then all of it is taken back`,
    async (t) => {
      const seed = randomInt(1, 1_000_000);
      t.comment(`seed ${seed}`);
      const random = new Random(seed);
      const load = new Load(OPERATION_TIMEOUT_MS);
      const clients: Client[] = [];
      await using cluster = await LocalCluster.start({
        replicas: 3,
        machine: 'kv',
        transport: 'auto',
        idle: 'block',
        durability,
        authenticated,
        unkeyedChain: packed === undefined && checkout !== undefined, // that may be older than the keyed chain
        program: PREVIOUS,
      });
      const keys = authenticated
        ? { keys: JSON.parse(readFileSync(join(cluster.directory, KEY_FILE_NAMES.client), 'utf8')) as KeyFile }
        : {};
      const common = {
        cluster: cluster.config(),
        ...keys,
        lanes: 2,
        connectTimeout: 20_000,
        idle: 'block',
        logger: silentLogger,
      } as const;
      const previous = await previousClient();
      const connect = async (which: 'previous' | 'present' | 'held'): Promise<Client> => {
        const client =
          which !== 'previous'
            ? await Client.connect({
                ...common,
                cluster: cluster.config(),
                ...(which === 'held' ? { wireVersion: PREVIOUS_WIRE_VERSION } : {}),
              })
            : await previous.connect({ ...common, ...previous.options });
        clients.push(client);
        load.start(client, 2, random.fork(`client ${clients.length}`));
        return client;
      };
      const progress = async (what: string): Promise<void> => {
        const pauseMs = Math.round(load.longestPauseMs);
        load.longestPauseMs = 0;
        const before = load.committed;
        const deadline = performance.now() + PATIENCE_MS;
        while (load.committed < before + STEP_OPERATIONS && performance.now() < deadline) await sleep(20);
        t.ok(
          load.committed >= before + STEP_OPERATIONS,
          `${what} (longest pause until then ${pauseMs} ms): operations go on`,
        );
      };
      const written = async (id: number): Promise<readonly number[] | undefined> => (await reportOf(cluster, id))?.wire;
      try {
        const first = await connect('previous');
        await progress('all of the previous version');
        const second = await connect('present');
        await progress('a client of the present version beside it');
        for (const id of [2, 1, 0]) {
          await replace(cluster, id, PRESENT);
          await progress(`replica ${id} upgraded`);
          if (id === 1)
            t.same(
              await written(1),
              [PREVIOUS_WIRE_VERSION, WIRE_VERSION, WIRE_VERSION],
              'each is written to in what it understands',
            );
        }
        t.same(await written(0), [WIRE_VERSION, WIRE_VERSION, WIRE_VERSION]);
        const connected = (await reportOf(cluster, 0))!;
        // a process of a real older release first writes in the version before its own, which is read no more
        if (checkout === undefined)
          t.equal(connected.drops['version'], 0, 'the present version drops nothing for its version');
        const third = await connect('previous');
        await progress('all replicas upgraded, a client of the previous version comes');
        if (authenticated) {
          // docs/operate/security.md, "Moving to encryption"
          for (const id of [0, 1, 2])
            t.same(
              (await reportOf(cluster, id))!.peers!.map((peer) => peer?.encrypted),
              [0, 1, 2].map((other) => (other === id ? undefined : true)),
              `replica ${id} encrypts what it sends to the others`,
            );
          const counted = async (): Promise<number> => {
            const each = await Promise.all([0, 1, 2].map((id) => reportOf(cluster, id)));
            return each.reduce((sum, report) => sum + (report?.previousVersion?.clients ?? 0), 0);
          };
          const before = await counted();
          t.ok(await until(async () => (await counted()) > before), 'a client of the previous version is counted');
          await Promise.all([load.leave(first), load.leave(third)]);
          writeEncryption(cluster, 'required');
          for (const id of [2, 0, 1]) {
            await replace(cluster, id, PRESENT);
            await progress(`replica ${id} takes encrypted datagrams only`);
          }
          const strict = await connect('present');
          await progress('a client that takes encrypted datagrams only');
          const refused = await previous.connect({ ...common, ...previous.options, connectTimeout: 1_000 }).then(
            async (client) => {
              await client.close();
              return 'connected';
            },
            (error: unknown) => (error as { code: string }).code,
          );
          t.equal(refused, 'cluster-unavailable', 'a client of the previous version is not heard');

          // and back: first nobody requires encryption, then nobody writes it, and all still read it
          await load.leave(strict);
          writeEncryption(cluster, undefined);
          for (const program of [PRESENT, HELD])
            for (const id of [1, 0, 2]) {
              await replace(cluster, id, program);
              await progress(`replica ${id} ${program === HELD ? 'writes version 4' : 'takes all again'}`);
            }
          t.same(await written(0), [PREVIOUS_WIRE_VERSION, PREVIOUS_WIRE_VERSION, PREVIOUS_WIRE_VERSION]);
          await connect('held');
          await progress('a client that writes version 4');
          await load.leave(second); // it has met the replicas in the encrypted version, and writes no other to them
        }
        await connect('previous');
        await progress('a client of the previous version comes again');
        for (const id of [1, 0, 2]) {
          await replace(cluster, id, PREVIOUS);
          await progress(`replica ${id} taken back`);
        }
        await load.stop();
        await using reader = await Client.connect({ ...common, lanes: 16 });
        t.same(await load.readBack(reader, 16), [], 'every acknowledged write is there');
      } finally {
        await load.stop();
        for (const client of clients) await client.close();
      }
      t.equal(load.unknown, 0, `${load.committed} operations, none failed`);
      const verdict = checkHistory(load.recorded.events);
      t.equal(verdict.outcome, 'linearizable', verdict.outcome === 'linearizable' ? '' : explain(verdict));
      for (const { complaint } of cluster.replicas) t.notMatch(complaint, /replica\.failed/);
    },
  );
}
