/**
 * A client process of `bench load`: connects, reports `ready`, and then drives one open loop for each step
 * (open-loop.ts) over the slot interface of the client, which allocates nothing for an operation. Started by
 * open-load.ts; speaks open-messages.ts.
 */
import '../../host/inspector-signal.js';
import { parentWarned } from '../../host/without-keys.js';
import { workerKeys } from '../../console/settings.js';
import { ClientHost } from '../../client/client-host.js';
import { clientStats } from '../../client/client-stats.js';
import { hostMonotonicNs, monotonicOriginNs } from '../../clock/monotonic.js';
import { HeapMeter } from '../../metrics/heap-meter.js';
import { Outcome } from '../../protocol/contract.js';
import { copyBytes } from '../../wire/copy.js';
import { ReplyStatus } from '../../wire/messages.js';
import { Arrivals } from './arrivals.js';
import type { FromClientProcess } from './client-processes.js';
import { countsOf, differenceOf } from './counts.js';
import { HistoryWriter } from './history-writer.js';
import type { ClientCounts } from './messages.js';
import { OpenLoop } from './open-loop.js';
import type { FromOpenWorker, Step, StepPart, ToOpenWorker } from './open-messages.js';
import { OPERATION_NAMES, operationsFor, type Operations } from './operations.js';
import { Pacer } from './pacer.js';
import { OneWayRecorder } from '../oneway/second.js';
import { SecondRecorder } from './second-recorder.js';

const NS_PER_MS = 1e6;
const NS_PER_US = 1e3;
const MICROSECONDS = 1e6;
/** A process with nothing to send must still notice that a step is over. */
const LONGEST_SLEEP_NS = 50 * NS_PER_MS;

type Setup = Extract<ToOpenWorker, { type: 'setup' }>;

class Worker {
  private readonly operations: Operations;
  private readonly timeoutUs: number;
  private readonly pacer: Pacer;
  private history: HistoryWriter | undefined;
  private historyError: string | null = null;
  private host!: ClientHost;
  private running: RunningStep | undefined;
  private readonly oneWay: OneWayRecorder | undefined;
  /** For a histogram log and one-way delays. */
  private readonly seconds: SecondRecorder | undefined;
  /** Operations that failed since the process started. */
  private failed = 0;
  private errors: Record<string, number> = {};
  /** All operations are submitted from one array: the core makes a view of each array that it has not just seen. */
  private submitted = new Uint8Array(0);
  private readonly originNs = monotonicOriginNs();

  private constructor(private readonly setup: Setup) {
    const { workload, worker, pacing } = setup;
    this.operations = operationsFor(worker, { ...workload, warmup: 0, operations: undefined });
    this.timeoutUs = workload.timeoutMs * 1000;
    this.pacer = new Pacer(pacing, () => this.turn());
    if (setup.oneWayMs !== undefined) this.oneWay = new OneWayRecorder();
    if (setup.seconds !== undefined)
      this.seconds = new SecondRecorder(
        setup.seconds,
        OPERATION_NAMES[workload.machine],
        (second) => tell({ type: 'second', second }),
        this.oneWay,
      );
    if (setup.history !== undefined)
      this.record(() => (this.history = new HistoryWriter(setup.history!, worker, workload.lanes)));
  }

  static async connect(setup: Setup): Promise<Worker> {
    const { cluster, transport, idle, workload, maxLeadNs } = setup;
    const worker = new Worker(setup);
    parentWarned();
    worker.host = await ClientHost.connect(
      {
        cluster,
        ...workerKeys(),
        transport,
        idle,
        lanes: workload.lanes,
        ...(maxLeadNs === undefined ? {} : { timings: { maxLeadNs } }),
      },
      {
        completed: (lane, outcome, status) => worker.onCompleted(lane, outcome, status),
        ready: () => worker.turn(),
        failed: (error) => giveUp(error),
      },
    );
    if (worker.oneWay !== undefined) worker.host.sampleTimes(setup.oneWayMs!, worker.oneWay);
    return worker;
  }

  start(step: Step): void {
    const { worker, workers, workload, share } = this.setup;
    const { kind, ratePerSecond, seed, warmupNs, durationNs } = step;
    const arrivals = new Arrivals({
      kind,
      ratePerSecond: share === undefined ? ratePerSecond : ratePerSecond * share * workers,
      seed,
      client: worker,
      clients: workers,
    });
    const loop = new OpenLoop(workload.lanes, (lane) => this.send(lane), arrivals, {
      measureFromNs: warmupNs,
      endNs: warmupNs + durationNs,
    });
    this.errors = {};
    this.seconds?.begin(step.startNs + warmupNs);
    this.running = new RunningStep(
      step,
      loop,
      () => this.counts(),
      () => this.rejectedByReason(),
    );
    this.turn();
  }

