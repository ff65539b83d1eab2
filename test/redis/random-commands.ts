/**
 * Random commands of every group, as clients might send them: mostly right, some with a wrong type, number, option or
 * arity. Expiry is long enough to be compared, or over at once.
 */
import { randomFrom } from '../random.js';

export type Words = readonly string[];

const KINDS = ['string', 'number', 'hash', 'set', 'list', 'zset'] as const;
type Kind = (typeof KINDS)[number];
/** Sorted sets whose scores are all the same: only there do ranges of members have a meaning. */
const LEX_KEYS = ['x0', 'x1'];
const LEX_MEMBERS = ['a', 'aa', 'b', 'c', 'dd', '', '1', '-5', '10', '3.25', 'x y', '\0\x80\xff\r\n', 'foo'];
const LEX_ENDS = ['-', '+', '[', '(', '[b', '(b', '[c', '(foo', '[zz', '(', 'b', '', '-x', '+\0y', '[\xff'];
/** Keys of a kind, in general: one in eight commands takes a key of another kind. */
const KEYS_A_KIND = 3;

const MEMBERS = ['a', 'b', 'c', 'dd', '', '1', '-5', '10', '3.25', 'x y', '\0\x80\xff\r\n', 'm'.repeat(70), 'é', 'foo'];
const VALUES = [...MEMBERS, 'hello world', '9223372036854775806', '-9223372036854775808', '0', 'v'.repeat(300)];
const INTEGERS = [
  '0',
  '-1',
  '-2',
  '5',
  '-100',
  '9223372036854775807',
  '-9223372036854775808',
  '9223372036854775808',
  '-9223372036854775809',
  '4611686018427387904',
  '007',
  '+1',
  ' 1',
  '1 ',
  '1.5',
  '-0',
  '',
  'abc',
  '1e3',
  '99999999999999999999999',
];
const FLOATS = [
  '0',
  '1',
  '-1',
  '0.5',
  '-0.25',
  '10.0',
  '3.0e3',
  '1e-3',
  '1e400',
  'inf',
  '-inf',
  'nan',
  'abc',
  '',
  ' 1',
  '1 ',
  '0x10',
  '1234567890123',
];
const SCORES = [
  ...FLOATS,
  'Infinity',
  '+inf',
  '0x1.8p3',
  '1e-320',
  '1.00000762939453125',
  '0.1',
  '3.0000000000000004',
  '1e17',
  '123456789012345678',
  '-1.5e-7',
  '.5',
  '5.',
];
const SCORE_ENDS = ['-inf', '+inf', '(1', '(-inf', '(0.5', '(', '( 3', '1e400', '(x', '1\0x', '(inf'];
const PATTERNS = ['*', '?1', 's*', '[a-m]*', '[^s]*', '\\*', '*1', 'h?', '', '[', '[]', '[z-a]1', '*\\', 'a*b*c*'];
const TYPES = ['string', 'hash', 'set', 'list', 'zset', 'stream', 'nothing'];
/** Far enough away that seconds of it do not matter, and times that are refused. */
const FAR_SECONDS = ['100000', '500000'];
const BAD_TIMES = ['0', '-1', 'abc', '9223372036854775807', '-9223372036854775808', '9223372036854775', '1.5', ''];

export class RandomCommands {
  readonly #below: (n: number) => number;
  readonly #nowSeconds: number;

  constructor(seed: number, nowMs: number) {
    this.#below = randomFrom(seed);
    this.#nowSeconds = Math.floor(nowMs / 1000);
  }

  below(n: number): number {
    return this.#below(n);
  }

