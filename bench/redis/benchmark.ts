/** redis-benchmark against the front end and against Redis alone. */
import { takeTurns } from '../../src/measure/compare/rounds.js';
import { judged } from '../goals/row.js';
import {
  cellsOf,
  COST,
  mediansOf,
  NOTHING,
  progressOf,
  rateOf,
  ratesOf,
  ratioOf,
  VALUE_BYTES,
  WORDS,
  type ContestantName,
  type Effort,
  type Part,
} from './part.js';
import { fillKeys, redisBenchmark, type Run } from './runs.js';

const BENCHMARK_CONNECTIONS = 50;
const PIPELINE = 16;
/** Requests in the run that tells how many fill the time. */
const FIRST_REQUESTS = 20_000;
const REQUESTS_MIN = 1_000;

const BENCHMARKS = [
  { command: 'get', pipeline: 1, goal: 0.55 },
  { command: 'set', pipeline: 1, goal: 0.4 },
  { command: 'get', pipeline: PIPELINE, goal: 0.45 },
  { command: 'set', pipeline: PIPELINE, goal: 0.4 },
] as const;

export async function benchmark(effort: Effort): Promise<Part> {
  const { contestants, keys, ms, rounds, note, isInterrupted } = effort;
  const compared = ['front', 'redis'] as const;
  for (const name of compared) await fillKeys(contestants[name].target, keys, VALUE_BYTES);
  const turns = new Map<
    string,
    { readonly command: 'set' | 'get'; readonly pipeline: number; readonly name: ContestantName }
  >(
    BENCHMARKS.flatMap(({ command, pipeline }) =>
      compared.map((name) => [`${command}-${pipeline}-${name}`, { command, pipeline, name }] as const),
    ),
  );
  const requests = new Map<string, number>();
  const measure = (turn: string): Promise<Run> => {
    const { command, pipeline, name } = turns.get(turn)!;
    return redisBenchmark(contestants[name].peer, {
      command,
      connections: BENCHMARK_CONNECTIONS,
      pipeline,
      keys,
      bytes: VALUE_BYTES,
      requests: requests.get(turn)!,
    });
  };
  const names = [...turns.keys()];
  for (const name of names) {
    // Two runs, for the compiler: the second tells how many requests fill the time.
    requests.set(name, Math.max(REQUESTS_MIN, Math.min(FIRST_REQUESTS, ms * 20)));
    for (let i = 0; i < 2 && !isInterrupted(); i++) {
      const { opsPerSecond } = await measure(name);
      requests.set(name, Math.max(REQUESTS_MIN, Math.round((opsPerSecond * ms) / 1000)));
    }
  }
  const runs = await takeTurns(
    names,
    rounds,
    measure,
    (round, name, run) => note(`round ${round + 1} of ${rounds}: redis-benchmark ${progressOf(name, run)}`),
    isInterrupted,
  );
  const complete = runs.get(names[0]!)!.length;
  if (complete === 0) return NOTHING;
  const medians = Object.fromEntries(names.map((name) => [name, mediansOf(runs.get(name)!)]));
  return {
    rows: BENCHMARKS.map(({ command, pipeline, goal }) => {
      const [a, b] = compared.map((name) => `${command}-${pipeline}-${name}`) as [string, string];
      const value = ratioOf(runs.get(a)!, runs.get(b)!, rateOf);
      return judged({
        name: `${command}-${BENCHMARK_CONNECTIONS}${pipeline === 1 ? '' : `-p${pipeline}`}`,
        what: `redis-benchmark, ${command.toUpperCase()}, ${BENCHMARK_CONNECTIONS} connections${pipeline === 1 ? '' : `, -P ${pipeline}`}: requests/s ÷ Redis alone, unreplicated`,
        goal: `≥ ${goal}`,
        measured: `${value.toFixed(2)} (${ratesOf(medians[a]!, medians[b]!)})`,
        figures: [{ value, atLeast: goal }],
        values: { ratio: value },
      });
    }),
    tables: [
      {
        title: `redis-benchmark -c ${BENCHMARK_CONNECTIONS} -d ${VALUE_BYTES} -r ${keys}`,
        columns: ['', 'contestant', 'requests/s', 'p50', 'p99', COST],
        rows: names.map((name) => {
          const { command, pipeline, name: contestant } = turns.get(name)!;
          return [`${command.toUpperCase()}, -P ${pipeline}`, WORDS[contestant], ...cellsOf(medians[name]!)];
        }),
      },
    ],
    values: medians,
    rounds: complete,
  };
}
