// Members that no message depends on are written beside the log. They are on the disk before a promise that needs them,
// wherever the power fails; a disk that refuses them fails the next write; and a disk that hangs keeps two of them at most.
import t from 'tap';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import type { HardState } from '../../src/protocol/contract.js';
import { encodeMembership } from '../../src/protocol/membership/membership.js';
import { membershipOf } from '../../src/protocol/membership/member-lists.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { Random } from '../../src/sim/random.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import type { OpenFile } from '../../src/storage/files.js';
import { MEMBERS_ASIDE, MEMBERS_FILE, membersIndex, readMembers } from '../../src/storage/members-file.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { MemoryDisk, MemoryFiles } from './memory-files.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random contents`);
const ROUNDS = 250;
const OWNER = { clusterHi: 1, clusterLo: 2, replica: 0, addresses: ['a:1', 'b:1', 'c:1'] };
const hash = new SimulationHasher();

const listOf = (epoch: number): MemberList => ({
  started: epoch,
  decided: epoch,
  index: 10 * epoch,
  nextId: 3,
  hosts: [0, 1, 2].map((id) => ({
    id,
    slot: id,
    address: `10.0.${epoch}.${id}:7`,
    identity: 'ab'.repeat(8),
    votes: true,
    willVote: true,
  })),
});
const membersAt = (epoch: number): Uint8Array => encodeMembership(membershipOf(listOf(epoch)));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const turns = async (count: number): Promise<void> => {
  for (let n = 0; n < count; n++) await turn();
};

/** The file of the members can be held up. */
class HeldFiles extends MemoryFiles {
  hold: Promise<void> | undefined;
  listsBegun = 0;

  override async create(name: string): Promise<OpenFile> {
    if (name === MEMBERS_ASIDE) {
      this.listsBegun++;
      await this.hold;
    }
    return super.create(name);
  }
}

/** Persists batches as a core makes them. */
class Life {
  durable = 0;
  token = 0;
  failures = 0;
  heals = 0;
  broken: unknown;
  hardState: HardState = { view: 0, logView: 0, incarnation: 1, known: [1, 2, 0], lives: [4, 5, 6] };
  private lastIndex = 0;
  private isWhole = false;

  private constructor(
    readonly storage: DurableStorage,
    readonly files: HeldFiles,
  ) {
    storage.events = {
      persisted: (token) => void (this.durable = token),
      rewrite: () => {
        this.isWhole = true;
        this.write();
      },
      failed: () => void this.failures++,
      healed: () => void this.heals++,
      broken: (error) => void (this.broken ??= error),
    };
  }

  static async open(disk: MemoryDisk, random: Random): Promise<Life> {
    const files = new HeldFiles(disk, random.fork('files'));
    const list = await readMembers(files, { owner: OWNER, hash, directory: 'disk' });
    const storage = await DurableStorage.open({
      files,
      directory: 'disk',
      owner: { ...OWNER, areSeeds: list !== undefined },
      hash,
      mode: random.pick(['os', 'fsync'] as const),
      bootId: '0'.repeat(32),
      segmentBytes: 8192,
      members: list === undefined ? undefined : encodeMembership(membershipOf(list)),
      nowMs: () => 0,
      random: () => random.next() | 0,
      later: (_delayMs, callback) => void setImmediate(callback),
    });
    return new Life(storage, files);
  }

  /** An entry, or a promise if the view has changed. */
  write(): void {
    this.token++;
    if (!this.isWhole) this.lastIndex++;
    const from = this.isWhole ? 1 : this.lastIndex;
    this.isWhole = false;
    this.persist(from);
  }

  /** The core learns members, and nothing waits for them: the token stays. */
  learn(epoch: number): void {
    this.hardState = { ...this.hardState, known: [1, 2, epoch], members: membersAt(epoch) };
    this.persist(this.lastIndex + 1);
  }

  private persist(entriesFrom: number): void {
    this.storage.persist(this.token, {
      hardState: this.hardState,
      committed: 0,
      entriesFrom,
      lastIndex: this.lastIndex,
      snapshot: undefined,
      entryBytes: () => 40,
      readEntry: (index, target, offset) => {
        target.fill(index, offset, offset + 40);
        return 40;
      },
    });
  }
}

/** A life whose log is begun. */
async function begun(disk = new MemoryDisk(new Random(SEED))): Promise<{ disk: MemoryDisk; life: Life }> {
  const life = await Life.open(disk, new Random(SEED));
  life.write();
  await turns(20);
  return { disk, life };
}

t.test('no promise is found beside members older than its epoch, whatever the power and the disk do', async (t) => {
  const random = new Random(SEED);
  const seen = { promises: 0, members: 0, failures: 0, heals: 0 };
  const wrong: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const bad = (what: string): void => void wrong.push(`SEED=${SEED}, round ${round}: ${what}`);
    const disk = new MemoryDisk(random.fork('disk'));
    const life = await Life.open(disk, random);
    const promised: { readonly token: number; readonly view: number }[] = [];
    const cutAt = 1 + random.below(200);
    disk.before = (operations) => void (operations === cutAt && disk.cutPower());
    let errors = random.chance(0.3) ? 1 + random.below(3) : 0;
    disk.fails = () => (errors > 0 && random.chance(0.03) ? (errors--, 'EIO') : undefined);
    life.write();
    let epoch = 0;
    for (let step = 0; step < 14 && disk.life === 0; step++) {
      const kind = random.below(10);
      if (kind < 3) life.learn(++epoch);
      else {
        const { view } = life.hardState;
        if (kind < 5 && view < (epoch + 1) * EPOCH_VIEWS) {
          life.hardState = { ...life.hardState, view: Math.max(view + 1, epoch * EPOCH_VIEWS) };
          promised.push({ token: life.token + 1, view: life.hardState.view });
        }
        life.write();
      }
      await turns(random.below(6));
    }
    for (let n = 0; n < 30 && disk.life === 0; n++) await turn();
    if (disk.life === 0) disk.cutPower();
    disk.before = () => undefined;
    disk.fails = () => undefined;
    if (life.broken !== undefined) bad(String(life.broken));
    const { hardState } = (await Life.open(disk, random)).storage.recovered();
    const listed = membersIndex(hardState?.members) / 10;
    const view = hardState?.view ?? 0;
    if (Math.floor(view / EPOCH_VIEWS) > listed) bad(`view ${view} beside the members of epoch ${listed}`);
    const need = Math.max(0, ...promised.filter(({ token }) => token <= life.durable).map((one) => one.view));
    if (view < need) bad(`view ${need} was promised, and ${view} is found`);
    // What is known of the host in a slot says nothing of another host that has it now.
    if (hardState?.known !== undefined && hardState.known[2] !== listed)
      bad(`incarnations of epoch ${hardState.known[2]} beside the members of epoch ${listed}`);
    seen.promises += promised.length;
    if (listed > 0) seen.members++;
    seen.failures += life.failures;
    seen.heals += life.heals;
  }
  t.comment(JSON.stringify(seen));
  t.same(wrong.slice(0, 5), []);
  t.ok(seen.promises > 200 && seen.members > 60 && seen.failures > 10 && seen.heals > 10, JSON.stringify(seen));
});

t.test('members are on the disk without a write after them', async (t) => {
  const { disk, life } = await begun();
  life.learn(1);
  await turns(20);
  disk.cutPower();
  const { hardState } = (await Life.open(disk, new Random(SEED))).storage.recovered();
  t.equal(membersIndex(hardState?.members), 10);
  t.same(hardState?.known?.slice(0, 3), [1, 2, 1], 'with what is known of them');
});

t.test('a disk that refuses members fails the next write, and everything is written again', async (t) => {
  const { disk, life } = await begun();
  disk.fails = (_operation, name) => (name === MEMBERS_ASIDE ? 'ENOSPC' : undefined);
  life.learn(1);
  await turns(20);
  t.notOk(disk.names.has(MEMBERS_FILE));
  disk.fails = () => undefined;
  life.write();
  await turns(40);
  t.match(life, { failures: 1, heals: 1, broken: undefined });
  t.equal(life.durable, life.token);
  t.ok(disk.names.has(MEMBERS_FILE));
  t.equal(life.storage.status().failing, null);
  life.write();
  await turns(20);
  t.match(life, { failures: 1 }, 'the error is met once');
});

t.test('while the disk hangs, one list is being written and the newest waits', async (t) => {
  const { disk, life } = await begun();
  let release!: () => void;
  life.files.hold = new Promise((resolve) => (release = resolve));
  life.learn(1);
  await turns(5);
  const { quiet } = life.storage as unknown as { readonly quiet: Promise<void> };
  for (let epoch = 2; epoch < 50; epoch++) {
    life.learn(epoch);
    life.write();
    await turns(5);
  }
  t.equal(life.durable, life.token, 'the log continues');
  t.equal(
    (life.storage as unknown as { readonly quiet: Promise<void> }).quiet,
    quiet,
    'nothing is chained to the write',
  );
  release();
  await turns(30);
  t.equal(life.files.listsBegun, 2);
  disk.cutPower();
  const { hardState } = (await Life.open(disk, new Random(SEED))).storage.recovered();
  t.equal(membersIndex(hardState?.members), 490);
});

t.test('an entry that came in the same turn as members is acknowledged while the disk hangs', async (t) => {
  const { life } = await begun();
  let release!: () => void;
  life.files.hold = new Promise((resolve) => (release = resolve));
  life.hardState = { ...life.hardState, members: membersAt(1) };
  life.write();
  await turns(20);
  t.equal(life.files.listsBegun, 1, 'the members are being written');
  t.equal(life.durable, life.token);
  life.hardState = { ...life.hardState, view: EPOCH_VIEWS };
  life.write();
  await turns(20);
  t.equal(life.durable, life.token - 1, 'a promise of their epoch waits for them');
  release();
  await turns(30);
  t.equal(life.durable, life.token);
});
