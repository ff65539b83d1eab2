// The client: stamps, sends, and says committed when the commit rule holds. Of three: view 0 = primary 0, member 1; 1 = 1, 2.
import t from 'tap';
import type { ClientConfig, ClientTimings } from '../../src/protocol/config.js';
import { LEAST } from '../../src/protocol/client/send-window.js';
import { Outcome } from '../../src/protocol/contract.js';
import { ClientCounter } from '../../src/protocol/counters.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import {
  Plea,
  Probe,
  ProbeReply,
  Read,
  ReadReply,
  Reconcile,
  Reject,
  RejectReason,
  ReplicaStatus,
  Reply,
  ReplyStatus,
  RequestFlag,
  Request,
} from '../../src/wire/messages.js';
import { Cluster, type TestClient, type Packet, type Values } from './harness.js';

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** A client of a cluster of which there are only the answers that a test writes; registered, lane 0 and 1 idle. */
class Lone {
  readonly c: Cluster;
  readonly client: TestClient;

  constructor(n = 3, timings: Partial<ClientTimings> = {}, more: Partial<ClientConfig> = {}) {
    this.c = new Cluster(n, { replicas: false });
    this.client = this.c.client(2, timings, more);
    this.client.register();
    const request = this.client.sent(Request);
    for (const { to } of request)
      this.client.receive(Reply, { session: this.session, lane: REGISTER_LANE, request: 1, index: 1n, chain: 1n }, to);
    if (!this.client.core.registered) throw new Error('not registered');
  }

  get session(): bigint {
    return BigInt(this.client.endpoint);
  }

  /** Replica `from` acknowledges the open request of lane 0. */
  reply(from: number, index: number, chain: number, more: Values = {}): Packet[] {
    return this.client.receive(
      Reply,
      { session: this.session, lane: 0, request: 1, index: BigInt(index), chain: BigInt(chain), ...more },
      from,
    );
  }

  reject(from: number, reason: number, of: Packet, more: Values = {}): Packet[] {
    return this.client.receive(
      Reject,
      { session: this.session, lane: 0, request: 1, reason, timestamp: of.values['timestamp']!, ...more },
      from,
    );
  }

  get outcomes(): number[] {
    return this.client.completions.map(({ outcome }) => outcome);
  }

  count(name: keyof typeof ClientCounter): number {
    return this.client.core.counters[ClientCounter[name]]!;
  }
}

const summary = (packets: readonly Packet[]): unknown[] => packets.map(({ to, message }) => [to, message.name]);

t.test(
  'picks the timestamp (clock reading + lead, above its own last one) and sends to every member of quorum(view), the primary last',
  (t) => {
    const lone = new Lone(5, { leadNs: 500 });
    lone.client.submit('a');
    const sent = lone.client.sent();
    t.strictSame(summary(sent), [
      [1, 'Request'],
      [2, 'Request'],
      [0, 'Request'],
    ]);
    t.match(
      sent[0]!.values,
      {
        view: 0,
        session: lone.session,
        lane: 0,
        request: 1,
        flags: 0,
        timestamp: 1_000_000_502n,
        operation: bytes('a'),
      },
      'the registration took 1,000,000,500 for its birth and the next for itself',
    );
    t.ok(sent.every(({ values }) => values['timestamp'] === sent[0]!.values['timestamp']));
    lone.c.setWall(900_000_000n);
    lone.client.submit('b', 1);
    t.equal(lone.client.sent()[0]!.values['timestamp'], 1_000_000_503n, 'also when the clock goes back');
    t.end();
  },
);

t.test("commit rule: every member of the view's quorum, its primary included; the result is the primary's", (t) => {
  const lone = new Lone(5);
  lone.client.submit('a');
  for (const [from, result] of [
    [1, 'x'],
    [3, 'x'],
    [4, 'x'],
    [0, 'result'],
  ] as const) {
    lone.reply(from, 2, 77, { result: bytes(result) });
    t.strictSame(lone.outcomes, [], `replica ${from} is not the last member`);
  }
  lone.reply(2, 2, 77, { result: bytes('x') });
  t.match(lone.client.completions, [
    { lane: 0, outcome: Outcome.committed, status: ReplyStatus.ok, fast: true, result: 'result' },
  ]);
  t.equal(lone.count('commits_fast'), 1);
  lone.reply(2, 2, 77);
  t.equal(lone.client.completions.length, 1, 'once');
  t.end();
});

t.test('commit rule: without the primary nothing is committed, whoever else agrees', (t) => {
  const lone = new Lone(5);
  lone.client.submit('a');
  for (const from of [1, 2, 3, 4]) lone.reply(from, 2, 77);
  t.strictSame(lone.outcomes, []);
  t.end();
});

t.test("commit rule: with the primary's index and the primary's chain", (t) => {
  for (const [index, chain] of [
    [3, 77],
    [2, 78],
    [2, 77 + 2 ** 32],
  ] as const) {
    const lone = new Lone();
    lone.client.submit('a');
    lone.client.sent();
    lone.reply(0, 2, 77);
    t.strictSame(
      summary(lone.reply(1, index, chain)),
      [[1, 'Reconcile']],
      'the member that differs is asked to reconcile',
    );
    t.strictSame(lone.outcomes, []);
    lone.reply(1, 2, 77);
    t.match(lone.client.completions, [{ outcome: Outcome.committed, fast: false }]);
  }
  t.end();
});

