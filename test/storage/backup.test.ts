// Backups that nobody wrote, or that somebody else did: every one is refused with its place, before anything is written,
// and what is taken is a log with which a replica begins.
import { randomInt } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { freePorts } from '../../src/host/free-ports.js';
import { KvMachine } from '../../src/machine/kv.js';
import { machineBytes } from '../../src/protocol/log/snapshots.js';
import { loadHash } from '../../src/native/hash64.js';
import { loadSipHash } from '../../src/native/siphash.js';
import type { Hasher } from '../../src/protocol/contract.js';
import { featureOf, featureOperation } from '../../src/protocol/log/features.js';
import { carryFeatures } from '../../src/storage/backup-features.js';
import { misfitOf } from '../../src/protocol/log/log.js';
import { Random } from '../../src/sim/random.js';
import { type Backup, decodeBackup, encodeBackup, isSealedWith } from '../../src/storage/backup.js';
import { backupKey, SEAL_BYTES } from '../../src/storage/backup-seal.js';
import { readI32, readIndex, writeI32, writeIndex } from '../../src/wire/u64.js';
import { jitpaxos, type Ended } from '../cluster/processes.js';
import { Cluster, TEST_LIMITS } from '../protocol/harness.js';

const hash = loadHash();
/** A snapshot of entry 36, and the entries 37 to 41. */
const golden = new Uint8Array(readFileSync(fileURLToPath(new URL('../../../test/golden/backup-1', import.meta.url))));
const original = decodeBackup(golden, hash, 'golden');
const CLUSTER = '0123456709abcdef';
const KEY = backupKey(CLUSTER, 0, 'c0'.repeat(16));
const HEADER_BYTES = 76;
const LAST_ENTRY_BYTES = 42;
const ENTRIES = HEADER_BYTES + readIndex(golden, 36);

/** Gives changed bytes the lengths and the checksums that belong to them, as anybody can. */
function withChecksums(bytes: Uint8Array): Uint8Array {
  hash.hash64(bytes, HEADER_BYTES, bytes.length - HEADER_BYTES, bytes, 60);
  hash.hash64(bytes, 0, 68, bytes, 68);
  return bytes;
}

/** The golden backup with other entries behind its snapshot. */
function withEntries(body: Uint8Array, lastIndex = 41): Uint8Array {
  const bytes = new Uint8Array(ENTRIES + body.length);
  bytes.set(golden.subarray(0, ENTRIES));
  bytes.set(body, ENTRIES);
  writeIndex(bytes, 44, body.length);
  writeIndex(bytes, 52, lastIndex);
  return withChecksums(bytes);
}

function changed(change: (bytes: Uint8Array) => void): Uint8Array {
  const bytes = golden.slice();
  change(bytes);
  return withChecksums(bytes);
}

