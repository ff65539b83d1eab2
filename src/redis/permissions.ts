/** What a user may do: by its role, and by the prefix of its keys. */
import type { CommandInfo } from '../machine/redis/command-table.js';
import type { CommandSpans } from './resp-reader.js';
import type { User } from './users.js';

/** What concerns others, beside what the table calls `admin`. */
const ADMIN = new Set(['flushall', 'flushdb', 'debug']);
/** Shows or counts keys of others, so it is not for a user that has a prefix. */
const SHOWS_ALL = new Set(['keys', 'scan', 'randomkey', 'dbsize', 'pubsub|channels', 'pubsub|numpat']);
/** Commands whose arguments from this one on are channels, or patterns of channels; the first alone, if it is PUBLISH. */
const CHANNELS_FROM: Readonly<Record<string, number>> = { publish: 1, subscribe: 1, psubscribe: 1, 'pubsub|numsub': 2 };
/** Channels that tell what happens to a key. */
const KEYSPACE = '__keyspace@0__:';
/** What it is told there are keys that its own connections have read. Nobody with a prefix may say it: others hear it too. */
const INVALIDATE = '__redis__:invalidate';
/** Commands whose keys are counted by an argument: its position. A key that they store to stands before it. */
const COUNTED_BY: Readonly<Record<string, number>> = {
  eval: 2,
  evalsha: 2,
  sintercard: 1,
  lmpop: 1,
  zmpop: 1,
  zunion: 1,
  zinter: 1,
  zdiff: 1,
  zintercard: 1,
  zunionstore: 2,
  zinterstore: 2,
  zdiffstore: 2,
};

const NO_KEY = 'NOPERM No permissions to access a key';
/** SORT also names keys behind these words. */
const SORTED_BY = new Set(['by', 'get', 'store']);

/** Whether it may know how many keys there are. */
export function mayCountKeys(user: User | undefined): boolean {
  return user?.prefix === '';
}

/** Positions of the keys of a command. Undefined: its number of keys is no number, or there are fewer arguments. */
export function keyPositions(info: CommandInfo, command: Pick<CommandSpans, 'count' | 'text'>): number[] | undefined {
  const counter = COUNTED_BY[info.name];
  if (counter !== undefined) {
    const text = counter < command.count ? command.text(counter) : '';
    const keys = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
    if (Number.isNaN(keys) || counter + keys >= command.count) return undefined;
    const counted = Array.from({ length: keys }, (_, i) => counter + 1 + i);
    return info.firstKey === 0 ? counted : [info.firstKey, ...counted];
  }
  if (info.firstKey === 0) return [];
  if (info.name === 'sort') {
    const words = Array.from({ length: command.count }, (_, at) => command.text(at).toLowerCase());
    const store = words.lastIndexOf('store', command.count - 2);
    return store > 1 ? [1, store + 1] : [1];
  }
  const last = info.lastKey < 0 ? command.count + info.lastKey : info.lastKey;
  const positions: number[] = [];
  for (let at = info.firstKey; at <= last && at < command.count; at += info.keyStep) positions.push(at);
  return positions;
}

/**
 * Why the user may not do it, as an error without line end; undefined: it may.
 * @param info of the subcommand, if it is one
 */
export function forbidden(user: User, info: CommandInfo, command: CommandSpans): string | undefined {
  if (user.role === 'admin') return undefined;
  const isAdmin = ADMIN.has(info.name) || info.flags.includes('admin');
  // Not the connection's own affairs, which Redis calls admin too.
  if (isAdmin && info.name !== 'client|no-evict') return noCommand(user, info);
  if (user.role === 'read' && info.kind === 'write') return noCommand(user, info);
  if (user.prefix === '') return undefined;
  if (SHOWS_ALL.has(info.name)) return noCommand(user, info);
  const channels = CHANNELS_FROM[info.name];
  if (channels !== undefined) {
    const end = info.name === 'publish' ? 2 : command.count;
    for (let i = channels; i < end; i++) {
      const name = command.text(i);
      const isForged = info.name === 'publish' && name === INVALIDATE;
      if (isForged || isChannelForbidden(user, name, info.name === 'psubscribe'))
        return 'NOPERM No permissions to access a channel';
    }
    return undefined;
  }
  const positions = keyPositions(info, command);
  if (positions === undefined) return undefined; // it has no keys, and fails
  const isAllowed = positions.every((at) => command.text(at).startsWith(user.prefix));
  if (isAllowed && !sortsByOthers(user, info, command)) return undefined;
  return NO_KEY;
}

/** Whether SORT names keys of others. A pattern without a star names none. */
function sortsByOthers(user: User, info: CommandInfo, command: CommandSpans): boolean {
  if (info.name !== 'sort' && info.name !== 'sort_ro') return false;
  for (let at = 2; at + 1 < command.count; at++) {
    const word = command.text(at).toLowerCase();
    if (!SORTED_BY.has(word)) continue;
    const name = command.text(at + 1);
    const isOwn = name.startsWith(user.prefix) && !user.prefix.includes('*');
    if (!isOwn && (word === 'store' || name.includes('*'))) return true;
  }
  return false;
}

/**
 * Whether a user may not use a channel: one with a prefix has the channels that begin with it, and the notifications of its
 * keys. A pattern has to begin with the prefix as it is.
 */
export function isChannelForbidden({ prefix }: User, name: string, isPattern: boolean): boolean {
  if (prefix === '' || name === INVALIDATE) return false;
  if (isPattern && /[*?[\\\]^]/.test(prefix)) return true;
  return !name.startsWith(prefix) && !name.startsWith(KEYSPACE + prefix);
}

function noCommand({ name: user }: User, info: CommandInfo): string {
  return `NOPERM User ${user} has no permissions to run the '${info.name}' command`;
}
