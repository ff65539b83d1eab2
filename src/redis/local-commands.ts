/** Commands that the front end answers without the cluster. What they say is Redis', where there is something to say. */
import { createHash } from 'node:crypto';
import { version } from '../host/version.js';
import type { CommandInfo } from '../machine/redis/command-table.js';
import { KNOWN_SCRIPTS } from '../machine/redis/scripts.js';
import { clientCommand } from './client-commands.js';
import { commandCommand } from './command-command.js';
import type { Connection } from './connection.js';
import type { Front } from './front.js';
import { matches } from './glob.js';
import { infoText, REDIS_VERSION } from './info.js';
import { normalized } from './notifications.js';
import { array, bulk, failure, integer, map, OK, simple, verbatim } from './resp-text.js';
import { NOTIFY, SETTING_BYTES_MAX } from './settings.js';
import { pubsubCommand } from './subscribe-commands.js';

const DB_COUNT = 1;
/** Most names in what lists or describes: a short command must not ask for a very long reply. */
const NAMES_MAX = 256;
const NAMING = new Set(['command|info', 'command|docs', 'client|list', 'client|kill', 'config|get']);
const SYNTAX = failure('ERR syntax error');
const NOT_INTEGER = failure('ERR value is not an integer or out of range');

/**
 * The reply. The arguments are enough for the command, or its subcommand.
 * @param words with the name of the command, a byte a character
 */
export function localReply(
  front: Front,
  connection: Connection,
  { name }: Pick<CommandInfo, 'name'>,
  words: readonly string[],
): string {
  if (words.length - 2 > NAMES_MAX && NAMING.has(name))
    return failure(`ERR the command has ${words.length - 2} names, this server takes ${NAMES_MAX}`);
  const container = name.split('|', 1)[0]!;
  switch (container) {
    case 'ping':
      if (words.length > 2) return failure("ERR wrong number of arguments for 'ping' command");
      return words.length === 2 ? bulk(words[1]!) : simple('PONG');
    case 'echo':
      return bulk(words[1]!);
    case 'select':
      return select(words[1]!);
    case 'time': {
      const us = Math.floor(front.agreedMs() * 1000);
      return array([bulk(String(Math.floor(us / 1e6))), bulk(String(us % 1e6))]);
    }
    case 'hello':
      return hello(connection);
    case 'publish': // In a transaction: how many receive it here.
      return integer(front.audience.subscriptions.receivers(words[1]!));
    case 'pubsub':
      return pubsubCommand(front, words);
    case 'client':
      return clientCommand(front, connection, words);
    case 'command':
      return commandCommand(connection.version, words);
    case 'config':
      return config(front, connection, words);
    case 'info':
      return verbatim(connection.version, infoText(front, connection.user, words.slice(1)));
    case 'wait':
      return wait(front, words);
    case 'role':
      return array([bulk('master'), integer(0), array([])]);
    case 'lolwut':
      return verbatim(connection.version, `JITPaxos ${version()}: consensus in one round trip.\n`);
    case 'slowlog':
      return slowlog(words);
    case 'acl':
      return words[1]!.toLowerCase() === 'whoami'
        ? bulk(connection.user?.name ?? 'default')
        : array([simple('ACL <subcommand>. Subcommands are:'), simple('WHOAMI'), simple('HELP')]);
    case 'function':
      if (words[1]!.toLowerCase() === 'list') return array([]);
      return words.length > 3 || (words.length === 3 && !/^a?sync$/i.test(words[2]!))
        ? failure('ERR FUNCTION FLUSH only supports SYNC|ASYNC option')
        : OK;
    case 'unwatch': // In a transaction: EXEC has forgotten the watched keys already.
      return OK;
    case 'script':
      return script(words);
    case 'debug':
      return failure(
        'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.',
      );
    default:
      return failure(`ERR the command '${name}' is not answered here`);
  }
}

function select(text: string): string {
  const db = integerIn(text);
  if (db === undefined) return NOT_INTEGER;
  if (db < -0x80000000 || db > 0x7fffffff)
    return failure('ERR value is out of range, value must between -2147483648 and 2147483647');
  return db >= 0 && db < DB_COUNT ? OK : failure('ERR DB index is out of range');
}

/** An integer of 64 bits as Redis reads it; undefined: it is none. */
function integerIn(text: string): bigint | undefined {
  if (!/^(?:0|-?[1-9]\d{0,18})$/.test(text)) return undefined;
  const value = BigInt(text);
  return BigInt.asIntN(64, value) === value ? value : undefined;
}

function hello({ version: resp, id }: Connection): string {
  return map(resp, [
    bulk('server'),
    bulk('jitpaxos'),
    bulk('version'),
    bulk(REDIS_VERSION),
    bulk('proto'),
    integer(resp),
    bulk('id'),
    integer(id),
    bulk('mode'),
    bulk('standalone'),
    bulk('role'),
    bulk('master'),
    bulk('modules'),
    array([]),
  ]);
}

