/**
 * No command changes anything before it is sure that it can: every writing command with too little room for its answer, and
 * in a full store. And random operations, mutated: the machine never throws, a query changes nothing, and replicas agree.
 * Replay a random failure with SEED=n.
 */
import t from 'tap';
import { decodeCommandsResult } from '../../../src/machine/redis/codec.js';
import { COMMANDS } from '../../../src/machine/redis/command-table.js';
import { KNOWN_SCRIPTS } from '../../../src/machine/redis/scripts.js';
import { ROOM_BYTES_MIN } from '../../../src/machine/redis/layout.js';
import type { SnapshotInPieces } from '../../../src/machine/state-machine.js';
import { randomFrom } from '../../random.js';
import { encodeOperation, RedisMachine, type Part, type Transaction } from './redis-machine.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
const OPERATIONS = 100_000;
console.log(`# SEED=${SEED} replays the random operations`);

const LONG = 'x'.repeat(600);
const [release, extend, , acquire] = KNOWN_SCRIPTS;
/** For each writing command, uses of it that change something in the store of `filled`. */
const USES: Readonly<Record<string, readonly string[]>> = {
  flushall: [''],
  flushdb: ['ASYNC'],
  del: ['s', 'h l'],
  unlink: ['set'],
  delex: ['s IFEQ v', 's'],
  expire: ['s 100', 'h -1'],
  pexpire: ['s 100'],
  expireat: ['s 99999999999', 'z 99999999999'],
  pexpireat: ['l 1'],
  persist: ['t'],
  rename: ['s t2', 'h s', 's h', 'z h'],
  renamenx: ['l new'],
  copy: ['s new', 'h new', 'set new', 'z new', 'l s REPLACE'],
  set: [`s ${LONG}`, `new v`, `s v2 GET`, `h v`, `s v2 EX 10 GET`, `s v3 IFEQ v`, 'long v GET'],
  setnx: ['new v'],
  setex: ['new 10 v'],
  psetex: ['s 10 vvvvvvvvvvvv'],
  getset: [`s ${LONG}`, 'long v'],
  getdel: ['s', 'long'],
  getex: ['t PERSIST', 'long EX 10', 'long PXAT 1', 's EX 10', 's PXAT 1'],
  mset: ['new v s w', `s ${LONG} new w`],
  msetnx: ['new v new2 v'],
  append: [`s ${LONG}`, 'new v'],
  setrange: ['s 600 v', 'new 3 v'],
  incr: ['n', 'new'],
  decr: ['n'],
  incrby: ['n 100000000000', 'n 9223372036854775802'],
  decrby: ['n 1'],
  incrbyfloat: ['n 0.00000001', 'n 1e4000', 'new 1e4900'],
  setbit: ['s 9999 1', 'new 1 1'],
  publish: ['channel message'],
  hset: [`h f1 ${LONG}`, 'h new v', 'new f v'],
  hsetnx: ['h new v', 'new f v'],
  hmset: [`h f1 w f2 ${LONG}`],
  hdel: ['h f1', 'h1 f'],
  hincrby: ['h count 100000', 'h new 1', 'new f 1'],
  hincrbyfloat: ['h count 1e4000', 'new f 0.5'],
  sadd: ['set new', 'new m', 'set m1 new m2'],
  srem: ['set m1', 'set1 m'],
  spop: ['long-set', 'long-set 1', 'long-set 2', 'set', 'set 2', 'set1', 'set 100'],
  smove: ['set set1 m1', 'set1 set m', 'set1 new m'],
  sinterstore: ['new set', 'set1 set set'],
  sunionstore: ['new set set1', 's set'],
  sdiffstore: ['new set set1', 'set set1 new'],
  rpush: ['l e', `new ${LONG}`],
  lpush: ['l e f', 'new e'],
  rpushx: ['l e'],
  lpushx: ['l e'],
  lset: [`l 0 ${LONG}`],
  lpop: ['long-list', 'long-list 2', 'l', 'l 2', 'l1'],
  rpop: ['long-list 9', 'l', 'l 100'],
  lmove: [
    'long-list l LEFT LEFT',
    'long-list long-list RIGHT LEFT',
    'l l1 LEFT LEFT',
    'l1 l LEFT RIGHT',
    'l new LEFT LEFT',
    'l l LEFT RIGHT',
    'l1 new LEFT LEFT',
  ],
  rpoplpush: ['l new', 'long-list new'],
  ltrim: ['l 1 2', 'l 5 1'],
  lrem: ['l 0 a', 'l1 1 e'],
  linsert: ['l BEFORE b x', `l AFTER a ${LONG}`],
  bitop: ['AND new s n', 'NOT s s', `OR s s long`, 'XOR s none'],
  bitfield: [
    's SET u8 0 65',
    'new INCRBY i5 100 1',
    's GET u4 0 SET u8 9000 1',
    's OVERFLOW FAIL INCRBY u2 0 9 INCRBY u2 4 1',
  ],
  sort: ['l ALPHA STORE new', 'set ALPHA DESC STORE s', 'none STORE s', 'l BY nosort GET # GET s* STORE l'],
  move: [],
  lmpop: ['1 long-list LEFT', '2 new l RIGHT COUNT 2', '1 l1 LEFT'],
  zadd: ['z 5 a', 'z 7 new', 'new 1 m', 'z GT 9 a 9 b', 'z INCR 0.1 a', 'z XX CH 4 a 4 b'],
  zincrby: ['z 1.5 a', 'z 1 new', 'new 1 m'],
  zrem: ['z a', 'z1 m'],
  zrangestore: ['new z 0 -1', 'z z 1 1', 's long-z 0 0', 'z none 0 -1'],
  zpopmin: ['z', 'long-z', 'long-z 2', 'z1', 'z 100'],
  zpopmax: ['z', 'long-z 1', 'long-z 3'],
  zmpop: ['1 z MIN', '2 new long-z MAX COUNT 2', '1 z1 MIN'],
  zremrangebyrank: ['z 0 0', 'z 0 -1'],
  zremrangebyscore: ['z 1 2', 'z (1 2'],
  zremrangebylex: ['z1 - +'],
  zunionstore: ['new 2 z set', 'z 1 z WEIGHTS 2', 'z1 1 none'],
  zinterstore: ['new 1 z', 'z1 2 z z1'],
  zdiffstore: ['new 2 z z1', 'z 2 z z'],
  eval: [],
  evalsha: [
    `${release!.digest} 1 s v`,
    `${extend!.digest} 1 t v 1000 0`,
    `${acquire!.digest} 2 new new2 token 1000`,
    `${KNOWN_SCRIPTS.at(-1)!.digest} 1 new 1 60`,
  ],
};
/** These need more than a full store has. */
const GROWS =
  /^(set (new|s xxx)|setnx|setex|psetex|getset s|mset|msetnx|append|setrange|incr new|incrby n 1000|incrbyfloat (n 0|new)|setbit|bitop (AND|OR)|bitfield (new|s GET)|sort l ALPHA|copy (s|h|set|z) new|hset|hsetnx|hmset|hincrby(float)? new|hincrby h new|sadd|s(inter|union|diff)store new|[lr]push|[lr]pushx|lset|linsert|zadd (z 7|new)|zincrby \w+ 1 |z(range|union|inter|diff)store new|lmove l new|rpoplpush l|evalsha \w+ (2 new|1 new))/;

