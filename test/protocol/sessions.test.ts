// Sessions, the tail index, execution and hold-back: at most once, in log order.
import t from 'tap';
import { arrivedOf, entryOf } from './entries.js';
import { HoldBack } from '../../src/protocol/replica/hold-back.js';
import { Feature, featureOperation } from '../../src/protocol/log/features.js';
import { Log } from '../../src/protocol/log/log.js';
import { Session } from '../../src/protocol/log/session.js';
import { SessionTable } from '../../src/protocol/log/sessions.js';
import { TailIndex } from '../../src/protocol/log/tail-index.js';
import { encodeOperation } from '../../src/protocol/membership/operations.js';
import { wordsOf } from '../../src/wire/copy.js';
import { ReplyStatus, Request, RequestFlag, Reply, Reject, RejectReason } from '../../src/wire/messages.js';
import { Cluster, hasher, type JournalMachine } from './harness.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walks`);
let seedState = SEED | 0;
const random = (): number => {
  seedState = (Math.imul(seedState, 1664525) + 1013904223) | 0;
  return (seedState >>> 0) / 4294967296;
};
const below = (n: number): number => Math.floor(random() * n);

const BLANK = { hi: 0, nonceHi: 0, nonceLo: 0, bornHi: 0, registerChainHi: 0, registerChainLo: 0 };
const session = (id: number, registerIndex: number, lanes = 1, born = registerIndex): Session =>
  new Session({ ...BLANK, lo: id, nonceLo: id, lanes, bornLo: born, registerIndex });
const ids = (table: SessionTable): number[] => table.sorted().map((s) => s.lo);

t.test('the table is bounded, and evicts the session that was used longest ago', (t) => {
  const table = new SessionTable(3, 100);
  const a = session(1, 1);
  for (const s of [a, session(2, 2), session(3, 3)]) table.register(s);
  table.used(a, 4);
  table.register(session(4, 5));
  t.strictSame(ids(table), [1, 3, 4]);
  t.equal(table.evicted, 1);
  t.equal(table.find(0, 2), undefined);
  t.throws(() => table.used(table.find(0, 3)!, 4), { code: 'invariant-broken' }, 'uses come in log order');
  t.end();
});

t.test('lanes of all sessions together are bounded as well', (t) => {
  const table = new SessionTable(10, 10);
  table.register(session(1, 1, 4));
  table.register(session(2, 2, 4));
  table.register(session(3, 3, 2));
  t.strictSame(ids(table), [1, 2, 3], 'exactly full');
  table.register(session(4, 4, 5));
  t.strictSame(ids(table), [3, 4], 'two had to go');
  t.throws(() => table.register(session(5, 5, 11)), { code: 'invariant-broken' });
  t.end();
});

t.test('what was evicted was born no later than the horizon, also after a snapshot', (t) => {
  const table = new SessionTable(1, 10);
  table.register(session(1, 1, 1, 50));
  t.notOk(table.mayBeEvicted(0, 1), 'nothing was evicted');
  table.register(session(2, 2, 1, 30));
  t.ok(table.mayBeEvicted(0, 50));
  t.notOk(table.mayBeEvicted(0, 51));
  table.register(session(3, 3, 1, 60));
  t.ok(table.mayBeEvicted(0, 50), 'an earlier one evicted later does not lower the horizon');
  const bytes = new Uint8Array(table.encodedLength());
  table.write(bytes, 0);
  const other = new SessionTable(1, 10);
  other.read(bytes, 0);
  t.ok(other.mayBeEvicted(0, 50));
  t.notOk(other.mayBeEvicted(0, 51));
  t.end();
});

