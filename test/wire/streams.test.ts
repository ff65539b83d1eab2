/**
 * Streams of encrypted datagrams: no stream key and counter twice, nothing kept of what is not authentic, the bounds of
 * the receivers' tables, and one fixed vector of keys and envelope.
 */
import { createHash, createHmac, randomInt } from 'node:crypto';
import t from 'tap';
import { Keyring, streamsKey } from '../../src/host/keyring.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { loadHash } from '../../src/native/hash64.js';
import { Random } from '../../src/sim/random.js';
import {
  CLIENT_SENDER,
  DROP_REASON_NAMES,
  ENVELOPE_BYTES,
  Envelope,
  SEALED_ENVELOPE_BYTES,
} from '../../src/wire/envelope.js';
import {
  AT_NONCE,
  AT_SALT,
  Direction,
  Opened,
  ReceivingStreams,
  SendingStreams,
  STALE_DATAGRAMS,
  type StreamCipher,
  type StreamSource,
} from '../../src/wire/streams.js';
import { readI32, writeI32 } from '../../src/wire/u64.js';

const CLUSTER = '0123456789abcdef';
const HI = 0x01234567;
const LO = 0x89abcdef | 0;
const REPLICAS = 3;
const VERSION = 5;
const hash = loadHash();

/** A cipher that copies: "intact" is a datagram whose tag is its key. */
class PlainCipher implements StreamCipher {
  readonly key = new Uint8Array(16);
  setKey(key: Uint8Array): void {
    this.key.set(key);
  }
  seal(bytes: Uint8Array, offset: number): void {
    bytes.set(this.key, offset + 25);
  }
  open(bytes: Uint8Array, offset: number): boolean {
    return this.key.every((byte, i) => bytes[offset + 25 + i] === byte);
  }
  forget(): void {
    this.key.fill(0);
  }
}

class PlainSource implements StreamSource {
  readonly watchers: ((slot: number) => void)[] = [];
  ciphers = 0;
  derivations = 0;
  constructor(readonly draw: (target: Int32Array<ArrayBuffer>) => void) {}
  streamKey(slot: number, identity: Uint8Array, out: Uint8Array): void {
    this.derivations++;
    out.set(createHash('md5').update(`${slot}`).update(identity).digest());
  }
  cipher(): StreamCipher {
    this.ciphers++;
    return new PlainCipher();
  }
  watch(forget: (slot: number) => void): void {
    this.watchers.push(forget);
  }
}

const drawing = (random: Random) => (target: Int32Array<ArrayBuffer>) =>
  target.forEach((_, i) => (target[i] = random.below(2 ** 32) | 0));

t.test('a million restarts, ended streams and rotated keys: no stream key with one counter twice', async (t) => {
  const seed = randomInt(1, 1_000_000);
  t.comment(`seed ${seed}`);
  const STREAMS = 1_000_000;
  const LIMIT = 3;
  for (const { name, isReplica, draw } of [
    { name: 'a client', isReplica: false, draw: drawing(new Random(seed)) },
    // What a replica adds, its incarnation and its count of streams, suffices by itself.
    { name: 'a replica without random numbers', isReplica: true, draw: () => undefined },
  ]) {
    const random = new Random(seed + 1);
    const source = new PlainSource(draw);
    // Direction, sender and secret are always the same, also after a rotation, which may bring a key back under another
    // slot. So the salt alone makes the stream's key.
    source.streamKey = (_, identity, out) => out.set(identity.subarray(3, 19));
    const keys = new Set<string>();
    const datagram = new Uint8Array(SEALED_ENVELOPE_BYTES);
    let streams = 0;
    let repeated = 0;
    let restarts = 0;
    let ended = 0;
    let rotations = 0;
    for (let incarnation = 1; streams < STREAMS / 2; incarnation++) {
      source.watchers.length = 0;
      const sending = new SendingStreams(source, isReplica ? 1 : CLIENT_SENDER, isReplica, LIMIT);
      sending.incarnation = incarnation;
      const direction = isReplica ? Direction.toClient : Direction.toReplica;
      let last = '';
      let counter = 0;
      let slot = 7;
      restarts++;
      for (let left = 1 + random.below(4 * LIMIT); left > 0; left--) {
        if (random.below(6) === 0) {
          for (const forget of source.watchers) forget(slot);
          slot++;
          rotations++;
        } else if (counter === LIMIT) ended++;
        sending.seal(slot, direction, datagram, 0, datagram.length);
        const key = Buffer.from(datagram.subarray(25, 41)).toString('latin1');
        if (key !== last) {
          if (keys.has(key)) repeated++;
          keys.add(key);
          streams++;
          counter = 0;
          last = key;
        }
        if (readI32(datagram, AT_NONCE) !== 0 || readI32(datagram, AT_NONCE + 4) !== ++counter || counter > LIMIT)
          t.fail(`counter ${readI32(datagram, AT_NONCE + 4)} after ${counter - 1}`);
      }
    }
    t.equal(repeated, 0, `${name}: ${streams} streams`);
    t.equal(keys.size, streams);
    for (const times of [restarts, ended, rotations])
      t.ok(times > STREAMS / 20, `${restarts} restarts, ${ended} streams at their end, ${rotations} rotations`);
  }
});

