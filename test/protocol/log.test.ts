// The log: an arena with a chain. "chain(i) is the checksum of the whole log up to i."
import t from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import { entryOf } from './entries.js';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { appendEntry, Log } from '../../src/protocol/log/log.js';
import { copyBytes, copyWords, wordsOf } from '../../src/wire/copy.js';
import { toBigInt } from '../../src/wire/u64.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walk`);

const hasher = loadHash();
const text = (value: string): Uint8Array => new Uint8Array(Buffer.from(value));

interface Entry {
  readonly timestamp: bigint;
  readonly session: bigint;
  readonly request: number;
  readonly lane: number;
  readonly flags: number;
  readonly operation: Uint8Array;
}

const entry = (timestamp: number, operation: string, more: Partial<Entry> = {}): Entry => ({
  timestamp: BigInt(timestamp),
  session: 7n,
  request: timestamp,
  lane: 0,
  flags: 0,
  operation: text(operation),
  ...more,
});
const halves = (value: bigint): [number, number] => [
  Number(BigInt.asIntN(32, value >> 32n)),
  Number(BigInt.asIntN(32, value)),
];

function append(log: Log, e: Entry): boolean {
  const [timestampHi, timestampLo] = halves(e.timestamp);
  const [sessionHi, sessionLo] = halves(e.session);
  return log.append(
    entryOf({
      timestampHi,
      timestampLo,
      sessionHi,
      sessionLo,
      lane: e.lane,
      request: e.request,
      flags: e.flags,
      operationBytes: e.operation,
      operationLength: e.operation.length,
    }),
  );
}

/** Written from the drawing in log.ts, not by it. */
function chainAfter(chain: bigint, e: Entry): bigint {
  const bytes = Buffer.alloc(32 + e.operation.length);
  bytes.writeBigUInt64BE(chain, 0);
  bytes.writeBigUInt64BE(e.timestamp, 8);
  bytes.writeBigUInt64BE(e.session, 16);
  bytes.writeUInt32BE(e.request, 24);
  bytes.writeUInt16BE(e.lane, 28);
  bytes.writeUInt8(e.flags, 30);
  bytes.set(e.operation, 32);
  const digest = Buffer.alloc(8);
  hasher.hash64(bytes, 0, bytes.length, digest, 0);
  return digest.readBigUInt64BE();
}

const chain = (log: Log, index: number): bigint => toBigInt(log.chainHi(index), log.chainLo(index));
const operation = (log: Log, index: number): string =>
  Buffer.from(
    log.bytes.subarray(log.operationOffset(index), log.operationOffset(index) + log.operationLength(index)),
  ).toString();

t.test('chain(i) = XXH3-64(chain(i−1) ‖ key ‖ request ‖ lane ‖ flags ‖ operation)', (t) => {
  const log = new Log(16, 4096, 120, hasher);
  const entries = [
    entry(5, 'one'),
    entry(6, '', { lane: 0xffff, flags: 1 }),
    entry(2 ** 40, 'three', { session: 0xfedcba9876543210n, request: 0x7fffffff }),
  ];
  let expected = 0n;
  t.equal(chain(log, 0), 0n);
  entries.forEach((e, i) => {
    t.ok(append(log, e));
    expected = chainAfter(expected, e);
    t.equal(chain(log, i + 1), expected);
    t.equal(toBigInt(log.timestampHi(i + 1), log.timestampLo(i + 1)), e.timestamp);
    t.equal(toBigInt(log.sessionHi(i + 1), log.sessionLo(i + 1)), e.session);
    t.equal(log.request(i + 1), e.request);
    t.equal(log.lane(i + 1), e.lane);
    t.equal(log.flags(i + 1), e.flags);
    t.equal(operation(log, i + 1), Buffer.from(e.operation).toString());
    t.ok(log.matches(i + 1, ...halves(expected)));
    t.notOk(log.matches(i + 1, ...halves(expected ^ 1n)));
    t.notOk(log.matches(i + 1, ...halves(expected ^ (1n << 32n))));
  });
  t.notOk(log.matches(4, 0, 0), 'an index beyond the log matches nothing');
  t.end();
});

