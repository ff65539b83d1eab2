/**
 * Counters of the cores: one Float64Array each, because a number kept elsewhere becomes a heap object with every write
 * once it exceeds 31 bits. A host reads them whenever it likes.
 */

/** Replica: names by index. */
export const COUNTER_NAMES = [
  'requests',
  'appended',
  'committed',
  'executed',
  'duplicates',
  'restamped',
  'rejected_late',
  'rejected_too_far_ahead',
  'rejected_wrong_view',
  'rejected_busy',
  'rejected_not_in_quorum',
  'rejected_session_unknown',
  'rejected_bad_request',
  'ignored',
  'held',
  'reads',
  'reconciles',
  'repairs',
  'entries_cut',
  'entries_kept',
  'entries_fetched',
  'entries_ordered',
  'orders_pushed',
  'orders_refused',
  'syncs',
  'fetches_answered',
  'view_changes_started',
  'views_installed',
  'rollbacks',
  'snapshots_taken',
  'snapshots_installed',
  'sessions_evicted',
  'suspicions',
  'false_suspicions',
  'unreachable',
  'contradicted',
  'states_agreed',
  'states_differed',
  'outbox_full',
] as const;

export type CounterName = (typeof COUNTER_NAMES)[number];

/** Index of each counter: `counters[Counter.appended]`. */
export const Counter = Object.freeze(Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index]))) as Readonly<
  Record<CounterName, number>
>;

/** Client: names by index. */
export const CLIENT_COUNTER_NAMES = [
  'submitted',
  'committed',
  'committed_fast',
  'committed_ordered',
  'reads',
  'reads_fast',
  'rejected_late',
  'rejected_too_far_ahead',
  'rejected_wrong_view',
  'rejected_busy',
  'rejected_not_in_quorum',
  'rejected_session_unknown',
  'rejected_bad_request',
  'restamped',
  'reconciled',
  'retransmitted',
  'probes',
  'pleas',
  'unreachable',
  'unknown',
  'refused',
  'session_lost',
  'view_changes',
] as const;

export type ClientCounterName = (typeof CLIENT_COUNTER_NAMES)[number];

export const ClientCounter = Object.freeze(
  Object.fromEntries(CLIENT_COUNTER_NAMES.map((name, index) => [name, index])),
) as Readonly<Record<ClientCounterName, number>>;
