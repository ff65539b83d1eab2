// Golden datagrams: what each version of the wire wrote is read by the present code, and still written byte for byte.
import t from 'tap';
import { readFileSync } from 'node:fs';
import { loadHash } from '../../src/native/hash64.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { CLIENT_SENDER, DROP_REASON_NAMES, ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { ALL_MESSAGES, nameOf, typeOf } from '../../src/wire/messages.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { presentPeers } from '../transport/present-peers.js';

const hash = loadHash();
const REPLICAS = 3;
/** Cluster 0123456709abcdef. */
const CLUSTER = [0x01234567, 0x09abcdef] as const;
const KEYS: KeyFile = {
  schema: 'jitpaxos.keys/1',
  cluster: '0123456709abcdef',
  use: 7,
  keys: [{ id: 7, role: 'replica', secret: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('hex') }],
};

type Golden = Readonly<Record<'checksum' | 'keyed', Readonly<Record<string, string>>>>;

/** The names of the messages in a golden file, by what guards them. */
function golden(version: number): Golden {
  return JSON.parse(
    readFileSync(new URL(`../../../test/golden/wire-${version}.json`, import.meta.url), 'utf8'),
  ) as Golden;
}

const names = ALL_MESSAGES.map(({ name }) => name);

t.test('version 4: guarded by a checksum, and by an HMAC under a key', (t) => {
  const file = golden(4);
  for (const [how, datagrams] of Object.entries(file)) {
    t.same(
      Object.keys(datagrams).filter((name) => !names.includes(name)),
      [],
      `${how}: every message is still there`,
    );
    t.ok(Object.keys(datagrams).length >= 24, how);
    const ring = how === 'keyed' ? new Keyring(KEYS, true) : undefined;
    const seen: string[] = [];
    const reader = new DatagramReader(
      new Envelope(hash, ...CLUSTER, 0, REPLICAS, ring),
      { sender: () => REPLICAS },
      true,
      (bytes, offset) => void seen.push(nameOf(typeOf(bytes, offset))),
      presentPeers(REPLICAS),
      ring,
    );
    const held = new Envelope(hash, ...CLUSTER, 1, REPLICAS, ring, 4);
    for (const [name, hex] of Object.entries(datagrams)) {
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
      t.equal(reader.read(bytes.slice(), 0, bytes.length), 1, `${how}: ${name} is read`);
      const again = bytes.slice().fill(0, 0, ENVELOPE_BYTES);
      t.ok(held.seal(again, 0, again.length, ring?.own));
      t.equal(Buffer.from(again).toString('hex'), hex, `${how}: ${name} is written as it was`);
    }
    t.same(seen, Object.keys(datagrams));
    ring?.close();
  }
  t.end();
});

/** A replica's keyring with the random numbers of the golden file: the bytes a0, a1, … four times each. */
class FixedKeyring extends Keyring {
  override draw(target: Int32Array<ArrayBuffer>): void {
    for (let i = 0; i < target.length; i++) target[i] = (0x01010101 * (0xa0 + i)) | 0;
  }
}

t.test('version 5: guarded by a checksum, and encrypted under a key', (t) => {
  const file = golden(5);
  for (const [how, datagrams] of Object.entries(file)) {
    t.same(Object.keys(datagrams), names, `${how}: each message once`);
    const isKeyed = how === 'keyed';
    const ring = isKeyed ? new FixedKeyring(KEYS, true) : undefined;
    const receiver = new Envelope(hash, ...CLUSTER, 0, REPLICAS, ring, 5);
    const seen: string[] = [];
    const reader = new DatagramReader(
      receiver,
      { sender: () => REPLICAS },
      true,
      (bytes, offset) => void seen.push(nameOf(typeOf(bytes, offset))),
      presentPeers(REPLICAS),
      ring,
    );
    const sender = new Envelope(hash, ...CLUSTER, 1, REPLICAS, ring, 5);
    sender.incarnation = 258;
    for (const [name, hex] of Object.entries(datagrams)) {
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
      const opened = bytes.slice();
      t.equal(reader.read(opened, 0, opened.length), 1, `${how}: ${name} is read`);
      t.ok(sender.seal(opened, 0, opened.length, ring?.own, 5));
      t.equal(
        Buffer.from(opened).toString('hex'),
        hex,
        `${how}: ${name} is written as it was, salt and counter included`,
      );
      if (!isKeyed) continue;
      const text = Buffer.from([0xa0, 0xa1, 0xa2, 0xa3, 0xa4]);
      t.notOk(Buffer.from(hex, 'hex').includes(text), `${name}: nothing of its bytes is in clear`);
    }
    t.same(seen, Object.keys(datagrams));
    ring?.close();
  }
  t.end();
});

t.test(
  'the hello of a process of the previous version, in the version before it, is answered; nothing else in it is read',
  (t) => {
    const opened = (length: number, magic: number, oldest?: number): string => {
      const bytes = new Uint8Array(length);
      new Envelope(hash, ...CLUSTER, CLIENT_SENDER, REPLICAS).seal(bytes, 0, length);
      bytes[5] = magic;
      bytes.fill(0, 25, 41);
      hash.hash64(bytes, 0, length, bytes, 25);
      const code = new Envelope(hash, ...CLUSTER, 0, REPLICAS, undefined, WIRE_VERSION, oldest).open(bytes, 0, length);
      return code < 0 ? DROP_REASON_NAMES[-code]! : 'taken';
    };
    const previous = PREVIOUS_WIRE_VERSION;
    const byte = (newest: number, version: number): number => (newest << 4) | version;
    t.equal(opened(ENVELOPE_BYTES, byte(previous, previous - 1)), 'taken', 'from a process of the previous version');
    t.equal(opened(ENVELOPE_BYTES + 1, byte(previous, previous - 1)), 'version', 'with a message');
    t.equal(
      opened(ENVELOPE_BYTES, byte(previous - 1, previous - 1)),
      'version',
      'from a process of the version before',
    );
    t.equal(opened(ENVELOPE_BYTES, byte(previous, previous - 2)), 'version');
    t.equal(
      opened(ENVELOPE_BYTES, byte(previous, previous - 1), WIRE_VERSION),
      'version',
      'where encryption is required',
    );
    t.end();
  },
);
