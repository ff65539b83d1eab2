/**
 * Redis commands: their answers, in RESP2 and RESP3, where no other test has them. The differential test compares far more
 * with a real server; here is what must hold without one, and what is our own.
 */
import t, { type Test } from 'tap';
import { createHash } from 'node:crypto';
import { COMMANDS } from '../../../src/machine/redis/command-table.js';
import { KNOWN_SCRIPTS } from '../../../src/machine/redis/scripts.js';
import { RedisMachine, type Words } from './redis-machine.js';

const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`;
const array = (...parts: string[]): string => `*${parts.length}\r\n${parts.join('')}`;
const int = (value: number | string): string => `:${value}\r\n`;
const OK = '+OK\r\n';
const NIL = '$-1\r\n';
const WRONG_TYPE = '-WRONGTYPE Operation against a key holding the wrong kind of value\r\n';
const NOT_AN_INTEGER = '-ERR value is not an integer or out of range\r\n';
const SYNTAX_ERROR = '-ERR syntax error\r\n';

type Step = readonly [line: string | Words, answer: string];

/** Runs commands in their order and compares their answers. */
function dialogue(t: Test, machine: RedisMachine, steps: readonly Step[], isResp3 = false): void {
  for (const [line, answer] of steps) t.equal(machine.run(line, { isResp3 }), answer, String(line).slice(0, 80));
}

t.test('strings', (t) => {
  dialogue(t, new RedisMachine(), [
    ['SET k v', OK],
    ['GET k', bulk('v')],
    ['get none', NIL],
    ['SET k w NX', NIL],
    ['SET k w XX GET', bulk('v')],
    ['SET k x NX GET', bulk('w')],
    ['SET n 5 EX 10 PX 10', SYNTAX_ERROR],
    ['SET n 5 EX 0', "-ERR invalid expire time in 'set' command\r\n"],
    ['SET n 5 EX ten', NOT_AN_INTEGER],
    ['SET n 5 NX XX', SYNTAX_ERROR],
    ['SET k y IFEQ v', NIL],
    ['SET k y IFEQ w', OK],
    ['SET none y IFEQ w', NIL],
    ['DELEX k IFEQ w', int(0)],
    ['DELEX k IFEQ y', int(1)],
    ['DELEX k', int(0)],
    ['INCR n', int(1)],
    ['INCRBY n 9223372036854775806', int('9223372036854775807')],
    ['INCR n', '-ERR increment or decrement would overflow\r\n'],
    ['DECRBY n -9223372036854775808', '-ERR decrement would overflow\r\n'],
    ['DECRBY n 9007199254740993', int('9214364837600034814')],
    ['INCRBYFLOAT f 10.5', bulk('10.5')],
    ['INCRBYFLOAT f 0.1', bulk('10.6')],
    ['INCRBYFLOAT f inf', '-ERR increment would produce NaN or Infinity\r\n'],
    ['APPEND f x', int(5)],
    ['INCR f', NOT_AN_INTEGER],
    ['INCRBYFLOAT f 1', '-ERR value is not a valid float\r\n'],
    ['MSET a 1 b 2 a 3', OK],
    ['MGET a b none', array(bulk('3'), bulk('2'), NIL)],
    ['MSETNX c 1 a 2', int(0)],
    ['MSET a', "-ERR wrong number of arguments for 'mset' command\r\n"],
    ['GETRANGE f 0 -2', bulk('10.6')],
    ['GETRANGE f 4 1', bulk('')],
    ['SETRANGE r 3 ab', int(5)],
    ['GET r', bulk('\0\0\0ab')],
    ['SETRANGE r -1 a', '-ERR offset is out of range\r\n'],
    ['GETDEL r', bulk('\0\0\0ab')],
    ['GETSET r 1', NIL],
    ['SETBIT bits 6 1', int(0)],
    ['GET bits', bulk('\x02')],
    ['BITCOUNT bits', int(1)],
    ['BITPOS bits 1', int(6)],
    ['LCS a b LEN', int(0)],
    ['SET k ohmytext', OK],
    ['SET l mynewtext', OK],
    ['LCS k l', bulk('mytext')],
    [
      'LCS k l IDX MINMATCHLEN 4 WITHMATCHLEN',
      array(bulk('matches'), array(array(array(int(4), int(7)), array(int(5), int(8)), int(4))), bulk('len'), int(6)),
    ],
  ]);
  t.end();
});

t.test('of ranks, LIMIT with a count of -1 is let through, and its offset is not looked at', (t) => {
  const all = array(bulk('a'), bulk('b'), bulk('c'));
  dialogue(t, new RedisMachine(), [
    ['ZADD z 1 a 2 b 3 c', int(3)],
    ['ZRANGE z 0 -1 LIMIT 2 -1', all],
    ['ZREVRANGE z 0 1 LIMIT -5 -1', array(bulk('c'), bulk('b'))],
    ['ZRANGESTORE d z 0 -1 LIMIT 2 -1', int(3)],
    ['ZRANGE d 0 -1', all],
    ['ZRANGE z 0 9 BYSCORE LIMIT 2 -1', array(bulk('c'))],
  ]);
  t.end();
});

t.test('keys and their ends', (t) => {
  const machine = new RedisMachine();
  const seconds = machine.now / 1000;
  dialogue(t, machine, [
    ['SET k v EX 100', OK],
    ['TTL k', int(100)],
    ['PTTL k', int(100_000)],
    ['EXPIRETIME k', int(seconds + 100)],
    ['SET k w KEEPTTL', OK],
    ['TTL k', int(100)],
    ['EXPIRE k 50 GT', int(0)],
    ['EXPIRE k 200 GT', int(1)],
    ['EXPIRE k 100 LT', int(1)],
    ['EXPIRE k 100 NX', int(0)],
    ['EXPIRE k 100 NX XX', '-ERR NX and XX, GT or LT options at the same time are not compatible\r\n'],
    ['EXPIRE k 100 what', '-ERR Unsupported option what\r\n'],
    ['EXPIRE k 9223372036854775807', "-ERR invalid expire time in 'expire' command\r\n"],
    ['GETEX k PERSIST', bulk('w')],
    ['TTL k', int(-1)],
    ['GETEX k EX 7', bulk('w')],
    ['TTL k', int(7)],
    ['PERSIST k', int(1)],
    ['PERSIST k', int(0)],
    ['TTL none', int(-2)],
    ['RENAME none k', '-ERR no such key\r\n'],
    ['PEXPIRE k 5000', int(1)],
    ['RENAME k l', OK],
    ['PTTL l', int(5000)],
    ['COPY l m', int(1)],
    ['PTTL m', int(5000)],
    ['COPY l m', int(0)],
    ['COPY l l', '-ERR source and destination objects are the same\r\n'],
    ['TYPE l', '+string\r\n'],
    ['TYPE none', '+none\r\n'],
    ['EXISTS l l none', int(2)],
    ['DEL l l none', int(1)],
    ['KEYS *', array(bulk('m'))],
    ['SCAN 0', array(bulk('0'), array(bulk('m')))],
    ['SCAN x', '-ERR invalid cursor\r\n'],
    ['RANDOMKEY', bulk('m')],
    ['DBSIZE', int(1)],
    ['EXPIRE m -1', int(1)],
    ['DBSIZE', int(0)],
    ['SET e v', OK],
    ['PEXPIREAT e 9223372036854775807', int(1)],
    ['PEXPIRETIME e', int(Number.MAX_SAFE_INTEGER)],
    ['OBJECT ENCODING e', bulk('embstr')],
    ['FLUSHALL', OK],
    ['DBSIZE', int(0)],
  ]);
  machine.run('SET k v PX 10');
  machine.now += 9;
  t.equal(machine.run('GET k'), bulk('v'));
  machine.now += 1;
  t.equal(machine.run('GET k'), NIL, 'at its end a key is not there any more');
  t.end();
});

t.test('hashes', (t) => {
  const machine = new RedisMachine();
  dialogue(t, machine, [
    ['HSET h a 1 b 2', int(2)],
    ['HSET h a 3 c 4', int(1)],
    ['HSET h a', "-ERR wrong number of arguments for 'hset' command\r\n"],
    ['HGET h a', bulk('3')],
    ['HMGET h a none b', array(bulk('3'), NIL, bulk('2'))],
    ['HSETNX h a 9', int(0)],
    ['HLEN h', int(3)],
    ['HSTRLEN h a', int(1)],
    ['HEXISTS h none', int(0)],
    ['HINCRBY h a 9223372036854775807', '-ERR increment or decrement would overflow\r\n'],
    ['HINCRBY h a -13', int(-10)],
    ['HINCRBYFLOAT h a 0.5', bulk('-9.5')],
    ['HINCRBY h a 1', '-ERR hash value is not an integer\r\n'],
    ['HDEL h a none b', int(2)],
    ['HGETALL h', array(bulk('c'), bulk('4'))],
    ['HSCAN h 0', array(bulk('0'), array(bulk('c'), bulk('4')))],
    ['HRANDFIELD h', bulk('c')],
    ['HRANDFIELD h -2', array(bulk('c'), bulk('c'))],
    ['GET h', WRONG_TYPE],
    ['LPUSH h x', WRONG_TYPE],
    ['MGET h', array(NIL)],
    ['OBJECT ENCODING h', bulk('listpack')],
    ['EXPIRE h 10', int(1)],
    ['HSET h d 5', int(1)],
    ['TTL h', int(10)],
    ['COPY h g', int(1)],
    ['TTL g', int(10)],
    ['HDEL h c d', int(2)],
    ['EXISTS h', int(0)],
    ['HLEN g', int(2)],
    ['RENAME g h', OK],
    ['HLEN h', int(2)],
    ['SET h v', OK],
    ['GET h', bulk('v')],
  ]);
  machine.run('HSET r f v');
  t.equal(machine.run('HGETALL r', { isResp3: true }), `%1\r\n${bulk('f')}${bulk('v')}`);
  t.equal(machine.run('HRANDFIELD r 1 WITHVALUES', { isResp3: true }), array(array(bulk('f'), bulk('v'))));
  t.equal(machine.run('HGET r none', { isResp3: true }), '_\r\n');
  t.end();
});

t.test('sets', (t) => {
  const machine = new RedisMachine();
  const members = (line: string): string[] =>
    machine
      .run(line)
      .split('\r\n')
      .filter((word) => /^[a-z]$/.test(word))
      .sort(); // prettier-ignore
  dialogue(t, machine, [
    ['SADD s a b c a', int(3)],
    ['SADD s a', int(0)],
    ['SISMEMBER s a', int(1)],
    ['SMISMEMBER s a z', array(int(1), int(0))],
    ['SCARD s', int(3)],
    ['SADD u b c d', int(3)],
    ['SINTERCARD 2 s u', int(2)],
    ['SINTERCARD 2 s u LIMIT 1', int(1)],
    ['SINTERCARD 0 s', '-ERR numkeys should be greater than 0\r\n'],
    ['SDIFF s u', array(bulk('a'))],
    ['SDIFFSTORE s s u', int(1)],
    ['SMEMBERS s', array(bulk('a'))],
    ['SMOVE u s d', int(1)],
    ['SMOVE u s d', int(0)],
    ['SINTERSTORE none s u', int(0)],
    ['EXISTS none', int(0)],
    ['SREM u b c', int(2)],
    ['EXISTS u', int(0)],
    ['SPOP none', NIL],
    ['SPOP none 3', array()],
    ['SPOP s -1', '-ERR value is out of range, must be positive\r\n'],
    ['OBJECT ENCODING s', bulk('hashtable')],
  ]);
  t.same(members('SUNION s'), ['a', 'd']);
  t.same(members('SRANDMEMBER s 5'), ['a', 'd']);
  t.same(members('SPOP s 5'), ['a', 'd']);
  t.equal(machine.run('SMEMBERS s', { isResp3: true }), '~0\r\n');
  const letters = [...'abcdefghijklmnopqrstuvwxyz'];
  machine.run(['SADD', 's', ...letters]);
  const popped = members('SPOP s 20');
  t.equal(new Set(popped).size, 20);
  t.same([...popped, ...members('SMEMBERS s')].sort(), letters, 'what is popped is gone, what is not stays');
  t.end();
});

t.test('lists', (t) => {
  dialogue(t, new RedisMachine(), [
    ['RPUSH l a b c', int(3)],
    ['LPUSH l x y', int(5)],
    ['LRANGE l 0 -1', array(...['y', 'x', 'a', 'b', 'c'].map(bulk))],
    ['LINDEX l -1', bulk('c')],
    ['LSET l 1 z', OK],
    ['LSET l 9 z', '-ERR index out of range\r\n'],
    ['LPOS l b', int(3)],
    ['LINSERT l BEFORE a n', int(6)],
    ['LINSERT l AFTER c m', int(7)],
    ['LINSERT l AFTER none m', int(-1)],
    ['LRANGE l 0 -1', array(...['y', 'z', 'n', 'a', 'b', 'c', 'm'].map(bulk))],
    ['RPUSH l a n a', int(10)],
    ['LREM l -2 a', int(2)],
    ['LREM l 1 n', int(1)],
    ['LRANGE l 0 -1', array(...['y', 'z', 'a', 'b', 'c', 'm', 'n'].map(bulk))],
    ['LTRIM l 1 -2', OK],
    ['LPOP l', bulk('z')],
    ['RPOP l 2', array(bulk('m'), bulk('c'))],
    ['LMOVE l o LEFT RIGHT', bulk('a')],
    ['RPOPLPUSH l o', bulk('b')],
    ['EXISTS l', int(0)],
    ['LRANGE o 0 -1', array(bulk('b'), bulk('a'))],
    ['LMOVE o o LEFT RIGHT', bulk('b')],
    ['LRANGE o 0 -1', array(bulk('a'), bulk('b'))],
    ['LPOP none 2', '*-1\r\n'],
    ['LPUSHX none a', int(0)],
    ['LLEN o', int(2)],
    ['OBJECT ENCODING o', bulk('quicklist')],
  ]);
  t.end();
});

t.test('the same answers in RESP3', (t) => {
  dialogue(
    t,
    new RedisMachine(),
    [
      ['GET none', '_\r\n'],
      ['LPOP none 1', '_\r\n'],
      ['MGET none', '*1\r\n_\r\n'],
      ['SUNION none', '~0\r\n'],
      ['HGETALL none', '%0\r\n'],
      ['INCRBYFLOAT f 1.5', bulk('1.5')],
    ],
    true,
  );
  t.end();
});

t.test('commands that are wrong, unknown or not for the machine', (t) => {
  dialogue(t, new RedisMachine(), [
    ['GET', "-ERR wrong number of arguments for 'get' command\r\n"],
    ['FOO bar baz', "-ERR unknown command 'FOO', with args beginning with: 'bar' 'baz' \r\n"],
    [['FO\r\nO', 'a\0b'], "-ERR unknown command 'FO  O', with args beginning with: 'a' \r\n"],
    ['OBJECT FOO k', "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.\r\n"],
    ['HELLO 3', "-ERR the front end executes 'hello', not the cluster\r\n"],
    [['SET', '', 'v'], '-ERR the key has 0 bytes, this cluster takes 1 to 1024\r\n'],
    [['SET', 'k'.repeat(1025), 'v'], '-ERR the key has 1025 bytes, this cluster takes 1 to 1024\r\n'],
    [['SET', 'k', 'v'.repeat(32_769)], '-ERR the value has 32769 bytes, this cluster takes 32768\r\n'],
    [['GET', 'k'.repeat(0x8001)], NIL],
    [['DEL', ''], int(0)],
    [['HGET', 'k'.repeat(0x8001), 'f'], NIL],
    [['HGET', 'h', 'k'.repeat(0x8001)], NIL],
    [['SETRANGE', 'k', '32768', 'v'], '-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n'],
    ['OBJECT HELP x', "-ERR wrong number of arguments for 'object|help' command\r\n"],
    ['PING', '+PONG\r\n'],
    ['PING x', bulk('x')],
    ['ECHO x', bulk('x')],
    ['SELECT 1', '-ERR DB index is out of range\r\n'],
    ['TIME', array(bulk('1700000000'), bulk('0'))],
  ]);
  t.end();
});

t.test('the machine executes every command that the table does not leave to the front end', (t) => {
  const machine = new RedisMachine();
  for (const { name, arity, kind } of COMMANDS.values()) {
    const answer = machine.run([name, ...new Array<string>(Math.abs(arity) - 1).fill('1')]);
    t.equal(answer.includes('the front end executes'), kind === 'local', name);
  }
  t.end();
});

t.test('scripts are known by their text and their digest', (t) => {
  for (const { name, text, digest } of KNOWN_SCRIPTS)
    t.equal(createHash('sha1').update(text).digest('hex'), digest, name);
  const named = (name: string): string => KNOWN_SCRIPTS.find((script) => script.name === name)!.digest;
  const machine = new RedisMachine();
  const script = (name: string, ...rest: string[]): string => machine.run(['EVALSHA', named(name), ...rest]);
  machine.run('SET lock token PX 10000');
  t.equal(script('redis-py Lock, extend', '1', 'lock', 'other', '1000', '0'), int(0));
  t.equal(script('redis-py Lock, extend', '1', 'lock', 'token', '1000', '0'), int(1));
  t.equal(machine.run('PTTL lock'), int(11_000));
  t.equal(script('redis-py Lock, extend', '1', 'lock', 'token', '1000', '1'), int(1));
  t.equal(machine.run('PTTL lock'), int(1000));
  t.equal(script('redis-py Lock, reacquire', '1', 'lock', 'token', '5000'), int(1));
  t.equal(machine.run('PTTL lock'), int(5000));
  t.equal(script('redis-py Lock, release', '1', 'lock', 'other'), int(0));
  t.equal(script('redis-py Lock, release', '1', 'lock', 'token'), int(1));
  t.equal(machine.run('EXISTS lock'), int(0));
  for (const version of ['4, lock', '5, acquire'])
    t.equal(script(`redlock ${version}`, '2', `a${version}`, `b${version}`, 'token', '500'), int(2));
  t.equal(script('redlock 4, lock', '2', 'c', 'a4, lock', 'token', '500'), int(0));
  t.equal(machine.run('EXISTS c'), int(0));
  t.equal(script('redlock 4, extend', '2', 'a4, lock', 'b4, lock', 'token', '900'), int(2));
  t.equal(machine.run(['PTTL', 'a4, lock']), int(900));
  t.equal(script('redlock 5, extend', '1', 'a4, lock', 'other', '900'), int(0));
  t.equal(script('redlock 5, release', '3', 'a4, lock', 'none', 'b4, lock', 'token'), int(2));
  t.equal(script('rate-limiter-flexible', '1', 'r', '2', '60'), array(int(2), int(60_000)));
  machine.now += 1000;
  t.equal(script('rate-limiter-flexible', '1', 'r', '1', '60'), array(int(3), int(59_000)));
  const { text } = KNOWN_SCRIPTS[0]!;
  t.equal(machine.run(['EVAL', text, '1', 'lock', 'token']), int(0));
  t.match(machine.run(['EVAL', 'return 1', '0']), /^-ERR Lua is not run here/);
  t.equal(machine.run(['EVALSHA', 'f'.repeat(40), '0']), '-NOSCRIPT No matching script. Please use EVAL.\r\n');
  t.equal(machine.run(['EVAL', text, '2', 'a']), "-ERR Number of keys can't be greater than number of args\r\n");
  t.match(machine.run(['EVAL', text, '0']), /^-ERR the script takes 1 keys/);
  t.end();
});
