// The primary's order: pushed while members differ, applied from what a member saw. View 0 of three: primary 0, member
// 1, spare 2.
import t from 'tap';
import { ClientCounter } from '../../src/protocol/counters.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { Entry } from '../../src/protocol/log/entry.js';
import { entryOf } from './entries.js';
import { RequestCache } from '../../src/protocol/replica/agreement/request-cache.js';
import {
  Chunk,
  Fetch,
  Order,
  Reconcile,
  Reject,
  RejectReason,
  Reply,
  Request,
  Sync,
  SyncAck,
} from '../../src/wire/messages.js';
import { Cluster, type ClusterOptions, type HandClient, type Packet, type Values } from './harness.js';

const HOLD_US = 20_000;

function scene(options: ClusterOptions = {}): { c: Cluster; alice: HandClient; bob: HandClient } {
  const c = new Cluster(3, { ...options, timings: { orderHoldUs: HOLD_US, lateRepairUs: 200, ...options.timings } });
  const [alice, bob] = [c.hand(), c.hand()];
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.give(bob, Request, bob.registration(20), 0, 1);
  c.run(10_000);
  c.lose();
  return { c, alice, bob };
}

/** Both logs hold `b` at 200; `a`, stamped 100, reached the primary before it and the member after. */
function contended(options: ClusterOptions = {}): { c: Cluster; alice: HandClient; bob: HandClient } {
  const made = scene(options);
  const { c, alice, bob } = made;
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.give(bob, Request, bob.request(200, 1, 'b'), 0, 1);
  c.give(alice, Request, alice.request(100, 1, 'a'), 1);
  return made;
}

const orders = (packets: readonly Packet[]): Packet[] => packets.filter(({ message }) => message.type === Order.type);

/** An Order of the entries behind `base` up to `last`, as replica 0 has them. */
function orderOf(
  c: Cluster,
  base: number,
  last: number,
  change: (record: Buffer, index: number) => void = () => {},
): Values {
  const { log } = c.replica(0).state;
  const records: Buffer[] = [];
  for (let index = base + 1; index <= last; index++) {
    const record = Buffer.alloc(32);
    log.writeHeader(index, record, 0);
    record.writeBigUInt64BE(c.replica(0).chain(index), 24);
    change(record, index);
    records.push(record);
  }
  return {
    view: 0,
    baseIndex: BigInt(base),
    baseChain: c.replica(0).chain(base),
    orders: new Uint8Array(Buffer.concat(records)),
  };
}

t.test(
  'a member that rejects a request as late says so, the primary pushes its order, and the member answers the clients by itself',
  (t) => {
    const { c, alice, bob } = contended();
    t.strictSame(
      c.take({ from: 1, message: Reject }).map(({ values }) => values['reason']),
      [RejectReason.late],
    );
    const report = c.take({ from: 1, message: SyncAck });
    t.match(
      report.map(({ to, values }) => [to, values['matchedIndex'], values['differed']]),
      [[0, 2n, 1]],
    );
    t.equal(c.take({ message: Fetch }).length, 0, 'it fetches nothing');
    c.lose();
    c.arrive(report[0]!);
    const pushed = c.take({ message: Order });
    t.strictSame(
      pushed.map(({ to, values }) => [
        to,
        values['view'],
        values['baseIndex'],
        values['baseChain'],
        (values['orders'] as Uint8Array).length,
      ]),
      [[1, 0, 2n, c.replica(0).chain(2), 64]],
      'to members alone, from what they agree on',
    );
    c.arrive(pushed[0]!);
    t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'b']);
    t.equal(c.replica(1).chain(4), c.replica(0).chain(4));
    t.equal(c.replica(1).state.synced, 4);
    t.match(
      c
        .take({ from: 1, message: Reply })
        .map(({ to, values }) => [to, values['index'], values['chain'], values['timestamp'], values['ordered']]),
      [
        [alice.endpoint, 3n, c.replica(0).chain(3), 100n, 1],
        [bob.endpoint, 4n, c.replica(0).chain(4), 200n, 1],
      ],
    );
    t.equal(c.replica(1).counter('entries_ordered'), 2);
    t.equal(c.replica(1).counter('entries_fetched'), 0);
    t.end();
  },
);