t.test('every field of an entry is in its chain, and every entry before it', (t) => {
  const base = [entry(1, 'a'), entry(2, 'b')];
  const chains = new Set<bigint>();
  const variants: Entry[][] = [
    base,
    [base[0]!, { ...base[1]!, timestamp: 3n }],
    [base[0]!, { ...base[1]!, session: 8n }],
    [base[0]!, { ...base[1]!, request: 9 }],
    [base[0]!, { ...base[1]!, lane: 1 }],
    [base[0]!, { ...base[1]!, flags: 1 }],
    [base[0]!, { ...base[1]!, operation: text('B') }],
    [base[0]!, { ...base[1]!, operation: text('b\0') }],
    [{ ...base[0]!, operation: text('A') }, base[1]!],
  ];
  for (const entries of variants) {
    const log = new Log(16, 4096, 120, hasher);
    for (const e of entries) append(log, e);
    chains.add(chain(log, 2));
  }
  t.equal(chains.size, variants.length);
  t.end();
});

t.test('log order is key order: (timestamp, session), so two clients never tie', (t) => {
  const log = new Log(16, 4096, 120, hasher);
  append(log, entry(100, 'x', { session: 0x8000000000000001n }));
  const compare = (timestamp: bigint, session: bigint): number =>
    Math.sign(log.compareToLast(...halves(timestamp), ...halves(session)));
  t.equal(compare(100n, 0x8000000000000001n), 0);
  t.equal(compare(100n, 0x8000000000000002n), 1);
  t.equal(compare(100n, 0x7fffffffffffffffn), -1, 'sessions compare unsigned');
  t.equal(compare(99n, 0xffffffffffffffffn), -1);
  t.equal(compare(0x8000000000000000n, 0n), 1, 'timestamps compare unsigned');
  t.throws(
    () => append(log, entry(100, 'x', { session: 0x8000000000000001n })),
    { code: 'invariant-broken' },
    'the same key again',
  );
  t.throws(() => append(log, entry(99, 'x')), { code: 'invariant-broken' });
  t.equal(log.lastIndex, 1);
  t.end();
});

t.test('a full log refuses, and nothing changed', (t) => {
  const byEntries = new Log(4, 4096, 120, hasher);
  for (let i = 1; i <= 4; i++) t.ok(append(byEntries, entry(i, 'x')));
  const last = chain(byEntries, 4);
  t.notOk(append(byEntries, entry(5, 'x')));
  t.equal(byEntries.lastIndex, 4);
  t.equal(chain(byEntries, 4), last);
  t.equal(byEntries.fill(), 1);
  byEntries.cut(1);
  t.ok(append(byEntries, entry(5, 'x')), 'there is room again behind the cut');

  const byBytes = new Log(64, 320, 120, hasher);
  let count = 0;
  while (append(byBytes, entry(count + 1, '12345678'))) count++;
  t.equal(count, 8, '40 bytes each');
  byBytes.cut(2);
  t.ok(append(byBytes, entry(100, 'x'.repeat(48))), 'two records are cut: 80 bytes');
  t.notOk(append(byBytes, entry(101, '')));
  t.equal(operation(byBytes, 3), '12345678');
  t.equal(operation(byBytes, 9), 'x'.repeat(48));
  t.end();
});

t.test('what one log holds any other holds, wherever in its ring it begins', (t) => {
  let state = SEED | 0;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return Math.floor(((state >>> 0) / 4294967296) * below);
  };
  const bytes = new Uint8Array(200);
  let clock = 1000;
  let exact = 0;
  const log = new Log(64, 608, 120, hasher);
  for (let round = 0; round < 2000; round++) {
    // Entries near the longest, so that gaps are large; what is left is filled to the last byte now and then.
    for (;;) {
      const e = entry(++clock, 'o'.repeat(random(4) === 0 ? random(121) : 120 - random(8)));
      if (append(log, e)) continue;
      let records = 0;
      for (let i = log.baseIndex + 1; i <= log.lastIndex; i++) records += 32 + log.operationLength(i);
      if (records + 32 + e.operation.length <= 608) t.fail(`refused with ${records} bytes of 608, SEED=${SEED}`);
      if (log.fill() !== records / 608) t.fail(`fill ${log.fill()} with ${records} bytes, SEED=${SEED}`);
      const left = 608 - records - 32;
      if (left >= 0 && left <= 120 && append(log, entry(++clock, 'x'.repeat(left)))) exact++;
      break;
    }
    const other = new Log(64, 608, 120, hasher);
    for (let i = random(12); i > 0; i--) {
      if (!append(other, entry(clock - 20 + other.lastIndex, 'y'.repeat(random(121))))) other.cut(other.lastIndex);
    }
    const base = log.baseIndex;
    other.install({
      index: base,
      chainHi: log.chainHi(base),
      chainLo: log.chainLo(base),
      timestampHi: log.timestampHi(base),
      timestampLo: log.timestampLo(base),
      sessionHi: log.sessionHi(base),
      sessionLo: log.sessionLo(base),
    });
    for (let i = base + 1; i <= log.lastIndex; i++)
      if (!appendEntry(other, bytes, 0, log.writeEntry(i, wordsOf(bytes), 0)))
        t.fail(`entry ${i} does not fit the other log, SEED=${SEED}`);
    if (chain(other, other.lastIndex) !== chain(log, log.lastIndex)) t.fail(`another chain, SEED=${SEED}`);
    const middle = base + random(log.lastIndex - base + 1);
    if (random(2) === 0) log.truncate(Math.max(middle, base));
    log.cut(base + random(log.lastIndex - base + 1));
  }
  t.ok(exact > 100, `${exact} times full to the last byte`);
  t.notOk(
    append(new Log(64, 608, 120, hasher), entry(1, 'z'.repeat(121))),
    'an operation longer than any may be is refused',
  );
  t.throws(() => new Log(64, 100, 120, hasher), { code: 'invariant-broken' });
  t.end();
});

