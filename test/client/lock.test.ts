/** Leases, locks, elections and semaphores over three replicas in this process. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import type { Lock } from '../../src/client/lock.js';
import { StoreClient } from '../../src/client/store-client.js';
import { JitPaxosError } from '../../src/errors.js';
import { NAME_BYTES_MAX, takePlace, type LineStore } from '../../src/client/waiting-line.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { Replica } from '../../src/server/replica.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

/** Longer than a busy host stops this process. */
const TTL = 60_000;
const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString();

interface Started {
  readonly cluster: ClusterConfig;
  readonly replicas: Replica[];
  readonly stores: StoreClient[];
  readonly clients: Client[];
}

async function started(t: Test, clients = 2, machine = (): KvMachine => new KvMachine()): Promise<Started> {
  const cluster: ClusterConfig = { ...(await clusterConfig(3)), features: ['store'] };
  const replicas = await startReplicas(cluster, machine);
  const connected = await Promise.all(
    Array.from({ length: clients }, () =>
      Client.connect({ cluster, logger: silentLogger, timeout: 60_000, connectTimeout: 60_000 }),
    ),
  );
  t.teardown(async () => {
    for (const client of connected) await client.close();
    for (const replica of replicas) await replica.close();
  });
  return { cluster, replicas, clients: connected, stores: connected.map((client) => new StoreClient(client)) };
}

t.test('a lease renews itself and holds its keys; released, they are gone', async (t) => {
  const { stores, clients } = await started(t, 1);
  const [store] = stores as [StoreClient];
  {
    await using lease = await store.lease({ ttl: 2_000 });
    await store.put('held', 'v', { lease });
    const first = lease.ends;
    while (lease.ends === first && lease.isHeld()) await sleep(10);
    t.ok(lease.ends > first, 'renewed');
    t.ok(lease.end < lease.ends && lease.remaining > 0 && lease.remaining <= 1_800);
    t.ok(Math.abs(clients[0]!.agreedTime() + lease.remaining - lease.end) < 1_000);
    t.match(await store.get('held'), { lease: lease.number });
  }
  t.equal(await store.get('held'), undefined);
  for (const ttl of [0, -1, 1.5, 1e12]) await t.rejects(store.lease({ ttl }), { code: 'kv-limit' });
  await t.rejects(store.lease({ ttl: 10, margin: 5 }), { code: 'option-invalid' });
  await t.rejects(store.lease({ ttl: 10, tll: 5 } as object as { ttl: number }), { code: 'option-invalid' });
  const bare = new StoreClient({
    execute: () => Promise.reject(new Error()),
    query: () => Promise.reject(new Error()),
    agreedTime: () => 0,
  });
  await t.rejects(bare.lease({ ttl: 10 }), { code: 'option-invalid' });
});

t.test('a lock: one holder, in the order in which they came, each with a larger token', async (t) => {
  const { stores } = await started(t, 3);
  const order: string[] = [];
  let holders = 0;
  const first = await stores[0]!.lock('jobs/leader', { ttl: TTL });
  const waiting: Promise<Lock>[] = [];
  for (let i = 0; i < 9; i++) {
    waiting.push(
      stores[i % 3]!.lock('jobs/leader', { ttl: TTL }).then((lock) => {
        t.equal(++holders, 1);
        order.push(`${i}`);
        return lock;
      }),
    );
    // The next one comes when this one is in the line.
    while ((await stores[0]!.scan({ prefix: 'jobs/leader' })).entries.length < i + 2) await sleep(2);
  }
  // One in the middle goes; the one behind it does not come in its place.
  await t.rejects(stores[1]!.lock('jobs/leader', { ttl: TTL, wait: 0 }), { code: 'lock-held', retryable: true });
  await t.rejects(stores[1]!.lock('jobs/leader', { ttl: TTL, wait: 30 }), { code: 'lock-held' });
  await t.rejects(stores[1]!.lock('jobs/leader', { ttl: TTL, signal: AbortSignal.timeout(30) }), { code: 'aborted' });
  t.equal((await stores[0]!.scan({ prefix: 'jobs/leader' })).entries.length, 10, 'they left the line');
  t.same(order, []);
  await first.release();
  let token = first.token;
  for (const held of waiting) {
    const lock = await held;
    t.ok(lock.token > token);
    t.ok(lock.isHeld());
    token = lock.token;
    holders--;
    await lock.release();
    t.equal(lock.isHeld(), false);
  }
  t.same(order, ['0', '1', '2', '3', '4', '5', '6', '7', '8']);
  const other = await stores[0]!.lock('jobs', { ttl: TTL, wait: 0 });
  await other.release();
});

