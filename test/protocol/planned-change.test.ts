// What a planned change of the members costs its clients, in virtual time: how long nothing is committed, and where that
// time goes. Durability `memory`: with the others the log is written as well.
import t from 'tap';
import { Configuration, EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { Counter } from '../../src/protocol/counters.js';
import type { ReplicaState } from '../../src/protocol/replica/replica-state.js';
import { OpenEpoch } from '../../src/protocol/replica/suspicion/open-epoch.js';
import { Views } from '../../src/protocol/views.js';
import { Fetch, Vote } from '../../src/wire/messages.js';
import { Distant } from './distant.js';

const WAY_US = 500;
const WRITE_US = 40_000;
const ROUND_TRIP_US = 2 * WAY_US;
const SYNC_US = 5_000;

/** The ids of the present voters without these, and with the hosts in these slots. */
function voters(c: Distant, without: readonly number[], joined: readonly number[]): number[] {
  const ids = joined.map((slot) => c.newest.hosts.find((host) => host.slot === slot)!.id);
  return [...c.newest.voters.filter((id) => !without.includes(id)), ...ids].sort((a, b) => a - b);
}

/** A cluster under load, with hosts that wait to vote; and who is what in its view. */
function scene(n: number, joining: number) {
  const c = new Distant(n, false);
  c.slow(WAY_US, WRITE_US);
  c.load();
  const joined = Array.from({ length: joining }, () => c.join());
  c.run(50_000);
  const members = c.quorum();
  const { primary } = c.replica(members[0]!).state;
  const spares = c.newest.voters.filter((id) => !members.includes(id));
  return { c, joined, primary, members, spares, others: members.filter((id) => id !== primary) };
}

/** The longest time without a commit from the operator's request until the epoch has begun, µs. */
function gapOf(c: Distant, ids: readonly number[]): number {
  const from = c.epoch;
  c.watch();
  c.ask({ kind: 'change', from, to: from + 1, ids });
  c.until(1_000_000, () => c.newest.started > from);
  c.run(30_000);
  return c.longestUs;
}

/** How often a replica met an epoch or a host that it did not know. */
function questions(c: Distant): number {
  return c.replicas.reduce((sum, { core }) => sum + core.counters[Counter.members_asked]!, 0);
}

t.test('a planned change costs one write of a disk and a few round trips, whoever leaves', (t) => {
  for (const [what, n, joining, leaves] of [
    ['a member', 3, 1, ({ others }) => [others[0]!]],
    ['a spare', 3, 1, ({ spares }) => [spares[0]!]],
    ['the primary', 3, 1, ({ primary }) => [primary]],
    ['nobody, three become five', 3, 2, () => []],
    ['the primary and a spare of five', 5, 0, ({ primary, spares }) => [primary, spares[0]!]],
  ] as readonly [string, number, number, (of: ReturnType<typeof scene>) => readonly number[]][]) {
    const before = scene(n, joining);
    const { c, joined, members, primary } = before;
    const leaving = leaves(before);
    const asked = questions(c);
    const gap = gapOf(c, voters(c, leaving, joined));
    t.equal(c.newest.started, 1, what);
    t.ok(gap <= WRITE_US + 4 * ROUND_TRIP_US, `${what} leaves: nothing commits for ${gap} µs`);
    t.equal(questions(c), asked, 'nobody is asked for a view of an epoch that it does not know');
    const first = c.replica(c.quorum()[0]!).state;
    t.ok(leaving.includes(primary) || first.primary === primary, 'the primary stays if it votes');
    t.ok(members.includes(first.primary), 'otherwise one that was a member follows it: it has the log');
    const stayed = members.filter((id) => !leaving.includes(id)).length;
    t.equal(
      c.quorum().filter((id) => members.includes(id)).length,
      Math.min(stayed, first.configuration.quorum),
      'the members stay members',
    );
  }
  t.end();
});

t.test('the next epoch is asked for as soon as all hosts that answer have written who its members are', (t) => {
  const { c, primary, joined } = scene(3, 1);
  c.writeUs = 10_000;
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, [primary], joined) });
  c.until(100_000, () => c.newest.decided === 1);
  const decidedUs = c.now.monotonicUs;
  c.until(1_000_000, () => c.replica(primary).state.view >= EPOCH_VIEWS);
  const afterUs = c.now.monotonicUs - decidedUs;
  t.ok(afterUs >= c.writeUs && afterUs <= c.writeUs + 4 * SYNC_US, `after ${afterUs} µs`);
  t.end();
});

