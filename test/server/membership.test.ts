// Real hosts and clients when the members change: over sockets, with data directories, by entries of the log.
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { switchOn } from '../../src/client/feature-switch.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { OperatorClient } from '../../src/client/operator-client.js';
import { openChain } from '../../src/host/chain.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { FEATURE_NAMES, featureOperation } from '../../src/protocol/log/features.js';
import type { ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { OUTCOME_NAMES } from '../../src/protocol/membership/results.js';
import { Replica } from '../../src/server/replica.js';
import type { ReplicaOptions } from '../../src/server/replica-options.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import { beginJoining } from '../../src/storage/joining-file.js';
import { MEMBERS_FILE, readMembers, writeMembers } from '../../src/storage/members-file.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { readI32, writeHex } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { clusterConfig, freePorts } from './fixtures.js';

/** On a busy host. */
const TIMEOUT_MS = 120_000;
const hash = loadHash();
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  why: () => string = () => '',
): Promise<void> {
  const endMs = performance.now() + TIMEOUT_MS;
  while (performance.now() < endMs) {
    if (await condition()) return;
    await sleep(10);
  }
  throw new Error(`timed out waiting until ${what}${why()}`);
}

function wordsOf(identity: string): { identityHi: number; identityLo: number } {
  const words = new Uint8Array(8);
  writeHex(words, 0, identity);
  return { identityHi: readI32(words, 0), identityLo: readI32(words, 4) };
}

/** A cluster whose operator is the test. */
class Members {
  readonly replicas = new Map<number, Replica>();
  readonly addresses = new Map<number, string>();
  /** What each said last, for messages. */
  private readonly said = new Map<number, string[]>();
  private epoch = 0;

  private constructor(
    readonly cluster: ClusterConfig,
    private readonly directory: string,
    private readonly extra: Partial<ReplicaOptions>,
  ) {}

  static async start(t: Test, replicas: number, extra: Partial<ReplicaOptions> = {}): Promise<Members> {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-membership-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const members = new Members(await clusterConfig(replicas), directory, extra);
    t.teardown(() => Promise.all([...members.replicas.values()].map((replica) => replica.close())));
    const ids = members.cluster.replicas.map((address, id) => {
      members.addresses.set(id, address);
      return id;
    });
    await Promise.all(ids.map((id) => members.run(id)));
    const chain = openChain(loadCluster(members.cluster), undefined, hash);
    const feature = featureOperation(FEATURE_NAMES.indexOf('membership') + 1, chain);
    const options = { cluster: members.cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS };
    await switchOn(options, feature, TIMEOUT_MS);
    for (const id of ids)
      await until(() => members.replicas.get(id)!.status().identity !== null, 'its directory is named');
    for (const id of ids)
      await members.ask({ kind: 'name', id, ...members.identityOf(id), address: members.addresses.get(id)! });
    return members;
  }

  directoryOf(id: number): string {
    return join(this.directory, String(id));
  }

  /** What these hosts said last. */
  lastWords(...ids: readonly number[]): string {
    return ids.map((id) => `\nhost ${id}:\n${(this.said.get(id) ?? []).slice(-25).join('\n')}`).join('');
  }

  async run(id: number, cluster: ClusterConfig = this.cluster, extra: Partial<ReplicaOptions> = {}): Promise<Replica> {
    const said = this.said.get(id) ?? [];
    this.said.set(id, said);
    const say = (event: string, fields: unknown): void => void said.push(`${event} ${JSON.stringify(fields)}`);
    const replica = await Replica.start({
      cluster,
      id,
      data: this.directoryOf(id),
      machine: new KvMachine(),
      logger: { info: say, warn: say, error: say },
      ...this.extra,
      ...extra,
    });
    this.replicas.set(id, replica);
    return replica;
  }

  async stop(id: number): Promise<void> {
    const replica = this.replicas.get(id)!;
    this.replicas.delete(id);
    await replica.close();
  }

  private identityOf(id: number): { identityHi: number; identityLo: number } {
    return wordsOf(this.replicas.get(id)!.status().identity!);
  }

