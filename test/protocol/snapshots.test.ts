// Snapshots from elsewhere whose bytes came as they were sent: what no replica can have written is refused by name, and
// changes nothing.
import t from 'tap';
import type { Snapshot } from '../../src/protocol/contract.js';
import { decodeSnapshot, snapshotFault } from '../../src/protocol/log/snapshots.js';
import { Executed, Session } from '../../src/protocol/log/session.js';
import { SessionTable, type SessionBounds } from '../../src/protocol/log/sessions.js';
import { Random } from '../../src/sim/random.js';
import { wordsOf } from '../../src/wire/copy.js';
import { ReplicaStatus, Request } from '../../src/wire/messages.js';
import { Cluster, type JournalMachine } from './harness.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the drawn damage`);

const HEADER_BYTES = 40;
const BLANK = { hi: 0, nonceHi: 0, nonceLo: 0, bornHi: 0, bornLo: 0, registerChainHi: 0, registerChainLo: 0 };
const BOUNDS: SessionBounds = {
  maxSessions: 6,
  maxLanes: 24,
  lanesPerSession: 8,
  resultBytes: 300,
  keptResultBytes: 1 << 20,
};

/** A snapshot of a drawn table, as a replica comes to it. */
function drawSnapshot(random: Random): Uint8Array {
  const table = new SessionTable(BOUNDS.maxSessions, BOUNDS.maxLanes);
  let index = 0;
  const result = new Uint8Array(BOUNDS.resultBytes).map(() => random.below(256));
  for (let n = random.below(30); n > 0; n--) {
    index += 1 + random.below(3);
    const sessions = table.sorted();
    if (sessions.length === 0 || random.chance(0.3)) {
      table.register(
        new Session({
          hi: random.next(),
          lo: random.next(),
          nonceHi: random.next(),
          nonceLo: random.next(),
          lanes: 1 + random.below(BOUNDS.lanesPerSession),
          bornHi: 0,
          bornLo: random.below(index + 1),
          registerIndex: index,
          registerChainHi: random.next(),
          registerChainLo: random.next(),
        }),
      );
    } else {
      const session = random.pick(sessions);
      const lane = random.below(session.lanes);
      session.record({
        lane,
        request: session.lastRequest(lane) + 1 + random.below(5),
        index,
        chainHi: random.next(),
        chainLo: random.next(),
        status: 0,
        resultWords: wordsOf(result),
        resultOffset: 0,
        resultLength: random.below(BOUNDS.resultBytes + 1),
      });
      table.used(session, index);
    }
  }
  const machine = 1 + random.below(20);
  const length = table.encodedLength();
  const bytes = Buffer.alloc(HEADER_BYTES + length + machine);
  bytes.writeUInt32BE(1, 0);
  bytes.writeBigUInt64BE(BigInt(index), 4);
  bytes.writeBigUInt64BE(BigInt(1000 + index), 20);
  bytes.writeUInt32BE(length, 36);
  table.write(bytes, HEADER_BYTES);
  return new Uint8Array(bytes);
}

/** One thing is otherwise than a replica writes it. */
function damage(random: Random, whole: Uint8Array): Uint8Array {
  let bytes = Buffer.from(whole);
  const end = HEADER_BYTES + bytes.readUInt32BE(36);
  const at = (): number =>
    random.chance(0.2) ? random.below(HEADER_BYTES) : HEADER_BYTES + random.below(end - HEADER_BYTES);
  const from = at();
  switch (random.below(6)) {
    case 0:
      bytes[from]! ^= 1 << random.below(8);
      break;
    case 1:
      bytes.writeUInt32BE(
        random.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, random.next() >>> 0]),
        Math.min(from, bytes.length - 4),
      );
      break;
    case 2:
      bytes.writeUInt16BE(random.pick([0, 1, 0x7fff, 0xffff, random.below(0x10000)]), Math.min(from, bytes.length - 2));
      break;
    case 3: // some are missing, and whether the lengths say so is drawn
      bytes = Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 1 + random.below(60))]);
      if (random.chance(0.5) && bytes.length >= HEADER_BYTES)
        bytes.writeUInt32BE(Math.max(0, end - HEADER_BYTES - (whole.length - bytes.length)), 36);
      break;
    case 4: // some are there twice
      bytes = Buffer.concat([bytes.subarray(0, end), bytes.subarray(from)]);
      if (random.chance(0.5)) bytes.writeUInt32BE(Math.min(bytes.length, end + end - from) - HEADER_BYTES, 36);
      if (random.chance(0.5)) bytes.writeUInt32BE(bytes.readUInt32BE(HEADER_BYTES) + 1, HEADER_BYTES);
      break;
    default:
      bytes.writeUInt32BE((bytes.readUInt32BE(HEADER_BYTES) + random.pick([-1, 1, 2, 1 << 20])) >>> 0, HEADER_BYTES);
  }
  return new Uint8Array(bytes);
}

