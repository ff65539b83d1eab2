// A log that counts as lost because its end may be missing is set aside for a forced recovery, with its snapshot, until
// a start finds a log again.
import t from 'tap';
import type { HardState, PersistBatch, Snapshot } from '../../src/protocol/contract.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { Random } from '../../src/sim/random.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import { readLog, setAsideIn } from '../../src/storage/log-reader.js';
import { MemoryDisk, MemoryFiles } from './memory-files.js';

const OWNER = { clusterHi: 7, clusterLo: -9, replica: 1 };
const hash = new SimulationHasher();
const [BEFORE, AFTER] = ['1'.repeat(32), '2'.repeat(32)];
const random = new Random(1);
const disk = new MemoryDisk(random.fork('disk'));
const files = (): MemoryFiles => new MemoryFiles(disk, random.fork('files'));

/** One life: writes one batch, and ends in the middle of things, or cleanly. */
async function live(
  bootId: string,
  hardState: Pick<HardState, 'logView'>,
  entries: readonly string[],
  snapshot: Snapshot | undefined,
  clean: boolean,
): Promise<DurableStorage> {
  const storage = await DurableStorage.open({
    files: files(),
    directory: 'disk',
    owner: OWNER,
    hash,
    mode: 'os',
    bootId,
    segmentBytes: 4096,
    nowMs: () => 0,
    random: () => random.next() | 0,
    later: () => undefined,
  });
  const base = snapshot?.index ?? 0;
  const batch: PersistBatch = {
    hardState: {
      view: Math.max(3, hardState.logView),
      incarnation: (storage.recovered().hardState?.incarnation ?? 0) + 1,
      ...hardState,
    },
    entriesFrom: base + 1,
    lastIndex: base + entries.length,
    committed: base + entries.length,
    snapshot,
    entryBytes: (index) => entries[index - base - 1]!.length,
    readEntry: (index, target, offset) => {
      const bytes = Buffer.from(entries[index - base - 1]!);
      target.set(bytes, offset);
      return bytes.length;
    },
  };
  await new Promise<void>((done, failed) => {
    storage.events = {
      persisted: () => done(),
      failed,
      broken: failed,
      rewrite: () => undefined,
      healed: () => undefined,
    };
    storage.persist(1, batch);
  });
  if (clean) await storage.close();
  else disk.stop();
  return storage;
}

const aside = (): string[] => [...disk.names.keys()].filter((name) => name.startsWith('lost-')).sort();

/** The operations of the log that was set aside, and its snapshot. */
async function found(): Promise<unknown> {
  const of = { owner: OWNER, hash, bootId: AFTER, directory: 'disk', salvage: () => undefined };
  const { log } = await readLog(setAsideIn(files()), of, undefined);
  return log && [log.snapshot?.index, log.entries.map((entry) => Buffer.from(entry).toString())];
}

t.test('a log without its end is kept with its snapshot, until another one is there', async (t) => {
  const snapshot: Snapshot = { index: 5, chainHi: 1, chainLo: 2, bytes: new Uint8Array([1, 2, 3, 4]) };
  await live(BEFORE, { logView: 3 }, ['six', 'seven'], snapshot, false);
  t.same(aside(), []);

  // The host restarted: the log counts as lost, and the replica begins with none.
  const lost = await live(AFTER, { logView: -1 }, [], undefined, false);
  t.match(lost.stored, { log: undefined, lacksEnd: true, lost: /the host was restarted/ });
  t.match(aside().join(' '), /^lost-log-.* lost-snapshot-\S+$/);
  t.same(await found(), [5, ['six', 'seven']]);

  // It waits for the others, whatever happens to it meanwhile.
  for (const [boot, clean] of [
    [AFTER, true],
    [BEFORE, false],
    [AFTER, false],
  ] as const) {
    const waiting = await live(boot, { logView: -1 }, [], undefined, clean);
    t.match(waiting.stored, { log: undefined, lacksEnd: false });
    t.same(await found(), [5, ['six', 'seven']], 'the empty log of a replica that waits takes the place of none');
  }

  // It got another log, and loses that as well: of two, the later one is kept.
  await live(AFTER, { logView: 3 }, ['one', 'two'], undefined, false);
  t.same(await found(), [5, ['six', 'seven']]);
  await live(BEFORE, { logView: -1 }, [], undefined, false);
  t.same(await found(), [undefined, ['one', 'two']]);

  await live(BEFORE, { logView: 4 }, ['one'], undefined, true);
  t.same(await found(), [undefined, ['one', 'two']], 'until it is there at a start');
  const whole = await live(AFTER, { logView: 4 }, ['one'], undefined, true);
  t.ok(whole.stored.log !== undefined);
  t.same(aside(), []);
});