t.test('the next one needs no operation to know that it holds the lock', async (t) => {
  const { stores } = await started(t, 4);
  let scans = 0;
  for (const store of stores) {
    const { scan } = store;
    store.scan = (options) => {
      scans++;
      return scan.call(store, options);
    };
  }
  const first = await stores[0]!.lock('next', { ttl: TTL });
  const waiting: Promise<Lock>[] = [];
  for (let i = 1; i <= 3; i++) {
    waiting.push(stores[i]!.lock('next', { ttl: TTL }));
    while ((await stores[0]!.scan({ prefix: 'next' })).entries.length < i + 1) await sleep(2);
  }
  scans = 0;
  await first.release();
  const second = await waiting[0]!;
  await second.release();
  const third = await waiting[1]!;
  t.ok(scans <= 1, 'the last one has read the line, because it no longer knew who was before it');
  while (scans < 1) await sleep(2);
  await third.release();
  const last = await waiting[2]!;
  t.equal(scans, 1);
  // One in the middle leaves the line: the one behind it does not come in its place.
  const leaving = new AbortController();
  const left = stores[0]!.lock('next', { ttl: TTL, signal: leaving.signal });
  while ((await stores[0]!.scan({ prefix: 'next' })).entries.length < 2) await sleep(2);
  let isIn = false;
  const behind = stores[1]!.lock('next', { ttl: TTL }).finally(() => (isIn = true));
  while ((await stores[0]!.scan({ prefix: 'next' })).entries.length < 3) await sleep(2);
  leaving.abort();
  await t.rejects(left, { code: 'aborted' });
  while ((await stores[0]!.scan({ prefix: 'next' })).entries.length > 2) await sleep(2);
  await sleep(50);
  t.equal(isIn, false);
  await last.release();
  await (await behind).release();
});

t.test('a timer that fires before its time: the wait is over, and no place stays in the line', async (t) => {
  let leases = 0;
  let released = 0;
  const held = { key: new Uint8Array(1), value: new Uint8Array(0), revision: 1, ends: undefined, lease: 1 };
  const store = {
    timers: {
      monotonicMs: () => 7,
      after: (ms: number, run: () => void) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
      random: () => 0,
    },
    lease: async () => {
      leases++;
      return {
        number: 7,
        signal: new AbortController().signal,
        isHeld: () => true,
        release: async () => void released++,
      };
    },
    transact: async () => ({
      ok: true,
      revision: 2,
      results: [
        { kind: 'put', revision: 2, ends: undefined },
        { kind: 'range', revision: 2, entries: [held], next: undefined },
      ],
    }),
    watchEnd: (_keys: unknown, { signal }: { readonly signal: AbortSignal }) => ({
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted')))),
      }),
      return: async () => ({ done: true }),
    }),
  };
  const place = takePlace(
    store as unknown as LineStore,
    { kind: 'lock', name: 'l', permits: 1, value: new Uint8Array(0) },
    { ttl: TTL, wait: 5 },
  );
  await t.rejects(place, { code: 'lock-held' });
  t.same([leases, released], [1, 1]);
});

t.test('the lease ends before its place is taken: another one, and after many an error that says why', async (t) => {
  let leases = 0;
  let released = 0;
  let enters = 0;
  let fails = 3;
  const lease = {
    number: 7,
    signal: new AbortController().signal,
    isHeld: () => true,
    release: async () => void released++,
  };
  const store = {
    timers: { monotonicMs: () => 7, after: () => () => undefined, random: () => 0 },
    lease: async () => {
      leases++;
      return lease;
    },
    transact: async () => {
      if (enters++ < fails) throw new JitPaxosError('kv-lease-ended', 'ended');
      const range = { kind: 'range', revision: 2, entries: [{ revision: 2 }], next: undefined };
      return { ok: true, revision: 2, results: [{ kind: 'put', revision: 2, ends: undefined }, range] };
    },
  };
  for (const kind of ['lock', 'election', 'semaphore'] as const) {
    const take = (): Promise<unknown> =>
      takePlace(
        store as unknown as LineStore,
        { kind, name: 'l', permits: 1, value: new Uint8Array(0) },
        { ttl: 5, wait: 1_000 },
      );
    leases = released = enters = 0;
    fails = 3;
    t.match(await take(), { token: 2 });
    t.same([leases, released], [4, 3], 'the places that were lost do not stay in the line');
    leases = released = enters = 0;
    fails = Infinity;
    await t.rejects(take(), { code: 'lease-lost', retryable: true, message: /ttl of 5 ms.*use a longer ttl/ });
    t.same([leases, released], [16, 16]);
  }
});

