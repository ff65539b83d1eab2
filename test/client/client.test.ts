import { createSocket } from 'node:dgram';
import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { partsOf } from '../../src/client/client-parts.js';
import { ClientHost } from '../../src/client/client-host.js';
import { Client, type ClientOptions } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { JitPaxosError } from '../../src/errors.js';
import { CounterMachine } from '../../src/machine/counter.js';
import { EchoMachine } from '../../src/machine/echo.js';
import { KvMachine } from '../../src/machine/kv.js';
import { native } from '../../src/native/addon.js';
import { QUEUED } from '../../src/protocol/client/send-window.js';
import { Outcome } from '../../src/protocol/contract.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger, type Logger } from '../../src/host/logger.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString();

async function connect(cluster: ClusterConfig, options: Partial<ClientOptions> = {}): Promise<Client> {
  return Client.connect({ cluster, logger: silentLogger, ...options });
}

/** How a promise ended: its error's code, or `ok`. */
async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'ok';
  } catch (error) {
    return error instanceof JitPaxosError ? error.code : String(error);
  }
}

t.test('three replicas and a key-value store', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const client = await connect(cluster, { lanes: 4 });
  const kv = new KvClient(client);

  await t.test('every operation', async (t) => {
    t.equal(await kv.get('a'), undefined);
    await kv.put('a', 'one');
    t.equal(text(await kv.get('a')), 'one');
    t.equal(await kv.compareAndSet('a', 'two', 'three'), false);
    t.equal(await kv.compareAndSet('a', 'one', 'two'), true);
    t.equal(await kv.compareAndSet('b', null, 'new'), true, 'null: if absent');
    t.equal(await kv.compareAndSet('b', null, 'newer'), false);
    t.equal(await kv.compareAndSet('b', 'new', null), true, 'null: deletes');
    t.equal(await kv.delete('b'), false);
    t.equal(await kv.increment('n'), 1n);
    t.equal(await kv.increment('n', -5), -4n);
    t.equal(await kv.increment('n', 2n ** 40n), 2n ** 40n - 4n);
    await t.rejects(kv.increment('a'), { code: 'kv-not-a-number', category: 'caller' });
    await kv.put(new Uint8Array([0, 255]), new Uint8Array([1, 2, 3]));
    t.same([...(await kv.get(new Uint8Array([0, 255])))!], [1, 2, 3]);
    const scan = await kv.scan({ from: 'a', to: 'z', limit: 1 });
    t.same(
      scan.entries.map(({ key, value }) => [text(key), text(value)]),
      [['a', 'two']],
    );
    t.equal(scan.more, true);
    t.equal((await kv.scan()).entries.length, 3);
    t.equal(await kv.delete('a'), true);
    await t.rejects(kv.put('k', new Uint8Array(100_000)), { code: 'kv-limit' });
    for (const call of [
      () => kv.get('a\ud800'),
      () => kv.put('\udc00', ''),
      () => kv.put('k', 'half \ud83d'),
      () => kv.delete('\ude00\ud83d'),
      () => kv.increment('\ud800'),
      () => kv.compareAndSet('k', '\ud800', null),
      () => kv.compareAndSet('k', null, '\ud800'),
      () => kv.scan({ from: '\ud800' }),
      () => kv.scan({ to: '\ud800' }),
    ]) {
      await t.rejects(call() as Promise<void>, {
        code: 'text-ill-formed',
        category: 'caller',
        message: /half of a surrogate pair/,
      });
    }
    await kv.put('whole \u{1f600}', '\ufffd');
    t.equal(text(await kv.get('whole \u{1f600}')), '\ufffd');
    t.equal(await kv.delete('whole \u{1f600}'), true);
  });

  await t.test('without contention nearly everything takes one round trip', async (t) => {
    const before = client.stats();
    for (let i = 0; i < 200; i++) await kv.put(`key ${i}`, 'x');
    const after = client.stats();
    t.equal(after.commits - before.commits, 200);
    t.ok(after.fastCommits - before.fastCommits > 100, `${after.fastCommits - before.fastCommits} of 200 were fast`);
    t.match(after, {
      lanes: 4,
      openOperations: 0,
      waitingOperations: 0,
      session: /^[0-9a-f]{16}$/,
      transport: { kind: native.available ? 'native' : 'dgram' },
    });
    t.ok('late' in after.rejected && 'not-in-quorum' in after.rejected);
  });

  await t.test('more operations than lanes wait their turn', async (t) => {
    const results = await Promise.all(Array.from({ length: 300 }, () => kv.increment('many')));
    t.same(
      results.map(Number).sort((a, b) => a - b),
      Array.from({ length: 300 }, (_, i) => i + 1),
      'each executed once',
    );
  });

  await t.test('the caller may reuse its array at once, also while the operation waits', async (t) => {
    const plain = await connect(cluster, { lanes: 1 });
    const other = new KvClient(plain);
    await Promise.all(Array.from({ length: 20 }, (_, i) => other.put(`reuse ${i}`, String(i)))); // one scratch array inside
    for (let i = 0; i < 20; i++) t.equal(text(await other.get(`reuse ${i}`)), String(i));
    await plain.close();
  });

  await t.test('several clients on the same keys', async (t) => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect(cluster)));
    await Promise.all(
      clients.flatMap((each) => Array.from({ length: 50 }, () => new KvClient(each).increment('shared'))),
    );
    t.equal(await kv.increment('shared', 0), 200n);
    await Promise.all(clients.map((each) => each.close()));
  });

  await t.test('closing with operations open and waiting: each is told what is known', async (t) => {
    const closing = await connect(cluster, { lanes: 2 });
    const calls = Array.from({ length: 5 }, () => codeOf(closing.execute(new Uint8Array(9))));
    const closed = closing.close();
    t.same(await Promise.all(calls), [
      'outcome-unknown',
      'outcome-unknown',
      'client-closed',
      'client-closed',
      'client-closed',
    ]);
    await closed;
    await closing.close();
    t.equal(await codeOf(closing.execute(new Uint8Array(1))), 'client-closed');
  });

  await client.close();
  await Promise.all(replicas.map((replica) => replica.close()));

  await t.test('all replicas have the same log', async (t) => {
    const [first, ...others] = replicas.map((replica) => replica.status());
    for (const other of others) {
      if (other.members.includes(other.id))
        t.same([other.lastIndex, other.lastChain], [first!.lastIndex, first!.lastChain]);
    }
  });
});

