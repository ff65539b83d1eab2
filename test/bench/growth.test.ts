// The curves of bench:growth, tiny, so that they cannot rot.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const growth = fileURLToPath(new URL('../../bench/growth.js', import.meta.url));

t.test('growth draws every curve', async (t) => {
  const { code, stdout, stderr } = await runNode([
    growth,
    '--ops',
    '40960',
    '--sessions',
    '600',
    '--keys',
    '500',
    '--json',
    '--quiet',
  ]);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as {
    schema: string;
    curves: {
      name: string;
      factor: number;
      flat: boolean;
      samples: { at: number; primaryNs: number; memoryBytes: number }[];
    }[];
    flatFactor: number;
    arenas: { logBytes: number };
  };
  t.equal(result.schema, 'jitpaxos.growth/1');
  t.same(
    result.curves.map(({ name, samples }) => [name, samples.map(({ at }) => at)]),
    [
      ['log', [410, 4100, 40960]],
      ['state', [1, 10, 100, 500]],
      ['sessions', [1, 10, 100, 600]],
      ['replicas', [1, 3, 5, 7, 9]],
    ],
  );
  for (const { samples, factor, flat } of result.curves) {
    t.ok(
      samples.every(({ primaryNs, memoryBytes }) => primaryNs > 0 && memoryBytes > result.arenas.logBytes),
      JSON.stringify(samples),
    );
    t.equal(flat, factor <= result.flatFactor);
  }
});
