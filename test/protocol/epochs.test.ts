// Epochs: which votes are enough for a view (C3), which views are of which epoch (C2, `overflow`), and a change of voters
// from its entry to the end of the old epoch (C4, C5).
import t from 'tap';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { Feature } from '../../src/protocol/log/features.js';
import { change } from '../../src/protocol/membership/changes.js';
import { configurationsOf } from '../../src/protocol/membership/configurations.js';
import { encodeMembership, firstMembership, type Membership } from '../../src/protocol/membership/membership.js';
import { encodeOperation, type ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { DEFAULT_TIMINGS } from '../../src/protocol/config.js';
import { CounterMachine } from '../../src/machine/counter.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { areEnough } from '../../src/protocol/replica/membership/enough-votes.js';
import { Views } from '../../src/protocol/views.js';
import {
  Chunk,
  Fetch,
  Probe,
  ProbeReply,
  ReplicaStatus,
  Request,
  RequestFlag,
  Sync,
  ViewChange,
  Vote,
} from '../../src/wire/messages.js';
import {
  Cluster,
  decode,
  Disk,
  encode,
  HandOutbox,
  type HandClient,
  hasher,
  TEST_LIMITS,
  type Values,
} from './harness.js';

const E1 = EPOCH_VIEWS;
const name = (id: number): ConfigureOperation => ({
  kind: 'name',
  id,
  identityHi: 7,
  identityLo: id + 1,
  address: `first-${id}:1`,
});
const learn = (identityLo: number): ConfigureOperation => ({
  kind: 'learn',
  identityHi: 0,
  identityLo,
  address: `host-${identityLo}:1`,
});

function after(replicas: number, ...operations: ConfigureOperation[]): Membership {
  let present = firstMembership(replicas);
  for (const operation of [...Array.from({ length: replicas }, (_, id) => name(id)), ...operations])
    present = change(present, operation, present.index + 1, operation.kind === 'go').membership;
  return present;
}

/** Three voters; then 0, 1 and 3 in place of 2. */
const open = (): Membership => after(3, learn(11), learn(12), { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] });

function viewsOf(membership: Membership, view = 0): Views {
  const views = new Views(3, () => false);
  views.learn(configurationsOf(membership));
  views.enter(view);
  return views;
}

t.test('C3: V votes of the epoch, and V of the one before unless the newest log is of the epoch already', (t) => {
  const views = viewsOf(open(), E1);
  const enough = (view: number, ...votes: readonly (readonly [from: number, logView: number])[]): boolean =>
    areEnough(
      votes.map(([from, logView]) => ({ from, logView })),
      view,
      views,
    );
  for (const [what, expected, ...votes] of [
    ['nobody', false],
    ['one of both', false, [0, 0]],
    ['two of both', true, [0, 0], [1, 4]],
    ['two of the new one, one of the old (newonly, fewold)', false, [0, 0], [3, 0]],
    ['two of the old one, one of the new (oldonly)', false, [0, 0], [2, 0]],
    ['two of each, one of them in both', true, [0, 0], [2, 0], [3, 0]],
    ['the newest log is of the epoch: two of the new one', true, [0, 0], [3, E1 + 1]],
    ['the newest log is of the epoch: two of the old one', false, [0, E1 + 1], [2, 0]],
    ['hosts that vote in neither', false, [0, 0], [4, 0], [5, 0]],
  ] as const)
    t.equal(enough(E1 + 2, ...(votes as readonly (readonly [number, number])[])), expected, what);
  t.equal(enough(5, [0, 0], [2, 3]), true, 'a view of the old epoch needs its own voters only');
  t.equal(enough(5, [0, 0], [3, 3]), false, 'and none of the next one counts');
  t.equal(enough(2 * E1, [0, 0], [1, 0], [2, 0], [3, 0]), false, 'a view of an unknown epoch starts from nothing');
  t.end();
});

