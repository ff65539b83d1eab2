// The machine's part of bench:large-state, tiny, so that it cannot rot.
import t from 'tap';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PROGRAM = fileURLToPath(new URL('../../bench/large-state.js', import.meta.url));

t.test('a state of a few keys is measured', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    PROGRAM,
    '--keys',
    '3000',
    '--only',
    'machine',
    '--json',
  ]);
  const { schema, machines, clusters } = JSON.parse(stdout) as {
    schema: string;
    machines: { keys: number; pieces: { count: number; longestMs: number } }[];
    clusters: unknown[];
  };
  t.equal(schema, 'jitpaxos.large-state/1');
  t.same(clusters, []);
  t.equal(machines.length, 1);
  const [{ keys, pieces }] = machines as [(typeof machines)[number]];
  t.equal(keys, 3000);
  // 120 bytes each, with the lengths; a piece ends with the record that reaches 32 KiB.
  t.equal(pieces.count, Math.ceil((8 + 3000 * 120) / (32 * 1024 + 60)));
  t.ok(pieces.longestMs > 0);
});
