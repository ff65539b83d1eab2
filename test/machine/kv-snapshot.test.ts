/**
 * Snapshots of the key-value machine that are taken in pieces, and the table that grows in steps: random operations
 * between the pieces, and against a plain Map. Replay a random failure with SEED=n.
 */
import t from 'tap';
import { encodeDelete, encodeGet, encodePut, KV_OPERATION_BYTES_MAX } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { RestoreInPieces, SnapshotInPieces } from '../../src/machine/state-machine.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random operations`);

const CONTEXT = { timestampHi: 0, timestampLo: 0, index: 1 };
/** By how much a piece may be longer than it was asked for: a record, with its two lengths. */
const RECORD_BYTES_MAX = 4 + 1024 + 32 * 1024;
const operation = { bytes: new Uint8Array(KV_OPERATION_BYTES_MAX), offset: 0, length: 0 };
const reply = { bytes: new Uint8Array(60_000), offset: 0, capacity: 60_000, length: 0 };

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(Buffer.from(b));

function apply(machine: KvMachine, encode: (target: Uint8Array, offset: number) => number): number {
  operation.length = encode(operation.bytes, 0);
  machine.apply(operation, CONTEXT, reply);
  return reply.bytes[reply.offset]!;
}
const put = (machine: KvMachine, key: string, value: Uint8Array): number =>
  apply(machine, (b, o) => encodePut(b, o, utf8(key), value));
const remove = (machine: KvMachine, key: string): number => apply(machine, (b, o) => encodeDelete(b, o, utf8(key)));
const has = (machine: KvMachine, key: string): boolean => apply(machine, (b, o) => encodeGet(b, o, utf8(key))) === 0;

/** All that is left of a snapshot; `between` is called before each piece. */
function rest(begun: SnapshotInPieces, maxBytes: number, between: () => void = () => undefined, from = 0): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let length = from; length < begun.length; ) {
    between();
    const piece = begun.step(maxBytes);
    if (piece.length > maxBytes + RECORD_BYTES_MAX)
      throw new Error(`a piece of ${piece.length} bytes, and ${maxBytes} were asked for`);
    length += piece.length;
    pieces.push(piece.slice());
  }
  return Buffer.concat(pieces);
}

t.test('whatever is written between its pieces, a snapshot is the one of its beginning', (t) => {
  for (let game = 0; game < 6; game++) {
    const random = randomFrom(SEED + game);
    const machine = new KvMachine();
    /** Does the same, and takes no snapshot in pieces. */
    const twin = new KvMachine();
    // Few keys are written again and again, many are also removed and come back under the ids of others.
    const keys = [40, 400, 4000][game % 3]!;
    const aKey = (): string => `key ${random(keys)}`;
    const aWrite = (): void => {
      const kind = random(10);
      const key = kind < 9 ? aKey() : `new ${random(1e6)}`;
      const value = new Uint8Array(random(kind === 8 ? 3000 : 60)).fill(random(256));
      for (const each of [machine, twin])
        if (kind < 4) remove(each, key);
        else put(each, key, value);
    };
    for (let i = 0; i < keys * 2; i++) aWrite();
    for (let round = 0; round < 6; round++) {
      const expected = machine.snapshot();
      const begun = machine.beginSnapshot();
      t.equal(begun.length, expected.length, `SEED=${SEED} game ${game}: the length is known at the beginning`);
      // The walk passes over new keys, so it has to be faster than they come.
      const writes = random(10);
      const maxBytes = 300 + random([100, 2000, 20_000][random(3)]!);
      const bytes = rest(begun, maxBytes, () => {
        for (let i = 0; i < writes; i++) aWrite();
        if (random(500) === 0 && !equal(machine.snapshot(), twin.snapshot()))
          throw new Error(`SEED=${SEED} game ${game}: meanwhile a snapshot in one go has other contents`);
      });
      if (!equal(bytes, expected))
        t.fail(`SEED=${SEED} game ${game} round ${round}: other bytes than at its beginning`);
      const now = machine.snapshot();
      if (!equal(now, twin.snapshot())) t.fail(`SEED=${SEED} game ${game}: other contents than without a snapshot`);
      const again = new KvMachine();
      again.restore(now);
      if (!equal(again.snapshot(), now)) t.fail(`SEED=${SEED} game ${game}: the store was damaged`);
    }
  }
  t.end();
});

t.test('a snapshot that keeps no old record needs no memory for any', (t) => {
  const machine = new KvMachine();
  put(machine, 'k', utf8('1'));
  const before = process.memoryUsage().arrayBuffers;
  const begun = Array.from({ length: 200 }, () => machine.beginSnapshot());
  const bytes = process.memoryUsage().arrayBuffers - before;
  t.ok(bytes < 200 * 16_384, `${bytes} bytes for ${begun.length} snapshots`);
  t.end();
});

