// Who the hosts are, as entries of the log say: what each entry does, by the log alone (rule C1), and that it is part of
// the replicated state: taken back with its entry, kept in snapshots, and acted upon only when it is committed.
import t from 'tap';
import { ADDRESS_BYTES_MAX } from '../../src/wire/host-address.js';
import { ID_MAX } from '../../src/wire/host-ids.js';
import { EPOCH_MAX, EPOCH_VIEWS, SLOTS } from '../../src/protocol/configuration.js';
import { Counter } from '../../src/protocol/counters.js';
import { Feature } from '../../src/protocol/log/features.js';
import { decodeSnapshot, encodeSnapshot, membershipIn, snapshotFault } from '../../src/protocol/log/snapshots.js';
import { change, Outcome } from '../../src/protocol/membership/changes.js';
import {
  decodeMembership,
  encodeMembership,
  firstMembership,
  type Membership,
} from '../../src/protocol/membership/membership.js';
import { decodeOperation, encodeOperation, type ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { Random } from '../../src/sim/random.js';
import { Reject, RejectReason, Reply, ReplyStatus, Request, RequestFlag } from '../../src/wire/messages.js';
import { Cluster, type HandClient, TEST_LIMITS, type Values } from './harness.js';

const NONE = ID_MAX + 1;
const learn = (identityLo: number, address = `host-${identityLo}:1`): ConfigureOperation => ({
  kind: 'learn',
  identityHi: 0,
  identityLo,
  address,
});
const name = (id: number): ConfigureOperation => ({
  kind: 'name',
  id,
  identityHi: 7,
  identityLo: id + 1,
  address: `first-${id}:1`,
});
const change_ = (from: number, to: number, ...ids: number[]): ConfigureOperation => ({ kind: 'change', from, to, ids });
const go = (epoch: number): ConfigureOperation => ({ kind: 'go', epoch });

/** Applies operations, each of which has to be done; `go` by the primary. */
function after(membership: Membership, ...operations: ConfigureOperation[]): Membership {
  let present = membership;
  for (const operation of operations) {
    const { outcome, membership: next } = change(present, operation, present.index + 1, operation.kind === 'go');
    if (outcome !== Outcome.done) throw new Error(`${JSON.stringify(operation)}: outcome ${outcome}`);
    present = next;
  }
  return present;
}

const named = (replicas: number): Membership =>
  after(firstMembership(replicas), ...Array.from({ length: replicas }, (_, id) => name(id)));

t.test('hosts are listed under ids that are given once, each in the lowest free slot', (t) => {
  let m = after(named(3), learn(11), learn(12));
  t.strictSame(
    m.hosts.map(({ id, slot }) => [id, slot]),
    [
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
    ],
  );
  m = after(m, { kind: 'forget', id: 3 }, learn(13));
  t.strictSame(
    m.hosts.map(({ id, slot }) => [id, slot]),
    [
      [0, 0],
      [1, 1],
      [2, 2],
      [4, 4],
      [5, 3],
    ],
    'the id is another, the slot is free again',
  );
  t.same(m.voters, [0, 1, 2], 'a host that is listed does not vote');
  t.end();
});

t.test('what may not be: nothing changes, and the result says why', (t) => {
  const m = after(named(3), learn(11));
  const open = after(m, change_(0, 1, 0, 1, 3));
  const full = after(named(3), ...Array.from({ length: SLOTS - 3 }, (_, i) => learn(100 + i)));
  for (const [what, before, operation, outcome, id, byPrimary = false] of [
    ['the identity is listed', m, learn(11, 'elsewhere:1'), Outcome.identityListed, 3],
    ['the address is listed', m, learn(14, 'host-11:1'), Outcome.addressListed, 3],
    ['31 hosts are listed', full, learn(500), Outcome.noRoom, NONE],
    ['there is no id any more', { ...m, nextId: ID_MAX + 1 }, learn(500), Outcome.noRoom, NONE],
    ['replicas are not known', firstMembership(3), learn(11), Outcome.identityUnknown, NONE],
    ['a voter is forgotten', m, { kind: 'forget', id: 1 }, Outcome.votes, 1],
    ['one that will vote is forgotten', open, { kind: 'forget', id: 3 }, Outcome.votes, 3],
    ['nobody is forgotten', m, { kind: 'forget', id: 9 }, Outcome.notListed, NONE],
    ['nobody moves', m, { kind: 'move', id: 9, address: 'x:1' }, Outcome.notListed, NONE],
    ['it moves onto another', m, { kind: 'move', id: 1, address: 'host-11:1' }, Outcome.addressListed, 3],
    ['it has an identity', m, { ...name(1), identityLo: 77 } as ConfigureOperation, Outcome.identityListed, 1],
    ['another has that identity', firstMembership(3), name(0), Outcome.done, 0],
    ['nobody has that name', m, name(9), Outcome.notListed, NONE],
    ['another epoch runs', m, change_(1, 2, 0, 1, 2), Outcome.epochMismatch, NONE],
    ['no epoch is above the last', m, change_(0, EPOCH_MAX + 1, 0), Outcome.epochMismatch, NONE],
    ['an epoch is above the one before', m, change_(0, 0, 0), Outcome.epochMismatch, NONE],
    ['a change is open', open, change_(0, 2, 0, 1, 2), Outcome.changePending, NONE],
    ['a change behind the open one', open, change_(1, 2, 0, 1, 2), Outcome.changePending, NONE],
    ['a voter is not listed', m, change_(0, 1, 0, 1, 9), Outcome.notListed, 9],
    [
      'voters change, and replicas are not known',
      firstMembership(3),
      change_(0, 1, 0, 1),
      Outcome.identityUnknown,
      NONE,
    ],
    ['nothing was decided', m, go(1), Outcome.epochMismatch, NONE, true],
    ['something else was decided', open, go(2), Outcome.epochMismatch, NONE, true],
    ['a client says that an epoch began', open, go(1), Outcome.epochMismatch, NONE],
    ['a primary asks for other voters', m, change_(0, 1, 0, 1, 3), Outcome.epochMismatch, NONE, true],
    ['a primary asks for fewer voters', m, change_(0, 1, 0, 1), Outcome.epochMismatch, NONE, true],
    ['a primary asks while a change is open', open, change_(0, 1, 0, 1, 2), Outcome.changePending, NONE, true],
    ['a primary asks for the same voters', m, change_(0, 1, 0, 1, 2), Outcome.done, NONE, true],
    ['… which are not known', firstMembership(3), change_(0, 1, 0, 1, 2), Outcome.done, NONE, true],
    ['a primary lists a host', m, learn(12), Outcome.epochMismatch, NONE, true],
  ] as const) {
    const said = change(before, operation, 99, byPrimary);
    t.strictSame([said.outcome, said.id], [outcome, id], what);
    if (outcome !== Outcome.done) t.equal(said.membership, before, what);
  }
  t.end();
});

t.test('C1: one change is open at most, and what is decided is not decided anew', (t) => {
  let m = after(named(3), learn(11), learn(12));
  m = after(m, change_(0, 4, 0, 1, 3));
  t.match(m, { started: 0, decided: 4, voters: [0, 1, 2], nextVoters: [0, 1, 3] });
  const again = change(m, change_(0, 4, 0, 1, 4), 99, false);
  t.strictSame([again.outcome, again.membership], [Outcome.changePending, m]);
  m = after(m, go(4));
  t.match(m, { started: 4, decided: 4, voters: [0, 1, 3], nextVoters: [0, 1, 3] });
  t.same(
    m.hosts.map(({ id }) => id),
    [0, 1, 3, 4],
    'who voted and does not any more leaves; a learner stays',
  );
  t.equal(change(m, go(4), 99, true).outcome, Outcome.epochMismatch, 'an epoch begins once');
  m = after(m, change_(4, 5, 0, 1, 4), go(5), change_(5, 6, 0), go(6));
  t.same(
    m.hosts.map(({ id }) => id),
    [0],
  );
  t.equal(m.nextId, 5);
  t.end();
});

t.test('operations and memberships are read as they were written, and nothing else is read', (t) => {
  const address = `${'a'.repeat(ADDRESS_BYTES_MAX - 6)}:65535`;
  for (const operation of [
    learn(-1, address),
    { kind: 'forget', id: 65_534 },
    { kind: 'move', id: 300, address: '[::1]:9' },
    change_(7, EPOCH_MAX, ...Array.from({ length: 13 }, (_, i) => 300 * i)),
    go(EPOCH_MAX),
    name(65_000),
  ] as ConfigureOperation[]) {
    const bytes = encodeOperation(operation);
    const within = new Uint8Array([9, ...bytes, 9]);
    t.strictSame(decodeOperation(within, 1, bytes.length), operation);
    for (let length = 0; length < bytes.length; length++)
      t.equal(decodeOperation(within, 1, length), undefined, `${operation.kind} cut at ${length}`);
    t.equal(decodeOperation(within, 1, bytes.length + 1), undefined, `${operation.kind} with a byte behind`);
  }
  for (const [what, operation] of [
    ['no identity', learn(0)],
    ['no address', learn(1, '')],
    ['a space', learn(1, 'a b:1')],
    ['an address that is too long', learn(1, `${address}a`)],
    ['no voters', change_(0, 1)],
    ['14 voters', change_(0, 1, ...Array.from({ length: 14 }, (_, i) => i))],
    ['a voter twice', change_(0, 1, 2, 2)],
    ['voters out of order', change_(0, 1, 2, 1)],
    ['backwards', change_(2, 2, 1)],
    ['an epoch that cannot be', change_(0, EPOCH_MAX + 1, 1)],
    ['an epoch that cannot be', go(EPOCH_MAX + 1)],
  ] as const) {
    const bytes = encodeOperation(operation);
    t.equal(decodeOperation(bytes, 0, bytes.length), undefined, what);
  }
  for (const m of [
    firstMembership(1),
    named(13),
    after(named(5), learn(11), change_(0, 3, 1, 2, 5)),
    after(named(5), learn(11), change_(0, 3, 1, 2, 5), go(3)),
  ]) {
    const bytes = encodeMembership(m);
    t.strictSame(decodeMembership(new Uint8Array([9, ...bytes, 9]), 1, 1 + bytes.length), m);
    for (let length = 0; length < bytes.length; length++)
      t.equal(decodeMembership(bytes, 0, length), undefined, `cut at ${length}`);
    t.equal(decodeMembership(new Uint8Array([...bytes, 0]), 0, bytes.length + 1), undefined, 'a byte behind');
  }
  t.end();
});

t.test('bytes that are damaged are refused, or are those of another membership', (t) => {
  const seed = 20_261_129;
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  const bytes = encodeMembership(after(named(5), learn(11), change_(0, 3, 1, 2, 5)));
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    const damaged = bytes.slice();
    damaged[random.below(bytes.length)]! ^= 1 << random.below(8);
    const read = decodeMembership(damaged, 0, damaged.length);
    if (read === undefined) refused++;
    else if (Buffer.compare(encodeMembership(read), damaged) !== 0) t.fail(`other bytes are written again (${i})`);
  }
  t.ok(refused > 300, `${refused} refused`);
  t.end();
});

