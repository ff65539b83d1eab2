// One-way delays in results, logs and pages: kept by run and replica, never added, and checked when they come from a file.
import t from 'tap';
import { checkedOneWay } from '../../src/measure/oneway/checked.js';
import type { OneWayFigures } from '../../src/measure/oneway/figures.js';
import { OneWayRecorder } from '../../src/measure/oneway/second.js';
import { OneWayTally } from '../../src/measure/oneway/tally.js';
import { oneWaySection } from '../../src/measure/report/one-way-section.js';

function figures(boundNs: number | null): OneWayFigures {
  const recorder = new OneWayRecorder();
  recorder.asked(4, 1);
  recorder.answered(
    4,
    {
      requestNs: 120_000,
      replicaNs: 5_000,
      replyNs: 90_000,
      boundNs,
      doubt: boundNs === null ? 'own-clock' : null,
    },
    1,
  );
  const tally = new OneWayTally(1);
  tally.add(0, { second: 1, fromMs: 0, toMs: 0, tags: {}, oneWay: recorder.take() });
  return tally.report(0)!.replicas[0]!;
}

t.test('figures go through a file and stay as they are', (t) => {
  for (const each of [figures(20_000), figures(0), figures(null)])
    t.same(checkedOneWay(JSON.parse(JSON.stringify([each]))), [each]);
  const recorder = new OneWayRecorder();
  recorder.asked(0, 1);
  const tally = new OneWayTally(1);
  tally.add(0, { second: 1, fromMs: 0, toMs: 0, tags: {}, oneWay: recorder.take() });
  const silent = tally.report(0)!.replicas;
  t.same(checkedOneWay(JSON.parse(JSON.stringify(silent))), silent, 'of a replica that gave no answer');
  t.end();
});

t.test('figures that are none are refused', (t) => {
  const good = figures(20_000);
  for (const bad of [
    null,
    {},
    [null],
    [{}],
    new Array(40).fill(good),
    [{ ...good, replica: '<b>' }],
    [{ ...good, answered: -1 }],
    [{ ...good, boundNs: null }],
    [{ ...good, requestNs: null }],
    [{ ...good, requestNs: { ...good.requestNs, p50: null } }],
    [{ ...good, bothWaysNs: { ...good.bothWaysNs, p50: '<b>' } }],
    [{ ...good, says: 'x'.repeat(1_000), requestNs: null, replyNs: null }],
    [{ ...good, says: 'why' }],
  ])
    t.throws(() => checkedOneWay(bad), /its one-way delays are not such/, JSON.stringify(bad)?.slice(0, 80));
  const [shown] = checkedOneWay([{ ...figures(null), says: 'a\u001b[31m\nb' }]);
  t.notMatch(shown!.says, /[\u001b\n]/);
  t.end();
});

t.test('the page has a whisker of the bound, and where the ways are not told apart none, but a sentence', (t) => {
  const told = oneWaySection([figures(20_000)]);
  t.match(told, /class="whisker"/);
  t.match(told, /request way: p50 12\d µs ±20\.0 µs/);
  t.notMatch(told, /not told apart/);
  const same = oneWaySection([figures(0)], ', host <a>');
  t.notMatch(same, /class="whisker"/, 'clocks that are not apart');
  t.match(same, /One-way delays, host &lt;a&gt;/);
  const untold = oneWaySection([{ ...figures(null), says: 'nothing <i>states</i> it' }]);
  t.notMatch(untold, /class="whisker"|class="bar a"/);
  t.match(untold, /both ways: p50/);
  t.match(untold, /not told apart: nothing &lt;i&gt;states/);
  t.end();
});
