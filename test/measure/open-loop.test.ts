// The open loop in virtual time, where arithmetic says what it has to measure; arrivals and keys with fixed seeds.
import t from 'tap';
import { Histogram } from '../../src/metrics/histogram.js';
import { Arrivals, type ArrivalKind } from '../../src/measure/load/arrivals.js';
import { keyChooser, ZIPF_THETA } from '../../src/measure/load/keys.js';
import { merge } from '../../src/measure/load/open-load.js';
import { OpenLoop } from '../../src/measure/load/open-loop.js';
import type { StepPart } from '../../src/measure/load/open-messages.js';
import { seededRandom } from '../../src/measure/load/random.js';

const SEED = 20_240_601;
const MS = 1e6;
const SECOND = 1e9;

function timesOf(kind: ArrivalKind, ratePerSecond: number, clients: number, seconds: number, seed = SEED): number[] {
  const times: number[] = [];
  for (let client = 0; client < clients; client++) {
    const arrivals = new Arrivals({ kind, ratePerSecond, seed, client, clients });
    for (; arrivals.nextNs < seconds * SECOND; arrivals.advance()) times.push(arrivals.nextNs);
  }
  return times.sort((a, b) => a - b);
}

function gapsOf(times: readonly number[]): number[] {
  return times.slice(1).map((time, index) => time - times[index]!);
}

t.test('even arrivals of several clients are one even grid', (t) => {
  const gaps = gapsOf(timesOf('even', 10_000, 3, 2));
  t.equal(gaps.length, 19_999);
  t.ok(Math.max(...gaps) - Math.min(...gaps) < 1, 'gaps differ by less than a nanosecond, and nothing drifts');
  t.end();
});

t.test('Poisson arrivals: exponential gaps, also of several clients together, the same for the same seed', (t) => {
  for (const clients of [1, 4]) {
    const times = timesOf('poisson', 5_000, clients, 20);
    const gaps = gapsOf(times);
    const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    // Four standard errors: of a count of 100,000 some 1.3 %, of the deviation of an exponential twice that.
    t.ok(Math.abs(times.length / 100_000 - 1) < 0.013, `${clients} clients: ${times.length} arrivals`);
    t.ok(
      Math.abs(deviation / mean - 1) < 0.026,
      `${clients} clients: the deviation of the gaps is their mean (${deviation / mean})`,
    );
    const late = gaps.filter((gap) => gap > mean).length / gaps.length;
    t.ok(Math.abs(late - Math.exp(-1)) < 0.01, `${clients} clients: 1/e of the gaps exceed their mean (${late})`);
    // Counts in windows: variance equals mean. Even arrivals would have none.
    const windows = new Float64Array(2_000);
    for (const time of times) windows[Math.floor(time / (10 * MS))]! += 1;
    const perWindow = times.length / windows.length;
    const dispersion = windows.reduce((sum, count) => sum + (count - perWindow) ** 2, 0) / windows.length / perWindow;
    t.ok(Math.abs(dispersion - 1) < 0.13, `${clients} clients: index of dispersion ${dispersion}`);
  }
  t.same(timesOf('poisson', 1_000, 2, 1), timesOf('poisson', 1_000, 2, 1));
  t.not(
    timesOf('poisson', 1_000, 1, 1)[0],
    timesOf('poisson', 1_000, 1, 1, SEED + 1)[0],
    'another seed, other arrivals',
  );
  const [one, other] = [0, 1].map(
    (client) => new Arrivals({ kind: 'poisson', ratePerSecond: 1_000, seed: SEED, client, clients: 2 }).nextNs,
  );
  t.not(one, other, 'clients do not send in step');
  t.end();
});

t.test('keys: uniform and Zipf', (t) => {
  const draws = 200_000;
  const countsOf = (distribution: 'uniform' | 'zipfian', keys: number): Float64Array => {
    const choose = keyChooser(distribution, keys);
    const random = seededRandom(SEED);
    const counts = new Float64Array(keys);
    for (let i = 0; i < draws; i++) counts[choose(random())]! += 1;
    return counts;
  };
  const uniform = countsOf('uniform', 100);
  t.ok(
    uniform.every((count) => Math.abs(count / (draws / 100) - 1) < 0.1),
    'uniform: every key within a tenth of its share',
  );
  const zipf = countsOf('zipfian', 1_000);
  let zeta = 0;
  for (let key = 1; key <= 1_000; key++) zeta += key ** -ZIPF_THETA;
  for (const key of [0, 1])
    t.ok(Math.abs(zipf[key]! / draws / ((key + 1) ** -ZIPF_THETA / zeta) - 1) < 0.05, `key ${key}: ${zipf[key]}`);
  const top = (count: number): number => zipf.slice(0, count).reduce((a, b) => a + b, 0) / draws;
  let expected = 0;
  for (let key = 1; key <= 100; key++) expected += key ** -ZIPF_THETA / zeta;
  t.ok(Math.abs(top(100) - expected) < 0.03, `the hottest tenth gets ${top(100)}, ${expected} by the formula`);
  for (const keys of [1, 2, 3])
    t.ok(
      countsOf('zipfian', keys).every((count) => count > 0),
      `${keys} keys`,
    );
  t.equal(keyChooser('zipfian', 1_000)(1 - 2 ** -32), 999, 'the last key can be drawn, and none behind it');
  t.end();
});

