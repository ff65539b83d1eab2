// `npm run bench:attacks`, tiny, so that it cannot rot. What was measured is not judged.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const attacks = fileURLToPath(new URL('../../bench/attacks.js', import.meta.url));

/** One for each way to attack, and both clusters. */
const ATTACKS = ['ahead-20', 'member-only', 'registers', 'forged-source', 'status', 'members', 'forged-100k', 'http'];

interface Row {
  readonly attack: string;
  readonly opsPerSecond: number;
  readonly fastShare: number;
  readonly quietFastShare: number;
  readonly p99Ns: number;
  readonly quietP99Ns: number;
  readonly sessionsLost: number;
  readonly sent: number;
  readonly asked: number;
  readonly unanswered: number;
  readonly holds: boolean;
}

const run = (seconds: string, names: readonly string[]): ReturnType<typeof runNode> =>
  runNode([
    ...[attacks, '--rounds', '1', '--seconds', seconds, '--warmup', '200ms', '--rate', '200'],
    ...['--attacks', names.join(','), '--json', '--quiet'],
  ]);

t.test('well-behaved clients are measured beside attacks, and in quiet before and after', async (t) => {
  const { code, stdout, stderr } = await run('500ms', ATTACKS);
  t.equal(code, 0, stderr);
  const { schema, rows, missed } = JSON.parse(stdout) as { schema: string; rows: Row[]; missed: string[] };
  t.equal(schema, 'jitpaxos.attacks/1');
  t.same(
    rows.map(({ attack }) => attack),
    ATTACKS,
  );
  for (const { attack, opsPerSecond, fastShare, quietFastShare, sent, asked, unanswered } of rows) {
    // A busy host may give the clients no turn in that time.
    const isIdle = opsPerSecond === 0;
    const longer = isIdle ? (JSON.parse((await run('20s', [attack])).stdout) as { rows: Row[] }).rows[0]! : undefined;
    t.ok((longer?.opsPerSecond ?? opsPerSecond) > 0, `${attack}: the clients commit`);
    t.ok(sent >= 10, `${attack}: the attacker sent ${sent}`);
    t.ok(fastShare <= 1 && quietFastShare <= 1);
    t.equal(asked > 0, ['status', 'members', 'http'].includes(attack), `${attack}: ${asked} questions`);
    t.ok(unanswered <= asked);
  }
  const holds = (row: Row): boolean =>
    row.fastShare / row.quietFastShare >= 0.9 &&
    row.p99Ns / row.quietP99Ns <= 3 &&
    row.sessionsLost === 0 &&
    row.unanswered === 0;
  for (const row of rows) t.equal(row.holds, holds(row), `${row.attack}: the goals`);
  t.same(
    missed,
    rows.filter((row) => !row.holds).map(({ attack }) => attack),
  );
});