t.test('all keys are removed, and others written, while a snapshot is taken', (t) => {
  const machine = new KvMachine();
  const name = (i: number): string => `k${String(i).padStart(5, '0')}`;
  for (let i = 0; i < 3000; i++) put(machine, name(i), utf8(`value ${i}`));
  const expected = machine.snapshot();
  const begun = machine.beginSnapshot();
  const head = begun.step(5000).slice();
  for (let i = 0; i < 3000; i++) remove(machine, name(i));
  for (let i = 0; i < 3000; i++) put(machine, name(2 * i), utf8('another'));
  let pieces = 0;
  t.ok(equal(Buffer.concat([head, rest(begun, 700, () => pieces++, head.length)]), expected));
  t.ok(pieces > 50, 'it was taken in many pieces');
  t.equal(begun.step(700).length, 0, 'there is no piece after the last');
  t.end();
});

t.test('a piece takes a bounded time, even where it passes over many new keys', (t) => {
  const machine = new KvMachine();
  put(machine, 'z', utf8('last'));
  const expected = machine.snapshot();
  const begun = machine.beginSnapshot();
  for (let i = 0; i < 20_000; i++) put(machine, `new ${i}`, utf8('1'));
  let empty = 0;
  const pieces: Uint8Array[] = [];
  for (let length = 0; length < begun.length; length += pieces.at(-1)!.length) {
    pieces.push(begun.step(1000).slice());
    if (pieces.at(-1)!.length === 0) empty++;
  }
  t.ok(equal(Buffer.concat(pieces), expected));
  t.ok(empty > 1000, `${empty} pieces were empty`);
  t.end();
});

t.test('an empty store, one that is given up, and one that is interrupted by another', (t) => {
  const machine = new KvMachine();
  t.ok(equal(rest(machine.beginSnapshot(), 1), machine.snapshot()));
  for (let i = 0; i < 100; i++) put(machine, `k${i}`, utf8('1'));
  const state = machine.snapshot();
  const first = machine.beginSnapshot();
  first.step(10);
  first.abort();
  put(machine, 'k1', utf8('2'));
  const second = machine.beginSnapshot();
  const expected = machine.snapshot();
  second.step(10);
  first.abort(); // not the one in progress
  put(machine, 'k99', utf8('3'));
  const third = machine.beginSnapshot();
  const present = machine.snapshot();
  put(machine, 'k0', utf8('4'));
  second.abort();
  t.equal(second.step(50).length, 0, 'one that was interrupted is over');
  put(machine, 'k1', utf8('5'));
  t.ok(equal(rest(third, 50), present));
  t.notOk(equal(present, expected));
  const last = machine.beginSnapshot();
  last.step(10);
  machine.restore(state);
  t.equal(last.step(50).length, 0, 'a restored state ends the one of the state before');
  put(machine, 'k5', utf8('5'));
  machine.restore(state);
  t.ok(equal(machine.snapshot(), state));
  t.end();
});

/** Gives all of `bytes`, cut at random. */
function give(restore: RestoreInPieces, bytes: Uint8Array, most: number, random: (n: number) => number): void {
  for (let at = 0; at < bytes.length; ) {
    const piece = bytes.slice(at, at + 1 + random(most));
    at += piece.length;
    restore.step(piece);
    // The machine has copied what it needs.
    piece.fill(0xff);
  }
}

t.test('restored in pieces, however these are cut, a state is the one that was saved', (t) => {
  const random = randomFrom(SEED + 80);
  for (let game = 0; game < 40; game++) {
    const machine = new KvMachine();
    const keys = [0, 1, 30, 3000][game % 4]!;
    if (random(2) === 0) machine.raise(1);
    for (let i = 0; i < keys; i++)
      put(machine, `key ${random(keys * 2)}`, new Uint8Array(random(game === 2 ? 3000 : 60)).fill(random(256)));
    if (game % 5 === 0) put(machine, 'k'.repeat(1024), new Uint8Array(32 * 1024).fill(1));
    const bytes = machine.snapshot();
    const other = new KvMachine();
    for (let i = 0; i < 50; i++) put(other, `other ${random(20)}`, utf8('1'));
    const restore = other.beginRestore(bytes.length);
    give(restore, bytes, [1, 3, 40, 2000, 100_000][random(5)]!, (n) => {
      // Meanwhile the present state goes on.
      if (random(3) === 0) put(other, `other ${random(40)}`, utf8(String(random(9))));
      if (random(500) === 0) other.restore(other.snapshot());
      return random(n);
    });
    const before = other.snapshot();
    const begun = other.beginSnapshot();
    put(other, 'last', utf8('1'));
    if (!equal(rest(begun, 100), before)) t.fail(`SEED=${SEED} game ${game}: a snapshot of the present state`);
    restore.end();
    restore.abort();
    if (!equal(other.snapshot(), bytes)) t.fail(`SEED=${SEED} game ${game}: another state than was saved`);
    t.equal(other.keyCount, machine.keyCount);
    t.equal(other.contentBytes, machine.contentBytes);
    // It is as good as any: keys are found, written and removed.
    const model = new KvMachine();
    model.restore(bytes);
    for (let i = 0; i < 300; i++) {
      const key = `key ${random(keys * 2 + 2)}`;
      const value = utf8(String(random(1000)));
      for (const each of [other, model])
        if (i % 3 === 0) remove(each, key);
        else put(each, key, value);
    }
    if (!equal(other.snapshot(), model.snapshot())) t.fail(`SEED=${SEED} game ${game}: went on differently`);
  }
  t.end();
});

