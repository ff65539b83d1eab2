// Which status questions are answered: nobody's questions, recorded ones least of all, keep another tool's from being
// answered.
import { randomBytes } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { StatusClient } from '../../src/client/status-client.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { loadSipHash } from '../../src/native/siphash.js';
import { Replica } from '../../src/server/replica.js';
import {
  ENDPOINTS_MAX,
  ENDPOINT_RATE,
  hasProven,
  OWNERS_MAX,
  OWNER_RATE,
  StatusRates,
  UNPROVEN_RATE,
} from '../../src/server/status-rates.js';
import { writeProof } from '../../src/wire/address-proofs.js';
import { CLIENT_SENDER, Envelope } from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Challenge, Proof, Status } from '../../src/wire/messages.js';
import { Peers } from '../../src/wire/peers.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { clusterConfig } from './fixtures.js';

const SECOND = 1e6;
/** A tool asks this often in a second, and is then always answered. */
const TOOL_QUESTIONS = 50;

/**
 * Ten seconds in which others ask many times as often as a tool of owner 2 at endpoint 100. Returns how many questions
 * of each were answered.
 */
function beside(
  others: (rates: StatusRates, us: number) => number,
  perSecond: number,
): { tool: number; others: number } {
  const rates = new StatusRates();
  const answered = { tool: 0, others: 0 };
  const apart = SECOND / perSecond;
  for (let i = 0; i < 10 * perSecond; i++) {
    const us = SECOND + i * apart;
    answered.others += others(rates, us);
    if (i % Math.floor(perSecond / TOOL_QUESTIONS) === 0 && rates.admits(2, 100, true, { monotonicUs: us }))
      answered.tool++;
  }
  return answered;
}

t.test('what others ask', async (t) => {
  const all = 10 * TOOL_QUESTIONS;
  let next = 1_000;

  await t.test('recorded questions of the same owner, from anywhere', (t) => {
    const { tool, others } = beside((rates, us) => Number(rates.admits(2, next++, false, { monotonicUs: us })), 10_000);
    t.equal(tool, all);
    t.ok(others <= UNPROVEN_RATE.burst + 10 * UNPROVEN_RATE.perSecond, `${others}`);
    t.end();
  });

  await t.test('another tool of the same owner', (t) => {
    const { tool, others } = beside((rates, us) => Number(rates.admits(2, 101, true, { monotonicUs: us })), 10_000);
    t.equal(tool, all);
    t.ok(others <= ENDPOINT_RATE.burst + 10 * ENDPOINT_RATE.perSecond, `${others}`);
    t.end();
  });

  await t.test('another owner with a thousand sockets', (t) => {
    const { tool, others } = beside(
      (rates, us) => Number(rates.admits(3, 1_000 + (next++ % 1_000), true, { monotonicUs: us })),
      10_000,
    );
    t.equal(tool, all);
    t.ok(others <= OWNER_RATE.burst + 10 * OWNER_RATE.perSecond, `${others}`);
    t.end();
  });
});

t.test('what is remembered is bounded, and whoever is forgotten begins anew', (t) => {
  const rates = new StatusRates();
  for (let i = 0; i < ENDPOINT_RATE.burst; i++) t.ok(rates.admits(1, 1, true, { monotonicUs: SECOND }));
  t.notOk(rates.admits(1, 1, true, { monotonicUs: SECOND }), 'its burst is over');
  for (let i = 2; i < 20_000; i++) rates.admits(i, i, true, { monotonicUs: SECOND });
  t.equal(rates.remembered, OWNERS_MAX + ENDPOINTS_MAX);
  t.ok(rates.admits(1, 1, true, { monotonicUs: SECOND }));
  t.end();
});

