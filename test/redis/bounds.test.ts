/** What clients can make the front end hold, and how long one of them can keep it busy: counted, in bytes and commands. */
import t, { type Test } from 'tap';
import { command, startFront, Wire, type Started } from './stand-in.js';

const RUN_BYTES = 1 << 18;
const PASS_BYTES = 1 << 20;
const PASS_COMMANDS = 10_000;
const RUN_COMMANDS = 1_000;
const CHUNK_BYTES = 1 << 16;

async function started(t: Test, options: Parameters<typeof startFront>[0] = {}): Promise<Started> {
  const front = await startFront(options);
  t.teardown(() => front.close());
  return front;
}

async function opened(t: Test, { listener }: Started): Promise<Wire> {
  const wire = await Wire.open(listener.port);
  t.teardown(() => wire.close());
  return wire;
}

const turn = (): Promise<void> => new Promise(setImmediate);

t.test('watched keys are bounded like an operation', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  const both = async (sent: string, reply: string): Promise<void> => void t.equal(await wire.ask(sent, reply), reply);
  const key = (i: number): string => `${i}`.padStart(4, '0') + 'k'.repeat(1_020);
  const tooLong = '-ERR the key has 1025 bytes, this cluster takes 1 to 1024\r\n';
  await both(command('WATCH', 'a', 'x'.repeat(1_025)), tooLong);
  t.equal(front.store.calls.length, 0, 'the cluster is not asked');
  // 47 of them, with 10 bytes each in an operation, are 48,598 bytes.
  for (let i = 0; i < 47; i++)
    await both(command('WATCH', key(i), key(i)) + command('WATCH', key(i)), '+OK\r\n+OK\r\n');
  const tooMany = '-ERR the watched keys have more than 49152 bytes, which this cluster does not take\r\n';
  await both(command('WATCH', 'short', key(47)), tooMany);
  const { watched } = [...front.front.connections.values()][0]!;
  t.equal(watched.size, 47, 'all keys of a command are watched, or none');
  t.equal(watched.bytes, 47 * 1_034);
  await both(command('UNWATCH') + command('WATCH', key(47)), '+OK\r\n+OK\r\n');
  t.equal(watched.bytes, 1_034);
  await both(command('UNWATCH'), '+OK\r\n');
  const small = Array.from({ length: 1_025 }, (_, i) => `${i}`);
  await both(command('WATCH', ...small), '-ERR more than 1024 keys are watched\r\n');
  await both(command('WATCH', ...small.slice(1)), '+OK\r\n');
  await both(command('MULTI') + command('SET', 'a', '1') + command('EXEC'), '+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n');
  const { watched: sent } = front.store.calls.at(-1)!.commands[0]!;
  t.same(
    sent!.map(({ key }) => key),
    small.slice(1),
  );
});

t.test('long replies to short commands wait for the client', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  const asked = command('COMMAND', 'INFO', ...Array<string>(256).fill('client'));
  wire.send(asked);
  while (!wire.text.endsWith('\r\n') || front.front.counters.locals < 1) await turn();
  for (let i = 0; i < 20; i++) await turn();
  const replyBytes = wire.text.length;
  wire.socket.pause();
  wire.send(asked.repeat(200));
  const connection = [...front.front.connections.values()][0]!;
  while (!connection.isStalled) await turn();
  const most = (8 << 20) + RUN_BYTES + replyBytes;
  t.ok(connection.unsent <= most, `${connection.unsent} bytes wait, ${most} may`);
  wire.text = '';
  wire.socket.resume();
  let read = 0;
  while (read < 200 * replyBytes) {
    await turn();
    read += wire.text.length;
    wire.text = '';
  }
  t.equal(read, 200 * replyBytes, 'all of them come');
});

t.test('names have a bound', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  for (const words of [
    ['COMMAND', 'INFO'],
    ['COMMAND', 'DOCS'],
    ['CLIENT', 'LIST'],
    ['CLIENT', 'KILL'],
    ['CONFIG', 'GET'],
  ]) {
    const refused = '-ERR the command has 257 names, this server takes 256\r\n';
    t.equal(await wire.ask(command(...words, ...Array<string>(257).fill('id')), refused), refused);
  }
});

t.test('a transaction does not gather long replies', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  const count = 100;
  for (const other of ['', command('GET', 'none')]) {
    const own = command('COMMAND', 'INFO', ...Array<string>(20).fill('client'));
    wire.send(`${command('MULTI')}${own.repeat(count)}${other}${command('EXEC')}PING\r\n`);
    while (!wire.text.endsWith('+PONG\r\n')) await turn();
    const { text } = wire;
    wire.text = '';
    const refused = '-ERR the replies of this server in a transaction have more than 262144 bytes\r\n';
    const said = count - (text.split(refused).length - 1);
    t.ok(said > 1 && said < count, `${said} of ${count} are said`);
    t.ok(text.length < RUN_BYTES + count * 1_024, `${text.length} bytes`);
  }
});

