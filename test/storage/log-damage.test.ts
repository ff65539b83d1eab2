// A log on disk with a write that was cut off, or with rot, at every byte.
import t from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import type { PersistBatch } from '../../src/protocol/contract.js';
import { Random } from '../../src/sim/random.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import { UnreadableError, type Files } from '../../src/storage/files.js';
import { HARD_STATE_FILE } from '../../src/storage/hard-state.js';
import { inspect } from '../../src/storage/inspection.js';
import { DAMAGED, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, segmentName } from '../../src/storage/log-format.js';
import { readStored, type Stored } from '../../src/storage/log-reader.js';
import { MemoryDisk, MemoryFiles } from './memory-files.js';

const hash = loadHash();
const owner = { clusterHi: 1, clusterLo: 2, replica: 0 };
const bootId = 'a'.repeat(32);
const BATCHES = 4;
const SEGMENT = segmentName(1, 0);
const SECTOR = 512;
const random = new Random(1);

/** A storage on these files, and how a batch is written there: one entry more each time. */
async function started(files: Files, isEcho: (token: number) => boolean = () => false) {
  const storage = await DurableStorage.open({
    files,
    directory: 'disk',
    owner,
    hash,
    mode: 'fsync',
    bootId,
    segmentBytes: 8192,
    nowMs: () => 0,
    random: () => random.next() | 0,
    later: () => undefined,
  });
  const unexpected = (error?: unknown): void => void t.fail(String(error));
  let report: (token: number) => void = () => undefined;
  storage.events = {
    persisted: (token) => report(token),
    rewrite: unexpected,
    failed: unexpected,
    healed: unexpected,
    broken: unexpected,
  };
  const persist = async (token: number): Promise<void> => {
    const durable = new Promise<number>((resolve) => (report = resolve));
    const batch: PersistBatch = {
      hardState: { view: 0, logView: 0, incarnation: 1, isEcho: isEcho(token) },
      committed: token - 1,
      entriesFrom: token,
      lastIndex: token,
      snapshot: undefined,
      entryBytes: () => 40,
      readEntry: (index, target, offset) => {
        target.fill(index, offset, offset + 40);
        return 40;
      },
    };
    storage.persist(token, batch);
    t.equal(await durable, token);
  };
  return { storage, persist };
}

/** A disk with a log of that many batches, one entry each; a crash, not a clean stop, ends it. */
async function written(isEcho?: (token: number) => boolean): Promise<{ disk: MemoryDisk; segment: Uint8Array }> {
  const disk = new MemoryDisk(random);
  const { persist } = await started(new MemoryFiles(disk, random), isEcho);
  for (let token = 1; token <= BATCHES; token++) await persist(token);
  disk.cutPower();
  return { disk, segment: disk.bytes(SEGMENT).slice() };
}

async function readWith(disk: MemoryDisk, segment: Uint8Array): Promise<Stored> {
  disk.place(SEGMENT, segment);
  return readStored(new MemoryFiles(disk, random), { owner, hash, bootId, directory: 'disk' });
}

const frameAt = (number: number): number => SEGMENT_HEADER_BYTES + (number - 1) * SECTOR;
const FRAME_BYTES = FRAME_HEADER_BYTES + 4 + 40;

t.test('every entry is found, as it was written', async (t) => {
  const { disk, segment } = await written();
  const found = await readWith(disk, segment);
  t.equal(found.lost, undefined);
  t.same(
    found.log!.entries.map((entry) => [...new Set(entry)]),
    [[1], [2], [3], [4]],
  );
  t.notMatch(found.hardState, { isEcho: true });
  t.equal(found.torn, undefined);
  t.same(found.hardState, { view: 0, logView: 0, incarnation: 1 });
});

t.test('that the state came from another replica is of the frame: the last whole one says it', async (t) => {
  const last = await written((token) => token === BATCHES);
  t.match((await readWith(last.disk, last.segment)).hardState, { isEcho: true });
  last.segment.fill(0, frameAt(BATCHES), frameAt(BATCHES) + FRAME_BYTES);
  t.notMatch(
    (await readWith(last.disk, last.segment)).hardState,
    { isEcho: true },
    'a write that was cut off says nothing',
  );
  const before = await written((token) => token < BATCHES);
  const found = await readWith(before.disk, before.segment);
  t.notMatch(found.hardState, { isEcho: true });
  t.equal(found.log!.entries.length, BATCHES, 'frames with it are read as any');
});

