/** A replica's metrics: its status report in Prometheus' terms. docs/reference/metrics.md is generated from it. */
import {
  byLabel,
  counter,
  gauge,
  METRIC_PREFIX,
  type Family,
  type HistogramSample,
  type Sample,
} from '../metrics/exposition.js';
import type { BucketSnapshot } from '../protocol/bucket-counts.js';
import { COUNTER_NAMES, isRejected, rejectedByReason, type CounterName } from '../protocol/counters.js';
import type { MembershipReport } from '../host/membership-report.js';
import {
  idOfEntry,
  REPORTED_STATUS_NAMES,
  spokenIn,
  type PeerReport,
  type ReplicaStatusReport,
} from '../host/status.js';

const MICROSECONDS = 1e6;
const NANOSECONDS = 1e9;

/** The help of core counters that are a metric of their own, named as they are. All others are values of `jitpaxos_core_events_total`. */
const COUNTER_HELP: Partial<Record<CounterName, string>> = {
  requests: 'Requests received from clients, including repeats',
  reads: 'Quorum reads received',
  requests_duplicate: 'Repeated requests that were already known and answered again',
  requests_held: 'Requests held back until their timestamp was due',
  requests_apart:
    "Requests of owners that are out of step: they waited at a member for the primary's order, or at the primary for its next batch",
  entries_appended: 'Entries appended to the log, from clients or replicas',
  entries_committed:
    'Entries committed while this replica was the primary; the sum over all replicas is what the cluster committed',
  entries_executed: 'Operations executed, including those rolled back later',
  entries_fetched: 'Entries that came from another replica, not from a client',
  entries_cut: 'Entries cut from the log because the primary has other entries there',
  repairs: "Times this member's log differed from the primary's and it fetched the primary's entries",
  reconciles: 'Reconciles received: requests of clients to make an entry agree with the primary',
  view_changes_started: 'View changes asked for by this replica',
  views_installed: 'Views this replica took part in',
  suspicions: 'Times this replica suspected another of having failed',
  snapshots_taken: 'Snapshots taken of the state machine',
  snapshots_installed: 'Snapshots installed from another replica',
  registers_refused: 'New sessions refused as busy because their owner registered too many in a short time',
  sessions_evicted: 'Client sessions evicted to make room for others',
  members_asked:
    'Times this replica asked who the members are: it heard of an epoch or a host that it does not know, or too few known voters answered',
};

export interface MetricsSource {
  readonly report: ReplicaStatusReport;
  readonly arrivalSlackUs: BucketSnapshot;
  /** Undefined in durability `memory`. */
  readonly disk: { readonly writeUs: BucketSnapshot; readonly syncUs: BucketSnapshot } | undefined;
  /** Resident memory of the process. */
  readonly residentBytes: number;
}

