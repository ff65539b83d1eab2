/** The operation `commands` as the front end writes it, its result as the front end reads it, and the command table. */
import t from 'tap';
import {
  ARGUMENT_BYTES_MAX,
  commandBytes,
  CommandsEncoder,
  decodeCommandsResult,
  decodeWatched,
  transactionBytes,
} from '../../../src/machine/redis/codec.js';
import { COMMANDS, findCommand, hasArity, isName, SUBCOMMANDS } from '../../../src/machine/redis/command-table.js';
import { BAD_FLAGS, BAD_ROOM, ROOM_BYTES_MAX, ROOM_BYTES_MIN } from '../../../src/machine/redis/layout.js';

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const HEAD = { room: 4096, now: 0x0102030405, randomHi: 0x11223344, randomLo: -1 };

function command(encoder: CommandsEncoder, isResp3: boolean, words: readonly string[]): boolean {
  const bytes = words.map(utf8);
  const fits = encoder.command(
    isResp3,
    bytes.length,
    bytes.reduce((sum, one) => sum + one.length, 0),
  );
  if (fits) for (const one of bytes) encoder.argument(one, 0, one.length);
  return fits;
}

t.test('an operation of two commands has the bytes that the layout shows', (t) => {
  const target = new Uint8Array(200);
  const encoder = new CommandsEncoder();
  encoder.begin(target, 2, 198, HEAD);
  t.ok(command(encoder, false, ['GET', 'k']));
  t.ok(command(encoder, true, ['PING']));
  t.equal(encoder.count, 2);
  const length = encoder.finish();
  t.equal(
    hex(target.subarray(2, 2 + length)),
    '20' +
      '00' +
      '00001000' +
      '0000000102030405' +
      '11223344ffffffff' +
      '0002' +
      ('00' + '0002' + '0003474554' + '00016b') +
      ('01' + '0001' + '000450494e47'), // prettier-ignore
  );
  t.end();
});

t.test('a transaction has its watched keys and its commands', (t) => {
  const target = new Uint8Array(200);
  const encoder = new CommandsEncoder();
  encoder.begin(target, 0, 200, HEAD);
  const watched = [{ key: utf8('w'), revision: 7 }];
  const inner = commandBytes(2, 4);
  t.equal(transactionBytes(watched, inner), 3 + 11 + 2 + inner);
  t.ok(encoder.transaction(true, watched, 1, inner));
  t.ok(command(encoder, true, ['GET', 'k']));
  const length = encoder.finish();
  t.equal(
    hex(target.subarray(22, length)),
    '0001' + '03' + '0001' + '0001' + '0000000000000007' + '77' + '0001' + '01' + '0002' + '0003474554' + '00016b',
  );
  t.end();
});

t.test('what does not fit is not written', (t) => {
  const target = new Uint8Array(24 + commandBytes(2, 4));
  const encoder = new CommandsEncoder();
  encoder.begin(target, 0, target.length, HEAD);
  t.notOk(command(encoder, false, ['GET', 'kk']));
  t.equal(encoder.count, 0);
  t.ok(command(encoder, false, ['GET', 'k']));
  t.equal(encoder.free, 0);
  t.notOk(encoder.transaction(false, [], 0, 0));
  t.equal(encoder.finish(), target.length);
  t.end();
});

t.test('wrong uses are refused', (t) => {
  const target = new Uint8Array(100);
  const encoder = new CommandsEncoder();
  const limit = { code: 'kv-limit' };
  for (const room of [ROOM_BYTES_MIN - 1, ROOM_BYTES_MAX + 1, 2048.5])
    t.throws(() => encoder.begin(target, 0, 100, { ...HEAD, room }), limit);
  t.throws(() => encoder.begin(target, 90, 20, HEAD), { code: 'kv-buffer-too-small' });
  encoder.begin(target, 0, 100, HEAD);
  t.throws(() => encoder.command(false, 0, 0), limit);
  encoder.command(false, 1, 3);
  t.throws(() => encoder.finish(), limit);
  t.throws(() => encoder.argument(new Uint8Array(ARGUMENT_BYTES_MAX + 1), 0, ARGUMENT_BYTES_MAX + 1), limit);
  t.throws(() => encoder.argument(target, 0, 99), { code: 'kv-buffer-too-small' });
  encoder.argument(utf8('GET'), 0, 3);
  t.throws(() => encoder.argument(utf8('k'), 0, 1), limit);
  encoder.transaction(false, [], 1, commandBytes(1, 4));
  t.throws(() => encoder.transaction(false, [], 0, 0), limit);
  t.throws(() => encoder.finish(), limit);
  t.end();
});