t.test('votes are taken of voters of the epoch and of the one before', (t) => {
  const views = viewsOf(open(), E1);
  t.strictSame(
    [0, 1, 2, 3, 4].map((r) => views.mayVote(E1, r)),
    [true, true, true, true, false],
  );
  t.strictSame(
    [0, 1, 2, 3, 4].map((r) => views.mayVote(0, r)),
    [true, true, true, false, false],
  );
  const begun = viewsOf(
    after(3, learn(11), learn(12), { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] }, { kind: 'go', epoch: 1 }),
  );
  t.strictSame(
    [0, 1, 2, 3, 4].map((r) => begun.mayVote(E1, r)),
    [true, true, true, true, false],
    'as long as the present view is of the old epoch',
  );
  begun.enter(E1);
  begun.learn(
    configurationsOf(
      after(3, learn(11), learn(12), { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] }, { kind: 'go', epoch: 1 }),
    ),
  );
  t.notOk(begun.mayVote(E1, 2), 'then those of the old one are not needed any more');
  t.end();
});

t.test("views of an epoch that is not known are nobody's, once a change can have been decided", (t) => {
  const views = viewsOf(after(3));
  const last = EPOCH_VIEWS - 1;
  t.equal(views.of(last)?.epoch, 0);
  t.equal(views.of(E1), undefined, 'overflow');
  t.strictSame([views.primary(E1), views.memberMask(E1), views.mayVote(E1, 0)], [-1, 0, false]);
  t.equal(views.next(last, 7, -1, 7), -1, 'the old configuration takes no number of the next epoch');
  t.throws(() => views.enter(E1), { name: 'InvariantError' }, 'C2');
  views.learn(configurationsOf(open()));
  t.equal(views.of(E1)?.epoch, 1);
  t.equal(views.of(2 * E1), undefined);
  const legacy = new Views(3);
  t.equal(legacy.primary(4 * E1 + 2), (4 * E1 + 2) % 3, 'where nothing can have been decided all views are of epoch 0');
  t.equal(new Views(3).next(last, 7, -1, 7), E1, 'which may use up its numbers');
  let mayCross = true;
  const lagging = new Views(3, () => mayCross);
  t.equal(lagging.of(E1 + 3)?.epoch, 0, 'somebody names a view of the next epoch, and nothing is known to be decided');
  mayCross = false;
  t.equal(lagging.of(E1 + 3), undefined, 'its log says since that something may be: the name alone gave no views away');
  lagging.learn(configurationsOf(after(3)));
  t.equal(lagging.of(E1 + 3), undefined);
  mayCross = true;
  const entered = new Views(3, () => mayCross);
  entered.enter(E1 + 3);
  mayCross = false;
  t.strictSame([entered.of(2 * E1 - 1)?.epoch, entered.of(2 * E1)], [0, undefined], 'one that was entered did');
  const late = new Views(3, () => false);
  late.learn(configurationsOf(after(3, { kind: 'change', from: 0, to: 6, ids: [0, 1] })));
  late.restore(4 * E1 + 2, 0);
  t.strictSame(
    [late.present.epoch, late.of(5 * E1), late.of(6 * E1)?.epoch],
    [0, undefined, 1 + 5],
    'a view that was durable',
  );
  t.end();
});

t.test('a durable view of an epoch that is over says nothing of who leads it, and starts no other', (t) => {
  const begun = after(3, learn(11), { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] }, { kind: 'go', epoch: 1 });
  const later = change(begun, { kind: 'change', from: 1, to: 2, ids: [0, 1] }, 50, false).membership;
  const second = change(later, { kind: 'go', epoch: 2 }, 51, true).membership;
  const views = new Views(3, () => false);
  views.learn(configurationsOf(second));
  views.restore(E1 + 1, second.started);
  t.strictSame([views.primary(E1 + 1), views.memberMask(E1 + 1), views.next(E1 + 1, 7, -1, 7)], [-1, 0, -1]);
  t.strictSame([views.primary(2 * E1), views.of(2 * E1)?.n], [0, 2]);
  const votes = [
    { from: 0, logView: E1 + 1 },
    { from: 1, logView: 3 },
  ];
  t.notOk(areEnough(votes, 2 * E1, views), 'an epoch that has begun has logs of its own');
  t.ok(areEnough([{ from: 0, logView: 2 * E1 }, votes[1]!], 2 * E1 + 1, views));
  const behind = new Views(3, () => false);
  behind.learn(configurationsOf(second));
  t.notOk(areEnough([{ from: 0, logView: 0 }, votes[1]!], 2 * E1, behind), 'nor is epoch 0 the one before epoch 2');
  views.enter(2 * E1);
  views.learn(configurationsOf(change(second, { kind: 'change', from: 2, to: 5, ids: [0] }, 52, false).membership));
  t.equal(views.before(views.of(5 * E1)!)?.epoch, 2, 'numbers may be skipped');
  t.end();
});

