// Features: switched on by an entry of the log, at all replicas at the same index, and kept in snapshots.
import t from 'tap';
import {
  Feature,
  FEATURE_NAMES,
  featureNames,
  featureOf,
  featureOperation,
  FeatureUnknownError,
  featuresNamed,
  KNOWN_FEATURES,
  unknownIn,
} from '../../src/protocol/log/features.js';
import type { Entry } from '../../src/protocol/log/entry.js';
import { decodeSnapshot, encodeSnapshot, featuresIn, snapshotFault } from '../../src/protocol/log/snapshots.js';
import { chainOf } from '../../src/protocol/contract.js';
import { loadSipHash } from '../../src/native/siphash.js';
import { Probe, Reject, RejectReason, Reply, ReplyStatus, Request, RequestFlag } from '../../src/wire/messages.js';
import { KvMachine } from '../../src/machine/kv.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { entryOf } from './entries.js';
import { Cluster, type HandClient, hasher, TEST_LIMITS, type Values } from './harness.js';

const UNKNOWN = 31;
const { sessionQuotas } = Feature;

function switching(client: HandClient, at: number, request: number, operation: Uint8Array): Values {
  return { ...client.request(at, request, ''), flags: RequestFlag.feature, operation };
}

function registered(options: ConstructorParameters<typeof Cluster>[1] = {}): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, options);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  return { c, alice };
}

const on = (c: Cluster, id: number): number => c.replica(id).state.execution.features;

t.test('an entry switches a feature on, at each replica when it executes that entry', (t) => {
  const { c, alice } = registered();
  t.equal(on(c, 0), 0, 'a log begins without');
  c.give(alice, Request, switching(alice, 20, 1, featureOperation(1, hasher)), 0, 1);
  t.equal(on(c, 0), sessionQuotas, 'the primary executes at once');
  t.equal(on(c, 1), 0, 'a member when it is committed');
  c.run(20_000);
  t.equal(on(c, 1), sessionQuotas);
  t.equal(on(c, 2), sessionQuotas);
  t.same(
    c.replica(0).answer(Request, switching(alice, 30, 2, featureOperation(1, hasher)), alice.endpoint).values['status'],
    ReplyStatus.ok,
    'once more does no harm',
  );
  t.end();
});

t.test('it is taken back with its entry, and comes back with it', (t) => {
  const { c, alice } = registered();
  c.run(20_000);
  const { execution, log, committed } = c.replica(0).state;
  c.give(alice, Request, switching(alice, 20, 1, featureOperation(1, hasher)), 0);
  t.equal(on(c, 0), sessionQuotas);
  execution.rewind(committed);
  t.equal(on(c, 0), 0);
  execution.executeTo(log.lastIndex);
  t.equal(on(c, 0), sessionQuotas);
  t.end();
});

t.test('nobody without the secret of the chain switches a feature on, nor one that the member does not know', (t) => {
  const { c, alice } = registered();
  const secret = chainOf(loadSipHash(new Uint8Array(16).fill(3)), 77);
  const spoilt = featureOperation(1, hasher);
  spoilt[23]! ^= 1;
  for (const [what, operation] of [
    ['another secret', featureOperation(1, secret)],
    ['a spoilt token', spoilt],
    ['no feature', featureOperation(0, hasher)],
    ['a negative number', featureOperation(-1, hasher)],
    ['an unknown feature', featureOperation(UNKNOWN, hasher)],
    ['too short', featureOperation(1, hasher).subarray(0, 23)],
    ['too long', new Uint8Array(25)],
  ] as const)
    for (const id of [0, 1]) {
      const { last } = c.replica(id);
      const said = c.replica(id).answer(Request, switching(alice, 20, 1, operation), alice.endpoint);
      t.equal(said.message.name, Reject.name, what);
      t.equal(said.values['reason'], RejectReason.badRequest, what);
      t.equal(c.replica(id).last, last, 'nothing is appended');
    }
  t.equal(featureOf(featureOperation(1, secret), 0, 24, secret), 1);
  t.end();
});

