// Golden datagrams: what each version of the wire wrote is read by the present code, and still written byte for byte.
import t from 'tap';
import { readFileSync } from 'node:fs';
import { loadHash } from '../../src/native/hash64.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { ALL_MESSAGES, nameOf, typeOf } from '../../src/wire/messages.js';
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
