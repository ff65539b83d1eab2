// A client that counts the cluster's replicas otherwise than they do takes other sets for a quorum: nothing may commit
// for it.
import t from 'tap';
import { Outcome } from '../../src/protocol/contract.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import {
  Probe,
  ProbeReply,
  Read,
  ReadReply,
  Reject,
  RejectReason,
  ReplicaStatus,
  Reply,
  Request,
  type ALL_MESSAGES,
} from '../../src/wire/messages.js';
import { Cluster, type TestClient } from './harness.js';

type AnyMessage = (typeof ALL_MESSAGES)[number];

/** As Probe says it: the number of replicas, and a digest of their addresses. */
const list = (replicas: number, digest = 0): number => ((replicas << 28) | digest) >>> 0;

/**
 * A registered client of a cluster of three of which there are only the answers that a test writes: view 0 = primary 0,
 * member 1.
 */
function lone(): { c: Cluster; client: TestClient; answer: (message: AnyMessage, from: number, said: number) => void } {
  const c = new Cluster(3, { replicas: false });
  const client = c.client();
  const session = BigInt(client.endpoint);
  client.register();
  for (const from of [0, 1])
    client.receive(Reply, { session, lane: REGISTER_LANE, request: 1, index: 1n, chain: 1n, list: list(3) }, from);
  if (!client.core.registered) throw new Error('not registered');
  client.sent();
  const answer = (message: AnyMessage, from: number, said: number): void => {
    const at = message === ReadReply ? { lastIndex: 2n, lastChain: 7n } : { index: 2n, chain: 7n };
    client.receive(message, { session, lane: 0, request: 1, ...at, list: said }, from);
  };
  return { c, client, answer };
}

for (const [listed, replicas] of [
  [3, 5],
  [3, 7],
  [5, 7],
  [1, 3],
  [5, 3],
  [7, 5],
] as const) {
  t.test(`a client whose file lists ${listed} replicas gets no session from a cluster of ${replicas}`, (t) => {
    const c = new Cluster(replicas);
    const client = c.client(2, {}, { replicas: listed });
    client.register();
    c.run(200_000);
    t.strictSame(client.registrations, []);
    t.ok(client.core.lists.leavesNoQuorum);
    t.equal(client.core.lists.countOf(0), replicas, 'and knows what they say');
    t.end();
  });
}

t.test(
  'what two of five acknowledged is in no quorum: the client whose file lists three of them does not take it for committed',
  (t) => {
    const c = new Cluster(5);
    const client = c.client(2, {}, { replicas: 3 });
    c.isolate(2, 3, 4); // of view 0 the members are 0, 1 and 2
    client.register();
    c.run(3000);
    t.strictSame(
      [0, 1].map((id) => c.replica(id).operations),
      [['R'], ['R']],
      'both have it',
    );
    t.strictSame(client.registrations, []);
    c.heal();
    c.isolate(0, 1);
    c.run(3_000_000);
    const other = c.client();
    other.register();
    c.run(3_000_000);
    t.equal(other.core.registered, true);
    t.strictSame(c.replica(4).operations, ['R'], 'the others go on without the registration of the first');
    t.end();
  },
);

for (const [first, second] of [
  [0, 1],
  [1, 0],
] as const) {
  for (const liar of [0, 1]) {
    t.test(`replica ${liar} counts otherwise, and ${first} answers first: no commit, until it counts alike`, (t) => {
      const { client, answer } = lone();
      client.submit('a');
      for (const from of [first, second]) answer(Reply, from, list(from === liar ? 5 : 3));
      t.strictSame(client.completions, []);
      t.equal(client.core.lists.mask, 1 << liar);
      answer(Reply, liar, list(3));
      t.match(client.completions, [{ outcome: Outcome.committed }]);
      t.end();
    });

    t.test(`the same of a quorum read`, (t) => {
      const { client, answer } = lone();
      client.read('q');
      for (const from of [first, second]) answer(ReadReply, from, list(from === liar ? 5 : 3));
      t.strictSame(client.completions, []);
      answer(ReadReply, liar, list(3));
      t.match(client.completions, [{ outcome: Outcome.committed }]);
      t.end();
    });
  }
}

t.test('a member that says so later: what it acknowledged before completes nothing either', (t) => {
  const { client, answer } = lone();
  client.submit('a');
  answer(Reply, 1, list(3));
  client.receive(ProbeReply, { status: ReplicaStatus.normal, list: list(5) }, 1);
  answer(Reply, 0, list(3));
  t.strictSame(client.completions, []);
  answer(Reply, 1, list(5));
  t.strictSame(client.completions, []);
  t.end();
});

