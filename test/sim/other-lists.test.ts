// A client whose cluster file lists fewer replicas, beside others in a simulated cluster: with the rule it gets no
// session, without it what it was told is untrue.
import t from 'tap';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import type { CreateClient } from '../../src/sim/cores.js';
import { KIND_FAULTS } from '../../src/sim/faults.js';
import type { SimulationResult } from '../../src/sim/result.js';
import { simulate } from '../../src/sim/simulation.js';

const REPLICAS = 5;
const LISTED = 3;
const SEED = 3;
/** When cores change, the kept seed may lose what made it special: then the next ones are tried. */
const SEEDS = 20;

/** It stands still, or the processes of version 3 do not say what they list. */
const NOT_COUNTED = new Set(['stuck', 'core-exception']);

/** One seed in which the first client lists three of five. `sessions`: how many it got. */
function run(seed: number, isCompared: boolean): { result: SimulationResult; sessions: number } {
  let misled: unknown;
  const cores: ClientCore[] = [];
  const createClient: CreateClient = (config, outbox, events) => {
    misled ??= outbox;
    if (outbox !== misled) return new ClientCore(config, outbox, events);
    const core = new ClientCore({ ...config, replicas: LISTED }, outbox, events);
    if (!isCompared) core.lists.refuses = () => false;
    cores.push(core);
    return core;
  };
  const result = simulate({
    seed,
    replicas: REPLICAS,
    ticks: 200_000,
    livenessTicks: 100_000,
    faults: new Set(KIND_FAULTS),
    world: {},
    createClient,
  });
  return { result, sessions: cores.filter(({ registered }) => registered).length };
}

t.test('without the comparison, what it takes for committed is not', (t) => {
  for (let seed = SEED; seed < SEED + SEEDS; seed++) {
    const { result, sessions } = run(seed, false);
    if (result.failure === undefined || NOT_COUNTED.has(result.failure.invariant) || result.totals.previousVersion > 0)
      continue;
    t.ok(sessions > 0, `seed ${seed}: ${result.failure.invariant}: ${result.failure.detail}`);
    const whole = run(seed, true);
    t.equal(whole.sessions, 0, 'with it, it gets no session');
    t.match(
      whole.result.failure,
      { invariant: 'stuck', detail: /a client commits nothing fresh/ },
      'and nothing else is wrong: it is the one that is kept out',
    );
    t.end();
    return;
  }
  t.fail(`no seed from ${SEED} to ${SEED + SEEDS - 1} notices it`);
  t.end();
});
