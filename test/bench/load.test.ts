// bench load and bench report as people run them, tiny. What was measured is not judged, with one exception: stalls
// that are known to be there have to show.
import t from 'tap';
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BenchKeys } from '../../src/measure/load/bench-keys.js';
import { freePorts } from '../../src/host/free-ports.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { Histogram } from '../../src/metrics/histogram.js';
import { parseHistory } from '../../src/sim/history.js';
import { checkHistory } from '../../src/sim/linearizability.js';
import { jitpaxos, jitpaxosEach, MAIN, type Ended } from '../cluster/processes.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-load-test-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string): string => join(directory, name);

/** Runs the command, and does something so long after a line came on stderr. */
async function whileRunning(
  args: readonly string[],
  begun: RegExp,
  afterMs: number,
  act: (pid: number) => void,
  env: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let [stdout, stderr, acting] = ['', '', false];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (acting || !begun.test(stderr)) return;
    acting = true;
    setTimeout(() => act(child.pid!), afterMs);
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code: code ?? 128, stdout, stderr: signal === null ? stderr : `${stderr}\nended by ${signal}` };
}

/** Nothing is fetched, nothing runs, and elements are closed in order. */
function checkPage(t: Pick<typeof import('tap').default, 'match' | 'notMatch' | 'same' | 'equal'>, html: string): void {
  t.match(html, /^<!doctype html>/);
  t.notMatch(html, /<script|<link|<img|<iframe|@import|url\(|https?:/i, 'nothing is fetched or run');
  t.notMatch(html, /NaN|undefined|Infinity|\[object/, 'no figure is missing');
  const open: string[] = [];
  const wrong: string[] = [];
  for (const [, slash, name, rest] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)((?:[^>"]|"[^"]*")*)>/g)) {
    if (slash === '/') {
      if (open.pop() !== name) wrong.push(`</${name}>`);
    } else if (!rest!.endsWith('/') && !['meta', 'br'].includes(name!)) open.push(name!);
  }
  t.same(wrong, [], 'elements are closed in order');
  t.same(open, [], 'and all of them');
}

t.test('one rate: the object, the percentile file, the page, the history', async (t) => {
  const args = [
    '--rate',
    '800',
    '--duration',
    '1200ms',
    '--warmup',
    '300ms',
    '--clients',
    '2',
    '--lanes',
    '16',
    '--mix',
    'read=45,write=45,cas=10',
    '--keys',
    '5',
    '--distribution',
    'zipfian',
    '--size',
    '16..48',
    '--seed',
    '11',
  ];
  const { code, stdout, stderr } = await jitpaxos([
    'bench',
    'load',
    ...args,
    '--json',
    '--report',
    file('one.html'),
    '--hgrm',
    file('one.hgrm'),
    '--history',
    file('h.jsonl'),
    '--assert',
    'failed=0',
  ]);
  t.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as BenchReport;
  t.match(report, {
    schema: 'jitpaxos.bench/1',
    command: 'load',
    replicas: 3,
    clients: 2,
    lanes: 16,
    opBytes: 16,
    offeredPerSecond: 800,
    failed: 0,
    durability: 'memory',
    load: {
      seed: 11,
      arrivals: 'poisson',
      opBytesMax: 48,
      keys: 5,
      distribution: 'zipfian',
      knee: null,
      partial: null,
      reported: 0,
    },
  });
  const [step] = report.load!.steps;
  t.equal(report.load!.steps.length, 1);
  const arrived = Math.round(step!.arrivedPerSecond * step!.seconds);
  t.ok(Math.abs(arrived - 960) < 160, `${arrived} arrivals, 960 expected`);
  t.equal(report.histogram!.count, arrived, 'every arrival is in the histogram');
  t.equal(report.operations + step!.unsent, arrived);
  t.ok(report.latencyNs.p50! > 10_000 && step!.serviceLatencyNs.p50! <= report.latencyNs.p50! * 1.01);
  t.equal(step!.cores.replicas.length, 3);
  t.ok(step!.cores.replicas.every((cores) => cores !== null && cores > 0));
  t.ok(report.timeline!.length > 0 && report.timeline!.length <= 12);
  checkPage(t, readFileSync(file('one.html'), 'utf8'));
  t.match(readFileSync(file('one.hgrm'), 'utf8'), new RegExp(`Total count    = ${String(arrived).padStart(12)}\\]`));
  const events = parseHistory(readFileSync(file('h.jsonl'), 'utf8'));
  t.ok(events.length >= 2 * report.operations);
  t.equal(checkHistory(events).outcome, 'linearizable');
  const times = events.map(({ time }) => time);
  t.ok(
    times.every((time, index) => index === 0 || time >= times[index - 1]!),
    'in order of time',
  );
});

t.test('a ramp, and results side by side', async (t) => {
  const run = async (name: string, ...args: string[]): Promise<BenchReport> => {
    const { code, stdout, stderr } = await jitpaxos([
      'bench',
      'load',
      '--local',
      '1',
      '--duration',
      '400ms',
      '--warmup',
      '100ms',
      '--machine',
      'echo',
      '--mix',
      'write=1',
      '--json',
      ...args,
    ]);
    t.equal(code, 0, stderr);
    writeFileSync(file(`${name}.json`), stdout);
    return JSON.parse(stdout) as BenchReport;
  };
  const ramp = await run(
    'ramp',
    '--rate',
    '200..800',
    '--steps',
    '3',
    '--arrivals',
    'even',
    '--pacing',
    'sleep',
    '--report',
    file('ramp.html'),
  );
  const { steps } = ramp.load!;
  t.same(
    steps.map(({ offeredPerSecond }) => offeredPerSecond),
    [200, 400, 800].slice(0, steps.length),
  );
  t.ok(steps.length >= 2, 'it ends early only after two steps');
  t.match(ramp.load, { pacing: 'sleep', arrivals: 'even' });
  t.equal(Math.round(steps[0]!.arrivedPerSecond), 200, 'even arrivals are exactly as many');
  checkPage(t, readFileSync(file('ramp.html'), 'utf8'));
  await run('single', '--rate', '300');
  const compared = await jitpaxos([
    'bench',
    'report',
    file('ramp.json'),
    file('single.json'),
    '--report',
    file('compared.html'),
  ]);
  t.equal(compared.code, 0, compared.stderr);
  t.match(compared.stdout, /ramp +single +×\np50 /);
  checkPage(t, readFileSync(file('compared.html'), 'utf8'));
  const again = await jitpaxos(['bench', 'report', file('ramp.json'), '--report', file('again.html')]);
  t.equal(again.code, 0, again.stderr);
  t.match(again.stdout, /offered\/s/);
  t.equal(
    readFileSync(file('again.html'), 'utf8'),
    readFileSync(file('ramp.html'), 'utf8'),
    'the page can be made from the object',
  );
});

t.test('nothing measured is nothing, and no assertion on it holds', async (t) => {
  const { code, stdout, stderr } = await jitpaxos([
    'bench',
    'load',
    '--local',
    '1',
    '--rate',
    '0.2',
    '--arrivals',
    'even',
    '--duration',
    '300ms',
    '--warmup',
    '100ms',
    '--json',
    '--assert',
    'p99<1us',
    '--assert',
    'max<1ns',
    '--report',
    file('empty.html'),
  ]);
  t.equal(code, 4, 'an assertion failed');
  t.match(stderr, /p99<1us does not hold \(found nothing: no operation was measured\), max<1ns does not hold/);
  const report = JSON.parse(stdout) as BenchReport;
  t.match(report, {
    operations: 0,
    latencyNs: { min: null, p50: null, p99: null, max: null, mean: null },
    fastPathRatio: null,
  });
  t.match(report.load!.steps[0], { serviceLatencyNs: { p50: null }, schedulingDelayNs: { p99: null } });
  checkPage(t, readFileSync(file('empty.html'), 'utf8'));
  writeFileSync(file('empty.json'), stdout);
  const shown = await jitpaxos(['bench', 'report', file('empty.json')]);
  t.match(
    shown.stdout,
    /operations +0 of the 0 that arrived in [^]*latency +p50 – +p90 – +p99 – [^]*service +from the actual send: p50 –[^]*scheduling +client late by p50 –/,
  );
  t.notMatch(shown.stdout, /\b0 ns/);
  const compared = await jitpaxos([
    'bench',
    'report',
    file('empty.json'),
    file('single.json'),
    '--report',
    file('empty-compared.html'),
  ]);
  t.equal(compared.code, 0, compared.stderr);
  t.match(compared.stdout, /p50 +– +\d/);
  t.match(compared.stdout, /empty measured nothing: no operation succeeded/);
});

t.test('a comparison says which run was interrupted, and which fell short', async (t) => {
  const single = JSON.parse(readFileSync(file('single.json'), 'utf8')) as BenchReport;
  const [step] = single.load!.steps;
  writeFileSync(
    file('int.json'),
    JSON.stringify({ ...single, seconds: 2.5, load: { ...single.load!, partial: 'interrupted after 2.5 of 30 s' } }),
  );
  writeFileSync(
    file('short.json'),
    JSON.stringify({
      ...single,
      load: { ...single.load!, steps: [{ ...step!, shortfall: '60 % of what arrived was completed in time' }] },
    }),
  );
  writeFileSync(
    file('closed.json'),
    JSON.stringify({
      ...single,
      command: 'latency',
      partial: 'interrupted after 100 of 50,000 operations',
      load: undefined,
    }),
  );
  const names = ['single', 'int', 'short', 'closed'].map((name) => file(`${name}.json`));
  const { code, stdout, stderr } = await jitpaxos(['bench', 'report', ...names, '--report', file('flaws.html')]);
  t.equal(code, 0, stderr);
  for (const text of [stdout, readFileSync(file('flaws.html'), 'utf8')]) {
    t.match(text, /int is partial: interrupted after 2\.5 of 30 s/);
    t.match(text, /short: its rate was not sustained: 60 % of what arrived/);
    t.match(text, /closed is partial: interrupted after 100/);
    t.match(text, /duration: single 0\.4\d* s, int 2\.5 s/);
    t.notMatch(text, /single is partial/);
  }
  const { runs } = JSON.parse((await jitpaxos(['bench', 'report', ...names, '--json'])).stdout) as {
    runs: { load?: { partial: string | null; steps: { shortfall: string | null }[] } }[];
  };
  t.equal(runs[1]!.load!.partial, 'interrupted after 2.5 of 30 s');
  t.match(runs[2]!.load!.steps[0]!.shortfall, /60 %/);
});

t.test('replicas that are gone at the end are the cause, and the command fails', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
    authenticated: true,
  });
  const { code, stdout, stderr } = await whileRunning(
    [
      'bench',
      'load',
      '--cluster',
      cluster.clusterFile,
      '--rate',
      '100',
      '--duration',
      '4s',
      '--warmup',
      '200ms',
      '--timeout',
      '300ms',
      '--json',
    ],
    /^load: /m,
    1_000,
    () => cluster.replicas.forEach((replica) => replica.kill('SIGKILL')),
  );
  t.equal(code, 3, stderr);
  t.match(stderr, /cluster-gone: replicas 0, 1, 2 did not answer at the end/);
  const report = JSON.parse(stdout) as BenchReport;
  t.match(report, {
    authenticated: true,
    durability: 'memory',
    load: {
      limit: { resource: 'replicas', evidence: [/^replicas 0, 1, 2 did not answer at the end: there is no majority/] },
    },
  });
});

