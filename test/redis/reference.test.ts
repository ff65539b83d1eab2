/** docs/reference/redis.md names every command, served or not. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { COMMANDS, SUBCOMMANDS } from '../../src/machine/redis/command-table.js';
import { deviationsOf, RULES } from './deviations.js';
import { REDIS_MISSING, startRedis } from './real-redis.js';
import { RespClient } from './resp-client.js';

const page = readFileSync(new URL('../../../docs/reference/redis.md', import.meta.url), 'utf8');
const section = (title: string): string => {
  const from = page.indexOf(`\n${title}\n`);
  const next = page.slice(from + title.length).search(/\n##+ /);
  return page.slice(from, next < 0 ? undefined : from + title.length + next);
};
const words = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, word]) => word!.toLowerCase()).sort();

t.test('the commands of the page are those of the table', async (t) => {
  const tables = section('## Commands').split('\nSubcommands: ');
  t.strictSame(words(tables[0]!.slice(tables[0]!.indexOf('| connection')), /[|`] ?`([A-Z]+)`/g).length > 0, true);
  const named = words(tables[0]!, /`([A-Z_]+)`/g);
  t.strictSame([...new Set(named)], [...COMMANDS.keys()].sort());
  t.equal(new Set(named).size, named.length, 'each is named once');
  const subcommands = tables[1]!
    .slice(0, tables[1]!.indexOf('.\n'))
    .split('; ')
    .flatMap((list) => {
      const [container, ...rest] = list.split(' ');
      return rest
        .join(' ')
        .replace(/ \([^)]*\)/g, '')
        .split(', ')
        .map((name) => `${container}|${name}`.toLowerCase());
    });
  t.strictSame(subcommands.sort(), [...SUBCOMMANDS.keys()].sort());
});

t.test('what Redis has besides is named as not served', { skip: REDIS_MISSING }, async (t) => {
  const client = await RespClient.connect(await startRedis(t));
  t.teardown(() => client.close());
  const { items } = await client.reply('COMMAND', 'LIST');
  const missing = items.map(({ text }) => text!).filter((name) => !name.includes('|') && !COMMANDS.has(name));
  t.strictSame(
    words(section('### Not served'), /\b([A-Z][A-Z_-]{2,})\b/g).filter((name) => name !== 'err'),
    missing.sort(),
  );
});

t.test('each deviation has a rule, and each rule a row', async (t) => {
  t.strictSame(
    deviationsOf(page).map(({ id }) => id),
    Object.keys(RULES),
  );
});