function cluster(features: number = Feature.membership): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, { features });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  return { c, alice };
}

const configuring = (client: HandClient, at: number, request: number, operation: ConfigureOperation): Values => ({
  ...client.request(at, request, ''),
  flags: RequestFlag.configure,
  operation: encodeOperation(operation),
});

/** Names all three replicas; timestamps and requests from there on are free. */
function nameAll(c: Cluster, client: HandClient): void {
  for (const id of [0, 1, 2]) c.give(client, Request, configuring(client, 20 + id, 1 + id, name(id)), 0, 1);
}

t.test('an entry changes the membership where it is executed; it counts when it is committed', (t) => {
  const { c, alice } = cluster();
  nameAll(c, alice);
  c.run(20_000);
  const said = c.replica(0).answer(Request, configuring(alice, 30, 4, learn(11)), alice.endpoint).values;
  t.equal(said['status'], ReplyStatus.ok);
  t.same(said['result'], new Uint8Array([Outcome.done, 0, 3, 0, 0, 0, 0]), 'the result is its id');
  const { execution } = c.replica(0).state;
  t.equal(execution.membership.hosts.length, 4);
  t.equal(execution.committedMembership.hosts.length, 3, 'C2: nobody acts upon it before that');
  execution.rewind(c.replica(0).state.committed);
  t.equal(execution.membership.hosts.length, 3, 'it is taken back with its entry');
  execution.executeTo(c.replica(0).last);
  t.equal(execution.membership.hosts.length, 4);
  c.give(alice, Request, configuring(alice, 30, 4, learn(11)), 1);
  c.run(20_000);
  for (const id of [0, 1, 2]) t.equal(c.replica(id).state.execution.committedMembership.hosts.length, 4, `${id}`);
  t.end();
});

