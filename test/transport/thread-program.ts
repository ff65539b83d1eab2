/**
 * Two transports that send to each other forever, until their thread or process ends with both open, in the way the
 * test specifies: `return` leaves them open and releases everything else, `throw` ends in the middle of a batch.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { freeAddress, nativeTransport } from './fixtures.js';

const how = (workerData as string | null) ?? process.argv[2];
const address = await freeAddress(4);
let ending = parentPort === null;
let heard = 0;
const server = nativeTransport({
  replicas: [address],
  listen: address,
  receive: (_bytes, _offset, length) => {
    const answer = server.acquire(length)!;
    server.send(answer, length, server.sender());
    if (++heard > 100 && ending && how === 'throw') throw new Error('on purpose');
    if (heard > 100 && ending && how === 'exit') process.exit(0);
  },
  batchEnd: () => server.flush(),
});
const client = nativeTransport({
  replicas: [address],
  receive: (_bytes, _offset, length) => client.send(client.acquire(length)!, length, 0),
  batchEnd: () => client.flush(),
});
await server.open();
await client.open();
for (let i = 0; i < 3; i++) client.send(client.acquire(50)!, 50, 0);
client.flush();
parentPort?.on('message', () => {
  ending = true;
  if (how === 'close' || how === 'return') {
    void server.close();
    if (how === 'close') void client.close();
    else setImmediate(() => process.exit(0));
    parentPort!.close();
  }
});
parentPort?.postMessage(address.port);
