// A clock that is far off: whose it is, and a view without it where there is one. View 0 of three: primary 0, member 1,
// spare 2.
import t from 'tap';
import { Instant } from '../../src/protocol/contract.js';
import { ReplicaClocks } from '../../src/protocol/replica/suspicion/replica-clocks.js';
import { Views } from '../../src/protocol/views.js';
import { BusyHosts } from './busy-hosts.js';

const SECOND_US = 1_000_000;
const HOUR_NS = 3_600_000_000_000;
/** From the present of these tests to 1970. */
const TO_1970_NS = -1_700_000_000_000_000_000;

/** Clocks that are off from the second second on. */
function hosts(offsets: readonly number[], seed = 1): BusyHosts {
  const made = new BusyHosts({
    replicas: offsets.length,
    seed,
    busyness: () => undefined,
    offsetNs: (atUs, replica) => (atUs < 2 * SECOND_US ? 0 : offsets[replica]!),
  });
  made.run(2 * SECOND_US);
  return made;
}

const members = (h: BusyHosts): number[] => h.core(h.core(0).state.primary).state.views.members(h.view);
const said = (h: BusyHosts): string[] =>
  h.processes.flatMap(({ transitions }) => transitions.filter((line) => line.startsWith('clock')));

for (const [name, offset, text] of [
  ['an hour behind', -HOUR_NS, /clock of replica 1 is 60\.0 min behind those of 0, 2/],
  ['an hour ahead', HOUR_NS, /clock of replica 1 is 60\.0 min ahead of those of 0, 2/],
  ['in 1970', TO_1970_NS, /clock of replica 1 is 472222\.\d h behind those of 0, 2/],
  ['80 ms behind', -80_000_000, /clock of replica 1 is 80 ms behind those of 0, 2/],
] as const) {
  t.test(`a member's clock that is ${name}: within four seconds a view without it, once`, (t) => {
    const h = hosts([0, offset, 0]);
    const us = h.runUntil(() => h.view > 0, 10 * SECOND_US);
    t.ok(us < 4 * SECOND_US, `${us} µs`);
    h.run(120 * SECOND_US);
    t.equal(h.changes(), 1);
    t.strictSame([members(h), h.core(0).state.isPrimary], [[0, 2], true], 'the same primary');
    t.match(said(h)[0], text, 'it says whose');
    t.end();
  });
}

t.test("the primary's own clock is off: the others agree, and lead without it", (t) => {
  const h = hosts([HOUR_NS, 0, 0]);
  h.run(10 * SECOND_US);
  t.equal(h.changes(), 1);
  t.strictSame(members(h), [1, 2]);
  t.match(said(h)[0], /clock of replica 0 is 60\.0 min ahead of those of 1, 2/);
  t.end();
});

t.test("a spare's clock is off: it is said, nothing changes; and it is taken when there is no other", (t) => {
  const h = hosts([0, 0, -HOUR_NS]);
  h.run(10 * SECOND_US);
  t.strictSame([h.changes(), said(h).length], [0, 1]);
  h.stop(1);
  const us = h.runUntil(() => h.view > 0 && h.core(0).state.status === 0, SECOND_US);
  t.ok(us < 200_000, `${us} µs`);
  t.strictSame(members(h), [0, 2]);
  h.run(60 * SECOND_US);
  t.equal(h.changes(), 1, 'and kept');
  t.end();
});

t.test(
  'two of three differ from each other and from the third: nobody is called off, nothing changes, it is said',
  (t) => {
    const h = hosts([0, HOUR_NS, -HOUR_NS]);
    h.run(60 * SECOND_US);
    t.equal(h.changes(), 0);
    t.match(said(h), [
      /no majority of the replicas' clocks agree: against that of replica 0, replica 1 \+60\.0 min, replica 2 −60\.0 min/,
    ]);
    t.strictSame([h.core(0).clocks.off, h.core(0).clocks.divided], [0, true]);
    t.end();
  },
);

t.test('with five replicas, two clocks that are off leave together', (t) => {
  const h = hosts([0, HOUR_NS, TO_1970_NS, 0, 0]);
  h.run(60 * SECOND_US);
  t.equal(h.changes(), 1);
  t.strictSame(members(h), [0, 3, 4]);
  t.end();
});

t.test('it is said when the clocks agree again, and clocks that differ a little are right', (t) => {
  const h = new BusyHosts({
    replicas: 3,
    seed: 1,
    busyness: () => undefined,
    offsetNs: (atUs, replica) => (replica === 2 && atUs < 10 * SECOND_US ? HOUR_NS : replica * 10_000_000),
  });
  h.run(30 * SECOND_US);
  t.match(said(h), [/^clock-off/, /^clocks-agree/]);
  t.equal(h.changes(), 0);
  t.end();
});

t.test('clocks that jump to and fro cost at most ten views an hour', (t) => {
  // Whoever is in the quorum is off for a while, each time that the view has just changed.
  const h: BusyHosts = new BusyHosts({
    replicas: 3,
    seed: 1,
    busyness: () => undefined,
    offsetNs: (atUs, replica) => (Math.floor(atUs / (7 * SECOND_US)) % 3 === replica ? HOUR_NS : 0),
  });
  h.run(3600 * SECOND_US);
  t.ok(h.changes() >= 3 && h.changes() <= 10, `${h.changes()}`);
  t.end();
});

t.test('busy hosts: what an acknowledgement says is known to half of its round trip, however late it comes', (t) => {
  const h = new BusyHosts({
    replicas: 3,
    seed: 3,
    busyness: () => ({ everyUs: 100_000, fromUs: 5_000, toUs: 300_000 }),
  });
  h.run(120 * SECOND_US);
  t.strictSame(said(h), []);
  t.end();
});

t.test('a replica that does not say what its clock shows is neither right nor off', (t) => {
  const now = new Instant();
  const clocks = new ReplicaClocks(0, new Views(3), 100_000_000);
  now.wallLo = 5;
  for (let i = 0; i < 20; i++) {
    now.monotonicUs += 250_000;
    clocks.heard(1, 0, 0, now.monotonicUs - 100, now);
    clocks.heard(2, 0, 5, now.monotonicUs - 100, now);
    clocks.judge(now);
  }
  t.strictSame([clocks.off, clocks.right, clocks.divided], [0, 0b101, false]);
  t.ok(Number.isNaN(clocks.offsetUs(1)));
  t.end();
});
