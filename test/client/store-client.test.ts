/** The store's client against three replicas in this process, and `jitpaxos kv txn` against the same. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { StoreClient } from '../../src/client/store-client.js';
import { JitPaxosError } from '../../src/errors.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { PASSED_KEYS_MAX } from '../../src/machine/store/layout.js';
import { jitpaxos } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString();

t.test('the store over three replicas', async (t) => {
  const cluster: ClusterConfig = { ...(await clusterConfig(3)), features: ['store'] };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const client = await Client.connect({ cluster, logger: silentLogger, timeout: 60_000 });
  t.teardown(async () => {
    await client.close();
    for (const replica of replicas) await replica.close();
  });
  const store = new StoreClient(client);
  const kv = new KvClient(client);

  await t.test('revisions and conditions', async (t) => {
    const first = await store.put('a', 'one');
    t.match(first, { ok: true, ends: undefined });
    await kv.put('a', 'two');
    const found = await store.get('a');
    t.equal(text(found!.value), 'two');
    t.equal(found!.revision, first.revision + 1, 'an operation of KvClient is a change as well');
    t.equal(await store.get('b'), undefined);
    t.equal((await store.put('a', 'three', { if: { absent: true } })).ok, false);
    t.equal((await store.put('b', 'three', { if: { present: true } })).ok, false);
    t.equal((await store.put('a', 'three', { if: { revision: first.revision } })).ok, false);
    t.equal((await store.put('a', 'three', { if: { revision: found!.revision } })).ok, true);
    t.equal(await store.delete('a', { if: { revision: found!.revision } }), false);
    t.equal(await store.delete('a', { if: { present: true } }), true);
    t.equal(await store.delete('a'), false);
    await t.rejects(store.put('a', 'b', { if: { revision: 0 } }), { code: 'kv-limit' });
    await t.rejects(store.transact({ otherwise: [] } as object), { code: 'option-invalid' });
    await t.rejects(store.put('a', '\ud800'), { code: 'text-ill-formed' });
    await t.rejects(store.put('a', new Uint8Array(40_000)), { code: 'kv-limit' });
  });

  await t.test('a transaction', async (t) => {
    const take = { if: [{ key: 'leader', absent: true as const }], do: [{ put: 'leader', value: 'me' }] };
    t.match(await store.transact({ ...take, else: [{ get: 'leader' }] }), { ok: true, results: [{ kind: 'put' }] });
    const second = await store.transact({ ...take, else: [{ get: 'leader' }, { range: { prefix: 'lead' } }] });
    t.equal(second.ok, false);
    const [read, range] = second.results;
    t.ok(read?.kind === 'get' && text(read.found?.value) === 'me');
    t.ok(range?.kind === 'range' && range.entries.length === 1 && range.next === undefined);
    t.match(
      await store.transact({ if: [{ key: 'leader', value: 'me' }], do: [{ delete: 'leader' }, { delete: 'none' }] }),
      { ok: true, results: [{ deleted: true }, { deleted: false }] },
    );
    const large = new Uint8Array(30_000);
    await t.rejects(
      store.transact({
        do: [
          { put: 'x', value: large },
          { put: 'y', value: large },
        ],
      }),
      { code: 'operation-too-large', message: /49152/ },
      'the message names the limit',
    );
    t.equal(await store.get('x'), undefined);
    await store.put('x', large);
    await store.put('y', large);
    await t.rejects(store.transact({ do: [{ get: 'x' }, { get: 'y' }] }), { code: 'kv-result-too-large' });
    await store.transact({ do: [{ delete: 'x' }, { delete: 'y' }] });
  });

  await t.test('a range goes on with next', async (t) => {
    await store.transact({ do: Array.from({ length: 20 }, (_, i) => ({ put: `page/${i + 10}`, value: `${i}` })) });
    await store.put('page0', 'behind them');
    const keys: string[] = [];
    let from: Uint8Array | undefined;
    do {
      const { entries, next } = await store.scan({
        prefix: 'page/',
        limit: 7,
        ...(from === undefined ? {} : { from }),
      });
      for (const { key } of entries) keys.push(text(key)!);
      from = next;
    } while (from !== undefined);
    t.same(
      keys,
      Array.from({ length: 20 }, (_, i) => `page/${i + 10}`),
    );
    await store.put('page', 'before them');
    const all = await store.scan({ prefix: 'page/', from: 'page' });
    t.same(
      all.entries.map(({ key }) => text(key)),
      keys,
      'only keys that begin with the prefix, from wherever',
    );
    t.same((await store.scan({ prefix: 'page/', from: 'page0' })).entries, []);
    await t.rejects(store.scan({ prefix: 'a', to: 'b' }), { code: 'option-invalid' });
  });

  await t.test('ends and leases', async (t) => {
    const before = client.agreedTime();
    const put = await store.put('session', 'open', { ttl: 3_600_000 });
    // The primary's clock and this one are the same host's; a stamp may lie ahead by 100 ms.
    t.ok(put.ends! > before + 3_599_000 && put.ends! < client.agreedTime() + 3_601_000, `ends ${put.ends}`);
    t.equal((await store.get('session'))!.ends, put.ends);
    t.equal((await store.put('session', 'kept', { keep: true })).ends, put.ends);
    t.equal((await store.put('session', 'stays')).ends, undefined);

    await store.put('short', 'v', { ttl: 1 });
    // Nobody else executes anything: the read has to find out by itself.
    for (let tries = 0; (await store.get('short')) !== undefined; tries++) {
      if (tries > 10_000) throw new Error('the key has not ended');
      await sleep(5);
    }
    t.equal((await store.scan({ prefix: 'short' })).entries.length, 0);

    const lease = await store.grant({ ttl: 3_600_000 });
    await store.put('held/1', 'v', { lease });
    await store.put('held/2', 'v', { lease });
    t.match(await store.get('held/1'), { lease: lease.number, ends: lease.ends });
    const [renewed, gone] = await store.renew([lease, { number: lease.number + 1000 }]);
    t.ok(renewed! >= lease.ends);
    t.equal(gone, undefined);
    t.equal((await store.get('held/2'))!.ends, renewed);
    t.equal((await store.renew(Array.from({ length: 1500 }, () => lease))).length, 1500, 'in two operations');
    t.equal(await store.revoke(lease), true);
    t.equal(await store.get('held/1'), undefined);
    t.equal(await store.revoke(lease), false);
    await t.rejects(store.put('held/1', 'v', { lease }), { code: 'kv-lease-ended', category: 'caller' });
    await t.rejects(store.transact({ do: [{ put: 'held/1', value: 'v', lease }] }), { code: 'kv-lease-ended' });
    for (const ttl of [0, -5, 1e12]) await t.rejects(store.grant({ ttl }), { code: 'kv-limit' });
  });

  await t.test('the command', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-store-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    writeFileSync(join(directory, 'cluster.json'), JSON.stringify(cluster));
    const txn = (transaction: unknown) =>
      jitpaxos(
        ['kv', 'txn', typeof transaction === 'string' ? transaction : JSON.stringify(transaction), '--timeout', '60s'],
        {
          cwd: directory,
        },
      );
    const take = {
      if: [{ key: 'cli', absent: true }],
      do: [{ put: 'cli', value: 'v', ttl: 3_600_000 }],
      else: [{ get: 'cli' }, { range: { prefix: 'cli' } }, { delete: 'other' }],
    };
    const first = await txn(take);
    t.equal(first.code, 0, first.stderr);
    t.match(JSON.parse(first.stdout), { ok: true, results: [{ put: { ends: Number } }] });
    const second = await txn(take);
    t.equal(second.code, 1, second.stderr);
    t.match(JSON.parse(second.stdout), {
      ok: false,
      results: [
        { get: { value: 'v', lease: null } },
        { range: { entries: [{ key: 'cli' }], more: false } },
        { delete: false },
      ],
    });
    for (const [wrong, message] of [
      ['{', /is not JSON/],
      ['[]', /is not an object/],
      ['{"then":[]}', /has "then", and knows/],
      [{ do: [{ put: 'a' }] }, /put without a value/],
      [{ do: [{ get: 5 }] }, /has 5 for "get"/],
      [{ do: [{ increment: 'a' }] }, /not one of get, put, delete and range/],
      [{ if: [{ key: 'a' }] }, /not a key and one condition/],
      [{ if: [{ key: 'a', absent: false }] }, /has false for "absent"/],
    ] as const)
      t.match(await txn(wrong), { code: 2, stderr: message });
    t.equal(
      (await jitpaxos(['kv', 'put', 'brief', 'v', '--ttl', '1h', '--timeout', '60s'], { cwd: directory })).code,
      0,
    );
    t.not((await store.get('brief'))!.ends, undefined);
  });
});

t.test('without the feature the store says what is missing', async (t) => {
  const cluster = await clusterConfig(1);
  const [replica] = await startReplicas(cluster, () => new KvMachine());
  const client = await Client.connect({ cluster, logger: silentLogger, timeout: 60_000 });
  const store = new StoreClient(client);
  await new KvClient(client).put('a', '1');
  for (const call of [() => store.get('a'), () => store.put('a', '2'), () => store.transact({ do: [{ delete: 'a' }] })])
    await t.rejects(call() as Promise<unknown>, {
      code: 'result-unexpected',
      message: /feature store is off.*jitpaxos features enable store/,
    });
  t.equal(text(await new KvClient(client).get('a')), '1');
  await client.close();
  await replica!.close();
});

t.test('a client that may only read keeps what it read', async (t) => {
  const machine = new KvMachine();
  machine.raise(1);
  const run = (method: 'apply' | 'query', bytes: Uint8Array): Uint8Array => {
    const reply = { bytes: new Uint8Array(5000), offset: 0, capacity: 5000, length: 0 };
    machine[method]({ bytes, offset: 0, length: bytes.length }, { timestampHi: 0, timestampLo: 0, index: 1 }, reply);
    return reply.bytes.slice(0, reply.length);
  };
  let mayWrite = true;
  const store = new StoreClient({
    execute: (operation) =>
      mayWrite ? Promise.resolve(run('apply', operation)) : Promise.reject(new JitPaxosError('read-only', 'no')),
    query: (operation) => Promise.resolve(run('query', operation)),
    agreedTime: () => 1000,
  });
  await store.put('k', new Uint8Array(1), { ttl: 1 });
  mayWrite = false;
  t.match(await store.get('k'), { ends: 1 }, 'due by its clock, and it cannot ask the log');
  t.equal((await store.scan()).entries.length, 1);
});

t.test('a scan of KvClient that would pass over too many ended keys says what to do', async (t) => {
  const machine = new KvMachine();
  machine.raise(1);
  let ms = 1;
  const run = (method: 'apply' | 'query', bytes: Uint8Array): Promise<Uint8Array> => {
    const reply = { bytes: new Uint8Array(5000), offset: 0, capacity: 5000, length: 0 };
    const context = { timestampHi: 0, timestampLo: ms * 1_000_000, index: 1 };
    machine[method]({ bytes, offset: 0, length: bytes.length }, context, reply);
    return Promise.resolve(reply.bytes.slice(0, reply.length));
  };
  const client = {
    execute: (operation: Uint8Array) => run('apply', operation),
    query: (operation: Uint8Array) => run('query', operation),
    agreedTime: () => ms,
  };
  const store = new StoreClient(client);
  for (let i = 0; i < PASSED_KEYS_MAX + 100; i++) await store.put(`k${i}`, 'v', { ttl: 5 });
  ms = 10;
  await store.put('z', 'v');
  const kv = new KvClient(client);
  await t.rejects(kv.scan(), {
    code: 'kv-ended-keys',
    category: 'environment',
    retryable: true,
    message: /^more than 1,000 keys that have ended .*; scan with StoreClient/,
  });
  const first = await store.scan();
  t.equal(first.entries.length, 0);
  const second = await store.scan({ from: first.next! });
  t.same(
    second.entries.map(({ key }) => text(key)),
    ['z'],
    'StoreClient goes on behind them',
  );
  for (let i = 0; i < 10; i++) await store.put('z', 'v');
  t.equal((await kv.scan()).entries.length, 1, 'operations have removed enough of them');
});