t.test('the push goes on once a turn, says so in replies, and ends when nothing differed for orderHoldUs', (t) => {
  const { c, bob } = contended();
  c.settle();
  t.equal(c.replica(0).state.pushing, true);
  const [reply, order] = c.replica(0).receive(Request, bob.request(300, 2, 'c'), bob.endpoint);
  t.match([reply!.message.name, reply!.values['ordered']], ['Reply', 1]);
  t.match([order!.message.name, order!.to, order!.values['baseIndex']], ['Order', 1, 4n]);
  t.strictSame(
    orders(c.replica(0).receive(Request, bob.request(300, 2, 'c'), bob.endpoint)),
    [],
    'nothing new, nothing pushed',
  );
  c.settle();
  c.run(2 * HOLD_US);
  t.equal(c.replica(0).state.pushing, false);
  t.strictSame(
    c
      .replica(0)
      .receive(Request, bob.request(400, 3, 'd'), bob.endpoint)
      .map(({ message, values }) => [message.name, values['ordered']]),
    [['Reply', 0]],
  );
  t.end();
});

t.test('orderHoldUs 0 pushes nothing: a late request starts a fetch, at most one in lateRepairUs', (t) => {
  const { c, alice, bob } = contended({ timings: { orderHoldUs: 0 } });
  t.equal(c.take({ from: 1, message: Fetch }).length, 1);
  c.give(alice, Request, alice.request(101, 1, 'x', { lane: 1 }), 1);
  t.equal(c.take({ from: 1, message: Fetch }).length, 0, 'one is under way');
  t.equal(c.take({ from: 1, message: Reject }).length, 2);
  c.replica(0).receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) }, 1);
  c.settle();
  t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'b']);
  c.give(bob, Request, bob.request(102, 1, 'y', { lane: 1 }), 1);
  t.equal(c.take({ from: 1, message: Fetch }).length, 0, 'not again so soon');
  c.pass(1000);
  c.give(bob, Request, bob.request(102, 1, 'y', { lane: 1 }), 1);
  t.equal(c.take({ from: 1, message: Fetch }).length, 1);
  t.equal(orders(c.history).length, 0);
  t.end();
});

t.test('an Order that names a request not seen here waits for it, and what comes meanwhile stays behind it', (t) => {
  const { c, alice, bob } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.give(bob, Request, bob.request(200, 1, 'b'), 0);
  t.strictSame(c.replica(1).receive(Order, orderOf(c, 2, 4), 0), []);
  t.strictSame(
    c.replica(1).receive(Request, bob.request(200, 1, 'b'), bob.endpoint),
    [],
    'the second of the two: no entry, no answer',
  );
  t.strictSame(
    c.replica(1).receive(Request, bob.request(300, 1, 'c', { lane: 1 }), bob.endpoint),
    [],
    'one that the Order does not name',
  );
  t.equal(c.replica(1).last, 2);
  const sent = c.replica(1).receive(Request, alice.request(100, 1, 'a'), alice.endpoint);
  t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'b', 'c']);
  t.match(
    sent.map(({ to, values }) => [to, values['index'], values['chain']]),
    [
      [alice.endpoint, 3n, c.replica(0).chain(3)],
      [bob.endpoint, 4n, c.replica(0).chain(4)],
    ],
    'the third is not answered before the primary has said where it stands',
  );
  c.give(bob, Request, bob.request(300, 1, 'c', { lane: 1 }), 0);
  const confirmed = c.replica(1).receive(Order, orderOf(c, 4, 5), 0);
  t.match(
    confirmed.map(({ to, message, values }) => [to, message.name, values['index'], values['chain'], values['ordered']]),
    [[bob.endpoint, 'Reply', 5n, c.replica(0).chain(5), 1]],
  );
  t.equal(c.replica(1).counter('entries_cut'), 0);
  t.end();
});

