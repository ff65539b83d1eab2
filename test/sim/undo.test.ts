/**
 * Replicas that undo what they executed too early, and do not restore: no rule breaks, with enough memory for it and with
 * too little. A run is always the same for its seed. In one of ten something is taken back, so seeds are tried until
 * there were some of these.
 */
import t from 'tap';
import { KIND_FAULTS } from '../../src/sim/faults.js';
import { createShippedReplica, type CreateReplica } from '../../src/sim/cores.js';
import { simulate } from '../../src/sim/simulation.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { Counter } from '../../src/protocol/counters.js';
import { Feature } from '../../src/protocol/log/features.js';

const FIRST_SEED = 37;
const LAST_SEED = 300;

interface Seen {
  undone: number;
  restored: number;
}

function watched(seen: Seen): CreateReplica {
  return (...made) => {
    const core = createShippedReplica(...made);
    if (!(core instanceof ReplicaCore)) throw new TypeError('the core that ships');
    const { execution, counters } = core.state;
    for (const name of ['truncated', 'rewind'] as const) {
      const goBack = execution[name].bind(execution) as (...indexes: number[]) => void;
      execution[name] = (...indexes: number[]) => {
        const { undone } = execution;
        const rollbacks = counters[Counter.rollbacks]!;
        goBack(...indexes);
        if (execution.undone !== undone) seen.undone++;
        else if (counters[Counter.rollbacks] !== rollbacks) seen.restored++;
      };
    }
    return core;
  };
}

t.test('what was executed too early is undone, or restored where the memory does not suffice', (t) => {
  const enough: Seen = { undone: 0, restored: 0 };
  const little: Seen = { undone: 0, restored: 0 };
  const none: Seen = { undone: 0, restored: 0 };
  for (const [seen, undoBytes] of [
    [enough, 1 << 20],
    [little, 1 << 10],
    [none, null],
  ] as const)
    for (let seed = FIRST_SEED; seed <= LAST_SEED; seed++) {
      if (seen.undone + seen.restored >= 4 && (seen !== little || seen.restored > 0)) break;
      const { failure } = simulate({
        seed,
        replicas: 3,
        ticks: 200_000,
        faults: new Set(KIND_FAULTS),
        pieces: { bytes: 1, everyUs: 20_000 },
        undoBytes,
        features: Feature.sessionQuotas,
        createReplica: watched(seen),
      });
      t.equal(failure, undefined, `seed ${seed}, ${undoBytes} bytes: ${failure?.invariant} ${failure?.detail}`);
    }
  t.comment(JSON.stringify({ enough, little, none }));
  t.ok(enough.undone > 0 && enough.restored === 0, 'with enough memory nothing is restored');
  t.ok(little.restored > 0, 'with little memory it is at times');
  t.ok(none.undone === 0 && none.restored > 0, 'a machine that does not undo restores');
  t.end();
});

t.test('undoing changes neither what is executed nor when it is answered', (t) => {
  let compared = 0;
  for (let seed = FIRST_SEED; seed <= LAST_SEED && compared < 3; seed++) {
    const of = (undoBytes: number | null): readonly [string, number] => {
      const { totals, failure, digest } = simulate({
        seed,
        replicas: 3,
        ticks: 200_000,
        faults: new Set(KIND_FAULTS),
        pieces: null,
        undoBytes,
        features: Feature.sessionQuotas,
      });
      t.equal(failure, undefined);
      return [digest, totals.rollbacks];
    };
    const restored = of(null);
    if (restored[1] === 0) continue;
    t.same(of(1 << 20), restored, `seed ${seed}: ${restored[1]} rollbacks`);
    compared++;
  }
  t.equal(compared, 3, 'seeds with rollbacks');
  t.end();
});
