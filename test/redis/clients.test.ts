/**
 * Clients and packages that people use with Redis, unchanged, against the front end: each does what its README shows. The
 * ones of npm are development dependencies; Python's client is Debian's.
 */
import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { KNOWN_SCRIPTS } from '../../src/machine/redis/scripts.js';
import { startFront } from './front.js';
import { has } from './real-redis.js';
import { RespClient } from './resp-client.js';

const require = createRequire(import.meta.url);
const PROGRAM = fileURLToPath(new URL('../../../test/redis/python_client.py', import.meta.url));
/** Another Python than Debian's may come first on the path. */
const PYTHON = ['python3', '/usr/bin/python3'].find((python) => has(python, '-c', 'import redis'));

function isInstalled(name: string): boolean {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}

/** Packages are used as JavaScript uses them: the compiler knows nothing about them. */
const load = (name: string): Promise<any> => import(name);
const skipWithout = (...names: string[]): string | false => {
  const missing = names.filter((name) => !isInstalled(name));
  return missing.length === 0 ? false : `npm ci would install ${missing.join(', ')}`;
};

/** Scripts that installed packages send. */
const scripts = new Map<string, string>();
const noteScript = (whose: string, text: string): void =>
  void scripts.set(createHash('sha1').update(text).digest('hex'), whose);

let port = 0;
const url = (): string => `redis://127.0.0.1:${port}`;

t.before(async () => {
  port = (await startFront(t)).port;
});
t.beforeEach(async () => {
  const client = await RespClient.connect(port);
  await client.raw('FLUSHALL');
  client.close();
});

for (const name of ['ioredis', 'ioredis-6'])
  t.test(name, { skip: skipWithout(name) }, async (t) => {
    const { Redis } = await load(name);
    const redis = new Redis({ port, host: '127.0.0.1' });
    t.teardown(() => redis.disconnect());
    t.equal(await redis.set('mykey', 'value'), 'OK');
    t.equal(await redis.get('mykey'), 'value');
    t.equal(await redis.set('key', 'data', 'EX', 60), 'OK');
    t.equal(await redis.del('mykey', 'key'), 2);
    t.equal(await redis.sadd('set', 1, 3, 5, 7), 4);
    t.strictSame((await redis.smembers('set')).sort(), ['1', '3', '5', '7']);
    t.equal(await redis.hset('hash', { name: 'Bob', age: 20 }), 2);
    t.strictSame(await redis.hgetall('hash'), { name: 'Bob', age: '20' });
    t.strictSame(await redis.pipeline().set('foo', 'bar').del('cc').get('foo').exec(), [
      [null, 'OK'],
      [null, 0],
      [null, 'bar'],
    ]);
    t.strictSame(
      await redis
        .multi()
        .set('foo', '1')
        .incr('foo')
        .lpush('foo', 'x')
        .exec()
        .then((r: any[]) => r.map(([error, value]) => error?.message ?? value)),
      ['OK', 2, 'WRONGTYPE Operation against a key holding the wrong kind of value'],
    );
    await redis.watch('foo');
    const changer = redis.duplicate();
    t.equal(await changer.set('foo', 'changed'), 'OK');
    changer.disconnect();
    t.equal(await redis.multi().get('foo').exec(), null);
    t.strictSame(await redis.getBuffer('foo'), Buffer.from('changed'));
    await redis.mset(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`n:${i}`, i])));
    const found: string[] = [];
    for await (const keys of redis.scanStream({ match: 'n:*', count: 50 })) found.push(...keys);
    t.equal(new Set(found).size, 500);
    await t.rejects(redis.eval('return 1', 0), /Lua is not run here/);
    const automatic = new Redis({ port, host: '127.0.0.1', enableAutoPipelining: true, keyPrefix: 'p:' });
    t.teardown(() => automatic.disconnect());
    await Promise.all(Array.from({ length: 200 }, (_, i) => automatic.incrby('sum', i)));
    t.equal(await redis.get('p:sum'), '19900');
  });

