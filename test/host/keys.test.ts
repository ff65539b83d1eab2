/**
 * Key files, the keyring, and what a replica hears: whoever has no key, the wrong one or too little of one is not
 * heard.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import { exposureOf, loadKeys, type KeyEntry, type KeyFile, type KeyRole } from '../../src/host/key-file.js';
import { FORGED_KEYS_MAX, forgedReport, Keyring } from '../../src/host/keyring.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { Peers } from '../../src/wire/peers.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { CLIENT_SENDER, DROP_REASON_NAMES, Envelope } from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Read, Request, RequestFlag } from '../../src/wire/messages.js';
import { writeU16 } from '../../src/wire/u64.js';

const CLUSTER = '00000001000000ff';
const REPLICAS = 3;
const REPLICA_KEY = 1;
const CLIENT_KEY = 2;
const READER_KEY = 3;
const OPERATOR_KEY = 4;
const hash = loadHash();

const entry = (id: number, role: KeyRole): KeyEntry => ({ id, role, secret: randomBytes(32).toString('hex') });
const ALL = [entry(REPLICA_KEY, 'replica'), entry(CLIENT_KEY, 'client'), entry(READER_KEY, 'read-only')];
const file = (use: number, keys: readonly KeyEntry[] = ALL): KeyFile => ({
  schema: 'jitpaxos.keys/1',
  cluster: CLUSTER,
  use,
  keys,
});
const clientRing = (key: KeyEntry): Keyring => new Keyring(file(key.id, [key]), false);

function envelopeOf(sender: number, ring: Keyring | undefined): Envelope {
  return new Envelope(hash, 1, 255, sender, REPLICAS, ring);
}

/** A datagram with one Request, or one Read. */
function datagram(
  sender: number,
  ring: Keyring | undefined,
  slot: number,
  flags: number,
  message: typeof Request | typeof Read = Request,
  version = WIRE_VERSION,
): Uint8Array {
  const envelope = envelopeOf(sender, ring);
  const head = envelope.bytesIn(version);
  const bytes = new Uint8Array(head + message.size + 5);
  begin(message, bytes, head);
  if (message === Request) bytes[head + Request.at.flags] = flags;
  writeU16(bytes, head + message.at.operation, 5);
  if (!envelope.seal(bytes, 0, bytes.length, slot, version)) throw new Error('not sealed');
  return bytes;
}

function peersOf(keys: { readonly own: number } | undefined): Peers {
  const now = { monotonicUs: 0 };
  return new Peers({
    self: 0,
    replicas: REPLICAS,
    endpoints: 4,
    newest: WIRE_VERSION,
    now,
    keys,
    numbers: hash,
  });
}

/** What a process with `ring` makes of a datagram: how many messages it heard, or why none. */
function hear(ring: Keyring | undefined, isReplica: boolean, bytes: Uint8Array): string {
  const envelope = envelopeOf(isReplica ? 0 : CLIENT_SENDER, ring);
  const reader = new DatagramReader(
    envelope,
    { sender: () => REPLICAS },
    isReplica,
    () => undefined,
    peersOf(ring),
    ring,
  );
  const messages = reader.read(bytes.slice(), 0, bytes.length);
  const refused = reader.drops.findIndex((count) => count > 0);
  return refused < 0 ? `${messages} heard` : DROP_REASON_NAMES[refused]!;
}

