/** A row of the table of goals: what it asks for, what was measured, whether it holds. */
import type { Timing } from '../../src/cli/compare/contestant.js';

export interface RowResult {
  /** For `--rows` and programs. */
  readonly name: string;
  readonly what: string;
  readonly goal: string;
  /** In words, for the table. */
  readonly measured: string;
  readonly holds: boolean;
  readonly values: Readonly<Record<string, unknown>>;
  /** What a reader has to know to judge the figure. */
  readonly note?: string;
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
