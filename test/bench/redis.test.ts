// bench:redis, tiny, so that it cannot rot; and what draws YCSB's operations. What was measured is not judged.
import t from 'tap';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { seededRandom } from '../../src/measure/load/random.js';
import { commandOf, javaHash, openDatabase } from '../../bench/redis/database.js';
import { fine, fnv64, Latest, ScrambledZipfian, Zipfian, ZIPFIAN_THETA } from '../../bench/redis/random-items.js';
import { Replies } from '../../bench/redis/replies.js';
import { Core, keyOf, WORKLOAD_ORDER, WORKLOADS } from '../../bench/redis/workload.js';
import { runNode } from '../cluster/processes.js';
import { REDIS_MISSING, startRedis } from '../redis/real-redis.js';

const PROGRAM = fileURLToPath(new URL('../../bench/redis.js', import.meta.url));
const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const DRAWS = 200_000;
const ITEMS = 1000;

/** Chi squared a degree of freedom of what was drawn against the expected shares: near 1 if they are the true ones. */
function misfit(counts: readonly number[], shares: readonly number[]): number {
  const [seen, expected] = [[0], [0]];
  for (let i = 0; i < shares.length; i++) {
    // Rare items are counted together.
    if (expected.at(-1)! >= 20) {
      seen.push(0);
      expected.push(0);
    }
    seen[seen.length - 1]! += counts[i]!;
    expected[expected.length - 1]! += shares[i]! * DRAWS;
  }
  return seen.reduce((sum, count, i) => sum + (count - expected[i]!) ** 2 / expected[i]!, 0) / (seen.length - 1);
}

function countsOf(items: number, next: () => number): number[] {
  const counts = new Array<number>(items).fill(0);
  for (let i = 0; i < DRAWS; i++) counts[next()]!++;
  return counts;
}

/** 1 ÷ rank^0.99, of all. */
function zipf(items: number): number[] {
  const weights = Array.from({ length: items }, (_, i) => (i + 1) ** -ZIPFIAN_THETA);
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** What Gray's method draws: items 0 and 1 by their weight, the others by the inverse of an approximate distribution. */
function gray(items: number): number[] {
  const exact = zipf(items);
  const zeta = 1 / exact[0]!;
  const eta = (1 - (2 / items) ** (1 - ZIPFIAN_THETA)) / (1 - (exact[0]! + exact[1]!));
  const below = (item: number): number => ((item / items) ** (1 - ZIPFIAN_THETA) - 1) / eta + 1;
  const two = (1 + 0.5 ** ZIPFIAN_THETA) / zeta;
  return Array.from({ length: items }, (_, i) =>
    i < 2 ? exact[i]! : Math.max(0, below(i + 1) - (i === 2 ? two : Math.max(two, below(i)))),
  );
}

t.test('the zipfian items are drawn as Gray draws them, near the law, also after their number grew', (t) => {
  t.comment(`seed ${SEED}`);
  const shares = gray(ITEMS);
  t.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 1) < 1e-9, 'the formula of this test is a distribution');
  const zipfian = new Zipfian(fine(seededRandom(SEED)), ITEMS);
  const counts = countsOf(ITEMS, () => zipfian.next());
  // The standard deviation with some hundred degrees of freedom is below 0.15.
  t.ok(misfit(counts, shares) < 1.8, `chi squared ${misfit(counts, shares)}, seed ${SEED}`);
  const law = zipf(ITEMS);
  let [drawn, lawful, farthest] = [0, 0, 0];
  for (let i = 0; i < ITEMS; i++) {
    drawn += counts[i]! / DRAWS;
    lawful += law[i]!;
    farthest = Math.max(farthest, Math.abs(drawn - lawful));
  }
  t.ok(farthest < 0.03, `${farthest} from the law, seed ${SEED}`);
  const grown = new Zipfian(fine(seededRandom(SEED)), 10);
  grown.grow(ITEMS);
  t.same(
    countsOf(ITEMS, () => grown.next()),
    counts,
  );
  const uniform = fine(seededRandom(SEED));
  const others = countsOf(ITEMS, () => Math.floor(uniform() * ITEMS));
  t.ok(misfit(others, shares) > 10, 'another distribution is told apart');
  t.end();
});

t.test('the latest item is the most frequent one', (t) => {
  t.comment(`seed ${SEED}`);
  const latest = new Latest(fine(seededRandom(SEED)), 10);
  const counts = countsOf(ITEMS, () => latest.next(ITEMS)).reverse();
  t.ok(misfit(counts, gray(ITEMS)) < 1.8, `chi squared ${misfit(counts, gray(ITEMS))}, seed ${SEED}`);
  t.end();
});