t.test('commit rule: in the same view', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.reply(0, 2, 77, { result: bytes('old') });
  // View 3: the same primary 0, but member 2; then view 4: primary 1, member 0.
  lone.client.receive(ProbeReply, { view: 3, status: ReplicaStatus.normal }, 0);
  lone.reply(2, 2, 77, { view: 3 });
  lone.reply(1, 2, 77, { view: 0 });
  t.strictSame(lone.outcomes, [], 'the primary answered in an earlier view');
  lone.reply(0, 2, 77, { view: 3, result: bytes('new') });
  t.match(lone.client.completions, [{ outcome: Outcome.committed, result: 'new' }]);
  t.end();
});

t.test(
  'commit rule: an answer of a newer view teaches that view, and does not complete the set of an older one',
  (t) => {
    const lone = new Lone();
    lone.client.submit('a');
    lone.client.sent();
    lone.reply(0, 2, 77, { result: bytes('old') });
    // View 6 has the primary and the member of view 0 again.
    t.strictSame(
      summary(lone.reply(1, 2, 77, { view: 6 })),
      [
        [1, 'Request'],
        [0, 'Request'],
      ],
      'sent again in it',
    );
    t.equal(lone.client.core.view, 6);
    t.strictSame(lone.outcomes, []);
    lone.reply(0, 2, 77, { view: 6, result: bytes('new') });
    t.match(lone.client.completions, [{ outcome: Outcome.committed, fast: false, result: 'new' }]);
    t.end();
  },
);

t.test('commit rule: a late answer of an older view does not complete the set of a newer one', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.client.receive(ProbeReply, { view: 6, status: ReplicaStatus.normal }, 0);
  lone.reply(0, 2, 77, { view: 6 });
  lone.reply(1, 2, 77, { view: 0 });
  t.strictSame(lone.outcomes, []);
  lone.reply(1, 2, 77, { view: 6 });
  t.strictSame(lone.outcomes, [Outcome.committed]);
  t.end();
});

t.test('answers to another request, lane or session do not count', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  for (const wrong of [{ request: 2 }, { lane: 1 }, { lane: 9 }, { session: 5n }]) {
    lone.reply(0, 2, 77, wrong);
    lone.reply(1, 2, 77, wrong);
  }
  lone.reply(0, 2, 77);
  t.strictSame(lone.outcomes, []);
  lone.reply(1, 2, 77);
  t.strictSame(lone.outcomes, [Outcome.committed]);
  t.end();
});

t.test('acks are collected as a set per member and view: a newer differing one does not erase an older one', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.reply(1, 2, 77);
  lone.reply(1, 3, 88);
  lone.reply(1, 4, 99);
  lone.reply(0, 2, 77);
  t.strictSame(lone.outcomes, [Outcome.committed]);
  t.end();
});

t.test(
  'primary ok, members differ or reject: Reconcile{view, lane, request, index} to every one of them, once',
  (t) => {
    const lone = new Lone(5);
    lone.client.submit('a');
    const [request] = lone.client.sent();
    t.strictSame(lone.reply(1, 3, 88), [], "not before the primary's word is known");
    lone.reject(2, RejectReason.late, request!, { lastTimestamp: 5n });
    const asked = lone.reply(0, 2, 77);
    t.strictSame(summary(asked), [
      [1, 'Reconcile'],
      [2, 'Reconcile'],
    ]);
    t.match(asked[0]!.values, { view: 0, session: lone.session, lane: 0, request: 1, index: 2n, chain: 77n });
    t.strictSame(lone.reply(1, 3, 88), [], 'the same answer again does not make it ask again');
    lone.reply(1, 2, 77);
    lone.reply(2, 2, 77);
    t.match(lone.client.completions, [{ outcome: Outcome.committed, fast: false }]);
    t.equal(asked[0]!.message, Reconcile);
    t.end();
  },
);

t.test(
  'primary rejects late: new timestamp above max(clock, the reported key), same lane and request number, to all',
  (t) => {
    const lone = new Lone();
    lone.client.submit('a');
    const [first] = lone.client.sent();
    const again = lone.reject(0, RejectReason.late, first!, { lastTimestamp: 5_000_000_000n });
    t.strictSame(summary(again), [
      [1, 'Request'],
      [0, 'Request'],
    ]);
    t.match(again[0]!.values, { lane: 0, request: 1, timestamp: 5_000_000_001n });
    t.strictSame(
      lone.reject(0, RejectReason.late, first!, { lastTimestamp: 6_000_000_000n }),
      [],
      'what is said of an earlier timestamp is past',
    );
    t.equal(lone.count('restamped'), 1);
    t.end();
  },
);

