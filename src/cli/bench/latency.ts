/**
 * `jitpaxos bench latency`: a closed loop. C client processes keep L operations open each, N in all, and every latency
 * goes into a histogram. The first operations warm up the compiler and are not measured.
 */
import { randomBytes } from 'node:crypto';
import { formatHgrm } from '../../metrics/hgrm.js';
import { Views } from '../../protocol/views.js';
import { loadCluster } from '../../host/cluster-config.js';
import { defineCommand, type Output } from '../../console/command.js';
import { CliError, Exit } from '../../console/exit.js';
import { BENCH_PREFIX, BenchKeys } from '../../measure/load/bench-keys.js';
import { HistoryParts } from '../../measure/load/history-parts.js';
import { mergeHistories } from '../../measure/load/history-writer.js';
import { Interruption } from '../../measure/load/interruption.js';
import type { RunSettings } from '../../measure/hlog/log-format.js';
import { HlogWriter, newRunId } from '../../measure/hlog/log-writer.js';
import { LocalCluster } from '../../measure/local-cluster.js';
import { setWorkerKeys } from '../../console/settings.js';
import type { Mix, ReplicaAnswer, Workload } from '../../measure/load/messages.js';
import { OPERATION_NAMES } from '../../measure/load/operations.js';
import {
  largestError,
  checkAssertions,
  commandLine,
  hostInfo,
  latencyText,
  parseAssertion,
  parseMix,
  type BenchReport,
} from '../../measure/load/bench-report.js';
import { Timeline } from '../../measure/load/timeline.js';
import { OneWayTally } from '../../measure/oneway/tally.js';
import { UsageMeter, type ClusterFacts } from '../../measure/load/usage.js';
import { Workers, type LoadResult } from '../../measure/load/workers.js';
import { writeOutput } from '../../console/output-file.js';
import { benchPage } from '../../measure/report/bench-page.js';
import { transportChoice, type TransportChoice } from '../../console/transport-flags.js';
import { formatCount } from '../../console/units.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { endLog, oneWayOf, secondsFor } from './log.js';
import {
  assertFlag,
  checkHistoryFlag,
  checkOutputs,
  checkTarget,
  machineFlag,
  mixFlag,
  OPERATION_FLAGS,
  OUTPUT_FLAGS,
  TARGET_FLAGS,
} from './flags.js';
import { version } from '../../host/version.js';
import { wallClockMs } from '../../measure/load/wall-seconds.js';

/** A tenth of the operations, so that small runs stay small, but no more than the compiler needs. */
const WARMUP_SHARE = 0.1;
const WARMUP_MAX = 20_000;
/** Interval of a report's time line. */
const INTERVAL_MS = 100;

interface Plan extends TransportChoice {
  readonly clients: number;
  readonly lanes: number;
  readonly operations: number;
  readonly warmup: number;
  readonly size: number;
  readonly machine: 'echo' | 'kv';
  readonly mix: Mix;
  readonly keys: number;
  readonly seed: number;
  readonly timeoutMs: number;
  readonly clusterFile: string;
  readonly history: string | undefined;
  readonly hlog: string | undefined;
  /** Measure one-way delays. */
  readonly oneWay: boolean;
  /** Names the run. */
  readonly run: string;
  readonly keyPrefix: string;
  /** Keep a time line: the clients then report while they measure. */
  readonly timeline: boolean;
}