t.test('a request that never comes is fetched after repairDelayUs', (t) => {
  const { c, alice, bob } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.give(bob, Request, bob.request(200, 1, 'b'), 0, 1);
  c.lose();
  t.match(
    c
      .replica(1)
      .receive(Order, orderOf(c, 2, 4), 0)
      .map(({ to, message, values }) => [to, message.name, values['differed']]),
    [[0, 'SyncAck', 1]],
    'it differed: b stood where a belongs',
  );
  t.equal(c.replica(1).last, 2, 'what differs is cut');
  c.lose();
  c.pass(1000);
  t.match(
    c.take({ from: 1, message: Fetch }).map(({ values }) => values['baseIndex']),
    [2n],
  );
  c.replica(0).receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) }, 1);
  c.deliver({ message: Chunk });
  t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'b']);
  t.end();
});

t.test("S: what the cache has under the same number is believed only under the primary's chain", (t) => {
  const { c, alice, bob } = scene();
  c.give(bob, Request, bob.request(200, 1, 'b'), 0, 1);
  // Not what the primary has under this number.
  c.give(alice, Request, alice.request(100, 1, 'forged'), 1);
  c.give(alice, Request, alice.request(250, 1, 'true'), 0);
  c.lose();
  const sent = c.replica(1).receive(Order, orderOf(c, 3, 4), 0);
  t.strictSame(
    sent.map(({ to, message }) => [to, message.name]),
    [[0, 'Fetch']],
    'nobody is answered, the entry is fetched',
  );
  t.equal(c.replica(1).last, 3);
  t.equal(c.replica(1).state.synced, 3);
  t.equal(c.replica(1).counter('orders_refused'), 1);
  c.settle();
  t.strictSame(c.replica(1).operations, ['R', 'R', 'b', 'true']);
  t.end();
});

t.test("S: an Order of another view, or not from the view's primary, is ignored", (t) => {
  const { c } = contended();
  c.lose();
  t.strictSame(c.replica(1).receive(Order, { ...orderOf(c, 2, 4), view: 1 }, 0), []);
  t.strictSame(c.replica(1).receive(Order, orderOf(c, 2, 4), 2), []);
  t.strictSame(c.replica(2).receive(Order, orderOf(c, 2, 4), 0), [], 'a spare');
  t.strictSame(c.replica(1).operations, ['R', 'R', 'b']);
  t.end();
});

t.test('S: an Order whose base is not in this log is not applied: what is missing before it is fetched', (t) => {
  const { c } = contended();
  c.lose();
  const before = c.replica(1).chain(3);
  t.strictSame(
    c
      .replica(1)
      .receive(Order, orderOf(c, 3, 4), 0)
      .map(({ to, message, values }) => [to, message.name, values['baseIndex']]),
    [[0, 'Fetch', 2n]],
  );
  t.equal(c.replica(1).chain(3), before);
  t.equal(c.replica(1).last, 3);
  t.end();
});

t.test('S: repair rule: an Order that the log agrees with changes nothing, whatever stands behind it', (t) => {
  const { c, alice, bob } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0, 1);
  c.give(bob, Request, bob.request(200, 1, 'b'), 1);
  c.lose();
  t.strictSame(c.replica(1).receive(Order, orderOf(c, 2, 3), 0), []);
  t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'b']);
  t.equal(c.replica(1).state.synced, 3);
  t.end();
});

