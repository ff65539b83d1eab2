/** CLIENT: what a client asks about its own connection, and about the others of this front end. */
import type { Connection } from './connection.js';
import type { Front } from './front.js';
import { EVERYBODY } from './users.js';
import { array, bulk, failure, integer, nothing, OK, verbatim } from './resp-text.js';
import { cachingCommand, redirectOf, trackingCommand, trackingInfo } from './tracking-commands.js';

const HELP = [
  'CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:',
  'GETNAME',
  '    Return the name of the current connection.',
  'ID',
  '    Return the ID of the current connection.',
  'INFO',
  '    Return information about the current client connection.',
  'KILL <ip:port>',
  '    Kill connection made from <ip:port>.',
  'KILL <option> <value> [<option> <value> [...]]',
  '    Kill connections. Options are: ADDR, LADDR, TYPE, USER, SKIPME, ID.',
  'LIST [options ...]',
  '    Return information about client connections. Options: TYPE, ID.',
  'NO-EVICT (ON|OFF)',
  '    Kept and shown; nothing is evicted here.',
  'NO-TOUCH (ON|OFF)',
  '    Kept and shown; reads change nothing here.',
  'REPLY (ON|OFF|SKIP)',
  '    Control the replies sent to the current connection.',
  'SETINFO <option> <value>',
  '    Set client meta attr. Options are: LIB-NAME, LIB-VER.',
  'SETNAME <name>',
  '    Assign the name <name> to the current connection.',
  'CACHING (YES|NO)',
  '    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.',
  'GETREDIR',
  '    Return the client ID we are redirecting to when tracking is enabled.',
  'TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]',
  '         [OPTIN] [OPTOUT] [NOLOOP]',
  '    Control server assisted client side caching.',
  'TRACKINGINFO',
  '    Report tracking status for the current connection.',
  'HELP',
  '    Print this help.',
];
const NAME_BYTES_MAX = 1024;
const BAD_NAME = 'ERR Client names cannot contain spaces, newlines or special characters.';

/** A name without spaces and controls, as Redis has it. */
export function isClientName(name: string): boolean {
  return name.length <= NAME_BYTES_MAX && /^[!-~]*$/.test(name);
}

/** @param words with the name of the command, a byte a character */
export function clientCommand(front: Front, connection: Connection, words: readonly string[]): string {
  const [, subcommand, ...rest] = words;
  switch (subcommand!.toLowerCase()) {
    case 'id':
      return integer(connection.id);
    case 'getname':
      return connection.name === '' ? nothing(connection.version) : bulk(connection.name);
    case 'setname':
      if (!isClientName(rest[0]!)) return failure(BAD_NAME);
      connection.name = rest[0]!;
      return OK;
    case 'setinfo':
      return setInfo(connection, rest[0]!, rest[1]!);
    case 'info':
      return verbatim(connection.version, `${describe(connection)}\n`);
    case 'list':
      return list(front, connection, rest);
    case 'kill':
      return kill(front, connection, rest);
    case 'no-evict':
    case 'no-touch': {
      const isOn = switchOf(rest[0]!);
      if (isOn === undefined) return failure('ERR syntax error');
      if (subcommand!.toLowerCase() === 'no-evict') connection.noEvict = isOn;
      else connection.noTouch = isOn;
      return OK;
    }
    case 'reply': {
      const how = rest[0]!.toLowerCase();
      if (how !== 'on' && how !== 'off' && how !== 'skip') return failure('ERR syntax error');
      connection.mute(how);
      return OK;
    }
    case 'getredir':
      return integer(redirectOf(connection));
    case 'trackinginfo':
      return trackingInfo(connection);
    case 'tracking':
      return trackingCommand(front, connection, rest);
    case 'caching':
      return cachingCommand(connection, rest[0]!);
    default:
      return array(HELP.map((line) => `+${line}\r\n`));
  }
}

function switchOf(text: string): boolean | undefined {
  const word = text.toLowerCase();
  return word === 'on' ? true : word === 'off' ? false : undefined;
}

function setInfo(connection: Connection, option: string, value: string): string {
  const name = option.toLowerCase();
  if (name !== 'lib-name' && name !== 'lib-ver') return failure(`ERR Unrecognized option '${option}'`);
  if (!isClientName(value)) return failure(`ERR ${option} cannot contain spaces, newlines or special characters.`);
  if (name === 'lib-name') connection.libName = value;
  else connection.libVersion = value;
  return OK;
}

