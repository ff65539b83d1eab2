/**
 * The parent's side of the client processes of a bench: forks them, waits until all are connected and warm, starts them
 * together, merges what they measured. Clients run in processes of their own so that the parent's display and merging
 * disturb nothing that is measured.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CliError } from '../exit.js';
import { Histogram } from '../../metrics/histogram.js';
import { addCounts, NO_COUNTS } from './counts.js';
import type { ClientCounts, FromWorker, ToWorker, WorkerResult, Workload } from './messages.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));
const READY_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 30_000;

export interface WorkersOptions {
  readonly count: number;
  readonly cluster: string;
  readonly transport: 'auto' | 'dgram';
  /** For worker number `index`. */
  readonly workload: (index: number) => Workload;
  readonly history?: (index: number) => string;
  readonly progressMs?: number;
  readonly onProgress?: (index: number, histogram: Histogram, counts: ClientCounts) => void;
}

/** The results of all workers together. */
export interface LoadResult {
  readonly histogram: Histogram;
  readonly counts: ClientCounts;
  /** From the first submit of any worker to the last completion of any. */
  readonly seconds: number;
  /** Operations that were run before, all workers together. */
  readonly warmup: number;
  readonly workers: readonly WorkerResult[];
}

export class Workers {
  private readonly children: ChildProcess[] = [];
  private readonly readies: Promise<void>[] = [];
  private readonly results: Promise<WorkerResult>[] = [];
  private readonly killAll = (): void => {
    for (const child of this.children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  };

  private constructor(private readonly options: WorkersOptions) {
    process.once('exit', this.killAll);
    for (let index = 0; index < options.count; index++) this.add(index);
  }

  /** Forks the workers and resolves when all are connected and have run their warm-up. */
  static async start(options: WorkersOptions): Promise<Workers> {
    const workers = new Workers(options);
    try {
      await within(Promise.all(workers.readies), READY_TIMEOUT_MS, 'the clients were not warm');
      return workers;
    } catch (error) {
      workers.close();
      throw error;
    }
  }

  /** Starts the measured part in all workers and resolves when all have ended it. */
  async run(): Promise<LoadResult> {
    for (const child of this.children) child.send({ type: 'go' } satisfies ToWorker);
    const workers = await Promise.all(this.results);
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

  /** Asks workers without a number of operations to finish what is open; `run` then resolves. Whoever does not within 30 s is killed, which fails the run. */
  stop(): void {
    for (const child of this.children) if (child.connected) child.send({ type: 'stop' } satisfies ToWorker);
    setTimeout(this.killAll, STOP_TIMEOUT_MS).unref();
  }

  close(): void {
    this.killAll();
    process.removeListener('exit', this.killAll);
  }

  private add(index: number): void {
    const { cluster, transport, workload, history, progressMs, onProgress } = this.options;
    const child = fork(WORKER, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv: [] });
    this.children.push(child);
    const ready = deferred<void>();
    const result = deferred<WorkerResult>();
    const fail = (error: Error): void => {
      ready.reject(error);
      result.reject(error);
    };
    child.on('message', (raw) => {
      const message = raw as FromWorker;
      switch (message.type) {
        case 'ready':
          return ready.resolve();
        case 'progress':
          return onProgress?.(index, Histogram.fromData(message.histogram), message.counts);
        case 'done':
          return result.resolve(message.result);
        case 'failed':
          return fail(Object.assign(new Error(message.message), { code: message.code }));
      }
    });
    child.on('error', fail);
    child.on('exit', (code, signal) => fail(new CliError('worker-failed', `client process ${index} ended with ${signal ?? `exit code ${code}`} before its work was done; run again, and with --clients 1 to see whether it lasts`)));
    child.send({ type: 'setup', worker: index, cluster, transport, workload: workload(index), history: history?.(index), progressMs: progressMs ?? 0 } satisfies ToWorker);
    this.readies.push(ready.promise);
    this.results.push(result.promise);
  }
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((a, b) => ([resolve, reject] = [a, b]));
  promise.catch(() => {}); // whoever awaits it hears of it; an early failure of another worker may come first
  return { promise, resolve, reject };
}

async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new CliError('worker-failed', `${what} within ${ms / 1000} s; use fewer clients or a smaller warm-up`)), ms);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
