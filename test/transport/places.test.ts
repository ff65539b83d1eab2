// Hosts that come, move and leave while a process runs: where datagrams to a slot go, whose they are, and what is read of
// a host that is not listed.
import t from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import { DatagramOutbox } from '../../src/transport/datagram-outbox.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { NOWHERE, REPLICA_ADDRESS, STRANGER, TransportCounter, type Transport } from '../../src/transport/transport.js';
import {
  CLIENT_SENDER,
  DEFAULT_DATAGRAM_BYTES,
  DROP_REASON_NAMES,
  Envelope,
  SENDER_REFUSED,
} from '../../src/wire/envelope.js';
import { HOST_PLACES, HostIds, PLACES, UNLISTED } from '../../src/wire/host-ids.js';
import { begin } from '../../src/wire/layout.js';
import { AskMembers, Members, Plea } from '../../src/wire/messages.js';
import { readI32, writeI32, writeU16 } from '../../src/wire/u64.js';
import { freeAddress, TRANSPORTS, until } from './fixtures.js';
import { presentPeers } from './present-peers.js';

const hash = loadHash();
const places = { places: PLACES, hosts: HOST_PLACES };

for (const [name, make] of Object.entries(TRANSPORTS)) {
  t.test(`places are given addresses and lose them (${name})`, async (t) => {
    const [own, first, second] = [await freeAddress(4), await freeAddress(4), await freeAddress(4)];
    const heard: string[] = [];
    const receivers = await Promise.all(
      [first, second].map(async (listen, index) => {
        const receiver = make({ replicas: [own], listen, receive: (bytes, at) => heard.push(`${index}:${bytes[at]}`) });
        await receiver.open();
        t.teardown(() => receiver.close());
        return receiver;
      }),
    );
    const known: number[] = [];
    let placed = false;
    const transport = make({
      ...places,
      replicas: [own],
      listen: own,
      receive: () => {
        known.push(transport.knownSender());
        if (placed) transport.placeSender(PLACES - 1);
      },
    });
    await transport.open();
    t.teardown(() => transport.close());
    let mark = 0;
    const send = async (place: number, to: string): Promise<void> => {
      const bytes = transport.acquire(10)!;
      bytes[0] = ++mark;
      transport.send(bytes, 10, place);
      transport.flush();
      await until(() => heard.includes(`${to}:${mark}`), `${mark} arrived`);
    };
    const spoken = async (by: Transport): Promise<number> => {
      const before = known.length;
      by.send(by.acquire(10)!, 10, 0);
      by.flush();
      await until(() => known.length > before, 'it arrived');
      return known.at(-1)!;
    };
    const lost = (): number => transport.counters[TransportCounter.endpoint_unknown]!;
    const sendNowhere = (place: number): void => {
      const before = lost();
      transport.send(transport.acquire(10)!, 10, place);
      transport.flush();
      t.equal(lost(), before + 1, `nobody is at ${place}`);
    };
    sendNowhere(30);
    t.equal(await spoken(receivers[0]!), STRANGER);
    transport.readdress(30, first);
    await send(30, '0');
    t.equal(await spoken(receivers[0]!), REPLICA_ADDRESS, 'the last slot is one of a host');
    transport.readdress(30, second);
    await send(30, '1');
    t.equal(await spoken(receivers[0]!), STRANGER, 'it has moved');
    t.equal(await spoken(receivers[1]!), REPLICA_ADDRESS);
    transport.readdress(40, first);
    await send(40, '0');
    t.equal(await spoken(receivers[0]!), STRANGER, 'an address that is asked is not one of a host');
    transport.readdress(30, NOWHERE);
    sendNowhere(30);
    t.equal(await spoken(receivers[1]!), STRANGER);
    placed = true;
    t.equal(await spoken(receivers[1]!), STRANGER);
    placed = false;
    await send(PLACES - 1, '1');
    t.equal(await spoken(receivers[1]!), STRANGER, 'whoever spoke is written to, and is no host for that');
    t.ok(transport.endpointOf('127.0.0.9', 9) >= PLACES, 'the others are numbered behind the places');
  });
}

t.test('ids and slots', async (t) => {
  const ids = new HostIds(3);
  t.same(
    [0, 1, 2, 3, 0xffff].map((id) => ids.slotOf(id)),
    [0, 1, 2, UNLISTED, UNLISTED],
  );
  ids.list(700, 1);
  ids.unlist(1);
  ids.unlist(9_999);
  t.same(
    [0, 1, 2, 699, 700, 701].map((id) => ids.slotOf(id)),
    [0, UNLISTED, 2, UNLISTED, 1, UNLISTED],
  );
});