t.test('what a call can end with', async (t) => {
  const cluster = {
    ...(await clusterConfig(3)),
    limits: { logEntries: 1024, logBytes: 1 << 20, operationBytes: 1000 },
  };
  const replicas = await startReplicas(cluster, () => new EchoMachine());
  const client = await connect(cluster, { lanes: 1, queue: 2, timeout: 3_000 });
  const operation = new Uint8Array(10).fill(7);

  await t.test('options and sizes are checked before anything is sent', async (t) => {
    const before = client.stats().counters['submitted'];
    await t.rejects(client.execute(new Uint8Array(1001)), {
      code: 'operation-too-large',
      category: 'caller',
      retryable: false,
      message: /1001 bytes, this cluster accepts 1000/,
    });
    await t.rejects(client.execute('text' as unknown as Uint8Array), {
      code: 'option-invalid',
      message: /"text"; it has to be a Uint8Array/,
    });
    await t.rejects(client.execute(operation, { timeOut: 1 } as object), {
      code: 'option-invalid',
      message: /did you mean "timeout"\?/,
    });
    await t.rejects(client.execute(operation, { timeout: 0 }), { code: 'option-invalid', message: /timeout is 0/ });
    t.equal(client.stats().counters['submitted'], before);
    t.same(await client.execute(new Uint8Array(1000).fill(3)), new Uint8Array(1000).fill(3), 'the longest is accepted');
    t.same(await client.execute(new Uint8Array(0)), new Uint8Array(0));
  });

  await t.test('the queue is full', async (t) => {
    const calls = Array.from({ length: 5 }, () => codeOf(client.execute(operation)));
    t.same(await Promise.all(calls), ['ok', 'ok', 'ok', 'busy', 'busy']);
  });

  await t.test('renewals of leases go before calls that wait; more of them than 64 wait as others do', async (t) => {
    const { first } = partsOf(client)!;
    const order: string[] = [];
    const note = (name: string) => (): void => void order.push(name);
    await Promise.all([
      client.execute(operation).then(note('sent')),
      client.execute(operation).then(note('waiting 1')),
      client.query(operation).then(note('waiting 2')),
      first.execute(operation).then(note('first 1')),
      first.query(operation).then(note('first 2')),
    ]);
    t.same(order, ['sent', 'first 1', 'first 2', 'waiting 1', 'waiting 2']);
    const withdrawn = new AbortController();
    const sent = client.execute(operation);
    const gone = first.execute(operation, { signal: withdrawn.signal });
    t.equal(client.stats().waitingOperations, 1);
    withdrawn.abort();
    await t.rejects(gone, { code: 'aborted' });
    t.equal(client.stats().waitingOperations, 0);
    await sent;
    const many = await Promise.all(Array.from({ length: 1 + 64 + 2 + 3 }, () => codeOf(first.execute(operation))));
    t.same([many.filter((code) => code === 'ok').length, many.slice(-3)], [67, ['busy', 'busy', 'busy']]);
  });

  await t.test('aborted: before, while waiting, after it was sent', async (t) => {
    await t.rejects(client.execute(operation, { signal: AbortSignal.abort('why') }), { code: 'aborted', cause: 'why' });
    const open = new AbortController();
    const waiting = new AbortController();
    const first = client.execute(operation, { signal: open.signal });
    const second = client.execute(operation, { signal: waiting.signal });
    waiting.abort(new Error('changed my mind'));
    open.abort();
    await t.rejects(second, { code: 'aborted', retryable: true, cause: { message: 'changed my mind' } });
    await t.rejects(first, { code: 'outcome-unknown', retryable: false });
    t.same(await client.execute(operation), operation, 'the lane is usable again');
    t.equal(client.stats().waitingOperations, 0);
    const late = new AbortController();
    await client.execute(operation, { signal: late.signal });
    late.abort();
    t.same(await client.execute(operation), operation, 'an abort afterwards does nothing');
    const lasting = new AbortController();
    for (let i = 0; i < 3; i++) await client.execute(operation, { signal: lasting.signal });
    t.same(getEventListeners(lasting.signal, 'abort'), [], 'a signal that lives long collects no listeners');
  });

  await t.test('many calls of one signal are one listener, and all of them are aborted', async (t) => {
    const many = new AbortController();
    const ends = Array.from({ length: 3 }, () => codeOf(client.execute(operation, { signal: many.signal })));
    const other = codeOf(client.query(operation, { signal: AbortSignal.any([many.signal]) })); // does not fit the queue
    t.equal(getEventListeners(many.signal, 'abort').length, 1);
    many.abort();
    t.same(
      await Promise.all(ends),
      ['outcome-unknown', 'aborted', 'aborted'],
      'what waits is withdrawn before the lane is free',
    );
    t.equal(await other, 'busy');
    t.same(getEventListeners(many.signal, 'abort'), []);
    t.same(await client.execute(operation), operation);
    const wide = await connect(cluster, { lanes: 8 });
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning.name);
    process.on('warning', onWarning);
    const lasting = new AbortController();
    await Promise.all(Array.from({ length: 300 }, () => wide.execute(operation, { signal: lasting.signal })));
    await sleep(5); // warnings come with the next tick
    process.off('warning', onWarning);
    t.same(warnings, [], 'no word of a leak');
    t.same(getEventListeners(lasting.signal, 'abort'), []);
    await wide.close();
  });

  await t.test('time is up: sent, and not sent', async (t) => {
    await Promise.all(replicas.map((replica) => replica.close()));
    const sent = client.execute(operation, { timeout: 60 });
    const never = client.execute(operation, { timeout: 30 });
    const forever = codeOf(client.execute(operation, { timeout: Infinity }));
    await t.rejects(never, { code: 'aborted', message: /waited 30 ms for a lane/ });
    await t.rejects(sent, { code: 'outcome-unknown', message: /within 60 ms/ });
    await client.close();
    t.equal(await forever, 'outcome-unknown', 'it had the lane by then');
  });
});

