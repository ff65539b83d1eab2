// Normal operation: "Replica, on Request of its view, status normal, member of the quorum". View 0 of three: primary 0,
// member 1, spare 2.
import t from 'tap';
import {
  Probe,
  Read,
  ReadReply,
  Reconcile,
  Reject,
  RejectReason,
  Reply,
  Request,
  RequestFlag,
  ViewChange,
} from '../../src/wire/messages.js';
import { CounterMachine } from '../../src/machine/counter.js';
import { LATE_REGISTER_US, LATE_REGISTERS } from '../../src/protocol/replica/restamping.js';
import { LONG_SLOTS, OWNER_PART } from '../../src/protocol/replica/hold-back.js';
import { Cluster, encode, TEST_LIMITS, type HandClient, type Packet, type Values } from './harness.js';

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

t.test(
  'key > last key of the log: append, extend the chain, reply with view, index, chain, timestamp and slack',
  (t) => {
    const { c, alice } = registered();
    const at = 900_000_000;
    const [primary, member] = [0, 1].map(
      (id) => c.replica(id).answer(Request, alice.request(at, 1, 'a'), alice.endpoint).values,
    ) as [Packet['values'], Packet['values']];
    t.match(primary, {
      view: 0,
      session: alice.session,
      lane: 0,
      request: 1,
      status: 0,
      index: 2n,
      timestamp: BigInt(at),
      slack: 100_000,
    });
    t.equal(member['chain'], primary['chain'], 'members that hold the same log have the same chain');
    t.equal(primary['chain'], c.replica(0).chain(2));
    t.end();
  },
);

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

t.test('ahead of the clock by more than is held: rejected, with the clock of the replica', (t) => {
  const { c, alice } = registered({ late: 'restamp' });
  for (const id of [0, 1]) {
    const rejected = c.replica(id).answer(Request, alice.request(1_002_000_001, 1, 'a'), alice.endpoint);
    t.equal(reasonOf(rejected), RejectReason.tooFarAhead);
    t.equal(rejected.values['lastTimestamp'], 1_000_000_000n);
    t.equal(c.replica(id).counter('rejected_too_far_ahead'), 1);
    t.strictSame(c.replica(id).receive(Request, alice.request(1_002_000_000, 1, 'a'), alice.endpoint), [], 'held');
  }
  c.pass(2_000);
  t.strictSame(c.replica(0).operations, ['R', 'a'], 'and appended when due');
  t.end();
});

