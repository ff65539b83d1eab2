// `jitpaxos top` without a terminal: samples, a replica that goes, and the end it was asked for. And what a terminal is
// given.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { cut, sparkline, table, widthOf } from '../../src/console/terminal.js';
import { KvMachine } from '../../src/machine/kv.js';
import { jitpaxos, MAIN } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const ATTEMPTS = 20;
const PATIENCE_MS = 120_000;

t.test('lines for a terminal', (t) => {
  t.equal(cut('\x1b[31mabcdef\x1b[0m', 3), '\x1b[31mabc\x1b[0m', 'colours take no room and end');
  t.equal(widthOf('\x1b[31m●ab\x1b[0m'), 3);
  t.same(
    table(
      [
        ['a', '\x1b[1mbb\x1b[0m', 'c'],
        ['aaa', 'b', '10'],
      ],
      new Set([2]),
    ),
    ['a    \x1b[1mbb\x1b[0m   c', 'aaa  b   10'],
  );
  t.equal(sparkline([0, 50, 100], 10), '▁▅█');
  t.equal(sparkline([0, 0, 100, 100], 2), '▁█', 'several values a character');
  t.end();
});

t.test('jitpaxos top', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-top-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const cluster = await clusterConfig(3);
  const file = join(directory, 'cluster.json');
  writeFileSync(file, JSON.stringify(cluster));
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));

  // A sample waits no longer than the interval; on a busy host an answer may be missing from one.
  let lines: string[] = [];
  for (
    let attempt = 0;
    attempt === 0 || (attempt < ATTEMPTS && !lines.every((line) => line.includes('3 of 3 answer')));
    attempt++
  ) {
    const plain = await jitpaxos(['top', '--count', '2', '--interval', '1s'], { env: { JITPAXOS_CLUSTER: file } });
    t.ok(plain.code === 0 || plain.code === 3, plain.stderr);
    lines = plain.stdout.trim().split('\n');
  }
  t.equal(lines.length, 2);
  t.match(lines[0], / available {2}3 of 3 answer {2}view \d+ {2}primary \d+ {2}quorum \d,\d {2}lag 0,0,0$/);
  t.match(lines[1], /0 commits\/s/, 'rates from the second sample on');

  const child = spawn(process.execPath, [MAIN, 'top', '--cluster', file, '--interval', '100ms', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let out = '';
  let closed: Promise<void> | undefined;
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no sample with all, or none without replica 2:\n${out}`)),
      PATIENCE_MS,
    );
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      const answered = out
        .split('\n')
        .slice(0, -1)
        .map((line) => (JSON.parse(line) as { answered: number }).answered);
      if (answered.includes(3)) closed ??= replicas[2]!.close();
      if (closed === undefined || !answered.slice(answered.indexOf(3)).includes(2)) return;
      clearTimeout(timer);
      resolve();
    });
  });
  await closed;
  child.kill('SIGINT');
  t.ok([0, 3].includes((await ended)!), 'Ctrl-C ends it');
  const samples = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { schema: string; answered: number; remarks: string[] });
  t.ok(samples.some(({ answered }) => answered === 3));
  t.ok(samples.some(({ remarks }) => remarks.some((remark) => /replica 2 \(.*\) does not answer/.test(remark))));
  t.match(await jitpaxos(['top', '--interval', '1ms'], { env: { JITPAXOS_CLUSTER: file } }), {
    code: 2,
    stderr: /--interval "1ms"/,
  });
});
