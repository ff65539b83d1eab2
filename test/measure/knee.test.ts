// Ramps made up, with a knee where it is known to be.
import t from 'tap';
import { isOver, kneeOf, limitOf, shortfallOf, type StepFacts } from '../../src/measure/load/knee.js';
import { ratesBetween } from '../../src/measure/load/ramp.js';

const MS = 1e6;

function step(
  offeredPerSecond: number,
  changes: Partial<StepFacts> & { readonly share?: number; readonly p99?: number } = {},
): StepFacts {
  const { share = 1, p99 = 0.5 * MS, ...others } = changes;
  return {
    offeredPerSecond,
    offered: offeredPerSecond * 2,
    completedInWindow: Math.round(offeredPerSecond * 2 * share),
    failed: 0,
    unsent: 0,
    queued: 0,
    committed: offeredPerSecond * 2,
    retransmitted: 0,
    viewChanges: 0,
    rejectedByReason: {},
    latencyNs: { min: 1, p50: p99 / 5, p90: p99 / 2, p99, p999: p99 * 2, max: p99 * 3, mean: p99 / 4 },
    schedulingDelayNs: { p99: 1_000 },
    cores: { clients: [0.2], replicas: [0.3, 0.2, 0.1], host: 0.9, hostTotal: 4, replicasHere: true },
    silentReplicas: [],
    replicaDrops: 0,
    ...others,
  };
}

t.test('a queue with one server: latency explodes and throughput stops at its capacity', (t) => {
  // M/M/1: time in the system is 1 / (capacity − rate).
  const capacity = 50_000;
  const steps = ratesBetween(5_000, 100_000, 8).map((rate) =>
    rate < capacity
      ? step(rate, { p99: (4.6 / (capacity - rate)) * 1e9 })
      : step(rate, { share: capacity / rate, p99: 900 * MS }),
  );
  const { index, endedAt, shortfalls } = kneeOf(steps);
  t.ok(
    steps[index]!.offeredPerSecond < capacity && steps[index + 1]!.offeredPerSecond > capacity,
    `knee at ${steps[index]!.offeredPerSecond}`,
  );
  t.equal(endedAt, index + 1);
  t.equal(shortfalls.filter((shortfall) => shortfall === undefined).length, index + 1);
  t.match(shortfalls[endedAt], /% of what arrived was completed in time/);
  t.equal(isOver(steps.slice(0, endedAt + 1)), false, 'one step that falls short may be an accident');
  t.equal(isOver(steps.slice(0, endedAt + 2)), true);
  t.end();
});

t.test('an accident between sustained rates is passed over; at the end it is not', (t) => {
  const ramp = [step(1_000), step(2_000, { share: 0.5 }), step(4_000), step(8_000)];
  t.match(kneeOf(ramp), { index: 3, endedAt: -1 });
  t.match(kneeOf(ramp.slice(0, 2)), { index: 0, endedAt: 1 });
  t.match(kneeOf([step(1_000, { share: 0.5 }), step(2_000, { share: 0.5 })]), { index: -1, endedAt: 0 });
  t.match(kneeOf([...ramp, step(16_000, { share: 0.6 }), step(32_000, { share: 0.3 })]), { index: 3, endedAt: 4 });
  t.match(
    kneeOf([step(1_000), step(2_000, { share: 0.9 }), step(4_000, { share: 0.9 }), step(8_000)]),
    { index: 0, endedAt: 1 },
    'a rate behind two that fell short is not believed',
  );
  t.match(kneeOf([step(5)]), { index: 0, endedAt: -1 });
  t.end();
});

t.test('what makes a rate not sustained', (t) => {
  t.equal(shortfallOf(step(1_000, { share: 0.981 })), undefined);
  t.match(shortfallOf(step(1_000, { share: 0.97 })), /97 %/);
  t.match(shortfallOf(step(1_000, { failed: 2, unsent: 1 })), /3 of 2,000 operations failed or were not sent/);
  t.equal(shortfallOf(step(1_000, { failed: 1 })), undefined, 'one in two thousand');
  t.match(shortfallOf(step(1_000, { p99: 6 * MS }), 0.5 * MS), /p99 rose to 6.00 ms/);
  t.equal(shortfallOf(step(1_000, { p99: 4.9 * MS }), 0.5 * MS), undefined);
  t.equal(shortfallOf(step(0)), 'nothing arrived in the window');
  t.end();
});

