/**
 * The same commands to a real Redis and to the front end over three replicas: every reply is compared byte for byte, except
 * for what the table of deviations in docs/reference/redis.md allows (deviations.ts).
 */
import t, { type Test } from 'tap';
import { COMMANDS } from '../../src/machine/redis/command-table.js';
import { loadDeviations, RULES } from './deviations.js';
import { startFront } from './front.js';
import { Judge, Pair } from './pair.js';
import { RandomCommands, type Words } from './random-commands.js';
import { REDIS_MISSING, startRedis } from './real-redis.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9));
const STEPS = Number(process.env['STEPS'] ?? 2500);
/** A report of more differences helps nobody. */
const REPORTS_MAX = Number(process.env['REPORTS'] ?? 10);

/** What they say depends on the server. */
const NOT_COMPARED = new Set(['quit', 'reset', 'info', 'lolwut', 'time', 'role', 'command', 'config']);

interface Servers {
  readonly redis: number;
  readonly ours: number;
}

t.test('the same commands to both', { skip: REDIS_MISSING }, async (t) => {
  const deviations = loadDeviations();
  const rows = deviations.map(({ id }) => id);
  t.strictSame(
    Object.keys(RULES).filter((id) => !rows.includes(id)),
    [],
    'every rule has a row in docs/reference/redis.md',
  );
  t.comment(`seed ${SEED}; SEED=${SEED} runs the same commands`);
  const servers = {
    redis: await startRedis(t, '--databases', '1', '--slowlog-log-slower-than', '-1'),
    ours: (await startFront(t)).port,
  };
  const judge = new Judge(deviations);
  for (const protocol of [2, 3] as const) {
    await t.test(`wrong arity, RESP${protocol}`, (t) => wrongArity(t, servers, protocol, judge));
    await t.test(`random commands, RESP${protocol}`, (t) => randomCommands(t, servers, protocol, judge));
  }
  t.comment(
    `${judge.compared} replies of ${judge.names.size} commands compared; differences by row: ${JSON.stringify(Object.fromEntries(judge.used))}`,
  );
  for (const id of Object.keys(RULES).filter((id) => !judge.used.has(id))) t.comment(`no run needed the row ${id}`);
});

function report(t: Test, judge: Judge): void {
  const reports = judge.reports.splice(0);
  for (const text of reports) t.fail(`seed ${SEED}: ${text}`);
  t.equal(reports.length, 0, `no difference without a row, seed ${SEED}`);
}

/** One argument too few, and for commands of a fixed number one too many. */
async function wrongArity(t: Test, { redis, ours }: Servers, protocol: 2 | 3, judge: Judge): Promise<void> {
  const pair = await Pair.connect(redis, ours, protocol, judge);
  t.teardown(() => pair.close());
  for (const { name, arity } of COMMANDS.values()) {
    if (name === 'delex') continue;
    const few = Math.abs(arity) - 1;
    if (few > 0) await pair.both(name, ...new Array<string>(few - 1).fill('1'));
    if (arity > 0) await pair.both(name.toUpperCase(), ...new Array<string>(arity).fill('1'));
  }
  report(t, judge);
}

async function randomCommands(t: Test, { redis, ours }: Servers, protocol: 2 | 3, judge: Judge): Promise<void> {
  const random = new RandomCommands(SEED + protocol, Date.now());
  const pair = await Pair.connect(redis, ours, protocol, judge);
  const other = await Pair.connect(redis, ours, protocol, judge);
  t.teardown(() => {
    pair.close();
    other.close();
  });
  await pair.ask('FLUSHALL');
  for (let step = 0; step < STEPS && judge.reports.length < REPORTS_MAX; step++) {
    if (await (step % 100 === 99 ? wholeState(pair) : oneStep(random, pair, other))) continue;
    // What differs once would differ again and again.
    await pair.ask('DISCARD');
    await pair.ask('UNWATCH');
    await pair.ask('FLUSHALL');
  }
  if (judge.reports.length === 0) await wholeState(pair);
  report(t, judge);
}

async function oneStep(random: RandomCommands, pair: Pair, other: Pair): Promise<boolean> {
  const kind = random.below(100);
  if (kind < 4) return chosenAtRandom(random, pair);
  if (kind < 6) return scanned(random, pair);
  if (kind < 8) return transaction(random, pair, other);
  if (kind < 9) return expiring(random, pair);
  const words = random.command();
  if (NOT_COMPARED.has(words[0]!.toLowerCase()) && !(words[1] ?? '').toUpperCase().startsWith('NO')) return true;
  return (await pair.both(...words)) !== undefined;
}