t.test('malformed Orders: of no or of half an entry, with keys that do not rise', (t) => {
  const { c } = contended();
  c.lose();
  t.strictSame(c.replica(1).receive(Order, { ...orderOf(c, 2, 2) }, 0), []);
  t.strictSame(c.replica(1).receive(Order, { ...orderOf(c, 2, 4), orders: new Uint8Array(33) }, 0), []);
  const sent = c.replica(1).receive(
    Order,
    orderOf(c, 2, 4, (record, index) => void (index === 3 && record.writeBigUInt64BE(1n, 0))),
    0,
  );
  t.ok(sent.some(({ message }) => message.type === Fetch.type));
  t.strictSame(c.replica(1).operations, ['R', 'R', 'b'], 'its own entry is put back');
  t.end();
});

t.test('Orders that follow each other, repeat each other and overlap', (t) => {
  const { c, alice } = scene();
  for (let i = 1; i <= 6; i++) c.give(alice, Request, alice.request(100 + i, i, `${i}`), 0);
  c.lose();
  const member = c.replica(1);
  member.receive(Order, orderOf(c, 2, 4), 0);
  member.receive(Order, orderOf(c, 2, 4), 0);
  member.receive(Order, orderOf(c, 4, 6), 0);
  member.receive(Order, orderOf(c, 3, 8), 0);
  for (let i = 6; i >= 1; i--) member.receive(Request, alice.request(100 + i, i, `${i}`), alice.endpoint);
  t.strictSame(member.operations, ['R', 'R', '1', '2', '3', '4', '5', '6']);
  t.equal(member.chain(8), c.replica(0).chain(8));
  t.equal(member.state.synced, 8);
  t.end();
});