t.test('who is heard', async (t) => {
  const replicas = new Keyring(file(REPLICA_KEY), true);
  const client = clientRing(ALL[1]!);
  const reader = clientRing(ALL[2]!);
  const heard = '1 heard';

  t.equal(hear(replicas, true, datagram(1, replicas, replicas.own, 0)), heard, 'a replica');
  t.equal(hear(replicas, true, datagram(CLIENT_SENDER, client, client.own, 0)), heard, 'a client');
  t.equal(hear(replicas, true, datagram(CLIENT_SENDER, reader, reader.own, 0, Read)), heard, 'a reader that reads');
  t.equal(
    hear(replicas, true, datagram(CLIENT_SENDER, reader, reader.own, RequestFlag.register)),
    heard,
    'a reader that registers',
  );
  t.equal(
    hear(replicas, true, datagram(CLIENT_SENDER, reader, reader.own, RequestFlag.query)),
    heard,
    'a reader whose read goes through the log',
  );
  t.equal(hear(replicas, true, datagram(CLIENT_SENDER, reader, reader.own, 0)), 'role', 'a reader that writes');
  const operatorKey = entry(OPERATOR_KEY, 'operator');
  const operators = new Keyring(file(REPLICA_KEY, [...ALL, operatorKey]), true);
  const operator = clientRing(operatorKey);
  for (const version of [PREVIOUS_WIRE_VERSION, WIRE_VERSION])
    for (const flags of [0, RequestFlag.register, RequestFlag.configure, 0xff]) {
      const sent = (ring: Keyring): string => {
        const bytes = datagram(CLIENT_SENDER, ring, ring.own, flags, undefined, version);
        return hear(operators, true, bytes);
      };
      const asks = (flags & RequestFlag.configure) !== 0;
      const what = `flags ${flags}, version ${version}`;
      t.equal(sent(operator), heard, `an operator, ${what}`);
      t.equal(sent(client), asks ? 'role' : heard, `a client, ${what}`);
      t.equal(sent(reader), asks || flags === 0 ? 'role' : heard, `a reader, ${what}`);
    }
  t.equal(hear(operators, true, datagram(1, operator, operator.own, 0)), 'role', 'an operator that plays a replica');
  for (const ring of [operators, operator]) ring.close();
  t.equal(hear(client, false, datagram(1, replicas, replicas.find(CLIENT_KEY), 0)), heard, 'an answer, at the client');
  t.equal(
    hear(client, false, datagram(1, replicas, replicas.find(READER_KEY), 0)),
    'key',
    "another client's answer, at the client",
  );

  t.equal(hear(replicas, true, datagram(1, client, client.own, 0)), 'role', 'a client that plays a replica');
  t.equal(
    hear(replicas, true, datagram(CLIENT_SENDER, replicas, replicas.own, 0)),
    'role',
    "a replica's key is no client's",
  );
  t.equal(
    hear(client, false, datagram(CLIENT_SENDER, client, client.own, 0)),
    'role',
    'a client that talks to a client',
  );
  t.equal(hear(replicas, true, datagram(1, undefined, -1, 0)), 'key', 'nobody, with a checksum');
  t.equal(
    hear(undefined, true, datagram(1, replicas, replicas.own, 0)),
    'cluster',
    'encrypted, where nobody has a key',
  );
  const impostor = new Keyring(file(REPLICA_KEY, [{ ...ALL[0]!, secret: '00'.repeat(32) }]), true);
  t.equal(
    hear(replicas, true, datagram(1, impostor, impostor.own, 0)),
    'checksum',
    'the right id with the wrong secret',
  );
  const stranger = new Keyring(file(9, [entry(9, 'replica')]), true);
  t.equal(hear(replicas, true, datagram(1, stranger, stranger.own, 0)), 'key', 'an unknown id');
  for (const ring of [replicas, client, reader, impostor, stranger]) ring.close();
});

t.test('every flipped bit and every prefix of an authenticated datagram is refused', async (t) => {
  const ring = new Keyring(file(REPLICA_KEY), true);
  const sealed = datagram(1, ring, ring.own, 0);
  let taken = 0;
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const bytes = sealed.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    if (hear(ring, true, bytes) === '1 heard') taken++;
  }
  for (let length = 0; length < sealed.length; length++)
    if (hear(ring, true, sealed.subarray(0, length)) === '1 heard') taken++;
  t.equal(taken, 0);
  t.equal(hear(ring, true, sealed), '1 heard', 'the datagram itself is not');
  ring.close();
});

