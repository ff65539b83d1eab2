/** A closed loop of our own: one connection and several, and our own client with as many operations open. */
import { takeTurns } from '../../src/measure/compare/rounds.js';
import { judged, type RowResult } from '../goals/row.js';
import type { DriverSetup } from './driver.js';
import {
  CONTESTANTS,
  cellsOf,
  COST,
  MANY,
  mediansOf,
  NOTHING,
  p50Of,
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
import { fillKeys, type Run } from './runs.js';

const SET_OWN_GOAL = 1.7;
const SET_WAIT_GOAL = 1.2;
const MANY_WAIT_GOAL = 1;

interface Load {
  readonly command: 'set' | 'get';
  readonly lanes: number;
  readonly contestants: readonly ContestantName[];
}

const LOADS: readonly Load[] = [
  { command: 'set', lanes: 1, contestants: CONTESTANTS },
  { command: 'get', lanes: 1, contestants: ['own', 'front', 'redis'] },
  { command: 'set', lanes: MANY, contestants: CONTESTANTS },
  { command: 'get', lanes: MANY, contestants: ['own', 'front', 'redis'] },
];

export async function latency(effort: Effort): Promise<Part> {
  const { contestants, drivers, keys, seed, warmupMs, ms, rounds, note, isInterrupted } = effort;
  for (const { target } of Object.values(contestants)) await fillKeys(target, keys, VALUE_BYTES);
  const turns = new Map<
    string,
    { readonly command: 'set' | 'get'; readonly lanes: number; readonly name: ContestantName }
  >(
    LOADS.flatMap(({ command, lanes, contestants: names }) =>
      names.map((name) => [`${command}-${lanes}-${name}`, { command, lanes, name }] as const),
    ),
  );
  const measure = (turn: string): Promise<Run> => {
    const { command, lanes, name } = turns.get(turn)!;
    const { peer, target } = contestants[name];
    const load: DriverSetup['load'] = { kind: command, keys, bytes: VALUE_BYTES };
    return drivers.measure(name, peer, { target, lanes, load, seed, warmupMs, ms });
  };
  const names = [...turns.keys()];
  // The first round is for the compiler.
  if (warmupMs > 0) for (const name of names) if (!isInterrupted()) await measure(name);
  const runs = await takeTurns(
    names,
    rounds,
    measure,
    (round, name, run) => note(`round ${round + 1} of ${rounds}: ${progressOf(name, run)}`),
    isInterrupted,
  );
  const complete = runs.get(names[0]!)!.length;
  if (complete === 0) return NOTHING;
  const of = (name: string): readonly Run[] => runs.get(name)!;
  const medians = Object.fromEntries(names.map((name) => [name, mediansOf(of(name))]));
  const p50Row = (name: string, theirs: ContestantName, atMost: number): RowResult => {
    const [a, b] = [`set-1-front`, `set-1-${theirs}`];
    const value = ratioOf(of(a), of(b), p50Of);
    return judged({
      name,
      what: `SET, one connection: p50 ÷ ${theirs === 'own' ? 'a put of our own client with one operation open' : WORDS[theirs]}`,
      goal: `≤ ${atMost}`,
      measured: `${value.toFixed(2)} (${medians[a]!.p50Us.toFixed(1)} µs / ${medians[b]!.p50Us.toFixed(1)} µs)`,
      figures: [{ value, atMost }],
      values: { ratio: value },
    });
  };
  const many = ratioOf(of(`set-${MANY}-front`), of(`set-${MANY}-wait`), rateOf);
  return {
    rows: [
      p50Row('set-1-own', 'own', SET_OWN_GOAL),
      p50Row('set-1-wait', 'wait', SET_WAIT_GOAL),
      judged({
        name: `set-${MANY}-wait`,
        what: `SET, ${MANY} connections: operations/s ÷ ${WORDS.wait}`,
        goal: `≥ ${MANY_WAIT_GOAL.toFixed(1)}`,
        measured: `${many.toFixed(2)} (${ratesOf(medians[`set-${MANY}-front`]!, medians[`set-${MANY}-wait`]!)})`,
        figures: [{ value: many, atLeast: MANY_WAIT_GOAL }],
        values: { ratio: many },
      }),
    ],
    tables: [
      {
        title: `A closed loop of our own, values of ${VALUE_BYTES} bytes`,
        columns: ['', 'contestant', 'operations/s', 'p50', 'p99', COST],
        rows: names.map((name) => {
          const { command, lanes, name: contestant } = turns.get(name)!;
          return [`${command.toUpperCase()}, ${lanes}`, WORDS[contestant], ...cellsOf(medians[name]!)];
        }),
      },
    ],
    values: medians,
    rounds: complete,
  };
}