t.test('wait: 0 reads the line before it takes a place', async (t) => {
  const calls: string[] = [];
  let entries: { readonly revision: number }[] = [{ revision: 1 }];
  const called = (name: string) => (): Promise<never> => {
    calls.push(name);
    return Promise.reject(new JitPaxosError('option-invalid', name));
  };
  const store = {
    timers: { monotonicMs: () => 7, after: () => () => undefined, random: () => 0 },
    scan: async () => {
      calls.push('scan');
      return { revision: 1, entries, next: undefined };
    },
    ...{ lease: called('lease'), transact: called('transact'), watch: called('watch'), watchEnd: called('watchEnd') },
  };
  const take = (permits: number, wait?: number): Promise<unknown> =>
    takePlace(
      store as unknown as LineStore,
      { kind: 'lock', name: 'l', permits, value: new Uint8Array(0) },
      { ttl: TTL, ...(wait === undefined ? {} : { wait }) },
    );
  await t.rejects(take(1, 0), { code: 'lock-held' });
  t.same(calls.splice(0), ['scan'], 'no place behind which others would wait');
  await t.rejects(take(2, 0), { code: 'option-invalid' });
  t.same(calls.splice(0), ['scan', 'lease'], 'another permit is free');
  entries = [];
  await t.rejects(take(1, 0), { code: 'option-invalid' });
  t.same(calls.splice(0), ['scan', 'lease']);
  await t.rejects(take(1), { code: 'option-invalid' });
  t.same(calls, ['lease'], 'one that waits takes its place at once');
});

t.test('quiet for long: only those that are watched are read again', async (t) => {
  const entry = (revision: number) => ({ key: new Uint8Array(8).fill(revision), value: new Uint8Array(0), revision });
  const entries = [1, 2, 3, 4].map(entry);
  const scanned: (Uint8Array | undefined)[] = [];
  const timers: { ms: number; run: () => void }[] = [];
  const froms: (number | undefined)[] = [];
  const controller = new AbortController();
  const store = {
    timers: {
      monotonicMs: () => 0,
      after: (ms: number, run: () => void) => {
        timers.push({ ms, run });
        return () => undefined;
      },
      random: () => 0.5,
    },
    lease: async () => ({
      number: 7,
      signal: new AbortController().signal,
      isHeld: () => true,
      release: async () => undefined,
    }),
    transact: async () => ({
      ok: true,
      revision: 5,
      results: [
        { kind: 'put', revision: 5 },
        { kind: 'range', revision: 5, entries, next: undefined },
      ],
    }),
    scan: async ({ prefix, limit }: { readonly prefix: Uint8Array; readonly limit: number }) => {
      scanned.push(limit === 1 ? prefix : undefined);
      return {
        revision: 9 + scanned.length,
        entries: entries.filter(({ key }) => key[0] === prefix[0]),
        next: undefined,
      };
    },
    watchEnd: (_keys: unknown, { from, signal }: { readonly from: number; readonly signal: AbortSignal }) => {
      froms.push(from);
      let end = (): void => undefined;
      return {
        [Symbol.asyncIterator]() {
          return this;
        },
        next: () =>
          new Promise((resolve, reject) => {
            end = () => resolve({ done: true, value: undefined });
            signal.addEventListener('abort', () => reject(new Error('aborted')));
          }),
        return: async () => end(),
      };
    },
  };
  const waiting = takePlace(
    store as unknown as LineStore,
    { kind: 'lock', name: 'l', permits: 1, value: new Uint8Array(0) },
    { ttl: TTL, signal: controller.signal },
  ).catch((error: unknown) => error);
  for (let i = 0; i < 2; i++) {
    await sleep(5);
    t.equal(timers.at(-1)!.ms, 12_500, 'later by chance');
    timers.at(-1)!.run();
  }
  await sleep(5);
  t.same(scanned, [entries[2]!.key, entries[3]!.key, entries[2]!.key, entries[3]!.key]);
  t.same(froms, [5, 10, 12], 'from the earlier of the two reads');
  controller.abort();
  t.match(await waiting, { code: 'aborted' });
});

