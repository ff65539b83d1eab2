/**
 * Runs of benches added up, from their histogram logs and their reports.
 *
 * Histograms are added bucket by bucket, so the percentiles are those of all operations, as one process that saw them all
 * would have found. What cannot be added is refused. What can be added, and may still mislead, is said: runs that are
 * incomplete, not sustained, of another configuration or version, or not at the same time.
 *
 * Texts of the files may come from anybody: they neither control a terminal or a page nor end a line.
 */
import { CliError } from '../../console/exit.js';
import { Histogram } from '../../metrics/histogram.js';
import { partialOf, type BenchReport } from '../load/bench-report.js';
import type { Mix } from '../load/messages.js';
import { inLine } from '../../host/printable.js';
import { checkedOneWay } from '../oneway/checked.js';
import type { OneWayFigures } from '../oneway/figures.js';
import { isOneWay, UNSENT_TAG, type HlogRun } from './log-format.js';
import { checkedHistogram, readHlog } from './log-reader.js';
import { WallTimeline } from './wall-timeline.js';

/** Most runs that are added up. */
export const MERGED_MAX = 64;

const MS_PER_SECOND = 1000;
/** Bounds of a report's timeline, which may come from anybody. */
const INTERVALS_MAX = 100_000;
const INTERVAL_SECONDS_MAX = 60;
const SECONDS_MAX = 1e7;
const WALL_MS_MAX = 2 ** 43;

/** One run among several. */
export interface MergedRun {
  readonly name: string;
  readonly from: 'log' | 'report';
  /** Null for reports of earlier versions. */
  readonly run: string | null;
  readonly host: string;
  /** When it was measured, seconds since the epoch; null if the file does not say. */
  readonly startSeconds: number | null;
  readonly endSeconds: number | null;
  readonly operations: number;
  readonly opsPerSecond: number;
  readonly latency: Histogram;
  readonly partial: string | null;
  readonly shortfall: string | null;
  /** Between the host of this run and each replica; null: not measured. Ways of several hosts are never added. */
  readonly oneWay: readonly OneWayFigures[] | null;
  /** What should be the same in all runs, by name; a setting that the file does not have is not in it. */
  readonly settings: Readonly<Record<string, string>>;
  readonly seed: number | null;
}

/** What is known of a log besides its content. */
export interface LogRemarks {
  /** Its clock was this much ahead: taken off its times. Default 0. */
  readonly aheadSeconds?: number;
  /** What a reader must know before the figures, each without the name of the run. */
  readonly remarks?: readonly string[];
}

/** A run that should have been added. */
export interface MissingRun {
  readonly name: string;
  /** A clause. */
  readonly why: string;
}

type Reported = Omit<MergedRun, 'name' | 'from'>;

export class Merge {
  readonly runs: MergedRun[] = [];
  readonly latency = new Histogram();
  /** Of the runs that have logs. */
  readonly tags = new Map<string, Histogram>();
  readonly timeline = new WallTimeline();
  readonly missing: MissingRun[] = [];
  private readonly remarks: string[] = [];

  /** Adds a histogram log. Throws CliError `argument-invalid`. */
  addLog(name: string, path: string, { aheadSeconds = 0, remarks = [] }: LogRemarks = {}): void {
    const log = readHlog(path, ({ tag, startSeconds, seconds, histogram }) => {
      if (isOneWay(tag)) return;
      this.timeline.add(
        startSeconds - aheadSeconds,
        startSeconds - aheadSeconds + seconds,
        tag.endsWith('-ok') ? histogram.count : 0,
        tag === UNSENT_TAG ? undefined : histogram,
      );
    });
    const { run, end, tags, latency, steps, fromSeconds, toSeconds } = log;
    if (steps > 1 || run.rates.length > 1) throw ramp(path);
    const operations = [...tags].reduce((sum, [tag, { count }]) => sum + (tag.endsWith('-ok') ? count : 0), 0);
    const seconds = end?.seconds ?? (toSeconds ?? 0) - (fromSeconds ?? 0);
    this.add(path, {
      name,
      from: 'log',
      run: run.run,
      host: hostText(run.host),
      startSeconds: fromSeconds === null ? null : fromSeconds - aheadSeconds,
      endSeconds: toSeconds === null ? null : toSeconds - aheadSeconds,
      operations,
      opsPerSecond: seconds > 0 ? operations / seconds : 0,
      latency,
      partial: end === null ? 'it has no end mark, so its bench was killed, or still runs' : end.partial,
      shortfall: end?.shortfall ?? null,
      oneWay: end?.oneWay ?? null,
      settings: settingsOf(run, { transport: end?.transport ?? null, durability: end?.durability ?? null }),
      seed: run.arrivals === null ? null : run.seed,
    });
    this.remarks.push(...remarks.map((remark) => inLine(`${name}: ${remark}`)));
    for (const [tag, histogram] of tags) {
      if (isOneWay(tag)) continue;
      const sum = this.tags.get(tag);
      if (sum === undefined) this.tags.set(tag, histogram);
      else sum.merge(histogram);
      if (!Number.isSafeInteger(this.tags.get(tag)!.count)) throw tooMany(path);
    }
  }