function list(front: Front, connection: Connection, options: readonly string[]): string {
  let chosen = [...front.connections.values()];
  if (options.length > 0) {
    const option = options[0]!.toLowerCase();
    if (option === 'type' && options.length === 2) {
      const type = options[1]!.toLowerCase();
      if (!TYPES.has(type)) return failure(`ERR Unknown client type '${options[1]}'`);
      chosen = chosen.filter((one) => typeOf(one) === type);
    } else if (option === 'id' && options.length > 1) {
      const ids = options.slice(1).map(idIn);
      if (ids.includes(undefined)) return failure('ERR Invalid client ID');
      chosen = ids.flatMap((id) => front.connections.get(id!) ?? []);
    } else return failure('ERR syntax error');
  }
  return verbatim(connection.version, chosen.map((one) => `${describe(one)}\n`).join(''));
}

function typeOf({ subscriptions }: Connection): string {
  return subscriptions.count > 0 ? 'pubsub' : 'normal';
}

const TYPES = new Set(['normal', 'master', 'replica', 'slave', 'pubsub']);

function idIn(text: string): number | undefined {
  return /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined;
}

function kill(front: Front, connection: Connection, options: readonly string[]): string {
  if (options.length === 1) {
    const found = [...front.connections.values()].filter(({ address }) => address === options[0]);
    if (found.length === 0) return failure('ERR No such client');
    for (const one of found) end(one, connection);
    return OK;
  }
  if (options.length % 2 !== 0) return failure('ERR syntax error');
  let skipsMe = true;
  const filters: ((one: Connection) => boolean)[] = [];
  for (let i = 0; i < options.length; i += 2) {
    const value = options[i + 1]!;
    switch (options[i]!.toLowerCase()) {
      case 'id': {
        const id = idIn(value);
        if (id === undefined) return failure('ERR client-id should be greater than 0');
        filters.push((one) => one.id === id);
        break;
      }
      case 'type': {
        const type = value.toLowerCase();
        if (!TYPES.has(type)) return failure(`ERR Unknown client type '${value}'`);
        filters.push((one) => typeOf(one) === type);
        break;
      }
      case 'addr':
        filters.push(({ address }) => address === value);
        break;
      case 'laddr':
        filters.push(({ localAddress }) => localAddress === value);
        break;
      case 'user':
        if ((front.logins?.find(value) ?? (value === EVERYBODY.name ? EVERYBODY : undefined)) === undefined)
          return failure(`ERR No such user '${value}'`);
        filters.push(({ user }) => user?.name === value);
        break;
      case 'skipme': {
        const word = value.toLowerCase();
        if (word !== 'yes' && word !== 'no') return failure('ERR syntax error');
        skipsMe = word === 'yes';
        break;
      }
      default:
        return failure('ERR syntax error');
    }
  }
  const found = [...front.connections.values()].filter(
    (one) => !(skipsMe && one === connection) && filters.every((filter) => filter(one)),
  );
  for (const one of found) end(one, connection);
  return integer(found.length);
}

/** The own connection gets its answer first. */
function end(one: Connection, own: Connection): void {
  if (one === own) one.isClosing = true;
  else one.socket.destroy();
}

function describe(connection: Connection): string {
  const now = performance.now();
  const seconds = (sinceMs: number): number => Math.floor((now - sinceMs) / 1000);
  const { transaction } = connection;
  const fields: readonly (readonly [string, string | number])[] = [
    ['id', connection.id],
    ['addr', connection.address],
    ['laddr', connection.localAddress],
    ['fd', -1],
    ['name', connection.name],
    ['age', seconds(connection.openedMs)],
    ['idle', seconds(connection.lastCommandMs)],
    ['flags', flagsOf(connection)],
    ['db', 0],
    ['sub', connection.subscriptions.channels.size],
    ['psub', connection.subscriptions.patterns.size],
    ['ssub', 0],
    ['multi', transaction === undefined ? -1 : transaction.commands.length],
    ['qbuf', connection.reader.waiting],
    ['qbuf-free', 0],
    ['argv-mem', 0],
    ['multi-mem', 0],
    ['rbs', 0],
    ['rbp', 0],
    ['obl', 0],
    ['oll', 0],
    ['omem', connection.unsent],
    ['tot-mem', connection.unsent + connection.reader.waiting],
    ['events', 'r'],
    ['cmd', connection.lastCommand === '' ? 'NULL' : connection.lastCommand],
    ['user', connection.user?.name ?? '(none)'],
    ['redir', redirectOf(connection)],
    ['resp', connection.version],
    ['lib-name', connection.libName],
    ['lib-ver', connection.libVersion],
  ];
  return fields.map(([name, value]) => `${name}=${value}`).join(' ');
}

function flagsOf(connection: Connection): string {
  const flags = [
    connection.subscriptions.count === 0 ? '' : 'P',
    connection.transaction === undefined ? '' : 'x',
    connection.tracking === undefined ? '' : 't',
    connection.tracking?.isBroken === true ? 'R' : '',
    connection.tracking?.mode === 'bcast' ? 'B' : '',
    connection.noEvict ? 'e' : '',
    connection.noTouch ? 'T' : '',
  ].join('');
  return flags === '' ? 'N' : flags;
}
