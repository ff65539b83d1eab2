/**
 * Leases and watches of the cluster, for `jitpaxos status` and `top`. The rule: leases are replicated, so one replica tells
 * of them; watches are not, so they are added up over the replicas that answered.
 */
import type { ReplicaStatusReport } from '../../host/status.js';
import { formatCount, formatRate } from '../../console/units.js';

export interface LeasesSeen {
  /** Leases that are there. */
  readonly held: number;
  /** Absent: there are no two answers of one process. */
  readonly renewalsPerSecond?: number;
  /** Not renewed in time, or revoked. */
  readonly endedPerSecond?: number;
}

export interface WatchesSeen {
  readonly open: number;
  /** Changes told. Absent: no replica has answered twice. */
  readonly changesPerSecond?: number;
  /** Watches that ended since the replicas started because their changes were no longer kept. */
  readonly compacted: number;
}

type Report = Pick<ReplicaStatusReport, 'pid' | 'incarnation' | 'uptimeSeconds' | 'leases' | 'watches'>;

/** A replica's answer, and the one before. */
export interface TwoReports {
  readonly now: Report;
  readonly before: Report | undefined;
}

/** @param of the primary's. Undefined: it has no leases, or does not say */
export function leasesSeen(of: TwoReports | undefined): LeasesSeen | undefined {
  const leases = of?.now.leases;
  if (of === undefined || leases === undefined) return undefined;
  const renewalsPerSecond = rate(of, (report) => report.leases?.renewed);
  const endedPerSecond = rate(of, (report) => report.leases?.ended);
  return {
    held: leases.held,
    ...(renewalsPerSecond === undefined ? {} : { renewalsPerSecond }),
    ...(endedPerSecond === undefined ? {} : { endedPerSecond }),
  };
}

/** @param all of every replica that answered. Undefined: none says */
export function watchesSeen(all: readonly TwoReports[]): WatchesSeen | undefined {
  const known = all.flatMap(({ now: { watches } }) => (watches === undefined ? [] : [watches]));
  if (known.length === 0) return undefined;
  const rates = all.flatMap((of) => rate(of, (report) => report.watches?.told) ?? []);
  return {
    open: sum(known.map(({ open }) => open)),
    ...(rates.length === 0 ? {} : { changesPerSecond: sum(rates) }),
    compacted: sum(known.map(({ behind }) => behind)),
  };
}

/** Empty if there is nothing to tell. */
export function storeLine(leases: LeasesSeen | undefined, watches: WatchesSeen | undefined): string {
  const parts: string[] = [];
  if (leases !== undefined && (leases.held > 0 || (leases.endedPerSecond ?? 0) > 0))
    parts.push(
      `leases ${formatCount(leases.held)}`,
      ...perSecond('renewals', leases.renewalsPerSecond),
      ...perSecond('ended', leases.endedPerSecond),
    );
  if (watches !== undefined && (watches.open > 0 || watches.compacted > 0))
    parts.push(
      `watches ${formatCount(watches.open)}`,
      ...perSecond('changes', watches.changesPerSecond),
      ...(watches.compacted === 0 ? [] : [`compacted ${formatCount(watches.compacted)}`]),
    );
  return parts.join('   ');
}

function perSecond(what: string, value: number | undefined): string[] {
  return value === undefined ? [] : [`${what} ${formatRate(value)}/s`];
}

/** Undefined: the process has not answered twice, or one of the answers lacks the figure. */
function rate({ now, before }: TwoReports, of: (report: Report) => number | undefined): number | undefined {
  if (before === undefined || before.pid !== now.pid || before.incarnation !== now.incarnation) return undefined;
  const seconds = now.uptimeSeconds - before.uptimeSeconds;
  const [from, to] = [of(before), of(now)];
  if (!(seconds > 0) || from === undefined || to === undefined) return undefined;
  return Math.max(0, to - from) / seconds;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
