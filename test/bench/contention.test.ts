// `npm run bench:contention`, tiny, so that it cannot rot. What was measured is not judged.
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const contention = fileURLToPath(new URL('../../bench/contention.js', import.meta.url));

t.test('rising rates, the first one again after the last, and a verdict', async (t) => {
  const file = join(t.testdir({}), 'contention.html');
  const { code, stdout, stderr } = await runNode([
    contention,
    '--clients',
    '2',
    '--skews',
    '1',
    '--rates',
    '200,400',
    '--seconds',
    '1',
    '--settings',
    'published,all',
    '--report',
    file,
    '--json',
  ]);
  t.equal(code, 0, stderr);
  const { rows, verdicts } = JSON.parse(stdout) as {
    rows: { setting: string; offered: number; afterPeak: boolean; oneRoundTrip: number; throughput: number }[];
    verdicts: { setting: string; peak: number; recoveredMs: number | null }[];
  };
  t.same(
    rows.map(({ setting, offered, afterPeak }) => [setting, offered, afterPeak]),
    ['published', 'all'].flatMap((setting) => [
      [setting, 200, false],
      [setting, 400, false],
      [setting, 200, true],
    ]),
  );
  for (const { oneRoundTrip, throughput } of rows) t.ok(oneRoundTrip >= 0 && oneRoundTrip <= 1 && throughput > 0);
  t.same(
    verdicts.map(({ setting }) => setting),
    ['published', 'all'],
  );
  for (const { peak, recoveredMs } of verdicts) t.ok(peak > 0 && (recoveredMs === null || recoveredMs > 0));
  const html = readFileSync(file, 'utf8');
  t.equal(html.match(/<svg class="wide"/g)?.length, 2, 'two charts for the one group');
  t.match(html, '2 clients, shares as 1 / k^1');
  t.notMatch(html, /NaN|undefined/);
});
