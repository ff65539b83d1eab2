/** What `bench load` and its client processes say to each other over Node's IPC channel (JSON). */
import type { ClockOffset } from './messages.js';
import type { HeapUse } from '../../metrics/heap-meter.js';
import type { HistogramData } from '../../metrics/histogram.js';
import type { ArrivalKind } from './arrivals.js';
import type { ClientCounts, Workload } from './messages.js';
import type { OpenLoopCounts } from './open-loop.js';
import type { PacingKind } from './pacer.js';
import type { TransportChoice } from '../../console/transport-flags.js';

export interface Step {
  readonly kind: ArrivalKind;
  /** Of all clients together. */
  readonly ratePerSecond: number;
  readonly seed: number;
  /** CLOCK_MONOTONIC, which the processes of a host share: when the arrivals begin. */
  readonly startNs: number;
  readonly warmupNs: number;
  readonly durationNs: number;
  /** Length of the intervals of the progress reports. */
  readonly intervalMs: number;
}

/** Parent → client process. `step` may come again when the last one is done; `stop` cuts the present one short; `end` ends the process. */
export type ToOpenWorker =
  | (TransportChoice & {
      readonly type: 'setup';
      readonly worker: number;
      readonly workers: number;
      readonly cluster: string;
      readonly workload: Omit<Workload, 'warmup' | 'operations'>;
      readonly pacing: PacingKind;
      /** Of the arrivals, this process's share; undefined: all alike. */
      readonly share: number | undefined;
      /** What its client may stamp ahead, ns; undefined: the client's default. */
      readonly maxLeadNs: number | undefined;
      /** Where to write the history; undefined: no history. */
      readonly history: string | undefined;
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
  /** Of the measured window, which `stop` may have cut short. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly heap: HeapUse | null;
  /** Each replica's clock minus this client's, as the replies told. */
  readonly clockOffsets?: readonly ClockOffset[];
  /** The history could not be written any more: what went wrong. */
  readonly historyError: string | null;
}

/** Client process → parent, besides what every client process says (client-processes.ts). */
export type FromOpenWorker =
  /** What ended in interval `index` of the measured window. */
  | {
      readonly type: 'progress';
      readonly index: number;
      readonly histogram: HistogramData;
      readonly counts: ClientCounts;
    }
  | { readonly type: 'step-done'; readonly part: StepPart }
  | { readonly type: 'ended' };
