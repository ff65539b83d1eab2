// Clients that are farther away than those that keep the replicas busy, and clocks that were ahead once: everybody gets
// in, in a bounded time.
import t from 'tap';
import { ClientCounter } from '../../src/protocol/counters.js';
import { LATE_RULES } from '../../src/protocol/config.js';
import { Distances, DistantClient } from './distances.js';

const NEAR_US = 20;
const FAR_US = [100, 500, 5_000, 50_000];
const HOUR_NS = 3_600e9;

/** Four clients at 20 µs, together some 20,000 operations a second. */
function busy(world: Distances): DistantClient[] {
  return [100, 101, 102, 103].map((endpoint) => new DistantClient(world, endpoint, 8, 1_500));
}

const wayUs = (endpoint: number): number => (endpoint >= 200 ? FAR_US[endpoint - 200]! : NEAR_US);

for (const late of LATE_RULES) {
  t.test(
    `late: ${late}: beside clients that are near, distant ones register and have their operations committed`,
    (t) => {
      const world = new Distances({ late, wayUs });
      const near = busy(world);
      world.run(50_000);
      const far = FAR_US.map((_, i) => new DistantClient(world, 200 + i, 2, 1_000));
      world.run(1_050_000);
      const rate = near.reduce((sum, client) => sum + client.committed, 0) / 1.05;
      t.ok(rate > 15_000, `${Math.round(rate)} operations a second by the near ones`);
      far.forEach((client, i) => {
        const way = FAR_US[i]!;
        t.ok(
          client.registeredUs - 50_000 < 8 * way + 1_000,
          `${way} µs away: registered after ${client.registeredUs - 50_000} µs`,
        );
        t.equal(client.sessions, 1);
        t.ok(
          client.committed > 0 && client.longestUs < 16 * way + 10_000,
          `${client.committed} committed, the longest took ${client.longestUs} µs`,
        );
      });
      const [, , , farthest] = far;
      const sentAgain = (): number =>
        farthest!.core.counters[ClientCounter.retransmitted]! + farthest!.core.counters[ClientCounter.pleas]!;
      const before = sentAgain();
      world.run(1_550_000);
      t.equal(sentAgain() - before, 0, 'and it no longer takes its way for a loss, nor pleads for another view');
      t.ok(world.logAheadNs < 25e6, `the log is ${world.logAheadNs / 1e6} ms ahead`);
      t.end();
    },
  );

  t.test(`late: ${late}: the same while the log is an hour ahead of all clocks, which were ahead once`, (t) => {
    let wrong = true;
    const world = new Distances({ late, wayUs, aheadNs: () => (wrong ? HOUR_NS : 0) });
    const old = new DistantClient(world, 150, 1, 1_000);
    world.run(20_000);
    t.ok(old.committed > 0);
    wrong = false;
    const before = old.committed;
    const near = busy(world);
    world.run(70_000);
    const far = FAR_US.map((_, i) => new DistantClient(world, 200 + i, 2, 1_000));
    world.run(1_070_000);
    t.ok(old.committed > before + 300, 'the session from before goes on');
    t.strictSame(
      [...near, ...far].map((client) => client.registered),
      [...near, ...far].map(() => true),
    );
    t.ok([...near, ...far].every((client) => client.sessions <= 3));
    far.forEach((client, i) =>
      t.ok(
        client.committed > 0 && client.longestUs < 16 * FAR_US[i]! + 10_000,
        `${client.committed} committed, the longest took ${client.longestUs} µs`,
      ),
    );
    t.ok(world.logAheadNs < HOUR_NS - 0.9e9, 'and the clocks catch up with the log');
    t.end();
  });

  t.test(
    `late: ${late}: a primary whose clock went back by a year, and a distant client whose clock is a day behind`,
    (t) => {
      let wrong = false;
      const world = new Distances({
        late,
        wayUs,
        aheadNs: (endpoint) => (endpoint === 0 && wrong ? -8_760 * HOUR_NS : endpoint === 201 ? -24 * HOUR_NS : 0),
      });
      const near = busy(world);
      world.run(50_000);
      wrong = true;
      const before = near.reduce((sum, client) => sum + client.committed, 0);
      const far = FAR_US.map((_, i) => new DistantClient(world, 200 + i, 1, 1_000));
      world.run(1_050_000);
      t.ok(near.reduce((sum, client) => sum + client.committed, 0) > before + 5_000, 'it goes on');
      t.strictSame(
        far.map((client) => client.registered && client.committed > 0),
        FAR_US.map(() => true),
      );
      t.end();
    },
  );
}