t.test('ahead of the clock by more than `maxAhead`, which may be less: rejected', (t) => {
  const c = new Cluster(3, { timings: { maxAheadNs: 1_000_000 } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0);
  c.lose();
  t.equal(
    reasonOf(c.replica(0).answer(Request, alice.request(1_001_000_001, 1, 'a'), alice.endpoint)),
    RejectReason.tooFarAhead,
  );
  t.strictSame(c.replica(0).receive(Request, alice.request(1_001_000_000, 1, 'a'), alice.endpoint), [], 'held');
  t.end();
});

t.test('where nothing is held, a request that is ahead by a quarter of a millisecond is taken, and no other', (t) => {
  for (const none of [{ limits: { held: 0 }, late: 'restamp' as const }, { timings: { maxHoldNs: 0 } }]) {
    const c = new Cluster(3, none);
    const alice = c.hand();
    c.give(alice, Request, alice.registration(10), 0);
    c.lose();
    const ask = (timestamp: number, lane: number): Packet =>
      c.replica(0).answer(Request, alice.request(timestamp, 1, 'a', { lane }), alice.endpoint);
    t.equal(reasonOf(ask(1_000_250_001, 1)), RejectReason.tooFarAhead);
    t.equal(ask(1_000_250_000, 0).message, Reply);
  }
  t.end();
});

t.test('ahead, and nothing is free to hold it: rejected; an owner takes no other owner’s place', (t) => {
  const { c, alice } = registered({ late: 'restamp', machine: () => new CounterMachine() });
  const bob = c.hand();
  c.give(bob, Request, bob.registration(20), 0);
  c.lose();
  let timestamp = 1_001_000_000;
  const ask = (who: HandClient, lane: number, length: number, request = 1): Packet[] =>
    c.replica(0).receive(Request, who.request(timestamp++, request, 'x'.repeat(length), { lane }), who.endpoint);
  const { held } = TEST_LIMITS;
  const refusedTo = (who: HandClient): number => c.take({ to: who.endpoint, message: Reject }).length;
  // As many copies as it likes: none of them is in the log yet.
  for (let i = 0; i < 2 * held; i++) ask(alice, i % 4, 4, 1 + i);
  t.equal(refusedTo(alice), 2 * held - held / 2, 'one owner: half of the places');
  t.strictSame(ask(bob, 0, 4), [], 'another one is held');
  for (let i = 0; i < LONG_SLOTS; i++) ask(alice, i % 4, 2_000, 1_000 + i);
  t.equal(refusedTo(alice), LONG_SLOTS - LONG_SLOTS * OWNER_PART, 'a quarter of those for long requests');
  t.strictSame(ask(bob, 1, 2_000), []);
  t.equal(c.replica(0).last, 2, 'and nothing of it entered the log');
  c.pass(1_500);
  t.strictSame(
    c
      .replica(0)
      .operations.map((text) => text.length)
      .filter((length) => length === 2_000).length,
    LONG_SLOTS * OWNER_PART + 1,
    'long requests come out whole',
  );
  t.end();
});

for (const late of ['restamp', 'reject'] as const) {
  t.test(
    `late: ${late}: a log that is ahead of the clock takes requests from right above its end, by the smallest step`,
    (t) => {
      const { c, alice } = registered({ late });
      c.setWall(5_000_000_000n);
      for (const id of [0, 1]) c.replica(id).receive(Request, alice.request(5_000_000_000, 1, 'a'), alice.endpoint);
      c.run(10_000);
      c.lose();
      c.setWall(1_000_000_000n); // the clocks were ahead, and are set right
      const step = late === 'restamp' ? 1_000_000_000 : 5_000_000_001; // what clients stamp: by their clocks, or above what they were told
      const answers = [0, 1].map((id) => c.replica(id).answer(Request, alice.request(step, 2, 'b'), alice.endpoint));
      t.strictSame(
        answers.map(({ message, values }) => [message, values['index'], values['timestamp']]),
        [
          [Reply, 3n, 5_000_000_001n],
          [Reply, 3n, 5_000_000_001n],
        ],
        'by primary and member alike',
      );
      t.equal(answers[0]!.values['chain'], answers[1]!.values['chain']);
      const bob = c.hand();
      t.match(
        c.replica(0).answer(Request, bob.registration(1_000_000_000), bob.endpoint).values,
        { status: 0, timestamp: 5_000_000_002n },
        'a new client stamps by its clock',
      );
      const carol = c.hand();
      t.match(
        c.replica(0).answer(Request, carol.registration(5_000_090_000, { born: 5_000_000_003 }), carol.endpoint).values,
        { status: 0, timestamp: 5_000_000_003n },
        'or is born above what it was told',
      );
      const dave = c.hand();
      const told = c.replica(0).answer(Request, dave.registration(5_000_000_005), dave.endpoint);
      t.match(
        [reasonOf(told), told.values['lastTimestamp']],
        [RejectReason.tooFarAhead, 5_000_000_003n],
        'but not later, which execution would refuse',
      );
      t.end();
    },
  );
}

t.test('a log from the future survives a restart of all, and takes new clients after it', (t) => {
  const c = new Cluster(3, { keepsLog: true, late: 'restamp', limits: { logEntries: 16 } });
  c.setWall(3_600_000_000_000n);
  const old = c.client();
  old.register();
  c.run(5_000);
  for (let i = 0; i < 30; i++) {
    old.submit('x');
    c.run(6_000);
  }
  t.ok(c.replica(0).state.log.baseIndex > 0, 'what is left of it is partly a snapshot');
  c.replicas.forEach((replica) => replica.crash());
  c.setWall(1_000_000_000n);
  c.replicas.forEach((replica) => replica.start());
  const fresh = c.client();
  fresh.register();
  c.run(300_000);
  t.strictSame(fresh.registrations, [0]);
  fresh.submit('y');
  old.submit('z');
  c.run(50_000);
  t.match(
    [fresh.completions.at(-1), old.completions.at(-1)],
    [
      { outcome: 0, result: /y/ },
      { outcome: 0, result: /z/ },
    ],
  );
  t.end();
});

t.test(
  'nobody brings a log ahead of the clock: by requests, Registers or queries, to the primary or to a member',
  (t) => {
    const { c, alice } = registered({ late: 'restamp' });
    c.run(10_000);
    c.lose();
    const now = c.now.wallLo;
    for (const id of [0, 1]) {
      const replica = c.replica(id);
      const { last } = replica;
      for (let i = 1; i < 200; i++) {
        const timestamp = now + 3_000_000 + 500_000 * i;
        replica.receive(Request, alice.request(timestamp, i, 'x'), alice.endpoint);
        replica.receive(
          Request,
          { ...alice.request(timestamp, i, 'x', { lane: 1 }), flags: RequestFlag.query },
          alice.endpoint,
        );
        const bob = c.hand();
        replica.receive(Request, bob.registration(timestamp), bob.endpoint);
      }
      t.equal(replica.last, last, `replica ${id}`);
      t.equal(replica.counter('rejected_too_far_ahead'), 3 * 199);
    }
    t.end();
  },
);

t.test('a member whose clock is far behind takes what the primary takes', (t) => {
  const { c, alice } = registered();
  const day = 86_400_000_000_000;
  const one = (timestamp: number, request: number): Packet[] =>
    [0, 1].map((id) => {
      c.setWall(id === 0 ? BigInt(timestamp) : 1_000_000_000n);
      return c
        .replica(id)
        .receive(Request, alice.request(timestamp, request, 'x'), alice.endpoint)
        .find(({ to }) => to === alice.endpoint)!;
    });
  t.strictSame(
    one(day, 1).map(({ message }) => message),
    [Reply, Reject],
    'the first one it hears of the time',
  );
  c.run(10_000);
  c.lose();
  const answers = one(day + 1_000_000, 2);
  t.strictSame(
    answers.map(({ message }) => message),
    [Reply, Reply],
  );
  t.equal(answers[0]!.values['chain'], answers[1]!.values['chain']);
  t.strictSame(
    [c.replica(0).operations, c.replica(1).operations],
    [
      ['R', 'x', 'x'],
      ['R', 'x', 'x'],
    ],
  );
  c.setWall(1_000_000_000n);
  const beyond = c.replica(1).answer(Request, alice.request(day + 200_000_000, 3, 'x'), alice.endpoint);
  t.equal(reasonOf(beyond), RejectReason.tooFarAhead, 'and no more: its time goes on from what the primary took');
  c.isolate(0);
  c.run(300_000);
  c.lose();
  t.ok(c.replica(1).state.view > 0);
  t.equal(c.replica(1).core['synchronization'].time['provenUs'], -Infinity, 'another primary proves it anew');
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
  t.equal(c.replica(0).counter('requests_held'), 2);
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

t.test(
  'what one turn finds due enters in the order in which it came, or of its timestamps as long as clients stamp ahead',
  (t) => {
    for (const ahead of [false, true]) {
      const { c, alice } = registered({ late: 'restamp' });
      const bob = c.hand();
      c.give(bob, Request, bob.registration(20), 0);
      if (ahead)
        for (let lane = 0; lane < 4; lane++)
          c.replica(0).receive(Request, alice.request(1_000_500_000 + lane, 1, 'first', { lane }), alice.endpoint);
      c.pass(1000);
      turn(c, [
        [bob.request(1_000_900_000, 1, 'b'), bob.endpoint],
        [alice.request(1_000_800_000, ahead ? 2 : 1, 'a'), alice.endpoint],
      ]);
      t.strictSame(
        c.replica(0).operations,
        ahead ? ['R', 'R', 'first', 'first', 'first', 'first', 'a', 'b'] : ['R', 'R', 'b', 'a'],
        ahead ? 'stamped ahead' : 'not',
      );
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
  },
);

t.test('one client that stamps ahead, beside more that do not, does not change the order of their requests', (t) => {
  const { c, alice } = registered({ late: 'restamp' });
  const bob = c.hand();
  c.give(bob, Request, bob.registration(20), 0);
  for (let i = 1; i <= 20; i++) {
    const now = Number(c.wallNs);
    turn(c, [
      [alice.request(now + 500_000, i, 'x'), alice.endpoint],
      [bob.request(now - 10, 2 * i - 1, 'b'), bob.endpoint],
      [bob.request(now - 20, 2 * i, 'c'), bob.endpoint],
    ]);
    t.strictSame(c.replica(0).operations.slice(-2), ['b', 'c'], 'they are appended as they came');
    c.pass(1_000);
  }
  t.end();
});

t.test('late: reject: a request is held for as long as distant clients stamp late ones ahead, by any clock', (t) => {
  const { c, alice } = registered({ late: 'reject' });
  c.replica(0).core.trustClock(false);
  const refused = c.replica(0).answer(Request, alice.request(1_025_000_001, 1, 'a'), alice.endpoint);
  t.equal(reasonOf(refused), RejectReason.tooFarAhead);
  t.strictSame(c.replica(0).receive(Request, alice.request(1_025_000_000, 1, 'a'), alice.endpoint), [], 'held');
  t.end();
});

t.test('by a clock that is not trusted a request is held for a quarter of a millisecond at most', (t) => {
  const { c, alice } = registered({ late: 'restamp' });
  c.replica(0).core.trustClock(false);
  t.strictSame(c.replica(0).receive(Request, alice.request(1_000_250_000, 1, 'a'), alice.endpoint), [], 'held');
  t.equal(
    reasonOf(c.replica(0).answer(Request, alice.request(1_000_250_001, 1, 'b', { lane: 1 }), alice.endpoint)),
    RejectReason.tooFarAhead,
  );
  c.replica(0).core.trustClock(true);
  t.strictSame(c.replica(0).receive(Request, alice.request(1_001_900_000, 1, 'c', { lane: 2 }), alice.endpoint), []);
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

t.test("of a newer view: the replica does not jump on a client's word, it asks that view's primary", (t) => {
  const { c, alice } = registered();
  c.pass(6000);
  c.lose();
  const sent = c.replica(1).receive(Request, alice.request(50, 1, 'a', { view: 5 }), alice.endpoint);
  t.strictSame(
    sent.map(({ to, message }) => [to, message.name]),
    [[2, 'Probe']],
  );
  t.equal(sent[0]!.message, Probe);
  t.equal(c.replica(1).state.view, 0);
  t.strictSame(
    c.replica(1).receive(Request, alice.request(51, 1, 'a', { view: 6 }), alice.endpoint),
    [],
    'and not for every request',
  );
  t.end();
});

t.test('not a member, unknown session, malformed: rejected with the reason', (t) => {
  const { c, alice } = registered();
  const bob = c.hand();
  const ask = (id: number, values: Packet['values']): unknown =>
    reasonOf(c.replica(id).answer(Request, values, alice.endpoint));
  t.equal(ask(2, alice.request(50, 1, 'a')), RejectReason.notInQuorum);
  t.equal(ask(0, bob.request(50, 1, 'b')), RejectReason.sessionUnknown);
  t.equal(ask(1, bob.request(50, 1, 'b')), RejectReason.sessionUnknown);
  t.equal(
    ask(0, alice.request(50, 1, 'a', { lane: 4 })),
    RejectReason.badRequest,
    'a lane that the session does not have',
  );
  t.equal(ask(0, alice.request(50, 0, 'a')), RejectReason.badRequest, 'requests are numbered from 1');
  t.equal(ask(0, { ...alice.request(50, 1, 'a'), session: 0n }), RejectReason.badRequest);
  t.equal(ask(0, alice.request(50, 1, 'x'.repeat(2049))), RejectReason.badRequest, 'an operation beyond the limit');
  t.equal(ask(0, { ...alice.request(50, 1, 'a'), flags: 1 }), RejectReason.badRequest, 'a registration on a lane');
  t.equal(
    ask(0, { ...alice.registration(50), flags: 0 }),
    RejectReason.badRequest,
    'a request on the lane of registrations',
  );
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
  t.strictSame(
    c.take({ to: alice.endpoint }).map((packet) => packet.values['index']),
    [1n, 2n],
  );
  t.end();
});

t.test('member, on Reconcile: its own chain(index) is equal, reply ok', (t) => {
  const { c, alice } = registered();
  c.give(alice, Request, alice.request(20, 1, 'a'), 0, 1);
  c.lose();
  const chain = c.replica(0).chain(2);
  const reconcile = { view: 0, session: alice.session, lane: 0, request: 1, index: 2n, chain };
  t.match(c.replica(1).answer(Reconcile, reconcile, alice.endpoint).values, { index: 2n, chain, request: 1 });
  t.strictSame(
    c.replica(1).receive(Reconcile, { ...reconcile, view: 3 }, alice.endpoint),
    [],
    'of another view: ignored',
  );
  t.strictSame(c.replica(2).receive(Reconcile, reconcile, alice.endpoint), [], 'a spare does not acknowledge');
  t.end();
});

t.test(
  'quorum read: goes to all members and appends nothing; each answers where its log ends, the primary also the result',
  (t) => {
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
    t.strictSame(
      [0, 1].map((id) => c.replica(id).last),
      [2, 2],
    );
    t.strictSame(c.replica(2).receive(Read, read, alice.endpoint), [], 'a spare does not answer');
    t.equal(reasonOf(inView1().answer(Read, read, alice.endpoint)), RejectReason.wrongView);
    t.end();
  },
);

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

t.test(
  'Registers without end: the primary stamps only so many late ones anew, so that they do not evict the sessions of others',
  (t) => {
    const c = new Cluster(3);
    const alice = c.hand();
    c.give(alice, Request, alice.registration(1_000), 0);
    const late = (): string => {
      const stranger = c.hand();
      const { message } = c.replica(0).answer(Request, stranger.registration(500, { born: 500 }), stranger.endpoint);
      return message.name;
    };
    const said = Array.from({ length: LATE_REGISTERS + 10 }, late);
    t.strictSame(said, [...new Array<string>(LATE_REGISTERS).fill('Reply'), ...new Array<string>(10).fill('Reject')]);
    c.pass(LATE_REGISTER_US);
    t.strictSame([late(), late()], ['Reply', 'Reject'], 'another one after a while');
    t.end();
  },
);