t.test('known truth: a server that stalls 100 ms every second', async (t) => {
  const [port] = await freePorts(1);
  const cluster = file('stalling.json');
  writeFileSync(
    cluster,
    JSON.stringify({ schema: 'jitpaxos.cluster/1', id: '00000000000057a1', replicas: [`127.0.0.1:${port}`] }),
  );
  const server = fork(
    fileURLToPath(new URL('./stalling-replica.js', import.meta.url)),
    [cluster, file('stalling-data')],
    { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
  );
  t.teardown(() => server.kill('SIGKILL'));
  await new Promise((resolve, reject) => server.once('message', resolve).once('exit', reject));
  const { code, stdout, stderr } = await jitpaxos([
    'bench',
    'load',
    '--cluster',
    cluster,
    '--rate',
    '500',
    '--arrivals',
    'even',
    '--duration',
    '4s',
    '--warmup',
    '200ms',
    '--machine',
    'echo',
    '--mix',
    'write=1',
    '--lanes',
    '4',
    '--json',
  ]);
  t.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as BenchReport;
  const histogram = Histogram.fromData(report.histogram!);
  const quantiles = Object.entries({ p50: 0.5, p89: 0.89, p95: 0.95, p99: 0.99, max: 1 })
    .map(([name, fraction]) => `${name} ${(histogram.quantile(fraction) / 1e6).toFixed(1)} ms`)
    .join(', ');
  t.comment(`${quantiles}; predicted: p89 below 1 ms, p95 50 ms, p99 90 ms, max 100 ms`);
  // A tenth of the arrivals find a stall and wait from 100 ms down to 0. A busy host can add to that, and take nothing
  // away.
  t.ok(histogram.quantile(0.95) >= 30e6, `p95 shows the stalls: ${quantiles}`);
  t.ok(report.latencyNs.p99! >= 75e6, `so does p99`);
  t.ok(report.latencyNs.max! >= 90e6, 'and the slowest');
  t.ok(
    report.load!.steps[0]!.schedulingDelayNs.p50! < 20e6,
    'and no arrival waits for the client, which has nothing else to do',
  );
  const waited = report.histogram!.buckets.length;
  t.ok(waited > 20, 'latencies of all lengths up to it');
  t.ok(
    report.load!.steps[0]!.queued > 50,
    'with four lanes most of them waited outside, where a closed loop would not have counted them',
  );
});

t.test('Ctrl-C in mid-run keeps what was measured, and says so', async (t) => {
  const child = spawn(
    process.execPath,
    [
      MAIN,
      'bench',
      'load',
      '--local',
      '1',
      '--rate',
      '300',
      '--duration',
      '60s',
      '--warmup',
      '100ms',
      '--json',
      '--report',
      file('partial.html'),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  t.teardown(() => child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (text.includes('load:')) setTimeout(() => child.kill('SIGINT'), 1_500);
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  t.equal(code, 1, stderr);
  t.match(stderr, /^interrupted: interrupted after [\d.]+ of 60 s; /m);
  const report = JSON.parse(stdout) as BenchReport;
  t.ok(report.operations > 0 && report.seconds < 30);
  t.match(report.load!.partial, /^interrupted after/);
  checkPage(t, readFileSync(file('partial.html'), 'utf8'));
});

t.test('Ctrl-C in any measurement: what was measured is printed as partial, and nothing is left behind', async (t) => {
  const ofJson = (stdout: string): unknown => (JSON.parse(stdout) as { partial: unknown }).partial;
  const cases: [what: string, args: string[], begun: RegExp, partial: (stdout: string) => unknown][] = [
    [
      'latency',
      [
        'bench',
        'latency',
        '--local',
        '1',
        '--ops',
        '100000000',
        '--warmup',
        '10',
        '--machine',
        'kv',
        '--history',
        file('latency.jsonl'),
        '--json',
      ],
      /^latency: /m,
      ofJson,
    ],
    [
      'compare',
      [
        'bench',
        'compare',
        '--local',
        '1',
        '--points',
        '1',
        '--baselines',
        'none',
        '--rounds',
        '1000',
        '--seconds',
        '100ms',
        '--warmup',
        '10ms',
        '--json',
      ],
      /^1 of 1000: /m,
      ofJson,
    ],
    [
      'demo',
      ['demo', '--duration', '60s', '--clients', '1', '--kill', 'none', '--report', file('demo.html')],
      /^ *\d[^\n]* s /m,
      (stdout) => /^partial +(.*)$/m.exec(stdout)?.[1],
    ],
  ];
  for (const [what, args, begun, partial] of cases) {
    const temporary = mkdtempSync(join(directory, `${what}-`));
    const { code, stdout, stderr } = await whileRunning(args, begun, 500, (pid) => process.kill(pid, 'SIGINT'), {
      TMPDIR: temporary,
    });
    t.equal(code, 1, `${what}: ${stderr}`);
    t.match(stderr, /^interrupted: interrupted after [^\n]*; what is printed was measured until then$/m, what);
    t.match(partial(stdout), /^interrupted after /, what);
    t.same(readdirSync(temporary), [], `${what} leaves nothing in the directory for temporary files`);
  }
  t.ok(readFileSync(file('latency.jsonl'), 'utf8').length > 0, 'the history until then is kept');
  checkPage(t, readFileSync(file('demo.html'), 'utf8'));
});

t.test('Ctrl-C before anything is measured: said, and nothing is left behind', async (t) => {
  for (const args of [
    ['bench', 'latency', '--local', '1', '--ops', '10', '--warmup', '100000000'],
    ['bench', 'load', '--local', '1', '--rate', '10'],
    ['demo', '--report', file('none.html')],
    ['bench', 'compare', '--local', '1', '--baselines', 'none', '--seconds', '10s', '--warmup', '0s'],
  ]) {
    const temporary = mkdtempSync(join(directory, 'early-'));
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TMPDIR: temporary },
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    // Its first directory says that it has begun; twice, for the command whose run would end in ten seconds.
    const looking = setInterval(() => readdirSync(temporary).length > 0 && child.kill('SIGINT'), 50);
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    clearInterval(looking);
    t.same([code, signal], [1, null], `${args.join(' ')}: ${stderr}`);
    t.match(stderr, /^interrupted: /m);
    t.same(readdirSync(temporary), [], args.join(' '));
  }
});

t.test('a bench of a running store writes under a prefix of its own, says so, and takes it away again', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'os',
    authenticated: true,
  });
  const client = await Client.connect({ cluster: cluster.clusterFile, lanes: 8 });
  t.teardown(() => client.close());
  const store = new KvClient(client);
  const mine = { 'key-1': 'mine', 'key-999': 'mine too', 'jitpaxos-bench': 'also mine' };
  for (const [key, value] of Object.entries(mine)) await store.put(key, value);
  const keys = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await store.scan()).entries.map(({ key, value }) => [
        Buffer.from(key).toString(),
        Buffer.from(value).toString(),
      ]),
    );
  const runs: [string, string[]][] = [
    ['latency', ['--ops', '400', '--lanes', '4', '--mix', 'write=1']],
    ['latency', ['--ops', '200', '--lanes', '4', '--history', file('own.jsonl'), '--mix', 'read=50,write=50']],
    ['load', ['--rate', '200', '--duration', '500ms', '--warmup', '100ms']],
  ];
  for (const [command, args] of runs) {
    const { code, stdout, stderr } = await jitpaxos([
      'bench',
      command,
      '--cluster',
      cluster.clusterFile,
      '--machine',
      'kv',
      '--keys',
      '100',
      ...args,
      '--json',
    ]);
    t.equal(code, 0, stderr);
    t.match(
      stderr,
      /^store: writes up to 100 keys from jitpaxos-bench\/\S+0 on into [^\n]*, and removes them at the end$/m,
      command,
    );
    t.match(
      JSON.parse(stdout),
      { keysLeft: 0, authenticated: true, durability: 'os', clock: { source: String } },
      command,
    );
    t.same(await keys(), mine, `bench ${command} ${args.join(' ')} leaves what was there, and nothing else`);
  }
  t.match(readFileSync(file('own.jsonl'), 'utf8'), /jitpaxos-bench\/h/);
  const reads = await jitpaxos([
    'bench',
    'latency',
    '--cluster',
    cluster.clusterFile,
    '--machine',
    'kv',
    '--ops',
    '50',
    '--mix',
    'read=1',
    '--json',
  ]);
  t.notMatch(reads.stderr, /^store:/m, 'reads write nothing');
  t.equal((JSON.parse(reads.stdout) as BenchReport).keysLeft, undefined);
  for (let i = 0; i < 5; i++) await store.put(`jitpaxos-bench/key-${i}`, 'left over');
  const choice = { transport: 'auto', idle: undefined } as const;
  t.equal(
    await new BenchKeys(cluster.clusterFile, 'jitpaxos-bench/key-', 5, choice, 0).remove(),
    5,
    'no time: all of them may be left',
  );
  t.equal(await new BenchKeys(cluster.clusterFile, 'jitpaxos-bench/key-', 5, choice).remove(), 0);
  t.same(await keys(), mine);
});

