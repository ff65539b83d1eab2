// Formats on disk: what the version before wrote is read, what is newer is refused by name.
import t, { type Test } from 'tap';
import { encodeMembership } from '../../src/protocol/membership/membership.js';
import { membershipOf } from '../../src/protocol/membership/member-lists.js';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  Client,
  type ClusterConfig,
  JitPaxosError,
  KvClient,
  KvMachine,
  Replica,
  silentLogger,
} from '../../src/index.js';
import { StoreClient } from '../../src/client/store-client.js';
import { decodeStoreResult, encodeRead } from '../../src/machine/store/codec.js';
import { loadHash } from '../../src/native/hash64.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { featureNames } from '../../src/protocol/log/features.js';
import { SessionTable } from '../../src/protocol/log/sessions.js';
import {
  featuresIn,
  machineBytes,
  restoreSessions,
  SNAPSHOT_FORMAT,
  snapshotFault,
} from '../../src/protocol/log/snapshots.js';
import { decodeBackup } from '../../src/storage/backup.js';
import {
  FORMATS,
  KEYED_LOG_FORMAT,
  MEMBERS_BEHIND_RECORD_FORMAT,
  MEMBERS_HARD_STATE_FORMAT,
} from '../../src/storage/formats.js';
import { UNKEYED_FINGERPRINT } from '../../src/protocol/contract.js';
import { decodeHardState, encodeHardState, HARD_STATE_BYTES, SLOT_BYTES } from '../../src/storage/hard-state.js';
import { decodeMembersFile, encodeMembersFile } from '../../src/storage/members-file.js';
import {
  decodeSegmentHeader,
  decodeSnapshotFile,
  encodeSegmentHeader,
  encodeSnapshotHeader,
  SNAPSHOT_HEADER_BYTES,
} from '../../src/storage/log-format.js';
import { readI32, writeI32 } from '../../src/wire/u64.js';

const GOLDEN = fileURLToPath(new URL('../../../test/golden/', import.meta.url));
const hash = loadHash();

/** The cluster of the golden directory, on a port of its own. */
const clusterAt = (port: number) =>
  ({
    schema: 'jitpaxos.cluster/1',
    id: '0123456709abcdef',
    replicas: [`127.0.0.1:${port}`],
    authentication: 'none',
    limits: { logEntries: 16 },
  }) as const;

function goldenDirectory(t: Test, name = 'disk-1'): string {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-formats-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  cpSync(join(GOLDEN, name), directory, { recursive: true });
  return directory;
}

/** The key-value store has what the last ten writes before `end` left. */
async function hasValues(t: Test, cluster: ClusterConfig, end: number): Promise<void> {
  await using client = await Client.connect({ cluster, lanes: 1, logger: silentLogger });
  const kv = new KvClient(client);
  for (let i = end - 10; i < end; i++) {
    const found = await kv.get(`key-${i % 10}`);
    t.equal(found === undefined ? undefined : Buffer.from(found).toString(), `value-${i}`);
  }
}

t.test(
  'a replica goes on with the log that the previous version left, and that with what this one leaves',
  async (t) => {
    const data = goldenDirectory(t);
    const cluster = clusterAt(24_781);
    for (const round of [1, 2]) {
      const replica = await Replica.start({
        cluster,
        id: 0,
        machine: new KvMachine(),
        data,
        durability: 'fsync',
        logger: silentLogger,
      });
      t.equal(replica.status().incarnation, 1 + round);
      await hasValues(t, cluster, 40);
      await replica.close();
    }
  },
);

