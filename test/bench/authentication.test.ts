// `npm run bench:authentication`, tiny, so that it cannot rot. What was measured is not judged.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const authentication = fileURLToPath(new URL('../../bench/authentication.js', import.meta.url));

t.test('all rows are measured, with clusters that commit', async (t) => {
  const { code, stdout, stderr } = await runNode([
    authentication,
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
  const { schema, rows, missed } = JSON.parse(stdout) as {
    schema: string;
    rows: [Row, Row, Row, Row, Row];
    missed: string[];
  };
  t.equal(schema, 'jitpaxos.authentication/1');
  t.same(
    missed,
    rows.filter(({ holds }) => !holds).map(({ name }) => name),
  );
  const [one, many, ethernet, hmac, envelope] = rows;
  t.equal(
    one.values.ratio,
    one.values.p50Ns['keys']! / one.values.p50Ns['none']!,
    'one round: the ratio is that of its figures',
  );
  t.equal(one.holds, one.values.ratio <= 1.04);
  t.equal(many.values.ratio, many.values.opsPerSecond['keys']! / many.values.opsPerSecond['none']!);
  t.equal(many.holds, many.values.ratio >= 0.93);
  t.equal(ethernet.values.ratio, ethernet.values.opsPerSecond['keys']! / ethernet.values.opsPerSecond['none']!);
  t.equal(hmac.values.ratio, hmac.values.opsPerSecond['encrypted']! / hmac.values.opsPerSecond['hmac']!);
  t.equal(envelope.name, 'envelope-1400');
});

t.test('datagrams of each length are sealed and opened in each way', async (t) => {
  const { code, stdout, stderr } = await runNode([authentication, '--envelope', '--json']);
  t.equal(code, 0, stderr);
  interface Cost {
    readonly how: string;
    readonly bytes: number;
    readonly sealNs: number;
    readonly openNs: number;
  }
  const { rows } = JSON.parse(stdout) as {
    rows: { name: string; holds: boolean; figures: { value: number }[]; values: { costs: Cost[] } }[];
  };
  t.equal(rows.length, 1);
  const [{ name, holds, figures, values }] = rows as [(typeof rows)[number]];
  t.equal(name, 'envelope-1400');
  const { costs } = values;
  t.same(
    costs.map(({ how, bytes }) => `${how} ${bytes}`),
    ['encrypted', 'HMAC of version 4', 'checksum, no keys'].flatMap((how) =>
      [64, 128, 512, 1400, 8900].map((bytes) => `${how} ${bytes}`),
    ),
  );
  t.ok(costs.every(({ sealNs, openNs }) => sealNs > 0 && openNs > 0));
  const judged = costs.find(({ how, bytes }) => how === 'encrypted' && bytes === 1400)!;
  t.same(
    figures.map(({ value }) => value),
    [judged.sealNs, judged.openNs],
  );
  t.equal(holds, judged.sealNs <= 500 && judged.openNs <= 500);

  const both = await runNode([authentication, '--envelope', '--chain']);
  t.equal(both.code, 2);
  t.match(both.stderr, /^flag-invalid: --chain and --envelope/);
});

t.test('the keyed chain is measured beside the one of before', async (t) => {
  const { code, stdout, stderr } = await runNode([
    authentication,
    '--chain',
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
  const { rows } = JSON.parse(stdout) as {
    rows: { name: string; holds: boolean; values: { ratio: number; opsPerSecond: Record<string, number> } }[];
  };
  t.equal(rows.length, 1);
  const [{ name, holds, values }] = rows as [(typeof rows)[number]];
  t.equal(name, 'chain-512');
  t.equal(values.ratio, values.opsPerSecond['keyed']! / values.opsPerSecond['before']!);
  t.equal(holds, values.ratio >= 0.97);
});
