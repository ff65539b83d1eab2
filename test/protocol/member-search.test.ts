// Finding the way to another epoch: whom replicas and clients have asked about the members, and when.
import t from 'tap';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { Feature } from '../../src/protocol/log/features.js';
import { change } from '../../src/protocol/membership/changes.js';
import { encodeMembership, firstMembership } from '../../src/protocol/membership/membership.js';
import { VIEW_LEAP } from '../../src/protocol/replica/introduction.js';
import { renewalBehind } from '../../src/protocol/replica/membership/primary-entries.js';
import { OtherReplicas } from '../../src/protocol/replica/others.js';
import { Views } from '../../src/protocol/views.js';
import { encodeOperation } from '../../src/protocol/membership/operations.js';
import {
  Probe,
  ProbeReply,
  ReplicaCondition,
  ReplicaStatus,
  Request,
  RequestFlag,
  ViewChange,
  Vote,
} from '../../src/wire/messages.js';
import { Changing } from './changing.js';
import { Cluster } from './harness.js';

t.test('a replica that hears too few others for any view has the members searched for, ten times a second', (t) => {
  const c = new Cluster(3);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(50_000);
  c.isolate(2);
  c.run(1_000_000);
  t.strictSame([c.replica(0).asked, c.replica(1).asked], [[], []], 'two of three serve on');
  const { asked } = c.replica(2);
  t.ok(asked.length > 0 && asked.every((from) => from === -1), 'the third looks elsewhere');
  const before = asked.length;
  c.run(2_000_000);
  t.ok(asked.length > before, 'for as long as that lasts');
  t.ok(asked.length - before <= 20, `${asked.length - before} times in two seconds`);
  t.equal(c.replica(2).counter('members_asked'), asked.length, 'each is counted');
  t.strictSame(
    c.replica(2).transitions.filter((one) => one.startsWith('ask-epoch')),
    ['ask-epoch: too few of the voters that are known here answer'],
    'and logs have it once in ten seconds',
  );
  c.heal();
  c.run(500_000);
  const healed = asked.length;
  c.run(1_000_000);
  t.equal(asked.length, healed, 'and not once it is in a view');
  t.end();
});

t.test('a replica that answers a probe from an epoch that is not known is asked about the members', (t) => {
  const c = new Cluster(3, { features: Feature.membership });
  const { asked } = c.replica(0);
  c.replica(0).receive(ProbeReply, { view: 5, status: ReplicaStatus.normal }, 2);
  t.strictSame(asked, [], 'a view of this epoch needs no explanation');
  c.replica(0).receive(ProbeReply, { view: EPOCH_VIEWS, status: ReplicaStatus.normal }, 2);
  t.strictSame(asked, [2]);
  t.end();
});

t.test('a client that nobody answers has the members searched for, and goes on asking those that it knows', (t) => {
  const c = new Cluster(3, { replicas: false });
  const client = c.client();
  client.register();
  c.pass(5_000);
  t.equal(client.searches, 0, 'not before it has asked the replicas that it knows');
  c.pass(5_000_000);
  const { searches } = client;
  t.ok(searches > 0, `${searches} times`);
  c.pass(5_000_000);
  t.ok(client.searches > searches, 'again and again');
  t.end();
});

t.test('a client in a view of another epoch that nobody is in starts from the first view that it knows', (t) => {
  const c = new Cluster(3, { replicas: false });
  const named = [0, 1, 2].reduce(
    (members, id) =>
      change(members, { kind: 'name', id, identityHi: 7, identityLo: id + 1, address: `host-${id}:1` }, id + 1, false)
        .membership,
    firstMembership(3),
  );
  const open = change(named, { kind: 'change', from: 0, to: 1, ids: [0, 1] }, 4, false).membership;
  const begun = change(open, { kind: 'go', epoch: 1 }, 5, true).membership;
  const client = c.client(1, {}, { members: encodeMembership(begun) });
  client.register();
  c.lose();
  client.receive(ProbeReply, { view: EPOCH_VIEWS + 5, status: ReplicaStatus.normal }, 0);
  t.equal(client.core.view, EPOCH_VIEWS + 5);
  c.pass(5_000_000);
  t.equal(client.core.view, 0, 'nothing committed there');
  client.receive(ProbeReply, { view: EPOCH_VIEWS + 1, status: ReplicaStatus.normal }, 1);
  t.equal(client.core.view, EPOCH_VIEWS + 1, 'a lower one that runs is found');
  client.receive(ProbeReply, { view: EPOCH_VIEWS + 7, status: ReplicaStatus.normal }, 2);
  t.equal(client.core.view, EPOCH_VIEWS + 1, 'and one that is no voter of the epoch does not lead away from there');
  t.end();
});