t.test('a counter moves even if sealing fails', async (t) => {
  const counters: number[] = [];
  const source = new PlainSource(() => undefined);
  source.cipher = () => ({
    setKey: () => undefined,
    open: () => true,
    forget: () => undefined,
    seal: (bytes, offset) => {
      counters.push(readI32(bytes, offset + AT_NONCE + 4));
      throw new Error('no cipher today');
    },
  });
  const sending = new SendingStreams(source, 0, true);
  const datagram = new Uint8Array(SEALED_ENVELOPE_BYTES);
  for (let i = 0; i < 3; i++) t.throws(() => sending.seal(0, Direction.toClient, datagram, 0, datagram.length));
  t.same(counters, [1, 2, 3]);
});

/** Datagrams of one sender under the plain cipher. */
function sender(seed: number, slot = 1, from = CLIENT_SENDER): (counter?: number) => Uint8Array {
  const source = new PlainSource(drawing(new Random(seed)));
  const sending = new SendingStreams(source, from, from !== CLIENT_SENDER);
  return (counter) => {
    const datagram = new Uint8Array(SEALED_ENVELOPE_BYTES);
    sending.seal(
      slot,
      from === CLIENT_SENDER ? Direction.toReplica : Direction.betweenReplicas,
      datagram,
      0,
      datagram.length,
    );
    if (counter !== undefined) writeI32(datagram, AT_NONCE + 4, counter);
    return datagram;
  };
}

t.test('a receiver keeps nothing of a datagram that is not authentic, and bounded tables of the others', async (t) => {
  const source = new PlainSource(drawing(new Random(3)));
  const receiving = new ReceivingStreams(source, REPLICAS);
  const open = (datagram: Uint8Array, slot = 1): number =>
    receiving.open(slot, Direction.toReplica, CLIENT_SENDER, datagram.slice(), 0, datagram.length);

  const known = sender(1);
  t.equal(open(known()), Opened.intact);
  t.equal(source.derivations, 1);
  t.equal(open(known()), Opened.intact);
  t.equal(source.derivations, 1, 'a known stream costs no derivation');

  // Forged salts, more than the table holds.
  const forged = known();
  for (let i = 0; i < 10_000; i++) {
    writeI32(forged, AT_SALT, i);
    if (open(forged) !== Opened.forged) t.fail('a forged salt was taken');
  }
  const { ciphers } = source;
  t.equal(ciphers, 2, 'the known stream, and the candidate');
  const derivations = source.derivations;
  t.equal(open(known()), Opened.intact);
  t.equal(source.derivations, derivations, 'the stream is still known');

  // 4,096 others: the one unused for longest leaves, and comes back with its next datagram.
  const others = Array.from({ length: 4096 }, (_, i) => sender(10 + i));
  for (const other of others.slice(0, 4095)) t.equal(open(other()), Opened.intact);
  t.equal(open(known()), Opened.intact, 'used in between');
  t.equal(open(others[4095]!()), Opened.intact);
  const full = source.derivations;
  t.equal(open(known()), Opened.intact);
  for (const other of others.slice(1)) t.equal(open(other()), Opened.intact);
  t.equal(source.derivations, full, 'all but the oldest are known');
  t.equal(open(others[0]!()), Opened.intact);
  t.equal(source.derivations, full + 1, 'the oldest left');
  t.equal(source.ciphers, 4097, 'ciphers are used again');

  const wrong = known();
  t.equal(open(wrong, 2), Opened.forged, 'another key');
});

