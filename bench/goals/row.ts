/** A row of the table of goals: what it requires, what was measured, whether it holds. */
import { CliError } from '../../src/console/exit.js';
import type { Timing } from '../../src/measure/compare/contestant.js';
import { hostInfo } from '../../src/measure/load/bench-report.js';

/** A number and the bound that the goal sets for it. */
export interface Figure {
  readonly value: number;
  readonly atMost?: number;
  readonly atLeast?: number;
}

export interface RowResult {
  /** Name for `--rows` and programs. */
  readonly name: string;
  readonly what: string;
  readonly goal: string;
  /** In words, for the table. */
  readonly measured: string;
  /** What the goal speaks of; it holds if every one is within its bound. */
  readonly figures: readonly Figure[];
  readonly holds: boolean;
  readonly values: Readonly<Record<string, unknown>>;
  /** What a reader must know to judge the figure. */
  readonly note?: string;
}

/** A row that holds if each of its figures is within its bound. A figure that is not a number is not. */
export function judged(row: Omit<RowResult, 'holds'>): RowResult {
  const holds = row.figures.every(
    ({ value, atMost = Infinity, atLeast = -Infinity }) => value <= atMost && value >= atLeast,
  );
  return { ...row, holds };
}

export interface Effort {
  readonly rounds: number;
  readonly timing: Timing;
  /** Of the allocation row. */
  readonly operations: number;
  readonly progress: (text: string) => void;
}

/** A row, or several that share measurements. */
export interface RowGroup {
  readonly names: readonly string[];
  measure(effort: Effort): Promise<RowResult[]>;
}

/** Ends a bench. Throws CliError `assertion-failed` if it is strict and a goal was missed. @param missed names of rows */
export function checkMissed(missed: readonly string[], strict: boolean): void {
  if (strict && missed.length > 0)
    throw new CliError('assertion-failed', `missed: ${missed.join(', ')}; see the table`);
}

/** The rows as a Markdown table. */
export function goalsTable(rows: readonly RowResult[], seconds: number): string {
  const { cpu, cores, kernel, node } = hostInfo();
  const lines = [
    '| | goal | measured | |',
    '| --- | --- | --- | --- |',
    ...rows.map(
      ({ what, goal, measured, holds }) => `| ${what} | ${goal} | ${measured} | ${holds ? 'holds' : 'missed'} |`,
    ),
    '',
  ];
  for (const { name, note } of rows) if (note !== undefined) lines.push(`${name}: ${note}`);
  lines.push(
    `${rows.filter(({ holds }) => holds).length} of ${rows.length} hold; ${seconds.toFixed(0)} s on ${cores} × ${cpu}, Linux ${kernel}, Node ${node}`,
  );
  return lines.join('\n');
}