t.test('a client crosses the end of epoch 0 when a replica there knows of no change, and only then', (t) => {
  const c = new Cluster(3, { replicas: false });
  const hosts = [0, 1, 2].map((id) => ({ id, slot: id, identityHi: 7, identityLo: id + 1, address: `host-${id}:1` }));
  const changed = encodeMembership({ ...firstMembership(3), index: 4, hosts });
  const view = EPOCH_VIEWS + 5;
  for (const knows of [false, true]) {
    const client = c.client(1, {}, {}, true);
    client.register();
    if (knows) client.core.takeMembers(changed, c.now);
    client.receive(ProbeReply, { view, status: ReplicaStatus.normal }, 0);
    t.equal(client.core.view, 0, 'a view of an epoch that is not known is not believed');
    t.strictSame(client.asked, [0], 'and who names it is asked');
    client.core.takeFirstMembers(view, c.now);
    t.equal(client.core.view, knows ? 0 : view);
  }
  t.end();
});

t.test('a client whose cluster file names other first members gets no session beyond epoch 0 either', (t) => {
  // Of three and of five replicas it has the same primary, and two of its three members for a quorum of three.
  const view = 30 * Math.ceil(EPOCH_VIEWS / 30);
  for (const isCompared of [true, false]) {
    const c = new Cluster(5);
    c.run(50_000);
    for (const { id } of c.replicas) c.replica(id).receive(ViewChange, { view }, (id + 1) % 5);
    c.run(500_000);
    t.strictSame(
      c.replicas.map(({ state }) => [state.logView, state.status]),
      c.replicas.map(() => [view, ReplicaStatus.normal]),
      'the cluster has crossed the end of epoch 0',
    );
    const client = c.client(1, {}, { replicas: 3 }, true);
    if (!isCompared) client.core.lists.refuses = () => false;
    client.register();
    for (let i = 0; i < 100; i++) {
      c.run(20_000);
      // As its host does when a replica there knows of no change.
      if (client.asked.splice(0).length > 0) client.core.takeFirstMembers(view, c.now);
    }
    t.equal(
      client.core.registered,
      !isCompared,
      isCompared ? 'no session' : 'without the comparison, one of two answers',
    );
  }
  t.end();
});

t.test('a replica whose views do not start has the members searched for', (t) => {
  const c = new Cluster(3);
  c.run(50_000);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  // Two are alive, and neither hears what the other asks for.
  c.replica(0).crash();
  c.loses = ({ message }) => !message.name.startsWith('Probe');
  c.run(5_000_000);
  const { state, asked } = c.replica(1);
  t.equal(state.status, ReplicaStatus.viewChange);
  t.ok(state.view > 1 && asked.includes(-1), `view ${state.view}`);
  t.end();
});

t.test('an answer that was for another host at the same address is no reason to stop', (t) => {
  const stale = { knownIncarnation: 9, incarnation: 1, list: 3 << 28 };
  const before = new Cluster(3);
  t.throws(() => before.replica(0).receive(ProbeReply, stale, 1), { name: 'ForgottenError' }, 'where hosts stay');
  const c = new Cluster(3);
  c.replica(0).core.takeMembers(encodeMembership({ ...firstMembership(3), index: 3 }), c.now);
  c.replica(0).receive(ProbeReply, stale, 1);
  t.ok(c.replica(0).up);
  t.end();
});

