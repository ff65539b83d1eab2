/** The core workloads of YCSB, over our own client and over RESP. */
import { formatCount } from '../../src/console/units.js';
import { takeTurns } from '../../src/measure/compare/rounds.js';
import { seededRandom } from '../../src/measure/load/random.js';
import type { DriverSetup } from './driver.js';
import {
  CONTESTANTS,
  MANY,
  mediansOf,
  NOTHING,
  progressOf,
  WORDS,
  type ContestantName,
  type Effort,
  type Part,
} from './part.js';
import { fillRecords, type Run } from './runs.js';
import { WORKLOAD_ORDER, WORKLOADS, type WorkloadName } from './workload.js';

export async function ycsb(effort: Effort): Promise<Part> {
  const { contestants, drivers, records, workloads, seed, warmupMs, ms, rounds, hasIndex, note, isInterrupted } =
    effort;
  const there = new Map<ContestantName, number>();
  for (const name of CONTESTANTS) {
    if (isInterrupted()) break;
    note(`ycsb: ${records} records, ${WORDS[name]}`);
    await fillRecords(contestants[name].target, records, seededRandom(seed));
    there.set(name, records);
  }
  const turns = new Map<string, { readonly workload: WorkloadName; readonly name: ContestantName }>(
    WORKLOAD_ORDER.filter((name) => workloads.includes(name)).flatMap((workload) =>
      CONTESTANTS.filter((name) => canRun(workload, name, hasIndex)).map(
        (name) => [`${workload}-${name}`, { workload, name }] as const,
      ),
    ),
  );
  const measure = async (turn: string): Promise<Run> => {
    const { workload, name } = turns.get(turn)!;
    const { peer, target } = contestants[name];
    const load: DriverSetup['load'] = { kind: 'ycsb', workload, records: there.get(name)! };
    const run = await drivers.measure(name, peer, { target, lanes: MANY, load, seed, warmupMs, ms });
    there.set(name, run.records);
    return run;
  };
  const names = [...turns.keys()];
  if (warmupMs > 0) for (const name of names) if (!isInterrupted()) await measure(name);
  const runs = await takeTurns(
    names,
    rounds,
    measure,
    (round, name, run) => note(`round ${round + 1} of ${rounds}: YCSB ${progressOf(name, run)}`),
    isInterrupted,
  );
  const complete = runs.get(names[0]!)!.length;
  if (complete === 0) return NOTHING;
  const medians = Object.fromEntries(names.map((name) => [name, mediansOf(runs.get(name)!)]));
  const cellOf = (workload: WorkloadName, name: ContestantName): string => {
    const found = medians[`${workload}-${name}`];
    if (found === undefined) return 'needs sorted sets';
    return `${formatCount(Math.round(found.opsPerSecond))}/s; ${(found.p50Us / 1000).toFixed(2)}, ${(found.p99Us / 1000).toFixed(2)} ms`;
  };
  return {
    rows: [],
    tables: [
      {
        title: `YCSB, ${MANY} connections, ${records} records of 1,000 bytes at first: operations/s; p50, p99`,
        columns: ['workload', ...CONTESTANTS.map((name) => WORDS[name])],
        rows: [...workloads]
          .sort()
          .map((workload) => [
            `${workload}: ${WORKLOADS[workload].what}`,
            ...CONTESTANTS.map((name) => cellOf(workload, name)),
          ]),
      },
    ],
    values: { ...medians, records: Object.fromEntries(there), hasIndex },
    rounds: complete,
  };
}

/** Scans read a sorted set, over RESP. Where the front end has none, no contestant is asked for them. */
function canRun(workload: WorkloadName, name: ContestantName, hasIndex: boolean): boolean {
  return workload !== 'E' || name === 'own' || hasIndex;
}
