// Each rule of epochs that is broken (member-mutations.ts) is noticed in a run with changing members, and the same run of
// the cores that ship passes. When the cores change a run may lose what made it special: then those that follow are tried.
import t from 'tap';
import type { FaultName } from '../../src/sim/faults.js';
import { simulate } from '../../src/sim/simulation.js';
import { MEMBER_FAULTS, MEMBER_MUTATIONS } from './member-mutations.js';
import { mutated } from './mutation.js';

/** A run that noticed it. */
const KNOWN: Readonly<Record<string, readonly [seed: number, replicas: number]>> = {
  newonly: [1, 3],
  oldonly: [3, 2],
  fewold: [1, 3],
  anyvoter: [1, 1],
  oldacks: [1, 3],
  append: [1, 3],
  epochvolatile: [136, 5],
  nocatchup: [1, 1],
  'slot-voter': [261, 3],
  counter: [403, 1],
  rejoin: [23, 3],
  emptyvote: [44, 3],
  spare: [1, 3],
  reuseid: [1, 3],
  anyhost: [20, 2],
  otherdirectory: [193, 3],
  'older-host-listed': [10, 3],
};

/** Seeds tried behind the kept one. */
const FURTHER = 40;
/** The cores' own answer to a mutation may be to stand still, or the mutation's to be wrong itself: neither counts. */
const NOT_COUNTED = new Set(['stuck', 'core-exception']);
const RUN = { ticks: 300_000, faults: new Set(MEMBER_FAULTS) };
/** An ambush of many steps, which other faults disturb. */
const LONG_RUN = { ticks: 600_000, faults: new Set(['members', 'ambush', 'pause', 'loss'] as const) };
const OTHER_RUNS: Readonly<Record<string, { readonly ticks: number; readonly faults: ReadonlySet<FaultName> }>> = {
  'slot-voter': LONG_RUN,
  anyhost: { ...RUN, faults: new Set(['members', 'diverge', 'crash', 'loss']) },
  'older-host-listed': { ...RUN, faults: new Set(['members', 'versions', 'crash', 'loss']) },
  otherdirectory: { ...RUN, faults: new Set([...MEMBER_FAULTS, 'directory-lost']) },
};

t.test('every mutation has a run that notices it', (t) => {
  t.same(Object.keys(KNOWN).sort(), MEMBER_MUTATIONS.map(({ name }) => name).sort());
  t.end();
});

for (const mutation of MEMBER_MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
    const [first, replicas] = KNOWN[mutation.name]!;
    const run = OTHER_RUNS[mutation.name] ?? RUN;
    for (let seed = first; seed <= first + FURTHER; seed++) {
      const { failure } = simulate({ ...run, seed, replicas, ...mutated(mutation) });
      if (failure === undefined || NOT_COUNTED.has(failure.invariant)) continue;
      t.pass(`seed ${seed}, N = ${replicas}: ${failure.invariant}: ${failure.detail}`);
      const unbroken = simulate({ ...run, seed, replicas }).failure;
      t.equal(unbroken, undefined, `the same run of the cores that ship passes: ${unbroken?.detail}`);
      t.end();
      return;
    }
    t.fail(`not noticed with seeds ${first}…${first + FURTHER}`);
    t.end();
  });
}