export function replicaMetrics({ report, arrivalSlackUs, disk, residentBytes }: MetricsSource): Family[] {
  const { counters, clock, eventLoop, cpuSeconds, transport, status } = report;
  const name = (rest: string): string => METRIC_PREFIX + rest;
  const count = (rest: string, help: string, value: number | readonly Sample[]): Family =>
    counter(name(rest), help, value);
  const level = (rest: string, help: string, value: number | readonly Sample[]): Family =>
    gauge(name(rest), help, value);
  return [
    level('build_info', 'Always 1; the labels describe the running replica', [
      {
        labels: {
          version: report.version,
          node: process.versions.node,
          transport: transport.kind,
          durability: report.durability,
          clock: clock.source,
        },
        value: 1,
      },
    ]),
    level('up_seconds', 'Time since the replica was started', report.uptimeSeconds),
    level('view', 'View that this replica is in', report.view),
    level(
      'is_primary',
      'Whether this replica is the primary of a running view (1 or 0)',
      status === 'normal' && report.primary === report.id ? 1 : 0,
    ),
    level(
      'is_member',
      'Whether this replica is in the quorum of its running view, as the primary always is (1 or 0)',
      status === 'normal' && report.members.includes(report.id) ? 1 : 0,
    ),
    level(
      'status',
      'Status of the replica: 1 for the current one, 0 for the others',
      byLabel('status', Object.fromEntries(REPORTED_STATUS_NAMES.map((each) => [each, each === status ? 1 : 0]))),
    ),
    level(
      'replicas_diverged',
      'Replicas that differ from this one in committed entries (log), in the state after them (state), or in limits',
      byLabel('in', {
        log: report.diverged?.log.length ?? 0,
        state: report.diverged?.state.length ?? 0,
        limits: report.diverged?.limits.length ?? 0,
      }),
    ),
    level(
      'replicas_set_up_otherwise',
      'Replicas that were started with another chain than this one (key file, or chain in the cluster file), or with another list of replicas in the cluster file',
      byLabel('in', {
        chain: report.chain?.differs?.length ?? 0,
        cluster_file: report.clusterFileDiffers?.length ?? 0,
      }),
    ),
    ...memberMetrics(report),
    level('incarnation', 'How often this replica was started', report.incarnation),
    level('log_base_index', 'Last index that only a snapshot covers', report.baseIndex),
    level('log_last_index', 'Last index of the log', report.lastIndex),
    level(
      'log_synced_index',
      'Last index known to be the same as at the primary; at the primary, its last index',
      report.syncedIndex,
    ),
    level(
      'log_committed_index',
      'Last index known to be committed. It returns to 0 when the log is lost and jumps when a log is fetched; for a rate, use entries_committed_total',
      report.committedIndex,
    ),
    level('log_executed_index', 'Last index executed', report.executedIndex),
    level(
      'log_ahead_of_clock_seconds',
      "How far the timestamp of the last entry is ahead of this replica's clock, or 0; absent if the clock cannot be read",
      report.logAheadNs === undefined ? [] : [{ value: report.logAheadNs / NANOSECONDS }],
    ),
    count('requests_rejected_total', 'Requests not appended, by reason', byLabel('reason', rejectedByReason(counters))),
    ...COUNTER_NAMES.flatMap((key) => {
      const help = COUNTER_HELP[key];
      return help === undefined ? [] : [count(`${key}_total`, help, counters[key] ?? 0)];
    }),
    count(
      'core_events_total',
      'Rarer events of the protocol core, by name',
      byLabel(
        'event',
        Object.fromEntries(Object.entries(counters).filter(([key]) => !(key in COUNTER_HELP) && !isRejected(key))),
      ),
    ),
    {
      name: name('arrival_slack_seconds'),
      kind: 'histogram',
      help: "This replica's clock at the arrival of a request, minus its timestamp; negative: the client's clock is ahead",
      samples: [inSeconds(arrivalSlackUs)],
    },
    {
      name: name('log_write_seconds'),
      kind: 'histogram',
      help: 'Time to write a frame of the log: with durability fsync, until it is durable; with os, until the system has it; absent with memory',
      samples: disk === undefined ? [] : [inSeconds(disk.writeUs)],
    },
    {
      name: name('disk_sync_seconds'),
      kind: 'histogram',
      help: 'Time to sync a file or the data directory: hard state, segments, snapshots; absent with durability memory',
      samples: disk === undefined ? [] : [inSeconds(disk.syncUs)],
    },
    ...clockMetrics(clock),
    ...replicaClockMetrics(report),
    ...transportMetrics(transport.counters),
    counter(
      `${METRIC_PREFIX}kernel_datagrams_dropped_total`,
      'Datagrams that the kernel dropped at sockets of this replica, for want of room or because they are not of this cluster; absent where it does not say',
      transport.kernelDrops === undefined || transport.kernelDrops === null ? [] : [{ value: transport.kernelDrops }],
    ),
    level('wire_version', 'Newest version of the wire that this replica speaks', spokenIn(report)),
    level(
      'wire_version_written',
      'Version of the wire in which this replica writes to another, by replica',
      byLabel(
        'replica',
        Object.fromEntries((report.wire ?? []).map((version, entry) => [String(idOfEntry(report, entry)), version])),
      ),
    ),
    level(
      'wire_version_heard',
      'Newest version of the wire that another replica says it speaks, by replica; absent for one that was not heard since the start',
      peerSamples(report, ({ speaks }) => speaks),
    ),
    level(
      'wire_encrypted',
      'Whether what this replica sends to another is encrypted (1 or 0), by replica; absent for one that was not heard since the start',
      peerSamples(report, ({ encrypted }) => (encrypted === null ? null : Number(encrypted))),
    ),
    count(
      'datagrams_previous_version_total',
      'Datagrams read that were written in the previous version of the wire, by their sender',
      byLabel('from', { replica: report.previousVersion?.replicas ?? 0, client: report.previousVersion?.clients ?? 0 }),
    ),
    level(
      'keys_loaded',
      'Keys that this replica has loaded; absent in a cluster without keys',
      report.keys === undefined || report.keys === null ? [] : [{ value: report.keys.loaded.length }],
    ),
    count('datagrams_dropped_total', 'Datagrams refused, by reason', byLabel('reason', report.drops)),
    count(
      'datagrams_forged_total',
      'Datagrams refused because they were not authentic under the key that they named, by the id of that key',
      byLabel('key', report.forgedByKey ?? {}),
    ),
    count('messages_unsent_total', 'Messages not sent because there was no room for them', report.outboxDropped),
    level(
      'loop_stall_seconds',
      'Longest time that something blocked the event loop since the start',
      eventLoop.stallMaxUs / MICROSECONDS,
    ),
    count('loop_stalls_total', 'Times that something blocked the event loop for more than 10 ms', eventLoop.stalls),
    count('cpu_seconds_total', 'Processor time of the process, by mode', byLabel('mode', { ...cpuSeconds })),
    level('resident_memory_bytes', 'Memory of the process', residentBytes),
    count(
      'status_requests_total',
      'Status questions received over the network, by outcome',
      byLabel('outcome', { ...report.statusRequests }),
    ),
    count(
      'members_requests_total',
      'Questions for the list of members received over the network, by outcome',
      byLabel('outcome', { ...report.membersRequests }),
    ),
    count(
      'times_requests_total',
      'Questions for the times of a message received over the network, by outcome',
      byLabel('outcome', { ...report.timesRequests }),
    ),
    ...watchMetrics(report),
    ...leaseMetrics(report),
  ];
}

