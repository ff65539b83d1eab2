/**
 * One operation, and one command, do a bounded amount of work: patterns count their steps, and commands on many bytes count
 * those. Nothing here looks at the time.
 */
import t from 'tap';
import { PATTERN_STEPS_MAX } from '../../../src/machine/redis/call.js';
import { globSteps } from '../../../src/machine/redis/glob.js';
import { bytesOf, RedisMachine, type Part, type Transaction } from './redis-machine.js';

/** Looks at every `a` 500 times. */
const SLOW = `*${'a'.repeat(500)}b`;
const TOO_MANY_STEPS = `-ERR KEYS with this pattern takes more than ${PATTERN_STEPS_MAX} steps; use SCAN\r\n`;

/** How many of these commands one operation executes. */
function executed(machine: RedisMachine, parts: readonly (Part | Transaction)[]): number {
  return machine.answers(parts).length;
}

function times(count: number, words: readonly string[]): Part[] {
  return Array.from({ length: count }, () => ({ words }));
}

t.test('a pattern counts the bytes of it that are looked at', (t) => {
  const steps = (pattern: string, text: string): number =>
    globSteps(bytesOf(`<${pattern}>`), 1, pattern.length, bytesOf(`<${text}>`), 1, text.length);
  t.equal(steps('abc', 'abc'), 4);
  t.equal(steps('abc', 'xbc'), -2);
  t.equal(steps('*', 'x'.repeat(1000)), 2, 'a star at the end needs no more');
  t.equal(steps('****', 'x'), 5);
  t.equal(steps('[abc]', 'c'), 6);
  t.equal(steps('[abc]', 'd'), -6, 'a class that does not match is looked at as a whole');
  t.equal(steps('\\a', 'b'), -3);
  t.equal(steps('ab', 'abc'), -4, 'the end, too');
  const class100 = `*[${'x'.repeat(100)}]`;
  t.ok(-steps(class100, 'a'.repeat(50)) > 50 * 100, 'again for each byte behind a star');
  t.ok(-steps(SLOW, 'a'.repeat(1000)) > 500 * 500);
  t.end();
});

t.test('KEYS and SCAN stop at so many steps', (t) => {
  const machine = new RedisMachine();
  const keys = Array.from({ length: 60 }, (_, i) => 'a'.repeat(1000) + String(i).padStart(4, '0'));
  const wanted = `${'a'.repeat(600)}b`;
  for (const key of [...keys, wanted]) machine.run(['SET', key, 'v']);
  t.equal(machine.query(['KEYS', SLOW]), TOO_MANY_STEPS);
  t.match(machine.query(['KEYS', 'a*b']), wanted);
  const found: string[] = [];
  let cursor = '0';
  let calls = 0;
  do {
    const [, , next, , ...rest] = machine.query(['SCAN', cursor, 'COUNT', '4096', 'MATCH', SLOW]).split('\r\n');
    cursor = next!;
    found.push(...rest.filter((line) => line.startsWith('a')));
    calls++;
  } while (cursor !== '0' && calls < 100);
  t.same(found, [wanted], 'SCAN finds all in the end');
  t.ok(calls > 3 && calls < 20, `${calls} calls`);
  t.equal(executed(machine, times(5, ['SCAN', '0', 'COUNT', '4096', 'MATCH', SLOW])), 1, 'an operation ends behind it');
  t.end();
});

t.test('KEYS in a transaction is executed once, after it was measured once', (t) => {
  const machine = new RedisMachine();
  for (let i = 0; i < 60; i++) machine.run(['SET', 'a'.repeat(1000) + String(i).padStart(4, '0'), 'v']);
  const transaction = { commands: Array.from({ length: 4 }, () => ['KEYS', SLOW]) };
  const answers = machine.answers([transaction, { words: ['PING'] }]);
  const refused = '-ERR the transaction does too much at once; split it\r\n';
  t.same(answers, [`*4\r\n${TOO_MANY_STEPS}${refused.repeat(3)}`], 'and the operation ends behind it');
  t.end();
});

