// The native transport alone: batches, turns, its table of endpoints, what the kernel refuses, and what it leaves
// behind.
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { EndpointTable } from '../../src/transport/endpoint-table.js';
import { TRANSPORT_COUNTER_NAMES, TransportCounter } from '../../src/transport/transport.js';
import { freeAddress, nativeTransport, until, withoutNative } from './fixtures.js';

const program = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

/** A network namespace of one's own: as root, or where the kernel lets anybody have one. */
const NAMESPACE = [['-n'], ['-rn']].find(
  (flags) =>
    spawnSync('unshare', [
      ...flags,
      'sh',
      '-c',
      'ip link set lo up && tc qdisc add dev lo root tbf rate 1mbit burst 2000 limit 1mb',
    ]).status === 0,
);
const withoutNamespace =
  withoutNative ||
  (NAMESPACE === undefined
    ? 'this user may not make a network namespace, or ip and tc (iproute2) are not here'
    : false);

t.test('batches and turns', { skip: withoutNative }, async (t) => {
  const address = await freeAddress(4);
  const order: string[] = [];
  const server = nativeTransport({
    replicas: [address],
    listen: address,
    idle: 'block',
    receive: (bytes, offset) => {
      order.push(String(bytes[offset]));
      t.ok(server.endBatchSoon(), 'within a batch the end can be had soon');
      void Promise.resolve().then(() => {
        order.push('promise');
        t.ok(server.endBatchSoon(), 'and within what it settled');
      });
    },
    batchEnd: () => order.push('end'),
  });
  await server.open();
  const client = nativeTransport({ replicas: [address] });
  await client.open();
  for (let i = 0; i < 3; i++) {
    const array = client.acquire(1)!;
    array[0] = i;
    client.send(array, 1, 0);
  }
  t.notOk(server.endBatchSoon(), 'outside of a batch it cannot');
  client.flush();
  await until(() => order.length >= 8, 'all were heard');
  t.same(
    order,
    ['0', '1', '2', 'end', 'promise', 'promise', 'promise', 'end'],
    'the batch ends once, and once more behind the promises',
  );

  order.length = 0;
  for (let i = 0; i < 100; i++) client.send(client.acquire(1)!, 1, 0);
  client.flush();
  await until(() => order.filter((what) => what === 'promise').length === 100, 'all were heard');
  t.ok(
    order.filter((what) => what === 'end').length <= 2 * Math.ceil(100 / 32),
    'a batch has as many as the slab holds',
  );
  await Promise.all([client.close(), server.close()]);
});

for (const family of [4, 6] as const) {
  for (const idle of ['block', 'adaptive', 'busy'] as const) {
    t.test(
      `IPv${family}, ${idle}: replicas that are not there are told of, and cost those that are there no datagram`,
      { skip: withoutNative },
      async (t) => {
        const [here, gone, alsoGone] = [
          await freeAddress(family),
          await freeAddress(family),
          await freeAddress(family),
        ];
        let heard = 0;
        const server = nativeTransport({ replicas: [here], listen: here, receive: () => heard++ });
        await server.open();
        let told = 0;
        const client = nativeTransport({
          replicas: [gone, here, alsoGone],
          idle,
          unreachable: (replicas) => (told |= replicas),
        });
        await client.open();
        for (let round = 0; round < 20; round++) {
          for (let replica = 0; replica < 3; replica++) client.send(client.acquire(1)!, 1, replica);
          client.flush();
          if (round % 4 === 0) await sleep(1);
        }
        await until(() => heard === 20 && told !== 0, 'all were heard');
        await until(() => told === 0b101, 'both were told of');
        t.equal(client.counters[TransportCounter.send_errors], 0);
        // The error queue is empty again: what comes later is told of later, and the loop sleeps meanwhile.
        told = 0;
        await sleep(20);
        t.equal(told, 0);
        client.send(client.acquire(1)!, 1, 2);
        client.flush();
        await until(() => told === 0b100, 'the later one was told of');
        await Promise.all([client.close(), server.close()]);
      },
    );
  }
}

