/**
 * A closed loop in several client processes: starts them, waits until all are connected and warm, starts the
 * measurement together, and merges the results.
 */
import { Histogram } from '../../metrics/histogram.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import { ClientProcesses, deferred, type Deferred } from './client-processes.js';
import { addCounts, NO_COUNTS } from './counts.js';
import type { ClientCounts, FromWorker, ToWorker, WorkerResult, Workload } from './messages.js';
import type { SecondsWanted } from './wall-seconds.js';

const STOP_TIMEOUT_MS = 30_000;

export interface WorkersOptions extends TransportChoice {
  readonly count: number;
  readonly cluster: string;
  /** For worker number `index`. */
  readonly workload: (index: number) => Workload;
  readonly history?: (index: number) => string;
  readonly progressMs?: number;
  readonly onProgress?: (index: number, histogram: Histogram, counts: ClientCounts) => void;
  /** For a histogram log. */
  readonly seconds?: SecondsWanted | undefined;
}

/** The results of all workers together. */
export interface LoadResult {
  readonly histogram: Histogram;
  readonly counts: ClientCounts;
  /** From the first submit of any worker to the last completion of any. */
  readonly seconds: number;
  /** Unmeasured operations before the run, over all workers. */
  readonly warmup: number;
  readonly workers: readonly WorkerResult[];
}

export class Workers {
  private readonly processes: ClientProcesses<ToWorker, FromWorker>;
  private readonly results: readonly Deferred<WorkerResult>[];

  private constructor(options: WorkersOptions) {
    const { count, cluster, transport, idle, workload, history, progressMs, onProgress, seconds } = options;
    this.results = Array.from({ length: count }, () => deferred<WorkerResult>());
    this.processes = new ClientProcesses({
      count,
      script: './worker.js',
      setup: (worker) => ({
        type: 'setup',
        worker,
        cluster,
        transport,
        idle,
        workload: workload(worker),
        history: history?.(worker),
        progressMs: progressMs ?? 0,
        seconds: seconds?.base,
        oneWayMs: seconds?.oneWayMs,
      }),
      onMessage: (index, message) => {
        if (message.type === 'progress') onProgress?.(index, Histogram.fromData(message.histogram), message.counts);
        else if (message.type === 'second') seconds?.onSecond(index, message.second);
        else this.results[index]!.resolve(message.result);
      },
      onFailure: (index, error) => this.results[index]!.reject(error),
    });
  }

  /** Forks the workers and resolves when all are connected and have run their warm-up. */
  static async start(options: WorkersOptions): Promise<Workers> {
    const workers = new Workers(options);
    try {
      await workers.processes.ready();
      return workers;
    } catch (error) {
      workers.close();
      throw error;
    }
  }

  /** Starts the measured part in all workers and resolves when all have ended it. */
  async run(): Promise<LoadResult> {
    this.processes.send({ type: 'go' });
    const workers = await Promise.all(this.results.map(({ promise }) => promise));
    const histogram = new Histogram();
    let counts = NO_COUNTS;
    for (const worker of workers) {
      histogram.merge(Histogram.fromData(worker.histogram));
      counts = addCounts(counts, worker.counts);
    }
    const started = Math.min(...workers.map((worker) => worker.startedNs));
    const ended = Math.max(...workers.map((worker) => worker.endedNs));
    const warmup = workers.reduce((sum, worker) => sum + worker.warmup, 0);
    return { histogram, counts, seconds: (ended - started) / 1e9, warmup, workers };
  }

  /**
   * Tells workers without a number of operations to finish the open ones; `run` then resolves. A worker that does not
   * within 30 s is killed, which fails the run.
   */
  stop(): void {
    this.processes.send({ type: 'stop' });
    setTimeout(this.processes.killAll, STOP_TIMEOUT_MS).unref();
  }

  close(): void {
    this.processes.close();
  }
}