t.test('what a transaction takes to be measured counts', (t) => {
  const machine = new RedisMachine();
  machine.run(['SET', 's', 'x'.repeat(32_768)]);
  const transaction = { commands: Array.from({ length: 16 }, () => ['BITCOUNT', 's']) };
  t.equal(executed(machine, [transaction, transaction]), 1, '16 of 512 units, twice');
  t.end();
});

t.test('HSCAN, SSCAN and ZSCAN stop at so many steps', (t) => {
  const machine = new RedisMachine();
  const names = Array.from({ length: 60 }, (_, i) => 'a'.repeat(900) + String(i).padStart(4, '0'));
  for (const name of names) machine.run(['HSET', 'h', name, 'v']);
  for (const name of names) machine.run(['SADD', 's', name]);
  for (const name of names) machine.run(['ZADD', 'z', '1', name]);
  for (const [scan, key] of [
    ['HSCAN', 'h'],
    ['SSCAN', 's'],
    ['ZSCAN', 'z'],
  ] as const) {
    let cursor = '0';
    let calls = 0;
    do {
      cursor = machine.query([scan, key, cursor, 'MATCH', SLOW]).split('\r\n')[2]!;
      calls++;
    } while (cursor !== '0' && calls < 100);
    t.ok(calls > 1 && calls < 20, `${scan}: ${calls} calls`);
  }
  t.end();
});

t.test('a pattern has a longest length', (t) => {
  const machine = new RedisMachine();
  machine.run('SET k v');
  machine.run('SADD s m');
  const long = 'p'.repeat(2049);
  const refused = '-ERR the pattern has 2049 bytes, this cluster takes 2048\r\n';
  for (const words of [
    ['KEYS', long],
    ['SCAN', '0', 'MATCH', long],
    ['SSCAN', 's', '0', 'MATCH', long],
  ])
    t.equal(machine.run(words), refused, words[0]!);
  t.equal(machine.run(['KEYS', long.slice(1)]), '*0\r\n');
  t.end();
});

t.test('commands on many bytes count them', (t) => {
  const machine = new RedisMachine();
  machine.run(['SET', 's', '\0'.repeat(32_768)]);
  for (const [most, words] of [
    [8, ['BITCOUNT', 's']],
    [8, ['BITPOS', 's', '1']],
    [128, ['SETBIT', 's', '0', '0']],
    [128, ['APPEND', 's', '']],
    [128, ['SETRANGE', 's', '0', '\0']],
    [128, ['COPY', 's', 't', 'REPLACE']],
  ] as const)
    t.equal(executed(machine, times(300, words)), most, words[0]);
  machine.run('SET f 0');
  machine.run(['SET', 'digits', `${'1'.repeat(5000)}x`]);
  t.equal(executed(machine, times(1000, ['INCRBYFLOAT', 'f', '1e-4900'])), 255, 'INCRBYFLOAT');
  t.ok(executed(machine, times(1000, ['HINCRBYFLOAT', 'h', 'f', '1e-4900'])) < 256, 'HINCRBYFLOAT');
  t.ok(executed(machine, times(1000, ['INCRBYFLOAT', 'digits', '1'])) < 50, 'what is no number, too');
  t.equal(executed(machine, times(300, ['SETBIT', 'small', '0', '0'])), 300, 'few bytes are not much');
  t.end();
});

t.test('a command on a list or a collection takes so many bytes in hand', (t) => {
  const machine = new RedisMachine();
  const element = 'e'.repeat(32_000);
  for (let i = 0; i < 540; i++) machine.run(['RPUSH', 'l', element]);
  const before = machine.run('LLEN l');
  for (const words of [
    ['COPY', 'l', 'new'],
    ['LREM', 'l', '0', 'x'],
    ['LINSERT', 'l', 'AFTER', 'x', 'y'],
    ['LPOS', 'l', element, 'COUNT', '0'],
  ])
    t.match(
      machine.run(words),
      /^-ERR the command would take \d+ bytes in hand, of at most 16777216 at once/,
      words[0]!,
    );
  t.equal(machine.run('LLEN l'), before);
  t.equal(machine.run(['LPOS', 'l', element]), ':0\r\n', 'what is found early is no work');
  t.end();
});

