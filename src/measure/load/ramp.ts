/**
 * Runs the steps of a load one after the other, reads the meters around each, and stops early if two steps in a row
 * fell short, or if the user pressed Ctrl-C.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { hostMonotonicNs } from '../../clock/monotonic.js';
import type { ArrivalKind } from './arrivals.js';
import { isOver, type StepFacts } from './knee.js';
import type { OpenLoad, StepMeasurement } from './open-load.js';
import { Timeline } from './timeline.js';
import type { Usage, UsageMeter } from './usage.js';
import { wallClockMs } from './wall-seconds.js';

export interface RampPlan {
  readonly rates: readonly number[];
  readonly kind: ArrivalKind;
  readonly seed: number;
  readonly warmupNs: number;
  readonly durationNs: number;
  readonly intervalMs: number;
  readonly hostCores: number;
  /** The replicas run on this host. */
  readonly replicasHere: boolean;
}

export interface RampStep {
  readonly ratePerSecond: number;
  readonly measurement: StepMeasurement;
  readonly usage: Usage;
  readonly facts: StepFacts;
  readonly timeline: Timeline;
  /** When its measured window began, since the start of the ramp. */
  readonly startSeconds: number;
}

/** The step that runs now, for a display. */
export interface RunningRampStep {
  readonly index: number;
  readonly ratePerSecond: number;
  readonly timeline: Timeline;
  readonly startedAtMs: number;
}

const NS_PER_MS = 1e6;
/** Readable interval lengths; the first one that makes no more than INTERVALS_MAX intervals is used. */
const INTERVALS_MS = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000];
const INTERVALS_MAX = 150;

export function intervalFor(durationNs: number): number {
  return INTERVALS_MS.find((ms) => durationNs / NS_PER_MS / ms <= INTERVALS_MAX) ?? INTERVALS_MS.at(-1)!;
}

/** Rates from `from` to `to` inclusive, in equal ratios: a knee may be anywhere. */
export function ratesBetween(from: number, to: number, steps: number): number[] {
  if (steps === 1) return [to];
  return Array.from({ length: steps }, (_, index) => Math.round(from * (to / from) ** (index / (steps - 1))));
}

export class Ramp {
  readonly steps: RampStep[] = [];
  running: RunningRampStep | undefined;
  interrupted = false;
  /** The wall clock when it began, ms since the epoch. */
  startedAtMs = NaN;

  constructor(
    private readonly load: OpenLoad,
    private readonly meter: UsageMeter,
    readonly plan: RampPlan,
    /** Called before each step. */
    private readonly onStart: (ratePerSecond: number) => void = () => undefined,
  ) {}

  /**
   * Throws the error of a failed client process; earlier steps are kept.
   * @param startNs when the arrivals of the first step begin: CLOCK_MONOTONIC, ns. Default: as soon as they can
   */
  async run(onStep: (step: RampStep) => void, startNs?: number): Promise<void> {
    const began = performance.now();
    this.startedAtMs = wallClockMs();
    for (const [index, ratePerSecond] of this.plan.rates.entries()) {
      this.onStart(ratePerSecond);
      const step = await this.runStep(index, ratePerSecond, began, index === 0 ? startNs : undefined);
      this.steps.push(step);
      onStep(step);
      if (this.interrupted || isOver(this.steps.map(({ facts }) => facts))) return;
    }
  }

  /** Ends the current step now; its measurement so far counts. */
  interrupt(): void {
    this.interrupted = true;
    this.load.stop();
  }

  private async runStep(
    index: number,
    ratePerSecond: number,
    began: number,
    startNs: number | undefined,
  ): Promise<RampStep> {
    const { kind, seed, warmupNs, durationNs, intervalMs, hostCores, replicasHere } = this.plan;
    const { meter } = this;
    const timeline = new Timeline(intervalMs);
    const startedAtMs = performance.now();
    const untilStartNs = startNs === undefined ? 0 : Math.max(0, startNs - hostMonotonicNs());
    this.running = { index, ratePerSecond, timeline, startedAtMs };
    const measured = this.load.step({
      kind,
      ratePerSecond,
      seed: seed + index,
      warmupNs,
      durationNs,
      intervalMs,
      startNs,
      // Operations that end after the window are in the step's histogram; on the time line they would look like
      // throughput.
      onProgress: (interval, histogram, counts) =>
        interval * intervalMs * NS_PER_MS < durationNs && timeline.add((interval + 1) * intervalMs, histogram, counts),
    });
    const over = measured.then(
      () => undefined,
      () => undefined,
    );
    const at = (ns: number): Promise<void> => Promise.race([delay(ns / NS_PER_MS, undefined, { ref: false }), over]);
    const metered = at(untilStartNs + warmupNs)
      .then(() => meter.start())
      .then(() => at(durationNs))
      .then(() => meter.stop());
    const [measurement] = await Promise.all([measured, metered]);
    const usage = meter.usage();
    const startSeconds = (startedAtMs - began) / 1000 + (untilStartNs + warmupNs) / 1e9;
    return {
      ratePerSecond,
      measurement,
      usage,
      facts: factsOf(ratePerSecond, measurement, usage, { hostTotal: hostCores, replicasHere }),
      timeline,
      startSeconds,
    };
  }
}

function factsOf(
  offeredPerSecond: number,
  measurement: StepMeasurement,
  usage: Usage,
  host: { readonly hostTotal: number; readonly replicasHere: boolean },
): StepFacts {
  const { counts, client, seconds } = measurement;
  const share = (cpuSeconds: number): number => (seconds === 0 ? 0 : cpuSeconds / seconds);
  return {
    offeredPerSecond,
    offered: counts.offered,
    completedInWindow: counts.completedInWindow,
    failed: counts.failed,
    unsent: counts.unsent,
    queued: counts.queued,
    committed: client.committed,
    retransmitted: client.retransmitted,
    viewChanges: client.viewChanges,
    rejectedByReason: measurement.rejectedByReason,
    latencyNs: measurement.latency.summary(),
    schedulingDelayNs: { p99: measurement.pacing.summary().p99 },
    cores: {
      clients: measurement.clientCpuSeconds.map(share),
      replicas: usage.replicaCores,
      host: usage.hostCores,
      ...host,
    },
    silentReplicas: usage.silentReplicas,
    replicaDrops: usage.replicaDrops,
  };
}
