/** XXH3-64 in both implementations, against xxhash-addon and the reference digests, and what they refuse. */

import { randomInt } from 'node:crypto';
import { createRequire } from 'node:module';
import t, { type Test } from 'tap';
import { native, type NativeBinding } from '../../src/native/addon.js';
import { beginHash64, loadHash, type Hash64 } from '../../src/native/hash64.js';

const WITHOUT_ADDON: NativeBinding = { available: false, addon: null, reason: 'it is left out by a test' };
const skip = native.available ? false : native.reason;

const { XXHash3 } = createRequire(import.meta.url)('xxhash-addon') as { XXHash3: { hash(data: Buffer): Buffer } };

const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? randomInt(1, 2 ** 31));
t.comment(`seed ${seed}; replay with JITPAXOS_TEST_SEED=${seed} node dist/test/native/hash64.test.js`);

/** xorshift32. */
function randomness(seed: number): (below: number) => number {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function digestOf(hash: Hash64, bytes: Uint8Array, offset = 0, length = bytes.length - offset): string {
  const out = Buffer.alloc(8);
  hash.hash64(bytes, offset, length, out, 0);
  return out.toString('hex');
}

function behaves(t: Test, hash: Hash64): void {
  const random = randomness(seed);
  const fill = (bytes: Buffer): Buffer => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = random(256);
    return bytes;
  };

  // Published: XXH3_64bits of nothing, seed 0 (xxHash, tests/sanity_test_vectors.h).
  t.equal(digestOf(hash, new Uint8Array(0)), '2d06800538d394c2');

  // All of XXH3's ways (0, 1–3, 4–8, 9–16, 17–128, 129–240, above, several stripes and blocks), at every alignment.
  const lengths = [...Array(301).keys(), 511, 512, 513, 1_023, 1_024, 1_025, 1_432, 4_096, 60_000, 262_145];
  for (const length of lengths) {
    const offset = random(17);
    const bytes = fill(Buffer.alloc(offset + length + random(5)));
    const expected = XXHash3.hash(Buffer.from(bytes.subarray(offset, offset + length))).toString('hex');
    const digest = digestOf(hash, bytes, offset, length);
    if (digest !== expected) t.fail(`length ${length} at ${offset}: ${digest}, not ${expected} (seed ${seed})`);
  }
  t.pass(`${lengths.length} lengths`);

  const bytes = fill(Buffer.alloc(64));
  const expected = XXHash3.hash(Buffer.from(bytes.subarray(8, 56)));
  const before = Buffer.from(bytes);
  hash.hash64(bytes, 8, 48, bytes, 20);
  t.same(bytes.subarray(20, 28), expected, 'into the hashed bytes themselves');
  t.same(bytes.subarray(0, 20), before.subarray(0, 20));
  t.same(bytes.subarray(28), before.subarray(28));

  const whole = fill(Buffer.alloc(40));
  const view = new Uint8Array(whole.buffer, whole.byteOffset + 5, 20);
  t.equal(
    digestOf(hash, view, 3, 10),
    XXHash3.hash(Buffer.from(whole.subarray(8, 18))).toString('hex'),
    'a view counts from its own start',
  );

  const out = Buffer.alloc(12, 0xaa);
  hash.hash64(view, 20, 0, out, 4);
  t.equal(out.toString('hex'), 'aaaaaaaa2d06800538d394c2', 'nothing, at the very end, into the last 8 bytes');

  const refused = (name: string, code: string, ...args: unknown[]): void => {
    const call = (): unknown => (hash.hash64 as (...args: unknown[]) => void)(...args);
    t.throws(
      call,
      { name, code, category: 'caller', retryable: false },
      `(${args.map((arg) => (arg instanceof Uint8Array ? `${arg.length} bytes` : String(arg))).join(', ')})`,
    );
  };
  const ten = new Uint8Array(10);
  const eight = Buffer.alloc(8);
  for (const [offset, length] of [
    [0, 11],
    [11, 0],
    [10, 1],
    [5, 6],
    [-1, 2],
    [0, -1],
    [NaN, 1],
    [0, NaN],
    [0.5, 1],
    [0, 1.5],
    [2 ** 32, 1],
    [1, 2 ** 32],
    [2 ** 53, 0],
    [Infinity, 0],
    [-(2 ** 31), 2 ** 31],
    [2 ** 64, 1],
    ['0', 1],
    [undefined, 1],
    [0, 1n],
  ]) {
    refused('RangeError', 'out-of-bounds', ten, offset, length, eight, 0);
  }
  for (const outOffset of [1, 8, -1, NaN, 0.5, 2 ** 32, 2 ** 53, undefined])
    refused('RangeError', 'out-of-bounds', ten, 0, 10, eight, outOffset);
  refused('RangeError', 'out-of-bounds', ten, 0, 10, new Uint8Array(7), 0);
  t.same(eight, Buffer.alloc(8), 'what is refused writes nothing');
  for (const wrong of [
    undefined,
    null,
    'text',
    [1, 2],
    {},
    new ArrayBuffer(10),
    new DataView(new ArrayBuffer(10)),
    new Int32Array(10),
    new Uint8ClampedArray(10),
  ]) {
    refused('TypeError', 'invalid-argument', wrong, 0, 1, eight, 0);
    refused('TypeError', 'invalid-argument', ten, 0, 1, wrong, 0);
  }
  refused('TypeError', 'invalid-argument');

  const detached = new Uint8Array(16);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  refused('RangeError', 'out-of-bounds', detached, 0, 16, eight, 0);
  refused('RangeError', 'out-of-bounds', ten, 0, 1, detached, 0);
}

