/** The table of commands against COMMAND INFO of a real Redis: arity, flags and where the keys are. */
import t from 'tap';
import { COMMANDS, SUBCOMMANDS, type CommandInfo } from '../../src/machine/redis/command-table.js';
import { REDIS_MISSING, startRedis } from './real-redis.js';
import { RespClient, type Reply } from './resp-client.js';

/** Not in Redis 7.0: ours alone, or of a later Redis. */
const LATER = ['delex', 'object|revision', 'client|no-touch', 'client|setinfo'];

const line = ({ arity, flags, firstKey, lastKey, keyStep }: Omit<CommandInfo, 'name' | 'kind'>): string =>
  `${arity} [${[...flags].sort().join(' ')}] keys ${firstKey} ${lastKey} ${keyStep}`;

function told({ items }: Reply): string {
  const number = (index: number): number => Number(items[index]!.text);
  return line({
    arity: number(1),
    flags: items[2]!.items.map(({ text }) => text!),
    firstKey: number(3),
    lastKey: number(4),
    keyStep: number(5),
  });
}

t.test('every row says what a real server says', { skip: REDIS_MISSING }, async (t) => {
  const client = await RespClient.connect(await startRedis(t));
  t.teardown(() => client.close());
  const rows = new Map([...COMMANDS, ...SUBCOMMANDS]);
  const names = [...rows.keys()].filter((name) => !LATER.includes(name));
  const { items } = await client.reply('COMMAND', 'INFO', ...names);
  for (const [index, name] of names.entries()) {
    const answer = items[index]!;
    if (answer.items.length === 0) t.fail(`the server does not know ${name}`);
    else t.equal(line(rows.get(name)!), told(answer), name);
  }
  for (const name of LATER) t.ok(rows.has(name), `${name} is in the table`);
});
