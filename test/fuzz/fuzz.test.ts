// A short run of the fuzzers; `npm run fuzz` throws twenty million.
import t from 'tap';
import { randomInt } from 'node:crypto';
import { KINDS, ReceivePathFuzzer } from './receive-path.js';

const ROUNDS = 12;

t.test(
  'forged datagrams change nothing; hostile ones under a good key crash nothing and break no invariant',
  async (t) => {
    const seed = randomInt(1, 0x7fffffff);
    t.comment(`again: npm run fuzz -- --seed ${seed}`);
    const fuzzer = new ReceivePathFuzzer(seed);
    for (let round = 0; round < ROUNDS; round++) for (const kind of KINDS) fuzzer.round(kind);
    const { counts } = fuzzer;
    t.same([...counts.crashes], [], 'crashes');
    t.same([...counts.violations], [], 'violations');
    for (const kind of KINDS) t.ok(counts.tried[kind] > ROUNDS * 500, `${counts.tried[kind]} ${kind}`);
    t.ok(
      counts.heard > 10_000 && counts.committed > 100,
      `${counts.heard} messages were heard, ${counts.committed} operations committed: the cores were at work`,
    );
  },
);
