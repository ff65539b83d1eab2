// What a replica answers when a request asks for more than a limit allows. The others of docs/reference/limits.md have
// tests of their own.
import t from 'tap';
import { Reconcile, Reject, RejectReason, Reply, ReplyStatus, Request } from '../../src/wire/messages.js';
import { Cluster, type HandClient, type Packet } from './harness.js';

function registered(limits: NonNullable<ConstructorParameters<typeof Cluster>[1]>['limits']): {
  c: Cluster;
  alice: HandClient;
} {
  const c = new Cluster(3, { limits: limits! });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10, { lanes: 2 }), 0, 1);
  c.lose();
  return { c, alice };
}

const reason = ({ message, values }: Packet): unknown =>
  message.type === Reject.type ? values['reason'] : message.name;

t.test('lanesPerSession: a Register that asks for more is decided, and refused', (t) => {
  const c = new Cluster(3, { limits: { lanesPerSession: 4 } });
  const alice = c.hand();
  t.match(c.replica(0).answer(Request, alice.registration(10, { lanes: 5 }), alice.endpoint), {
    message: Reply,
    values: { status: ReplyStatus.badRequest },
  });
  t.match(c.replica(0).answer(Request, alice.registration(11, { lanes: 4, request: 2 }), alice.endpoint), {
    message: Reply,
    values: { status: ReplyStatus.ok },
  });
  t.end();
});

t.test('a lane that the session does not have, and operationBytes', (t) => {
  const { c, alice } = registered({ operationBytes: 100 });
  t.equal(
    reason(c.replica(0).answer(Request, alice.request(20, 1, 'x', { lane: 2 }), alice.endpoint)),
    RejectReason.badRequest,
  );
  t.equal(
    reason(c.replica(0).answer(Request, alice.request(20, 1, 'x'.repeat(101)), alice.endpoint)),
    RejectReason.badRequest,
  );
  t.equal(reason(c.replica(0).answer(Request, alice.request(20, 1, 'x'.repeat(100)), alice.endpoint)), Reply.name);
  t.end();
});

t.test('waiting: beyond it a Reconcile starts the repair like any other, and is not remembered', (t) => {
  const { c, alice } = registered({ waiting: 4 });
  const chain = { chain: 77n };
  for (let i = 0; i < 20; i++)
    c.give(
      alice,
      Reconcile,
      { view: 0, session: alice.session, lane: 0, request: i + 1, index: BigInt(40 + i), ...chain },
      1,
    );
  const { waiting } = c.replica(1).core['synchronization']['waiting'] as unknown as { waiting: unknown[] };
  t.equal(waiting.length, 4);
  t.equal(c.replica(1).counter('reconciles'), 20);
  t.end();
});
