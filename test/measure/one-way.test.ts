// What is reported of one-way delays, and what is said where the clocks do not allow to tell them.
import t from 'tap';
import type { OneWaySample } from '../../src/client/time-questions.js';
import { ONE_WAY_TAG, isReported } from '../../src/measure/hlog/log-format.js';
import type { OneWayFigures } from '../../src/measure/oneway/figures.js';
import { OneWayRecorder } from '../../src/measure/oneway/second.js';
import { oneWayTags } from '../../src/measure/oneway/tags.js';
import { ONE_WAY_INTERVALS_MAX, OneWayTally } from '../../src/measure/oneway/tally.js';
import { oneWayNotes, oneWayRow } from '../../src/measure/oneway/text.js';

const US = 1_000;

function sample(
  requestUs: number,
  replyUs: number,
  boundUs: number | null,
  more: Partial<OneWaySample> = {},
): OneWaySample {
  return {
    requestNs: requestUs * US,
    replicaNs: 5 * US,
    replyNs: replyUs * US,
    boundNs: boundUs === null ? null : boundUs * US,
    doubt: boundUs === null ? 'replica-clock' : null,
    ...more,
  };
}

/** A run of one second with these answers of replica 1. */
function figuresOf(...samples: OneWaySample[]): OneWayFigures {
  const recorder = new OneWayRecorder();
  for (const each of samples) {
    recorder.asked(1, 1);
    recorder.answered(1, each, 1);
  }
  const tally = new OneWayTally(1);
  tally.add(0, { second: 100, fromMs: 0, toMs: 0, tags: {}, oneWay: recorder.take() });
  return tally.report(0)!.replicas[0]!;
}

t.test('ways are told with their bound', (t) => {
  const figures = figuresOf(sample(150, 50, 60), sample(150, 50, 40), sample(150, 50, 50));
  t.match(figures, { replica: 1, asked: 3, answered: 3, boundNs: 60 * US, says: null, longerRequestNs: null });
  t.ok(Math.abs(figures.requestNs!.p50! - 150 * US) <= 150 * US * 0.008);
  t.ok(Math.abs(figures.replyNs!.p50! - 50 * US) <= 50 * US * 0.008);
  t.match(oneWayRow(figures), ['1', /^150/, /^150/, /^5/, /^5/, /^50/, /^50/, /^200/, /^±60/, '3 of 3']);
  t.same(oneWayNotes([figures]), [], 'the difference of 100 µs may be the clocks');
  t.end();
});

t.test('a path is called asymmetric only as far as the clocks allow', (t) => {
  const [there, back] = [figuresOf(sample(350, 50, 60)), figuresOf(sample(50, 350, 60))];
  t.match(oneWayNotes([there]), [/^Replica 1: the request way is longer than the reply way by at least 180 µs/]);
  t.match(oneWayNotes([back]), [/^Replica 1: the reply way is longer than the request way by at least 180 µs/]);
  t.ok(there.longerRequestNs! > 0 && back.longerRequestNs! < 0);
  t.end();
});

