/**
 * Judges the steps of a ramp: which rates were sustained, where the knee is, and what ended it. It only computes on
 * measured figures, so it can be tested with made-up steps.
 */
import type { LatencySummary } from '../../metrics/histogram.js';
import { formatCount, formatDuration } from '../../console/units.js';

/** What is known about a step when it is judged. */
export interface StepFacts {
  /** The requested rate. */
  readonly offeredPerSecond: number;
  /** Arrivals in the window. */
  readonly offered: number;
  readonly completedInWindow: number;
  readonly failed: number;
  readonly unsent: number;
  readonly queued: number;
  readonly committed: number;
  readonly retransmitted: number;
  readonly viewChanges: number;
  readonly rejectedByReason: Readonly<Record<string, number>>;
  readonly latencyNs: LatencySummary;
  readonly schedulingDelayNs: { readonly p99: number | null };
  /** Cores that each kept busy; null: unknown. */
  readonly cores: {
    readonly clients: readonly number[];
    readonly replicas: readonly (number | null)[];
    readonly host: number | null;
    readonly hostTotal: number;
    /** The replicas ran on this host. */
    readonly replicasHere: boolean;
  };
  /** Replicas that did not answer at the end of the step, by id. */
  readonly silentReplicas: readonly number[];
  /** Messages and datagrams for which a replica had no room; null: unknown. */
  readonly replicaDrops: number | null;
}

/** Least share of the window's arrivals that must complete within it. */
const SUSTAINED_SHARE = 0.98;
/** Largest share that may fail or never be sent. */
const LOST_SHARE = 0.001;
/** If p99 is this many times that of the best earlier step, the step is past the knee, whatever its throughput. */
const P99_FACTOR = 10;

/**
 * Why the step did not sustain its rate, as a clause; undefined if it did. `bestP99`: the lowest p99 of earlier steps,
 * ns.
 */
export function shortfallOf(step: StepFacts, bestP99 = Infinity): string | undefined {
  if (step.offered === 0) return 'nothing arrived in the window';
  const share = step.completedInWindow / step.offered;
  if (share < SUSTAINED_SHARE) return `${percent(share)} of what arrived was completed in time`;
  const lost = step.failed + step.unsent;
  if (lost > LOST_SHARE * step.offered)
    return `${formatCount(lost)} of ${formatCount(step.offered)} operations failed or were not sent`;
  if (step.latencyNs.p99 !== null && step.latencyNs.p99 > P99_FACTOR * bestP99)
    return `p99 rose to ${formatDuration(step.latencyNs.p99)}, more than ${P99_FACTOR} times the ${formatDuration(bestP99)} of the best step`;
  return undefined;
}

export interface Knee {
  /** The last step that was sustained before the end; −1 if there is none. */
  readonly index: number;
  /** The step that shows what ended it; −1 if every rate was sustained. */
  readonly endedAt: number;
  /** By step, why it was not sustained. */
  readonly shortfalls: readonly (string | undefined)[];
}

/**
 * The knee: the highest rate that was sustained before two steps in a row (or the last one) were not. A single failing
 * step between sustained ones is an accident, and is ignored.
 */
export function kneeOf(steps: readonly StepFacts[]): Knee {
  let bestP99 = Infinity;
  const shortfalls = steps.map((step) => {
    const shortfall = shortfallOf(step, bestP99);
    if (shortfall === undefined) bestP99 = Math.min(bestP99, step.latencyNs.p99 ?? Infinity);
    return shortfall;
  });
  const fell = (index: number): boolean => shortfalls[index] !== undefined;
  const endedAt = steps.findIndex((_, index) => fell(index) && (index + 1 === steps.length || fell(index + 1)));
  let index = (endedAt < 0 ? steps.length : endedAt) - 1;
  while (index >= 0 && fell(index)) index -= 1;
  return { index, endedAt, shortfalls };
}

/** The last two steps fell short: higher rates would only cost time. */
export function isOver(steps: readonly StepFacts[]): boolean {
  const { shortfalls } = kneeOf(steps);
  return shortfalls.length >= 2 && shortfalls.slice(-2).every((shortfall) => shortfall !== undefined);
}

export type Resource =
  | 'replicas'
  | 'queue-full'
  | 'replica-cpu'
  | 'client-cpu'
  | 'host-cpu'
  | 'view-changes'
  | 'datagram-loss'
  | 'rejects'
  | 'lanes'
  | 'other-work'
  | 'unknown';

export interface Limit {
  /** What most likely ended it: the first of `evidence`. */
  readonly resource: Resource;
  /** Everything that was at or near its limit, in words, causes before consequences. */
  readonly evidence: readonly string[];
}

