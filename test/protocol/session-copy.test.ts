// The session table is copied in pieces while it changes: the bytes are those of the beginning.
import t from 'tap';
import type { StateMachine } from '../../src/machine/state-machine.js';
import { beginHash64, loadHash } from '../../src/native/hash64.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { COUNTER_NAMES } from '../../src/protocol/counters.js';
import { Execution } from '../../src/protocol/log/execution.js';
import { Log } from '../../src/protocol/log/log.js';
import { Session } from '../../src/protocol/log/session.js';
import type { SessionCopy } from '../../src/protocol/log/session-copy.js';
import { REGISTER_BORN, REGISTER_BYTES, REGISTER_LANE, SessionTable } from '../../src/protocol/log/sessions.js';
import { TailIndex } from '../../src/protocol/log/tail-index.js';
import { firstMembership } from '../../src/protocol/membership/membership.js';
import { REGISTER_LANES, RequestFlag } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { randomFrom } from '../random.js';
import { bytesOf, executed } from './session-table.js';
import { entryOf } from './entries.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walks`);

const LANES = 6;
const RESULT_BYTES = 1024;
/** A piece is longer than it is asked for by a lane and its result at most, and the rest of a session that has none. */
const LONGER = 50 + 4 * LANES + 19 + RESULT_BYTES;

function register(table: SessionTable, id: number, lanes: number, index: number): Session {
  const base = { hi: 0, lo: id, nonceHi: 1 + (id % 3), nonceLo: id, lanes, bornHi: 0, bornLo: index };
  const session = new Session(
    { ...base, registerIndex: index, registerChainHi: 1, registerChainLo: index },
    table.spares,
  );
  table.register(session);
  return session;
}

interface Copying {
  readonly copy: SessionCopy;
  readonly target: Uint8Array;
  readonly expected: Uint8Array;
  /** Entry behind which it began: nothing is undone up to there. */
  readonly index: number;
}

t.test('whatever is executed, evicted, forgotten or undone meanwhile, a copy is what the table was', (t) => {
  const seen = { whole: 0, abandoned: 0, undone: 0, evicted: 0, registered: 0, forgotten: 0 };
  for (let game = 0; game < 8; game++) {
    const random = randomFrom(SEED + game);
    const quotas = game % 2 === 0;
    // Without room for undoing, the results of an evicted session are for others at once.
    const undoBytes = [1 << 20, 1 << 20, 1 << 12, 0][game % 4]!;
    const table = new SessionTable(14, 60, 8192, undoBytes);
    table.setQuotas(quotas);
    table.committedTo(0);
    let index = 0;
    let committed = 0;
    let copying: Copying | undefined;
    const change = (): void => {
      const id = 2 + random(40);
      const known = table.find(0, id);
      index++;
      if (known === undefined) {
        if (table.mayBeEvicted(0, index)) return;
        register(table, id, 1 + random(LANES), index);
        seen.registered++;
      } else {
        const before = table.resultBytes;
        const { evicted } = table;
        executed(table, known, random(known.lanes), random(3) > 0 ? random(64) : random(RESULT_BYTES), index);
        if (table.evicted === evicted && table.resultBytes < before) seen.forgotten++;
      }
    };
    for (let i = 0; i < 300; i++) change();
    for (let step = 0; step < 6000; step++) {
      const kind = random(20);
      if (kind < 12) {
        const { evicted } = table;
        change();
        seen.evicted += table.evicted - evicted;
      } else if (kind < 13) {
        committed += random(index - committed + 1);
        table.committedTo(committed);
      } else if (kind < 14) {
        const least = Math.max(committed, copying?.index ?? 0);
        const to = least + random(index - least + 1);
        if (!table.canUndoTo(to)) continue;
        table.undoTo(to);
        index = to;
        seen.undone++;
      } else if (copying === undefined) {
        if (random(4) > 0) continue;
        const expected = bytesOf(table);
        const target = new Uint8Array(expected.length + 5).fill(0xab); // memory that is used again
        copying = { copy: table.beginCopy(target, 3), target, expected, index };
      } else {
        const { copy, target, expected } = copying;
        const before = copy.reached;
        const bytes = 1 + random(300);
        copy.step(bytes);
        if (copy.reached <= before || copy.reached - before > bytes + LONGER)
          throw new Error(`game ${game}: a piece of ${copy.reached - before} bytes, and ${bytes} were asked for`);
        const there = Buffer.from(target.subarray(3, copy.reached));
        if (!there.equals(Buffer.from(expected.subarray(0, there.length))))
          throw new Error(`game ${game} step ${step}: the copy is not what the table was`);
        if (copy.reached === copy.end) {
          t.equal(there.length, expected.length);
          copying = undefined;
          seen.whole++;
        } else if (random(100) === 0) {
          copy.abort();
          copying = undefined;
          seen.abandoned++;
        }
        // The table itself is none the worse.
        if (random(10) === 0) {
          const twin = new SessionTable(14, 60, 8192);
          twin.setQuotas(quotas);
          const now = bytesOf(table);
          twin.read(now, 0);
          if (!Buffer.from(bytesOf(twin)).equals(Buffer.from(now)) || twin.resultBytes !== table.resultBytes)
            throw new Error(`game ${game} step ${step}: the table is damaged`);
        }
      }
    }
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 10, `${name}: ${times}`);
  t.end();
});

