/** What the parts of bench:redis share: who takes part, and how figures are shown. */
import { formatCount } from '../../src/console/units.js';
import { median } from '../../src/measure/compare/rounds.js';
import type { LocalCluster } from '../../src/measure/local-cluster.js';
import type { RowResult } from '../goals/row.js';
import type { Target } from './database.js';
import type { Drivers, Run } from './runs.js';
import type { Peer } from './servers.js';
import type { WorkloadName } from './workload.js';

/** Of SET and GET. */
export const VALUE_BYTES = 64;
/** Connections, or operations open, of a load that has many. */
export const MANY = 32;

/** What takes turns, by name. */
export const CONTESTANTS = ['own', 'front', 'redis', 'wait'] as const;
export type ContestantName = (typeof CONTESTANTS)[number];
export const WORDS: Readonly<Record<ContestantName, string>> = {
  own: 'our own client',
  front: 'front end',
  redis: 'Redis',
  wait: 'Redis + WAIT 1',
};

interface Contestant {
  readonly peer: Peer;
  readonly target: Target;
}

export interface Effort {
  readonly contestants: Readonly<Record<ContestantName, Contestant>>;
  readonly cluster: LocalCluster;
  readonly drivers: Drivers;
  readonly rounds: number;
  readonly warmupMs: number;
  readonly ms: number;
  readonly keys: number;
  readonly records: number;
  readonly workloads: readonly WorkloadName[];
  readonly connections: number;
  readonly seed: number;
  readonly hasIndex: boolean;
  readonly note: (text: string) => void;
  readonly isInterrupted: () => boolean;
}

/** A table of figures without a goal. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Part {
  readonly rows: readonly RowResult[];
  readonly tables: readonly Table[];
  readonly values: object;
  /** Rounds that were complete; fewer than wanted if it was interrupted. */
  readonly rounds: number;
}

export type Medians = Omit<Run, 'cpuUs'> & { readonly cpuUs: readonly number[] };

export function mediansOf(runs: readonly Run[]): Medians {
  const of = (value: (run: Run) => number): number => median(runs.map(value));
  return {
    opsPerSecond: of(({ opsPerSecond }) => opsPerSecond),
    p50Us: of(({ p50Us }) => p50Us),
    p99Us: of(({ p99Us }) => p99Us),
    cpuUs: runs[0]!.cpuUs.map((_, i) => of(({ cpuUs }) => cpuUs[i] ?? NaN)),
  };
}

/** The median over the rounds of a figure ÷ another contestant's of the same round. */
export function ratioOf(ours: readonly Run[], theirs: readonly Run[], value: (run: Run) => number): number {
  return median(ours.map((run, round) => value(run) / value(theirs[round]!)));
}

export const p50Of = ({ p50Us }: Run): number => p50Us;
export const rateOf = ({ opsPerSecond }: Run): number => opsPerSecond;

export function progressOf(name: string, { p50Us, p99Us, opsPerSecond }: Run): string {
  return `${name}: ${formatCount(Math.round(opsPerSecond))}/s, p50 ${p50Us.toFixed(0)} µs, p99 ${p99Us.toFixed(0)} µs`;
}

export function cellsOf({ opsPerSecond, p50Us, p99Us, cpuUs }: Medians): string[] {
  const [first, ...others] = cpuUs.map((us) => us.toFixed(1));
  return [
    `${formatCount(Math.round(opsPerSecond))}/s`,
    `${p50Us.toFixed(0)} µs`,
    `${p99Us.toFixed(0)} µs`,
    others.length === 0 ? `${first} µs` : `${first} + ${others.join(' + ')} µs`,
  ];
}

export const COST = 'processor time an operation, by process';

export function ratesOf(ours: Medians, theirs: Medians): string {
  return [ours, theirs].map(({ opsPerSecond }) => `${formatCount(Math.round(opsPerSecond))}/s`).join(' / ');
}

/** The part was interrupted before a round was complete. */
export const NOTHING: Part = { rows: [], tables: [], values: {}, rounds: 0 };