const CORE_FULL = 0.9;
const HOST_FULL = 0.92;
/** A client that spins keeps a core busy at any rate; it is the limit only if it also sends late. */
const LATE_NS = 1e6;
const BUSY_SHARE = 0.01;
const RETRANSMITTED_SHARE = 0.05;
const REJECTED_SHARE = 0.2;
const QUEUED_SHARE = 0.05;
/** Share of a host's busy cores: below this, other programs keep them busy. */
const OWN_SHARE = 0.5;

/** Which resource was at its limit in a failing step. */
export function limitOf(step: StepFacts): Limit {
  const { cores, committed } = step;
  const found: [Resource, string][] = [];
  const per = (count: number): number => count / Math.max(1, committed);
  const busy = step.rejectedByReason['busy'] ?? 0;
  const silent = step.silentReplicas;
  const said = `replica${silent.length === 1 ? '' : 's'} ${silent.join(', ')} did not answer at the end`;
  if (isLost(step)) found.push(['replicas', `${said}: there is no majority, and nothing commits`]);
  if (per(busy) > BUSY_SHARE)
    found.push(['queue-full', `replicas rejected ${formatCount(busy)} requests as busy: a queue or the log was full`]);
  const replica = largest(cores.replicas);
  if (replica !== undefined && replica.value >= CORE_FULL)
    found.push(['replica-cpu', `replica ${replica.index} used ${percent(replica.value)} of a core`]);
  const client = largest(cores.clients);
  if (client !== undefined && client.value >= CORE_FULL && (step.schedulingDelayNs.p99 ?? 0) >= LATE_NS) {
    found.push([
      'client-cpu',
      `client process ${client.index} used ${percent(client.value)} of a core and sent late (scheduling delay p99 ${formatDuration(step.schedulingDelayNs.p99)}): more --clients`,
    ]);
  }
  const own = ownCores(step);
  const hostIsFull = cores.host !== null && cores.host >= HOST_FULL * cores.hostTotal;
  const host = hostIsFull
    ? `this host's ${cores.hostTotal} cores were ${percent(cores.host! / cores.hostTotal)} busy, ${own.toFixed(1)} of them with this measurement`
    : '';
  if (hostIsFull && own >= OWN_SHARE * cores.host!) found.push(['host-cpu', host]);
  if (silent.length > 0 && !isLost(step)) found.push(['replicas', said]);
  if (step.viewChanges > 0)
    found.push(['view-changes', `the view changed ${step.viewChanges === 1 ? 'once' : `${step.viewChanges} times`}`]);
  if (per(step.retransmitted) > RETRANSMITTED_SHARE || (step.replicaDrops ?? 0) > 0) {
    found.push([
      'datagram-loss',
      `${formatCount(step.retransmitted)} requests were sent again${step.replicaDrops === null ? '' : `, ${formatCount(step.replicaDrops)} messages had no room in a replica`}`,
    ]);
  }
  const rejected = Object.values(step.rejectedByReason).reduce((sum, count) => sum + count, 0);
  if (per(rejected) > REJECTED_SHARE)
    found.push([
      'rejects',
      `${formatCount(rejected)} rejects, ${per(rejected).toFixed(2)} a commit: ${reasons(step.rejectedByReason)}`,
    ]);
  // Operations that were never sent waited for a lane until the end.
  const waited = step.queued + step.unsent;
  if (waited > QUEUED_SHARE * step.offered) {
    found.push([
      'lanes',
      `${percent(waited / step.offered)} of the operations had to wait because every lane was open${step.unsent === 0 ? '' : `, and ${formatCount(step.unsent)} were never sent`}: more --lanes, if nothing else is at its limit`,
    ]);
  }
  // Other programs' load is not a limit of the measured system, but it may explain the rest.
  if (hostIsFull && own < OWN_SHARE * cores.host!) found.push(['other-work', `${host}: measure on a host at rest`]);
  if (found.length === 0) found.push(['unknown', 'nothing that was measured was at its limit']);
  return { resource: found[0]![0], evidence: found.map(([, text]) => text) };
}

/** A majority no longer answered. */
export function isLost({ silentReplicas, cores }: Pick<StepFacts, 'silentReplicas' | 'cores'>): boolean {
  return 2 * silentReplicas.length > cores.replicas.length;
}

/** Cores of this host that the measurement itself kept busy: other programs may use the rest. */
function ownCores({ cores }: StepFacts): number {
  const sum = (values: readonly (number | null)[]): number =>
    values.reduce<number>((total, value) => total + (value ?? 0), 0);
  return sum(cores.clients) + (cores.replicasHere ? sum(cores.replicas) : 0);
}

function reasons(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => `${reason} ${formatCount(count)}`)
    .join(', ');
}

function largest(values: readonly (number | null)[]): { readonly index: number; readonly value: number } | undefined {
  let found: { index: number; value: number } | undefined;
  values.forEach((value, index) => {
    if (value !== null && (found === undefined || value > found.value)) found = { index, value };
  });
  return found;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}