/** A server that needs `serviceNs`, and does nothing while it stalls: the last 100 ms of every second. */
function stallingServer(startNs: number, serviceNs: number): number {
  const done = startNs + serviceNs;
  const inSecond = done % SECOND;
  return inSecond < 900 * MS ? done : done - inSecond + SECOND + serviceNs;
}

/** Runs the loop against a server of independent answers, event by event. */
function simulate(
  lanes: number,
  ratePerSecond: number,
  seconds: number,
  answerAt: (sentNs: number) => number,
  warmupSeconds = 0,
): OpenLoop {
  const open: { lane: number; at: number }[] = [];
  let now = 0;
  const arrivals = new Arrivals({ kind: 'even', ratePerSecond, seed: SEED, client: 0, clients: 1 });
  const loop = new OpenLoop(lanes, (lane) => void open.push({ lane, at: answerAt(now) }), arrivals, {
    measureFromNs: warmupSeconds * SECOND,
    endNs: seconds * SECOND,
  });
  let next = loop.pump(0);
  for (let events = 0; next < Infinity || open.length > 0; events++) {
    if (events > 1e6) throw new RangeError('the simulation does not end');
    open.sort((a, b) => a.at - b.at);
    if (open.length > 0 && open[0]!.at <= next) {
      const { lane, at } = open.shift()!;
      now = at;
      loop.completed(lane, true, now);
      if (loop.isBlocked) next = loop.pump(now);
    } else {
      now = Math.max(now, next);
      next = loop.pump(now);
    }
  }
  loop.finish();
  return loop;
}

t.test('known truth: a server that stalls 100 ms every second gives the percentiles that arithmetic predicts', (t) => {
  // 1,000 arrivals a second: of each second's, 100 find a stall and wait from 100 ms down to 0, the others take 0.1 ms.
  const near = (found: number, wanted: number, what: string): void =>
    void t.ok(
      Math.abs(found - wanted) <= 0.012 * wanted + 1.2 * MS * (wanted > MS ? 1 : 0),
      `${what}: ${found / MS} ms, predicted ${wanted / MS}`,
    );
  // With few lanes the stall fills them all, and arrivals wait outside: that changes nothing for those who wait.
  for (const lanes of [1_000, 8]) {
    const loop = simulate(lanes, 1_000, 10, (sent) => stallingServer(sent, 0.1 * MS));
    t.match(loop.counts, { offered: 10_000, sent: loop.counts.sent, failed: 0 });
    t.equal(loop.latency.count, 10_000, 'every arrival is in the histogram');
    near(loop.latency.quantile(0.5), 0.1 * MS, `${lanes} lanes, p50`);
    near(loop.latency.quantile(0.895), 0.1 * MS, `${lanes} lanes, p89.5`);
    near(loop.latency.quantile(0.95), 50 * MS, `${lanes} lanes, p95`);
    near(loop.latency.quantile(0.99), 90 * MS, `${lanes} lanes, p99`);
    near(loop.latency.max, 100 * MS, `${lanes} lanes, max`);
  }
  // What a closed loop, or latencies from the moment of sending, would say with one lane: nine in a thousand noticed
  // nothing.
  const one = simulate(1, 1_000, 10, (sent) => stallingServer(sent, 0.1 * MS));
  t.ok(one.service.quantile(0.99) < 0.2 * MS, 'from the actual send, one lane, p99 hides the stalls');
  t.ok(one.latency.quantile(0.99) > 80 * MS, 'from the intended time it does not');
  t.ok(one.counts.queued > 900, `${one.counts.queued} found the lane in use`);
  t.ok(one.pacing.max < 1, 'and none of that is called the lateness of the client');
  t.end();
});

