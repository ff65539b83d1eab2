/** The front end over a stand-in of the store: order, batches, what is said when nothing is known, transactions. */
import t, { type Test } from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { command, startFront, Wire, type Started } from './stand-in.js';

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

/** Holds calls until it is opened. */
class Gate {
  private waiting: (() => void)[] = [];
  isOpen = false;
  readonly pass = (): Promise<void> | void =>
    this.isOpen ? undefined : new Promise((resolve) => void this.waiting.push(resolve));
  open(): void {
    this.isOpen = true;
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

t.test('commands and replies', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  for (const [sent, reply] of [
    ['PING\r\n', '+PONG\r\n'],
    [command('SET', 'a', '1'), '+OK\r\n'],
    [command('get', 'a'), '$1\r\n1\r\n'],
    [command('Get', 'none'), '$-1\r\n'],
    [command('PING', 'hello'), '$5\r\nhello\r\n'],
    [command('ECHO', '\0\xff'), '$2\r\n\0\xff\r\n'],
    [command('SELECT', '0'), '+OK\r\n'],
    [command('SELECT', '1'), '-ERR DB index is out of range\r\n'],
    [command('NOTHING', 'a', 'b'), "-ERR unknown command 'NOTHING', with args beginning with: 'a' 'b' \r\n"],
    [command('GET'), "-ERR wrong number of arguments for 'get' command\r\n"],
    [command('CLIENT', 'nothing'), "-ERR unknown subcommand 'nothing'. Try CLIENT HELP.\r\n"],
    [command('CLIENT', 'SETNAME', 'me'), '+OK\r\n'],
    [command('CLIENT', 'GETNAME'), '$2\r\nme\r\n'],
    [command('WAIT', '1', '0'), ':1\r\n'],
    [command('HELLO', '4'), '-NOPROTO unsupported protocol version\r\n'],
    [
      command('AUTH', 'x'),
      '-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n',
    ],
    [command('CONFIG', 'GET', 'save'), '*2\r\n$4\r\nsave\r\n$0\r\n\r\n'],
    [command('TIME'), '*2\r\n$1\r\n1\r\n$1\r\n0\r\n'],
    [command('COMMAND', 'GETKEYS', 'MSET', 'a', '1', 'b', '2'), '*2\r\n$1\r\na\r\n$1\r\nb\r\n'],
  ] as const)
    t.equal(await wire.ask(sent, reply), reply, sent);
  wire.send(command('HELLO', '3'));
  t.match(await wire.read(7), '%7\r\n$6');
  await wire.read(0);
  wire.text = '';
  wire.send(command('GET', 'none') + command('QUIT'));
  t.match(await wire.rest(), /_\r\n\+OK\r\n$/);
});

t.test('a pipeline is answered in its order, whoever answers', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  let sent = '';
  let expected = '';
  for (let i = 1; i <= 5_000; i++) {
    sent += `${command('INCR', 'n')}PING\r\n${command('GET', 'n')}${command('ECHO', `${i}`)}${command('WRONG')}`;
    expected += `:${i}\r\n+PONG\r\n$${`${i}`.length}\r\n${i}\r\n$${`${i}`.length}\r\n${i}\r\n`;
    expected += "-ERR unknown command 'WRONG', with args beginning with: \r\n";
  }
  t.ok((await wire.ask(sent, expected)) === expected, 'every reply is there, in order');
  t.ok(front.store.calls.length < 600, `${front.store.calls.length} operations`);
  t.ok(
    front.store.calls.every(({ commands }) => commands.length > 0),
    'none of them is empty',
  );
});

t.test('commands of many connections share an operation; reads are read', async (t) => {
  const front = await started(t, { lanes: 1, batchBytes: 4_000 });
  const gate = new Gate();
  front.store.before = gate.pass;
  const first = await opened(t, front);
  first.send(command('SET', 'x', '0'));
  while (front.store.calls.length === 0) await new Promise(setImmediate);
  const wires = await Promise.all(Array.from({ length: 40 }, () => opened(t, front)));
  wires.forEach((wire, i) => wire.send(i % 2 === 0 ? command('GET', 'x') : command('SET', `k${i}`, 'v')));
  wires[0]!.send('');
  // All of them have to be there before the lane is free.
  while (front.front.counters.inputBytes < 40 * 22) await new Promise(setImmediate);
  const ping = await opened(t, front);
  t.equal(await ping.ask('PING\r\n', '+PONG\r\n'), '+PONG\r\n', 'what needs no cluster is answered meanwhile');
  gate.open();
  t.equal(await first.read(5), '+OK\r\n');
  for (const [i, wire] of wires.entries())
    t.equal(await wire.read(i % 2 === 0 ? 7 : 5), i % 2 === 0 ? '$1\r\n0\r\n' : '+OK\r\n');
  t.same(
    front.store.calls.map(({ isQuery, commands }) => `${isQuery ? 'query' : 'execute'} ${commands.length}`),
    ['execute 1', 'query 20', 'execute 20'],
  );
});