t.test('the resource that ended it', (t) => {
  const cores = { clients: [0.5, 0.6], replicas: [0.5, null, 0.4], host: 2, hostTotal: 4, replicasHere: true };
  const found = (changes: Partial<StepFacts>): string => limitOf(step(1_000, { cores, ...changes })).resource;
  t.equal(found({}), 'unknown');
  t.equal(found({ cores: { ...cores, replicas: [0.97, null, 0.4] } }), 'replica-cpu');
  t.match(limitOf(step(1_000, { cores: { ...cores, replicas: [0.97, null, 0.4] } })).evidence, [
    'replica 0 used 97 % of a core',
  ]);
  t.equal(found({ cores: { ...cores, clients: [0.5, 1] } }), 'unknown', 'a client that spins is busy, and on time');
  t.equal(found({ cores: { ...cores, clients: [0.5, 1] }, schedulingDelayNs: { p99: 5 * MS } }), 'client-cpu');
  t.equal(found({ cores: { ...cores, host: 3.9 } }), 'host-cpu');
  t.match(
    limitOf(step(1_000, { cores: { ...cores, host: 3.9 } })).evidence[0],
    /4 cores were 98 % busy, 2\.0 of them with this measurement/,
  );
  t.equal(found({ rejectedByReason: { busy: 100, late: 3 } }), 'queue-full');
  t.equal(found({ rejectedByReason: { late: 900 } }), 'rejects');
  t.equal(found({ retransmitted: 200 }), 'datagram-loss');
  t.equal(found({ replicaDrops: 7 }), 'datagram-loss');
  t.equal(found({ viewChanges: 1 }), 'view-changes');
  t.equal(found({ queued: 1_500 }), 'lanes');
  t.equal(found({ unsent: 1_000 }), 'lanes', 'what was never sent waited, too');
  const outOfLanes = limitOf(
    step(1_000, {
      cores: { ...cores, clients: [0.1], replicas: [0.05, 0.05, 0], host: 3.95 },
      queued: 0,
      unsent: 2_000,
    }),
  );
  t.equal(outOfLanes.resource, 'lanes', "somebody else's work is no limit of this measurement");
  t.match(outOfLanes.evidence, [
    /^100 % of the operations had to wait because every lane was open, and 2,000 were never sent/,
    /98|99 % busy, 0\.2 of them with this measurement: measure on a host at rest/,
  ]);
  t.equal(found({ cores: { ...cores, clients: [0.1], replicas: [0.1, null, 0], host: 3.9 } }), 'other-work');
  t.equal(
    found({ cores: { ...cores, clients: [0.2], replicas: [0.1, 0.1, 0.1], host: 2, hostTotal: 2 }, unsent: 2_000 }),
    'lanes',
    'a quarter of a full host is no limit of its own',
  );
  const gone = limitOf(
    step(1_000, {
      cores: { ...cores, clients: [0.1], replicas: [null, null, null], host: 3.95 },
      silentReplicas: [0, 1, 2],
      failed: 1_000,
      retransmitted: 941,
    }),
  );
  t.equal(gone.resource, 'replicas');
  t.match(gone.evidence, [
    'replicas 0, 1, 2 did not answer at the end: there is no majority, and nothing commits',
    /were sent again/,
    /0\.1 of them/,
  ]);
  t.equal(found({ silentReplicas: [2], viewChanges: 1 }), 'replicas', 'one that went is why the view changed');
  t.equal(
    found({ silentReplicas: [2], cores: { ...cores, replicas: [0.97, null, 0.4] } }),
    'replica-cpu',
    'and is no cause where another is full',
  );
  const several = limitOf(step(1_000, { cores: { ...cores, replicas: [0.95], host: 3.9 }, queued: 1_500 }));
  t.equal(several.resource, 'replica-cpu', 'causes go before their consequences');
  t.equal(several.evidence.length, 3);
  t.end();
});

t.test('the rates of a ramp', (t) => {
  t.same(ratesBetween(1_000, 100_000, 3), [1_000, 10_000, 100_000]);
  const rates = ratesBetween(10_000, 500_000, 10);
  t.equal(rates.length, 10);
  t.same([rates[0], rates.at(-1)], [10_000, 500_000]);
  t.end();
});
