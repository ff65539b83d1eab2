/** A client's metrics. Commits are counted here: only the client knows when an operation was committed, and how. */
import {
  METRIC_PREFIX,
  byLabel,
  counter,
  gauge,
  type Family,
  type HistogramSample,
  type Labels,
  type Sample,
} from '../metrics/exposition.js';
import type { BucketSnapshot } from '../protocol/bucket-counts.js';
import type { ClientStats } from './client-stats.js';

export const DURATION_BOUNDS_US = [
  25, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
  5_000_000,
];

export function clientMetrics(stats: ClientStats, executeUs: BucketSnapshot, queryUs: BucketSnapshot): Family[] {
  const name = (rest: string): string => METRIC_PREFIX + rest;
  return [
    counter(
      name('commits_total'),
      'Operations committed, by what they needed. fast: one round trip; ordered: the primary pushed its order to a member that differed; reconciled: the client asked such a member to reconcile; resent: the request was sent again',
      byLabel('path', {
        fast: stats.fastCommits,
        ordered: stats.orderedCommits,
        reconciled: stats.reconciledCommits,
        resent: stats.commits - stats.fastCommits - stats.orderedCommits - stats.reconciledCommits,
      }),
    ),
    counter(name('client_reads_total'), 'Reads begun', stats.reads),
    counter(
      name('client_reads_fast_total'),
      'Reads answered in one round trip without a log entry; other reads become commits',
      stats.fastReads,
    ),
    {
      name: name('commit_duration_seconds'),
      kind: 'histogram',
      help: 'Time from a call to its answer, by kind of call',
      samples: [inSeconds('execute', executeUs), inSeconds('query', queryUs)],
    },
    counter(
      name('client_rejected_total'),
      'Rejects received from replicas, by reason; after most, sending again succeeds',
      byLabel('reason', stats.rejected),
    ),
    counter(
      name('client_reconciled_total'),
      'Reconciles sent: members asked to make an entry agree with the primary',
      stats.reconciled,
    ),
    counter(name('client_retransmitted_total'), 'Requests sent again', stats.retransmitted),
    counter(name('client_view_changes_total'), 'Changes of the client to a newer view', stats.viewChanges),
    gauge(name('client_view'), 'View that the client sends to', stats.view),
    gauge(name('client_operations_open'), 'Operations on a lane and not answered yet', stats.openOperations),
    gauge(
      name('client_operations_unsent'),
      'Of these, operations that are not sent yet because the window is full',
      stats.unsentOperations,
    ),
    gauge(name('client_operations_waiting'), 'Operations that wait for a lane', stats.waitingOperations),
    gauge(
      name('client_window'),
      'Operations that may be on their way at once; it shrinks when replicas are too busy',
      stats.window,
    ),
    gauge(
      name('client_clock_offset_seconds'),
      "A replica's clock minus the client's, from its replies; absent if it has not replied recently",
      stats.clock.replicas.flatMap(({ id, offsetNs }) => seconds(offsetNs, { replica: String(id) })),
    ),
    gauge(
      name('client_clock_offset_uncertainty_seconds'),
      'Uncertainty of that offset',
      stats.clock.replicas.flatMap(({ id, uncertaintyNs }) => seconds(uncertaintyNs, { replica: String(id) })),
    ),
    gauge(
      name('client_clock_error_bound_seconds'),
      "Largest error of the client's clock that its source states; absent if it states none",
      seconds(stats.clock.errorBoundNs ?? null, {}),
    ),
    gauge(
      name('client_clock_correction_seconds'),
      "Correction added to the client's clock because the replicas contradict it or it is unhealthy",
      stats.clock.correctionNs / 1e9,
    ),
    gauge(
      name('client_clock_healthy'),
      "Whether nothing speaks against the client's clock (1 or 0)",
      stats.clock.healthy ? 1 : 0,
    ),
    counter(
      name('client_clock_contradictions_total'),
      "Times that a majority of the replicas' clocks began to contradict the client's",
      stats.clock.contradictions,
    ),
    counter(name('client_datagrams_dropped_total'), 'Datagrams refused, by reason', byLabel('reason', stats.drops)),
  ];
}

function seconds(ns: number | null, labels: Labels): Sample[] {
  return ns === null ? [] : [{ labels, value: ns / 1e9 }];
}

function inSeconds(call: string, { bounds, counts, sum }: BucketSnapshot): HistogramSample {
  return { labels: { call }, bounds: bounds.map((bound) => bound / 1e6), counts, sum: sum / 1e6 };
}
