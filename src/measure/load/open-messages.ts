/** Messages between `bench load` and its client processes over Node's IPC channel (JSON). */
import type { ClockOffset } from './messages.js';
import type { HeapUse } from '../../metrics/heap-meter.js';
import type { HistogramData } from '../../metrics/histogram.js';
import type { ArrivalKind } from './arrivals.js';
import type { ClientCounts, Workload } from './messages.js';
import type { OpenLoopCounts } from './open-loop.js';
import type { PacingKind } from './pacer.js';
import type { SecondBase, TaggedSecond } from './wall-seconds.js';
import type { TransportChoice } from '../../console/transport-flags.js';

export interface Step {
  readonly kind: ArrivalKind;
  /** For all clients together. */
  readonly ratePerSecond: number;
  readonly seed: number;
  /** When the arrivals begin: CLOCK_MONOTONIC, which the processes of a host share. */
  readonly startNs: number;
  readonly warmupNs: number;
  readonly durationNs: number;
  /** Length of the intervals of the progress reports. */
  readonly intervalMs: number;
}

/**
 * Parent → client process. `step` may be sent again after the last one is done; `stop` cuts the current one short;
 * `end` ends the process.
 */
export type ToOpenWorker =
  | (TransportChoice & {
      readonly type: 'setup';
      readonly worker: number;
      readonly workers: number;
      readonly cluster: string;
      readonly workload: Omit<Workload, 'warmup' | 'operations'>;
      readonly pacing: PacingKind;
      /** This process's share of the arrivals; undefined: equal shares. */
      readonly share: number | undefined;
      /** Largest lead that its client may use, ns; undefined: the client's default. */
      readonly maxLeadNs: number | undefined;
      /** Where to write the history; undefined: no history. */
      readonly history: string | undefined;
      /** The seconds to report, for a histogram log or one-way delays; undefined: none. */
      readonly seconds: SecondBase | undefined;
      /** Time between two questions about one-way delays, ms; undefined: none are asked. */
      readonly oneWayMs: number | undefined;
    })
  | { readonly type: 'step'; readonly step: Step }
  | { readonly type: 'stop' }
  | { readonly type: 'end' };

/** What one client process measured in one step. */
export interface StepPart {
  readonly transport: string;
  readonly idle: string;
  readonly counts: OpenLoopCounts;
  readonly client: ClientCounts;
  /** Rejects by reason. */
  readonly rejectedByReason: Readonly<Record<string, number>>;
  /** Failed operations by error code. */
  readonly errors: Readonly<Record<string, number>>;
  readonly latency: HistogramData;
  readonly service: HistogramData;
  readonly pacing: HistogramData;
  /** Length of the measured window, which `stop` may have cut short. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly heap: HeapUse | null;
  /** Each replica's clock minus this client's, according to the replies. */
  readonly clockOffsets?: readonly ClockOffset[];
  /** Why the history could no longer be written, if so. */
  readonly historyError: string | null;
}

/** Client process → parent, besides the messages of every client process (client-processes.ts). */
export type FromOpenWorker =
  /** What ended in interval `index` of the measured window. */
  | {
      readonly type: 'progress';
      readonly index: number;
      readonly histogram: HistogramData;
      readonly counts: ClientCounts;
    }
  /** What ended in a second, for a histogram log. */
  | { readonly type: 'second'; readonly second: TaggedSecond }
  | { readonly type: 'step-done'; readonly part: StepPart }
  | { readonly type: 'ended' };
