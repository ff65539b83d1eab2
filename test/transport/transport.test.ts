import { execFileSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { native } from '../../src/native/addon.js';
import { loadHash } from '../../src/native/hash64.js';
import { ArrayPool } from '../../src/transport/array-pool.js';
import { datagramBytesFor } from '../../src/transport/datagram-bytes.js';
import { DatagramOutbox } from '../../src/transport/datagram-outbox.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { DgramTransport } from '../../src/transport/dgram.js';
import { EndpointTable } from '../../src/transport/endpoint-table.js';
import { TransportCounter, TRANSPORT_COUNTER_NAMES, type Transport } from '../../src/transport/transport.js';
import {
  CLIENT_SENDER,
  DEFAULT_DATAGRAM_BYTES,
  DROP_REASON_NAMES,
  ENVELOPE_BYTES,
  Envelope,
  JUMBO_DATAGRAM_BYTES,
  MAX_DATAGRAM_BYTES,
  NO_KEY,
  writtenVersion,
} from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Plea, Probe, Request } from '../../src/wire/messages.js';
import { readI32, writeI32, writeU16 } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { options } from './fixtures.js';
import { presentPeers } from './present-peers.js';

const hash = loadHash();
const CLUSTER_HI = 0x01234567;
const CLUSTER_LO = 0x76543210;

/** Records what is sent; arrays come from a pool, as in a real one. */
class FakeTransport implements Transport {
  readdress(): void {}
  placeSender(): void {}
  readonly kind = 'fake';
  readonly idle = 'block';
  readonly batches = false;
  readonly port = 0;
  readonly counters = new Float64Array(TRANSPORT_COUNTER_NAMES.length);
  readonly sent: { to: number; bytes: Uint8Array }[] = [];
  readonly pool: ArrayPool;
  keep = true;
  constructor(arrays = 128) {
    this.pool = new ArrayPool(DEFAULT_DATAGRAM_BYTES, arrays, 4);
  }
  async open() {}
  async close() {}
  acquire(length: number) {
    return this.pool.acquire(length);
  }
  release(bytes: Uint8Array) {
    this.pool.release(bytes);
  }
  send(bytes: Uint8Array, length: number, to: number) {
    this.counters[TransportCounter.datagrams_sent]!++;
    if (this.keep) this.sent.push({ to, bytes: bytes.slice(0, length) });
    this.pool.release(bytes);
  }
  flush() {}
  sender() {
    return 77;
  }
  knownSender() {
    return 77;
  }
  noteReplica() {}
  kernelDrops() {
    return -1;
  }
  isFiltered() {
    return false;
  }
  endpointOf() {
    return 77;
  }
  endBatchSoon() {
    return false;
  }
}

function envelopeOf(sender: number, clusterLo = CLUSTER_LO): Envelope {
  return new Envelope(hash, CLUSTER_HI, clusterLo, sender, 3);
}

/** A sealed datagram that holds the given messages. */
function datagram(envelope: Envelope, ...messages: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(Buffer.concat([new Uint8Array(ENVELOPE_BYTES), ...messages]));
  envelope.seal(bytes, 0, bytes.length);
  return bytes;
}

function plea(view: number): Uint8Array {
  const bytes = new Uint8Array(Plea.size);
  begin(Plea, bytes, 0);
  writeI32(bytes, Plea.at.view, view);
  return bytes;
}