t.test('a run of datagrams leaves as one and comes as many', { skip: withoutNative }, async (t) => {
  const addresses = [await freeAddress(4), await freeAddress(4)];
  const heard: number[][][] = [[], []];
  const servers = addresses.map((listen, server) =>
    nativeTransport({
      replicas: addresses,
      listen,
      receive: (bytes, offset, length) =>
        void heard[server]!.push([length, ...bytes.subarray(offset, offset + Math.min(length, 1))]),
    }),
  );
  for (const server of servers) await server.open();
  const client = nativeTransport({ replicas: addresses });
  await client.open();
  // A shorter one ends a run, so does a longer one; an empty one is one too; and what goes to two is written in turns.
  const lengths = [100, 100, 100, 60, 100, 100, 1000, 1000, 0, 7, 7];
  lengths.forEach((length, number) => {
    for (const to of [0, 1]) {
      const array = client.acquire(length)!;
      array[0] = 10 * to + number;
      client.send(array, length, to);
    }
  });
  client.flush();
  await until(() => heard.every((of) => of.length === lengths.length), 'all were heard');
  for (const to of [0, 1])
    t.same(
      heard[to],
      lengths.map((length, number) => (length === 0 ? [0] : [length, 10 * to + number])),
      'whole, and in their order',
    );
  t.equal(client.counters[TransportCounter.datagrams_sent], 2 * lengths.length);
  t.equal(client.counters[TransportCounter.bytes_sent], 2 * lengths.reduce((sum, length) => sum + length));
  t.equal(
    client.counters[TransportCounter.datagrams_segmented],
    2 * (lengths.length - 1),
    'all but the empty ones in runs',
  );

  // More than one message takes, and than the kernel takes at once.
  for (let i = 0; i < 700; i++) client.send(client.acquire(90)!, 90, 0);
  client.flush();
  await until(() => heard[0]!.length === lengths.length + 700, 'all were heard');
  await Promise.all([client.close(), ...servers.map((server) => server.close())]);
});

t.test('endpoints are numbered as by the table of the dgram transport', { skip: withoutNative }, async (t) => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.comment(`SEED=${seed}`);
  let x = seed | 1;
  const random = (n: number): number => {
    x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
    x = (x + 0x6d2b79f5) | 0;
    return (x >>> 0) % n;
  };
  const replicas = [await freeAddress(4), await freeAddress(6), await freeAddress(4)];
  const transport = nativeTransport({ replicas, endpoints: 16 });
  const model = new EndpointTable(replicas.length, 16);
  for (let i = 0; i < 20_000; i++) {
    const host = random(3) === 0 ? `fd00::${random(8) + 1}` : `10.0.0.${random(8)}`;
    const port = 7000 + random(4);
    const number = transport.endpointOf(host, port);
    const expected = model.intern(host, port);
    if (number !== expected) t.fail(`${host} ${port} at step ${i}: ${number} instead of ${expected}`);
  }
  t.equal(transport.counters[TransportCounter.endpoints_evicted], model.evicted);
  t.ok(model.evicted > 1000, 'addresses were evicted');
  t.throws(() => transport.endpointOf('no-number', 1), { code: 'invalid-argument' });

  await transport.open();
  const stale = transport.endpointOf('10.1.0.1', 9);
  for (let port = 1; port <= 16; port++) transport.endpointOf('10.2.0.1', port);
  for (const endpoint of [stale, -1, 2 ** 31 - 1, 500]) transport.send(transport.acquire(1)!, 1, endpoint);
  transport.flush();
  t.equal(transport.counters[TransportCounter.endpoint_unknown], 4, 'a number whose address is gone leads nowhere');
  await transport.close();
});

t.test('polling that does not pay is given up', { skip: withoutNative }, async (t) => {
  for (const idle of ['adaptive', 'block'] as const) {
    const address = await freeAddress(4);
    const transport = nativeTransport({ replicas: [address], idle });
    await transport.open();
    for (let i = 0; i < 400; i++) {
      transport.send(transport.acquire(1)!, 1, 0);
      transport.flush();
      await sleep(1); // nobody answers
    }
    const wasted = transport.counters[TransportCounter.spins_wasted]!;
    t.equal(transport.counters[TransportCounter.spins_paid], 0);
    if (idle === 'block') t.equal(wasted, 0);
    // How many there are until it gives up depends on how long the host lets it sleep.
    else t.ok(wasted > 0 && wasted < 100, `${wasted} of 400`);
    await transport.close();
  }
});

