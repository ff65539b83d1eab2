// A short chaos run over Redis front ends (test/cluster/chaos/redis.ts), and the judge of lists: the long runs are
// `npm run chaos -- --redis`, and what they came to is in docs/measurements/reliability.md.
import t from 'tap';
import { randomInt } from 'node:crypto';
import { judgeLists, type Append } from './chaos/lists.js';
import { hasIoredis } from './chaos/redis-clients.js';
import { killsFrontEnds, redisChaos } from './chaos/redis.js';

const SECONDS = 5;

const skip = (await hasIoredis()) ? false : 'npm ci would install ioredis';
t.test('replicas and front ends are killed, and Redis clients lose nothing', { skip }, async (t) => {
  const durability = randomInt(2) === 0 ? 'fsync' : 'memory';
  const seed = 4 * randomInt(1, 250_000) + 2 + randomInt(2);
  t.ok(killsFrontEnds(seed));
  const said: string[] = [];
  const result = await redisChaos({ seed, replicas: 3, durability, seconds: SECONDS, say: (line) => said.push(line) });
  t.comment(
    `again: npm run chaos -- --redis --seed ${seed} --seconds ${SECONDS} --replicas 3 --durability ${durability} --verbose`,
  );
  t.comment(`${result.committed} committed, ${result.unknown} unknown, ${JSON.stringify(result.done)}`);
  t.same(result.failures, [], said.join('; '));
  t.equal(result.history, 'linearizable');
  t.ok(result.acknowledgedOnce > 0 && result.lost.length === 0);
  for (const what of ['replicas killed', 'front ends killed', 'appends to lists', 'reads right behind a write'])
    t.ok(result.done[what]! > 0, what);
});

t.test('the judge of lists', async (t) => {
  const append = (element: string, length: number | undefined, from: number, repeats = 0): Append => ({
    list: 'l',
    element,
    invokedMs: from,
    completedMs: length === undefined ? undefined : from + 2,
    length,
    repeats,
  });
  const read = (from: number, ...elements: string[]) => ({
    list: 'l',
    invokedMs: from,
    completedMs: from + 2,
    elements,
  });
  const judge = (
    appends: readonly Append[],
    final: readonly string[],
    reads: readonly ReturnType<typeof read>[] = [],
  ): Record<string, number> => {
    const { lost, doubled, reordered, strange } = judgeLists(appends, reads, new Map([['l', final]]));
    return { lost: lost.length, doubled: doubled.length, reordered: reordered.length, strange: strange.length };
  };
  const fine = { lost: 0, doubled: 0, reordered: 0, strange: 0 };
  const [a, b] = [append('a', 1, 0), append('b', 2, 10)];
  t.same(judge([a, b], ['a', 'b'], [read(5), read(11, 'a', 'b'), read(20, 'a', 'b')].slice(1)), fine);
  t.same(judge([a, append('b', undefined, 10)], ['a', 'b']), fine, 'an append of unknown outcome is there');
  t.same(judge([a, append('b', undefined, 10)], ['a']), fine, 'or it is not');
  t.same(judge([append('a', 2, 0, 1), append('b', 3, 10)], ['a', 'a', 'b']), fine, 'sent twice, executed twice');
  t.same(judge([a, b], ['a']), { ...fine, lost: 1 });
  t.same(judge([a, b], ['a', 'b', 'a']), { ...fine, doubled: 1 });
  t.same(judge([a, append('b', undefined, 9)], ['a', 'b', 'b']), { ...fine, doubled: 1 });
  t.same(judge([a, b], ['b', 'a']), { ...fine, reordered: 2 });
  t.same(judge([append('a', 2, 0), append('b', 1, 10)], ['b', 'a']), { ...fine, reordered: 1 }, 'not in real time');
  t.same(judge([a, b], ['a', 'b'], [read(5)]), { ...fine, reordered: 1 }, 'a read does not see what had ended');
  t.same(judge([a, b], ['a', 'b'], [read(20, 'b', 'a')]), { ...fine, reordered: 1 });
  t.same(judge([a], ['a', 'z']), { ...fine, strange: 1 });
  t.same(judgeLists([a], [], new Map()).lost.length, 1, 'a list that cannot be read');
});
