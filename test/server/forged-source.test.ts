// Datagrams under another key from a client's own address: the client keeps its key, its proof and its answers.
import t from 'tap';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Relay } from '../../bench/relay.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { encodeGet } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import type { Replica } from '../../src/server/replica.js';
import { CLIENT_SENDER, Envelope } from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Read } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const VALUE = 'x'.repeat(20_000);
const READS = 40;
/** Forged datagrams to each replica before each read of the client: more than one a read is all that it takes. */
const FORGED = 4;
const TIMEOUT_MS = 60_000;

const entry = (id: number, role: KeyEntry['role'], owner?: number): KeyEntry => ({
  id,
  role,
  secret: randomBytes(32).toString('hex'),
  ...(owner === undefined ? {} : { owner }),
});

t.test('long answers still take one round trip, whatever other keys say from the address', async (t) => {
  const cluster = { ...(await clusterConfig(3)), authentication: 'keys' as const };
  const [replicaKey, own, next, other] = [
    entry(1, 'replica'),
    entry(22, 'client'),
    entry(23, 'client', 22),
    entry(33, 'read-only'),
  ];
  const file = (use: KeyEntry, ...more: KeyEntry[]): KeyFile => ({
    schema: 'jitpaxos.keys/1',
    cluster: cluster.id,
    use: use.id,
    keys: [use, ...more],
  });
  const replicas = await startReplicas(cluster, () => new KvMachine(), { keys: file(replicaKey, own, next, other) });
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const ports = cluster.replicas.map((address) => Number(address.split(':').at(-1)));
  const relays = await Promise.all(ports.map((port) => Relay.open(port)));
  t.teardown(() => relays.forEach((relay) => relay.close()));
  const behind = { ...cluster, replicas: relays.map(({ address }) => address) };
  const connect = (keys: KeyFile): Promise<Client> =>
    Client.connect({ cluster: behind, keys, lanes: 1, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS });

  const [hi, lo] = [parseInt(cluster.id.slice(0, 8), 16) | 0, parseInt(cluster.id.slice(8), 16) | 0];
  const sealing = (use: KeyEntry): { envelope: Envelope; ring: Keyring; head: number; hello: Uint8Array } => {
    const ring = new Keyring(file(use), false);
    t.teardown(() => ring.close());
    const envelope = new Envelope(loadHash(), hi, lo, CLIENT_SENDER, 3, ring);
    const head = envelope.bytesIn(envelope.newest);
    const hello = new Uint8Array(head);
    envelope.seal(hello, 0, hello.length, ring.own);
    return { envelope, ring, head, hello };
  };
  const { envelope, ring, head, hello } = sealing(other);
  const operation = new Uint8Array(64);
  const question = new Uint8Array(head + Read.size + encodeGet(operation, 0, new Uint8Array(Buffer.from('long'))));
  begin(Read, question, head);
  writeI32(question, head + Read.at.session, 7);
  writeI32(question, head + Read.at.request, 1);
  writeU16(question, head + Read.at.operation, question.length - head - Read.size);
  question.set(operation.subarray(0, question.length - head - Read.size), head + Read.size);
  envelope.seal(question, 0, question.length, ring.own);

  const of = (replica: Replica): { withheld: number; reads: number; unproven: number } => {
    const { transport, counters, drops } = replica.status();
    return {
      withheld: transport.counters['datagrams_withheld']!,
      reads: (counters as Record<string, number>)['reads']!,
      unproven: drops['unproven']!,
    };
  };
  const all = (name: 'withheld' | 'reads' | 'unproven'): number => replicas.reduce((sum, r) => sum + of(r)[name], 0);

  {
    await using client = await connect(file(own));
    const kv = new KvClient(client);
    await kv.put('long', VALUE);
    t.equal(Buffer.from((await kv.get('long'))!).toString(), VALUE);
    // An address belongs to the key that spoke first from it. The client speaks to a spare only when it searches a view,
    // so its hello is sent for it.
    const first = sealing(own).hello;
    for (const relay of relays) {
      for (let i = 0; i < TIMEOUT_MS && !relay.answers.has(own.id); i++) {
        if (i % 100 === 0) relay.forge(first);
        await sleep(1);
      }
      t.ok(relay.answers.has(own.id), 'the client is known');
    }
    // The first proofs are on their way; from then on nothing is withheld from this client.
    for (let i = 0; i < 100 && (await kv.get('long')) !== undefined && all('withheld') > 0; i++) await sleep(5);
    const [withheld, reads] = [all('withheld'), all('reads')];
    for (let read = 0; read < READS; read++) {
      const forged = all('unproven') + FORGED * replicas.length;
      for (const relay of relays) {
        for (let i = 0; i < FORGED; i++) relay.forge(question);
        relay.forge(hello);
      }
      for (let i = 0; i < 5_000 && all('unproven') < forged; i++) await sleep(1);
      t.equal(all('unproven'), forged, 'each forged question is counted, and not handled');
      t.equal(Buffer.from((await kv.get('long'))!).toString(), VALUE);
    }
    t.equal(all('withheld'), withheld, 'no answer was replaced by a Challenge');
    t.ok(all('reads') - reads < FORGED * READS, `${all('reads') - reads} questions were handled for ${READS} reads`);
    const challenges = relays.map(({ answers }) => answers.get(other.id) ?? 0);
    for (const count of challenges) t.ok(count >= READS * FORGED, 'the other key is asked for a proof');
  }

  // The former client's key still belongs to these addresses. Its own next key proves itself and takes over.
  await using later = await connect(file(next));
  const kv = new KvClient(later);
  t.equal(Buffer.from((await kv.get('long'))!).toString(), VALUE);
  await kv.put('k', 'v');
});