function watchMetrics({ watches }: ReplicaStatusReport): Family[] {
  if (watches === undefined) return [];
  const { open, told, refused, behind, forgotten } = watches;
  return [
    gauge(`${METRIC_PREFIX}watches`, 'Watches that are open', open),
    counter(`${METRIC_PREFIX}watch_changes_total`, 'Changes told to watches', told),
    counter(
      `${METRIC_PREFIX}watches_ended_total`,
      'Watches that were refused or ended: behind, because their changes were no longer kept; forgotten, because their client was silent; refused, for another reason',
      byLabel('reason', { behind, forgotten, refused: refused - behind }),
    ),
  ];
}

/** Of the entries that this replica has executed; those that it executed again count again. */
function leaseMetrics({ leases }: ReplicaStatusReport): Family[] {
  const sample = (of: (figures: NonNullable<typeof leases>) => number): Sample[] =>
    leases === undefined ? [] : [{ value: of(leases) }];
  return [
    gauge(
      `${METRIC_PREFIX}leases`,
      "Leases that are there in this replica's store; absent, as what follows, if it has none (feature store)",
      sample(({ held }) => held),
    ),
    counter(
      `${METRIC_PREFIX}leases_granted_total`,
      'Leases granted',
      sample(({ granted }) => granted),
    ),
    counter(
      `${METRIC_PREFIX}leases_renewed_total`,
      'Renewals of leases',
      sample(({ renewed }) => renewed),
    ),
    counter(
      `${METRIC_PREFIX}leases_ended_total`,
      'Leases that ended, because nobody renewed them in time or because they were revoked',
      sample(({ ended }) => ended),
    ),
    counter(
      `${METRIC_PREFIX}leases_revoked_total`,
      'Leases revoked, as a holder does that releases',
      sample(({ revoked }) => revoked),
    ),
  ];
}

/** A replica that does not know who the members are has none of these. */
function memberMetrics({ membership, drops }: ReplicaStatusReport): Family[] {
  const level = (
    name: string,
    help: string,
    value: ((known: MembershipReport) => number) | readonly Sample[],
  ): Family =>
    gauge(
      METRIC_PREFIX + name,
      help,
      typeof value !== 'function' ? value : membership === undefined ? [] : [{ value: value(membership) }],
    );
  return [
    level('epoch', 'Epoch of the members that is in force, as far as this replica knows', ({ epoch }) => epoch),
    level(
      'epoch_decided',
      'Epoch of the members that is decided: higher than the one in force while a change is open',
      ({ decided }) => decided,
    ),
    level(
      'voters',
      'Voters of the epoch in force, as far as this replica knows',
      ({ hosts }) => hosts.filter(({ votes }) => votes).length,
    ),
    level(
      'learners',
      'Hosts that are listed and do not vote in the epoch in force, as far as this replica knows',
      ({ hosts }) => hosts.filter(({ votes }) => !votes).length,
    ),
    level(
      'learner_lag_entries',
      "Entries of the primary's log that a learner is not known to have; only at a primary, absent for a learner that has confirmed nothing in its view",
      Object.entries(membership?.learnerLag ?? {}).flatMap(([replica, lag]) =>
        lag === null ? [] : [{ labels: { replica }, value: lag }],
      ),
    ),
    level(
      'change_open_seconds',
      'How long this replica has known of a change of the members that is open; 0: none is open, as far as it knows. A restart begins anew',
      ({ openSeconds }) => openSeconds ?? 0,
    ),
    counter(
      `${METRIC_PREFIX}unlisted_senders_total`,
      'Datagrams refused because they name a sender that is no member as far as this replica knows',
      drops['sender'] ?? 0,
    ),
  ];
}