t.test('membership is switched on when every listed host was heard in the version that brings it', (t) => {
  const { c, alice } = registered();
  const [, number] = FEATURE_NAMES.map((_, i) => i + 1);
  const operation = featureOperation(number!, hasher);
  const heard = [
    [WIRE_VERSION, WIRE_VERSION, 0],
    [0, WIRE_VERSION, PREVIOUS_WIRE_VERSION],
  ];
  for (const id of [0, 1]) c.replica(id).speaks = (replica) => heard[id]![replica]!;
  const ask = (id: number, request: number): Values =>
    c.replica(id).answer(Request, switching(alice, 20 + request, request, operation), alice.endpoint).values;
  const { last } = c.replica(0);
  t.equal(ask(0, 1)['reason'], RejectReason.busy, 'one was not heard: later');
  t.strictSame(
    c.history.filter(({ from, message }) => from === 0 && message.name === Probe.name).map(({ to }) => to),
    [2],
    'and is asked for a sign of life',
  );
  t.equal(
    ask(1, 1)['reason'],
    RejectReason.badRequest,
    'one speaks the version before: by no member, the primary or not',
  );
  t.strictSame([c.replica(0).last, c.replica(1).last], [last, last], 'nothing is appended');
  t.equal(ask(0, 1)['reason'], RejectReason.busy);
  heard[0]![2] = heard[1]![2] = heard[1]![0] = WIRE_VERSION;
  heard[1]![1] = PREVIOUS_WIRE_VERSION;
  t.equal(ask(1, 1)['reason'], RejectReason.badRequest, 'nor by a replica that is held back to that version itself');
  heard[1]![1] = WIRE_VERSION;
  t.equal(ask(0, 1)['status'], ReplyStatus.ok);
  t.equal(ask(1, 1)['status'], ReplyStatus.ok);
  c.run(20_000);
  t.equal(on(c, 2), Feature.membership);
  heard[0]![2] = 0;
  t.equal(ask(0, 2)['status'], ReplyStatus.ok, 'once it is on, whoever is away does not matter');
  t.end();
});

t.test(
  'a host that was never heard, and does not answer for seconds, is down: the others switch membership on',
  (t) => {
    const { c, alice } = registered();
    const operation = featureOperation(FEATURE_NAMES.indexOf('membership') + 1, hasher);
    for (const id of [0, 1]) c.replica(id).speaks = (replica) => (replica === 2 ? 0 : WIRE_VERSION);
    const ask = (id: number): Values =>
      c.replica(id).answer(Request, switching(alice, 21, 1, operation), alice.endpoint).values;
    t.equal(ask(0)['reason'], RejectReason.busy);
    c.pass(20_000_000);
    t.equal(ask(0)['reason'], RejectReason.busy, 'who asks once more after long begins anew');
    for (let i = 0; i < 5; i++) {
      c.pass(550_000);
      t.equal(ask(0)['reason'], RejectReason.busy);
    }
    t.equal(ask(1)['reason'], RejectReason.busy, 'each member finds out for itself');
    c.pass(550_000);
    t.equal(ask(0)['status'], ReplyStatus.ok);
    t.end();
  },
);

t.test('other flags beside it do not make it one', (t) => {
  const { c, alice } = registered();
  const query = {
    ...switching(alice, 20, 1, featureOperation(1, hasher)),
    flags: RequestFlag.feature | RequestFlag.query,
  };
  t.equal(c.replica(0).answer(Request, query, alice.endpoint).message.name, Reply.name);
  t.equal(on(c, 0), 0);
  t.end();
});

/** The first request of a session, as a member appended it. */
function switchingEntry({ session }: HandClient, operation: Uint8Array): Entry {
  return entryOf({
    timestampLo: 20,
    sessionHi: Number(session >> 32n),
    sessionLo: Number(session & 0xffffffffn),
    request: 1,
    flags: RequestFlag.feature,
    operationBytes: operation,
    operationLength: operation.length,
  });
}

t.test('a forged one that an older member appended is refused by execution, alike everywhere', (t) => {
  const { c, alice } = registered();
  const { state } = c.replica(0);
  t.ok(state.append(switchingEntry(alice, featureOperation(UNKNOWN, chainOf(loadSipHash(new Uint8Array(16)), 78)))));
  state.execution.executeTo(state.log.lastIndex);
  t.equal(state.execution.lastStatus, ReplyStatus.badRequest);
  t.equal(on(c, 0), 0);
  t.end();
});

t.test('a replica does not go past a feature that it does not know', (t) => {
  const { c, alice } = registered();
  const { state } = c.replica(0);
  t.ok(state.append(switchingEntry(alice, featureOperation(UNKNOWN, hasher))));
  t.throws(() => state.execution.executeTo(state.log.lastIndex), {
    code: 'feature-unknown',
    message: /entry 2 of the log switches on feature 31, which this version does not know/,
  });
  t.equal(state.executed, 1, 'it stands before that entry');
  t.end();
});