const configuring = (client: HandClient, at: number, request: number, operation: ConfigureOperation): Values => ({
  ...client.request(at, request, ''),
  flags: RequestFlag.configure,
  operation: encodeOperation(operation),
});

/** Three replicas that are named, and a client with three requests done. */
function named(): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, { features: Feature.membership });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  for (const id of [0, 1, 2]) c.give(alice, Request, configuring(alice, 20 + id, 1 + id, name(id)), 0, 1);
  c.run(20_000);
  return { c, alice };
}

t.test('a change that is committed is followed by its epoch, whose log says so', (t) => {
  const { c, alice } = named();
  c.give(alice, Request, configuring(alice, 30, 4, { kind: 'change', from: 0, to: 1, ids: [0, 1] }), 0);
  const before = c.replica(0).state;
  t.strictSame(
    [before.execution.membership.decided, before.members.decided, before.view],
    [1, 0, 0],
    'C2: not before that',
  );
  c.give(alice, Request, configuring(alice, 30, 4, { kind: 'change', from: 0, to: 1, ids: [0, 1] }), 1);
  c.run(300_000);
  for (const id of [0, 1]) {
    const { state } = c.replica(id);
    t.strictSame(
      [state.status, Math.floor(state.view / E1), state.logView],
      [ReplicaStatus.normal, 1, state.view],
      `${id}`,
    );
    t.match(state.members, { started: 1, decided: 1, voters: [0, 1] });
    t.equal(state.log.flags(state.log.lastIndex), RequestFlag.configure, 'C4: Go is the last entry');
    t.equal(state.log.sessionHi(state.log.lastIndex) | state.log.sessionLo(state.log.lastIndex), 0);
    t.equal(state.committed, state.log.lastIndex, 'and it is committed');
    t.equal(state.configuration.quorum, 2);
  }
  t.notOk(c.replica(0).state.hosts.has(2), 'who does not vote any more has left');
  const gone = c.replica(2);
  gone.core.takeMembers(encodeMembership(c.replica(0).state.members), c.now);
  t.ok(gone.state.removed, 'it hears of that from the members');
  const told = (id: number): string[] =>
    c.replica(id).transitions.filter((one) => /^(change-decided|epoch-started|removed):/.test(one));
  t.strictSame(
    [told(0), told(1)],
    Array(2).fill(['change-decided: epoch 1, voters 0 1; epoch 0 goes on', 'epoch-started: epoch 1, voters 0 1']),
    'logs have each once',
  );
  t.strictSame(told(2).slice(-2), ['epoch-started: epoch 1, voters 0 1', 'removed: not listed any more in epoch 1']);
  const { posted } = c;
  c.run(500_000);
  t.same(
    c.history.slice(posted).filter(({ from }) => from === 2),
    [],
    'and disturbs nobody',
  );
  t.end();
});

t.test('what others say of epochs that are not known here, or in which they do not vote, moves nothing', (t) => {
  const { c } = named();
  const { state } = c.replica(1);
  c.replica(1).receive(ViewChange, { view: E1 }, 0);
  t.strictSame([state.view, state.status], [0, ReplicaStatus.normal], 'C2: it is not promised');
  c.replica(1).receive(Sync, { view: E1, lastIndex: 0n, committedIndex: 0n }, 0);
  c.replica(1).receive(Vote, { view: E1 + 1, lastIndex: 0n, committedIndex: 0n }, 2);
  t.equal(state.view, 0);
  const members = after(3, learn(11), { kind: 'change', from: 0, to: 1, ids: [0, 1, 3] });
  c.replica(1).core.takeMembers(encodeMembership({ ...members, index: 50 }), c.now);
  c.replica(1).receive(ViewChange, { view: E1 }, 0);
  t.strictSame([state.view, state.status], [E1, ReplicaStatus.viewChange], 'known to be committed, it is');
  t.equal(state.members.index, 50);
  c.replica(1).core.takeMembers(encodeMembership(firstMembership(3)), c.now);
  t.equal(state.members.index, 50, 'older members change nothing');
  t.strictSame(
    state.hardState.members,
    encodeMembership({ ...members, index: 50 }),
    'they are durable with the promise',
  );
  c.replica(1).receive(ViewChange, { view: 7 }, 0);
  t.equal(state.view, E1, 'C5: views are compared by epoch first');
  t.end();
});

