// bench merge: sums are exact, what cannot be added is refused by name, and what may mislead is said.
import t, { type Test } from 'tap';
import { linkSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Histogram } from '../../src/metrics/histogram.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import type { HlogEnd, RunSettings } from '../../src/measure/hlog/log-format.js';
import { HlogWriter } from '../../src/measure/hlog/log-writer.js';
import { MERGED_MAX } from '../../src/measure/hlog/merge.js';
import { WallTimeline } from '../../src/measure/hlog/wall-timeline.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { benchMerge } from '../../src/cli/bench/merge.js';
import type { Output } from '../../src/console/command.js';
import { parseFlags } from '../../src/console/flags.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-merge-test-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string): string => join(directory, name);

const SECOND = 1_700_000_000;
const HOST = { cpu: 'a <b> processor', cores: 2, kernel: '6', node: 'v20' };
let runs = 0;

interface Made {
  /** Seconds since SECOND → latencies of operations that succeeded. */
  readonly seconds: Readonly<Record<number, readonly number[]>>;
  readonly settings?: Partial<RunSettings>;
  /** Undefined: killed. */
  readonly end?: Partial<HlogEnd>;
  readonly killed?: boolean;
  readonly run?: string;
}

function newRun(): string {
  return (runs += 1).toString(16).padStart(16, '0');
}

function makeLog(name: string, { seconds, settings = {}, end = {}, killed = false, run = newRun() }: Made): string {
  const path = file(name);
  const whole: RunSettings = {
    command: 'load',
    version: '1.2.3',
    commandLine: 'jitpaxos bench load',
    host: HOST,
    replicas: 3,
    machine: 'kv',
    mix: { write: 1 },
    opBytes: 64,
    opBytesMax: 64,
    authenticated: true,
    clients: 1,
    lanes: 8,
    rates: [1000],
    arrivals: 'poisson',
    seed: runs,
    keys: 1000,
    distribution: 'uniform',
    ...settings,
  };
  rmSync(path, { force: true });
  const log = HlogWriter.open(path, run, whole, SECOND * 1000);
  for (const [at, values] of Object.entries(seconds)) {
    const fromMs = (SECOND + Number(at)) * 1000;
    log.add(0, {
      second: fromMs / 1000,
      fromMs,
      toMs: fromMs + 1000,
      tags: { 'write-ok': histogramOf(values).toData() },
    });
  }
  if (killed) log.close();
  else
    log.end({
      partial: null,
      shortfall: null,
      transport: 'native',
      durability: 'memory',
      seconds: Object.keys(seconds).length,
      failed: 0,
      ...end,
    });
  return path;
}

