// The fault `members`: hosts are added, replaced, moved and removed while everything else fails too. The invariants are
// those of every run, over epochs; at the end each listed replica has caught up and no change is open.
import t from 'tap';
import { simulate } from '../../src/sim/simulation.js';
import { Feature } from '../../src/protocol/log/features.js';
import { FAULT_NAMES } from '../../src/sim/faults.js';
import { ONE_WAY_KINDS } from '../../src/sim/world.js';

/** All but the fault that changes when members may change for the first time. */
const ONE_VERSION = new Set(FAULT_NAMES.filter((name) => name !== 'versions'));
/** Seeds in which the fault happens. */
const SEEDS = [1, 7, 10, 14];

/** Runs of 200 ms that failed once. */
const KEPT: readonly (readonly [seed: number, replicas: number, taught: string])[] = [
  [160, 5, 'a datagram of a former host that waits somewhere must not count as one of the host that has its slot now'],
  [122, 1, 'a host that left waited for views without end, and a client followed it into one'],
  [376, 1, 'for the checks: what a primary without others has in its log is not said before it is durable'],
  [393, 1, 'a client whose epoch is over searched for nobody else'],
  [412, 1, 'the same'],
  [933, 5, 'for the disk: the members are written before the view that needs them, also where a crash tears the write'],
  [966, 1, 'a quorum of one acted upon a change that was not durable'],
  [1174, 1, 'the same: after a crash it decided another change for the same epoch'],
  [600, 3, 'a client followed hosts that had left into views in which nobody is, again and again'],
  [1169, 7, 'for the clients: an answer is for the process that asked, not for its newest session'],
  [865, 1, 'for the faults: voters that were asked for keep their logs, as those that are decided do'],
  [1034, 3, 'for the checks: a quorum of one appends the entry that begins its epoch, and cuts it, in one call'],
  [2392, 3, 'a host that had left, and starts again, took the views of an epoch that is over for those of the first'],
  [1150, 5, 'for the end of a run: a learner has caught up when it has what a primary without others committed'],
  [109, 3, 'for the faults: no cut that stays is of one of two voters'],
  [98, 3, 'for the faults: no host burns down while a cut that stays is there'],
  [318, 5, 'for the faults: a voter that burnt down, and is listed, counts with the one that is cut off'],
];

/** Runs of 500 ms, with all faults, that failed once. */
const KEPT_LONG: readonly (readonly [seed: number, replicas: number, taught: string])[] = [
  [11204, 1, 'for the checks: a quorum of one appends an entry, and cuts it behind a snapshot, in one call'],
  [10159, 1, 'for the faults: a host that the operator gives up counts as lost, so the only voter is not given up'],
  [12156, 7, "a view of the next epoch that somebody names is nobody else's once a change may be decided"],
  [11365, 5, 'for the disk: as long as nothing can have been decided, views of any epoch may be promised'],
  [10133, 7, 'replicas that lost their directories one after another left the epoch, into which nobody could follow'],
  [13643, 5, 'replicas executed their logs to see who is listed, and went back, at the cost of the whole state'],
  [12058, 7, 'for the checks: a voter that lost its directory has not returned to the epoch that it had left'],
];

t.test('longer runs that failed once', (t) => {
  for (const [seed, replicas, taught] of KEPT_LONG) {
    const { failure } = simulate({ seed, replicas });
    t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${taught}: ${failure?.detail}`);
  }
  t.end();
});

t.test('runs that failed once', (t) => {
  for (const [seed, replicas, taught] of KEPT) {
    const { failure } = simulate({ seed, replicas, faults: ONE_VERSION, ticks: 200_000 });
    t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${taught}: ${failure?.detail}`);
  }
  t.end();
});

t.test('a client whose session is worn when it is upgraded speaks the present version', (t) => {
  const { failure, totals, plan } = simulate({ seed: 10618, replicas: 7 });
  t.equal(failure, undefined, `${failure?.detail}`);
  t.match(plan, 'upgraded');
  t.ok(totals.sessionsRenewed > 0, `${totals.sessionsRenewed} worn sessions were renewed`);
  t.end();
});