  async ask(operation: ConfigureOperation): Promise<number | undefined> {
    await using operator = await OperatorClient.open({
      cluster: this.cluster,
      logger: silentLogger,
      connectTimeout: TIMEOUT_MS,
    });
    const said = await operator.change(operation, TIMEOUT_MS);
    if (said === undefined || OUTCOME_NAMES[said.outcome] !== 'done')
      throw new Error(`${operation.kind}: ${said === undefined ? 'unknown' : OUTCOME_NAMES[said.outcome]}`);
    return said.id;
  }

  /** The newest that some replica knows. */
  list(): MemberList {
    const lists = [...this.replicas.values()].map((replica) => replica['knownMembers'].forTools());
    return lists.reduce((newest, list) => (list.index > newest.index ? list : newest));
  }

  /** A new host is listed, begins, and has what is committed. */
  async add(): Promise<number> {
    const [port] = await freePorts(1);
    const address = `127.0.0.1:${port}`;
    const { idHi: clusterHi, idLo: clusterLo } = loadCluster(this.cluster);
    const data = this.directoryOf(this.list().nextId);
    mkdirSync(data);
    const files = new DirectoryFiles(data);
    const identity = wordsOf(await beginJoining(files, { clusterHi, clusterLo }, hash));
    const id = (await this.ask({ kind: 'learn', ...identity, address }))!;
    this.addresses.set(id, address);
    await until(() => this.list().hosts.some((host) => host.id === id), `host ${id} is listed`);
    await writeMembers(files, this.list(), { clusterHi, clusterLo }, hash);
    const joined = await this.run(id);
    await until(() => {
      const committed = Math.max(...[...this.replicas.values()].map((replica) => replica.status().committedIndex));
      return joined.status().committedIndex >= committed - 16;
    }, `host ${id} has what is committed`);
    return id;
  }

  /** These are the voters, and the epoch runs with a quorum of them. */
  async change(ids: readonly number[]): Promise<void> {
    const from = this.epoch;
    await this.ask({ kind: 'change', from, to: ++this.epoch, ids: [...ids].sort((a, b) => a - b) });
    await until(
      () =>
        [...this.replicas.entries()].filter(
          ([id, replica]) =>
            ids.includes(id) &&
            replica.status().view >= this.epoch * EPOCH_VIEWS &&
            replica.status().status === 'normal',
        ).length *
          2 >
        ids.length,
      `epoch ${this.epoch} runs`,
    );
  }

  async client(t: Test, cluster: ClusterConfig = this.cluster): Promise<KvClient> {
    const client = await Client.connect({ cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS });
    t.teardown(() => client.close());
    return new KvClient(client);
  }

  get primary(): number {
    for (const [id, replica] of this.replicas) if (replica['core'].state.isPrimary) return id;
    return -1;
  }
}

async function put(client: KvClient, key: string, value: string): Promise<void> {
  await client.put(bytes(key), bytes(value), { timeout: TIMEOUT_MS });
}

async function get(client: KvClient, key: string): Promise<string | undefined> {
  const value = await client.get(bytes(key), { timeout: TIMEOUT_MS });
  return value === undefined ? undefined : new TextDecoder().decode(value);
}

t.test('a member is replaced, then each of the others; clients that knew nobody of them find the way', async (t) => {
  const members = await Members.start(t, 3, { durability: 'os' });
  const busy = await members.client(t);
  const idle = await members.client(t);
  await put(busy, 'first', '1');
  await put(idle, 'idle', '1');
  let voters = [0, 1, 2];
  for (let round = 0; round < 3; round++) {
    // The primary goes in one of the rounds, at the latest when it is the only one left of the first three.
    const leaves = round === 1 && voters.includes(members.primary) ? members.primary : voters[0]!;
    const comes = await members.add();
    voters = [...voters.filter((id) => id !== leaves), comes];
    await members.change(voters);
    await put(busy, `round ${round}`, 'x');
    // The last one runs on: it is the only one that an idle client knows.
    if (round < 2) await members.stop(leaves);
    await put(busy, `after ${round}`, 'x');
  }
  t.notOk(
    voters.some((id) => id < 3),
    'nobody of the cluster file is left',
  );
  t.equal(await get(idle, 'first'), '1', 'a client that was idle all the while');
  t.equal(await get(busy, 'after 2'), 'x');
  const known = (busy['client'] as Client).stats().clock.replicas.map(({ id }) => id);
  t.ok(
    voters.every((id) => known.includes(id)),
    `the client tells their clocks by their ids: ${known.join(' ')}`,
  );
  await until(() => {
    const report = members.replicas.get(members.primary)?.status();
    const heard = (report?.peers ?? []).flatMap((peer, entry) =>
      peer?.speaks === WIRE_VERSION ? [report!.entriesOf![entry]!] : [],
    );
    return report !== undefined && voters.every((id) => id === report.id || heard.includes(id));
  }, 'the primary tells what each of the others speaks, by its id');
  const list = await readMembers(new DirectoryFiles(members.directoryOf(voters[0]!)), {
    owner: { clusterHi: loadCluster(members.cluster).idHi, clusterLo: loadCluster(members.cluster).idLo },
    hash,
    directory: '',
  });
  t.ok(list!.started >= 2, `the list is on the disk, of epoch ${list!.started}`);
});