t.test('the same table always gives the same bytes, and they give the table back', (t) => {
  /** `before`: sessions that were there and were evicted, so that the four that stay lie elsewhere in the table. */
  const build = (before: number): SessionTable => {
    const table = new SessionTable(4, 1000);
    for (let i = 1; i <= before; i++) table.register(session(1000 + i, i - 1000, 1, 0));
    for (const id of [1, 3, 5, 9]) {
      const s = session(id, id, 3, id * 10);
      s.record({
        lane: 2,
        request: 7,
        index: 100 + id,
        chainHi: id,
        chainLo: -id,
        status: ReplyStatus.ok,
        resultWords: wordsOf(Uint8Array.from([id, 2, 3])),
        resultOffset: 1,
        resultLength: 2,
      });
      table.register(s);
    }
    for (const id of [9, 3]) table.used(table.find(0, id)!, 109 - id);
    return table;
  };
  const write = (table: SessionTable): Uint8Array => {
    const bytes = new Uint8Array(table.encodedLength() + 3);
    t.equal(table.write(bytes, 3), bytes.length, 'as long as it said');
    return bytes;
  };
  const bytes = write(build(0));
  for (const before of [4, 50, 51, 97]) t.strictSame(write(build(before)), bytes);
  const read = new SessionTable(64, 1000);
  read.register(session(77, 1));
  read.find(0, 77)!.replyTo = 5;
  read.read(bytes, 3);
  t.equal(read.find(0, 77), undefined, 'it replaces what was there');
  t.strictSame(write(read), bytes);
  const nine = read.find(0, 9)!;
  t.strictSame(
    [
      nine.request[2],
      nine.index[2],
      nine.chainHi[2],
      nine.chainLo[2],
      nine.results.length(2),
      ...nine.results.bytes(2).subarray(0, 2),
    ],
    [7, 109, 9, -9, 2, 2, 3],
  );
  t.strictSame([nine.request[0], nine.lastUsed, nine.registerIndex, nine.bornLo], [0, 100, 9, 90]);
  for (let i = 0; i < 61; i++) read.register(session(200 + i, 200 + i));
  t.strictSame(
    [1, 3, 5, 9].map((id) => read.find(0, id) !== undefined),
    [false, true, true, true],
    'in the order of last use: 1, 5, 9, 3',
  );
  read.register(session(300, 300));
  t.equal(read.find(0, 5), undefined);
  read.register(session(301, 301));
  t.strictSame([read.find(0, 9) === undefined, read.find(0, 3) === undefined], [true, false]);
  t.end();
});

t.test('random registrations agree with a plain list', (t) => {
  const table = new SessionTable(100, 300);
  let model: Session[] = [];
  for (let step = 1; step < 2000; step++) {
    if (random() < 0.5 && model.length > 0) {
      const used = model[below(model.length)]!;
      table.used(used, step);
      if (used.lastUsed !== step) t.fail('the use is remembered');
      continue;
    }
    const added = new Session({
      ...BLANK,
      hi: below(4),
      lo: step,
      lanes: 1 + below(8),
      bornLo: step,
      registerIndex: step,
    });
    while (model.length >= 100 || model.reduce((sum, s) => sum + s.lanes, 0) + added.lanes > 300) {
      const oldest = model.reduce((a, b) => (a.lastUsed < b.lastUsed ? a : b));
      model = model.filter((s) => s !== oldest);
    }
    model.push(added);
    table.register(added);
    if (table.size !== model.length || model.some((s) => table.find(s.hi, s.lo) !== s))
      t.fail(`step ${step}, SEED=${SEED}`);
  }
  t.ok(table.evicted > 100);
  t.end();
});