/** Records of one length field and one byte for each of its bytes. */
function records(...lengths: number[]): Uint8Array {
  const parts = lengths.map((length) => {
    const part = new Uint8Array(4 + Math.max(0, Math.min(length, 1000)));
    writeI32(part, 0, length);
    return part;
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** What a release from before seals makes of a backup: its loop, and what its restore reads. */
function previousReading(bytes: Uint8Array): { lastIndex: number; entries: Uint8Array[]; misfit: string | undefined } {
  const base = readIndex(bytes, 20);
  const end = HEADER_BYTES + readIndex(bytes, 36) + readIndex(bytes, 44);
  t.equal(bytes.length, end);
  const entries: Uint8Array[] = [];
  for (let at = HEADER_BYTES + readIndex(bytes, 36); at < end; ) {
    const length = readI32(bytes, at);
    entries.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  const lastIndex = readIndex(bytes, 52);
  const misfit = misfitOf(entries, base + 1, lastIndex, TEST_LIMITS);
  return { lastIndex, entries: entries.slice(0, lastIndex - base), misfit };
}

t.test('a backup that no replica wrote is refused, with the place and what to do', (t) => {
  const cases: [string, Uint8Array, RegExp][] = [
    ['a length of −4', withEntries(records(-4)), /entry 37, at byte 384, has -4 bytes, instead of 24 to/],
    ['lengths that lead back', withEntries(records(40, -48)), /entry 37, at byte 384, has a key that is not above/],
    ['a length of 2³¹ − 1', withEntries(records(2 ** 31 - 1)), /has 2147483647 bytes, instead of/],
    ['a length beyond the end', withEntries(records(2000)), /entry 37, at byte 384, has 2000 bytes, and is cut off/],
    ['half a length', withEntries(new Uint8Array(3)), /entry 37, at byte 384, is missing/],
    ['no entries', withEntries(new Uint8Array(0)), /entry 37, at byte 384, is missing: .* entry 41 is the last/],
    ['a last entry of 2⁵²', changed((bytes) => writeIndex(bytes, 52, 2 ** 52)), /has 4503599627370460 entries/],
    ['a last entry beyond', changed((bytes) => writeI32(bytes, 52, -1)), /says that it has entries 37 to/],
    ['a last entry before the first', changed((bytes) => writeIndex(bytes, 52, 3)), /entries 37 to 3/],
    [
      'one entry too many',
      withEntries(golden.slice(ENTRIES), 40),
      /bytes at byte \d+, behind its last entry, are no seal/,
    ],
    ['no first entry', changed((bytes) => writeIndex(bytes, 20, 0)), /has a snapshot, and begins with the first entry/],
    [
      'a snapshot of 0xff',
      changed((bytes) => bytes.fill(0xff, HEADER_BYTES, ENTRIES)),
      /snapshot, at byte 76: .*format -1/,
    ],
    ['a snapshot of another entry', changed((bytes) => bytes.set([0, 35], HEADER_BYTES + 10)), /is of entry 35/],
    ['another chain', changed((bytes) => (bytes[30]! ^= 1)), /its chain is not the one/],
    [
      'a longer session table',
      changed((bytes) => writeI32(bytes, HEADER_BYTES + 36, 10_000)),
      /session table is longer/,
    ],
    ['two million sessions', changed((bytes) => writeI32(bytes, HEADER_BYTES + 40, 2_000_000)), /2000000 sessions/],
    [
      'an entry twice',
      withEntries(new Uint8Array([...golden.slice(ENTRIES, ENTRIES + 46), ...golden.slice(ENTRIES)]), 42),
      /entry 38, at byte 430, has a key that is not above/,
    ],
  ];
  for (const [name, bytes, message] of cases) {
    t.throws(() => decodeBackup(bytes, hash, 'monday.jpb'), { code: 'backup-unusable', message }, name);
    t.throws(
      () => decodeBackup(bytes, hash, 'monday.jpb'),
      { message: /^monday\.jpb .*; .*use another backup$/ },
      name,
    );
  }
  const first = new Uint8Array(28);
  writeI32(first, 0, 24);
  const zero = new Uint8Array(HEADER_BYTES + first.length);
  zero.set(golden.subarray(0, HEADER_BYTES));
  for (const at of [20, 28, 36]) writeIndex(zero, at, 0);
  zero.set(first, HEADER_BYTES);
  writeIndex(zero, 44, first.length);
  writeIndex(zero, 52, 1);
  t.throws(
    () => decodeBackup(withChecksums(zero), hash, 'x'),
    { message: /entry 1, at byte 76, has a key/ },
    'a key of 0',
  );
  t.end();
});

t.test('a backup from the first entry on says with which features its cluster began', (t) => {
  const log = { ...original.log, snapshot: undefined, committed: 1, entries: [original.log.entries[0]!.slice()] };
  const made = (features?: number, key?: typeof KEY): Uint8Array =>
    encodeBackup(log, original.owner, hash, key, features);
  for (const features of [0, 1, 3, 7]) {
    t.match(decodeBackup(made(features), hash, 'x'), { features, lastIndex: 1 });
    t.equal(decodeBackup(made(features, KEY), hash, 'x').features, features);
  }
  t.equal(
    decodeBackup(made(), hash, 'x').features,
    undefined,
    'an earlier release, or no cluster file: it is not known',
  );
  t.same(previousReading(made(3)), previousReading(made()), 'the previous release reads it');
  t.throws(() => decodeBackup(made(1 << 30), hash, 'x'), { code: 'backup-unusable', message: /feature 31/ });
  const forged = made(3, KEY);
  forged[31]! ^= 1;
  withChecksums(forged);
  t.notOk(isSealedWith(forged, KEY), 'the seal covers it');
  t.equal(original.features, 0, 'a snapshot says it by itself');
  t.end();
});

t.test('a sealed backup: its key opens it, nothing may be changed, and the previous release reads it', (t) => {
  const sealed = encodeBackup(original.log, original.owner, hash, KEY);
  const backup = decodeBackup(sealed, hash, 'sealed');
  t.match(backup, { sealedBy: 0, lastIndex: 41 });
  t.same(backup.log.entries, original.log.entries, 'the seal is no entry');
  t.equal(
    Buffer.from(sealed.subarray(-32)).toString('hex'),
    'f5343e4d2206593768b9087a8218b3660d145a3b6e0a169567cdbe7233314121',
    'HKDF and HMAC as another program computes them: later releases have to open it',
  );
  t.equal(isSealedWith(sealed, KEY), true);
  t.equal(isSealedWith(sealed, backupKey(CLUSTER, 0, 'c1'.repeat(16))), false, 'another secret');
  t.equal(isSealedWith(sealed, backupKey('0123456709abcdee', 0, 'c0'.repeat(16))), false, 'another cluster');
  t.same(
    previousReading(sealed),
    { lastIndex: 41, entries: previousReading(golden).entries, misfit: undefined },
    'a release from before seals restores the same',
  );
  t.same(encodeBackup(original.log, original.owner, hash), golden, 'without a key nothing has changed');

  const trusted: number[] = [];
  for (let at = 0; at < sealed.length; at++) {
    if (at >= 60 && at < HEADER_BYTES) continue; // the checksums themselves, which are made to fit
    const bytes = sealed.slice();
    bytes[at]! ^= 1 << (at % 8);
    withChecksums(bytes);
    try {
      if (decodeBackup(bytes, hash, 'x').sealedBy === 0 && isSealedWith(bytes, KEY)) trusted.push(at);
    } catch (error) {
      if ((error as JitPaxosError).code !== 'backup-unusable') throw error;
    }
  }
  t.same(trusted, [], 'every changed byte is noticed, although the checksums fit');
  const stripped = sealed.slice(0, sealed.length - 4 - SEAL_BYTES);
  writeIndex(stripped, 44, readIndex(stripped, 44) - 4 - SEAL_BYTES);
  t.equal(decodeBackup(withChecksums(stripped), hash, 'x').sealedBy, undefined, 'a seal that was taken off is missing');
  t.end();
});

t.test('a feature that the log switches on is on in the new cluster too', (t) => {
  const [old, next, other] = ['0a', '0b', '0c'].map((byte) => loadSipHash(Buffer.from(byte.repeat(16), 'hex'))) as [
    Hasher,
    Hasher,
    Hasher,
  ];
  const entry = (operation: Uint8Array): Uint8Array => new Uint8Array([...new Uint8Array(24), ...operation]);
  const plain = original.log.entries[0]!.slice();
  const entries = [plain, entry(featureOperation(1, old)), entry(featureOperation(1, other))];
  t.equal(carryFeatures(entries, 37, old, next), 1);
  t.equal(featureOf(entries[1]!, 24, 24, next), 1, 'with the token of the new chain');
  t.same(entries[0], original.log.entries[0]);
  t.same(entries[2], entry(featureOperation(1, other)), 'what the old cluster did not take is not made good');
  t.throws(() => carryFeatures([entry(featureOperation(31, old))], 37, old, next), {
    code: 'feature-unknown',
    message: /entry 37 of the backup switches on feature 31/,
  });
  t.end();
});

t.test('restore looks at limits, machine and time before anything is written', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'jitpaxos-backup-'));
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const data = join(home, 'data');
  const restoring = async (name: string, bytes: Uint8Array, limits: object, ...more: string[]): Promise<Ended> => {
    writeFileSync(join(home, `${name}.jpb`), bytes);
    const restored = Buffer.from(bytes.subarray(68, HEADER_BYTES)).toString('hex');
    const replicas = [`127.0.0.1:${(await freePorts(1))[0]}`];
    const cluster = { schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678', replicas, restored, limits };
    writeFileSync(join(home, `${name}.json`), JSON.stringify(cluster));
    const files = ['--cluster', join(home, `${name}.json`), '--data', data];
    return jitpaxos(['restore', join(home, `${name}.jpb`), '--id', '0', ...files, ...more]);
  };
  const cases: [string, Promise<Ended>, RegExp][] = [
    [
      'limits',
      restoring('limits', golden, { maxLanes: 1, lanesPerSession: 1 }),
      /^limits-too-small: .* session 1 of 1 has 2 lanes, of at most 1/,
    ],
    ['machine', restoring('machine', golden, {}, '--machine', 'echo'), /^backup-unusable: the machine "echo" refuses/],
    [
      'state',
      restoring(
        'state',
        changed((bytes) => (bytes[Buffer.from(golden).indexOf('KVS1')] = 0)),
        {},
      ),
      /^backup-unusable: the machine "kv" refuses the state/,
    ],
    [
      'time',
      restoring(
        'time',
        changed((bytes) => (bytes[bytes.length - LAST_ENTRY_BYTES] = 0x7f)),
        {},
      ),
      /^backup-unusable: .* ends with an entry of the time \d+ ms since 1970, and this host's clock says/,
    ],
  ];
  for (const [name, ended, message] of cases) t.match((await ended).stderr, message, name);
  t.equal(existsSync(data), false, 'nothing was written');
  t.match(await restoring('own', golden, {}, '--machine', 'own'), { code: 0 });
});

const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? randomInt(1, 2 ** 31));
const ROUNDS = 6_000;

t.test('mutated backups with fitting checksums: refused, or a replica begins with them', (t) => {
  t.comment(`seed ${seed}; replay with JITPAXOS_TEST_SEED=${seed} node dist/test/storage/backup.test.js`);
  const random = new Random(seed);
  const sources = [golden, encodeBackup(original.log, original.owner, hash, KEY)];
  let refused = 0;
  let begun = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = mutated(random, random.pick(sources));
    let backup: Backup;
    try {
      backup = decodeBackup(bytes, hash, 'x');
      if (backup.log.snapshot !== undefined) new KvMachine().restore(machineBytes(backup.log.snapshot));
    } catch (error) {
      if (!(error instanceof JitPaxosError) || !['backup-unusable', 'snapshot-invalid'].includes(error.code))
        return void t.fail(`seed ${seed}, round ${round}: ${(error as Error).stack}`);
      refused++;
      continue;
    }
    const { snapshot, entries } = backup.log;
    // What a replica holds of it is bounded by the file.
    if (entries.length * 28 > bytes.length)
      return void t.fail(`seed ${seed}, round ${round}: ${entries.length} entries`);
    if (backup.lastIndex !== (snapshot?.index ?? 0) + entries.length)
      return void t.fail(`seed ${seed}, round ${round}`);
    if (misfitOf(entries, 0, backup.lastIndex, TEST_LIMITS) !== undefined) continue;
    try {
      begin(backup);
    } catch (error) {
      return void t.fail(`seed ${seed}, round ${round}: ${(error as Error).stack}`);
    }
    begun++;
  }
  t.comment(`${refused} refused, ${begun} begun with`);
  t.ok(refused > ROUNDS / 4 && begun > ROUNDS / 100, `${refused} refused, ${begun} begun with`);
  t.end();
});