t.test('what is not authentic is counted under the key that it names, for loaded keys', async (t) => {
  const ring = new Keyring(file(REPLICA_KEY), true);
  const envelope = envelopeOf(0, ring);
  const open = (bytes: Uint8Array): void => void envelope.open(bytes.slice(), 0, bytes.length);
  const [client, reader] = [clientRing(ALL[1]!), clientRing(ALL[2]!)];
  const stranger = clientRing(entry(9, 'client'));
  const of = (sender: Keyring): Uint8Array => datagram(CLIENT_SENDER, sender, sender.own, 0);
  const spoilt = (bytes: Uint8Array): Uint8Array => {
    bytes[bytes.length - 1]! ^= 1;
    return bytes;
  };
  const reported = (): [number, number][] =>
    Object.entries(forgedReport(envelope.forged, ring)).map(([id, count]) => [Number(id), count]);
  t.same(reported(), []);
  open(of(client));
  t.same(reported(), [], 'an authentic one');
  open(of(stranger));
  t.same(reported(), [], 'a key that is not loaded has no count, or anybody could make up keys');
  open(spoilt(of(reader)));
  for (let i = 0; i < 3; i++) open(spoilt(of(client)));
  const previous = of(reader);
  envelopeOf(CLIENT_SENDER, reader).seal(previous, 0, previous.length, reader.own, PREVIOUS_WIRE_VERSION);
  open(spoilt(previous));
  t.same(reported(), [
    [CLIENT_KEY, 3],
    [READER_KEY, 2],
  ]);
  ring.replace(file(REPLICA_KEY, [ALL[0]!, ALL[2]!]));
  t.same(reported(), [[READER_KEY, 2]], 'a key that was removed');
  const many = Array.from({ length: 1_024 }, (_, slot) => slot + 1);
  const most = Object.values(forgedReport(many, { idOf: (slot) => slot + 1 }));
  t.same([most.length, Math.max(...most), Math.min(...most)], [FORGED_KEYS_MAX, 1_024, 1_025 - FORGED_KEYS_MAX]);
  for (const each of [ring, client, reader, stranger]) each.close();
});

t.test('rotation: keys that stay keep their slots, a key that is gone is neither heard nor spoken under', async (t) => {
  const ring = new Keyring(file(REPLICA_KEY), true);
  const clientSlot = ring.find(CLIENT_KEY);
  const next = entry(7, 'replica');
  t.same(ring.replace(file(7, [...ALL, next])), { added: [7], removed: [] });
  t.equal(ring.own, ring.find(7));
  t.equal(ring.find(CLIENT_KEY), clientSlot);
  const old = new Keyring(file(REPLICA_KEY), true);
  t.equal(hear(ring, true, datagram(1, old, old.own, 0)), '1 heard', 'overlap: the old key is still heard');
  t.same(ring.replace(file(7, [next, ALL[2]!])), { added: [], removed: [REPLICA_KEY, CLIENT_KEY] });
  t.equal(hear(ring, true, datagram(1, old, old.own, 0)), 'key');
  t.equal(
    envelopeOf(0, ring).seal(new Uint8Array(100), 0, 100, clientSlot),
    false,
    'no answer under a key that is gone',
  );
  t.same(
    ring.replace(file(7, [next, { ...ALL[2]!, secret: 'ab'.repeat(32) }])),
    { added: [READER_KEY], removed: [READER_KEY] },
    'another secret is another key',
  );
  t.not(ring.find(READER_KEY), clientSlot, 'a slot is not given again');
  ring.close();
  old.close();
});

t.test('answers go out under the key that the client spoke under', async (t) => {
  const peers = peersOf({ own: 5 });
  t.equal(peers.keyFor(2), 5);
  t.equal(peers.keyFor(REPLICAS), -1, 'nobody spoke');
  peers.heard(REPLICAS, 1, WIRE_VERSION, 100);
  peers.heard(REPLICAS + 1, 2, WIRE_VERSION, 100);
  t.equal(peers.keyFor(REPLICAS), 1);
  t.equal(peers.keyFor(REPLICAS + 1), 2);
});

