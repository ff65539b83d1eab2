/**
 * A snapshot of the key-value machine at level 1, as the first version with level 1 wrote it, is read by this one, which
 * writes the same.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { encodeIncrement, encodePut } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import {
  decodeStoreResult,
  encodeGrant,
  encodeRead,
  encodeRenew,
  encodeTick,
  encodeWrite,
} from '../../src/machine/store/codec.js';

const golden = new Uint8Array(readFileSync(new URL('../../../test/golden/kvs-2', import.meta.url)));
const BEGAN_MS = 1_700_000_000_000;
const buffer = new Uint8Array(1000);
const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** Applies an operation so many milliseconds after the beginning; returns the result. */
function run(machine: KvMachine, ms: number, encode: (target: Uint8Array) => number): Uint8Array {
  const length = encode(buffer);
  const ns = BigInt(BEGAN_MS + ms) * 1_000_000n;
  const context = {
    timestampHi: Number(BigInt.asIntN(32, ns >> 32n)),
    timestampLo: Number(BigInt.asIntN(32, ns)),
    index: 1,
  };
  const reply = { bytes: new Uint8Array(1000), offset: 0, capacity: 1000, length: 0 };
  machine.apply({ bytes: buffer, offset: 0, length }, context, reply);
  return reply.bytes.slice(0, reply.length);
}

function written(): Uint8Array {
  const machine = new KvMachine();
  run(machine, 0, (b) => encodePut(b, 0, utf8('before'), utf8('level 0')));
  machine.raise(1);
  run(machine, 10, (b) => encodeGrant(b, 0, 5000)); // lease 2
  run(machine, 10, (b) => encodeGrant(b, 0, 100)); // lease 3, which ends
  run(machine, 20, (b) => encodeWrite(b, 0, utf8('leased'), utf8('by 2'), { lease: 2 }));
  run(machine, 20, (b) => encodeWrite(b, 0, utf8('ended'), utf8('with 3'), { lease: 3 }));
  run(machine, 30, (b) => encodeWrite(b, 0, utf8('ending'), utf8('soon'), { ttl: 1000 }));
  run(machine, 40, (b) => encodeWrite(b, 0, utf8('plain'), utf8('')));
  run(machine, 50, (b) => encodeIncrement(b, 0, utf8('counter'), 7));
  run(machine, 200, (b) => encodeRenew(b, 0, [2]));
  return machine.snapshot();
}

t.test('a snapshot of level 1 is read, and written again byte for byte', (t) => {
  t.same(written(), golden, 'the same operations give it');
  const machine = new KvMachine();
  machine.restore(golden);
  t.equal(machine.level, 1);
  t.same(machine.snapshot(), golden);
  const read = (ms: number, key: string): object => {
    const result = run(machine, ms, (b) => encodeRead(b, 0, utf8(key)));
    return decodeStoreResult('read', result, 0, result.length);
  };
  const found = (value: string, revision: number, ends?: number, lease?: number): object => ({
    status: 'ok',
    found: {
      value: utf8(value),
      revision,
      ends: ends === undefined ? undefined : BEGAN_MS + ends,
      lease,
    },
  });
  t.match(read(210, 'before'), found('level 0', 1));
  t.match(read(210, 'leased'), found('by 2', 4, 5200, 2));
  t.match(read(210, 'ended'), { status: 'not-found' });
  t.match(read(210, 'ending'), found('soon', 6, 1030));
  t.match(read(210, 'plain'), found('', 7));
  t.match(read(1030, 'ending'), { status: 'not-found' });
  t.match(read(5199, 'leased'), { status: 'ok' });
  run(machine, 5200, (b) => encodeTick(b, 0));
  t.match(read(5200, 'leased'), { status: 'not-found' });
  t.equal(machine.keyCount, 3, 'before, plain and counter');
  t.end();
});
