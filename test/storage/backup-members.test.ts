// A cluster that begins with a backup has none of the members of the cluster that was backed up: its own hosts could
// neither speak under their ids nor form a majority.
import t from 'tap';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { FEATURE_NAMES, featureOperation, featuresNamed } from '../../src/protocol/log/features.js';
import { decodeSnapshot, featuresIn, machineBytes, membershipIn } from '../../src/protocol/log/snapshots.js';
import { encodeMembership, firstMembership, type Membership } from '../../src/protocol/membership/membership.js';
import { change } from '../../src/protocol/membership/changes.js';
import { decodeOperation, encodeOperation } from '../../src/protocol/membership/operations.js';
import { unkeyedChain } from '../../src/protocol/contract.js';
import { loadHash } from '../../src/native/hash64.js';
import { beginMembersAnew } from '../../src/storage/backup-members.js';
import { RequestFlag } from '../../src/wire/messages.js';
import { writeI32, writeIndex } from '../../src/wire/u64.js';

const chain = unkeyedChain(loadHash());
const learn = encodeOperation({ kind: 'learn', identityHi: 1, identityLo: 2, address: '10.0.0.4:7400' });
const MEMBERSHIP = featuresNamed(['membership']);

function entry(flags: number, operation: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(ENTRY_HEADER_BYTES + operation.length);
  bytes[22] = flags;
  bytes.set(operation, ENTRY_HEADER_BYTES);
  return bytes;
}

const isChange = (bytes: Uint8Array): boolean =>
  decodeOperation(bytes, ENTRY_HEADER_BYTES, bytes.length - ENTRY_HEADER_BYTES) !== undefined;

t.test('changes of the members stay in the log, and are none any more', (t) => {
  const switchOn = featureOperation(FEATURE_NAMES.indexOf('membership') + 1, chain);
  const entries = [
    entry(RequestFlag.configure, learn), // the feature is off: it was one of the machine
    entry(RequestFlag.feature, switchOn),
    entry(0, learn), // the machine's as well
    entry(RequestFlag.configure, learn),
    entry(RequestFlag.configure, encodeOperation({ kind: 'change', from: 0, to: 1, ids: [0, 1, 3] })),
    entry(RequestFlag.configure, encodeOperation({ kind: 'go', epoch: 1 })),
    entry(RequestFlag.configure, Uint8Array.of(77, 78, 79, 80)), // was without an effect
  ];
  const before = entries.map((bytes) => bytes.slice());
  t.equal(beginMembersAnew(undefined, entries, 3, 0, chain), undefined);
  t.same(entries.map(isChange), [true, false, true, false, false, false, false]);
  for (const at of [0, 1, 2, 6]) t.same(entries[at], before[at], `entry ${at} stays`);
  for (const [at, bytes] of entries.entries()) {
    t.equal(bytes.length, before[at]!.length);
    t.same(bytes.subarray(0, ENTRY_HEADER_BYTES), before[at]!.subarray(0, ENTRY_HEADER_BYTES));
  }
  t.end();
});

t.test('the feature is on from the beginning', (t) => {
  const entries = [entry(RequestFlag.configure, learn)];
  beginMembersAnew(undefined, entries, 3, MEMBERSHIP, chain);
  t.same(entries.map(isChange), [false]);
  t.end();
});

t.test('a snapshot has the first members of the new cluster, and the rest as it was', (t) => {
  const named = { kind: 'name', id: 2, identityHi: 1, identityLo: 2, address: '10.0.0.3:7400' } as const;
  const old: Membership = change(firstMembership(5), named, 7, false).membership;
  const hosts = encodeMembership(old);
  const machine = Uint8Array.of(1, 2, 3);
  const bytes = new Uint8Array(48 + hosts.length + machine.length);
  writeI32(bytes, 0, 3);
  writeIndex(bytes, 4, 99);
  writeI32(bytes, 12, 11);
  writeI32(bytes, 16, 12);
  writeI32(bytes, 40, MEMBERSHIP);
  writeI32(bytes, 44, hosts.length);
  bytes.set(hosts, 48);
  bytes.set(machine, 48 + hosts.length);
  const snapshot = decodeSnapshot(bytes)!;
  t.equal(membershipIn(snapshot)!.index, 7);
  const entries = [entry(RequestFlag.configure, learn)];
  const anew = beginMembersAnew(snapshot, entries, 3, 0, chain)!;
  t.same(membershipIn(anew), firstMembership(3));
  t.same(decodeSnapshot(anew.bytes), anew);
  t.equal(anew.index, 99);
  t.equal(featuresIn(anew), MEMBERSHIP);
  t.same(machineBytes(anew), machine);
  t.same(entries.map(isChange), [false], 'the snapshot says that the feature is on');

  const hashed = beginMembersAnew({ ...snapshot, digest: new Uint8Array(8) }, [], 3, 0, chain)!;
  t.equal(hashed.digest, undefined, 'the digest of the bytes before is not that of these');

  const without = decodeSnapshot(Uint8Array.from([0, 0, 0, 1, ...new Uint8Array(36)]))!;
  t.equal(beginMembersAnew(without, [], 3, 0, chain), without);
  t.end();
});