t.test('a replica goes on with a snapshot that names features', async (t) => {
  const data = goldenDirectory(t, 'disk-2');
  const file = readdirSync(data).find((name) => name.startsWith('snapshot-'))!;
  const owner = { clusterHi: 0x01234567, clusterLo: 0x09abcdef, replica: 0 };
  const snapshot = decodeSnapshotFile(new Uint8Array(readFileSync(join(data, file))), owner, hash, file)!;
  t.equal(readI32(snapshot.bytes, 0), 2, 'format 2');
  t.same(featureNames(featuresIn(snapshot)), ['session-quotas']);
  t.equal(snapshot.index, 48);
  const table = new SessionTable(DEFAULT_LIMITS.maxSessions, DEFAULT_LIMITS.maxLanes, DEFAULT_LIMITS.keptResultBytes);
  table.setQuotas(true);
  restoreSessions(snapshot, table);
  t.equal(table.resultBytes, 256, 'it keeps a result of 201 bytes');
  t.equal(snapshotFault(snapshot, DEFAULT_LIMITS), undefined);
  const cluster = { ...clusterAt(24_783), features: ['session-quotas'] } as const;
  for (const round of [1, 2]) {
    const replica = await Replica.start({
      cluster,
      id: 0,
      machine: new KvMachine(),
      data,
      durability: 'fsync',
      logger: silentLogger,
    });
    t.equal(replica.status().incarnation, 1 + round);
    t.same(replica.status().features?.on, ['session-quotas']);
    await hasValues(t, cluster, 50);
    await replica.close();
  }
});

/** What the machine says of a key. It knows no time but that of the last entry. */
function readIn(machine: KvMachine, key: string): object {
  const operation = { bytes: new Uint8Array(64), offset: 0, length: 0 };
  operation.length = encodeRead(operation.bytes, 0, Buffer.from(key));
  const reply = { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 };
  machine.query(operation, { timestampHi: 0, timestampLo: 0, index: 0 }, reply);
  const result = decodeStoreResult('read', reply.bytes, 0, reply.length);
  if (!('found' in result)) return result;
  const { value, ...state } = result.found;
  return { ...state, value: Buffer.from(value).toString() };
}

t.test('a replica goes on with a store of level 1, with its leases and its ends', async (t) => {
  const data = goldenDirectory(t, 'disk-4');
  const file = readdirSync(data).find((name) => name.startsWith('snapshot-'))!;
  const owner = { clusterHi: 0x01234567, clusterLo: 0x09abcdef, replica: 0 };
  const snapshot = decodeSnapshotFile(new Uint8Array(readFileSync(join(data, file))), owner, hash, file)!;
  t.same(featureNames(featuresIn(snapshot)), ['store']);
  t.equal(snapshot.index, 56);
  const saved = new KvMachine();
  saved.restore(machineBytes(snapshot));
  t.equal(saved.level, 1);
  t.same(saved.snapshot(), machineBytes(snapshot));
  const held = { revision: 3, ends: 1_827_654_174_322, lease: 2, value: 'by the lease' };
  const ending = { revision: 4, ends: 1_827_654_174_397, lease: undefined, value: 'in a year' };
  t.same(readIn(saved, 'held'), held);
  t.same(readIn(saved, 'ending'), ending);
  t.same(readIn(saved, 'leader'), { revision: 7, ends: undefined, lease: undefined, value: 'me' });
  t.match(readIn(saved, 'brief'), { status: 'not-found' });
  const cluster = clusterAt(24_786);
  for (const round of [1, 2]) {
    const machine = new KvMachine();
    const replica = await Replica.start({ cluster, id: 0, machine, data, durability: 'fsync', logger: silentLogger });
    t.equal(replica.status().incarnation, 1 + round);
    t.same(replica.status().features?.on, ['store']);
    t.equal(machine.level, 1);
    await hasValues(t, cluster, 50);
    t.same(readIn(machine, 'held'), { ...held, ends: 1_827_654_174_720 }, 'the renewal is in the log');
    t.same(readIn(machine, 'ending'), ending);
    t.same(readIn(machine, 'term'), { revision: 29, ends: undefined, lease: undefined, value: 'two' });
    t.match(readIn(machine, 'leader'), { status: 'not-found', revision: 30 });
    if (round === 2) {
      await using client = await Client.connect({ cluster, lanes: 1, logger: silentLogger });
      const store = new StoreClient(client);
      const { revision } = await store.put('after', 'it');
      t.ok(revision > 30, `revision ${revision}`);
      t.match(await store.put('term', 'three', { if: { revision: 29 } }), { ok: true, revision: revision + 1 });
    }
    await replica.close();
  }
});