t.test(
  'what cannot be done is refused before anything starts, and said afterwards when it shows only then',
  async (t) => {
    const wrong: [args: string[], says: RegExp][] = [];
    const refused = (args: string[], says: RegExp): void => void wrong.push([args, says]);
    writeFileSync(file('other.json'), '{"schema":"else"}');
    writeFileSync(file('damaged.json'), '{"schema":"jitpaxos.bench/1","latencyNs":{"p50":"x"}}');
    refused(['load'], /--rate is missing/);
    for (const rate of ['0', 'x', '10k..', '1k..2k..3k', '-5', '1e9']) refused(['load', `--rate=${rate}`], /--rate/);
    refused(['load', '--rate', '2k..1k'], /does not rise/);
    refused(['load', '--rate', '1k', '--steps', '4'], /--steps 4 needs a range/);
    refused(['load', '--rate', '0.5', '--clients', '200'], /use fewer clients/);
    refused(['load', '--rate', '1k', '--size', '64..16'], /--size "64..16"/);
    refused(['load', '--rate', '1k', '--local', '2'], /even/);
    refused(['load', '--rate', '1k', '--history', 'h', '--machine', 'echo', '--mix', 'write=1'], /--history needs/);
    refused(['load', '--rate', '1k', '--mix', 'scan=1'], /--mix/);
    refused(['load', '--rate', '1k', '--assert', 'p98<1ms'], /--assert/);
    refused(['load', '--rate', '1k', '--report', join(directory, 'no', 'such', 'place.html')], /there is no directory/);
    refused(['load', '--rate', '1k', '--hgrm', directory], /it is a directory/);
    if (existsSync('/proc/self')) refused(['latency', '--report', '/proc/no-such-report.html'], /can't be written: E/);
    refused(['load', '--rate', '1k', '--pacing', 'slep'], /did you mean sleep\?/);
    refused(['load', '--rat', '1k'], /did you mean --rate\?/);
    refused(['report', file('absent.json')], /cannot be read \(ENOENT/);
    refused(['report', file('other.json')], /its schema is "else"/);
    refused(['report', file('damaged.json')], /damaged/);
    const ends = await jitpaxosEach(wrong.map(([args]) => ['bench', ...args]));
    for (const [index, [args, says]] of wrong.entries()) {
      const { code, stderr, stdout } = ends[index]!;
      t.equal(code, 2, args.join(' '));
      t.match(stderr, says);
      t.match(stderr, /^[a-z-]+: [^\n]*; [^\n]*\n$/, 'one line: what is wrong, what to do');
      t.equal(stdout, '');
    }
    const broken = await jitpaxos([
      'bench',
      'load',
      '--local',
      '1',
      '--rate',
      '100',
      '--duration',
      '200ms',
      '--assert',
      'p50<1ns',
    ]);
    t.equal(broken.code, 4, broken.stderr);
    t.match(broken.stderr, /assertion-failed: p50<1ns does not hold/);
    if (!existsSync('/dev/full')) return t.comment('skipped: a full disk, there is no /dev/full');
    const full = await jitpaxos([
      'bench',
      'load',
      '--local',
      '1',
      '--rate',
      '100',
      '--duration',
      '200ms',
      '--report',
      '/dev/full',
    ]);
    t.equal(full.code, 1);
    t.match(full.stderr, /output-unwritable: --report \/dev\/full could not be written \(ENOSPC\)/);
    t.match(full.stdout, /throughput/, 'the result is printed all the same');
  },
);
