// The control channel of agents: frames, handshake and listener, against whoever reaches the port.
import t from 'tap';
import { createHmac, randomBytes } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Keyring } from '../../src/host/keyring.js';
import { KEYS_SCHEMA, type KeyRole } from '../../src/host/key-file.js';
import { AgentLink } from '../../src/measure/agents/agent-link.js';
import { AgentListener, type Claim } from '../../src/measure/agents/agent-listener.js';
import { Channel } from '../../src/measure/agents/channel.js';
import { readFromAgent, readToAgent } from '../../src/measure/agents/control-messages.js';
import { FRAME_BYTES_MAX, FrameReader, FrameSealer } from '../../src/measure/agents/frames.js';
import {
  ANSWER_BYTES,
  answerTo,
  controlKeys,
  HELLO_BYTES,
  helloOf,
  readAnswer,
  type ControlKeys,
} from '../../src/measure/agents/handshake.js';
import { randomFrom } from '../random.js';

const CLUSTER = '00c0ffee12345678';
const KEY = randomBytes(16);
const SEED = Number(process.env['JITPAXOS_TEST_SEED'] ?? randomBytes(4).readUInt32BE());
t.comment(`seed ${SEED}`);

function ringWith(id: number, secret: string, role: KeyRole = 'client'): Keyring {
  return new Keyring({ schema: KEYS_SCHEMA, cluster: CLUSTER, use: id, keys: [{ id, role, secret }] }, false);
}

const SECRET = randomBytes(32).toString('hex');
const keys = controlKeys(ringWith(7, SECRET));
const WELCOME = {
  type: 'welcome',
  version: '1.0.0',
  host: 'somewhere',
  cores: 2,
  replicas: 3,
  transport: 'auto',
  clientsMax: 2,
  clock: { status: 'unknown', errorNs: null, found: 'nothing' },
};

/** What a reader makes of bytes that come in these pieces. */
function bodies(pieces: readonly Uint8Array[], reader = new FrameReader(KEY)): string[] {
  const found: string[] = [];
  for (const piece of pieces) reader.push(piece, (body) => found.push(body.toString()) > 0);
  return found;
}

t.test('frames are the same however they are cut', (t) => {
  const sealer = new FrameSealer(KEY);
  const texts = ['', 'a', 'a longer one', 'x'.repeat(300)];
  const stream = Buffer.concat(texts.map((text) => sealer.seal(Buffer.from(text))));
  for (let at = 0; at <= stream.length; at++)
    t.same(bodies([stream.subarray(0, at), stream.subarray(at)]), texts, `cut at ${at}`);
  t.same(bodies([...stream].map((byte) => Uint8Array.of(byte))), texts, 'byte by byte');
  for (let end = 0; end < stream.length; end++)
    t.ok(bodies([stream.subarray(0, end)]).length < texts.length, `cut off at ${end}`);
  t.end();
});

t.test('a frame that is changed, repeated, moved or of another key is not read, and nothing after it', (t) => {
  const sealer = new FrameSealer(KEY);
  const [a, b] = [sealer.seal(Buffer.from('first')), sealer.seal(Buffer.from('second'))];
  for (let at = 0; at < a.length; at++)
    for (const bit of [1, 128]) {
      const changed = Buffer.from(a);
      changed[at]! ^= bit;
      const reader = new FrameReader(KEY);
      t.same(bodies([changed, b], reader), [], `byte ${at}, bit ${bit}`);
    }
  for (const [name, stream, read] of [
    ['repeated', [a, a], ['first']],
    ['moved', [b, a], []],
    ['left out', [b], []],
  ] as const) {
    const reader = new FrameReader(KEY);
    t.same(bodies(stream, reader), read, name);
    t.equal(reader.fault, 'forged', name);
    t.same(bodies([b], reader), [], `${name}: nothing after it`);
  }
  const other = new FrameReader(randomBytes(16));
  t.same(bodies([a], other), []);
  t.equal(other.fault, 'forged');
  t.end();
});

