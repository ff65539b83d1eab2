// `npm run bench:attacks`, tiny, so that it cannot rot. What was measured is not judged.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const attacks = fileURLToPath(new URL('../../bench/attacks.js', import.meta.url));

t.test('well-behaved clients are measured beside attacks, and in quiet before and after', async (t) => {
  const { code, stdout, stderr } = await runNode([
    ...[attacks, '--rounds', '1', '--seconds', '1s', '--rate', '200'],
    ...['--attacks', 'ahead-20,member-only', '--json', '--quiet'],
  ]);
  t.equal(code, 0, stderr);
  const { schema, rows } = JSON.parse(stdout) as {
    schema: string;
    rows: {
      attack: string;
      opsPerSecond: number;
      fastShare: number;
      quietFastShare: number;
      sent: number;
      refused: number;
    }[];
  };
  t.equal(schema, 'jitpaxos.attacks/1');
  t.same(
    rows.map(({ attack }) => attack),
    ['ahead-20', 'member-only'],
  );
  for (const { attack, opsPerSecond, fastShare, quietFastShare, sent } of rows) {
    t.ok(opsPerSecond > 0, `${attack}: the clients commit`);
    t.ok(sent >= 10, `${attack}: the attacker sent ${sent} requests`);
    t.ok(fastShare <= 1 && quietFastShare <= 1);
  }
});