t.test('connecting', async (t) => {
  await t.test('nobody is there', async (t) => {
    const cluster = await clusterConfig(3);
    const start = performance.now();
    await t.rejects(connect(cluster, { connectTimeout: 80 }), {
      code: 'cluster-unavailable',
      category: 'environment',
      retryable: true,
      message: /none of them answered/,
    });
    t.ok(performance.now() - start >= 79);
  });

  await t.test('one of three is there', async (t) => {
    const cluster = await clusterConfig(3);
    const [replica] = await startReplicas({ ...cluster }, () => new EchoMachine()).then(async ([first, ...others]) => {
      await Promise.all(others.map((other) => other.close()));
      return [first!];
    });
    await t.rejects(connect(cluster, { connectTimeout: 1_500 }), {
      code: 'cluster-unavailable',
      message: /too few of them answered/,
    });
    await replica!.close();
  });

  await t.test('given up', async (t) => {
    const cluster = await clusterConfig(3);
    await t.rejects(connect(cluster, { signal: AbortSignal.abort() }), { code: 'aborted' });
    await t.rejects(connect(cluster, { signal: AbortSignal.timeout(30) }), { code: 'aborted' });
  });

  await t.test('with options that are wrong', async (t) => {
    const cluster = await clusterConfig(3);
    for (const [options, message] of [
      [{ lane: 3 }, /did you mean "lanes"\?/],
      [{ lanes: 0 }, /lanes is 0; it has to be an integer from 1 to 4096/],
      [{ lanes: 5000 }, /lanes is 5000/],
      [{ leadNs: -1 }, /leadNs is -1/],
      [{ timings: { retryMs: 1 } }, /did you mean "retryUs"\?/],
      [{ timeout: 'long' }, /timeout is "long"/],
      [{ queue: 1.5 }, /queue is 1\.5/],
      [{ transport: 'quic' }, /transport is "quic"/],
    ] as const) {
      await t.rejects(connect(cluster, options as unknown as ClientOptions), { code: 'option-invalid', message });
    }
  });

  await t.test('with a clock that runs far ahead of the cluster', async (t) => {
    const cluster = await clusterConfig(3);
    const replicas = await startReplicas(cluster, () => new EchoMachine());
    const client = await connect(cluster, { leadNs: 2e9 });
    t.same(await client.execute(new Uint8Array([1, 2])), new Uint8Array([1, 2]));
    t.ok(client.stats().rejected['too-far-ahead']! > 0);
    await client.close();
    await Promise.all(replicas.map((replica) => replica.close()));
  });

  await t.test('over IPv6, and to a cluster of both families', async (t) => {
    for (const hosts of [['::1'], ['127.0.0.1', '::1', '127.0.0.1']]) {
      const cluster = await clusterConfig(3, hosts);
      const replicas = await startReplicas(cluster, () => new EchoMachine());
      const client = await connect(cluster);
      t.same(await client.execute(new Uint8Array([1, 2])), new Uint8Array([1, 2]));
      await client.close();
      await Promise.all(replicas.map((replica) => replica.close()));
    }
  });
});