t.test('three become five and three again; hosts that have left, and files of long ago, lead on', async (t) => {
  const members = await Members.start(t, 3, { durability: 'memory', transport: 'dgram' });
  const busy = await members.client(t);
  await put(busy, 'first', '1');
  const [third, fourth] = [await members.add(), await members.add()];
  await members.change([0, 1, 2, third, fourth]);
  await put(busy, 'of five', '2');
  // Any two may stop now.
  await members.stop(2);
  await members.stop(third);
  await put(busy, 'with three of five', '3');
  await members.run(2);
  await members.run(third);
  await put(busy, 'with all five', '4');
  await members.change([2, third, fourth]);
  await put(busy, 'of three', '5');
  const fifth = await members.add();
  await members.change([third, fourth, fifth]);
  await members.stop(2);
  const isRemoved = (id: number): boolean => members.replicas.get(id)!['core'].state.removed;
  await until(
    () => isRemoved(0) && isRemoved(1),
    'those that have left know it',
    () => members.lastWords(0, 1),
  );
  await members.stop(1);
  const late = await members.client(t);
  t.equal(await get(late, 'of three'), '5', 'of three seeds one is left, and it has left the cluster');
  await put(late, 'late', '6');
  await members.stop(0);
  await members.run(2);
  await until(
    () => isRemoved(2),
    'a host that has left in the meantime finds out',
    () => members.lastWords(2),
  );
  const later = await members.client(t);
  t.equal(await get(later, 'late'), '6', 'and leads on');
  await members.stop(2);
  t.equal(await get(busy, 'late'), '6');
  const failed: unknown = await Client.connect({
    cluster: members.cluster,
    logger: silentLogger,
    connectTimeout: 1_000,
  }).catch((error: unknown) => error);
  t.match(failed, { code: 'cluster-unavailable' });
  const { message } = failed as Error;
  t.same(
    members.cluster.replicas.filter((seed) => !message.includes(seed)),
    [],
    'with all seeds gone they are named: nobody can say more',
  );
  const [port] = await freePorts(1);
  const fresh = { ...members.cluster, replicas: [`127.0.0.1:${port}`, members.addresses.get(fourth)!, '127.0.0.1:9'] };
  const lead = await members.client(t, fresh);
  t.equal(await get(lead, 'late'), '6', 'one seed that is a member is enough, whatever its place in the file');

  for (const id of [third, fourth, fifth]) await members.stop(id);
  const gone = [...members.cluster.replicas, ...[third, fourth, fifth].map((id) => members.addresses.get(id)!)];
  let said = '';
  // The last words of the hosts may come late.
  await until(
    async () => {
      const error = await busy.get(bytes('late'), { timeout: 2_000 }).catch((thrown: unknown) => thrown);
      said = String(error);
      return /outcome-unknown|read the state/.test(said) && gone.every((address) => said.includes(address));
    },
    'an operation that nobody answers names the members, and the seeds that were asked',
    () => `: ${said}`,
  );
  t.match(said, 'tried the members that it was told of');
});

