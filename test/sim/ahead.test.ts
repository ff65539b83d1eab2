/**
 * One client whose requests reach one replica and the others late or never, stamped ahead or in time: the others commit in
 * one round trip about as often as without it, and no longer so where such requests are appended at once.
 */
import t, { type Test } from 'tap';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import type { FaultName } from '../../src/sim/faults.js';
import type { CreateReplica } from '../../src/sim/cores.js';
import { simulate } from '../../src/sim/simulation.js';
import type { World } from '../../src/sim/world.js';
import { broken, WORLD_MUTATIONS } from './world-mutations.js';

const SEEDS = [1, 2, 3, 4, 5, 6];
const AHEAD: Partial<World> = { ahead: { rate: 20, rateAfter: 20, role: 'member', aheadNs: 95_000_000, laterUs: 0 } };
/** In their plans the primary pushes its order and stamps late requests anew, and few requests cross on their ways. */
const PUSHING_SEEDS = [5, 15];
const mutation = WORLD_MUTATIONS.find(({ name }) => name === 'ahead-at-once')!;

interface Runs {
  readonly seeds?: readonly number[];
  readonly ticks?: number;
  readonly createReplica?: CreateReplica;
}

/** Share of commits in one round trip over all seeds. */
function share(t: Test, world: Partial<World>, { seeds = SEEDS, ticks = 500_000, createReplica }: Runs = {}): number {
  let commits = 0;
  let fast = 0;
  for (const seed of seeds) {
    const { failure, totals } = simulate({
      seed,
      replicas: 3,
      ticks,
      faults: new Set<FaultName>(),
      world,
      ...(createReplica === undefined ? {} : { createReplica }),
    });
    if (createReplica === undefined) t.equal(failure, undefined, `seed ${seed}`);
    commits += totals.commits;
    fast += totals.fastCommits;
  }
  t.comment(`${fast} of ${commits} in one round trip`);
  return fast / commits;
}

t.test('20 requests a second, 95 ms ahead, to a member only', (t) => {
  const quiet = share(t, {});
  const attacked = share(t, AHEAD);
  t.ok(attacked >= 0.9 * quiet, `${attacked.toFixed(3)} in one round trip, ${quiet.toFixed(3)} without it`);
  t.end();
});

t.test('500 requests a second in time, to one replica only, or to the other 5 ms later', (t) => {
  const runs = { seeds: PUSHING_SEEDS, ticks: 1_000_000 };
  const quiet = share(t, {}, runs);
  for (const role of ['member', 'primary'] as const) {
    for (const laterUs of [0, 5_000]) {
      const world = { ahead: { rate: 500, rateAfter: 50, role, aheadNs: 0, laterUs } };
      const attacked = share(t, world, runs);
      const name = `${role}, ${laterUs} µs`;
      t.ok(
        attacked >= 0.9 * quiet,
        `${name}: ${attacked.toFixed(3)} in one round trip, ${quiet.toFixed(3)} without it`,
      );
      const unguarded = share(t, world, { ...runs, createReplica: broken({ break: neverApart }) });
      t.ok(unguarded < attacked, `${name}: ${unguarded.toFixed(3)} if nobody is served apart`);
    }
  }
  t.end();
});

t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
  for (const seed of SEEDS.slice(0, 2)) {
    const { failure } = simulate({
      seed,
      replicas: 3,
      ticks: 500_000,
      faults: new Set<FaultName>(),
      world: { ahead: { ...AHEAD.ahead!, rate: 200 } },
      createReplica: broken(mutation),
    });
    t.equal(failure?.invariant, 'not-ahead', `seed ${seed}: ${failure?.detail}`);
  }
  t.end();
});

function neverApart(core: ReplicaCore): void {
  core['repair'].outOfStep.isApart = () => false;
}