t.test('a replica goes on in the epoch that its directory knows, whatever its cluster file says', async (t) => {
  for (const durability of ['fsync', 'memory'] as const) {
    const data = goldenDirectory(t, 'disk-3');
    const version = (): number => readI32(new Uint8Array(readFileSync(join(data, 'hard-state'))), 4);
    t.equal(version(), MEMBERS_BEHIND_RECORD_FORMAT);
    for (const round of [1, 2]) {
      const replica = await Replica.start({
        cluster: clusterAt(24_785), // the file says where one may ask
        id: 0,
        machine: new KvMachine(),
        data,
        durability,
        logger: silentLogger,
      });
      const status = replica.status();
      t.equal(status.incarnation, 1 + round);
      t.equal(status.identity, '2087c351fd5b55c2');
      t.match(status.membership, {
        epoch: 1,
        hosts: [
          { id: 0, votes: true },
          { id: 1, votes: false },
        ],
      });
      if (durability === 'fsync') {
        await hasValues(t, clusterAt(24_784), 50);
      }
      await replica.close();
      t.equal(version(), MEMBERS_HARD_STATE_FORMAT, 'an older release refuses it, and so it stays');
    }
  }
});

t.test('a directory without its file members, or with an old one, is refused', async (t) => {
  for (const durability of ['fsync', 'memory'] as const) {
    const data = goldenDirectory(t, 'disk-3');
    const start = (): Promise<Replica> =>
      Replica.start({
        cluster: clusterAt(24_784),
        id: 0,
        machine: new KvMachine(),
        data,
        durability,
        logger: silentLogger,
      });
    const path = join(data, 'members');
    const members = readFileSync(path);
    rmSync(path);
    await t.rejects(start(), {
      code: 'members-corrupt',
      message: /\/members is missing, and the promises beside it were written with those that entry 38 made/,
    });
    const owner = { clusterHi: 0x01234567, clusterLo: 0x09abcdef };
    const list = decodeMembersFile(new Uint8Array(members), owner, hash, path);
    writeFileSync(path, encodeMembersFile({ ...list, index: 37 }, owner, hash));
    await t.rejects(start(), { code: 'members-corrupt', message: /\/members is an old one/ });
    // What a crash between the two files leaves.
    writeFileSync(path, encodeMembersFile({ ...list, index: 39 }, owner, hash));
    await (await start()).close();
  }
});

t.test('format 2 of a hard state: a slot counts with all of its bytes, or not at all', (t) => {
  const image = readFileSync(join(GOLDEN, 'disk-3', 'hard-state'));
  const owner = { clusterHi: 0x01234567, clusterLo: 0x09abcdef, replica: 0 };
  const whole = decodeHardState(image, owner, hash, 'hard-state');
  t.equal(whole.membersIndex, 38);
  for (let at = 0; at < 2 * SLOT_BYTES; at++) {
    const bytes = new Uint8Array(image);
    bytes[at]! ^= 1 << (at % 8);
    const found = decodeHardState(bytes, owner, hash, 'hard-state');
    if (JSON.stringify(found) !== JSON.stringify(whole)) t.fail(`byte ${at}: ${JSON.stringify(found)}`);
    bytes[(at + SLOT_BYTES) % (2 * SLOT_BYTES)]! ^= 1;
    try {
      decodeHardState(bytes, owner, hash, 'hard-state');
      t.fail(`byte ${at} of both slots may be anything`);
    } catch (error) {
      if ((error as { code?: string }).code !== 'hard-state-corrupt') throw error;
    }
  }
  t.end();
});

