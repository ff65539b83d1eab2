// `npm run bench:fairness`, tiny, so that it cannot rot. What was measured is not judged.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const fairness = fileURLToPath(new URL('../../bench/fairness.js', import.meta.url));

t.test('well-behaved clients are measured beside each kind of noise', async (t) => {
  const { code, stdout, stderr } = await runNode([
    fairness,
    '--rounds',
    '1',
    '--seconds',
    '1s',
    '--rate',
    '200',
    '--transports',
    'dgram',
    '--noise',
    'elsewhere,again,registers,member-only',
    '--json',
    '--quiet',
  ]);
  t.equal(code, 0, stderr);
  const { schema, rows } = JSON.parse(stdout) as {
    schema: string;
    rows: { noise: string; transport: string; opsPerSecond: number; noisePerSecond: number }[];
  };
  t.equal(schema, 'jitpaxos.fairness/1');
  t.same(
    rows.map(({ noise }) => noise),
    ['none', 'elsewhere', 'again', 'registers', 'member-only'],
  );
  for (const row of rows) {
    t.ok(row.opsPerSecond > 0, `${row.noise}: the clients commit`);
    t.equal(row.noisePerSecond > 0, row.noise !== 'none');
  }
});