t.test(
  'drawn damage: what passes is taken up and written again byte for byte, and serves; the rest is named; nothing throws',
  (t) => {
    const counts = { whole: 0, header: 0, refused: 0, passed: 0 };
    const wrong: string[] = [];
    for (let round = 0; round < 6_000; round++) {
      const random = new Random(SEED + round);
      const whole = drawSnapshot(random);
      const bytes = random.chance(0.1) ? whole : damage(random, whole);
      try {
        const snapshot = decodeSnapshot(bytes);
        if (snapshot === undefined) {
          counts.header++;
          if (bytes === whole) wrong.push(`SEED=${SEED} round ${round}: a whole one is none`);
          continue;
        }
        const fault = snapshotFault(snapshot, BOUNDS);
        if (fault !== undefined) {
          counts.refused++;
          if (bytes === whole) wrong.push(`SEED=${SEED} round ${round}: a whole one is refused: ${fault}`);
          continue;
        }
        counts[bytes === whole ? 'whole' : 'passed']++;
        const table = new SessionTable(BOUNDS.maxSessions, BOUNDS.maxLanes);
        table.read(bytes, HEADER_BYTES);
        const length = Buffer.from(bytes).readUInt32BE(36);
        const again = Buffer.alloc(table.encodedLength());
        table.write(again, 0);
        if (!again.equals(bytes.subarray(HEADER_BYTES, HEADER_BYTES + length)))
          wrong.push(`SEED=${SEED} round ${round}: what was read is not what was written`);
        for (let i = 1; i <= 8; i++) {
          const { index } = snapshot;
          if (table.find(1, i) === undefined)
            table.register(
              new Session({ ...BLANK, hi: 1, lo: i, lanes: 1 + random.below(8), registerIndex: index + i }),
            );
          if (table.size > BOUNDS.maxSessions) wrong.push(`SEED=${SEED} round ${round}: ${table.size} sessions`);
        }
      } catch (error) {
        wrong.push(`SEED=${SEED} round ${round}: ${error instanceof Error ? error.stack : String(error)}`);
      }
    }
    t.strictSame(wrong.slice(0, 5), []);
    t.comment(JSON.stringify(counts));
    t.ok(
      Object.values(counts).every((count) => count >= 100),
      `each of these came to pass: ${JSON.stringify(counts)}`,
    );
    t.end();
  },
);

/**
 * A snapshot of 50 entries: sessions 1 (two lanes, request 3 executed by entry 7, three bytes) and 2 (one lane, nothing
 * yet).
 */
function two(change: (bytes: Buffer) => void = () => undefined): string | undefined {
  const table = new SessionTable(6, 24);
  const first = new Session({ ...BLANK, lo: 1, nonceLo: 1, lanes: 2, bornLo: 5, registerIndex: 2 });
  table.register(first);
  table.register(new Session({ ...BLANK, lo: 2, nonceLo: 2, lanes: 1, bornLo: 6, registerIndex: 4 }));
  const executed = new Executed();
  executed.request = 3;
  executed.index = 7;
  executed.resultWords = wordsOf(new Uint8Array([1, 2, 3]));
  executed.resultLength = 3;
  first.record(executed);
  table.used(first, 7);
  const length = table.encodedLength();
  const bytes = Buffer.alloc(HEADER_BYTES + length + 5);
  bytes.writeUInt32BE(1, 0);
  bytes.writeBigUInt64BE(50n, 4);
  bytes.writeBigUInt64BE(100n, 20);
  bytes.writeUInt32BE(length, 36);
  table.write(bytes, HEADER_BYTES);
  change(bytes);
  return snapshotFault(decodeSnapshot(new Uint8Array(bytes))!, BOUNDS);
}

