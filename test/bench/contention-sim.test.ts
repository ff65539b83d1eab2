// `npm run bench:contention-sim` in virtual time: a seed gives the same figures on every host, so here they are judged.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const bench = fileURLToPath(new URL('../../bench/contention-sim.js', import.meta.url));
const SEED = 7;

interface Row {
  oneRoundTrip: number;
  burstOneRoundTrip: number;
  recoveredMs: number | null;
  slowBefore: number;
  slowBehind: number;
  slowForUs: number;
}

async function run(
  t: { equal(a: unknown, b: unknown, message: string): unknown; comment(text: string): unknown },
  flags: string,
): Promise<Row> {
  const { code, stdout, stderr } = await runNode([bench, ...flags.split(' '), '--seed', `${SEED}`, '--json']);
  t.equal(code, 0, stderr);
  const { rows } = JSON.parse(stdout) as { rows: Row[] };
  t.comment(`${flags} --seed ${SEED}: ${JSON.stringify(rows[0])}`);
  return rows[0]!;
}

t.test('one misordered request keeps others on the slow path for a few round trips only', async (t) => {
  const { slowBefore, slowBehind, slowForUs } = await run(
    t,
    '--clients 8 --rates 100000 --settings push+restamp --ms 30 --sigma 0.05 --cost 100 --clocks ptp --lead 40 --misorder 100',
  );
  t.equal(slowBefore, 0, 'all commits take one round trip before it');
  t.ok(slowBehind > 0, 'it is misordered');
  // 100 µs until it arrives, and less than two round trips until the primary's order is there.
  t.ok(slowForUs <= 250, `${slowBehind} commits were slow, the last ${slowForUs} µs behind it`);
});

t.test('clients find the lead that keeps their requests in order, and keep it over a burst', async (t) => {
  const { oneRoundTrip, burstOneRoundTrip, recoveredMs } = await run(
    t,
    '--clients 16 --rates 250000 --settings all --ms 120 --sigma 0.1 --cost 300 --clocks ptp --burst 2000000',
  );
  t.ok(oneRoundTrip >= 0.95, `${oneRoundTrip} of the commits take one round trip`);
  t.ok(burstOneRoundTrip < 0.5, 'the burst takes that away');
  t.ok(recoveredMs !== null && recoveredMs <= 10, `95 % again after ${recoveredMs} ms at half the load`);
});