t.test('a reject is not a final failure: the request may still commit', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  const [first] = lone.client.sent();
  lone.reject(0, RejectReason.late, first!, { lastTimestamp: 5n });
  for (const reason of [RejectReason.busy, RejectReason.notInQuorum]) lone.reject(0, reason, first!);
  t.strictSame(lone.outcomes, []);
  lone.reply(0, 2, 77);
  lone.reply(1, 2, 77);
  t.strictSame(lone.outcomes, [Outcome.committed]);
  t.end();
});

t.test('each reject is counted by its reason, one that is in no table as unknown', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  const [first] = lone.client.sent();
  const next = Math.max(...Object.values(RejectReason)) + 1;
  for (const reason of [RejectReason.busy, RejectReason.notInQuorum, 0, next, 255]) lone.reject(0, reason, first!);
  t.strictSame(
    (['rejected_busy', 'rejected_not_in_quorum', 'rejected_unknown'] as const).map((name) => lone.count(name)),
    [1, 1, 3],
  );
  lone.reply(0, 2, 77);
  lone.reply(1, 2, 77);
  t.strictSame(lone.outcomes, [Outcome.committed], 'the request may still commit');
  t.end();
});

t.test('wrong view: learn the view, resend with the same request number and timestamp', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  const [first] = lone.client.sent();
  const again = lone.reject(1, RejectReason.wrongView, first!, { view: 1 });
  t.strictSame(summary(again), [
    [2, 'Request'],
    [1, 'Request'],
  ]);
  t.match(again[0]!.values, { view: 1, request: 1, timestamp: first!.values['timestamp'] });
  t.strictSame(lone.reject(0, RejectReason.wrongView, first!, { view: 0 }), [], 'an older view is not news');
  t.equal(lone.client.core.view, 1);
  t.end();
});

t.test('nothing heard: resend the same datagram with backoff, then ask for the view, then for a view change', (t) => {
  const lone = new Lone(3, { retryUs: 4000, retryMaxUs: 40_000 });
  lone.client.submit('a');
  const [first] = lone.client.sent();
  const times: number[] = [];
  const kinds: string[][] = [];
  for (let ms = 1; ms <= 300; ms++) {
    lone.c.pass(1000);
    const sent = lone.client.sent();
    if (sent.length === 0) continue;
    times.push(ms);
    kinds.push([...new Set(sent.map(({ message }) => message.name))].sort());
    t.same(sent.find(({ message }) => message.type === Request.type)!.bytes, first!.bytes, 'the same bytes');
  }
  const gaps = times.map((ms, i) => ms - (times[i - 1] ?? 0));
  t.ok(gaps[0]! >= 4 && gaps[0]! <= 6, `first after ${gaps[0]} ms`);
  for (let i = 1; i < 3; i++) t.ok(gaps[i]! > 1.4 * gaps[i - 1]!, `backoff ${gaps.join(', ')}`);
  t.ok(
    gaps.every((ms) => ms <= 51),
    'bounded, with a quarter of jitter',
  );
  t.strictSame(kinds.slice(0, 4), [
    ['Request'],
    ['Probe', 'Request'],
    ['Plea', 'Probe', 'Request'],
    ['Plea', 'Probe', 'Request'],
  ]);
  const asked = lone.c.history.filter(({ message }) => message.type === Probe.type || message.type === Plea.type);
  t.strictSame([...new Set(asked.map(({ to }) => to))], [0, 1, 2], 'any replica');
  t.equal(lone.count('retransmitted'), times.length);
  t.end();
});

t.test(
  "a member whose host says that nobody listens: all are asked at once, once a retry's time, and only for what is open",
  (t) => {
    const lone = new Lone();
    lone.client.submit('a');
    lone.client.sent();
    lone.client.core.unreachable(2, lone.c.now);
    t.strictSame(lone.client.sent(), [], 'a spare is not needed');
    lone.client.core.unreachable(0, lone.c.now);
    t.strictSame(
      summary(lone.client.sent()),
      [0, 1, 2].flatMap((r) => [
        [r, 'Probe'],
        [r, 'Plea'],
      ]),
    );
    lone.client.core.unreachable(0, lone.c.now);
    t.strictSame(lone.client.sent(), [], 'not for every datagram');
    lone.client.core.cancel(0);
    lone.c.pass(10_000);
    lone.client.core.unreachable(0, lone.c.now);
    t.strictSame(lone.client.sent(), []);
    t.equal(lone.count('unreachable'), 4);
    t.end();
  },
);

t.test("a probe's answer counts when that view runs", (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.client.sent();
  t.strictSame(lone.client.receive(ProbeReply, { view: 1, status: ReplicaStatus.viewChange }, 2), []);
  t.equal(lone.client.core.view, 0);
  t.strictSame(summary(lone.client.receive(ProbeReply, { view: 1, status: ReplicaStatus.normal }, 2)), [
    [2, 'Request'],
    [1, 'Request'],
  ]);
  t.end();
});