t.test('a snapshot carries the features, and without any is what it was before', (t) => {
  const { c } = registered();
  const { log, execution } = c.replica(0).state;
  const machine = Uint8Array.of(1, 2, 3);
  const without = encodeSnapshot(log, 1, 0, execution.membership, execution.sessions, machine);
  t.equal(without.bytes[3], 1, 'version 1');
  const snapshot = encodeSnapshot(log, 1, sessionQuotas, execution.membership, execution.sessions, machine);
  t.equal(snapshot.bytes[3], 2, 'version 2');
  t.equal(snapshot.bytes.length, without.bytes.length + 4);
  t.same(snapshot.bytes.subarray(44), without.bytes.subarray(40));
  t.equal(featuresIn(decodeSnapshot(snapshot.bytes)!), sessionQuotas);
  t.equal(featuresIn(decodeSnapshot(without.bytes)!), 0);
  t.equal(snapshotFault(decodeSnapshot(snapshot.bytes)!, TEST_LIMITS), undefined);
  const newer = encodeSnapshot(log, 1, 1 << (UNKNOWN - 1), execution.membership, execution.sessions, machine);
  t.match(
    snapshotFault(decodeSnapshot(newer.bytes)!, TEST_LIMITS),
    /feature 31 is on, which only a newer version knows/,
  );
  for (let length = 0; length < 44; length++)
    t.equal(decodeSnapshot(snapshot.bytes.subarray(0, length)), undefined, 'cut off');
  t.end();
});

t.test('features come back from the disk, and unknown ones stop the start', (t) => {
  const { c, alice } = registered({ keepsLog: true });
  c.give(alice, Request, switching(alice, 20, 1, featureOperation(1, hasher)), 0, 1);
  c.run(20_000);
  c.replica(1).crash();
  c.replica(1).start();
  c.run(50_000);
  t.equal(on(c, 1), sessionQuotas, 'the log is executed again');
  const { state } = c.replica(1);
  state.execution.takeSnapshot(state.committed);
  const { disk } = c.replica(1);
  disk.snapshot = state.execution.stable;
  c.replica(1).crash();
  c.replica(1).start();
  t.equal(c.replica(1).state.log.baseIndex, disk.snapshot.index);
  t.equal(on(c, 1), sessionQuotas, 'from a snapshot');
  const { log, execution } = c.replica(1).state;
  disk.snapshot = encodeSnapshot(
    log,
    disk.snapshot.index,
    1 << (UNKNOWN - 1),
    execution.membership,
    execution.sessions,
    new Uint8Array(0),
  );
  c.replica(1).crash();
  t.throws(() => c.replica(1).start(), FeatureUnknownError);
  t.end();
});

t.test('a new cluster begins with them, and replicas that began differently find out', (t) => {
  const c = new Cluster(3, { features: sessionQuotas });
  t.equal(on(c, 0), sessionQuotas);
  t.equal(featuresIn(c.replica(0).state.execution.stable), sessionQuotas);
  t.end();
});

t.test('names', (t) => {
  t.same(featureNames(KNOWN_FEATURES), FEATURE_NAMES);
  t.same(featureNames(sessionQuotas | (1 << 30)), ['session-quotas', 'feature 31']);
  t.equal(featuresNamed(FEATURE_NAMES), KNOWN_FEATURES);
  t.equal(featuresNamed(['session-quotas']), sessionQuotas);
  t.equal(unknownIn(KNOWN_FEATURES), 0);
  t.equal(unknownIn(KNOWN_FEATURES | (1 << 30) | (1 << 20)), 21);
  t.end();
});

t.test('store raises the machine to level 1, redis together with store to level 2', (t) => {
  const number = (name: (typeof FEATURE_NAMES)[number]): number => FEATURE_NAMES.indexOf(name) + 1;
  for (const [first, second, levels] of [
    ['store', 'redis', [1, 2]],
    ['redis', 'store', [0, 2]],
  ] as const) {
    const machines: KvMachine[] = [];
    const { c, alice } = registered({ machine: () => (machines[machines.length] = new KvMachine()) });
    const level = (): number => machines[0]!.level;
    t.equal(level(), 0);
    c.give(alice, Request, switching(alice, 20, 1, featureOperation(number(first), hasher)), 0, 1);
    t.equal(level(), levels[0], first);
    c.give(alice, Request, switching(alice, 30, 2, featureOperation(number(second), hasher)), 0, 1);
    t.equal(level(), levels[1], second);
    c.run(20_000);
    t.equal(machines[2]!.level, 2);
  }
  t.end();
});
