// The file of the promises is written with one write and one sync. Whatever sectors of that reach the disk, whatever
// becomes of one slot besides, and wherever the power fails while another format takes over: a start finds the state
// before or the state of that write, and never an older one.
import fs, { cpSync, linkSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import type { HardState } from '../../src/protocol/contract.js';
import { membershipOf } from '../../src/protocol/membership/member-lists.js';
import { encodeMembership } from '../../src/protocol/membership/membership.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { Random } from '../../src/sim/random.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import { MEMBERS_BEHIND_RECORD_FORMAT, MEMBERS_HARD_STATE_FORMAT } from '../../src/storage/formats.js';
import {
  decodeHardState,
  encodeHardState,
  HARD_STATE_BYTES,
  HARD_STATE_FILE,
  HardStateFile,
  SLOT_BYTES,
  type Owner,
} from '../../src/storage/hard-state.js';
import { readMembers } from '../../src/storage/members-file.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { MemoryDisk, MemoryFiles } from './memory-files.js';
import { O_DSYNC, openFlags } from './open-flags.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random contents`);
const hash = loadHash();
const OWNER: Owner = { clusterHi: 0x12345678, clusterLo: -5, replica: 2, addresses: ['a:1', 'b:1', 'c:1'] };
const IDENTITY = '0123456789abcdef';
const SECTOR = 512;
const SECTORS = HARD_STATE_BYTES / SECTOR;
const SECTORS_IN_SLOT = SLOT_BYTES / SECTOR;
/** In each slot the third to seventh sector are zero, in all images here. They are taken together. */
const ZERO_SECTORS = [0x7c, 0x7c00] as const;
/** Every part of a write that may have reached the disk, as a mask of sectors. */
const WRITTEN = Array.from({ length: 1 << SECTORS }, (_, sectors) => sectors).filter((sectors) =>
  ZERO_SECTORS.every((zeros) => (sectors & zeros) === 0 || (sectors & zeros) === zeros),
);
const GOLDEN = fileURLToPath(new URL('../../../test/golden', import.meta.url));
/** Of the golden directory. */
const GOLDEN_OWNER = { clusterHi: 0x01234567, clusterLo: 0x09abcdef, replica: 0, areSeeds: true };
const GOLDEN_PROMISE = { view: 262_144, incarnation: 1 };
const GOLDEN_STATE = 'view 262144, incarnation 1, 2087c351fd5b55c2, members of entry 38';

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

/** By format: the states that are written one after the other. Every byte of what they know differs. */
const STATES: readonly (readonly [format: number, states: readonly HardState[]])[] = [
  [1, [1, 2, 3].map((at) => ({ view: 70 * at, logView: at, incarnation: at, known: [at, 0, at], lives: [at, 9, at] }))],
  [
    MEMBERS_HARD_STATE_FORMAT,
    [1, 2, 3].map((at) => ({
      view: 70 * at,
      logView: at,
      incarnation: at,
      known: new Array<number>(31).fill(at),
      lives: new Array<number>(31).fill(-at),
      members: membersAt(at),
    })),
  ],
];

function imageOf(state: HardState, sequence: number, format: number): Uint8Array {
  const image = new Uint8Array(HARD_STATE_BYTES);
  const addresses = [`host-${sequence}:1`, 'b:1', 'c:1'];
  const bytes = encodeHardState(image, state, IDENTITY, sequence, { ...OWNER, addresses }, hash, format);
  if (bytes !== HARD_STATE_BYTES) throw new Error(`${bytes} bytes`);
  return image;
}

/** What a start finds: the number of the state, with whether it knows of the others; or that it is refused. */
function found(image: Uint8Array): string {
  try {
    const { sequence, state, identity, addresses, membersIndex, format } = decodeHardState(
      image,
      { ...OWNER, areSeeds: true },
      hash,
      'hard-state',
    );
    const [, states] = STATES.find(([of]) => of === format)!;
    const written = states[sequence - 1]!;
    const isOfOneWrite =
      state.view === written.view &&
      state.logView === written.logView &&
      state.incarnation === written.incarnation &&
      identity === IDENTITY &&
      membersIndex === (written.members === undefined ? 0 : 10 * sequence);
    if (!isOfOneWrite) return `${sequence} mixed`;
    if (state.known === undefined) return `${sequence} alone`;
    const knownOf = states.findIndex(({ known, lives }) => `${known} ${lives}` === `${state.known} ${state.lives}`) + 1;
    if (addresses?.[0] !== `host-${knownOf}:1`) return `${sequence} with mixed knowledge`;
    return knownOf === sequence ? `${sequence}` : `${sequence} with what ${knownOf} knew`;
  } catch (error) {
    if ((error as { code?: string }).code !== 'hard-state-corrupt') throw error;
    return 'refused';
  }
}

/** How often each was found. */
class Tally {
  readonly counts = new Map<string, number>();

  add(image: Uint8Array): string {
    const name = found(image);
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    return name;
  }

  get names(): string[] {
    return [...this.counts.keys()].sort();
  }
}

for (const [format, states] of STATES) {
  const [older, before, after] = states.map((state, at) => imageOf(state, at + 1, format)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  // In format 3 each state here has other members: what the replica knew beside those says nothing.
  const names = ['2', '2 alone', '3', '3 alone', ...(format === 1 ? ['3 with what 2 knew'] : [])];
  const mixed = (sectors: number, of = after, on = before): Uint8Array => {
    const image = on.slice();
    for (let at = 0; at < SECTORS; at++)
      if (((sectors >>> at) & 1) === 1) image.set(of.subarray(at * SECTOR, (at + 1) * SECTOR), at * SECTOR);
    return image;
  };
  const damaged = (image: Uint8Array, slot: number): Uint8Array =>
    image.slice().fill(0xa5, slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);

  t.test(`format ${format}: any sectors of a write reach the disk: the state before, or that of the write`, (t) => {
    const tally = new Tally();
    const wrong: number[] = [];
    for (const sectors of WRITTEN) {
      const isNew = (sectors & (1 | (1 << SECTORS_IN_SLOT))) !== 0;
      if (!tally.add(mixed(sectors)).startsWith(isNew ? '3' : '2')) wrong.push(sectors);
    }
    t.same(wrong, []);
    for (const image of [before, after])
      for (let at = 2 * SECTOR; at < 7 * SECTOR; at++)
        if (image[at] !== 0 || image[SLOT_BYTES + at] !== 0) t.fail(`byte ${at} of a slot is not zero`);
    t.same(tally.names, names);
    t.end();
  });

  t.test(`format ${format}: a write that a killed process left at any byte`, (t) => {
    const seen: string[] = [];
    for (let bytes = 0; bytes <= HARD_STATE_BYTES; bytes++) {
      const image = before.slice();
      image.set(after.subarray(0, bytes));
      const name = found(image);
      if (seen.at(-1) !== name) seen.push(name);
    }
    t.same(
      seen,
      format === 1 ? ['2', '3 with what 2 knew', '3'] : ['2', '3 alone', '3'],
      'the state before up to some byte, that of the write from there on',
    );
    t.end();
  });

  t.test(`format ${format}: one slot is lost besides, before the write or after it`, (t) => {
    for (const slot of [0, 1]) {
      const tally = new Tally();
      for (const sectors of WRITTEN) {
        tally.add(damaged(mixed(sectors), slot));
        tally.add(mixed(sectors, after, damaged(before, slot)));
      }
      t.same(tally.names, names, 'never the state before that, and never refused');
    }
    t.end();
  });

  t.test(`format ${format}: a sector is torn, against the assumption: one is survived, two are refused`, (t) => {
    for (let torn = 0; torn < SECTOR; torn++) {
      for (const slot of [0, 1]) {
        // The rest of the write reached the disk, or nothing of it.
        for (const rest of [before, after]) {
          const image = rest.slice();
          const at = slot * SLOT_BYTES;
          image.set(before.subarray(at, at + SECTOR), at);
          image.set(after.subarray(at, at + torn), at);
          const name = found(image);
          if (!name.startsWith('3') && (rest === after || !name.startsWith('2')))
            t.fail(`slot ${slot}, torn at byte ${torn}: ${name}`);
        }
      }
    }
    const both = before.slice();
    for (const at of [0, SLOT_BYTES]) both.set(after.subarray(0, 40), at);
    t.equal(found(both), 'refused', 'two torn records look like two that are lost');
    t.end();
  });

  t.test(`format ${format}: rot of one slot is read around, of both is refused: never an older state`, (t) => {
    const random = new Random(SEED);
    const tally = new Tally();
    for (let round = 0; round < 5_000; round++) {
      const image = after.slice();
      const slots = random.pick([[0], [1], [0, 1]] as const);
      for (const slot of slots)
        for (let flips = 1 + random.below(3); flips > 0; flips--)
          image[slot * SLOT_BYTES + random.below(random.pick([64, SLOT_BYTES]))]! ^= 1 << random.below(8);
      const name = tally.add(image);
      if (name !== '3' && slots.length === 1) t.fail(`round ${round}, seed ${SEED}: ${name} with one slot`);
    }
    t.same(tally.names, ['3', '3 alone', 'refused']);
    for (let bit = 0; bit < 64 * 8; bit++) {
      const image = damaged(after, 1);
      image[bit >> 3]! ^= 1 << (bit & 7);
      if (found(image) !== 'refused') t.fail(`bit ${bit} of a record may be anything`);
    }
    // What an older write left in one slot never wins, as long as the other one is intact.
    for (const slot of [0, 1]) {
      const image = after.slice();
      image.set(older.subarray(0, SLOT_BYTES), slot * SLOT_BYTES);
      t.equal(found(image), '3');
    }
    t.end();
  });

  t.test(`format ${format}: any bytes are decoded or refused`, (t) => {
    const random = new Random(SEED);
    const names = new Set<string>();
    for (let round = 0; round < 5_000; round++) {
      const image = mixed(
        random.below(1 << SECTORS),
        after,
        random.pick([before, older, new Uint8Array(before.length)]),
      );
      for (let at = 0; at < random.below(3); at++) {
        const from = random.below(image.length);
        for (let i = from; i < Math.min(image.length, from + random.below(2000)); i++) image[i] = random.below(256);
      }
      names.add(found(image.subarray(0, random.pick([random.below(image.length), image.length]))));
    }
    t.ok(names.has('refused') && names.has('3'), `${[...names].join(', ')} with seed ${SEED}`);
    t.end();
  });
}

t.test('a write is one write of the file, and the next one mends a slot that rotted', async (t) => {
  const disk = new MemoryDisk(new Random(SEED));
  const { storage, write } = await begun(disk, undefined);
  const done: string[] = [];
  disk.fails = (operation, name) => void done.push(`${operation} ${name}`);
  await write({ view: 5, logView: 0, incarnation: 1 });
  t.same(
    done.filter((what) => what.endsWith(HARD_STATE_FILE)),
    [`write ${HARD_STATE_FILE}`, `sync ${HARD_STATE_FILE}`],
  );
  disk.bytes(HARD_STATE_FILE).fill(0, 0, SLOT_BYTES);
  await write({ view: 6, logView: 0, incarnation: 1 });
  const bytes = disk.bytes(HARD_STATE_FILE);
  t.same(bytes.subarray(0, SLOT_BYTES), bytes.subarray(SLOT_BYTES));
  t.equal(decodeHardState(bytes, OWNER, new SimulationHasher(), HARD_STATE_FILE).state.view, 6);
  await storage.close();
});

t.test(
  'the rest of a slot is torn: what the other slot knows of the others counts, and only beside the same members',
  (t) => {
    const [, [older, newer]] = STATES[0] as readonly [number, readonly HardState[]];
    const moreReplicas = { ...OWNER, addresses: ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'] };
    for (const slot of [0, SLOT_BYTES]) {
      const image = imageOf(older!, 1, 1);
      image.set(imageOf(newer!, 2, 1).subarray(slot, slot + SECTOR), slot);
      t.match(decodeHardState(image, OWNER, hash, 'hard-state'), {
        sequence: 2,
        state: { view: newer!.view, known: older!.known, lives: older!.lives },
        addresses: ['host-1:1', 'b:1', 'c:1'],
      });
      t.throws(() => decodeHardState(image, moreReplicas, hash, 'hard-state'), { code: 'cluster-file-changed' });
    }
    // In format 3: the same members, and others.
    const members = membersAt(1);
    for (const [of, isUsed] of [
      [members, true],
      [membersAt(2), false],
    ] as const) {
      const known = new Array<number>(31).fill(4);
      const state = { view: 1, logView: 1, incarnation: 1, known, lives: known, members };
      const image = imageOf(state, 1, MEMBERS_HARD_STATE_FORMAT);
      const next = imageOf({ ...state, view: 2, members: of }, 2, MEMBERS_HARD_STATE_FORMAT);
      image.set(next.subarray(0, SECTOR));
      const found = decodeHardState(image, { ...OWNER, areSeeds: true }, hash, 'hard-state');
      t.equal(found.state.view, 2);
      t.same(found.state.known, isUsed ? known : undefined);
      t.equal(found.membersIndex, isUsed ? 10 : 20);
    }
    t.end();
  },
);

/** A durable storage on this disk, and how a batch with a state is written there. */
async function begun(disk: MemoryDisk, members: MemberList | undefined) {
  const storage = await DurableStorage.open({
    files: new MemoryFiles(disk, new Random(SEED)),
    directory: 'disk',
    owner: members === undefined ? OWNER : GOLDEN_OWNER,
    hash: members === undefined ? new SimulationHasher() : hash,
    mode: 'fsync',
    bootId: '0'.repeat(32),
    segmentBytes: 4096,
    members: members === undefined ? undefined : encodeMembership(membershipOf(members)),
    nowMs: () => 0,
    random: () => 7,
    later: () => undefined,
  });
  let token = 0;
  let wake = (): void => undefined;
  storage.events = {
    persisted: () => wake(),
    rewrite: () => undefined,
    failed: (error) => t.fail(String(error)),
    healed: () => undefined,
    broken: (error) => t.fail(String(error)),
  };
  const write = (hardState: HardState): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
      storage.persist(++token, {
        hardState,
        committed: 0,
        entriesFrom: 1,
        lastIndex: 0,
        snapshot: undefined,
        entryBytes: () => 0,
        readEntry: () => 0,
      });
    });
  await write(storage.recovered().hardState ?? { view: 0, logView: 0, incarnation: 1 });
  return { storage, write };
}

t.test('format 2 becomes format 3 at the first write, wherever the power fails', async (t) => {
  const golden = join(GOLDEN, 'disk-3');
  const members = (await readMembers(new DirectoryFiles(golden), { owner: GOLDEN_OWNER, hash, directory: golden }))!;
  const bytes = new Uint8Array(readFileSync(join(golden, HARD_STATE_FILE)));
  const formats = new Map<number, number>();
  for (let cutAt = 1; cutAt < 40; cutAt++) {
    for (let seed = 0; seed < 8; seed++) {
      const disk = new MemoryDisk(new Random(seed));
      disk.place(HARD_STATE_FILE, bytes);
      disk.before = (operations) => {
        if (operations === cutAt) disk.cutPower();
      };
      const written = begun(disk, members).then(() => true);
      const isDone = await Promise.race([written, settled()]);
      disk.before = () => undefined;
      disk.cutPower();
      const { state, identity, membersIndex, format } = decodeHardState(
        disk.bytes(HARD_STATE_FILE),
        GOLDEN_OWNER,
        hash,
        HARD_STATE_FILE,
      );
      const { view, incarnation } = state;
      const is = `view ${view}, incarnation ${incarnation}, ${identity}, members of entry ${membersIndex}`;
      if (is !== GOLDEN_STATE || (isDone && format !== MEMBERS_HARD_STATE_FORMAT))
        t.fail(`the power fails at operation ${cutAt}, seed ${seed}: ${is}, format ${format}`);
      formats.set(format, (formats.get(format) ?? 0) + 1);
    }
  }
  t.same([...formats.keys()].sort(), [MEMBERS_BEHIND_RECORD_FORMAT, MEMBERS_HARD_STATE_FORMAT]);
});

/** Nothing is under way any more. */
async function settled(): Promise<false> {
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
  return false;
}

t.test('durability memory: format 3 from the first members on; format 2 is not written over', async (t: Test) => {
  const data = mkdtempSync(join(tmpdir(), 'jitpaxos-hard-state-'));
  t.teardown(() => rmSync(data, { recursive: true, force: true }));
  const path = join(data, HARD_STATE_FILE);
  const format = (): number => readFileSync(path).readUInt32BE(4);
  const first = HardStateFile.open(data, OWNER, hash);
  const state = { view: 1, logView: 0, incarnation: 1 };
  await first.write(state);
  t.equal(format(), 1);
  const image = readFileSync(path);
  await first.write({ ...state, members: membersAt(1) });
  t.equal(format(), MEMBERS_HARD_STATE_FORMAT);
  await first.write({ ...state, view: 9, members: membersAt(1) });
  first.close();
  const list = await readMembers(new DirectoryFiles(data), { owner: OWNER, hash, directory: data });
  const again = HardStateFile.open(data, OWNER, hash, encodeMembership(membershipOf(list!)));
  t.match(again.state, { view: 9, incarnation: 1 });
  await again.write({ ...state, view: 10, members: membersAt(1) });
  t.equal(format(), MEMBERS_HARD_STATE_FORMAT, 'it never becomes what an older release reads');
  again.close();
  // A write over format 1 that was cut off: each slot counts by its own version.
  const changed = readFileSync(path);
  for (const [newer, older] of [
    [0, SLOT_BYTES],
    [SLOT_BYTES, 0],
  ] as const) {
    const mixed = Buffer.from(image);
    changed.copy(mixed, newer, newer, newer + SLOT_BYTES);
    const here = decodeHardState(mixed, OWNER, hash, path);
    t.match(here, { state: { view: 10 }, membersIndex: 10, format: MEMBERS_HARD_STATE_FORMAT });
    t.match(decodeHardState(mixed.fill(0, newer, newer + 64), OWNER, hash, path), { state, format: 1 }, `${older}`);
  }

  const golden = join(data, 'golden');
  cpSync(join(GOLDEN, 'disk-3'), golden, { recursive: true });
  const members = await readMembers(new DirectoryFiles(golden), { owner: GOLDEN_OWNER, hash, directory: golden });
  const known = encodeMembership(membershipOf(members!));
  const file = HardStateFile.open(golden, GOLDEN_OWNER, hash, known);
  t.match(file.state, GOLDEN_PROMISE);
  linkSync(join(golden, HARD_STATE_FILE), join(golden, 'before'));
  await file.write({ ...file.state!, incarnation: 2 });
  file.close();
  t.same(
    readFileSync(join(golden, 'before')),
    readFileSync(join(GOLDEN, 'disk-3', HARD_STATE_FILE)),
    'a crash would have left it as it was',
  );
  t.equal(readFileSync(join(golden, HARD_STATE_FILE)).readUInt32BE(4), MEMBERS_HARD_STATE_FORMAT);
  const next = HardStateFile.open(golden, GOLDEN_OWNER, hash, known);
  t.match(next.state, { ...GOLDEN_PROMISE, incarnation: 2 });
  t.equal(next.identity, '2087c351fd5b55c2');
  next.close();
});

t.test(
  'durability memory: the file is written through from its creation on, and its name is durable',
  async (t: Test) => {
    const data = mkdtempSync(join(tmpdir(), 'jitpaxos-hard-state-'));
    t.teardown(() => rmSync(data, { recursive: true, force: true }));
    const path = join(data, HARD_STATE_FILE);
    const throughOnly = (): void => {
      if (process.platform === 'linux')
        t.same(
          openFlags(path).map((flags) => flags & O_DSYNC),
          [O_DSYNC],
          'the kernel syncs each write',
        );
    };
    const { fsync, rename, write, readSync } = fs;
    t.teardown(() => {
      Object.assign(fs, { fsync, rename, write, readSync });
      syncBuiltinESMExports();
    });
    const done: string[] = [];
    Object.assign(fs, {
      fsync: (fd: number, callback: fs.NoParamCallback) => {
        done.push(fs.fstatSync(fd).isDirectory() ? 'sync of a directory' : 'sync');
        fsync(fd, callback);
      },
      rename: (from: string, to: string, callback: fs.NoParamCallback) => {
        done.push(`rename to ${basename(to)}`);
        rename(from, to, callback);
      },
    });
    syncBuiltinESMExports();
    const state = { view: 1, logView: 0, incarnation: 1 };
    const first = HardStateFile.open(data, OWNER, hash);
    await first.write(state);
    t.same(done, [`rename to ${HARD_STATE_FILE}`, 'sync of a directory']);
    throughOnly();
    await first.write({ ...state, view: 2 });
    t.equal(done.length, 2, 'the next ones write into the file');
    first.close();
    const again = HardStateFile.open(data, OWNER, hash);
    throughOnly();
    t.match(again.state, { view: 2 });
    again.close();

    const failure = (code: string): NodeJS.ErrnoException => Object.assign(new Error(`${code}: simulated`), { code });
    for (const page of [0, SLOT_BYTES]) {
      Object.assign(fs, {
        readSync: (fd: number, into: Uint8Array, offset: number, length: number, at: number) => {
          if (at >= page) throw failure('EIO');
          return readSync(fd, into, offset, Math.min(length, page - at), at);
        },
      });
      syncBuiltinESMExports();
      t.throws(() => HardStateFile.open(data, OWNER, hash), {
        code: 'data-directory-unusable',
        message: `${path} cannot be read at byte ${page}`,
      });
    }
    Object.assign(fs, {
      readSync,
      write: (...args: unknown[]) => (args.at(-1) as (error: Error) => void)(failure('ENOSPC')),
    });
    syncBuiltinESMExports();
    rmSync(path);
    const full = HardStateFile.open(data, OWNER, hash);
    await t.rejects(full.write(state), { code: 'storage-failed' });
    t.same(readdirSync(data), [], 'a full disk keeps nothing of it');
    full.close();
  },
);