  chance(percent: number): boolean {
    return this.#below(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }

  key(kind: Kind): string {
    const chosen = this.chance(12) ? this.pick(KINDS) : kind;
    return `${chosen[0]}${this.#below(KEYS_A_KIND)}`;
  }

  anyKey(): string {
    return this.key(this.pick(KINDS));
  }

  /** A command. Commands whose answer is random are not among them. */
  command(): Words {
    const words = this.pick(GROUPS)(this);
    return this.disturb(words);
  }

  /** Options in any order, each of them present with a chance of one in three. */
  options(...options: Words[]): string[] {
    const chosen = options.filter(() => this.chance(33));
    for (let i = chosen.length - 1; i > 0; i--) {
      const j = this.#below(i + 1);
      [chosen[i], chosen[j]] = [chosen[j]!, chosen[i]!];
    }
    return chosen.flat();
  }

  many(least: number, one: () => string | Words): string[] {
    return Array.from({ length: least + this.#below(4) }, one).flat();
  }

  member = (): string => this.pick(MEMBERS);
  value = (): string => this.pick(VALUES);
  integer = (): string => (this.chance(70) ? String(this.#below(12) - 4) : this.pick(INTEGERS));
  float = (): string => (this.chance(30) ? String(this.#below(20) - 8) : this.pick(FLOATS));
  fieldType = (): string => this.pick(['u8', 'i8', 'u1', 'i5', 'u63', 'i64', 'u64', 'i65', 'i0', 'x8', 'u', 'i16']);
  fieldOffset = (): string => this.pick(['0', '3', '#1', '#2', '100', '-1', '#', 'x', '4294967296', '7']);
  score = (): string => (this.chance(50) ? String(this.#below(12) - 4) : this.pick(SCORES));
  scoreEnd = (): string => (this.chance(60) ? this.score() : this.pick(SCORE_ENDS));
  lexKey = (): string => this.pick(LEX_KEYS);
  lexMember = (): string => this.pick(LEX_MEMBERS);
  lexEnd = (): string => this.pick(LEX_ENDS);
  pattern = (): string => this.pick(PATTERNS);
  type = (): string => this.pick(TYPES);
  seconds = (): string => (this.chance(70) ? this.pick(FAR_SECONDS) : this.pick(BAD_TIMES));
  milliseconds = (): string => (this.chance(70) ? `${this.pick(FAR_SECONDS)}000` : this.pick(BAD_TIMES));
  secondsAt = (): string =>
    this.chance(70) ? String(this.#nowSeconds + Number(this.pick(FAR_SECONDS))) : this.pick([...BAD_TIMES, '1']);
  millisecondsAt = (): string =>
    this.chance(70) ? `${this.#nowSeconds + Number(this.pick(FAR_SECONDS))}123` : this.pick([...BAD_TIMES, '1000']);

  /** One option that says when the key ends. */
  expiry(): Words[] {
    return [
      ['EX', this.seconds()],
      ['PX', this.milliseconds()],
      ['EXAT', this.secondsAt()],
      ['PXAT', this.millisecondsAt()],
    ];
  }

  /** Now and then an argument too many or too few, or one that is something else; often another case. */
  private disturb(words: Words): Words {
    const copy = [...words];
    if (this.chance(30))
      copy[0] = this.chance(50) ? copy[0]!.toLowerCase() : copy[0]![0]! + copy[0]!.slice(1).toLowerCase();
    const at = 1 + this.#below(Math.max(1, copy.length - 1));
    const kind = this.#below(100);
    if (kind < 2) copy.splice(at, 1);
    else if (kind < 4) copy.splice(at, 0, this.pick([this.value(), this.integer(), 'NX', 'COUNT', '']));
    else if (kind < 6 && copy.length > 1) copy[at] = this.pick([this.value(), this.integer(), this.member()]);
    else if (kind < 12 && copy.length > 1)
      copy[at] = this.chance(50) ? copy[at]!.toLowerCase() : copy[at]!.toUpperCase();
    return copy;
  }
}

type Group = (r: RandomCommands) => Words;

function chooser(...cases: Group[]): Group {
  return (r) => r.pick(cases)(r);
}

const withScores: Words = ['WITHSCORES'];
const limited = (r: RandomCommands): Words => ['LIMIT', r.integer(), r.integer()];
const adding = (r: RandomCommands): string[] => r.options(['NX'], ['XX'], ['GT'], ['LT'], ['CH'], ['INCR']);
const weighing = (r: RandomCommands, keys: number): string[] =>
  r.options(['WEIGHTS', ...Array.from({ length: keys }, r.score)], ['AGGREGATE', r.pick(['SUM', 'MIN', 'MAX', 'AVG'])]);

function sources(r: RandomCommands): string[] {
  const keys = r.many(1, () => r.key(r.chance(25) ? 'set' : 'zset'));
  return [r.chance(90) ? String(keys.length) : r.integer(), ...keys];
}

const zsets = chooser(
  (r) => ['ZADD', r.key('zset'), ...r.many(1, () => [r.score(), r.member()])],
  (r) => ['ZADD', r.key('zset'), ...r.many(1, () => [String(r.below(6)), r.member()])],
  (r) => ['ZADD', r.key('zset'), ...adding(r), ...r.many(1, () => [r.score(), r.member()])],
  (r) => ['ZADD', r.key('zset'), ...adding(r), r.score(), r.member()],
  (r) => ['ZINCRBY', r.key('zset'), r.score(), r.member()],
  (r) => [r.pick(['ZSCORE', 'ZRANK', 'ZREVRANK']), r.key('zset'), r.member()],
  (r) => [r.pick(['ZMSCORE', 'ZREM']), r.key('zset'), ...r.many(1, r.member)],
  (r) => ['ZCARD', r.key('zset')],
  (r) => ['ZCOUNT', r.key('zset'), r.scoreEnd(), r.scoreEnd()],
  (r) => [
    'ZRANGE',
    r.key('zset'),
    r.scoreEnd(),
    r.scoreEnd(),
    ...r.options(['BYSCORE'], ['REV'], withScores, limited(r)),
  ],
  (r) => [
    'ZRANGE',
    r.key('zset'),
    r.scoreEnd(),
    r.scoreEnd(),
    'BYSCORE',
    ...r.options(['REV'], withScores, limited(r)),
  ],
  (r) => [r.pick(['ZRANGE', 'ZREVRANGE']), r.key('zset'), r.integer(), r.integer(), ...r.options(withScores)],
  (r) => ['ZRANGE', r.key('zset'), r.integer(), r.integer(), ...r.options(['REV'], withScores, limited(r))],
  (r) => [
    r.pick(['ZRANGEBYSCORE', 'ZREVRANGEBYSCORE']),
    r.key('zset'),
    r.scoreEnd(),
    r.scoreEnd(),
    ...r.options(withScores, limited(r)),
  ],
  (r) => [
    'ZRANGESTORE',
    r.key('zset'),
    r.key('zset'),
    r.integer(),
    r.integer(),
    ...r.options(['BYSCORE'], ['REV'], limited(r)),
  ],
  (r) => [r.pick(['ZPOPMIN', 'ZPOPMAX']), r.key('zset'), ...r.options([r.integer()])],
  (r) => ['ZMPOP', ...sources(r), r.pick(['MIN', 'MAX', 'MID']), ...r.options(['COUNT', r.integer()])],
  (r) => ['ZREMRANGEBYRANK', r.key('zset'), r.integer(), r.integer()],
  (r) => ['ZREMRANGEBYSCORE', r.key('zset'), r.scoreEnd(), r.scoreEnd()],
  (r) => ['ZSCAN', r.key('zset'), r.pick(['0', 'x']), ...r.options(['MATCH', r.pattern()], ['COUNT', r.integer()])],
  (r) => {
    const from = sources(r);
    return [r.pick(['ZUNION', 'ZINTER']), ...from, ...weighing(r, from.length - 1), ...r.options(withScores)];
  },
  (r) => ['ZDIFF', ...sources(r), ...r.options(withScores)],
  (r) => {
    const from = sources(r);
    return [r.pick(['ZUNIONSTORE', 'ZINTERSTORE']), r.key('zset'), ...from, ...weighing(r, from.length - 1)];
  },
  (r) => ['ZDIFFSTORE', r.key('zset'), ...sources(r)],
  (r) => ['ZINTERCARD', ...sources(r), ...r.options(['LIMIT', r.integer()])],
);

const lexes = chooser(
  (r) => ['ZADD', r.lexKey(), ...r.many(1, () => ['0', r.lexMember()])],
  (r) => ['ZADD', r.lexKey(), ...r.many(3, () => ['0', r.lexMember()])],
  (r) => ['ZREM', r.lexKey(), r.lexMember()],
  (r) => [r.pick(['ZLEXCOUNT', 'ZREMRANGEBYLEX']), r.lexKey(), r.lexEnd(), r.lexEnd()],
  (r) => [
    r.pick(['ZRANGEBYLEX', 'ZREVRANGEBYLEX']),
    r.lexKey(),
    r.lexEnd(),
    r.lexEnd(),
    ...r.options(limited(r), withScores),
  ],
  (r) => ['ZRANGE', r.lexKey(), r.lexEnd(), r.lexEnd(), 'BYLEX', ...r.options(['REV'], limited(r))],
  (r) => ['ZRANGESTORE', r.lexKey(), r.lexKey(), r.lexEnd(), r.lexEnd(), 'BYLEX', ...r.options(['REV'], limited(r))],
);

const strings = chooser(
  (r) => ['SET', r.key('string'), r.value()],
  (r) => [
    'SET',
    r.key('string'),
    r.value(),
    ...r.options(['NX'], ['XX'], ['GET'], ['KEEPTTL'], ...r.expiry().slice(0, 2)),
  ],
  (r) => ['SET', r.key('string'), r.value(), ...r.options(['GET'], r.pick([['NX'], ['XX']]), r.pick(r.expiry()))],
  (r) => ['SET', r.key('number'), r.integer()],
  (r) => ['GET', r.key('string')],
  (r) => ['GET', r.key('number')],
  (r) => ['GETSET', r.key('string'), r.value()],
  (r) => ['GETDEL', r.key('string')],
  (r) => ['GETEX', r.key('string'), ...r.options(r.pick(r.expiry()), ['PERSIST'])],
  (r) => ['MGET', ...r.many(1, () => r.anyKey())],
  (r) => ['MSET', ...r.many(1, () => [r.key('string'), r.value()])],
  (r) => ['MSETNX', ...r.many(1, () => [r.key('string'), r.value()])],
  (r) => ['SETEX', r.key('string'), r.seconds(), r.value()],
  (r) => ['PSETEX', r.key('string'), r.milliseconds(), r.value()],
  (r) => ['SETNX', r.key('string'), r.value()],
  (r) => ['APPEND', r.key('string'), r.member()],
  (r) => ['STRLEN', r.key('string')],
  (r) => [r.pick(['GETRANGE', 'SUBSTR']), r.key('string'), r.integer(), r.integer()],
  (r) => ['SETRANGE', r.key('string'), r.pick(['0', '1', '5', '20', '-1', 'x', '536870912', '']), r.member()],
  (r) => [
    'LCS',
    r.key('string'),
    r.key('string'),
    ...r.options(['LEN'], ['IDX'], ['MINMATCHLEN', r.integer()], ['WITHMATCHLEN']),
  ],
);

const numbers = chooser(
  (r) => ['INCR', r.key('number')],
  (r) => ['DECR', r.key('number')],
  (r) => ['INCRBY', r.key('number'), r.integer()],
  (r) => ['DECRBY', r.key('number'), r.integer()],
  (r) => ['INCRBYFLOAT', r.key('number'), r.float()],
  (r) => ['SET', r.key('number'), r.pick(['9223372036854775806', '-9223372036854775807', '3.0', '1e5', ' 12', '10'])],
  (r) => [
    'SETBIT',
    r.key('string'),
    r.pick(['0', '7', '8', '100', '-1', '4294967296', 'x']),
    r.pick(['0', '1', '1', '2', 'x']),
  ],
  (r) => ['GETBIT', r.key('string'), r.pick(['0', '1', '7', '9', '100', '4294967295', '4294967296', '-1', 'x'])],
  (r) => ['BITOP', r.pick(['AND', 'OR', 'XOR', 'NOT', 'NAND']), r.key('string'), ...r.many(1, () => r.key('string'))],
  (r) => ['BITOP', 'NOT', r.key('string'), r.key('string')],
  (r) => [
    r.pick(['BITFIELD', 'BITFIELD', 'BITFIELD_RO']),
    r.key('string'),
    ...r.many(1, () => [
      ...r.options(['OVERFLOW', r.pick(['WRAP', 'SAT', 'FAIL', 'fail', 'NO'])]),
      ...r.pick<Words>([
        ['GET', r.fieldType(), r.fieldOffset()],
        ['GET', r.fieldType(), r.fieldOffset()],
        ['SET', r.fieldType(), r.fieldOffset(), r.integer()],
        ['INCRBY', r.fieldType(), r.fieldOffset(), r.integer()],
      ]),
    ]),
  ],
  (r) => ['BITCOUNT', r.key('string'), ...r.options([r.integer(), r.integer(), ...r.options(['BYTE'], ['BIT'])])],
  (r) => [
    'BITPOS',
    r.key('string'),
    r.pick(['0', '1', '2', 'x']),
    ...r.options([r.integer(), ...r.options([r.integer(), ...r.options(['BIT'], ['BYTE'])])]),
  ],
);

/** Keys that only this group uses: their elements are in the same order in every locale. */
const SORT_KEYS = ['q0', 'q1', 'q2', 'q3'];
const SORT_ELEMENTS = ['a', 'b', 'c', '1', '2', '10', '-3', '2.5'];
const sorts = chooser(
  (r) => ['RPUSH', 'q0', ...r.many(1, () => r.pick(SORT_ELEMENTS.slice(3)))],
  (r) => ['RPUSH', r.pick(['q0', 'q3']), ...r.many(1, () => r.pick(SORT_ELEMENTS))],
  (r) => ['SADD', 'q1', ...r.many(1, () => r.pick(SORT_ELEMENTS))],
  (r) => ['ZADD', 'q2', ...r.many(1, () => [String(r.below(5)), r.pick(SORT_ELEMENTS)])],
  (r) => ['SET', `w${r.pick(SORT_ELEMENTS)}`, r.pick(['1', '5', '-2', '0x10', 'x', ' 7', '', '1e400', 'inf'])],
  (r) => ['HSET', `o${r.pick(SORT_ELEMENTS)}`, 'f', String(r.below(9))],
  (r) => ['DEL', r.pick([...SORT_KEYS, 'wa', 'w1', 'w2', 'ob'])],
  (r) => {
    const name = r.pick(['SORT', 'SORT', 'SORT_RO']);
    // A set without an order is in another one here, and equal texts in any.
    const key = r.pick(['q0', 'q2', 'q3', 'q1']);
    const by =
      key === 'q1'
        ? ['BY', 'w*']
        : r.pick([
            ['BY', 'w*'],
            ['BY', 'o*->f'],
            ['BY', 'nosort'],
          ]);
    const options = r.options(
      by,
      limited(r),
      ['DESC'],
      ['ASC'],
      ['GET', r.pick(['#', 'w*', 'o*->f', 'nothing', 'o*'])],
    );
    if (!options.includes('BY') && r.chance(50)) options.push('ALPHA');
    if (r.chance(25)) options.push('STORE', 'q3');
    return [name, key, ...options];
  },
);

const keys = chooser(
  (r) => ['MOVE', r.anyKey(), r.pick(['0', '1', 'x', '-1'])],
  (r) => [r.pick(['DEL', 'UNLINK', 'EXISTS', 'TOUCH']), ...r.many(1, () => r.anyKey())],
  (r) => ['TYPE', r.anyKey()],
  (r) => ['EXPIRE', r.anyKey(), r.seconds(), ...r.options(['NX'], ['XX'], ['GT'], ['LT'])],
  (r) => ['PEXPIRE', r.anyKey(), r.milliseconds(), ...r.options(['NX', 'GT'], ['XX'])],
  (r) => ['EXPIREAT', r.anyKey(), r.secondsAt(), ...r.options(r.pick([['NX'], ['XX'], ['GT'], ['LT'], ['ZZ']]))],
  (r) => ['PEXPIREAT', r.anyKey(), r.millisecondsAt(), ...r.options(r.pick([['NX'], ['XX'], ['GT'], ['LT'], ['ZZ']]))],
  (r) => [r.pick(['EXPIRETIME', 'PEXPIRETIME', 'TTL', 'PTTL']), r.anyKey()],
  (r) => ['PERSIST', r.anyKey()],
  (r) => [r.pick(['RENAME', 'RENAMENX']), r.anyKey(), r.anyKey()],
  (r) => ['COPY', r.anyKey(), r.anyKey(), ...r.options(['REPLACE'], ['DB', r.pick(['0', '1', 'x', '-1'])])],
  (r) => ['KEYS', r.pattern()],
  (r) => [
    'SCAN',
    r.pick(['0', 'abc', '-1', '']),
    ...r.options(['MATCH', r.pattern()], ['COUNT', r.integer()], ['TYPE', r.type()]),
  ],
  () => ['DBSIZE'],
  (r) => ['OBJECT', r.pick(['ENCODING', 'REFCOUNT', 'FREQ', 'IDLETIME', 'NOTHING']), r.anyKey()],
  (r) => ['MEMORY', 'USAGE', r.anyKey(), ...r.options(['SAMPLES', r.integer()])],
);

const hashes = chooser(
  (r) => ['HSET', r.key('hash'), ...r.many(1, () => [r.member(), r.value()])],
  (r) => ['HMSET', r.key('hash'), ...r.many(1, () => [r.member(), r.value()])],
  (r) => ['HSETNX', r.key('hash'), r.member(), r.value()],
  (r) => [r.pick(['HGET', 'HEXISTS', 'HSTRLEN']), r.key('hash'), r.member()],
  (r) => [r.pick(['HMGET', 'HDEL']), r.key('hash'), ...r.many(1, r.member)],
  (r) => [r.pick(['HGETALL', 'HKEYS', 'HVALS', 'HLEN']), r.key('hash')],
  (r) => ['HINCRBY', r.key('hash'), r.member(), r.integer()],
  (r) => ['HINCRBYFLOAT', r.key('hash'), r.member(), r.float()],
  (r) => ['HSCAN', r.key('hash'), r.pick(['0', 'x']), ...r.options(['MATCH', r.pattern()], ['COUNT', r.integer()])],
);

const sets = chooser(
  (r) => ['SADD', r.key('set'), ...r.many(1, r.member)],
  (r) => ['SADD', r.key('set'), ...r.many(1, r.integer)],
  (r) => [r.pick(['SREM', 'SMISMEMBER']), r.key('set'), ...r.many(1, r.member)],
  (r) => ['SISMEMBER', r.key('set'), r.member()],
  (r) => [r.pick(['SMEMBERS', 'SCARD']), r.key('set')],
  (r) => ['SMOVE', r.key('set'), r.key('set'), r.member()],
  (r) => [r.pick(['SINTER', 'SUNION', 'SDIFF']), ...r.many(1, () => r.key('set'))],
  (r) => [r.pick(['SINTERSTORE', 'SUNIONSTORE', 'SDIFFSTORE']), r.key('set'), ...r.many(1, () => r.key('set'))],
  (r) => [
    'SINTERCARD',
    r.pick(['1', '2', '2', '3', '0', '-1', 'x']),
    r.key('set'),
    r.key('set'),
    ...r.options(['LIMIT', r.integer()]),
  ],
  (r) => ['SSCAN', r.key('set'), r.pick(['0', 'x']), ...r.options(['MATCH', r.pattern()], ['COUNT', r.integer()])],
);

const lists = chooser(
  (r) => [r.pick(['RPUSH', 'LPUSH', 'RPUSHX', 'LPUSHX']), r.key('list'), ...r.many(1, r.value)],
  (r) => ['LRANGE', r.key('list'), r.integer(), r.integer()],
  (r) => ['LLEN', r.key('list')],
  (r) => ['LINDEX', r.key('list'), r.integer()],
  (r) => ['LSET', r.key('list'), r.integer(), r.value()],
  (r) => [r.pick(['LPOP', 'RPOP']), r.key('list'), ...r.options([r.integer()])],
  (r) => ['LMOVE', r.key('list'), r.key('list'), r.pick(['LEFT', 'RIGHT', 'UP']), r.pick(['LEFT', 'RIGHT'])],
  (r) => ['RPOPLPUSH', r.key('list'), r.key('list')],
  (r) => [
    'LPOS',
    r.key('list'),
    r.value(),
    ...r.options(['RANK', r.integer()], ['COUNT', r.integer()], ['MAXLEN', r.integer()]),
  ],
  (r) => ['LTRIM', r.key('list'), r.pick(['0', '1', '-3', 'x']), r.pick(['-1', '-1', '2', '5', '-2'])],
  (r) => ['LREM', r.key('list'), r.integer(), r.value()],
  (r) => {
    const keys = r.many(1, () => r.key('list'));
    const count = r.chance(90) ? String(keys.length) : r.integer();
    return ['LMPOP', count, ...keys, r.pick(['LEFT', 'RIGHT', 'UP']), ...r.options(['COUNT', r.integer()])];
  },
  (r) => ['LINSERT', r.key('list'), r.pick(['BEFORE', 'AFTER', 'NEAR']), r.value(), r.value()],
);

const others = chooser(
  (r) => ['PING', ...r.options([r.value()])],
  (r) => ['ECHO', r.value()],
  (r) => ['SELECT', r.pick(['0', '0', '1', '-1', 'x', '99999999999'])],
  (r) => [r.pick(['NOSUCH', 'GETT', 'SETS', 'é', '']), ...r.many(0, r.value)],
  (r) => [r.pick(['CLIENT', 'CONFIG', 'COMMAND', 'SCRIPT', 'OBJECT', 'MEMORY']), 'NOSUCH', r.value()],
  (r) => [
    'COMMAND',
    'GETKEYS',
    r.pick([
      'GET',
      'MSET',
      'DEL',
      'SINTERCARD',
      'ZUNION',
      'ZUNIONSTORE',
      'ZMPOP',
      'LMPOP',
      'SORT',
      'EVAL',
      'NOSUCH',
      'PING',
    ]),
    ...r.many(0, r.integer),
  ],
  (r) => ['EVALSHA', r.pick(['f'.repeat(40), 'abc', '']), r.pick(['0', '1', '-1', 'x', '9']), ...r.many(0, r.value)],
  (r) => ['CLIENT', r.pick(['GETNAME', 'GETREDIR', 'TRACKINGINFO'])],
  (r) => ['CLIENT', 'SETNAME', r.pick(['', 'a', 'b c', 'é'])],
  (r) => ['CLIENT', r.pick(['NO-EVICT', 'REPLY', 'TRACKING']), r.pick(['what', ''])],
  (r) => ['AUTH', ...r.many(1, r.member)],
  (r) => ['HELLO', r.pick(['1', '4', 'x', '']), ...r.options(['AUTH', 'default'], ['SETNAME', 'a b'])],
  (r) => [r.pick(['EXEC', 'DISCARD', 'UNWATCH'])],
  (r) => ['SLOWLOG', r.pick(['LEN', 'GET', 'NOSUCH']), ...r.options([r.integer()])],
  (r) => ['SCRIPT', r.pick(['EXISTS', 'FLUSH', 'NOSUCH']), ...r.many(0, r.member)],
);

/** Groups as often as they deserve: the large ones have more commands. */
const GROUPS: readonly Group[] = [
  strings,
  strings,
  numbers,
  keys,
  keys,
  hashes,
  hashes,
  sets,
  sets,
  lists,
  lists,
  zsets,
  zsets,
  zsets,
  lexes,
  sorts,
  others,
];
