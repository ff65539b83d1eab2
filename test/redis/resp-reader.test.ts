/** How bytes become commands: every cut, every bound, Redis' own words for what is no command. */
import t from 'tap';
import { ARGUMENTS_MAX, CommandSpans, Found, RespReader } from '../../src/redis/resp-reader.js';
import { seededRandom } from '../../src/measure/load/random.js';

import { command } from './stand-in.js';

const COMMAND_BYTES_MAX = 1_000;

/** What a reader finds in chunks: commands, refusals and the fault as texts. */
function found(chunks: readonly (string | Uint8Array)[], unknown = false): string[] {
  const reader = new RespReader(COMMAND_BYTES_MAX);
  reader.unknown = unknown;
  const spans = new CommandSpans();
  const all: string[] = [];
  for (const chunk of chunks) {
    reader.push(typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk);
    for (;;) {
      const next = reader.next(spans);
      if (next === Found.nothing) break;
      if (next === Found.fault) {
        all.push(reader.fault);
        return all;
      }
      if (next === Found.refused) {
        const { name, arguments: count, longest } = reader.refusal!;
        all.push(`refused ${name} ${count} ${longest}`);
      } else all.push(Array.from({ length: spans.count }, (_, i) => spans.text(i)).join('|'));
      reader.take();
    }
  }
  if (reader.waiting > 0) all.push(`waiting ${reader.waiting}`);
  return all;
}

const STREAM = [
  command('SET', 'key', 'value\r\n\0\xff'),
  'PING\r\n',
  '\r\n*0\r\n*-1\r\n',
  command('MSET', 'a', '', 'b', 'x'.repeat(300)),
  command('SET', 'long', 'y'.repeat(5_000)),
  "set \"quoted \\x41\\n\" 'single\\'' \t plain\n",
  command('GET', 'key'),
].join('');
const COMMANDS = [
  'SET|key|value\r\n\0\xff',
  'PING',
  `MSET|a||b|${'x'.repeat(300)}`,
  'refused SET 3 5000',
  "set|quoted A\n|single'|plain",
  'GET|key',
];

t.test('commands are found whatever the cuts', (t) => {
  t.same(found([STREAM]), COMMANDS, 'in one piece');
  t.same(found([...STREAM]), COMMANDS, 'byte by byte');
  for (let cut = 1; cut < STREAM.length; cut++) {
    const pieces = found([STREAM.slice(0, cut), STREAM.slice(cut)]);
    if (pieces.join('\n') !== COMMANDS.join('\n')) t.same(pieces, COMMANDS, `cut at ${cut}`);
  }
  const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  const random = seededRandom(seed);
  for (let round = 0; round < 300; round++) {
    const pieces: string[] = [];
    for (let at = 0; at < STREAM.length; ) {
      const length = 1 + Math.floor(random() ** 3 * 900);
      pieces.push(STREAM.slice(at, at + length));
      at += length;
    }
    const read = found(pieces);
    if (read.join('\n') !== COMMANDS.join('\n')) t.same(read, COMMANDS, `seed ${seed}, round ${round}`);
  }
  t.pass(`seed ${seed}`);
  t.end();
});

t.test('a command that was taken is not changed by what comes later', (t) => {
  const reader = new RespReader(COMMAND_BYTES_MAX);
  const spans = new CommandSpans();
  reader.push(Buffer.from(`${command('GET', 'first')}*2\r\n$3\r\nGET\r\n$6\r\nsec`, 'latin1'));
  t.equal(reader.next(spans), Found.command);
  t.equal(spans.text(1), 'first');
  t.equal(reader.next(spans), Found.command, 'it stays the next one until it is taken');
  reader.take();
  t.equal(reader.next(spans), Found.nothing);
  reader.push(Buffer.from('ond\r\n', 'latin1'));
  t.equal(reader.next(spans), Found.command);
  t.equal(spans.text(1), 'second');
  reader.take();
  t.equal(reader.waiting, 0);
  t.end();
});

t.test('bounds', (t) => {
  t.same(found([command(...Array.from({ length: ARGUMENTS_MAX + 1 }, (_, i) => `${i % 10}`)), command('PING')]), [
    `refused 0 ${ARGUMENTS_MAX + 1} 1`,
    'PING',
  ]);
  t.same(found(['*2\r\n$3\r\nGET\r\n$536870912\r\n']), [], 'as long as Redis takes: it is passed over');
  t.same(found(['*2\r\n$3\r\nGET\r\n$536870913\r\n']), ['ERR Protocol error: invalid bulk length']);
  t.same(found([`PING ${'x'.repeat(66_000)}`]), ['ERR Protocol error: too big inline request']);
  t.same(found([`*${'1'.repeat(66_000)}`]), ['ERR Protocol error: too big mbulk count string']);
  t.same(found([`*1\r\n$${'1'.repeat(66_000)}`]), ['ERR Protocol error: too big bulk count string']);
  const reader = new RespReader(COMMAND_BYTES_MAX);
  const spans = new CommandSpans();
  reader.push(Buffer.from('*2\r\n$3\r\nSET\r\n$500000000\r\n'));
  for (let i = 0; i < 1_000; i++) {
    reader.push(Buffer.alloc(10_000));
    if (reader.next(spans) !== Found.nothing) t.fail('something was found in a value');
    if (reader.waiting > 0) t.fail('what is passed over is kept');
  }
  t.end();
});

t.test('what is no command', (t) => {
  for (const [text, fault] of [
    ['*abc\r\n', 'invalid multibulk length'],
    ['*\r\n', 'invalid multibulk length'],
    ['*+1\r\n', 'invalid multibulk length'],
    ['*01\r\n', 'invalid multibulk length'],
    ['*2147483648\r\n', 'invalid multibulk length'],
    ['*1\r\nPING\r\n', "expected '$', got 'P'"],
    ['*1\r\n\x01ING\r\n', "expected '$', got '?'"],
    ['*1\r\n$-1\r\n', 'invalid bulk length'],
    ['*1\r\n$x\r\n', 'invalid bulk length'],
    ['*1\r\n$ 4\r\n', 'invalid bulk length'],
    ['set "a\r\n', 'unbalanced quotes in request'],
    ['set "a"b\r\n', 'unbalanced quotes in request'],
    ["set 'a\r\n", 'unbalanced quotes in request'],
  ] as const) {
    t.same(found([text]), [`ERR Protocol error: ${fault}`], text);
    t.same(found([...text]), [`ERR Protocol error: ${fault}`], `${text} byte by byte`);
  }
  t.same(found(['*11\r\n'], true), ['ERR Protocol error: unauthenticated multibulk length']);
  t.same(found(['*2\r\n$4\r\nAUTH\r\n$16385\r\n'], true), ['ERR Protocol error: unauthenticated bulk length']);
  t.end();
});

t.test('any bytes: nothing is thrown, and little is kept', (t) => {
  const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  const random = seededRandom(seed);
  const alphabet = '*$\r\n0123456789-PINGset "\'\\x';
  for (let round = 0; round < 3_000; round++) {
    const chunks = Array.from({ length: 1 + Math.floor(random() * 8) }, () =>
      Array.from({ length: Math.floor(random() * 40) }, () =>
        random() < 0.1 ? String.fromCharCode(random() * 256) : alphabet[Math.floor(random() * alphabet.length)],
      ).join(''),
    );
    try {
      found(chunks);
    } catch (error) {
      t.fail(`seed ${seed}, round ${round}: ${String(error)}: ${JSON.stringify(chunks)}`);
    }
  }
  t.pass(`seed ${seed}`);
  t.end();
});