  /** A run that should be there is not: the sum is partial. */
  lacks(name: string, why: string): void {
    this.missing.push({ name: inLine(name), why: inLine(why) });
  }

  /** Adds a report. Throws CliError `argument-invalid`. */
  addReport(name: string, path: string, report: BenchReport): void {
    if (report.load !== undefined && report.load.steps.length > 1) throw ramp(path);
    let reported: Reported;
    try {
      reported = this.reported(report);
    } catch (error) {
      throw refusal(path, error instanceof Error ? error.message : String(error));
    }
    this.add(path, { name, from: 'report', ...reported });
  }

  /** What a reader must know before the figures. */
  flaws(): string[] {
    const { runs } = this;
    const timed = runs.filter(({ startSeconds }) => startSeconds !== null);
    const firstEnd = timed.reduce<MergedRun | undefined>(
      (first, run) => (first === undefined || run.endSeconds! < first.endSeconds! ? run : first),
      undefined,
    );
    const seeds = new Map<number, string>();
    return [
      ...this.missing.map(({ name, why }) => `the sum is partial: ${name} is not in it: ${why}`),
      ...this.remarks,
      ...runs.flatMap(({ name, partial, shortfall, latency, startSeconds }) => [
        ...(partial === null ? [] : [`${name} is partial: ${partial}`]),
        ...(shortfall === null ? [] : [`${name}: its rate was not sustained: ${shortfall}`]),
        ...(latency.count === 0 ? [`${name} measured nothing: it has no latencies`] : []),
        ...(startSeconds === null && latency.count > 0 ? [`${name} does not say when it ran`] : []),
      ]),
      ...timed
        .filter(({ startSeconds }) => startSeconds! >= firstEnd!.endSeconds!)
        .map(({ name }) => `${name} began after ${firstEnd!.name} had ended: they were not one load`),
      ...runs.flatMap(({ name, seed }) => {
        if (seed === null) return [];
        const other = seeds.get(seed);
        seeds.set(seed, other ?? name);
        return other === undefined ? [] : [`${name} has the seed of ${other}: their arrivals may coincide`];
      }),
    ];
  }

  /** The settings in which the runs differ. */
  differences(): string[] {
    const { runs } = this;
    const names = new Set(runs.flatMap(({ settings }) => Object.keys(settings)));
    return [...names].flatMap((setting) => {
      const known = runs.filter(({ settings }) => settings[setting] !== undefined);
      return new Set(known.map(({ settings }) => settings[setting])).size === 1
        ? []
        : [`${setting}: ${known.map(({ name, settings }) => `${name} ${settings[setting]}`).join(', ')}`];
    });
  }

  /** Completed operations a second of all runs together; null if they did not run at the same time. */
  get opsPerSecond(): number | null {
    const { runs } = this;
    const latestStart = Math.max(...runs.map(({ startSeconds }) => startSeconds ?? Infinity));
    const earliestEnd = Math.min(...runs.map(({ endSeconds }) => endSeconds ?? -Infinity));
    return latestStart < earliestEnd ? runs.reduce((sum, { opsPerSecond }) => sum + opsPerSecond, 0) : null;
  }

  /** Names of the runs whose latencies have no place in `timeline`. */
  get withoutIntervals(): string[] {
    return this.runs.filter(({ from }) => from === 'report').map(({ name }) => name);
  }

  private add(path: string, run: MergedRun): void {
    const same = this.runs.find((other) => run.run !== null && other.run === run.run);
    if (same !== undefined)
      throw refusal(path, `it is the run of ${same.name}, which would count twice`, 'leave out one of them');
    this.latency.merge(run.latency);
    if (!Number.isSafeInteger(this.latency.count)) throw tooMany(path);
    this.runs.push(shown(run));
  }