t.test('an id means one data directory: none that is empty, or another one, speaks under it', async (t) => {
  const members = await Members.start(t, 3, { durability: 'os' });
  const client = await members.client(t);
  await put(client, 'first', '1');
  const { cluster } = members;
  const data = members.directoryOf(2);
  const kept = `${data}.kept`;
  await until(
    () => existsSync(join(data, MEMBERS_FILE)) && members.list().hosts.every(({ identity }) => identity !== undefined),
    'host 2 has the list on its disk',
  );
  const { identity } = members.replicas.get(2)!.status();
  await members.stop(2);
  renameSync(data, kept);

  /** How a replica with this directory ends, which it does by itself. */
  const ends = async (id: number, extra: Partial<ReplicaOptions>): Promise<unknown> => {
    const replica = await members.run(id, cluster, extra);
    const ended: unknown = await replica.closed.then(
      () => 'closed',
      (error: unknown) => error,
    );
    members.replicas.delete(id);
    t.equal(replica.status().view, 0, 'it promised nothing');
    return ended;
  };
  for (const logLost of [false, true]) {
    const error = await ends(2, { logLost });
    t.match(error, { code: 'replica-id-taken', message: /has no promises.*jitpaxos replica --join.*member replace/ });
    t.match((error as Error).message, `identity ${identity}`);
    t.notOk(existsSync(join(data, 'hard-state')), 'nothing of it became durable');
    rmSync(data, { recursive: true });
  }
  await put(client, 'second', '2');

  // Nothing but the list: whoever copied that has not copied the promises.
  mkdirSync(data);
  copyFileSync(join(kept, MEMBERS_FILE), join(data, MEMBERS_FILE));
  await t.rejects(members.run(2), { code: 'replica-id-taken', message: /has no promises, and no identity/ });
  for (const durability of ['os', 'memory'] as const)
    await t.rejects(members.run(2, cluster, { durability }), { code: 'replica-id-taken' });
  rmSync(data, { recursive: true });

  // Promises of another life of the cluster file's replica 2, beside the list.
  const elsewhere = await clusterConfig(1);
  const alone = await Replica.start({
    cluster: { ...elsewhere, replicas: [...elsewhere.replicas] },
    id: 0,
    data,
    machine: new KvMachine(),
    logger: silentLogger,
  });
  await until(() => alone.status().identity !== null, 'it has an identity');
  const other = alone.status().identity;
  await alone.close();
  const owner = { clusterHi: loadCluster(elsewhere).idHi, clusterLo: loadCluster(elsewhere).idLo };
  const list = await readMembers(new DirectoryFiles(kept), { owner, hash, directory: kept });
  const own = { ...list!.hosts[2]!, id: 0, slot: 0 };
  await writeMembers(new DirectoryFiles(data), { ...list!, nextId: 1, hosts: [own] }, owner, hash);
  for (const durability of ['os', 'memory'] as const)
    await t.rejects(
      Replica.start({ cluster: elsewhere, id: 0, data, durability, machine: new KvMachine(), logger: silentLogger }),
      { code: 'replica-id-taken', message: new RegExp(`identity ${identity}, and .* has identity ${other}`) },
    );
  rmSync(data, { recursive: true });

  renameSync(kept, data);
  await members.run(2);
  await put(client, 'third', '3');
  await until(() => members.replicas.get(2)!.status().status === 'normal', 'the right directory takes part again');

  const comes = await members.add();
  await members.change([0, 1, comes]);
  await until(
    () => [0, 1, comes].every((id) => !members.replicas.get(id)!['core'].state.members.voters.includes(2)),
    'all know that host 2 has left',
  );
  await members.stop(2);
  rmSync(data, { recursive: true });
  for (const logLost of [false, true]) {
    t.match(await ends(2, { logLost }), {
      code: 'replica-removed',
      message: /host 2 is no member of this cluster any more, which is in epoch 1.*jitpaxos replica --join/,
    });
    rmSync(data, { recursive: true });
  }
  await put(client, 'fourth', '4');
  t.equal(await get(client, 'first'), '1');
});

