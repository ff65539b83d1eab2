/**
 * A receiver that throws at every fourth datagram, with a handler for uncaught exceptions; prints what was heard. Run
 * by sockets.test.ts, because a test runner would attribute the exceptions to itself. Argument: a name of TRANSPORTS.
 */
import { freeAddress, TRANSPORTS, until } from './fixtures.js';

const make = TRANSPORTS[process.argv[2]!]!;
const address = await freeAddress(4);
let heard = 0;
let thrown = 0;
let ends = 0;
process.on('uncaughtException', () => thrown++);
const server = make({
  replicas: [address],
  listen: address,
  receive: () => {
    if (++heard % 4 === 0) throw new Error('on purpose');
  },
  batchEnd: () => ends++,
});
await server.open();
const client = make({ replicas: [address] });
await client.open();
for (let i = 0; i < 40; i++) client.send(client.acquire(10)!, 10, 0);
client.flush();
await until(() => heard === 40 && thrown === 10, 'all were heard');
console.log(JSON.stringify({ heard, thrown, batchesEnd: ends > 0 === server.batches }));
await Promise.all([client.close(), server.close()]);
