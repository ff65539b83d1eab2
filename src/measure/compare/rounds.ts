/**
 * Runs contestants alternately, because a host's speed drifts by more than the differences to be measured, and takes
 * medians.
 */
import type { LatencySummary } from '../../metrics/histogram.js';
import type { Contestant, Measured, Timing } from './contestant.js';
import type { Point } from './shape.js';

/**
 * Runs each contestant once in every round; the order changes from round to round. Returns the results by name, then by
 * round. Ends before the next run if `interrupted` says so. An incomplete round is left out, because ratios are taken
 * within one round.
 */
export async function runRounds(
  contestants: readonly Contestant[],
  point: Point,
  timing: Timing,
  rounds: number,
  progress: (round: number, name: string, measured: Measured) => void,
  interrupted: () => boolean = () => false,
): Promise<ReadonlyMap<string, readonly Measured[]>> {
  const byName = new Map(contestants.map((contestant) => [contestant.name, contestant]));
  return takeTurns([...byName.keys()], rounds, (name) => byName.get(name)!.run(point, timing), progress, interrupted);
}

/** The same for anything that has a name and is run: `run` measures once what has that name. */
export async function takeTurns<Result>(
  names: readonly string[],
  rounds: number,
  run: (name: string) => Promise<Result>,
  progress: (round: number, name: string, result: Result) => void,
  interrupted: () => boolean,
): Promise<ReadonlyMap<string, readonly Result[]>> {
  const measured = new Map<string, Result[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const results = new Map<string, Result>();
    for (let turn = 0; turn < names.length && !interrupted(); turn++) {
      const name = names[(round + turn) % names.length]!;
      const result = await run(name);
      results.set(name, result);
      progress(round, name, result);
    }
    if (results.size < names.length) break;
    for (const [name, result] of results) measured.get(name)!.push(result);
  }
  return measured;
}

/** Medians over the rounds. Percentiles are those of each run, not of all runs together. */
export interface Medians {
  readonly latencyNs: LatencySummary;
  readonly opsPerSecond: number;
}

export function mediansOf(runs: readonly Measured[]): Medians {
  const summaries = runs.map(({ histogram }) => histogram.summary());
  const names = Object.keys(summaries[0]!) as (keyof LatencySummary)[];
  return {
    latencyNs: Object.fromEntries(
      names.map((name) => [name, medianKnown(summaries.map((summary) => summary[name]))]),
    ) as unknown as LatencySummary,
    opsPerSecond: median(runs.map(({ opsPerSecond }) => opsPerSecond)),
  };
}

/** Median of the measured values; null if a round measured nothing. */
function medianKnown(values: readonly (number | null)[]): number | null {
  return values.some((value) => value === null) ? null : median(values as readonly number[]);
}

/** The median over the rounds of ours ÷ theirs, both from the same round. */
export function ratioOf(
  ours: readonly Measured[],
  theirs: readonly Measured[],
  value: (measured: Measured) => number,
): number {
  return median(ours.map((run, round) => value(run) / value(theirs[round]!)));
}

/** The middle value; for an even number of values, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