t.test('a copy takes no memory for what changes, and the arrays of evicted sessions are for others in the end', (t) => {
  const table = new SessionTable(8, 64, 1 << 20);
  let index = 0;
  for (let id = 1; id <= 8; id++) executed(table, register(table, id, 8, ++index), 7, 1000, ++index);
  const target = new Uint8Array(table.encodedLength());
  const copy = table.beginCopy(target, 0);
  const { kept } = table.spares;
  for (let id = 11; id <= 14; id++) register(table, id, 8, ++index);
  t.equal(table.evicted, 4);
  t.equal(table.spares.kept, kept, 'the copy still needs their results');
  copy.step(Infinity);
  t.equal(copy.reached, target.length);
  t.equal(table.spares.kept, kept + 4 * 1024, 'now they are spare');
  const next = table.beginCopy(new Uint8Array(table.encodedLength()), 0);
  for (let id = 15; id <= 18; id++) register(table, id, 8, ++index);
  next.abort();
  t.equal(table.spares.kept, kept + 8 * 1024, 'and after one that was given up');
  t.end();
});

t.test('all copies of a table are one object, which holds nothing between two of them', (t) => {
  const table = new SessionTable(4, 16);
  const { copy } = table;
  let index = 0;
  for (let id = 1; id <= 3; id++) register(table, id, 4, ++index);
  for (const end of [() => copy.step(Infinity), () => copy.abort()]) {
    const target = new Uint8Array(table.encodedLength());
    t.equal(table.beginCopy(target, 0), copy);
    t.ok(copy.isUnderway);
    t.equal(copy['target'], target);
    t.throws(() => table.beginCopy(target, 0), /one copy of the sessions is over before the next one/);
    end();
    t.notOk(copy.isUnderway);
    for (const name of ['sessions', 'target', 'starts', 'firstLanes', 'lanesAt', 'open'] as const)
      t.equal(copy[name].length, 0, name);
  }
  t.end();
});

t.test('a table without a session, and a session without a request', (t) => {
  const table = new SessionTable(4, 16);
  const empty = new Uint8Array(table.encodedLength());
  const copy = table.beginCopy(empty, 0);
  t.equal(copy.reached, copy.end, 'whole at once');
  t.notOk(copy.isUnderway);
  register(table, 1, 4, 1);
  const one = new Uint8Array(table.encodedLength());
  const begun = table.beginCopy(one, 0);
  const expected = bytesOf(table);
  executed(table, table.find(0, 1)!, 2, 10, 2);
  begun.step(1);
  t.same(one, expected);
  t.end();
});

/** Keeps the last operation, and gives its state only as a whole. */
class Whole implements StateMachine {
  state = new Uint8Array(500);
  /** Times that it gave its state. */
  given = 0;
  apply: StateMachine['apply'] = ({ bytes, offset }, _, reply) => {
    this.state.fill(bytes[offset]!);
    reply.bytes = this.state;
    reply.offset = 0;
    reply.length = 200;
  };
  query: StateMachine['query'] = () => undefined;
  snapshot = (): Uint8Array => {
    this.given++;
    return this.state.slice();
  };
  restore = (snapshot: Uint8Array): void => void (this.state = snapshot.slice());
}

t.test('a machine that gives its state as a whole gives it once; all else is done in pieces', (t) => {
  const hash = loadHash();
  const hasher = { hash64: hash.hash64.bind(hash), begin: beginHash64 };
  const limits = { ...DEFAULT_LIMITS, logEntries: 1 << 8, logBytes: 1 << 18 };
  const log = new Log(limits.logEntries, limits.logBytes, limits.operationBytes, hasher);
  const machine = new Whole();
  const counters = new Float64Array(COUNTER_NAMES.length);
  const members = firstMembership(3);
  const execution = new Execution(log, new TailIndex(log), machine, limits, counters, hasher, 0, members, 64, hasher);
  const append = (sessionLo: number, registers: boolean): void => {
    const index = log.lastIndex + 1;
    const operationBytes = new Uint8Array(REGISTER_BYTES);
    if (registers) {
      writeU16(operationBytes, REGISTER_LANES, 1);
      writeI32(operationBytes, REGISTER_BORN + 4, index);
    } else operationBytes.fill(index);
    const appended = log.append(
      entryOf({
        timestampLo: index,
        sessionLo,
        lane: registers ? REGISTER_LANE : 0,
        request: index,
        flags: registers ? RequestFlag.register : 0,
        operationBytes,
        operationLength: REGISTER_BYTES,
      }),
    );
    if (!appended) throw new Error('there is room');
    execution.commits(index);
    execution.executeTo(index);
    execution.committedTo(index);
  };
  for (let i = 1; i <= 20; i++) append(2 * i, true);
  for (let i = 1; i <= 20; i++) append(2 * i, false);
  t.equal(execution.sessions.find(0, 2)!.results.length(0), 200);
  const expected = execution['encodeWhole']();
  machine.given = 0;
  execution.beginSnapshot();
  let pieces = 0;
  for (; execution.unfinished.isUnderway; pieces++) {
    const { left } = execution.unfinished;
    execution.continueSnapshot(64);
    if (left - execution.unfinished.left > 64 + LONGER) t.fail('a piece is too long');
    append(2 + 2 * (pieces % 20), false);
  }
  t.ok(pieces > 20, `${pieces} pieces`);
  t.equal(machine.given, 1);
  const { stable } = execution;
  t.ok(Buffer.from(stable.bytes).equals(Buffer.from(expected.bytes)));
  const digest = new Uint8Array(8);
  hasher.hash64(stable.bytes, 0, stable.bytes.length, digest, 0);
  t.same(stable.digest, digest);
  const { unfinished } = execution;
  t.equal(unfinished.snapshot.bytes.length, 0, 'the snapshot is held once');
  execution.beginSnapshot();
  t.ok(unfinished.isUnderway);
  unfinished.abort();
  t.notOk(unfinished.isUnderway);
  t.equal(unfinished.snapshot.bytes.length, 0);
  unfinished.abort();
  t.end();
});