t.test('a result is read', (t) => {
  const bytes = Buffer.from(
    'ff' + '00' + '0000000000000009' + '0000000000000000' + '0002' + '00000005' + '2b4f4b0d0a' + '00000000',
    'hex',
  );
  const result = decodeCommandsResult(bytes, 1, bytes.length - 1);
  if (result.status !== 'ok') throw new Error(result.status);
  t.equal(result.revision, 9);
  t.equal(result.due, undefined);
  t.same(
    result.answers.map((answer) => Buffer.from(answer).toString()),
    ['+OK\r\n', ''],
  );
  t.same(decodeCommandsResult(Uint8Array.of(3, BAD_ROOM), 0, 2), { status: 'bad-operation', reason: 'room' });
  t.same(decodeCommandsResult(Uint8Array.of(3, BAD_FLAGS), 0, 2), { status: 'bad-operation', reason: 'flags' });
  t.same(decodeCommandsResult(Uint8Array.of(5, 0, 0, 1, 0), 0, 5), { status: 'too-large', neededBytes: 256 });
  const malformed = { code: 'kv-result-malformed' };
  for (let length = 0; length < bytes.length - 1; length++)
    t.throws(() => decodeCommandsResult(bytes, 1, length), malformed, `cut to ${length}`);
  t.throws(() => decodeCommandsResult(Buffer.concat([bytes, Buffer.of(0)]), 1, bytes.length), malformed);
  t.throws(() => decodeCommandsResult(Uint8Array.of(1), 0, 1), malformed);
  t.end();
});

t.test("WATCH's answer is read", (t) => {
  const keys = [utf8('a'), utf8('b')];
  t.same(decodeWatched(utf8('*2\r\n:0\r\n:9007199254740991\r\n'), keys), [
    { key: utf8('a'), revision: 0 },
    { key: utf8('b'), revision: 9007199254740991 },
  ]);
  t.equal(decodeWatched(utf8('-ERR no\r\n'), keys), undefined);
  t.throws(() => decodeWatched(utf8('*1\r\n:0\r\n'), keys), { code: 'kv-result-malformed' });
  t.end();
});

t.test('commands are found by name in any case', (t) => {
  for (const info of COMMANDS.values()) {
    for (const name of [info.name, info.name.toUpperCase(), info.name[0]!.toUpperCase() + info.name.slice(1)])
      t.equal(findCommand(utf8(`x${name}`), 1, name.length), info);
    if (info.kind !== 'write') t.notOk(info.flags.includes('write'), info.name);
    if (info.kind === 'write') t.notOk(info.flags.includes('readonly'), info.name);
  }
  for (const name of ['', 'gett', 'ge', 'a'.repeat(17), 'set\0'])
    t.equal(findCommand(utf8(name), 0, name.length), undefined);
  t.ok(isName('withvalues', utf8('WithValues'), 0, 10));
  t.notOk(isName('withvalues', utf8('WithValue['), 0, 10));
  t.ok(hasArity(COMMANDS.get('get')!, 2));
  t.notOk(hasArity(COMMANDS.get('get')!, 3));
  t.ok(hasArity(COMMANDS.get('mget')!, 30));
  t.notOk(hasArity(COMMANDS.get('mget')!, 1));
  for (const name of SUBCOMMANDS.keys()) t.ok(COMMANDS.has(name.split('|')[0]!), name);
  t.end();
});