t.test('an operation that leaves commands over is continued, in order', async (t) => {
  for (const most of [1, 2, 7]) {
    const front = await started(t);
    front.store.most = most;
    const wires = await Promise.all([1, 2, 3].map(() => opened(t, front)));
    let expected = '';
    let sent = '';
    for (let i = 0; i < 50; i++) {
      sent += `${command('SET', 'KEY', `${i}`) + command('GET', 'KEY')}PING\r\n`;
      expected += `+OK\r\n$${`${i}`.length}\r\n${i}\r\n+PONG\r\n`;
    }
    const read = await Promise.all(
      wires.map((wire, i) => wire.ask(sent.replaceAll('KEY', `k${i}x`.slice(0, 3)), expected)),
    );
    for (const each of read) t.ok(each === expected, `${most} at once`);
    t.ok(front.front.counters.continued > 0);
  }
});

t.test('long answers: an operation takes what fits its room', async (t) => {
  const front = await started(t, { roomBytes: 4_096 });
  const wire = await opened(t, front);
  const value = 'v'.repeat(900);
  const expected = `+OK\r\n${`$900\r\n${value}\r\n`.repeat(30)}`;
  t.ok((await wire.ask(command('SET', 'k', value) + command('GET', 'k').repeat(30), expected)) === expected);
});

t.test('what is not known is INDOUBT, what was not executed is TRYAGAIN', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  const said = async (sent: string, error: unknown, when: 'before' | 'after'): Promise<string> => {
    front.store[when] = () => {
      throw error;
    };
    wire.send(`${sent}PING\r\n`);
    while (!wire.text.endsWith('+PONG\r\n')) await new Promise(setImmediate);
    front.store[when] = () => undefined;
    const { text } = wire;
    wire.text = '';
    return text;
  };
  const unknown = new JitPaxosError('outcome-unknown', 'no answer');
  const INDOUBT = '-INDOUBT no certain answer within 2000 ms: it may be executed, once, or not at all\r\n';
  t.equal(await said(command('INCR', 'n'), unknown, 'after'), `${INDOUBT}+PONG\r\n`);
  t.equal(
    await said(command('INCR', 'n') + command('GET', 'n'), new JitPaxosError('session-lost', 'x'), 'before'),
    `${INDOUBT}${INDOUBT}+PONG\r\n`,
  );
  t.match(
    await said(command('GET', 'n'), unknown, 'after'),
    /^-TRYAGAIN no certain answer.*a read changes nothing\r\n/,
  );
  for (const code of ['busy', 'aborted', 'operation-refused', 'client-closed'] as const)
    t.match(
      await said(command('INCR', 'n'), new JitPaxosError(code, 'x'), 'before'),
      new RegExp(`^-TRYAGAIN .*${code}.*; nothing was executed\r\n`),
    );
  t.equal(front.broken.length, 1, 'the closed client is given up');
  t.match(await said(command('INCR', 'n'), new Error('a bug'), 'before'), /^-INDOUBT /);
  t.equal(front.broken.length, 2);
  t.match(await said(command('SET', 'n', '1'), new JitPaxosError('read-only', 'x'), 'before'), /^-READONLY /);
  front.store.isOff = true;
  t.match(
    await said(command('GET', 'n'), undefined, 'after'),
    /^-ERR the feature redis is off.*features enable redis\r\n/,
  );
  front.store.isOff = false;
  t.same(front.features.slice(-1), [false]);
  front.front.store = undefined;
  t.match(await said(command('SET', 'n', '1'), undefined, 'before'), /^-TRYAGAIN .*nothing was executed\r\n/);
  front.front.store = front.store;
  wire.send(command('SET', 'n', '1'));
  t.equal(await wire.read(5), '+OK\r\n', 'it goes on');
});

t.test('a read that saw an end that has passed is decided by the log', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  front.store.due = 1_001;
  t.equal(await wire.ask(command('GET', 'k'), '$-1\r\n'), '$-1\r\n');
  front.store.nowMs = 1_001;
  t.equal(await wire.ask(command('GET', 'k'), '$-1\r\n'), '$-1\r\n');
  t.same(
    front.store.calls.map(({ isQuery }) => isQuery),
    [true, true, false],
  );
  front.store.before = (isQuery) => {
    if (!isQuery) throw new JitPaxosError('read-only', 'x');
  };
  t.equal(await wire.ask(command('GET', 'k'), '$-1\r\n'), '$-1\r\n', 'with a key that only reads: what was read');
});

