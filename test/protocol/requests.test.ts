// Normal operation: "Replica, on Request of its view, status normal, member of the quorum". View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import { Probe, Read, ReadReply, Reconcile, Reject, RejectReason, Reply, Request, ViewChange } from '../../src/wire/messages.js';
import { Cluster, encode, type HandClient, type Packet, type Values } from './harness.js';

const reasonOf = (packet: Packet): unknown => {
  if (packet.message.type !== Reject.type) throw new Error(`a ${packet.message.name}, not a Reject`);
  return packet.values['reason'];
};

function registered(options: ConstructorParameters<typeof Cluster>[1] = {}): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, options);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.lose();
  return { c, alice };
}

t.test('key > last key of the log: append, extend the chain, reply with view, index, chain, timestamp and slack', (t) => {
  const { c, alice } = registered();
  const at = 900_000_000;
  const [primary, member] = [0, 1].map((id) => c.replica(id).answer(Request, alice.request(at, 1, 'a'), alice.endpoint).values) as [Packet['values'], Packet['values']];
  t.match(primary, { view: 0, session: alice.session, lane: 0, request: 1, status: 0, index: 2n, timestamp: BigInt(at), slack: 100_000 });
  t.equal(member['chain'], primary['chain'], 'members that hold the same log have the same chain');
  t.equal(primary['chain'], c.replica(0).chain(2));
  t.end();
});

t.test('else Reject{late, last key}', (t) => {
  const { c, alice } = registered();
  const bob = c.hand();
  c.give(bob, Request, bob.registration(100), 0);
  const rejected = c.replica(0).answer(Request, alice.request(99, 1, 'a'), alice.endpoint);
  t.equal(reasonOf(rejected), RejectReason.late);
  t.equal(rejected.values['lastTimestamp'], 100n);
  t.equal(rejected.values['timestamp'], 99n, 'says of which timestamp it speaks');
  t.equal(c.replica(0).last, 2, 'nothing was appended');
  t.end();
});

t.test('equal timestamps of two clients: the session decides, and neither is taken for the other', (t) => {
  const { c, alice } = registered();
  const bob = c.hand();
  c.give(bob, Request, bob.registration(11), 0);
  t.equal(c.replica(0).answer(Request, alice.request(50, 1, 'a'), alice.endpoint).values['index'], 3n);
  t.ok(bob.session > alice.session);
  t.equal(c.replica(0).answer(Request, bob.request(50, 1, 'b'), bob.endpoint).values['index'], 4n);
  t.equal(reasonOf(c.replica(0).answer(Request, alice.request(50, 2, 'c'), alice.endpoint)), RejectReason.late);
  t.strictSame(c.replica(0).operations, ['R', 'R', 'a', 'b']);
  t.end();
});

t.test('timestamp beyond now + maxAhead: rejected, with the clock of the replica', (t) => {
  const { c, alice } = registered();
  const rejected = c.replica(0).answer(Request, alice.request(1_100_000_001, 1, 'a'), alice.endpoint);
  t.equal(reasonOf(rejected), RejectReason.tooFarAhead);
  t.equal(rejected.values['lastTimestamp'], 1_000_000_000n);
  t.equal(c.replica(0).answer(Request, alice.request(1_100_000_000, 1, 'a'), alice.endpoint).message, Reply, 'at the limit it is taken');
  t.end();
});

t.test('members may hold a request whose timestamp is still ahead of their clock and append it when due', (t) => {
  const { c, alice } = registered();
  const bob = c.hand();
  c.give(bob, Request, bob.registration(20), 0, 1);
  c.lose();
  // They arrive in different orders, before their time.
  c.replica(0).receive(Request, alice.request(1_000_900_000, 1, 'a'), alice.endpoint);
  c.replica(0).receive(Request, bob.request(1_000_500_000, 1, 'b'), bob.endpoint);
  c.replica(1).receive(Request, bob.request(1_000_500_000, 1, 'b'), bob.endpoint);
  c.replica(1).receive(Request, alice.request(1_000_900_000, 1, 'a'), alice.endpoint);
  t.equal(c.take({ message: Reply }).length, 0, 'nobody answers yet');
  c.pass(1000);
  t.strictSame(c.replica(0).operations, ['R', 'R', 'b', 'a']);
  t.equal(c.replica(0).chain(4), c.replica(1).chain(4), 'in the same order everywhere');
  t.equal(c.take({ message: Reply }).length, 4);
  t.equal(c.replica(0).counter('held'), 2);
  t.end();
});