export const benchLatency = defineCommand(
  {
    name: 'bench latency',
    summary: 'Measures latency with a closed loop: each client sends the next operation as soon as one is answered.',
    positionals: [],
    flags: {
      ...TARGET_FLAGS,
      clients: { kind: 'count', default: '1', min: 1, max: 256, help: 'client processes' },
      lanes: { kind: 'count', default: '1', min: 1, max: 4096, help: 'operations open at once in each client' },
      ops: { kind: 'count', default: '50000', min: 1, max: 1e9, help: 'operations to measure, all clients together' },
      warmup: {
        kind: 'count',
        max: 1e9,
        help: `operations before those, not measured (default a tenth of --ops, at most ${WARMUP_MAX})`,
      },
      size: { kind: 'bytes', default: '64', max: 48 * 1024, help: 'bytes of an operation (echo) or value (kv)' },
      machine: machineFlag('echo'),
      mix: mixFlag('write=100', 'read=50,write=50'),
      ...OPERATION_FLAGS,
      seed: { kind: 'count', default: '1', max: 2 ** 31 - 1, help: 'seed of the choice of operations and keys' },
      ...OUTPUT_FLAGS,
      assert: assertFlag(),
    },
    examples: [
      'jitpaxos bench latency --local 3 --clients 1 --ops 50000 --size 64 --json',
      "jitpaxos bench latency --clients 2 --lanes 32 --machine kv --mix read=50,write=50 --assert 'p99<5ms'",
    ],
  },
  async ({ values }, output) => {
    setWorkerKeys(values.cluster === undefined ? undefined : values['key-file']);
    checkTarget(values);
    checkHistoryFlag(values.history, values.machine, values.size);
    const machine = values.machine === 'kv' ? 'kv' : 'echo';
    const choice = transportChoice(values);
    const mix = parseMix(values.mix, OPERATION_NAMES[machine]);
    const assertions = values.assert.map(parseAssertion);
    const { clients, lanes, size, keys, seed, ops: operations } = values;
    const warmup = values.warmup ?? Math.min(WARMUP_MAX, Math.ceil(operations * WARMUP_SHARE));
    checkOutputs(values);
    const plan = {
      clients,
      lanes,
      operations,
      warmup,
      size,
      machine,
      mix,
      keys,
      seed,
      ...choice,
      timeoutMs: values.timeout / 1e6,
      history: values.history,
      hlog: values.hlog,
      oneWay: values['one-way'],
      run: newRunId(),
      timeline: values.report !== undefined,
      keyPrefix: `${BENCH_PREFIX}${values.history === undefined ? 'key-' : `h${randomBytes(4).toString('hex')}-`}`,
    } as const; // a history starts with absent keys

    using interruption = new Interruption();
    let report: BenchReport;
    let load: LoadResult;
    let hlogError: unknown;
    if (values.cluster === undefined) {
      await using cluster = await LocalCluster.start({
        replicas: values.local ?? 3,
        machine,
        ...choice,
        durability: values.durability,
      });
      [report, load, hlogError] = await measure(
        { ...plan, clusterFile: cluster.clusterFile },
        cluster,
        interruption,
        output,
      );
    } else {
      const written =
        machine === 'kv' && Object.keys(mix).some((operation) => operation !== 'read')
          ? new BenchKeys(values.cluster, plan.keyPrefix, keys, choice)
          : undefined;
      if (written !== undefined) output.note(written.announcement);
      try {
        [report, load, hlogError] = await measure(
          { ...plan, clusterFile: values.cluster },
          undefined,
          interruption,
          output,
        );
      } catch (error) {
        if (written !== undefined) output.note(written.abandoned);
        throw error;
      }
      if (written !== undefined) report = { ...report, keysLeft: await written.remove() };
    }
    // The result first: a file that cannot be written must not lose it.
    output.line(output.json ? JSON.stringify(report) : latencyText(report));
    writeOutput('hgrm', values.hgrm, () => formatHgrm(load.histogram));
    writeOutput('report', values.report, () => benchPage(report));
    if (hlogError !== undefined) throw hlogError;
    if (typeof report.partial === 'string')
      throw new CliError('interrupted', `${report.partial}; what is printed was measured until then`);
    checkAssertions(assertions, report);
    return Exit.done;
  },
);

async function measure(
  plan: Plan,
  local: LocalCluster | undefined,
  interruption: Interruption,
  output: Output,
): Promise<[BenchReport, LoadResult, hlogError: unknown]> {
  const { clients, lanes } = plan;
  using parts = plan.history === undefined ? undefined : new HistoryParts();
  const timeline = plan.timeline ? new Timeline(INTERVAL_MS) : undefined;
  let startedMs = NaN;
  const { replicas, authentication } = loadCluster(plan.clusterFile);
  warnWithoutKeys(output, loadCluster(plan.clusterFile));
  using log =
    plan.hlog === undefined
      ? undefined
      : HlogWriter.open(
          plan.hlog,
          plan.run,
          runSettings(plan, replicas.length, authentication === 'keys'),
          wallClockMs(),
        );
  const oneWay = plan.oneWay ? new OneWayTally(clients) : undefined;
  const workers = await Workers.start({
    count: clients,
    cluster: plan.clusterFile,
    transport: plan.transport,
    idle: plan.idle,
    workload: (index) => workloadOf(plan, index),
    seconds: secondsFor(log, oneWay),
    ...(parts === undefined ? {} : { history: (index: number) => parts.path(index) }),
    ...(timeline === undefined
      ? {}
      : {
          progressMs: INTERVAL_MS,
          onProgress: (_, histogram, counts) => timeline.add(performance.now() - startedMs, histogram, counts),
        }),
  });
  try {
    const before = await local?.ask('meter-start');
    startedMs = performance.now();
    const startedAtMs = wallClockMs();
    output.note(
      `latency: ${formatCount(plan.operations)} operations, ${clients} client${clients === 1 ? '' : 's'} × ${lanes} open`,
    );
    const load = await interruption.during(
      () => workers.stop(),
      () => workers.run(),
    );
    const after = await local?.ask('meter-stop');
    const facts = local === undefined ? await factsOf(plan.clusterFile) : undefined;
    if (parts !== undefined) mergeHistories(parts.paths(clients), plan.history!);
    const operations = load.histogram.count;
    const [first] = load.workers;
    const report: BenchReport = {
      schema: 'jitpaxos.bench/1',
      command: 'latency',
      partial: interruption.stopped
        ? `interrupted after ${formatCount(operations + load.counts.failed)} of ${formatCount(plan.operations)} operations`
        : null,
      run: plan.run,
      startedAtMs,
      replicas: replicas.length,
      transport: first!.transport,
      idle: first!.idle,
      machine: plan.machine,
      durability: local === undefined ? facts!.durability : local.options.durability,
      authenticated: authentication === 'keys',
      clients,
      lanes,
      opBytes: plan.size,
      mix: plan.mix,
      seconds: load.seconds,
      operations,
      warmupOperations: load.warmup,
      opsPerSecond: round(operations / load.seconds, 1),
      offeredPerSecond: null,
      latencyNs: load.histogram.summary(),
      fastPathRatio: load.counts.committed === 0 ? null : round(load.counts.fast / load.counts.committed, 6),
      rejected: load.counts.rejected,
      reconciled: load.counts.reconciled,
      retransmitted: load.counts.retransmitted,
      failed: load.counts.failed,
      viewChanges: load.counts.viewChanges,
      cpuSeconds: {
        client: round(
          load.workers.reduce((sum, worker) => sum + worker.cpuSeconds, 0),
          3,
        ),
        replicas:
          before === undefined || after === undefined
            ? null
            : after.map((answer, id) =>
                answer === undefined || before[id] === undefined
                  ? null
                  : round(answer.cpuSeconds - before[id].cpuSeconds, 3),
              ),
      },
      allocatedBytesPerOp: allocated(load, after, operations),
      clock: {
        ...(facts === undefined ? replicaClocks(after) : { source: facts.clockSource, errorNs: facts.clockErrorNs }),
        offsets: first!.clockOffsets,
      },
      baselines: [],
      ratios: {},
      host: hostInfo(),
      version: version(),
      commandLine: commandLine(),
      histogram: load.histogram.toData(),
      ...oneWayOf(oneWay, 0),
      ...(timeline === undefined
        ? {}
        : {
            timeline: timeline
              .intervals()
              .map((interval) => ({ ...interval, seconds: INTERVAL_MS / 1000, offeredPerSecond: null })),
          }),
    };
    return [report, load, log === undefined ? undefined : endLog(log, report)];
  } finally {
    workers.close();
  }
}

