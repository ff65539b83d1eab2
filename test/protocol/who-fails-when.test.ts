// A change of voters, and who fails when: a script for each row of the design's table. Old voters are 0, 1 and 2; 3 comes
// for 2. "Goes on" means that something commits. What is asserted to happen is waited for in simulated time.
import t from 'tap';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { Feature } from '../../src/protocol/log/features.js';
import { encodeMembership } from '../../src/protocol/membership/membership.js';
import { Chunk, Order, ReplicaStatus, Request, Sync, SyncAck, ViewChange, Vote } from '../../src/wire/messages.js';
import { Changing } from './changing.js';
import { Cluster } from './harness.js';

const E1 = EPOCH_VIEWS;
/** Longer than any patience. */
const LONG = 8_000_000;

/** Three that are named, and a learner in slot 3. */
function three(keepsLog = true): Changing {
  const c = new Changing(3, keepsLog);
  const slot = c.join();
  if (slot !== 3 || c.replica(3).state.status !== ReplicaStatus.normal) throw new Error('the learner did not catch up');
  return c;
}

const toThree = { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] } as const;

t.test('nobody fails: the change is followed by its epoch', (t) => {
  const c = three();
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.equal(c.epoch, 1);
  t.ok(c.until(LONG, () => c.serves()));
  t.strictSame(c.newest.voters, [0, 1, 3]);
  t.end();
});

t.test('the new host dies as a learner: the old epoch goes on, and it is forgotten', (t) => {
  const c = three();
  c.replica(3).crash();
  t.ok(c.until(LONG, () => c.serves()));
  c.ask({ kind: 'forget', id: 3 });
  t.ok(c.until(LONG, () => c.newest.hosts.length === 3));
  t.end();
});

t.test('the new host dies behind the change: the old ones are a quorum of the new epoch', (t) => {
  const c = three();
  c.replica(3).crash();
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('no quorum of the new epoch is alive: the old one goes on until there is one', (t) => {
  const c = three();
  const other = c.join();
  c.replica(3).crash();
  c.replica(other).crash();
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 3, 4] });
  c.run(3_000_000);
  t.equal(c.newest.decided, 1);
  t.equal(c.epoch, 0);
  t.ok(c.serves(), 'the old epoch');
  c.replica(3).start();
  t.ok(
    c.until(LONG, () => c.newest.started === 1),
    'one that returns is enough',
  );
  t.ok(c.serves(), 'the new one');
  t.end();
});

t.test(
  'the primary dies with the change in its log only: the next view does not have it, and the request is repeated',
  (t) => {
    const c = three();
    const [primary] = [c.replica(0).state.primary];
    c.ask(toThree, false, [primary]);
    c.replica(primary).crash();
    c.lose();
    t.ok(c.until(LONG, () => c.view > 0 && c.replica(1).state.status === ReplicaStatus.normal));
    t.equal(c.newest.decided, 0, 'it was not committed');
    c.ask({ ...toThree, ids: [1, 2, 3] });
    t.ok(c.until(LONG, () => c.newest.started === 1));
    t.ok(c.until(LONG, () => c.serves()));
    t.end();
  },
);

