/**
 * The key-value machine undoes: the same as restoring an earlier snapshot and applying again what stays. Replay a random
 * failure with SEED=n.
 */
import t, { type Test } from 'tap';
import {
  encodeCas,
  encodeDelete,
  encodeIncrement,
  encodePut,
  KV_OPERATION_BYTES_MAX,
} from '../../src/machine/kv-codec.js';
import { STATUS_FULL, STATUS_LEASE_ENDED } from '../../src/machine/kv-layout.js';
import { KvMachine, type KvOptions } from '../../src/machine/kv.js';
import type { SnapshotInPieces } from '../../src/machine/state-machine.js';
import {
  encodeGrant,
  encodeRemove,
  encodeRenew,
  encodeRevoke,
  encodeTick,
  encodeTransaction,
  encodeWrite,
  type KeyHold,
} from '../../src/machine/store/codec.js';
import { Grant, RESULT_BYTES, Tick } from '../../src/machine/store/layout.js';
import { readIndex } from '../../src/wire/u64.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
t.comment(`SEED=${SEED} replays the random operations`);

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(Buffer.from(b));

const reply = { bytes: new Uint8Array(60_000), offset: 0, capacity: 60_000, length: 0 };
const scratch = new Uint8Array(KV_OPERATION_BYTES_MAX);

function encoded(encode: (target: Uint8Array, offset: number) => number): Uint8Array {
  return scratch.slice(0, encode(scratch, 0));
}

/** At an agreed time, ms. Returns the status. */
function apply(machine: KvMachine, bytes: Uint8Array, index: number, ms = 0): number {
  const ns = BigInt(ms) * 1_000_000n;
  const timestampHi = Number(BigInt.asIntN(32, ns >> 32n));
  const timestampLo = Number(BigInt.asIntN(32, ns));
  reply.offset = reply.length = 0;
  machine.apply({ bytes, offset: 0, length: bytes.length }, { timestampHi, timestampLo, index }, reply);
  return reply.bytes[0]!;
}

function anOperation(random: (n: number) => number, keys: number): Uint8Array {
  const key = utf8(`key ${random(keys)}`);
  const value = new Uint8Array(random(10) === 0 ? random(3000) : random(40)).fill(random(256));
  switch (random(6)) {
    case 0:
    case 1:
      return encoded((b, o) => encodeDelete(b, o, key));
    case 2:
      return encoded((b, o) => encodeIncrement(b, o, key, BigInt(random(1000))));
    case 3:
      return encoded((b, o) => encodeCas(b, o, key, null, value));
    case 4:
      return Uint8Array.of(99);
    default:
      return encoded((b, o) => encodePut(b, o, key, value));
  }
}

interface Entry {
  readonly bytes: Uint8Array;
  readonly ms: number;
}

/** @param leases that were granted; some have ended, or the grant was undone */
function aStoreOperation(random: (n: number) => number, keys: number, leases: readonly number[]): Uint8Array {
  const key = (): Uint8Array => utf8(`key ${random(keys)}`);
  const value = (): Uint8Array => new Uint8Array(random(10) === 0 ? random(3000) : random(40)).fill(random(256));
  const lease = (): number => leases[Math.max(0, leases.length - 1 - random(20))] ?? 1;
  const hold = (): KeyHold => [{}, { ttl: 1 + random(200) }, { lease: lease() }, { keep: true }][random(4)]!;
  switch (random(12)) {
    case 0:
      return encoded((b, o) => encodeGrant(b, o, 1 + random(400)));
    case 1:
      return encoded((b, o) => encodeRenew(b, o, [lease(), lease()]));
    case 2:
      return encoded((b, o) => (random(4) === 0 ? encodeRevoke(b, o, lease()) : encodeTick(b, o)));
    case 3:
      return encoded((b, o) => encodeRemove(b, o, key(), undefined));
    case 4: {
      const [first, second, third] = [0, 1, 2].map((n) => utf8(`key ${(random(keys) / 3) | 0}, ${n}`));
      return encoded((b, o) =>
        encodeTransaction(b, o, {
          if: [{ key: key(), absent: true }],
          do: [{ put: first!, value: value(), ...hold() }, { delete: second! }, { get: third! }],
          else: [{ delete: first! }, { put: third!, value: value(), ...hold() }],
        }),
      );
    }
    case 5:
    case 6:
    case 7:
    case 8:
      return encoded((b, o) =>
        encodeWrite(b, o, key(), value(), hold(), random(4) === 0 ? { absent: true } : undefined),
      );
    default:
      return anOperation(random, keys);
  }
}

