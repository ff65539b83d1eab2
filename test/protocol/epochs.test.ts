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
import { ReplicaStatus, Request, RequestFlag, Sync, ViewChange, Vote } from '../../src/wire/messages.js';
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
  const late = new Views(3, () => false);
  late.learn(configurationsOf(after(3, { kind: 'change', from: 0, to: 6, ids: [0, 1] })));
  late.restore(4 * E1 + 2);
  t.strictSame(
    [late.present.epoch, late.of(5 * E1), late.of(6 * E1)?.epoch],
    [0, undefined, 1 + 5],
    'a view that was durable',
  );
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
