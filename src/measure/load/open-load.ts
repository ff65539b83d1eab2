/**
 * The parent's side of an open loop. Several client processes run one step at a time together. Their results are merged
 * into one.
 */
import type { ClockOffset } from './messages.js';
import { Histogram } from '../../metrics/histogram.js';
import type { ArrivalKind } from './arrivals.js';
import { ClientProcesses, deferred, type Deferred } from './client-processes.js';
import { addCounts, NO_COUNTS } from './counts.js';
import type { ClientCounts, Workload } from './messages.js';
import type { OpenLoopCounts } from './open-loop.js';
import type { FromOpenWorker, StepPart, ToOpenWorker } from './open-messages.js';
import type { PacingKind } from './pacer.js';
import type { SecondsWanted } from './wall-seconds.js';
import type { TransportChoice } from '../../console/transport-flags.js';

/** Time in which all processes learn of the step, so that their arrivals begin at the same moment. */
const HEAD_START_NS = 30e6;
const END_TIMEOUT_MS = 10_000;

export interface OpenLoadOptions extends TransportChoice {
  readonly clients: number;
  readonly cluster: string;
  readonly pacing: PacingKind;
  readonly workload: (index: number) => Omit<Workload, 'warmup' | 'operations'>;
  readonly history: ((index: number) => string) | undefined;
  /** Share of the arrivals of each client; default: equal shares. */
  readonly shares?: readonly number[];
  /** See ClientTimings. */
  readonly maxLeadNs?: number;
  /** For a histogram log. */
  readonly seconds?: SecondsWanted | undefined;
}

export interface StepOptions {
  readonly kind: ArrivalKind;
  readonly ratePerSecond: number;
  readonly seed: number;
  readonly warmupNs: number;
  readonly durationNs: number;
  readonly intervalMs: number;
  /** When the arrivals begin: CLOCK_MONOTONIC, ns. Default: as soon as all processes have learned of the step. */
  readonly startNs?: number | undefined;
  /** Called with the operations that ended in interval `index` of the measured window in one of the processes. */
  readonly onProgress: (index: number, histogram: Histogram, counts: ClientCounts) => void;
}

/** One step, all client processes together. */
export interface StepMeasurement {
  readonly counts: OpenLoopCounts;
  readonly client: ClientCounts;
  readonly rejectedByReason: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
  readonly latency: Histogram;
  readonly service: Histogram;
  readonly pacing: Histogram;
  readonly seconds: number;
  /** Processor time of each client process. */
  readonly clientCpuSeconds: readonly number[];
  readonly clientAllocatedBytes: number | null;
  /** Clock offsets of the first client; undefined if it did not report them. */
  readonly clockOffsets?: readonly ClockOffset[] | undefined;
  readonly transport: string;
  readonly idle: string;
  readonly historyError: string | null;
}

export class OpenLoad {
  private readonly processes: ClientProcesses<ToOpenWorker, FromOpenWorker>;
  private parts: Deferred<StepPart>[] = [];
  private readonly ended: Deferred<void>[];
  private failure: Error | undefined;
  private onProgress: StepOptions['onProgress'] = () => undefined;

  private constructor(private readonly options: OpenLoadOptions) {
    const { clients, cluster, transport, idle, pacing, workload, history, shares, maxLeadNs, seconds } = options;
    this.ended = Array.from({ length: clients }, () => deferred<void>());
    this.processes = new ClientProcesses({
      count: clients,
      script: './open-worker.js',
      setup: (worker) => ({
        type: 'setup',
        worker,
        workers: clients,
        cluster,
        transport,
        idle,
        workload: workload(worker),
        pacing,
        share: shares?.[worker],
        maxLeadNs,
        history: history?.(worker),
        seconds: seconds?.base,
        oneWayMs: seconds?.oneWayMs,
      }),
      onMessage: (index, message) => this.onMessage(index, message),
      onFailure: (index, error) => this.onFailure(index, error),
    });
  }