t.test('what goes wrong below dgram', async (t) => {
  await t.test('sends that fail are noticed by those that carry a callback', async (t) => {
    const notices: string[] = [];
    const transport = new DgramTransport(
      options({ replicas: [{ host: '127.0.0.1', port: 9, family: 4 }], notice: (event) => notices.push(event) }),
      () => failingSocket(true),
    );
    await transport.open();
    for (let i = 0; i < 130; i++) transport.send(transport.acquire(10)!, 10, 0);
    await sleep(5);
    t.equal(transport.counters[TransportCounter.send_errors], 3, 'sends 1, 65 and 129');
    t.same(
      notices.filter((event) => event !== 'transport.small-buffer'),
      ['transport.send-failing'],
      'said once, not each time',
    );
    await transport.close();
  });

  await t.test('a kernel that takes nothing: arrays are not used again, and their number is bounded', async (t) => {
    const fake = failingSocket(false);
    const transport = new DgramTransport(
      options({ replicas: [{ host: '127.0.0.1', port: 9, family: 4 }] }),
      () => fake,
    );
    await transport.open();
    const seen = new Set<Uint8Array>();
    let refused = 0;
    for (let i = 0; i < 5_000; i++) {
      const bytes = transport.acquire(100);
      if (bytes === undefined) {
        refused++;
        continue;
      }
      t.notOk(seen.has(bytes) && 'an array that the socket still refers to was lent again');
      seen.add(bytes);
      transport.send(bytes, 100, 0);
    }
    transport.flush();
    t.equal(seen.size, 1024);
    t.equal(refused, 5_000 - 1024);
    t.equal(transport.counters[TransportCounter.send_queue_full], refused);
    t.equal(transport.counters[TransportCounter.send_deferred], 1024);
    fake.queued = 0;
    t.ok(seen.has(transport.acquire(100)!), 'with the queue empty they come back');
    await transport.close();
  });
});

/** A socket whose sends either fail, or are queued for ever. */
function failingSocket(failing: boolean): Socket & { queued: number } {
  const socket = createSocket('udp4') as Socket & { queued: number };
  socket.queued = 0;
  socket.send = ((
    _bytes: Uint8Array,
    _offset: number,
    _length: number,
    _port: number,
    _host: string,
    done?: (error: Error | null) => void,
  ) => {
    if (failing) process.nextTick(() => done?.(new Error('send EPERM')));
    else socket.queued++;
  }) as Socket['send'];
  socket.getSendQueueCount = () => socket.queued;
  return socket;
}

t.test('endpoint table', async (t) => {
  await t.test('numbers', async (t) => {
    const table = new EndpointTable(3, 4);
    const a = table.intern('127.0.0.1', 5000);
    t.equal(a, 3);
    t.equal(table.intern('127.0.0.2', 5000), 4, 'same port, another host');
    t.equal(table.intern('127.0.0.1', 5001), 5);
    t.equal(table.intern('127.0.0.1', 5000), a);
    t.equal(table.hostOf(table.slotOf(4)), '127.0.0.2');
    t.equal(table.portOf(table.slotOf(5)), 5001);
    t.equal(table.slotOf(6), -1);
    t.equal(table.slotOf(2), -1, 'replicas are not in it');
    t.throws(() => new EndpointTable(3, 5), RangeError);
  });

  await t.test('the one unused for longest makes room, and its number is not given again', async (t) => {
    const table = new EndpointTable(3, 4);
    const numbers = [0, 1, 2, 3].map((i) => table.intern('h', 5000 + i));
    table.intern('h', 5000);
    const fresh = table.intern('h', 6000);
    t.notOk(numbers.includes(fresh));
    t.equal(table.slotOf(numbers[1]!), -1, 'the second was the oldest');
    t.ok(table.slotOf(numbers[0]!) >= 0);
    t.equal(table.evicted, 1);
  });

  await t.test('against a plain model', async (t) => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    t.comment(`SEED=${seed}`);
    let x = seed | 1;
    const random = (n: number): number => {
      x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
      x = (x + 0x6d2b79f5) | 0;
      return (x >>> 0) % n;
    };
    const table = new EndpointTable(5, 16);
    const model = new Map<string, number>(); // in order of use
    const given = new Set<number>();
    for (let i = 0; i < 20_000; i++) {
      const host = `10.0.0.${random(8)}`;
      const port = 7000 + random(5);
      const key = `${host} ${port}`;
      const number = table.intern(host, port);
      const known = model.get(key);
      if (known === undefined) {
        if (given.has(number)) t.fail(`number ${number} was given twice`);
        given.add(number);
        if (model.size === 16) model.delete(model.keys().next().value!);
      } else if (known !== number) {
        t.fail(`number of ${key} changed from ${known} to ${number}`);
      }
      model.delete(key);
      model.set(key, number);
      if (table.size !== model.size) t.fail('sizes differ');
      const slot = table.slotOf(number);
      if (table.hostOf(slot) !== host || table.portOf(slot) !== port) t.fail('slot does not lead back');
    }
    for (const number of given)
      t.equal(table.slotOf(number) >= 0, [...model.values()].includes(number)) || t.fail(String(number));
  });
});