t.test('a spare whose disk hangs does not hold the next epoch up, and costs no commits', (t) => {
  const { c, spares, joined } = scene(3, 1);
  c.slowerUs.set(c.replica(joined[0]!), 5_000_000);
  const gap = gapOf(c, voters(c, spares, joined));
  t.equal(c.newest.started, 1, 'the members that stay are a quorum');
  t.ok(gap <= WRITE_US + 4 * ROUND_TRIP_US, `nothing commits for ${gap} µs`);
  t.end();
});

t.test('while the hosts of a quorum write who the members are, the old epoch serves', (t) => {
  const { c, primary, joined } = scene(3, 1);
  c.writeUs = 200_000;
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, [primary], joined) });
  c.until(100_000, () => c.newest.decided === 1);
  c.watch();
  // A promise would wait behind that write, and is a second one.
  c.until(1_000_000, () => c.replica(primary).state.view >= EPOCH_VIEWS);
  t.ok(c.longestUs <= 3 * ROUND_TRIP_US, `nothing committed for ${c.longestUs} µs`);
  t.ok(
    c.replicas.every(({ disk }) => disk.hardState!.members !== undefined),
    'all have written',
  );
  t.end();
});

t.test('hosts that never say that they have written do not hold the next epoch up for long', (t) => {
  const { c, primary, joined } = scene(3, 1);
  for (const { disk } of c.replicas) Object.defineProperty(disk, 'membersIndex', { value: undefined });
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, [primary], joined) });
  c.until(1_000_000, () => c.newest.started === 1);
  t.equal(c.newest.started, 1);
  t.end();
});

t.test('a promise that waits for the disk is said once when it is there, however long the write took', (t) => {
  const { c, members, joined, spares } = scene(3, 1);
  c.writeUs = 20 * SYNC_US;
  const from = c.history.length;
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, spares, joined) });
  c.until(2_000_000, () => members.every((id) => c.replica(id).state.logView >= EPOCH_VIEWS));
  const votes = c.history.slice(from).filter(({ message }) => message === Vote);
  for (const id of c.replicas.map((replica) => replica.id))
    t.ok(votes.filter((vote) => vote.from === id).length <= 2, `votes of replica ${id}`);
  t.ok(votes.length > 0);
  t.end();
});

t.test('the entry that begins an epoch is not fetched by those that have what is before it', (t) => {
  const { c, members, joined, spares } = scene(3, 1);
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, spares, joined) });
  c.until(1_000_000, () => c.replica(members[0]!).state.view >= EPOCH_VIEWS);
  const from = c.history.length;
  c.until(1_000_000, () => members.every((id) => c.replica(id).state.logView >= EPOCH_VIEWS));
  t.same(
    c.history.slice(from).filter(({ message, from }) => message === Fetch && members.includes(from)),
    [],
  );
  const logs = members.map((id) => c.replica(id).state.log);
  const end = Math.min(...logs.map(({ lastIndex }) => lastIndex));
  t.equal(new Set(logs.map((log) => `${log.chainHi(end)} ${log.chainLo(end)}`)).size, 1, 'and their logs are the same');
  t.end();
});

t.test('a primary that is slow to lead the new epoch is waited for: another view would be slower', (t) => {
  const { c, primary, joined, others } = scene(3, 1);
  // A promise waits until the members are written as well: that is over when the change is asked for.
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, [primary], joined) });
  c.until(100_000, () => c.newest.decided === 1);
  c.run(WRITE_US + 10_000);
  for (const id of others) c.slowerUs.set(c.replica(id), 70_000);
  c.until(1_000_000, () => c.newest.started > 0);
  c.run(100_000);
  const views = c.replicas.map(({ state }) => state.view);
  t.ok(
    views.every((view) => view === views[0]),
    `one view: ${views.join(', ')}`,
  );
  t.ok(others.includes(c.replica(c.quorum()[0]!).state.primary), 'the one that was chosen leads it');
  t.equal(Math.max(...c.replicas.map(({ core }) => core.counters[Counter.view_changes_started]!)), 1);
  t.end();
});