t.test('with the addon', { skip }, (t) => {
  t.equal(loadHash(), native.addon, 'it is chosen where it is there');
  behaves(t, loadHash());
  t.end();
});

t.test('without the addon', (t) => {
  t.not(loadHash(WITHOUT_ADDON), native.addon);
  behaves(t, loadHash(WITHOUT_ADDON));
  t.end();
});

t.test('both agree', { skip }, (t) => {
  const random = randomness(seed + 1);
  const [fast, slow] = [loadHash(), loadHash(WITHOUT_ADDON)];
  for (let i = 0; i < 2_000; i++) {
    const bytes = Buffer.from(Array.from({ length: random(400) }, () => random(256)));
    const offset = random(bytes.length + 1);
    const length = random(bytes.length - offset + 1);
    const [a, b] = [digestOf(fast, bytes, offset, length), digestOf(slow, bytes, offset, length)];
    if (a !== b) t.fail(`${bytes.toString('hex')} from ${offset}, ${length} bytes: ${a} and ${b} (seed ${seed})`);
  }
  t.pass('2,000 random ranges');
  t.end();
});

t.test('an arena hashes its ranges as hash64 does', { skip }, (t) => {
  const random = randomness(seed);
  const hash = loadHash();
  const arena = hash.hashArena!(5_000);
  t.equal(arena.bytes.length, 5_000);
  for (let i = 0; i < arena.bytes.length; i++) arena.bytes[i] = random(256);
  for (let round = 0; round < 500; round++) {
    const offset = random(5_001);
    const length = random(5_001 - offset);
    arena.fields.set([offset, length]);
    arena.hash();
    const digest = Buffer.from(arena.fields.slice(2).buffer).swap32().toString('hex');
    if (digest !== digestOf(hash, arena.bytes, offset, length)) t.fail(`${length} bytes from ${offset} on`);
  }
  for (const range of [
    [0, 5_001],
    [5_001, 0],
    [-1, 1],
    [1, -1],
    [0x7fffffff, 0x7fffffff],
  ]) {
    arena.fields.set(range);
    t.throws(() => arena.hash(), { code: 'out-of-bounds' }, `${range}`);
  }
  for (const length of [0, -1, 1.5, 2 ** 31, '7' as never])
    t.throws(() => hash.hashArena!(length), { code: 'out-of-bounds' }, `hashArena(${length})`);

  t.notOk(loadHash(WITHOUT_ADDON).hashArena, 'the one without the addon has none');
  t.end();
});

t.test('bytes that come in parts have the hash of the whole', (t) => {
  const random = randomness(seed);
  const bytes = Uint8Array.from({ length: 5000 }, () => random(256));
  for (let round = 0; round < 100; round++) {
    const start = random(100);
    const end = start + random(bytes.length - start);
    const inParts = beginHash64()!;
    for (let at = start; at < end; ) {
      const length = Math.min(end - at, 1 + random(2000));
      inParts.update(bytes, at, length);
      at += length;
    }
    const out = Buffer.alloc(10, 0xaa);
    inParts.digest(out, 1);
    t.equal(out.toString('hex'), `aa${digestOf(loadHash(), bytes, start, end - start)}aa`);
  }
  t.end();
});