t.test('many entries go in several Orders, none longer than a datagram', (t) => {
  const c = new Cluster(3, { timings: { orderHoldUs: HOLD_US } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.lose();
  for (let i = 1; i <= 100; i++) c.give(alice, Request, alice.request(100 + i, i, 'x'), 0);
  c.lose();
  const sent = orders(c.replica(0).receive(SyncAck, { view: 0, matchedIndex: 1n, differed: 1 }, 1));
  t.ok(sent.length > 1);
  t.ok(sent.every(({ bytes }) => bytes.length <= 1432 - 41));
  t.equal(
    sent.reduce((sum, { values }) => sum + (values['orders'] as Uint8Array).length / 32, 0),
    100,
  );
  t.end();
});

t.test('a Reconcile while the order is pushed is answered by it, without a fetch', (t) => {
  const { c, bob } = contended();
  c.settle({ message: SyncAck });
  c.lose();
  t.strictSame(
    c
      .replica(1)
      .receive(
        Reconcile,
        { view: 0, session: bob.session, lane: 0, request: 1, index: 4n, chain: c.replica(0).chain(4) },
        bob.endpoint,
      )
      .filter(({ message }) => message.type === Fetch.type),
    [],
  );
  const sent = c.replica(1).receive(Order, orderOf(c, 2, 4), 0);
  t.ok(
    sent.some(
      ({ to, values }) => to === bob.endpoint && values['index'] === 4n && values['chain'] === c.replica(0).chain(4),
    ),
  );
  t.end();
});

t.test(
  'restamp: the primary and the members append a late request with the smallest key above their last, and say so',
  (t) => {
    const { c, alice, bob } = scene({ late: 'restamp' });
    c.give(bob, Request, bob.request(200, 1, 'b'), 0, 1);
    c.lose();
    const [reply] = c.replica(0).receive(Request, alice.request(100, 1, 'a'), alice.endpoint);
    t.ok(alice.session < bob.session);
    t.match(
      reply!.values,
      { status: 0, index: 4n, chain: c.replica(0).chain(4), timestamp: 201n, ordered: 0 },
      'a smaller session needs a later time',
    );
    const [next] = c.replica(0).receive(Request, bob.request(150, 1, 'c', { lane: 1 }), bob.endpoint);
    t.match(next!.values, { index: 5n, timestamp: 201n }, 'a larger one does not');
    t.equal(c.replica(0).counter('restamped'), 2);
    t.equal(c.replica(0).counter('rejected_late'), 0);
    t.match(
      c.replica(0).answer(Request, alice.request(100, 1, 'a'), alice.endpoint).values,
      { index: 4n, chain: c.replica(0).chain(4) },
      'a retry is answered, not appended again',
    );
    t.match(
      c.replica(1).answer(Request, alice.request(100, 1, 'a'), alice.endpoint).values,
      { index: 4n, chain: c.replica(0).chain(4), ordered: 0 },
      'a member that hears them in the same order has the same log',
    );
    t.match(c.replica(1).answer(Request, bob.request(150, 1, 'c', { lane: 1 }), bob.endpoint).values, {
      index: 5n,
      chain: c.replica(0).chain(5),
    });
    t.strictSame(
      c.take({ message: SyncAck }).concat(c.take({ message: Order })),
      [],
      'so nobody differs, and nothing is pushed',
    );
    t.match(
      c.replica(1).answer(Request, alice.request(100, 1, 'a'), alice.endpoint).values,
      { index: 4n, chain: c.replica(0).chain(4) },
      'a retry is answered there, too',
    );
    t.strictSame(c.take({ message: SyncAck }), [], 'and says nothing about the order');
    t.end();
  },
);

t.test(
  "restamp: where requests arrive in another order the logs differ, and the primary's order sets that right",
  (t) => {
    const { c, alice, bob } = scene({ late: 'restamp' });
    c.give(bob, Request, bob.request(200, 1, 'b'), 0);
    c.give(alice, Request, alice.request(100, 1, 'a'), 0);
    c.give(alice, Request, alice.request(100, 1, 'a'), 1);
    c.give(bob, Request, bob.request(200, 1, 'b'), 1);
    t.strictSame(
      [c.replica(0).operations, c.replica(1).operations],
      [
        ['R', 'R', 'b', 'a'],
        ['R', 'R', 'a', 'b'],
      ],
    );
    t.not(c.replica(0).chain(4), c.replica(1).chain(4));
    c.run(10_000);
    t.strictSame(c.replica(1).operations, ['R', 'R', 'b', 'a']);
    t.equal(c.replica(1).chain(4), c.replica(0).chain(4));
    t.end();
  },
);

for (const late of ['restamp', 'reject'] as const) {
  t.test(
    `late: ${late}: a late Register gets a key of the primary, and a member takes it by the primary's order`,
    (t) => {
      const { c, alice } = scene({ late });
      const carol = c.hand();
      c.give(alice, Request, alice.request(900, 1, 'a'), 0, 1);
      c.lose();
      t.match(
        c.replica(1).answer(Request, carol.registration(5), carol.endpoint).values,
        { reason: RejectReason.late },
        'a member does not know what the primary has executed',
      );
      t.match(c.replica(0).answer(Request, carol.registration(5), carol.endpoint).values, {
        status: 0,
        index: 4n,
        timestamp: 901n,
      });
      t.match(
        c.replica(0).answer(Request, carol.registration(5), carol.endpoint).values,
        { status: 0, index: 4n },
        'once',
      );
      c.run(10_000);
      t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'R']);
      t.equal(c.replica(1).chain(4), c.replica(0).chain(4));
      t.match(c.replica(0).answer(Request, carol.request(1_000, 1, 'c'), carol.endpoint).values, {
        status: 0,
        index: 5n,
      });
      t.end();
    },
  );
}

