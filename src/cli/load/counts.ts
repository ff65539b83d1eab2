/** Sums of what the clients of a bench counted. */
import type { ClientCounts } from './messages.js';

export const NO_COUNTS: ClientCounts = { committed: 0, fast: 0, rejected: 0, reconciled: 0, retransmitted: 0, failed: 0, viewChanges: 0 };

/** View changes are the same ones seen by several clients: their largest number, not their sum. */
export function addCounts(a: ClientCounts, b: ClientCounts): ClientCounts {
  return {
    committed: a.committed + b.committed,
    fast: a.fast + b.fast,
    rejected: a.rejected + b.rejected,
    reconciled: a.reconciled + b.reconciled,
    retransmitted: a.retransmitted + b.retransmitted,
    failed: a.failed + b.failed,
    viewChanges: Math.max(a.viewChanges, b.viewChanges),
  };
}