t.test('format 3 of a hard state is read, and written as it was', (t) => {
  const golden = new Uint8Array(readFileSync(join(GOLDEN, 'hard-state-3')));
  const addresses = ['10.0.0.1:7400', '10.0.0.2:7400', '10.0.0.3:7400'];
  const owner = { clusterHi: 0x01234567, clusterLo: 0x09abcdef, replica: 2, addresses, areSeeds: true };
  const found = decodeHardState(golden, owner, hash, 'hard-state');
  t.match(found, { sequence: 5, identity: '2087c351fd5b55c2', membersIndex: 38, format: 3, addresses });
  t.match(found.state, { view: 262_145, logView: 262_144, incarnation: 6 });
  t.match([found.state.known?.length, found.state.known?.[30], found.state.lives?.[30]], [31, 31, -31]);
  const list = decodeMembersFile(
    new Uint8Array(readFileSync(join(GOLDEN, 'disk-3', 'members'))),
    owner,
    hash,
    'members',
  );
  const members = encodeMembership(membershipOf(list));
  const image = new Uint8Array(HARD_STATE_BYTES);
  t.equal(encodeHardState(image, { ...found.state, members }, found.identity!, 5, owner, hash, 3), HARD_STATE_BYTES);
  t.same(image, golden);
  t.end();
});

t.test('a backup of the previous version is read', (t) => {
  const backup = decodeBackup(new Uint8Array(readFileSync(join(GOLDEN, 'backup-1'))), hash, 'backup-1');
  t.match(backup, { id: 'b7405f683550862c', lastIndex: 41, log: { snapshot: { index: 36 } } });
  t.equal(backup.log.entries.length, 5);
  t.end();
});

/** Gives the record at `bytes[offset]` another format number, and the checksum that belongs to it. */
function renumber(bytes: Uint8Array, offset: number, at: number, format: number, checked: number): void {
  writeI32(bytes, offset + at, format);
  hash.hash64(bytes, offset, checked, bytes, offset + checked);
}

t.test('a format that is not known is refused with the name of the file and what to do', async (t) => {
  const files = readdirSync(join(GOLDEN, 'disk-1'));
  const segment = files.find((name) => name.startsWith('log-'))!;
  const snapshot = files.find((name) => name.startsWith('snapshot-'))!;
  const newer = Math.max(FORMATS.log.newest, FORMATS.hardState.newest) + 1;
  const cases: readonly (readonly [file: string, change: (bytes: Uint8Array) => void])[] = [
    ['hard-state', (bytes) => [0, SLOT_BYTES].forEach((slot) => renumber(bytes, slot, 4, newer, 64 - 8))],
    [segment, (bytes) => renumber(bytes, 0, 4, newer, 56)],
    [snapshot, (bytes) => renumber(bytes, 0, 4, newer, 56)],
    [
      snapshot,
      (bytes) => {
        writeI32(bytes, SNAPSHOT_HEADER_BYTES, SNAPSHOT_FORMAT.newest + 1);
        hash.hash64(bytes, SNAPSHOT_HEADER_BYTES, bytes.length - SNAPSHOT_HEADER_BYTES, bytes, 44);
        hash.hash64(bytes, 0, 56, bytes, 56);
      },
    ],
  ];
  for (const [file, change] of cases) {
    const data = goldenDirectory(t);
    const bytes = new Uint8Array(readFileSync(join(data, file)));
    change(bytes);
    writeFileSync(join(data, file), bytes);
    const error: unknown = await Replica.start({
      cluster: clusterAt(24_782),
      id: 0,
      machine: new KvMachine(),
      data,
      durability: 'fsync',
      logger: silentLogger,
    }).then(
      (replica) => replica.close(),
      (error: unknown) => error,
    );
    t.ok(error instanceof JitPaxosError, `${file}: ${String(error)}`);
    t.match(error, { code: 'data-directory-unusable' });
    t.match(
      (error as Error).message,
      new RegExp(
        `${data}/${file}.* format \\d, and this version of jitpaxos reads (format 1|formats 1 to [23]); use the version that wrote it, or a newer one`,
      ),
    );
    t.same(new Uint8Array(readFileSync(join(data, file))), bytes, 'it is left as it was, for who can read it');
  }
  const backup = new Uint8Array(readFileSync(join(GOLDEN, 'backup-1')));
  renumber(backup, 0, 4, FORMATS.backup.newest + 1, 68);
  t.throws(() => decodeBackup(backup, hash, 'old/backup-1'), {
    code: 'backup-unusable',
    message: /^old\/backup-1 was written in format 2.*use the version that wrote it, or a newer one/,
  });
});

