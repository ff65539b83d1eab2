// Two versions of the wire: one table lays both out, messages move between them, and who is written to in which.
import t from 'tap';
import { Unpackr } from 'msgpackr';
import { loadHash } from '../../src/native/hash64.js';
import { DatagramOutbox } from '../../src/transport/datagram-outbox.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import type { Transport } from '../../src/transport/transport.js';
import { CLIENT_SENDER, DROP_REASON_NAMES, ENVELOPE_BYTES, Envelope, NO_KEY } from '../../src/wire/envelope.js';
import { begin, defineMessage, type Layout } from '../../src/wire/layout.js';
import { Malformed, Plea, typeOf } from '../../src/wire/messages.js';
import { Peers } from '../../src/wire/peers.js';
import { presentPeers } from '../transport/present-peers.js';
import { Translator } from '../../src/wire/translation.js';
import { readI32, readU16, writeI32, writeU16 } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION } from '../../src/wire/versions.js';

const hash = loadHash();
const unpackr = new Unpackr({ int64AsType: 'bigint', useRecords: false });
const REPLICAS = 3;

/** One of each kind of difference. */
const Longer = defineMessage('Longer', 50, {
  view: 'u32',
  added: { kind: 'u64', since: 5 },
  count: 'u16',
  also: { kind: 'u8', since: 5 },
  data: 'bin16',
});
const Shorter = defineMessage('Shorter', 51, {
  view: 'u32',
  gone: { kind: 'u64', until: 4 },
  count: 'u16',
  data: 'bin16',
});
const Wider = defineMessage('Wider', 52, { view: 'u32', count: 'u32', data: { kind: 'bin16', since: 5 } });
const Alike = defineMessage('Alike', 53, { view: 'u32' });
const New = defineMessage('New', 54, { view: 'u32' }, 5);
const MESSAGES = [Longer, Shorter, Wider, Alike, New];

/** As `validate` of the previous version, for the messages above: they are well formed here. */
function lengthOf(bytes: Uint8Array, offset: number, end: number): number {
  const layout = MESSAGES.find(({ type }) => type === bytes[offset + 1])?.previous;
  if (layout === undefined) return Malformed.unknownType;
  const length = layout.size + (layout.hasBytes ? readU16(bytes, offset + layout.size - 2) : 0);
  return offset + length > end ? Malformed.truncated : length;
}

function written(layout: Layout, view: number, count: number, data: string): Uint8Array {
  const tail = Buffer.from(data);
  const bytes = new Uint8Array(layout.size + (layout.hasBytes ? tail.length : 0));
  begin(layout, bytes, 0);
  writeI32(bytes, layout.at['view']!, view);
  if ('count' in layout.at) (layout.fields['count'] === 'u32' ? writeI32 : writeU16)(bytes, layout.at['count']!, count);
  if (layout.hasBytes) {
    writeU16(bytes, layout.size - 2, tail.length);
    bytes.set(tail, layout.size);
  }
  return bytes;
}

const plain = (bytes: Uint8Array): unknown[] =>
  (unpackr.unpack(bytes) as unknown[]).map((value) =>
    value instanceof Uint8Array ? Buffer.from(value).toString() : value,
  );

t.test('one table, two layouts: any msgpack decoder reads both', (t) => {
  t.same(plain(written(Longer, 7, 8, 'abc')), [50, 7, 0n, 8, 0, 'abc']);
  t.same(plain(written(Longer.previous!, 7, 8, 'abc')), [50, 7, 8, 'abc']);
  t.same(plain(written(Shorter, 7, 8, 'abc')), [51, 7, 8, 'abc']);
  t.same(plain(written(Shorter.previous!, 7, 8, 'abc')), [51, 7, 0n, 8, 'abc']);
  t.equal(Alike.previous, Alike, 'nothing differs');
  t.equal(New.previous, undefined);
  // @ts-expect-error a field that is gone has no offset in the present layout
  t.equal(Shorter.at.gone, undefined);
  t.throws(
    () => defineMessage('M', 1, { view: 'u32', late: { kind: 'u8', since: 6 } }),
    /version 6 is neither 4 nor 5/,
  );
  t.throws(() => defineMessage('M', 1, { view: 'u32', early: { kind: 'u8', until: 0 } }), /version 1 is neither/);
  t.throws(() => defineMessage('M', 1, { view: 'u32' }, 7), /version 7 is neither/);
  t.end();
});