t.test(
  'a late Register that may have been evicted is rejected, and a copy of one that was never gets into the log of the primary again',
  (t) => {
    const { c, alice, bob } = scene({ late: 'restamp', limits: { maxSessions: 2 } });
    const carol = c.hand();
    t.match(c.replica(0).answer(Request, carol.registration(30), carol.endpoint).values, { status: 0 });
    t.equal(
      c.replica(0).state.execution.sessions.find(0, Number(alice.session)),
      undefined,
      'alice, born at 10, was evicted',
    );
    t.match(c.replica(0).answer(Request, alice.registration(10), alice.endpoint).values, { reason: RejectReason.late });
    const dave = c.hand();
    t.match(
      c.replica(0).answer(Request, dave.registration(9), dave.endpoint).values,
      { reason: RejectReason.late },
      'for all that the table knows',
    );
    t.match(c.replica(0).answer(Request, dave.registration(25, { born: 11 }), dave.endpoint).values, {
      status: 0,
      timestamp: 31n,
    });
    t.strictSame(c.replica(0).operations, ['R', 'R', 'R', 'R']);
    t.equal(c.replica(0).state.execution.sessions.find(0, Number(bob.session)), undefined);
    t.end();
  },
);

t.test(
  'a late Register that says it was born after the key that it would get is rejected, and so is what would come after the end of time',
  (t) => {
    const { c, alice } = scene({ late: 'restamp' });
    const carol = c.hand();
    t.match(c.replica(0).answer(Request, carol.registration(5, { born: 22 }), carol.endpoint).values, {
      reason: RejectReason.late,
    });
    const { log, execution } = c.replica(0).state;
    t.ok(
      log.append(
        entryOf({
          timestampHi: -1,
          timestampLo: -1,
          sessionHi: -1,
          sessionLo: -1,
          lane: REGISTER_LANE,
          request: 1,
          flags: 1,
        }),
      ),
    );
    execution.executeTo(3);
    t.match(c.replica(0).receive(Request, alice.request(100, 1, 'a'), alice.endpoint)[0]!.values, {
      reason: RejectReason.late,
    });
    t.match(c.replica(0).receive(Request, carol.registration(100), carol.endpoint)[0]!.values, {
      reason: RejectReason.late,
    });
    t.end();
  },
);

t.test('a request that a repair cut does not go back into the log of a member that does not know its session', (t) => {
  const { c, alice } = scene();
  const carol = c.hand();
  // Only the member has what follows; the primary has another entry in its place.
  c.give(carol, Request, carol.registration(1_000), 1);
  c.give(carol, Request, carol.request(2_000, 1, 'c'), 1);
  t.strictSame(c.replica(1).operations, ['R', 'R', 'R', 'c']);
  c.give(alice, Request, alice.request(1_500, 1, 'a'), 0);
  c.run(10_000);
  t.strictSame(c.replica(1).operations, ['R', 'R', 'a']);
  t.end();
});

t.test(
  'restamp: not what is of a session whose Register a member has not executed: it may stand there for the second time, and be refused',
  (t) => {
    const { c, alice } = scene({ late: 'restamp' });
    const carol = c.hand();
    c.give(carol, Request, carol.registration(1_000), 0, 1);
    c.give(alice, Request, alice.request(2_000, 1, 'a'), 0, 1);
    c.lose();
    t.ok(c.replica(1).state.executed < c.replica(1).last, 'the member has the Register in its log only');
    const before = c.replica(1).last;
    c.replica(1).receive(Request, carol.request(1_500, 1, 'c'), carol.endpoint);
    t.equal(c.replica(1).last, before, 'and does not append what is late');
    t.match(
      c.replica(0).answer(Request, carol.request(1_500, 1, 'c'), carol.endpoint).values,
      { status: 0 },
      'the primary knows the session',
    );
    c.run(10_000);
    t.equal(
      c.replica(1).chain(before + 1),
      c.replica(0).chain(before + 1),
      'and by its order the member has the request too',
    );
    t.end();
  },
);

