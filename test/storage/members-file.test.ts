// The file `members` of a data directory: what was written is read, whatever the power does; what is damaged, cut, of
// another cluster or of another format is refused by name.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { MembersClient } from '../../src/client/members-client.js';
import { addressText, loadCluster } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { Replica } from '../../src/server/replica.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { Random } from '../../src/sim/random.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import { HardStateFile } from '../../src/storage/hard-state.js';
import { encodeJoining } from '../../src/storage/joining-file.js';
import { FORMATS } from '../../src/storage/formats.js';
import type { Inspection } from '../../src/storage/inspection.js';
import {
  decodeMembersFile,
  encodeMembersFile,
  MEMBERS_ASIDE,
  MEMBERS_FILE,
  membersIndex,
  readMembers,
  writeMembers,
} from '../../src/storage/members-file.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { encodeMembership, firstMembership } from '../../src/protocol/membership/membership.js';
import { membershipOf } from '../../src/protocol/membership/member-lists.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { writeI32 } from '../../src/wire/u64.js';
import { jitpaxos, patiently } from '../cluster/processes.js';
import { clusterConfig, freePorts } from '../server/fixtures.js';
import { MemoryDisk, MemoryFiles } from './memory-files.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random contents`);
const CLUSTER = { clusterHi: 0x12345678, clusterLo: -5 };
const hash = loadHash();

const listOf = (epoch: number, voters = 3): MemberList => ({
  started: epoch,
  decided: epoch,
  index: 10 * epoch,
  nextId: voters,
  hosts: Array.from({ length: voters }, (_, id) => ({
    id,
    slot: id,
    address: `10.0.${epoch}.${id}:7400`,
    identity: 'ab'.repeat(8),
    votes: true,
    willVote: true,
  })),
});

t.test('what was written is read', async (t) => {
  const directory = directoryOf(t);
  const files = new DirectoryFiles(directory);
  t.equal(await readMembers(files, { owner: CLUSTER, hash, directory }), undefined, 'a new directory has none');
  for (const list of [listOf(0), listOf(7, 13), listOf(8, 1)]) {
    await writeMembers(files, list, CLUSTER, hash);
    t.strictSame(await readMembers(files, { owner: CLUSTER, hash, directory }), list);
    t.same(readdirSync(directory), [MEMBERS_FILE]);
  }
});

t.test('an epoch of hosts that the log does not name is stored, with the addresses of the cluster file', async (t) => {
  const directory = directoryOf(t);
  const files = new DirectoryFiles(directory);
  const owner = { ...CLUSTER, replica: 0, addresses: ['one:1', 'two:2', 'three:3'] };
  const unnamed = { ...firstMembership(3), index: 9 };
  const state = { view: 5, logView: 5, incarnation: 1 };
  const read = async (): Promise<MemberList | undefined> => readMembers(files, { owner: CLUSTER, hash, directory });
  const first = HardStateFile.open(directory, owner, hash);
  await first.write({ ...state, members: encodeMembership(unnamed) });
  t.equal(await read(), undefined, 'not before an epoch is decided');
  const renewed = { ...unnamed, index: 10, started: 1, decided: 1 };
  await first.write({ ...state, view: EPOCH_VIEWS, members: encodeMembership(renewed) });
  first.close();
  const list = (await read())!;
  const addresses = ({ hosts }: MemberList): string[] => hosts.map(({ address }) => address);
  t.match(list, { index: 10, started: 1, decided: 1 });
  t.strictSame(addresses(list), owner.addresses);
  t.ok(list.hosts.every(({ identity, votes }) => identity === undefined && votes));

  // From now on the cluster file only says where one may ask.
  const seeds = { ...owner, addresses: ['elsewhere:1'], areSeeds: true };
  const second = HardStateFile.open(directory, seeds, hash, encodeMembership(membershipOf(list)));
  t.equal(membersIndex(second.state?.members), 10);
  const [host, ...others] = renewed.hosts;
  const moved = { ...renewed, index: 11, hosts: [{ ...host!, identityHi: 1, address: 'three:3' }, ...others] };
  await second.write({ ...state, view: EPOCH_VIEWS, members: encodeMembership(moved) });
  second.close();
  t.strictSame(addresses((await read())!), ['three:3', 'two:2', 'host-2.invalid:1'], 'no two have one address');
});