t.test('a replica that does not say, as in version 3, is heard; other addresses are no other replicas', (t) => {
  for (const said of [
    [0, 0],
    [0, list(3)],
    [list(3, 5), list(3, 6)],
  ] as const) {
    const { client, answer } = lone();
    client.submit('a');
    said.forEach((each, from) => answer(Reply, from, each));
    t.match(client.completions, [{ outcome: Outcome.committed, fast: true }]);
  }
  t.end();
});

t.test('replicas say what their file lists in every answer that can complete something', (t) => {
  const c = new Cluster(5);
  const client = c.client();
  client.register();
  c.run(3000);
  client.submit('a');
  c.settle();
  client.read('q');
  c.settle();
  client.core.unreachable(0, c.now);
  client.submit('b');
  client.core.unreachable(0, c.now);
  c.settle();
  for (const message of [Reply, ReadReply, ProbeReply]) {
    const said = c.history.filter((packet) => packet.to === client.endpoint && packet.message.type === message.type);
    t.ok(said.length > 0 && said.every(({ values }) => values['list'] === list(5)), message.name);
  }
  t.end();
});

t.test("one replica's word keeps nobody out: the cluster goes on in a view without it", (t) => {
  for (const liar of [0, 1]) {
    const c = new Cluster(3, { late: 'restamp' });
    const client = c.client();
    c.loses = ({ from, to, message, bytes }) => {
      const at = message.at['list'];
      if (from === liar && to === client.endpoint && at !== undefined) bytes[at] = 0x50; // five
      return false;
    };
    client.register();
    c.run(1_500_000);
    t.equal(client.core.registered, true, `without replica ${liar}`);
    t.equal(client.core.lists.leavesNoQuorum, false);
    client.submit('a');
    c.run(20_000);
    t.match(client.completions, [{ outcome: Outcome.committed }]);
    t.notOk(c.replica(2).state.views.isMember(client.core.view, liar));
  }
  t.end();
});

t.test('two of three that count otherwise keep it out, and one of five does not', (t) => {
  for (const [n, liars, left] of [
    [3, [1], true],
    [3, [1, 2], false],
    [5, [0, 4], true],
    [5, [0, 2, 4], false],
  ] as const) {
    const c = new Cluster(n, { replicas: false });
    const client = c.client();
    client.register();
    for (const from of liars) client.receive(ProbeReply, { status: ReplicaStatus.normal, list: list(n + 2) }, from);
    t.equal(client.core.lists.leavesNoQuorum, !left, `${liars.join()} of ${n}`);
  }
  t.end();
});

t.test('a view that only such a replica named is left again', (t) => {
  const { c, client } = lone();
  client.submit('a');
  const [request] = client.sent(Request);
  const session = BigInt(client.endpoint);
  client.receive(
    Reject,
    {
      session,
      lane: 0,
      request: 1,
      reason: RejectReason.wrongView,
      view: 1000,
      timestamp: request!.values['timestamp']!,
    },
    1,
  );
  t.equal(client.core.view, 1000);
  client.sent();
  client.receive(ProbeReply, { view: 1000, status: ReplicaStatus.normal, list: list(5) }, 1);
  t.equal(client.core.view, 0);
  const sent = client.sent();
  t.strictSame(
    sent.filter(({ message }) => message.type === Request.type).map(({ to, values }) => [to, values['view']]),
    [
      [1, 0],
      [0, 0],
    ],
    'sent again',
  );
  t.strictSame(
    sent.filter(({ message }) => message.type === Probe.type).map(({ to }) => to),
    [0, 1, 2],
    'and the others are asked',
  );
  client.receive(
    Reject,
    {
      session,
      lane: 0,
      request: 1,
      reason: RejectReason.wrongView,
      view: 1001,
      timestamp: request!.values['timestamp']!,
    },
    1,
  );
  t.equal(client.core.view, 0, 'it names no other one either');
  client.receive(ProbeReply, { view: 6, status: ReplicaStatus.normal, list: list(3) }, 2);
  t.equal(client.core.view, 6);
  t.equal(c.clients.length, 1);
  t.end();
});

t.test('a read whose view is left goes on in the other one', (t) => {
  const { client } = lone();
  client.read('q');
  client.sent();
  client.receive(ProbeReply, { view: 3, status: ReplicaStatus.normal, list: list(3) }, 2);
  t.strictSame(
    client.sent(Read).map(({ to }) => to),
    [2, 0],
  );
  client.receive(ProbeReply, { view: 3, status: ReplicaStatus.normal, list: list(7) }, 2);
  t.strictSame(
    client.sent(Read).map(({ to }) => to),
    [1, 0],
  );
  t.end();
});