  /**
   * Resolves when all client processes are connected. Throws CliError `worker-failed`, and the errors of a client.
   */
  static async start(options: OpenLoadOptions): Promise<OpenLoad> {
    const load = new OpenLoad(options);
    try {
      await load.processes.ready();
      return load;
    } catch (error) {
      load.close();
      throw error;
    }
  }

  /** Runs one step; steps must follow one another. Throws the errors of `start`. */
  async step(options: StepOptions): Promise<StepMeasurement> {
    if (this.failure !== undefined) throw this.failure;
    const { kind, ratePerSecond, seed, warmupNs, durationNs, intervalMs, onProgress } = options;
    this.onProgress = onProgress;
    this.parts = Array.from({ length: this.options.clients }, () => deferred<StepPart>());
    const startNs = options.startNs ?? Number(process.hrtime.bigint()) + HEAD_START_NS;
    this.processes.send({
      type: 'step',
      step: { kind, ratePerSecond, seed, startNs, warmupNs, durationNs, intervalMs },
    });
    return merge(await Promise.all(this.parts.map(({ promise }) => promise)));
  }

  /** Cuts the current step short. Its result is what was measured so far. */
  stop(): void {
    this.processes.send({ type: 'stop' });
  }

  /**
   * Ends the client processes cleanly, which completes their histories. A process that takes more than 10 s is killed.
   */
  async end(): Promise<void> {
    this.processes.send({ type: 'end' });
    const timer = setTimeout(this.processes.killAll, END_TIMEOUT_MS);
    await Promise.all(this.ended.map(({ promise }) => promise));
    clearTimeout(timer);
  }

  close(): void {
    this.processes.close();
  }

  private onMessage(index: number, message: FromOpenWorker): void {
    if (message.type === 'progress')
      this.onProgress(message.index, Histogram.fromData(message.histogram), message.counts);
    else if (message.type === 'second') this.options.seconds?.onSecond(index, message.second);
    else if (message.type === 'step-done') this.parts[index]!.resolve(message.part);
    else this.ended[index]!.resolve();
  }

  private onFailure(index: number, error: Error): void {
    this.failure ??= error;
    this.parts[index]?.reject(error);
    this.ended[index]!.reject(error);
  }
}

/** Adds the parts, except the values that all processes share (the window, view changes). Exported for tests. */
export function merge(parts: readonly StepPart[]): StepMeasurement {
  const histogramOf = (name: 'latency' | 'service' | 'pacing'): Histogram => {
    const sum = new Histogram();
    for (const part of parts) sum.merge(Histogram.fromData(part[name]));
    return sum;
  };
  return {
    counts: sumOf(parts.map(({ counts }) => counts)),
    client: parts.reduce((sum, { client }) => addCounts(sum, client), NO_COUNTS),
    rejectedByReason: sumOf(parts.map(({ rejectedByReason }) => rejectedByReason)),
    errors: sumOf(parts.map(({ errors }) => errors)),
    latency: histogramOf('latency'),
    service: histogramOf('service'),
    pacing: histogramOf('pacing'),
    seconds: Math.max(...parts.map(({ seconds }) => seconds)),
    clientCpuSeconds: parts.map(({ cpuSeconds }) => cpuSeconds),
    clientAllocatedBytes: parts.every(({ heap }) => heap !== null)
      ? parts.reduce((sum, { heap }) => sum + heap!.allocatedBytes, 0)
      : null,
    clockOffsets: parts[0]!.clockOffsets,
    transport: parts[0]!.transport,
    idle: parts[0]!.idle,
    historyError: parts.find(({ historyError }) => historyError !== null)?.historyError ?? null,
  };
}

/** Adds the records field by field. */
function sumOf<T extends object>(records: readonly T[]): T {
  const sum: Record<string, number> = {};
  for (const record of records)
    for (const [name, value] of Object.entries(record) as [string, number][]) sum[name] = (sum[name] ?? 0) + value;
  return sum as T;
}