t.test('what is impossible is named', (t) => {
  const TABLE = HEADER_BYTES;
  const A = TABLE + 12;
  const LANE = A + 50;
  const B = LANE + 4 + 19 + 3 + 4;
  t.equal(two(), undefined);
  const cases: [string, RegExp, (bytes: Buffer) => void][] = [
    ['more sessions than the limit', /^7 sessions, of at most 6$/, (bytes) => bytes.writeUInt32BE(7, TABLE)],
    ['a count below zero', /^4294967295 sessions/, (bytes) => bytes.writeUInt32BE(0xffffffff, TABLE)],
    ['more sessions than bytes', /^session 3 of 3 is cut off$/, (bytes) => bytes.writeUInt32BE(3, TABLE)],
    ['fewer', /bytes behind the last session$/, (bytes) => bytes.writeUInt32BE(1, TABLE)],
    ['no room for a table', /^the session table is cut off$/, (bytes) => bytes.writeUInt32BE(11, 36)],
    ['a horizon from the future', /^the horizon/, (bytes) => bytes.writeBigUInt64BE(101n, TABLE + 4)],
    [
      'a session twice',
      /^session 2 of 2 is not above the one before it, or is that one again$/,
      (bytes) => bytes.writeUInt32BE(1, B + 4),
    ],
    ['no lane', /^session 2 of 2 has 0 lanes/, (bytes) => bytes.writeUInt16BE(0, B + 16)],
    [
      'more lanes than the limit',
      /^session 2 of 2 has 9 lanes, of at most 8$/,
      (bytes) => bytes.writeUInt16BE(9, B + 16),
    ],
    ['lanes without bytes', /^lane 1 of session 2 of 2 is cut off$/, (bytes) => bytes.writeUInt16BE(8, B + 16)],
    ['registered by no entry', /^session 1 of 2 was registered/, (bytes) => bytes.writeBigUInt64BE(0n, A + 18)],
    [
      'registered behind the snapshot',
      /^session 2 of 2 was registered/,
      (bytes) => bytes.writeBigUInt64BE(51n, B + 18),
    ],
    [
      'registered by an entry that did something else',
      /^session 2 of 2 was registered/,
      (bytes) => bytes.writeBigUInt64BE(7n, B + 18),
    ],
    [
      'a number that is no index',
      /^session 2 of 2 was registered/,
      (bytes) => bytes.writeBigUInt64BE(0xffffffffffffffffn, B + 18),
    ],
    ['born after the last entry', /^session 2 of 2 was born later/, (bytes) => bytes.writeBigUInt64BE(101n, B + 42)],
    ['used before it was there', /^session 1 of 2 was used last/, (bytes) => bytes.writeBigUInt64BE(3n, A + 34)],
    ['used behind the snapshot', /^session 1 of 2 was used last/, (bytes) => bytes.writeBigUInt64BE(51n, A + 34)],
    ['two used by one entry', /^session 2 of 2 was used last/, (bytes) => bytes.writeBigUInt64BE(7n, B + 34)],
    [
      'a request below zero',
      /^lane 0 of session 1 of 2 has executed a request without a number$/,
      (bytes) => bytes.writeInt32BE(-1, LANE),
    ],
    [
      'executed before it was registered',
      /^lane 0 of session 1 of 2 was used by/,
      (bytes) => bytes.writeBigUInt64BE(1n, LANE + 4),
    ],
    [
      'a status that there is not',
      /^lane 0 of session 1 of 2 has a result without a known status$/,
      (bytes) => (bytes[LANE + 20] = 9),
    ],
    [
      'a result beyond the limit',
      /^a result of 301 bytes, of at most 300$/,
      (bytes) => bytes.writeUInt16BE(301, LANE + 21),
    ],
    [
      'a result beyond the end',
      /^the result of lane 0 of session 1 of 2 is cut off$/,
      (bytes) => bytes.writeUInt16BE(200, LANE + 21),
    ],
  ];
  for (const [what, fault, change] of cases) t.match(two(change), fault, what);
  t.end();
});