t.test('messages move between the layouts and keep what both have', (t) => {
  const translator = new Translator(MESSAGES, lengthOf);
  t.equal(translator.growth, Shorter.previous!.size - Shorter.size, 'the message that is longest in comparison');
  for (const message of [Longer, Shorter, Wider, Alike]) {
    const bytes = new Uint8Array(200).fill(0xee);
    const present = written(message, 0x01020304, 9, 'some bytes');
    bytes.set(present, 30);
    const length = translator.rewrite(bytes, 30, present.length);
    t.same(
      bytes.slice(30, 30 + length),
      written(message.previous!, 0x01020304, 9, 'some bytes'),
      `${message.name} as the previous version has it`,
    );
    t.ok(
      bytes.subarray(0, 30).every((byte) => byte === 0xee) &&
        bytes.subarray(30 + Math.max(length, present.length)).every((byte) => byte === 0xee),
      'nothing else was written',
    );
    t.equal(translator.read(bytes, 30, 30 + length), length);
    const expected = message === Wider ? written(Wider, 0x01020304, 9, '') : present;
    t.same(translator.bytes.slice(translator.offset, translator.offset + translator.length), expected, 'and back');
    t.equal(translator.read(bytes, 30, 29 + length), Malformed.truncated);
  }
  t.equal(
    translator.rewrite(written(New, 1, 0, ''), 0, New.size),
    0,
    'a message that the previous version does not have',
  );
  t.equal(translator.read(written(New, 1, 0, ''), 0, New.size), Malformed.unknownType);
  t.end();
});

t.test('the longest message that the previous version allows is translated', (t) => {
  const translator = new Translator(MESSAGES, lengthOf);
  const bytes = written(Longer.previous!, 1, 2, 'x'.repeat(59_900));
  t.equal(translator.read(bytes, 0, bytes.length), bytes.length);
  t.equal(translator.length, bytes.length + Longer.size - Longer.previous!.size);
  t.end();
});

t.test('the version byte says in which version a datagram is written and which one its sender speaks', (t) => {
  const bytes = new Uint8Array(ENVELOPE_BYTES + Plea.size);
  begin(Plea, bytes, ENVELOPE_BYTES);
  const present = new Envelope(hash, 1, 2, 0, REPLICAS);
  const held = new Envelope(hash, 1, 2, 0, REPLICAS, undefined, 4);
  const opened = (by: Envelope): unknown[] => [
    by.open(bytes.slice(), 0, bytes.length),
    by.openedVersion,
    by.openedNewest,
  ];
  present.seal(bytes, 0, bytes.length);
  t.equal(bytes[5], 0x55);
  t.same(opened(present), [0, 5, 5]);
  t.same(opened(held), [0, 5, 5], 'a process that is held back reads it all the same: others may still write it');
  present.seal(bytes, 0, bytes.length, undefined, 4);
  t.equal(bytes[5], 0x54);
  t.same(opened(present), [0, 4, 5]);
  t.same(opened(held), [0, 4, 5]);
  held.seal(bytes, 0, bytes.length);
  t.equal(bytes[5], 0x44);
  t.same(opened(present), [0, 4, 4]);
  // A later release that writes for this one.
  new Envelope(hash, 1, 2, 0, REPLICAS, undefined, 6).seal(bytes, 0, bytes.length, undefined, 5);
  t.equal(bytes[5], 0x65);
  t.same(opened(present), [0, 5, 6]);
  t.end();
});

