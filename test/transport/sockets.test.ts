// What every transport does, held against each that this host has.
import { createSocket } from 'node:dgram';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { TransportCounter, type Address, type Transport } from '../../src/transport/transport.js';
import { MAX_DATAGRAM_BYTES } from '../../src/wire/envelope.js';
import { freeAddress, TRANSPORTS, until } from './fixtures.js';

type Make = (typeof TRANSPORTS)[string];

for (const [name, make] of Object.entries(TRANSPORTS)) {
  t.test(name, async (t) => {
    await t.test('datagrams are exchanged', (t) => exchange(t, make));
    await t.test('what goes wrong', (t) => goesWrong(t, make));
    await t.test('what a receiver may do', (t) => receivers(t, make, name));
  });
}

/** Sends `bytes` to replica 0. */
function say(transport: Transport, bytes: Uint8Array): void {
  const array = transport.acquire(bytes.length)!;
  array.set(bytes);
  transport.send(array, bytes.length, 0);
  transport.flush();
}

async function exchange(t: Test, make: Make): Promise<void> {
  for (const family of [4, 6] as const) {
    await t.test(`over IPv${family}`, async (t) => {
      const address = await freeAddress(family);
      const heard: string[] = [];
      const server: Transport = make({
        replicas: [address],
        listen: address,
        receive: (bytes, offset, length) => {
          heard.push(Buffer.from(bytes.subarray(offset, offset + length)).toString());
          const endpoint = server.sender();
          t.ok(endpoint >= 1, 'a stranger gets a number above the replicas');
          t.equal(server.sender(), endpoint, 'and keeps it');
          const answer = server.acquire(4)!;
          answer.set(Buffer.from('pong'));
          server.send(answer, 4, endpoint);
          server.flush();
        },
      });
      await server.open();
      t.equal(server.port, address.port);
      const answers: string[] = [];
      const client = make({
        replicas: [address],
        receive: (bytes, offset, length) =>
          answers.push(Buffer.from(bytes.subarray(offset, offset + length)).toString()),
      });
      await client.open();
      t.ok(client.port > 0);
      say(client, Buffer.from('ping'));
      await until(() => answers.length === 1, 'the answer came');
      t.same(heard, ['ping']);
      t.same(answers, ['pong']);
      t.equal(client.counters[TransportCounter.datagrams_sent], 1);
      t.equal(client.counters[TransportCounter.datagrams_received], 1);
      t.equal(client.counters[TransportCounter.bytes_received], 4);
      await Promise.all([client.close(), client.close(), server.close()]);
    });
  }

  await t.test('between families: a replica on IPv4 reaches one on IPv6', async (t) => {
    const replicas = [await freeAddress(4), await freeAddress(6)];
    const heard: number[] = [];
    const both = replicas.map((listen, index) => make({ replicas, listen, receive: () => heard.push(index) }));
    for (const transport of both) await transport.open();
    both.forEach((transport, index) => {
      transport.send(transport.acquire(1)!, 1, 1 - index);
      transport.flush();
    });
    await until(() => heard.length === 2, 'both heard the other');
    t.same(heard.sort(), [0, 1]);
    await Promise.all(both.map((transport) => transport.close()));
  });

  await t.test('the longest datagram arrives whole, and is counted as fragmented', async (t) => {
    const address = await freeAddress(4);
    let received = 0;
    const server = make({
      replicas: [address],
      listen: address,
      receive: (_bytes, _offset, length) => (received = length),
    });
    await server.open();
    const client = make({ replicas: [address] });
    await client.open();
    say(client, new Uint8Array(MAX_DATAGRAM_BYTES));
    await until(() => received > 0, 'it arrived');
    t.equal(received, MAX_DATAGRAM_BYTES);
    t.equal(client.counters[TransportCounter.datagrams_fragmented], 1);
    t.equal(client.acquire(MAX_DATAGRAM_BYTES + 1), undefined, 'there is no array for a longer one');
    await Promise.all([client.close(), server.close()]);
  });
}