t.test('changes of members, with all other faults and without', (t) => {
  let changes = 0;
  for (const seed of SEEDS)
    for (const replicas of [1, 3, 5])
      for (const faults of [ONE_VERSION, new Set(['members'] as const)]) {
        const { failure, totals } = simulate({ seed, replicas, faults, ticks: 150_000 });
        t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${failure?.detail}`);
        changes += totals.epochs;
      }
  t.ok(changes > 10, `${changes} epochs began`);
  t.end();
});

t.test('other voters are asked for while a replica is cut off in part, whatever the cut', (t) => {
  for (const kind of ONE_WAY_KINDS) {
    let asked = 0;
    for (const seed of SEEDS)
      for (const role of ['any', 'member'] as const) {
        const { failure, totals } = simulate({
          seed,
          replicas: 3,
          faults: new Set(['members'] as const),
          ticks: 150_000,
          world: { oneWay: { kind, role, fromUs: 20_000, forUs: 1_000_000, stays: false } },
        });
        t.equal(failure, undefined, `seed ${seed}, ${kind}, ${role}: ${failure?.detail}`);
        asked += totals.askedDuringCuts;
      }
    t.ok(asked > 0, `${kind}: ${asked} changes were asked for`);
  }
  t.end();
});

t.test('members change in a cluster that is new, and while hosts lose their directories', (t) => {
  const sums = { epochs: 0, directoriesLost: 0, forgotten: 0, refused: 0 };
  for (const [name, seeds] of [
    ['first-start', [117, 122]],
    ['directory-lost', [44, 65, 193]],
  ] as const)
    for (const seed of seeds)
      for (const replicas of [3, 5]) {
        const { failure, totals, plan } = simulate({ seed, replicas, faults: ONE_VERSION, ticks: 200_000 });
        t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${failure?.detail}`);
        t.match(plan, name, `seed ${seed}`);
        for (const sum of Object.keys(sums) as (keyof typeof sums)[]) sums[sum] += totals[sum];
      }
  t.comment(JSON.stringify(sums));
  for (const [what, sum] of Object.entries(sums)) t.ok(sum > 0, what);
  t.end();
});

t.test('an older version is listed: members are refused, and change once all processes are upgraded', (t) => {
  const sums = { epochs: 0, switchesRefused: 0, previousVersion: 0 };
  for (const seed of [10, 95])
    for (const replicas of [1, 3, 5]) {
      const { failure, totals, plan } = simulate({ seed, replicas, ticks: 200_000 });
      t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${failure?.detail}`);
      t.match(plan, 'upgraded');
      t.equal(totals.switched, 1, `seed ${seed}, ${replicas} replicas: the operator had the feature switched on`);
      for (const sum of Object.keys(sums) as (keyof typeof sums)[]) sums[sum] += totals[sum];
    }
  t.comment(JSON.stringify(sums));
  for (const [what, sum] of Object.entries(sums)) t.ok(sum > 0, what);
  t.end();
});

t.test('machines go wrong while members change', (t) => {
  const sums = { epochs: 0, wrong: 0, wrongNamed: 0, wrongStopped: 0 };
  for (const seed of [120, 239, 315])
    for (const replicas of [2, 3, 5]) {
      const { failure, totals } = simulate({ seed, replicas, ticks: 200_000 });
      t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${failure?.detail}`);
      for (const sum of Object.keys(sums) as (keyof typeof sums)[]) sums[sum] += totals[sum];
    }
  t.comment(JSON.stringify(sums));
  for (const [what, sum] of Object.entries(sums)) t.ok(sum > 0, what);
  t.end();
});

t.test('an even number of voters, with all other faults and without', (t) => {
  for (const seed of [2, 3])
    for (const replicas of [2, 4, 6])
      for (const faults of [new Set(FAULT_NAMES), new Set([] as const)]) {
        const { failure, totals } = simulate({ seed, replicas, faults, ticks: 150_000 });
        t.equal(failure, undefined, `seed ${seed}, ${replicas} replicas: ${failure?.detail}`);
        t.ok(totals.epochs > 0, `${totals.epochs} epochs began`);
      }
  t.end();
});

t.test('an even number of voters without the feature membership is refused', (t) => {
  const run = (replicas: number, features: number): (() => unknown) => {
    return () => simulate({ seed: 3, replicas, features, ticks: 1000 });
  };
  for (const features of [0, Feature.sessionQuotas])
    t.throws(run(4, features), { name: 'RangeError', message: /^4 replicas with features \d: .*membership/ });
  for (const [replicas, features] of [
    [4, Feature.membership],
    [3, 0],
  ] as const)
    t.equal(simulate({ seed: 3, replicas, features, ticks: 50_000 }).failure, undefined);
  t.end();
});
