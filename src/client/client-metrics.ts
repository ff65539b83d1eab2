/** A client as metrics. Commits are counted here: only the client knows when an operation was committed, and how. */
import { byLabel, counter, gauge, type Family, type HistogramSample } from '../metrics/exposition.js';
import type { BucketSnapshot } from '../protocol/bucket-counts.js';
import { METRIC_PREFIX } from '../server/replica-metrics.js';
import type { ClientStats } from './client-stats.js';

export const DURATION_BOUNDS_US = [25, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

export function clientMetrics(stats: ClientStats, executeUs: BucketSnapshot, queryUs: BucketSnapshot): Family[] {
  const name = (rest: string): string => METRIC_PREFIX + rest;
  return [
    counter(name('commits_total'), 'Operations committed; path fast: in one round trip', byLabel('path', { fast: stats.fastCommits, reconciled: stats.commits - stats.fastCommits })),
    counter(name('client_reads_total'), 'Reads begun', stats.reads),
    counter(name('client_reads_fast_total'), 'Reads answered in one round trip, without a log entry; the others become commits', stats.fastReads),
    { name: name('commit_duration_seconds'), kind: 'histogram', help: 'From the call to its answer, by kind of call', samples: [inSeconds('execute', executeUs), inSeconds('query', queryUs)] },
    counter(name('client_rejects_total'), 'Rejects received from replicas, by reason; most are overcome by sending again', byLabel('reason', stats.rejected)),
    counter(name('client_reconciles_total'), 'Members asked to bring an entry in line with the primary', stats.reconciled),
    counter(name('client_retransmissions_total'), 'Requests sent again', stats.retransmitted),
    counter(name('client_view_changes_total'), 'Views that the client moved on to', stats.viewChanges),
    gauge(name('client_view'), 'View that the client sends to', stats.view),
    gauge(name('client_operations_open'), 'Operations sent and not answered yet', stats.openOperations),
    gauge(name('client_operations_waiting'), 'Operations that wait for a lane', stats.waitingOperations),
    counter(name('client_datagrams_dropped_total'), 'Datagrams refused, by reason', byLabel('reason', stats.drops)),
  ];
}

function inSeconds(call: string, { bounds, counts, sum }: BucketSnapshot): HistogramSample {
  return { labels: { call }, bounds: bounds.map((bound) => bound / 1e6), counts, sum: sum / 1e6 };
}
