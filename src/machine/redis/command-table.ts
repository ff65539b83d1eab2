/**
 * Every Redis command that is known: the machine and the front end share this table. The rows of commands that Redis has
 * too say what its COMMAND INFO says (7.0, and 7.2 for what came later). Ours alone are DELEX and OBJECT REVISION.
 */

/**
 * Who executes a command. `read` and `write`: the machine; a query takes only what reads. `local`: the front end; the
 * machine refuses it.
 */
export type CommandKind = 'read' | 'write' | 'local';

export interface CommandInfo {
  /** In lower case. A subcommand is `container|name`. */
  readonly name: string;
  /** Number of arguments with the name; negative: at least that many. */
  readonly arity: number;
  /** As Redis' COMMAND names them. */
  readonly flags: readonly string[];
  /** Positions of the keys among the arguments, counted from the name, which is 0. 0: there is none, or a number says it. */
  readonly firstKey: number;
  /** Negative: counted from the end. */
  readonly lastKey: number;
  readonly keyStep: number;
  readonly kind: CommandKind;
}

type Row = readonly [string, number, string, number, number, number, CommandKind];

const ROWS: readonly Row[] = [
  // connection
  ['hello', -1, 'noscript loading stale fast no_auth allow_busy', 0, 0, 0, 'local'],
  ['auth', -2, 'noscript loading stale fast no_auth allow_busy', 0, 0, 0, 'local'],
  ['ping', -1, 'fast', 0, 0, 0, 'read'],
  ['echo', 2, 'loading stale fast', 0, 0, 0, 'read'],
  ['quit', -1, 'noscript loading stale fast no_auth allow_busy', 0, 0, 0, 'local'],
  ['reset', 1, 'noscript loading stale fast no_auth allow_busy', 0, 0, 0, 'local'],
  ['select', 2, 'loading stale fast', 0, 0, 0, 'read'],
  ['client', -2, '', 0, 0, 0, 'local'],
  // server
  ['info', -1, 'loading stale', 0, 0, 0, 'local'],
  ['dbsize', 1, 'readonly fast', 0, 0, 0, 'read'],
  ['time', 1, 'loading stale fast', 0, 0, 0, 'read'],
  ['command', -1, 'loading stale', 0, 0, 0, 'local'],
  ['config', -2, '', 0, 0, 0, 'local'],
  ['debug', -2, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['wait', 3, 'noscript', 0, 0, 0, 'local'],
  ['flushall', -1, 'write', 0, 0, 0, 'write'],
  ['flushdb', -1, 'write', 0, 0, 0, 'write'],
  ['memory', -2, '', 0, 0, 0, 'read'],
  ['lolwut', -1, 'readonly fast', 0, 0, 0, 'local'],
  ['role', 1, 'noscript loading stale fast', 0, 0, 0, 'local'],
  ['function', -2, '', 0, 0, 0, 'local'],
  ['slowlog', -2, '', 0, 0, 0, 'local'],
  ['acl', -2, '', 0, 0, 0, 'local'],
  // keys
  ['del', -2, 'write', 1, -1, 1, 'write'],
  ['unlink', -2, 'write fast', 1, -1, 1, 'write'],
  ['exists', -2, 'readonly fast', 1, -1, 1, 'read'],
  ['type', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['expire', -3, 'write fast', 1, 1, 1, 'write'],
  ['pexpire', -3, 'write fast', 1, 1, 1, 'write'],
  ['expireat', -3, 'write fast', 1, 1, 1, 'write'],
  ['pexpireat', -3, 'write fast', 1, 1, 1, 'write'],
  ['expiretime', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['pexpiretime', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['ttl', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['pttl', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['persist', 2, 'write fast', 1, 1, 1, 'write'],
  ['rename', 3, 'write', 1, 2, 1, 'write'],
  ['renamenx', 3, 'write fast', 1, 2, 1, 'write'],
  ['copy', -3, 'write denyoom', 1, 2, 1, 'write'],
  ['touch', -2, 'readonly fast', 1, -1, 1, 'read'],
  ['randomkey', 1, 'readonly', 0, 0, 0, 'read'],
  ['keys', 2, 'readonly', 0, 0, 0, 'read'],
  ['scan', -2, 'readonly', 0, 0, 0, 'read'],
  ['object', -2, '', 0, 0, 0, 'read'],
  ['sort', -2, 'write denyoom movablekeys', 1, 1, 1, 'write'],
  ['sort_ro', -2, 'readonly movablekeys', 1, 1, 1, 'read'],
  ['move', 3, 'write fast', 1, 1, 1, 'write'],
  // strings
  ['set', -3, 'write denyoom', 1, 1, 1, 'write'],
  ['get', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['getset', 3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['getdel', 2, 'write fast', 1, 1, 1, 'write'],
  ['getex', -2, 'write fast', 1, 1, 1, 'write'],
  ['mget', -2, 'readonly fast', 1, -1, 1, 'read'],
  ['mset', -3, 'write denyoom', 1, -1, 2, 'write'],
  ['msetnx', -3, 'write denyoom', 1, -1, 2, 'write'],
  ['setex', 4, 'write denyoom', 1, 1, 1, 'write'],
  ['psetex', 4, 'write denyoom', 1, 1, 1, 'write'],
  ['setnx', 3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['append', 3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['strlen', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['getrange', 4, 'readonly', 1, 1, 1, 'read'],
  ['substr', 4, 'readonly', 1, 1, 1, 'read'],
  ['setrange', 4, 'write denyoom', 1, 1, 1, 'write'],
  ['incr', 2, 'write denyoom fast', 1, 1, 1, 'write'],
  ['decr', 2, 'write denyoom fast', 1, 1, 1, 'write'],
  ['incrby', 3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['decrby', 3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['incrbyfloat', 3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['setbit', 4, 'write denyoom', 1, 1, 1, 'write'],
  ['getbit', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['bitcount', -2, 'readonly', 1, 1, 1, 'read'],
  ['bitpos', -3, 'readonly', 1, 1, 1, 'read'],
  ['bitop', -4, 'write denyoom', 2, -1, 1, 'write'],
  ['bitfield', -2, 'write denyoom', 1, 1, 1, 'write'],
  ['bitfield_ro', -2, 'readonly fast', 1, 1, 1, 'read'],
  ['lcs', -3, 'readonly', 1, 2, 1, 'read'],
  ['delex', -2, 'write fast', 1, 1, 1, 'write'],
  // transactions
  ['multi', 1, 'noscript loading stale fast allow_busy', 0, 0, 0, 'local'],
  ['exec', 1, 'noscript loading stale skip_slowlog', 0, 0, 0, 'local'],
  ['discard', 1, 'noscript loading stale fast allow_busy', 0, 0, 0, 'local'],
  ['watch', -2, 'noscript loading stale fast allow_busy', 1, -1, 1, 'read'],
  ['unwatch', 1, 'noscript loading stale fast allow_busy', 0, 0, 0, 'local'],
  // messages
  ['publish', 3, 'pubsub loading stale fast', 0, 0, 0, 'write'],
  ['subscribe', -2, 'pubsub noscript loading stale', 0, 0, 0, 'local'],
  ['psubscribe', -2, 'pubsub noscript loading stale', 0, 0, 0, 'local'],
  ['unsubscribe', -1, 'pubsub noscript loading stale', 0, 0, 0, 'local'],
  ['punsubscribe', -1, 'pubsub noscript loading stale', 0, 0, 0, 'local'],
  ['pubsub', -2, '', 0, 0, 0, 'local'],
  // hashes
  ['hset', -4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['hsetnx', 4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['hget', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['hmget', -3, 'readonly fast', 1, 1, 1, 'read'],
  ['hmset', -4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['hgetall', 2, 'readonly', 1, 1, 1, 'read'],
  ['hdel', -3, 'write fast', 1, 1, 1, 'write'],
  ['hexists', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['hlen', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['hstrlen', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['hkeys', 2, 'readonly', 1, 1, 1, 'read'],
  ['hvals', 2, 'readonly', 1, 1, 1, 'read'],
  ['hincrby', 4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['hincrbyfloat', 4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['hscan', -3, 'readonly', 1, 1, 1, 'read'],
  ['hrandfield', -2, 'readonly', 1, 1, 1, 'read'],
  // sets
  ['sadd', -3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['srem', -3, 'write fast', 1, 1, 1, 'write'],
  ['sismember', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['smismember', -3, 'readonly fast', 1, 1, 1, 'read'],
  ['smembers', 2, 'readonly', 1, 1, 1, 'read'],
  ['scard', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['spop', -2, 'write fast', 1, 1, 1, 'write'],
  ['srandmember', -2, 'readonly', 1, 1, 1, 'read'],
  ['smove', 4, 'write fast', 1, 2, 1, 'write'],
  ['sscan', -3, 'readonly', 1, 1, 1, 'read'],
  ['sinter', -2, 'readonly', 1, -1, 1, 'read'],
  ['sunion', -2, 'readonly', 1, -1, 1, 'read'],
  ['sdiff', -2, 'readonly', 1, -1, 1, 'read'],
  ['sinterstore', -3, 'write denyoom', 1, -1, 1, 'write'],
  ['sunionstore', -3, 'write denyoom', 1, -1, 1, 'write'],
  ['sdiffstore', -3, 'write denyoom', 1, -1, 1, 'write'],
  ['sintercard', -3, 'readonly movablekeys', 0, 0, 0, 'read'],
  // lists
  ['rpush', -3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['lpush', -3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['rpushx', -3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['lpushx', -3, 'write denyoom fast', 1, 1, 1, 'write'],
  ['lrange', 4, 'readonly', 1, 1, 1, 'read'],
  ['llen', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['lindex', 3, 'readonly', 1, 1, 1, 'read'],
  ['lset', 4, 'write denyoom', 1, 1, 1, 'write'],
  ['lpop', -2, 'write fast', 1, 1, 1, 'write'],
  ['rpop', -2, 'write fast', 1, 1, 1, 'write'],
  ['lmove', 5, 'write denyoom', 1, 2, 1, 'write'],
  ['rpoplpush', 3, 'write denyoom', 1, 2, 1, 'write'],
  ['lpos', -3, 'readonly', 1, 1, 1, 'read'],
  ['ltrim', 4, 'write', 1, 1, 1, 'write'],
  ['lrem', 4, 'write', 1, 1, 1, 'write'],
  ['linsert', 5, 'write denyoom', 1, 1, 1, 'write'],
  ['lmpop', -4, 'write movablekeys', 0, 0, 0, 'write'],
  // sorted sets
  ['zadd', -4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['zscore', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['zmscore', -3, 'readonly fast', 1, 1, 1, 'read'],
  ['zincrby', 4, 'write denyoom fast', 1, 1, 1, 'write'],
  ['zcard', 2, 'readonly fast', 1, 1, 1, 'read'],
  ['zrem', -3, 'write fast', 1, 1, 1, 'write'],
  ['zrank', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['zrevrank', 3, 'readonly fast', 1, 1, 1, 'read'],
  ['zcount', 4, 'readonly fast', 1, 1, 1, 'read'],
  ['zlexcount', 4, 'readonly fast', 1, 1, 1, 'read'],
  ['zrange', -4, 'readonly', 1, 1, 1, 'read'],
  ['zrangebyscore', -4, 'readonly', 1, 1, 1, 'read'],
  ['zrevrangebyscore', -4, 'readonly', 1, 1, 1, 'read'],
  ['zrangebylex', -4, 'readonly', 1, 1, 1, 'read'],
  ['zrevrangebylex', -4, 'readonly', 1, 1, 1, 'read'],
  ['zrevrange', -4, 'readonly', 1, 1, 1, 'read'],
  ['zrangestore', -5, 'write denyoom', 1, 2, 1, 'write'],
  ['zpopmin', -2, 'write fast', 1, 1, 1, 'write'],
  ['zpopmax', -2, 'write fast', 1, 1, 1, 'write'],
  ['zmpop', -4, 'write movablekeys', 0, 0, 0, 'write'],
  ['zremrangebyrank', 4, 'write', 1, 1, 1, 'write'],
  ['zremrangebyscore', 4, 'write', 1, 1, 1, 'write'],
  ['zremrangebylex', 4, 'write', 1, 1, 1, 'write'],
  ['zrandmember', -2, 'readonly', 1, 1, 1, 'read'],
  ['zscan', -3, 'readonly', 1, 1, 1, 'read'],
  ['zunion', -3, 'readonly movablekeys', 0, 0, 0, 'read'],
  ['zinter', -3, 'readonly movablekeys', 0, 0, 0, 'read'],
  ['zdiff', -3, 'readonly movablekeys', 0, 0, 0, 'read'],
  ['zunionstore', -4, 'write denyoom movablekeys', 1, 1, 1, 'write'],
  ['zinterstore', -4, 'write denyoom movablekeys', 1, 1, 1, 'write'],
  ['zdiffstore', -4, 'write denyoom movablekeys', 1, 1, 1, 'write'],
  ['zintercard', -3, 'readonly movablekeys', 0, 0, 0, 'read'],
  // scripts
  ['eval', -3, 'noscript stale skip_monitor no_mandatory_keys movablekeys', 0, 0, 0, 'write'],
  ['evalsha', -3, 'noscript stale skip_monitor no_mandatory_keys movablekeys', 0, 0, 0, 'write'],
  ['script', -2, '', 0, 0, 0, 'local'],
];

const SUBCOMMAND_ROWS: readonly Row[] = [
  ['client|caching', 3, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|getname', 2, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|getredir', 2, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['client|id', 2, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|info', 2, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|kill', -3, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['client|list', -2, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['client|no-evict', 3, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['client|reply', 3, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|setname', 3, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|tracking', -3, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|trackinginfo', 2, 'noscript loading stale', 0, 0, 0, 'local'],
  ['command|count', 2, 'loading stale', 0, 0, 0, 'local'],
  ['command|docs', -2, 'loading stale', 0, 0, 0, 'local'],
  ['command|getkeys', -4, 'loading stale', 0, 0, 0, 'local'],
  ['command|info', -2, 'loading stale', 0, 0, 0, 'local'],
  ['command|list', -2, 'loading stale', 0, 0, 0, 'local'],
  ['command|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['config|get', -3, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['config|set', -4, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['config|resetstat', 2, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['config|rewrite', 2, 'admin noscript loading stale', 0, 0, 0, 'local'],
  ['config|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['memory|usage', -3, 'readonly', 2, 2, 1, 'read'],
  ['memory|help', 2, 'loading stale', 0, 0, 0, 'read'],
  ['object|encoding', 3, 'readonly', 2, 2, 1, 'read'],
  ['object|freq', 3, 'readonly', 2, 2, 1, 'read'],
  ['object|help', 2, 'loading stale', 0, 0, 0, 'read'],
  ['object|idletime', 3, 'readonly', 2, 2, 1, 'read'],
  ['object|refcount', 3, 'readonly', 2, 2, 1, 'read'],
  ['pubsub|channels', -2, 'pubsub loading stale', 0, 0, 0, 'local'],
  ['pubsub|numsub', -2, 'pubsub loading stale', 0, 0, 0, 'local'],
  ['pubsub|numpat', 2, 'pubsub loading stale', 0, 0, 0, 'local'],
  ['pubsub|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['slowlog|get', -2, 'admin loading stale', 0, 0, 0, 'local'],
  ['slowlog|len', 2, 'admin loading stale', 0, 0, 0, 'local'],
  ['slowlog|reset', 2, 'admin loading stale', 0, 0, 0, 'local'],
  ['slowlog|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['acl|whoami', 2, 'noscript loading stale', 0, 0, 0, 'local'],
  ['acl|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['function|flush', -2, 'write noscript', 0, 0, 0, 'local'],
  ['function|list', -2, 'noscript', 0, 0, 0, 'local'],
  ['script|load', 3, 'noscript stale', 0, 0, 0, 'local'],
  ['script|exists', -3, 'noscript', 0, 0, 0, 'local'],
  ['script|flush', -2, 'noscript', 0, 0, 0, 'local'],
  ['script|help', 2, 'loading stale', 0, 0, 0, 'local'],
  ['client|no-touch', 3, 'noscript loading stale', 0, 0, 0, 'local'],
  ['client|setinfo', 4, 'noscript loading stale', 0, 0, 0, 'local'],
  ['object|revision', 3, 'readonly', 2, 2, 1, 'read'],
];

function infoOf([name, arity, flags, firstKey, lastKey, keyStep, kind]: Row): CommandInfo {
  return Object.freeze({
    name,
    arity,
    flags: Object.freeze(flags === '' ? [] : flags.split(' ')),
    firstKey,
    lastKey,
    keyStep,
    kind,
  });
}

/** By name, without subcommands. */
export const COMMANDS: ReadonlyMap<string, CommandInfo> = new Map(ROWS.map((row) => [row[0], infoOf(row)]));
/** By `container|name`. */
export const SUBCOMMANDS: ReadonlyMap<string, CommandInfo> = new Map(
  SUBCOMMAND_ROWS.map((row) => [row[0], infoOf(row)]),
);

const NAME_BYTES_MAX = 16;
/** Longer than any table of names, so that a search ends. */
const SLOTS = 1024;
const SLOT_MASK = SLOTS - 1;
const slots: (CommandInfo | undefined)[] = new Array<CommandInfo | undefined>(SLOTS).fill(undefined);
for (const info of COMMANDS.values()) {
  const bytes = Uint8Array.from(info.name, (character) => character.charCodeAt(0));
  let slot = hashName(bytes, 0, bytes.length) & SLOT_MASK;
  while (slots[slot] !== undefined) slot = (slot + 1) & SLOT_MASK;
  slots[slot] = info;
}

/** The command of this name, in any case. Creates nothing. */
export function findCommand(bytes: Uint8Array, offset: number, length: number): CommandInfo | undefined {
  if (length > NAME_BYTES_MAX) return undefined;
  for (let slot = hashName(bytes, offset, length) & SLOT_MASK; ; slot = (slot + 1) & SLOT_MASK) {
    const info = slots[slot];
    if (info === undefined || isName(info.name, bytes, offset, length)) return info;
  }
}

/** Whether the bytes are this name, which is in lower case, in any case. */
export function isName(name: string, bytes: Uint8Array, offset: number, length: number): boolean {
  if (name.length !== length) return false;
  for (let i = 0; i < length; i++) if (lowerCase(bytes[offset + i]!) !== name.charCodeAt(i)) return false;
  return true;
}

/** Whether a command with this many arguments, its name among them, is one of these. */
export function hasArity({ arity }: CommandInfo, argc: number): boolean {
  return arity >= 0 ? argc === arity : argc >= -arity;
}

function hashName(bytes: Uint8Array, offset: number, length: number): number {
  let hash = length;
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ lowerCase(bytes[offset + i]!), 0x01000193);
  return hash ^ (hash >>> 15);
}

function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte;
}