t.test('the port refuses what is no argument', { skip: withoutNative }, async (t) => {
  const { native } = await import('../../src/native/addon.js');
  const { UdpPort } = native.addon!;
  const none = (): void => undefined;
  const good = {
    hosts: ['127.0.0.1'],
    ports: [9],
    replicas: 1,
    endpoints: 4,
    transmitBytes: 100,
    sends: 4,
    datagramBytes: 100,
    idle: 0,
    spinNs: 0,
    strangersAtOnce: 0,
    strangersPerSecond: 0,
    counters: TRANSPORT_COUNTER_NAMES,
  };
  for (const bad of [
    { hosts: ['localhost'] },
    { ports: [] },
    { replicas: 2 },
    { replicas: 0.5 },
    { replicas: undefined },
    { endpoints: 3 },
    { endpoints: 131_072 },
    { transmitBytes: 0 },
    { sends: 1e9 },
    { idle: 3 },
    { spinNs: -1 },
    // Numbers that C would make fit: a port of 2¹⁶ + 9 is not port 9.
    { ports: [65_545] },
    { ports: [-1] },
    { ports: [9.5] },
    { ports: [NaN] },
    { endpoints: 4.5 },
    { endpoints: 2 ** 32 + 4 },
    { idle: NaN },
    { spinNs: 0.5 },
    { strangersAtOnce: -1 },
    { strangersAtOnce: undefined },
    { strangersPerSecond: 2 ** 31 },
    { strangersPerSecond: 0.5 },
    { counters: ['bytes_sent'] },
  ]) {
    t.throws(() => new UdpPort({ ...good, ...bad } as never), { code: 'invalid-argument' }, JSON.stringify(bad));
  }
  t.throws(() => new UdpPort(undefined as never), { code: 'invalid-argument' });
  const port = new UdpPort(good);
  for (const count of [-1, 5, 0.5, NaN, '1'])
    t.throws(() => port.flush(count as number), { code: 'out-of-bounds' }, `flush(${count})`);
  t.throws(() => port.intern(0), { code: 'out-of-bounds' }, 'outside of a batch nobody has an entry');
  t.throws(() => port.flush.call({} as never, 0), TypeError, 'on something else');
  t.throws(() => port.bind('127.0.0.1', 0, 4096, 4096), { code: 'invalid-argument' }, 'before start');
  // Found by fuzz:native: what cannot become a number ended the process.
  for (const [family, direction] of [
    [1n, 'send'],
    [Symbol(), 'send'],
    [4, Symbol()],
  ])
    t.throws(() => port.bufferBytes(family as never, direction as never), { code: 'invalid-argument' });
  for (const family of [5, 4.5, NaN, 2 ** 32 + 4])
    t.throws(() => port.bufferBytes(family as never, 'send'), { code: 'invalid-argument' }, `family ${family}`);
  t.throws(() => port.bufferBytes(4, 'sent' as never), { code: 'invalid-argument' });
  for (const bad of [{ hosts: [Symbol()] }, { ports: [1n] }, { counters: [Symbol()] }])
    t.throws(() => new UdpPort({ ...good, ...bad } as never), { code: 'invalid-argument' });
  t.throws(() => port.start(none, none, none, undefined as never), { code: 'invalid-argument' });
  port.start(none, none, none, none);
  t.throws(() => port.start(none, none, none, none), { code: 'invalid-argument' }, 'twice');
  t.throws(() => port.bind('localhost', 0, 1, 1), { code: 'invalid-argument' });
  t.throws(() => port.bind('127.0.0.1', 0, 1n as never, 1), { code: 'invalid-argument' });
  for (const wrong of [-1, 0.5, NaN, 2 ** 16, 2 ** 32]) {
    t.throws(() => port.bind('127.0.0.1', wrong, 4096, 4096), { code: 'invalid-argument' }, `port ${wrong}`);
    t.throws(() => port.endpointOf('127.0.0.1', wrong), { code: 'invalid-argument' }, `port ${wrong}`);
    t.throws(() => port.readdress(0, '127.0.0.1', wrong), { code: 'invalid-argument' }, `port ${wrong}`);
  }
  for (const wrong of [-1, 0.5, NaN, 2 ** 31, 2 ** 32 + 4096])
    t.throws(() => port.bind('127.0.0.1', 0, 4096, wrong), { code: 'invalid-argument' }, `${wrong} bytes`);
  t.throws(() => port.endpointOf('127.0.0.1\0x', 9), { code: 'invalid-argument' }, 'C would read 127.0.0.1');
  port.bind('127.0.0.1', 0, 4096, 4096);
  // Found by fuzz:native: the first socket's handle was made anew under the event loop, which never came back from its
  // next pass.
  t.throws(() => port.bind('127.0.0.1', 0, 4096, 4096), { code: 'invalid-argument' }, 'twice in a family');
  port.sends.set([90, 11, 0, -1, 5, 0, 0, -1, 0, 2 ** 31 - 1, 1, 0]);
  t.equal(port.flush(4), 4);
  t.equal(port.counters[TransportCounter.send_errors], 4, 'ranges outside of the slab are not sent');
  port.close();
  port.close();
  t.throws(() => port.bind('127.0.0.1', 0, 1, 1), { code: 'invalid-argument' }, 'after close');
  t.equal(port.flush(1), 1, 'a closed port is done with everything');
});