t.test('datagrams far behind are stale, and nonces that no sender uses are refused', async (t) => {
  const source = new PlainSource(drawing(new Random(4)));
  const receiving = new ReceivingStreams(source, REPLICAS);
  const open = (datagram: Uint8Array): number =>
    receiving.open(1, Direction.toReplica, CLIENT_SENDER, datagram, 0, datagram.length);
  const from = sender(5);
  t.equal(open(from(200_000)), Opened.intact);
  t.equal(open(from(200_000 - STALE_DATAGRAMS)), Opened.intact, 'late');
  t.equal(open(from(200_000 - STALE_DATAGRAMS - 1)), Opened.stale, 'too late');
  t.equal(open(from(200_001)), Opened.intact);
  t.equal(open(from(200_000 - STALE_DATAGRAMS)), Opened.stale);
  const forged = from(2 ** 31 - 1);
  forged[30]! ^= 1;
  t.equal(open(forged), Opened.forged);
  t.equal(open(from(200_000)), Opened.intact, 'a forged counter moves nothing');
  t.equal(open(from(0)), Opened.stale);
  t.equal(open(from(-1)), Opened.stale);
  const high = from(1);
  writeI32(high, AT_NONCE, 1);
  t.equal(open(high), Opened.stale);
});

t.test('of a replica four streams are remembered; a removed key takes its streams along', async (t) => {
  const source = new PlainSource(drawing(new Random(6)));
  const receiving = new ReceivingStreams(source, REPLICAS);
  const open = (datagram: Uint8Array, slot = 1, from = 2): number =>
    receiving.open(slot, Direction.betweenReplicas, from, datagram, 0, datagram.length);
  const lives = [1, 2, 3, 4, 5].map((life) => sender(life, 1, 2));
  for (const life of lives) for (let i = 0; i < 3; i++) t.equal(open(life()), Opened.intact);
  t.equal(receiving.returns[2], 0, 'a process that goes on in a new stream is no second one');
  const derivations = source.derivations;
  for (const i of [4, 1, 4, 2, 3]) t.equal(open(lives[i]!()), Opened.intact);
  t.equal(source.derivations, derivations);
  t.same([...receiving.returns], [0, 0, 4], 'equal ones that take turns are counted');
  t.equal(open(lives[0]!()), Opened.intact, 'understood, for a derivation');
  t.equal(source.derivations, derivations + 1);
  t.equal(open(sender(9, 1, 2)(), 1, 1), Opened.forged, 'in the name of another replica');

  const underSecond = sender(1, 2, 2);
  t.equal(open(underSecond(), 2), Opened.intact);
  for (const forget of source.watchers) forget(1);
  const before = source.derivations;
  t.equal(open(underSecond(), 2), Opened.intact);
  t.equal(source.derivations, before, 'the streams of other keys stay');
  t.equal(open(lives[0]!()), Opened.intact);
  t.equal(source.derivations, before + 1);
});

/** One life of host `host`: speaks in streams of `limit` datagrams under the plain cipher. */
function lifeOf(source: PlainSource, incarnation: number, limit: number, host = 2): () => Uint8Array {
  const sending = new SendingStreams(source, host, true, limit);
  sending.incarnation = incarnation;
  return () => {
    const datagram = new Uint8Array(SEALED_ENVELOPE_BYTES);
    sending.seal(1, Direction.betweenReplicas, datagram, 0, datagram.length);
    return datagram;
  };
}

