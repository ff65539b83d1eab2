// Each rule of the store that is broken (store-mutations.ts) is noticed, and the same run of the machine that ships passes.
// When the code changes a run may lose what made it special: then those that follow are tried.
import t from 'tap';
import { usesStore } from '../../src/sim/assembly.js';
import { simulate } from '../../src/sim/simulation.js';
import { mutated, runOf } from './mutation.js';
import { STORE_MUTATIONS, STORE_RUN } from './store-mutations.js';

/** A run (`runOf`) that noticed it, found by scripts/find-mutations.mjs. */
const KNOWN: Readonly<Record<string, number>> = {
  'expire-by-local-clock': 2,
  'read-by-local-clock': 34,
  'undo-forgets-an-index': 186,
  'undo-leaves-members': 31,
  'generations-used-again': 3,
  'renewal-replayed': 2,
  'execute-other-bytes': 2,
};

/** Runs tried behind the kept one. */
const FURTHER_RUNS = Number(process.env['MUTATION_RUNS'] ?? 80);
/** The cores' own answer to a mutation may be to stand still, or the mutation's to be wrong itself: neither counts. */
const NOT_COUNTED = new Set(['stuck', 'core-exception']);

t.test('every mutation has a run that notices it', (t) => {
  t.same(Object.keys(KNOWN).sort(), STORE_MUTATIONS.map(({ name }) => name).sort());
  t.end();
});

for (const mutation of STORE_MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
    const first = KNOWN[mutation.name]!;
    for (let number = first; number <= first + FURTHER_RUNS; number++) {
      const options = { ...STORE_RUN, ...runOf(number) };
      if (!usesStore(options)) continue;
      const { failure } = simulate({ ...options, ...mutated(mutation) });
      if (failure === undefined || NOT_COUNTED.has(failure.invariant)) continue;
      t.pass(`seed ${options.seed}, N = ${options.replicas}: ${failure.invariant}: ${failure.detail}`);
      const unbroken = simulate(options).failure;
      t.equal(unbroken, undefined, `the same run of the machine that ships passes: ${unbroken?.detail}`);
      t.end();
      return;
    }
    t.fail(`not noticed in runs ${first}…${first + FURTHER_RUNS}`);
    t.end();
  });
}