t.test(
  'a member looks ahead no further than the last entry that may change the membership, and does not go back',
  (t) => {
    const { c, alice } = cluster();
    nameAll(c, alice);
    c.run(20_000);
    const { state } = c.replica(1);
    const { execution, counters } = state;
    const { executed } = execution;
    t.equal(execution.membershipAhead().hosts.length, 3);
    t.equal(execution.executed, executed, 'no entry may change it');
    c.give(alice, Request, configuring(alice, 30, 4, learn(11)), 1);
    c.give(alice, Request, { ...configuring(alice, 40, 5, learn(12)), flags: 0 }, 1);
    t.equal(c.replica(1).last, executed + 2);
    t.equal(execution.membershipAhead().hosts.length, 4);
    t.equal(execution.executed, executed + 1);
    t.equal(execution.membershipAhead().hosts.length, 4);
    t.equal(counters[Counter.rollbacks], 0);
    t.equal(execution.committedMembership.hosts.length, 3, 'C2: nobody acts upon it before it is committed');
    state.truncate(executed);
    t.equal(execution.membership.hosts.length, 3, 'it is taken back with its entry');
    t.end();
  },
);

t.test('what is no such operation is refused before it is appended, and by execution if it was', (t) => {
  const { c, alice } = cluster();
  nameAll(c, alice);
  const { last } = c.replica(0);
  for (const [what, values] of [
    ['no operation', { ...configuring(alice, 30, 4, learn(11)), operation: new Uint8Array([1, 2, 3]) }],
    ['only a primary says that an epoch began', configuring(alice, 30, 4, go(1))],
    ['an epoch that is not the next', configuring(alice, 30, 4, change_(0, 2, 0, 1, 2))],
    ["session 0 is the primary's", { ...configuring(alice, 30, 4, learn(11)), session: 0n }],
  ] as const)
    for (const id of [0, 1]) {
      const answer = c.replica(id).answer(Request, values, alice.endpoint);
      t.strictSame([answer.message.name, answer.values['reason']], [Reject.name, RejectReason.badRequest], what);
      t.equal(c.replica(id).last, last, what);
    }
  t.equal(
    c.replica(0).answer(Request, configuring(alice, 30, 4, change_(0, 1, 0, 1, 2)), alice.endpoint).message.name,
    Reply.name,
  );
  t.end();
});