t.test('hosts are named by their ids, not by the places that they have in masks', (t) => {
  const { c } = named();
  const replica = c.replica(1);
  const [, ...rest] = after(3).hosts;
  const hosts = [...rest, { id: 7, slot: 0, identityHi: 7, identityLo: 9, address: 'host-7:1' }];
  const voters = [1, 2, 7];
  const members = { ...after(3), started: 1, decided: 1, index: 50, voters, nextVoters: voters, hosts, nextId: 8 };
  replica.core.takeMembers(encodeMembership(members), c.now);
  t.equal(replica.state.members.index, 50);
  replica.receive(ViewChange, { view: E1 }, 0);
  t.ok(replica.transitions.includes('promise: asked by replica 7'), replica.transitions.join('\n'));
  replica.core.divergence.contradictions.impossible(0, 'says so', c.now);
  t.equal(replica.transitions.at(-1), 'contradicted: replica 7 says so; its message is ignored');
  t.strictSame(replica.state.hosts.idsOf(0b111), voters);
  t.equal(replica.state.hosts.namesOf(0b011), '1 and 7');
  t.equal(replica.state.hosts.namesOf(0), 'none');
  t.strictSame([replica.state.hosts.idOf(0), replica.state.hosts.idOf(9)], [7, -1]);
  t.end();
});

const VOTED_BY_ALL = [0, 1, 2];
/** Members in which epoch `to` is decided behind epoch `from`, which began, as after `index` entries. */
const decided = (from: number, to: number, index: number): Uint8Array =>
  encodeMembership({
    ...after(3),
    started: from,
    decided: to,
    nextVoters: VOTED_BY_ALL,
    index,
  });

t.test('a replica that begins without its memory waits until it knows the epoch of the views that others name', (t) => {
  const { c } = named();
  const forgot = c.replica(2);
  forgot.crash();
  forgot.disk.wipe();
  c.lose();
  forgot.start(true, 'log-lost');
  const answer = (view: number, ...from: number[]): void => {
    for (const { values } of c.take({ from: 2, message: Probe }))
      for (const id of from)
        if (forgot.state.starting)
          forgot.receive(ProbeReply, { nonce: values['nonce']!, view, status: ReplicaStatus.normal }, id);
  };
  const view = 4 * E1 + 9;
  answer(view, 0, 1);
  t.equal(forgot.state.starting, true);
  t.match(forgot.asked, [0], 'it asks who the members are');
  t.equal(forgot.disk.hardState, undefined);
  const members = decided(0, 4, 50);
  forgot.core.takeMembers(members, c.now);
  forgot.core.flush(c.now);
  t.equal(forgot.disk.hardState, undefined, 'members are not durable before it has begun: the next start asks as well');
  c.lose();
  forgot.tick();
  c.pass(200_000);
  answer(view, 0, 1);
  t.strictSame([forgot.state.starting, forgot.state.status], [false, ReplicaStatus.recovering]);
  t.ok(forgot.state.view > view && forgot.state.view < 5 * E1, `begins in view ${forgot.state.view}`);
  t.strictSame(forgot.state.hardState.members, members);
  t.end();
});

t.test('bytes that are no members are ignored', (t) => {
  const { c } = named();
  const { core, state } = c.replica(1);
  const { index } = state.members;
  const good = decided(0, 1, 50);
  const counted = c.replica(1).counter('ignored');
  let wrong = 0;
  for (let length = 0; length < good.length; length++, wrong++) core.takeMembers(good.slice(0, length), c.now);
  t.equal(c.replica(1).counter('ignored'), counted + wrong);
  t.equal(state.members.index, index);
  core.takeMembers(good, c.now);
  t.equal(state.members.index, 50);
  t.end();
});