  stop(): void {
    this.running?.loop.cutShort(Math.max(0, this.stepNs()));
    this.turn();
  }

  async end(): Promise<void> {
    this.pacer.close();
    this.record(() => this.history?.close());
    await this.host.close();
  }

  /** Sends the arrivals that are due, does any other work that is due, and sets the pacer for the next turn. */
  private turn(): void {
    const { running, host } = this;
    if (running === undefined || !host.ready) return;
    const { loop } = running;
    const nowNs = this.stepNs();
    running.observe(nowNs);
    this.seconds?.advance(running.step.startNs + nowNs);
    const nextNs = loop.pump(nowNs);
    if (nowNs >= loop.endNs && loop.openLanes === 0) return this.finish(running);
    this.arm(nextNs, nowNs);
  }

  private send(lane: number): void {
    const { operations, host } = this;
    operations.prepare(lane);
    if (this.history !== undefined)
      this.record(() => this.history!.invoke(lane, operations.describe(lane), hostMonotonicNs()));
    const bytes = operations.bytes(lane);
    if (this.submitted.length < bytes.length) this.submitted = new Uint8Array(bytes.length);
    copyBytes(bytes, 0, this.submitted, 0, bytes.length);
    if (operations.isRead(lane)) host.read(lane, this.submitted, 0, bytes.length, this.timeoutUs);
    else host.submit(lane, this.submitted, 0, bytes.length, this.timeoutUs);
  }

  private onCompleted(lane: number, outcome: number, status: number): void {
    const { running, operations, host } = this;
    if (running === undefined) return;
    const nowNs = this.stepNs();
    const succeeded = outcome === Outcome.committed && status === ReplyStatus.ok;
    try {
      if (succeeded) operations.finish(lane, host.resultBytes(lane), host.resultLength(lane));
      else this.fail(lane, outcome);
    } catch (error) {
      return giveUp(error);
    }
    if (this.history !== undefined) {
      if (succeeded) this.record(() => this.history!.ok(lane, operations.outcome(lane), hostMonotonicNs()));
      else this.record(() => this.history!.failed(lane, outcome === Outcome.refused, hostMonotonicNs()));
    }
    const latencyNs = running.loop.completed(lane, succeeded, nowNs);
    if (this.seconds !== undefined && latencyNs >= 0)
      this.seconds.record(
        operations.nameOf(lane),
        succeeded ? 'ok' : outcome === Outcome.refused ? 'failed' : 'unknown',
        latencyNs,
        running.step.startNs + nowNs,
      );
    // Arrivals after the one that waited for this lane have their own times.
    if (host.ready && running.loop.isBlocked) this.arm(running.loop.pump(nowNs), nowNs);
    if (nowNs >= running.loop.endNs && running.loop.openLanes === 0) this.arm(nowNs, nowNs);
  }

  private fail(lane: number, outcome: number): void {
    const code =
      outcome === Outcome.refused
        ? 'operation-refused'
        : outcome === Outcome.sessionLost
          ? 'session-lost'
          : 'outcome-unknown';
    this.failed += 1;
    this.errors[code] = (this.errors[code] ?? 0) + 1;
    this.operations.failed(lane, outcome === Outcome.refused);
  }

  private finish(running: RunningStep): void {
    this.running = undefined;
    this.pacer.disarm();
    running.loop.finish((waitedNs) => this.seconds?.recordUnsent(waitedNs));
    this.seconds?.end(hostMonotonicNs());
    tell({
      type: 'step-done',
      part: {
        ...running.result(),
        transport: this.host.transport.kind,
        idle: this.host.transport.idle,
        clockOffsets: this.host.clockReport().replicas,
        errors: this.errors,
        historyError: this.historyError,
      },
    });
  }

