/**
 * A client with more operations open than its window has room for: what waits in the client is sent in the end, whatever
 * happens meanwhile, and histories stay linearizable.
 */
import t from 'tap';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import { ClientCounter, Counter } from '../../src/protocol/counters.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import type { CreateClient } from '../../src/sim/cores.js';
import type { FaultName } from '../../src/sim/faults.js';
import { simulate } from '../../src/sim/simulation.js';
import type { World } from '../../src/sim/world.js';

const SEEDS = [1, 2, 3, 4, 5, 6];
const GREEDY: Partial<World> = { greedy: { endpoint: 3, lanes: 12, queued: 1, everyUs: 250 } };
/** It keeps no window. */
const HOSTILE: Partial<World> = { greedy: { endpoint: 3, lanes: 60, queued: 60, everyUs: 10 } };
const FAULTS = new Set<FaultName>(['loss', 'pause', 'give-up', 'crash', 'wear']);

/** Clients that ship, each given to `look` when it is made. */
const clients =
  (look: (core: ClientCore) => void): CreateClient =>
  (config, outbox, events) => {
    const core = new ClientCore(config, outbox, events);
    look(core);
    return core;
  };

t.test('what waits is sent in the end, under faults too', (t) => {
  let waited = 0;
  for (const seed of SEEDS) {
    for (const faults of [new Set<FaultName>(), FAULTS]) {
      const cores: ClientCore[] = [];
      const { failure } = simulate({
        seed,
        replicas: 3,
        ticks: 200_000,
        faults,
        world: GREEDY,
        createClient: clients((core) => cores.push(core)),
      });
      t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
      for (const { counters } of cores) waited += counters[ClientCounter.waited]!;
    }
  }
  t.ok(waited > 500, `${waited} operations waited`);
  t.end();
});

t.test('a client without a window is served apart, and all goes on, under faults too', (t) => {
  let apart = 0;
  for (const seed of SEEDS) {
    for (const faults of [new Set<FaultName>(), FAULTS]) {
      const cores: ReplicaCore[] = [];
      const { failure } = simulate({
        seed,
        replicas: 3,
        ticks: 60_000,
        faults,
        world: HOSTILE,
        createReplica: (...args) => {
          const core = new ReplicaCore(...args);
          cores.push(core);
          return core;
        },
      });
      t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
      for (const { counters } of cores) apart += counters[Counter.requests_apart]!;
    }
  }
  t.ok(apart > 500, `${apart} requests were apart`);
  t.end();
});

t.test('a window that nothing leaves is noticed', (t) => {
  const { failure } = simulate({
    seed: 1,
    replicas: 3,
    ticks: 100_000,
    livenessTicks: 1_000_000,
    faults: new Set<FaultName>(),
    world: GREEDY,
    createClient: clients((core) => Object.defineProperty(core.window, 'isDue', { get: () => false })),
  });
  t.equal(failure?.invariant, 'stuck', `${failure?.detail}`);
  t.end();
});
