/** SipHash-2-4 in both implementations, against the paper's vectors and each other, and what they refuse. */

import { randomInt } from 'node:crypto';
import t, { type Test } from 'tap';
import { native, type NativeBinding } from '../../src/native/addon.js';
import { loadSipHash } from '../../src/native/siphash.js';
import type { Hash64 } from '../../src/native/hash64.js';

const WITHOUT_ADDON: NativeBinding = { available: false, addon: null, reason: 'it is left out by a test' };
const skip = native.available ? false : native.reason;

const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? randomInt(1, 2 ** 31));
t.comment(`seed ${seed}; replay with JITPAXOS_TEST_SEED=${seed} node dist/test/native/siphash.test.js`);

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

const SECRET = Uint8Array.from({ length: 16 }, (_, i) => i);

/**
 * Of the messages of 0 to 63 bytes 00, 01, 02 … under the secret 00 01 … 0f: the reference implementation's
 * vectors_sip64, which belong to the paper (https://github.com/veorq/SipHash, vectors.h), as bytes, least significant
 * first.
 */
const VECTORS = `
310e0edd47db6f72 fd67dc93c539f874 5a4fa9d909806c0d 2d7efbd796666785 b7877127e09427cf 8da699cd64557618 cee3fe586e46c9cb 37d1018bf50002ab
6224939a79f5f593 b0e4a90bdf82009e f3b9dd94c5bb5d7a a7ad6b22462fb3f4 fbe50e86bc8f1e75 903d84c02756ea14 eef27a8e90ca23f7 e545be4961ca29a1
db9bc2577fcc2a3f 9447be2cf5e99a69 9cd38d96f0b3c14b bd6179a71dc96dbb 98eea21af25cd6be c7673b2eb0cbf2d0 883ea3e395675393 c8ce5ccd8c030ca8
94af49f6c650adb8 eab8858ade92e1bc f315bb5bb835d817 adcf6b0763612e2f a5c91da7acaa4dde 716595876650a2a6 28ef495c53a387ad 42c341d8fa92d832
ce7cf2722f512771 e37859f94623f3a7 381205bb1ab0e012 ae97a10fd434e015 b4a31508beff4d31 81396229f0907902 4d0cf49ee5d4dcca 5c73336a76d8bf9a
d0a704536ba93e0e 925958fcd6420cad a915c29bc8067318 952b79f3bc0aa6d4 f21df2e41d4535f9 87577519048f53a9 10a56cf5dfcd9adb eb75095ccd986cd0
51a9cb9ecba312e6 96afadfc2ce666c7 72fe52975a4364ee 5a1645b276d592a1 b274cb8ebf87870a 6f9bb4203de7b381 eaecb2a30b22a87f 9924a43cc1315724
bd838d3aafbf8db7 0b1a2a3265d51aea 135079a3231ce660 932b2846e4d70666 e1915f5cb1eca46c f325965ca16d629f 575ff28e60381be5 724506eb4c328a95
`
  .trim()
  .split(/\s+/);

/** The paper's text as it stands, in big integers: an oracle for what the vectors leave out. */
function oracle(secret: Uint8Array, message: Uint8Array): string {
  const mask = (1n << 64n) - 1n;
  const word = (bytes: Uint8Array, at: number): bigint => Buffer.from(bytes).readBigUInt64LE(at);
  const rotate = (x: bigint, bits: bigint): bigint => ((x << bits) | (x >> (64n - bits))) & mask;
  const [k0, k1] = [word(secret, 0), word(secret, 8)];
  let [v0, v1, v2, v3] = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  const round = (): void => {
    [v0, v2] = [(v0 + v1) & mask, (v2 + v3) & mask];
    [v1, v3] = [rotate(v1, 13n) ^ v0, rotate(v3, 16n) ^ v2];
    v0 = rotate(v0, 32n);
    [v2, v0] = [(v2 + v1) & mask, (v0 + v3) & mask];
    [v1, v3] = [rotate(v1, 17n) ^ v2, rotate(v3, 21n) ^ v0];
    v2 = rotate(v2, 32n);
  };
  const padded = new Uint8Array((message.length & ~7) + 8);
  padded.set(message);
  padded[padded.length - 1] = message.length;
  for (let at = 0; at < padded.length; at += 8) {
    v3 ^= word(padded, at);
    round();
    round();
    v0 ^= word(padded, at);
  }
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  return (v0 ^ v1 ^ v2 ^ v3).toString(16).padStart(16, '0');
}

