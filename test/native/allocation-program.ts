/**
 * Measures what a call of each hot function leaves on the JavaScript heap, and prints it as JSON. Run by addon.test.ts
 * with a young generation so large that nothing is collected in between. `clockReadBigInt` is the control: if it does
 * not show, the measurement is blind.
 */

import { native } from '../../src/native/addon.js';
import { openDeadlineTimer } from '../../src/clock/deadline-timer.js';
import { openClock } from '../../src/clock/open.js';
import { openCiphers } from '../../src/native/aead.js';
import { loadHash } from '../../src/native/hash64.js';
import { loadSipHash } from '../../src/native/siphash.js';
import { writeI32 } from '../../src/wire/u64.js';

const CALLS = 1_000_000;
const collectGarbage = globalThis.gc!;

const bytes = Buffer.alloc(64, 7);
const out = new Uint8Array(16);
const halves = new Int32Array(2);
const clock = openClock('realtime');
const hash = loadHash();
const keyed = loadSipHash(new Uint8Array(16));
const slowKeyed = loadSipHash(new Uint8Array(16), { available: false, addon: null, reason: 'measured' });
const keyedArena = keyed.hashArena!(64);
keyedArena.fields[1] = 64;
const slowHash = loadHash({ available: false, addon: null, reason: 'measured' });
const addon = native.addon!;

const frame = { nonceAt: 7, nonceBytes: 8, tagAt: 25, headBytes: 25, tailAt: 59, tailBytes: 3, bodyAt: 62 };
const memory = addon.hashArena(200).bytes;
const ciphers = openCiphers(frame, { received: memory, transmit: memory });
const sealer = ciphers.cipher(true);
const opener = ciphers.cipher(false);
sealer.setKey(new Uint8Array(16));
opener.setKey(new Uint8Array(16));
const datagram = new Uint8Array(200);
let counter = 0;
const seal = (bytes: Uint8Array): void => {
  writeI32(bytes, 11, ++counter);
  sealer.seal(bytes, 0, bytes.length);
};

const timer = openDeadlineTimer(() => undefined);
const farUs = Float64Array.of(1e15); // a number elsewhere would itself be an object

const kept: unknown[] = [null];
const functions: Record<string, () => void> = {
  hash64: () => hash.hash64(bytes, 0, 64, out, 8),
  sipHash64: () => keyed.hash64(bytes, 0, 64, out, 8),
  keyedArena: () => keyedArena.hash(),
  sipHash64WithoutAddon: () => slowKeyed.hash64(bytes, 0, 64, out, 8),
  writeBE: () => clock.writeBE(out, 3),
  writeHalves: () => clock.writeHalves(halves, 0),
  aeadSeal: () => seal(datagram),
  aeadSealAndOpen: () => {
    seal(datagram);
    opener.open(datagram, 0, datagram.length);
  },
  aeadInMemory: () => {
    seal(memory);
    opener.open(memory, 0, memory.length);
  },
  clockReadBigInt: () => void (kept[0] = addon.clockReadBigInt(0)),
  timerArm: () => timer.arm((farUs[0]! += 1.5), 0),
  hash64WithoutAddon: () => slowHash.hash64(bytes, 0, 64, out, 8),
};

const results: Record<string, { bytesPerCall: number; nsPerCall: number }> = {};
for (const [name, call] of Object.entries(functions)) {
  const calls = name === 'hash64WithoutAddon' ? CALLS / 10 : CALLS;
  for (let i = 0; i < calls / 10; i++) call();
  collectGarbage();
  const heap = process.memoryUsage().heapUsed;
  const start = process.hrtime.bigint();
  for (let i = 0; i < calls; i++) call();
  const elapsed = process.hrtime.bigint() - start;
  results[name] = { bytesPerCall: (process.memoryUsage().heapUsed - heap) / calls, nsPerCall: Number(elapsed) / calls };
}
timer.close();
console.log(JSON.stringify(results));