/** A replica whose disk holds what `jitpaxos restore` writes. */
function begin({ log: { snapshot, entries, hardState }, lastIndex }: Backup): void {
  const cluster = new Cluster(1, { keepsLog: true, first: 'ask', machine: () => new KvMachine() });
  const replica = cluster.replica(0);
  Object.assign(replica.disk, { hardState, snapshot, lastIndex, committed: lastIndex });
  entries.forEach((entry, i) => replica.disk.entries.set(lastIndex - entries.length + 1 + i, entry));
  replica.start();
  cluster.now.monotonicUs += 1000;
  replica.tick();
  if (replica.last !== lastIndex) throw new Error(`it begins with ${replica.last} entries, of ${lastIndex}`);
}

function mutated(random: Random, source: Uint8Array): Uint8Array {
  let bytes = source.slice();
  for (let changes = random.between(1, 3); changes > 0; changes--) {
    const at = random.chance(0.3) ? random.below(HEADER_BYTES) : random.below(bytes.length - 4);
    const kind = random.below(6);
    if (kind === 0) bytes[at]! ^= 1 << random.below(8);
    else if (kind === 1) bytes[at] = random.below(256);
    else if (kind === 2 && at % 4 === 0) writeI32(bytes, at, random.pick([-1, -4, 0, 1, 24, 2 ** 31 - 1, -(2 ** 31)]));
    else if (kind === 3) writeI32(bytes, at, readI32(bytes, at) + random.between(-3, 3));
    else if (kind === 4) bytes.copyWithin(random.below(bytes.length), at, at + random.between(1, 64));
    else if (bytes.length > HEADER_BYTES + 100)
      bytes = random.chance(0.5)
        ? bytes.slice(0, bytes.length - random.between(1, 60))
        : new Uint8Array([...bytes, ...bytes.slice(at, at + random.between(1, 60))]);
  }
  writeI32(bytes, 0, 0x4a50424b);
  writeI32(bytes, 4, 1);
  // Mostly with lengths that fit, so that the content is reached.
  if (random.chance(0.9)) {
    const snapshotBytes = readIndex(bytes, 36);
    if (snapshotBytes <= bytes.length - HEADER_BYTES)
      writeIndex(bytes, 44, bytes.length - HEADER_BYTES - snapshotBytes);
  }
  return withChecksums(bytes);
}