function datagramOf(sender: number, ...messages: Uint8Array[]): Uint8Array {
  const envelope = new Envelope(hash, 1, 2, sender, 3);
  const bytes = Buffer.concat([new Uint8Array(envelope.bytesIn(envelope.newest)), ...messages]);
  envelope.seal(bytes, 0, bytes.length);
  return bytes;
}

function plea(view: number): Uint8Array {
  const bytes = new Uint8Array(Plea.size);
  begin(Plea, bytes, 0);
  writeI32(bytes, Plea.at.view, view);
  return bytes;
}

function question(): Uint8Array {
  const bytes = new Uint8Array(AskMembers.size);
  begin(AskMembers, bytes, 0);
  writeU16(bytes, AskMembers.at.padding, 0);
  return bytes;
}

t.test(
  'a host is known by its id, and of one that is not listed only questions for the members are read',
  async (t) => {
    const envelope = new Envelope(hash, 1, 2, 0, 3);
    const seen: string[] = [];
    const unlisted: string[] = [];
    const reader = new DatagramReader(
      envelope,
      { sender: () => PLACES + 77 },
      true,
      (bytes, at, _length, from) => seen.push(`${bytes[at + 1] === Plea.type ? 'plea' : 'question'} of ${from}`),
      presentPeers(PLACES),
      undefined,
      undefined,
      undefined,
      undefined,
      (id, endpoint) => unlisted.push(`${id} at ${endpoint}`),
    );
    const read = (bytes: Uint8Array): number => reader.read(bytes, 0, bytes.length);
    const refused = (): number => reader.drops[SENDER_REFUSED]!;
    t.equal(DROP_REASON_NAMES[SENDER_REFUSED], 'sender');
    read(datagramOf(7, plea(1), question(), plea(2)));
    t.same(seen, [`question of ${PLACES + 77}`]);
    t.same([refused(), unlisted], [1, [`7 at ${PLACES + 77}`]], 'it is counted, and reported');
    const forged = datagramOf(7, question());
    forged[forged.length - 1]! ^= 1;
    read(forged);
    t.same([refused(), unlisted.length, seen.length], [1, 1, 1], 'what is not intact is nobody’s');
    envelope.ids.list(7, 30);
    read(datagramOf(7, plea(1)));
    t.same(seen.slice(1), ['plea of 30']);
    envelope.ids.unlist(2);
    read(datagramOf(2, plea(1)));
    t.same([refused(), unlisted.length, seen.length], [2, 2, 2]);
    const list = new Uint8Array(Members.size);
    begin(Members, list, 0);
    read(datagramOf(CLIENT_SENDER, question(), list, question()));
    t.equal(reader.drops[DROP_REASON_NAMES.indexOf('role')], 1, 'a client does not say who the members are');
    t.same(seen.slice(2), [`question of ${PLACES + 77}`], 'and may ask');
    read(datagramOf(0, list));
    t.equal(seen.length, 4, 'a host may');
  },
);

t.test('one message to hosts in any slots is sealed once', async (t) => {
  const sent: [number, number][] = [];
  const transport = {
    acquire: (length: number) => new Uint8Array(length),
    release: () => undefined,
    flush: () => undefined,
    send: (bytes: Uint8Array, _length: number, to: number) => {
      sent.push([to, readI32(bytes, bytes.length - 4)]);
    },
    counters: new Float64Array(32),
  } as unknown as Transport;
  const outbox = new DatagramOutbox(
    transport,
    new Envelope(hash, 1, 2, 0, 3),
    DEFAULT_DATAGRAM_BYTES,
    presentPeers(PLACES),
  );
  const write = (mask: number, last: number, view: number): void => {
    const o = outbox.reserveEach(mask, last, Plea.size);
    outbox.bytes.set(plea(view), o);
    outbox.commit(Plea.size);
  };
  write((1 << 3) | (1 << 17) | (1 << 30), 16, 5);
  write((1 << 3) | (1 << 30), 17, 6);
  write((1 << 3) | (1 << 17) | (1 << 30), 16, 7);
  outbox.flush();
  t.same(
    sent.map(([to]) => to),
    [3, 17, 30, 16, 3, 30, 17],
    'two datagrams, each to its own set',
  );
  t.equal(outbox.messages, 3);
});
