// The fault `members`: hosts are added, replaced, moved and removed while everything else fails too. The invariants are
// those of every run, over epochs; at the end each listed replica has caught up and no change is open.
import t from 'tap';
import { simulate } from '../../src/sim/simulation.js';
import { FAULT_NAMES } from '../../src/sim/faults.js';

/** Seeds in which the fault happens. */
const SEEDS = [1, 7, 10, 14];

t.test('changes of members, with all other faults and without', (t) => {
  let changes = 0;
  for (const seed of SEEDS)
    for (const replicas of [1, 3, 5])
      for (const faults of [new Set(FAULT_NAMES), new Set(['members'] as const)]) {
        const { failure, totals } = simulate({ seed, replicas, faults, ticks: 150_000 });
        t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${failure?.detail}`);
        changes += totals.epochs;
      }
  t.ok(changes > 20, `${changes} epochs began`);
  t.end();
});