t.test('whatever the power does during a write, the list before it or the new one is there', async (t) => {
  const random = new Random(SEED);
  const simulated = new SimulationHasher();
  const seen = { before: 0, after: 0, errors: 0 };
  for (let round = 0; round < 300; round++) {
    const disk = new MemoryDisk(random.fork('disk'));
    const files = new MemoryFiles(disk, random.fork('files'));
    await writeMembers(files, listOf(round), CLUSTER, simulated);
    const from = disk.operations;
    const cutAt = from + 1 + random.below(6);
    let done = false;
    let failed = false;
    if (random.chance(0.3)) disk.fails = () => (random.chance(0.3) ? 'ENOSPC' : undefined);
    disk.before = (operations) => void (operations === cutAt && disk.cutPower());
    const writing = writeMembers(files, listOf(round + 1), CLUSTER, simulated).then(
      () => void (done = true),
      () => void (failed = true),
    );
    await Promise.race([writing, new Promise((resolve) => setImmediate(resolve))]);
    if (done || failed) disk.cutPower();
    disk.before = () => undefined;
    disk.fails = () => undefined;
    const found = await readMembers(new MemoryFiles(disk, random.fork('look')), {
      owner: CLUSTER,
      hash: simulated,
      directory: 'disk',
    });
    const epoch = found?.started;
    if (epoch !== round + 1 && (epoch !== round || done))
      t.fail(`SEED=${SEED}, round ${round}: epoch ${epoch}, and the write had ${done ? '' : 'not '}ended`);
    if (epoch === round) seen.before++;
    else seen.after++;
    if (failed) seen.errors++;
  }
  t.ok(seen.before > 20 && seen.after > 20 && seen.errors > 5, JSON.stringify(seen));
});

