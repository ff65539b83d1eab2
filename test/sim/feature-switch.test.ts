/**
 * An operator switches features on in the middle of runs with all faults: every run is judged as any other, and at its
 * end all replicas have the same features and tables. Mutations that break this are in mutations.ts.
 */
import t from 'tap';
import { ALL_FAULTS } from '../../src/sim/faults.js';
import { drawSwitch } from '../../src/sim/operator.js';
import { simulate } from '../../src/sim/simulation.js';

const SEEDS = Array.from({ length: 24 }, (_, i) => i + 1);
const TICKS = 300_000;

t.test('features are switched on under faults', (t) => {
  let switched = 0;
  let crashes = 0;
  for (const seed of SEEDS) {
    const replicas = seed % 3 === 0 ? 5 : 3;
    const all = new Set(ALL_FAULTS);
    const expected = drawSwitch(seed, all, TICKS);
    if (expected === undefined) continue;
    const result = simulate({ seed, replicas, ticks: TICKS, faults: all, features: 0 });
    t.equal(result.failure, undefined, `seed ${seed}: ${result.failure?.invariant} ${result.failure?.detail}`);
    t.equal(result.totals.switched, 1, `seed ${seed}`);
    t.match(result.plan, /features from \d+ ms on/);
    switched += result.totals.switched;
    crashes += result.totals.crashes;
  }
  t.ok(switched > 5 && crashes > 5, `${switched} runs, ${crashes} crashes`);
  t.end();
});

t.test('a run without the fault, or with features from the beginning, is the same as ever', (t) => {
  const seed = SEEDS.find((seed) => drawSwitch(seed, new Set(ALL_FAULTS), TICKS) !== undefined)!;
  const run = (faults: readonly string[], features: number) =>
    simulate({
      seed,
      replicas: 3,
      ticks: TICKS,
      faults: new Set(ALL_FAULTS.filter((name) => faults.includes(name))),
      features,
    });
  const without = ALL_FAULTS.filter((name) => name !== 'feature');
  t.equal(run(without, 1).digest, run(ALL_FAULTS, 1).digest);
  t.not(run(without, 0).digest, run(ALL_FAULTS, 0).digest);
  t.equal(run(without, 0).totals.switched, 0);
  t.end();
});