async function goesWrong(t: Test, make: Make): Promise<void> {
  await t.test('a port that is taken is named, and the sockets are closed again', async (t) => {
    const address = await freeAddress(4);
    const first = make({ replicas: [address], listen: address });
    await first.open();
    const second = make({ replicas: [address], listen: address });
    await t.rejects(second.open(), {
      code: 'port-in-use',
      retryable: true,
      message: new RegExp(`127\\.0\\.0\\.1:${address.port}`),
    });
    await first.close();
    const third = make({ replicas: [address], listen: address });
    await third.open();
    await third.close();
  });

  await t.test('an address of another host', async (t) => {
    const listen: Address = { host: '192.0.2.1', port: 7400, family: 4 };
    await t.rejects(make({ replicas: [listen], listen }).open(), {
      code: 'address-unavailable',
      category: 'environment',
    });
  });

  await t.test('an unknown endpoint, and a closed transport, lose the datagram and nothing else', async (t) => {
    const address = await freeAddress(4);
    const transport = make({ replicas: [address] });
    await transport.open();
    transport.send(transport.acquire(10)!, 10, 12_345);
    transport.flush();
    t.equal(transport.counters[TransportCounter.endpoint_unknown], 1);
    t.throws(() => transport.sender(), 'outside of a receive there is no sender');
    await transport.close();
    transport.send(transport.acquire(10)!, 10, 0);
    t.equal(transport.counters[TransportCounter.send_errors], 1);
  });

  await t.test('a buffer that the kernel cut is reported with the sysctl to raise', async (t) => {
    const notices: [string, Record<string, unknown>][] = [];
    const address = await freeAddress(4);
    const transport = make({
      replicas: [address],
      receiveBufferBytes: 1 << 30,
      sendBufferBytes: 1 << 30,
      notice: (event, fields) => notices.push([event, { ...fields }]),
    });
    await transport.open();
    t.same(
      notices.map(([event]) => event),
      ['transport.small-buffer', 'transport.small-buffer'],
    );
    t.match(notices[0]![1], { direction: 'receive', askedBytes: 1 << 30, next: /net\.core\.rmem_max/ });
    t.match(notices[1]![1], { direction: 'send', next: /net\.core\.wmem_max/ });
    await transport.close();
  });

  await t.test('a peer that does not listen: nothing is lost but what was sent to it', async (t) => {
    const address = await freeAddress(4);
    const client = make({ replicas: [address] });
    await client.open();
    for (let i = 0; i < 100; i++) say(client, new Uint8Array(10)); // each is answered by an ICMP message
    t.equal(client.counters[TransportCounter.send_errors], 0);
    let heard = 0;
    const server = make({ replicas: [address], listen: address, receive: () => heard++ });
    await server.open();
    say(client, new Uint8Array(10));
    await until(() => heard === 1, 'it hears what is sent when it listens');
    await Promise.all([client.close(), server.close()]);
  });

  await t.test('datagrams of other programs: the longest that UDP has, and an empty one', async (t) => {
    const address = await freeAddress(4);
    const heard: number[] = [];
    const server = make({
      replicas: [address],
      listen: address,
      receive: (bytes, offset, length) => heard.push(length === 0 ? 0 : length + bytes[offset + length - 1]! - 7),
    });
    await server.open();
    const stranger = createSocket('udp4');
    for (const length of [65_507, 0, 65_507, 1])
      await new Promise((resolve) =>
        stranger.send(new Uint8Array(length).fill(7), address.port, address.host, resolve),
      );
    await until(() => heard.length === 4, 'they arrived');
    t.same(heard, [65_507, 0, 65_507, 1]);
    stranger.close();
    await server.close();
  });

  await t.test('a burst larger than any buffer: all is either sent or counted, nothing throws', async (t) => {
    const address = await freeAddress(4);
    const server = make({ replicas: [address], listen: address, receiveBufferBytes: 4096 });
    await server.open();
    const client = make({ replicas: [address], sendBufferBytes: 4096 });
    await client.open();
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      const bytes = client.acquire(1400);
      if (bytes === undefined) refused++;
      else client.send(bytes, 1400, 0);
    }
    client.flush();
    const { counters } = client;
    await until(() => counters[TransportCounter.datagrams_sent]! + refused === 20_000, 'each was sent or refused');
    t.equal(counters[TransportCounter.send_queue_full], refused);
    await until(() => server.counters[TransportCounter.datagrams_received]! > 0, 'some arrived');
    await Promise.all([client.close(), server.close()]);
  });
}

async function receivers(t: Test, make: Make, name: string): Promise<void> {
  await t.test('it may close the transport in the middle of what has arrived', async (t) => {
    const address = await freeAddress(4);
    let heard = 0;
    const server = make({
      replicas: [address],
      listen: address,
      receive: () => {
        if (++heard === 3) void server.close();
      },
    });
    await server.open();
    const client = make({ replicas: [address] });
    await client.open();
    for (let i = 0; i < 20; i++) client.send(client.acquire(10)!, 10, 0);
    client.flush();
    await until(() => heard >= 3, 'it closed');
    const again = make({ replicas: [address], listen: address });
    await again.open();
    t.equal(heard, 3, 'nothing is heard afterwards, and the port is free');
    await Promise.all([client.close(), again.close(), server.close()]);
  });

  await t.test('each datagram has its own sender, and answers find it', async (t) => {
    const address = await freeAddress(4);
    const server = make({
      replicas: [address],
      listen: address,
      receive: (bytes, offset, length) => {
        const answer = server.acquire(length)!;
        answer.set(bytes.subarray(offset, offset + length));
        server.send(answer, length, server.sender());
      },
      batchEnd: () => server.flush(),
    });
    await server.open();
    const answers = Array.from({ length: 10 }, (): number[] => []);
    const clients = answers.map((heard) =>
      make({ replicas: [address], receive: (bytes, offset) => heard.push(bytes[offset]!) }),
    );
    for (const client of clients) await client.open();
    for (let round = 0; round < 5; round++)
      clients.forEach((client, index) => say(client, new Uint8Array([index * 10 + round])));
    await until(() => answers.every((heard) => heard.length === 5), 'all were answered');
    t.same(
      answers,
      answers.map((_, index) => [0, 1, 2, 3, 4].map((round) => index * 10 + round)),
    );
    await Promise.all([server, ...clients].map((transport) => transport.close()));
  });

  await t.test('what it throws is an uncaught exception, and costs its own datagram only', async (t) => {
    const program = fileURLToPath(new URL('./throwing-program.js', import.meta.url));
    const run = spawnSync(process.execPath, [program, name], { encoding: 'utf8', timeout: 60_000 });
    t.equal(run.status, 0, run.stderr);
    t.same(JSON.parse(run.stdout), { heard: 40, thrown: 10, batchesEnd: true });
  });
}