t.test('what is refused in pieces is what is refused in one, and leaves the state alone', (t) => {
  const random = randomFrom(SEED + 90);
  const good = new KvMachine();
  for (let i = 0; i < 20; i++) put(good, `key ${i}`, new Uint8Array(random(20)));
  const old = good.snapshot();
  good.raise(1);
  for (let i = 0; i < 20; i += 2) put(good, `key ${i}`, new Uint8Array(random(20)));
  const snapshot = good.snapshot();
  const problem = (call: () => void): string | undefined => {
    try {
      call();
    } catch (error) {
      if ((error as { code?: string }).code !== 'snapshot-invalid') throw error;
      return (error as Error).message;
    }
    return undefined;
  };
  let refused = 0;
  for (let round = 0; round < 1000; round++) {
    let bytes = (random(2) === 0 ? old : snapshot).slice();
    for (let flips = random(3); flips >= 0; flips--)
      bytes[random(random(2) === 0 ? 40 : bytes.length)]! ^= 1 << random(8);
    if (round % 3 === 0) bytes = bytes.slice(0, random(bytes.length));
    const at = new KvMachine({ maxKeys: 25, maxBytes: 2000 });
    put(at, 'here', utf8('before'));
    const before = at.snapshot();
    const whole = problem(() => new KvMachine({ maxKeys: 25, maxBytes: 2000 }).restore(bytes));
    const restore = at.beginRestore(bytes.length);
    const inPieces = problem(() => {
      give(restore, bytes, 30, random);
      restore.end();
    });
    if (inPieces !== whole) t.fail(`SEED=${SEED} round ${round}: ${inPieces}, and in one piece ${whole}`);
    if (whole === undefined) continue;
    refused++;
    restore.abort();
    if (!equal(at.snapshot(), before)) t.fail(`SEED=${SEED} round ${round}: refused, but changed`);
    t.ok(problem(() => restore.step(bytes.subarray(0, 1))) !== undefined, 'it is over');
    t.ok(problem(() => restore.end()) !== undefined);
  }
  t.ok(refused > 100, `${refused} were refused`);
  const missing = good.beginRestore(snapshot.length);
  missing.step(snapshot.subarray(0, snapshot.length - 1));
  t.match(
    problem(() => missing.end()),
    /ends in entry 19 of 20/,
  );
  t.ok(equal(good.snapshot(), snapshot));
  t.end();
});

t.test('a header makes no room for more entries than the bytes can hold', (t) => {
  const machine = new KvMachine({ maxKeys: 1 << 24 });
  const before = process.memoryUsage().arrayBuffers;
  const restore = machine.beginRestore(100);
  restore.step(Uint8Array.of(0x4b, 0x56, 0x53, 0x31, 0, 0xff, 0xff, 0xff));
  const bytes = process.memoryUsage().arrayBuffers - before;
  t.ok(bytes < 1 << 21, `${bytes} bytes`);
  restore.abort();
  t.end();
});

t.test('the table finds every key while it moves into a larger one', (t): void => {
  for (let game = 0; game < 2; game++) {
    const random = randomFrom(SEED + 50 + game);
    const machine = new KvMachine({ expectedKeys: 16 });
    const model = new Set<string>();
    for (let i = 0; i < 30_000; i++) {
      // In phases, so that the table also moves while keys are removed.
      const removes = Math.floor(i / 3000) % 3 === 2;
      const key = `k${random(30_000)}`;
      if (random(10) < (removes ? 7 : 2)) {
        if ((remove(machine, key) === 0) !== model.delete(key))
          throw new Error(`SEED=${SEED} game ${game}: delete ${key}`);
      } else if (random(10) < 7) {
        put(machine, key, utf8(String(i)));
        model.add(key);
      } else if (has(machine, key) !== model.has(key)) throw new Error(`SEED=${SEED} game ${game}: get ${key}`);
      if (machine.keyCount !== model.size) throw new Error(`SEED=${SEED} game ${game}: ${machine.keyCount} keys`);
    }
    for (const key of model) if (!has(machine, key)) throw new Error(`SEED=${SEED} game ${game}: lost ${key}`);
    t.ok(model.size > 1000, `SEED=${SEED} game ${game}: ${model.size} keys`);
  }
  t.end();
});
