// The session table shared by owners: who gives way to whom, and what is kept of results.
import t from 'tap';
import { featureOperation, Feature } from '../../src/protocol/log/features.js';
import { checkLimits, DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { SNAPSHOT_BYTES_MAX } from '../../src/protocol/log/snapshots.js';
import { Session } from '../../src/protocol/log/session.js';
import { sessionsFault, SessionTable, tableBytesMax } from '../../src/protocol/log/sessions.js';
import { ownerOfSession } from '../../src/protocol/log/session-shares.js';
import { roomFor, SpareArrays } from '../../src/protocol/log/spare-arrays.js';
import { wordsOf } from '../../src/wire/copy.js';
import { Reply, ReplyStatus, Request, RequestFlag } from '../../src/wire/messages.js';
import { Cluster, encode, hasher, type HandClient, type Values } from './harness.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walks`);
let seedState = SEED | 0;
const random = (): number => {
  seedState = (Math.imul(seedState, 1664525) + 1013904223) | 0;
  return (seedState >>> 0) / 4294967296;
};
const below = (n: number): number => Math.floor(random() * n);

const BLANK = { hi: 0, nonceLo: 0, bornHi: 0, registerChainHi: 0, registerChainLo: 0 };
const ALICE = 7;
const MALLORY = 8;
const session = (id: number, owner: number, registerIndex: number, lanes = 1, spares = new SpareArrays()): Session =>
  new Session({ ...BLANK, lo: 2 * id, nonceHi: owner, lanes, bornLo: registerIndex, registerIndex }, spares);
const ids = (table: SessionTable): number[] => table.sorted().map((s) => s.lo / 2);
const record = (
  s: Session,
  lane: number,
  request: number,
  length: number,
  bytes: Uint8Array = new Uint8Array(length),
): number =>
  s.record({
    lane,
    request,
    index: request,
    chainHi: 0,
    chainLo: 0,
    status: ReplyStatus.ok,
    resultWords: wordsOf(bytes),
    resultOffset: 0,
    resultLength: length,
  });

function shared(maxSessions: number, maxLanes: number, maxBytes?: number): SessionTable {
  const table = new SessionTable(maxSessions, maxLanes, maxBytes);
  table.setQuotas(true);
  return table;
}

t.test('sessions without an owner are one owner together', (t) => {
  t.equal(ownerOfSession(3, 99), 0);
  t.equal(ownerOfSession(4, 99), 99);
  t.end();
});

for (const [what, lanes, quarter, create] of [
  ['lanes', 64, 4, () => new SessionTable(4096, 1024)],
  ['sessions', 1, 16, () => new SessionTable(64, 4096)],
] as const)
  t.test(`one that registers without end does not evict the sessions of others: ${what}`, (t) => {
    for (const quotas of [false, true]) {
      const table = create();
      table.setQuotas(quotas);
      for (let i = 1; i <= 5; i++) table.register(session(i, ALICE, i));
      for (let i = 100; i < 1000; i++) table.register(session(i, MALLORY, i, lanes));
      t.equal(ids(table).filter((id) => id <= 5).length, quotas ? 5 : 0, quotas ? 'with quotas' : 'without');
      if (quotas) t.equal(ids(table).filter((id) => id >= 100).length, quarter, 'and has a quarter itself');
    }
    t.end();
  });

t.test(
  'alone, an owner has the whole table; beside others it does not grow beyond a quarter, and loses nothing',
  (t) => {
    const table = shared(4096, 100);
    for (let i = 1; i <= 10; i++) table.register(session(i, ALICE, i, 10));
    t.equal(table.size, 10);
    table.register(session(11, MALLORY, 11, 10));
    t.same(ids(table), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 'the heaviest gives way, with its oldest');
    table.register(session(12, ALICE, 12, 10));
    t.same(ids(table), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 'its own');
    table.register(session(13, MALLORY, 13, 10));
    table.register(session(14, MALLORY, 14, 10));
    t.same(ids(table), [4, 5, 6, 7, 8, 9, 10, 12, 13, 14], 'a quarter holds two of them');
    t.end();
  },
);

t.test('one session is never too much', (t) => {
  const table = shared(4, 10);
  table.register(session(1, ALICE, 1, 1));
  table.register(session(2, MALLORY, 2, 9));
  t.same(ids(table), [1, 2]);
  table.register(session(3, MALLORY, 3, 9));
  t.same(ids(table), [1, 3]);
  t.end();
});

t.test('bytes of results: the owner that holds most gives up the session that it used longest ago', (t) => {
  const table = shared(4096, 4096, 16 * 1024);
  const alice = session(1, ALICE, 1, 4);
  table.register(alice);
  table.used(alice, 2, record(alice, 0, 2, 1000));
  t.equal(table.resultBytes, 1024);
  let index = 3;
  for (let id = 10; id < 20; id++) {
    const one = session(id, MALLORY, index, 8);
    table.register(one);
    index++;
    for (let lane = 0; lane < 8; lane++) {
      table.used(one, index, record(one, lane, index, 1000));
      index++;
      if (table.find(0, 2 * id) === undefined) break;
    }
  }
  t.equal(table.find(0, 2), alice, 'the other one keeps its session');
  t.ok(table.resultBytes <= 1024 + 4096, 'and the flood a quarter');
  t.end();
});

t.test('a session that is all that its owner has keeps its newest result, and gives up its oldest', (t) => {
  const table = shared(4096, 4096, 16 * 1024);
  const alice = session(1, ALICE, 1, 4);
  table.register(alice);
  table.used(alice, 2, record(alice, 0, 2, 1000));
  const only = session(10, MALLORY, 3, 16);
  table.register(only);
  let index = 3;
  for (let round = 0; round < 3; round++)
    for (let lane = 0; lane < 16; lane++) {
      index++;
      table.used(only, index, record(only, lane, index, 1000));
      t.equal(table.find(0, 20), only, 'it stays');
      t.same([only.status[lane], only.results.length(lane)], [ReplyStatus.ok, 1000], 'with what it executed last');
      t.ok(only.resultBytes <= 4096, 'within a quarter');
      t.equal(table.resultBytes, 1024 + only.resultBytes);
    }
  t.same(
    [12, 13, 14, 15].map((lane) => only.results.length(lane)),
    [1000, 1000, 1000, 1000],
  );
  t.same([only.lastRequest(11), only.results.length(11)], [index - 4, 0], 'of the others it knows the number');
  t.equal(only.status[11], ReplyStatus.sessionUnknown, 'and that no more is known');
  t.equal(table.find(0, 2), alice);
  const bytes = new Uint8Array(table.encodedLength());
  table.write(bytes, 0);
  const restored = shared(4096, 4096, 16 * 1024);
  restored.read(bytes, 0);
  t.equal(restored.resultBytes, table.resultBytes, 'the same after a snapshot');
  t.end();
});

t.test('alone, a session fills the bound; the newest result of a small owner pushes out those of a large one', (t) => {
  const table = shared(4096, 4096, 4096);
  const only = session(1, MALLORY, 1, 16);
  table.register(only);
  for (let lane = 0; lane < 16; lane++) table.used(only, lane + 2, record(only, lane, lane + 2, 500));
  t.equal(table.find(0, 2), only);
  t.equal(table.resultBytes, 4096, 'eight of sixteen');
  const owners: Session[] = [];
  for (let i = 0; i < 8; i++) {
    const one = session(20 + i, 100 + i, 100 + 2 * i);
    owners.push(one);
    table.register(one);
    table.used(one, 101 + 2 * i, record(one, 0, 101 + 2 * i, 500));
    t.equal(one.results.length(0), 500, 'the newest one stays');
    t.ok(table.resultBytes <= 4096);
  }
  t.equal(table.find(0, 2), undefined, 'the one that held most has given up everything');
  const last = session(40, 200, 200);
  table.register(last);
  table.used(last, 201, record(last, 0, 201, 900));
  t.equal(table.find(0, 80), last, 'heavier than all others, and in use');
  t.same(
    owners.map(({ share }) => share !== undefined),
    [false, false, true, true, true, true, true, true],
    'those used longest ago give way',
  );
  t.equal(table.resultBytes, 4096);
  t.end();
});

t.test('results that become shorter are given back', (t) => {
  const table = shared(10, 10, 16 * 1024);
  const one = session(1, ALICE, 1, 2);
  table.register(one);
  for (const [request, length, kept] of [
    [2, 64, 0],
    [3, 65, 128],
    [4, 129, 256],
    [5, 3000, 4096],
    [6, 10, 0],
    [7, 3000, 4096],
    [8, 65, 128],
  ] as const) {
    table.used(one, request, record(one, 0, request, length));
    t.equal(one.resultBytes, kept, String(length));
    t.equal(table.resultBytes, kept);
    t.equal(one.results.bytes(0).length, kept === 0 ? 64 : roomFor(length), 'and so is their memory');
  }
  t.end();
});

t.test(
  'sessions that come in place of evicted ones make no arrays of their own, nor does a table that is read again',
  (t) => {
    const table = shared(4096, 4096, 64 * 1024);
    const { spares } = table;
    /** Other bytes for each owner, session and lane. */
    const result = (owner: number, id: number, lane: number): Uint8Array =>
      Uint8Array.from({ length: 1000 }, (_, i) => [owner, id, lane, i][i % 4]!);
    const alice = session(1, ALICE, 1, 1, spares);
    table.register(alice);
    table.used(alice, 2, record(alice, 0, 2, 1000, result(ALICE, 1, 0)));
    let index = 2;
    const fill = (id: number): void => {
      const one = session(id, MALLORY, ++index, 16, spares);
      table.register(one);
      for (let lane = 0; lane < 16; lane++)
        table.used(one, ++index, record(one, lane, index, 1000, result(MALLORY, id, lane)));
    };
    /** Each result of the sessions in the table is right, and has an array of its own. */
    const check = (what: string): void => {
      const arrays = new Set<ArrayBufferLike>();
      const wrong: string[] = [];
      let lanes = 0;
      for (const one of table.sorted())
        for (let lane = 0; lane < one.lanes; lane++) {
          lanes++;
          const bytes = one.results.bytes(lane);
          arrays.add(bytes.buffer);
          const kept = bytes.subarray(0, one.results.length(lane));
          if (Buffer.compare(kept, result(one.nonceHi, one.lo / 2, lane)) !== 0)
            wrong.push(`${one.lo / 2}, lane ${lane}`);
        }
      t.same(wrong, [], `${what}: the bytes`);
      t.equal(lanes, 17);
      t.equal(arrays.size, lanes, `${what}: no two share an array`);
    };
    fill(10);
    check('without evictions');
    t.equal(spares.made, 17, 'one for each result');
    t.equal(spares.kept, 0);
    fill(11);
    t.equal(table.find(0, 20), undefined, 'the one before has left');
    t.equal(spares.made, 18, 'its arrays are used again; one was needed before it left');
    t.equal(spares.kept, 1024);
    check('after an eviction');
    for (let id = 12; id < 100; id++) fill(id);
    t.equal(spares.made, 18);
    check('after many');
    const bytes = new Uint8Array(table.encodedLength());
    table.write(bytes, 0);
    table.read(bytes, 0);
    t.equal(table.resultBytes, 17 * 1024);
    t.equal(spares.made, 19, 'no more than 16 are kept');
    check('read again');
    t.end();
  },
);

t.test('arrays that are not in use are bounded, in bytes and in number', (t) => {
  const spares = new SpareArrays(4096);
  const take = (size: number): readonly [Uint8Array, DataView] => [spares.take(size), spares.taken];
  for (const [bytes, words] of Array.from({ length: 5 }, () => take(1024))) spares.give(bytes, words);
  t.equal(spares.kept, 4096, 'the fifth is left to the collector');
  const [short, view] = take(128);
  spares.give(short, view);
  t.equal(spares.kept, 4096);
  t.equal(take(1024)[0].length, 1024);
  spares.give(short, view);
  t.equal(spares.kept, 3 * 1024 + 128, 'all lengths together');
  t.equal(spares.take(128), short);
  t.equal(spares.made, 6);
  const many = new SpareArrays(1 << 30);
  for (let i = 0; i < 5000; i++) many.give(new Uint8Array(128), view);
  t.equal(many.kept, 4096 * 128);
  t.end();
});

t.test('random tables stay within their bounds, equal a plain model, and are the same after a snapshot', (t) => {
  const MAX = { sessions: 40, lanes: 200, bytes: 16 * 1024 };
  let table = shared(MAX.sessions, MAX.lanes, MAX.bytes);
  /** In the order of last use. */
  let model: Session[] = [];
  /** Of each session: by lane, the entry of its result, and the bytes that this takes. */
  let results = new Map<Session, Map<number, { readonly index: number; readonly bytes: number }>>();
  const bytesOf = (s: Session): number =>
    [...(results.get(s)?.values() ?? [])].reduce((all, { bytes }) => all + bytes, 0);
  const sum = (of: readonly Session[], measure: 'sessions' | 'lanes' | 'bytes'): number =>
    of.reduce((all, s) => all + (measure === 'sessions' ? 1 : measure === 'lanes' ? s.lanes : bytesOf(s)), 0);
  const of = (owner: number): Session[] => model.filter((s) => ownerOfSession(s.lo, s.nonceHi) === owner);
  const owners = (): number[] => [...new Set(model.map((s) => ownerOfSession(s.lo, s.nonceHi)))];
  const evict = (s: Session): void => void (model = model.filter((other) => other !== s));
  const heaviest = (
    measure: 'sessions' | 'lanes' | 'bytes',
    owner: number,
    more: number,
    among = owners(),
  ): Session => {
    const weight = (o: number): number => sum(of(o), measure) + (o === owner ? more : 0);
    const most = Math.max(...among.map(weight));
    const candidates = among.filter((o) => weight(o) === most);
    return candidates.includes(owner)
      ? of(owner)[0]!
      : model.find((s) => candidates.includes(ownerOfSession(s.lo, s.nonceHi)))!;
  };
  const evictFor = (measure: 'sessions' | 'lanes', owner: number, more: number): void =>
    evict(heaviest(measure, owner, more));
  let forgotten = 0;
  const older = (s: Session, step: number) =>
    [...(results.get(s) ?? [])].filter(([, { index, bytes }]) => index !== step && bytes > 0);
  /** A session is evicted; of the one in use, only a result. */
  const giveUp = (s: Session, inUse: Session, step: number): void => {
    if (s !== inUse) {
      evict(s);
      return;
    }
    const [lane] = older(s, step).sort(([, a], [, b]) => a.index - b.index)[0]!;
    results.get(s)!.delete(lane);
    forgotten++;
  };
  for (let step = 1; step < 6000; step++) {
    if (model.length > 0 && random() < 0.6) {
      const used = model[below(model.length)]!;
      const owner = ownerOfSession(used.lo, used.nonceHi);
      const lane = below(used.lanes);
      const length = below(3) === 0 ? below(2000) : below(64);
      const before = bytesOf(used);
      if (!results.has(used)) results.set(used, new Map());
      results.get(used)!.set(lane, { index: step, bytes: length > 64 ? roomFor(length) : 0 });
      const grown = bytesOf(used) - before;
      if (record(used, lane, step, length) !== grown) throw new Error(`step ${step}, SEED=${SEED}: another growth`);
      table.used(used, step, grown);
      evict(used);
      model.push(used);
      if (grown > 0) {
        const allowed = Math.max(MAX.bytes / 4, sum(of(owner), 'bytes') - grown);
        if (owners().length > 1) while (sum(of(owner), 'bytes') > allowed) giveUp(of(owner)[0]!, used, step);
      }
      while (sum(model, 'bytes') > MAX.bytes) {
        const isLeft = of(owner)[0] === used && older(used, step).length === 0;
        giveUp(heaviest('bytes', owner, 0, isLeft ? owners().filter((o) => o !== owner) : owners()), used, step);
      }
    } else {
      const owner = below(5);
      const added = new Session({
        ...BLANK,
        lo: 4 * step + (owner === 0 ? 1 : 2),
        nonceHi: owner,
        lanes: 1 + below(12),
        bornLo: step,
        registerIndex: step,
      });
      for (const [measure, more, bound] of [
        ['sessions', 1, MAX.sessions],
        ['lanes', added.lanes, MAX.lanes],
      ] as const) {
        const allowed = Math.max(bound / 4, sum(of(owner), measure));
        if (owners().length > 1 && of(owner).length > 0)
          while (of(owner).length > 0 && sum(of(owner), measure) + more > allowed) evict(of(owner)[0]!);
      }
      while (model.length >= MAX.sessions) evictFor('sessions', owner, 1);
      while (sum(model, 'lanes') + added.lanes > MAX.lanes) evictFor('lanes', owner, added.lanes);
      model.push(added);
      table.register(added);
    }
    const same =
      table.size === model.length &&
      table.resultBytes === sum(model, 'bytes') &&
      model.every((s) => table.find(s.hi, s.lo) === s);
    if (!same)
      throw new Error(
        `step ${step}, SEED=${SEED}: ${ids(table).join(' ')}, not ${model.map((s) => s.lo / 2).join(' ')}`,
      );
    if (table.resultBytes > MAX.bytes) throw new Error(`step ${step}, SEED=${SEED}: ${table.resultBytes} bytes`);
    if (step % 500 === 0) {
      const bytes = new Uint8Array(table.encodedLength());
      table.write(bytes, 0);
      table = shared(MAX.sessions, MAX.lanes, MAX.bytes);
      table.read(bytes, 0);
      results = new Map(model.map((s) => [table.find(s.hi, s.lo)!, results.get(s) ?? new Map()]));
      model = model.map((s) => table.find(s.hi, s.lo)!);
      if (table.resultBytes !== sum(model, 'bytes')) throw new Error(`bytes after a snapshot, SEED=${SEED}`);
    }
  }
  t.ok(table.evicted > 10);
  t.ok(forgotten > 10, `${forgotten} results were given up`);
  t.end();
});

t.test('with quotas results that were kept without them go down to the bound at the next use', (t) => {
  const table = new SessionTable(4096, 4096, 4096);
  const operator = session(1, 99, 1);
  table.register(operator);
  for (let i = 0; i < 4; i++) {
    const one = session(10 + i, i < 2 ? ALICE : MALLORY, 10 * i + 10, 8);
    table.register(one);
    for (let lane = 0; lane < 8; lane++) {
      const index = 10 * i + lane + 11;
      table.used(one, index, record(one, lane, index, 500));
    }
  }
  t.equal(table.resultBytes, 4 * 4096);
  table.setQuotas(true);
  table.used(operator, 60, record(operator, 0, 60, 0));
  t.equal(table.resultBytes, 4096);
  t.same(ids(table), [1, 13], 'with the session that used it, and the one used last');
  const bytes = new Uint8Array(table.encodedLength());
  table.write(bytes, 0);
  const bounds = { maxSessions: 4096, maxLanes: 4096, lanesPerSession: 8, resultBytes: 500, keptResultBytes: 4096 };
  t.equal(
    sessionsFault(bytes, 0, bytes.length, 60, -1, -1, bounds, true),
    undefined,
    'and others take a snapshot of it',
  );
  t.end();
});

t.test('switching quotas on evicts nothing, and counts from then on', (t) => {
  const table = new SessionTable(4096, 100, 16 * 1024);
  for (let i = 1; i <= 5; i++) table.register(session(i, ALICE, i, 4));
  for (let i = 6; i <= 13; i++) table.register(session(i, MALLORY, i, 10));
  const before = ids(table);
  table.used(table.find(0, 2)!, 14);
  table.setQuotas(true);
  t.same(ids(table), before);
  for (let i = 14; i <= 40; i++) table.register(session(i, MALLORY, i + 10, 10));
  t.same(
    ids(table).filter((id) => id <= 5),
    [1, 2, 3, 4, 5],
  );
  t.end();
});

/** Three replicas with the feature, or that switch it on. */
function asking(features: number): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, { features });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.give(alice, Request, alice.request(20, 1, 'one'), 0, 1);
  return { c, alice };
}

