// A client that floods: it waits behind itself, hears `busy`, and is served as before when it stops.
import t from 'tap';
import { createSocket, type Socket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../src/client/client.js';
import { EchoMachine } from '../../src/machine/echo.js';
import { native } from '../../src/native/addon.js';
import { loadHash } from '../../src/native/hash64.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { CLIENT_SENDER, ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Reject, RejectReason, Request } from '../../src/wire/messages.js';
import { writeI32 } from '../../src/wire/u64.js';
import { clusterConfig } from './fixtures.js';

/** More than may wait of one client, and than the kernel hands over at once. */
const FLOOD = 4_000;

for (const transport of ['dgram', 'native'] as const) {
  t.test(
    `over ${transport}`,
    { skip: transport === 'native' && !native.available ? `there is no addon: ${native.reason}` : false },
    async (t) => {
      const cluster = await clusterConfig(1);
      const replica = await Replica.start({
        cluster,
        id: 0,
        machine: new EchoMachine(),
        transport,
        logger: silentLogger,
      });
      t.teardown(() => replica.close());
      await using client = await Client.connect({ cluster, transport, lanes: 1, timeout: 20_000 });
      t.equal(replica.status().transport.counters['datagrams_queued'], 0, 'nobody waits as long as there is no crowd');

      const flooder = createSocket({
        type: 'udp4',
        recvBufferSize: 4 << 20,
        sendBufferSize: 4 << 20,
        lookup: (host, _options, done) => done(null, host, 4),
      });
      t.teardown(() => flooder.close());
      await new Promise<void>((resolve) => flooder.bind(0, '127.0.0.1', resolve));
      const heard = { busy: 0, unknown: 0 };
      flooder.on('message', (bytes) => {
        for (let at = ENVELOPE_BYTES; at + Reject.size <= bytes.length; at += Reject.size) {
          if (bytes[at + 1] !== Reject.type) return;
          if (bytes[at + Reject.at.reason] === RejectReason.busy) heard.busy++;
          else heard.unknown++;
        }
      });
      const datagram = requestOfNobody(cluster.id, 1);
      const port = Number(cluster.replicas[0]!.split(':').at(-1));
      send(flooder, datagram, port, 1); // an endpoint that is not known yet is not made to wait
      for (let waited = 0; waited < 3_000 && heard.unknown === 0; waited++) await sleep(10);
      const floods = async (): Promise<void> => {
        send(flooder, datagram, port, FLOOD);
        t.same(
          await client.execute(new Uint8Array([1, 2, 3])),
          new Uint8Array([1, 2, 3]),
          'another client is answered',
        );
      };
      for (let round = 0; round < 5; round++) await floods();
      let before = -1;
      for (let waited = 0; waited < 100 && before !== heard.unknown; waited++) {
        before = heard.unknown; // answers to the flood may still be on their way
        await sleep(100);
      }
      const {
        transport: {
          counters: { datagrams_queued: queued, datagrams_passed: passed },
        },
        drops: { crowded },
        counters,
      } = replica.status();
      t.ok(queued! > 0, `${queued} datagrams waited`);
      t.equal(passed! > 0, transport === 'native', `${passed} passed by those that waited`);
      t.ok(crowded! > 0, `${crowded} were refused`);
      t.ok(counters['rejected_busy']! > 0 && heard.busy > 0, `${heard.busy} answers said busy`);
      t.ok(counters['rejected_busy']! < crowded!, 'and not each refusal costs an answer');
      t.ok(heard.unknown > heard.busy, 'what waited was handled');

      send(flooder, datagram, port, 1);
      for (let waited = 0; waited < 3_000 && heard.unknown === before; waited++) await sleep(10);
      t.equal(heard.unknown, before + 1, 'at once when the load is gone');
    },
  );
}

function requestOfNobody(clusterId: string, replicas: number): Uint8Array {
  const bytes = new Uint8Array(ENVELOPE_BYTES + Request.size);
  begin(Request, bytes, ENVELOPE_BYTES);
  writeI32(bytes, ENVELOPE_BYTES + Request.at.session, 7);
  writeI32(bytes, ENVELOPE_BYTES + Request.at.request, 1);
  new Envelope(
    loadHash(),
    parseInt(clusterId.slice(0, 8), 16) | 0,
    parseInt(clusterId.slice(8), 16) | 0,
    CLIENT_SENDER,
    replicas,
  ).seal(bytes, 0, bytes.length);
  return bytes;
}

function send(socket: Socket, bytes: Uint8Array, port: number, count: number): void {
  for (let i = 0; i < count; i++) socket.send(bytes, port, '127.0.0.1');
}