t.test('SORT takes so many members and bytes in hand', (t) => {
  const machine = new RedisMachine();
  for (let i = 0; i < 5; i++)
    machine.run(['RPUSH', 'l', ...Array.from({ length: 1000 }, (_, j) => String(i * 1000 + j))]);
  t.match(machine.run('SORT l STORE new'), /^-ERR the command would take 5000 members in hand/);
  machine.run('LTRIM l 0 2999');
  t.match(machine.run('SORT l BY w* STORE new'), /^-ERR the command would take 6000 members/, 'keys are looked for');
  t.equal(machine.run('SORT l DESC LIMIT 0 1'), '*1\r\n$4\r\n2999\r\n');
  for (let i = 0; i < 40; i++) machine.run(['RPUSH', 'long', 'e'.repeat(30_000)]);
  t.match(
    machine.run('SORT long ALPHA STORE new'),
    /^-ERR the command would take \d+ bytes in hand, of at most 1048576/,
  );
  machine.run(['SET', 'value', 'v'.repeat(30_000)]);
  machine.run(['RPUSH', 'few', ...Array.from({ length: 40 }, () => 'value')]);
  t.match(machine.run('SORT few BY nosort GET * STORE new'), /^-ERR the command would take \d+ bytes in hand/);
  t.equal(machine.run('EXISTS new'), ':0\r\n');
  t.end();
});

t.test('a sorted set of many members: ranges and ranks are found, what takes too many is refused', (t) => {
  const machine = new RedisMachine();
  const count = 12_000;
  for (let from = 0; from < count; from += 1000)
    machine.run(['ZADD', 'z', ...Array.from({ length: 1000 }, (_, i) => [String(from + i), `m${from + i}`]).flat()]);
  t.equal(machine.run('ZCARD z'), `:${count}\r\n`);
  t.equal(machine.run('ZRANK z m7777'), ':7777\r\n');
  t.equal(machine.run('ZREVRANK z m7777'), `:${count - 1 - 7777}\r\n`);
  t.equal(machine.run('ZCOUNT z (100 +inf'), `:${count - 101}\r\n`);
  t.equal(machine.run('ZRANGEBYSCORE z -inf +inf LIMIT 9000 2'), '*2\r\n$5\r\nm9000\r\n$5\r\nm9001\r\n');
  t.equal(machine.run('ZREVRANGE z 11000 11000 WITHSCORES'), '*2\r\n$4\r\nm999\r\n$3\r\n999\r\n');
  const ranks = times(2000, ['ZRANK', 'z', 'm7777']);
  t.equal(executed(machine, ranks), 2000, 'a rank is no work');
  const before = machine.snapshot;
  const refused = /^-ERR the command would take \d+ members in hand, of at most 4096 at once/;
  for (const line of [
    'ZREMRANGEBYRANK z 0 -2',
    'ZREMRANGEBYSCORE z 1 inf',
    'ZRANGESTORE new z 0 -1',
    'ZUNIONSTORE new 1 z',
    'ZINTERCARD 1 z',
    'ZDIFF 2 z none',
    'ZPOPMIN z 10000',
    'ZRANGEBYLEX z - +',
    'COPY z new',
  ])
    t.match(machine.run(line), refused, line);
  t.match(machine.run('ZRANGE z 0 -1'), /^-ERR the answer has \d+ bytes/);
  t.ok(machine.snapshot.equals(before), 'nothing was changed');
  t.equal(machine.run('ZREMRANGEBYRANK z 0 -1'), `:${count}\r\n`, 'all of them go as a grave does');
  t.end();
});
