// bench:store, tiny, so that it cannot rot.
import t from 'tap';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PROGRAM = fileURLToPath(new URL('../../bench/store.js', import.meta.url));

t.test('the operations of the store are measured against puts of level 0', async (t) => {
  const flags = ['--open', '4', '--rounds', '1', '--ms', '20', '--keys', '3', '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, ...flags]);
  const { schema, rows } = JSON.parse(stdout) as {
    schema: string;
    rows: { name: string; goal: number | null; perSecond: number; primaryUs: number; ratio: number }[];
  };
  t.equal(schema, 'jitpaxos.bench-store/1');
  t.same(
    rows.map(({ name, goal }) => [name, goal]),
    [
      ['put, level 0', null],
      ['put of level 0, level 1', 0.95],
      ['put', 0.95],
      ['get', 0.95],
      ['transaction of 3 keys', 0.5],
      ['put with lease', 0.8],
    ],
  );
  t.equal(rows[0]!.ratio, 1);
  for (const { name, perSecond, ratio } of rows) t.ok(perSecond > 0 && ratio > 0, name);
});
