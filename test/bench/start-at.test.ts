// bench load --start-at: which times are taken, and that two processes that were given one begin together.
import t from 'tap';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import { readHlog } from '../../src/measure/hlog/log-reader.js';
import { announceStart, parseStartAt, waitForStart } from '../../src/measure/load/start-time.js';
import { monotonicAt, wallClockMs } from '../../src/measure/load/wall-seconds.js';
import type { Output } from '../../src/console/command.js';
import { jitpaxos } from '../cluster/processes.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-start-at-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const NOW = Date.parse('2026-12-01T09:30:15.250Z');

t.test('a time of the coming hour with its zone, or the next full minute that leaves time to connect', (t) => {
  t.equal(parseStartAt('next-minute', NOW), Date.parse('2026-12-01T09:31:00Z'));
  t.equal(parseStartAt('next-minute', Date.parse('2026-12-01T09:30:45Z')), Date.parse('2026-12-01T09:31:00Z'));
  t.equal(parseStartAt('next-minute', Date.parse('2026-12-01T09:30:45.001Z')), Date.parse('2026-12-01T09:32:00Z'));
  t.equal(parseStartAt('next-minute', Date.parse('2026-12-01T09:31:00Z')), Date.parse('2026-12-01T09:32:00Z'));
  t.equal(parseStartAt('2026-12-01T09:30:16Z', NOW), Date.parse('2026-12-01T09:30:16Z'));
  t.equal(parseStartAt('2026-12-01T10:30:15.250Z', NOW), NOW + 3_600_000);
  t.equal(parseStartAt('2026-12-01T10:31+01:00', NOW), Date.parse('2026-12-01T09:31:00Z'));
  for (const [text, expected] of [
    ['2026-12-01T09:30:15.250Z', /is past: it is 2026-12-01T09:30:15\.250Z on this host/],
    ['2025-12-01T09:31:00Z', /is past/],
    ['2026-12-01T10:30:15.251Z', /is more than an hour ahead/],
    ['2026-12-01T09:31:00', /is neither next-minute nor a time with its zone/],
    ['2026-13-01T09:31:00Z', /is neither/],
    ['09:31', /is neither/],
    ['', /is neither/],
    ['soon', /is neither/],
  ] as const)
    t.throws(() => parseStartAt(text, NOW), { code: 'flag-invalid', message: expected }, text);
  t.end();
});

t.test('waiting tells how long, and notices that it is too late', async (t) => {
  const notes: string[] = [];
  const output: Output = {
    line: () => {},
    note: (text) => void notes.push(text),
    json: false,
    quiet: false,
    terminal: false,
    colours: false,
  };
  const atMs = wallClockMs() + 300;
  announceStart(atMs, output);
  const startNs = await waitForStart(atMs, output);
  t.ok(Math.abs(startNs - monotonicAt(atMs)) < 1e9, 'the same instant on the other clock, if nobody set one');
  t.match(notes, [/^starts at .*Z, in 0\.\d s$/]);
  await t.rejects(waitForStart(atMs - 10_000, output), { code: 'flag-invalid', message: /passed before/ });
});

t.test('the instant is said before anything is connected', async (t) => {
  const startAt = new Date(Date.now() + 60_000).toISOString();
  const { code, stderr } = await jitpaxos([
    'bench',
    'load',
    '--cluster',
    join(directory, 'none.json'),
    '--rate',
    '50',
    '--start-at',
    startAt,
  ]);
  t.not(code, 0);
  t.match(stderr, new RegExp(`^starts at ${startAt}`, 'm'));
});

t.test('two processes that are given one time begin together', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 1,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
  });
  const startAt = new Date(Math.ceil(Date.now() / 1000) * 1000 + 30_000).toISOString();
  const ended = await Promise.all(
    ['a', 'b'].map((name) =>
      jitpaxos(
        [
          'bench',
          'load',
          '--cluster',
          cluster.clusterFile,
          '--rate',
          '50',
          '--duration',
          '500ms',
          '--warmup',
          '0s',
        ].concat(['--start-at', startAt, '--hlog', join(directory, `${name}.hlog`), '--json']),
      ),
    ),
  );
  for (const { code, stderr } of ended) t.equal(code, 0, stderr);
  t.match(ended[0]!.stderr, new RegExp(`starts at ${startAt}`));
  const [a, b] = ['a', 'b'].map((name) => readHlog(join(directory, `${name}.hlog`)));
  // Each process found out by itself what its clocks say; the log has milliseconds.
  const skewMs = Math.abs(a!.fromSeconds! - b!.fromSeconds!) * 1000;
  t.comment(
    `skew ${skewMs.toFixed(3)} ms; ${a!.fromSeconds} and ${b!.fromSeconds}, asked for ${Date.parse(startAt) / 1000}`,
  );
  t.ok(skewMs < 1.5, `${skewMs} ms`);
  t.ok(Math.abs(a!.fromSeconds! * 1000 - Date.parse(startAt)) < 1.5);
  t.equal((JSON.parse(ended[0]!.stdout) as BenchReport).run, a!.run.run);
});