  /** If a history can no longer be written (a full disk), the history ends, not the measurement. */
  private record(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.historyError = error instanceof Error ? error.message : String(error);
      this.history = undefined;
    }
  }

  private counts(): ClientCounts {
    return countsOf(clientStats(this.host, 0, 0), this.failed);
  }

  private rejectedByReason(): Readonly<Record<string, number>> {
    return clientStats(this.host, 0, 0).rejected;
  }

  /** The value of performance.now() when the step began, ns. */
  private startNs(): number {
    return this.running!.step.startNs - this.originNs;
  }

  private stepNs(): number {
    return performance.now() * NS_PER_MS - this.startNs();
  }

  /** The next turn is at `atNs`, or earlier. Times are ns of the step. */
  private arm(atNs: number, nowNs: number): void {
    const startNs = this.startNs();
    const wantedNs = Math.min(atNs, this.running!.nextObservationNs, nowNs + LONGEST_SLEEP_NS);
    this.pacer.arm((startNs + wantedNs) / NS_PER_US, (startNs + nowNs) / NS_PER_US);
  }
}

/** A step and its instruments. */
class RunningStep {
  nextObservationNs: number;
  private readonly meter = new HeapMeter();
  private heap: StepPart['heap'] = null;
  private cpu: NodeJS.CpuUsage | undefined;
  private cpuSeconds = 0;
  private before: ClientCounts | undefined;
  private rejectedBefore: Readonly<Record<string, number>> = {};
  private last: ClientCounts | undefined;
  private measured = false;

  constructor(
    readonly step: Step,
    readonly loop: OpenLoop,
    private readonly counts: () => ClientCounts,
    private readonly rejected: () => Readonly<Record<string, number>>,
  ) {
    this.nextObservationNs = step.warmupNs;
  }

  /** Begins the measurement, reports an interval, or ends the measurement, when it is time. */
  observe(nowNs: number): void {
    if (nowNs < Math.min(this.nextObservationNs, this.loop.endNs) || this.measured) return;
    if (this.cpu === undefined) this.begin();
    else this.report(nowNs);
    if (nowNs >= this.loop.endNs) this.endMeasurement();
    else {
      const intervalNs = this.step.intervalMs * NS_PER_MS;
      this.nextObservationNs =
        this.step.warmupNs + (Math.floor((nowNs - this.step.warmupNs) / intervalNs) + 1) * intervalNs;
    }
  }

  result(): Omit<StepPart, 'transport' | 'idle' | 'errors' | 'historyError'> {
    const { loop } = this;
    const now = this.rejected();
    return {
      counts: loop.counts,
      client: differenceOf(this.counts(), this.before!),
      rejectedByReason: Object.fromEntries(
        Object.entries(now).map(([reason, count]) => [reason, count - (this.rejectedBefore[reason] ?? 0)]),
      ),
      latency: loop.latency.toData(),
      service: loop.service.toData(),
      pacing: loop.pacing.toData(),
      seconds: loop.measuredSeconds,
      cpuSeconds: this.cpuSeconds,
      heap: this.heap,
    };
  }

  private begin(): void {
    this.cpu = process.cpuUsage();
    this.before = this.counts();
    this.rejectedBefore = this.rejected();
    this.last = this.before;
    this.meter.start();
  }

  private report(nowNs: number): void {
    const { step, loop } = this;
    const counts = this.counts();
    const index = Math.max(0, Math.round((nowNs - step.warmupNs) / (step.intervalMs * NS_PER_MS)) - 1);
    tell({ type: 'progress', index, histogram: loop.interval.toData(), counts: differenceOf(counts, this.last!) });
    loop.interval.reset();
    this.last = counts;
  }

  private endMeasurement(): void {
    this.measured = true;
    this.nextObservationNs = Infinity;
    const used = process.cpuUsage(this.cpu);
    this.cpuSeconds = (used.user + used.system) / MICROSECONDS;
    this.heap = this.meter.stop() ?? null;
  }
}

function tell(message: FromOpenWorker | FromClientProcess): void {
  process.send?.(message);
}

function giveUp(error: unknown): void {
  const { code, message } = error as { code?: string; message?: string };
  process.send?.(
    { type: 'failed', code: code ?? 'worker-failed', message: message ?? String(error) } satisfies FromClientProcess,
    () => process.exit(1),
  );
}

let worker: Worker | undefined;

async function serve(message: ToOpenWorker): Promise<void> {
  if (message.type === 'setup') {
    worker = await Worker.connect(message);
    tell({ type: 'ready' });
  } else if (message.type === 'step') worker!.start(message.step);
  else if (message.type === 'stop') worker?.stop();
  else {
    await worker!.end();
    process.send?.({ type: 'ended' } satisfies FromOpenWorker, () => process.disconnect());
  }
}

process.on('message', (message) => void serve(message as ToOpenWorker).catch(giveUp));
process.once('disconnect', () => process.exit());
if (process.send !== undefined && !process.connected) process.exit(); // the parent went while this was loading