t.test('in a network of its own', { skip: withoutNamespace }, async (t) => {
  const inside = (script: string): unknown => {
    const run = spawnSync('unshare', [...NAMESPACE!, process.execPath, program('network-program'), script], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    if (run.status !== 0) throw new Error(run.stderr);
    return JSON.parse(run.stdout);
  };
  await t.test(
    'a kernel without room: datagrams wait in order, their number is bounded, and all leave in the end',
    (t) => {
      const { sent, refused, deferred, heard, inOrder, stuck } = inside('full') as Record<string, number>;
      t.ok(deferred! > 0, `${deferred} waited`);
      t.ok(refused! > 0, `${refused} were refused`);
      t.equal(stuck, 0);
      t.equal(heard, sent);
      t.ok(inOrder);
      t.end();
    },
  );
  await t.test('a path that takes shorter datagrams only: runs leave as single datagrams, and nothing is lost', (t) => {
    const { heard, ...counted } = inside('narrow') as { heard: number[] };
    t.same(
      heard,
      Array.from({ length: 30 }, (_, number) => number),
    );
    t.same(counted, { sent: 30, segmented: 0, errors: 0, notices: [] });
    t.end();
  });
  await t.test('an interface that goes down: said once, counted each time, and mended with it', (t) => {
    const { down, up, heard, notices } = inside('down') as {
      down: number;
      up: number;
      heard: number;
      notices: string[];
    };
    t.equal(down, 10, 'errors while it is down');
    t.equal(up, 10, 'and no more when it is up');
    t.equal(heard, 2, 'what goes another way arrives all the time');
    t.match(notices, [/^send (ENETUNREACH|ENETDOWN|EINVAL)/]);
    t.equal(notices.length, 1);
    t.end();
  });
});

t.test('nothing is left behind', { skip: withoutNative }, async (t) => {
  await t.test('by thousands of transports opened and closed', (t) => {
    const result = JSON.parse(
      execFileSync(process.execPath, ['--expose-gc', program('cycles-program')], {
        encoding: 'utf8',
        timeout: 120_000,
      }),
    ) as { cycles: number; heard: number; descriptors: number; residentMiB: number; perCycleBytes: number };
    t.comment(JSON.stringify(result));
    t.equal(result.heard, result.cycles, 'each one worked');
    t.equal(result.descriptors, 0, 'descriptors more than before');
    t.ok(
      result.perCycleBytes < 10_000,
      `${result.perCycleBytes} bytes a cycle; a transport that stays takes ten times as much`,
    );
    t.end();
  });

  await t.test('by a thread that ends with open transports, in whatever way', async (t) => {
    for (const how of ['terminate', 'exit', 'close', 'throw', 'return'] as const) {
      // Terminated in the middle of a call into the addon, which happens every fiftieth time or so, a thread once ended
      // the process.
      for (let round = 0; round < (how === 'terminate' ? 40 : 3); round++) {
        const worker = new Worker(program('thread-program'), { workerData: how, stderr: true });
        const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
        worker.on('error', () => undefined);
        const port = await new Promise<number>((resolve) => worker.once('message', resolve));
        if (how === 'terminate') {
          await new Promise((resolve) => setTimeout(resolve, round % 8));
          await worker.terminate();
        } else worker.postMessage('go');
        await ended;
        const again = { host: '127.0.0.1', port, family: 4 } as const;
        const next = nativeTransport({ replicas: [again], listen: again });
        await next.open();
        await next.close();
      }
      t.pass(`${how}: its port is free again`);
    }
  });

  await t.test('by a process that ends with open transports', (t) => {
    for (const how of ['exit', 'throw'] as const) {
      const run = spawnSync(process.execPath, [program('thread-program'), how], { encoding: 'utf8', timeout: 30_000 });
      t.equal(run.signal, null, run.stderr);
      t.equal(run.status, how === 'exit' ? 0 : 1);
    }
    t.end();
  });
});

t.test('a datagram allocates nothing on its way out and in', { skip: withoutNative }, (t) => {
  const output = execFileSync(
    process.execPath,
    ['--expose-gc', '--max-semi-space-size=128', '--min-semi-space-size=128', program('native-allocation-program')],
    { encoding: 'utf8', timeout: 120_000 },
  );
  const { echo, control } = JSON.parse(output) as Record<
    'echo' | 'control',
    { bytesPerDatagram: number; datagrams: number }
  >;
  t.comment(`${echo!.bytesPerDatagram.toFixed(3)} bytes a datagram`);
  t.ok(echo!.datagrams >= 200_000);
  t.ok(echo!.bytesPerDatagram < 1, `${echo!.bytesPerDatagram} bytes a datagram`);
  t.ok(control!.bytesPerDatagram > 40, 'the measurement sees an allocation');
  t.end();
});
