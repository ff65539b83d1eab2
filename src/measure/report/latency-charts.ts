/** The charts that all reports share. */
import type { Histogram } from '../../metrics/histogram.js';
import { percentileTicks } from '../../metrics/hgrm.js';
import type { Interval } from '../load/timeline.js';
import { formatCount, formatDuration } from '../../console/units.js';
import { chartSvg, legend, type Mark, type Point, type Series, type Tone } from './chart.js';
import { section } from './html.js';
import { linearScale, logScale, percentileScale, tickCount, tickDuration, timeScale } from './scale.js';

export interface NamedHistogram {
  readonly name: string;
  readonly tone: Tone;
  readonly dashed?: boolean;
  readonly histogram: Histogram;
}

/** An interval of a run. `offeredPerSecond` exists in an open loop only. */
export interface TimePoint extends Interval {
  readonly offeredPerSecond?: number | null;
}

/**
 * The chart known from HdrHistogram's plotter: percentiles on a scale that gets finer to the right, latency on a
 * logarithmic scale.
 */
export function percentileSection(named: readonly NamedHistogram[], note: string): string {
  const filled = named.filter(({ histogram }) => histogram.count > 0);
  if (filled.length === 0) return '';
  const count = Math.max(...filled.map(({ histogram }) => histogram.count));
  const low = Math.min(...filled.map(({ histogram }) => Math.max(1, histogram.min)));
  const high = Math.max(...filled.map(({ histogram }) => histogram.max));
  const series = filled.map(
    ({ name, tone, dashed, histogram }): Series => ({
      name,
      tone,
      dashed: dashed === true,
      runs: [
        percentileTicks(histogram).map((percentile) => ({ x: percentile, y: histogram.quantile(percentile / 100) })),
      ],
    }),
  );
  const chart = chartSvg({
    label: 'Latency by percentile',
    x: percentileScale(count),
    y: logScale(low, high, tickDuration),
    series,
    height: 320,
  });
  return section('Latency by percentile', (series.length > 1 ? legend(series) : '') + chart, note);
}

export function throughputSection(points: readonly TimePoint[], spacing: number, marks: readonly Mark[]): string {
  const end = endOf(points, spacing);
  const runs = runsOf(points, spacing);
  const series: Series[] = [
    {
      name: 'completed',
      tone: 'a',
      filled: true,
      runs: runs.map((run) =>
        run.map((point) => ({ x: point.startSeconds + spacing / 2, y: point.operationsPerSecond })),
      ),
    },
  ];
  const offered = runs
    .map((run) =>
      run
        .filter(({ offeredPerSecond }) => typeof offeredPerSecond === 'number')
        .map((point) => ({ x: point.startSeconds, y: point.offeredPerSecond! })),
    )
    .filter((run) => run.length > 0);
  if (offered.length > 0)
    series.push({
      name: 'offered',
      tone: 'soft',
      dashed: true,
      stepped: true,
      runs: offered.map((run) => closed(run, spacing)),
    });
  const top = Math.max(1, ...series.flatMap(({ runs: all }) => all.flat().map(({ y }) => y)));
  const chart = chartSvg({
    label: 'Operations a second over time',
    x: timeScale(end),
    y: linearScale(top, tickCount),
    series,
    marks,
  });
  return section('Operations a second', legend(series, marks) + chart);
}

export function latencyOverTimeSection(points: readonly TimePoint[], spacing: number, marks: readonly Mark[]): string {
  const busy = points.filter(({ p50 }) => p50 !== null && p50 > 0);
  if (busy.length === 0) return '';
  const runs = runsOf(busy, spacing);
  const line = (name: string, tone: Tone, value: (point: TimePoint) => number): Series => ({
    name,
    tone,
    runs: runs.map((run) => run.map((point) => ({ x: point.startSeconds + spacing / 2, y: value(point) }))),
  });
  const series = [line('p50', 'a', ({ p50 }) => p50!), line('p99', 'b', ({ p99 }) => p99!)];
  const y = logScale(Math.min(...busy.map(({ p50 }) => p50!)), Math.max(...busy.map(({ p99 }) => p99!)), tickDuration);
  const chart = chartSvg({ label: 'Latency over time', x: timeScale(endOf(points, spacing)), y, series, marks });
  return section(
    'Latency over time',
    legend(series, marks) + chart,
    `Operations that ended in each ${formatDuration(spacing * 1e9)}. A gap: nothing was measured, or nothing was completed.`,
  );
}

export function fastPathSection(points: readonly TimePoint[], spacing: number, marks: readonly Mark[]): string {
  const known = points.filter(({ fastPathRatio }) => fastPathRatio !== null);
  if (known.length === 0) return '';
  const runs = runsOf(known, spacing).map((run) =>
    run.map((point): Point => ({ x: point.startSeconds + spacing / 2, y: 100 * point.fastPathRatio! })),
  );
  const series: Series[] = [{ name: 'of commits in one round trip', tone: 'c', filled: true, runs }];
  const chart = chartSvg({
    label: 'Share of commits in one round trip over time',
    x: timeScale(endOf(points, spacing)),
    y: linearScale(100, (value) => `${value} %`),
    series,
    marks,
    height: 180,
  });
  return section('Fast path', legend(series, marks) + chart);
}

/** View changes, in the intervals in which a client saw them. */
export function viewChangeMarks(points: readonly TimePoint[], spacing: number): Mark[] {
  return points
    .filter(({ viewChanges }) => viewChanges > 0)
    .map(({ startSeconds }) => ({ x: startSeconds + spacing / 2, label: 'view change', tone: 'event' }));
}

export function percentText(ratio: number | null, digits = 2): string {
  return ratio === null ? '–' : `${(100 * ratio).toFixed(digits)} %`;
}

export function rateText(perSecond: number): string {
  return `${formatCount(perSecond)}/s`;
}

/** Intervals that follow one another without a gap. */
function runsOf(points: readonly TimePoint[], spacing: number): TimePoint[][] {
  const runs: TimePoint[][] = [];
  points.forEach((point, index) => {
    const before = points[index - 1];
    if (before === undefined || point.startSeconds - before.startSeconds > 1.5 * spacing) runs.push([]);
    runs.at(-1)!.push(point);
  });
  return runs;
}

/** A step lasts to the end of its last interval. */
function closed(run: readonly Point[], spacing: number): Point[] {
  const last = run.at(-1)!;
  return [...run, { x: last.x + spacing, y: last.y }];
}

function endOf(points: readonly TimePoint[], spacing: number): number {
  return (points.at(-1)?.startSeconds ?? 0) + spacing;
}