t.test("without the feature the flag means nothing: the operation is the machine's, as ever", (t) => {
  const { c, alice } = cluster(0);
  const said = c.replica(0).answer(Request, configuring(alice, 30, 1, change_(0, 5, 9)), alice.endpoint).values;
  t.equal(said['status'], ReplyStatus.ok);
  const { execution } = c.replica(0).state;
  t.strictSame(execution.membership, firstMembership(3));
  t.equal(decodeSnapshot(execution.stable.bytes)!.bytes[3], 1, 'and snapshots stay version 1');
  t.end();
});

t.test('a snapshot says who the hosts are, once the feature is on', (t) => {
  const { c, alice } = cluster();
  nameAll(c, alice);
  const { log, execution } = c.replica(0).state;
  const machine = c.replica(0).machine.snapshot();
  const of = (features: number): Uint8Array =>
    encodeSnapshot(log, log.lastIndex, features, execution.membership, execution.sessions, machine).bytes;
  const snapshot = decodeSnapshot(of(Feature.membership))!;
  t.strictSame(membershipIn(snapshot), execution.membership);
  t.equal(snapshotFault(snapshot, TEST_LIMITS), undefined);
  t.equal(membershipIn(decodeSnapshot(of(Feature.sessionQuotas))!), undefined);
  for (let length = 0; length < snapshot.bytes.length - machine.length; length++)
    t.equal(decodeSnapshot(snapshot.bytes.subarray(0, length)), undefined, 'cut off');
  const changed = (at: number, value: number): string | undefined => {
    const bytes = snapshot.bytes.slice();
    bytes[at] = value;
    return snapshotFault(decodeSnapshot(bytes)!, TEST_LIMITS);
  };
  t.match(changed(43, Feature.sessionQuotas), /says it without the feature membership/);
  t.match(changed(56, 0xff), /cannot be those of a cluster/, 'an epoch that began before it was decided');
  const older = of(Feature.sessionQuotas);
  older[43] = Feature.membership;
  t.match(snapshotFault(decodeSnapshot(older)!, TEST_LIMITS), /does not say who the hosts are/);
  t.equal(execution.install(snapshot), undefined);
  t.equal(execution.committedMembership.hosts[0]!.address, 'first-0:1', 'what a snapshot says is committed');
  t.end();
});

t.test('epochs fit view numbers', (t) => {
  t.equal(EPOCH_MAX, 8191);
  t.equal((EPOCH_MAX + 1) * EPOCH_VIEWS, 2 ** 31);
  t.end();
});
