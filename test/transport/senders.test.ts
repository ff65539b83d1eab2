// Whose datagrams they are before they are read: replicas' addresses, strangers, and what the kernel's filter leaves.
import t from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import { REPLICA_ADDRESS, STRANGER, TransportCounter } from '../../src/transport/transport.js';
import { Envelope } from '../../src/wire/envelope.js';
import { kernelFilter } from '../../src/wire/kernel-filter.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { freeAddress, nativeTransport, TRANSPORTS, until, withoutNative } from './fixtures.js';

for (const [name, make] of Object.entries(TRANSPORTS)) {
  t.test(`addresses of replicas are told from strangers' (${name})`, async (t) => {
    const [own, replica, elsewhere] = [await freeAddress(4), await freeAddress(4), await freeAddress(4)];
    const senders: number[] = [];
    let note = false;
    const receiver = make({
      replicas: [own, replica],
      listen: own,
      receive: () => {
        senders.push(receiver.knownSender());
        if (note) receiver.noteReplica(1);
      },
    });
    await receiver.open();
    t.teardown(() => receiver.close());
    const [fromReplica, fromElsewhere] = [replica, elsewhere].map((listen) => make({ replicas: [own], listen }));
    for (const sender of [fromReplica!, fromElsewhere!]) {
      await sender.open();
      t.teardown(() => sender.close());
    }
    const heard = async (sender: typeof receiver): Promise<number> => {
      const before = senders.length;
      sender.send(sender.acquire(10)!, 10, 0);
      sender.flush();
      await until(() => senders.length > before, 'it arrived');
      return senders.at(-1)!;
    };
    t.equal(await heard(fromReplica!), REPLICA_ADDRESS);
    t.equal(await heard(fromElsewhere!), STRANGER);
    t.equal(await heard(fromElsewhere!), STRANGER, 'nothing of it is remembered');
    note = true;
    t.equal(await heard(fromElsewhere!), STRANGER);
    note = false;
    t.equal(await heard(fromElsewhere!), REPLICA_ADDRESS, 'after it was found to be authentic');
    t.equal(await heard(fromReplica!), REPLICA_ADDRESS, 'the address of the cluster file still is one');
  });
}

t.test(
  'a filtered socket: garbage is dropped and counted; a run goes by its first datagram',
  { skip: withoutNative },
  async (t) => {
    const own = await freeAddress(4);
    const options = { clusterHi: 1, clusterLo: 2, oldest: WIRE_VERSION, newest: WIRE_VERSION, keyed: false };
    const received: number[] = [];
    const receiver = nativeTransport({
      replicas: [own],
      listen: own,
      filter: kernelFilter(options),
      receive: (bytes, offset) => void received.push(bytes[offset + 60]!),
    });
    await receiver.open();
    t.teardown(() => receiver.close());
    t.ok(receiver.isFiltered());
    const drops = receiver.kernelDrops();
    t.equal(drops, 0);
    const sender = nativeTransport({ replicas: [own] });
    await sender.open();
    t.teardown(() => sender.close());
    t.notOk(sender.isFiltered(), 'a client has no filter');
    const envelope = new Envelope(loadHash(), 1, 2, 0, 1);
    const other = new Envelope(loadHash(), 1, 3, 0, 1);
    const send = (by: Envelope, mark: number): void => {
      const bytes = sender.acquire(100)!;
      bytes[60] = mark;
      by.seal(bytes, 0, 100);
      sender.send(bytes, 100, 0);
    };
    const run = (...marks: readonly [Envelope, number][]): void => {
      for (const [by, mark] of marks) send(by, mark);
      sender.flush();
    };
    run([other, 1]);
    run([envelope, 2]);
    await until(() => received.length === 1, 'one arrived');
    t.same(received, [2]);
    t.equal(receiver.kernelDrops(), 1, 'the other one was dropped, and counted');
    const segmented = (): number => sender.counters[TransportCounter.datagrams_segmented]!;
    const before = segmented();
    run([envelope, 3], [other, 4], [envelope, 5]);
    await until(() => received.length === 4, 'a run arrived');
    t.same(received, [2, 3, 4, 5], 'a run whose first is good arrives whole');
    if (segmented() > before) {
      run([other, 6], [envelope, 7]);
      run([envelope, 8]);
      await until(() => received.length === 5, 'the last arrived');
      t.same(received.slice(4), [8], 'a run whose first is garbage is dropped whole: nobody mixes these by one socket');
    }
  },
);

t.test(
  'strangers beyond their allowance are dropped and counted, also in runs; nobody else is',
  { skip: withoutNative },
  async (t) => {
    const [own, replica] = [await freeAddress(4), await freeAddress(4)];
    const atOnce = 24;
    const marks: number[] = [];
    let intern = true;
    const receiver = nativeTransport({
      replicas: [own, replica],
      listen: own,
      strangers: { atOnce, perSecond: 1 },
      receive: (bytes, offset) => {
        marks.push(bytes[offset]!);
        if (intern) receiver.sender();
      },
    });
    const [known, stranger] = [nativeTransport({ replicas: [own] }), nativeTransport({ replicas: [own] })];
    const fromReplica = nativeTransport({ replicas: [own], listen: replica });
    for (const transport of [receiver, known, stranger, fromReplica]) {
      await transport.open();
      t.teardown(() => transport.close());
    }
    const received = (): number => receiver.counters[TransportCounter.datagrams_received]!;
    const send = async (sender: typeof known, count: number, mark: number): Promise<void> => {
      const before = received();
      for (let i = 0; i < count; i++) {
        const bytes = sender.acquire(20)!;
        bytes[0] = mark;
        sender.send(bytes, 20, 0);
      }
      sender.flush();
      await until(() => received() === before + count, `${count} were received`);
    };
    const heard = (mark: number): number => marks.filter((each) => each === mark).length;
    const beganMs = performance.now();
    await send(known, 1, 1);
    intern = false;
    await send(stranger, 10, 2);
    t.equal(heard(2), 10);
    await send(stranger, 100, 2);
    await send(known, 100, 1);
    await send(fromReplica, 100, 3);
    await send(stranger, 1, 2);
    t.same([heard(1), heard(3)], [101, 100], 'all of a known client, and of a replica');
    const earned = Math.ceil((performance.now() - beganMs) / 1_000);
    // The first datagram of the known client was a stranger's.
    t.ok(heard(2) >= atOnce - 1 && heard(2) <= atOnce - 1 + earned, `${heard(2)} of 111`);
    t.equal(receiver.counters[TransportCounter.strangers_dropped], 111 - heard(2));
    t.comment(`${stranger.counters[TransportCounter.datagrams_segmented]} of the stranger's were sent as runs`);
    await until(() => performance.now() - beganMs > 1_000 * (earned + 1), 'another one was earned');
    marks.length = 0;
    await send(stranger, 1, 2);
    t.equal(heard(2), 1, 'time earns another one');
  },
);