function peersOf(
  newest: number,
  self: number,
  endpoints: number,
  now: { monotonicUs: number },
  keyed: { readonly keys?: { readonly own: number }; readonly oldest?: number } = {},
): Peers {
  return new Peers({ self, replicas: REPLICAS, endpoints, newest, now, ...keyed, numbers: hash });
}

t.test('in which version to write to whom', (t) => {
  const now = { monotonicUs: 5e6 };
  const after = (ms: number): void => void (now.monotonicUs += ms * 1000);

  t.test(
    'a replica that was not heard of gets the previous version, and from a client hellos that become rarer',
    (t) => {
      const versions = peersOf(5, CLIENT_SENDER, 4, now);
      t.equal(versions.versionFor(1), 4);
      t.ok(versions.helloDue(1), 'at once');
      t.notOk(versions.helloDue(1));
      t.ok(versions.helloDue(2), 'to each');
      const due: number[] = [];
      for (let ms = 0; ms < 200_000; ms += 500) {
        after(500);
        if (versions.helloDue(1)) due.push((ms + 500) / 1000);
      }
      t.same(due, [1, 3, 7, 15, 31, 63, 95, 127, 159, 191]);
      t.notOk(peersOf(5, 0, 4, now).helloDue(1), 'replicas prove no address to each other');
      t.end();
    },
  );

  t.test('what it says decides; silence lowers it', (t) => {
    const versions = peersOf(5, CLIENT_SENDER, 4, now);
    versions.heard(1, NO_KEY, 6, 1000);
    t.equal(versions.versionFor(1), 5, 'the newest that both speak');
    t.notOk(versions.helloDue(1));
    after(150);
    t.equal(versions.versionFor(1), 5);
    versions.heard(1, NO_KEY, 5, 1000);
    after(10_000);
    t.equal(versions.versionFor(1), 5, 'nothing was said to it meanwhile, so it owes nothing');
    after(201);
    t.equal(versions.versionFor(1), 4, 'an answer is missing: it may be an older one by now');
    t.ok(versions.helloDue(1));
    t.same(
      [0, 1, 2].map((replica) => versions.writtenTo(replica)),
      [4, 4, 4],
    );
    versions.heard(1, NO_KEY, 5, 1000);
    t.equal(versions.versionFor(1), 5);
    versions.heard(1, NO_KEY, 4, 1000);
    t.equal(versions.versionFor(1), 4, 'an older one took its place, and says so');
    t.end();
  });

  t.test('a client is answered as it wrote last', (t) => {
    const versions = peersOf(5, 0, 4, now);
    t.equal(versions.versionFor(REPLICAS + 1), 4);
    versions.heard(REPLICAS + 1, NO_KEY, 5, 1000);
    t.equal(versions.versionFor(REPLICAS + 1), 5);
    t.equal(versions.versionFor(REPLICAS + 2), 4);
    versions.heard(REPLICAS + 1, NO_KEY, 4, 1000);
    t.equal(versions.versionFor(REPLICAS + 1), 4);
    t.equal(versions.writtenTo(0), 5, 'itself');
    t.end();
  });

  t.test('with keys, neither silence nor what a peer seems to say brings back a version that does not encrypt', (t) => {
    const keys = { own: 0 };
    for (const self of [0, CLIENT_SENDER]) {
      const versions = peersOf(5, self, 4, now, { keys });
      t.equal(versions.versionFor(1), 4, 'not heard yet');
      versions.heard(1, 0, 5, 1000);
      t.equal(versions.versionFor(1), 5);
      after(10_000);
      t.equal(versions.versionFor(1), 5, 'after much silence');
      versions.heard(1, 0, 4, 1000); // a recording from before the upgrade
      t.equal(versions.versionFor(1), 5, 'after a datagram that speaks the older one');
      t.equal(versions.writtenTo(1), 5);
    }
    const versions = peersOf(5, 0, 4, now, { keys });
    versions.heard(REPLICAS + 1, 3, 4, 1000);
    t.equal(versions.versionFor(REPLICAS + 1), 4);
    versions.heard(REPLICAS + 1, 3, 5, 1000);
    versions.heard(REPLICAS + 1, 3, 4, 1000);
    t.equal(versions.versionFor(REPLICAS + 1), 5, 'a client');
    versions.heard(REPLICAS + 5, 3, 4, 1000);
    t.equal(versions.versionFor(REPLICAS + 5), 4, 'another client in its place');
    t.end();
  });

  t.test('where encryption is required, nobody is ever written to in an older version', (t) => {
    const required = { keys: { own: 0 }, oldest: 5 };
    for (const self of [0, CLIENT_SENDER]) {
      const versions = peersOf(5, self, 4, now, required);
      t.same([versions.versionFor(1), versions.versionFor(REPLICAS)], [5, 5]);
      t.equal(versions.helloDue(1), self === CLIENT_SENDER, 'a client still says hello: it has an address to prove');
      versions.heard(1, 0, 5, 1000);
      t.notOk(versions.helloDue(1));
      versions.heard(1, 0, 4, 1000);
      versions.heard(REPLICAS, 0, 4, 1000);
      t.same([versions.versionFor(1), versions.versionFor(REPLICAS)], [5, 5]);
    }
    t.end();
  });

  t.test('held back, a process speaks the previous version only', (t) => {
    for (const self of [0, CLIENT_SENDER]) {
      const versions = peersOf(4, self, 4, now);
      t.notOk(versions.helloDue(1));
      versions.heard(REPLICAS, NO_KEY, 5, 1000);
      versions.heard(1, NO_KEY, 5, 1000);
      t.same([versions.versionFor(1), versions.versionFor(REPLICAS)], [4, 4]);
    }
    t.end();
  });

  t.test('milliseconds that wrap', (t) => {
    const late = { monotonicUs: (2 ** 31 - 50) * 1000 };
    const versions = peersOf(5, CLIENT_SENDER, 4, late);
    t.ok(versions.helloDue(1));
    versions.heard(2, NO_KEY, 5, 1000);
    t.equal(versions.versionFor(2), 5);
    late.monotonicUs += 100 * 1000;
    t.equal(versions.versionFor(2), 5, '100 ms');
    late.monotonicUs += 101 * 1000;
    t.equal(versions.versionFor(2), 4, '201 ms');
    t.notOk(versions.helloDue(1));
    late.monotonicUs += 1000 * 1000;
    t.ok(versions.helloDue(1));
    t.end();
  });
  t.end();
});