t.test('a proof counts for the owner whose key proved it', (t) => {
  const replicas = 3;
  const peers = new Peers({
    self: 0,
    replicas,
    endpoints: 16,
    newest: WIRE_VERSION,
    now: { monotonicUs: 0 },
    numbers: loadSipHash(new Uint8Array(16).fill(1)),
  });
  const keys = { ownerOf: (slot: number): number => [2, 3, 2][slot] ?? 0 }; // slot 2: a further key of owner 2
  const bytes = new Uint8Array(Challenge.size + Proof.size);
  const prove = (endpoint: number, slot: number): void => {
    peers.heard(endpoint, slot, WIRE_VERSION, 41);
    t.notOk(hasProven(peers, keys, endpoint, keys.ownerOf(slot)), 'not before the proof');
    t.equal(peers.writeChallenge(endpoint, bytes, 0), Challenge.size);
    writeProof(bytes, 0, bytes, Challenge.size);
    peers.prove(endpoint, slot, bytes, Challenge.size);
  };
  prove(5, 0);
  t.ok(hasProven(peers, keys, 5, 2));
  peers.heard(5, 1, WIRE_VERSION, 1_000);
  t.notOk(hasProven(peers, keys, 5, 3), 'another owner in front of the same address has proven nothing');
  t.ok(hasProven(peers, keys, 5, 2), 'and takes nothing from the first');
  prove(6, 2);
  t.ok(hasProven(peers, keys, 6, 2), 'a further key of an owner');
  t.notOk(hasProven(peers, keys, 7, 2), 'an endpoint that was never heard');
  t.notOk(hasProven(peers, undefined, 7, 0));
  t.ok(hasProven(peers, undefined, 6, 0), 'without keys there is one owner');
  t.end();
});

/** Recordings in front of each datagram of the tool: more than any rate lets through at once, fewer than a socket loses. */
const RECORDINGS = 150;

for (const encryption of [undefined, 'required'] as const)
  t.test(
    `a status tool is answered although recordings of its own questions arrive before each of them${encryption === undefined ? '' : ', where encryption is required'}`,
    async (t) => {
      const cluster: ClusterConfig = {
        ...(await clusterConfig(1)),
        authentication: 'keys',
        ...(encryption === undefined ? {} : { encryption }),
      };
      const secret = (): string => randomBytes(32).toString('hex');
      const keys: KeyEntry[] = [
        { id: 1, role: 'replica', secret: secret() },
        { id: 2, role: 'client', secret: secret() },
        { id: 3, role: 'read-only', secret: secret() },
      ];
      const keysOf = (use: number, ...ids: number[]): KeyFile => ({
        schema: 'jitpaxos.keys/1',
        cluster: cluster.id,
        use,
        keys: keys.filter(({ id }) => ids.includes(id)),
      });
      const replica = await Replica.start({
        cluster,
        id: 0,
        machine: new KvMachine(),
        logger: silentLogger,
        keys: keysOf(1, 1, 2, 3),
      });
      t.teardown(() => replica.close());
      const port = Number(cluster.replicas[0]!.split(':').at(-1));

      const ring = new Keyring(keysOf(2, 2), false);
      t.teardown(() => ring.close());
      const { idHi, idLo } = loadCluster(cluster);
      const envelope = new Envelope(loadHash(), idHi, idLo, CLIENT_SENDER, 1, ring);
      const head = envelope.bytesIn(WIRE_VERSION);
      const recording = new Uint8Array(head + Status.size);
      begin(Status, recording, head);
      t.ok(envelope.seal(recording, 0, recording.length, ring.own));
      const attacker = await openSocket(t);

      // The tool's datagrams pass here, each behind a burst of recordings; the socket of the replica keeps their order.
      for (const id of [2, 3])
        for (let i = 0; i < 5; i++) {
          const front = await openSocket(t);
          const back = await openSocket(t);
          let tool: RemoteInfo | undefined;
          front.on('message', (bytes, from) => {
            tool = from;
            for (let k = 0; k < RECORDINGS; k++) attacker.send(recording, port, '127.0.0.1');
            back.send(bytes, port, '127.0.0.1');
          });
          back.on('message', (bytes) => front.send(bytes, tool!.port, tool!.address));
          // A tool of its own each time, as `jitpaxos status` is: its first question comes without a proof.
          await using asking = await StatusClient.open({
            cluster: { ...cluster, replicas: [`127.0.0.1:${front.address().port}`] },
            keys: keysOf(id, id),
          });
          const [answer] = await asking.ask(20_000);
          t.ok(answer!.report !== undefined, `key ${id}, question ${i}`);
          if (answer!.report === undefined) return;
        }
      const { refused } = replica.status().statusRequests;
      t.ok(refused > 10 * RECORDINGS, `${refused} recordings were refused meanwhile`);
    },
  );

async function openSocket(t: Test): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.teardown(() => new Promise<void>((resolve) => socket.close(() => resolve())));
  return socket;
}
