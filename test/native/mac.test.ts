/** The MAC in both implementations, against RFC 4231 and node:crypto, and what they refuse. */
import { createHmac, randomBytes, randomInt } from 'node:crypto';
import t, { type Test } from 'tap';
import { native, type NativeBinding } from '../../src/native/addon.js';
import { MAC_BYTES, MAC_KEY_BYTES, openMac, type Mac } from '../../src/native/mac.js';

const WITHOUT_ADDON: NativeBinding = { available: false, addon: null, reason: 'it is left out by a test' };

function behaves(t: Test, binding: NativeBinding): void {
  const open = (key: Uint8Array): Mac => openMac(key, binding);
  const hex = (mac: Mac, bytes: Uint8Array, offset = 0, length = bytes.length - offset): string => {
    const out = Buffer.alloc(MAC_BYTES);
    mac.mac128(bytes, offset, length, out, 0);
    return out.toString('hex');
  };

  // RFC 4231, test case 1, its key of 20 bytes filled up with zeros as HMAC itself does (RFC 2104, section 2).
  const published = open(Buffer.concat([Buffer.alloc(20, 0x0b), Buffer.alloc(12)]));
  t.equal(hex(published, Buffer.from('Hi There')), 'b0344c61d8db38535ca8afceaf0bf12b');
  // Again with the same key: nothing is left of the first computation.
  t.equal(hex(published, Buffer.from('Hi There')), 'b0344c61d8db38535ca8afceaf0bf12b');

  const keys = Array.from({ length: 3 }, () => randomBytes(MAC_KEY_BYTES));
  const macs = keys.map(open);
  for (const length of [0, 1, 55, 56, 63, 64, 65, 127, 128, 1_432, 60_000]) {
    const bytes = randomBytes(length + 9);
    const offset = randomInt(0, 9);
    keys.forEach((key, i) => {
      const expected = createHmac('sha256', key)
        .update(bytes.subarray(offset, offset + length))
        .digest('hex')
        .slice(0, 32);
      t.equal(hex(macs[i]!, bytes, offset, length), expected, `${length} bytes under key ${i}`);
    });
  }

  const bytes = randomBytes(64);
  const expected = hex(macs[0]!, bytes, 8, 48);
  macs[0]!.mac128(bytes, 8, 48, bytes, 20);
  t.equal(bytes.toString('hex', 20, 36), expected, 'into the bytes themselves');

  // What was authenticated last is remembered: under its key, at its length, byte for byte.
  const changing = randomBytes(160);
  for (let at = 0; at < changing.length; at++) {
    changing[at]! ^= 1;
    const length = randomInt(at + 1, changing.length + 1);
    const expected = createHmac('sha256', keys[0]!).update(changing.subarray(0, length)).digest('hex').slice(0, 32);
    if (hex(macs[0]!, changing, 0, length) !== expected || hex(macs[0]!, changing, 0, length) !== expected)
      t.fail(`byte ${at} of ${length} was changed`);
  }
  const before = open(keys[0]!);
  t.equal(hex(before, changing), hex(macs[0]!, changing));
  hex(before, changing);
  before.close();
  const after = open(keys[1]!);
  t.equal(hex(after, changing), hex(macs[1]!, changing), 'another key in the same slot');
  after.close();

  const wiped = Buffer.from(keys[0]!);
  const copied = open(wiped);
  wiped.fill(0);
  t.equal(hex(copied, bytes, 8, 48), hex(macs[0]!, bytes, 8, 48), 'the key is copied: who gave it may wipe it');
  copied.close();

  const out = new Uint8Array(MAC_BYTES);
  const refuses = (code: string, call: () => void): void =>
    void t.throws(call, { code, category: 'caller', retryable: false });
  refuses('out-of-bounds', () => macs[0]!.mac128(bytes, 60, 5, out, 0));
  refuses('out-of-bounds', () => macs[0]!.mac128(bytes, -1, 5, out, 0));
  refuses('out-of-bounds', () => macs[0]!.mac128(bytes, 0, NaN, out, 0));
  refuses('out-of-bounds', () => macs[0]!.mac128(bytes, 0, 5, out, 1));
  refuses('invalid-argument', () => macs[0]!.mac128('abc' as never, 0, 1, out, 0));
  refuses('invalid-argument', () => open(new Uint8Array(31)));
  refuses('invalid-argument', () => open('k'.repeat(32) as never));
  t.same(out, new Uint8Array(MAC_BYTES), 'nothing was written');

  macs[0]!.close();
  macs[0]!.close();
  const next = open(keys[1]!); // may get the slot that became free
  refuses('invalid-argument', () => macs[0]!.mac128(bytes, 0, 5, out, 0));
  t.equal(hex(next, bytes), hex(macs[1]!, bytes));
  for (const mac of [published, next, macs[1]!, macs[2]!]) mac.close();
}

t.test('without the addon', async (t) => behaves(t, WITHOUT_ADDON));
t.test('with the addon', { skip: native.available ? false : native.reason }, async (t) => {
  behaves(t, native);
  const slots: number[] = [];
  const { addon } = native as Extract<NativeBinding, { available: true }>;
  t.throws(
    () => {
      for (let i = 0; i <= 8192; i++) slots.push(addon.hmacOpen(randomBytes(MAC_KEY_BYTES)));
    },
    { code: 'hmac-limit' },
    'bounded',
  );
  for (const slot of slots) addon.hmacClose(slot);
  const again = addon.hmacOpen(randomBytes(MAC_KEY_BYTES));
  t.type(again, 'number', 'closed slots are free again');
  const bytes = new Uint8Array(64);
  const out = new Uint8Array(MAC_BYTES);
  addon.hmac128(again, bytes, 0, 8, out, 0);
  // Each of these would be `again` if it went through ToInt32, and NaN and 0.5 slot 0.
  for (const wrong of [
    again + 0.5,
    again + 2 ** 32,
    again - 2 ** 32,
    NaN,
    Infinity,
    -1,
    '0' as never,
    undefined as never,
  ]) {
    t.throws(() => addon.hmac128(wrong, bytes, 0, 8, out, 0), { code: 'invalid-argument' }, `slot ${wrong}`);
    if (wrong !== -1) t.throws(() => addon.hmacClose(wrong), { code: 'invalid-argument' }, `close ${wrong}`);
  }
  addon.hmac128(again, bytes, 0, 8, out, 0);
  addon.hmacClose(again);
});
