/** COMMAND: what clients ask about commands. The answers come from the table that the machine shares. */
import { COMMANDS, hasArity, SUBCOMMANDS, type CommandInfo } from '../machine/redis/command-table.js';
import { matches } from './glob.js';
import { keyPositions } from './permissions.js';
import { CommandSpans } from './resp-reader.js';
import { array, bulk, failure, integer, map, nothing, set, simple, type RespVersion } from './resp-text.js';

const HELP = [
  'COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:',
  '(no subcommand)',
  '    Return details about all commands of this server.',
  'COUNT',
  '    Return the total number of commands in this server.',
  'LIST',
  '    Return a list of all commands in this server.',
  'INFO [<command-name> ...]',
  '    Return details about multiple commands.',
  'DOCS [<command-name> ...]',
  '    Return names of multiple commands with their group.',
  'GETKEYS <full-command>',
  '    Return the keys from a full command.',
  'HELP',
  '    Print this help.',
];

/** @param words with the name of the command, a byte a character */
export function commandCommand(version: RespVersion, words: readonly string[]): string {
  const [, subcommand, ...rest] = words;
  switch (subcommand?.toLowerCase()) {
    case undefined:
      return array([...COMMANDS.values()].map((info) => described(version, info)));
    case 'count':
      return integer(COMMANDS.size);
    case 'info':
      return array(
        (rest.length === 0 ? [...COMMANDS.keys()] : rest).map((name) => {
          const info = infoOf(name);
          return info === undefined ? nothing(version) : described(version, info);
        }),
      );
    case 'docs':
      return map(
        version,
        (rest.length === 0 ? [...COMMANDS.keys()] : rest).flatMap((name) => {
          const info = infoOf(name);
          return info === undefined ? [] : [bulk(info.name), documented(version, info)];
        }),
      );
    case 'list':
      return list(rest);
    case 'getkeys':
      return keys(rest);
    default:
      return array(HELP.map(simple));
  }
}

function infoOf(name: string): CommandInfo | undefined {
  const lower = name.toLowerCase();
  return COMMANDS.get(lower) ?? SUBCOMMANDS.get(lower);
}

function subcommandsOf({ name }: CommandInfo): CommandInfo[] {
  return [...SUBCOMMANDS.values()].filter((info) => info.name.startsWith(`${name}|`));
}

type Text = (version: RespVersion, info: CommandInfo) => string;

/** Makes the text of a command once for each version. */
function onceFor(make: Text): Text {
  const made = { 2: new Map<CommandInfo, string>(), 3: new Map<CommandInfo, string>() };
  return (version, info) => {
    let text = made[version].get(info);
    if (text === undefined) made[version].set(info, (text = make(version, info)));
    return text;
  };
}

function categoriesOf(info: CommandInfo): string[] {
  const { flags } = info;
  const kind = flags.includes('write') ? ['@write'] : flags.includes('readonly') ? ['@read'] : [];
  const admin = flags.includes('admin') ? ['@admin', '@dangerous'] : [];
  return [...kind, ...admin, flags.includes('fast') ? '@fast' : '@slow'];
}

const described = onceFor((version, info) =>
  array([
    bulk(info.name),
    integer(info.arity),
    set(version, info.flags.map(simple)),
    integer(info.firstKey),
    integer(info.lastKey),
    integer(info.keyStep),
    set(version, categoriesOf(info).map(simple)),
    array([]),
    array([]),
    array(subcommandsOf(info).map((sub) => described(version, sub))),
  ]),
);

const documented = onceFor((version, info) => {
  const subcommands = subcommandsOf(info);
  return map(version, [
    bulk('summary'),
    bulk(
      info.kind === 'write'
        ? 'Changes the store.'
        : info.kind === 'read'
          ? 'Reads the store.'
          : 'Answered by the front end.',
    ),
    bulk('since'),
    bulk('1.0.0'),
    bulk('group'),
    bulk(info.firstKey === 0 ? 'server' : 'generic'),
    ...(subcommands.length === 0
      ? []
      : [
          bulk('subcommands'),
          map(
            version,
            subcommands.flatMap((sub) => [bulk(sub.name), documented(version, sub)]),
          ),
        ]),
  ]);
});

function list(options: readonly string[]): string {
  const names = [...COMMANDS.keys()];
  if (options.length === 0) return array(names.map(bulk));
  const [filter, by, value] = options.map((word, at) => (at < 2 ? word.toLowerCase() : word));
  if (options.length !== 3 || filter !== 'filterby') return failure('ERR syntax error');
  switch (by) {
    case 'module':
      return array([]);
    case 'aclcat':
      return array(
        names.filter((name) => categoriesOf(COMMANDS.get(name)!).includes(`@${value!.toLowerCase()}`)).map(bulk),
      );
    case 'pattern':
      return array(names.filter((name) => matches(value!, name)).map(bulk));
    default:
      return failure('ERR syntax error');
  }
}

function keys(words: readonly string[]): string {
  const container = COMMANDS.get(words[0]!.toLowerCase());
  if (container === undefined) return failure('ERR Invalid command specified');
  const info = SUBCOMMANDS.get(`${container.name}|${words[1]?.toLowerCase()}`) ?? container;
  if (!hasArity(info, words.length)) return failure('ERR Invalid number of arguments specified for command');
  if (info.firstKey === 0 && !info.flags.includes('movablekeys'))
    return failure('ERR The command has no key arguments');
  const command = new CommandSpans();
  command.bytes = Buffer.from(words.join(''), 'latin1');
  command.count = words.length;
  let at = 0;
  words.forEach((word, i) => {
    command.offsets[i] = at;
    command.lengths[i] = word.length;
    at += word.length;
  });
  const positions = keyPositions(info, command) ?? [];
  return array(positions.map((position) => bulk(words[position]!)));
}