function histogramOf(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

function makeReport(name: string, values: readonly number[], changes: Partial<BenchReport> = {}): string {
  const histogram = histogramOf(values);
  const report = {
    schema: 'jitpaxos.bench/1',
    command: 'load',
    run: newRun(),
    startedAtMs: SECOND * 1000,
    replicas: 3,
    transport: 'native',
    idle: null,
    machine: 'kv',
    durability: 'memory',
    authenticated: true,
    clients: 1,
    lanes: 8,
    opBytes: 64,
    mix: { write: 1 },
    seconds: 2,
    operations: values.length,
    opsPerSecond: values.length / 2,
    latencyNs: histogram.summary(),
    host: HOST,
    version: '1.2.3',
    histogram: histogram.toData(),
    timeline: [
      { startSeconds: 1, seconds: 0.5, operationsPerSecond: 8 },
      { startSeconds: 1.5, seconds: 1, operationsPerSecond: 4 },
    ],
    load: {
      arrivals: 'poisson',
      seed: 1_000_000 + runs,
      keys: 1000,
      distribution: 'uniform',
      opBytesMax: 64,
      steps: [{ shortfall: null }],
      reported: 0,
      partial: null,
    },
    ...changes,
  };
  writeFileSync(file(name), JSON.stringify(report));
  return file(name);
}

interface MergedObject {
  readonly runs: readonly { readonly name: string; readonly partial: string | null; readonly opsPerSecond: number }[];
  readonly operations: number;
  readonly opsPerSecond: number | null;
  readonly latencies: number;
  readonly histogram: unknown;
  readonly tags: Readonly<Record<string, { readonly count: number }>>;
  readonly timeline: readonly {
    readonly startSeconds: number;
    readonly seconds: number;
    readonly operationsPerSecond: number;
    readonly p50: number | null;
  }[];
  readonly withoutIntervals: readonly string[];
  readonly flaws: readonly string[];
  readonly differences: readonly string[];
}

async function merged(...args: string[]): Promise<string> {
  const lines: string[] = [];
  const parsed = parseFlags(benchMerge.shape, args);
  const output: Output = {
    line: (text) => void lines.push(text),
    note: () => {},
    json: parsed.values['json'] === true,
    quiet: false,
    terminal: false,
    colours: false,
  };
  await benchMerge.run(parsed, output);
  return lines.join('\n');
}

async function mergedObject(...paths: string[]): Promise<MergedObject> {
  return JSON.parse(await merged(...paths, '--json')) as MergedObject;
}

t.test('logs and reports add up to the histogram of all values, exactly', async (t: Test) => {
  const seed = (Date.now() & 0xffffff) + 1;
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const some = (): number[] => Array.from({ length: 500 }, () => Math.floor(10 ** (3 + 7 * random() ** 2)));
  const [a, b, c, d] = [some(), some(), some(), some()];
  const paths = [
    makeLog('a.hlog', { seconds: { 1: a, 2: b } }),
    makeLog('b.hlog', { seconds: { 2: c } }),
    makeReport('c.json', d),
  ];
  const object = await mergedObject(...paths);
  t.same(object.histogram, histogramOf([...a, ...b, ...c, ...d]).toData(), 'in every bucket, and in its sum');
  t.match(object, {
    schema: 'jitpaxos.merge/1',
    operations: 2000,
    latencies: 2000,
    opsPerSecond: 500 + 500 + 250,
    tags: { 'write-ok': { count: 1500 } },
    withoutIntervals: ['c'],
    flaws: [],
    differences: [],
  });
  // By wall time: a and c in second 1, all three in second 2.
  t.same(
    object.timeline.map(({ startSeconds, seconds, operationsPerSecond }) => [
      startSeconds - SECOND,
      seconds,
      operationsPerSecond,
    ]),
    [
      [1, 1, 500 + 4 + 2],
      [2, 1, 500 + 500 + 2],
    ],
  );
  t.equal(object.timeline[1]!.p50, histogramOf([...b, ...c]).quantile(0.5));
  const text = await merged(...paths, '--report', file('merged.html'));
  t.match(text, /^all +2,000 +1,250\/s/m);
  const html = readFileSync(file('merged.html'), 'utf8');
  t.match(html, /3 runs added up/);
  t.match(html, /a &lt;b&gt; processor/);
  t.notMatch(html, /NaN|undefined|Infinity|\[object|<b>|<script/);
});

t.test('runs that may mislead are named', async (t) => {
  const whole = makeLog('whole.hlog', { seconds: { 1: [5_000], 2: [5_000] }, settings: { seed: 77 } });
  const cases: readonly (readonly [string, Made | Partial<BenchReport>, RegExp])[] = [
    ['killed', { seconds: { 1: [9] }, killed: true }, /^other is partial: it has no end mark, so its bench was killed/],
    [
      'interrupted',
      { seconds: { 1: [9] }, end: { partial: 'interrupted after 1 of 9 s' } },
      /^other is partial: inter/,
    ],
    ['slow', { seconds: { 1: [9] }, end: { shortfall: '85 % in time' } }, /^other: its rate was not sustained: 85 %/],
    ['empty', { seconds: {} }, /^other measured nothing/],
    ['later', { seconds: { 3: [9] } }, /^other began after whole had ended/],
    ['same seed', { seconds: { 1: [9] }, settings: { seed: 77 } }, /^other has the seed of whole/],
    ['version', { seconds: { 1: [9] }, settings: { version: '1.2.4' } }, /^version: whole 1\.2\.3, other 1\.2\.4$/],
    ['replicas', { seconds: { 1: [9] }, settings: { replicas: 5 } }, /^replicas: whole 3, other 5$/],
    ['durability', { seconds: { 1: [9] }, end: { durability: 'os' } }, /^durability: whole memory, other os$/],
    [
      'sizes',
      { seconds: { 1: [9] }, settings: { opBytesMax: 99 } },
      /^operations: .*other kv, write 100 %, 64 to 99 bytes$/,
    ],
    ['keys', { seconds: { 1: [9] }, settings: { authenticated: false } }, /^authentication: whole keys, other none$/],
    [
      'closed',
      { seconds: { 1: [9] }, settings: { command: 'latency', arrivals: null, rates: [], seed: 1 } },
      /^kind of load: whole bench load, poisson arrivals, other bench latency$/,
    ],
  ];
  for (const [name, made, expected] of cases) {
    const other = makeLog('other.hlog', made as Made);
    const { flaws, differences } = await mergedObject(whole, other);
    t.equal(flaws.length + differences.length, 1, `${name}: ${[...flaws, ...differences].join('; ')}`);
    t.match([...flaws, ...differences][0], expected, name);
    const text = await merged(whole, other, '--report', file('page.html'));
    t.ok(text.includes([...flaws, ...differences][0]!), name);
    t.notMatch(readFileSync(file('page.html'), 'utf8'), /NaN|undefined|Infinity|\[object/, name);
  }
  const old = makeReport('old.json', [5_000]);
  const { startedAtMs: _, run: __, ...without } = JSON.parse(readFileSync(old, 'utf8')) as BenchReport;
  writeFileSync(old, JSON.stringify(without));
  t.match(await mergedObject(whole, old), { flaws: ['old does not say when it ran'], opsPerSecond: null });
});

t.test('what cannot be added is refused by name', async (t) => {
  const good = makeLog('good.hlog', { seconds: { 1: [5_000] }, run: 'f'.repeat(16) });
  const report = JSON.parse(readFileSync(makeReport('r.json', [5_000, 6_000]), 'utf8')) as BenchReport;
  let made = 0;
  const bad = (changes: object): string => {
    const path = file(`bad${(made += 1)}.json`);
    writeFileSync(path, JSON.stringify({ ...report, ...changes }));
    return path;
  };
  const histogram = report.histogram!;
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['the same file', good, /good\.hlog is .*good\.hlog, and would count twice/],
    [
      'log and report of one run',
      bad({ run: 'f'.repeat(16) }),
      /bad\d+\.json: it is the run of good, which would count twice/,
    ],
    ['a ramp', makeLog('ramp.hlog', { seconds: { 1: [9] }, settings: { rates: [1, 2] } }), /ramp\.hlog: it is a ramp/],
    ['a ramp of a report', bad({ load: { ...report.load, steps: [{}, {}] } }), /bad\d+\.json: it is a ramp/],
    ['no histogram', bad({ histogram: undefined }), /bad\d+\.json: it has no histogram/],
    [
      'a count that lies',
      bad({ histogram: { ...histogram, count: 9 } }),
      /its histogram has 2 values, and its count says 9/,
    ],
    ['counts below 0', bad({ histogram: { ...histogram, buckets: [1, -1, 2, 3] } }), /its histogram is not one/],
    [
      'half counts',
      bad({ histogram: { ...histogram, buckets: [1, 0.5, 2, 1.5] } }),
      /do not exist, or are not in order/,
    ],
    [
      'buckets that do not exist',
      bad({ histogram: { ...histogram, buckets: [1e6, 2] } }),
      /a histogram has buckets|do not exist/,
    ],
    ['a maximum that lies', bad({ histogram: { ...histogram, max: 7 } }), /its count does not fit its values/],
    [
      'times without end',
      bad({ timeline: [{ startSeconds: 0, seconds: 1e9, operationsPerSecond: 1 }] }),
      /its seconds is not a number up to 60/,
    ],
    ['a rate without end', bad({ opsPerSecond: 1e308 }), /its opsPerSecond is not a number up to/],
    ['a time of another age', bad({ startedAtMs: 1e300 }), /its startedAtMs is not a number/],
    ['a timeline that is none', bad({ timeline: {} }), /its timeline/],
    ['a run that is markup', bad({ run: '<b>' }), /its name of the run is not one/],
    ['no host', bad({ host: undefined }), /bad\d+\.json: /],
    ['no JSON', (writeFileSync(file('no.json'), '{'), file('no.json')), /no\.json is not JSON/],
    ['a log of other digits', (writeFileSync(file('x.hlog'), '#hello\n'), file('x.hlog')), /x\.hlog: it does not say/],
    ['a directory', directory, /cannot be read \(it is a directory/],
    ['nothing', file('none'), /none cannot be read/],
  ];
  for (const [name, path, expected] of cases)
    await t.rejects(merged(good, path), { code: 'argument-invalid', message: expected }, name);
  const many = Array.from({ length: MERGED_MAX + 1 }, (_, n) => file(`${n}`));
  await t.rejects(merged(...many), { code: 'argument-invalid', message: /65 runs are more than the 64/ });
  t.throws(() => parseFlags(benchMerge.shape, []), { code: 'argument-invalid' });
});

t.test('texts of a file neither control a terminal or a page nor make a line', async (t) => {
  const hostile = '1\u001b]0;x\u0007\u009b2J\nall 9';
  const end = { partial: hostile, shortfall: hostile, durability: hostile, transport: hostile };
  const settings = { version: hostile, machine: hostile, host: { ...HOST, cpu: hostile } };
  const log = makeLog('hostile.hlog', { seconds: { 1: [5_000] }, settings, end });
  const report = makeReport('hostile.json', [5_000], { host: { ...HOST, kernel: hostile } });
  const text = await merged(log, report, '--report', file('hostile.html'));
  t.match(text, /version: hostile \(1\) 1\\u001b\]0;x\\u0007\\u009b2J\\u000aall 9/);
  t.notMatch(text, /^all 9/m);
  for (const shown of [text, readFileSync(file('hostile.html'), 'utf8')])
    t.notMatch(shown, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\nall 9/);
  const whole = await mergedObject(log, report);
  t.equal(whole.runs[0]!.partial, '1\\u001b]0;x\\u0007\\u009b2J\\u000aall 9');
});

t.test('a report does not replace a run, by whatever path', async (t) => {
  const run = makeLog('input.hlog', { seconds: { 1: [5_000] } });
  symlinkSync(run, file('symbolic'));
  linkSync(run, file('hard'));
  const before = readFileSync(run, 'utf8');
  for (const path of [run, join(directory, '..', basename(directory), 'input.hlog'), file('symbolic'), file('hard')])
    await t.rejects(merged(run, '--report', path), { code: 'flag-invalid', message: /would replace .*input\.hlog/ });
  t.equal(readFileSync(run, 'utf8'), before);
  await merged(run, '--report', '/dev/null');
});

t.test('a timeline has a bound, whatever times it is given, and loses no operation', (t) => {
  const timeline = new WallTimeline();
  const latency = histogramOf([5]);
  for (let at = 0; at < 2_000; at++) timeline.add(at, at + 1, 1, latency);
  t.equal(timeline.spacing, 8);
  const count = timeline.intervals().reduce((sum, { operationsPerSecond }) => sum + operationsPerSecond * 8, 0);
  t.equal(count, 2_000);
  timeline.add(2 ** 33, 2 ** 33 + 1, 7, latency);
  t.ok(timeline.intervals().length <= 300 && timeline.spacing > 2 ** 24);
  const spread = new WallTimeline();
  spread.add(0.5, 2.5, 8);
  t.same(
    spread.intervals().map(({ startSeconds, operationsPerSecond }) => [startSeconds, operationsPerSecond]),
    [
      [0, 4],
      [1, 4],
      [2, 4],
    ],
  );
  t.end();
});