t.test(
  'no frame and no promise names an epoch whose members are not on the disk, wherever the power fails',
  async (t) => {
    const random = new Random(SEED);
    const simulated = new SimulationHasher();
    const bootId = 'a'.repeat(32);
    const owner = { ...CLUSTER, replica: 0, addresses: ['a:1', 'b:1', 'c:1'] };
    const membersAt = (epoch: number): Uint8Array => encodeMembership(membershipOf(listOf(epoch)));
    const seen = { old: 0, new: 0 };
    for (let round = 0; round < 150; round++) {
      const disk = new MemoryDisk(random.fork('disk'));
      const open = async (): Promise<DurableStorage> => {
        const files = new MemoryFiles(disk, random.fork('files'));
        const list = await readMembers(files, { owner, hash: simulated, directory: 'disk' });
        const storage = await DurableStorage.open({
          files,
          directory: 'disk',
          owner: { ...owner, areSeeds: list !== undefined },
          hash: simulated,
          mode: random.pick(['os', 'fsync'] as const),
          bootId,
          segmentBytes: 8192,
          members: list === undefined ? undefined : encodeMembership(membershipOf(list)),
          nowMs: () => 0,
          random: () => random.next() | 0,
          later: () => undefined,
        });
        return storage;
      };
      const storage = await open();
      let durable = 0;
      const broken = (error?: unknown): void => void t.fail(`SEED=${SEED}, round ${round}: ${String(error)}`);
      storage.events = {
        persisted: (token) => void (durable = token),
        rewrite: () => undefined,
        failed: () => undefined,
        healed: () => undefined,
        broken,
      };
      const persist = (token: number, epoch: number): void =>
        storage.persist(token, {
          hardState: {
            view: epoch * EPOCH_VIEWS,
            logView: epoch * EPOCH_VIEWS,
            incarnation: 1,
            known: [1, 2, epoch],
            lives: [4, 5, 6],
            ...(epoch === 0 ? {} : { members: membersAt(epoch) }),
          },
          committed: 0,
          entriesFrom: token,
          lastIndex: token,
          snapshot: undefined,
          entryBytes: () => 40,
          readEntry: (index, target, offset) => {
            target.fill(index, offset, offset + 40);
            return 40;
          },
        });
      const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
      const cutAt = 1 + random.below(120);
      disk.before = (operations) => void (operations === cutAt && disk.cutPower());
      for (let token = 1; token <= 3; token++) {
        persist(token, token - 1);
        for (let turns = 0; turns < 50 && durable < token && disk.life === 0; turns++) await settled();
      }
      if (disk.life === 0) disk.cutPower();
      disk.before = () => undefined;
      const { hardState } = (await open()).recovered();
      const epoch = hardState === undefined ? 0 : Math.floor(hardState.view / EPOCH_VIEWS);
      const members = hardState?.members === undefined ? 0 : membersIndex(hardState.members);
      if (members < 10 * epoch)
        t.fail(`SEED=${SEED}, round ${round}: epoch ${epoch} beside the members of entry ${members}`);
      if (durable > 0 && epoch < durable - 1) t.fail(`SEED=${SEED}, round ${round}: epoch ${epoch} after ${durable}`);
      // What is known of the host in a slot says nothing of another host that has it now.
      if (members !== 10 * epoch && hardState?.known !== undefined)
        t.fail(`SEED=${SEED}, round ${round}: incarnations of epoch ${epoch} beside the members of entry ${members}`);
      if (epoch === 2) seen.new++;
      else seen.old++;
    }
    t.ok(seen.old > 10 && seen.new > 10, JSON.stringify(seen));
  },
);

t.test('every byte counts', (t) => {
  const good = encodeMembersFile(listOf(3), CLUSTER, hash);
  const refused = (bytes: Uint8Array, code: string, message: RegExp, what: string): void => {
    t.throws(() => decodeMembersFile(bytes, CLUSTER, hash, 'dir/members'), { code, message }, what);
  };
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bytes = good.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    try {
      decodeMembersFile(bytes, CLUSTER, hash, 'dir/members');
      t.fail(`bit ${bit} may be anything`);
    } catch (error) {
      if (!(error instanceof JitPaxosError)) throw error;
    }
  }
  for (let length = 0; length < good.length; length++)
    try {
      decodeMembersFile(good.slice(0, length), CLUSTER, hash, 'dir/members');
      t.fail(`${length} bytes are a list`);
    } catch (error) {
      if (!(error instanceof JitPaxosError) || error.code !== 'members-corrupt') throw error;
    }
  refused(
    good.slice(0, 9),
    'members-corrupt',
    /^dir\/members has 9 bytes, and is cut off, so this replica does not know/,
    'cut',
  );
  refused(new Uint8Array(20_000), 'members-corrupt', /no list of members is that long/, 'too long');
  refused(new Uint8Array(99), 'members-corrupt', /does not begin as a list of members does/, 'zeros');
  refused(
    encodeMembersFile(listOf(3), { ...CLUSTER, clusterLo: 6 }, hash),
    'data-directory-foreign',
    /^dir\/members is of cluster 1234567800000006, not of cluster 12345678fffffffb/,
    'of another cluster',
  );
  const renumbered = good.slice();
  writeI32(renumbered, 4, FORMATS.members.newest + 1);
  hash.hash64(renumbered, 0, good.length - 8, renumbered, good.length - 8);
  refused(renumbered, 'data-directory-unusable', /was written in format 3.*use the version that wrote it/, 'newer');
  const old = good.slice();
  writeI32(old, 4, 1);
  hash.hash64(old, 0, good.length - 8, old, good.length - 8);
  refused(
    old,
    'data-directory-unusable',
    /was written in format 1, and this version of jitpaxos reads format 2/,
    'old',
  );
  // Whole by its checksum, and yet no list: somebody made it.
  const nobody = encodeMembersFile({ started: 0, decided: 0, index: 0, nextId: 0, hosts: [] }, CLUSTER, hash);
  refused(nobody, 'members-corrupt', /holds no list of members/, 'nobody');
  t.end();
});

