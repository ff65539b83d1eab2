/** The operation `commands` as a whole: how far it is executed, transactions, queries, and what is refused. */
import t from 'tap';
import { decodeCommandsResult, decodeWatched } from '../../../src/machine/redis/codec.js';
import { COMMANDS_OPCODE, ROOM_BYTES_MAX, ROOM_BYTES_MIN } from '../../../src/machine/redis/layout.js';
import { memberHash } from '../../../src/machine/store/parts.js';
import { KvMachine } from '../../../src/machine/kv.js';
import { bytesOf, encodeOperation, RedisMachine, timestampOf, type Part } from './redis-machine.js';

const words = (line: string): Part => ({ words: line.split(' ') });
const commands = (...lines: string[]): string[][] => lines.map((line) => line.split(' '));
const NIL = '$-1\r\n';

function refusal(machine: RedisMachine, operation: Uint8Array, method: 'apply' | 'query' = 'apply'): unknown {
  const result = machine.execute(operation, { method });
  return decodeCommandsResult(result, 0, result.length);
}

t.test('commands are executed in their order, up to the first whose answer might not fit', (t) => {
  const machine = new RedisMachine();
  machine.run(['SET', 'k', 'v'.repeat(920)]);
  const get = words('GET k');
  t.equal(machine.answers([get, get, get], { room: 4096 }).length, 3);
  t.equal(machine.answers([get, get, get], { room: 2048 }).length, 2);
  t.equal(machine.answers([get, words('INCR n'), get], { room: ROOM_BYTES_MIN }).length, 1, 'the write waits, too');
  t.equal(machine.run('GET n'), NIL);
  t.same(machine.answers([words('INCR n'), words('INCR n')]), [':1\r\n', ':2\r\n']);
  t.end();
});

t.test('the first command that does not fit gets an error and changes nothing', (t) => {
  const machine = new RedisMachine();
  machine.run(['SET', 'k', 'v'.repeat(2000)]);
  const before = machine.snapshot;
  for (const line of ['GET k', 'GETSET k x', 'GETDEL k', 'SET k x GET', 'GETEX k EX 9'])
    t.equal(
      machine.run(line, { room: ROOM_BYTES_MIN }),
      '-ERR the answer has 2009 bytes, 1001 fit; use HSCAN/SSCAN/GETRANGE\r\n',
      line,
    );
  t.ok(machine.snapshot.equals(before));
  t.equal(machine.run('GETRANGE k 0 9', { room: ROOM_BYTES_MIN }), '$10\r\nvvvvvvvvvv\r\n');
  t.end();
});

t.test('an operation ends when its commands have done enough', (t) => {
  const machine = new RedisMachine({ maxKeys: 100_000 });
  for (let i = 0; i < 5; i++)
    machine.run(['SADD', 's', ...Array.from({ length: 1000 }, (_, member) => `${i}-${member}`)]);
  const line = ['SSCAN', 's', '0', 'COUNT', '3000', 'MATCH', 'none'];
  const scan = { words: line };
  t.equal(machine.answers([scan, scan, scan, scan]).length, 2);
  t.match(machine.run('SUNIONSTORE d s'), /^-ERR the command would take 5000 members in hand, of at most 4096 at once/);
  const [answer] = machine.answers([{ commands: Array.from({ length: 40 }, () => line) }]);
  t.equal(answer!.split('-ERR the transaction does too much at once; split it\r\n').length - 1, 34);
  t.equal(machine.run(['DEL', ...new Array<string>(4095).fill('s')]), ':1\r\n');
  t.equal(
    machine.run(['DEL', ...new Array<string>(4096).fill('s')]),
    '-ERR the command has 4097 arguments, this cluster takes 4096\r\n',
  );
  t.end();
});

t.test('a long list is trimmed to a short one at once, and keeps its end', (t) => {
  const machine = new RedisMachine();
  for (let i = 0; i < 10; i++)
    machine.run(['RPUSH', 'l', ...Array.from({ length: 1000 }, (_, element) => `${1000 * i + element}`)]);
  machine.run('EXPIRE l 100');
  t.match(machine.run('LTRIM l 5000 9999'), /^-ERR the command would take 5000 members in hand/);
  t.equal(machine.run('LTRIM l 7000 -2'), '+OK\r\n');
  t.equal(machine.run('LLEN l'), ':2999\r\n');
  t.equal(machine.run('LINDEX l 0'), '$4\r\n7000\r\n');
  t.equal(machine.run('LINDEX l -1'), '$4\r\n9998\r\n');
  t.equal(machine.run('TTL l'), ':100\r\n');
  t.end();
});

