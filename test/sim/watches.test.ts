/**
 * Clients that watch a store while processes are killed, cut off and stopped, logs are lost and replicas install snapshots:
 * each change is told once, in order, and a gap is loud. Each rule that is broken (watch-mutations.ts) is noticed.
 */
import t from 'tap';
import { simulateBroken, WATCH_MUTATIONS } from './watch-mutations.js';
import { simulateWatches } from './watch-run.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = Number(process.env['WATCH_RUNS'] ?? 4);
/**
 * Runs in which a primary that was cut off, and has executed more than its ring holds, is asked for a watch; and in which a
 * client is killed that was killed just before.
 */
const KEPT = [103, 171];
/** What has to be seen in some run. */
const SEEN = [
  ...['kills', 'stops', 'cuts', 'partitions', 'failovers', 'logsLost', 'compacted', 'ended', 'undone', 'installed'],
  ...['committed', 'told', 'values', 'lost'],
];

/** A run that noticed it. When the code changes, it may lose what made it special: then those that follow are tried. */
const KNOWN: Readonly<Record<string, number>> = {
  'watch-from-an-uncommitted-index': 3,
  'watch-over-forgotten-changes': 3,
  'watch-over-a-lost-message': 1,
  'watch-again': 1,
};
const FURTHER_RUNS = Number(process.env['MUTATION_RUNS'] ?? 20);

t.test('every committed change is told once and in order, or a watch is told that it has lost some', async (t) => {
  const seen: Record<string, number> = {};
  const isMissing = (): boolean => SEEN.some((name) => (seen[name] ?? 0) === 0);
  for (let run = 0; run < KEPT.length + RUNS || (isMissing() && run < 10 * RUNS); run++) {
    const seed = KEPT[run] ?? SEED + run;
    const { violation, counts } = await simulateWatches({ seed });
    t.equal(violation, undefined, `seed ${seed}: ${violation?.message}`);
    for (const [name, count] of Object.entries(counts)) seen[name] = (seen[name] ?? 0) + count;
  }
  t.comment(`seed ${SEED}: ${JSON.stringify(seen)}`);
  for (const name of SEEN) t.ok(seen[name]! > 0, `${name}: ${seen[name]}`);
});

t.test('the same seed gives the same run', async (t) => {
  const options = { seed: SEED, us: 200_000 };
  t.same(await simulateWatches(options), await simulateWatches(options), `seed ${SEED}`);
});

t.test('every mutation has a run that notices it', (t) => {
  t.same(Object.keys(KNOWN).sort(), WATCH_MUTATIONS.map(({ name }) => name).sort());
  t.end();
});

for (const mutation of WATCH_MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, async (t) => {
    const first = KNOWN[mutation.name]!;
    for (let seed = first; seed <= first + FURTHER_RUNS; seed++) {
      const { violation } = await simulateBroken(mutation, { seed });
      if (violation === undefined) continue;
      t.pass(`seed ${seed}: ${violation.message}`);
      const unbroken = (await simulateWatches({ seed })).violation;
      t.equal(unbroken, undefined, `the same run of what ships passes: ${unbroken?.message}`);
      return;
    }
    t.fail(`not noticed with seeds ${first} to ${first + FURTHER_RUNS}`);
  });
}