t.test('many waits with one AbortSignal: no warning, and one abort ends all', async (t) => {
  const { stores } = await started(t);
  const warnings: string[] = [];
  const warned = ({ message }: Error): void => void warnings.push(message);
  process.on('warning', warned);
  const first = await stores[0]!.lock('l', { ttl: TTL });
  const controller = new AbortController();
  const waiting = Array.from({ length: 30 }, () =>
    stores[1]!.lock('l', { ttl: TTL, signal: controller.signal }).catch((error: unknown) => error),
  );
  while ((await stores[0]!.scan({ prefix: 'l' })).entries.length < 31) await sleep(5);
  const watches = Array.from({ length: 15 }, (_, i) =>
    stores[0]!
      .watch(`w${i}`, { signal: controller.signal })
      .next()
      .catch((error: unknown) => error),
  );
  await sleep(10);
  controller.abort();
  for (const outcome of await Promise.all([...waiting, ...watches])) t.match(outcome, { code: 'aborted' });
  await first.release();
  process.off('warning', warned);
  t.same(warnings, []);
});

t.test('names so long that a watch has room for one of them only', async (t) => {
  const { stores } = await started(t, 3);
  const name = 'n'.repeat(NAME_BYTES_MAX);
  const first = await stores[0]!.lock(name, { ttl: TTL });
  const others = Promise.all([1, 2].map(async (i) => (await stores[i]!.lock(name, { ttl: TTL })).release()));
  while ((await stores[0]!.scan({ prefix: name })).entries.length < 3) await sleep(2);
  await first.release();
  await others;
  t.same((await stores[0]!.scan({ prefix: name })).entries, []);
});

t.test('the holder fails: the next one gets it when the lease has ended, and the first one is fenced', async (t) => {
  const { stores, clients } = await started(t);
  const [one, two] = stores as [StoreClient, StoreClient];
  const stale = await one.lock('l', { ttl: 1_000 });
  await one.put('guarded', 'first', { fence: stale });
  const waiting = two.lock('l', { ttl: TTL });
  // A holder whose bound is broken: it thinks that it holds for ever, and renews nothing.
  const mistaken = { key: stale.key, token: stale.token };
  await clients[0]!.close();
  const next = await waiting;
  t.equal(stale.isHeld(), false);
  t.ok(next.token > mistaken.token);
  await two.put('guarded', 'second', { fence: next });
  let refused = 0;
  for (let i = 0; i < 50; i++) {
    const write =
      i % 3 === 0
        ? two.put('guarded', 'stale', { fence: mistaken })
        : i % 3 === 1
          ? two.delete('guarded', { fence: mistaken })
          : two.transact({ fence: mistaken, do: [{ put: 'guarded', value: 'stale' }], else: [{ get: 'guarded' }] });
    await t.rejects(write as Promise<unknown>, { code: 'fenced', category: 'environment', retryable: false });
    refused++;
  }
  t.equal(refused, 50);
  t.equal(text((await two.get('guarded'))!.value), 'second');
  t.equal(
    (await two.put('guarded', 'third', { fence: next, if: { absent: true } })).ok,
    false,
    'not fenced: it is there',
  );
  t.same(
    await two
      .transact({ fence: next, if: [{ key: 'no', present: true }], else: [{ get: 'no' }] })
      .then(({ results }) => results),
    [{ kind: 'get', found: undefined }],
  );
  await t.rejects(two.transact({ fence: next, else: [{ delete: 'guarded' }] }), { code: 'option-invalid' });
  t.equal(await two.delete('guarded', { fence: next }), true);
  await next.release();
  await t.rejects(two.put('guarded', 'late', { fence: next }), { code: 'fenced' });
});

t.test('an election', async (t) => {
  const { stores } = await started(t);
  const [one, two] = stores as [StoreClient, StoreClient];
  t.equal(await one.leader('e'), undefined);
  const seen: (string | undefined)[] = [];
  const observing = (async () => {
    for await (const leader of two.leaders('e')) {
      seen.push(text(leader?.value));
      if (seen.length === 4) break;
    }
  })();
  while (seen.length < 1) await sleep(2);
  const first = await one.elect('e', 'one', { ttl: TTL });
  t.match(await two.leader('e'), { token: first.token });
  const second = two.elect('e', 'two', { ttl: TTL });
  while (seen.length < 2) await sleep(2);
  await first.release();
  const leader = await second;
  t.equal(text((await one.leader('e'))!.value), 'two');
  while (seen.length < 3) await sleep(2);
  await leader.release();
  await observing;
  t.same(seen, [undefined, 'one', 'two', undefined]);
  await t.rejects(one.elect('e', 'v'.repeat(1025), { ttl: TTL }), { code: 'option-invalid' });
});