t.test('a pass is bounded over all connections', async (t) => {
  const front = await started(t);
  const info = command('COMMAND', 'INFO', ...Array<string>(256).fill('client'));
  const longest = 1 << 20;
  for (const [what, payload, made, most] of [
    ['bytes', info.repeat(8), () => madeBytes(front), PASS_BYTES + RUN_BYTES + longest],
    [
      'muted bytes',
      command('CLIENT', 'REPLY', 'OFF') + info.repeat(8),
      () => madeBytes(front),
      PASS_BYTES + RUN_BYTES + longest,
    ],
    ['commands', 'PING\r\n'.repeat(5_000), () => front.front.counters.locals, PASS_COMMANDS + RUN_COMMANDS],
  ] as const) {
    // All of it is there before any of it can be taken.
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    front.store.before = () => gate;
    const wires = await Promise.all(Array.from({ length: 40 }, () => opened(t, front)));
    const first = command('SET', 'a', '1');
    const inputEnd = front.front.counters.inputBytes + 40 * (first.length + payload.length);
    for (const wire of wires) wire.send(first + payload);
    while (front.front.counters.inputBytes < inputEnd) await turn();
    let before = made();
    let worst = 0;
    open();
    for (let quiet = 0; quiet < 20; ) {
      await turn();
      const now = made();
      quiet = now === before ? quiet + 1 : 0;
      worst = Math.max(worst, now - before);
      before = now;
    }
    t.ok(worst > 0 && worst <= most, `${what}: ${worst} in one turn of the event loop, ${most} may be`);
    for (const connection of front.front.connections.values()) {
      t.equal(connection.reader.waiting, 0, 'all commands are taken');
      connection.socket.destroy();
    }
    while (front.front.connections.size > 0) await turn();
  }
});

function madeBytes({ front }: Started): number {
  let sum = 0;
  for (const { madeBytes } of front.connections.values()) sum += madeBytes;
  return sum;
}

t.test('commands of all connections that wait are bounded, and none is lost', async (t) => {
  const front = await started(t, { inputBytesMax: 1_000 });
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  front.store.before = () => gate;
  const wires = await Promise.all(Array.from({ length: 10 }, () => opened(t, front)));
  const count = 4_000;
  for (const [i, wire] of wires.entries()) wire.send(command('SET', `k${i}`, 'x'.repeat(100)).repeat(count));
  const held = (): number => [...front.front.connections.values()].reduce((sum, { reader }) => sum + reader.waiting, 0);
  while (front.store.calls.length === 0 || held() < CHUNK_BYTES) await turn();
  for (let i = 0; i < 300; i++) await turn();
  t.ok(front.front.input.isFull);
  t.ok(held() <= 1_000 + 10 * CHUNK_BYTES, `${held()} bytes wait`);
  // A part of a command that came is no reason not to read the rest.
  const other = await opened(t, front);
  const echo = command('ECHO', 'y'.repeat(2_000));
  other.send(echo.slice(0, 1_000));
  const inputBytes = (): number => front.front.counters.inputBytes;
  const before = inputBytes();
  while (inputBytes() < before + 1_000 && [...front.front.connections.values()].at(-1)!.reader.waiting < 1_000)
    await turn();
  other.send(echo.slice(1_000));
  t.equal((await other.read(2_009)).length, 2_009, 'others are served');
  open();
  const replies = '+OK\r\n'.repeat(count);
  for (const wire of wires) t.ok((await wire.read(replies.length)) === replies);
  t.equal(front.front.input.bytes, 0);
  wires[0]!.send('*2\r\n$4\r\nECHO\r\n$10\r\nabc');
  while (front.front.input.bytes === 0) await turn();
  wires[0]!.close();
  while (front.front.connections.size > 10) await turn();
  t.equal(front.front.input.bytes, 0, 'a closed connection holds nothing');
});

t.test('clients that ask for long values in long pipelines do not keep others waiting', async (t) => {
  const front = await started(t, { lanes: 2 });
  // As if each answer filled a result.
  front.store.most = 1;
  const hogs = await Promise.all(Array.from({ length: 20 }, () => opened(t, front)));
  const other = await opened(t, front);
  const { calls } = front.store;
  for (const hog of hogs) hog.send(command('GET', 'long').repeat(3_000));
  while (calls.length < 2_000) await turn();
  let worst = 0;
  for (let i = 0; i < 5; i++) {
    const before = calls.length;
    await other.ask(command('GET', 'own'), '$-1\r\n');
    worst = Math.max(worst, calls.length - before);
  }
  t.ok(worst <= 200, `others had ${worst} operations in between`);
  for (const hog of hogs) t.ok(hog.text.length < 3_000 * 5, 'they are not done yet');
});
