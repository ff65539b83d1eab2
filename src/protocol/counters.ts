/**
 * Counters of the cores: one Float64Array each, because a number kept elsewhere becomes a heap object with every write
 * once it exceeds 31 bits. A host reads them whenever it likes.
 *
 * The metric of a counter has its name: `entries_appended` is `jitpaxos_entries_appended_total`, a client's `reconciled` is
 * `jitpaxos_client_reconciled_total`. Counters that begin with `rejected_` are one metric, with the reason as its label.
 */
import { REJECT_REASON_NAMES, type RejectReason } from '../wire/messages.js';

const REJECTED = 'rejected_';

/** `tooFarAhead` → `too_far_ahead`, as a type. */
type Snake<S extends string> = S extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `_${Lowercase<First>}`}${Snake<Rest>}`
  : '';
type RejectedName = `${typeof REJECTED}${Snake<keyof typeof RejectReason>}`;

/** A counter for each reason to reject, in the order of their codes. */
const REJECTED_NAMES = REJECT_REASON_NAMES.slice(1).map(
  (reason) => REJECTED + reason.replaceAll('-', '_'),
) as readonly RejectedName[];

/** Replica: names by index. */
export const COUNTER_NAMES = [
  'requests',
  'entries_appended',
  'entries_committed',
  'entries_executed',
  'requests_duplicate',
  'restamped',
  ...REJECTED_NAMES,
  'registers_refused',
  'ignored',
  'requests_held',
  'requests_apart',
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
  'members_asked',
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
  'waited',
  'commits',
  'commits_fast',
  'commits_ordered',
  'commits_reconciled',
  'reads',
  'reads_fast',
  ...REJECTED_NAMES,
  'rejected_unknown',
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

/** Index of the replica's counter of each reason to reject, by its code. */
export const REJECT_COUNTERS: Int32Array = Int32Array.from([-1, ...REJECTED_NAMES.map((name) => Counter[name])]);

/** Index of the client's counter of each byte that may stand for a reason; one that is in no table is counted as unknown. */
export const CLIENT_REJECT_COUNTERS: Int32Array = Int32Array.from({ length: 256 }, (_, code) => {
  const name = code === 0 ? undefined : REJECTED_NAMES[code - 1];
  return name === undefined ? ClientCounter.rejected_unknown : ClientCounter[name];
});

export function isRejected(counter: string): boolean {
  return counter.startsWith(REJECTED);
}

/** The counters of rejects by the words for their reasons: `too-far-ahead`. */
export function rejectedByReason(counters: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counters)
      .filter(([name]) => isRejected(name))
      .map(([name, value]) => [name.slice(REJECTED.length).replaceAll('_', '-'), value]),
  );
}