/** Random operations of a level, undone at random; returns what happened, and how often. */
function play(
  t: Test,
  level: number,
  draw: (random: (n: number) => number, keys: number, leases: readonly number[]) => Uint8Array,
): { undone: number; full: number; pieces: number; leaseEnded: number; keysEnded: number } {
  const seen = { undone: 0, full: 0, pieces: 0, leaseEnded: 0, keysEnded: 0 };
  for (let game = 0; game < 6; game++) {
    const random = randomFrom(SEED + 100 * level + game);
    const keys = [30, 300, 3000][game % 3]!;
    // Of two games one meets the limits.
    const options: KvOptions = game % 2 === 0 ? {} : { maxKeys: keys / 2, maxBytes: 40_000 };
    const machine = new KvMachine(options);
    machine.raise(level);
    machine.committedTo(0);
    let base = machine.snapshot();
    let index = 0;
    let committed = 0;
    let ms = 1_700_000_000_000;
    /** Of entries behind `committed`. */
    let log: Entry[] = [];
    const leases: number[] = [];
    let pieces: { begun: SnapshotInPieces; expected: Uint8Array; at: number; index: number } | undefined;
    const twinAt = (count: number): KvMachine => {
      const twin = new KvMachine(options);
      twin.restore(base);
      for (const entry of log.slice(0, count)) apply(twin, entry.bytes, 1, entry.ms);
      return twin;
    };
    for (let step = 0; step < 6000; step++) {
      const kind = random(200);
      if (kind < 185) {
        ms += random(3) === 0 ? random(30) : 0;
        const bytes = draw(random, keys, leases);
        log.push({ bytes, ms });
        const { keyCount } = machine;
        const status = apply(machine, bytes, ++index, ms);
        if (status === STATUS_FULL) seen.full++;
        if (status === STATUS_LEASE_ENDED) seen.leaseEnded++;
        if (bytes[0] === Tick.opcode && machine.keyCount < keyCount) seen.keysEnded++;
        if (bytes[0] === Grant.opcode && status === 0) leases.push(readIndex(reply.bytes, RESULT_BYTES));
      } else if (kind < 193) {
        const count = random(log.length + 1);
        base = twinAt(count).snapshot();
        committed += count;
        log = log.slice(count);
        machine.committedTo(committed);
      } else if (kind < 197) {
        const count = random(log.length + 1);
        const twin = twinAt(count);
        log.length = count;
        index = committed + count;
        if (pieces !== undefined && pieces.index > index) {
          pieces.begun.abort();
          pieces = undefined;
        }
        if (!machine.undoTo(index)) throw new Error('it knows what is not committed');
        if (!equal(machine.snapshot(), twin.snapshot()))
          throw new Error(`game ${game}, step ${step}: another state than that of restore and replay`);
        t.equal(machine.contentBytes, twin.contentBytes);
        seen.undone++;
      } else if (kind < 199) {
        pieces ??= { begun: machine.beginSnapshot(), expected: machine.snapshot(), at: 0, index };
      } else {
        // The same table under other ids.
        machine.restore(base);
        log = [];
        index = committed;
        pieces = undefined;
      }
      if (pieces === undefined) continue;
      const piece = pieces.begun.step(100);
      if (!equal(piece, pieces.expected.subarray(pieces.at, pieces.at + piece.length)))
        throw new Error(`game ${game}, step ${step}: a piece shows what came later, or was undone`);
      pieces.at += piece.length;
      if (pieces.at < pieces.expected.length) continue;
      pieces = undefined;
      seen.pieces++;
    }
    if (!equal(machine.snapshot(), twinAt(log.length).snapshot())) throw new Error(`game ${game}: another end`);
  }
  t.comment(JSON.stringify(seen));
  return seen;
}