t.test('a length is refused before anything is reserved', (t) => {
  for (const [length, fault] of [
    [0xffffffff, 'too-long'],
    [FRAME_BYTES_MAX + 1, 'too-long'],
    [0, 'too-short'],
    [15, 'too-short'],
  ] as const) {
    const reader = new FrameReader(KEY);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(length);
    t.same(bodies([head, randomBytes(100)], reader), []);
    t.equal(reader.fault, fault, `${length}`);
    t.equal(reader.reserved, 0, `${length}`);
  }
  t.throws(() => new FrameSealer(KEY).seal(Buffer.alloc(FRAME_BYTES_MAX)), RangeError);
  t.end();
});

t.test('both ends derive the same keys, and only with the secret', (t) => {
  const hello = helloOf(CLUSTER, 7);
  const answered = answerTo(hello, CLUSTER, keys)!;
  t.equal(answered.verdict, 'go-on');
  t.same(readAnswer(hello, answered.answer, keys), { verdict: 'go-on', keys: answered.keys });
  t.notSame(answered.keys!.toAgent, answered.keys!.toCoordinator, 'directions differ');
  t.notSame(answerTo(hello, CLUSTER, keys)!.keys, answered.keys, 'a hello that is sent again gets other keys');
  const other = controlKeys(ringWith(7, randomBytes(32).toString('hex')));
  t.notSame(readAnswer(hello, answered.answer, other)!.keys, answered.keys, 'another secret');
  for (let at = 8; at < ANSWER_BYTES; at++) {
    const changed = Buffer.from(answered.answer);
    changed[at]! ^= 1;
    t.notSame(readAnswer(hello, changed, keys)!.keys, answered.keys, `answer changed at ${at}`);
  }
  t.equal(answerTo(helloOf(CLUSTER, 8), CLUSTER, keys)!.verdict, 'key');
  t.equal(answerTo(helloOf(CLUSTER, 0), CLUSTER, keys)!.verdict, 'key', 'no key is no key of a cluster with keys');
  t.equal(answerTo(helloOf(CLUSTER, 7), CLUSTER, controlKeys(undefined))!.verdict, 'key', 'nor the other way round');
  t.equal(answerTo(helloOf('00c0ffee12345679', 7), CLUSTER, keys)!.verdict, 'cluster');
  t.equal(answerTo(randomBytes(HELLO_BYTES), CLUSTER, keys), undefined);
  t.equal(controlKeys(ringWith(7, SECRET, 'read-only')).mayWrite(7), false);
  t.end();
});

t.test('the keys of a channel are not those of datagrams', (t) => {
  // What streams are derived from has 20 bytes and begins with a direction, 0 to 2.
  const asked: Uint8Array[] = [];
  const spying: ControlKeys = { ...keys, derive: (id, identity) => (asked.push(identity), keys.derive(id, identity)) };
  answerTo(helloOf(CLUSTER, 7), CLUSTER, spying);
  t.equal(asked.length, 2);
  for (const identity of asked) t.ok(identity.length > 20 && identity[0]! > 2);
  // The derivation is the keyring's: HMAC-SHA-256 under the key of streams, cut to 128 bits.
  const id = Buffer.alloc(4);
  id.writeUInt32BE(7);
  const streams = createHmac('sha256', Buffer.from(SECRET, 'hex'))
    .update('jitpaxos/5 aead')
    .update(Buffer.from(CLUSTER, 'hex'))
    .update(id)
    .digest();
  t.same(
    Buffer.from(keys.derive(7, asked[0]!)!),
    createHmac('sha256', streams).update(asked[0]!).digest().subarray(0, 16),
  );
  t.end();
});

interface Waiting {
  readonly listener: AgentListener;
  readonly claims: Claim[];
  readonly port: number;
}

async function waitingAgent(handshakeMs = 60_000): Promise<Waiting> {
  const claims: Claim[] = [];
  const listener = await AgentListener.open({
    host: '127.0.0.1',
    port: 0,
    cluster: CLUSTER,
    keys,
    handshakeMs,
    onClaim: (claim) => {
      claims.push(claim);
      claim.channel.events = { message: () => undefined, bytes: () => undefined, closed: () => undefined };
      claim.channel.send(WELCOME);
    },
  });
  return { listener, claims, port: listener.port };
}