function filled(): RedisMachine {
  const machine = new RedisMachine();
  for (const line of [
    'SET s v',
    'SET t v EX 1000',
    'SET n 5',
    'HSET h f1 v1 f2 v2 count 1',
    'HSET h1 f v',
    'SADD set m1 m2 m3 m4',
    'SADD set1 m',
    'RPUSH l a b a c',
    'RPUSH l1 e',
    `SET long ${LONG}`,
    `SADD long-set 1${LONG} 2${LONG} 3${LONG}`,
    `RPUSH long-list 1${LONG} 2${LONG} 3${LONG}`,
    'ZADD z 1 a 2 b 3 c',
    'ZADD z1 1 m',
    `ZADD long-z 0 1${LONG} 0 2${LONG} 0 3${LONG}`,
  ])
    machine.run(line);
  machine.run(['SET', 'filler', 'f'.repeat(30_000)]);
  return machine;
}

/** How many keys the store of `filled` has; parts of collections count, too. */
function keysOf(machine: RedisMachine): number {
  for (let maxKeys = machine.machine.keyCount; ; maxKeys++) {
    try {
      new RedisMachine({ maxKeys }).machine.restore(machine.snapshot);
      return maxKeys;
    } catch {
      // There are more.
    }
  }
}

const wordsOf = (name: string, use: string): string[] => (use === '' ? [name] : [name, ...use.split(' ')]);

