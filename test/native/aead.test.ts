/** AES-128-GCM in both implementations: published vectors, the same bytes from both, and what they refuse. */
import { spawnSync } from 'node:child_process';
import { createCipheriv, randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { familySync, MUSL } from 'detect-libc';
import t, { type Test } from 'tap';
import { AeadField, native, type AeadTable, type NativeBinding } from '../../src/native/addon.js';
import { AEAD_KEY_BYTES, openCiphers, type AeadFrame, type StreamCipher } from '../../src/native/aead.js';

const WITHOUT_ADDON: NativeBinding = { available: false, addon: null, reason: 'it is left out by a test' };
const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/**
 * From the submission of GCM to NIST (McGrew and Viega, 2005, appendix B), those for AES-128 with nonces of 96 bits;
 * the library of NIST's CAVP has the same and more.
 */
const VECTORS = [
  {
    name: 'case 1',
    key: '00000000000000000000000000000000',
    nonce: '000000000000000000000000',
    clear: '',
    plain: '',
    sealed: '',
    tag: '58e2fccefa7e3061367f1d57a4e7455a',
  },
  {
    name: 'case 2',
    key: '00000000000000000000000000000000',
    nonce: '000000000000000000000000',
    clear: '',
    plain: '00000000000000000000000000000000',
    sealed: '0388dace60b6a392f328c2b971b2fe78',
    tag: 'ab6e47d42cec13bdf53a67b21257bddf',
  },
  {
    name: 'case 3',
    key: 'feffe9928665731c6d6a8f9467308308',
    nonce: 'cafebabefacedbaddecaf888',
    clear: '',
    plain:
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255',
    sealed:
      '42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985',
    tag: '4d5c2af327cd64a62cf35abd2ba6fab4',
  },
  {
    name: 'case 4',
    key: 'feffe9928665731c6d6a8f9467308308',
    nonce: 'cafebabefacedbaddecaf888',
    clear: 'feedfacedeadbeeffeedfacedeadbeefabaddad2',
    plain:
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    sealed:
      '42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091',
    tag: '5bc94fbc3221a5db94fae95ae7121a47',
  },
] as const;

/** The clear bytes in two parts, the nonce and the tag around them. */
function frameOf(clearBytes: number): AeadFrame {
  const headBytes = Math.ceil(clearBytes / 2);
  const tailBytes = clearBytes - headBytes;
  const nonceAt = headBytes;
  const tagAt = nonceAt + 12;
  const tailAt = tagAt + 16;
  return { nonceAt, nonceBytes: 12, tagAt, headBytes, tailAt, tailBytes, bodyAt: tailAt + tailBytes };
}

function datagramOf(frame: AeadFrame, clear: Buffer, nonce: Buffer, tag: Buffer, body: Buffer): Buffer {
  return Buffer.concat([clear.subarray(0, frame.headBytes), nonce, tag, clear.subarray(frame.headBytes), body]);
}

/** As a datagram of the wire: 8 bytes of nonce within what is authenticated. */
const FRAME: AeadFrame = { nonceAt: 7, nonceBytes: 8, tagAt: 25, headBytes: 25, tailAt: 59, tailBytes: 3, bodyAt: 62 };
const PACKED = Uint8Array.of(7, 8, 25, 25, 59, 3, 62);

function behaves(t: Test, binding: NativeBinding): void {
  const open = (frame: AeadFrame, seals: boolean, key: Uint8Array): StreamCipher => {
    const cipher = openCiphers(frame, undefined, binding).cipher(seals);
    cipher.setKey(key);
    return cipher;
  };

  for (const { name, key, nonce, clear, plain, sealed, tag } of VECTORS) {
    const frame = frameOf(clear.length / 2);
    const before = datagramOf(frame, hex(clear), hex(nonce), Buffer.alloc(16), hex(plain));
    const after = datagramOf(frame, hex(clear), hex(nonce), hex(tag), hex(sealed));
    const bytes = Buffer.from(before);
    open(frame, true, hex(key)).seal(bytes, 0, bytes.length);
    t.equal(bytes.toString('hex'), after.toString('hex'), `${name}: sealed`);
    t.equal(open(frame, false, hex(key)).open(bytes, 0, bytes.length), true, `${name}: opened`);
    t.equal(bytes.toString('hex', frame.bodyAt), plain, `${name}: as it was`);
  }

  const keys = [randomBytes(AEAD_KEY_BYTES), randomBytes(AEAD_KEY_BYTES)];
  const sealers = keys.map((key) => open(FRAME, true, key));
  const openers = keys.map((key) => open(FRAME, false, key));
  let counter = 0;
  const drawn = (body: number): Buffer => {
    const bytes = randomBytes(FRAME.bodyAt + body);
    bytes.writeBigUInt64BE(BigInt(++counter), FRAME.nonceAt);
    return bytes;
  };
  for (const body of [0, 1, 15, 16, 17, 449, 450, 451, 1_370, 59_938]) {
    const before = drawn(body);
    const at = randomInt(0, 9);
    const bytes = Buffer.alloc(at + before.length + 5, 0xee);
    bytes.set(before, at);
    const which = body % 2;
    sealers[which]!.seal(bytes, at, before.length);
    const cipher = createCipheriv(
      'aes-128-gcm',
      keys[which]!,
      Buffer.concat([Buffer.alloc(4), before.subarray(7, 15)]),
      { authTagLength: 16 },
    );
    cipher.setAAD(Buffer.concat([before.subarray(0, 25), before.subarray(59, 62)]));
    const expected = Buffer.from(before);
    expected.set(cipher.update(before.subarray(62)), 62);
    cipher.final();
    expected.set(cipher.getAuthTag(), 25);
    t.equal(bytes.toString('hex', at, at + before.length), expected.toString('hex'), `${body} bytes: as node:crypto`);
    t.ok(
      [...bytes.subarray(0, at), ...bytes.subarray(at + before.length)].every((byte) => byte === 0xee),
      'nothing else was written',
    );
    const elsewhere = Buffer.from(expected);
    t.equal(openers[1 - which]!.open(elsewhere, 0, elsewhere.length), false, 'another key opens nothing');
    t.equal(openers[which]!.open(bytes, at, before.length), true);
    t.equal(bytes.toString('hex', at + 62, at + before.length), before.toString('hex', 62), 'opened again');
  }

  // Each bit that is authenticated: a change is noticed, and the next good datagram opens all the same.
  const good = drawn(40);
  const plain = good.toString('hex', 62);
  sealers[0]!.seal(good, 0, good.length);
  for (let at = 0; at < good.length; at++) {
    const changed = Buffer.from(good);
    changed[at]! ^= 1 << randomInt(8);
    const isSalt = at >= 41 && at < 59; // in clear and no part of the cipher's input: it chooses the key
    t.equal(openers[0]!.open(changed, 0, changed.length), isSalt, `byte ${at} changed`);
    const again = Buffer.from(good);
    if (!openers[0]!.open(again, 0, again.length) || again.toString('hex', 62) !== plain)
      t.fail(`a good datagram after the one whose byte ${at} was changed`);
  }
  const shorter = Buffer.from(good);
  t.equal(openers[0]!.open(shorter, 0, shorter.length - 1), false, 'cut off');

  const kept = drawn(10);
  const underFirst = Buffer.from(kept);
  sealers[0]!.seal(underFirst, 0, underFirst.length);
  sealers[0]!.setKey(keys[1]!);
  const underSecond = Buffer.from(kept);
  sealers[0]!.seal(underSecond, 0, underSecond.length);
  t.equal(openers[1]!.open(underSecond, 0, underSecond.length), true, 'another key: nothing is left of the one before');

  const wiped = Buffer.from(keys[1]!);
  const copied = open(FRAME, true, wiped);
  wiped.fill(0);
  const underCopy = drawn(3);
  copied.seal(underCopy, 0, underCopy.length);
  t.equal(openers[1]!.open(underCopy, 0, underCopy.length), true, 'the key is copied: who gave it may wipe it');

  const bytes = drawn(20);
  const untouched = bytes.toString('hex');
  const refuses = (code: string, call: () => void): void =>
    void t.throws(call, { code, category: 'caller', retryable: false });
  refuses('out-of-bounds', () => copied.seal(bytes, 1, bytes.length));
  refuses('out-of-bounds', () => copied.seal(bytes, -1, 62));
  refuses('out-of-bounds', () => copied.seal(bytes, 0, NaN));
  refuses('out-of-bounds', () => copied.seal(bytes, 0, 61));
  refuses('invalid-argument', () => copied.seal('abc' as never, 0, 62));
  refuses('invalid-argument', () => copied.open(bytes, 0, bytes.length));
  refuses('invalid-argument', () => openers[0]!.seal(bytes, 0, bytes.length));
  refuses('invalid-argument', () => copied.setKey(new Uint8Array(15)));
  refuses('invalid-argument', () => copied.setKey('k'.repeat(16) as never));
  refuses('invalid-argument', () => openCiphers(FRAME, undefined, binding).cipher(true).seal(bytes, 0, bytes.length));
  copied.forget();
  copied.forget();
  refuses('invalid-argument', () => copied.seal(bytes, 0, bytes.length));
  t.equal(bytes.toString('hex'), untouched, 'nothing was written');
  copied.setKey(keys[1]!);
  copied.seal(bytes, 0, bytes.length);
  t.equal(openers[1]!.open(bytes, 0, bytes.length), true, 'a forgotten key may be followed by another');
}

t.test('without the addon', async (t) => behaves(t, WITHOUT_ADDON));
t.test('with the addon', { skip: native.available ? false : native.reason }, async (t) => {
  behaves(t, native);
  const { addon } = native as Extract<NativeBinding, { available: true }>;
  const refuses = (call: () => void): void => void t.throws(call, { code: 'invalid-argument' });
  refuses(() => addon.aeadTable(Uint8Array.of(7, 8, 25, 25, 59, 3), true));
  refuses(() => addon.aeadTable(Uint8Array.of(7, 13, 25, 25, 59, 3, 62), true));
  refuses(() => addon.aeadTable(Uint8Array.of(7, 8, 47, 25, 59, 3, 62), true));
  refuses(() => addon.aeadTable(Uint8Array.of(7, 8, 25, 62, 59, 3, 62), true));
  refuses(() => addon.aeadTable(PACKED, 1 as never));
  refuses(() => addon.aeadTable(PACKED, true, new Uint8Array(100)));
  refuses(() => addon.aeadTable(PACKED, true, addon.hashArena(100).bytes.subarray(1)));
  refuses(() => addon.aeadTable(PACKED, true, 'memory' as never));

  // A slot belongs to a stream from its first key until it is forgotten, and then to another one.
  const { setKey, forget, run } = addon.aeadTable(PACKED, true);
  const datagram = new Uint8Array(80);
  const first = setKey(-1, new Uint8Array(AEAD_KEY_BYTES));
  const second = setKey(-1, new Uint8Array(AEAD_KEY_BYTES));
  t.not(first, second);
  t.equal(setKey(first, randomBytes(AEAD_KEY_BYTES)), first, 'another key, the same slot');
  for (const slot of [2, -1, -2, 0.5, NaN, 2 ** 32, '0' as never]) refuses(() => run(slot, datagram, 0, 80));
  forget(first);
  refuses(() => run(first, datagram, 0, 80));
  refuses(() => forget(first));
  refuses(() => setKey(first, new Uint8Array(AEAD_KEY_BYTES)));
  t.equal(run(second, datagram, 0, 80), true);
  t.equal(setKey(-1, new Uint8Array(AEAD_KEY_BYTES)), first, 'the context is used again');
  for (let open = 2; open < 8192; open++) setKey(-1, new Uint8Array(AEAD_KEY_BYTES));
  t.throws(() => setKey(-1, new Uint8Array(AEAD_KEY_BYTES)), { code: 'aead-limit' });
  forget(second);
  t.equal(setKey(-1, new Uint8Array(AEAD_KEY_BYTES)), second);
});

t.test("in the addon's memory", { skip: native.available ? false : native.reason }, async (t) => {
  const { addon } = native as Extract<NativeBinding, { available: true }>;
  const key = randomBytes(AEAD_KEY_BYTES);
  const cipherIn = (memory: Uint8Array | undefined, seals: boolean, binding: NativeBinding = native): StreamCipher => {
    const where = memory === undefined ? undefined : { received: memory, transmit: memory };
    const cipher = openCiphers(FRAME, where, binding).cipher(seals);
    cipher.setKey(key);
    return cipher;
  };
  const memory = addon.hashArena(70_000).bytes;
  const sealer = cipherIn(memory, true);
  const opener = cipherIn(memory, false);
  const reference = cipherIn(undefined, true, WITHOUT_ADDON);
  let counter = 0;
  for (const body of [0, 1, 15, 16, 17, 449, 1_370, 59_938]) {
    const plain = randomBytes(FRAME.bodyAt + body);
    plain.writeBigUInt64BE(BigInt(++counter), FRAME.nonceAt);
    const at = randomInt(1, 9);
    memory.fill(0xee);
    memory.set(plain, at);
    sealer.seal(memory, at, plain.length);
    const sealed = Buffer.from(memory.subarray(at, at + plain.length));
    const expected = Buffer.from(plain);
    reference.seal(expected, 0, expected.length);
    t.equal(sealed.toString('hex'), expected.toString('hex'), `${body} bytes: as without the addon`);
    memory[at + 30]! ^= 1;
    t.equal(opener.open(memory, at, plain.length), false, 'another tag');
    memory.set(sealed, at);
    t.equal(opener.open(memory, at, plain.length), true);
    t.equal(
      Buffer.from(memory.subarray(at + 62, at + plain.length)).toString('hex'),
      plain.toString('hex', 62),
      'opened again',
    );
    const around = [...memory.subarray(0, at), ...memory.subarray(at + plain.length)];
    t.ok(
      around.every((byte) => byte === 0xee),
      'nothing else was written',
    );
    // The same stream elsewhere.
    t.equal(opener.open(sealed, 0, sealed.length), true);
  }

  const refuses = (code: string, call: () => void): void =>
    void t.throws(call, { code, category: 'caller', retryable: false });
  const before = Buffer.from(memory);
  refuses('out-of-bounds', () => sealer.seal(memory, -1, 100));
  refuses('out-of-bounds', () => sealer.seal(memory, 0, 61));
  refuses('out-of-bounds', () => sealer.seal(memory, 0, -1));
  refuses('out-of-bounds', () => sealer.seal(memory, 1, memory.length));
  refuses('out-of-bounds', () => sealer.seal(memory, memory.length + 1, 100));
  refuses('out-of-bounds', () => opener.open(memory, 69_950, 62));
  refuses('invalid-argument', () => sealer.open(memory, 0, 100));
  refuses('invalid-argument', () => opener.seal(memory, 0, 100));
  sealer.forget();
  refuses('invalid-argument', () => sealer.seal(memory, 0, 100));
  t.ok(before.equals(memory), 'nothing was written');
  const { fields, runInMemory } = addon.aeadTable(PACKED, true);
  fields.set([0, 0, 100]);
  refuses('invalid-argument', runInMemory);
  fields.set([-1, 0, 100]);
  refuses('invalid-argument', runInMemory);

  // The memory stays while a table works in it, also if JavaScript holds no array of it any more.
  const alone = (): AeadTable => addon.aeadTable(PACKED, false, addon.hashArena(1 << 20).bytes);
  const table = alone();
  table.fields.set([table.setKey(-1, key), 1000, 100_000]);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve)); // finalizers run
  }
  table.runInMemory();
  t.equal(table.fields[AeadField.intact], 0, 'zeros are not authentic');
});