t.test('the primary dies before it knows that the change is committed: the next one asks for the epoch', (t) => {
  const c = three();
  const { primary } = c.replica(0).state;
  c.loses = ({ to }) => to === primary;
  c.ask(toThree);
  c.replica(primary).crash();
  c.heal();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('a primary that hears no new host does not hold the change up: another voter asks', (t) => {
  const c = three();
  const other = c.join();
  const { primary } = c.replica(0).state;
  c.loses = ({ from, to }) => (from === primary && to >= 3) || (to === primary && from >= 3);
  c.run(200_000);
  c.ask({ kind: 'change', from: 0, to: 1, ids: [1, 3, other] });
  c.run(500_000);
  t.equal(c.epoch, 0, 'it is left to the primary first');
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.end();
});

t.test('the primary of the first view of the epoch dies before it starts: another view of the epoch follows', (t) => {
  const c = three();
  c.loses = ({ message }) => message.name === Vote.name;
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.replica(0).state.view >= E1 || c.replica(1).state.view >= E1));
  t.equal(c.epoch, 0);
  const { primary } = c.replicas.find(({ state }) => state.view >= E1)!.state;
  c.replica(primary).crash();
  c.heal();
  t.ok(c.until(LONG, () => c.epoch === 1 && c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('… after it fixed its log, which nobody has: the next view starts from its own votes', (t) => {
  const c = three();
  c.loses = ({ message, values }) => message.name === Sync.name && Number(values['view']) >= E1;
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.replicas.some(({ state }) => state.logView >= E1)));
  const first = c.replicas.find(({ state }) => state.logView >= E1)!;
  first.crash();
  c.heal();
  t.ok(c.until(LONG, () => c.epoch === 1 && c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  first.start();
  t.ok(c.until(LONG, () => first.state.view === c.view && first.state.committed === c.replica(1).state.committed));
  t.end();
});

t.test('an old voter that leaves dies before it voted: the others are enough', (t) => {
  const c = three();
  c.loses = ({ from, to }) => from === 2 || to === 2;
  c.ask(toThree);
  c.replica(2).crash();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.end();
});

t.test('an old voter that leaves asks for no other view of an epoch that begins, and is not heard if it does', (t) => {
  const c = three();
  const { hosts } = c.newest;
  const voters = [1, 2, 3];
  // It promises, and does not learn that the view runs. Nor is that committed.
  c.loses = ({ to, message }) =>
    (to === 0 && message.name === Sync.name) ||
    (message.name === SyncAck.name && c.replicas.some(({ state }) => state.logView >= E1));
  c.ask({ kind: 'change', from: 0, to: 1, ids: voters });
  t.ok(c.until(LONG, () => voters.every((id) => c.replica(id).state.logView >= E1)));
  const { view } = c;
  t.match(c.replica(0).state, { view, status: ReplicaStatus.viewChange });
  t.equal(c.newest.hosts, hosts);
  c.loses = ({ to, message }) => to === 0 || message.name === SyncAck.name;
  for (const id of voters) c.replica(id).receive(ViewChange, { view: view + 1 }, 0);
  t.ok(voters.every((id) => c.replica(id).state.view === view));
  c.run(30_000);
  t.equal(c.replica(0).state.view, view);
  c.replica(1).receive(ViewChange, { view: view + 1 }, 3);
  t.equal(c.replica(1).state.view, view + 1, 'a voter of the epoch is heard');
  // Real hosts do not answer one that is not listed any more, but to its question.
  c.loses = ({ from, to }) => from === 0 || to === 0;
  t.ok(c.until(LONG, () => c.replica(0).state.removed));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('one that leaves waits for the voters of the epoch, but not for ever', (t) => {
  const c = three();
  // Only those that leave promise: no other hears that the epoch is asked for.
  c.loses = ({ message, to }) => message.name === Vote.name || (message.name === ViewChange.name && to !== 0);
  c.ask({ kind: 'change', from: 0, to: 1, ids: [1, 2, 3] });
  t.ok(c.until(LONG, () => c.replica(0).state.view >= E1));
  const { view } = c.replica(0).state;
  c.loses = ({ message, from, to }) => message.name === Vote.name || (from !== 0 && to !== 0);
  c.run(500_000);
  t.equal(c.replica(0).state.view, view);
  t.ok(c.until(LONG, () => c.replica(0).state.view > view));
  c.heal();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('a majority of the old ones is gone before the epoch began: nothing starts until one returns', (t) => {
  const c = three();
  const other = c.join();
  c.loses = ({ message }) => message.name === ViewChange.name;
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 3, other] });
  t.ok(c.until(LONG, () => c.newest.decided === 1));
  c.replica(1).crash();
  c.replica(2).crash();
  c.heal();
  c.run(3_000_000);
  t.notOk(
    c.replicas.some(({ up, state }) => up && state.logView >= E1),
    'never by the new ones alone',
  );
  c.replica(1).start();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('a majority of the new ones is gone after the promise: stopped until one returns', (t) => {
  const c = three();
  const other = c.join();
  c.loses = ({ message }) => message.name === Vote.name;
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 3, other] });
  t.ok(c.until(LONG, () => c.replicas.some(({ state }) => state.view >= E1)));
  c.replica(3).crash();
  c.replica(other).crash();
  c.heal();
  c.run(2_000_000);
  t.equal(c.epoch, 0);
  t.equal(c.newest.started, 0);
  c.replica(3).start();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('power fails everywhere in the middle of the change: all return, and it goes on', (t) => {
  const c = three();
  c.loses = ({ message }) => message.name === Vote.name;
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.replicas.some(({ state }) => state.view >= E1)));
  c.heal();
  t.equal(c.epoch, 0);
  for (const replica of c.replicas) replica.crash();
  c.lose();
  for (const replica of c.replicas) replica.start();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('a voter loses its log in the middle of the change: it does not vote before it has another (R1)', (t) => {
  const c = three(false);
  c.loses = ({ message }) => message.name === Vote.name;
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.replica(1).state.view >= E1));
  c.heal();
  c.replica(1).crash();
  c.replica(1).start();
  t.equal(c.replica(1).state.status, ReplicaStatus.recovering);
  t.ok(c.until(LONG, () => c.newest.started === 1 && c.replica(1).state.status === ReplicaStatus.normal));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('one that was replaced returns after long, with its disk: it is told, and disturbs nobody', (t) => {
  const c = three();
  c.replica(2).crash();
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.newest.started === 1));
  const { view } = c;
  c.replica(2).start();
  t.ok(c.until(LONG, () => c.replica(2).state.removed));
  t.equal(c.view, view, 'the view that runs stays');
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('a primary returns, and is told of an epoch without it and without a member of its quorum', (t) => {
  const c = new Changing(5);
  const { primary } = c.replica(0).state;
  const member = c.quorum().find((id) => id !== primary)!;
  c.replica(primary).crash();
  t.ok(c.until(LONG, () => c.view > 0));
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 1, 2, 3, 4].filter((id) => id !== primary && id !== member) });
  t.ok(c.until(LONG, () => c.newest.started === 1));
  c.replica(primary).start();
  const { state, core } = c.replica(primary);
  t.ok(state.isPrimary, 'it does not know');
  const { committed } = state;
  core.takeMembers(encodeMembership(c.newest), c.now);
  t.ok(state.removed);
  c.run(1_000_000);
  t.equal(state.committed, committed, 'it commits nothing any more, and goes on answering');
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('one that slept through three epochs, and is in all of them, finds the view that runs', (t) => {
  const c = three();
  c.replica(0).crash();
  t.ok(c.until(LONG, () => c.replica(1).state.primary !== 0 && c.replica(1).state.status === ReplicaStatus.normal));
  for (const from of [0, 1, 2]) {
    c.ask({ kind: 'change', from, to: from + 1, ids: [0, 1, 3] });
    t.ok(
      c.until(LONG, () => c.newest.started === from + 1),
      `epoch ${from + 1}`,
    );
  }
  c.replica(0).start();
  t.ok(c.until(LONG, () => c.replica(0).state.view === c.view && c.replica(0).state.status === ReplicaStatus.normal));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('cut in the middle of the change, with one dead: nothing starts on either side until the cut is mended', (t) => {
  const c = three();
  c.replica(2).crash();
  c.loses = ({ message }) => message.name === ViewChange.name;
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.newest.decided === 1));
  c.cut(0);
  c.run(3_000_000);
  t.notOk(
    c.replicas.some(({ up, state }) => up && state.logView >= E1),
    'neither 0 alone, nor 1 with the new one',
  );
  c.mend();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.ok(c.until(LONG, () => c.serves()));
  t.end();
});

t.test('what comes late from an older epoch is ignored', (t) => {
  const c = three();
  const late = c.replica(0).state.view;
  c.ask(toThree);
  t.ok(c.until(LONG, () => c.newest.started === 1));
  const { state } = c.replica(1);
  const { view, log } = state;
  const last = log.lastIndex;
  c.replica(1).receive(Sync, { view: late, sequence: 99_999, lastIndex: 999n, committedIndex: 0n }, 0);
  c.replica(1).receive(ViewChange, { view: late + 5 }, 2);
  t.strictSame([state.view, state.status, log.lastIndex], [view, ReplicaStatus.normal, last]);
  t.end();
});

t.test('a host that was told of an epoch and knows no other way joins it', (t) => {
  const c = three();
  c.tells = false;
  c.cut(1);
  c.ask({ ...toThree, ids: [0, 2, 3] }, false, [0, 2]);
  c.run(3_000_000);
  t.ok(c.newest.started === 1 || c.newest.decided === 0);
  c.mend();
  c.replica(1).core.takeMembers(encodeMembership(c.newest), c.now);
  c.tells = true;
  t.ok(c.until(LONG, () => c.newest.index === c.replica(1).state.members.index));
  t.end();
});

t.test('a quorum of one has decided nothing before it is durable', (t) => {
  const c = new Changing(1);
  const { state, disk } = c.replica(0);
  const { index } = state.members;
  disk.held = true;
  c.ask({ kind: 'learn', identityHi: 7, identityLo: 9, address: 'host-1:1' });
  c.run(50_000);
  t.ok(state.execution.membership.index > index, 'it is in the log');
  t.equal(state.members.index, index);
  disk.release();
  t.ok(state.members.index > index);
  t.end();
});

t.test('an epoch whose views run short is followed by another with the same voters, asked for by nobody', (t) => {
  const c = three();
  const due = (3 * EPOCH_VIEWS) / 4;
  const enter = (view: number): void => {
    c.replica(0).receive(ViewChange, { view }, 1);
    t.ok(
      c.until(LONG, () => c.view >= view && c.serves()),
      `view ${view}`,
    );
  };
  enter(due - 20);
  c.run(1_000_000);
  t.equal(c.newest.decided, 0, 'not yet');
  enter(due);
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.strictSame(c.newest.voters, [0, 1, 2]);
  t.strictSame(
    c.newest.hosts.map(({ id }) => id),
    [0, 1, 2, 3],
    'a learner stays',
  );
  t.ok(c.until(LONG, () => c.serves()));
  t.ok(c.view < E1 + 20, 'its views begin anew');
  c.run(1_000_000);
  t.equal(c.newest.decided, 1, 'once');
  t.ok(c.replicas.some(({ transitions }) => transitions.some((text) => text.startsWith('renew-epoch'))));
  t.end();
});

t.test('… also where the replicas have no identities yet', (t) => {
  const c = new Cluster(3, { features: Feature.membership });
  c.replica(0).receive(ViewChange, { view: (3 * EPOCH_VIEWS) / 4 }, 1);
  c.run(2_000_000);
  for (const { state } of c.replicas)
    t.match(state.members, { started: 1, decided: 1, voters: [0, 1, 2] }, `replica ${state.id}`);
  t.end();
});

t.test('… but not where members cannot change, and not beside a change that is open', (t) => {
  const without = new Cluster(3);
  without.replica(0).receive(ViewChange, { view: (3 * EPOCH_VIEWS) / 4 }, 1);
  without.run(2_000_000);
  t.equal(without.replica(0).last, 0);
  const c = three();
  const other = c.join();
  for (const id of [3, other]) c.replica(id).crash();
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 3, 4] });
  t.ok(c.until(LONG, () => c.newest.decided === 1));
  c.replica(0).receive(ViewChange, { view: (3 * EPOCH_VIEWS) / 4 }, 1);
  t.ok(c.until(LONG, () => c.view > E1 / 2));
  c.run(1_000_000);
  t.strictSame(c.newest.nextVoters, [0, 3, 4]);
  t.ok(c.serves());
  t.end();
});

t.test('C2: nobody acts upon a change that is in a log and not committed', (t) => {
  const c = three();
  const [primary, member] = [c.replica(0).state.primary, c.quorum().find((id) => id !== c.replica(0).state.primary)!];
  const { state } = c.replica(primary);
  const transfers = [Chunk.name, Order.name];
  c.loses = ({ message }) => [SyncAck.name, ...transfers].includes(message.name);
  c.ask({ kind: 'move', id: 0, address: 'moved:1' });
  c.run(1_000);
  c.ask(toThree, false, [primary]);
  t.equal(state.execution.membership.decided, 1, 'the primary has executed it');
  c.loses = ({ message }) => transfers.includes(message.name);
  t.ok(
    c.until(LONG, () => state.committed === c.replica(member).last),
    'what is before it is committed',
  );
  c.run(1_000_000);
  t.equal(state.members.decided, 0);
  t.notOk(c.replicas.some((replica) => replica.state.view >= E1));
  c.heal();
  t.ok(c.until(LONG, () => c.newest.started === 1));
  t.end();
});

t.test('a host that gets the slot of one that was forgotten has confirmed nothing', (t) => {
  const c = three();
  const { core, state } = c.replica(c.replica(0).state.primary);
  t.ok(core.matchedAt(3) > 0, 'the learner has caught up');
  c.replica(3).crash();
  c.ask({ kind: 'forget', id: 3 });
  t.ok(c.until(LONG, () => c.newest.hosts.length === 3));
  t.ok(c.until(LONG, () => state.members.hosts.length === 3));
  c.ask({ kind: 'learn', identityHi: 7, identityLo: 999, address: 'host-999:1' });
  t.ok(c.until(LONG, () => state.members.hosts.some(({ id, slot }) => id === 4 && slot === 3)));
  t.ok(state.isPrimary, 'in the same view');
  t.equal(core.matchedAt(3), 0);
  t.end();
});

for (const restarts of [false, true])
  t.test(
    `a new host in the slot of a voter that left is no voter of epoch 0, ${restarts ? 'in its second life' : 'in its first life'}`,
    (t) => {
      const c = three();
      c.cut(1);
      t.ok(c.until(LONG, () => c.view > 0));
      c.mend();
      t.ok(c.until(LONG, () => c.replica(2).state.isMember));
      const hand = c.hand();
      c.give(hand, Request, hand.registration(Number(c.wallNs), { view: c.view }), ...c.quorum());
      c.run(50_000);
      const old = c.replica(0);
      const { view } = old.state;
      t.ok(old.state.isPrimary && old.state.views.isMember(view, 2));
      // It sleeps while the others change the members, and another host gets the slot of its fellow member.
      c.cut(0);
      t.ok(c.until(LONG, () => c.view > view));
      t.ok(c.until(LONG, () => c.serves()));
      c.ask(toThree);
      t.ok(c.until(LONG, () => c.newest.started === 1));
      t.ok(c.until(LONG, () => c.serves()));
      c.replica(2).crash();
      c.ask({ kind: 'learn', identityHi: 7, identityLo: 500, address: 'host-500:1' });
      t.ok(c.until(LONG, () => c.newest.hosts.some(({ id, slot }) => id > 3 && slot === 2)));
      c.cut(0, 2);
      const joiner = c.reuse(2);
      old.core.takeMembers(encodeMembership(c.newest), c.now);
      joiner.start();
      if (restarts) {
        joiner.crash();
        joiner.start();
      }
      const { committed } = old.state;
      for (const id of [0, 2])
        c.replica(id).receive(
          Request,
          hand.request(Number(c.wallNs), 1, 'lost', { view: old.state.view }),
          hand.endpoint,
        );
      c.run(2_000_000);
      t.equal(old.state.committed, committed, 'the old epoch commits nothing any more');
      t.match(joiner.state, { status: ReplicaStatus.recovering, isMember: false, isPrimary: false });
      c.mend();
      t.ok(c.until(LONG, () => [0, 2].every((id) => c.replica(id).state.logView === c.view)));
      t.ok(c.until(LONG, () => c.serves()));
      t.end();
    },
  );

t.test('a client that names views of unknown epochs is asked nothing, and keeps nobody from asking a host', (t) => {
  const c = three();
  c.tells = false;
  const replica = c.replica(2);
  const view = 3 * E1;
  for (let ms = 0; ms < 100; ms++) {
    c.pass(1000);
    replica.receive(Sync, { view }, 200);
    replica.receive(ViewChange, { view }, 200);
    replica.receive(Sync, { view }, 1);
  }
  t.notOk(replica.asked.includes(200));
  t.ok(replica.asked.includes(1));
  t.end();
});

for (const begun of ['unnamed', 'switched'] as const)
  t.test(
    `directories are lost one after the other, through two epochs of replicas without identities: ${begun}`,
    (t) => {
      const c = new Changing(3, true, begun);
      t.ok(c.replicas.every(({ state }) => (state.execution.features & Feature.membership) !== 0));
      for (let lost = 0; lost < 8; lost++) {
        const replica = c.replica(lost % 3);
        replica.crash();
        replica.disk.wipe();
        t.ok(
          c.until(LONG, () => c.replicas.some(({ up, state }) => up && state.isPrimary) && c.serves()),
          'two go on',
        );
        replica.start(false, 'log-lost');
        t.ok(
          c.until(LONG, () => replica.state.status === ReplicaStatus.normal && replica.state.logView === c.view),
          `loss ${lost}: replica ${replica.id} returns`,
        );
        t.ok(c.until(LONG, () => c.serves()));
      }
      t.ok(c.newest.started >= 2, `epoch ${c.newest.started}`);
      t.end();
    },
  );
