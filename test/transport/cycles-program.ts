/**
 * Opens, uses and closes transports by the thousand, and prints what they left behind; run by native-udp.test.ts with
 * --expose-gc.
 */
import { readdirSync } from 'node:fs';
import { setImmediate as pass } from 'node:timers/promises';
import { freeAddress, nativeTransport, until } from './fixtures.js';

const WARM_UP = 500;
const CYCLES = 2000;

const address = await freeAddress(4);
let heard = 0;

async function cycle(): Promise<void> {
  const server = nativeTransport({ replicas: [address], listen: address, receive: () => heard++ });
  const client = nativeTransport({ replicas: [address], idle: 'block' });
  await server.open();
  await client.open();
  const before = heard;
  client.send(client.acquire(10)!, 10, 0);
  client.flush();
  if (before % 2 === 0) await until(() => heard > before, 'it was heard');
  else while (heard === before) await pass();
  await client.close();
  await server.close();
}

async function settled(): Promise<{ descriptors: number; resident: number }> {
  for (let i = 0; i < 5; i++) {
    globalThis.gc!();
    await pass();
  }
  return { descriptors: readdirSync('/proc/self/fd').length, resident: process.memoryUsage().rss };
}

for (let i = 0; i < WARM_UP; i++) await cycle();
const before = await settled();
heard = 0;
for (let i = 0; i < CYCLES; i++) await cycle();
const after = await settled();
const grown = after.resident - before.resident;
console.log(
  JSON.stringify({
    cycles: CYCLES,
    heard,
    descriptors: after.descriptors - before.descriptors,
    residentMiB: after.resident / 2 ** 20,
    perCycleBytes: grown / CYCLES,
  }),
);
