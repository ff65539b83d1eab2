/**
 * A client process of a bench: connects, runs a warm-up, reports `ready`, waits for `go`, runs the measured operations
 * in a closed loop on its lanes, and reports what it measured. Started by workers.ts; speaks load/messages.ts.
 *
 * An operation's latency runs from the call of the library to its result, as an application sees it. Failed operations
 * are counted, and are not in the histogram.
 */
import '../../host/inspector-signal.js';
import { parentWarned } from '../../host/without-keys.js';
import { workerKeys } from '../../console/settings.js';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '../../client/client.js';
import { partsOf } from '../../client/client-parts.js';
import { monotonicOriginNs } from '../../clock/monotonic.js';
import { HeapMeter } from '../../metrics/heap-meter.js';
import { Histogram } from '../../metrics/histogram.js';
import { CliError } from '../../console/exit.js';
import { HistoryWriter } from './history-writer.js';
import type { FromClientProcess } from './client-processes.js';
import { countsOf, differenceOf } from './counts.js';
import type { ClientCounts, FromWorker, ToWorker, WorkerResult } from './messages.js';
import { OPERATION_NAMES, operationsFor, type Operations } from './operations.js';
import { OneWayRecorder } from '../oneway/second.js';
import { SecondRecorder } from './second-recorder.js';

const NS_PER_MS = 1e6;
const MICROSECONDS = 1e6;
/** A second without operations must end too. */
const LOOK_MS = 250;
/** If operations fail at once, the closed loop pauses so that it does not become a busy one. */
const PAUSE_AFTER_FAILURE_MS = 2;

type Setup = Extract<ToWorker, { type: 'setup' }>;

/** Errors that concern the whole run, not one operation. */
const ENDING: ReadonlySet<string> = new Set(['unknown-error', 'result-unexpected', 'output-unwritable']);

class Worker {
  private readonly total = new Histogram();
  private readonly interval = new Histogram();
  private readonly errors: Record<string, number> = {};
  private stopping = false;
  private remaining = 0;
  private failed = 0;
  /** For a histogram log and one-way delays, while something is measured. */
  private seconds: SecondRecorder | undefined;
  private readonly originNs = monotonicOriginNs();

  constructor(
    private readonly setup: Setup,
    private readonly client: Client,
    private readonly operations: Operations,
    private readonly history: HistoryWriter | undefined,
  ) {}

  async warmUp(): Promise<void> {
    await this.loop(this.setup.workload.warmup);
    this.total.reset();
    this.interval.reset();
    this.failed = 0;
    for (const code of Object.keys(this.errors)) delete this.errors[code];
  }

  stop(): void {
    this.stopping = true;
  }

  async measure(): Promise<WorkerResult> {
    const meter = new HeapMeter();
    const before = this.counts();
    const cpu = process.cpuUsage();
    const { progressMs } = this.setup;
    const report = this.reporter();
    const reports = progressMs > 0 ? setInterval(report, progressMs) : undefined;
    this.seconds = this.secondRecorder();
    const look = setInterval(() => this.seconds?.advance(this.nowNs()), LOOK_MS);
    meter.start();
    this.seconds?.begin(this.nowNs());
    const startedNs = monotonicNs();
    await this.loop(this.setup.workload.operations ?? Infinity);
    const endedNs = monotonicNs();
    const heap = meter.stop() ?? null;
    clearInterval(reports);
    clearInterval(look);
    this.seconds?.end(this.nowNs());
    if (progressMs > 0) report();
    const used = process.cpuUsage(cpu);
    const stats = this.client.stats();
    return {
      warmup: this.setup.workload.warmup,
      transport: stats.transport.kind,
      idle: stats.transport.idle,
      histogram: this.total.toData(),
      counts: differenceOf(this.counts(), before),
      startedNs,
      endedNs,
      cpuSeconds: (used.user + used.system) / MICROSECONDS,
      heap,
      clockOffsets: stats.clock.replicas,
      errors: this.errors,
      expected: this.operations.expected(),
    };
  }

  /** Runs `count` operations, `lanes` at a time. */
  private async loop(count: number): Promise<void> {
    this.remaining = count;
    await Promise.all(Array.from({ length: this.setup.workload.lanes }, (_, lane) => this.runLane(lane)));
  }