t.test('recordings of lives and streams that ended are no second life, whatever their order', async (t) => {
  const seed = randomInt(1, 1_000_000);
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  const source = new PlainSource(drawing(random));
  const receiving = new ReceivingStreams(source, REPLICAS);
  const open = (datagram: Uint8Array): number =>
    receiving.open(1, Direction.betweenReplicas, 2, datagram.slice(), 0, datagram.length);
  const recorded: Uint8Array[] = [];
  for (let incarnation = 1; incarnation <= 9; incarnation++) {
    const limit = 2 + random.below(9);
    const life = lifeOf(source, incarnation, limit);
    // Lives of one stream, and of more than the table holds.
    for (let left = incarnation % 2 === 0 ? 2 : 6 * limit; left > 0; left--) {
      const datagram = life();
      recorded.push(datagram);
      if (open(datagram) !== Opened.intact) t.fail('not taken');
      // As the lives go on, anything that was recorded may come again.
      if (open(recorded[random.below(recorded.length)]!) !== Opened.intact) t.fail('a replay is understood');
    }
    // In the order in which it was recorded, between what the host says now.
    for (const again of recorded) {
      if (open(again) !== Opened.intact) t.fail('a replay is understood');
      if (random.below(3) > 0) continue;
      const datagram = life();
      const { derivations } = source;
      const isFirst = readI32(datagram, AT_NONCE + 4) === 1;
      if (open(datagram) !== Opened.intact) t.fail('not taken');
      if (source.derivations - derivations !== (isFirst ? 1 : 0)) t.fail('replays made it forget the stream in use');
    }
    t.equal(receiving.returns[2], 0, `incarnation ${incarnation}: one process at a time`);
  }
});

t.test('two lives are told for as long as both speak, in streams that end, and among replays', async (t) => {
  const seed = randomInt(1, 1_000_000);
  t.comment(`seed ${seed}`);
  for (const [first, second] of [
    [7, 8], // copied while it ran
    [8, 8], // copied while it was stopped
  ] as const)
    for (const share of [2, 4, 12]) {
      const random = new Random(seed + share);
      const source = new PlainSource(drawing(random));
      const receiving = new ReceivingStreams(source, REPLICAS);
      const recorded: Uint8Array[] = [];
      const open = (datagram: Uint8Array): number =>
        receiving.open(1, Direction.betweenReplicas, 2, datagram.slice(), 0, datagram.length);
      const hear = (datagram: Uint8Array, isRecorded: boolean): void => {
        if (isRecorded) recorded.push(datagram);
        if (open(datagram) !== Opened.intact) t.fail('not taken');
      };
      for (let incarnation = 1; incarnation < first; incarnation++) {
        const earlier = lifeOf(source, incarnation, 10);
        for (let i = 0; i < 25; i++) hear(earlier(), true);
      }
      const lives = [lifeOf(source, first, 100), lifeOf(source, second, 100)] as const;
      for (let i = 0; i < 3; i++) hear(lives[0](), false);
      let quiet = 0;
      for (let look = 0; look < 15; look++) {
        const before = receiving.returns[2]!;
        for (let i = 0; i < 300; i++) {
          // Recordings of streams of one incarnation can hide that it has two lives (security.md).
          hear(lives[random.below(share) === 0 ? 0 : 1](), first !== second);
          if (open(recorded[random.below(recorded.length)]!) !== Opened.intact) t.fail('a replay is understood');
        }
        if (receiving.returns[2]! - before < 3) quiet++;
      }
      t.equal(quiet, 0, `incarnations ${first} and ${second}, one datagram in ${share} of the first`);
    }
});

