// One-way delays in a client's metrics: what is told apart, what is counted instead, and a client that really asks.
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { OneWayMetrics } from '../../src/client/one-way-metrics.js';
import type { OneWaySample } from '../../src/client/time-questions.js';
import { silentLogger } from '../../src/host/logger.js';
import { EchoMachine } from '../../src/machine/echo.js';
import type { Family } from '../../src/metrics/exposition.js';
import { Replica } from '../../src/server/replica.js';
import { clusterConfig } from '../server/fixtures.js';

const SAMPLE: OneWaySample = { requestNs: 40_000, replicaNs: 8_000, replyNs: 60_000, boundNs: 1_000, doubt: null };

interface Shown {
  readonly count: number;
  readonly sum: number;
}

function histogramOf(families: readonly Family[], name: string, labels: Record<string, string>): Shown | undefined {
  const family = families.find((one) => one.name === `jitpaxos_client_${name}`);
  if (family?.kind !== 'histogram') throw new Error(`${name} is no histogram`);
  const sample = family.samples.find((one) =>
    Object.entries(labels).every(([label, value]) => one.labels?.[label] === value),
  );
  return sample && { count: sample.counts.reduce((sum, count) => sum + count, 0), sum: sample.sum };
}

function leftOut(families: readonly Family[]): Record<string, number> {
  const family = families.find((one) => one.name === 'jitpaxos_client_one_way_left_out_total');
  if (family?.kind !== 'counter') throw new Error('there is no such counter');
  return Object.fromEntries(
    family.samples.filter(({ value }) => value > 0).map(({ labels, value }) => [labels!['reason']!, value]),
  );
}

t.test('ways are told apart where the clocks allow it', (t) => {
  const metrics = new OneWayMetrics();
  metrics.asked(2, 1);
  metrics.answered(2, SAMPLE);
  const families = metrics.families();
  const part = (name: string): Shown | undefined =>
    histogramOf(families, 'one_way_seconds', { replica: '2', part: name });
  t.match(part('request'), { count: 1, sum: 40e-6 });
  t.match(part('replica'), { count: 1, sum: 8e-6 });
  t.match(part('reply'), { count: 1, sum: 60e-6 });
  t.match(part('both'), { count: 1, sum: 100e-6 });
  t.match(histogramOf(families, 'one_way_bound_seconds', { replica: '2' }), { count: 1, sum: 1e-6 });
  t.same(leftOut(families), {});
  t.end();
});

t.test('otherwise they are counted by the reason, and what both take is kept', (t) => {
  const metrics = new OneWayMetrics();
  metrics.asked(0, 1);
  for (const doubt of ['own-clock', 'replica-clock', 'epochs'] as const)
    metrics.answered(0, { ...SAMPLE, boundNs: null, doubt });
  metrics.answered(0, { ...SAMPLE, boundNs: 50_000 });
  metrics.answered(0, { ...SAMPLE, requestNs: 110_000, replyNs: -10_000 });
  const families = metrics.families();
  t.match(histogramOf(families, 'one_way_seconds', { part: 'request' }), { count: 0, sum: 0 });
  t.match(histogramOf(families, 'one_way_seconds', { part: 'reply' }), { count: 0, sum: 0 });
  t.match(histogramOf(families, 'one_way_seconds', { part: 'both' }), { count: 5 });
  t.match(histogramOf(families, 'one_way_bound_seconds', { replica: '0' }), { count: 2 });
  t.same(leftOut(families), { 'own-clock': 1, 'replica-clock': 1, epochs: 1, 'too-wide': 1, contradicted: 1 });
  t.end();
});

t.test('a way that the clocks make shorter than nothing, within their bound, is nothing', (t) => {
  const metrics = new OneWayMetrics();
  metrics.asked(0, 1);
  metrics.answered(0, { ...SAMPLE, requestNs: -500, replyNs: 100_500 });
  t.match(histogramOf(metrics.families(), 'one_way_seconds', { part: 'request' }), { count: 1, sum: 0 });
  t.end();
});

t.test('a replica that is not asked any more goes', (t) => {
  const metrics = new OneWayMetrics();
  metrics.asked(0, 1);
  for (let number = 1; number <= 1_002; number++) metrics.asked(1, number);
  t.equal(histogramOf(metrics.families(), 'one_way_seconds', { replica: '0' }), undefined);
  metrics.answered(7, SAMPLE);
  t.equal(histogramOf(metrics.families(), 'one_way_seconds', { replica: '7' }), undefined, 'nor one that never was');
  t.ok(histogramOf(metrics.families(), 'one_way_seconds', { replica: '1' }));
  t.end();
});

t.test('a client asks only if it is told to', async (t) => {
  const cluster = await clusterConfig(1);
  const replica = await Replica.start({ cluster, id: 0, machine: new EchoMachine(), logger: silentLogger });
  t.teardown(() => replica.close());
  const silent = await Client.connect({ cluster, logger: silentLogger });
  t.teardown(() => silent.close());
  t.notOk(silent.metrics().some(({ name }) => name.includes('one_way')));
  const asking = await Client.connect({ cluster, logger: silentLogger, oneWayPerSecond: 100 });
  t.teardown(() => asking.close());
  const both = (): number => histogramOf(asking.metrics(), 'one_way_seconds', { part: 'both' })?.count ?? 0;
  while (both() < 3) await setTimeout(10);
  t.ok(histogramOf(asking.metrics(), 'one_way_seconds', { part: 'replica' })!.count >= 3);
  for (const wrong of [-1, 101, 0.5, Number.NaN])
    await t.rejects(Client.connect({ cluster, logger: silentLogger, oneWayPerSecond: wrong }), {
      code: 'option-invalid',
      message: /oneWayPerSecond/,
    });
});
