/** What clients are told without being asked, by a front end over three replicas: messages, notifications, invalidations. */
import t, { type Test } from 'tap';
import { startFront } from './front.js';
import { RespClient, readReply, shown } from './resp-client.js';

// What is not told is waited for.
t.setTimeout(180_000);

async function client(t: Test, port: number, protocol: 2 | 3 = 3): Promise<RespClient> {
  const made = await RespClient.connect(port);
  t.teardown(() => made.close());
  if (protocol === 3) await made.raw('HELLO', '3');
  return made;
}
const told = async (who: RespClient): Promise<string> => shown(readReply(await who.next(), 0)!.reply);

t.test('messages', async (t) => {
  const { port } = await startFront(t);
  const publisher = await client(t, port);
  for (const protocol of [2, 3] as const) {
    const mark = protocol === 3 ? '>' : '*';
    const one = await client(t, port, protocol);
    t.equal(await one.say('SUBSCRIBE', 'a', 'b'), `${mark}[$"subscribe" $"a" :"1"]`);
    t.equal(await told(one), `${mark}[$"subscribe" $"b" :"2"]`);
    t.equal(await one.say('PSUBSCRIBE', 'a*'), `${mark}[$"psubscribe" $"a*" :"3"]`);
    t.equal(await publisher.say('PUBLISH', 'a', 'hello'), ':"2"', 'as channel, and as pattern');
    t.equal(await told(one), `${mark}[$"message" $"a" $"hello"]`);
    t.equal(await told(one), `${mark}[$"pmessage" $"a*" $"a" $"hello"]`);
    const long = 'x'.repeat(32_768);
    t.equal(await publisher.say('PUBLISH', 'b', long), ':"1"');
    t.equal(await told(one), `${mark}[$"message" $"b" $"${long}"]`);
    await publisher.raw('MULTI');
    await publisher.raw('SET', 'k', '1');
    await publisher.raw('PUBLISH', 'b', 'in a transaction');
    await publisher.raw('PUBLISH', 'nobody', '');
    t.equal(await publisher.say('EXEC'), '*[+"OK" :"1" :"0"]');
    t.equal(await told(one), `${mark}[$"message" $"b" $"in a transaction"]`);
    t.equal(await publisher.say('PUBSUB', 'NUMSUB', 'a', 'x'), '*[$"a" :"1" $"x" :"0"]');
    t.equal(await publisher.say('PUBSUB', 'NUMPAT'), ':"1"');
    t.equal((await publisher.reply('PUBSUB', 'CHANNELS')).items.length, 2);
    if (protocol === 2) {
      t.match(await one.say('GET', 'k'), /^-"ERR Can't execute 'get': only \(P\|S\)SUBSCRIBE/);
      t.equal(await one.say('PING', 'x'), '*[$"pong" $"x"]');
    } else t.equal(await one.say('GET', 'k'), '$"1"');
    t.equal(await one.say('UNSUBSCRIBE'), `${mark}[$"unsubscribe" $"a" :"2"]`);
    t.equal(await told(one), `${mark}[$"unsubscribe" $"b" :"1"]`);
    t.equal(await one.say('PUNSUBSCRIBE', 'a*'), `${mark}[$"punsubscribe" $"a*" :"0"]`);
    t.match(
      await one.say('UNSUBSCRIBE'),
      protocol === 3 ? '>[$"unsubscribe" _"" :"0"]' : '*[$"unsubscribe" $null :"0"]',
    );
    t.equal(await one.say('GET', 'k'), '$"1"');
    one.close();
  }
  await publisher.raw('MULTI');
  t.match(await publisher.say('SUBSCRIBE', 'a'), /not served inside a transaction/);
  t.match(await publisher.say('EXEC'), /EXECABORT/);
});

t.test('all front ends tell all messages in one order', async (t) => {
  const { port } = await startFront(t);
  const subscribers = await Promise.all([2, 3, 3].map((protocol) => client(t, port, protocol as 2 | 3)));
  for (const one of subscribers) await one.raw('SUBSCRIBE', 'c');
  const publishers = await Promise.all([1, 2, 3].map(() => client(t, port)));
  await Promise.all(
    publishers.map(async (publisher, p) => {
      for (let i = 0; i < 100; i++) await publisher.raw('PUBLISH', 'c', `${p}:${i}`);
    }),
  );
  const orders: string[] = [];
  for (const one of subscribers) {
    const seen: string[] = [];
    for (let i = 0; i < 300; i++) seen.push(readReply(await one.next(), 0)!.reply.items[2]!.text!);
    orders.push(seen.join());
    for (let p = 0; p < 3; p++)
      t.strictSame(
        seen.filter((text) => text.startsWith(`${p}:`)),
        Array.from({ length: 100 }, (_, i) => `${p}:${i}`),
      );
  }
  t.equal(new Set(orders).size, 1);
});

t.test('keyspace notifications', async (t) => {
  const { port } = await startFront(t);
  const one = await client(t, port);
  const other = await client(t, port);
  t.match(await other.say('CONFIG', 'SET', 'notify-keyspace-events', 'q'), /Invalid event class character/);
  t.equal(await other.say('CONFIG', 'SET', 'notify-keyspace-events', 'KEAn'), '+"OK"');
  await one.raw('PSUBSCRIBE', '__key*@0__:*');
  await other.raw('SET', 'k', '1', 'PX', '60');
  const events: string[] = [];
  for (let i = 0; i < 8; i++)
    events.push((await told(one)).replaceAll('"', '').replace('>[$pmessage $__key*@0__:* ', ''));
  t.strictSame(events, [
    '$__keyspace@0__:k $new]',
    '$__keyevent@0__:new $k]',
    '$__keyspace@0__:k $set]',
    '$__keyevent@0__:set $k]',
    '$__keyspace@0__:k $expire]',
    '$__keyevent@0__:expire $k]',
    '$__keyspace@0__:k $expired]',
    '$__keyevent@0__:expired $k]',
  ]);
  await other.raw('CONFIG', 'SET', 'notify-keyspace-events', 'Eg');
  await other.raw('SADD', 's', 'm');
  await other.raw('SREM', 's', 'm');
  t.equal(await told(one), '>[$"pmessage" $"__key*@0__:*" $"__keyevent@0__:del" $"s"]');
});

t.test('client-side caching', async (t) => {
  const { port } = await startFront(t);
  const one = await client(t, port);
  const other = await client(t, port);
  const invalid = (key: string): string => `>[$"invalidate" *[$"${key}"]]`;
  t.equal(await one.say('CLIENT', 'TRACKING', 'ON'), '+"OK"');
  await other.raw('SET', 'k', '1');
  t.equal(await one.say('GET', 'k'), '$"1"');
  await other.raw('SET', 'k', '2');
  t.equal(await told(one), invalid('k'));
  await other.raw('SET', 'k', '3');
  t.equal(await one.say('GET', 'k'), '$"3"', 'nothing is told of a key that was not read since');
  t.equal(await one.say('SET', 'k', '4'), invalid('k'), 'of an own write as well');
  t.equal(await told(one), '+"OK"');
  await one.raw('MULTI');
  await one.raw('MGET', 'k', 'm');
  t.equal(await one.say('EXEC'), '*[*[$"4" _""]]');
  // It is read before its time is over, on a busy host, too.
  await other.raw('SET', 'm', '1', 'PX', '2000');
  t.equal(await told(one), invalid('m'), 'read in a transaction, while it was absent');
  t.equal(await one.say('GET', 'm'), '$"1"');
  t.equal(await told(one), invalid('m'), 'its time is over');
  await other.raw('FLUSHALL');
  t.equal(await told(one), '>[$"invalidate" _""]');
  t.equal(await one.say('CLIENT', 'TRACKINGINFO'), '%[$"flags" ~[$"on"] $"redirect" :"0" $"prefixes" *"0"]');
  t.equal(await one.say('CLIENT', 'TRACKING', 'OFF'), '+"OK"');

  t.equal(await one.say('CLIENT', 'TRACKING', 'ON', 'BCAST', 'PREFIX', 'a:', 'PREFIX', 'b:'), '+"OK"');
  t.match(await one.say('CLIENT', 'TRACKING', 'ON', 'BCAST', 'PREFIX', 'a'), /overlaps with an existing prefix 'a:'/);
  await other.raw('MSET', 'x', '1', 'b:1', '1');
  t.equal(await told(one), invalid('b:1'));
  await one.raw('CLIENT', 'TRACKING', 'OFF');

  t.equal(await one.say('CLIENT', 'TRACKING', 'ON', 'OPTIN', 'NOLOOP'), '+"OK"');
  await one.raw('GET', 'x');
  t.equal(await one.say('CLIENT', 'CACHING', 'YES'), '+"OK"');
  await one.raw('GET', 'y');
  await one.raw('GET', 'z');
  await other.raw('MSET', 'x', '2', 'z', '2', 'y', '2');
  t.equal(await told(one), invalid('y'), 'only what was asked for');
  await one.raw('CLIENT', 'TRACKING', 'OFF');

  const listener = await client(t, port, 2);
  const id = (await listener.reply('CLIENT', 'ID')).text!;
  t.equal(await listener.say('SUBSCRIBE', '__redis__:invalidate'), '*[$"subscribe" $"__redis__:invalidate" :"1"]');
  const old = await client(t, port, 2);
  t.equal(await old.say('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id), '+"OK"');
  t.equal(await old.say('CLIENT', 'GETREDIR'), `:"${id}"`);
  await old.raw('GET', 'y');
  await other.raw('DEL', 'y');
  t.equal(await told(listener), '*[$"message" $"__redis__:invalidate" *[$"y"]]');
});

t.test('tracking that is switched on again goes on with what was read', async (t) => {
  const { port } = await startFront(t);
  const one = await client(t, port);
  const other = await client(t, port);
  await one.raw('CLIENT', 'TRACKING', 'ON');
  await one.raw('GET', 'k');
  t.equal(await one.say('CLIENT', 'TRACKING', 'ON', 'NOLOOP'), '+"OK"');
  await other.raw('SET', 'k', '1');
  t.equal(await one.say('GET', 'z'), '>[$"invalidate" *[$"k"]]');
});

t.test('NOLOOP: a write that need not have replaced the value does not end tracking', async (t) => {
  const { port } = await startFront(t);
  const one = await client(t, port);
  const other = await client(t, port);
  await one.raw('CLIENT', 'TRACKING', 'ON', 'NOLOOP');
  await other.raw('SET', 'k', '1');
  await one.raw('GET', 'k');
  for (const words of [
    ['SET', 'k', '2', 'NX'],
    ['SADD', 'k', 'm'],
    ['SETNX', 'k', '2'],
  ]) {
    await one.raw(...words);
    await other.raw('SET', 'k', '3');
    t.equal(await one.say('ECHO', 'end'), '>[$"invalidate" *[$"k"]]', words.join(' '));
    t.equal(await told(one), '$"end"');
    await one.raw('GET', 'k');
  }
  t.equal(await one.say('SET', 'k', '4'), '+"OK"');
  t.equal(await one.say('GET', 'k'), '$"4"', 'not told of the own write');
});

t.test('what patterns and prefixes cost for each message and change is bounded', async (t) => {
  const { port } = await startFront(t);
  const one = await client(t, port);
  const patterns = Array.from({ length: 64 }, (_, i) => String(i).padStart(1_024, 'p'));
  // A command is no longer than an operation.
  for (const some of [patterns.slice(0, 32), patterns.slice(32)]) {
    t.match(await one.say('PSUBSCRIBE', ...some), /psubscribe/);
    for (let i = 1; i < some.length; i++) await told(one);
  }
  t.match(await one.say('PSUBSCRIBE', 'more'), /more than 65536 bytes/);
  t.match(await one.say('PSUBSCRIBE', patterns[0]!), /psubscribe/, 'one that is there costs nothing');
  await one.raw('PUNSUBSCRIBE', patterns[0]!);
  t.match(await one.say('PSUBSCRIBE', 'more'), /psubscribe/, 'what is given back can be taken');

  const prefixes = (count: number): string[] =>
    Array.from({ length: count }, (_, i) => ['PREFIX', String(i).padStart(2, '0') + 'x'.repeat(i)]).flat();
  t.match(await one.say('CLIENT', 'TRACKING', 'ON', 'BCAST', ...prefixes(65)), /more than 64 different lengths/);
  t.equal(await one.say('CLIENT', 'TRACKING', 'ON', 'BCAST', ...prefixes(64)), '+"OK"');
});

t.test('without REDIRECT, RESP2 is told nothing of what was read', async (t) => {
  const { port } = await startFront(t);
  const one = await client(t, port, 2);
  const other = await client(t, port);
  t.equal(await one.say('CLIENT', 'TRACKING', 'ON'), '+"OK"');
  await one.raw('GET', 'k');
  await one.raw('SUBSCRIBE', 'c');
  await other.raw('SET', 'k', '1');
  await other.raw('PUBLISH', 'c', 'behind it');
  t.equal(await told(one), '*[$"message" $"c" $"behind it"]');
});