const compiler = ['cc', 'gcc', 'clang'].find((command) => spawnSync(command, ['--version']).status === 0);
const whyNotCounted =
  (!native.available && native.reason) ||
  (compiler === undefined && 'no C compiler (cc, gcc, clang) to build test/native/counting-malloc.c with') ||
  (familySync() === MUSL && 'test/native/counting-malloc.c needs glibc') ||
  (process.env['ASAN_OPTIONS'] !== undefined && 'AddressSanitizer takes the place of malloc itself');

t.test('no datagram costs an allocation, on the heap of C or elsewhere', { skip: whyNotCounted }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-counting-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const library = join(directory, 'counting-malloc.so');
  const source = fileURLToPath(new URL('../../../test/native/counting-malloc.c', import.meta.url));
  const flags = ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-fno-builtin'];
  const compiled = spawnSync(compiler!, [...flags, '-o', library, source], { encoding: 'utf8' });
  t.equal(compiled.status, 0, compiled.stderr);
  const program = fileURLToPath(new URL('./aead-program.js', import.meta.url));
  const env: NodeJS.ProcessEnv = { ...process.env, LD_PRELOAD: library };
  delete env['NODE_TEST_CONTEXT'];
  const run = spawnSync(process.execPath, ['--expose-gc', program], { env, encoding: 'utf8', timeout: 300_000 });
  t.equal(run.status, 0, run.stderr);
  const { hmacOpen, ...made } = JSON.parse(run.stdout) as Record<string, number>;
  t.ok(hmacOpen! >= 1, 'the count sees allocations');
  // V8 itself allocates now and then, for what it compiles meanwhile.
  for (const [name, each] of Object.entries(made)) t.ok(each < 0.05, `${name}: ${each} allocations a call`);
});