t.test('a format is read one release before it is written', (t) => {
  // Each feature that a snapshot has to say something of has a format of its own, written once it is on. A hard state
  // beside changed members has had two.
  const three = ['snapshot', 'hardState'];
  for (const [name, { oldest, newest, written }] of Object.entries({ ...FORMATS, snapshot: SNAPSHOT_FORMAT }))
    t.ok(oldest <= written && written <= newest && newest - oldest <= (three.includes(name) ? 2 : 1), name);
  t.end();
});

t.test('the headers of a keyed log: format 2, a fingerprint, and nothing in them can be changed', (t) => {
  const owner = { clusterHi: 1, clusterLo: 2, replica: 0 };
  const header = { generation: 3, ordinal: 4, mode: 'fsync', bootId: 'ab'.repeat(16), saltHi: 5, saltLo: 6 } as const;
  const unkeyed = encodeSegmentHeader({ ...header, chain: UNKEYED_FINGERPRINT }, owner, hash);
  t.equal(readI32(unkeyed, 4), FORMATS.log.written);
  t.ok(
    unkeyed.subarray(64).every((byte) => byte === 0),
    'without a secret it is what releases before wrote',
  );
  const keyed = encodeSegmentHeader({ ...header, chain: -559038737 }, owner, hash);
  t.equal(readI32(keyed, 4), KEYED_LOG_FORMAT);
  t.same(decodeSegmentHeader(keyed, owner, hash, 'log', -559038737), { ...header, chain: -559038737 });
  t.same(decodeSegmentHeader(keyed, owner, hash, 'log'), { ...header, chain: -559038737 }, 'tools need no secret');
  t.same(decodeSegmentHeader(unkeyed, owner, hash, 'log'), { ...header, chain: UNKEYED_FINGERPRINT });
  t.throws(() => decodeSegmentHeader(keyed, owner, hash, 'dir/log', 7), {
    code: 'chain-differs',
    message: /^dir\/log .*fingerprint deadbeef, but by .* fingerprint 00000007;/,
  });
  t.throws(() => decodeSegmentHeader(unkeyed, owner, hash, 'dir/log', 7), {
    code: 'chain-differs',
    message: /has no secret, but by/,
  });
  t.throws(() => decodeSegmentHeader(keyed, owner, hash, 'dir/log', UNKEYED_FINGERPRINT), {
    code: 'chain-differs',
    message: /deadbeef, but by .* it has no secret/,
  });
  for (let bit = 0; bit < keyed.length * 8; bit++) {
    const bytes = keyed.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    if (decodeSegmentHeader(bytes, owner, hash, 'log') !== undefined)
      t.fail(`bit ${bit} of the header may be anything`);
  }
  for (let length = 0; length < keyed.length; length++)
    if (decodeSegmentHeader(keyed.slice(0, length), owner, hash, 'log') !== undefined)
      t.fail(`${length} bytes are a header`);

  const snapshot = { index: 9, chainHi: 1, chainLo: 2, bytes: new Uint8Array([1, 2, 3]) };
  for (const chain of [UNKEYED_FINGERPRINT, 77]) {
    const file = Buffer.concat([encodeSnapshotHeader(snapshot, owner, hash, chain), snapshot.bytes]);
    t.match(decodeSnapshotFile(file, owner, hash, 'snapshot', chain), { index: 9, chainHi: 1, chainLo: 2 });
    t.match(decodeSnapshotFile(file, owner, hash, 'snapshot'), { index: 9 });
    t.throws(() => decodeSnapshotFile(file, owner, hash, 'dir/snapshot', 78), {
      code: 'chain-differs',
      message: /^dir\/snapshot/,
    });
    for (let bit = 0; bit < file.length * 8; bit++) {
      const bytes = Buffer.from(file);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      if (decodeSnapshotFile(bytes, owner, hash, 'snapshot') !== undefined)
        t.fail(`bit ${bit} of a snapshot's file may be anything`);
    }
  }
  t.end();
});