t.test('commits go on while it is written down who the members are', (t) => {
  const { c } = scene(3, 0);
  c.writeUs = 300_000;
  c.watch();
  c.ask({ kind: 'learn', identityHi: 7, identityLo: 99, address: 'other:1' });
  c.run(100_000);
  t.equal(c.newest.hosts.length, 4);
  t.ok(c.longestUs <= 3 * ROUND_TRIP_US, `no commits for ${c.longestUs} µs`);
  t.ok(
    c.replicas.every(({ disk }) => disk.hardState!.members?.length !== c.replica(0).state.hardState.members!.length),
    'it is not durable anywhere yet',
  );
  c.run(300_000);
  for (const { disk, state } of c.replicas) t.same(disk.hardState!.members, state.hardState.members, 'and now it is');
  t.end();
});

t.test('durability memory: a view that was promised starts without another write', (t) => {
  const { c, primary, joined } = scene(3, 1);
  const written = c.replicas.map(({ disk }) => disk.writes);
  const views: number[][] = [];
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters(c, [primary], joined) });
  c.until(1_000_000, () => c.newest.started > 0);
  for (const [id, { disk, state }] of c.replicas.entries()) {
    views.push([state.view, state.logView, disk.hardState!.view]);
    // The decision, and the promise.
    t.ok(disk.writes - written[id]! <= 2, `replica ${id}: ${disk.writes - written[id]!} writes`);
  }
  t.ok(
    views.every((each) => each.every((view) => view === c.view)),
    JSON.stringify(views),
  );
  t.end();
});

t.test('the view that an epoch begins with needs as little as can be from hosts that were no members', (t) => {
  const wrong: string[] = [];
  const bits = (mask: number): number => mask.toString(2).replaceAll('0', '').length;
  for (const [n, leaving, joining] of [
    [3, 1, 1],
    [3, 0, 2],
    [5, 2, 0],
    [5, 1, 1],
    [5, 0, 2],
  ] as const) {
    for (let view = 0; view < new Views(n).cycle; view++) {
      const views = new Views(n);
      const members = views.memberMask(view);
      const primary = views.primary(view);
      // The primary and the one before it leave, or only the primary; who joins has the ids and slots that follow.
      const gone = [primary, (primary + n - 1) % n].slice(0, leaving);
      const stay = Array.from({ length: n }, (_, id) => id).filter((id) => !gone.includes(id));
      const ids = [...stay, ...Array.from({ length: joining }, (_, at) => n + at)];
      views.learn([views.present, new Configuration(1, ids, ids, EPOCH_VIEWS, 2 * EPOCH_VIEWS - 1)]);
      const openEpoch = new OpenEpoch({ views, view } as unknown as ReplicaState);
      const { newest } = views;
      for (const ready of [newest.voters, newest.voters & ~(1 << ids[0]!)]) {
        const found = openEpoch.view(ready, primary);
        const all = Array.from({ length: newest.cycle }, (_, at) => newest.first + at).filter(
          (one) => (newest.memberMask(one) & ~ready) === 0,
        );
        const isKept = (one: number): boolean => newest.primary(one) === primary;
        const wasMember = (one: number): boolean => ((members >>> newest.primary(one)) & 1) === 1;
        const leaders = all.some(isKept) ? all.filter(isKept) : all.some(wasMember) ? all.filter(wasMember) : all;
        const strangers = (one: number): number => bits(newest.memberMask(one) & ~members);
        const least = Math.min(...leaders.map(strangers));
        const says = `${n} − ${leaving} + ${joining}, view ${view}, ready ${ready.toString(2)}: ${found}`;
        if (all.length === 0 ? found !== -1 : !leaders.includes(found) || strangers(found) !== least) wrong.push(says);
      }
    }
  }
  t.same(wrong, []);
  t.end();
});