t.test('a replica reads it at its start, answers with it, and refuses what it cannot count with', async (t) => {
  const directory = directoryOf(t);
  const cluster = await clusterConfig(1);
  const owner = {
    clusterHi: parseInt(cluster.id.slice(0, 8), 16) | 0,
    clusterLo: parseInt(cluster.id.slice(8), 16) | 0,
  };
  const options = { cluster, id: 0, data: directory, machine: new KvMachine(), logger: silentLogger } as const;
  const files = new DirectoryFiles(directory);
  const start = (durability: 'memory' | 'os'): Promise<Replica> =>
    Replica.start({ ...options, machine: new KvMachine(), durability });
  for (const durability of ['memory', 'os'] as const) {
    await writeMembers(files, listOf(1), owner, hash);
    writeFileSync(join(directory, MEMBERS_FILE), readFileSync(join(directory, MEMBERS_FILE)).subarray(0, 50));
    await t.rejects(start(durability), { code: 'members-corrupt', message: /member replace/ });
  }
  writeFileSync(join(directory, 'joining'), encodeJoining('ab'.repeat(8), owner, hash));
  const [first] = listOf(7, 1).hosts;
  const own = { ...first!, address: cluster.replicas[0]! };
  const learner = { ...first!, id: 5, slot: 1, address: '10.9.9.9:7400', votes: false, willVote: false };
  await writeMembers(files, { ...listOf(7, 1), nextId: 9, hosts: [own, learner] }, owner, hash);
  const replica = await start('os');
  t.teardown(() => replica.close());
  writeFileSync(join(directory, 'cluster.json'), JSON.stringify(cluster));
  const shown = await patiently(
    (timeout) => jitpaxos(['member', 'list', '--json', '--timeout', timeout], { cwd: directory }),
    ({ code }) => code === 0,
  );
  t.equal(shown.code, 0, shown.stderr);
  t.match(JSON.parse(shown.stdout), { members: [{ id: 0 }, { id: 5, address: '10.9.9.9:7400', votes: false }] });

  const inspected = await jitpaxos(['inspect', directory, '--json']);
  const found = JSON.parse(inspected.stdout) as Inspection;
  t.match(found.members, { started: 7, hosts: [{ id: 0 }, { id: 5 }] });
  t.same(
    found.others.map(({ name }) => name),
    ['cluster.json'],
    'it is a file of a replica',
  );
  t.match(
    (await jitpaxos(['inspect', directory])).stdout,
    /members of epoch 7\n.*\n0 +127\.0\.0\.1:\d+ +voter .*\n5 +10\.9\.9\.9:7400 +learner/,
  );
  writeFileSync(join(directory, MEMBERS_ASIDE), '');
  writeFileSync(join(directory, MEMBERS_FILE), 'rot');
  const damaged = await jitpaxos(['inspect', directory, '--json']);
  t.equal(damaged.code, 1);
  t.match(JSON.parse(damaged.stdout), {
    members: null,
    damage: [{ file: 'members', what: /is cut off/ }],
    others: [{ name: 'cluster.json' }, { name: MEMBERS_ASIDE, what: 'unfinished' }],
  });
});