t.test(
  'client: a restamped request commits by index and chain, and its next timestamp is above the one it was given',
  (t) => {
    const c = new Cluster(3, { late: 'restamp', timings: { orderHoldUs: HOLD_US, lateRepairUs: 200 } });
    const client = c.client();
    client.register();
    c.run(20_000); // until the member has executed the Register, too
    const bob = c.hand();
    const last = c.wallNs;
    c.give(bob, Request, bob.registration(Number(last)), 0, 1);
    c.setWall(last - 1_000_000n);
    c.lose();
    client.submit('a');
    c.settle();
    t.match(
      client.completions,
      [{ outcome: 0, fast: true, result: /./ }],
      'in one round trip: both members restamped it',
    );
    t.equal(
      c.history.filter(({ from, message }) => from === client.endpoint && message.type === Reconcile.type).length,
      0,
      'it asked nobody to reconcile',
    );
    t.strictSame(
      [
        client.core.counters[ClientCounter.commits_fast],
        client.core.counters[ClientCounter.commits_ordered],
        client.core.counters[ClientCounter.restamped],
      ],
      [1, 0, 0],
    );
    client.submit('b');
    t.match(c.take({ from: client.endpoint, message: Request })[0]!.values, { timestamp: last + 2n });
    t.end();
  },
);

t.test(
  'the order of a request that a member still holds back makes it due there: it is appended, and confirmed',
  (t) => {
    const { c, alice, bob } = scene();
    const wall = c.wallNs;
    c.setWall(1_010_500_000n);
    c.give(alice, Request, alice.request(1_010_500_000, 1, 'a'), 0);
    c.setWall(wall);
    c.give(alice, Request, alice.request(1_010_500_000, 1, 'a'), 1);
    c.give(bob, Request, bob.request(1_010_600_000, 1, 'b'), 1);
    t.strictSame(
      [c.replica(0).last, c.replica(1).last, c.replica(1).counter('requests_held')],
      [3, 2, 2],
      'the primary has it, the member waits',
    );
    const sent = c.replica(1).receive(Order, orderOf(c, 2, 3), 0);
    t.strictSame(c.replica(1).operations, ['R', 'R', 'a'], 'and no more than what was ordered');
    t.equal(c.replica(1).state.synced, 3);
    t.match(
      sent
        .filter(({ to }) => to === alice.endpoint)
        .map(({ values }) => [values['index'], values['chain'], values['ordered']]),
      [[3n, c.replica(0).chain(3), 0]],
    );
    t.equal(c.replica(1).counter('entries_ordered'), 0);
    t.end();
  },
);

t.test('a Sync shows that a member differs: it says so in its answer', (t) => {
  const { c } = contended();
  c.lose();
  t.match(
    c
      .replica(1)
      .receive(
        Sync,
        {
          view: 0,
          sequence: 7,
          lastIndex: 3n,
          lastChain: c.replica(0).chain(3),
          committedIndex: 2n,
          committedChain: c.replica(0).chain(2),
        },
        0,
      )
      .map(({ message, values }) => [message.name, values['sequence'], values['matchedIndex'], values['differed']]),
    [['SyncAck', 7, 2n, 1]],
  );
  t.end();
});

