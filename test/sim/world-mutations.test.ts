/** The widened simulator notices each rule that is broken in world-mutations.ts, and passes the same run when it is not. */
import t from 'tap';
import { KIND_FAULTS } from '../../src/sim/faults.js';
import { simulate } from '../../src/sim/simulation.js';
import { broken, WORLD_MUTATIONS } from './world-mutations.js';

/** Enough for all that is right; what stands still is dear. */
const LIVENESS_TICKS = 2_000_000;

for (const mutation of WORLD_MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
    const { seed, replicas, noticed } = mutation;
    const options = { seed, replicas, faults: new Set([...KIND_FAULTS, ...mutation.world]), livenessTicks: LIVENESS_TICKS };
    const { failure } = simulate({ ...options, createReplica: broken(mutation) });
    t.equal(failure?.invariant, noticed, failure?.detail ?? 'nothing was noticed');
    const unbroken = simulate(options).failure;
    t.equal(unbroken, undefined, `the same run of the cores that ship passes: ${unbroken?.invariant} ${unbroken?.detail}`);
    t.end();
  });
}