t.test('the last write cut off at every byte: the log ends before it, or with it', async (t) => {
  const { disk, segment } = await written();
  const last = frameAt(BATCHES);
  const wrong: string[] = [];
  for (let kept = 0; kept <= FRAME_BYTES; kept++) {
    const torn = segment.slice();
    torn.fill(0, last + kept, last + FRAME_BYTES);
    const found = await readWith(disk, torn);
    const expected = kept === FRAME_BYTES ? BATCHES : BATCHES - 1;
    if (found.log?.entries.length !== expected)
      wrong.push(`${kept} bytes: ${found.log?.entries.length} entries, ${found.lost}`);
    else if (kept > 0 && kept < FRAME_BYTES && found.torn?.offset !== last)
      wrong.push(`${kept} bytes: torn at ${found.torn?.offset}`);
  }
  t.same(wrong, []);
});

t.test('rot at every byte: named with file and offset, and the log counts as lost', async (t) => {
  const { disk, segment } = await written();
  const wrong: string[] = [];
  let noticed = 0;
  for (let at = 0; at < frameAt(BATCHES); at++) {
    const rotten = segment.slice();
    rotten[at]! ^= 1 << (at % 8);
    const found = await readWith(disk, rotten);
    const frame = SEGMENT_HEADER_BYTES + Math.floor((at - SEGMENT_HEADER_BYTES) / SECTOR) * SECTOR;
    const inHeader = at < 64;
    const inFrame = at >= SEGMENT_HEADER_BYTES && at - frame < FRAME_BYTES;
    if (!inHeader && !inFrame) {
      if (found.log?.entries.length !== BATCHES) wrong.push(`byte ${at}, which means nothing: ${found.lost}`);
      continue;
    }
    noticed++;
    const offset = inHeader ? 0 : frame;
    if (found.log !== undefined || found.damage?.file !== SEGMENT || found.damage.offset !== offset)
      wrong.push(`byte ${at}: ${found.lost ?? 'not noticed'}`);
    if (found.hardState === undefined) wrong.push(`byte ${at}: the promises are gone`);
  }
  t.same(wrong, []);
  t.equal(noticed, 64 + (BATCHES - 1) * FRAME_BYTES);
});

/** The files of `disk`, of which the disk does not return `name` from `offset` on. */
function unreadable(disk: MemoryDisk, name: string, offset: number): Files {
  const files = new MemoryFiles(disk, random);
  const read = (asked: string): Promise<Uint8Array | undefined> =>
    asked === name
      ? Promise.reject(new UnreadableError(`disk/${name}`, offset, new Error('EIO: simulated, read')))
      : MemoryFiles.prototype.read.call(files, asked);
  return Object.assign(files, { read });
}

t.test('a page that cannot be read is damage: the log counts as lost and is set aside, never cut off', async (t) => {
  for (const at of [frameAt(BATCHES), frameAt(2), 0]) {
    const { disk, segment } = await written();
    const files = unreadable(disk, SEGMENT, at);
    const found = await readStored(files, { owner, hash, bootId, directory: 'disk' });
    t.equal(found.log, undefined);
    t.equal(found.lost, `disk/${SEGMENT} is damaged at byte ${at}: it cannot be read (EIO: simulated, read)`);
    t.match(found.damage, { file: SEGMENT, offset: at });
    t.same(found.hardState, { view: 0, logView: 0, incarnation: 1 });
    const seen = await inspect(files, { hash, bootId, directory: 'disk' });
    t.match(seen?.damage, [{ file: SEGMENT, offset: at, what: /cannot be read/ }]);

    const next = await started(files);
    await next.persist(1);
    t.same(disk.bytes(`${DAMAGED}${SEGMENT}`), segment, 'it is kept as it is');
    await next.storage.close();
  }
  const { disk } = await written();
  const refused = unreadable(disk, HARD_STATE_FILE, 4096);
  await t.rejects(readStored(refused, { owner, hash, bootId, directory: 'disk' }), {
    code: 'data-directory-unusable',
    message: `disk/${HARD_STATE_FILE} cannot be read at byte 4096`,
  });
});