function runSettings(plan: Plan, replicas: number, authenticated: boolean): RunSettings {
  const { machine, mix, size, clients, lanes, keys, seed } = plan;
  return {
    command: 'latency',
    version: version(),
    commandLine: commandLine(),
    host: hostInfo(),
    replicas,
    machine,
    mix,
    opBytes: size,
    opBytesMax: size,
    authenticated,
    clients,
    lanes,
    rates: [],
    arrivals: null,
    seed,
    keys: machine === 'kv' ? keys : null,
    distribution: machine === 'kv' ? 'uniform' : null,
  };
}

function workloadOf(plan: Plan, index: number): Workload {
  const share = (total: number): number => Math.floor(total / plan.clients) + (index < total % plan.clients ? 1 : 0);
  const { machine, lanes, size, mix, keys, timeoutMs } = plan;
  return {
    machine,
    lanes,
    size,
    mix,
    keys,
    timeoutMs,
    keyPrefix: plan.keyPrefix,
    ownKeys: false,
    seed: plan.seed * 1000 + index,
    warmup: share(plan.warmup),
    operations: share(plan.operations),
  };
}

/**
 * Allocation of the primary and of the other members, for the view that all replicas are in at the end; null if views
 * changed meanwhile.
 */
function allocated(
  load: LoadResult,
  answers: readonly (ReplicaAnswer | undefined)[] | undefined,
  operations: number,
): BenchReport['allocatedBytesPerOp'] {
  const perOp = (bytes: number | undefined): number | null =>
    bytes === undefined || operations === 0 ? null : round(bytes / operations, 1);
  const client = load.workers.every((worker) => worker.heap !== null)
    ? perOp(load.workers.reduce((sum, worker) => sum + worker.heap!.allocatedBytes, 0))
    : null;
  const heaps = answers?.map((answer) => answer?.heap?.allocatedBytes);
  const view = answers?.[0]?.status['view'];
  if (heaps === undefined || typeof view !== 'number' || load.counts.viewChanges > 0)
    return { client, primary: null, member: null };
  const views = new Views(heaps.length);
  const members = views
    .members(view)
    .filter((id) => id !== views.primary(view))
    .map((id) => heaps[id]);
  const known = members.filter((bytes) => bytes !== undefined);
  return {
    client,
    primary: perOp(heaps[views.primary(view)]),
    member: known.length === 0 ? null : perOp(known.reduce((sum, bytes) => sum + bytes, 0) / known.length),
  };
}

/** Asks a running cluster as `jitpaxos status` does. */
async function factsOf(clusterFile: string): Promise<ClusterFacts> {
  const meter = await UsageMeter.open(clusterFile);
  try {
    return await meter.facts();
  } finally {
    await meter.close();
  }
}

/** The clocks that the replicas report. */
function replicaClocks(
  answers: readonly (ReplicaAnswer | undefined)[] | undefined,
): Pick<BenchReport['clock'], 'source' | 'errorNs'> {
  const clocks = (answers ?? []).map(
    (answer) => answer?.status['clock'] as { source?: string; errorBoundNs?: number } | undefined,
  );
  return { source: clocks.find((clock) => clock !== undefined)?.source ?? null, errorNs: largestError(clocks) };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