t.test('a session that was evicted is replaced', async (t) => {
  const cluster = { ...(await clusterConfig(3)), limits: { logEntries: 1024, logBytes: 1 << 20, maxSessions: 2 } };
  const replicas = await startReplicas(cluster, () => new CounterMachine());
  const events: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (event) => events.push(event) };
  const client = await connect(cluster, { lanes: 2, logger });
  await client.query(new Uint8Array(0)).catch(() => undefined);
  const { session } = client.stats();
  const others = [];
  for (let i = 0; i < 3; i++) others.push(await connect(cluster, { logger: silentLogger }));
  const ends = await Promise.all([
    codeOf(client.execute(new Uint8Array(1))),
    codeOf(client.execute(new Uint8Array(1))),
    codeOf(client.execute(new Uint8Array(1))),
  ]);
  t.same(ends.slice(0, 2), ['session-lost', 'session-lost']);
  t.equal(ends[2], 'ok', 'what waited goes out in the new session');
  t.not(client.stats().session, session);
  t.same(
    events.filter((event) => event.startsWith('client')),
    ['client.session-lost'],
  );
  t.equal(client.stats().counters['session_lost'], 1);
  t.equal(client.stats().counters['submitted'], 3, 'counters go on from one session to the next');
  await Promise.all([client, ...others].map((each) => each.close()));
  await Promise.all(replicas.map((replica) => replica.close()));
});