/** Members that the server chooses: the same number of them, of those that are there. Then the key goes, on both. */
async function chosenAtRandom(random: RandomCommands, pair: Pair): Promise<boolean> {
  const set = random.key('set');
  const hash = random.key('hash');
  const zset = random.key('zset');
  const words = random.pick<Words>([
    ['SPOP', set],
    ['SPOP', set, random.integer()],
    ['SRANDMEMBER', set],
    ['SRANDMEMBER', set, random.integer()],
    ['ZRANDMEMBER', zset],
    ['ZRANDMEMBER', zset, random.integer(), ...random.options(['WITHSCORES'])],
    ['HRANDFIELD', hash],
    ['HRANDFIELD', hash, random.integer(), ...random.options(['WITHVALUES'])],
    ['RANDOMKEY'],
  ]);
  const [command, key] = words;
  const [present] =
    command === 'RANDOMKEY'
      ? await pair.ask('KEYS', '*')
      : await (command === 'ZRANDMEMBER'
          ? pair.ask('ZRANGE', key!, '0', '-1', 'WITHSCORES')
          : pair.ask(command === 'HRANDFIELD' ? 'HGETALL' : 'SMEMBERS', key!));
  const known = new Set(present.items.flatMap(({ text, items }) => [text, ...items.map((item) => item.text)]));
  const [redis, ours] = await pair.ask(...words);
  const isChosen = (reply: typeof redis): boolean =>
    reply.items.length > 0 ? reply.items.every(isChosen) : known.has(reply.text);
  const isRight =
    redis.kind !== ours.kind ||
    redis.items.length !== ours.items.length ||
    !'$*~'.includes(redis.kind) ||
    redis.text === null
      ? pair.judge.judge(words, redis, ours)
      : ours.items.length === 0 && ours.kind !== '$'
        ? true
        : isChosen(ours) || pair.judge.judge(words, redis, ours);
  if (command === 'SPOP') return isRight && (await pair.both('DEL', key!)) !== undefined;
  return isRight;
}

/** A whole iteration, on both; the sum of it is compared. */
async function scanned(random: RandomCommands, pair: Pair): Promise<boolean> {
  const options = random.options(['MATCH', random.pattern()], ['COUNT', String(1 + random.below(5))]);
  const front = random.pick<Words>([
    ['SCAN'],
    ['SSCAN', random.key('set')],
    ['HSCAN', random.key('hash')],
    ['ZSCAN', random.key('zset')],
  ]);
  const sums: string[] = [];
  for (const client of [pair.redis, pair.ours]) {
    const seen: string[] = [];
    let cursor = '0';
    do {
      const reply = await client.reply(...front, cursor, ...options);
      if (reply.kind === '-') {
        seen.push(reply.text!);
        break;
      }
      cursor = reply.items[0]!.text!;
      const found = reply.items[1]!.items.map(({ text }) => text!);
      if (front[0] === 'HSCAN' || front[0] === 'ZSCAN')
        for (let i = 0; i < found.length; i += 2) seen.push(`${found[i]}=${found[i + 1]}`);
      else seen.push(...found);
    } while (cursor !== '0');
    sums.push(JSON.stringify([...new Set(seen)].sort()));
  }
  const reply = (text: string) => ({ kind: '$', text, items: [] });
  return pair.judge.judge([...front, 'whole', ...options], reply(sums[0]!), reply(sums[1]!));
}

async function transaction(random: RandomCommands, pair: Pair, other: Pair): Promise<boolean> {
  const isWatching = random.chance(50);
  if (isWatching) {
    const keys = random.many(1, () => random.anyKey());
    if ((await pair.both('WATCH', ...keys)) === undefined) return false;
    if (random.chance(50) && (await other.both('SET', random.pick(keys), random.value())) === undefined) return false;
  }
  const commands = Array.from({ length: random.below(6) }, () => random.command()).filter(
    ([name]) =>
      !/^(?:exec|discard|quit|reset|hello|auth|client|command|config|info|script|slowlog|evalsha|select)$/i.test(name!),
  );
  return (await pair.transaction(commands, random.chance(85) ? 'EXEC' : 'DISCARD')) !== undefined;
}

/** A key whose time ends while both are asked for it again and again. */
async function expiring(random: RandomCommands, pair: Pair): Promise<boolean> {
  const key = random.anyKey();
  const ms = String(1 + random.below(20));
  const words = random.pick<Words>([
    ['SET', key, random.value(), 'PX', ms],
    ['PSETEX', key, ms, random.value()],
    ['PEXPIRE', key, ms],
    ['SET', key, random.value(), 'PXAT', String(Date.now() + Number(ms))],
  ]);
  await pair.ask(...words);
  for (const client of [pair.redis, pair.ours])
    if (words[0] !== 'PEXPIRE' || (await client.say('PTTL', key)) !== ':"-1"')
      while ((await client.say('EXISTS', key)) !== ':"0"') await new Promise((resolve) => setTimeout(resolve, 2));
  for (const after of [['GET', key], ['TTL', key], ['TYPE', key], ['PERSIST', key], ['DBSIZE']])
    if ((await pair.both(...after)) === undefined) return false;
  return true;
}

const READ: Readonly<Record<string, (key: string) => string[]>> = {
  string: (key) => ['GET', key],
  hash: (key) => ['HGETALL', key],
  set: (key) => ['SMEMBERS', key],
  list: (key) => ['LRANGE', key, '0', '-1'],
  zset: (key) => ['ZRANGE', key, '0', '-1', 'WITHSCORES'],
};

async function wholeState(pair: Pair): Promise<boolean> {
  const keys = await pair.both('KEYS', '*');
  if (keys === undefined) return false;
  for (const { text } of keys.items) {
    const type = await pair.both('TYPE', text!);
    if (type === undefined || (await pair.both('PEXPIRETIME', text!)) === undefined) return false;
    const read = READ[type.text!];
    if (read !== undefined && (await pair.both(...read(text!))) === undefined) return false;
  }
  return true;
}