t.test('a log uses as much of its arena as it has needed of late, however it grows and shrinks', (t) => {
  let state = SEED | 0;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return Math.floor(((state >>> 0) / 4294967296) * below);
  };
  const log = new Log(1 << 14, 4 << 20, 1000, hasher);
  const expected: string[] = [];
  let base = 0;
  const add = (): boolean => {
    const text = `${expected.length + 1}:`.padEnd(random(1000), 'o');
    if (!append(log, entry(expected.length + 1, text))) return false;
    expected.push(text);
    return true;
  };
  let from = 0;
  let to = 0;
  const seen = (): void => {
    for (let i = base + 1; i <= expected.length; i++) {
      if (operation(log, i) !== expected[i - 1]) t.fail(`entry ${i} of ${base + 1}…${expected.length}, SEED=${SEED}`);
      from = Math.min(from, log.record(i));
      to = Math.max(to, log.record(i));
    }
  };
  const cut = (index: number): void => {
    log.cut(index);
    base = index;
  };
  const gap = new Log(1 << 14, 4 << 20, 1000, hasher);
  append(gap, entry(1, ''));
  for (let i = 2; gap.record(gap.lastIndex) < (1 << 18) - 2000; i++) append(gap, entry(i, `${i}`.padEnd(900)));
  gap.cut(1);
  for (let i = gap.lastIndex + 1, end = i + 4; i < end; i++) append(gap, entry(i, `${i}`.padEnd(900)));
  for (let i = 2; i <= gap.lastIndex; i++)
    if (operation(gap, i) !== `${i}`.padEnd(900)) t.fail(`entry ${i} behind a gap that is too short`);

  for (let step = 0; step < 60_000; step++) {
    if (!add()) t.fail(`step ${step}, SEED=${SEED}`);
    if (expected.length - base > 200) cut(expected.length - random(50));
  }
  for (let i = base + 1; i <= expected.length; i++) to = Math.max(to, log.record(i));
  t.ok(to < 1 << 19, `some 100 KB at a time, 30 MB in all, and none of it lay beyond ${to}`);

  while (add());
  seen();
  t.ok(log.fill() > 0.99, 'full of bytes or entries');
  t.ok(to > 3 << 20);
  for (let round = 0; round < 40; round++) {
    cut(base + random(expected.length - base));
    const middle = base + random(expected.length - base + 1);
    log.truncate(middle);
    expected.length = middle;
    for (let more = random(4000); more > 0 && add(); more--);
    seen();
  }
  let last = 0;
  for (let step = 0; step < 60_000; step++) {
    add();
    if (expected.length - base > 200) cut(expected.length - random(50));
    last = log.record(expected.length);
    if (step > 50_000) to = step === 50_001 ? last : Math.max(to, last);
  }
  seen();
  t.ok(to < 1 << 19, `it goes back to little: ${to}`);
  t.end();
});

