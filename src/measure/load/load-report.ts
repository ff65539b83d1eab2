/** Turns the steps of a load into its report, and the report into text. */
import { hostInfo, oneWayText, tableOf, type BenchReport, type TimelineInterval } from './bench-report.js';
import { kneeOf, limitOf } from './knee.js';
import type { LoadSection, LoadStep } from './load-section.js';
import type { RampPlan, RampStep } from './ramp.js';
import { table } from '../../console/terminal.js';
import { formatCount, formatDuration } from '../../console/units.js';

/** The fields of a report that are known before measuring. */
export type LoadSetting = Pick<
  BenchReport,
  | 'run'
  | 'startedAtMs'
  | 'replicas'
  | 'machine'
  | 'durability'
  | 'authenticated'
  | 'clients'
  | 'lanes'
  | 'opBytes'
  | 'mix'
  | 'clock'
  | 'version'
  | 'commandLine'
> &
  Pick<LoadSection, 'pacing' | 'keys' | 'distribution' | 'opBytesMax'>;

/** A clause for `partial`; undefined for a complete run. */
export type Partial = string | undefined;

/** @param steps at least one */
export function loadReport(
  setting: LoadSetting,
  plan: RampPlan,
  steps: readonly RampStep[],
  partial: Partial,
): BenchReport {
  const { pacing, keys, distribution, opBytesMax, ...common } = setting;
  const knee = kneeOf(steps.map(({ facts }) => facts));
  const isRamp = plan.rates.length > 1;
  const reported = Math.max(0, isRamp ? knee.index : 0);
  const loadSteps = steps.map((step, index) => stepOf(step, knee.shortfalls[index]));
  const { measurement, usage } = steps[reported]!;
  const figures = loadSteps[reported]!;
  const { client } = measurement;
  return {
    schema: 'jitpaxos.bench/1',
    command: 'load',
    transport: measurement.transport,
    idle: measurement.idle,
    ...common,
    clock: {
      ...common.clock,
      ...(measurement.clockOffsets === undefined ? {} : { offsets: measurement.clockOffsets }),
    },
    seconds: measurement.seconds,
    operations: figures.operations,
    warmupOperations: null,
    opsPerSecond: figures.opsPerSecond,
    offeredPerSecond: figures.offeredPerSecond,
    latencyNs: figures.latencyNs,
    fastPathRatio: figures.fastPathRatio,
    rejected: client.rejected,
    reconciled: client.reconciled,
    retransmitted: client.retransmitted,
    failed: figures.failed,
    viewChanges: client.viewChanges,
    cpuSeconds: {
      client: round(
        measurement.clientCpuSeconds.reduce((sum, seconds) => sum + seconds, 0),
        3,
      ),
      replicas: usage.replicaCpuSeconds.map((seconds) => (seconds === null ? null : round(seconds, 3))),
    },
    allocatedBytesPerOp: {
      client:
        measurement.clientAllocatedBytes === null || figures.operations === 0
          ? null
          : round(measurement.clientAllocatedBytes / figures.operations, 1),
      primary: null,
      member: null,
    },
    baselines: [],
    ratios: {},
    host: hostInfo(),
    histogram: measurement.latency.toData(),
    timeline: steps.flatMap((step) => timelineOf(step, plan.intervalMs)),
    load: {
      arrivals: plan.kind,
      seed: plan.seed,
      pacing,
      keys,
      distribution,
      opBytesMax,
      warmupSeconds: plan.warmupNs / 1e9,
      steps: loadSteps,
      reported,
      serviceHistogram: measurement.service.toData(),
      knee:
        isRamp && knee.index >= 0
          ? { offeredPerSecond: figures.offeredPerSecond, opsPerSecond: figures.opsPerSecond }
          : null,
      limit: knee.endedAt < 0 ? null : limitOf(steps[knee.endedAt]!.facts),
      partial: partial ?? null,
    },
  };
}

