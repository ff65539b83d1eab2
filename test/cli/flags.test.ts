import t from 'tap';
import { parseFlags, helpOf, type CommandShape, type Flags } from '../../src/console/flags.js';
import { formatCount, formatDuration, parseCount, parseDuration, parseSize } from '../../src/console/units.js';
import { parseAssertion, parseMix, tableOf, type BenchReport } from '../../src/measure/load/bench-report.js';
import { exitCodeOf, lineOf, CliError, Exit } from '../../src/console/exit.js';
import { JitPaxosError } from '../../src/errors.js';

const SHAPE = {
  name: 'jitpaxos thing',
  summary: 'Does a thing.',
  positionals: ['WHAT', '[HOW]'],
  flags: {
    clients: { kind: 'count', default: '2', min: 1, max: 10, help: 'how many' },
    size: { kind: 'bytes', help: 'how large' },
    wait: { kind: 'duration', help: 'how long' },
    mode: { kind: 'choice', choices: ['fast', 'safe'], default: 'safe', help: 'how' },
    file: { kind: 'text', value: 'FILE', help: 'where' },
    assert: { kind: 'text', value: 'EXPR', many: true, help: 'what must hold' },
    json: { kind: 'switch', help: 'as JSON' },
  },
  examples: ['jitpaxos thing x'],
} as const satisfies CommandShape<Flags>;

const refusal = (args: string[]): CliError => {
  try {
    parseFlags(SHAPE, args);
  } catch (error) {
    return error as CliError;
  }
  throw new Error(`accepted ${args.join(' ')}`);
};

t.test('values come with their types, units and defaults', (t) => {
  const { values, positionals } = parseFlags(SHAPE, [
    'x',
    '--size',
    '64KiB',
    '--wait=250ms',
    '--json',
    '--assert',
    'a',
    '--assert',
    'b',
    '--clients',
    '1_0',
  ]);
  t.same(values, {
    clients: 10,
    size: 65536,
    wait: 250e6,
    mode: 'safe',
    file: undefined,
    assert: ['a', 'b'],
    json: true,
  });
  t.same(positionals, ['x']);
  t.same(parseFlags(SHAPE, ['x', '--', '--y']).positionals, ['x', '--y']);
  t.end();
});

t.test('whatever is not in the table is refused with what to do, and exit code 2', (t) => {
  const cases: [string[], string, RegExp][] = [
    [
      ['x', '--client', '3'],
      'unknown-flag',
      /--client is not a flag of "jitpaxos thing"; did you mean --clients\? see jitpaxos thing --help/,
    ],
    [['x', '--zzzzzzzz'], 'unknown-flag', /is not a flag of "jitpaxos thing"; see/],
    [['x', '--toString'], 'unknown-flag', /--toString/],
    [['x', '-c'], 'unknown-flag', /-c is not/],
    [['x', '--clients', '0'], 'flag-invalid', /whole number from 1 to 10/],
    [['x', '--clients', '-1'], 'flag-invalid', /--clients/],
    [['x', '--clients', '1.5'], 'flag-invalid', /--clients "1.5"/],
    [['x', '--clients'], 'flag-invalid', /needs a value/],
    [['x', '--wait', '5'], 'flag-invalid', /duration with a unit, like 5s/],
    [['x', '--size', '64Kib'], 'flag-invalid', /size/],
    [['x', '--mode', 'slow'], 'flag-invalid', /one of fast, safe/],
    [['x', '--file', ''], 'flag-invalid', /FILE/],
    [['x', '--json=yes'], 'flag-invalid', /takes no value/],
    [['x', '--file', 'a', '--file', 'b'], 'flag-invalid', /twice/],
    [[], 'argument-invalid', /WHAT is missing/],
    [['x', 'y', 'z'], 'argument-invalid', /"z" is one argument too many/],
  ];
  for (const [args, code, message] of cases) {
    const error = refusal(args);
    t.equal(error.code, code, args.join(' '));
    t.match(error.message, message);
    t.equal(exitCodeOf(error), Exit.usage);
    t.notMatch(lineOf(error), /\n/);
  }
  t.end();
});

t.test('help names every flag, its default and the examples', (t) => {
  const help = helpOf(SHAPE);
  for (const part of [
    'jitpaxos thing WHAT [HOW]',
    'Does a thing.',
    '--clients N',
    '(default 2)',
    '--mode fast|safe',
    '--file FILE',
    '--json',
    'jitpaxos thing x',
  ])
    t.ok(help.includes(part), part);
  t.end();
});

