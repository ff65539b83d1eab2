// `npm run bench:membership`, tiny, so that it cannot rot. What was measured is not judged; that nothing was lost is.
import t from 'tap';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const membership = fileURLToPath(new URL('../../bench/membership.js', import.meta.url));
const TINY = ['--rate', '200', '--steady', '200ms', '--warmup', '0s', '--quiet', '--json'];

interface Figures {
  readonly gapMs: number;
  readonly committed: number;
}

interface Stages {
  readonly decidedMs: number;
  readonly startedMs: number;
  readonly joinedMs: number;
  readonly pausedMs: number;
  readonly committedMs: number;
}

interface Result {
  readonly rows: readonly { name: string; holds: boolean; figures: { value: number; atMost: number }[] }[];
  readonly missed: readonly string[];
  readonly changes: readonly { change: string; during: Figures; control: Figures; stages: Stages | null }[];
  readonly interrupted: boolean;
  readonly history: string;
  readonly catchUp: { bytes: number; receivedBytes: number; seconds: number; copySeconds: number };
}

t.test(
  'changes are made under load, a joiner copies the state, and the verdict follows from the figures',
  async (t) => {
    const only = 'replace-primary,dead-member';
    const { code, stdout, stderr } = await runNode([
      membership,
      '--changes',
      '2',
      '--only',
      only,
      '--state',
      '4MiB',
      ...TINY,
    ]);
    t.equal(code, 0, stderr);
    const { rows, missed, changes, history, catchUp } = JSON.parse(stdout) as Result;
    t.equal(changes.map(({ change }) => change).join(), only);
    for (const { change, during, control } of changes)
      for (const { gapMs, committed } of [during, control]) t.ok(gapMs > 0 && committed > 0, change);
    for (const { change, stages } of changes) {
      t.ok(stages, `the replicas' logs tell the stages: ${change}`);
      t.ok(
        stages!.decidedMs <= 0 && stages!.startedMs >= 0 && stages!.joinedMs >= stages!.startedMs,
        JSON.stringify(stages),
      );
      t.ok(stages!.committedMs > stages!.pausedMs, JSON.stringify(stages));
    }
    t.equal(history, 'linearizable');
    t.ok(
      catchUp.receivedBytes >= catchUp.bytes && catchUp.seconds > 0 && catchUp.copySeconds > 0,
      JSON.stringify(catchUp),
    );
    t.same(
      rows.map(({ name }) => name),
      ['planned-gap', 'dead-gap', 'change-p99', 'change-lost', 'catch-up', 'catch-up-p99'],
    );
    for (const { name, holds, figures } of rows)
      t.equal(
        holds,
        figures.every(({ value, atMost }) => value <= atMost),
        name,
      );
    t.same(
      missed,
      rows.filter(({ holds }) => !holds).map(({ name }) => name),
    );
  },
);

t.test('ended early, it says what it has measured until then', async (t) => {
  const loud = TINY.filter((flag) => flag !== '--quiet');
  const child = spawn(process.execPath, [
    membership,
    '--changes',
    '50',
    '--only',
    'replace-spare',
    '--state',
    '0',
    ...loud,
  ]);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    const before = stderr;
    stderr += text;
    if (stderr.includes('1 of 50') && !before.includes('1 of 50')) child.kill('SIGINT');
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  t.equal(code, 0, stderr);
  const { changes, interrupted, history, rows } = JSON.parse(stdout) as Result;
  t.ok(changes.length > 0 && changes.length < 50, `${changes.length} changes`);
  t.equal(interrupted, true);
  t.equal(history, 'linearizable');
  t.ok(rows.some(({ name }) => name === 'planned-gap'));
});

t.test('what cannot follow one another is refused, and what is no change', async (t) => {
  for (const [only, why] of [
    ['five-to-three', /--only: five-to-three is for 5 voters, and there are 3 then/],
    ['replace', /--only: "replace" is no change; there are replace-member, /],
  ] as const) {
    const { code, stderr } = await runNode([membership, '--only', only, ...TINY]);
    t.equal(code, 2);
    t.match(stderr, why);
  }
});