t.test('a deadline ends the wait with outcome-unknown; the session stays usable', (t) => {
  const lone = new Lone();
  lone.client.submit('a', 0, 10_000);
  lone.c.pass(9000);
  t.strictSame(lone.outcomes, []);
  lone.c.pass(1000);
  t.strictSame(lone.outcomes, [Outcome.unknown]);
  t.ok(lone.client.core.isIdle(0));
  lone.client.submit('b');
  t.equal(lone.client.sent(Request).at(-1)!.values['request'], 2, 'the next number');
  lone.reply(0, 2, 77);
  lone.reply(1, 2, 77);
  t.strictSame(lone.outcomes, [Outcome.unknown], 'late answers to the first do not commit the second');
  lone.reply(0, 3, 78, { request: 2 });
  lone.reply(1, 3, 78, { request: 2 });
  t.strictSame(lone.outcomes, [Outcome.unknown, Outcome.committed]);
  lone.client.submit('c');
  lone.client.core.cancel(0);
  lone.client.core.cancel(0);
  t.strictSame(lone.outcomes.slice(2), [Outcome.unknown], 'cancelled: the same, once');
  t.end();
});

t.test('session lost: every request ends so, also those to come', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.client.submit('b', 1);
  const [first] = lone.client.sent();
  lone.reject(1, RejectReason.sessionUnknown, first!);
  t.notOk(lone.client.core.sessionLost, 'a member may not have executed the registration yet');
  lone.reject(0, RejectReason.sessionUnknown, first!);
  t.ok(lone.client.core.sessionLost);
  lone.c.pass(1000);
  t.strictSame(lone.outcomes, [Outcome.sessionLost, Outcome.sessionLost]);
  lone.client.submit('c');
  t.strictSame(lone.client.sent(), []);
  lone.c.pass(1000);
  t.equal(lone.outcomes.at(-1), Outcome.sessionLost);
  t.end();
});

t.test('session lost: also when the refusal is in the log and committed', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.reply(0, 2, 77, { status: ReplyStatus.sessionUnknown });
  t.notOk(lone.client.core.sessionLost, 'one word is no commit');
  lone.reply(1, 2, 77);
  lone.c.pass(1000);
  t.strictSame(lone.outcomes, [Outcome.sessionLost]);
  t.end();
});

t.test('a request that is refused in the log is refused, not committed', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  lone.reply(1, 2, 77);
  lone.reply(0, 2, 77, { status: ReplyStatus.superseded });
  t.match(lone.client.completions, [{ outcome: Outcome.refused, status: ReplyStatus.superseded }]);
  t.end();
});

/** A read open on lane 0 of five replicas, and how a member answers it. */
function reading(): { lone: Lone; answer: (from: number, chain: number, more?: Values) => Packet[] } {
  const lone = new Lone(5);
  lone.client.read('q');
  return {
    lone,
    answer: (from, chain, more = {}) =>
      lone.client.receive(
        ReadReply,
        { session: lone.session, lane: 0, request: 1, lastIndex: 9n, lastChain: BigInt(chain), ...more },
        from,
      ),
  };
}

t.test('quorum read: all equal, all answers given after the read was issued: one round trip', (t) => {
  const { lone, answer } = reading();
  const sent = lone.client.sent();
  t.strictSame(summary(sent), [
    [1, 'Read'],
    [2, 'Read'],
    [0, 'Read'],
  ]);
  t.match(sent[0]!.values, { view: 0, request: 1, operation: bytes('q') });
  t.equal(sent[0]!.message, Read);
  answer(1, 5);
  answer(0, 5, { result: bytes('value') });
  answer(3, 5);
  answer(2, 5, { request: 7 });
  t.strictSame(lone.outcomes, [], 'a spare and an answer to another nonce do not count');
  answer(2, 5);
  t.match(lone.client.completions, [{ outcome: Outcome.committed, fast: true, result: 'value' }]);
  t.equal(lone.count('reads_fast'), 1);
  t.end();
});

t.test('a read through the log whose result is not kept any more is asked again, under another number', (t) => {
  const { lone, answer } = reading();
  lone.client.sent();
  answer(0, 5);
  answer(1, 5);
  answer(2, 6);
  lone.client.sent();
  const ends = (number: number, status: number, result = ''): Packet[] => {
    for (const from of [1, 2]) lone.reply(from, 10 + number, 77, { request: number });
    return lone.reply(0, 10 + number, 77, { request: number, status, result: bytes(result) });
  };
  const again = ends(2, ReplyStatus.superseded);
  t.strictSame(lone.outcomes, [], 'it is not over');
  t.strictSame(summary(again), [
    [1, 'Request'],
    [2, 'Request'],
    [0, 'Request'],
  ]);
  t.match(again[0]!.values, { request: 3, flags: RequestFlag.query, operation: bytes('q') });
  ends(2, ReplyStatus.ok, 'late');
  t.strictSame(lone.outcomes, [], 'answers to the earlier number do not count');
  ends(3, ReplyStatus.ok, 'now');
  t.match(lone.client.completions, [{ outcome: Outcome.committed, result: 'now' }]);
  t.end();
});

t.test('quorum read: not equal, send it as an ordinary request, under a fresh number', (t) => {
  const { lone, answer } = reading();
  lone.client.sent();
  answer(0, 5, { result: bytes('stale') });
  answer(1, 5);
  const fallback = answer(2, 6);
  t.strictSame(summary(fallback), [
    [1, 'Request'],
    [2, 'Request'],
    [0, 'Request'],
  ]);
  t.match(fallback[0]!.values, { request: 2, operation: bytes('q') });
  answer(2, 5);
  t.strictSame(lone.outcomes, [], 'a late answer to the read does not end the request');
  for (const from of [0, 1, 2]) lone.reply(from, 10, 7, { request: 2, result: bytes('fresh') });
  t.match(lone.client.completions, [{ outcome: Outcome.committed, fast: false, result: 'fresh' }]);
  t.end();
});

