// `npm run bench:durability` and the benches' --durability, tiny, so that they cannot rot. What was measured is not
// judged.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { jitpaxos, runNode } from '../cluster/processes.js';

const durability = fileURLToPath(new URL('../../bench/durability.js', import.meta.url));

t.test('both rows are measured, and the verdicts follow from the figures', async (t) => {
  const { code, stdout, stderr } = await runNode([
    durability,
    '--rounds',
    '1',
    '--seconds',
    '100ms',
    '--warmup',
    '20ms',
    '--json',
    '--quiet',
  ]);
  t.equal(code, 0, stderr);
  interface Row {
    readonly name: string;
    readonly holds: boolean;
    readonly values: {
      readonly ratio: number;
      readonly p50Ns: Record<string, number>;
      readonly opsPerSecond: Record<string, number>;
    };
  }
  const result = JSON.parse(stdout) as { schema: string; rows: Row[]; missed: string[]; writeBytes: number };
  t.equal(result.schema, 'jitpaxos.durability/1');
  t.equal(result.writeBytes, 96 + 4 + 24 + 64);
  t.same(
    result.missed,
    result.rows.filter(({ holds }) => !holds).map(({ name }) => name),
  );
  const [one, many] = result.rows as [Row, Row];
  t.equal(one.name, 'fsync-1');
  const { fsync, bare, memory } = one.values.p50Ns as { fsync: number; bare: number; memory: number };
  t.ok(bare > 0 && memory > 0 && fsync > 0, JSON.stringify(one.values));
  t.ok(Math.abs(one.values.ratio - fsync / (bare + memory)) < 1e-9);
  t.equal(one.holds, one.values.ratio <= 1.3);
  t.equal(many.name, 'fsync-128');
  t.ok(Math.abs(many.values.ratio - many.values.opsPerSecond['many']! / many.values.opsPerSecond['one']!) < 1e-9);
  t.equal(many.holds, many.values.ratio >= 20);
});

t.test('bench load and bench compare take --durability', async (t) => {
  const load = await jitpaxos([
    'bench',
    'load',
    '--durability',
    'fsync',
    '--rate',
    '200',
    '--duration',
    '300ms',
    '--lanes',
    '16',
    '--pacing',
    'sleep',
    '--json',
    '--quiet',
  ]);
  t.equal(load.code, 0, load.stderr);
  t.match(JSON.parse(load.stdout), { durability: 'fsync', failed: 0 });
  const compare = await jitpaxos([
    'bench',
    'compare',
    '--durability',
    'os',
    '--points',
    '2',
    '--idle',
    'busy',
    '--baselines',
    'unreplicated',
    '--rounds',
    '1',
    '--seconds',
    '60ms',
    '--warmup',
    '20ms',
    '--json',
    '--quiet',
  ]);
  t.equal(compare.code, 0, compare.stderr);
  t.match(JSON.parse(compare.stdout), {
    points: [{ durability: 'os', failed: 0, baselines: [{ name: 'unreplicated' }] }],
  });
});
