/**
 * The widened simulator notices each rule that is broken in world-mutations.ts, and passes the same run when it is not.
 */
import t from 'tap';
import { drawDiverging } from '../../src/sim/diverging.js';
import { drawPlan, KIND_FAULTS, type FaultName } from '../../src/sim/faults.js';
import { simulationChain } from '../../src/sim/hash.js';
import { Random } from '../../src/sim/random.js';
import { DEFAULT_TICKS } from '../../src/sim/assembly.js';
import { FRESH_OPERATIONS } from '../../src/sim/judging.js';
import { simulate } from '../../src/sim/simulation.js';
import { drawWorld } from '../../src/sim/world.js';
import { broken, COMPARED, withOddChain, WORLD_MUTATIONS, type WorldMutation } from './world-mutations.js';

/** Enough for all that is right; what stands still is dear. */
const LIVENESS_TICKS = 2_000_000;

/** Runs tried from the kept one on, of those that have a part of its world: what a seed does changes with the cores. */
const RUNS = 40;

function* runsFrom({ seed: first, replicas: firstSize, world }: WorldMutation): Generator<{
  readonly seed: number;
  readonly replicas: number;
  readonly faults: ReadonlySet<FaultName>;
}> {
  const faults = new Set([...KIND_FAULTS, ...world]);
  yield { seed: first, replicas: firstSize, faults };
  for (let seed = 1; ; seed++) {
    for (const replicas of [3, 5]) {
      const { workload, limits } = drawPlan(new Random(seed).fork('plan'), faults);
      const { newcomers, ...parts } = drawWorld(seed, faults, {
        replicas,
        first: replicas,
        clients: workload.clients,
        lanes: workload.lanes,
        lanesPerSession: limits.lanesPerSession,
        ticks: DEFAULT_TICKS,
      });
      const diverging = drawDiverging(seed, faults, replicas, DEFAULT_TICKS);
      if (newcomers.length >= 0 && (diverging.length > 0 || Object.values(parts).some((part) => part !== undefined)))
        yield { seed, replicas, faults };
    }
  }
}

for (const mutation of WORLD_MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
    let tried = 0;
    for (const run of runsFrom(mutation)) {
      const options = { ...run, livenessTicks: LIVENESS_TICKS, pieces: null };
      const { failure } = simulate({ ...options, createReplica: broken(mutation) });
      // Where the cores that ship stand still as well, the run shows nothing.
      if (++tried < RUNS && (failure === undefined || simulate(options).failure !== undefined)) continue;
      t.not(
        failure,
        undefined,
        `noticed by seed ${run.seed}, N = ${run.replicas}: ${failure?.invariant} ${failure?.detail.split('\n', 1)[0]}`,
      );
      const unbroken = simulate(options).failure;
      t.equal(
        unbroken,
        undefined,
        `the same run of the cores that ship passes: ${unbroken?.invariant} ${unbroken?.detail}`,
      );
      break;
    }
    t.end();
  });
}

t.test(`${COMPARED.otherChain.name}: ${COMPARED.otherChain.breaks}`, (t) => {
  const chain = simulationChain(new Random(7).fork('another secret'));
  for (const [seed, replicas, odd] of [
    [1, 3, 0],
    [1, 3, 1],
    [1, 3, 2],
    [2, 5, 0],
  ] as const) {
    const options = { seed, replicas, ticks: 100_000, livenessTicks: 2_000_000, faults: new Set<FaultName>() };
    // It is as if it were down: the clients have all that they need, and it alone never catches up.
    const whole = simulate({ ...options, createReplica: withOddChain(odd, chain) });
    t.match(whole.failure, { invariant: 'stuck', detail: /^a replica does not catch up/ });
    t.ok(
      whole.totals.commits >= FRESH_OPERATIONS &&
        whole.failure!.cluster.filter((line) => / committed 0 /.test(line)).length === 1,
      whole.failure!.cluster.join('\n'),
    );
    t.ok(whole.failure!.cluster[odd]!.includes(' committed 0 '));
    const { failure } = simulate({ ...options, createReplica: withOddChain(odd, chain, COMPARED.otherChain) });
    t.ok(
      failure !== undefined && failure.invariant !== 'stuck',
      `seed ${seed}, N = ${replicas}, replica ${odd}: ${failure?.invariant}: ${failure?.detail}`,
    );
  }
  t.end();
});

t.test(`${COMPARED.deafPrimary.name}: ${COMPARED.deafPrimary.breaks}`, (t) => {
  // The primary hears no replica from the moment on that everything works, and all hear it. With three replicas the only
  // member answers clients what the primary answers, so most of them go on committing; with five it shows.
  const deaf = {
    ticks: 100_000,
    livenessTicks: 2_000_000,
    faults: new Set<FaultName>(),
    world: { oneWay: { kind: 'deaf to replicas', role: 'primary', fromUs: 1_000_000, forUs: 1, stays: true } as const },
  };
  for (const seed of [3, 4, 9]) {
    t.equal(simulate({ ...deaf, seed, replicas: 5 }).failure, undefined);
    t.match(simulate({ ...deaf, seed, replicas: 5, createReplica: broken(COMPARED.deafPrimary) }).failure, {
      invariant: 'stuck',
      detail: /^a client commits nothing fresh/,
    });
  }
  t.end();
});

t.test(`${COMPARED.overtaken.name}: ${COMPARED.overtaken.breaks}`, (t) => {
  // With the rule all have caught up in these runs in time. Without it a log that travels in many short datagrams comes in
  // pieces, which takes longer.
  const short = {
    ticks: 300_000,
    livenessTicks: 120_000,
    faults: new Set<FaultName>(['loss', 'crash', 'crash-loop']),
    world: { longest: 277 },
  };
  for (const seed of [1, 3, 10]) {
    t.equal(simulate({ ...short, seed, replicas: 3 }).failure, undefined);
    t.match(simulate({ ...short, seed, replicas: 3, createReplica: broken(COMPARED.overtaken) }).failure, {
      invariant: 'stuck',
    });
  }
  t.end();
});
