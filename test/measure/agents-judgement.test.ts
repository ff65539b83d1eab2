// What an agent carries out, and which clocks a coordinator believes.
import t from 'tap';
import { judgeClocks } from '../../src/measure/agents/clock-agreement.js';
import type { StatedClock } from '../../src/measure/agents/control-messages.js';
import { checkedOrder, onlyReads, type LoadOrder } from '../../src/measure/agents/load-order.js';

const ORDER: LoadOrder = {
  run: '0123456789abcdef',
  commandLine: 'jitpaxos bench load',
  ratePerSecond: 12.5,
  durationNs: 1e9,
  warmupNs: 0,
  arrivals: 'poisson',
  seed: 1,
  clients: 2,
  lanes: 512,
  pacing: 'sleep',
  machine: 'kv',
  mix: { read: 0.25, cas: 0.75 },
  opBytes: 16,
  opBytesMax: 64,
  keys: 1000,
  distribution: 'zipfian',
  timeoutNs: 5e9,
};

t.test('an order passes if every field is within its bounds, and has no other fields', (t) => {
  t.same(checkedOrder(ORDER), ORDER);
  t.same(checkedOrder({ ...ORDER, cluster: '/etc/passwd', hlog: '/tmp/x', exec: 'x' }), ORDER);
  t.equal(onlyReads(ORDER), false);
  t.equal(onlyReads({ mix: { read: 1 } }), true);
  t.end();
});

t.test('anything else is refused, and the field is named', (t) => {
  const wrong: [keyof LoadOrder, readonly unknown[]][] = [
    ['run', ['', '../../x', 7, undefined]],
    ['commandLine', ['x'.repeat(2_001), 7]],
    ['ratePerSecond', [0, 0.1, -1, 1e9, NaN, Infinity, '5k']],
    ['durationNs', [0, 1e15]],
    ['warmupNs', [-1, 1e15]],
    ['arrivals', ['bursts', null]],
    ['seed', [-1, 2 ** 31, 1.5]],
    ['clients', [0, 257, 1.5, '2']],
    ['lanes', [0, 4097]],
    ['pacing', ['wait']],
    ['machine', ['counter', '__proto__']],
    ['mix', [{}, { read: 0.5 }, { incr: 1 }, { read: 1, cas: 1 }, { read: -1, cas: 2 }, [1], null, 'read']],
    ['opBytes', [-1, 65, 1e6]],
    ['opBytesMax', [15, 1e6]],
    ['keys', [0, 1e7]],
    ['distribution', ['normal']],
    ['timeoutNs', [0, 1e15]],
  ];
  t.same(
    wrong.map(([name]) => name),
    Object.keys(ORDER),
    'every field is tried',
  );
  for (const [name, values] of wrong)
    for (const value of values)
      t.throws(() => checkedOrder({ ...ORDER, [name]: value }), { code: 'flag-invalid' }, `${name}: ${String(value)}`);
  for (const value of [null, undefined, [], 'x', 7]) t.throws(() => checkedOrder(value), { code: 'flag-invalid' });
  t.end();
});

const bounded = (errorNs: number): StatedClock => ({ status: 'synchronized', errorNs, found: '' });
const UNKNOWN: StatedClock = { status: 'free-running', errorNs: null, found: '' };
const at = (stated: StatedClock, offsetNs: number, uncertaintyNs = 100_000) => ({
  stated,
  offset: { offsetNs, uncertaintyNs },
});
const trusts = (...args: Parameters<typeof judgeClocks>) => judgeClocks(...args).agents.map(({ trust }) => trust);

t.test('clocks are believed within their bounds, and no further', (t) => {
  const own = bounded(10_000);
  t.same(trusts(own, [at(bounded(20_000), 129_000), at(bounded(20_000), -129_000)]), ['good', 'good']);
  t.same(trusts(own, [at(bounded(20_000), 131_000), at(bounded(20_000), -131_000)]), ['wrong', 'wrong']);
  const { agents, ownAheadNs } = judgeClocks(own, [at(bounded(20_000), 5e9), at(UNKNOWN, 90_000), at(UNKNOWN, -3e6)]);
  t.equal(ownAheadNs, 0);
  t.match(agents, [
    { trust: 'wrong', aheadNs: 5e9, remark: /its clock is wrong: it states ±20\.0 µs; measured \+5\.00 s ± 100 µs/ },
    { trust: 'unknown', aheadNs: 0, remark: /nothing states/ },
    { trust: 'unknown', aheadNs: -3e6, remark: /measured −3\.00 ms/ },
  ]);
  t.equal(judgeClocks(own, [at(bounded(20_000), 0)]).agents[0]!.remark, undefined);
  t.same(
    trusts(own, [at({ ...bounded(1_000), status: 'free-running' }, 0)]),
    ['unknown'],
    'the bound of a clock that nothing disciplines says nothing',
  );
  t.end();
});

t.test('a coordinator whose own clock is off follows the clocks with bounds', (t) => {
  const { agents, own, ownAheadNs } = judgeClocks(UNKNOWN, [
    at(bounded(20_000), 7e9),
    at(bounded(30_000), 7e9 + 50_000),
  ]);
  t.same(
    agents.map(({ trust }) => trust),
    ['good', 'good'],
  );
  t.equal(own.trust, 'unknown');
  t.equal(ownAheadNs, -7e9, 'it is behind');
  t.same(
    trusts(bounded(1_000), [at(bounded(20_000), 7e9), at(bounded(30_000), 7e9)]),
    ['good', 'good'],
    'also if it states a smaller bound: two outvote one',
  );
  t.end();
});

t.test('without any bound, the clock of the coordinator is the reference', (t) => {
  const { agents, own } = judgeClocks(UNKNOWN, [at(UNKNOWN, 50_000), at(UNKNOWN, 4e9)]);
  t.match(own, { trust: 'unknown', aheadNs: 0 });
  t.same(
    agents.map(({ trust, aheadNs }) => [trust, aheadNs]),
    [
      ['unknown', 0],
      ['unknown', 4e9],
    ],
    'a difference that does not show is not corrected',
  );
  t.end();
});
