/**
 * A cluster is upgraded, and taken back, one replica at a time under load: processes of two versions beside each other.
 *
 * The previous version is this build held back to it (`--wire-version 3`), which writes and refuses byte for byte what
 * that version did (test/wire/versions.test.ts). PREVIOUS=DIR takes another checkout, built, in its place, for replicas
 * and clients:
 *
 *     git worktree add ../previous 2aa9dae && (cd ../previous && npm ci)
 *     PREVIOUS=../previous node --test dist/test/cluster/upgrade.test.js
 */
import t from 'tap';
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Client } from '../../src/client/client.js';
import { LocalCluster, MAIN, type ReplicaProgram } from '../../src/measure/local-cluster.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { KEY_FILE_NAMES } from '../../src/host/keyring.js';
import { silentLogger } from '../../src/host/logger.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { checkHistory, explain } from '../../src/sim/linearizability.js';
import { Random } from '../../src/sim/random.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { Load } from './chaos/load.js';

const checkout = process.env['PREVIOUS'];
const PRESENT: ReplicaProgram = { main: MAIN, flags: [] };
const PREVIOUS: ReplicaProgram =
  checkout === undefined
    ? { main: MAIN, flags: ['--wire-version', String(PREVIOUS_WIRE_VERSION)] }
    : { main: resolve(checkout, 'dist/src/cli/main.js'), flags: [] };
const STEP_OPERATIONS = 200;
const OPERATION_TIMEOUT_MS = 20_000;
const PATIENCE_MS = 20_000;

t.comment(checkout === undefined ? 'the previous version: this build, held back' : `the previous version: ${checkout}`);

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
        unkeyedChain: checkout !== undefined,
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
      const connect = async (which: 'previous' | 'present'): Promise<void> => {
        const client =
          which === 'present'
            ? await Client.connect(common)
            : await previous.connect({ ...common, ...previous.options });
        clients.push(client);
        load.start(client, 2, random.fork(`client ${clients.length}`));
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
        await connect('previous');
        await progress('all of the previous version');
        await connect('present');
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
        t.equal(connected.drops['version'], 0, 'the present version drops nothing for its version');
        await connect('previous');
        await progress('all replicas upgraded, a client of the previous version comes');
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
