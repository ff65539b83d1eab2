// Hosts that other programs share: processes stand still for a while, at any moment. Nobody is exchanged for that again
// and again; and what is really gone, or really slow, is found as fast as on a quiet host when the host is quiet.
import t from 'tap';
import { Experience, CALM_US } from '../../src/protocol/replica/suspicion/experience.js';
import { Instant } from '../../src/protocol/contract.js';
import { BusyHosts, type Busyness } from './busy-hosts.js';

const MINUTE_US = 60_000_000;

/** Before: 65 to 67 views in 30 minutes under the first two, 12 under the third, 323 under the last. */
const REGIMES: Readonly<Record<string, (atUs: number) => Busyness>> = {
  'pauses of 5 to 200 ms, five a second': () => ({ everyUs: 200_000, fromUs: 5_000, toUs: 200_000 }),
  'pauses of 5 to 200 ms, one a second': () => ({ everyUs: 1_000_000, fromUs: 5_000, toUs: 200_000 }),
  'short pauses, and each minute 20 s of long ones': (atUs) =>
    Math.floor(atUs / 20e6) % 3 === 2
      ? { everyUs: 100_000, fromUs: 20_000, toUs: 400_000 }
      : { everyUs: 20_000, fromUs: 1_000, toUs: 60_000 },
};

for (const [name, busyness] of Object.entries(REGIMES)) {
  t.test(`three idle replicas, 30 minutes of ${name}: at most three views`, (t) => {
    const hosts = new BusyHosts({ replicas: 3, seed: 1, busyness });
    hosts.run(30 * MINUTE_US);
    t.ok(hosts.changes() <= 3, `${hosts.changes()} views asked for: ${hosts.asked.map(({ why }) => why).join('; ')}`);
    t.end();
  });
}

t.test('pauses of 20 to 500 ms, more than may be borne: few views, and fewer and fewer', (t) => {
  const hosts = new BusyHosts({
    replicas: 3,
    seed: 1,
    busyness: () => ({ everyUs: 2_000_000, fromUs: 20_000, toUs: 500_000 }),
  });
  hosts.run(30 * MINUTE_US);
  t.ok(hosts.changes() <= 8, `${hosts.changes()} views asked for`);
  t.ok(hosts.asked.filter(({ atUs }) => atUs > 15 * MINUTE_US).length <= 2, 'of which hardly any in the second half');
  t.end();
});

t.test('a host that is gone, which nobody says, is found within 80 ms where hosts are quiet', (t) => {
  for (const seed of [1, 2, 3]) {
    const hosts = new BusyHosts({ replicas: 3, seed, busyness: () => undefined });
    hosts.run(2_000_000);
    const { view } = hosts;
    hosts.stop(0);
    const us = hosts.runUntil(
      () => [1, 2].every((id) => hosts.core(id).state.view > view && hosts.core(id).state.status === 0),
      1_000_000,
    );
    t.ok(us < 80_000, `${us} µs`);
  }
  t.end();
});

t.test(
  'and so it is again some minutes after the hosts were busy; while they are it takes two seconds and a half at most',
  (t) => {
    const busy = { everyUs: 500_000, fromUs: 5_000, toUs: 300_000 };
    const lead = (hosts: BusyHosts): number => hosts.core(0).state.primary;
    const fail = (hosts: BusyHosts): number => {
      const gone = lead(hosts);
      const { view } = hosts;
      hosts.stop(gone);
      return hosts.runUntil(
        () =>
          [0, 1, 2]
            .filter((id) => id !== gone)
            .every((id) => hosts.core(id).state.view > view && hosts.core(id).state.status === 0),
        10_000_000,
      );
    };
    const during = new BusyHosts({ replicas: 3, seed: 5, busyness: () => busy });
    during.run(2 * MINUTE_US);
    const duringUs = fail(during);
    t.ok(duringUs < 2_500_000, `${duringUs} µs`);
    const after = new BusyHosts({
      replicas: 3,
      seed: 5,
      busyness: (atUs) => (atUs < 2 * MINUTE_US ? busy : undefined),
    });
    after.run(5 * MINUTE_US);
    const afterUs = fail(after);
    t.ok(afterUs < 100_000, `${afterUs} µs`);
    t.end();
  },
);

t.test('a member whose turns take long leaves, on idle hosts after a second, and is not taken back', (t) => {
  const slow = new Set<number>();
  const hosts = new BusyHosts({
    replicas: 3,
    seed: 1,
    busyness: () => undefined,
    turnUs: (_, replica) => (slow.has(replica) ? 3_000 : 5),
  });
  hosts.run(1_000_000);
  const member = hosts
    .core(0)
    .state.views.members(hosts.view)
    .find((id) => id !== hosts.core(0).state.primary)!;
  slow.add(member);
  const { view } = hosts;
  const us = hosts.runUntil(() => hosts.view > view, 5_000_000);
  t.ok(us < 1_300_000, `${us} µs`);
  hosts.run(MINUTE_US);
  t.equal(hosts.changes(), 1);
  t.notOk(hosts.core(0).state.views.isMember(hosts.view, member));
  t.end();
});

t.test(
  'experience: each change counts, whoever asked for it, and is forgotten after ten minutes of calm, one by one',
  (t) => {
    const now = new Instant();
    const experience = new Experience(3);
    t.equal(experience.at(now), 0);
    for (let i = 1; i <= 5; i++) {
      now.monotonicUs += 64_000_000;
      experience.changed(now);
      t.equal(experience.at(now), Math.min(3, i), 'at the cap it stays: a change after a long pause is no calm');
    }
    now.monotonicUs += CALM_US - 1;
    t.equal(experience.at(now), 3);
    now.monotonicUs += 1;
    t.equal(experience.at(now), 2);
    experience.changed(now);
    t.equal(experience.at(now), 3);
    now.monotonicUs += 3 * CALM_US;
    t.equal(experience.at(now), 0);
    t.end();
  },
);

t.test('experience: what was forgotten and comes back is remembered for twice as long, until it stays away', (t) => {
  const now = new Instant();
  const experience = new Experience(4, 4);
  const after = (calms: number): number => {
    now.monotonicUs += calms * CALM_US;
    return experience.at(now);
  };
  experience.changed(now);
  t.equal(after(1), 0);
  experience.changed(now);
  t.equal(after(1), 1, 'twice as long');
  t.equal(after(1), 0);
  experience.changed(now);
  t.strictSame([after(3), after(1)], [1, 0], 'four times');
  experience.changed(now);
  t.strictSame([after(3), after(1)], [1, 0], 'which is the most');
  after(16);
  experience.changed(now);
  t.equal(after(1), 0, 'and begins anew when it stayed away');
  t.end();
});