t.test('the tail index knows the newest unexecuted entry of each lane, also after truncation', (t) => {
  const log = new Log(64, 1 << 14, 120, hasher);
  const tail = new TailIndex(log);
  let executed = 0;
  let timestamp = 0;
  let largest = 0;
  for (let step = 0; step < 20_000; step++) {
    const choice = random();
    if (choice < 0.6) {
      if (log.append(entryOf({ timestampLo: ++timestamp, sessionLo: 1 + below(5), lane: below(3), request: step })))
        tail.add(log.lastIndex);
    } else if (choice < 0.8) {
      if (executed < log.lastIndex) tail.executed(++executed);
    } else if (choice < 0.9) {
      const index = executed + below(log.lastIndex - executed + 1);
      for (let i = log.lastIndex; i > index; i--) tail.truncated(i, executed);
      log.truncate(index);
    } else log.cut(log.baseIndex + below(executed - log.baseIndex + 1));
    let size = 0;
    for (let id = 1; id <= 5; id++) {
      for (let lane = 0; lane < 3; lane++) {
        let newest = 0;
        for (let i = executed + 1; i <= log.lastIndex; i++)
          if (log.sessionLo(i) === id && log.lane(i) === lane) newest = i;
        if (newest !== 0) size++;
        if (tail.find(0, id, lane) !== newest)
          throw new Error(
            `session ${id} lane ${lane}: ${tail.find(0, id, lane)}, not ${newest}, at step ${step}, SEED=${SEED}`,
          );
      }
    }
    if (tail.size !== size) throw new Error(`size ${tail.size}, not ${size}, at step ${step}, SEED=${SEED}`);
    largest = Math.max(largest, size);
  }
  t.ok(largest > 10, 'lanes shared the table');
  tail.clear();
  t.equal(tail.size, 0);
  t.end();
});

t.test('held requests come out in the order of their timestamps when due, and no sooner', (t) => {
  const holdBack = new HoldBack(16, 2_000_000, 4_096, 'restamp');
  const model: { timestamp: number; mark: number }[] = [];
  let now = 0;
  let mark = 0;
  for (let step = 0; step < 5000; step++) {
    if (random() < 0.5) {
      const timestamp = now + 1 + below(50);
      const operationBytes = new Uint8Array(1 + Request.size).fill(++mark & 255, 1, 2);
      const arrived = arrivedOf({
        operationBytes,
        messageOffset: 1,
        replyTo: mark,
        timestampLo: timestamp,
        owner: mark,
      });
      const taken = holdBack.hold(arrived, 0, timestamp);
      if (taken !== model.length < 16) throw new Error(`SEED=${SEED}`);
      if (taken) model.push({ timestamp, mark });
    } else {
      now += below(20);
      for (let slot = holdBack.take(now); slot >= 0; slot = holdBack.take(now)) {
        const first = Math.min(...model.map((held) => held.timestamp));
        const at = model.findIndex((held) => held.mark === holdBack.fromOf(slot));
        if (
          at < 0 ||
          model[at]!.timestamp !== first ||
          first > now ||
          holdBack.bytes[holdBack.offsetOf(slot)] !== (model[at]!.mark & 255)
        )
          throw new Error(`step ${step}, SEED=${SEED}`);
        model.splice(at, 1);
      }
    }
    const due = Math.min(Infinity, ...model.map((held) => held.timestamp));
    if (holdBack.dueUs !== due || holdBack.size !== model.length)
      throw new Error(`due ${holdBack.dueUs}, not ${due}, at step ${step}, SEED=${SEED}`);
  }
  holdBack.clear();
  t.equal(holdBack.take(Infinity), -1);
  const longest = arrivedOf({ operationBytes: new Uint8Array(5_000).fill(3), operationLength: 4_096 - Request.size });
  t.ok(holdBack.hold(longest, 0, 1));
  const slot = holdBack.take(1);
  const first = holdBack.offsetOf(slot);
  t.ok(
    holdBack.bytes.subarray(first, first + 4_096).every((byte) => byte === 3),
    'whole',
  );
  longest.operationLength++;
  t.notOk(holdBack.hold(longest, 0, 1), 'a message that is too long is not held');
  t.end();
});

/** Replica 0 alone, the primary of view 0 of three. */
function primary(options: ConstructorParameters<typeof Cluster>[1] = {}): Cluster {
  return new Cluster(3, options);
}
const journal = (c: Cluster, id = 0): string[] => (c.replica(id).machine as JournalMachine).journal;

