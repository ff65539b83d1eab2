/** What a replica reports about itself to operators and tools. A snapshot: nothing in it changes later. */
import type { HostClockReport } from '../clock/host-clock.js';
import type { Configuration } from '../protocol/configuration.js';
import type { Log } from '../protocol/log/log.js';
import type { Hosts } from '../protocol/replica/hosts.js';
import { COUNTER_NAMES } from '../protocol/counters.js';
import type { ReplicaClocks } from '../protocol/replica/suspicion/replica-clocks.js';
import { TRANSPORT_COUNTER_NAMES } from '../transport/transport.js';
import { DROP_REASON_NAMES, ENCRYPTED_VERSION } from '../wire/envelope.js';
import { REPLICA_STATUS_NAMES } from '../wire/messages.js';
import { differenceU64, toHex } from '../wire/u64.js';
import type { DurableStorageStatus } from '../storage/durable-storage.js';
import type { Durability } from '../storage/durability.js';
import type { KeysReport } from './keyring.js';
import type { MembershipReport } from './membership-report.js';
import type { TurnLoop } from './turn-loop.js';

export const STATUS_SCHEMA = 'jitpaxos.status/1';

export interface ReplicaStatusReport {
  readonly schema: typeof STATUS_SCHEMA;
  readonly id: number;
  readonly cluster: string;
  /** Version of the package. */
  readonly version: string;
  readonly pid: number;
  readonly address: string;
  readonly port: number;
  /**
   * One of: normal; view-change; recovering; starting: its disk was empty, and it asks the others whether it is new;
   * majority-lost, which replaces any other: nothing commits, and waiting will not change that; stopped.
   */
  readonly status: string;
  /** The replicas that have lost their logs, if those are more than the cluster survives. Absent otherwise. */
  readonly majorityLost?: readonly number[];
  /**
   * Replicas that differ from this one in committed entries, in the state behind them, or in limits. Absent if it knows
   * of none.
   */
  readonly diverged?: DivergedReport;
  readonly view: number;
  readonly logView: number;
  /** The id of the primary of `view`. */
  readonly primary: number;
  /** The ids of the members of the quorum of `view`. */
  readonly members: readonly number[];
  readonly incarnation: number;
  /** Who the members of the cluster are, as far as this replica knows. Absent: an earlier version, which does not say. */
  readonly membership?: MembershipReport;
  /**
   * The identity of the data directory, sixteen hexadecimal digits; null if it is not durable yet, or there is no
   * directory. Absent: an earlier version.
   */
  readonly identity?: string | null;
  /** Entries up to here are covered by a snapshot. */
  readonly baseIndex: number;
  readonly lastIndex: number;
  /** The checksum of the whole log up to `lastIndex`, sixteen hexadecimal digits. */
  readonly lastChain: string;
  /** Up to here the log equals the primary's; at the primary itself its last index. */
  readonly syncedIndex: number;
  readonly committedIndex: number;
  readonly executedIndex: number;
  /**
   * How far the timestamp of the last entry is ahead of this replica's clock, ns; 0 if it is not ahead. Absent: an
   * earlier version, or an unreadable clock.
   */
  readonly logAheadNs?: number;
  /**
   * What chains the log; absent from a replica of an earlier version. `fingerprint`: eight hexadecimal digits that tell
   * secrets apart without revealing them. `differs`: replicas with a different fingerprint, if any; neither accepts the
   * other's messages.
   */
  readonly chain?: { readonly function: string; readonly fingerprint: string; readonly differs?: readonly number[] };
  /**
   * Replicas whose last message said that their cluster file lists another number of replicas, or other addresses.
   * Absent if there are none.
   */
  readonly clusterFileDiffers?: readonly number[];
  /**
   * Hosts as which two processes seem to speak at the same time: their data directories were copied and both copies run,
   * or someone replays recordings. Absent if this replica hears none. It can hear that only of datagrams that are
   * encrypted.
   */
  readonly twoLives?: readonly number[];
  /**
   * Changes of replicated behaviour by name: those that this replica knows, and those that are on behind `executedIndex`.
   * Absent from a replica of an earlier version, which knows none.
   */
  readonly features?: { readonly known: readonly string[]; readonly on: readonly string[] };
  readonly durability: Durability;
  /** State of the log on disk; null in durability `memory`. */
  readonly storage: DurableStorageStatus | null;
  readonly transport: {
    readonly kind: string;
    readonly idle: string;
    readonly counters: Readonly<Record<string, number>>;
    /** Whether the kernel refuses datagrams that are not of this cluster. Absent from a replica of an earlier version. */
    readonly filtered?: boolean;
    /** Datagrams that the kernel dropped at the sockets, for any reason. Null if it does not say. */
    readonly kernelDrops?: number | null;
  };
  /** A replica of an earlier version reports less. */
  readonly clock: Pick<HostClockReport, 'source' | 'epoch'> & Partial<HostClockReport>;
  /** The clocks of all replicas as a primary sees them. Absent at other replicas. */
  readonly replicaClocks?: ReplicaClocksReport;
  readonly counters: Readonly<Record<string, number>>;
  /**
   * The ids of the replicas to which the entries of `wire`, `peers` and `replicaClocks.offsetsNs` belong, ascending: those
   * that are listed, and this one. Absent: a replica of an earlier version, where an entry's place is the id.
   */
  readonly entriesOf?: readonly number[];
  /** By `entriesOf`: the wire version in which this replica writes; for itself, the newest that it speaks. */
  readonly wire: readonly number[];
  /**
   * By `entriesOf`: what this replica knows about the traffic to each of the others; null for itself. Absent: a replica
   * of an earlier version.
   */
  readonly peers?: readonly (PeerReport | null)[];
  /** Datagrams read that were written in the previous wire version. Absent: a replica of an earlier version. */
  readonly previousVersion?: { readonly replicas: number; readonly clients: number };
  /** The keys that are loaded; null in a cluster without keys. Absent: a replica of an earlier version. */
  readonly keys?: KeysReport | null;
  /** Datagrams dropped, by reason. */
  readonly drops: Readonly<Record<string, number>>;
  /**
   * Of those with the reason `checksum`: how many named which loaded key, by its id; the 64 keys with most.
   * Null in a cluster without keys. Absent: a replica of an earlier version.
   */
  readonly forgedByKey?: Readonly<Record<string, number>> | null;
  /** Messages for which the outbox had no room. */
  readonly outboxDropped: number;
  /** Requests for this report over the network: answered, and refused because too many came. */
  readonly statusRequests: { readonly answered: number; readonly refused: number };
  /** Questions for the list of members over the network, likewise. Absent: a replica of an earlier version. */
  readonly membersRequests?: { readonly answered: number; readonly refused: number };
  /** Questions for the times of a message over the network, likewise. Absent: a replica of an earlier version. */
  readonly timesRequests?: { readonly answered: number; readonly refused: number };
  /**
   * Watches that are open; changes that were told to them, and times that one was refused or ended, since the process
   * started: `behind` because its changes were no longer there, `forgotten` because its client was silent. Absent: a
   * replica of an earlier version.
   */
  readonly watches?: {
    readonly open: number;
    readonly told: number;
    readonly refused: number;
    readonly behind: number;
    readonly forgotten: number;
  };
  /**
   * The store's leases: those that are there, and what was done to leases by the entries that this replica has executed
   * since its process started, also by those that it executed again. `ended` has those that were `revoked`, too. Absent:
   * a machine without leases, the feature `store` is off, or a replica of an earlier version.
   */
  readonly leases?: {
    readonly held: number;
    readonly granted: number;
    readonly renewed: number;
    readonly ended: number;
    readonly revoked: number;
  };
  /** CPU time of the whole process. */
  readonly cpuSeconds: { readonly user: number; readonly system: number };
  readonly eventLoop: { readonly stalls: number; readonly stallMaxUs: number };
  readonly uptimeSeconds: number;
}

