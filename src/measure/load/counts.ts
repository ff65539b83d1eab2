/** What the clients of a bench counted: read from a client, added, subtracted. */
import type { ClientStats } from '../../client/client-stats.js';
import type { ClientCounts } from './messages.js';

export const NO_COUNTS: ClientCounts = {
  committed: 0,
  fast: 0,
  ordered: 0,
  rejected: 0,
  restamped: 0,
  reconciled: 0,
  retransmitted: 0,
  failed: 0,
  viewChanges: 0,
};

/** @param failed operations that ended without a result, which the bench counts itself */
export function countsOf(stats: ClientStats, failed: number): ClientCounts {
  return {
    // A read that goes through the log after all is a commit, and not a fast read: each operation counts once.
    committed: stats.commits + stats.fastReads,
    fast: stats.fastCommits + stats.fastReads,
    ordered: stats.orderedCommits,
    rejected: Object.values(stats.rejected).reduce((sum, count) => sum + count, 0),
    restamped: stats.counters['restamped']!,
    reconciled: stats.reconciled,
    retransmitted: stats.retransmitted,
    viewChanges: stats.viewChanges,
    failed,
  };
}

/** Several clients see the same view changes: take their largest number, not their sum. */
export function addCounts(a: ClientCounts, b: ClientCounts): ClientCounts {
  return {
    committed: a.committed + b.committed,
    fast: a.fast + b.fast,
    ordered: a.ordered + b.ordered,
    rejected: a.rejected + b.rejected,
    restamped: a.restamped + b.restamped,
    reconciled: a.reconciled + b.reconciled,
    retransmitted: a.retransmitted + b.retransmitted,
    failed: a.failed + b.failed,
    viewChanges: Math.max(a.viewChanges, b.viewChanges),
  };
}

/** The counts from `before` to `now`. */
export function differenceOf(now: ClientCounts, before: ClientCounts): ClientCounts {
  const result: Record<string, number> = {};
  for (const name of Object.keys(NO_COUNTS) as (keyof ClientCounts)[]) result[name] = now[name] - before[name];
  return result as unknown as ClientCounts;
}
