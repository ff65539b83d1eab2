// bench:locks, tiny, so that it cannot rot; and its judge. What was measured is not judged; that nobody overlapped is.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { Records } from '../../bench/locks/records.js';
import { runNode } from '../cluster/processes.js';

const PROGRAM = fileURLToPath(new URL('../../bench/locks.js', import.meta.url));

t.test('every row is measured', async (t) => {
  const flags = ['--count', '30', '--kills', '1', '--failovers', '1', '--leases', '1000', '--json', '--quiet'];
  const { code, stdout, stderr } = await runNode([PROGRAM, ...flags, '--only', 'handover,killed,torment,failover']);
  t.equal(code, 0, stderr);
  const { schema, rows } = JSON.parse(stdout) as {
    schema: string;
    rows: { name: string; figures: { value: number }[]; values: Record<string, number> }[];
  };
  t.equal(schema, 'jitpaxos.bench-locks/1');
  t.same(
    rows.map(({ name }) => name),
    ['handover', 'killed', 'torment', 'failover'],
  );
  const torment = rows[2]!;
  t.ok(torment.values.handOvers! >= 30);
  t.equal(torment.values.overlaps, 0);
  t.equal(torment.values.staleExecuted, 0);
  for (const { name, figures } of rows) for (const { value } of figures) t.ok(Number.isFinite(value), name);
});

t.test('the judge finds an overlap, and a write that the fence let through', (t) => {
  const records = new Records();
  const hold = (token: number, firstNs: number, lastNs: number, wroteAt: number | undefined): void => {
    records.note({ kind: 'taken', token, firstNs });
    const wasFenced = wroteAt === undefined;
    records.note({ kind: 'hold', token, firstNs, lastNs, releaseNs: lastNs, operationNs: 1e6, wroteAt, wasFenced });
  };
  hold(10, 0, 100e6, 11);
  hold(20, 101e6, 200e6, 21);
  t.match(records.judge(), { overlaps: 0, fenced: 0, staleExecuted: 0, handOverMs: [1], operationMs: [1, 1] });
  hold(30, 199e6, 300e6, undefined);
  hold(40, 301e6, 400e6, 61);
  hold(50, 401e6, 500e6, 55);
  t.match(records.judge(), { overlaps: 1, fenced: 1, staleExecuted: 1 });
  // A process that was killed: what it said last counts.
  records.note({ kind: 'taken', token: 60, firstNs: 501e6 });
  records.note({ kind: 'alive', token: 60, lastNs: 600e6 });
  hold(70, 599e6, 700e6, 71);
  t.equal(records.judge().overlaps, 2);
  t.end();
});
