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
    rows: { name: string; goal: string; holds: boolean; values: { perSecond: number; ratio: number } }[];
  };
  t.equal(schema, 'jitpaxos.bench-store/1');
  t.same(
    rows.map(({ name, goal }) => [name, goal]),
    [
      ['store-put-level-0', '–'],
      ['store-put-of-level-0-level-1', '≥ 0.95'],
      ['store-put', '≥ 0.95'],
      ['store-get', '≥ 0.95'],
      ['store-transaction-of-3-keys', '≥ 0.5'],
      ['store-put-with-lease', '≥ 0.8'],
    ],
  );
  t.match(rows[0], { holds: true, values: { ratio: 1 } });
  for (const { name, values } of rows) t.ok(values.perSecond > 0 && values.ratio > 0, name);
});
