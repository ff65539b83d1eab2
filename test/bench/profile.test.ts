// `npm run bench:profile`: how samples are counted, and a tiny run, so that it cannot rot. What was measured is not
// judged.
import t from 'tap';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  POLL_PHASE,
  readProfile,
  type CallFrame,
  type CpuProfile,
  type Frame,
} from '../../bench/profile/cpu-profile.js';
import { flameGraph } from '../../bench/profile/flame.js';
import { FrameNames } from '../../bench/profile/frame-names.js';
import { runNode } from '../cluster/processes.js';

const program = fileURLToPath(new URL('../../bench/profile.js', import.meta.url));
const frame = (functionName: string, url = '', lineNumber = -1): CallFrame => ({
  functionName,
  url,
  lineNumber,
  columnNumber: url === '' ? -1 : 0,
});
const names = new FrameNames();

/** `a` calls `b` at two places, and itself; samples every 100 µs from 1,000 µs on. */
const PROFILE: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame('(root)'), children: [2, 3, 4, 8] },
    { id: 2, callFrame: frame('(idle)') },
    { id: 3, callFrame: frame('(garbage collector)') },
    { id: 4, callFrame: frame('a', 'node:a', 9), children: [5, 6] },
    { id: 5, callFrame: frame('b', 'node:b', 19) },
    { id: 6, callFrame: frame('a', 'node:a', 9), children: [7] },
    { id: 7, callFrame: frame('b', 'node:b', 19) },
    { id: 8, callFrame: frame('(program)') },
  ],
  startTime: 900,
  samples: [5, 5, 4, 2, 2, 5, 7, 6, 3, 8, 5],
  timeDeltas: Array.from({ length: 11 }, () => 100),
};
const ALL = { startedNs: 0, endedNs: 1e9 };

t.test('samples are merged by function, without the idle ones', (t) => {
  const { busy, idle, functions, root } = readProfile(PROFILE, ALL, null, names.nameOf);
  t.same([busy, idle], [9, 2]);
  t.same(
    functions.map(({ name, place, self }) => [name, place, self]),
    [
      ['b', 'node:b:20', 5],
      ['a', 'node:a:10', 2],
      ['garbage collection', 'V8', 1],
      ['native code outside functions', 'event loop, kernel, V8', 1],
    ],
  );
  const a = root.callees.get('a node:a:10')!;
  t.same(
    [a.total, a.self, [...a.callees.values()].map(({ name, total }) => [name, total])],
    [
      7,
      1,
      [
        ['b', 4],
        ['a', 2],
      ],
    ],
  );
  t.equal(
    [...root.callees.values()].reduce((sum, callee) => sum + callee.total, 0),
    root.total,
    'the parts make the whole',
  );
  t.end();
});

t.test('what was sampled outside the span does not count', (t) => {
  const { busy, idle } = readProfile(PROFILE, { startedNs: 1_100e3, endedNs: 1_300e3 }, null, names.nameOf);
  t.same([busy, idle], [2, 1], 'samples at 1,100, 1,200 and 1,300 µs');
  t.same(readProfile(PROFILE, { startedNs: 1e9, endedNs: 2e9 }, 1, names.nameOf), {
    busy: 0,
    idle: 0,
    root: readProfile({ ...PROFILE, samples: [] }, ALL, 1, names.nameOf).root,
    functions: [],
  });
  t.end();
});

t.test('processor time that no sample shows is the poll phase, as far as V8 took samples for idle', (t) => {
  const polling = (cpuSeconds: number): number =>
    readProfile(PROFILE, ALL, cpuSeconds, names.nameOf).functions.find(({ name }) => name === POLL_PHASE.name)?.self ??
    0;
  t.equal(polling(900e-6), 0, 'nine samples of 100 µs are all of it');
  t.equal(polling(1_000e-6), 1);
  t.equal(polling(5_000e-6), 2, 'no more than were idle');
  t.equal(polling(100e-6), 0);
  t.equal(readProfile(PROFILE, ALL, 1_000e-6, names.nameOf).busy, 10);
  t.end();
});