t.test('C4: a vote for a log that is not of the epoch that it names does not count', (t) => {
  const { c } = named();
  const { core, state } = c.replica(1);
  c.run(50_000);
  core.takeMembers(decided(0, 1, 50), c.now);
  const view = Array.from({ length: 9 }, (_, i) => E1 + 3 + i).find((one) => state.views.primary(one) === 1)!;
  c.replica(1).receive(ViewChange, { view }, 0);
  t.equal(state.status, ReplicaStatus.viewChange);
  const last = c.replica(1).last;
  const chain = c.replica(1).chain(last);
  const vote = { view, lastIndex: BigInt(last), lastChain: chain, committedIndex: 0n, committedChain: 0n };
  c.replica(1).receive(Vote, { ...vote, logView: E1 + 1 }, 2);
  t.strictSame([state.status, state.logView], [ReplicaStatus.viewChange, 0], 'nothing starts');
  t.match(
    c.replica(1).transitions.filter((text) => text.startsWith('contradicted')),
    [/^contradicted: replica 2 says that its log is of view 262145, and that log leads to epoch 0 instead of 1/],
  );
  t.equal(state.execution.executed, state.committed, 'what was executed to find out is taken back');
  t.equal(c.replica(1).last, last);
  c.replica(1).receive(Vote, { ...vote, logView: 0 }, 0);
  t.equal(state.status, ReplicaStatus.viewChange, 'the log that is there does not decide the epoch either');
  t.end();
});

t.test('the log of a view is not taken up if its epoch was forgotten meanwhile', (t) => {
  const { c, alice } = named();
  c.run(50_000);
  c.give(alice, Request, alice.request(Number(c.wallNs), 9, 'x', { lane: 1 }), 0, 1);
  c.settle();
  const lost = c.replica(2);
  lost.crash();
  lost.start(true);
  c.lose();
  t.equal(lost.state.status, ReplicaStatus.recovering);
  lost.core.takeMembers(decided(0, 1, 50), c.now);
  const view = Array.from({ length: 9 }, (_, i) => E1 + 3 + i).find((one) => lost.state.views.primary(one) === 0)!;
  const { last } = c.replica(0);
  lost.receive(
    Sync,
    { view, lastIndex: BigInt(last), lastChain: c.replica(0).chain(last), committedIndex: 0n, committedChain: 0n },
    0,
  );
  const [fetch] = c.take({ from: 2, to: 0, message: Fetch });
  t.match(fetch?.values, { view, logView: view });
  const [chunk] = c.replica(0).receive(Fetch, { ...fetch!.values, view: 0, logView: 0 }, 2);
  t.equal(chunk?.message, Chunk);
  // The primary of a view of epoch 1 sends its log; before it is whole, the replica hears that epoch 3 is decided behind epoch 2.
  lost.core.takeMembers(decided(2, 3, 60), c.now);
  lost.receive(Chunk, { ...chunk!.values, view, logView: view }, 0);
  t.strictSame([lost.state.status, lost.state.view], [ReplicaStatus.recovering, 0]);
  t.match(lost.transitions.at(-1), `install-failed: the epoch of view ${view} is not known any more`);
  t.end();
});

t.test('C6: a host that joins has no log: it neither votes nor acknowledges before it has one', (t) => {
  const { c } = named();
  const sent: string[] = [];
  const disk = new Disk(true);
  const made = (): ReplicaCore => {
    const outbox = new HandOutbox((_, bytes) => sent.push(decode(bytes).message.name));
    const config = { id: 3, hostId: 3, replicas: 3, seed: 9, limits: TEST_LIMITS, timings: DEFAULT_TIMINGS };
    const core = new ReplicaCore(
      { ...config, features: Feature.membership },
      outbox,
      disk,
      new CounterMachine(),
      hasher,
      { transition: () => undefined },
    );
    disk.persisted = (token) => core.persisted(token);
    return core;
  };
  const members = encodeMembership({ ...open(), index: 9 });
  let core = made();
  core.start({ hardState: undefined, log: undefined, members }, c.now);
  const receive = (view: number): void => {
    const bytes = encode(ViewChange, { view });
    core.receive(bytes, 0, bytes.length, 0, c.now);
    core.flush(c.now);
  };
  t.strictSame([core.state.status, core.state.logView], [ReplicaStatus.recovering, -1]);
  t.ok(core.state.views.mayVote(E1, 3), 'it is a voter of the next epoch');
  receive(E1);
  t.notOk(sent.includes(Vote.name), 'emptyvote');
  t.equal(core.state.view, 0);
  core = made();
  core.start(disk.recover(false), c.now);
  t.strictSame(
    [core.state.status, core.state.members.index],
    [ReplicaStatus.recovering, 9],
    'so it stays after a restart, and knows the members',
  );
  t.end();
});
