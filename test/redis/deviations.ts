/**
 * What may differ between Redis and this front end. docs/reference/redis.md tells users; its table names each deviation by
 * an id, and this file says for that id what exactly is let pass. A row without a rule, or a rule without a row, fails.
 */
import { readFileSync } from 'node:fs';
import type { Reply } from './resp-client.js';
import type { Words } from './random-commands.js';

export interface Difference {
  readonly words: Words;
  readonly redis: Reply;
  readonly ours: Reply;
}

export interface Deviation {
  readonly id: string;
  /** In lower case; a subcommand is `container|name`. `*`: every command. */
  readonly commands: readonly string[];
}

/** Rows of the table of deviations: | id | commands | Redis | here |. */
export function deviationsOf(page: string): Deviation[] {
  const section = page.slice(page.indexOf('\n## Deviations'));
  const rows = section
    .slice(0, section.indexOf('\n## ', 4) < 0 ? undefined : section.indexOf('\n## ', 4))
    .matchAll(/^\| `([a-z0-9-]+)` \| ([^|]+) \|/gm);
  return [...rows].map(([, id, commands]) => ({
    id: id!,
    commands: commands!.includes('every command')
      ? ['*']
      : [...commands!.matchAll(/[A-Z][A-Z-]+(?: [A-Z][A-Z-]+)*/g)].map(([name]) =>
          name.toLowerCase().replace(' ', '|'),
        ),
  }));
}

export const loadDeviations = (): Deviation[] =>
  deviationsOf(readFileSync(new URL('../../../docs/reference/redis.md', import.meta.url), 'utf8'));

const key = ({ kind, text, items }: Reply): string => `${kind}${text}(${items.map(key).join()})`;
const sorted = (items: readonly Reply[]): string => items.map(key).sort().join();
/** Pairs of a map, or of an array of a map's keys and values, in any order. */
const sortedPairs = (items: readonly Reply[]): string =>
  Array.from({ length: items.length / 2 }, (_, i) => key(items[2 * i]!) + key(items[2 * i + 1]!))
    .sort()
    .join();
const isInteger = ({ kind }: Reply): boolean => kind === ':';
const isError = ({ kind }: Reply): boolean => kind === '-';

/** Seconds by which two clocks and the time between two commands may differ. */
const CLOCK_SECONDS = 60;

/** Seconds of the largest integer of a double. */
const FAR_SECONDS = BigInt(Math.floor(Number.MAX_SAFE_INTEGER / 1000)) / 2n;
/** The values of server, version and id. */
const DIFFERENT_HELLO = new Set([1, 3, 7]);

/** Whether what differs is what the row describes. */
export const RULES: Readonly<Record<string, (difference: Difference) => boolean>> = {
  order: ({ words, redis, ours }) =>
    redis.kind === ours.kind &&
    redis.items.length === ours.items.length &&
    (words[0]!.toLowerCase() === 'hgetall'
      ? sortedPairs(redis.items) === sortedPairs(ours.items)
      : sorted(redis.items) === sorted(ours.items)),
  cursors: ({ redis, ours }) =>
    !isError(redis) && !isError(ours) && redis.items.length === 2 && ours.items.length === 2,
  'bad-cursors': ({ words, ours }) =>
    ours.text === 'ERR invalid cursor' && /^$|^-|\0/.test(words[/^scan$/i.test(words[0]!) ? 1 : 2]!),
  'scanned-scores': ({ redis, ours }) => {
    const numbers = ({ text, items }: Reply): string =>
      `${text?.replace(/=-?\d[\d.e+-]*"/g, (score) => `=${Number(score.slice(1, -1))}"`)}${items.map(numbers).join()}`;
    return redis.text !== null && numbers(redis) === numbers(ours);
  },
  'minus-zero': ({ redis, ours }) => {
    const unsigned = (reply: Reply): string => key(reply).replace(/(^|[$,("=])-0(?=[("])/g, '$10');
    return unsigned(redis) === unsigned(ours);
  },
  clock: ({ words, redis, ours }) => {
    if (!isInteger(redis) || !isInteger(ours)) return false;
    const unit = words[0]!.toLowerCase().startsWith('p') ? 1000 : 1;
    return Number(redis.text) > 0 && Math.abs(Number(redis.text) - Number(ours.text)) <= CLOCK_SECONDS * unit;
  },
  'far-ends': ({ redis, ours }) => BigInt(redis.text!) > BigInt(ours.text!) && BigInt(ours.text!) >= FAR_SECONDS,
  memory: ({ redis, ours }) => isInteger(redis) && isInteger(ours) && Number(ours.text) > 0,
  idle: ({ redis, ours }) => isInteger(redis) && ours.text === '0',
  refcount: ({ redis, ours }) => isInteger(redis) && ours.text === '1',
  encoding: ({ redis, ours }) => redis.kind === '$' && ours.kind === '$' && redis.text !== null && ours.text !== null,
  'ended-keys': ({ redis, ours }) => isInteger(redis) && isInteger(ours) && Number(redis.text) > Number(ours.text),
  'empty-key': ({ words, ours }) => words.includes('') && /^ERR the key has 0 bytes/.test(ours.text ?? ''),
  'too-long': ({ redis, ours }) => isError(redis) && isError(ours) && ours.text!.startsWith(`${redis.text}: `),
  hello: ({ redis, ours }) =>
    redis.items.length === ours.items.length &&
    ours.items.every(
      ({ kind, text }, i) => DIFFERENT_HELLO.has(i) || (kind === redis.items[i]!.kind && text === redis.items[i]!.text),
    ),
  'script-names': ({ ours }) => isError(ours) && /Lua is not run here/.test(ours.text!),
};
