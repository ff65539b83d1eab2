/**
 * `npm run chaos`: chaos runs on real processes, one seed after the other, each at every requested cluster size and
 * durability. Prints a line per run, and totals at the end; exit code 1 if a run failed, with the command that repeats
 * the same trouble, and the history in a file.
 */
import { writeFileSync } from 'node:fs';
import { program } from '../../../bench/program.js';
import { CliError } from '../../../src/console/exit.js';
import { clusterSize, seedRange } from '../../../src/cli/sim.js';
import { DURABILITIES, type Durability } from '../../../src/storage/durability.js';
import { formatHistory } from '../../../src/sim/history.js';
import { membersChaos } from './members.js';
import { redisChaos } from './redis.js';
import { chaos, type ChaosResult } from './run.js';

// If this program were killed now, a stopped replica would stay forever: the cluster kills its processes when this one
// exits.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

await program(
  {
    name: 'npm run chaos --',
    summary: 'Kills, stops and cuts off replicas of real clusters under load, and checks what clients saw.',
    positionals: [],
    flags: {
      seed: { kind: 'text', value: 'A..B', default: '1', help: 'seeds to run, or a single one; odd ones authenticate' },
      seconds: { kind: 'count', default: '60', min: 1, max: 3_600, help: 'length of the trouble in each run' },
      replicas: { kind: 'text', value: 'N,…', default: '3', help: 'cluster sizes: each seed runs at each of them' },
      durability: {
        kind: 'text',
        value: 'LIST',
        default: 'fsync',
        help: `each seed runs in each of them: some of ${DURABILITIES.join(', ')}`,
      },
      members: {
        kind: 'switch',
        help: 'instead of network, disks and clocks: an operator who replaces, adds and removes hosts without end',
      },
      redis: {
        kind: 'switch',
        help: 'instead of all that: ioredis and a client of its own over two Redis front ends, while replicas are killed, and with every second pair of seeds front ends; needs ioredis (npm ci)',
      },
      verbose: { kind: 'switch', help: 'say what is done as it is done' },
    },
    examples: [
      'npm run chaos -- --seed 1..10 --seconds 60 --replicas 3,5 --durability fsync,memory',
      'npm run chaos -- --seed 7 --verbose',
      'npm run chaos -- --members --seed 1..3 --seconds 30 --durability memory,os,fsync',
      'npm run chaos -- --redis --seed 1..4 --seconds 60',
    ],
  },
  async ({ seed, seconds, replicas, durability, members, redis, verbose }, output) => {
    const [first, last] = seedRange(seed);
    const sizes = replicas.split(',').map(clusterSize);
    if (sizes.includes(1))
      throw new CliError('flag-invalid', '--replicas: a cluster of one survives nothing; give 3 or more');
    if (members && redis) throw new CliError('flag-invalid', '--members and --redis are two kinds of runs; give one');
    const run = members ? membersChaos : redis ? redisChaos : chaos;
    const kind = members ? ' --members' : redis ? ' --redis' : '';
    const modes = durability.split(',').map(durabilityOf);
    const results: ChaosResult[] = [];
    for (let one = first; one <= last; one++) {
      for (const size of sizes) {
        for (const mode of modes) {
          const startedMs = performance.now();
          const result = await run({
            seed: one,
            replicas: size,
            durability: mode,
            seconds,
            say: (line) =>
              verbose && output.note(`${((performance.now() - startedMs) / 1000).toFixed(3).padStart(8)} ${line}`),
          });
          results.push(result);
          if (!output.json) output.line(lineOf(result));
          if (results.length === 1) for (const what of result.notTried) output.note(`not tried here: ${what}`);
          if (result.failures.length === 0) continue;
          const file = `chaos-${one}-${size}-${mode}.history`;
          writeFileSync(file, formatHistory(result.events));
          output.note(
            [
              ...result.failures,
              `history: ${file}`,
              `again: npm run chaos -- --seed ${one} --seconds ${seconds} --replicas ${size} --durability ${mode}${kind} --verbose`,
            ].join('\n'),
          );
        }
      }
    }
    const total = totalsOf(results, seconds);
    output.line(
      output.json
        ? JSON.stringify({ schema: 'jitpaxos.chaos/1', ...total, runs: results.map(({ events: _, ...run }) => run) })
        : textOf(total),
    );
    if (total.failed > 0)
      throw new CliError(
        'assertion-failed',
        `${total.failed} of ${results.length} runs failed; run them again with the commands above`,
      );
  },
);

function durabilityOf(text: string): Durability {
  if (!(DURABILITIES as readonly string[]).includes(text))
    throw new CliError('flag-invalid', `--durability: "${text}" is none of ${DURABILITIES.join(', ')}`);
  return text as Durability;
}

function lineOf({
  seed,
  replicas,
  durability,
  authenticated,
  committed,
  unknown,
  acknowledgedOnce,
  lost,
  history,
  failures,
  done,
  views,
  longestPauseMs,
  recoveryMs,
}: ChaosResult): string {
  const trouble = Object.entries(done)
    .map(([what, count]) => `${count} ${what}`)
    .join(', ');
  return `${failures.length === 0 ? 'ok    ' : 'FAILED'} seed ${seed}, ${replicas} replicas, ${durability}${authenticated ? ', keys' : ''}: ${committed} committed, ${unknown} unknown, ${lost.length} of ${acknowledgedOnce} lost, history ${history}; view ${views}; longest pause ${longestPauseMs.toFixed(0)} ms, recovered in ${recoveryMs.toFixed(0)} ms; ${trouble}`;
}

interface Totals {
  readonly all: number;
  readonly failed: number;
  readonly seconds: number;
  readonly committed: number;
  readonly unknown: number;
  readonly acknowledgedOnce: number;
  readonly lost: number;
  readonly linearizable: number;
  readonly done: Readonly<Record<string, number>>;
}

function totalsOf(results: readonly ChaosResult[], seconds: number): Totals {
  const sum = (of: (result: ChaosResult) => number): number => results.reduce((total, result) => total + of(result), 0);
  const done: Record<string, number> = {};
  for (const result of results)
    for (const [what, count] of Object.entries(result.done)) done[what] = (done[what] ?? 0) + count;
  return {
    all: results.length,
    failed: results.filter(({ failures }) => failures.length > 0).length,
    seconds: seconds * results.length,
    committed: sum(({ committed }) => committed),
    unknown: sum(({ unknown }) => unknown),
    acknowledgedOnce: sum((result) => result.acknowledgedOnce),
    lost: sum(({ lost }) => lost.length),
    linearizable: results.filter(({ history }) => history === 'linearizable').length,
    done,
  };
}

function textOf(total: Totals): string {
  return [
    `runs        ${total.all} of ${total.seconds} s in all, ${total.failed} failed`,
    `histories   ${total.linearizable} linearizable, of ${total.committed + total.unknown} operations: ${total.committed} committed, ${total.unknown} with unknown outcome`,
    `written once and acknowledged: ${total.acknowledgedOnce}, lost ${total.lost}`,
    `trouble     ${Object.entries(total.done)
      .map(([what, count]) => `${count} ${what}`)
      .join(', ')}`,
  ].join('\n');
}