t.test('clients whose clocks are ahead, by more than replicas hold, are corrected once, and then are fast', (t) => {
  const AHEAD_NS = [3e6, 20e6, 5e9];
  const world = new Distances({
    wayUs: () => NEAR_US,
    aheadNs: (endpoint) => (endpoint >= 200 ? AHEAD_NS[endpoint - 200]! : 0),
  });
  const near = busy(world);
  world.run(50_000);
  const clients = AHEAD_NS.map((_, i) => new DistantClient(world, 200 + i, 1, 1_000));
  world.run(1_050_000);
  for (const [i, { sessions, committed, longestUs, core }] of clients.entries()) {
    const name = `${AHEAD_NS[i]! / 1e6} ms ahead`;
    t.equal(sessions, 2, `${name}: its first Register is refused, and no other`);
    t.equal(core.counters[ClientCounter.rejected_too_far_ahead], 0, name);
    t.ok(committed > 700 && longestUs < 2_000, `${name}: ${committed} committed, the longest took ${longestUs} µs`);
  }
  t.ok(
    near.every(({ core }) => core.counters[ClientCounter.commits_fast]! > 0.7 * core.counters[ClientCounter.commits]!),
  );
  t.end();
});

for (const [replica, behindNs] of [
  [0, 5e6],
  [1, 5e6],
  [1, 400e3],
  [1, 50e6],
] as const) {
  t.test(
    `the clock of the ${replica === 0 ? 'primary' : 'member'} is ${behindNs / 1e6} ms behind, and not trusted: operations are as fast as otherwise`,
    (t) => {
      const shares = [0, behindNs].map((ns) => {
        const world = new Distances({ wayUs: () => NEAR_US, aheadNs: (endpoint) => (endpoint === replica ? -ns : 0) });
        for (const core of world.replicas) core.trustClock(false);
        const near = busy(world);
        world.run(200_000);
        const sum = (counter: number): number => near.reduce((total, { core }) => total + core.counters[counter]!, 0);
        const before = [sum(ClientCounter.commits), sum(ClientCounter.commits_fast)] as const;
        world.run(1_200_000);
        const commits = sum(ClientCounter.commits) - before[0];
        t.ok(commits > 15_000, `${commits} commits`);
        return (sum(ClientCounter.commits_fast) - before[1]) / commits;
      });
      t.ok(shares[1]! > 0.9 * shares[0]!, `${shares[1]} in one round trip, ${shares[0]} by right clocks`);
      t.end();
    },
  );
}

for (const roomUs of [12_000, 25_000, 50_000]) {
  for (const unheard of [0, 1]) {
    t.test(
      `a client that does not hear replica ${unheard}, of a quorum in one room, while the spare is ${roomUs / 1000} ms away, is served by one view`,
      (t) => {
        let cut = false;
        const world = new Distances({
          wayUs,
          betweenUs: (from, to) => (from === 2 || to === 2 ? roomUs : NEAR_US),
          loses: (from, to) => cut && from === unheard && to === 200,
        });
        const client = new DistantClient(world, 200, 1, 1_000);
        world.run(200_000);
        t.ok(client.registered);
        const { state } = world.replicas[0]!;
        t.strictSame([state.view, state.views.members(state.view)], [0, [0, 1]]);
        cut = true;
        world.run(210_000);
        const before = client.committed;
        world.run(2_200_000);
        t.ok(client.committed > before + 3, `${client.committed - before} committed within two seconds`);
        const views = world.replicas.map(({ state }) => state.view);
        t.ok(views[0]! > 0);
        t.notOk(state.views.isMember(views[0]!, unheard));
        world.run(4_200_000);
        t.strictSame(
          world.replicas.map(({ state }) => state.view),
          views,
          'and the view stays',
        );
        t.end();
      },
    );
  }
}

t.test('where replicas refuse every session, a client asks for a few a second', (t) => {
  // Their clocks are a day behind, and the client's own goes back and forth, so that it never learns.
  let calls = 0;
  const world = new Distances({ wayUs, aheadNs: (endpoint) => (endpoint === 200 ? (++calls % 2) * 24 * HOUR_NS : 0) });
  const client = new DistantClient(world, 200, 1, 1_000);
  const refuse = (): void => {
    for (const core of world.replicas) core['requests']['restamping']['mayRegister'] = () => false;
  };
  refuse();
  for (const core of world.replicas)
    core['requests']['append'] = (arrived, _misplaced, now) => core['requests']['reject'](arrived, 2, now);
  world.run(5_000_000);
  t.notOk(client.registered);
  t.ok(client.sessions > 8 && client.sessions < 30, `${client.sessions} sessions in five seconds`);
  t.end();
});