t.test('a replica that forgot what it promised counts the voters of the epoch that others are in', (t) => {
  const c = new Cluster(3, { first: 'ask' });
  const replica = c.replica(0);
  replica.start(false, 'log-lost');
  const ids = [0, 1, 2, 3, 4];
  const hosts = ids.map((id) => ({ id, slot: id, identityHi: 7, identityLo: id + 1, address: `host-${id}:1` }));
  const members = { index: 9, started: 1, decided: 1, voters: ids, nextVoters: ids, hosts, nextId: 5 };
  replica.core.takeMembers(encodeMembership(members), c.now);
  c.pass(30_000);
  const probe = c.history.filter(({ message }) => message.name === Probe.name).pop()!;
  const answer = { nonce: probe.values['nonce']!, view: EPOCH_VIEWS + 1, status: ReplicaStatus.normal, incarnation: 1 };
  for (const from of [1, 2]) replica.receive(ProbeReply, answer, from);
  t.ok(replica.state.starting, 'two others would be enough among three, not among five');
  replica.receive(ProbeReply, answer, 3);
  t.notOk(replica.state.starting);
  t.equal(replica.state.view, EPOCH_VIEWS + 1 + VIEW_LEAP);
  t.end();
});

t.test('C7: nobody begins with an empty directory under an id for which the log lists another', (t) => {
  for (const first of ['ask', 'log-lost'] as const) {
    const c = new Changing(3);
    const wiped = c.replica(2);
    wiped.crash();
    wiped.disk.wipe();
    c.tells = false; // what its host would stop it for
    const before = c.posted;
    wiped.start(false, first);
    c.run(3_000_000);
    t.strictSame([wiped.state.starting, wiped.disk.hardState, wiped.forgotten], [true, undefined, undefined], first);
    t.ok(
      wiped.asked.some((from) => from === 0 || from === 1),
      'it asks those that say so who the members are',
    );
    t.strictSame(
      [...new Set(c.history.slice(before).flatMap(({ from, message }) => (from === 2 ? [message.name] : [])))].filter(
        (name) => !name.startsWith('Probe'),
      ),
      [],
      'it only asks',
    );
    t.ok(c.serves(), 'the others go on');
  }
  t.end();
});

t.test('C7: an entry that is in a log counts, whether it is known to be committed or not', (t) => {
  const c = new Cluster(3, { features: Feature.membership });
  const operator = c.hand();
  c.give(operator, Request, operator.registration(10), 0, 1);
  c.run(50_000);
  const isNamed = (slot: number): boolean => {
    c.replica(0).receive(Probe, { nonce: 5, incarnation: 0, life: 0, list: 0, fingerprint: 0 }, slot);
    const [answer] = c.take({ from: 0, to: slot, message: ProbeReply });
    return (Number(answer!.values['condition']) & ReplicaCondition.named) !== 0;
  };
  t.strictSame([isNamed(1), isNamed(2)], [false, false], 'the feature alone names nobody');
  c.loses = ({ message }) => message !== ProbeReply;
  const name = encodeOperation({ kind: 'name', id: 2, identityHi: 7, identityLo: 3, address: 'host-2:1' });
  c.replica(0).receive(
    Request,
    { ...operator.request(0, 1, ''), timestamp: c.wallNs, flags: RequestFlag.configure, operation: name },
    operator.endpoint,
  );
  c.run(2_000);
  t.strictSame([c.replica(0).state.committed, c.replica(0).state.log.lastIndex], [1, 2]);
  t.strictSame([isNamed(1), isNamed(2)], [false, true]);
  t.end();
});

for (const dies of [false, true])
  t.test(
    `a replica that forgot its promises does not begin while an epoch is decided that has not begun${dies ? ', nor waits for who said so and died' : ''}`,
    (t) => {
      const c = new Changing(5, true, 'unnamed');
      const lost = c.replica(4);
      const primary = c.replica(0);
      // The primary has the same voters decided for the next epoch, which does not begin yet: nobody hears that it is asked for.
      t.ok(primary.state.append(renewalBehind(primary.state.log, 0, 1, [0, 1, 2, 3, 4])));
      primary.state.execution.executeTo(primary.last);
      c.loses = ({ message }) => message === ViewChange || message === Vote;
      c.run(60_000);
      t.match(primary.state.members, { started: 0, decided: 1 });
      lost.crash();
      lost.disk.wipe();
      lost.start(true, 'log-lost');
      c.run(500_000);
      t.equal(lost.state.starting, true, 'it may have promised a view of that epoch');
      if (dies) {
        primary.crash();
        c.run(1_000_000);
        t.equal(lost.state.starting, true, 'the others say so, too');
      }
      c.mend();
      c.run(dies ? 10_000_000 : 3_000_000);
      t.match(c.replica(1).state.members, { started: 1, decided: 1 });
      t.equal(lost.state.starting, false);
      t.ok(lost.state.view >= EPOCH_VIEWS + VIEW_LEAP, `it leapt above the views of the new one: ${lost.state.view}`);
      t.end();
    },
  );

