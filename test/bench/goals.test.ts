// The table of goals, tiny, so that no row can rot. What was measured is not judged here; that it was measured is.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const goals = fileURLToPath(new URL('../../bench/goals.js', import.meta.url));
const ROWS = [
  'one-adaptive',
  'one-busy',
  'one-dgram',
  'native-32',
  'native-512',
  'native-512-c',
  'dgram-512',
  'kv',
  'allocation',
  'allocation-encrypted',
  'clients-10k',
  'beside',
  'half-peak-p50',
  'half-peak-slow',
  'slow-member',
  'slow-member-p50',
];

interface Row {
  readonly name: string;
  readonly goal: string;
  readonly measured: string;
  readonly holds: boolean;
  readonly values: Readonly<Record<string, unknown>>;
}

t.test('every row is measured, and the verdicts follow from the figures', async (t) => {
  const tiny = ['--rounds', '1', '--seconds', '40ms', '--warmup', '20ms', '--operations', '3000', '--quiet'];
  const { code, stdout, stderr } = await runNode([goals, ...tiny, '--json']);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as { rows: Row[]; missed: string[]; host: object };
  t.equal((result as { schema?: string }).schema, 'jitpaxos.goals/1');
  t.same(
    result.rows.map(({ name }) => name),
    ROWS,
  );
  t.same(
    result.missed,
    result.rows.filter(({ holds }) => !holds).map(({ name }) => name),
  );
  const row = (name: string): Row => result.rows.find((one) => one.name === name)!;
  for (const [name, limit] of [
    ['one-adaptive', 1.2],
    ['one-busy', 1.15],
    ['one-dgram', 1.25],
    ['half-peak-p50', 1.5],
  ] as const) {
    const ratio = (row(name).values['ratioP50'] ?? row(name).values['ratio']) as number;
    t.ok(ratio > 0, `${name}: ${ratio}`);
    t.equal(row(name).holds, ratio <= limit, name);
  }
  for (const [name, least] of [
    ['native-32', 200_000],
    ['dgram-512', 150_000],
  ] as const) {
    const rate = row(name).values['opsPerSecond'] as number;
    t.ok(rate > 0, `${name}: ${rate}`);
    t.equal(row(name).holds, rate >= least, name);
  }
  for (const name of ['allocation', 'allocation-encrypted']) {
    const bytes = row(name).values['bytesPerOperation'] as Record<string, number>;
    t.same(Object.keys(bytes), ['client', 'primary', 'member']);
    t.ok(
      Object.values(bytes).every((value) => value >= 0),
      JSON.stringify(bytes),
    );
    t.equal(row(name).values['operations'], 3000);
  }
  const share = row('clients-10k').values['share'] as number;
  t.ok(share >= 0 && share <= 1, `${share}`);
});

t.test('a miss is an error only where that was asked for; unknown rows are refused', async (t) => {
  const strict = await runNode([
    goals,
    '--rows',
    'one-dgram',
    '--rounds',
    '1',
    '--seconds',
    '10ms',
    '--warmup',
    '0ms',
    '--quiet',
    '--strict',
  ]);
  t.match(strict.stdout, /our p50 ÷ bare dgram echo \| ≤ 1\.25 \|/);
  t.equal(strict.code === 4, /\| missed \|/.test(strict.stdout), strict.stderr);
  const refused = await runNode([goals, '--rows', 'speed']);
  t.equal(refused.code, 2);
  t.match(refused.stderr, /^flag-invalid: --rows: "speed" is no row; there are one-adaptive,/);
});
