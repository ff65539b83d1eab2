/**
 * The options of a replica, and what is refused. Options that belong to one part, such as the clock or the transport, are
 * checked by that part.
 */
import { JitPaxosError } from '../errors.js';
import type { KeyFile } from '../host/key-file.js';
import type { Logger } from '../host/logger.js';
import { hostAndPortOf, type ClusterConfig } from '../host/cluster-config.js';
import { addressFault } from '../host/replica-address.js';
import { checkInteger, checkKeys, optionNames, show } from '../host/options.js';
import type { TransportKind } from '../host/transport-choice.js';
import type { StateMachine } from '../machine/state-machine.js';
import { DEFAULT_TIMINGS, LATE_RULES, type LateRule, type Limits, type Timings } from '../protocol/config.js';
import type { Durability } from '../storage/durability.js';
import type { IdleStrategy } from '../transport/transport.js';
import { checkDurability, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN } from './storage-choice.js';

export interface ReplicaOptions {
  /** Path of the cluster file, or its content. */
  readonly cluster: string | ClusterConfig;
  /**
   * The key file's path, or its content, in a cluster with keys. Default: `replica.keys` beside the cluster file,
   * `NAME.replica.keys` beside a file called NAME.json.
   */
  readonly keys?: string | KeyFile;
  /** Index of this replica in the cluster file's `replicas`. */
  readonly id: number;
  /** What the cluster replicates: the same machine with the same options on every replica, in its initial state. */
  readonly machine: StateMachine;
  /**
   * Data directory, created if missing; one for each replica. Without it the replica's promises are forgotten with the
   * process: it must then never be started again in the same cluster while that is in use. Omit it only in tests and
   * benches.
   */
  readonly data?: string;
  /**
   * What is on disk when an operation is acknowledged. `os` (default with `data`): the log is written; it survives the
   * process. `fsync`: the log is synced; it survives the host. `memory` (default without `data`): only the promises;
   * the log is kept by being on several hosts, and is lost when more than f replicas stop at once. See
   * docs/operate/durability.md.
   */
  readonly durability?: Durability;
  /**
   * Size of a segment of the log on disk, bytes, 64 KiB to 1 GiB; two of them are allocated from the start. Default 16
   * MiB.
   */
  readonly segmentBytes?: number;
  /**
   * The operator's statement that this replica was in use and its data on disk is lost, so that its data directory is
   * empty. Without it such a replica stops as soon as another one remembers it (`promises-forgotten`). With it, the
   * replica takes part as one that lost its log, as soon as f + 1 others answer. No effect if the directory knows the
   * replica. Default false.
   */
  readonly logLost?: boolean;
  /**
   * `HOST:PORT`, where this replica listens if that is not where the members list it: its data directory has moved.
   * `jitpaxos member move` then lists it there. Default: its listed address.
   */
  readonly listen?: string;
  /** Default `auto`: native if the addon is available, otherwise dgram. */
  readonly transport?: TransportKind;
  /** How the native transport waits. Default `adaptive`. */
  readonly idle?: IdleStrategy | undefined;
  /**
   * Longest datagram, unless a single operation or result is longer. Default: the cluster file's value, else 1,432;
   * 8,932 if all replicas are on loopback.
   */
  readonly datagramBytes?: number | undefined;
  /**
   * The newest wire version that this replica speaks. Default: the newest that it knows. The previous version holds it
   * back while a cluster is being upgraded. See docs/operate/operations.md.
   */
  readonly wireVersion?: number | undefined;
  /** See openClock. Default `auto`. */
  readonly clock?: string;
  /** Default: warnings and errors to stderr. */
  readonly logger?: Logger;
  /** Limits that differ from the cluster file's. The same on all replicas. */
  readonly limits?: Partial<Limits>;
  /** Timings that differ from DEFAULT_TIMINGS. */
  readonly timings?: Partial<Timings>;
  /** What a primary does with a late request. The same on all replicas. Default `restamp`. */
  readonly late?: LateRule;
}

const OPTION_NAMES = optionNames<ReplicaOptions>({
  cluster: true,
  keys: true,
  id: true,
  machine: true,
  data: true,
  durability: true,
  segmentBytes: true,
  logLost: true,
  listen: true,
  transport: true,
  idle: true,
  datagramBytes: true,
  wireVersion: true,
  clock: true,
  logger: true,
  limits: true,
  timings: true,
  late: true,
});

/** Throws JitPaxosError `option-invalid`. */
export function checkOptions(options: ReplicaOptions): void {
  checkKeys('option-invalid', 'Replica.start', options, OPTION_NAMES);
  const { machine, durability, data, late } = options as {
    machine: unknown;
    durability: unknown;
    data: unknown;
    late: unknown;
  };
  for (const method of ['apply', 'query', 'snapshot', 'restore'] as const) {
    if (typeof (machine as StateMachine | undefined)?.[method] !== 'function') {
      throw new JitPaxosError(
        'option-invalid',
        `Replica.start: machine has no method "${method}"; it has to be a StateMachine, such as new KvMachine()`,
      );
    }
  }
  checkDurability(durability, data);
  if (options.logLost !== undefined && typeof options.logLost !== 'boolean')
    throw new JitPaxosError(
      'option-invalid',
      `Replica.start: logLost is ${show(options.logLost)}; it has to be true or false`,
    );
  if (options.listen !== undefined && !isAddress(options.listen))
    throw new JitPaxosError(
      'option-invalid',
      `Replica.start: listen is ${show(options.listen)}; it has to be "HOST:PORT", an IPv6 address in brackets, at which the other hosts reach this one`,
    );
  if (options.segmentBytes !== undefined)
    checkInteger(
      'option-invalid',
      'Replica.start: segmentBytes',
      options.segmentBytes,
      SEGMENT_BYTES_MIN,
      SEGMENT_BYTES_MAX,
    );
  if (late !== undefined && !LATE_RULES.includes(late as LateRule))
    throw new JitPaxosError(
      'option-invalid',
      `Replica.start: late is ${show(late)}; it has to be one of ${LATE_RULES.join(', ')}`,
    );
  if (data !== undefined && (typeof data !== 'string' || data === ''))
    throw new JitPaxosError(
      'option-invalid',
      `Replica.start: data is ${show(data)}; it has to be the path of a directory`,
    );
}

function isAddress(listen: unknown): boolean {
  const at = typeof listen === 'string' ? hostAndPortOf(listen) : undefined;
  return at !== undefined && addressFault(at.host) === undefined;
}

/** The defaults with what differs from them. Throws JitPaxosError `option-invalid`. */
export function mergeTimings(overrides: Partial<Timings> | undefined): Timings {
  if (overrides === undefined) return DEFAULT_TIMINGS;
  checkKeys('option-invalid', 'Replica.start: timings', overrides, Object.keys(DEFAULT_TIMINGS));
  for (const [name, value] of Object.entries(overrides)) {
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0)
      throw new JitPaxosError(
        'option-invalid',
        `Replica.start: timings.${name} is ${show(value)}; it has to be a number from 0 on`,
      );
  }
  return { ...DEFAULT_TIMINGS, ...overrides };
}