t.test('a hole in the middle, and a segment that is missing', async (t) => {
  const { disk, segment } = await written();
  const hole = segment.slice();
  hole.fill(0, frameAt(2), frameAt(3));
  t.match((await readWith(disk, hole)).damage, { file: SEGMENT, offset: frameAt(2) });
  const files = new MemoryFiles(disk, random);
  await files.remove(SEGMENT);
  const found = await readStored(files, { owner, hash, bootId, directory: 'disk' });
  t.equal(found.log, undefined);
  t.match(found.lost, /./);
  t.same(found.hardState, { view: 0, logView: 0, incarnation: 1 });
});

t.test('a log of another replica is refused; one that was not kept up counts as lost', async (t) => {
  const { disk, segment } = await written();
  disk.place(SEGMENT, segment);
  await t.rejects(
    readStored(new MemoryFiles(disk, random), { owner: { ...owner, replica: 1 }, hash, bootId, directory: 'disk' }),
    { code: 'data-directory-foreign' },
  );
  const shorter = segment.slice();
  shorter.fill(0, frameAt(1), frameAt(1) + FRAME_BYTES);
  shorter.fill(0, frameAt(2));
  const found = await readWith(disk, shorter);
  t.equal(found.log, undefined);
});

t.test('the empty log of a replica that had lost its own is no log', async (t) => {
  const disk = new MemoryDisk(random);
  const files = new MemoryFiles(disk, random);
  const storage = await DurableStorage.open({
    files,
    directory: 'disk',
    owner,
    hash,
    mode: 'fsync',
    bootId,
    segmentBytes: 8192,
    nowMs: () => 0,
    random: () => random.next() | 0,
    later: () => undefined,
  });
  const unexpected = (error?: unknown): void => void t.fail(String(error));
  await new Promise<void>((resolve) => {
    storage.events = {
      persisted: () => resolve(),
      rewrite: unexpected,
      failed: unexpected,
      healed: unexpected,
      broken: unexpected,
    };
    storage.persist(1, {
      hardState: { view: 4, logView: -1, incarnation: 6 },
      committed: 0,
      entriesFrom: 1,
      lastIndex: 0,
      snapshot: undefined,
      entryBytes: () => 0,
      readEntry: () => 0,
    });
  });
  await storage.close();
  const found = await readStored(files, { owner, hash, bootId, directory: 'disk' });
  t.equal(found.log, undefined);
  t.match(found.lost, /lost at an earlier start/);
  t.same(found.hardState, { view: 4, logView: -1, incarnation: 6 });
});

/** A first life of some writes and no clean end, in mode `mode`. */
async function livedOn(
  disk: MemoryDisk,
  mode: 'os' | 'fsync',
  writes: number,
  hardState = { view: 0, logView: 0, incarnation: 1 },
): Promise<void> {
  const storage = await DurableStorage.open({
    files: new MemoryFiles(disk, random),
    directory: 'disk',
    owner,
    hash,
    mode,
    bootId,
    segmentBytes: 8192,
    nowMs: () => 0,
    random: () => random.next() | 0,
    later: () => undefined,
  });
  for (let token = 1; token <= writes; token++) {
    await new Promise<void>((resolve, reject) => {
      storage.events = {
        persisted: () => resolve(),
        rewrite: () => undefined,
        failed: reject,
        healed: () => undefined,
        broken: reject,
      };
      storage.persist(token, {
        hardState,
        committed: 0,
        entriesFrom: token,
        lastIndex: token,
        snapshot: undefined,
        entryBytes: () => 40,
        readEntry: () => 40,
      });
    });
  }
  for (let i = 0; i < 200; i++) await undefined; // the next segment is made ready in the background
  disk.stop();
}