t.test('quorum read: a silent member makes it a request as well', (t) => {
  const { lone, answer } = reading();
  lone.client.sent();
  answer(0, 5);
  answer(1, 5);
  lone.c.pass(6000);
  t.strictSame(summary(lone.client.sent(Request)), [
    [1, 'Request'],
    [2, 'Request'],
    [0, 'Request'],
  ]);
  t.end();
});

t.test('quorum read: equal answers at another index, or of another view, are not equal', (t) => {
  const other = reading();
  other.lone.client.sent();
  other.answer(0, 5);
  other.answer(1, 5);
  t.strictSame(summary(other.answer(2, 5, { lastIndex: 8n })).slice(0, 1), [[1, 'Request']]);
  const view = reading();
  for (const from of [0, 1, 2]) view.answer(from, 5, { view: 10 });
  t.strictSame(view.lone.outcomes, []);
  t.end();
});

t.test("too far ahead: the cluster's time replaces the client's from there on", (t) => {
  const lone = new Lone();
  lone.c.setWall(9_000_000_000n);
  lone.client.submit('a');
  const [first] = lone.client.sent();
  const again = lone.reject(0, RejectReason.tooFarAhead, first!, { lastTimestamp: 1_000_000_000n });
  t.strictSame(summary(again), [
    [1, 'Request'],
    [0, 'Request'],
  ]);
  t.match(again[0]!.values, { request: 1, timestamp: 1_000_000_001n });
  lone.c.setWall(9_000_500_000n);
  lone.client.submit('b', 1);
  t.equal(lone.client.sent().at(-1)!.values['timestamp'], 1_000_500_000n, "and goes on with its own clock's pace");
  t.equal(lone.client.core.succession().aheadNs, 8_000_000_000);
  t.end();
});

t.test("too far ahead by what the host had it add: the replicas' clocks were set back since that was found", (t) => {
  const lone = new Lone();
  lone.c.setWall(1_000_000_000n);
  lone.client.core.correctClock(3_600e9);
  lone.client.submit('a');
  lone.client.submit('b', 1);
  const packets = lone.client.sent();
  const [first] = packets;
  t.equal(first!.values['timestamp'], 3_601_000_000_000n);
  const [again] = lone.reject(0, RejectReason.tooFarAhead, first!, { lastTimestamp: 1_000_200_000n });
  t.equal(again!.values['timestamp'], 1_000_200_001n, 'it goes by what the primary says');
  const second = packets.find(({ values }) => values['lane'] === 1)!;
  const [other] = lone.reject(0, RejectReason.tooFarAhead, second, { lane: 1, lastTimestamp: 1_000_300_000n });
  t.ok(
    BigInt(other!.values['timestamp'] as bigint) - 1_000_300_000n <= 100_000n,
    'what one lane has learnt is not taken off again for another',
  );
  for (const from of [0, 1]) lone.reply(from, 2, 7);
  t.strictSame(lone.outcomes, [Outcome.committed]);
  lone.c.setWall(1_001_000_000n);
  lone.client.submit('c');
  t.equal(lone.client.sent().at(-1)!.values['timestamp'], 1_001_200_000n);
  // The session is lost before anything was measured anew: its successor, whose host says the same, begins with what was learnt.
  const next = lone.c.client(2, {}, lone.client.core.succession());
  next.core.correctClock(3_600e9);
  next.register();
  const born = BigInt(next.sent()[0]!.values['timestamp'] as bigint);
  t.ok(born > 1_001_200_000n && born <= 1_001_201_000n, `${born}`);
  next.core.correctClock(-500_000);
  t.equal(next.core.succession().aheadNs, 0, 'a new measurement replaces it');
  t.end();
});

t.test('too far ahead: a registration may not go back in time; the next session starts with what was learnt', (t) => {
  const c = new Cluster(3, { replicas: false });
  const client = c.client();
  client.register();
  const [first] = client.sent();
  client.receive(
    Reject,
    {
      session: BigInt(client.endpoint),
      lane: REGISTER_LANE,
      request: 1,
      reason: RejectReason.tooFarAhead,
      timestamp: first!.values['timestamp']!,
      lastTimestamp: 400_000_000n,
    },
    0,
  );
  t.strictSame(client.registrations, [ReplyStatus.sessionTaken]);
  const next = c.client(2, {}, client.core.succession());
  next.register();
  t.equal(Buffer.from(next.sent()[0]!.values['operation'] as Uint8Array).readBigUInt64BE(10), 400_000_001n);
  t.end();
});

