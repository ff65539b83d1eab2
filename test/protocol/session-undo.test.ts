// What entries did to the session table is undone: the same as reading an earlier table and executing again.
import t from 'tap';
import { Session } from '../../src/protocol/log/session.js';
import { SessionTable } from '../../src/protocol/log/sessions.js';
import { randomFrom } from '../random.js';
import { bytesOf, executed } from './session-table.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walks`);

/** One entry: a registration, or a request with a result of that length. */
interface Step {
  readonly id: number;
  readonly owner: number;
  readonly lane: number;
  readonly length: number;
  readonly registers: boolean;
}

function aStep(random: (n: number) => number, sessions: number): Step {
  return {
    // Even: it has an owner.
    id: 2 + random(sessions),
    owner: 1 + random(3),
    lane: random(6),
    length: random(4) > 0 ? random(64) : random(1024),
    registers: random(5) === 0,
  };
}

function execute(table: SessionTable, step: Step, index: number): void {
  const { id, owner, lane, length } = step;
  const known = table.find(0, id);
  if (step.registers) {
    if (known !== undefined || table.mayBeEvicted(0, index)) return;
    const base = { hi: 0, lo: id, nonceLo: id, lanes: 6, bornHi: 0, bornLo: index };
    const chain = { registerIndex: index, registerChainHi: 1, registerChainLo: index };
    table.register(new Session({ ...base, ...chain, nonceHi: owner }, table.spares));
    return;
  }
  if (known === undefined) return;
  executed(table, known, lane, length, index);
}

/** What two tables with the same bytes do next must be the same as well: that shows the order of last use, and the shares. */
function same(table: SessionTable, twin: SessionTable): boolean {
  return Buffer.from(bytesOf(table)).equals(Buffer.from(bytesOf(twin))) && table.resultBytes === twin.resultBytes;
}

/** Sessions, lanes, and bytes of results that evict all the time. */
const bounds = [12, 60, 8192] as const;

t.test('undoing is reading an earlier table and executing again', (t) => {
  const seen = { undone: 0, lost: 0, evicted: 0, restored: 0 };
  for (const [quotas, undoBytes] of [
    [false, 1 << 20],
    [true, 1 << 20],
    [true, 1 << 11],
    [false, 0],
  ] as const) {
    const random = randomFrom(SEED + undoBytes + Number(quotas));
    const table = new SessionTable(...bounds, undoBytes);
    table.setQuotas(quotas);
    let index = 0;
    let committed = 0;
    table.committedTo(0);
    let base = bytesOf(table);
    let log: Step[] = [];
    const twinOf = (steps: readonly Step[]): SessionTable => {
      const twin = new SessionTable(...bounds);
      twin.setQuotas(quotas);
      twin.read(base, 0);
      steps.forEach((step, i) => execute(twin, step, committed + 1 + i));
      return twin;
    };
    for (let step = 0; step < 8000; step++) {
      const kind = random(100);
      if (kind < 85) {
        const next = aStep(random, 40);
        log.push(next);
        const evicted = table.evicted;
        execute(table, next, ++index);
        seen.evicted += table.evicted - evicted;
      } else if (kind < 93) {
        const count = random(log.length + 1);
        base = bytesOf(twinOf(log.slice(0, count)));
        log = log.slice(count);
        committed += count;
        table.committedTo(committed);
      } else if (kind < 99) {
        log.length = random(log.length + 1);
        index = committed + log.length;
        const twin = twinOf(log);
        const heard = table.find(0, 2);
        if (heard !== undefined) heard.replyTo = step;
        if (!table.canUndoTo(index)) {
          seen.lost++;
          table.read(bytesOf(twin), 0);
          log = [];
          base = bytesOf(twin);
          committed = index;
          table.committedTo(committed);
          continue;
        }
        table.undoTo(index);
        if (!same(table, twin)) throw new Error(`step ${step}: another table than that of an earlier one, executed on`);
        // Both go on alike: it is not only the bytes that are the same.
        const rest = Array.from({ length: 30 }, () => aStep(random, 40));
        for (const each of rest) {
          execute(twin, each, ++index);
          execute(table, each, index);
          log.push(each);
        }
        if (!same(table, twin)) throw new Error(`step ${step}: it goes on otherwise than an earlier one, executed on`);
        seen.undone++;
      } else {
        table.read(base, 0);
        log = [];
        index = committed;
        seen.restored++;
      }
    }
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 10, `${name}: ${times}`);
  t.end();
});

t.test('what evicted sessions hold for their lanes is bounded as well', (t) => {
  const bound = 1 << 20;
  const table = new SessionTable(16, 1 << 18, 1 << 28, bound);
  table.committedTo(0);
  let index = 0;
  for (let id = 1; id <= 200; id++) {
    const born = { bornHi: 0, bornLo: ++index, registerIndex: index, registerChainHi: 0, registerChainLo: 0 };
    const session = new Session({ hi: id, lo: 2 * id, nonceHi: 7, nonceLo: 1, lanes: 4096, ...born }, table.spares);
    table.register(session);
    executed(table, session, 4095, 1, ++index);
  }
  t.equal(table.evicted, 184);
  let held = 0;
  for (const { session } of table['undo']['evicted'])
    for (const array of [session.request, session.index, session.chainHi, session.chainLo, session.status])
      held += array.byteLength;
  t.ok(held <= bound, `${held} bytes`);
  t.notOk(table.canUndoTo(0), 'the oldest are lost');
  t.ok(table.canUndoTo(index), 'what is there is known');
  t.end();
});

t.test('sessions that are back have heard from their clients where they did', (t) => {
  const table = new SessionTable(1, 10);
  table.committedTo(0);
  const step = { owner: 1, lane: 0, length: 200, registers: true };
  execute(table, { ...step, id: 2 }, 1);
  execute(table, { ...step, id: 2, registers: false }, 2);
  table.find(0, 2)!.replyTo = 7;
  execute(table, { ...step, id: 4 }, 3);
  t.equal(table.find(0, 2), undefined, 'evicted');
  t.ok(table.mayBeEvicted(0, 1));
  table.undoTo(2);
  t.equal(table.find(0, 4), undefined);
  t.equal(table.find(0, 2)!.replyTo, 7);
  t.equal(table.find(0, 2)!.results.length(0), 200, 'with its result');
  t.notOk(table.mayBeEvicted(0, 1), 'the horizon is what it was');
  t.end();
});