t.test('what is executed does not depend on the capacity of the reply', (t) => {
  const operation = encodeOperation([words('SET a 1'), words('INCR a'), words('GET a')]);
  const snapshots = [0, 1, 5, 20, 40, 60_000].map((capacity) => {
    const machine = new RedisMachine();
    const result = machine.execute(operation, { capacity });
    if (capacity < 40) t.equal(result[0] ?? 5, 5, 'too-large');
    return machine.snapshot.toString('hex');
  });
  t.equal(new Set(snapshots).size, 1);
  t.end();
});

t.test('a transaction is executed as a whole if no watched key was changed', (t) => {
  const machine = new RedisMachine();
  machine.run('SET k 1');
  const keys = [bytesOf('k'), bytesOf('none')];
  const watch = (): string => machine.query('WATCH k none');
  const watched = decodeWatched(bytesOf(watch()), keys)!;
  t.equal(watched[1]!.revision, 0);
  const transaction = {
    watched: watched.map(({ revision }, i) => ({ key: ['k', 'none'][i]!, revision })),
    commands: commands('INCR k', 'LPUSH k x', 'GET k'),
  };
  const [answer] = machine.answers([transaction]);
  t.equal(
    answer,
    '*3\r\n:2\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n$1\r\n2\r\n',
    'an error of one command does not stop the others',
  );
  t.equal(machine.answers([transaction])[0], '*-1\r\n');
  t.equal(machine.answers([{ ...transaction, isResp3: true }])[0], '_\r\n');
  t.equal(machine.run('GET k'), '$1\r\n2\r\n');
  t.equal(machine.answers([{ commands: [] }])[0], '*0\r\n');
  t.equal(
    machine.answers([{ watched: [{ key: 'none', revision: 1 }], commands: [] }])[0],
    '*-1\r\n',
    'a key that is gone was changed',
  );
  t.end();
});

t.test('a transaction with a wrong command, or without room, is not executed', (t) => {
  const machine = new RedisMachine();
  machine.run(['SET', 'big', 'v'.repeat(2000)]);
  const before = machine.snapshot;
  const aborted = '-EXECABORT Transaction discarded because of previous errors.\r\n';
  t.equal(machine.answers([{ commands: commands('SET k v', 'FOO') }])[0], aborted);
  t.equal(machine.answers([{ commands: commands('SET k v', 'GET') }])[0], aborted);
  t.match(
    machine.answers([{ commands: commands('SET k v', 'GET big') }], { room: 2000 })[0],
    /^-EXECABORT Transaction discarded because its answer may have 2\d\d\d bytes, \d+ fit; split it\r\n$/,
  );
  t.ok(machine.snapshot.equals(before));
  t.equal(
    machine.answers([words('GET big'), { commands: commands('SET k v', 'GET big') }], { room: 4000 }).length,
    1,
    'it waits for an operation with more room',
  );
  t.ok(machine.snapshot.equals(before));
  t.equal(
    machine.answers([{ commands: commands('SET k v', 'GET big', 'HELLO 3') }])[0]!.slice(-60),
    `vvvvvvvv\r\n-ERR Command not allowed inside a transaction\r\n`.padStart(60, 'v').slice(-60),
  );
  t.equal(
    machine.answers([{ commands: commands('APPEND k 1', `SETRANGE k 3000 x`, 'GET k', 'APPEND k 2') }], {
      room: 1500,
    })[0],
    '*4\r\n:2\r\n:3001\r\n-ERR the answer of 3010 bytes does not fit the transaction\r\n:3002\r\n',
    'an answer that the transaction itself made too long',
  );
  t.end();
});