t.test("a registration's operation is the same in every attempt, whatever its timestamp", (t) => {
  const c = new Cluster(3, { replicas: false });
  const client = c.client();
  client.register();
  const [first] = client.sent();
  const [second] = client.receive(
    Reject,
    {
      session: BigInt(client.endpoint),
      lane: REGISTER_LANE,
      request: 1,
      reason: RejectReason.late,
      timestamp: first!.values['timestamp']!,
      lastTimestamp: 1_700_000_000n,
    },
    0,
  );
  t.equal(
    second!.values['timestamp'],
    1_700_001_001n,
    "above a log that is ahead of the primary's clock by a small step",
  );
  t.strictSame(second!.values['operation'], first!.values['operation']);
  t.match(first!.values, { lane: REGISTER_LANE, flags: 1 });
  t.equal(
    Buffer.from(first!.values['operation'] as Uint8Array).readBigUInt64BE(10),
    BigInt(first!.values['timestamp'] as bigint) - 1n,
    'born just before it was first stamped',
  );
  t.end();
});

t.test(
  "late again: stamped by what the primary's clock will show when it arrives, and an extra that doubles; what is late once, right above",
  (t) => {
    const lone = new Lone();
    lone.client.submit('a');
    let [sent] = lone.client.sent();
    const first = BigInt(sent!.values['timestamp'] as bigint);
    t.equal(first, 1_000_000_002n);
    /** It was `wayNs` on its way, by equal clocks, and the log ends just before. What its next timestamp is ahead of its clock. */
    const late = (wayNs: bigint): bigint => {
      const arrived = lone.c.wallNs + wayNs;
      lone.c.pass(30_000);
      const timestamp = BigInt(sent!.values['timestamp'] as bigint);
      [sent] = lone.reject(0, RejectReason.late, sent!, {
        lastTimestamp: arrived - 1_000n,
        slack: Number((arrived - timestamp) / 1000n),
      });
      return BigInt(sent!.values['timestamp'] as bigint) - lone.c.wallNs;
    };
    t.equal(late(300_000n), 0n, 'once: the clock, which is above');
    t.equal(late(300_000n), 300_000n + 50_000n, 'twice: when it arrives, and 50 µs');
    t.equal(late(400_000n), 400_000n + 100_000n, 'the way took longer');
    t.equal(late(800_000n), 800_000n + 400_000n, 'or an eighth of the way');
    for (let i = 1n; i < 20n; i++) late(i * 1_000_000n);
    t.equal(late(25_000_000n), 25_000_000n + 20_000_000n, 'to a bound');
    lone.client.submit('b', 1);
    t.equal(
      BigInt(lone.client.sent().at(-1)!.values['timestamp'] as bigint),
      BigInt(sent!.values['timestamp'] as bigint) + 1n,
      'another one has no margin of its own',
    );
    t.end();
  },
);

t.test("late, of a log that is ahead of the primary's clock: by small steps, which push it no further", (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  let [sent] = lone.client.sent();
  let last = 5_000_000_000n;
  for (const step of [1n, 1_001n, 2_001n, 4_001n, 8_001n]) {
    [sent] = lone.reject(0, RejectReason.late, sent!, { lastTimestamp: last, slack: -4_000_000 });
    t.equal(BigInt(sent!.values['timestamp'] as bigint) - last, step);
    last += 1_000_000n;
  }
  t.end();
});

t.test(
  'late, by a clock that is behind further than a slack can say: from the end of the log, and the time that it took',
  (t) => {
    const lone = new Lone();
    lone.client.submit('a');
    let [sent] = lone.client.sent();
    for (const expected of [1n, 1_500_000n + 187_501n]) {
      lone.c.pass(1_500);
      const last = 9_000_000_000_000n + BigInt(lone.c.now.monotonicUs * 1000);
      [sent] = lone.reject(0, RejectReason.late, sent!, { lastTimestamp: last, slack: 0x7fffffff });
      t.equal(BigInt(sent!.values['timestamp'] as bigint) - last, expected);
    }
    t.end();
  },
);

t.test('too far ahead because of the margin: the clock is not blamed, and the next margin is smaller', (t) => {
  const lone = new Lone();
  lone.client.submit('a');
  let [sent] = lone.client.sent();
  const first = BigInt(sent!.values['timestamp'] as bigint);
  for (let i = 0; i < 8; i++) {
    const timestamp = BigInt(sent!.values['timestamp'] as bigint);
    [sent] = lone.reject(0, RejectReason.late, sent!, {
      lastTimestamp: timestamp,
      slack: Math.round(Number(first + 100_000n - timestamp) / 1000),
    });
  }
  const above = BigInt(sent!.values['timestamp'] as bigint) - 1_000_000_000n;
  t.ok(above > 100_000n, `${above} ns above the clock`);
  [sent] = lone.reject(0, RejectReason.tooFarAhead, sent!, { lastTimestamp: 1_000_050_000n });
  t.equal(lone.client.core.succession().aheadNs, 0);
  t.ok(BigInt(sent!.values['timestamp'] as bigint) - 1_000_000_000n < above);
  t.end();
});