function happened(t: Test, seen: Record<string, number>): void {
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
}

t.test('undoing is restoring and applying again', (t) => {
  const { undone, full, pieces } = play(t, 0, anOperation);
  happened(t, { undone, full, pieces });
  t.end();
});

t.test('the same at level 1: revisions, times, ends and leases', (t) => {
  happened(t, play(t, 1, aStoreOperation));
  t.end();
});

t.test('it does not go back behind the entry that raised the level', (t) => {
  const machine = new KvMachine();
  const twin = new KvMachine();
  const put = (to: KvMachine, index: number): number =>
    apply(
      to,
      encoded((b, o) => encodePut(b, o, utf8('a'), utf8(`${index}`))),
      index,
      index,
    );
  machine.committedTo(0);
  for (const index of [1, 2, 3]) {
    put(machine, index);
    put(twin, index);
  }
  machine.raise(1);
  twin.raise(1);
  // Entry 4 raised it.
  for (const index of [5, 6]) put(machine, index);
  const before = machine.snapshot();
  t.notOk(machine.undoTo(2));
  t.ok(equal(machine.snapshot(), before), 'nothing is changed');
  t.ok(machine.undoTo(4));
  t.ok(equal(machine.snapshot(), twin.snapshot()));
  t.end();
});

t.test('thousands of keys and leases that end at one instant are there again', (t) => {
  const machine = new KvMachine();
  machine.raise(1);
  machine.committedTo(0);
  const many = 2000;
  for (let index = 1; index <= many; index++) {
    apply(
      machine,
      encoded((b, o) => encodeWrite(b, o, utf8(`key ${index}`), utf8('x'), { ttl: 1000 }, undefined)),
      index,
      1,
    );
    apply(
      machine,
      encoded((b, o) => encodeGrant(b, o, 1000)),
      index,
      1,
    );
  }
  machine.committedTo(many);
  const before = machine.snapshot();
  for (let index = many + 1; index <= many + 500; index++)
    apply(
      machine,
      encoded((b, o) => encodeTick(b, o)),
      index,
      2000,
    );
  t.equal(machine.keyCount, 0, 'all are removed, 16 an operation');
  t.ok(machine.undoTo(many));
  t.equal(machine.keyCount, many);
  t.ok(equal(machine.snapshot(), before));
  t.end();
});

for (const level of [0, 1])
  t.test(`what it keeps to undo at level ${level} is bounded: beyond that it says so, and changes nothing`, (t) => {
    const machine = new KvMachine();
    machine.raise(level);
    machine.committedTo(0);
    const value = new Uint8Array(32 * 1024);
    const put = (index: number): number =>
      apply(
        machine,
        encoded((b, o) => encodePut(b, o, utf8(`key ${index % 10}`), value.fill(index))),
        index,
      );
    for (let index = 1; index <= 1000; index++) put(index);
    const before = machine.snapshot();
    t.notOk(machine.undoTo(0), '1,000 values of 32 KiB are too much');
    t.ok(equal(machine.snapshot(), before));
    t.ok(machine.undoTo(900), 'the last ones are known');
    const twin = new KvMachine();
    twin.raise(level);
    for (let index = 1; index <= 900; index++)
      apply(
        twin,
        encoded((b, o) => encodePut(b, o, utf8(`key ${index % 10}`), value.fill(index))),
        index,
      );
    t.ok(equal(machine.snapshot(), twin.snapshot()));
    t.end();
  });

t.test('without being told what is committed it keeps nothing', (t) => {
  const machine = new KvMachine();
  const bytes = encoded((b, o) => encodePut(b, o, utf8('a'), utf8('b')));
  apply(machine, bytes, 1);
  machine.committedTo(1);
  apply(
    machine,
    encoded((b, o) => encodePut(b, o, utf8('a'), utf8('c'))),
    2,
  );
  t.ok(machine.undoTo(1));
  const twin = new KvMachine();
  apply(twin, bytes, 1);
  t.ok(equal(machine.snapshot(), twin.snapshot()));
  t.end();
});
