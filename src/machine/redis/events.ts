/**
 * The names by which Redis tells its subscribers what happened to a key (keyspace notifications), and which of them a
 * writing command means. The machine notes a code with each change; the front end makes names of it.
 *
 * The rule: codes are hints between the processes of one release, and nothing else depends on them. A code that is not
 * known counts as 0, which says only what kind of change it was.
 */
import type { Call } from './call.js';
import { COMMANDS, type CommandInfo } from './command-table.js';

/** By code, from 1. Names that Redis does not tell stand for a command that means several: see the front end. */
export const EVENT_NAMES = [
  'set',
  'del',
  'expire',
  'persist',
  'rename',
  'copy_to',
  'append',
  'setrange',
  'setbit',
  'incrby',
  'incrbyfloat',
  'getex',
  'hset',
  'hdel',
  'hincrby',
  'hincrbyfloat',
  'sadd',
  'srem',
  'spop',
  'sinterstore',
  'sunionstore',
  'sdiffstore',
  'lpush',
  'rpush',
  'lpop',
  'rpop',
  'lset',
  'ltrim',
  'lrem',
  'linsert',
  'zadd',
  'zincr',
  'zrem',
  'zpopmin',
  'zpopmax',
  'zremrangebyrank',
  'zremrangebyscore',
  'zremrangebylex',
  'zunionstore',
  'zinterstore',
  'zdiffstore',
  'zrangestore',
  'sortstore',
] as const;
export type EventName = (typeof EVENT_NAMES)[number];

const codes = new Map<string, number>(EVENT_NAMES.map((name, i) => [name, i + 1]));

/** Commands that are told under another name than their own. Scripts have none: they do several things. */
const TOLD_AS: Readonly<Record<string, EventName>> = {
  unlink: 'del',
  getdel: 'del',
  delex: 'del',
  pexpire: 'expire',
  expireat: 'expire',
  pexpireat: 'expire',
  renamenx: 'rename',
  copy: 'copy_to',
  getset: 'set',
  mset: 'set',
  msetnx: 'set',
  setex: 'set',
  psetex: 'set',
  setnx: 'set',
  incr: 'incrby',
  decr: 'incrby',
  decrby: 'incrby',
  bitop: 'set',
  bitfield: 'setbit',
  sort: 'sortstore',
  hsetnx: 'hset',
  hmset: 'hset',
  rpushx: 'rpush',
  lpushx: 'lpush',
  zincrby: 'zincr',
};

const ofCommands = new Map<CommandInfo, number>();
for (const info of COMMANDS.values()) {
  const code = codes.get(TOLD_AS[info.name] ?? info.name);
  if (code !== undefined && info.kind === 'write') ofCommands.set(info, code);
}

/** 0: the command has none. */
export function eventCode(info: CommandInfo): number {
  return ofCommands.get(info) ?? 0;
}

/** What follows is told under this name: a command changes two keys in different ways. */
export function tellAs(call: Call, name: EventName): void {
  call.store.event = codes.get(name)!;
}