/** The traffic from one replica to another. */
export interface PeerReport {
  /** The newest wire version that the other says it speaks; null: it was not heard since this replica started. */
  readonly speaks: number | null;
  /** Whether what is sent to it is encrypted; null: it was not heard since this replica started. */
  readonly encrypted: boolean | null;
}

export interface ReplicaClocksReport {
  /** By `entriesOf` of the report: the replica's clock minus the primary's, ns; null if it was not heard recently. */
  readonly offsetsNs: readonly (number | null)[];
  /** Replicas whose clocks differ from those of a majority. */
  readonly off: readonly number[];
  /** No majority of the clocks agrees: it cannot be told which are off. */
  readonly divided: boolean;
  /** A sentence about the replicas' clocks; empty if nothing is wrong. */
  readonly says: string;
}

/** A replica that a report has entries of, and its place in masks and tables. */
export interface Entry {
  readonly id: number;
  readonly slot: number;
}

/** In the order of their ids. @param hosts those that are listed @param self the reporting replica, listed or not */
export function entriesOf(hosts: readonly Entry[], self: Entry): readonly Entry[] {
  return hosts.some(({ id }) => id === self.id) ? hosts : [...hosts, self].sort((a, b) => a.id - b.id);
}

/** The id of the replica of an entry of `wire`, `peers` or `offsetsNs`. */
export function idOfEntry({ entriesOf: ids }: Pick<ReplicaStatusReport, 'entriesOf'>, entry: number): number {
  return ids?.[entry] ?? entry;
}