  /** Throws Error with a few words. */
  private reported(report: BenchReport): Reported {
    if (report.histogram === undefined) throw new Error('it has no histogram');
    const latency = checkedHistogram(report.histogram, 'its count');
    const { run, startedAtMs, timeline = [], seconds, load } = report;
    if (run !== undefined && !/^[0-9a-f]{16}$/.test(run)) throw new Error('its name of the run is not one');
    let start = startedAtMs === undefined ? null : inRange('startedAtMs', startedAtMs, WALL_MS_MAX) / MS_PER_SECOND;
    inRange('seconds', seconds, SECONDS_MAX);
    inRange('operations', report.operations, Number.MAX_SAFE_INTEGER);
    inRange('opsPerSecond', report.opsPerSecond, Number.MAX_SAFE_INTEGER);
    if (!Array.isArray(timeline) || timeline.length > INTERVALS_MAX)
      throw new Error(`its timeline has more than ${INTERVALS_MAX} intervals`);
    for (const interval of timeline) {
      inRange('startSeconds', interval.startSeconds, SECONDS_MAX);
      inRange('seconds', interval.seconds, INTERVAL_SECONDS_MAX);
      inRange('operationsPerSecond', interval.operationsPerSecond, Number.MAX_SAFE_INTEGER);
    }
    if (start !== null) {
      for (const { startSeconds, seconds: length, operationsPerSecond } of timeline)
        this.timeline.add(start + startSeconds, start + startSeconds + length, operationsPerSecond * length);
      start += timeline[0]?.startSeconds ?? 0;
    }
    return {
      run: run ?? null,
      host: hostText(report.host),
      startSeconds: start,
      endSeconds: start === null ? null : start + seconds,
      operations: report.operations,
      opsPerSecond: report.opsPerSecond,
      latency,
      partial: partialOf(report),
      shortfall: load?.steps[load.reported]?.shortfall ?? null,
      oneWay: report.oneWay === undefined ? null : checkedOneWay(report.oneWay.replicas),
      settings: settingsOf(
        {
          ...report,
          opBytesMax: load?.opBytesMax ?? report.opBytes,
          arrivals: load?.arrivals ?? null,
          keys: load?.keys ?? null,
          distribution: load?.distribution ?? null,
        },
        report,
      ),
      seed: load?.seed ?? null,
    };
  }
}

function settingsOf(
  run: Pick<HlogRun, 'version' | 'replicas' | 'machine' | 'opBytes' | 'opBytesMax' | 'authenticated' | 'arrivals'> &
    Pick<HlogRun, 'keys' | 'distribution'> & { readonly command: string; readonly mix: Mix },
  { transport, durability }: { readonly transport: string | null; readonly durability: string | null },
): Record<string, string> {
  const mix = Object.entries(run.mix).map(([name, share]) => `${name} ${Math.round(100 * share)} %`);
  const size = run.opBytesMax > run.opBytes ? `${run.opBytes} to ${run.opBytesMax}` : `${run.opBytes}`;
  return {
    'kind of load': `bench ${run.command}${run.arrivals === null ? '' : `, ${run.arrivals} arrivals`}`,
    version: run.version,
    replicas: String(run.replicas),
    ...(transport === null ? {} : { transport }),
    operations: `${run.machine}, ${mix.join(' ')}, ${size} bytes`,
    ...(run.keys === null || run.arrivals === null ? {} : { keys: `${run.keys} ${run.distribution}` }),
    ...(durability === null ? {} : { durability }),
    authentication: run.authenticated ? 'keys' : 'none',
  };
}

function hostText({ cores, cpu, kernel, node }: HlogRun['host']): string {
  return `${cores} × ${cpu}, Linux ${kernel}, Node ${node}`;
}

/** The run with its texts as they may be shown. */
function shown(run: MergedRun): MergedRun {
  const text = (value: unknown): string => inLine(String(value));
  return {
    ...run,
    name: text(run.name),
    host: text(run.host),
    partial: run.partial === null ? null : text(run.partial),
    shortfall: run.shortfall === null ? null : text(run.shortfall),
    settings: Object.fromEntries(
      Object.entries(run.settings).flatMap(([name, value]) =>
        (value as string | undefined) === undefined ? [] : [[name, text(value)]],
      ),
    ),
  };
}

function inRange(name: string, value: unknown, max: number): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= max))
    throw new Error(`its ${name} is not a number up to ${max}`);
  return value;
}

function tooMany(path: string): CliError {
  return refusal(path, 'with it, more values are counted than a number can hold', 'leave it out');
}

function ramp(path: string): CliError {
  return refusal(path, 'it is a ramp, and latencies at several rates are not one distribution', 'measure at one rate');
}

function refusal(path: string, why: string, advice = 'give files that a bench wrote with --hlog or --json'): CliError {
  return new CliError('argument-invalid', `${path}: ${why}; ${advice}`);
}