/** Keeps what is sent. */
function transportOf(sent: { to: number; bytes: Uint8Array }[]): Transport {
  const transport: Partial<Transport> = {
    acquire: (length) => new Uint8Array(length),
    release: () => undefined,
    send: (bytes, length, to) => void sent.push({ to, bytes: bytes.slice(0, length) }),
    flush: () => undefined,
    sender: () => REPLICAS,
  };
  return transport as Transport;
}

t.test('a client and a replica, of either version, find the newest one that both speak', (t) => {
  for (const [clientSpeaks, replicaSpeaks] of [
    [5, 5],
    [5, 4],
    [4, 5],
    [4, 4],
  ] as const) {
    const now = { monotonicUs: 0.5 };
    const wire: { to: number; bytes: Uint8Array }[] = [];
    const heard = { client: 0, replica: 0 };
    const process = (sender: number, newest: number, endpoints: number, heardPlea: () => void) => {
      const received = (bytes: Uint8Array, offset: number): void => {
        if (typeOf(bytes, offset) === Plea.type) heardPlea();
      };
      const envelope = new Envelope(hash, 1, 2, sender, REPLICAS, undefined, newest);
      const peers = peersOf(newest, sender, endpoints, now);
      const transport = transportOf(wire);
      const outbox = new DatagramOutbox(transport, envelope, 400, peers);
      const hello = (to: number): void => outbox.hello(to);
      const reader = new DatagramReader(
        envelope,
        transport,
        sender !== CLIENT_SENDER,
        received,
        peers,
        undefined,
        hello,
      );
      const say = (to: number): void => {
        const o = outbox.reserve(to, Plea.size);
        begin(Plea, outbox.bytes, o);
        outbox.commit(Plea.size);
        outbox.flush();
      };
      return { reader, say };
    };
    const client = process(CLIENT_SENDER, clientSpeaks, 1, () => heard.client++);
    const replica = process(0, replicaSpeaks, 4, () => heard.replica++);
    const bytes: number[] = [];
    const deliver = (): void => {
      for (const { to, bytes: datagram } of wire.splice(0)) {
        bytes.push(datagram[5]!);
        (to === 0 ? replica : client).reader.read(datagram, 0, datagram.length);
      }
    };
    const label = `client speaks ${clientSpeaks}, replica ${replicaSpeaks}`;
    for (let round = 0; round < 4; round++) {
      client.say(0);
      deliver();
      replica.say(REPLICAS);
      deliver();
    }
    t.same(heard, { client: 4, replica: 4 }, `${label}: everything is understood from the first on`);
    const shared = Math.min(clientSpeaks, replicaSpeaks);
    const ends = [clientSpeaks, replicaSpeaks].map((newest) => (newest << 4) | shared);
    t.same(bytes.slice(-4), [...ends, ...ends], `${label}: version ${shared} in the end`);
    t.equal(replica.reader.drops[DROP_REASON_NAMES.indexOf('version')], 0, `${label}: nothing is dropped`);
  }
  t.end();
});