t.test('a server that is too slow: what was never sent is counted, with the time it had waited', (t) => {
  const loop = simulate(1, 1_000, 2, (sent) => sent + 10 * MS, 1);
  const { offered, sent, succeeded, unsent, completedInWindow } = loop.counts;
  t.equal(offered, 1_000);
  t.equal(succeeded + unsent, offered);
  t.equal(sent, succeeded);
  t.ok(unsent > 800, `${unsent} never sent`);
  t.ok(
    Math.abs(completedInWindow - 100) <= 1,
    `${completedInWindow} completed in the second that was measured, though sent for the warm-up`,
  );
  t.equal(loop.latency.count, offered);
  t.end();
});

t.test('failed operations, a late client, and a window cut short', (t) => {
  const arrivals = new Arrivals({ kind: 'even', ratePerSecond: 1_000, seed: 1, client: 0, clients: 1 });
  const sent: number[] = [];
  const loop = new OpenLoop(4, (lane) => void sent.push(lane), arrivals, { measureFromNs: 0, endNs: SECOND });
  t.equal(loop.pump(0), MS);
  t.equal(loop.pump(2.5 * MS), 3 * MS, 'two are due, and sent together');
  t.equal(sent.length, 3);
  t.equal(loop.pacing.max, 1.5 * MS, 'the client was 1.5 ms late for the first of them');
  loop.completed(sent[0]!, false, 4 * MS);
  t.match(loop.counts, { failed: 1, succeeded: 0 });
  t.equal(loop.latency.max, 4 * MS, 'a failure counts with its time');
  t.equal(loop.service.count, 0, 'and has no service time');
  t.equal(loop.pump(10 * MS), Infinity, 'no lane is free');
  t.ok(loop.isBlocked);
  loop.cutShort(10 * MS);
  for (const lane of sent.slice(1)) loop.completed(lane, true, 10.5 * MS);
  loop.finish();
  t.equal(loop.endNs, 10 * MS);
  t.equal(loop.measuredSeconds, 0.01);
  t.match(loop.counts, { offered: 10, succeeded: 4, failed: 1, unsent: 5 });
  t.equal(loop.latency.count, 10);
  t.equal(loop.pump(20 * MS), Infinity, 'nothing is sent afterwards');
  t.end();
});

t.test('a burst is sent in portions, so that answers are handled in between', (t) => {
  const arrivals = new Arrivals({ kind: 'even', ratePerSecond: 1e6, seed: 1, client: 0, clients: 1 });
  let sent = 0;
  const loop = new OpenLoop(1_000, () => (sent += 1), arrivals, { measureFromNs: 0, endNs: SECOND });
  const next = loop.pump(200_000);
  t.ok(sent > 0 && sent < 200, `${sent} of 200 that are due`);
  t.ok(next <= 200_000, 'and the next turn is due at once');
  t.end();
});

t.test('the parts of several client processes are one result', (t) => {
  const part = (values: readonly number[], seconds: number): StepPart => {
    const histogram = new Histogram();
    for (const value of values) histogram.record(value);
    const counts = {
      offered: values.length,
      sent: values.length,
      succeeded: values.length,
      failed: 0,
      unsent: 0,
      queued: 1,
      completedInWindow: values.length,
    };
    const client = {
      committed: 5,
      fast: 4,
      ordered: 0,
      rejected: 2,
      restamped: 0,
      reconciled: 0,
      retransmitted: 1,
      failed: 0,
      viewChanges: 1,
    };
    return {
      transport: 'dgram',
      idle: 'block',
      counts,
      client,
      rejectedByReason: { late: 2 },
      errors: {},
      latency: histogram.toData(),
      service: histogram.toData(),
      pacing: new Histogram().toData(),
      seconds,
      cpuSeconds: seconds / 2,
      heap: { allocatedBytes: 10, collections: 1 },
      historyError: null,
    };
  };
  const merged = merge([part([1_000, 2_000], 2), part([3_000, 900_000], 2)]);
  t.equal(merged.latency.count, 4);
  t.equal(merged.latency.max, 900_000);
  t.ok(
    merged.latency.quantile(0.5) >= 2_000 && merged.latency.quantile(0.5) < 2_020,
    'the median of all, not a mean of medians',
  );
  t.match(merged, { seconds: 2, clientCpuSeconds: [1, 1], clientAllocatedBytes: 20, rejectedByReason: { late: 4 } });
  t.match(merged.counts, { offered: 4, queued: 2 });
  t.match(merged.client, { committed: 10, viewChanges: 1 }, 'both saw the same view change');
  t.equal(merge([part([1], 1), { ...part([1], 1), heap: null, historyError: 'ENOSPC' }]).historyError, 'ENOSPC');
  t.end();
});
