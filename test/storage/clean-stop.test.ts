// What a clean stop writes, and what a start believes of it: durable metadata never speaks of entries that are not on
// disk.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { DEFAULT_TIMINGS } from '../../src/protocol/config.js';
import type { PersistBatch } from '../../src/protocol/contract.js';
import { InvariantError } from '../../src/protocol/invariant.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { Random } from '../../src/sim/random.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import { DirectoryFiles } from '../../src/storage/files.js';
import {
  decodeFrameHeader,
  decodeSegmentHeader,
  encodeFrameHeader,
  FRAME_CLEAN,
  SEGMENT_HEADER_BYTES,
  segmentName,
} from '../../src/storage/log-format.js';
import { readStored, type Stored } from '../../src/storage/log-reader.js';
import { Chunk, Request, Sync } from '../../src/wire/messages.js';
import type { Message } from '../../src/wire/layout.js';
import {
  Cluster,
  encode,
  hasher,
  JournalMachine,
  TEST_LIMITS,
  type HandClient,
  type Values,
} from '../protocol/harness.js';
import { clusterConfig } from '../server/fixtures.js';
import { MemoryDisk, MemoryFiles } from './memory-files.js';

const owner = { clusterHi: 1, clusterLo: 2, replica: 1 };
const bootId = '0'.repeat(32);
const random = new Random(1);
const SECTOR = 512;

function optionsOf(disk: MemoryDisk) {
  return {
    files: new MemoryFiles(disk, random),
    directory: 'disk',
    owner,
    hash: hasher,
    mode: 'fsync' as const,
    bootId,
    segmentBytes: 8192,
    nowMs: () => 0,
    random: () => 7,
    later: () => undefined,
  };
}

/** Replica 1 of three, with durable storage of its own; the other two are those of `c`. */
class Alone {
  core!: ReplicaCore;
  readonly outbox = { bytes: new Uint8Array(60_000), reserve: (): number => 0, commit: (): void => undefined };
  private durable: () => void = () => undefined;

  constructor(
    private readonly c: Cluster,
    readonly storage: DurableStorage,
  ) {
    storage.events = {
      persisted: (token) => {
        this.core.persisted(token);
        this.durable();
      },
      rewrite: () => undefined,
      failed: (error) => t.fail(error.message),
      healed: () => undefined,
      broken: (error) => t.fail(String(error)),
    };
  }

  async start(): Promise<void> {
    this.core = new ReplicaCore(
      { id: 1, replicas: 3, seed: 2, late: 'restamp', limits: TEST_LIMITS, timings: DEFAULT_TIMINGS },
      this.outbox,
      this.storage,
      new JournalMachine(),
      hasher,
      { transition: () => undefined },
    );
    const durable = this.isDurable();
    this.core.start(this.storage.recovered(), this.c.now);
    await durable;
  }

  /** A message, in a turn that stays open. */
  take(message: Message, values: Values, from: number): void {
    const bytes = encode(message, values);
    this.core.receive(bytes, 0, bytes.length, from, this.c.now);
  }

  async turn(message: Message, values: Values, from: number): Promise<void> {
    this.take(message, values, from);
    const durable = this.isDurable();
    const batches = this.storage.status().batches;
    this.core.flush(this.c.now);
    if (this.storage.status().batches > batches) await durable;
  }

  private isDurable(): Promise<void> {
    return new Promise((resolve) => (this.durable = resolve));
  }
}

/**
 * Entry 1 is committed in view 0. Entry 2 of replica 1 is "old", which nobody else has; replicas 2 and 0 committed
 * "new" there, in view 2. Replica 1 has just installed that, in a turn that is still open.
 */
async function openTurn(disk: MemoryDisk): Promise<Alone> {
  const c = new Cluster(3, { late: 'restamp' });
  const alice: HandClient = c.hand();
  const primary = c.replica(0);
  const registration = alice.registration(1_000_000_010);
  c.give(alice, Request, registration, 0, 1);
  c.settle();
  c.run(10_000);
  const replica = new Alone(c, await DurableStorage.open(optionsOf(disk)));
  await replica.start();
  await replica.turn(Request, registration, alice.endpoint);
  await replica.turn(
    Sync,
    {
      view: 0,
      sequence: 1,
      lastIndex: 1n,
      lastChain: primary.chain(1),
      committedIndex: 1n,
      committedChain: primary.chain(1),
    },
    0,
  );
  await replica.turn(Request, alice.request(1_000_000_020, 1, 'old'), alice.endpoint);
  c.give(alice, Request, alice.request(1_000_000_030, 2, 'new'), 0);
  const entries = new Uint8Array(2 + 24 + 3);
  entries[1] = 3;
  primary.state.log.writeEntry(2, new DataView(entries.buffer), 2);
  await replica.turn(
    Sync,
    {
      view: 2,
      sequence: 1,
      lastIndex: 2n,
      lastChain: primary.chain(2),
      committedIndex: 2n,
      committedChain: primary.chain(2),
    },
    2,
  );
  replica.take(
    Chunk,
    {
      view: 2,
      logView: 2,
      baseIndex: 1n,
      baseChain: primary.chain(1),
      lastIndex: 2n,
      lastChain: primary.chain(2),
      entries,
    },
    2,
  );
  t.equal(replica.core.state.committed, 2, 'in memory both entries are committed');
  return replica;
}