t.test(
  'thousands of operations at once: a few hundred are on their way, the others wait and are executed too',
  async (t) => {
    const cluster = await clusterConfig(3);
    const replicas = await startReplicas(cluster, () => new CounterMachine());
    const client = await connect(cluster, { lanes: 4_096, timeout: 120_000 });
    const open = Array.from({ length: 4_096 }, () => client.execute(new Uint8Array(8)));
    const { window, unsentOperations, openOperations } = client.stats();
    t.equal(openOperations, 4_096);
    t.equal(window, QUEUED);
    t.equal(unsentOperations, 4_096 - QUEUED);
    await Promise.all(open);
    const after = client.stats();
    t.equal(after.commits, 4_096);
    t.equal(after.unsentOperations, 0);
    t.equal(after.counters['waited'], unsentOperations);
    await client.close();
    await Promise.all(replicas.map((replica) => replica.close()));
  },
);

t.test('lanes that run out of request numbers go on in another session, and nobody notices', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const client = await connect(cluster, { lanes: 4, requestsPerLane: 32 });
  const kv = new KvClient(client);
  const { session } = client.stats();
  const results = await Promise.all(Array.from({ length: 1_000 }, () => kv.increment('n')));
  t.same(
    results.map(Number).sort((a, b) => a - b),
    Array.from({ length: 1_000 }, (_, i) => i + 1),
    'each executed once',
  );
  for (let i = 0; i < 100; i++) if ((await kv.get('n')) === undefined) t.fail('reads go on as well');
  t.not(client.stats().session, session);
  t.match(client.stats().counters, { submitted: 1_000, session_lost: 0, unknown: 0 });
  await t.rejects(connect(cluster, { requestsPerLane: 7 }), { code: 'option-invalid', message: /requestsPerLane/ });
  await client.close();
  await Promise.all(replicas.map((replica) => replica.close()));
});

t.test('the slot interface', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new EchoMachine());
  const ended: [number, number, number][] = [];
  const operation = new Uint8Array([9, 8, 7, 6]);
  const host: ClientHost = await ClientHost.connect(
    { cluster, lanes: 8, logger: silentLogger },
    {
      completed: (lane, outcome) => {
        ended.push([lane, outcome, host.resultLength(lane)]);
        if (ended.length < 400) host.submit(lane, operation, 1, 3, Infinity); // from within the completion
      },
      ready: () => t.fail('ready is for later sessions'),
      failed: (error) => t.fail(String(error)),
    },
  );
  t.equal(host.ready, true);
  for (let lane = 0; lane < 8; lane++) host.submit(lane, operation, 1, 3, Infinity);
  t.equal(host.isIdle(0), false);
  while (ended.length < 407) await sleep(2);
  t.ok(ended.every(([, outcome, length]) => outcome === Outcome.committed && length === 3));
  t.same([...host.resultBytes(0).subarray(0, 3)], [8, 7, 6]);
  host.read(0, operation, 0, 4, 1e6);
  host.cancel(0);
  t.same(ended.at(-1)!.slice(0, 2), [0, Outcome.unknown]);
  await host.close();
  t.throws(() => host.submit(0, operation, 0, 4, Infinity), { code: 'busy' });
  await Promise.all(replicas.map((replica) => replica.close()));
});

t.test('garbage does not reach a client', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new EchoMachine());
  const client = await connect(cluster);
  const { host } = client as unknown as { host: ClientHost };
  const socket = createSocket('udp4');
  for (let i = 0; i < 100; i++)
    await new Promise((resolve) =>
      socket.send(crypto.getRandomValues(new Uint8Array(i * 5)), host.transport.port, '127.0.0.1', resolve),
    );
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  t.same(await client.execute(new Uint8Array([5])), new Uint8Array([5]));
  const { drops } = client.stats();
  t.ok(Object.values(drops).reduce((sum, count) => sum + count, 0) >= 90, JSON.stringify(drops));
  await client.close();
  await Promise.all(replicas.map((replica) => replica.close()));
});