t.test('a client registers (a replicated Register operation) and its requests are executed in log order', (t) => {
  const c = primary();
  const alice = c.hand();
  const registered = c.replica(0).answer(Request, alice.registration(10), alice.endpoint);
  t.equal(registered.values['status'], ReplyStatus.ok);
  t.equal(registered.values['index'], 1n);
  const reply = c.replica(0).answer(Request, alice.request(20, 1, 'a'), alice.endpoint);
  t.equal(reply.message, Reply);
  t.equal(reply.values['chain'], c.replica(0).chain(2));
  t.equal(
    Buffer.from(reply.values['result'] as Uint8Array).toString(),
    'a',
    'the primary executes it and replies with the result',
  );
  t.strictSame(journal(c), ['a']);
  t.end();
});

t.test('a Register of the same client is answered again; of another client, with the same id, it is refused', (t) => {
  const c = primary();
  const alice = c.hand(5n);
  c.replica(0).receive(Request, alice.registration(10), alice.endpoint);
  const again = c.replica(0).answer(Request, alice.registration(10), alice.endpoint);
  t.strictSame([again.values['status'], again.values['index']], [ReplyStatus.ok, 1n]);
  const mallory = c.hand(5n);
  const taken = c.replica(0).answer(Request, mallory.registration(20, { nonce: 99n }), mallory.endpoint);
  t.equal(taken.values['status'], ReplyStatus.sessionTaken);
  t.equal(c.replica(0).last, 1);
  t.end();
});

t.test('at most once = (session lane, request number)', (t) => {
  const c = primary();
  const alice = c.hand();
  c.replica(0).receive(Request, alice.registration(10), alice.endpoint);
  const first = c.replica(0).answer(Request, alice.request(20, 1, 'a'), alice.endpoint);
  const again = c.replica(0).answer(Request, alice.request(30, 1, 'a'), alice.endpoint);
  t.strictSame(
    [again.values['index'], again.values['chain'], again.values['result']],
    [first.values['index'], first.values['chain'], first.values['result']],
    'under a new timestamp: the same answer',
  );
  c.replica(0).receive(Request, alice.request(40, 2, 'b'), alice.endpoint);
  t.strictSame(c.replica(0).receive(Request, alice.request(50, 1, 'a'), alice.endpoint), [], 'older: ignored');
  c.replica(0).receive(Request, alice.request(60, 1, 'c', { lane: 1 }), alice.endpoint);
  t.strictSame(journal(c), ['a', 'b', 'c'], 'another lane has numbers of its own');
  t.equal(c.replica(0).counter('requests_duplicate'), 2);
  t.end();
});

t.test('a request of an evicted session is refused (session-unknown), never executed again', (t) => {
  const c = primary({ limits: { maxSessions: 2 } });
  const [alice, bob, carol] = [c.hand(), c.hand(), c.hand()];
  c.replica(0).receive(Request, alice.registration(10), alice.endpoint);
  c.replica(0).receive(Request, alice.request(11, 1, 'a'), alice.endpoint);
  c.replica(0).receive(Request, bob.registration(20), bob.endpoint);
  c.replica(0).receive(Request, carol.registration(30), carol.endpoint);
  t.equal(c.replica(0).counter('sessions_evicted'), 1);
  const refused = c.replica(0).answer(Request, alice.request(40, 1, 'a'), alice.endpoint);
  t.equal(refused.message, Reject);
  t.equal(refused.values['reason'], RejectReason.sessionUnknown);
  t.strictSame(journal(c), ['a']);
  t.end();
});

