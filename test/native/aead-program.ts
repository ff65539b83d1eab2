/**
 * Seals and opens datagrams in a process that counts its allocations (counting-malloc.c), and prints how many each kind
 * of call made, as JSON. Run by aead.test.ts. `hmacOpen` is the control: it allocates.
 */
import { randomBytes } from 'node:crypto';
import { AEAD_KEY_BYTES, openCiphers } from '../../src/native/aead.js';
import { native } from '../../src/native/addon.js';
import { writeI32 } from '../../src/wire/u64.js';

const CALLS = 20_000;
const FRAME = { nonceAt: 7, nonceBytes: 8, tagAt: 25, headBytes: 25, tailAt: 59, tailBytes: 3, bodyAt: 62 };
const addon = native.addon!;
const allocations = (): number => addon.kernelClock().maxErrorUs;

const key = randomBytes(AEAD_KEY_BYTES);
const memory = addon.hashArena(1432).bytes;
const ciphers = openCiphers(FRAME, { received: memory, transmit: memory });
const sealer = ciphers.cipher(true);
const opener = ciphers.cipher(false);
sealer.setKey(key);
opener.setKey(key);
const datagram = new Uint8Array(1432).fill(7);
let counter = 0;

function seal(length: number, bytes: Uint8Array = datagram): void {
  writeI32(bytes, 11, ++counter);
  sealer.seal(bytes, 0, length);
}
function open(length: number, isGood: boolean, bytes: Uint8Array = datagram): void {
  seal(length, bytes);
  if (!isGood) bytes[70]! ^= 1;
  if (opener.open(bytes, 0, length) !== isGood) throw new Error(`open did not say ${isGood}`);
}
const calls: Record<string, () => void> = {
  sealShort: () => seal(100),
  sealLong: () => seal(1432),
  openShort: () => open(100, true),
  openLong: () => open(1432, true),
  openForged: () => open(100, false),
  inMemory: () => open(1432, true, memory),
  forgedInMemory: () => open(100, false, memory),
  otherKey: () => {
    sealer.setKey(key);
    opener.setKey(key);
  },
  hmacOpen: () => addon.hmacClose(addon.hmacOpen(new Uint8Array(32))),
};
const made: Record<string, number> = {};
for (const [name, call] of Object.entries(calls)) {
  const run = (): void => {
    for (let i = 0; i < CALLS; i++) call();
  };
  run(); // compiled by now
  globalThis.gc!();
  const before = allocations();
  run();
  made[name] = (allocations() - before) / CALLS;
}
console.log(JSON.stringify(made));