const found = async (disk: MemoryDisk): Promise<Stored> =>
  readStored(new MemoryFiles(disk, random), { owner, hash: hasher, bootId, directory: 'disk' });
const operations = (stored: Stored): string[] =>
  stored.log!.entries.slice(1).map((entry) => Buffer.from(entry).subarray(24).toString());

t.test(
  'a clean stop in an open turn: the turn ends first, so that log, commit index and views on disk are of one state',
  async (t) => {
    const disk = new MemoryDisk(random);
    const replica = await openTurn(disk);
    replica.core.finish({ wallHi: 0, wallLo: 0, monotonicUs: 1e6 });
    await replica.storage.close();
    const stored = await found(disk);
    t.same(operations(stored), ['new']);
    t.match(stored.log, { committed: 2, clean: true, hardState: { view: 2, logView: 2 } });
  },
);

t.test(
  'storage that is closed without that, as when the core broke: nothing on disk speaks of what was not written',
  async (t) => {
    const disk = new MemoryDisk(random);
    const replica = await openTurn(disk);
    await replica.storage.close();
    const stored = await found(disk);
    t.same(operations(stored), ['old']);
    t.match(stored.log, { committed: 1, clean: true, hardState: { view: 2, logView: 0 } });
  },
);

/** Changes the header of the last frame on disk. */
function forge(disk: MemoryDisk, change: (frame: NonNullable<ReturnType<typeof decodeFrameHeader>>) => object): void {
  const name = segmentName(1, 0);
  const bytes = disk.bytes(name).slice();
  const header = decodeSegmentHeader(bytes, owner, hasher, name)!;
  let last = -1;
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; at += SECTOR)
    if (decodeFrameHeader(bytes, at, header, hasher) !== undefined) last = at;
  const frame = decodeFrameHeader(bytes, last, header, hasher)!;
  encodeFrameHeader({ ...frame, ...change(frame) }, bytes.subarray(last), hasher);
  disk.place(name, bytes);
}

t.test(
  'a directory that an earlier release stopped in an open turn: its end is not believed, and what the cluster committed takes the place of the rest',
  async (t) => {
    const disk = new MemoryDisk(random);
    const replica = await openTurn(disk);
    await replica.storage.close();
    forge(disk, (frame) => {
      t.equal(frame.flags, FRAME_CLEAN);
      return { committed: 2 };
    });
    const stored = await found(disk);
    t.same(operations(stored), ['old']);
    t.equal(stored.log!.committed, 1, '"old" was never committed');
  },
);

t.test('a batch whose commit index is beyond its entries counts as a lost log, with both numbers', async (t) => {
  const disk = new MemoryDisk(random);
  await openTurn(disk);
  disk.cutPower();
  forge(disk, () => ({ committed: 3 }));
  const stored = await found(disk);
  t.equal(stored.log, undefined);
  t.match(stored.lost, /says that 3 entries are committed, but the log goes from 0 to 2/);
});

t.test('a batch that says so is not written: the replica stops', async (t) => {
  const batch = {
    hardState: { view: 0, logView: 0, incarnation: 1 },
    entriesFrom: 1,
    lastIndex: 0,
    committed: 0,
    snapshot: undefined,
    readEntry: () => 0,
    entryBytes: () => 0,
  };
  const wrong: [string, Partial<PersistBatch>, RegExp][] = [
    ['committed beyond the log', { committed: 1 }, /the commit index on disk is within the log on disk/],
    [
      'a log of a view that was not promised',
      { hardState: { view: 1, logView: 2, incarnation: 1 } },
      /of no view above the promised one/,
    ],
  ];
  for (const [what, change, message] of wrong) {
    const storage = await DurableStorage.open(optionsOf(new MemoryDisk(random)));
    const error = await new Promise((resolve) => {
      storage.events = {
        persisted: () => resolve('persisted'),
        rewrite: () => undefined,
        failed: resolve,
        healed: () => undefined,
        broken: resolve,
      };
      storage.persist(1, { ...batch, ...change });
    });
    t.ok(error instanceof InvariantError, what);
    t.match(String(error), message);
    await storage.close();
  }
});

t.test('a replica that is closed has on disk all that it knew to be committed', async (t: Test) => {
  const data = mkdtempSync(join(tmpdir(), 'jitpaxos-clean-stop-'));
  t.teardown(() => rmSync(data, { recursive: true, force: true }));
  const cluster = await clusterConfig(1);
  const replica = await Replica.start({
    cluster,
    id: 0,
    machine: new KvMachine(),
    data,
    durability: 'os',
    logger: silentLogger,
  });
  const client = await Client.connect({ cluster });
  const kv = new KvClient(client);
  for (const key of ['a', 'b', 'c']) await kv.put(key, 'x');
  await client.close();
  const { lastIndex } = replica.status();
  while (replica.status().committedIndex < lastIndex) await new Promise((resolve) => setTimeout(resolve, 5));
  await replica.close();
  const stored = await readStored(new DirectoryFiles(data), {
    owner: { clusterHi: 0x00c0ffee, clusterLo: 0x12345678, replica: 0 },
    hash: hasher,
    bootId: (await import('../../src/server/storage-choice.js')).bootDigits(),
    directory: data,
  });
  t.match(stored.log, { committed: lastIndex, clean: true });
  t.equal(stored.log!.entries.length, lastIndex);
});
