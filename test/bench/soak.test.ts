// `npm run bench:soak`, tiny, so that it cannot rot, and that it notices a false alarm.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { runNode } from '../cluster/processes.js';

const soak = fileURLToPath(new URL('../../bench/soak.js', import.meta.url));

interface Result {
  readonly schema: string;
  readonly rows: readonly { readonly name: string; readonly holds: boolean }[];
  readonly missed: readonly string[];
  readonly operations: number;
  readonly counted: Readonly<Record<string, number>>;
  readonly residentMiB: readonly ({ readonly firstMiB: number; readonly lastMiB: number } | null)[];
  readonly intervals: readonly {
    readonly opsPerSecond: number;
    readonly p99Ns: number;
    readonly longestPauseNs: number;
    readonly views: number;
  }[];
}

t.test('what it says of a cluster under load', async (t) => {
  const { code, stdout, stderr } = await runNode([
    soak,
    '--duration',
    '800ms',
    '--every',
    '400ms',
    '--warmup',
    '100ms',
    '--open',
    '8',
    '--machine',
    'kv',
    '--keys',
    '--json',
  ]);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as Result;
  t.equal(result.schema, 'jitpaxos.soak/1');
  t.same(
    result.missed,
    result.rows.filter(({ holds }) => !holds).map(({ name }) => name),
  );
  t.equal(result.intervals.length, 2);
  for (const interval of result.intervals)
    t.ok(interval.opsPerSecond > 0 && interval.p99Ns > 0 && interval.longestPauseNs > 0, JSON.stringify(interval));
  t.equal(result.residentMiB.length, 4, 'three replicas and the client');
  for (const memory of result.residentMiB)
    t.ok(process.platform !== 'linux' || memory!.firstMiB > 10, JSON.stringify(memory));
  t.match(stderr, /2 of 2: .* view changes/);
});

t.test(
  'a member of the quorum that stands still is a false alarm that it tells',
  { skip: process.platform === 'linux' ? false : 'it looks for the replicas in /proc' },
  async (t) => {
    const child = spawn(process.execPath, [
      soak,
      '--duration',
      '4s',
      '--every',
      '500ms',
      '--warmup',
      '100ms',
      '--open',
      '8',
      '--strict',
      '--json',
    ]);
    t.teardown(() => void child.kill('SIGKILL'));
    let [out, noted] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (noted += text));
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    while (!noted.includes('1 of 8') && child.exitCode === null) await delay(20);
    const pids = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ').map(Number);
    const replicas = pids.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('--id'));
    t.equal(replicas.length, 3, noted);
    // Of any two replicas one is in the quorum, whichever view the start ended in.
    for (const pid of replicas.slice(1)) {
      process.kill(pid, 'SIGSTOP');
      await delay(800);
      process.kill(pid, 'SIGCONT');
      await delay(200);
    }
    t.equal(await ended, 4, noted);
    const result = JSON.parse(out) as Result;
    t.ok(result.missed.includes('soak-views'), noted);
    t.ok(result.intervals.reduce((sum, { views }) => sum + views, 0) > 0, 'in the interval in which it happened');
    t.match(noted, /assertion-failed/);
  },
);
