/**
 * One client registers as many sessions and lanes as it may, again and again. With the feature session-quotas no other
 * client loses a session; without it, or with its bounds broken, they do.
 */
import t, { type Test } from 'tap';
import { Feature } from '../../src/protocol/log/features.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { createShippedReplica, type CreateReplica } from '../../src/sim/cores.js';
import type { FaultName } from '../../src/sim/faults.js';
import { simulate } from '../../src/sim/simulation.js';
import type { World } from '../../src/sim/world.js';

const SEEDS = [1, 2, 3, 4];
const HOARDER: Partial<World> = { enemy: { rate: 20, rateAfter: 20, hoards: true } };

/** Sessions that honest clients lost over all seeds. Every run is judged as any other, digests of tables included. */
function lost(t: Test, features: number, createReplica?: CreateReplica): number {
  let sessions = 0;
  for (const seed of SEEDS) {
    const { failure, totals } = simulate({
      seed,
      replicas: 3,
      ticks: 500_000,
      faults: new Set<FaultName>(),
      world: HOARDER,
      features,
      ...(createReplica === undefined ? {} : { createReplica }),
    });
    t.equal(failure, undefined, `seed ${seed}: ${failure?.detail ?? ''}`);
    t.ok(totals.enemy > 100 && totals.commits > 10, `seed ${seed}: ${totals.commits} commits`);
    sessions += totals.sessionsLost;
  }
  return sessions;
}

/** The same at all replicas: a rule that is missing. */
function broken(breaks: (core: ReplicaCore) => void): CreateReplica {
  return (...made) => {
    const core = createShippedReplica(...made);
    if (!(core instanceof ReplicaCore)) throw new TypeError('a mutation is made for the core that ships');
    breaks(core);
    return core;
  };
}

/** The rate of Registers holds most of it back, so the quotas are looked at without it. */
function anyRate(core: ReplicaCore): void {
  core['requests']['registers'].permits = () => true;
}

t.test('with quotas and the rate no other client loses a session', (t) => {
  t.equal(lost(t, Feature.sessionQuotas), 0);
  t.end();
});

t.test('with quotas alone neither', (t) => {
  t.equal(lost(t, Feature.sessionQuotas, broken(anyRate)), 0);
  t.end();
});

t.test('without both they do', (t) => {
  t.ok(lost(t, 0, broken(anyRate)) > 0);
  t.end();
});

t.test('a quota that takes all owners for one is noticed', (t) => {
  const oneShare = broken((core) => {
    anyRate(core);
    core.state.execution.sessions['ownerOf'] = () => 0;
  });
  t.ok(lost(t, Feature.sessionQuotas, oneShare) > 0);
  t.end();
});

/** What tells that replicas executed one log differently. */
const NOTICED: readonly string[] = ['contradiction', 'snapshots-equal', 'executed-agree'];

t.test('a replica that alone does not share its table is noticed', (t) => {
  const noticed = SEEDS.map((seed) => {
    const { failure } = simulate({
      seed,
      replicas: 3,
      ticks: 500_000,
      faults: new Set<FaultName>(),
      world: HOARDER,
      features: Feature.sessionQuotas,
      createReplica: broken((core) => {
        anyRate(core);
        if (core.state.id !== 1) return;
        const { sessions } = core.state.execution;
        sessions.setQuotas(false);
        sessions.setQuotas = () => undefined;
      }),
    });
    return failure?.invariant;
  });
  t.ok(
    noticed.every((invariant) => invariant !== undefined && NOTICED.includes(invariant)),
    noticed.join(),
  );
  t.end();
});