t.test(
  "too far ahead by a member's clock alone: it is asked to take over the primary's order, and our clock stays",
  (t) => {
    const lone = new Lone();
    lone.client.submit('a');
    const [first] = lone.client.sent();
    t.strictSame(lone.reject(1, RejectReason.tooFarAhead, first!, { lastTimestamp: 400_000_000n }), []);
    t.strictSame(summary(lone.reply(0, 2, 7)), [[1, 'Reconcile']]);
    lone.reply(1, 2, 7);
    t.strictSame(lone.outcomes, [Outcome.committed]);
    t.equal(lone.client.core.succession().aheadNs, 0);
    t.end();
  },
);

t.test('a late Register far below the end of the log: another session, born right above it', (t) => {
  const c = new Cluster(3, { replicas: false });
  const client = c.client();
  client.register();
  const [first] = client.sent();
  client.receive(
    Reject,
    {
      session: BigInt(client.endpoint),
      lane: REGISTER_LANE,
      request: 1,
      reason: RejectReason.late,
      timestamp: first!.values['timestamp']!,
      lastTimestamp: 3_600_000_000_000n,
    },
    0,
  );
  t.strictSame(client.registrations, [ReplyStatus.sessionTaken]);
  const next = c.client(2, {}, client.core.succession());
  next.register();
  const [second] = next.sent();
  t.equal(Buffer.from(second!.values['operation'] as Uint8Array).readBigUInt64BE(10), 3_600_000_000_001n);
  t.ok(BigInt(second!.values['timestamp'] as bigint) >= 3_600_000_000_001n);
  t.end();
});

t.test(
  'sessions that are refused one after the other are pauses apart, up to a second; one that lived is followed at once',
  (t) => {
    const c = new Cluster(3, { replicas: false });
    let client = c.client();
    const pauses: number[] = [];
    for (let i = 0; i < 14; i++) {
      const from = c.now.monotonicUs;
      client.register();
      while (client.sent(Request).length === 0) {
        t.ok(client.core.wakeAtUs > c.now.monotonicUs, 'it waits, and says until when');
        c.pass(1000);
      }
      pauses.push(c.now.monotonicUs - from);
      client.receive(
        Reply,
        {
          session: BigInt(client.endpoint),
          lane: REGISTER_LANE,
          request: 1,
          index: 1n,
          chain: 1n,
          status: ReplyStatus.sessionTaken,
        },
        0,
      );
      client.receive(
        Reply,
        {
          session: BigInt(client.endpoint),
          lane: REGISTER_LANE,
          request: 1,
          index: 1n,
          chain: 1n,
          status: ReplyStatus.sessionTaken,
        },
        1,
      );
      t.strictSame(client.registrations, [ReplyStatus.sessionTaken]);
      client = c.client(2, {}, client.core.succession());
    }
    t.strictSame(pauses.slice(0, 2), [0, 0]);
    pauses.forEach(
      (pause, i) =>
        i >= 2 &&
        t.ok(
          pause >= 2_000 * 2 ** Math.min(i - 2, 8) - 1000 && pause <= Math.min(1_000_000, 4_000 * 2 ** (i - 2)) + 1000,
          `pause ${i}: ${pause} µs`,
        ),
    );
    client.register();
    c.pass(1_001_000);
    for (const from of [0, 1])
      client.receive(
        Reply,
        { session: BigInt(client.endpoint), lane: REGISTER_LANE, request: 1, index: 1n, chain: 1n },
        from,
      );
    t.strictSame(client.registrations, [ReplyStatus.ok]);
    c.pass(1_100_000);
    client.sent();
    client.submit('a');
    client.receive(
      Reject,
      {
        session: BigInt(client.endpoint),
        lane: 0,
        request: 1,
        reason: RejectReason.sessionUnknown,
        timestamp: client.sent(Request)[0]!.values['timestamp']!,
      },
      0,
    );
    c.pass(1000);
    t.match(client.completions, [{ outcome: Outcome.sessionLost }]);
    client = c.client(2, {}, client.core.succession());
    client.register();
    t.equal(client.sent(Request).length, 2, 'at once');
    t.end();
  },
);

t.test('with replicas: one round trip when nobody interferes, and through the loss of the primary', (t) => {
  const c = new Cluster(3);
  const client = c.client();
  client.register();
  c.run(2000);
  t.strictSame(client.registrations, [ReplyStatus.ok]);
  client.submit('a');
  t.equal(c.deliver({ message: Request }), 2);
  t.equal(c.deliver({ message: Reply }), 2);
  t.match(client.completions, [{ outcome: Outcome.committed, fast: true, result: 'a' }]);
  client.read('q');
  c.settle();
  t.match(client.completions[1]!, { outcome: Outcome.committed, fast: true, result: 'a' });
  c.replica(0).crash();
  client.submit('b');
  c.run(400_000);
  t.match(client.completions[2]!, { outcome: Outcome.committed, fast: false, result: 'a,b' });
  t.ok(client.core.view > 0);
  t.end();
});