t.test('scrambled items: the most frequent ones are where the hash puts the first ranks', (t) => {
  t.comment(`seed ${SEED}`);
  const scrambled = new ScrambledZipfian(fine(seededRandom(SEED)), ITEMS);
  const counts = countsOf(ITEMS, () => scrambled.next());
  const place = (rank: number): number => Number(javaFnv(BigInt(rank)) % BigInt(ITEMS));
  // Of ten thousand million items, whose zeta YCSB gives.
  for (const rank of [0, 1]) {
    const expected = (DRAWS * (rank + 1) ** -ZIPFIAN_THETA) / 26.46902820178302;
    const rest = DRAWS / ITEMS;
    t.ok(counts[place(rank)]! > 0.9 * expected && counts[place(rank)]! < 1.1 * expected + 4 * rest, `seed ${SEED}`);
  }
  t.ok(
    counts.every((count) => count > 0),
    'every item is drawn',
  );
  t.end();
});

/** YCSB's Utils.FNVhash64, in Java's long. */
function javaFnv(value: bigint): bigint {
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < 8; i++) {
    hash = BigInt.asUintN(64, (hash ^ (value & 0xffn)) * 1099511628211n);
    value >>= 8n;
  }
  const signed = BigInt.asIntN(64, hash);
  return signed < 0n ? -signed : signed;
}

t.test('hashes are those of YCSB and of Java', (t) => {
  const random = seededRandom(SEED);
  for (const value of [
    0,
    1,
    255,
    256,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 40 + 7,
    ...Array.from({ length: 2000 }, () => Math.floor(random() * 1e10)),
  ]) {
    const { hi, lo } = fnv64(value);
    if ((BigInt(hi) << 32n) + BigInt(lo) !== javaFnv(BigInt(value))) t.fail(`hash of ${value}`);
  }
  t.equal(keyOf(0), 'user6284781860667377211', 'the first record of every YCSB run');
  t.equal(javaHash('user6284781860667377211'), (javaHash('user628478186066737721') * 31 + 0x31) | 0);
  t.equal(javaHash('hello'), 99162322);
  t.end();
});

t.test('workloads: shares of the operations, and records that are there', async (t) => {
  t.comment(`seed ${SEED}`);
  t.same([...WORKLOAD_ORDER].sort(), Object.keys(WORKLOADS));
  for (const name of WORKLOAD_ORDER) {
    const core = new Core(name, 100, seededRandom(SEED));
    const seen: Record<string, number> = {};
    const there = new Set(Array.from({ length: 100 }, (_, i) => keyOf(i)));
    const note = (kind: string, key: string): Promise<void> => {
      seen[kind] = (seen[kind] ?? 0) + 1;
      if (!there.has(key)) t.fail(`${name}: ${kind} of a record that is not there, seed ${SEED}`);
      return Promise.resolve();
    };
    const lane = {
      get: () => Promise.reject(new Error('not in YCSB')),
      set: () => Promise.reject(new Error('not in YCSB')),
      read: (key: string) => note('read', key),
      update: (key: string, field: number, fields: readonly Buffer[]) => {
        if (fields[field]?.length !== 100) t.fail(`field ${field}`);
        return note('update', key);
      },
      insert: (key: string, fields: readonly Buffer[]) => {
        there.add(key);
        if (fields.length !== 10) t.fail('ten fields');
        return note('insert', key);
      },
      scan: (key: string, count: number) => {
        if (count < 1 || count > 100) t.fail(`${count} records`);
        return note('scan', key);
      },
    };
    for (let i = 0; i < 500; i++) await core.run(lane);
    t.equal(core.records, 100 + (seen['insert'] ?? 0), name);
    const kinds = Object.keys(WORKLOADS[name].shares).map((kind) => (kind === 'change' ? 'update' : kind));
    t.same(Object.keys(seen).sort(), kinds.sort(), `${name}, seed ${SEED}`);
  }
});

t.test('replies are cut out of any chunks', (t) => {
  const bytes = Buffer.from(
    '+OK\r\n$3\r\na\r\n\r\n*2\r\n$1\r\nx\r\n$2\r\nyz\r\n:0\r\n$-1\r\n*0\r\n-ERR no\r\n',
    'latin1',
  );
  for (let chunk = 1; chunk <= bytes.length; chunk++) {
    const found: string[] = [];
    const replies = new Replies((reply) =>
      found.push(
        `${reply.line} ${reply.isError} ${reply.isNothing} ${reply.line[0] === '*' ? reply.texts().join() : ''}`,
      ),
    );
    for (let at = 0; at < bytes.length; at += chunk) replies.push(bytes.subarray(at, at + chunk));
    t.same(found, [
      '+OK false false ',
      '$3 false false ',
      '*2 false false x,yz',
      ':0 false true ',
      '$-1 false true ',
      '*0 false true ',
      '-ERR no true false ',
    ]);
  }
  t.end();
});

t.test('a load over RESP', { skip: REDIS_MISSING }, async (t) => {
  const port = await startRedis(t);
  const fields = Array.from({ length: 10 }, (_, i) => Buffer.from(`value ${i}`));
  {
    await using database = await openDatabase({ kind: 'resp', port, wait: false, index: true }, 1);
    const [lane] = database.lanes;
    await lane!.insert('a', fields);
    await lane!.insert('b', fields);
    await lane!.update('a', 3, fields);
    t.same(await lane!.scan('a', 10), ['a', 'b']);
    await t.rejects(lane!.get('absent'), /nothing is there/);
  }
  {
    await using database = await openDatabase({ kind: 'resp', port, wait: true, index: false }, 1);
    // There is no replica: WAIT says 0, after its time.
    await t.rejects(database.lanes[0]!.set('c', fields[0]!), /no replica has it/);
  }
  t.same(commandOf(['GET', 'é']).toString('latin1'), '*2\r\n$3\r\nGET\r\n$1\r\né\r\n');
});