t.test('promises that were deleted are missed, also those of a host that joined', async (t) => {
  const cluster = await clusterConfig(1);
  const owner = {
    clusterHi: parseInt(cluster.id.slice(0, 8), 16) | 0,
    clusterLo: parseInt(cluster.id.slice(8), 16) | 0,
  };
  const own = { ...listOf(7, 1).hosts[0]!, identity: 'ab'.repeat(8), address: cluster.replicas[0]! };
  for (const durability of ['memory', 'os'] as const) {
    const directory = directoryOf(t);
    const start = (): Promise<Replica> =>
      Replica.start({ cluster, id: 0, data: directory, machine: new KvMachine(), logger: silentLogger, durability });
    writeFileSync(join(directory, 'joining'), encodeJoining('ab'.repeat(8), owner, hash));
    await writeMembers(new DirectoryFiles(directory), { ...listOf(7, 1), hosts: [own] }, owner, hash);
    const replica = await start();
    while (replica.status().identity === null) await sleep(10);
    await replica.close();
    const left = readdirSync(directory);
    t.ok(left.includes('hard-state') && left.includes(MEMBERS_FILE), `durability ${durability}: ${left.join(' ')}`);
    const kept = readFileSync(join(directory, 'hard-state'));
    writeFileSync(join(directory, 'hard-state'), 'rot');
    await t.rejects(
      start(),
      { code: 'hard-state-corrupt', message: /replica --join, and let it take the place of host 0 \(/ },
      durability,
    );
    writeFileSync(join(directory, 'hard-state'), kept);
    for (const name of left) if (name !== MEMBERS_FILE && name !== 'joining') rmSync(join(directory, name));
    await t.rejects(start(), { code: 'replica-id-taken', message: /has no promises, and no identity/ }, durability);
  }
});

t.test('a host that was removed is started again: it leads to the members from where it was', async (t) => {
  const cluster = await clusterConfig(3);
  const { idHi: clusterHi, idLo: clusterLo } = loadCluster(cluster);
  const owner = { clusterHi, clusterLo };
  /** The directory of a host that the list of epoch 1 has, and that of epoch 2 does not. */
  const removed = async (id: number): Promise<{ readonly data: string; readonly list: MemberList }> => {
    const data = directoryOf(t);
    const host = { ...listOf(1).hosts[0]!, id, slot: id, address: `127.0.0.1:${(await freePorts(1))[0]}` };
    const hosts = [0, 1, 4].map((other) => ({ ...host, id: other, slot: other, address: `10.0.0.${other}:7400` }));
    const files = new DirectoryFiles(data);
    writeFileSync(join(data, 'joining'), encodeJoining('ab'.repeat(8), owner, hash));
    await writeMembers(files, { ...listOf(1), nextId: 6, hosts: [...hosts.slice(0, 2), host] }, owner, hash);
    const replica = await Replica.start({ ...options(id, data), listen: host.address });
    while (replica.status().identity === null) await sleep(10);
    await replica.close();
    const list = { ...listOf(2), nextId: 6, hosts };
    await writeMembers(files, list, owner, hash);
    return { data, list };
  };
  const options = (id: number, data: string) =>
    ({ cluster, id, data, durability: 'os', machine: new KvMachine(), logger: silentLogger }) as const;

  const { data, list } = await removed(2);
  const again = await Replica.start(options(2, data));
  t.teardown(() => again.close());
  t.equal(addressText({ host: again.status().address, port: again.status().port }), cluster.replicas[2]);
  await using asks = await MembersClient.open({ cluster });
  const [said] = (await asks.ask(60_000, () => true)).filter(({ answer }) => answer !== undefined);
  t.same(
    said?.answer?.list.hosts.map(({ id }) => id),
    list.hosts.map(({ id }) => id),
  );

  const late = await removed(5);
  await t.rejects(Replica.start(options(5, late.data)), {
    code: 'replica-removed',
    message: /host 5 is no member .*, which is in epoch 2, and the cluster file does not say where it was; .*--listen/,
  });
  const [port] = await freePorts(1);
  const told = await Replica.start({ ...options(5, late.data), listen: `127.0.0.1:${port}` });
  t.teardown(() => told.close());
  t.equal(told.status().port, port);
});

function directoryOf(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-members-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
