/**
 * For each mutation of test/sim/mutations.ts, view-mutations.ts, store-mutations.ts and watch-mutations.ts, finds the first
 * run of the simulator that notices it.
 *
 *   node scripts/find-mutations.mjs [--runs 400] [--faults a,b,…] [--features 0] [--pieces 20000] [--undo 65536] [name…] after `npm run build`
 *
 * Runs are numbered: run k has seed ⌊k/2⌋+1, and N = 3 if k is even, 5 if it is odd. A violation of liveness does not
 * count, nor does an exception that is not one of the core's invariants: the mutation itself may cause it. Prints one
 * line for each mutation, in the form in which mutations.test.ts keeps it. Those of the store and of watches have their own
 * runs, which the flags about faults and features do not change. Runs of watches are numbered by their seeds, from 1.
 */
import { parseArgs } from 'node:util';
import { KIND_FAULTS } from '../dist/src/sim/faults.js';
import { simulate } from '../dist/src/sim/simulation.js';
import { usesStore } from '../dist/src/sim/assembly.js';
import { mutated, runOf, TICKS } from '../dist/test/sim/mutation.js';
import { MUTATIONS as CORE_MUTATIONS } from '../dist/test/sim/mutations.js';
import { STORE_MUTATIONS, STORE_RUN } from '../dist/test/sim/store-mutations.js';
import { simulateBroken, WATCH_MUTATIONS } from '../dist/test/sim/watch-mutations.js';

const MUTATIONS = [...CORE_MUTATIONS, ...STORE_MUTATIONS, ...WATCH_MUTATIONS];

const { values, positionals } = parseArgs({
  options: {
    runs: { type: 'string', default: '400' },
    faults: { type: 'string' },
    features: { type: 'string' },
    pieces: { type: 'string' },
    undo: { type: 'string' },
  },
  allowPositionals: true,
});
const faults = {
  faults: new Set(values.faults?.split(',') ?? KIND_FAULTS),
  ...(values.features === undefined ? {} : { features: Number(values.features) }),
  pieces: values.pieces === undefined ? null : { bytes: 1, everyUs: Number(values.pieces) },
  undoBytes: values.undo === undefined ? null : Number(values.undo),
};
const wanted =
  positionals.length === 0 ? MUTATIONS : MUTATIONS.filter((mutation) => positionals.includes(mutation.name));
const unknown = positionals.filter((name) => !MUTATIONS.some((mutation) => mutation.name === name));
if (unknown.length > 0) {
  console.error(
    `no such mutation: ${unknown.join(', ')}; there are: ${MUTATIONS.map((mutation) => mutation.name).join(', ')}`,
  );
  process.exit(2);
}

for (const mutation of wanted) {
  const began = performance.now();
  const others = new Map();
  let line = WATCH_MUTATIONS.includes(mutation) ? await watchLine(mutation) : '';
  for (let run = 0; !WATCH_MUTATIONS.includes(mutation) && run < Number(values.runs) && line === ''; run++) {
    const isOfStore = STORE_MUTATIONS.includes(mutation);
    const options = { ...runOf(run), ticks: TICKS, ...(isOfStore ? STORE_RUN : faults) };
    if (isOfStore && !usesStore(options)) continue;
    const { failure } = simulate({ ...options, ...mutated(mutation) });
    if (failure === undefined) continue;
    if (failure.invariant === 'stuck' || failure.invariant === 'core-exception')
      others.set(failure.invariant, failure.detail);
    else
      line = `'${mutation.name}': { run: ${run}, invariant: '${failure.invariant}' }, // ${failure.detail.slice(0, 160)}`;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(
    line === '' ? `'${mutation.name}': not caught in ${values.runs} runs (${seconds} s)` : `${line} (${seconds} s)`,
  );
  for (const [invariant, detail] of others) console.log(`  not counted: ${invariant}: ${detail.slice(0, 300)}`);
}

/** Empty: no run noticed it. */
async function watchLine(mutation) {
  for (let seed = 1; seed <= Number(values.runs); seed++) {
    const { violation } = await simulateBroken(mutation, { seed });
    if (violation !== undefined) return `'${mutation.name}': ${seed}, // ${violation.message.slice(0, 160)}`;
  }
  return '';
}