function config({ settings, audience }: Front, { version: resp }: Connection, words: readonly string[]): string {
  const [, subcommand, ...rest] = words;
  switch (subcommand!.toLowerCase()) {
    case 'get': {
      // A name comes back as it was written.
      const found = new Map<string, string>();
      for (const pattern of rest) {
        const value = settings.get(pattern.toLowerCase());
        if (value !== undefined) found.set(pattern, value);
        else for (const [name, each] of settings) if (matches(pattern, name)) found.set(name, each);
      }
      return map(
        resp,
        [...found].flatMap(([name, value]) => [bulk(name), bulk(value)]),
      );
    }
    case 'set': {
      if (rest.length % 2 !== 0) return SYNTAX;
      const changes = new Map<string, string>();
      for (let i = 0; i < rest.length; i += 2) {
        const name = rest[i]!.toLowerCase();
        if (!settings.has(name))
          return failure(`ERR Unknown option or number of arguments for CONFIG SET - '${rest[i]}'`);
        if (changes.has(name))
          return failure(`ERR CONFIG SET failed (possibly related to argument '${rest[i]}') - duplicate parameter`);
        if (rest[i + 1]!.length > SETTING_BYTES_MAX)
          return failure(`ERR CONFIG SET failed (possibly related to argument '${rest[i]}') - argument too long`);
        const value = name === NOTIFY ? normalized(rest[i + 1]!) : rest[i + 1]!;
        if (value === undefined)
          return failure(
            `ERR CONFIG SET failed (possibly related to argument '${rest[i]}') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.`,
          );
        changes.set(name, value);
      }
      for (const [name, value] of changes) settings.set(name, value);
      if (changes.has(NOTIFY)) audience.notify(changes.get(NOTIFY)!);
      return OK;
    }
    case 'resetstat':
      return OK;
    case 'rewrite':
      return failure('ERR The server is running without a config file');
    default:
      return array(
        [
          'CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:',
          'GET <pattern>',
          '    Return parameters matching the glob-like <pattern> and their values.',
          'SET <directive> <value>',
          '    Set notify-keyspace-events. Other values are kept for GET, and change nothing.',
          'RESETSTAT',
          '    Does nothing: counters are for ever.',
          'REWRITE',
          '    There is no configuration file.',
          'HELP',
          '    Print this help.',
        ].map(simple),
      );
  }
}

/** Every reply is that of a majority already: the others of it are told at once. */
function wait({ options }: Front, words: readonly string[]): string {
  if (!/^(?:0|-?[1-9]\d{0,17})$/.test(words[1]!)) return NOT_INTEGER;
  if (!/^(?:0|-?[1-9]\d{0,17})$/.test(words[2]!)) return failure('ERR timeout is not an integer or out of range');
  if (words[2]!.startsWith('-')) return failure('ERR timeout is negative');
  return integer(options.othersCount);
}

function slowlog(words: readonly string[]): string {
  switch (words[1]!.toLowerCase()) {
    case 'get':
      if (words.length > 3)
        return failure("ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.");
      if (words.length === 3 && (integerIn(words[2]!) ?? -2n) < -1n)
        return failure('ERR count should be greater than or equal to -1');
      return array([]);
    case 'len':
      return integer(0);
    case 'reset':
      return OK;
    default:
      return array(
        ['SLOWLOG <subcommand>. Nothing is logged here. Subcommands are:', 'GET', 'LEN', 'RESET', 'HELP'].map(simple),
      );
  }
}

/** Scripts are known by the digest of their text: whether one is, the machine's table says. */
function script(words: readonly string[]): string {
  switch (words[1]!.toLowerCase()) {
    case 'load': {
      const digest = createHash('sha1').update(words[2]!, 'latin1').digest('hex');
      return KNOWN_DIGESTS.has(digest) ? bulk(digest) : failure(UNKNOWN_SCRIPT);
    }
    case 'exists':
      return array(words.slice(2).map((digest) => integer(KNOWN_DIGESTS.has(digest.toLowerCase()) ? 1 : 0)));
    case 'flush':
      return words.length > 3 || (words.length === 3 && !/^(?:a?sync)$/i.test(words[2]!))
        ? failure('ERR SCRIPT FLUSH only support SYNC|ASYNC option')
        : OK;
    default:
      return array(['SCRIPT <subcommand>. Subcommands are:', 'EXISTS', 'FLUSH', 'LOAD', 'HELP'].map(simple));
  }
}

const UNKNOWN_SCRIPT =
  'ERR Lua is not run here: only scripts of redis-py Lock, redlock and rate-limiter-flexible are known';
const KNOWN_DIGESTS = new Set(KNOWN_SCRIPTS.map(({ digest }) => digest));