t.test('every writing command has a use here', (t) => {
  for (const { name, kind } of COMMANDS.values()) if (kind === 'write') t.ok(USES[name] !== undefined, name);
  for (const name of Object.keys(USES)) t.equal(COMMANDS.get(name)?.kind, 'write', name);
  t.end();
});

t.test('a command whose answer does not fit changes nothing, and one that is executed answers the same', (t) => {
  const start = filled();
  const restored = (): RedisMachine => {
    const machine = new RedisMachine();
    machine.machine.restore(start.snapshot);
    machine.index = start.index;
    return machine;
  };
  const untouched = start.snapshot;
  for (const [name, uses] of Object.entries(USES)) {
    for (const use of uses) {
      const part = { words: wordsOf(name, use) };
      const line = `${name} ${use.slice(0, 40)}`;
      const roomy = restored();
      // The first command takes as much of the room as is wanted.
      const fill = (bytes: number): Part => ({ words: ['GETRANGE', 'filler', '0', String(bytes - 1)] });
      const [, expected] = roomy.answers([fill(100), part]);
      t.notOk(roomy.snapshot.equals(untouched), `${line} changes something`);
      const lefts = [0, 60, 71, 72, 80, 100, 200, 1000, 4000, 9000];
      for (const left of lefts) {
        const machine = restored();
        const room = 20_000;
        const answers = machine.answers([fill(room - 19 - 4 - 4 - 10 - left), part], { room });
        const isExecuted = answers.length === 2;
        if (isExecuted) t.equal(answers[1], expected, `${line} with ${left} left`);
        t.ok(
          machine.snapshot.equals(isExecuted ? roomy.snapshot : untouched),
          `${line} with ${left} left: all or nothing`,
        );
        const { length } = expected!;
        t.equal(isExecuted, left >= Math.max(72, length), `${line} is executed if its ${length} bytes fit ${left}`);
      }
      const alone = restored();
      const answer = alone.run(part.words, { room: ROOM_BYTES_MIN });
      const isRefused = answer.startsWith('-ERR the answer has');
      t.equal(isRefused, expected!.length > 1001, line);
      t.ok(alone.snapshot.equals(untouched) === isRefused, `${line} alone in little room: ${answer.slice(0, 40)}`);
    }
  }
  t.end();
});

t.test('a command that a full store refuses changes nothing', (t) => {
  const start = filled();
  const limits = { maxKeys: keysOf(start), maxBytes: start.machine.contentBytes };
  const before = start.snapshot;
  for (const [name, uses] of Object.entries(USES)) {
    for (const use of uses) {
      const machine = new RedisMachine(limits);
      machine.machine.restore(before);
      machine.index = start.index;
      const line = `${name} ${use}`;
      const answer = machine.run(wordsOf(name, use));
      const isRefused = answer.startsWith('-OOM ');
      t.equal(machine.snapshot.equals(before), isRefused, `${line.slice(0, 60)}: ${answer.slice(0, 20)}`);
      if (GROWS.test(line)) t.ok(isRefused, `${line.slice(0, 60)} needs room: ${answer.slice(0, 40)}`);
    }
  }
  t.end();
});