for (const [name, options] of [
  ['redis-4', {}],
  ['redis-5', {}],
  ['redis-5', { RESP: 3 }],
  ['redis', {}],
] as const)
  t.test(`${name} ${JSON.stringify(options)}`, { skip: skipWithout(name) }, async (t) => {
    const { createClient } = await load(name);
    const client = await createClient({ url: url(), ...options })
      .on('error', t.fail)
      .connect();
    t.teardown(() => (client.destroy === undefined ? client.disconnect() : client.destroy()));
    await client.set('key', 'value');
    t.equal(await client.get('key'), 'value');
    await client.hSet('user-session:123', { name: 'John', surname: 'Smith', company: 'Redis', age: 29 });
    t.strictSame(Object.assign({}, await client.hGetAll('user-session:123')), {
      name: 'John',
      surname: 'Smith',
      company: 'Redis',
      age: '29',
    });
    t.equal(await client.set('key', 'other', { EX: 10, NX: true }), null);
    t.equal(await client.sendCommand(['SET', 'key', 'value2', 'NX']), null);
    await client.set('another-key', 'another-value');
    t.strictSame(await client.multi().set('key', 'value3').get('another-key').exec(), ['OK', 'another-value']);
    await client.watch('key');
    await client.sendCommand(['INCR', 'counter']);
    const other = await client.duplicate().connect();
    await other.set('key', 'theirs');
    await t.rejects(client.multi().set('key', 'ours').exec(), /watched keys has been changed/);
    if (other.destroy === undefined) await other.disconnect();
    else other.destroy();
    await client.mSet(Array.from({ length: 300 }, (_, i) => [`n:${i}`, String(i)]).flat());
    const found = new Set<string>();
    for await (const keys of client.scanIterator({ MATCH: 'n:*', COUNT: 20 }))
      for (const key of [keys].flat()) found.add(key);
    t.equal(found.size, 300);
    t.strictSame([...(await client.sMembers('none'))], []);
    await t.rejects(client.eval('return 1', { keys: [], arguments: [] }), /Lua is not run here/);
  });

for (const [name, options] of [
  ['redis-5', { RESP: 3 }],
  ['redis', { RESP: 3 }],
] as const)
  t.test(`${name}: messages, and a cache on the client's side`, { skip: skipWithout(name) }, async (t) => {
    const { createClient } = await load(name);
    const start = async (more: object): Promise<any> => {
      const client = await createClient({ url: url(), ...options, ...more })
        .on('error', t.fail)
        .connect();
      t.teardown(() => client.destroy());
      return client;
    };
    const client = await start({ clientSideCache: { ttl: 0, maxEntries: 100, evictPolicy: 'LRU' } });
    const other = await start({});
    await other.set('cached', 'one');
    t.equal(await client.get('cached'), 'one');
    t.equal(await client.get('cached'), 'one');
    await other.set('cached', 'two');
    while ((await client.get('cached')) !== 'two') await new Promise((resolve) => setTimeout(resolve, 2));
    await client.set('cached', 'three');
    t.equal(await client.get('cached'), 'three', 'what it wrote itself');
    const got: string[] = [];
    await client.subscribe('news', (message: string) => got.push(message));
    await client.pSubscribe('n*', (message: string, channel: string) => got.push(`${channel} ${message}`));
    t.equal(await other.publish('news', 'hello'), 2);
    while (got.length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    t.strictSame(got, ['hello', 'news hello']);
    await client.unsubscribe('news');
    await client.pUnsubscribe('n*');
  });

for (const name of ['ioredis', 'ioredis-6'])
  t.test(`${name}: messages`, { skip: skipWithout(name) }, async (t) => {
    const { Redis } = await load(name);
    const [subscriber, publisher] = [new Redis({ port }), new Redis({ port })];
    t.teardown(() => {
      subscriber.disconnect();
      publisher.disconnect();
    });
    t.equal(await subscriber.subscribe('news', 'music'), 2);
    const message = new Promise((resolve) =>
      subscriber.on('message', (channel: string, text: string) => resolve([channel, text])),
    );
    t.equal(await publisher.publish('news', 'hello'), 1);
    t.strictSame(await message, ['news', 'hello']);
    t.equal(await subscriber.unsubscribe(), 0);
  });

/** Sessions outlive the web server. */
t.test(
  'connect-redis under express-session',
  { skip: skipWithout('connect-redis', 'express-session', 'redis') },
  async (t) => {
    const { createClient } = await load('redis');
    const { RedisStore } = await load('connect-redis');
    const { default: session } = await load('express-session');
    const client = await createClient({ url: url() }).connect();
    t.teardown(() => client.destroy());
    const store = new RedisStore({ client, prefix: 'myapp:' });
    const start = async (): Promise<Server> => {
      const handle = session({ store, resave: false, saveUninitialized: false, secret: 'keyboard cat' });
      const server = createServer((request: any, response: any) =>
        handle(request, response, () => {
          request.session.views = (request.session.views ?? 0) + 1;
          response.end(String(request.session.views));
        }),
      );
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    };
    const visit = async (server: Server, cookie = ''): Promise<readonly [string, string]> => {
      const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, {
        headers: { cookie },
      });
      return [await response.text(), response.headers.get('set-cookie')?.split(';')[0] ?? cookie];
    };
    const stop = (server: Server): Promise<unknown> => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    };
    const first = await start();
    const [views, cookie] = await visit(first);
    t.equal(views, '1');
    t.equal((await visit(first, cookie))[0], '2');
    await stop(first);
    const second = await start();
    t.teardown(() => stop(second));
    t.equal((await visit(second, cookie))[0], '3', 'another web server knows the session');
    t.equal((await visit(second))[0], '1');
    t.equal(await store.length(), 2);
    t.equal((await store.all()).length, 2);
    t.ok((await client.ttl((await client.keys('myapp:*'))[0])) > 80_000, 'a session ends after a day');
    await store.clear();
    t.equal(await store.length(), 0);
  },
);