/** Three replicas; 40 entries, of which the logs hold the last few. Where `away`, it heard nothing of them. */
/** @param entries more than are retained for one that got a snapshot before: the rest of it comes as a snapshot, too */
function scene(away?: number, entries = 40): Cluster {
  const c = new Cluster(3, { limits: { logEntries: 16 } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(6000);
  if (away !== undefined) c.isolate(away);
  for (let i = 1; i <= entries; i++) {
    c.give(alice, Request, alice.request(30 + i, i, `${i}`), 0, 1);
    c.run(3000);
  }
  c.run(30_000);
  return c;
}

const journal = (c: Cluster, id: number): string[] => (c.replica(id).machine as JournalMachine).journal;

/** A bug of replica `id`: its snapshots are none. Their checksums are right. */
function spoil(c: Cluster, id: number, change: (bytes: Uint8Array) => void): void {
  const { execution } = c.replica(id).state;
  let whole = execution.stable;
  let spoilt: Snapshot | undefined;
  Object.defineProperty(execution, 'stable', {
    get: () => {
      if (spoilt === undefined) change((spoilt = { ...whole, bytes: whole.bytes.slice() }).bytes);
      return spoilt;
    },
    set: (snapshot: Snapshot) => {
      whole = snapshot;
      spoilt = undefined;
    },
  });
}

const SPOILT: [string, RegExp, (bytes: Uint8Array) => void][] = [
  ['sessions without end', /sessions, of at most 64/, (bytes) => bytes.fill(0x7f, HEADER_BYTES, HEADER_BYTES + 4)],
  [
    'a result beyond the end',
    /is cut off|of at most/,
    (bytes) => bytes.fill(0xff, HEADER_BYTES + 12 + 50 + 21, HEADER_BYTES + 12 + 50 + 23),
  ],
  [
    'a state that the machine does not know',
    /the state machine refuses its part/,
    (bytes) => bytes.fill(0x21, bytes.length - 3),
  ],
  ['another index', /the header is that of another one, or of none/, (bytes) => (bytes[11]! ^= 1)],
];

for (const [what, fault, change] of SPOILT) {
  t.test(`a spare that lags takes the snapshot of another replica: ${what}`, (t) => {
    const c = scene(2, 120);
    const before = journal(c, 2);
    spoil(c, 1, change); // a spare asks the member first
    c.heal();
    c.loses = ({ from, message }) => from === 0 && message.name === 'SnapshotOffer';
    c.run(100_000);
    const spare = c.replica(2);
    t.strictSame(journal(c, 2), before, 'nothing changes by it');
    t.ok(
      spare.transitions.some(
        (said) => /^contradicted: replica 1 sends a snapshot of \d+ that cannot be one/.test(said) && fault.test(said),
      ),
      `names it: ${spare.transitions.join('; ')}`,
    );
    t.equal(spare.transitions.filter((said) => said.startsWith('snapshot-refused')).length, 1, 'and not fetched again');
    c.heal();
    c.run(300_000);
    t.strictSame(journal(c, 2), journal(c, 0), spare.transitions.join('; '));
    t.equal(spare.state.status, ReplicaStatus.normal);
    t.end();
  });

  t.test(`a replica that lost its log gets it from one whose snapshot can be one: ${what}`, (t) => {
    for (const bad of [0, 2]) {
      const c = scene();
      spoil(c, bad, change);
      c.replica(1).crash();
      c.replica(1).start(true);
      c.run(5_000_000);
      t.strictSame(
        journal(c, 1),
        journal(c, 2 - bad),
        `not from replica ${bad}: ${c.replica(1).transitions.slice(-12).join('; ')}`,
      );
      t.equal(c.replica(1).state.status, ReplicaStatus.normal);
      t.ok(c.replicas.every(({ up }) => up));
    }
    t.end();
  });
}