t.test('only what replicas answered lately says that none lists a replica that forgot its promises', (t) => {
  const c = new Cluster(3, { first: 'ask' });
  const replica = c.replica(0);
  replica.start(false, 'log-lost');
  c.pass(30_000);
  const probe = c.history.filter(({ message }) => message.name === Probe.name).pop()!;
  const answer = { nonce: probe.values['nonce']!, view: 3, status: ReplicaStatus.normal, incarnation: 1 };
  replica.receive(ProbeReply, answer, 1);
  c.pass(300_000);
  replica.receive(ProbeReply, { ...answer, view: 2 }, 2);
  t.ok(replica.state.starting, 'one of the two answered long ago');
  replica.receive(ProbeReply, { ...answer, view: 2 }, 1);
  t.notOk(replica.state.starting);
  t.end();
});

t.test('a view that a replica named long ago still counts', (t) => {
  const c = new Cluster(5, { first: 'ask' });
  const replica = c.replica(0);
  replica.start(false, 'log-lost');
  c.pass(30_000);
  const probe = c.history.filter(({ message }) => message.name === Probe.name).pop()!;
  const answer = { nonce: probe.values['nonce']!, view: 2, status: ReplicaStatus.normal, incarnation: 1 };
  replica.receive(ProbeReply, { ...answer, view: 9, condition: ReplicaCondition.named }, 1);
  c.pass(300_000);
  for (const from of [2, 3, 4]) {
    t.ok(replica.state.starting);
    replica.receive(ProbeReply, answer, from);
  }
  t.notOk(replica.state.starting);
  t.equal(replica.state.view, 9 + VIEW_LEAP);
  t.end();
});

t.test('nobody is new where another one has said that a directory is listed, even long ago', (t) => {
  const c = new Cluster(3, { first: 'ask' });
  const replica = c.replica(0);
  replica.start(false, 'ask');
  c.pass(30_000);
  const probe = c.history.filter(({ message }) => message.name === Probe.name).pop()!;
  const condition = ReplicaCondition.starting | ReplicaCondition.met;
  const answer = { nonce: probe.values['nonce']!, status: ReplicaStatus.normal, condition };
  replica.receive(ProbeReply, answer, 1);
  replica.receive(ProbeReply, { ...answer, incarnation: 1, condition: ReplicaCondition.named }, 1);
  c.pass(300_000);
  replica.receive(ProbeReply, answer, 2);
  t.ok(replica.state.starting, 'though both were unused when they first answered');
  t.end();
});

t.test('a replica that forgot its promises begins when as many others have a log as a view starts from', (t) => {
  const c = new Cluster(3, { first: 'ask' });
  const replica = c.replica(0);
  replica.start(false, 'log-lost');
  c.pass(30_000);
  const probe = c.history.filter(({ message }) => message.name === Probe.name).pop()!;
  const answer = { nonce: probe.values['nonce']!, view: 3, status: ReplicaStatus.normal, incarnation: 1 };
  replica.receive(ProbeReply, answer, 1);
  replica.receive(ProbeReply, { ...answer, status: ReplicaStatus.recovering }, 2);
  t.ok(replica.state.starting, 'one of the two has lost its log: it may have had a listing of this id');
  replica.receive(ProbeReply, answer, 2);
  t.notOk(replica.state.starting);
  t.end();
});

t.test('hosts that do not vote have no log to lose: they are not counted with those that lost theirs', (t) => {
  const others = new OtherReplicas(0, new Views(3));
  others.noteLost(0b11100, -1);
  t.equal(others.lostLogs, 0, 'one voter and two learners');
  others.noteLost(0b00110, -1);
  t.equal(others.lostLogs & 0b111, 0b110, 'two voters of three');
  t.end();
});
