// The pages in a real browser, where there is one: they render, and the console stays empty.
import t from 'tap';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Histogram } from '../../src/metrics/histogram.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import { benchPage } from '../../src/measure/report/bench-page.js';
import { comparePage } from '../../src/measure/report/compare-page.js';
import { readProfile } from '../../bench/profile/cpu-profile.js';
import { costOf, profilePage } from '../../bench/profile/profile-report.js';

const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'];
const QUIET = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--virtual-time-budget=2000',
  '--enable-logging=stderr',
];

const browser = BROWSERS.find((name) => spawnSync(name, ['--version']).status === 0);

/** Hostile where a report can be: names and commands are somebody else's text. */
function report(name: string): BenchReport {
  const histogram = new Histogram();
  for (let i = 1; i <= 5_000; i++) histogram.record(i * 997);
  const interval = {
    operationsPerSecond: 1_000,
    p50: 90_000,
    p99: 2e6,
    fastPathRatio: 0.98,
    rejected: 1,
    seconds: 0.1,
    offeredPerSecond: null,
  };
  return {
    schema: 'jitpaxos.bench/1',
    command: 'latency',
    replicas: 3,
    transport: 'dgram',
    idle: 'block',
    machine: 'echo',
    durability: null,
    authenticated: false,
    clients: 1,
    lanes: 1,
    opBytes: 64,
    mix: { write: 1 },
    seconds: 5,
    operations: 5_000,
    warmupOperations: 10,
    opsPerSecond: 1_000,
    offeredPerSecond: null,
    latencyNs: histogram.summary(),
    fastPathRatio: 0.98,
    rejected: 1,
    reconciled: 0,
    retransmitted: 0,
    failed: 0,
    viewChanges: 1,
    cpuSeconds: { client: 1, replicas: null },
    allocatedBytesPerOp: { client: null, primary: null, member: null },
    clock: { source: null, errorNs: null },
    baselines: [],
    ratios: {},
    host: { cpu: `<b>"${name}" & Söhne`, cores: 2, kernel: '6', node: 'v20' },
    version: '0',
    commandLine: `jitpaxos '</pre><script>document.title="broken in"</script>'`,
    histogram: histogram.toData(),
    timeline: Array.from({ length: 50 }, (_, index) => ({
      ...interval,
      startSeconds: index / 10,
      viewChanges: index === 20 ? 1 : 0,
    })),
  };
}

function profiles(): string {
  const frame = (functionName: string) => ({ functionName, url: '', lineNumber: -1, columnNumber: -1 });
  const profile = readProfile(
    {
      nodes: [
        { id: 1, callFrame: frame('(root)'), children: [2] },
        { id: 2, callFrame: frame(`"><b>'`) },
      ],
      startTime: 0,
      samples: [2, 2],
      timeDeltas: [1, 1],
    },
    { startedNs: 0, endedNs: 1e9 },
    null,
    ({ functionName }) => ({ name: functionName, place: '<i>b</i>', kind: 'native' }),
  );
  const { host, version } = report('a');
  const point = { replicas: 3, clients: 1, open: 1, bytes: 64, operation: 'write', machine: 'echo' } as const;
  return profilePage(
    {
      schema: 'jitpaxos.profile/1',
      point,
      transport: 'dgram',
      idle: 'block',
      intervalUs: 200,
      warmupSeconds: 1,
      seconds: 1,
      operations: 10,
      opsPerSecond: 10,
      viewChanges: 0,
      processes: [costOf('client', profile, 1, 1, 10)],
      host,
      version,
      commandLine: '<script>',
    },
    [profile],
  );
}

t.test(
  'pages render, and nothing complains',
  { skip: browser === undefined ? `no browser: none of ${BROWSERS.join(', ')} is installed` : false },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-browser-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
    const pages = {
      bench: benchPage(report('a')),
      compare: comparePage([
        { name: 'a', report: report('a') },
        { name: '<i>b</i>', report: report('b') },
      ]),
      profile: profiles(),
    };
    for (const [name, html] of Object.entries(pages)) {
      const file = join(directory, `${name}.html`);
      writeFileSync(file, html);
      const { stdout, stderr } = await promisify(execFile)(
        browser!,
        [...QUIET, `--user-data-dir=${join(directory, `profile-${name}`)}`, '--dump-dom', `file://${file}`],
        { timeout: 60_000, maxBuffer: 16 << 20 },
      );
      t.notMatch(stderr, /CONSOLE/, `${name}: nothing on the console`);
      t.notMatch(stdout, /<title>broken in/, `${name}: a command is text`);
      t.match(stdout, /<title>JITPaxos/);
      t.equal(
        (stdout.match(/<svg/g) ?? []).length,
        (html.match(/<svg/g) ?? []).length,
        `${name}: every chart is an element`,
      );
      t.equal((stdout.match(/<script|<i>b|<b>/g) ?? []).length, 0, `${name}: no text became markup`);
    }
  },
);