export function clocksReport(
  clocks: ReplicaClocks,
  entries: readonly Entry[],
  names: Pick<Hosts, 'idOf' | 'idsOf'>,
): ReplicaClocksReport {
  const offsetNs = (replica: number): number | null => {
    const us = clocks.offsetUs(replica);
    return Number.isNaN(us) ? null : Math.round(us * 1000);
  };
  return {
    offsetsNs: entries.map(({ slot }) => offsetNs(slot)),
    off: names.idsOf(clocks.off),
    divided: clocks.divided,
    says: clocks.off !== 0 || clocks.divided ? clocks.describe(names) : '',
  };
}

/** Hosts that were added later, and are not in the cluster file, speak this version at least. */
const MEMBERS_VERSION = 5;

/** The newest wire version that the reporting replica speaks. */
export function spokenIn({ id, wire, entriesOf: ids }: Pick<ReplicaStatusReport, 'id' | 'wire' | 'entriesOf'>): number {
  return wire[ids === undefined ? id : ids.indexOf(id)] ?? MEMBERS_VERSION;
}

export interface DivergedReport {
  readonly log: readonly number[];
  readonly state: readonly number[];
  readonly limits: readonly number[];
}

/** `log`, `states`, `limits`: sets of slots. */
export function divergedReport(
  {
    log,
    states,
    limits,
  }: {
    readonly log: number;
    readonly states: number;
    readonly limits: number;
  },
  hosts: Pick<Hosts, 'idsOf'>,
): { readonly diverged?: DivergedReport } {
  if ((log | states | limits) === 0) return {};
  return { diverged: { log: hosts.idsOf(log), state: hosts.idsOf(states), limits: hosts.idsOf(limits) } };
}

/** The part of a core's state that a report needs. */
export interface ReportedState {
  readonly view: number;
  readonly logView: number;
  readonly status: number;
  readonly incarnation: number;
  readonly log: Pick<Log, 'baseIndex' | 'lastIndex' | 'chainHi' | 'chainLo'>;
  readonly isPrimary: boolean;
  /** The epoch of the view. Replicas are known by their slots in it, and reported by their ids. */
  readonly configuration: Pick<Configuration, 'n' | 'primary' | 'memberMask' | 'idsOf'>;
  readonly synced: number;
  readonly committed: number;
  readonly executed: number;
  /** See ReplicaState. */
  readonly lostLogs: number;
  readonly starting: boolean;
}

/** Replaces the protocol's status of a replica that knows that more logs are lost than the cluster survives. */
const MAJORITY_LOST = 'majority-lost';
/** The status of a replica whose disk was empty and that asks the others whether it is new. */
const STARTING = 'starting';
/** All values of a report's `status`. */
export const REPORTED_STATUS_NAMES: readonly string[] = [...REPLICA_STATUS_NAMES, STARTING, MAJORITY_LOST, 'stopped'];