t.test('a semaphore', async (t) => {
  const { stores } = await started(t);
  let holders = 0;
  let most = 0;
  const work = async (store: StoreClient): Promise<void> => {
    for (let i = 0; i < 5; i++) {
      await using _permit = await store.semaphore('s', 3, { ttl: TTL });
      most = Math.max(most, ++holders);
      await sleep(5);
      holders--;
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, i) => work(stores[i % 2]!)));
  t.equal(most, 3);
  const permit = await stores[0]!.semaphore('s', 3, { ttl: TTL });
  await t.rejects(stores[1]!.semaphore('s', 4, { ttl: TTL }), { code: 'semaphore-differs', category: 'caller' });
  await permit.release();
  for (const permits of [0, -1, 1.5, 10_001])
    await t.rejects(stores[0]!.semaphore('s', permits, { ttl: TTL }), { code: 'option-invalid' });
});

t.test('names, and options', async (t) => {
  const { stores } = await started(t, 1);
  const [store] = stores as [StoreClient];
  for (const name of ['', 'a\0b', 'a'.repeat(NAME_BYTES_MAX + 1)])
    await t.rejects(store.lock(name, { ttl: TTL }), { code: 'option-invalid', message: /1 to 1006/ });
  await t.rejects(store.lock('\ud800', { ttl: TTL }), { code: 'text-ill-formed' });
  await t.rejects(store.lock('a', { ttl: 0 }), { code: 'kv-limit' });
  await t.rejects(store.lock('a', { ttl: TTL, wait: -1 }), { code: 'option-invalid' });
  await t.rejects(store.lock('a', { ttl: TTL, waits: 1 } as object as { ttl: number }), { code: 'option-invalid' });
  await t.rejects(store.lock('a', { ttl: TTL, signal: AbortSignal.abort() }), { code: 'aborted' });
  const longest = await store.lock('a'.repeat(NAME_BYTES_MAX), { ttl: TTL });
  t.equal(longest.key.length, 1024);
  await t.rejects(store.lock('a'.repeat(NAME_BYTES_MAX), { ttl: TTL, wait: 100 }), { code: 'lock-held' });
  await longest.release();
});

t.test('replicas that keep no changes serve no watch: the line is read instead', async (t) => {
  const { stores } = await started(t, 2, () => new KvMachine({ changes: 0 }));
  const first = await stores[0]!.lock('l', { ttl: TTL });
  const second = stores[1]!.lock('l', { ttl: TTL });
  await sleep(20);
  await first.release();
  const lock = await second;
  t.ok(lock.isHeld());
  await lock.release();
});

t.test('a replica is stopped: who holds goes on, and who waits gets its turn', async (t) => {
  const { stores, replicas, clients } = await started(t);
  const [one, two] = stores as [StoreClient, StoreClient];
  const held = await one.lock('l', { ttl: TTL });
  const other = await one.lease({ ttl: TTL });
  const waiting = two.lock('l', { ttl: TTL });
  await sleep(50);
  await replicas[clients[0]!.stats().view % 3]!.close();
  await one.put('k', 'v', { fence: held, lease: other });
  t.ok(held.isHeld() && other.isHeld());
  await held.release();
  const next = await waiting;
  t.ok(next.isHeld());
  await next.release();
});

t.test('the cluster is down: wait and signal end a wait, and release ends', async (t) => {
  const { stores, replicas } = await started(t);
  const [one, two] = stores as [StoreClient, StoreClient];
  const held = await one.lock('l', { ttl: TTL });
  const controller = new AbortController();
  const outcomes = [
    two.lock('l', { ttl: TTL, signal: controller.signal }),
    two.lock('l', { ttl: TTL, wait: 1_000 }),
  ].map((waiting) => waiting.catch((error: unknown) => error));
  while ((await one.scan({ prefix: 'l\0' })).entries.length < 2) await sleep(2);
  for (const replica of replicas) await replica.close();
  const fresh = two.lock('m', { ttl: TTL, wait: 500 }).catch((error: unknown) => error);
  controller.abort();
  // Without bounds of their own these would take the client's minute, or the lease's.
  let isOver = false;
  const late = sleep(40_000, undefined, { ref: false }).then(() => (isOver = true));
  await Promise.race([Promise.all([...outcomes, fresh, held.release()]), late]);
  t.notOk(isOver);
  t.match(await Promise.race([outcomes[0], late]), { code: 'aborted' });
  t.match(await Promise.race([outcomes[1], late]), { code: 'lock-held' });
  t.match(await Promise.race([fresh, late]), { code: 'lock-held' });
});
