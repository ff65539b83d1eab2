// A short run of the fuzzers; `npm run fuzz` throws twenty million.
import t from 'tap';
import { randomInt } from 'node:crypto';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { FORGERIES } from './forger.js';
import { KINDS, LIFE, ReceivePathFuzzer } from './receive-path.js';

/** Clusters that live to their end. */
const LIVES = 3;

t.test(
  'forged datagrams change nothing; hostile ones under a good key crash nothing and break no invariant',
  async (t) => {
    const seed = randomInt(1, 0x7fffffff);
    t.comment(`again: npm run fuzz -- --seed ${seed}`);
    const fuzzer = new ReceivePathFuzzer(seed);
    for (let round = 0; round < LIVES * LIFE.length; round++) fuzzer.round();
    const { counts, atWork, forger } = fuzzer;
    t.same([...counts.crashes], [], 'crashes');
    t.same([...counts.violations], [], 'violations');
    for (const kind of KINDS) t.ok(counts.tried[kind] >= LIVES * 2_000, `${counts.tried[kind]} ${kind}`);
    for (const name of FORGERIES) t.ok(forger.made[name] > 1_000, `${forger.made[name]} forged: ${name}`);
    for (const version of [PREVIOUS_WIRE_VERSION, WIRE_VERSION])
      t.ok(
        counts.handled[version]! > 500,
        `${counts.handled[version]} hostile ones of version ${version} were handled`,
      );
    t.ok(counts.reports > 0, `${counts.reports} reports were complete`);
    t.ok(
      atWork.heard > 10_000 && atWork.committed > 100,
      `${atWork.heard} messages were heard, ${atWork.committed} operations committed: the cores were at work`,
    );
  },
);