t.test('a key file is refused with its reason, and no message holds a secret', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-keys-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'replica.keys');
  const secrets = ALL.map(({ secret }) => secret);
  const refused = (
    code: string,
    says: RegExp,
    content: unknown,
    speaksFor: 'replica' | 'client' = 'replica',
    mode = 0o600,
  ): void => {
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    chmodSync(path, mode);
    try {
      loadKeys(path, CLUSTER, speaksFor);
      t.fail(`taken: ${String(says)}`);
    } catch (error) {
      const { message } = error as Error;
      t.match(error, { code }, `${code}: ${message}`);
      t.match(message, says);
      t.notOk(
        secrets.some((secret) => message.includes(secret.slice(0, 8))),
        'no secret',
      );
    }
  };
  refused('key-file-exposed', /mode 0644.*chmod 600/, file(1), 'replica', 0o644);
  refused('key-file-exposed', /mode 0620/, file(1), 'replica', 0o620);
  refused(
    'key-file-invalid',
    /"keys"\[3\]: key 4 has the same secret as key 2; each key needs its own/,
    file(1, [...ALL, { id: 4, role: 'client', secret: ALL[1]!.secret.toUpperCase() }]),
  );
  refused('key-file-invalid', /not JSON/, `{"keys": "${secrets[0]!}"`);
  refused('key-file-invalid', /"schema"/, { ...file(1), schema: 'x' });
  refused('key-file-invalid', /cluster file's id is 00000001000000ff/, { ...file(1), cluster: '0'.repeat(16) });
  refused('key-file-invalid', /"use" is 4/, file(4));
  refused('key-file-invalid', /"keys"\[1\].*"id" 1 is there already/, file(1, [ALL[0]!, ALL[0]!]));
  refused('key-file-invalid', /"keys"\[0\].*"secret"/, file(1, [{ ...ALL[0]!, secret: `${secrets[0]!.slice(1)}x` }]));
  // The neighbours of the digits, and one that Buffer.from takes for the digit "A".
  for (const wrong of ['/', ':', '@', 'G', '`', 'g', '\u0141', ''])
    refused('key-file-invalid', /"secret"/, file(1, [{ ...ALL[0]!, secret: secrets[0]!.slice(1) + wrong }]));
  refused('key-file-invalid', /"role"/, file(1, [{ ...ALL[0]!, role: 'king' as KeyRole }]));
  const secret = 'c0'.repeat(16);
  for (const chainSecret of [secret.slice(2), `${secret}00`, `${secret.slice(1)}x`, 5])
    refused('key-file-invalid', /"chainSecret" has to be a string of 32 hexadecimal digits/, {
      ...file(1),
      chainSecret,
    });
  refused(
    'key-file-invalid',
    /has a "chainSecret", which is only for replicas/,
    { ...file(2), chainSecret: secret },
    'client',
  );
  refused('key-file-invalid', /"id" is 0/, file(1, [{ ...ALL[0]!, id: 0 }]));
  refused('key-file-invalid', /1 to 1024/, file(1, []));
  refused('key-file-invalid', /did you mean "use"/, { ...file(1), uze: 1 });
  refused('key-file-invalid', /role "client".*replica needs/, file(CLIENT_KEY));
  refused('key-file-invalid', /not for clients/, file(REPLICA_KEY), 'client');
  t.throws(() => loadKeys(join(directory, 'none'), CLUSTER, 'replica'), { code: 'key-file-unreadable' });
  t.equal(loadKeys(file(READER_KEY), CLUSTER, 'client').use, READER_KEY);
});

t.test('a key file is private to its reader, or to root; root reads the files of the services of its host', (t) => {
  const of = (mode: number, uid: number, self: number): string | undefined =>
    exposureOf('x.keys', { mode: 0o100000 | mode, uid }, self);
  t.equal(of(0o600, 1001, 1001), undefined);
  t.equal(of(0o400, 0, 1001), undefined, 'a mounted secret belongs to root');
  t.equal(of(0o600, 1001, 0), undefined);
  t.match(of(0o600, 1002, 1001), /belongs to user 1002.*this process is user 1001; run `chown 1001 x\.keys`/);
  for (const mode of [0o604, 0o640, 0o620, 0o601]) t.match(of(mode, 1001, 1001), /chmod 600/, mode.toString(8));
  t.end();
});