t.test('a datagram is as long as Ethernet carries, longer where all replicas are on this host', (t) => {
  const at = (...hosts: string[]) =>
    datagramBytesFor(hosts.map((host) => ({ host, port: 1, family: host.includes(':') ? 6 : 4 })));
  t.equal(at('127.0.0.1', '127.9.9.9', '::1'), JUMBO_DATAGRAM_BYTES);
  for (const other of ['10.0.0.1', '128.0.0.1', '::2', 'fe80::1'])
    t.equal(at('127.0.0.1', other, '::1'), DEFAULT_DATAGRAM_BYTES, other);
  t.end();
});

t.test('outbox', async (t) => {
  function write(outbox: DatagramOutbox, to: number, length: number, fill: number): boolean {
    const offset = outbox.reserve(to, length);
    if (offset < 0) return false;
    outbox.bytes.fill(fill, offset, offset + length);
    outbox.commit(length);
    return true;
  }

  await t.test('messages to one destination share a datagram; destinations do not', async (t) => {
    const transport = new FakeTransport();
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    for (let i = 0; i < 3; i++) for (const to of [0, 2, 1000]) t.ok(write(outbox, to, 100, i + 1));
    t.equal(transport.sent.length, 0, 'nothing leaves before the turn ends');
    outbox.flush();
    t.same(
      transport.sent.map(({ to }) => to),
      [0, 2, 1000],
    );
    for (const { bytes } of transport.sent) {
      t.equal(bytes.length, ENVELOPE_BYTES + 300);
      t.same([bytes[ENVELOPE_BYTES], bytes[ENVELOPE_BYTES + 100], bytes[ENVELOPE_BYTES + 299]], [1, 2, 3]);
      t.equal(envelopeOf(0).open(bytes, 0, bytes.length), 1);
    }
    outbox.flush();
    t.equal(transport.sent.length, 3, 'an empty turn sends nothing');
    t.equal(outbox.messages, 9);
    t.equal(transport.pool.lent, 0);
  });

  await t.test('a message that does not fit sends the datagram before it', async (t) => {
    const transport = new FakeTransport();
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    const room = DEFAULT_DATAGRAM_BYTES - ENVELOPE_BYTES;
    write(outbox, 0, room - 100, 1);
    write(outbox, 0, 100, 2);
    t.equal(transport.sent.length, 0, 'it fits to the last byte');
    write(outbox, 0, 1, 3);
    t.equal(transport.sent.length, 1);
    t.equal(transport.sent[0]!.bytes.length, DEFAULT_DATAGRAM_BYTES);
    outbox.flush();
    t.equal(transport.sent[1]!.bytes.length, ENVELOPE_BYTES + 1);
  });

  await t.test('a longer message travels alone, behind what was said before it', async (t) => {
    const transport = new FakeTransport();
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    write(outbox, 0, 10, 1);
    write(outbox, 2, 10, 1);
    t.ok(write(outbox, 0, 20_000, 2));
    t.same(
      transport.sent.map(({ to, bytes }) => [to, bytes.length - ENVELOPE_BYTES]),
      [
        [0, 10],
        [0, 20_000],
      ],
    );
    t.ok(write(outbox, 0, MAX_DATAGRAM_BYTES - ENVELOPE_BYTES, 3));
    t.notOk(write(outbox, 0, MAX_DATAGRAM_BYTES - ENVELOPE_BYTES + 1, 4), 'too long for any datagram');
    t.equal(outbox.dropped, 1);
    outbox.flush();
    t.equal(transport.sent.length, 4);
    for (const { bytes } of transport.sent) t.equal(envelopeOf(0).open(bytes, 0, bytes.length), 1);
    t.equal(transport.pool.lent, 0);
  });

  await t.test('a reservation that is not committed leaves no trace', async (t) => {
    const transport = new FakeTransport();
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    outbox.reserve(0, 50);
    outbox.reserve(2, 30_000);
    outbox.flush();
    t.equal(transport.sent.length, 0);
    t.equal(transport.pool.lent, 0);
    outbox.reserve(0, 50);
    outbox.commit(20);
    outbox.flush();
    t.equal(transport.sent[0]!.bytes.length, ENVELOPE_BYTES + 20, 'less may be committed than was reserved');
  });

  await t.test('more destinations than it keeps open', async (t) => {
    const transport = new FakeTransport(512);
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    for (let to = 0; to < 200; to++) t.ok(write(outbox, to, 10, to));
    outbox.flush();
    t.same(
      transport.sent.map(({ to }) => to),
      Array.from({ length: 200 }, (_, i) => i),
    );
  });

  function writeEach(outbox: DatagramOutbox, mask: number, last: number, length: number, fill: number): void {
    const offset = outbox.reserveEach(mask, last, length);
    outbox.bytes.fill(fill, offset, offset + length);
    outbox.commit(length);
  }

  await t.test('what goes to several is written once, and the last one gets it last', async (t) => {
    const transport = new FakeTransport();
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    for (const fill of [1, 2]) writeEach(outbox, 0b111, 1, 600, fill);
    write(outbox, 0, 50, 3);
    writeEach(outbox, 0b111, 1, 600, 4);
    t.same(
      transport.sent.map(({ to, bytes }) => [to, bytes.length - ENVELOPE_BYTES]),
      [
        [0, 1200],
        [2, 1200],
        [1, 1200],
      ],
      'full: it leaves, to each',
    );
    outbox.flush();
    t.same(
      transport.sent
        .slice(3)
        .map(({ to, bytes }) => [to, bytes.length - ENVELOPE_BYTES, bytes[ENVELOPE_BYTES]])
        .sort(),
      [
        [0, 50, 3],
        [0, 600, 4],
        [1, 600, 4],
        [2, 600, 4],
      ],
    );
    for (const { bytes } of transport.sent) t.equal(envelopeOf(0).open(bytes, 0, bytes.length), 1);
    t.equal(transport.pool.lent, 0);
    outbox.reserveEach(0b11, 0, 40);
    outbox.flush();
    t.equal(transport.sent.length, 7, 'a reservation that is not committed leaves no trace');
    writeEach(outbox, 0b11, 0, 20_000, 5);
    outbox.flush();
    t.same(
      transport.sent.slice(7).map(({ to, bytes }) => [to, bytes.length - ENVELOPE_BYTES, bytes.at(-1)]),
      [
        [1, 20_000, 5],
        [0, 20_000, 5],
      ],
      'longer than a datagram: to each by itself',
    );
    t.equal(transport.pool.lent, 0);
  });

  await t.test(
    'where one of several is written to in the previous version, each has a datagram of its own',
    async (t) => {
      const transport = new FakeTransport();
      const peers = presentPeers(3);
      peers.heard(0, NO_KEY, PREVIOUS_WIRE_VERSION, 0);
      const outbox = new DatagramOutbox(transport, envelopeOf(CLIENT_SENDER), DEFAULT_DATAGRAM_BYTES, peers);
      for (const view of [7, 8]) {
        const offset = outbox.reserveEach(0b101, 2, Plea.size);
        begin(Plea, outbox.bytes, offset);
        writeI32(outbox.bytes, offset + Plea.at.view, view);
        outbox.commit(Plea.size);
      }
      outbox.flush();
      t.same(
        transport.sent.map(({ to, bytes }) => [to, writtenVersion(bytes, 0)]),
        [
          [0, PREVIOUS_WIRE_VERSION],
          [2, WIRE_VERSION],
        ],
      );
      for (const { to, bytes } of transport.sent) {
        const layout = to === 0 ? Plea.previous! : Plea;
        t.same(
          [
            readI32(bytes, ENVELOPE_BYTES + layout.at.view!),
            readI32(bytes, ENVELOPE_BYTES + layout.size + layout.at.view!),
          ],
          [7, 8],
        );
      }
      t.equal(transport.pool.lent, 0);
    },
  );

  await t.test('several, and arrays for one only: the others lose it, and it is counted', async (t) => {
    const transport = new FakeTransport(1);
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    writeEach(outbox, 0b111, 1, 10, 1);
    outbox.flush();
    t.same(
      transport.sent.map(({ to }) => to),
      [1],
    );
    t.equal(outbox.dropped, 2);
  });

  await t.test('no array: the message is lost and counted', async (t) => {
    const transport = new FakeTransport(2);
    const outbox = new DatagramOutbox(transport, envelopeOf(1), DEFAULT_DATAGRAM_BYTES, presentPeers(3));
    t.ok(write(outbox, 0, 10, 1));
    t.ok(write(outbox, 1, 10, 1));
    t.notOk(write(outbox, 2, 10, 1));
    t.equal(outbox.dropped, 1);
    outbox.flush();
    t.ok(write(outbox, 2, 10, 1));
  });
});