const TINY = [
  '--seconds',
  '20ms',
  '--warmup',
  '0ms',
  '--keys',
  '20',
  '--records',
  '20',
  '--connections',
  '20',
  '--workloads',
  'A,D,E',
  '--seed',
  String(SEED),
];

t.test('every part is measured', { skip: REDIS_MISSING }, async (t) => {
  t.comment(`seed ${SEED}`);
  const { code, stdout, stderr } = await runNode([PROGRAM, ...TINY, '--rounds', '1', '--json', '--quiet']);
  t.equal(code, 0, stderr);
  t.equal(stderr, '');
  const { schema, partial, rows, tables } = JSON.parse(stdout) as {
    schema: string;
    partial: null;
    rows: { name: string; goal: string; figures: { value: number }[] }[];
    tables: { columns: string[]; rows: string[][] }[];
  };
  t.equal(schema, 'jitpaxos.bench-redis/1');
  t.equal(partial, null);
  t.same(
    rows.map(({ name, goal }) => [name, goal]),
    [
      ['set-1-own', '≤ 1.7'],
      ['set-1-wait', '≤ 1.2'],
      ['set-32-wait', '≥ 1.0'],
      ['get-50', '≥ 0.55'],
      ['set-50', '≥ 0.4'],
      ['get-50-p16', '≥ 0.45'],
      ['set-50-p16', '≥ 0.4'],
      ['memory', '≤ 150 MiB'],
    ],
  );
  for (const { name, figures } of rows) t.ok(figures[0]!.value > 0, name);
  t.same(
    tables.map(({ rows }) => rows.length),
    [14, 8, 3],
  );
  t.same(
    tables[2]!.rows.map(([name]) => name![0]),
    ['A', 'D', 'E'],
  );
});

t.test('without Redis it says what to install', async (t) => {
  const { code, stderr } = await runNode([PROGRAM, ...TINY], { env: { ...process.env, PATH: '/nonexistent' } });
  t.equal(code, 1);
  t.match(stderr, /^worker-failed: redis-server and redis-benchmark are not installed.*apt-get install/);
  t.equal(stderr.trim().split('\n').length, 1);
});

/** What /proc tells of a process: parent, name, and when it began; undefined if it is gone. */
function seen(pid: string): { readonly parent: number; readonly name: string; readonly began: string } | undefined {
  try {
    const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))!;
    const fields = rest!.split(' ');
    return fields[0] === 'Z' ? undefined : { parent: Number(fields[1]), name: name!, began: fields[19]! };
  } catch {
    return undefined;
  }
}

function childrenOf(parent: number): { readonly pid: string; readonly name: string; readonly began: string }[] {
  return readdirSync('/proc').flatMap((pid) => {
    const found = /^\d+$/.test(pid) ? seen(pid) : undefined;
    return found?.parent === parent ? [{ pid, ...found }] : [];
  });
}

const HOW = [
  ['interrupted twice', 'SIGINT', /^interrupted: /m],
  ['a server dies', undefined, /^worker-failed: redis-server has ended/m],
] as const;

for (const [what, signal, says] of HOW)
  t.test(`nothing is left behind: ${what}`, { skip: REDIS_MISSING || process.platform !== 'linux' }, async (t) => {
    const bench = spawn(process.execPath, [PROGRAM, ...TINY, '--only', 'latency', '--rounds', '1000'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    t.teardown(() => bench.kill('SIGKILL'));
    let stderr = '';
    let look = (): void => undefined;
    bench.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      look();
    });
    const ended = new Promise<number | null>((resolve) => bench.once('exit', resolve));
    const heard = (words: string): Promise<unknown> =>
      Promise.race([
        ended,
        new Promise<void>((resolve) => {
          look = () => {
            if (stderr.includes(words)) resolve();
          };
          look();
        }),
      ]);
    await heard('round 1 of');
    const children = childrenOf(bench.pid!);
    const servers = children.filter(({ name }) => name === 'redis-server');
    t.equal(servers.length, 4);
    t.ok(children.length >= 9, 'three replicas, a front end and a load, too');
    if (signal === undefined) process.kill(Number(servers[0]!.pid), 'SIGKILL');
    else {
      bench.kill(signal);
      await heard('ends after the current run');
      bench.kill(signal);
    }
    t.equal(await ended, 1);
    t.match(stderr, says);
    const left = (): unknown[] => children.filter(({ pid, began }) => seen(pid)?.began === began);
    // The kernel takes a moment to end what was killed.
    for (let i = 0; i < 1000 && left().length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    t.same(left(), []);
  });
