// Every measuring program, tiny, so that none can rot. What they measured is not judged here; that they measured is.
import t from 'tap';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { native } from '../../src/native/addon.js';
import { checkHistory } from '../../src/sim/linearizability.js';
import { parseHistory } from '../../src/sim/history.js';
import { jitpaxos, jitpaxosEach, runNode } from '../cluster/processes.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-bench-test-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

const bench = (name: string): string => fileURLToPath(new URL(`../../bench/${name}.js`, import.meta.url));

t.test('bench latency prints the documented object', async (t) => {
  const hgrm = join(directory, 'l.hgrm');
  const { code, stdout, stderr } = await jitpaxos([
    'bench',
    'latency',
    '--local',
    '3',
    '--clients',
    '2',
    '--lanes',
    '2',
    '--ops',
    '401',
    '--warmup',
    '100',
    '--size',
    '64',
    '--json',
    '--hgrm',
    hgrm,
    '--assert',
    'failed=0',
    '--assert',
    'p50<1s',
  ]);
  t.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as Record<string, never>;
  const documented = [
    'schema',
    'command',
    'replicas',
    'transport',
    'idle',
    'machine',
    'durability',
    'authenticated',
    'clients',
    'lanes',
    'opBytes',
    'mix',
    'seconds',
    'operations',
    'opsPerSecond',
    'offeredPerSecond',
    'latencyNs',
    'fastPathRatio',
    'rejected',
    'reconciled',
    'retransmitted',
    'failed',
    'viewChanges',
    'cpuSeconds',
    'allocatedBytesPerOp',
    'clock',
    'baselines',
    'ratios',
    'host',
    'version',
  ];
  t.same(
    documented.filter((field) => !(field in report)),
    [],
    'no field is missing',
  );
  t.match(report, {
    schema: 'jitpaxos.bench/1',
    command: 'latency',
    replicas: 3,
    transport: native.available ? 'native' : 'dgram',
    machine: 'echo',
    durability: 'memory',
    clients: 2,
    lanes: 2,
    opBytes: 64,
    mix: { write: 1 },
    operations: 401,
    warmupOperations: 100,
    offeredPerSecond: null,
    failed: 0,
  });
  const latency = Object.values(report['latencyNs']! as Record<string, number>);
  t.equal(latency.length, 7);
  t.ok(
    latency.every((ns) => ns > 1_000 && ns < 60e9),
    latency.join(' '),
  );
  const cpu = report['cpuSeconds']! as { client: number; replicas: number[] };
  t.ok(cpu.client > 0 && cpu.replicas.length === 3 && cpu.replicas.every((seconds) => seconds >= 0));
  const { client } = report['allocatedBytesPerOp']! as { client: number };
  t.ok(client > 0);
  t.ok(report['fastPathRatio']! > 0 && report['fastPathRatio']! <= 1);
  t.match(readFileSync(hgrm, 'utf8'), /Total count {4}= {10}401/);
});

t.test('the recorded history of concurrent clients on shared keys is linearizable', async (t) => {
  const file = join(directory, 'history.jsonl');
  const { code, stdout, stderr } = await jitpaxos([
    'bench',
    'latency',
    '--clients',
    '2',
    '--lanes',
    '3',
    '--ops',
    '1200',
    '--warmup',
    '60',
    '--machine',
    'kv',
    '--mix',
    'read=45,write=45,cas=10',
    '--keys',
    '4',
    '--history',
    file,
  ]);
  t.equal(code, 0, stderr);
  t.match(stdout, /throughput/);
  const events = parseHistory(readFileSync(file, 'utf8'));
  t.equal(events.length, 2 * 1260, 'warm-up included');
  t.equal(new Set(events.map((event) => event.process)).size, 6);
  t.ok(
    events.some((event) => event.f === 'cas' && event.result === true),
    'a compare-and-set succeeded',
  );
  t.equal(checkHistory(events).outcome, 'linearizable');
  const stale = events.map((event) => ({ ...event }));
  const read = stale.find((event) => event.type === 'ok' && event.f === 'read' && event.value !== null)!;
  read.value = 'never written';
  t.equal(checkHistory(stale).outcome, 'violation', 'the checker sees a value that nobody wrote');
});