function behaves(t: Test, load: (secret: Uint8Array) => Hash64): void {
  const random = randomness(seed);
  const fill = <T extends Uint8Array>(bytes: T): T => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = random(256);
    return bytes;
  };
  const paper = load(SECRET);
  t.equal(
    digestOf(
      paper,
      Uint8Array.from({ length: 15 }, (_, i) => i),
    ),
    'a129ca6149be45e5',
    "the paper's own, appendix A",
  );
  t.same(
    VECTORS.map((_, length) =>
      Buffer.from(
        digestOf(
          paper,
          Uint8Array.from({ length }, (_, i) => i),
        ),
        'hex',
      )
        .reverse()
        .toString('hex'),
    ),
    VECTORS,
    'its 64 vectors',
  );

  const lengths = [...Array(301).keys(), 511, 512, 513, 1_432, 4_096];
  for (const length of lengths) {
    const secret = fill(new Uint8Array(16));
    const offset = random(17);
    const bytes = fill(Buffer.alloc(offset + length + random(5)));
    const [digest, expected] = [
      digestOf(load(secret), bytes, offset, length),
      oracle(secret, bytes.subarray(offset, offset + length)),
    ];
    if (digest !== expected) t.fail(`length ${length} at ${offset}: ${digest}, not ${expected} (seed ${seed})`);
  }
  t.pass(`${lengths.length} lengths, each under a secret of its own`);

  const secret = fill(new Uint8Array(16));
  const hash = load(secret);
  const bytes = fill(Buffer.alloc(64));
  const expected = oracle(secret, bytes.subarray(8, 56));
  hash.hash64(bytes, 8, 48, bytes, 20);
  t.equal(bytes.subarray(20, 28).toString('hex'), expected, 'into the hashed bytes themselves');
  const before = digestOf(hash, bytes);
  secret.fill(0);
  t.equal(digestOf(hash, bytes), before, 'the secret was copied');

  for (const wrong of [undefined, new Uint8Array(15), new Uint8Array(32), 'a'.repeat(16), new Int8Array(16)])
    t.throws(() => load(wrong as Uint8Array), { name: 'TypeError', code: 'invalid-argument', message: /16 bytes/ });
  const refused = (name: string, code: string, ...args: unknown[]): void => {
    t.throws(
      () => (hash.hash64 as (...args: unknown[]) => void)(...args),
      { name, code, category: 'caller', retryable: false },
      `(${args.map((arg) => (arg instanceof Uint8Array ? `${arg.length} bytes` : String(arg))).join(', ')})`,
    );
  };
  const eight = Buffer.alloc(8);
  for (const [offset, length] of [
    [0, 11],
    [11, 0],
    [-1, 2],
    [0, -1],
    [NaN, 1],
    [0.5, 1],
    [0, 1.5],
    [2 ** 32, 1],
    [1, 2 ** 32],
    [2 ** 53, 0],
    ['0', 1],
    [undefined, 1],
  ])
    refused('RangeError', 'out-of-bounds', new Uint8Array(10), offset, length, eight, 0);
  for (const outOffset of [1, -1, NaN, 0.5, 2 ** 32, undefined])
    refused('RangeError', 'out-of-bounds', new Uint8Array(10), 0, 10, eight, outOffset);
  for (const wrong of [undefined, 'text', [1, 2], new ArrayBuffer(10), new Int32Array(10)]) {
    refused('TypeError', 'invalid-argument', wrong, 0, 1, eight, 0);
    refused('TypeError', 'invalid-argument', new Uint8Array(10), 0, 1, wrong, 0);
  }
  t.same(eight, Buffer.alloc(8), 'what is refused writes nothing');
}

t.test('with the addon', { skip }, (t) => {
  behaves(t, (secret) => loadSipHash(secret));
  t.end();
});

t.test('without the addon', (t) => {
  behaves(t, (secret) => loadSipHash(secret, WITHOUT_ADDON));
  t.end();
});

t.test('an arena hashes its ranges under the secret, in one call without arguments', { skip }, (t) => {
  const random = randomness(seed);
  const secret = Uint8Array.from({ length: 16 }, () => random(256));
  const hash = loadSipHash(secret);
  const arena = hash.hashArena!(5_000);
  for (let i = 0; i < arena.bytes.length; i++) arena.bytes[i] = random(256);
  for (let round = 0; round < 200; round++) {
    const offset = random(5_001);
    const length = random(5_001 - offset);
    arena.fields.set([offset, length]);
    arena.hash();
    const digest = Buffer.from(arena.fields.slice(2).buffer).swap32().toString('hex');
    if (digest !== digestOf(loadSipHash(secret, WITHOUT_ADDON), arena.bytes, offset, length))
      t.fail(`${length} bytes from ${offset} on (seed ${seed})`);
  }
  arena.fields.set([0, 5_001]);
  t.throws(() => arena.hash(), { code: 'out-of-bounds' });
  t.throws(() => native.addon!.hashArena(100, new Uint8Array(15)), { code: 'invalid-argument', message: /16 bytes/ });
  t.notOk(loadSipHash(secret, WITHOUT_ADDON).hashArena, 'the one without the addon has none');
  t.end();
});