t.test('with replicas: two clients whose requests cross are reconciled, and executed once each', (t) => {
  const c = new Cluster(3);
  const [alice, bob] = [c.client(), c.client()];
  alice.register();
  bob.register();
  c.run(10_000);
  alice.submit('a');
  bob.submit('b');
  c.deliver({ from: alice.endpoint, to: 0 });
  c.deliver({ from: bob.endpoint });
  c.deliver({ from: alice.endpoint, to: 1 });
  c.run(30_000);
  t.strictSame(
    [alice, bob].map((client) => client.completions.map(({ outcome }) => outcome)),
    [[Outcome.committed], [Outcome.committed]],
  );
  t.equal(bob.completions[0]!.result, 'a,b');
  c.run(20_000);
  t.strictSame(
    [0, 1, 2].map((id) => c.replica(id).operations),
    [
      ['R', 'R', 'a', 'b'],
      ['R', 'R', 'a', 'b'],
      ['R', 'R', 'a', 'b'],
    ],
  );
  t.end();
});

/** A client of which replicas said `busy` again and again: LEAST of 40 operations are on their way, the others wait. */
function besieged(): { readonly lone: Lone; readonly sent: readonly Packet[] } {
  const lone = new Lone(3, {}, { lanes: 40 });
  lone.client.submit('first');
  const [first] = lone.client.sent(Request);
  for (let round = 0; round < 4; round++) {
    lone.reject(1, RejectReason.busy, first!);
    lone.client.submit('probe', 1); // a round ends with a request that was sent in it
    const request = lone.client.sent(Request)[0]!.values['request']!;
    for (const from of [0, 1]) lone.reply(from, 3 + round, 90 + round, { lane: 1, request });
  }
  t.equal(Math.floor(lone.client.core.window.size), LEAST);
  for (let lane = 1; lane < 40; lane++) lone.client.submit(`operation ${lane}`, lane);
  return { lone, sent: lone.client.sent(Request).filter(({ to }) => to === 0) };
}

t.test('busy: fewer operations are on their way, and the others wait in order until there is room', (t) => {
  const { lone, sent } = besieged();
  const { core } = lone.client;
  t.strictSame(
    sent.map(({ values }) => values['lane']),
    Array.from({ length: LEAST - 1 }, (_, i) => i + 1),
    'beside the one on lane 0',
  );
  t.equal(core.window.waiting, 40 - LEAST);
  t.equal(core.openLanes, 40);
  t.equal(lone.count('waited'), 40 - LEAST);
  lone.c.pass(500);
  for (const from of [0, 1]) lone.reply(from, 20, 200, { lane: 3, request: 1 });
  const [next, ...others] = lone.client.sent(Request).filter(({ to }) => to === 0);
  t.match(next!.values, { lane: LEAST, request: 1, operation: bytes(`operation ${LEAST}`) }, 'the first that waits');
  t.ok((next!.values['timestamp'] as bigint) >= lone.c.wallNs, 'stamped when it is sent');
  t.ok(others.length <= 1, 'one for one that ended, and now and then one more');
  t.end();
});

t.test('what waits in the client ends like anything else: deadline, cancel, another view, a lost session', (t) => {
  const { lone } = besieged();
  const { core } = lone.client;
  core.cancel(39);
  t.match(lone.client.completions.at(-1)!, { lane: 39, outcome: Outcome.unknown });
  lone.client.submit('in time', 39, 2_000);
  t.equal(core.window.waiting, 40 - LEAST);
  lone.c.pass(2_000);
  t.match(lone.client.completions.at(-1)!, { lane: 39, outcome: Outcome.unknown }, 'its deadline');
  t.equal(core.window.waiting, 39 - LEAST);
  lone.client.sent();

  lone.client.receive(ProbeReply, { view: 1, status: ReplicaStatus.normal }, 1);
  const again = lone.client.sent(Request).filter(({ to }) => to === 1);
  t.equal(again.length, LEAST, 'what was on its way is sent in the view, what waits is not');

  // Each that is cancelled makes room for one that waits; no message has to come for that.
  for (let lane = 1; lane < LEAST; lane++) core.cancel(lane);
  t.ok(core.wakeAtUs <= lone.c.now.monotonicUs, 'at once');
  lone.c.pass(1);
  t.equal(lone.client.sent(Request).filter(({ to }) => to === 1).length, LEAST - 1);

  const ended = lone.client.completions.length;
  lone.reject(1, RejectReason.sessionUnknown, again[0]!, { view: 1 });
  t.ok(core.sessionLost);
  lone.c.pass(1_000);
  const lost = lone.client.completions.slice(ended);
  t.equal(lost.length, 40 - LEAST);
  t.ok(lost.every(({ outcome }) => outcome === Outcome.sessionLost));
  t.equal(core.window.waiting + core.window.onWay, 0);
  t.strictSame(lone.client.sent(Request), [], 'nothing is sent any more');
  t.end();
});

t.test('a Register that is refused as busy says nothing of the window', (t) => {
  const c = new Cluster(3, { replicas: false });
  const client = c.client(40);
  client.register();
  const [register] = client.sent(Request);
  const { timestamp, request } = register!.values;
  client.receive(
    Reject,
    {
      session: BigInt(client.endpoint),
      lane: REGISTER_LANE,
      request: request!,
      reason: RejectReason.busy,
      timestamp: timestamp!,
    },
    0,
  );
  t.equal(client.core.counters[ClientCounter.rejected_busy]!, 1);
  t.ok(client.core.window.size >= 40);
  t.end();
});