t.test('an outbox says nothing that the peer does not know, and leaves room for what is longer there', (t) => {
  const sent: { to: number; bytes: Uint8Array }[] = [];
  const envelope = new Envelope(hash, 1, 2, 0, REPLICAS);
  const peers = presentPeers(REPLICAS);
  peers.heard(1, NO_KEY, PREVIOUS_WIRE_VERSION, 0);
  const outbox = new DatagramOutbox(transportOf(sent), envelope, 200, peers, new Translator(MESSAGES, lengthOf));
  const say = (to: number, message: Layout, data: string): void => {
    const bytes = written(message, 5, 6, data);
    const o = outbox.reserve(to, bytes.length);
    outbox.bytes.set(bytes, o);
    outbox.commit(bytes.length);
  };
  for (const to of [1, 2]) {
    say(to, Shorter, 'one');
    say(to, New, '');
    say(to, Longer, 'two');
  }
  outbox.flush();
  const contents = sent.map(({ bytes }) =>
    (unpackr.unpackMultiple(bytes.slice(ENVELOPE_BYTES)) as unknown[][]).map((values) =>
      values.map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString() : value)),
    ),
  );
  t.same(contents, [
    [
      [51, 5, 0n, 6, 'one'],
      [50, 5, 6, 'two'],
    ],
    [
      [51, 5, 6, 'one'],
      [54, 5],
      [50, 5, 0n, 6, 0, 'two'],
    ],
  ]);
  t.same([outbox.unknownToPeer, outbox.messages], [1, 5]);
  sent.length = 0;
  // Fills a datagram to the last byte in the longer form, then one more.
  const fits = 200 - ENVELOPE_BYTES - Shorter.previous!.size;
  say(1, Shorter, 'x'.repeat(fits));
  outbox.flush();
  say(1, Shorter, 'x'.repeat(fits + 1));
  outbox.flush();
  t.same(
    sent.map(({ bytes }) => bytes.length),
    [200, 201],
    'the second travels alone',
  );
  say(1, New, '');
  outbox.flush();
  t.equal(sent.length, 2, 'a datagram without a message does not leave');
  t.equal(readI32(sent[0]!.bytes, ENVELOPE_BYTES + 3), 5);
  t.end();
});