t.test('keyv', { skip: skipWithout('keyv', '@keyv/redis') }, async (t) => {
  const { default: Keyv } = await load('keyv');
  const { default: KeyvRedis } = await load('@keyv/redis');
  const keyv = new Keyv(new KeyvRedis(url()), { namespace: 'my-namespace' });
  t.teardown(() => keyv.disconnect());
  await keyv.set('foo', { a: [1, 'two'] }, 60_000);
  t.strictSame(await keyv.get('foo'), { a: [1, 'two'] });
  t.equal(await keyv.has('foo'), true);
  await keyv.setMany([
    { key: 'b', value: 1 },
    { key: 'c', value: 2 },
  ]);
  t.strictSame(await keyv.get(['b', 'c', 'none']), [1, 2, undefined]);
  t.equal(await keyv.delete('foo'), true);
  t.equal(await keyv.get('foo'), undefined);
  const listed: string[] = [];
  for await (const [key] of keyv.iterator({})) listed.push(key);
  t.strictSame(listed.sort(), ['b', 'c']);
  await keyv.clear();
  t.equal(await keyv.get('b'), undefined);
});

t.test('cache-manager', { skip: skipWithout('cache-manager', 'keyv', '@keyv/redis') }, async (t) => {
  const { createCache } = await load('cache-manager');
  const { default: Keyv } = await load('keyv');
  const { default: KeyvRedis } = await load('@keyv/redis');
  const cache = createCache({ stores: [new Keyv(new KeyvRedis(url()))] });
  t.teardown(() => cache.disconnect());
  await cache.set('foo', 'bar', 60_000);
  t.equal(await cache.get('foo'), 'bar');
  await cache.mset([
    { key: 'k1', value: 1 },
    { key: 'k2', value: 'two', ttl: 60_000 },
  ]);
  t.strictSame(await cache.mget(['k1', 'k2', 'k3']), [1, 'two', undefined]);
  let calls = 0;
  const slow = (): number => ++calls;
  t.equal(await cache.wrap('wrapped', slow, 60_000), 1);
  t.equal(await cache.wrap('wrapped', slow, 60_000), 1, 'it is not computed again');
  await cache.del('foo');
  t.equal(await cache.get('foo'), undefined);
  await cache.clear();
  t.equal(await cache.get('k1'), undefined);
});