t.test('an entry on the wire is its record without the chain, and makes the same chain elsewhere', (t) => {
  const log = new Log(16, 4096, 120, hasher);
  const other = new Log(16, 4096, 120, hasher);
  for (let i = 1; i <= 5; i++) append(log, entry(i, `operation ${i}`, { lane: i, flags: i & 1 }));
  const bytes = new Uint8Array(200);
  for (let i = 1; i <= 5; i++) {
    const length = log.writeEntry(i, wordsOf(bytes), 7);
    t.equal(length, ENTRY_HEADER_BYTES + log.operationLength(i));
    t.ok(log.equalsEntry(i, bytes, 7, length));
    t.notOk(log.equalsEntry(i, bytes, 7, length - 1));
    for (let at = 7; at < 7 + length; at++) {
      bytes[at]! ^= 1;
      if (log.equalsEntry(i, bytes, 7, length)) t.fail(`byte ${at - 7} is not compared`);
      bytes[at]! ^= 1;
    }
    t.ok(appendEntry(other, bytes, 7, length));
    t.equal(chain(other, i), chain(log, i));
  }
  t.end();
});

t.test('truncate, cut and install leave the chain of what stands', (t) => {
  const log = new Log(16, 4096, 120, hasher);
  for (let i = 1; i <= 8; i++) append(log, entry(i, `${i}`));
  const six = chain(log, 6);
  const four = chain(log, 4);
  log.truncate(6);
  log.cut(4);
  t.equal(log.baseIndex, 4);
  t.equal(chain(log, 4), four, 'of the base as well');
  t.ok(log.matches(4, ...halves(four)));
  t.notOk(log.matches(3, 0, 0));
  t.notOk(log.has(4));
  t.ok(log.has(5));
  t.equal(chain(log, 6), six);
  log.truncate(4);
  t.equal(log.compareToLast(0, 4, 0, 7), 0, 'the key of the base is the last one');
  t.ok(append(log, entry(9, 'nine')));
  t.equal(chain(log, 5), chainAfter(four, entry(9, 'nine')));
  t.throws(() => log.truncate(3), { code: 'invariant-broken' });
  t.throws(() => log.cut(6), { code: 'invariant-broken' });
  log.install({ index: 100, chainHi: 1, chainLo: 2, timestampHi: 0, timestampLo: 50, sessionHi: 0, sessionLo: 7 });
  t.equal(log.lastIndex, 100);
  t.ok(log.matches(100, 1, 2));
  t.equal(log.compareToLast(0, 50, 0, 7), 0);
  t.ok(append(log, entry(51, 'next')));
  t.equal(chain(log, 101), chainAfter(0x100000002n, entry(51, 'next')));
  t.end();
});

t.test('a random walk of appends, truncations and cuts agrees with a plain array', (t) => {
  let state = SEED | 0;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 0) / 4294967296;
  };
  const log = new Log(32, 2048, 120, hasher);
  const model: { e: Entry; chain: bigint }[] = [];
  let base = 0;
  let clock = 0;
  let refused = 0;
  for (let step = 0; step < 20_000; step++) {
    const choice = random();
    if (choice < 0.8) {
      clock++;
      const e = entry(clock, 'o'.repeat(Math.floor(random() * 120)), { request: step, lane: step & 0xffff });
      if (append(log, e)) model.push({ e, chain: chainAfter(model.at(-1)?.chain ?? 0n, e) });
      else refused++;
    } else if (choice < 0.9) {
      const index = base + Math.floor(random() * (model.length - base + 1));
      log.truncate(index);
      model.length = index;
    } else {
      const index = base + Math.floor(random() * (model.length - base + 1));
      log.cut(index);
      base = index;
    }
    if (log.lastIndex !== model.length || log.baseIndex !== base) t.fail(`step ${step}, SEED=${SEED}`);
    for (let i = base + 1; i <= model.length; i++) {
      const { e, chain: expected } = model[i - 1]!;
      if (
        chain(log, i) !== expected ||
        log.request(i) !== e.request ||
        operation(log, i) !== Buffer.from(e.operation).toString()
      ) {
        t.fail(`entry ${i} at step ${step}, SEED=${SEED}`);
        throw new Error('the log differs from the model');
      }
    }
  }
  t.ok(refused > 0 && model.length > 100, `${model.length} entries, ${refused} refused`);
  t.end();
});

t.test('copies of every length are whole', (t) => {
  for (const length of [0, 1, 3, 4, 15, 16, 31, 2047, 2048, 2049, 5000]) {
    const source = Uint8Array.from({ length: length + 3 }, (_, i) => i * 31);
    const target = new Uint8Array(length + 5).fill(0xee);
    copyBytes(source, 3, target, 2, length);
    t.strictSame(target.slice(2, 2 + length), source.slice(3));
    t.ok(target[1] === 0xee && target[2 + length] === 0xee);
    const words = new Uint8Array(length + 5).fill(0xee);
    copyWords(wordsOf(source), 3, wordsOf(words), 2, length);
    t.strictSame(words, target);
  }
  t.end();
});