t.test('a host of one that lost its directory and knows nobody to ask is found by the others, and stops', async (t) => {
  const members = await Members.start(t, 1, { durability: 'os' });
  const client = await members.client(t);
  await put(client, 'first', '1');
  const added = [await members.add(), await members.add()];
  await members.change([0, ...added]);
  await put(client, 'second', '2');
  await until(
    () => added.every((id) => members.replicas.get(id)!.status().status === 'normal'),
    'both have a log of the epoch, so that they can go on without host 0',
  );
  await members.stop(0);
  rmSync(members.directoryOf(0), { recursive: true });
  const replica = await members.run(0);
  // Its disk is slow: the identity that it has drawn is not durable when it hears of the members.
  Object.defineProperty(replica['storage'], 'identity', { get: () => undefined });
  await t.rejects(replica.closed, { code: 'replica-id-taken', message: /has no promises, and no identity/ });
  members.replicas.delete(0);
  t.equal(replica.status().view, 0, 'it promised nothing');
  await put(client, 'third', '3');
  t.equal(await get(client, 'first'), '1');
});

t.test('where members can change, who speaks an older version of the wire gets no answer', async (t) => {
  const cluster = await clusterConfig(3);
  const chain = openChain(loadCluster(cluster), undefined, hash);
  const feature = featureOperation(FEATURE_NAMES.indexOf('membership') + 1, chain);
  const connect = { cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS };
  const held = { wireVersion: PREVIOUS_WIRE_VERSION } as const;
  const replicas = new Map<number, Replica>();
  const homes = mkdtempSync(join(tmpdir(), 'jitpaxos-membership-'));
  // The last teardown comes first: no replica may write where files are being removed.
  t.teardown(() => rmSync(homes, { recursive: true, force: true }));
  t.teardown(() => Promise.all([...replicas.values()].map((replica) => replica.close())));
  const run = async (id: number, extra: Partial<ReplicaOptions> = {}): Promise<Replica> => {
    const options = { cluster, id, data: join(homes, String(id)), machine: new KvMachine(), logger: silentLogger };
    const replica = await Replica.start({ ...options, ...extra });
    replicas.set(id, replica);
    return replica;
  };
  await Promise.all([run(0), run(1), run(2, held)]);
  const old = await Client.connect({ ...connect, ...held });
  t.teardown(() => old.close());
  const present = await Client.connect(connect);
  t.teardown(() => present.close());
  const client = new KvClient(present);
  await put(new KvClient(old), 'old', '1');
  await t.rejects(switchOn(connect, feature, TIMEOUT_MS), {
    code: 'operation-refused',
    message: /speaks an earlier version of the wire/,
  });
  const on = (): boolean[] =>
    [...replicas.values()].map((replica) => replica.status().features!.on.includes('membership'));
  t.same(on(), [false, false, false], 'nothing was changed');
  await put(new KvClient(old), 'old', '2');

  await replicas.get(2)!.close();
  await run(2);
  await put(client, 'present', '1');
  await until(async () => {
    await switchOn(connect, feature, TIMEOUT_MS).catch((error: unknown) => {
      // until each has heard that replica 2 is another version now
      if ((error as { code?: string }).code !== 'operation-refused') throw error;
    });
    return on().every((isOn) => isOn);
  }, 'the feature is on everywhere');
  t.equal(await get(client, 'old'), '2', 'a client of the present version is answered');

  const outdated = (): number => [...replicas.values()].reduce((sum, r) => sum + r.status().drops['outdated']!, 0);
  const before = outdated();
  const refused = await new KvClient(old).put(bytes('old'), bytes('3'), { timeout: 2_000 }).then(
    () => 'done',
    (error: unknown) => (error as { code: string }).code,
  );
  t.equal(refused, 'outcome-unknown', 'one of the version before is not');
  t.ok(outdated() > before, 'and is counted');
  const connecting = await Client.connect({ ...connect, ...held, connectTimeout: 1_000 }).catch(
    (error: unknown) => (error as { code: string }).code,
  );
  t.equal(connecting, 'cluster-unavailable');
  t.equal(await get(client, 'old'), '2');
  await replicas.get(2)!.close();
  await t.rejects(run(2, held), { code: 'option-invalid', message: /start this replica without --wire-version/ });
  await run(2);
  t.equal(await get(client, 'old'), '2');
});
