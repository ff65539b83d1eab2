// A slow member leaves the quorum, once, and only for a spare that is faster. View 0 of three: primary 0, member 1,
// spare 2.
import t from 'tap';
import { Sync, SyncAck, ViewChange } from '../../src/wire/messages.js';
import { Cluster } from './harness.js';

const SLOW_AFTER_US = 100_000;

/**
 * Time passes; each replica's answers to a Sync reach the primary so much later. Returns µs until the view changed, or
 * Infinity.
 */
function run(c: Cluster, us: number, delayUs: (replica: number, atUs: number) => number, primary = 0): number {
  const waiting: { atUs: number; packet: Parameters<Cluster['arrive']>[0] }[] = [];
  const from = c.now.monotonicUs;
  const { view } = c.replica(primary).state;
  while (c.now.monotonicUs < from + us) {
    c.pass(100);
    c.settle({ message: Sync });
    for (const packet of c.take({ message: SyncAck }))
      waiting.push({ atUs: c.now.monotonicUs + delayUs(packet.from, c.now.monotonicUs - from), packet });
    for (const late of waiting.filter(({ atUs }) => atUs <= c.now.monotonicUs)) {
      waiting.splice(waiting.indexOf(late), 1);
      c.arrive(late.packet);
    }
    if (c.replica(primary).state.view !== view) return c.now.monotonicUs - from;
  }
  return Infinity;
}

const cluster = (n = 3): Cluster => new Cluster(n, { timings: { slowAfterUs: SLOW_AFTER_US, suspectUs: 1_000_000 } });

t.test("a member whose answers take ten times as long as a spare's leaves the quorum within a second", (t) => {
  const c = cluster();
  t.equal(
    run(c, 500_000, () => 200),
    Infinity,
    'as long as all are alike, nothing happens',
  );
  const us = run(c, 1_000_000, (replica) => (replica === 1 ? 2000 : 200));
  t.ok(us >= SLOW_AFTER_US && us < 600_000, `${us} µs`);
  c.settle();
  t.strictSame(
    c.replica(0).state.views.members(c.replica(0).state.view),
    [0, 2],
    'same primary, the spare in its place',
  );
  t.equal(c.replica(0).state.isPrimary, true);
  t.end();
});

t.test('with seven replicas, two slow members leave together', (t) => {
  const c = cluster(7);
  t.strictSame(c.replica(0).state.views.members(0), [0, 1, 2, 3]);
  t.ok(run(c, 1_000_000, (replica) => (replica === 1 || replica === 3 ? 3000 : 200)) < 600_000);
  c.settle();
  const members = c.replica(0).state.views.members(c.replica(0).state.view);
  t.notOk(members.includes(1) || members.includes(3), members.join(' '));
  t.end();
});

for (const [name, delayUs] of [
  ['the spare is as slow', () => 3000],
  ['the spare is slower still', (replica: number) => (replica === 1 ? 2000 : 5000)],
  ["the primary is slow: everybody's answers wait there", (replica: number) => 4000 + (replica === 1 ? 200 : 0)],
  [
    'the member is busy, not slow: three times a spare that has nothing to do',
    (replica: number) => (replica === 1 ? 900 : 300),
  ],
  [
    'it is slow now and then, never for long',
    (replica: number, atUs: number) => (replica === 1 && atUs % 200_000 < 50_000 ? 3000 : 200),
  ],
] as const) {
  t.test(`no change: ${name}`, (t) => {
    t.equal(run(cluster(), 2_000_000, delayUs), Infinity);
    t.end();
  });
}

t.test('it does not flap: changes for slowness are further and further apart', (t) => {
  const c = cluster();
  // Whoever is the member is slow, whoever is the spare is fast.
  const slow = (replica: number): number =>
    c.replica(0).state.views.isMember(c.replica(0).state.view, replica) ? 3000 : 200;
  const times: number[] = [];
  for (let change = 0; change < 3; change++) {
    times.push(run(c, 10_000_000, slow));
    c.settle();
  }
  t.ok(times[1]! > 1_000_000 && times[2]! > 1.8 * times[1]!, times.join(' '));
  t.end();
});

t.test('all replicas count the changes, so that another primary does not begin anew', (t) => {
  const c = cluster();
  t.ok(run(c, 1_000_000, (replica) => (replica === 1 ? 3000 : 200)) < 600_000);
  c.settle();
  // The next view has another primary; whoever is the member there is slow.
  for (const id of [0, 1, 2]) if (id !== 1) c.replica(id).receive(ViewChange, { view: 4 }, 1);
  c.replica(1).receive(ViewChange, { view: 4 }, 0);
  c.settle();
  t.equal(c.replica(1).state.isPrimary, true);
  const us = run(c, 10_000_000, (replica) => (replica === 0 ? 3000 : 200), 1);
  t.ok(us > 1_000_000 && us < 4_000_000, `${us} µs: the bar is where the other primary left it`);
  t.end();
});

t.test('a member that stands still now and then, and is prompt in between, is not slow', (t) => {
  // Each third of its answers is prompt; smoothed, its lag is always above the limit.
  let nth = 0;
  t.equal(
    run(cluster(), 3_000_000, (replica) => (replica === 1 && nth++ % 3 !== 0 ? 8000 : 200)),
    Infinity,
  );
  t.end();
});

t.test('slowAfterUs 0 never changes the view for that', (t) => {
  const c = new Cluster(3, { timings: { slowAfterUs: 0, suspectUs: 1_000_000 } });
  t.equal(
    run(c, 2_000_000, (replica) => (replica === 1 ? 20_000 : 200)),
    Infinity,
  );
  t.equal(c.history.filter(({ message }) => message.type === ViewChange.type).length, 0);
  t.end();
});