/** A turn of replica 0 with several requests. */
function turn(c: Cluster, requests: readonly (readonly [Values, number])[]): void {
  for (const [values, from] of requests) {
    const bytes = encode(Request, values);
    c.replica(0).core.receive(bytes, 0, bytes.length, from, c.now);
  }
  c.replica(0).core.flush(c.now);
}

t.test('what one turn finds due enters in the order in which it came, or of its timestamps as long as clients stamp ahead', (t) => {
  for (const ahead of [false, true]) {
    const { c, alice } = registered({ late: 'restamp' });
    const bob = c.hand();
    c.give(bob, Request, bob.registration(20), 0);
    if (ahead) c.replica(0).receive(Request, alice.request(1_000_500_000, 1, 'first'), alice.endpoint);
    c.pass(1000);
    turn(c, [
      [bob.request(1_000_900_000, 1, 'b'), bob.endpoint],
      [alice.request(1_000_800_000, ahead ? 2 : 1, 'a'), alice.endpoint],
    ]);
    t.strictSame(c.replica(0).operations, ahead ? ['R', 'R', 'first', 'a', 'b'] : ['R', 'R', 'b', 'a'], ahead ? 'stamped ahead' : 'not');
    if (ahead) {
      c.pass(200_000);
      turn(c, [
        [bob.request(1_000_950_000, 2, 'd'), bob.endpoint],
        [alice.request(1_000_940_000, 3, 'c'), alice.endpoint],
      ]);
      t.strictSame(c.replica(0).operations.slice(-2), ['d', 'c'], 'nobody did for a while');
    }
  }
  t.end();
});

t.test('by a clock that is not trusted a request is held for a quarter of a millisecond at most', (t) => {
  const { c, alice } = registered();
  c.replica(0).core.trustClock(false);
  t.strictSame(c.replica(0).receive(Request, alice.request(1_000_250_000, 1, 'a'), alice.endpoint), [], 'held');
  t.equal(c.replica(0).answer(Request, alice.request(1_000_250_001, 1, 'b', { lane: 1 }), alice.endpoint).message, Reply);
  c.replica(0).core.trustClock(true);
  t.strictSame(c.replica(0).receive(Request, alice.request(1_001_900_000, 1, 'c', { lane: 2 }), alice.endpoint), []);
  t.end();
});

t.test('a request that is ahead by more than is held is appended at once', (t) => {
  const { c, alice } = registered();
  t.equal(c.replica(0).answer(Request, alice.request(1_002_000_001, 1, 'a'), alice.endpoint).message, Reply);
  t.end();
});

t.test('request of an older view: Reject{wrong-view, my view}', (t) => {
  const c = new Cluster(3);
  const alice = c.hand();
  c.isolate(0);
  c.run(200_000);
  const replica = c.replica(1);
  t.ok(replica.state.view > 0);
  const rejected = replica.answer(Request, alice.registration(10), alice.endpoint);
  t.equal(reasonOf(rejected), RejectReason.wrongView);
  t.equal(rejected.values['view'], replica.state.view);
  t.end();
});

t.test('of a newer view: the replica does not jump on a client\'s word, it asks that view\'s primary', (t) => {
  const { c, alice } = registered();
  c.pass(6000);
  c.lose();
  const sent = c.replica(1).receive(Request, alice.request(50, 1, 'a', { view: 5 }), alice.endpoint);
  t.strictSame(sent.map(({ to, message }) => [to, message.name]), [[2, 'Probe']]);
  t.equal(sent[0]!.message, Probe);
  t.equal(c.replica(1).state.view, 0);
  t.strictSame(c.replica(1).receive(Request, alice.request(51, 1, 'a', { view: 6 }), alice.endpoint), [], 'and not for every request');
  t.end();
});

