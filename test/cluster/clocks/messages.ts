/** Messages between a client process and its parent. */
import type { ClientClockReport } from '../../../src/client/clock-judge.js';
import type { HistoryEvent } from '../../../src/sim/history.js';

export type ToClient = { readonly type: 'run'; readonly ms: number } | { readonly type: 'end'; readonly ms: 0 };

/** Of one client while it ran. */
export interface ClientPhase {
  /** Of the operations that append: one after the other. */
  readonly latenciesNs: readonly number[];
  readonly longestPauseNs: number;
  readonly commits: number;
  readonly fast: number;
  readonly clock: ClientClockReport;
}

export type FromClient =
  | { readonly type: 'ready' }
  | { readonly type: 'phase'; readonly phase: ClientPhase }
  | {
      readonly type: 'end';
      readonly events: readonly HistoryEvent[];
      readonly unknown: number;
      readonly log: readonly string[];
      readonly clock: ClientClockReport;
    };