t.test('transactions', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  const other = await opened(t, front);
  const both = async (sent: string, reply: string): Promise<void> => void t.equal(await wire.ask(sent, reply), reply);
  await both(
    command('MULTI') + command('SET', 'a', '1') + command('GET', 'a') + command('EXEC'),
    '+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n1\r\n',
  );
  t.equal(front.store.calls.length, 1, 'one command of one operation');
  await both(
    command('MULTI') + command('CLIENT', 'GETNAME') + command('INCR', 'a') + command('ECHO', 'x') + command('EXEC'),
    '+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n' + '*3\r\n$-1\r\n:2\r\n-ERR ECHO is not known to the stand-in\r\n',
  );
  // Watched, read and executed in one write; then changed in between.
  await both(
    command('WATCH', 'a', 'b') + command('GET', 'a') + command('MULTI') + command('INCR', 'a') + command('EXEC'),
    '+OK\r\n$1\r\n2\r\n+OK\r\n+QUEUED\r\n*1\r\n:3\r\n',
  );
  await both(command('WATCH', 'a', 'b'), '+OK\r\n');
  await other.ask(command('SET', 'b', '1'), '+OK\r\n');
  await both(command('MULTI') + command('INCR', 'a') + command('EXEC'), '+OK\r\n+QUEUED\r\n*-1\r\n');
  await both(command('MULTI') + command('INCR', 'a') + command('EXEC'), '+OK\r\n+QUEUED\r\n*1\r\n:4\r\n');
  await both(command('WATCH', 'a') + command('UNWATCH'), '+OK\r\n+OK\r\n');
  await both(command('EXEC'), '-ERR EXEC without MULTI\r\n');
  await both(command('DISCARD'), '-ERR DISCARD without MULTI\r\n');
  await both(
    command('MULTI') + command('MULTI') + command('WATCH', 'a') + command('SET', 'z', '1') + command('DISCARD'),
    '+OK\r\n-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n+QUEUED\r\n+OK\r\n',
  );
  await both(
    command('MULTI') + command('GET') + command('SET', 'z', '1') + command('EXEC'),
    "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
  );
  t.notOk(front.store.values.has('z'));
  await both(command('MULTI') + command('EXEC'), '+OK\r\n*0\r\n');
  const long = command('SET', 'z', 'x'.repeat(30_000));
  await both(
    command('MULTI') + long + long + command('EXEC'),
    '+OK\r\n+QUEUED\r\n-ERR the transaction has more than 49152 bytes, which this cluster does not take\r\n-EXECABORT Transaction discarded because of previous errors.\r\n',
  );
  front.store.after = () => {
    throw new JitPaxosError('outcome-unknown', 'x');
  };
  wire.send(command('MULTI') + command('INCR', 'a') + command('CLIENT', 'ID') + command('EXEC'));
  while (!/INDOUBT[^\n]*\n$/.test(wire.text)) await new Promise(setImmediate);
  t.match(wire.text, /^\+OK\r\n\+QUEUED\r\n\+QUEUED\r\n-INDOUBT /);
});

t.test('CLIENT REPLY', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  wire.send(
    command('CLIENT', 'REPLY', 'SKIP') +
      command('SET', 'a', '1') +
      command('GET', 'a') +
      command('CLIENT', 'REPLY', 'OFF') +
      command('SET', 'a', '2') +
      command('WATCH', 'a') +
      'PING\r\n' +
      command('CLIENT', 'REPLY', 'ON') +
      command('GET', 'a'),
  );
  t.equal(await wire.read(7 + 5 + 7), '$1\r\n1\r\n+OK\r\n$1\r\n2\r\n');
});

t.test('a client that ends its side first gets its replies', async (t) => {
  const front = await started(t);
  const wire = await Wire.open(front.listener.port);
  wire.socket.end(`${command('SET', 'a', '1') + command('GET', 'a')}*1\r\n$4\r\nPI`);
  t.equal(await wire.rest(), '+OK\r\n$1\r\n1\r\n');
  const nothing = await Wire.open(front.listener.port);
  nothing.socket.end();
  t.equal(await nothing.rest(), '');
});

t.test('what is no command ends the connection, behind the replies', async (t) => {
  const front = await started(t);
  const wire = await Wire.open(front.listener.port);
  wire.send(`${command('SET', 'a', '1')}*1\r\nxyz\r\nPING\r\n`);
  t.equal(await wire.rest(), "+OK\r\n-ERR Protocol error: expected '$', got 'x'\r\n");
  wire.close();
});