t.test('promises that are missing beside a log that was in use are refused, whatever became of the log', async (t) => {
  const missing = { code: 'hard-state-missing', category: 'environment', message: /disk was in use .*--log-lost/ };
  for (const mode of ['os', 'fsync'] as const) {
    for (const writes of [1, 2, 5]) {
      for (const [what, damage] of [
        ['whole', () => undefined],
        ['its first frame is rotten', (bytes: Uint8Array) => void (bytes[600]! ^= 1)],
        ['its header is rotten', (bytes: Uint8Array) => void (bytes[20]! ^= 1)],
        ['it is empty', (bytes: Uint8Array) => void bytes.fill(0, SEGMENT_HEADER_BYTES)],
      ] as const) {
        for (const boot of [bootId, 'b'.repeat(32)]) {
          const disk = new MemoryDisk(random);
          await livedOn(disk, mode, writes, { view: 41, logView: 40, incarnation: 9 });
          disk.names.delete(HARD_STATE_FILE);
          const bytes = disk.bytes(SEGMENT).slice();
          damage(bytes);
          disk.place(SEGMENT, bytes);
          await t.rejects(
            readStored(new MemoryFiles(disk, random), { owner, hash, bootId: boot, directory: 'disk' }),
            missing,
            `${mode}, ${writes} writes, ${what}, ${boot === bootId ? 'the same boot' : 'another boot'}`,
          );
        }
      }
    }
  }
});

t.test('a log that was set aside shows use as well', async (t) => {
  const disk = new MemoryDisk(random);
  disk.place(`damaged-${SEGMENT}`, new Uint8Array(8));
  await t.rejects(readStored(new MemoryFiles(disk, random), { owner, hash, bootId, directory: 'disk' }), {
    code: 'hard-state-missing',
    message: new RegExp(SEGMENT),
  });
});

t.test('a first start that is cut off at any moment, and again and again, is none of that', async (t) => {
  let at = 0;
  for (let ended = false; !ended; at++) {
    for (const mode of ['os', 'fsync'] as const) {
      const disk = new MemoryDisk(random);
      // Four lives whose power goes after that many operations of the disk: before anything was acknowledged.
      for (let life = 1; life <= 4; life++) {
        const storage = await DurableStorage.open({
          files: new MemoryFiles(disk, random),
          directory: 'disk',
          owner,
          hash,
          mode,
          bootId: `${life}`.padStart(32, '0'),
          segmentBytes: 8192,
          nowMs: () => 0,
          random: () => random.next() | 0,
          later: () => undefined,
        });
        const from = disk.operations;
        let acknowledged = false;
        disk.before = (operations) => {
          if (operations - from > at && !acknowledged) disk.cutPower();
        };
        storage.events = {
          persisted: () => (acknowledged = true),
          rewrite: () => undefined,
          failed: () => undefined,
          healed: () => undefined,
          broken: (error) => void t.fail(String(error)),
        };
        storage.persist(1, {
          hardState: { view: 0, logView: 0, incarnation: life },
          committed: 0,
          entriesFrom: 1,
          lastIndex: 0,
          snapshot: undefined,
          entryBytes: () => 0,
          readEntry: () => 0,
        });
        for (let i = 0; i < 400; i++) await undefined;
        disk.before = () => undefined;
        if (acknowledged) {
          ended = true;
          break;
        }
      }
    }
    if (at > 100) throw new Error('it never gets through');
  }
  t.ok(at > 5, `${at} operations of the disk before the first acknowledgement`);
  t.end();
});

t.test('without a boot id a log of mode os is never taken for one of this boot', async (t) => {
  const disk = new MemoryDisk(random);
  const none = '0'.repeat(32);
  const storage = await DurableStorage.open({
    files: new MemoryFiles(disk, random),
    directory: 'disk',
    owner,
    hash,
    mode: 'os',
    bootId: none,
    segmentBytes: 8192,
    nowMs: () => 0,
    random: () => random.next() | 0,
    later: () => undefined,
  });
  await new Promise<void>((resolve, reject) => {
    storage.events = {
      persisted: () => resolve(),
      rewrite: () => undefined,
      failed: reject,
      healed: () => undefined,
      broken: reject,
    };
    storage.persist(1, {
      hardState: { view: 0, logView: 0, incarnation: 1 },
      committed: 0,
      entriesFrom: 1,
      lastIndex: 1,
      snapshot: undefined,
      entryBytes: () => 40,
      readEntry: () => 40,
    });
  });
  disk.stop();
  t.match(
    (await readStored(new MemoryFiles(disk, random), { owner, hash, bootId: none, directory: 'disk' })).lost,
    /host was restarted/,
  );
});
