/**
 * Messages between a bench and the processes that it forked, over Node's IPC channel (JSON). A replica answers
 * questions and otherwise knows nothing about benches; a worker gets a workload and reports what it measured.
 */
import type { HistogramData } from '../../metrics/histogram.js';
import type { HeapUse } from '../../metrics/heap-meter.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import type { KeyDistribution } from './keys.js';
import type { SecondBase, TaggedSecond } from './wall-seconds.js';

/** Parent → replica. `meter-start` begins a new measurement of heap use; `meter-stop` ends it. */
export interface ReplicaQuestion {
  readonly ask: 'stats' | 'meter-start' | 'meter-stop';
  readonly id: number;
}

/** Replica → parent, one for each question, with its `id`. */
export interface ReplicaAnswer {
  readonly id: number;
  /** The result of `Replica.status()`. */
  readonly status: Readonly<Record<string, unknown>>;
  /** Processor time of the process since it started, user and system, in seconds. */
  readonly cpuSeconds: number;
  /** Answers `meter-stop`. */
  readonly heap: HeapUse | null;
}

/** A replica's clock minus the client's, ns, with the uncertainty; null: not heard recently. */
export interface ClockOffset {
  readonly offsetNs: number | null;
  readonly uncertaintyNs: number | null;
}

/** Shares of the operations, adding up to 1; names of OPERATION_NAMES in operations.ts. */
export type Mix = Readonly<Record<string, number>>;

export interface Workload {
  readonly machine: 'echo' | 'kv';
  /** Operations open at a time. */
  readonly lanes: number;
  readonly warmup: number;
  /** Measured operations; undefined: until stopped. */
  readonly operations: number | undefined;
  /** Bytes of an echoed operation, or of a value. */
  readonly size: number;
  /** Sizes are drawn uniformly from `size` to this; undefined: all are `size`. */
  readonly sizeMax?: number;
  readonly mix: Mix;
  /** Number of different keys that this worker uses. */
  readonly keys: number;
  readonly keyPrefix: string;
  /** How often each key is chosen. Default uniform. */
  readonly distribution?: KeyDistribution;
  /** Each lane writes only its own keys, so the final content of the store is certain. Otherwise lanes share them. */
  readonly ownKeys: boolean;
  readonly seed: number;
  /** Milliseconds that an operation may take. */
  readonly timeoutMs: number;
}

/**
 * Parent → worker: first `setup`, and after its `ready` a `go`. `stop` ends a workload without a number of operations.
 */
export type ToWorker =
  | (TransportChoice & {
      readonly type: 'setup';
      readonly worker: number;
      readonly cluster: string;
      readonly workload: Workload;
      /** Where to write the history; undefined: no history. */
      readonly history: string | undefined;
      /** Milliseconds between progress reports; 0: none. */
      readonly progressMs: number;
      /** The seconds to report, for a histogram log or one-way delays; undefined: none. */
      readonly seconds: SecondBase | undefined;
      /** Time between two questions about one-way delays, ms; undefined: none are asked. */
      readonly oneWayMs: number | undefined;
    })
  | { readonly type: 'go' }
  | { readonly type: 'stop' };

/** The client's counters that a bench reports, as differences over the measured time. */
export interface ClientCounts {
  readonly committed: number;
  readonly fast: number;
  /** Committed in one and a half round trips, by the primary's order. */
  readonly ordered: number;
  readonly rejected: number;
  /** Sent with a new timestamp after a reject. */
  readonly restamped: number;
  readonly reconciled: number;
  readonly retransmitted: number;
  readonly failed: number;
  readonly viewChanges: number;
}

export interface WorkerResult {
  /** Operations before the measured ones. */
  readonly warmup: number;
  /** The transport that the client chose. */
  readonly transport: string;
  readonly idle: string;
  readonly histogram: HistogramData;
  readonly counts: ClientCounts;
  /** Monotonic clock of the host (shared by its processes) at the first submit and the last completion, ns. */
  readonly startedNs: number;
  readonly endedNs: number;
  readonly cpuSeconds: number;
  readonly heap: HeapUse | null;
  /** Each replica's clock minus this client's, according to the replies. */
  readonly clockOffsets: readonly ClockOffset[];
  /** Errors of failed operations by code. */
  readonly errors: Readonly<Record<string, number>>;
  /**
   * What the store must hold: the last acknowledged value of each key of this worker, kv only. Keys whose last write
   * has an unknown outcome are left out.
   */
  readonly expected: Readonly<Record<string, string>>;
}

/** Worker → parent, besides the messages of every client process (client-processes.ts). */
export type FromWorker =
  /** What happened since the last report. */
  | { readonly type: 'progress'; readonly histogram: HistogramData; readonly counts: ClientCounts }
  /** What ended in a second, for a histogram log. */
  | { readonly type: 'second'; readonly second: TaggedSecond }
  | { readonly type: 'done'; readonly result: WorkerResult };