  private async runLane(lane: number): Promise<void> {
    const { client, operations, history, total, interval } = this;
    while (this.remaining > 0 && !this.stopping) {
      this.remaining -= 1;
      operations.prepare(lane);
      this.record(() => history?.invoke(lane, operations.describe(lane), monotonicNs()));
      const started = performance.now();
      try {
        const bytes = operations.bytes(lane);
        const result = await (operations.isRead(lane) ? client.query(bytes) : client.execute(bytes));
        operations.finish(lane, result, result.length);
        const latencyNs = (performance.now() - started) * NS_PER_MS;
        total.record(latencyNs);
        interval.record(latencyNs);
        this.seconds?.record(operations.nameOf(lane), 'ok', latencyNs, this.nowNs());
        this.record(() => history?.ok(lane, operations.outcome(lane), monotonicNs()));
      } catch (error) {
        const code = (error as { code?: string }).code ?? 'unknown-error';
        if (ENDING.has(code)) throw error;
        const certain = code !== 'outcome-unknown' && code !== 'session-lost';
        this.failed += 1;
        this.errors[code] = (this.errors[code] ?? 0) + 1;
        this.seconds?.record(
          operations.nameOf(lane),
          certain ? 'failed' : 'unknown',
          (performance.now() - started) * NS_PER_MS,
          this.nowNs(),
        );
        operations.failed(lane, certain);
        this.record(() => history?.failed(lane, certain, monotonicNs()));
        await delay(PAUSE_AFTER_FAILURE_MS);
      }
    }
  }

  /** An incomplete history is worthless, and this closed loop has no other purpose. */
  private record(write: () => void): void {
    try {
      write();
    } catch (error) {
      throw new CliError(
        'output-unwritable',
        `the history could not be written during the run (${(error as Error).message}), and was not kept; make room in the directory for temporary files, and run again`,
      );
    }
  }

  private counts(): ClientCounts {
    return countsOf(this.client.stats(), this.failed);
  }

  private secondRecorder(): SecondRecorder | undefined {
    const { seconds, workload } = this.setup;
    return seconds === undefined
      ? undefined
      : new SecondRecorder(
          seconds,
          OPERATION_NAMES[workload.machine],
          (second) => tell({ type: 'second', second }),
          this.oneWay(),
        );
  }

  /** Begins to ask about one-way delays, if they are to be measured. */
  private oneWay(): OneWayRecorder | undefined {
    const { oneWayMs } = this.setup;
    if (oneWayMs === undefined) return undefined;
    const recorder = new OneWayRecorder();
    partsOf(this.client)!.sampleTimes!(oneWayMs, recorder);
    return recorder;
  }

  /** CLOCK_MONOTONIC, ns, without the allocation of `monotonicNs`. */
  private nowNs(): number {
    return performance.now() * NS_PER_MS + this.originNs;
  }

  /** A function that reports what happened since its last call. */
  private reporter(): () => void {
    let last = this.counts();
    return () => {
      const now = this.counts();
      tell({ type: 'progress', histogram: this.interval.toData(), counts: differenceOf(now, last) });
      this.interval.reset();
      last = now;
    };
  }
}

/** CLOCK_MONOTONIC, which all processes of a host share. */
function monotonicNs(): number {
  return Number(process.hrtime.bigint());
}

function tell(message: FromWorker | FromClientProcess): void {
  process.send?.(message);
}

async function connect(setup: Setup): Promise<{ worker: Worker; client: Client; history: HistoryWriter | undefined }> {
  const { workload, cluster, transport, idle } = setup;
  parentWarned();
  const client = await Client.connect({
    cluster,
    ...workerKeys(),
    transport,
    idle,
    lanes: workload.lanes,
    timeout: workload.timeoutMs,
  });
  const history =
    setup.history === undefined ? undefined : new HistoryWriter(setup.history, setup.worker, workload.lanes);
  return { worker: new Worker(setup, client, operationsFor(setup.worker, workload), history), client, history };
}

let connected: ReturnType<typeof connect> | undefined;

async function serve(message: ToWorker): Promise<void> {
  if (message.type === 'setup') {
    connected = connect(message);
    await (await connected).worker.warmUp();
    tell({ type: 'ready' });
  } else if (connected !== undefined) {
    const { worker, client, history } = await connected;
    if (message.type === 'stop') return worker.stop();
    const result = await worker.measure();
    history?.close();
    await client.close();
    process.send?.({ type: 'done', result } satisfies FromWorker, () => process.disconnect());
  }
}

process.on('message', (message) => {
  serve(message as ToWorker).catch((error: unknown) => {
    const { code, message: text } = error as { code?: string; message?: string };
    process.send?.(
      { type: 'failed', code: code ?? 'worker-failed', message: text ?? String(error) } satisfies FromClientProcess,
      () => process.exit(1),
    );
  });
});
process.once('disconnect', () => process.exit());
if (process.send !== undefined && !process.connected) process.exit(); // the parent went while this was loading