t.test('of a query through the log no result is kept, and its client asks again', (t) => {
  const { c, alice } = asking(Feature.sessionQuotas);
  const query = { ...alice.request(30, 2, 'q'), flags: RequestFlag.query };
  const first = c.replica(0).answer(Request, query, alice.endpoint);
  t.equal(first.message.name, Reply.name);
  t.same(
    [first.values['status'], Buffer.from(first.values['result'] as Uint8Array).toString()],
    [ReplyStatus.ok, 'one'],
  );
  const again = c.replica(0).answer(Request, query, alice.endpoint);
  t.same([again.values['status'], again.values['result']], [ReplyStatus.superseded, new Uint8Array(0)]);
  t.equal(again.values['index'], first.values['index'], 'for the same entry');
  const without = asking(0);
  without.c
    .replica(0)
    .receive(Request, { ...without.alice.request(30, 2, 'q'), flags: RequestFlag.query }, without.alice.endpoint);
  const kept = without.c
    .replica(0)
    .answer(Request, { ...without.alice.request(30, 2, 'q'), flags: RequestFlag.query }, without.alice.endpoint);
  t.same(
    [kept.values['status'], Buffer.from(kept.values['result'] as Uint8Array).toString()],
    [ReplyStatus.ok, 'one'],
    'without the feature it is',
  );
  t.end();
});