t.test('what does not hold gives exit code 4, what cannot be measured is refused', async (t) => {
  const broken = await jitpaxos([
    'bench',
    'latency',
    '--local',
    '1',
    '--ops',
    '50',
    '--warmup',
    '10',
    '--assert',
    'p50<1ns',
  ]);
  t.equal(broken.code, 4, broken.stderr);
  t.match(broken.stderr, /^assertion-failed: p50<1ns does not hold \(found \d+ ns\)/m);
  const wrong = [
    ['--local', '2'],
    ['--local', '3', '--cluster', 'x'],
    ['--history', 'h'],
    ['--history', 'h', '--machine', 'kv', '--size', '8'],
    ['--mix', 'cas=1'],
    ['--assert', 'x<1'],
  ];
  const ends = await jitpaxosEach(wrong.map((args) => ['bench', 'latency', ...args]));
  for (const [index, refused] of ends.entries()) {
    t.equal(refused.code, 2, wrong[index]!.join(' '));
    t.match(refused.stderr, /^flag-invalid: .*; .*\n$/);
  }
});

t.test('the demo runs, reads everything back and leaves a report that needs nothing else', async (t) => {
  const file = join(directory, 'report.html');
  const { code, stdout, stderr } = await jitpaxos(['demo', '--duration', '2s', '--report', file, '--json']);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as Record<string, never>;
  t.ok(result['operations']! >= 10_000, `${String(result['operations'])} operations`);
  t.match(result, {
    schema: 'jitpaxos.demo/1',
    replicas: 3,
    failed: 0,
    killed: { role: 'member' },
    readBack: { wrong: 0 },
  });
  t.ok((result['readBack']! as { keys: number }).keys > 500);
  t.ok((result['killed']! as { committedAfter: number }).committedAfter > 0, 'commits went on');
  const html = readFileSync(file, 'utf8');
  t.match(html, /<svg.*<\/svg>/s);
  t.notMatch(html, /NaN|undefined|Infinity/);
  t.notMatch(html, /https?:|<script|src=|@import|url\(/, 'no request and no script');
  t.match(html, /prefers-color-scheme:dark/);
});

t.test('first light', async (t) => {
  const { code, stdout, stderr } = await runNode([
    bench('first-light'),
    '--rounds',
    '2',
    '--ops',
    '200',
    '--warmup',
    '50',
    '--seconds',
    '50ms',
    '--json',
    '--quiet',
  ]);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as { rounds: unknown[]; ratioP50: number };
  t.equal(result.rounds.length, 2);
  t.ok(result.ratioP50 > 0);
});

t.test('allocation', async (t) => {
  for (const wire of ['encrypted', 'none']) {
    const { code, stdout, stderr } = await runNode([
      '--expose-gc',
      '--max-semi-space-size=64',
      bench('allocation'),
      '--ops',
      '20000',
      '--warmup',
      '2000',
      '--wire',
      wire,
      '--json',
    ]);
    t.equal(code, 0, stderr);
    const result = JSON.parse(stdout) as {
      operations: number;
      committed: number;
      wire: string;
      datagrams: number;
      allocatedBytesPerOp: Record<string, number>;
    };
    t.equal(result.committed, result.operations);
    t.equal(result.wire, wire);
    t.equal(result.datagrams > 0, wire === 'encrypted', `${result.datagrams} encrypted datagrams were read`);
    t.same(Object.keys(result.allocatedBytesPerOp), ['client', 'primary', 'member', 'spare']);
    t.ok(Object.values(result.allocatedBytesPerOp).every((bytes) => bytes >= 0));
  }
  const without = await runNode([bench('allocation'), '--ops', '20000']);
  t.equal(without.code, 2);
  t.match(without.stderr, /^argument-invalid: .*--expose-gc/);
});

t.test('timers', async (t) => {
  const { code, stdout, stderr } = await runNode([bench('timer'), '--fires', '100', '--json']);
  t.equal(code, 0, stderr);
  const { kinds } = JSON.parse(stdout) as { kinds: { name: string; lateNs: { p50: number } }[] };
  t.same(
    kinds.map(({ name }) => name),
    native.available ? ['setTimeout', 'kernel', 'kernel, transport polls'] : ['setTimeout'],
  );
  t.ok(kinds.every(({ lateNs }) => lateNs.p50 >= 0 && lateNs.p50 < 60e9));
});

t.test('scraping', async (t) => {
  const { code, stdout, stderr } = await runNode([
    bench('scraping'),
    '--rounds',
    '1',
    '--seconds',
    '300ms',
    '--rate',
    '200',
    '--interval',
    '50ms',
    '--json',
    '--quiet',
  ]);
  t.equal(code, 0, stderr);
  const { rounds } = JSON.parse(stdout) as { rounds: { scraped: boolean; scrapes: number }[] };
  t.same(
    rounds.map(({ scraped }) => scraped),
    [false, true],
  );
  t.ok(rounds[0]!.scrapes === 0 && rounds[1]!.scrapes >= 3, `${rounds[1]!.scrapes} scrapes`);
});
