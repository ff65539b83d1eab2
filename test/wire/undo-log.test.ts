// The stack of what undoes entries: against a plain array, within its bound. Replay with SEED=n.
import t from 'tap';
import { UndoLog } from '../../src/wire/undo-log.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
t.comment(`SEED=${SEED} replays the random operations`);
let state = SEED | 0;
const below = (n: number): number => {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return Math.floor(((state >>> 0) / 4294967296) * n);
};

/** Adds a record of that length, filled with the low byte of its index. */
function add(log: UndoLog, index: number, length: number): boolean {
  if (!log.add(index, length)) return false;
  log.bytes.fill(index & 0xff, log.offset, log.offset + length);
  return true;
}

t.test('random records come back newest first, as far as it says', (t) => {
  for (const bound of [1 << 10, 1 << 20]) {
    const log = new UndoLog(bound);
    let kept: { index: number; length: number }[] = [];
    let index = 2 ** 31 - 500;
    let committed = index;
    let lost = 0;
    let undone = 0;
    for (let step = 0; step < 20_000; step++) {
      const kind = below(100);
      if (kind < 80) {
        if (below(3) > 0) index++;
        const length = below(Math.min(bound / 16, 200));
        if (!add(log, index, length)) t.fail('it fits a segment');
        kept.push({ index, length });
      } else if (kind < 95) {
        committed = Math.max(committed, index - below(40));
        log.release(committed);
      } else {
        const target = committed + below(index - committed + 1);
        if (!log.reaches(target)) {
          lost++;
          log.clear();
          kept = [];
          committed = index;
          continue;
        }
        while (log.last(target)) {
          const expected = kept.pop();
          const bytes = log.bytes.subarray(log.offset, log.offset + log.length);
          if (expected?.length !== log.length || bytes.some((byte) => byte !== (expected.index & 0xff)))
            throw new Error(`step ${step}: not the record of entry ${expected?.index}`);
          log.pop();
          undone++;
        }
        if (kept.length > 0 && kept[kept.length - 1]!.index > target) t.fail(`step ${step}: a record is missing`);
        index = target;
      }
      if (log.heldBytes > bound * 1.5) throw new Error(`it holds ${log.heldBytes} bytes of ${bound}`);
    }
    t.ok(undone > 100, `${undone} records were undone`);
    t.equal(lost > 0, bound < 1 << 20, `${lost} times the bound of ${bound} bytes was reached`);
  }
  t.end();
});

t.test('a record that is longer than a segment loses what came before it', (t) => {
  const log = new UndoLog(1 << 12);
  t.ok(add(log, 5, 10));
  t.notOk(add(log, 6, 1 << 10), 'a segment is a quarter of the bound');
  t.notOk(log.reaches(5));
  t.ok(log.reaches(6));
  t.notOk(log.last(0), 'nothing is left');
  const none = new UndoLog(0);
  t.notOk(add(none, 1, 1));
  t.notOk(none.reaches(0));
  t.ok(none.reaches(1));
  t.equal(none.heldBytes, 0);
  t.end();
});

t.test('memory is given back, but for a segment', (t) => {
  const log = new UndoLog(16 << 20);
  for (let index = 1; index <= 10_000; index++) add(log, index, 1000);
  const held = log.heldBytes;
  t.ok(held > 8 << 20);
  log.release(10_000);
  t.ok(log.heldBytes <= held / 8, `${log.heldBytes} of ${held}`);
  t.ok(log.reaches(10_000));
  t.end();
});
