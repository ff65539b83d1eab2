// Entries that are retained for transfers when the log is cut: each is given as the log gave it.
import t from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { Log } from '../../src/protocol/log/log.js';
import { RetainedLog } from '../../src/protocol/log/retained-log.js';
import { wordsOf } from '../../src/wire/copy.js';
import { entryOf } from './entries.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walk`);

const LONGEST = 600;

/** Appends an entry of `length` bytes. False if the log is full. */
function append(log: Log, length: number): boolean {
  const index = log.lastIndex + 1;
  const operationBytes = new Uint8Array(length).fill(index);
  return log.append(
    entryOf({ timestampLo: index, sessionLo: 7, request: index, operationBytes, operationLength: length }),
  );
}

interface Seen {
  readonly chainHi: number;
  readonly chainLo: number;
  /** In wire form. */
  readonly bytes: string;
}

function seen(from: Pick<Log, 'chainHi' | 'chainLo' | 'operationLength' | 'writeEntry'>, index: number): Seen {
  const bytes = new Uint8Array(ENTRY_HEADER_BYTES + LONGEST);
  const length = from.writeEntry(index, wordsOf(bytes), 0);
  t.equal(length, ENTRY_HEADER_BYTES + from.operationLength(index));
  return {
    chainHi: from.chainHi(index - 1),
    chainLo: from.chainLo(index - 1),
    bytes: Buffer.from(bytes.subarray(0, length)).toString('hex'),
  };
}

t.test('what is retained is what was in the log, and reaches up to its base', (t) => {
  const random = seededRandom(SEED);
  const log = new Log(256, 1 << 16, LONGEST, loadHash());
  const retained = new RetainedLog(1 << 18, 1024);
  const entries = new Map<number, Seen>();
  let compared = 0;
  for (let step = 0; step < 4_000; step++) {
    const roll = random();
    if (roll < 0.6) {
      if (append(log, Math.floor(random() * LONGEST))) entries.set(log.lastIndex, seen(log, log.lastIndex));
    } else if (!retained.isActive) {
      retained.begin(log, log.baseIndex + Math.floor(random() * (log.lastIndex - log.baseIndex + 1)));
    } else if (roll < 0.8) {
      retained.follow(log, log.lastIndex, Math.floor(random() * 2_000));
    } else if (roll < 0.85) {
      const index = log.baseIndex + Math.floor(random() * (log.lastIndex - log.baseIndex + 1));
      retained.follow(log, index, Infinity);
      log.cut(index);
    } else if (roll < 0.9) {
      retained.forgetTo(retained.baseIndex + Math.floor(random() * 200));
    } else if (retained.endIndex > retained.baseIndex) {
      const { baseIndex, endIndex } = retained;
      const index = baseIndex + 1 + Math.floor(random() * (endIndex - baseIndex));
      const expected = entries.get(index)!;
      t.strictSame(seen(retained, index), expected, `entry ${index}, SEED=${SEED}`);
      t.ok(retained.matches(index - 1, expected.chainHi, expected.chainLo));
      t.notOk(retained.matches(index - 1, expected.chainHi, expected.chainLo ^ 1));
      compared++;
    }
    t.ok(retained.fill <= 1.1, 'it has a bound');
  }
  t.ok(compared > 50, `${compared} were compared`);
  t.notOk(retained.matches(retained.endIndex, 0, 0), 'what is not here is not given');
  t.end();
});

const kept = ({ baseIndex, endIndex }: RetainedLog): number => endIndex - baseIndex;

t.test('when the memory is not enough, the oldest entries are given up', (t) => {
  for (const [bytes, most] of [
    [1 << 12, Infinity],
    [1 << 20, 16],
  ] as const) {
    const log = new Log(64, 1 << 16, LONGEST, loadHash());
    const retained = new RetainedLog(bytes, most);
    retained.begin(log, 0);
    let least = Infinity;
    for (; append(log, 100); least = Math.min(least, retained.baseIndex === 0 ? Infinity : kept(retained)))
      retained.follow(log, log.lastIndex, Infinity);
    t.ok(retained.baseIndex > 0, `those up to ${retained.baseIndex} are gone`);
    t.equal(retained.endIndex, 64);
    t.ok(least >= 13 && least <= 64, `${least} entries are kept`);
    t.ok(retained.fill <= 1.1);
    const { baseIndex } = retained;
    t.ok(retained.matches(baseIndex, log.chainHi(baseIndex), log.chainLo(baseIndex)));
  }
  t.end();
});
