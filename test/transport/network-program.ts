/**
 * Sends over the loopback interface of a network namespace, which it may slow down (`full`), make narrow (`narrow`) or
 * take down (`down`). Run by native-udp.test.ts under unshare(1); prints what happened as JSON.
 */
import { execFileSync } from 'node:child_process';
import { TransportCounter } from '../../src/transport/transport.js';
import { freeAddress, nativeTransport, until } from './fixtures.js';

const run = (command: string): void => void execFileSync('sh', ['-c', command]);
run('ip link set lo up');
const address = await freeAddress(4);
const replicas = [address];
const notices: string[] = [];
const numbers: number[] = [];
const server = nativeTransport({
  replicas,
  listen: address,
  receive: (bytes, offset) => numbers.push(bytes[offset]! * 256 + bytes[offset + 1]!),
});
await server.open();
const notice = (event: string, fields: Readonly<Record<string, unknown>>): void =>
  void (event === 'transport.send-failing' && notices.push(String(fields['error'])));
const client = nativeTransport({
  replicas,
  listen: process.argv[2] === 'full' ? undefined : { host: '0.0.0.0', port: 0, family: 4 },
  sendBufferBytes: 4096,
  notice,
});
await client.open();
const { counters } = client;

function say(number: number, length: number): boolean {
  const bytes = client.acquire(length);
  if (bytes === undefined) return false;
  bytes[0] = number >> 8;
  bytes[1] = number & 255;
  client.send(bytes, length, 0);
  return true;
}

if (process.argv[2] === 'full') {
  run('tc qdisc add dev lo root tbf rate 20mbit burst 2000 limit 1mb');
  let refused = 0;
  let said = 0;
  for (let i = 0; i < 3000; i++) {
    if (say(i, 600)) said++;
    else refused++;
    if (i % 7 === 0) client.flush();
  }
  client.flush();
  await until(() => counters[TransportCounter.datagrams_sent] === said, 'all left');
  await until(() => numbers.length === said, 'all arrived');
  console.log(
    JSON.stringify({
      sent: said,
      refused,
      deferred: counters[TransportCounter.send_deferred],
      heard: numbers.length,
      inOrder: numbers.every((number, i) => i === 0 || number > numbers[i - 1]!),
      stuck: said - counters[TransportCounter.datagrams_sent]!,
    }),
  );
} else if (process.argv[2] === 'narrow') {
  // Datagrams that the path does not take whole cannot be cut out of a larger one: they leave one by one, and are
  // fragmented.
  run('ip link set lo mtu 1280');
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 10; i++) say(10 * round + i, 1400);
    client.flush();
  }
  await until(() => numbers.length === 30, 'all arrived');
  console.log(
    JSON.stringify({
      heard: numbers,
      sent: counters[TransportCounter.datagrams_sent],
      segmented: counters[TransportCounter.datagrams_segmented],
      errors: counters[TransportCounter.send_errors],
      notices,
    }),
  );
} else {
  // A host behind an interface that can go down; it need not answer.
  run(
    'ip link add v0 type veth peer name v1 && ip addr add 10.9.0.1/24 dev v0 && ip link set v1 up && ip link set v0 up',
  );
  const elsewhere = client.endpointOf('10.9.0.2', 9);
  const speak = (): void => {
    client.send(client.acquire(10)!, 10, elsewhere);
    client.flush();
  };
  speak();
  say(1, 10);
  client.flush();
  await until(() => numbers.length === 1, 'it works');
  run('ip link set v0 down');
  for (let i = 0; i < 10; i++) speak();
  const down = counters[TransportCounter.send_errors];
  say(1, 10);
  client.flush();
  await until(() => numbers.length === 2, 'the other way is open');
  run('ip link set v0 up');
  speak();
  console.log(JSON.stringify({ down, up: counters[TransportCounter.send_errors], heard: numbers.length, notices }));
}
await Promise.all([client.close(), server.close()]);