for (const name of ['ioredis', 'redis'])
  t.test(`rate-limiter-flexible over ${name}`, { skip: skipWithout('rate-limiter-flexible', name) }, async (t) => {
    const { RateLimiterRedis } = (await load('rate-limiter-flexible')).default;
    const library = await load(name);
    const storeClient =
      name === 'ioredis'
        ? new library.Redis({ port, host: '127.0.0.1', enableOfflineQueue: true })
        : await library.createClient({ url: url() }).connect();
    t.teardown(() => (name === 'ioredis' ? storeClient.disconnect() : storeClient.destroy()));
    const limiter = new RateLimiterRedis({
      storeClient,
      points: 3,
      duration: 600,
      ...(name === 'redis' && { useRedisPackage: true }),
    });
    noteScript('rate-limiter-flexible', limiter._incrTtlLuaScript);
    for (let left = 2; left >= 0; left--) t.match(await limiter.consume('user'), { remainingPoints: left });
    t.match(await limiter.consume('user').catch((left: unknown) => left), { remainingPoints: 0, consumedPoints: 4 });
    t.match(await limiter.get('user'), { consumedPoints: 4 });
    t.match(await limiter.reward('user', 2), { consumedPoints: 2 });
    t.match(await limiter.consume('user'), { remainingPoints: 0 });
    await limiter.block('other', 100);
    t.match(await limiter.consume('other').catch((left: unknown) => left), { remainingPoints: 0 });
    t.equal(await limiter.delete('user'), true);
    t.equal(await limiter.get('user'), null);
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => limiter.consume('crowd')));
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 3, 'three of twenty at once');
  });

t.test('redlock 4', { skip: skipWithout('redlock', 'ioredis') }, async (t) => {
  const { default: Redlock } = await load('redlock');
  const { Redis } = await load('ioredis');
  const client = new Redis({ port, host: '127.0.0.1' });
  t.teardown(() => client.disconnect());
  const redlock = new Redlock([client], { retryCount: 0 });
  for (const { value } of Object.values<any>(redlock.scripts)) noteScript('redlock 4', value);
  const lock = await redlock.lock('locks:account:322456', 60_000);
  await t.rejects(redlock.lock('locks:account:322456', 1000), { name: 'LockError' });
  const extended = await lock.extend(90_000);
  t.ok((await client.pttl('locks:account:322456')) > 60_000);
  await extended.unlock();
  t.equal(await client.exists('locks:account:322456'), 0);
  await t.rejects(extended.unlock(), { name: 'LockError' });
  const both = await redlock.lock(['a', 'b'], 60_000);
  await t.rejects(redlock.lock(['b', 'c'], 1000), { name: 'LockError' });
  await both.unlock();
});

t.test('redlock 5', { skip: skipWithout('redlock-5', 'ioredis') }, async (t) => {
  const { default: Redlock, ResourceLockedError } = await load('redlock-5');
  const { Redis } = await load('ioredis');
  const client = new Redis({ port, host: '127.0.0.1' });
  t.teardown(() => client.disconnect());
  const redlock = new Redlock([client], { retryCount: 0 });
  for (const { value } of Object.values<any>(redlock.scripts)) noteScript('redlock 5', value);
  const errors: unknown[] = [];
  redlock.on('error', (error: unknown) => {
    if (!(error instanceof ResourceLockedError)) errors.push(error);
  });
  let lock = await redlock.acquire(['a', 'b'], 60_000);
  await t.rejects(redlock.acquire(['b'], 1000));
  lock = await lock.extend(90_000);
  t.ok((await client.pttl('a')) > 60_000);
  await lock.release();
  t.equal(await client.exists('a', 'b'), 0);
  t.equal(await redlock.using(['c'], 60_000, async () => client.exists('c')), 1);
  t.equal(await client.exists('c'), 0);
  t.strictSame(errors, []);
});

t.test('redis-py, with its Lock', { skip: PYTHON === undefined && 'apt-get install python3-redis' }, async (t) => {
  const { stdout } = await promisify(execFile)(PYTHON!, [PROGRAM, String(port)], { timeout: 300_000 });
  const texts = JSON.parse(stdout) as string[];
  t.equal(texts.length, 3, 'it came to its end');
  for (const text of texts) noteScript('redis-py Lock', text);
});

t.test('the digests of scripts are those of the installed packages', async (t) => {
  const client = await RespClient.connect(port);
  t.teardown(() => client.close());
  for (const [digest, whose] of scripts) {
    t.equal(await client.say('SCRIPT', 'EXISTS', digest), '*[:"1"]', `${whose} ${digest}`);
    t.ok(
      KNOWN_SCRIPTS.some((known) => known.digest === digest),
      `${whose} is in the table`,
    );
  }
  const isComplete =
    PYTHON !== undefined && skipWithout('redlock', 'redlock-5', 'rate-limiter-flexible', 'ioredis') === false;
  if (isComplete)
    t.strictSame(
      KNOWN_SCRIPTS.filter(({ digest }) => !scripts.has(digest)).map(({ name }) => name),
      [],
      'no package needs these',
    );
});
