/** Any words in any order: nothing that a client sends stops the front end, and each command has one reply. */
import t from 'tap';
import { COMMANDS, SUBCOMMANDS } from '../../src/machine/redis/command-table.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { command, startFront, Wire } from './stand-in.js';
import { readReply } from './resp-client.js';

const COMMANDS_SENT = 20_000;
const PER_CONNECTION = 200;
const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/** They end the connection, or silence it. */
const LEFT_OUT = new Set(['quit', 'client|reply', 'client|kill']);
const SUBSCRIBING = new Set(['subscribe', 'psubscribe', 'unsubscribe', 'punsubscribe']);
/** What is told without being asked. */
const TOLD = new Set(['invalidate', 'message', 'pmessage', 'tracking-redir-broken']);
const WORDS = [
  ...[
    '',
    '0',
    '1',
    '2',
    '3',
    '-1',
    '9999999999999999999999',
    '1e9',
    'NaN',
    '*',
    '[',
    '[^',
    '\\',
    'a',
    'key',
    'on',
    'off',
  ],
  ...[
    'get',
    'GET',
    'list',
    'AUTH',
    'SETNAME',
    'ID',
    'TYPE',
    'USER',
    'SKIPME',
    'yes',
    'no',
    'FILTERBY',
    'PATTERN',
    '\0\xff',
  ],
  ...[
    'x'.repeat(300),
    'a\r\nb',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '|',
    'client|id',
    'maxclients',
  ],
];

t.test(`random words; replay with JITPAXOS_TEST_SEED=${seed}`, async (t) => {
  const random = seededRandom(seed);
  const front = await startFront();
  t.teardown(() => front.close());
  const heads = [...COMMANDS.keys(), ...SUBCOMMANDS.keys()].filter((name) => !LEFT_OUT.has(name));
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const words = (): string[] => {
    const head = random() < 0.05 ? [pick(WORDS)] : pick(heads).split('|');
    const all = [...head, ...Array.from({ length: Math.floor(random() ** 2 * 7) }, () => pick(WORDS))];
    const [name, subcommand] = all.map((word) => word.toLowerCase());
    // These have a reply for each name, and without one for each subscription.
    if (SUBSCRIBING.has(name!)) return [name!, pick(WORDS)];
    // The random words may make one of them.
    return LEFT_OUT.has(name!) || LEFT_OUT.has(`${name}|${subcommand}`) ? ['PING'] : all;
  };
  for (let sent = 0; sent < COMMANDS_SENT; sent += PER_CONNECTION) {
    const wire = await Wire.open(front.listener.port);
    const commands = Array.from({ length: PER_CONNECTION }, words);
    wire.socket.end(Buffer.from(commands.map((each) => command(...each)).join(''), 'latin1'));
    const bytes = Buffer.from(await wire.rest(), 'latin1');
    let at = 0;
    // A command without a word has no reply.
    const expected = commands.length;
    let replies = 0;
    while (at < bytes.length) {
      const next = readReply(bytes, at);
      if (next === undefined) {
        t.fail(`a reply is cut off: ${JSON.stringify(bytes.toString('latin1', at, at + 100))}`);
        break;
      }
      at = next.end;
      if (!TOLD.has(next.reply.items[0]?.text ?? '')) replies++;
    }
    if (replies !== expected) t.fail(`${replies} replies to ${expected} commands`);
    wire.close();
  }
  t.same(front.bugs, [], `${COMMANDS_SENT} commands`);
});