t.test('a query reads, and says until when that is right', (t) => {
  const machine = new RedisMachine();
  machine.run('SET a 1 PX 5000');
  machine.run('SET b 2 PX 3000');
  machine.run('SET c 3');
  const start = machine.now;
  machine.now += 1000;
  machine.run('PING');
  const before = machine.snapshot;
  const ask = (...lines: string[]) => {
    const result = machine.all(lines.map(words), { method: 'query', now: start + 2000 });
    if (result.status !== 'ok') throw new Error(result.status);
    return result;
  };
  t.equal(ask('GET c').due, undefined);
  t.equal(ask('GET a').due, start + 5000);
  t.equal(ask('GET a', 'GET c', 'EXISTS b').due, start + 3000);
  t.equal(ask('KEYS *').due, start + 3000);
  t.equal(ask('SCAN 0').due, start + 3000);
  t.equal(ask('WATCH a').due, start + 5000);
  t.equal(machine.query('PTTL a', { now: start + 2000 }), ':3000\r\n', "time to live by the sender's clock");
  t.equal(machine.query('PTTL a', { now: start }), ':4000\r\n', 'but not before the agreed time');
  t.equal(machine.query('PTTL a', { now: start + 9000 }), ':0\r\n');
  t.equal(machine.query('PTTL a', { now: NaN }), ':4000\r\n');
  for (const line of ['SET a 1', 'GETEX a', 'EVAL x 0', 'FLUSHALL'])
    t.same(
      refusal(machine, encodeOperation([words('GET a'), words(line)]), 'query'),
      { status: 'bad-operation', reason: 'write-in-query' },
      line,
    ); // prettier-ignore
  t.same(refusal(machine, encodeOperation([{ commands: commands('GET a', 'INCR a') }]), 'query'), {
    status: 'bad-operation',
    reason: 'write-in-query',
  }); // prettier-ignore
  t.equal(
    machine.answers([{ commands: commands('GET a', 'GET c') }], { method: 'query' })[0],
    '*2\r\n$1\r\n1\r\n$1\r\n3\r\n',
  );
  t.ok(machine.snapshot.equals(before));
  t.end();
});

t.test('random commands follow the operation, not the replica', (t) => {
  const members = Array.from({ length: 1000 }, (_, i) => `m${i}`);
  const machines = [new RedisMachine(), new RedisMachine()];
  for (const machine of machines) machine.run(['SADD', 's', ...members]);
  for (const line of ['SPOP s', 'SPOP s 20', 'SRANDMEMBER s -5', 'SPOP s', 'RANDOMKEY']) {
    const [one, other] = machines.map((machine) => machine.run(line));
    t.equal(one, other, line);
  }
  t.ok(machines[0]!.snapshot.equals(machines[1]!.snapshot));
  const [machine] = machines;
  t.equal(machine!.query('SRANDMEMBER s', { random: 1 }), machine!.query('SRANDMEMBER s', { random: 1 }));
  const asked = Array.from({ length: 20 }, (_, random) => machine!.query('SRANDMEMBER s', { random }));
  t.ok(new Set(asked).size > 10);
  t.end();
});

/** As in store/parts.ts. */
const MEMBER_SEED = 0x6d656d62;

/** Members of eight bytes that all have one hash: what somebody who knows the hash (MurmurHash3) can write. */
function colliding(count: number): Uint8Array[] {
  const rotate = (word: number, by: number): number => (word << by) | (word >>> (32 - by));
  /** The inverse of an odd number, modulo 2^32. */
  const inverse = (odd: number): number => {
    let x = odd;
    for (let i = 0; i < 5; i++) x = Math.imul(x, 2 - Math.imul(odd, x));
    return x;
  };
  const scramble = (word: number): number => Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
  const mixed = (hash: number, word: number): number =>
    (Math.imul(rotate(hash ^ scramble(word), 13), 5) + 0xe6546b64) | 0;
  const members: Uint8Array[] = [];
  for (let first = 0; first < count; first++) {
    const before = mixed(MEMBER_SEED, first);
    // The second word leads to the state 0.
    const wanted = rotate(Math.imul(-0xe6546b64, inverse(5)), 32 - 13) ^ before;
    const second = Math.imul(rotate(Math.imul(wanted, inverse(0x1b873593)), 32 - 15), inverse(0xcc9e2d51));
    const member = new Uint8Array(8);
    new DataView(member.buffer).setInt32(0, first, true);
    new DataView(member.buffer).setInt32(4, second, true);
    members.push(member);
  }
  return members;
}

