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
    rows: {
      noise: string;
      transport: string;
      opsPerSecond: number;
      failed: number;
      afterPerSecond: number;
      noisePerSecond: number;
    }[];
  };
  t.equal(schema, 'jitpaxos.fairness/1');
  t.same(
    rows.map(({ noise }) => noise),
    ['none', 'elsewhere', 'again', 'registers', 'member-only'],
  );
  for (const row of rows) {
    // On a busy host a flood may leave the clients nothing until their operations end with an error. That is measured too.
    t.ok(row.opsPerSecond + row.failed > 0, `${row.noise}: what was offered is counted`);
    t.ok(row.afterPerSecond > 0, `${row.noise}: the clients commit when it is over`);
    t.equal(row.noisePerSecond > 0, row.noise !== 'none');
  }
});