t.test('where the clocks do not tell the ways apart there is a sentence and no figure', (t) => {
  for (const [samples, says] of [
    [[sample(150, 50, null)], /^nothing states the error of the replica's clock$/],
    [
      [sample(150, 50, 10), sample(150, 50, null, { doubt: 'own-clock' })],
      /^nothing states the error of this host's clock$/,
    ],
    [[sample(150, 50, null, { doubt: 'epochs' })], /^the two clocks do not count from the same zero$/],
    [[sample(150, 50, 100)], /^the clocks may be ±100 µs apart, as much as the ways take$/],
    [[sample(250, -50, 30)], /^the clocks are at least 20\.0 µs further apart than the ±30\.0 µs that they state$/],
    [[sample(-50, 250, 30)], /^the clocks are at least 20\.0 µs further apart/],
  ] as const) {
    const figures = figuresOf(...samples);
    t.match(figures.says, says);
    t.match(figures, { requestNs: null, replyNs: null, longerRequestNs: null });
    t.ok(figures.bothWaysNs.p50! >= 199 * US, 'what both take is known all the same');
    t.match(oneWayNotes([figures]), [/^Replica 1: request way and reply way are not told apart: /]);
    t.equal(oneWayRow(figures)[1], '–');
  }
  const recorder = new OneWayRecorder();
  recorder.asked(1, 1);
  const tally = new OneWayTally(1);
  tally.add(0, { second: 100, fromMs: 0, toMs: 0, tags: {}, oneWay: recorder.take() });
  t.match(tally.report(0)!.replicas, [{ asked: 1, answered: 0, says: 'no answer came', boundNs: null }]);
  t.end();
});

t.test('seconds of several client processes are added, steps of a ramp are not', (t) => {
  const recorders = [new OneWayRecorder(), new OneWayRecorder()];
  const tally = new OneWayTally(2);
  t.equal(tally.report(0), undefined);
  for (const step of [0, 1]) {
    tally.step();
    for (let second = 0; second < 3; second++)
      recorders.forEach((recorder, client) => {
        for (const replica of [2, 0]) {
          recorder.asked(replica, 1);
          recorder.answered(replica, sample(100 + client, 100, step === 0 ? 10 : null), 1);
        }
        tally.add(client, { second: 10 * step + second, fromMs: 0, toMs: 0, tags: {}, oneWay: recorder.take() });
      });
  }
  t.equal(tally.everyMs, 40, 'two processes ask as often as one would');
  const [first, second] = [tally.report(0)!, tally.report(1)!];
  t.match(first, {
    askedPerSecond: 50,
    replicas: [
      { replica: 0, answered: 6, says: null },
      { replica: 2, answered: 6 },
    ],
    intervalsLeftOut: 0,
  });
  t.same(
    first.intervals.map((interval) => [interval.second, interval.replicas.map(({ answered }) => answered)]),
    [
      [0, [2, 2]],
      [1, [2, 2]],
      [2, [2, 2]],
    ],
  );
  t.equal(second.replicas[0]!.says !== null, true);
  t.same(
    second.intervals.map((interval) => interval.second),
    [10, 11, 12],
  );
  t.end();
});

t.test('a report has seconds up to a bound, and says how many are left out', (t) => {
  const tally = new OneWayTally(1);
  for (let second = 0; second < ONE_WAY_INTERVALS_MAX + 7; second++)
    tally.add(0, { second, fromMs: 0, toMs: 0, tags: {}, oneWay: [] });
  t.match(tally.report(0), { intervals: { length: ONE_WAY_INTERVALS_MAX }, intervalsLeftOut: 7 });
  t.end();
});

t.test('in a histogram log they have tags that are no latencies, and ways only where these are told apart', (t) => {
  const recorder = new OneWayRecorder();
  recorder.asked(0, 1);
  recorder.answered(0, sample(100, 100, 10), 1);
  recorder.asked(3, 1);
  recorder.answered(3, sample(100, 100, null), 1);
  recorder.asked(4, 1);
  const tags = oneWayTags(recorder.take());
  t.same(Object.keys(tags).sort(), [
    'oneway-r0-both',
    'oneway-r0-replica',
    'oneway-r0-reply',
    'oneway-r0-request',
    'oneway-r3-both',
    'oneway-r3-replica',
  ]);
  for (const tag of Object.keys(tags)) {
    t.ok(tag.startsWith(ONE_WAY_TAG));
    for (const latencyOf of ['ok', 'all'] as const) t.notOk(isReported(tag, latencyOf));
  }
  t.end();
});

t.test('an answer counts in the measurement in which its question was asked', (t) => {
  const recorder = new OneWayRecorder();
  recorder.asked(0, 1);
  recorder.asked(0, 2);
  recorder.answered(0, sample(100, 100, 10), 1);
  recorder.begin();
  recorder.answered(0, sample(100, 100, 10), 2);
  t.same(recorder.take(), [], 'it came too late for the time before, and belongs to no measurement');
  recorder.asked(0, 3);
  recorder.answered(0, sample(100, 100, 10), 3);
  t.match(recorder.take(), [{ replica: 0, asked: 1, answered: 1 }]);
  t.end();
});