/** What happened and what can be done, in words. `lost`: the replicas that lost their logs, of `replicas` that vote. */
export function majorityLostText(lost: readonly number[], replicas: number): string {
  const f = Math.floor((replicas - 1) / 2);
  return (
    `majority-lost: replica${lost.length === 1 ? '' : 's'} ${lost.join(', ')} lost ${lost.length === 1 ? 'its log' : 'their logs'}, ${lost.length} of ${replicas}, and this cluster survives ${f}. Nothing commits, and waiting does not help: committed operations may be missing from every log that is left. ` +
    'If a replica with a log is only out of reach, bring it back without restarting it. Otherwise begin a new cluster, from what jitpaxos recover finds in the data directories, or from a backup: docs/operate/recovery.md'
  );
}

export function protocolReport(state: ReportedState, running: boolean) {
  const { log, configuration, view } = state;
  return {
    status: !running
      ? 'stopped'
      : state.lostLogs !== 0
        ? MAJORITY_LOST
        : state.starting
          ? STARTING
          : (REPLICA_STATUS_NAMES[state.status] ?? `status-${state.status}`),
    ...(state.lostLogs === 0 ? {} : { majorityLost: configuration.idsOf(state.lostLogs) }),
    view,
    logView: state.logView,
    primary: configuration.idsOf(1 << configuration.primary(view))[0] ?? -1, // an epoch that is over has none
    members: configuration.idsOf(configuration.memberMask(view)),
    incarnation: state.incarnation,
    baseIndex: log.baseIndex,
    lastIndex: log.lastIndex,
    lastChain: toHex(log.chainHi(log.lastIndex), log.chainLo(log.lastIndex)),
    syncedIndex: state.isPrimary ? log.lastIndex : state.synced,
    committedIndex: state.committed,
    executedIndex: state.executed,
  };
}

/** See ReplicaStatusReport; `clock`: the two halves of a reading. */
export function logAheadNs(log: Pick<Log, 'lastIndex' | 'timestampHi' | 'timestampLo'>, clock: Int32Array): number {
  return Math.max(
    0,
    differenceU64(log.timestampHi(log.lastIndex), log.timestampLo(log.lastIndex), clock[0]!, clock[1]!),
  );
}

function peerReport(peers: TurnLoop['peers'], keyed: boolean, slot: number): PeerReport {
  const speaks = peers.spokenBy(slot);
  if (speaks === 0) return { speaks: null, encrypted: null };
  return { speaks, encrypted: keyed && peers.writtenTo(slot) >= ENCRYPTED_VERSION };
}

/** Null: the kernel, or the transport, does not say. */
function knownDrops(drops: number): number | null {
  return drops < 0 ? null : drops;
}

/** @param self id of the reporting replica */
export function loopReport(loop: TurnLoop, entries: readonly Entry[], self: number, keys: KeysReport | undefined) {
  return {
    keys: keys ?? null,
    entriesOf: entries.map(({ id }) => id),
    peers: entries.map(({ id, slot }) => (id === self ? null : peerReport(loop.peers, keys !== undefined, slot))),
    previousVersion: { replicas: loop.reader.previous[0]!, clients: loop.reader.previous[1]! },
    wire: entries.map(({ id, slot }) => (id === self ? loop.peers.newest : loop.peers.writtenTo(slot))),
    transport: {
      kind: loop.transport.kind,
      idle: loop.transport.idle,
      counters: named(TRANSPORT_COUNTER_NAMES, loop.transport.counters),
      filtered: loop.transport.isFiltered(),
      kernelDrops: knownDrops(loop.transport.kernelDrops()),
    },
    drops: dropsReport(loop.reader.drops),
    forgedByKey: loop.forgedByKey(),
    outboxDropped: loop.outbox.dropped,
    eventLoop: { stalls: loop.timer.stalls, stallMaxUs: Math.round(loop.timer.stallMaxUs) },
  };
}

export function coreCounters(counters: Float64Array): Record<string, number> {
  return named(COUNTER_NAMES, counters);
}

/** Drop counts by reason; index 0 of DROP_REASON_NAMES is not a reason. */
export function dropsReport(drops: Float64Array): Record<string, number> {
  return named(DROP_REASON_NAMES.slice(1), drops.subarray(1));
}

export function named(names: readonly string[], values: Float64Array): Record<string, number> {
  return Object.fromEntries(names.map((name, index) => [name, values[index]!]));
}