/** A clock that knows its error reports it; others have no such sample, which differs from 0. */
function clockMetrics(clock: ReplicaStatusReport['clock']): Family[] {
  const sample = (value: number | undefined): Sample[] =>
    value !== undefined && Number.isFinite(value) ? [{ value: value / NANOSECONDS }] : [];
  const count = (value: number | undefined): Sample[] => (value === undefined ? [] : [{ value }]);
  return [
    gauge(
      `${METRIC_PREFIX}clock_healthy`,
      'Whether nothing speaks against the clock (1 or 0). Only a healthy clock is used to hold back early requests. A clock of unknown error counts as healthy, and its error bound is absent',
      clock.healthy === undefined ? [] : [{ value: clock.healthy ? 1 : 0 }],
    ),
    counter(
      `${METRIC_PREFIX}clock_changes_total`,
      'Changes of the status or health of the clock',
      count(clock.changes),
    ),
    counter(
      `${METRIC_PREFIX}clock_steps_total`,
      'Times that the hardware clock was set while in use',
      count(clock.steps),
    ),
    counter(
      `${METRIC_PREFIX}clock_fallbacks_total`,
      'Times that the hardware clock was lost and replaced by the system clock',
      count(clock.fallbacks),
    ),
    gauge(
      `${METRIC_PREFIX}clock_error_bound_seconds`,
      'Largest error of the clock that its source states; absent if it states none',
      sample(clock.errorBoundNs),
    ),
    gauge(
      `${METRIC_PREFIX}clock_offset_seconds`,
      'Last measured offset of the system clock from the clock in use; absent without a measurement',
      sample(clock.offsetNs),
    ),
  ];
}

/** Only a primary compares the replicas' clocks. */
function replicaClockMetrics(report: ReplicaStatusReport): Family[] {
  const { replicaClocks: clocks } = report;
  const of = (value: (offsetNs: number, replica: number) => number): Sample[] =>
    (clocks?.offsetsNs ?? []).flatMap((ns, entry) => {
      const replica = idOfEntry(report, entry);
      return ns === null ? [] : [{ labels: { replica: String(replica) }, value: value(ns, replica) }];
    });
  return [
    gauge(
      `${METRIC_PREFIX}replica_clock_offset_seconds`,
      "A replica's clock minus the primary's, from the answers to Syncs; only at a primary, absent for a replica that was not heard recently",
      of((ns) => ns / NANOSECONDS),
    ),
    gauge(
      `${METRIC_PREFIX}replica_clock_off`,
      "Whether a replica's clock differs so much from those of a majority that requests through it are slow (1 or 0); only at a primary, absent if no majority of the clocks agrees",
      clocks?.divided === true ? [] : of((_, replica) => (clocks!.off.includes(replica) ? 1 : 0)),
    ),
    gauge(
      `${METRIC_PREFIX}replica_clocks_divided`,
      "Whether no majority of the replicas' clocks agrees (1 or 0); only at a primary",
      clocks === undefined ? [] : [{ value: clocks.divided ? 1 : 0 }],
    ),
  ];
}

function transportMetrics(counters: Readonly<Record<string, number>>): Family[] {
  const directions = (unit: string): Sample[] =>
    byLabel('direction', { received: counters[`${unit}_received`] ?? 0, sent: counters[`${unit}_sent`] ?? 0 });
  const rest = Object.fromEntries(
    Object.entries(counters).filter(([key]) => !/^(datagrams|bytes)_(received|sent)$/.test(key)),
  );
  return [
    counter(`${METRIC_PREFIX}datagrams_total`, 'Datagrams, by direction', directions('datagrams')),
    counter(
      `${METRIC_PREFIX}datagram_bytes_total`,
      'Bytes of datagrams without IP and UDP headers, by direction',
      directions('bytes'),
    ),
    counter(
      `${METRIC_PREFIX}transport_events_total`,
      'Other events that the transport counts, by name',
      byLabel('event', rest),
    ),
  ];
}

function inSeconds({ bounds, counts, sum }: BucketSnapshot): HistogramSample {
  return { bounds: bounds.map((bound) => bound / MICROSECONDS), counts, sum: sum / MICROSECONDS };
}

/** One sample for each other replica of which it is known. */
function peerSamples(report: ReplicaStatusReport, measure: (peer: PeerReport) => number | null): readonly Sample[] {
  return (report.peers ?? []).flatMap((peer, entry) => {
    const value = peer === null ? null : measure(peer);
    return value === null ? [] : [{ labels: { replica: String(idOfEntry(report, entry)) }, value }];
  });
}