t.test('numbers with units', (t) => {
  t.same(
    ['5s', '200ms', '1.5 s', '10us', '10µs', '2m', '1h', '7ns'].map(parseDuration),
    [5e9, 2e8, 1.5e9, 1e4, 1e4, 12e10, 36e11, 7],
  );
  t.same(['5', 's', '-1s', '5 parsec', '1e3s', ''].map(parseDuration), new Array(6).fill(undefined));
  t.same(['64', '64B', '64KiB', '1KB', '2MiB', '1.5KiB'].map(parseSize), [64, 64, 65536, 1000, 2097152, 1536]);
  t.same(['-1', '1.5', 'KiB', '64 kib'].map(parseSize), new Array(4).fill(undefined));
  t.same(['0', '50_000', '50,000', '9007199254740993', '1e3', '-1', ''].map(parseCount), [
    0,
    50000,
    50000,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  t.same([0, 999, 1500, 98_765, 123_456, 2.5e6, 3.21e9].map(formatDuration), [
    '0 ns',
    '999 ns',
    '1.50 µs',
    '98.8 µs',
    '123 µs',
    '2.50 ms',
    '3.21 s',
  ]);
  t.equal(formatCount(1234567.4), '1,234,567');
  t.end();
});

t.test('a mix is shares that add up to one', (t) => {
  t.same(parseMix('read=50,write=50', ['read', 'write']), { read: 0.5, write: 0.5 });
  t.same(parseMix('write=3, read=1,cas=0', ['read', 'write', 'cas']), { write: 0.75, read: 0.25 });
  for (const bad of ['', 'read', 'read=', 'read=0', 'erase=1', 'read=1,read=2', 'read=-1', 'read=1;write=1'])
    t.throws(() => parseMix(bad, ['read', 'write']), { code: 'flag-invalid' }, bad);
  t.end();
});

t.test('assertions compare fields of the report, latencies with units', (t) => {
  const report = {
    latencyNs: { min: 1, p50: 100_000, p90: 2, p99: 150_000, p999: 4, max: 5, mean: 6 },
    fastPathRatio: 0.99,
    failed: 0,
    opsPerSecond: 1000,
  } as unknown as BenchReport;
  const holds = (text: string, of = report): boolean => parseAssertion(text).evaluate(of).holds;
  t.ok(
    holds('p99<151us') &&
      holds('p99 <= 0.15ms') &&
      holds('p50>99999ns') &&
      holds('fastPathRatio>=0.99') &&
      holds('failed=0') &&
      holds('opsPerSecond>999.9'),
  );
  t.notOk(holds('p99<150us') || holds('fastPathRatio>0.99') || holds('failed>0'));
  t.notOk(holds('fastPathRatio>0.1', { ...report, fastPathRatio: null }), 'what was not measured does not hold');
  for (const bad of ['p99<150', 'p99', 'speed>1', 'fastPathRatio>1us', 'p99<1h', 'p99!150us', '__proto__>1'])
    t.throws(() => parseAssertion(bad), { code: 'flag-invalid' }, bad);
  t.end();
});

t.test('errors become one line, and the exit code that their kind has', (t) => {
  t.equal(exitCodeOf(new JitPaxosError('cluster-unavailable', 'x')), Exit.unavailable);
  t.equal(exitCodeOf(new JitPaxosError('outcome-unknown', 'x')), Exit.unavailable);
  t.equal(exitCodeOf(new JitPaxosError('cluster-file-invalid', 'x')), Exit.usage);
  t.equal(exitCodeOf(new JitPaxosError('port-in-use', 'x')), Exit.failed);
  t.equal(exitCodeOf(new CliError('assertion-failed', 'x')), Exit.assertion);
  t.equal(exitCodeOf(new Error('x')), Exit.failed);
  t.equal(exitCodeOf(undefined), Exit.failed);
  t.equal(lineOf(new JitPaxosError('busy', 'a\n  b')), 'busy: a b');
  t.equal(lineOf('words'), 'failed: words');
  t.end();
});

t.test('the table shows unknown figures as unknown', (t) => {
  const latencyNs = { min: 1, p50: 2, p90: 3, p99: 4, p999: 5, max: 6, mean: 3 };
  const report: BenchReport = {
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
    seconds: 1,
    operations: 10,
    warmupOperations: 1,
    opsPerSecond: 10,
    offeredPerSecond: null,
    latencyNs,
    fastPathRatio: null,
    rejected: 0,
    reconciled: 0,
    retransmitted: 0,
    failed: 0,
    viewChanges: 0,
    cpuSeconds: { client: 0, replicas: null },
    allocatedBytesPerOp: { client: 5, primary: null, member: null },
    clock: { source: null, errorNs: null },
    baselines: [],
    ratios: {},
    host: { cpu: 'c', cores: 2, kernel: 'k', node: 'n' },
    version: '1',
  };
  t.match(tableOf(report), /durability unknown/);
  t.match(tableOf(report), /5 client, unknown primary, unknown member/);
  t.match(tableOf(report), /nothing committed/);
  t.end();
});