t.test('a retry of a request whose result was given up is not executed again, and its outcome is not said', (t) => {
  const c = new Cluster(3, {
    features: Feature.sessionQuotas,
    limits: { lanesPerSession: 16, keptResultBytes: 16 * 1024 },
  });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10, { lanes: 16 }), 0, 1);
  const request = (lane: number): Values => alice.request(20 + lane, 1, 'x'.repeat(100), { lane });
  for (let lane = 0; lane < 16; lane++) c.give(alice, Request, request(lane), 0, 1);
  const answer = (lane: number): Values => c.replica(0).answer(Request, request(lane), alice.endpoint).values;
  const { log } = c.replica(0).state;
  const length = log.lastIndex;
  const [first, last] = [answer(0), answer(15)];
  t.same([first['status'], (first['result'] as Uint8Array).length], [ReplyStatus.sessionUnknown, 0]);
  t.equal(last['status'], ReplyStatus.ok);
  t.ok((last['result'] as Uint8Array).length > 1000, 'the newest one has its result');
  t.equal(log.lastIndex, length, 'nothing was appended');
  t.end();
});

t.test('replicas that switch it on in the middle have the same tables, and so has one that replays the log', (t) => {
  const c = new Cluster(3, {
    keepsLog: true,
    limits: { maxLanes: 64, lanesPerSession: 16, keptResultBytes: 16 * 1024 },
  });
  const operator = c.hand(3n);
  let at = 10;
  const give = (client: HandClient, values: Values, owner: number): void => {
    const bytes = encode(Request, values);
    for (const id of [0, 1]) {
      c.replica(id).core.receive(bytes, 0, bytes.length, client.endpoint, c.now, owner);
      c.replica(id).core.flush(c.now);
    }
  };
  give(operator, operator.registration(at++, { lanes: 1 }), 0);
  for (let i = 1; i <= 40; i++) {
    if (i === 20)
      give(
        operator,
        { ...operator.request(at++, 2, ''), flags: RequestFlag.feature, operation: featureOperation(1, hasher) },
        0,
      );
    const owner = 1 + (i % 3);
    if (i === 10) give(operator, operator.request(at++, 1, 'still there'), 0);
    const client = c.hand(BigInt(2 * i + 100));
    give(
      client,
      client.registration(at++, { lanes: owner === 1 ? 8 : 2, nonce: (BigInt(owner) << 32n) | BigInt(i) }),
      owner,
    );
    give(client, client.request(at++, 1, `${i}`.repeat(40)), owner);
    c.run(5_000);
  }
  c.run(50_000);
  const table = (id: number): Uint8Array => {
    const { sessions } = c.replica(id).state.execution;
    const bytes = new Uint8Array(sessions.encodedLength());
    sessions.write(bytes, 0);
    return bytes;
  };
  t.ok(c.replica(0).state.execution.sessions.evicted > 3);
  t.equal(c.replica(2).state.execution.features, Feature.sessionQuotas);
  t.ok(c.replica(0).state.execution.sessions.resultBytes > 1000);
  t.same(table(1), table(0));
  t.same(table(2), table(0));
  c.replica(2).crash();
  c.replica(2).start();
  c.run(100_000);
  t.same(table(2), table(0), 'replayed');
  const { execution, committed } = c.replica(1).state;
  execution.rewind(Math.min(committed, 1));
  execution.executeTo(committed);
  t.same(table(1), table(0), 'rolled back and executed again');
  t.end();
});

t.test('the largest table that limits allow fits a snapshot that can be offered', (t) => {
  const largest = { ...DEFAULT_LIMITS, maxSessions: 1 << 20, maxLanes: 1 << 24, keptResultBytes: 1 << 29 };
  checkLimits(largest);
  t.ok(tableBytesMax(largest) <= SNAPSHOT_BYTES_MAX);
  for (const name of ['maxSessions', 'maxLanes', 'keptResultBytes'] as const)
    t.throws(() => checkLimits({ ...largest, [name]: 2 * largest[name] }), RangeError, name);
  t.throws(
    () => checkLimits({ ...DEFAULT_LIMITS, keptResultBytes: 8 * DEFAULT_LIMITS.resultBytes - 1024 }),
    RangeError,
  );
  t.throws(() => checkLimits({ ...DEFAULT_LIMITS, keptResultBytes: DEFAULT_LIMITS.keptResultBytes + 1 }), RangeError);
  t.end();
});