t.test('commands that are too long are refused, and the connection goes on', async (t) => {
  const front = await started(t);
  const wire = await opened(t, front);
  wire.send(command('SET', 'a', 'x'.repeat(200_000)) + command('SET', 'a', 'y'.repeat(49_140)) + command('GET', 'a'));
  const text = await wire.read(0);
  t.equal(text, '');
  while (!wire.text.endsWith('$-1\r\n')) await new Promise(setImmediate);
  t.match(
    wire.text,
    /^-ERR the value has 200000 bytes, this cluster takes 49152\r\n-ERR the command has \d+ bytes, its longest argument 49140; this cluster takes 49152\r\n\$-1\r\n$/,
  );
});

t.test('more connections than maxclients are refused', async (t) => {
  const front = await started(t, { clientsMax: 2 });
  const wires = [await opened(t, front), await opened(t, front)];
  for (const wire of wires) t.equal(await wire.ask('PING\r\n', '+PONG\r\n'), '+PONG\r\n');
  const third = await Wire.open(front.listener.port);
  t.equal(await third.rest(), '-ERR max number of clients reached\r\n');
  third.close();
  wires[0]!.close();
  while (front.front.connections.size > 1) await new Promise(setImmediate);
  const next = await opened(t, front);
  t.equal(await next.ask('PING\r\n', '+PONG\r\n'), '+PONG\r\n');
});

t.test('a client that does not read holds a bounded number of replies', async (t) => {
  const front = await started(t);
  const wire = await Wire.open(front.listener.port);
  t.teardown(() => wire.close());
  const value = 'v'.repeat(20_000);
  await wire.ask(command('SET', 'k', value), '+OK\r\n');
  wire.socket.pause();
  // 60 MB of answers to 70 KB of commands, then more commands than are kept.
  wire.send(command('GET', 'k').repeat(3_000) + command('SET', 'done', '1').repeat(20_000));
  const connection = [...front.front.connections.values()][0]!;
  while (!connection.isStalled) await new Promise(setImmediate);
  const calls = front.store.calls.length;
  for (let i = 0; i < 50; i++) await new Promise(setImmediate);
  t.equal(front.store.calls.length, calls, 'its commands wait');
  t.ok(connection.unsent < (8 << 20) + 256 * 20_010, `${connection.unsent} bytes wait`);
  t.ok(connection.reader.waiting < 400_000, `${connection.reader.waiting} bytes of commands wait`);
  const other = await opened(t, front);
  t.equal(await other.ask(command('GET', 'none'), '$-1\r\n'), '$-1\r\n', 'others are served');
  wire.socket.resume();
  const length = 3_000 * (20_000 + 10) - 1_000 * 0 + 20_000 * 5;
  let read = 0;
  while (read < length) {
    await new Promise(setImmediate);
    read += wire.text.length;
    wire.text = '';
  }
  t.equal(front.store.values.get('done')?.value, '1');
});

t.test('stopping answers what is open, and takes no more', async (t) => {
  const front = await startFront();
  const gate = new Gate();
  front.store.before = gate.pass;
  const wire = await Wire.open(front.listener.port);
  const idle = await Wire.open(front.listener.port);
  wire.send(command('SET', 'a', '1'));
  while (front.store.calls.length === 0) await new Promise(setImmediate);
  wire.send(command('SET', 'a', '2'));
  const closing = front.close();
  t.equal(await idle.rest(), '', 'an idle connection is closed at once');
  idle.close();
  gate.open();
  t.equal(await wire.rest(), '+OK\r\n');
  wire.close();
  await closing;
  t.equal(front.store.values.get('a')?.value, '1');
});

t.test('a bug closes the connections that it concerns, and no other', async (t) => {
  const front = await started(t);
  const other = await opened(t, front);
  const wire = await Wire.open(front.listener.port);
  wire.send(command('WATCH', 'malformed'));
  await wire.rest();
  t.equal(front.bugs.length, 1, 'an answer that is none');
  const second = await Wire.open(front.listener.port);
  // A command that throws while it is looked at.
  front.front.settings.has = () => {
    throw new Error('a bug');
  };
  second.send(command('CONFIG', 'SET', 'a', 'b'));
  await second.rest();
  t.equal(front.bugs.length, 2);
  for (let i = 0; i < 10; i++) t.equal(await other.ask(command('SET', 'a', '1'), '+OK\r\n'), '+OK\r\n');
  wire.close();
  second.close();
});
