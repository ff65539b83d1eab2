/**
 * The key-value machine undoes: the same as restoring an earlier snapshot and applying again what stays. Replay a random
 * failure with SEED=n.
 */
import t from 'tap';
import {
  encodeCas,
  encodeDelete,
  encodeIncrement,
  encodePut,
  KV_OPERATION_BYTES_MAX,
} from '../../src/machine/kv-codec.js';
import { STATUS_FULL } from '../../src/machine/kv-layout.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { SnapshotInPieces } from '../../src/machine/state-machine.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
t.comment(`SEED=${SEED} replays the random operations`);

function randomFrom(seed: number): (n: number) => number {
  let state = seed | 0;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) % n;
  };
}

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(Buffer.from(b));

const reply = { bytes: new Uint8Array(60_000), offset: 0, capacity: 60_000, length: 0 };
const scratch = new Uint8Array(KV_OPERATION_BYTES_MAX);

function encoded(encode: (target: Uint8Array, offset: number) => number): Uint8Array {
  return scratch.slice(0, encode(scratch, 0));
}

/** Returns the status. */
function apply(machine: KvMachine, bytes: Uint8Array, index: number): number {
  reply.offset = reply.length = 0;
  machine.apply({ bytes, offset: 0, length: bytes.length }, { timestampHi: 0, timestampLo: 0, index }, reply);
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

t.test('undoing is restoring and applying again', (t) => {
  const seen = { undone: 0, full: 0, pieces: 0 };
  for (let game = 0; game < 6; game++) {
    const random = randomFrom(SEED + game);
    const keys = [30, 300, 3000][game % 3]!;
    // Of two games one meets the limits.
    const options = game % 2 === 0 ? {} : { maxKeys: keys / 2, maxBytes: 40_000 };
    const machine = new KvMachine(options);
    let index = 0;
    let committed = 0;
    machine.committedTo(0);
    let base = machine.snapshot();
    /** Of entries behind `committed`. */
    let log: Uint8Array[] = [];
    let pieces: { begun: SnapshotInPieces; expected: Uint8Array; at: number; index: number } | undefined;
    for (let step = 0; step < 6000; step++) {
      const kind = random(200);
      if (kind < 185) {
        const operation = anOperation(random, keys);
        log.push(operation);
        if (apply(machine, operation, ++index) === STATUS_FULL) seen.full++;
      } else if (kind < 193) {
        const count = random(log.length + 1);
        const twin = new KvMachine(options);
        twin.restore(base);
        for (const operation of log.slice(0, count)) apply(twin, operation, ++committed);
        base = twin.snapshot();
        log = log.slice(count);
        machine.committedTo(committed);
      } else if (kind < 197) {
        const count = random(log.length + 1);
        const twin = new KvMachine(options);
        twin.restore(base);
        log.length = count;
        for (const operation of log) apply(twin, operation, 1);
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
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});

t.test('what it keeps to undo is bounded: beyond that it says so, and changes nothing', (t) => {
  const machine = new KvMachine();
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