t.test('request cache: bounded in requests and in bytes, the oldest leave; against a plain model', (t) => {
  const random = (
    (seed) => () =>
      (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32
  )(20260101);
  const cache = new RequestCache(16, 256);
  const entry = new Entry();
  let model: { session: number; lane: number; request: number; operation: string }[] = [];
  for (let step = 0; step < 5000; step++) {
    const [session, lane, request] = [
      1 + Math.floor(random() * 3),
      Math.floor(random() * 3),
      1 + Math.floor(random() * 4),
    ];
    const slot = cache.find(0, session, lane, request);
    const known = model.find((m) => m.session === session && m.lane === lane && m.request === request);
    // What is there is right; what the model has may have left for lack of room.
    if (slot >= 0) {
      if (known === undefined) throw new Error(`step ${step}: the cache has what was dropped`);
      cache.pointAt(slot, entry);
      const found = Buffer.from(
        cache.bytes.subarray(entry.operationOffset, entry.operationOffset + entry.operationLength),
      ).toString();
      if (found !== known.operation) throw new Error(`step ${step}: ${found} is not ${known.operation}`);
    }
    if (slot >= 0 && random() < 0.2) {
      cache.drop(slot);
      model = model.filter((m) => m !== known);
      continue;
    }
    const operation = `${step}`.repeat(1 + Math.floor(random() * 12));
    cache.put(
      entryOf({
        timestampLo: step,
        sessionLo: session,
        lane,
        request,
        operationBytes: Buffer.from(operation),
        operationLength: operation.length,
      }),
    );
    model = model.filter((m) => m !== known);
    model.push({ session, lane, request, operation });
    if (cache.find(0, session, lane, request) < 0) throw new Error(`step ${step}: what was just put is not there`);
    const live = Array.from({ length: cache.end - cache.from(0) }, (_, i) => cache.slotOf(cache.from(0) + i)).filter(
      (at) => at >= 0,
    );
    const bytes = live.reduce((sum, at) => sum + cache.pointAt(at, entry).operationLength, 0);
    if (live.length > 16 || bytes > 256) throw new Error(`step ${step}: ${live.length} requests, ${bytes} bytes`);
  }
  t.ok(cache.end > 1000);
  cache.put(entryOf({ sessionLo: 99, request: 1, operationBytes: new Uint8Array(257), operationLength: 257 }));
  t.equal(cache.find(0, 99, 0, 1), -1, 'longer than all of the arena: not kept');
  t.end();
});

t.test(
  'a request that was executed under its first stamp does not go back behind a repair under its later one',
  (t) => {
    // The order waits for q; r comes again, stamped later, and is kept; a Chunk brings q and r as the primary has them,
    // and both are executed.
    const S = 1_000_000_000;
    const c = new Cluster(3, { timings: { orderHoldUs: 1_000_000 }, late: 'restamp' });
    const hands = [c.hand(), c.hand(), c.hand()] as const;
    hands.forEach((hand, i) => c.give(hand, Request, hand.registration(S + 10 + i), 0, 1));
    c.settle();
    c.run(20_000);
    const [, r, s] = hands;
    const primary = c.replica(0);
    const member = c.replica(1);
    hands.forEach((hand, i) => c.give(hand, Request, hand.request(S + 15_000_000 + 10 * i, 1, 'qrs'[i]!), 0));
    c.inFlight = [];
    const orders = new Uint8Array(3 * 32);
    const view = new DataView(orders.buffer);
    for (let i = 0; i < 3; i++) {
      primary.state.log.writeHeader(4 + i, orders, 32 * i);
      view.setBigUint64(32 * i + 24, primary.chain(4 + i));
    }
    member.receive(Order, { view: 0, baseIndex: 3n, baseChain: primary.chain(3), orders }, 0);
    member.receive(Request, r.request(S + 16_000_000, 1, 'r'), r.endpoint);
    const entries: number[] = [];
    for (const index of [4, 5]) {
      const entry = new Uint8Array(2 + 25);
      primary.state.log.writeEntry(index, new DataView(entry.buffer), 2);
      entry[1] = 1;
      entries.push(...entry);
    }
    member.receive(
      Chunk,
      {
        view: 0,
        logView: 0,
        baseIndex: 3n,
        baseChain: primary.chain(3),
        lastIndex: 6n,
        lastChain: primary.chain(6),
        entries: Uint8Array.from(entries),
      },
      0,
    );
    member.receive(
      Sync,
      {
        view: 0,
        sequence: 90,
        lastIndex: 6n,
        lastChain: primary.chain(6),
        committedIndex: 5n,
        committedChain: primary.chain(5),
      },
      0,
    );
    t.equal(member.state.executed, 5);
    member.receive(Request, s.request(S + 15_000_020, 1, 's'), s.endpoint);
    t.strictSame(member.operations, ['R', 'R', 'R', 'q', 'r', 's']);
    t.end();
  },
);
