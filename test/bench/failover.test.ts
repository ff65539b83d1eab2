// `npm run bench:failover`, tiny, so that it cannot rot. What was measured is not judged; that nothing was lost is.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const failover = fileURLToPath(new URL('../../bench/failover.js', import.meta.url));

t.test('the pause of each kill is measured, and the verdict follows from the figures', async (t) => {
  const { code, stdout, stderr } = await runNode([failover, '--kills', '2', '--json', '--quiet']);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as {
    schema: string;
    kills: number;
    operations: number;
    history: string;
    pauseMs: { median: number; worst: number; all: number[] };
    rows: { name: string; holds: boolean; figures: { value: number }[] }[];
    missed: string[];
  };
  t.match(result, { schema: 'jitpaxos.failover/1', kills: 2, history: 'linearizable' });
  t.ok(result.operations > 0);
  t.equal(result.pauseMs.all.length, 2);
  const { median, worst } = result.pauseMs;
  t.ok(median > 0 && worst >= median, JSON.stringify(result.pauseMs));
  const [row] = result.rows;
  t.same(
    row!.figures.map(({ value }) => value),
    [median, worst],
  );
  t.equal(row!.holds, median <= 50 && worst <= 150);
  t.same(result.missed, row!.holds ? [] : ['failover']);
});

t.test('an even number of replicas is refused', async (t) => {
  const { code, stderr } = await runNode([failover, '--replicas', '4']);
  t.equal(code, 2);
  t.match(stderr, /^flag-invalid: --replicas is an odd number, not 4/);
});
