/** The widened simulator notices each rule that is broken in world-mutations.ts, and passes the same run when it is not. */
import t from 'tap';
import { drawDiverging } from '../../src/sim/diverging.js';
import { drawPlan, KIND_FAULTS, type FaultName } from '../../src/sim/faults.js';
import { Random } from '../../src/sim/random.js';
import { DEFAULT_TICKS, simulate } from '../../src/sim/simulation.js';
import { drawWorld } from '../../src/sim/world.js';
import { broken, WORLD_MUTATIONS, type WorldMutation } from './world-mutations.js';

/** Enough for all that is right; what stands still is dear. */
const LIVENESS_TICKS = 2_000_000;

/** Runs tried from the kept one on, of those that have a part of its world: what a seed does changes with the cores. */
const RUNS = 40;

function* runsFrom({ seed: first, replicas: firstSize, world }: WorldMutation): Generator<{ readonly seed: number; readonly replicas: number; readonly faults: ReadonlySet<FaultName> }> {
  const faults = new Set([...KIND_FAULTS, ...world]);
  yield { seed: first, replicas: firstSize, faults };
  for (let seed = 1; ; seed++) {
    for (const replicas of [3, 5]) {
      const { workload, limits } = drawPlan(new Random(seed).fork('plan'), faults);
      const { newcomers, ...parts } = drawWorld(seed, faults, { replicas, clients: workload.clients, lanes: workload.lanes, lanesPerSession: limits.lanesPerSession, ticks: DEFAULT_TICKS });
      const diverging = drawDiverging(seed, faults, replicas, DEFAULT_TICKS);
      if (newcomers.length >= 0 && (diverging.length > 0 || Object.values(parts).some((part) => part !== undefined))) yield { seed, replicas, faults };
    }
  }
}

for (const mutation of WORLD_MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
    let tried = 0;
    for (const run of runsFrom(mutation)) {
      const options = { ...run, livenessTicks: LIVENESS_TICKS };
      const { failure } = simulate({ ...options, createReplica: broken(mutation) });
      // Where the cores that ship stand still as well, the run shows nothing.
      if (++tried < RUNS && (failure === undefined || simulate(options).failure !== undefined)) continue;
      t.not(failure, undefined, `noticed by seed ${run.seed}, N = ${run.replicas}: ${failure?.invariant} ${failure?.detail.split('\n', 1)[0]}`);
      const unbroken = simulate(options).failure;
      t.equal(unbroken, undefined, `the same run of the cores that ship passes: ${unbroken?.invariant} ${unbroken?.detail}`);
      break;
    }
    t.end();
  });
}