t.test('of two lives the one that is not earlier says nothing by speaking', async (t) => {
  const source = new PlainSource(drawing(new Random(8)));
  const receiving = new ReceivingStreams(source, REPLICAS);
  const open = (datagram: Uint8Array, from = 2): number =>
    receiving.open(1, Direction.betweenReplicas, from, datagram.slice(), 0, datagram.length, 2);
  const [earlier, later] = [lifeOf(source, 3, 100), lifeOf(source, 4, 100)];
  for (const life of [earlier, later, earlier, later, later, earlier, later]) t.equal(open(life()), Opened.intact);
  t.equal(receiving.returns[2], 2);
  for (let incarnation = 5; incarnation < 10; incarnation++)
    t.equal(open(lifeOf(source, incarnation, 100)()), Opened.intact);
  // Another host in its place: its incarnations are compared with its own only.
  const others = [lifeOf(source, 1, 100, 5), lifeOf(source, 2, 100, 5)] as const;
  for (const life of [others[0], others[1], others[0]]) t.equal(open(life(), 5), Opened.intact);
  t.equal(receiving.returns[2], 3);
});

const SECRETS = ['11'.repeat(32), '22'.repeat(32)] as const;
function ringOf(isReplica: boolean): Keyring {
  const file: KeyFile = {
    schema: 'jitpaxos.keys/1',
    cluster: CLUSTER,
    use: isReplica ? 1 : 2,
    keys: [
      ...(isReplica ? [{ id: 1, role: 'replica', secret: SECRETS[0] } as const] : []),
      { id: 2, role: 'client', secret: SECRETS[1] },
    ],
  };
  return new Keyring(file, isReplica);
}
const end = (self: number, ring: Keyring, newest = VERSION, oldest?: number): Envelope =>
  new Envelope(hash, HI, LO, self, REPLICAS, ring, newest, oldest);
const MESSAGES = Buffer.from('920142', 'hex');
function datagramOf(envelope: Envelope, slot: number, version = VERSION): Buffer {
  const head = envelope.bytesIn(version);
  const bytes = Buffer.concat([Buffer.alloc(head), MESSAGES]);
  if (!envelope.seal(bytes, 0, bytes.length, slot, version)) throw new Error('not sealed');
  return bytes;
}

const SALT = '00000009000000010a0b0c0d10203040';
const BASE = '731e8fc29989ba071e31632d5bce8f7ac35754f2b20b351b9b9ca528b8acf033';
const STREAM = '62e59646135c1d4ef6168bc2984d5679';
const DATAGRAM =
  '95ce4a495455cf0000000000000001cd0001ce00000001c4101db87ed971183ae974bcb971e0672400c41000000009000000010a0b0c0d10203040c50003ea23e2';