/** Resolves to what came when the other end has closed. */
function speak(port: number, ...pieces: readonly Uint8Array[]): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      for (const piece of pieces) socket.write(piece);
    });
    const came: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => came.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(Buffer.concat(came)));
  });
}

const link = (port: number, own: ControlKeys = keys, version = '1.0.0'): Promise<AgentLink> =>
  AgentLink.open({ name: `a:${port}`, host: '127.0.0.1', port, cluster: CLUSTER, keys: own, by: 'test', version });

t.test('garbage of any length and form is counted, and costs nothing', async (t) => {
  const random = randomFrom(SEED);
  const { listener, claims, port } = await waitingAgent();
  const rounds = 200;
  for (let round = 0; round < rounds; round++) {
    const length = random(400);
    const bytes = Buffer.from(Array.from({ length }, () => random(256)));
    const hello = random(2) === 0 ? helloOf(CLUSTER, 7) : Buffer.alloc(0);
    if (hello.length > 0 && random(3) === 0) hello[random(hello.length)]! ^= 1;
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    await new Promise((resolve) => socket.once('connect', resolve));
    socket.on('data', () => undefined);
    socket.end(Buffer.concat([hello, bytes]));
    await new Promise((resolve) => socket.once('close', resolve));
  }
  for (let i = 0; i < 100 && sum(listener) < rounds; i++) await delay(20);
  t.equal(claims.length, 0, 'nobody was heard');
  t.equal(sum(listener), rounds, JSON.stringify(listener.refused));
  const working = await link(port);
  t.equal(working.facts.host, 'somewhere', 'and a coordinator is');
  working.end();
  listener.close();
});

const sum = ({ refused }: AgentListener): number => Object.values(refused).reduce((a, b) => a + b, 0);

t.test('giant and forged frames after a hello, a hello that is no hello, other clusters and keys', async (t) => {
  const { listener, claims, port } = await waitingAgent();
  const giant = Buffer.alloc(4, 0xff);
  const long = Buffer.alloc(4);
  long.writeUInt32BE(2_000); // longer than a claim, shorter than any frame may be later
  const forged = new FrameSealer(randomBytes(16)).seal(Buffer.from('x'));
  for (const [name, pieces, answerBytes] of [
    ['forged', [helloOf(CLUSTER, 7), giant], ANSWER_BYTES],
    ['forged', [helloOf(CLUSTER, 7), long, randomBytes(2_000)], ANSWER_BYTES],
    ['forged', [helloOf(CLUSTER, 7), forged], ANSWER_BYTES],
    ['hello', [randomBytes(HELLO_BYTES)], 0],
    ['cluster', [helloOf('00c0ffee12345679', 7)], ANSWER_BYTES],
    ['key', [helloOf(CLUSTER, 8)], ANSWER_BYTES],
  ] as const) {
    const before = listener.refused[name];
    const came = await speak(port, ...pieces);
    // The agent says that it is there, if it has time for it; what it says is sealed.
    t.ok(came.length >= answerBytes, `${name}: ${came.length} bytes`);
    t.equal(listener.refused[name], before + 1, name);
  }
  t.equal(claims.length, 0);
  listener.close();
});

