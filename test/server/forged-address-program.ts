/**
 * A process in a network namespace of its own, for forged-address.test.ts. Its first argument says what it is, its
 * second what it has to know. For each line on stdin it writes a line of JSON to stdout, and one when it is ready.
 */
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { silentLogger } from '../../src/host/logger.js';
import { encodeGet } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { CLIENT_SENDER, Envelope, NO_KEY } from '../../src/wire/envelope.js';
import { WAITING_ID } from '../../src/wire/host-ids.js';
import { begin } from '../../src/wire/layout.js';
import { AskMembers, Probe, Read, Status } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { startReplicas } from './fixtures.js';

export interface Known {
  readonly cluster: ClusterConfig;
  readonly transport: 'native' | 'dgram';
  readonly replicaKeys?: KeyFile;
  readonly clientKeys?: KeyFile;
  readonly victim: { readonly host: string; readonly port: number };
}

export const KEY = new Uint8Array(Buffer.from('long'));
const TIMEOUT_MS = 120_000;
/** Senders and questions: each has a port of its own. */
const KINDS = 4 * 5;
/** Never listed in the cluster. */
const STRANGE_ID = 9;

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

function answer(with_: (line: string) => object | Promise<object>): void {
  say({ ready: true });
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => void Promise.resolve(with_(line)).then(say));
  lines.on('close', () => process.exit(0));
}

async function replicas({ cluster, transport, replicaKeys, clientKeys }: Known): Promise<void> {
  const all = await startReplicas(cluster, () => new KvMachine(), {
    transport,
    ...(replicaKeys === undefined ? {} : { keys: replicaKeys }),
  });
  const client = await Client.connect({
    cluster,
    timeout: TIMEOUT_MS,
    connectTimeout: TIMEOUT_MS,
    logger: silentLogger,
    ...(clientKeys === undefined ? {} : { keys: clientKeys }),
  });
  await new KvClient(client).put(KEY, new Uint8Array(20_000));
  answer(() => {
    const reports = all.map((replica) => replica.status());
    return {
      view: Math.max(...reports.map(({ view }) => view)),
      withheld: reports.reduce((sum, { transport: { counters } }) => sum + counters['datagrams_withheld']!, 0),
    };
  });
}

async function victim({ victim: { host, port } }: Known): Promise<void> {
  const bytes = new Array<number>(KINDS).fill(0);
  for (let kind = 0; kind < KINDS; kind++) {
    const socket = createSocket('udp4');
    socket.on('message', (message) => (bytes[kind]! += message.length));
    await new Promise<void>((resolve) => socket.bind(port + kind, host, resolve));
  }
  answer(() => ({ bytes }));
}

/** The shortest questions that have answers. */
function questions(view: number): Uint8Array[] {
  const operation = new Uint8Array(64);
  const length = encodeGet(operation, 0, KEY);
  const read = new Uint8Array(Read.size + length);
  begin(Read, read, 0);
  writeI32(read, Read.at.view, view);
  writeI32(read, Read.at.session, 7);
  writeI32(read, Read.at.request, 1);
  writeU16(read, Read.at.operation, length);
  read.set(operation.subarray(0, length), Read.size);
  const plain = [Status, AskMembers, Probe].map((type) => {
    const bytes = new Uint8Array(type.size);
    begin(type, bytes, 0);
    return bytes;
  });
  return [new Uint8Array(0), read, ...plain];
}

/** Writes in the name of the victim: its address is one of this namespace's, too. */
async function attacker({ cluster, clientKeys, victim: { host, port } }: Known): Promise<void> {
  const sockets = await Promise.all(
    Array.from({ length: KINDS }, async (_, kind) => {
      const socket = createSocket('udp4');
      await new Promise<void>((resolve) => socket.bind(port + kind, host, resolve));
      return socket;
    }),
  );
  const { idHi, idLo, replicas: targets } = loadCluster(cluster);
  const ring = clientKeys === undefined ? undefined : new Keyring(clientKeys, false);
  // Under a client's key nobody speaks as a host.
  const senders = ring === undefined ? [CLIENT_SENDER, STRANGE_ID, WAITING_ID, 0] : [CLIENT_SENDER];
  const envelopes = senders.map((sender) => new Envelope(loadHash(), idHi, idLo, sender, 3, ring));
  const sent = new Array<number>(KINDS).fill(0);
  answer(async (view) => {
    let kind = 0;
    for (const envelope of envelopes)
      for (const question of questions(Number(view))) {
        const socket = sockets[kind]!;
        const head = envelope.bytesIn(envelope.newest);
        const bytes = new Uint8Array(head + question.length);
        bytes.set(question, head);
        envelope.seal(bytes, 0, bytes.length, ring?.own ?? NO_KEY);
        for (const target of targets) {
          sent[kind]! += bytes.length;
          await new Promise((resolve) => socket.send(bytes, target.port, target.host, resolve));
        }
        kind++;
      }
    return { sent };
  });
}

const ROLES = { replicas, victim, attacker };
const [, , role, known] = process.argv;
await ROLES[role as keyof typeof ROLES](JSON.parse(known!) as Known);