t.test('fixed vector: the key schedule, and an envelope of version 5', async (t) => {
  // Computed with Python's `hmac` and `cryptography`, from the description in docs/reference/wire.md alone.
  const base = streamsKey(Buffer.from(SECRETS[0], 'hex'), CLUSTER, 1);
  t.equal(Buffer.from(base).toString('hex'), BASE);
  const identity = Buffer.concat([Buffer.from('020001', 'hex'), Buffer.from(SALT, 'hex'), Buffer.of(1)]);
  t.equal(createHmac('sha256', base).update(identity).digest('hex').slice(0, 32), STREAM);
  const ring = ringOf(true);
  const out = new Uint8Array(16);
  ring.streamKey(ring.find(1), identity, out);
  t.equal(Buffer.from(out).toString('hex'), STREAM);

  ring.draw = (target) => target.set([1, 2, 0x0a0b0c0d, 0x10203040].slice(0, target.length));
  const one = end(1, ring);
  one.incarnation = 9;
  const bytes = datagramOf(one, ring.own);
  t.equal(bytes.toString('hex'), DATAGRAM);
  t.equal(end(0, ringOf(true)).open(bytes, 0, bytes.length), 1);
  t.equal(bytes.toString('hex', SEALED_ENVELOPE_BYTES), MESSAGES.toString('hex'));
  ring.close();
});
t.test('who understands whom, and what is refused', async (t) => {
  const replicaRing = ringOf(true);
  const clientRing = ringOf(false);
  const replica = end(0, replicaRing);
  const other = end(1, ringOf(true));
  const client = end(CLIENT_SENDER, clientRing);
  const opened = (by: Envelope, bytes: Buffer): string => {
    const sender = by.open(bytes, 0, bytes.length);
    return sender < 0 ? DROP_REASON_NAMES[-sender]! : `${sender}`;
  };
  const slotOf = (ring: Keyring, id: number): number => ring.find(id);
  t.equal(opened(replica, datagramOf(client, clientRing.own)), `${CLIENT_SENDER}`);
  t.same([replica.openedVersion, replica.openedBytes], [VERSION, SEALED_ENVELOPE_BYTES]);
  t.equal(opened(client, datagramOf(replica, slotOf(replicaRing, 2))), '0');
  t.equal(opened(other, datagramOf(replica, replicaRing.own)), '0');
  t.equal(opened(replica, datagramOf(client, clientRing.own, 4)), `${CLIENT_SENDER}`, 'version 4 beside it');
  t.same([replica.openedVersion, replica.openedBytes], [4, ENVELOPE_BYTES]);

  t.equal(opened(replica, datagramOf(replica, slotOf(replicaRing, 2))), 'role', "a replica under a client's key");
  const reflected = datagramOf(replica, slotOf(replicaRing, 2));
  reflected.writeUInt16BE(CLIENT_SENDER, 16);
  t.equal(opened(replica, reflected), 'checksum', 'sent back in the name of the client');

  for (const bytes of [datagramOf(client, clientRing.own), datagramOf(other, slotOf(replicaRing, 1))]) {
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1 << randomInt(8);
      const code = replica.open(changed, 0, changed.length);
      if (code >= 0) t.fail(`byte ${at} was changed, and it was taken`);
    }
    for (let length = 0; length < bytes.length; length++) {
      const cut = Buffer.from(bytes.subarray(0, length));
      if (replica.open(cut, 0, length) >= 0) t.fail(`cut to ${length} bytes, and it was taken`);
    }
    const longer = Buffer.concat([bytes, Buffer.of(0)]);
    t.equal(opened(replica, longer), 'truncated', 'a byte too long');
    t.notMatch(opened(replica, Buffer.from(bytes)), /^[a-z]/, 'the datagram itself is good');
  }

  const strict = end(0, ringOf(true), VERSION, VERSION);
  t.equal(opened(strict, datagramOf(client, clientRing.own)), `${CLIENT_SENDER}`);
  t.equal(opened(strict, datagramOf(client, clientRing.own, 4)), 'version', 'only what is encrypted is read');

  const elsewhere = new Keyring(
    {
      schema: 'jitpaxos.keys/1',
      cluster: 'fedcba9876543210',
      use: 2,
      keys: [{ id: 2, role: 'client', secret: SECRETS[1] }],
    },
    false,
  );
  t.equal(opened(replica, datagramOf(end(CLIENT_SENDER, elsewhere), elsewhere.own)), 'checksum', 'of another cluster');

  const removed = datagramOf(client, clientRing.own);
  replicaRing.replace({
    schema: 'jitpaxos.keys/1',
    cluster: CLUSTER,
    use: 1,
    keys: [{ id: 1, role: 'replica', secret: SECRETS[0] }],
  });
  t.equal(opened(replica, removed), 'key', 'a removed key');
  t.equal(opened(replica, datagramOf(other, 0)), '1', 'the other key stays');

  // Without keys, version 5 has the envelope of version 4.
  const plain = new Envelope(hash, HI, LO, 1, REPLICAS, undefined, VERSION);
  const bytes = datagramOf(plain, -1);
  t.equal(bytes.length, ENVELOPE_BYTES + MESSAGES.length);
  t.equal(opened(new Envelope(hash, HI, LO, 0, REPLICAS, undefined, VERSION), bytes), '1');
});