function stepOf({ measurement, facts }: RampStep, shortfall: string | undefined): LoadStep {
  const { counts, client, seconds } = measurement;
  const perSecond = (count: number): number => (seconds === 0 ? 0 : round(count / seconds, 1));
  return {
    offeredPerSecond: facts.offeredPerSecond,
    arrivedPerSecond: perSecond(counts.offered),
    sentPerSecond: perSecond(counts.sent),
    opsPerSecond: perSecond(counts.completedInWindow),
    seconds,
    operations: counts.succeeded,
    latencyNs: facts.latencyNs,
    serviceLatencyNs: measurement.service.summary(),
    schedulingDelayNs: measurement.pacing.summary(),
    fastPathRatio: client.committed === 0 ? null : round(client.fast / client.committed, 6),
    rejected: client.rejected,
    rejectedByReason: facts.rejectedByReason,
    reconciled: client.reconciled,
    retransmitted: client.retransmitted,
    viewChanges: client.viewChanges,
    failed: counts.failed,
    errors: measurement.errors,
    unsent: counts.unsent,
    queued: counts.queued,
    cores: {
      clients: facts.cores.clients.map((cores) => round(cores, 3)),
      replicas: facts.cores.replicas.map((cores) => (cores === null ? null : round(cores, 3))),
      host: round(facts.cores.host ?? 0, 3),
      hostTotal: facts.cores.hostTotal,
    },
    shortfall: shortfall ?? null,
  };
}

function timelineOf(step: RampStep, intervalMs: number): TimelineInterval[] {
  return step.timeline.intervals().map((interval) => ({
    ...interval,
    startSeconds: round(step.startSeconds + interval.startSeconds, 3),
    operationsPerSecond: round(interval.operationsPerSecond, 1),
    seconds: intervalMs / 1000,
    offeredPerSecond: step.ratePerSecond,
  }));
}

/** The report as text. */
export function loadText(report: BenchReport): string {
  const load = report.load!;
  const step = load.steps[load.reported]!;
  const lines: string[] = [];
  if (load.steps.length > 1) lines.push(...stepTable(load.steps), '');
  lines.push(tableOf(report));
  const rows: [string, string][] = [
    [
      'service',
      `from the actual send: p50 ${formatDuration(step.serviceLatencyNs.p50)}   p99 ${formatDuration(step.serviceLatencyNs.p99)}   p99.9 ${formatDuration(step.serviceLatencyNs.p999)}   max ${formatDuration(step.serviceLatencyNs.max)}`,
    ],
    [
      'scheduling',
      `client late by p50 ${formatDuration(step.schedulingDelayNs.p50)}   p99 ${formatDuration(step.schedulingDelayNs.p99)}   max ${formatDuration(step.schedulingDelayNs.max)}; ${formatCount(step.queued)} waited for a lane, ${formatCount(step.unsent)} were never sent`,
    ],
    ['arrivals', `${load.arrivals}, seed ${load.seed}`],
  ];
  if (load.knee !== null && load.limit !== null)
    rows.push([
      'knee',
      `${formatCount(load.knee.offeredPerSecond)} operations/s offered, ${formatCount(load.knee.opsPerSecond)} completed`,
    ]);
  rows.push(...verdictRows(report));
  const width = 'one round trip'.length;
  lines.push(...rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`), ...oneWayText(report));
  return lines.join('\n');
}

/** Remarks about the run, if any: that it is partial, or fell short, and why. */
export function verdictRows(report: BenchReport): [string, string][] {
  const load = report.load!;
  const step = load.steps[load.reported]!;
  const rows: [string, string][] = [];
  if (step.shortfall !== null)
    rows.push(['not sustained', `the ${formatCount(step.offeredPerSecond)}/s that were asked for: ${step.shortfall}`]);
  if (load.limit !== null)
    load.limit.evidence.forEach((evidence, index) =>
      rows.push([index === 0 ? 'ended by' : '', `${index === 0 ? `${load.limit!.resource}: ` : ''}${evidence}`]),
    );
  else if (load.steps.length > 1) rows.push(['knee', 'not reached: every rate was sustained']);
  if (load.partial !== null) rows.push(['partial', load.partial]);
  return rows;
}

function stepTable(steps: readonly LoadStep[]): string[] {
  const rows = steps.map((step) => [
    formatCount(step.offeredPerSecond),
    formatCount(step.opsPerSecond),
    formatDuration(step.latencyNs.p50),
    formatDuration(step.latencyNs.p99),
    formatDuration(step.latencyNs.p999),
    step.fastPathRatio === null ? '–' : `${(100 * step.fastPathRatio).toFixed(1)} %`,
    formatDuration(step.schedulingDelayNs.p99),
    step.shortfall ?? 'sustained',
  ]);
  return table(
    [['offered/s', 'done/s', 'p50', 'p99', 'p99.9', 'fast path', 'late p99', ''], ...rows],
    new Set([0, 1, 2, 3, 4, 5, 6]),
  );
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
