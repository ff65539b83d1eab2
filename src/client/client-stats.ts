/** What a client did since it connected, for display and benches. */
import { CLIENT_COUNTER_NAMES, ClientCounter, rejectedByReason } from '../protocol/counters.js';
import { dropsReport, named } from '../host/status.js';
import { TRANSPORT_COUNTER_NAMES } from '../transport/transport.js';
import type { ClientHost } from './client-host.js';
import type { ClientClockReport } from './clock-judge.js';

export interface ClientStats {
  readonly view: number;
  /** Sixteen hexadecimal digits. */
  readonly session: string;
  readonly lanes: number;
  readonly openOperations: number;
  readonly waitingOperations: number;
  /** Operations that may be on their way at once. It follows the path, and shrinks when replicas are too busy. */
  readonly window: number;
  /** Open operations that are not sent yet, because the window is full. */
  readonly unsentOperations: number;
  readonly commits: number;
  /** Committed in one round trip. */
  readonly fastCommits: number;
  /** Committed in one and a half round trips: a member differed, and the primary's order corrected it. */
  readonly orderedCommits: number;
  /** A member differed, and this client asked it to fetch the primary's entry. The other commits needed a request to be sent again. */
  readonly reconciledCommits: number;
  readonly reads: number;
  /** Answered in one round trip, without a log entry. */
  readonly fastReads: number;
  /** Rejects received, by reason; the client recovers from most of them without the caller noticing. */
  readonly rejected: Readonly<Record<string, number>>;
  readonly reconciled: number;
  readonly retransmitted: number;
  readonly viewChanges: number;
  /** All of CLIENT_COUNTER_NAMES. */
  readonly counters: Readonly<Record<string, number>>;
  readonly clock: ClientClockReport;
  /** Datagrams dropped, by reason. */
  readonly drops: Readonly<Record<string, number>>;
  readonly transport: {
    readonly kind: string;
    readonly idle: string;
    readonly counters: Readonly<Record<string, number>>;
  };
}

export function clientStats(host: ClientHost, openOperations: number, waitingOperations: number): ClientStats {
  const counters = host.counters();
  const byName = named(CLIENT_COUNTER_NAMES, counters);
  return {
    view: host.view,
    session: host.sessionId,
    lanes: host.lanes,
    openOperations,
    waitingOperations,
    window: host.window,
    unsentOperations: host.unsent,
    commits: counters[ClientCounter.commits]!,
    fastCommits: counters[ClientCounter.commits_fast]!,
    orderedCommits: counters[ClientCounter.commits_ordered]!,
    reconciledCommits: counters[ClientCounter.commits_reconciled]!,
    reads: counters[ClientCounter.reads]!,
    fastReads: counters[ClientCounter.reads_fast]!,
    rejected: rejectedByReason(byName),
    reconciled: counters[ClientCounter.reconciled]!,
    retransmitted: counters[ClientCounter.retransmitted]!,
    viewChanges: counters[ClientCounter.view_changes]!,
    counters: byName,
    clock: host.clockReport(),
    drops: dropsReport(host.drops),
    transport: {
      kind: host.transport.kind,
      idle: host.transport.idle,
      counters: named(TRANSPORT_COUNTER_NAMES, host.transport.counters),
    },
  };
}
