/**
 * Measures what a datagram leaves on the JavaScript heap on its way through two native transports, and prints it as
 * JSON. Run by native-udp.test.ts with --expose-gc and a young generation so large that nothing is collected in
 * between. `control` makes one view per datagram: if it does not show, the measurement is blind.
 *
 * Node itself makes an empty object in each pass of the event loop (Environment::RunAndClearNativeImmediates): the
 * passes are counted, and their objects are not the transport's.
 */
import { performance } from 'node:perf_hooks';
import { freeAddress, nativeTransport } from './fixtures.js';

const DATAGRAMS = 200_000;
const OPEN = 16;
const BYTES_A_PASS = 56;

const address = await freeAddress(4);
const kept: unknown[] = [null];
let makeViews = false;
const server = nativeTransport({
  replicas: [address],
  listen: address,
  receive: (bytes, offset, length) => {
    if (makeViews) kept[0] = bytes.subarray(offset, offset + length);
    server.send(server.acquire(length)!, length, server.sender());
  },
  batchEnd: () => server.flush(),
});
const heard = new Int32Array(2); // received, wanted
let done: () => void;
const client = nativeTransport({
  replicas: [address],
  receive: (_bytes, _offset, length) => {
    if (++heard[0]! < heard[1]!) client.send(client.acquire(length)!, length, 0);
    else done();
  },
  batchEnd: () => client.flush(),
});
await server.open();
await client.open();

function exchange(datagrams: number): Promise<void> {
  heard[0] = 0;
  heard[1] = datagrams;
  for (let i = 0; i < OPEN; i++) client.send(client.acquire(64)!, 64, 0);
  client.flush();
  return new Promise((resolve) => (done = resolve));
}

async function measure(): Promise<{ bytesPerDatagram: number; datagrams: number }> {
  await exchange(DATAGRAMS / 5);
  globalThis.gc!();
  const heap = process.memoryUsage().heapUsed;
  const passes = passesOfTheLoop();
  await exchange(DATAGRAMS);
  const ofNode = (passesOfTheLoop() - passes) * BYTES_A_PASS;
  // Each one was received twice, once at each end.
  return { bytesPerDatagram: (process.memoryUsage().heapUsed - heap - ofNode) / DATAGRAMS / 2, datagrams: heard[0]! };
}

function passesOfTheLoop(): number {
  const timing = performance.nodeTiming as typeof performance.nodeTiming & {
    readonly uvMetricsInfo?: { readonly loopCount: number };
  };
  if (timing.uvMetricsInfo === undefined)
    throw new Error('this Node does not count the passes of its event loop; run the tests with Node 20.18 or later');
  return timing.uvMetricsInfo.loopCount;
}

const echo = await measure();
makeViews = true;
const control = await measure();
console.log(JSON.stringify({ echo, control }));
await Promise.all([client.close(), server.close()]);