t.test('a recording of a whole conversation is refused', async (t) => {
  const { listener, claims, port } = await waitingAgent();
  const recorded: Buffer[] = [];
  const relay = createServer((socket) => {
    const onward = connect(port, '127.0.0.1');
    socket.on('data', (chunk: Buffer) => {
      recorded.push(chunk);
      onward.write(chunk);
    });
    onward.pipe(socket);
    for (const end of [socket, onward]) end.on('error', () => undefined);
    socket.on('close', () => onward.destroy());
    onward.on('close', () => socket.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const working = await link((relay.address() as { port: number }).port);
  working.end();
  t.equal(claims.length, 1);
  t.ok(recorded.length >= 2, `${recorded.length} pieces`);
  await speak(port, Buffer.concat(recorded));
  t.equal(claims.length, 1, 'the recording claims nothing');
  t.equal(listener.refused.forged, 1);
  relay.close();
  listener.close();
});

t.test('strangers that say nothing keep nobody out, and are cut', async (t) => {
  const { listener, port } = await waitingAgent(1_500);
  const silent: Socket[] = [];
  for (let i = 0; i < 40; i++) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    await new Promise((resolve) => socket.once('connect', resolve));
    silent.push(socket);
  }
  const working = await link(port);
  t.ok(listener.refused.crowded >= 9, `${listener.refused.crowded} had to make room`);
  working.end();
  await Promise.all(
    silent.map((socket) => socket.destroyed || new Promise((resolve) => socket.once('close', resolve))),
  );
  t.ok(listener.refused.slow > 0, 'the others were cut after a while');
  listener.close();
});

t.test('what a coordinator is told', async (t) => {
  const { listener, port } = await waitingAgent();
  await t.rejects(link(port, controlKeys(ringWith(8, SECRET))), { code: 'agent-refused', message: /no key 8/ });
  await t.rejects(link(port, controlKeys(ringWith(7, randomBytes(32).toString('hex')))), {
    code: 'agent-refused',
    message: /another secret/,
  });
  await t.rejects(link(port, controlKeys(undefined)), { code: 'agent-refused', message: /it has keys/ });
  await t.rejects(link(port, keys, '2.0.0'), {
    code: 'agent-refused',
    message: /version 1\.0\.0, and this is 2\.0\.0/,
  });
  listener.close();
  await t.rejects(link(port), { code: 'agent-unreachable', message: /ECONNREFUSED/ });
  const other = createServer((socket) => socket.end(randomBytes(ANSWER_BYTES)));
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  await t.rejects(link((other.address() as { port: number }).port), { code: 'agent-refused', message: /no agent/ });
  other.close();
});

t.test('silence ends a channel; speaking keeps it', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const near = connect((server.address() as { port: number }).port, '127.0.0.1');
  const far = await accepted;
  far.resume();
  const why = await new Promise<string>((resolve) => {
    new Channel(
      { socket: near, sealing: KEY, opening: randomBytes(16), silenceMs: 200 },
      { message: () => undefined, bytes: () => undefined, closed: resolve },
    );
  });
  t.match(why, /nothing was heard/);
  server.close();
});

t.test('messages that are none are refused, whatever they hold', (t) => {
  const random = randomFrom(SEED);
  const counts = Object.fromEntries(
    [
      'committed',
      'fast',
      'ordered',
      'rejected',
      'restamped',
      'reconciled',
      'retransmitted',
      'failed',
      'viewChanges',
    ].map((name) => [name, 0]),
  );
  const histogram = { count: 1, sum: 5, min: 5, max: 5, buckets: [5, 1] };
  const right = [
    WELCOME,
    { type: 'time', wallMs: 1 },
    { type: 'held', by: 'x', seconds: 1 },
    { type: 'progress', seconds: 1, warming: false, counts, histogram },
    { type: 'done', logBytes: 1, counts, failure: null },
  ];
  for (const message of right) t.match(readFromAgent(message), { type: message.type });
  const junk = [null, -1, NaN, Infinity, '\u001b[2J', [], {}, true, [1, 2], 'x'.repeat(5_000)];
  let refused = 0;
  for (let round = 0; round < 3_000; round++) {
    const message = structuredClone(right[random(right.length)]!) as Record<string, unknown>;
    let target = message;
    const names = Object.keys(target);
    let name = names[random(names.length)]!;
    if (typeof target[name] === 'object' && target[name] !== null && random(10) < 7) {
      target = target[name] as Record<string, unknown>;
      name = Object.keys(target)[random(Object.keys(target).length)]!;
    }
    target[name] = junk[random(junk.length)];
    try {
      const read = readFromAgent(message);
      t.notMatch(JSON.stringify(read), /\u001b|x{2000}/, 'texts are cut and printable');
    } catch (error) {
      refused++;
      if (!(error instanceof Error) || error.message.length > 200) t.fail(`${String(error)}`);
    }
  }
  t.ok(refused > 1_000, `${refused} refused`);
  for (const value of [
    ...junk,
    { type: 'exec', command: 'x' },
    { type: 'start', atMs: -1 },
    { type: 'piece', at: '/' },
  ])
    t.throws(() => readToAgent(value));
  t.end();
});