t.test('functions are named by the file and line of the source', (t) => {
  const url = new URL('../../src/protocol/views.js', import.meta.url);
  const line = readFileSync(url, 'utf8')
    .split('\n')
    .findIndex((text) => text.includes('memberMask(view) {'));
  const source = readFileSync(new URL('../../../src/protocol/views.ts', import.meta.url), 'utf8')
    .split('\n')
    .findIndex((text) => text.includes('memberMask(view: number)'));
  t.same(names.nameOf({ functionName: 'memberMask', url: url.href, lineNumber: line, columnNumber: 14 }), {
    name: 'memberMask',
    place: `src/protocol/views.ts:${source + 1}`,
    kind: 'ours',
  });
  t.same(names.nameOf(frame('', 'file:///elsewhere/x.js', 3)).kind, 'node');
  t.same(names.nameOf(frame('writev')), { name: 'writev', place: 'native', kind: 'native' });
  t.end();
});

t.test('the graph leaves out what could not be seen, and escapes what it shows', (t) => {
  const made = (name: string, total: number, callees: Frame[] = []): Frame => ({
    name,
    place: '',
    kind: 'ours',
    total,
    self: 0,
    callees: new Map(callees.map((callee) => [callee.name, callee])),
  });
  const html = flameGraph(
    made('all', 10_000, [made('<b>', 9_990, [made('inner', 5_000)]), made('tiny', 10)]),
    'a graph',
    ({ name }, share) => `${name} ${share}`,
  );
  t.match(html, 'left:0%;width:99.9%;top:0px" title="&lt;b&gt; 0.999">&lt;b&gt;</div>');
  t.match(html, 'left:0%;width:50%;top:19px');
  t.notMatch(html, /tiny|<b>/);
  t.match(
    flameGraph(made('all', 0), '', () => ''),
    /Not one sample/,
  );
  t.end();
});

t.test('a run has a profile of every role, in text, JSON and one file', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const page = join(directory, 'profile.html');
  const tiny = ['--seconds', '300ms', '--warmup', '100ms', '--open', '32', '--quiet'];
  const { code, stdout, stderr } = await runNode([
    program,
    ...tiny,
    '--transport',
    'dgram',
    '--json',
    '--report',
    page,
  ]);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as {
    schema: string;
    transport: string;
    operations: number;
    processes: { role: string; samples: number; functions: { place: string; share: number }[] }[];
  };
  t.match(result, { schema: 'jitpaxos.profile/1', transport: 'dgram' });
  t.ok(result.operations > 0);
  t.same(
    result.processes.map(({ role }) => role),
    ['primary', 'member', 'spare', 'client'],
  );
  const primary = result.processes.find(({ role }) => role === 'primary')!;
  t.ok(primary.samples > 0);
  t.ok(primary.functions.length > 0 && primary.functions.length <= 10);
  t.ok(primary.functions.reduce((sum, { share }) => sum + share, 0) < 1.0001);
  t.ok(
    result.processes.some(({ functions }) => functions.some(({ place }) => /^src\/\S+\.ts:\d+$/.test(place))),
    'places in the source',
  );
  const html = readFileSync(page, 'utf8');
  t.equal((html.match(/class="flame"/g) ?? []).length, result.processes.filter(({ samples }) => samples > 0).length);
  t.notMatch(html, /<script|src=|href=|url\(/, 'it needs nothing else');
  const text = await runNode([program, ...tiny]);
  t.equal(text.code, 0, text.stderr);
  for (const role of ['primary', 'member', 'spare', 'client'])
    t.match(text.stdout, new RegExp(`^${role}: .* an operation`, 'm'));
});

t.test('help, and what it refuses', async (t) => {
  const help = await runNode([program, '--help']);
  t.match(help.stdout, /--report FILE/);
  const refused = await runNode([program, '--report', join(tmpdir(), 'no-such-directory', 'x.html')]);
  t.same([refused.code, /^flag-invalid: --report/.test(refused.stderr)], [2, true]);
});