t.test('random members of a set whose members all have one hash are found all the same', (t) => {
  const machine = new RedisMachine();
  const members = colliding(2000);
  t.equal(new Set(members.map((member) => memberHash(member, 0, 8))).size, 1);
  machine.run(['SADD', 's', ...members]);
  t.match(machine.run('SSCAN s 0'), /^\*2\r\n\$1\r\n0\r\n\*2000\r\n/);
  t.match(machine.run('SSCAN s 0', { room: 2000 }), /^-ERR the answer has \d{4} bytes, 1977 fit/);
  t.match(machine.run('SPOP s 100'), /^\*100\r\n/);
  t.equal(machine.run('SCARD s'), ':1900\r\n');
  t.match(machine.run('SRANDMEMBER s 600'), /^\*600\r\n/);
  t.match(machine.run('SRANDMEMBER s -600'), /^\*600\r\n/);
  t.match(machine.run('SPOP s'), /^\$8\r\n/);
  t.end();
});

t.test('SCAN returns every key that is there throughout exactly once', (t) => {
  const machine = new RedisMachine();
  const stays = new Set<string>();
  for (let i = 0; i < 500; i++) {
    machine.run(`SET stays-${i} v`);
    stays.add(`stays-${i}`);
  }
  const seen = new Map<string, number>();
  let cursor = '0';
  for (let round = 0; ; round++) {
    const lines = machine.run(`SCAN ${cursor} COUNT 7`).split('\r\n');
    for (const line of lines.slice(4)) if (line.startsWith('stays-')) seen.set(line, (seen.get(line) ?? 0) + 1);
    for (let i = 0; i < 20; i++) machine.run(`SET comes-${round}-${i} v`);
    machine.run(`DEL comes-${round - 2}-1 comes-${round - 2}-2`);
    cursor = lines[2]!;
    if (cursor === '0') break;
  }
  t.equal(seen.size, stays.size);
  t.same([...new Set(seen.values())], [1]);
  t.end();
});

t.test('a key whose end is far away is in snapshots', (t) => {
  const machine = new RedisMachine();
  machine.run('SET k v PXAT 9007199254740991');
  machine.run('SET l v EX 99999999');
  const restored = new RedisMachine();
  restored.machine.restore(machine.snapshot);
  t.equal(restored.run('PEXPIRETIME k'), ':9007199254740991\r\n');
  t.equal(restored.run('TTL l'), ':99999999\r\n');
  t.end();
});

t.test('malformed operations are refused and change nothing', (t) => {
  const machine = new RedisMachine();
  machine.run('PING');
  const good = encodeOperation([
    words('SET k v'),
    { watched: [{ key: 'w', revision: 1 }], commands: commands('GET k') },
  ]);
  const before = machine.snapshot;
  for (let length = 1; length < good.length; length++)
    t.match(refusal(machine, good.slice(0, length)), { status: 'bad-operation', reason: 'length' }, `cut to ${length}`);
  t.match(refusal(machine, Buffer.concat([good, Buffer.of(0)])), { reason: 'length' });
  const changed = (at: number, ...bytes: number[]): Uint8Array => {
    const copy = good.slice();
    copy.set(bytes, at);
    return copy;
  };
  t.match(refusal(machine, changed(1, 1)), { reason: 'flags' });
  t.match(refusal(machine, changed(2, 0, 0, (ROOM_BYTES_MIN - 1) >> 8, (ROOM_BYTES_MIN - 1) & 0xff)), {
    reason: 'room',
  });
  t.match(refusal(machine, changed(2, 0, 1, 0, 1)), { reason: 'room' });
  t.match(refusal(machine, changed(2, 0xff, 0xff, 0xff, 0xff)), { reason: 'room' });
  t.equal(ROOM_BYTES_MAX, 0x10000);
  t.match(refusal(machine, changed(22, 0, 0)), { reason: 'count' });
  t.match(refusal(machine, changed(24, 4)), { reason: 'flags' });
  t.match(refusal(machine, changed(25, 0, 0)), { reason: 'count' });
  const nested = encodeOperation([{ commands: commands('GET k') }]);
  nested[24 + 5] = 2;
  t.match(refusal(machine, nested), { reason: 'flags' });
  t.ok(machine.snapshot.equals(before));
  t.end();
});

t.test('below level 2 there are no commands', (t) => {
  const machine = new KvMachine();
  const operation = encodeOperation([words('GET k')]);
  t.equal(operation[0], COMMANDS_OPCODE);
  for (const level of [0, 1]) {
    machine.raise(level);
    const reply = { bytes: new Uint8Array(100), offset: 0, capacity: 100, length: 0 };
    machine.apply({ bytes: operation, offset: 0, length: operation.length }, { ...timestampOf(1), index: 1 }, reply);
    t.same([...reply.bytes.subarray(0, reply.length)], [3, 0]);
  }
  t.end();
});