t.test('reader', async (t) => {
  function reader(acceptClients = true) {
    const seen: { from: number; view: number }[] = [];
    const it = new DatagramReader(
      envelopeOf(0),
      { sender: () => 77 },
      acceptClients,
      (bytes, offset, _length, from) => seen.push({ from, view: readI32(bytes, offset + 3) }),
      presentPeers(3),
    );
    return {
      it,
      seen,
      drops: () =>
        Object.fromEntries(
          DROP_REASON_NAMES.map((name, i) => [name, it.drops[i]!]).filter(([, count]) => (count as number) > 0),
        ),
    };
  }

  await t.test('hands over every message of a datagram, with its sender', async (t) => {
    const { it, seen, drops } = reader();
    const fromReplica = datagram(envelopeOf(2), plea(5), plea(6));
    t.equal(it.read(fromReplica, 0, fromReplica.length), 2);
    const fromClient = Buffer.concat([new Uint8Array(7), datagram(envelopeOf(CLIENT_SENDER), plea(8))]);
    t.equal(it.read(fromClient, 7, fromClient.length - 7), 1, 'at an offset');
    t.same(seen, [
      { from: 2, view: 5 },
      { from: 2, view: 6 },
      { from: 77, view: 8 },
    ]);
    t.same(drops(), {});
  });

  await t.test('refuses each kind of garbage under its own name', async (t) => {
    const good = datagram(envelopeOf(2), plea(5));
    const changed = (change: (bytes: Uint8Array) => void): Uint8Array => {
      const bytes = good.slice();
      change(bytes);
      return bytes;
    };
    const unknownType = plea(1);
    unknownType[1] = 127;
    const longOperation = new Uint8Array(Request.size);
    begin(Request, longOperation, 0);
    writeU16(longOperation, Request.at.operation, 500);
    const hugeIndex = (() => {
      const bytes = new Uint8Array(Probe.size);
      begin(Probe, bytes, 0);
      bytes[2] = 0;
      return bytes;
    })();
    const cases: [string, Uint8Array][] = [
      ['truncated', good.subarray(0, ENVELOPE_BYTES - 1)],
      ['truncated', new Uint8Array(0)],
      ['truncated', datagram(envelopeOf(2), plea(1).subarray(0, 5))],
      ['truncated', datagram(envelopeOf(2), longOperation)],
      ['unknown-type', datagram(envelopeOf(2), unknownType)],
      ['marker', changed((bytes) => (bytes[0] = 0x93))],
      ['marker', datagram(envelopeOf(2), hugeIndex)],
      ['magic', changed((bytes) => (bytes[2] = 0))],
      ['version', changed((bytes) => (bytes[5] = 0x66))],
      ['cluster', datagram(envelopeOf(2, 42), plea(5))],
      ['sender', datagram(envelopeOf(3), plea(5))],
      ['key', changed((bytes) => (bytes[22] = 1))],
      ['checksum', changed((bytes) => (bytes[bytes.length - 1]! ^= 1))],
      ['oversized', new Uint8Array(MAX_DATAGRAM_BYTES + 1)],
    ];
    for (const [reason, bytes] of cases) {
      const { it, seen, drops } = reader();
      t.equal(it.read(bytes.slice(), 0, bytes.length), 0, reason);
      t.same(drops(), { [reason]: 1 });
      t.same(seen, []);
    }
  });

  await t.test('a client hears replicas only', async (t) => {
    const { it, drops } = reader(false);
    const bytes = datagram(envelopeOf(CLIENT_SENDER), plea(8));
    t.equal(it.read(bytes, 0, bytes.length), 0);
    t.same(drops(), { sender: 1 });
  });

  await t.test('what stands before a bad message is delivered, the rest is dropped', async (t) => {
    const { it, seen, drops } = reader();
    const bytes = datagram(envelopeOf(2), plea(5), new Uint8Array([0x92, 127]), plea(6));
    t.equal(it.read(bytes, 0, bytes.length), 1);
    t.same(seen, [{ from: 2, view: 5 }]);
    t.same(drops(), { 'unknown-type': 1 });
  });

  await t.test('every flipped bit is noticed; random blobs never throw', async (t) => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    t.comment(`SEED=${seed}`);
    const { it, seen } = reader();
    const good = datagram(envelopeOf(2), plea(5), plea(6));
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bytes = good.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      if (it.read(bytes, 0, bytes.length) !== 0) t.fail(`bit ${bit} was not noticed`);
    }
    let x = seed | 1;
    for (let round = 0; round < 5_000; round++) {
      const bytes = new Uint8Array(round % 300);
      for (let i = 0; i < bytes.length; i++) {
        x = (Math.imul(x, 1664525) + 1013904223) | 0;
        bytes[i] = i < ENVELOPE_BYTES && round % 2 === 0 ? good[i]! : x >>> 24;
      }
      it.read(bytes, 0, bytes.length);
    }
    t.same(seen, []);
  });
});

for (const keys of ['', 'keys'])
  t.test(
    `a message allocates nothing on its way through outbox and reader${keys === '' ? '' : ', encrypted'}`,
    { skip: native.available ? false : `the hash without the addon allocates: ${native.reason}` },
    async (t) => {
      const program = fileURLToPath(new URL('./allocation-program.js', import.meta.url));
      const output = execFileSync(
        process.execPath,
        ['--expose-gc', '--max-semi-space-size=256', '--min-semi-space-size=256', program, keys],
        { encoding: 'utf8' },
      );
      const { messages, control, heard } = JSON.parse(output) as {
        messages: { bytesPerMessage: number; nsPerMessage: number };
        control: { bytesPerMessage: number };
        heard: number;
      };
      t.comment(
        `${messages.bytesPerMessage.toFixed(2)} bytes and ${messages.nsPerMessage.toFixed(0)} ns a message, written, sealed, opened and validated`,
      );
      t.ok(heard >= 1_000_000, 'all of them arrived');
      t.ok(control.bytesPerMessage > 50, 'the measurement sees an allocation');
      t.ok(messages.bytesPerMessage < 1, `${messages.bytesPerMessage} bytes a message`);
    },
  );