t.test('mutated operations never throw, queries change nothing, and replicas agree', (t) => {
  const random = randomFrom(SEED);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  const names = [...COMMANDS.keys()];
  const pool = [
    'a',
    'b',
    'h',
    's',
    'l',
    'z',
    'f',
    'm',
    '0',
    '1',
    '-1',
    '5',
    '100',
    '1.5',
    'v',
    '',
    LONG,
    '*',
    'EX',
    'PX',
    'NX',
    'XX',
    'GT',
    'GET',
    'KEEPTTL',
    'COUNT',
    'MATCH',
    'WITHVALUES',
    'BEFORE',
    'LEFT',
    'RIGHT',
    'LIMIT',
    'REPLACE',
    'BIT',
    'IDX',
    '[b',
    '(1',
    'WITHSCORES',
    'BYSCORE',
    'BYLEX',
    'REV',
    'INCR',
    'MIN',
    'WEIGHTS',
    'AGGREGATE',
    'PERSIST',
    'RANK',
    'encoding',
    'usage',
    '9223372036854775807',
    '-9223372036854775808',
    'k'.repeat(1025),
  ]; // prettier-ignore
  const wordsFor = (name: string): string[] => {
    if (random(4) > 0 && USES[name] !== undefined && USES[name].length > 0)
      return wordsOf(name, pick(USES[name])).map((word) => (random(10) === 0 ? pick(pool) : word));
    const { arity } = COMMANDS.get(name)!;
    const count = arity > 0 ? arity - 1 : -arity - 1 + random(4);
    return [name, ...Array.from({ length: random(20) === 0 ? random(6) : count }, () => pick(pool))];
  };
  const machine = new RedisMachine({ maxKeys: 60, maxBytes: 60_000 });
  const replica = new RedisMachine({ maxKeys: 60, maxBytes: 60_000 });
  machine.machine.committedTo(0);
  let executed = 0;
  let refused = 0;
  let undone = 0;
  let copies = 0;
  let copied = machine.snapshot;
  let copy: SnapshotInPieces | undefined;
  let pieces: Buffer[] = [];
  let before = machine.snapshot;
  let beforeIndex = 0;
  for (let i = 0; i < OPERATIONS; i++) {
    const parts: (Part | Transaction)[] = Array.from({ length: 1 + random(3) }, () =>
      random(8) === 0
        ? {
            watched: random(2) === 0 ? [{ key: pick(pool), revision: random(40) }] : [],
            commands: Array.from({ length: random(4) }, () => wordsFor(pick(names))),
            isResp3: random(2) === 0,
          } // prettier-ignore
        : { words: wordsFor(pick(names)), isResp3: random(2) === 0 },
    );
    const room = random(3) === 0 ? ROOM_BYTES_MIN + random(2000) : 48 * 1024;
    let operation = encodeOperation(parts, { room, now: machine.now, random: i });
    if (random(4) === 0) {
      for (let left = 1 + random(3); left > 0; left--) operation[random(operation.length)] = random(256);
      if (random(3) === 0) operation = operation.slice(0, 1 + random(operation.length));
    }
    const isQuery = random(3) === 0;
    const revision = isQuery ? revisionOf(machine) : 0;
    const capacity = random(10) === 0 ? random(300) : 65_536;
    const result = machine.execute(operation, { method: isQuery ? 'query' : 'apply', capacity });
    if (isQuery && revisionOf(machine) !== revision) return failed(`query ${i} changed something`);
    if (!isQuery) replica.execute(operation, { capacity: 65_536 });
    if (result[0] === 0 && operation[0] === 32) {
      const decoded = decodeCommandsResult(result, 0, result.length);
      if (decoded.status === 'ok') executed += decoded.answers.length;
    } else refused++;
    if (copy !== undefined) {
      const piece = copy.step(300 + random(3000));
      pieces.push(Buffer.from(piece));
      if (pieces.reduce((sum, one) => sum + one.length, 0) === copy.length) {
        if (!Buffer.concat(pieces).equals(copied)) return failed(`the snapshot in pieces before operation ${i}`);
        copy = undefined;
        copies++;
      }
    } else if (random(100) === 0) {
      copied = machine.snapshot;
      copy = machine.machine.beginSnapshot();
      pieces = [];
    }
    machine.now += random(50);
    replica.now = machine.now;
    if (i % 100 !== 99) continue;
    const after = machine.snapshot;
    if (!after.equals(replica.snapshot)) return failed(`the replicas differ after operation ${i}`);
    if (machine.machine.undoTo(beforeIndex)) {
      undone++;
      if (!machine.snapshot.equals(before)) return failed(`undone to ${beforeIndex} is not what it was`);
      machine.machine.restore(after);
      copy = undefined;
    }
    before = after;
    beforeIndex = machine.index;
    machine.machine.committedTo(beforeIndex);
  }
  t.ok(executed > OPERATIONS / 2, `${executed} commands were executed, ${refused} operations refused`);
  t.ok(undone > OPERATIONS / 200, `${undone} times undone`);
  t.ok(copies > OPERATIONS / 1000, `${copies} snapshots in pieces`);
  t.end();

  function failed(what: string): void {
    t.fail(`${what}; SEED=${SEED}`);
    t.end();
  }
});

function revisionOf(machine: RedisMachine): number {
  const result = machine.all([{ words: ['PING'] }], { method: 'query' });
  if (result.status !== 'ok') throw new Error(result.status);
  return result.revision;
}