t.test("so is an operator's: session-unknown, for what it asked may have been done; it is not appended", (t) => {
  const c = primary({ features: Feature.membership, limits: { maxSessions: 2 } });
  const [alice, bob, carol] = [c.hand(), c.hand(), c.hand()];
  c.replica(0).receive(Request, alice.registration(10), alice.endpoint);
  c.replica(0).receive(Request, bob.registration(20), bob.endpoint);
  const asks = [
    ['a feature', RequestFlag.feature, featureOperation(1, hasher)],
    ['no feature', RequestFlag.feature, featureOperation(0, hasher)],
    ['a change', RequestFlag.configure, encodeOperation({ kind: 'move', id: 0, address: 'a:1' })],
    ['a change of an epoch that is over', RequestFlag.configure, encodeOperation({ kind: 'go', epoch: 1 })],
  ] as const;
  const said = (at: number): unknown[] =>
    asks.map(([what, flags, operation], i) => {
      const { last } = c.replica(0);
      const request = { ...alice.request(at + i, i + 1, ''), flags, operation };
      const { values } = c.replica(0).answer(Request, request, alice.endpoint);
      return [what, values['reason'], c.replica(0).last - last];
    });
  t.strictSame(
    said(30),
    [
      ['a feature', undefined, 1],
      ['no feature', RejectReason.badRequest, 0],
      ['a change', undefined, 1],
      ['a change of an epoch that is over', RejectReason.badRequest, 0],
    ],
    'as long as the session is there',
  );
  // Both others are used after it.
  c.replica(0).receive(Request, bob.request(40, 1, 'b'), bob.endpoint);
  c.replica(0).receive(Request, carol.registration(50), carol.endpoint);
  t.equal(c.replica(0).counter('sessions_evicted'), 1);
  t.strictSame(
    said(60),
    asks.map(([what]) => [what, RejectReason.sessionUnknown, 0]),
    'evicted',
  );
  t.end();
});

t.test('a delayed Register cannot bring an evicted session back', (t) => {
  const c = primary({ limits: { maxSessions: 1 } });
  const [alice, bob] = [c.hand(), c.hand()];
  c.replica(0).receive(Request, alice.registration(10), alice.endpoint);
  c.replica(0).receive(Request, alice.request(11, 1, 'a'), alice.endpoint);
  c.replica(0).receive(Request, bob.registration(20), bob.endpoint);
  const delayed = c.replica(0).answer(Request, alice.registration(30, { born: 10 }), alice.endpoint);
  t.equal(delayed.values['status'], ReplyStatus.sessionTaken);
  t.equal(c.replica(0).answer(Request, alice.request(40, 1, 'a'), alice.endpoint).message, Reject);
  t.strictSame(journal(c), ['a'], 'executed once');
  const fresh = c.replica(0).answer(Request, alice.registration(50), alice.endpoint);
  t.equal(fresh.values['status'], ReplyStatus.ok, 'a registration that is new in time is a new session');
  t.end();
});

t.test('a Register that says it was born after its entry is refused: nobody pushes the horizon ahead of time', (t) => {
  const c = primary();
  const mallory = c.hand();
  t.equal(
    c.replica(0).answer(Request, mallory.registration(10, { born: 11 }), mallory.endpoint).values['status'],
    ReplyStatus.badRequest,
  );
  t.equal(
    c.replica(0).answer(Request, mallory.registration(20, { lanes: 0 }), mallory.endpoint).values['status'],
    ReplyStatus.badRequest,
  );
  t.equal(
    c.replica(0).answer(Request, mallory.registration(30, { lanes: 65 }), mallory.endpoint).values['status'],
    ReplyStatus.badRequest,
  );
  t.equal(c.replica(0).state.execution.sessions.size, 0);
  t.end();
});

t.test('members recognise what they appended ahead of execution', (t) => {
  const c = primary();
  const alice = c.hand();
  const member = c.replica(1);
  member.receive(Request, alice.registration(10), alice.endpoint);
  const first = member.answer(Request, alice.request(20, 1, 'a'), alice.endpoint);
  t.equal(first.values['index'], 2n);
  t.equal((first.values['result'] as Uint8Array).length, 0, 'only the primary has a result');
  t.equal(member.state.executed, 0, 'members execute what is committed');
  t.equal(member.answer(Request, alice.request(30, 1, 'a'), alice.endpoint).values['index'], 2n);
  t.equal(member.last, 2);
  t.end();
});

