// Floods of datagrams that nobody authentic sent, against real replicas.
import t from 'tap';
import { createSocket, type Socket } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { expose } from '../../src/metrics/exposition.js';
import { native } from '../../src/native/addon.js';
import { loadHash } from '../../src/native/hash64.js';
import { CLIENT_SENDER, Envelope } from '../../src/wire/envelope.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const BURST = 400;
const BURSTS = 20;
const TIMEOUT_MS = 60_000;

async function senderTo(port: number): Promise<{ socket: Socket; burst: (bytes: Uint8Array) => Promise<void> }> {
  const socket = createSocket({ type: 'udp4', sendBufferSize: 4 << 20 });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const burst = async (bytes: Uint8Array): Promise<void> => {
    for (let i = 0; i < BURST; i++) socket.send(bytes, port, '127.0.0.1');
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { socket, burst };
}

for (const transport of native.available ? (['native', 'dgram'] as const) : (['dgram'] as const)) {
  t.test(
    `garbage with a right envelope shares one place in a crowd, and nobody else loses his (${transport})`,
    async (t) => {
      const cluster = await clusterConfig(3);
      const replicas = await startReplicas(cluster, () => new KvMachine(), { transport });
      t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
      const port = Number(cluster.replicas[0]!.split(':').at(-1));
      await using client = await Client.connect({ cluster, lanes: 1, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS });
      const kv = new KvClient(client);
      await kv.put('k', '0');

      const garbage = new Uint8Array(57);
      const [hi, lo] = [parseInt(cluster.id.slice(0, 8), 16) | 0, parseInt(cluster.id.slice(8), 16) | 0];
      new Envelope(loadHash(), hi, lo, CLIENT_SENDER, 3).seal(garbage, 0, garbage.length);
      garbage[50]! ^= 1; // the checksum is wrong
      const { socket, burst } = await senderTo(port);
      t.teardown(() => socket.close());
      const before = replicas[0]!.status();
      const text = expose(replicas[0]!.metrics());
      if (transport === 'dgram') {
        t.same([before.transport.filtered, before.transport.kernelDrops], [false, null], 'unknown is not zero');
        t.notMatch(text, /^jitpaxos_kernel_datagrams_dropped_total \d/m);
      } else t.match(text, /^jitpaxos_kernel_datagrams_dropped_total \d/m);
      for (let i = 1; i <= BURSTS; i++) {
        await burst(garbage);
        await kv.put('k', String(i));
      }
      t.equal(Buffer.from((await kv.get('k'))!).toString(), String(BURSTS), 'the client was served all the time');
      const after = replicas[0]!.status();
      const [checked, crowded] = ['checksum', 'crowded'].map((name) => after.drops[name]! - before.drops[name]!) as [
        number,
        number,
      ];
      const dropped = after.transport.counters['strangers_dropped']!;
      t.equal(dropped > 0, transport === 'native', `${dropped} did not leave the transport`);
      const unread = crowded + dropped;
      t.comment(`${checked} checked, ${unread} dropped unread, of ${BURST * BURSTS}`);
      t.ok(unread > 0, 'most are dropped unread');
      // dgram: up to 128 + 32 a burst are checked before it is known to be a crowd, then 24 at each look.
      t.ok(unread > checked / 8, `${checked} were checked and ${unread} were not`);

      // The crowd is over: a new client is heard.
      await using next = await Client.connect({ cluster, lanes: 1, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS });
      await new KvClient(next).put('k', 'next');
    },
  );
}

t.test('random garbage does not leave the kernel', { skip: native.available ? false : native.reason }, async (t) => {
  const cluster = await clusterConfig(1);
  const [replica] = await startReplicas(cluster, () => new KvMachine(), { transport: 'native' });
  t.teardown(() => replica!.close());
  const before = replica!.status().transport;
  t.equal(before.filtered, true);
  t.equal(typeof before.kernelDrops, 'number');
  const { socket, burst } = await senderTo(Number(cluster.replicas[0]!.split(':').at(-1)));
  t.teardown(() => socket.close());
  await burst(new Uint8Array(randomBytes(57)));
  for (let i = 0; i < 1_000 && replica!.status().transport.kernelDrops! < BURST; i++) await sleep(5);
  const after = replica!.status().transport;
  t.ok(after.kernelDrops! - before.kernelDrops! >= BURST, `${after.kernelDrops} dropped`);
  t.equal(after.counters['datagrams_received'], before.counters['datagrams_received'], 'none was received');
  await using client = await Client.connect({ cluster, lanes: 1, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS });
  await new KvClient(client).put('k', 'v');
});