t.test('not a member, unknown session, malformed: rejected with the reason', (t) => {
  const { c, alice } = registered();
  const bob = c.hand();
  const ask = (id: number, values: Packet['values']): unknown => reasonOf(c.replica(id).answer(Request, values, alice.endpoint));
  t.equal(ask(2, alice.request(50, 1, 'a')), RejectReason.notInQuorum);
  t.equal(ask(0, bob.request(50, 1, 'b')), RejectReason.sessionUnknown);
  t.equal(ask(1, bob.request(50, 1, 'b')), RejectReason.sessionUnknown);
  t.equal(ask(0, alice.request(50, 1, 'a', { lane: 4 })), RejectReason.badRequest, 'a lane that the session does not have');
  t.equal(ask(0, alice.request(50, 0, 'a')), RejectReason.badRequest, 'requests are numbered from 1');
  t.equal(ask(0, { ...alice.request(50, 1, 'a'), session: 0n }), RejectReason.badRequest);
  t.equal(ask(0, alice.request(50, 1, 'x'.repeat(2049))), RejectReason.badRequest, 'an operation beyond the limit');
  t.equal(ask(0, { ...alice.request(50, 1, 'a'), flags: 1 }), RejectReason.badRequest, 'a registration on a lane');
  t.equal(ask(0, { ...alice.registration(50), flags: 0 }), RejectReason.badRequest, 'a request on the lane of registrations');
  t.equal(c.replica(0).last, 1);
  t.end();
});

t.test('an acknowledgement leaves only after the log is durable, in the modes that keep it', (t) => {
  const c = new Cluster(3, { keepsLog: true });
  const alice = c.hand();
  const { disk } = c.replica(0);
  disk.held = true;
  t.strictSame(c.replica(0).receive(Request, alice.registration(10), alice.endpoint), []);
  t.strictSame(c.replica(0).receive(Request, alice.request(20, 1, 'a'), alice.endpoint), []);
  disk.release();
  t.equal(disk.lastIndex, 2);
  t.strictSame(c.take({ to: alice.endpoint }).map((packet) => packet.values['index']), [1n, 2n]);
  t.end();
});

t.test('member, on Reconcile: its own chain(index) is equal, reply ok', (t) => {
  const { c, alice } = registered();
  c.give(alice, Request, alice.request(20, 1, 'a'), 0, 1);
  c.lose();
  const chain = c.replica(0).chain(2);
  const reconcile = { view: 0, session: alice.session, lane: 0, request: 1, index: 2n, chain };
  t.match(c.replica(1).answer(Reconcile, reconcile, alice.endpoint).values, { index: 2n, chain, request: 1 });
  t.strictSame(c.replica(1).receive(Reconcile, { ...reconcile, view: 3 }, alice.endpoint), [], 'of another view: ignored');
  t.strictSame(c.replica(2).receive(Reconcile, reconcile, alice.endpoint), [], 'a spare does not acknowledge');
  t.end();
});

t.test('quorum read: goes to all members and appends nothing; each answers where its log ends, the primary also the result', (t) => {
  const { c, alice } = registered();
  c.give(alice, Request, alice.request(20, 1, 'a'), 0, 1);
  c.lose();
  const read = { view: 0, session: alice.session, lane: 0, request: 7, operation: new Uint8Array(1) };
  const [primary, member] = [0, 1].map((id) => c.replica(id).answer(Read, read, alice.endpoint)) as [Packet, Packet];
  t.equal(primary.message, ReadReply);
  t.match(primary.values, { request: 7, lastIndex: 2n, lastChain: c.replica(0).chain(2) });
  t.equal(Buffer.from(primary.values['result'] as Uint8Array).toString(), 'a');
  t.match(member.values, { request: 7, lastIndex: 2n, lastChain: c.replica(1).chain(2) });
  t.equal((member.values['result'] as Uint8Array).length, 0);
  t.strictSame([0, 1].map((id) => c.replica(id).last), [2, 2]);
  t.strictSame(c.replica(2).receive(Read, read, alice.endpoint), [], 'a spare does not answer');
  t.equal(reasonOf(inView1().answer(Read, read, alice.endpoint)), RejectReason.wrongView);
  t.end();
});

function inView1(): Cluster['replicas'][number] {
  const c = new Cluster(3);
  c.isolate(0);
  c.run(200_000);
  return c.replica(1);
}

t.test('messages between replicas are not taken from clients', (t) => {
  const { c, alice } = registered();
  const before = c.replica(1).counter('ignored');
  t.strictSame(c.replica(1).receive(ViewChange, { view: 3 }, alice.endpoint), []);
  t.equal(c.replica(1).state.view, 0);
  t.equal(c.replica(1).counter('ignored'), before + 1);
  t.end();
});
