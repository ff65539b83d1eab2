// No amplification: what a recorded question brings, asked from elsewhere, and what an honest client notices of it.
import t from 'tap';
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { encodeGet } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { AMPLIFICATION, writeProof } from '../../src/wire/address-proofs.js';
import { CLIENT_SENDER, ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { PREVIOUS_WIRE_VERSION } from '../../src/wire/versions.js';
import { begin } from '../../src/wire/layout.js';
import { Challenge, Proof, Read, ReadReply, typeOf } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const LONG = 'x'.repeat(30_000);
const KEY = new Uint8Array(Buffer.from('long'));

/** A stranger with a recorded question, and a socket of its own. */
class Asker {
  received = 0;
  sent = 0;
  readonly heard: Uint8Array[] = [];

  private constructor(
    private readonly socket: Socket,
    private readonly port: number,
  ) {
    socket.on('message', (bytes) => {
      this.received += bytes.length;
      this.heard.push(new Uint8Array(bytes));
    });
  }

  static async open(port: number): Promise<Asker> {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    return new Asker(socket, port);
  }

  /** Sends a datagram that has an answer, and gives others time. */
  async ask(bytes: Uint8Array): Promise<Uint8Array[]> {
    const before = this.heard.length;
    this.tell(bytes);
    for (let waited = 0; waited < 3_000 && this.heard.length === before; waited++) await sleep(10);
    await sleep(20);
    return this.heard.slice(before);
  }

  /** Sends a datagram without an answer. */
  tell(bytes: Uint8Array): void {
    this.sent += bytes.length;
    this.socket.send(bytes, this.port, '127.0.0.1');
  }

  close(): void {
    this.socket.close();
  }
}

t.test('a long answer goes only where somebody receives it', async (t) => {
  const cluster = await clusterConfig(1);
  const replica = await Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger });
  t.teardown(() => replica.close());
  const withheld = (): number => replica.status().transport.counters['datagrams_withheld']!;

  await using client = await Client.connect({ cluster, lanes: 1, timeout: 20_000 });
  const kv = new KvClient(client);
  await kv.put('long', LONG);
  t.equal(Buffer.from((await kv.get('long'))!).toString(), LONG);
  t.equal(withheld(), 0, 'nothing of an honest client is withheld: it was asked when it said hello');

  await using former = await Client.connect({ cluster, lanes: 1, timeout: 20_000, wireVersion: PREVIOUS_WIRE_VERSION });
  t.equal(
    Buffer.from((await new KvClient(former).get('long'))!).toString(),
    LONG,
    'a client that says no hello is served as well: it is asked in place of the first long answer',
  );
  const before = withheld();

  const envelope = new Envelope(
    loadHash(),
    parseInt(cluster.id.slice(0, 8), 16) | 0,
    parseInt(cluster.id.slice(8), 16) | 0,
    CLIENT_SENDER,
    1,
  );
  const datagram = (length: number, write: (bytes: Uint8Array, o: number) => void): Uint8Array => {
    const bytes = new Uint8Array(ENVELOPE_BYTES + length);
    write(bytes, ENVELOPE_BYTES);
    envelope.seal(bytes, 0, bytes.length);
    return bytes;
  };
  const operation = new Uint8Array(64);
  const operationLength = encodeGet(operation, 0, KEY);
  const question = datagram(Read.size + operationLength, (bytes, o) => {
    begin(Read, bytes, o);
    writeI32(bytes, o + Read.at.session, 7);
    writeI32(bytes, o + Read.at.request, 1);
    writeU16(bytes, o + Read.at.operation, operationLength);
    bytes.set(operation.subarray(0, operationLength), o + Read.size);
  });
  const port = Number(cluster.replicas[0]!.split(':').at(-1));
  const asker = await Asker.open(port);
  t.teardown(() => asker.close());
  for (let i = 0; i < 5; i++) {
    const answers = await asker.ask(question);
    t.same(
      answers.map((bytes) => typeOf(bytes, ENVELOPE_BYTES)),
      [Challenge.type],
      'in its place it is asked for a proof',
    );
  }
  t.ok(asker.received <= AMPLIFICATION * asker.sent, `${asker.received} bytes for ${asker.sent}`);
  t.equal(withheld() - before, 5);

  const challenge = asker.heard[0]!;
  const proof = datagram(Proof.size, (bytes, o) => writeProof(challenge, ENVELOPE_BYTES, bytes, o));
  const other = await Asker.open(port);
  t.teardown(() => other.close());
  await other.ask(question);
  other.tell(proof);
  t.same(
    (await other.ask(question)).map((bytes) => typeOf(bytes, ENVELOPE_BYTES)),
    [Challenge.type],
    'the proof of one address is none for another',
  );

  asker.tell(proof);
  const [answer] = await asker.ask(question);
  t.equal(typeOf(answer!, ENVELOPE_BYTES), ReadReply.type);
  t.ok(answer!.length > LONG.length, 'who receives it is answered');
});

t.test('where encryption is required too, a client proves its address before it needs long answers', async (t) => {
  const cluster = { ...(await clusterConfig(3)), authentication: 'keys' as const, encryption: 'required' as const };
  const key = (id: number, role: 'replica' | 'client'): KeyFile['keys'][number] => ({
    id,
    role,
    secret: randomBytes(32).toString('hex'),
  });
  const own = key(1, 'replica');
  const its = key(2, 'client');
  const file = (use: KeyFile['keys'][number], ...more: KeyFile['keys']): KeyFile => ({
    schema: 'jitpaxos.keys/1',
    cluster: cluster.id,
    use: use.id,
    keys: [use, ...more],
  });
  const replicas = await startReplicas(cluster, () => new KvMachine(), { keys: file(own, its) });
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  // Many operations at once: their answers together are longer than what an address without a proof gets.
  await using client = await Client.connect({ cluster, keys: file(its), lanes: 512, timeout: 60_000 });
  const kv = new KvClient(client);
  await Promise.all(Array.from({ length: 512 }, (_, i) => kv.put(`key ${i}`, LONG.slice(0, 64))));
  await Promise.all(Array.from({ length: 64 }, (_, i) => kv.get(`key ${i}`)));
  for (const { id, transport } of replicas.map((replica) => replica.status()))
    t.equal(transport.counters['datagrams_withheld'], 0, `replica ${id}`);
});