t.test('members and spares execute up to committed, and no further', (t) => {
  const c = primary();
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.give(alice, Request, alice.request(20, 1, 'a'), 0, 1);
  c.run(20_000);
  c.give(alice, Request, alice.request(30, 2, 'b'), 0, 1);
  t.strictSame(
    [0, 1, 2].map((id) => journal(c, id)),
    [['a', 'b'], ['a'], ['a']],
  );
  t.strictSame(
    [0, 1, 2].map((id) => c.replica(id).state.committed),
    [2, 2, 2],
  );
  c.run(20_000);
  t.strictSame(
    [0, 1, 2].map((id) => journal(c, id)),
    [
      ['a', 'b'],
      ['a', 'b'],
      ['a', 'b'],
    ],
  );
  t.end();
});

t.test('a snapshot is provisional until its index is committed; only behind a stable one is the log cut', (t) => {
  const c = primary({ limits: { logEntries: 16 } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  for (let i = 1; i <= 9; i++) c.give(alice, Request, alice.request(10 + i, i, `${i}`), 0, 1);
  const { state } = c.replica(0);
  t.equal(state.committed, 0);
  t.equal(state.execution.stable.index, 0);
  t.ok(state.execution.provisional!.index > 0, 'taken at an executed index');
  t.same(c.replica(0).wholeStates.slice(-2), [false, true], 'the host hears that the machine gave its state at once');
  t.equal(state.log.baseIndex, 0);
  c.run(20_000);
  t.ok(state.execution.stable.index > 0, 'stable once committed');
  t.equal(state.log.baseIndex, state.execution.stable.index);
  for (let i = 10; i <= 60; i++) {
    c.give(alice, Request, alice.request(10 + i, i, `${i}`), 0, 1);
    c.run(6000);
  }
  c.run(20_000);
  t.equal(c.replica(0).counter('rejected_busy') + c.replica(1).counter('rejected_busy'), 0, 'the log never fills up');
  t.strictSame(
    [0, 1, 2].map((id) => journal(c, id).length),
    [60, 60, 60],
  );
  t.end();
});

t.test(
  'a log in memory is cut long before it is half full, when it is some times as long as the snapshot, and keeps entries for those a little behind',
  (t) => {
    const c = primary({ limits: { logEntries: 1024 } });
    const alice = c.hand();
    c.give(alice, Request, alice.registration(10), 0, 1);
    for (let i = 1; i <= 300; i++) {
      c.give(alice, Request, alice.request(10 + i, i, `${i}`), 0, 1);
      if (i % 10 === 0) c.run(6000);
    }
    c.run(20_000);
    for (const id of [0, 1, 2]) {
      const { log, execution } = c.replica(id).state;
      t.ok(
        log.lastIndex - log.baseIndex < 128,
        `replica ${id} keeps ${log.lastIndex - log.baseIndex} of ${log.lastIndex} entries`,
      );
      t.ok(
        execution.stable.index - log.baseIndex >= 16,
        `${execution.stable.index - log.baseIndex} of them in front of its snapshot`,
      );
      t.equal(c.replica(id).counter('snapshots_installed'), 0, 'nobody had to live on snapshots');
    }
    t.end();
  },
);

t.test('a log that is full of what is not committed rejects with busy, and takes requests again later', (t) => {
  const c = primary({ limits: { logEntries: 16 } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0);
  for (let i = 1; i <= 15; i++) c.give(alice, Request, alice.request(10 + i, i, `${i}`), 0);
  t.equal(c.replica(0).answer(Request, alice.request(30, 16, 'x'), alice.endpoint).values['reason'], RejectReason.busy);
  c.run(30_000);
  const taken = c.replica(0).answer(Request, alice.request(31, 16, 'x'), alice.endpoint);
  t.equal(taken.message, Reply);
  t.equal(taken.values['index'], 17n);
  t.end();
});
