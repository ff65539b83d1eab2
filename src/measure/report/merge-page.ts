/** The page of several runs added up, and the same as text. */
import type { Merge, MergedRun } from '../hlog/merge.js';
import { formatCount, formatDuration } from '../../console/units.js';
import { table } from '../../console/terminal.js';
import type { Histogram } from '../../metrics/histogram.js';
import { ONE_WAY_HEAD, oneWayNotes, oneWayRow } from '../oneway/text.js';
import { oneWaySection } from './one-way-section.js';
import { dataTable, figures, notice, page, section } from './html.js';
import {
  latencyOverTimeSection,
  percentileSection,
  rateText,
  throughputSection,
  type NamedHistogram,
  type TimePoint,
} from './latency-charts.js';

/** Runs that are drawn beside their sum: more lines could not be told apart. */
const DRAWN_MAX = 3;
const RUNS_HEAD = ['', 'began', 'measured', 'operations', 'completed', 'p50', 'p99', 'p99.9', 'max', 'state'];
const TAGS_HEAD = ['', 'operations', 'p50', 'p99', 'p99.9', 'max'];

export function mergePage(merge: Merge): string {
  const { runs, latency, timeline } = merge;
  const intervals = timeline.intervals();
  const zero = intervals[0]?.startSeconds ?? 0;
  const points = intervals.map(
    (interval): TimePoint => ({
      ...interval,
      startSeconds: interval.startSeconds - zero,
      fastPathRatio: null,
      rejected: 0,
      viewChanges: 0,
    }),
  );
  const flaws = merge.flaws();
  const differences = merge.differences();
  const named: NamedHistogram[] = [{ name: 'all runs', tone: 'a', histogram: latency }];
  if (runs.length <= DRAWN_MAX)
    runs.forEach(({ name, latency: own }, index) =>
      named.push({ name, tone: (['b', 'c', 'soft'] as const)[index]!, dashed: true, histogram: own }),
    );
  const heading = `${runs.length} run${runs.length === 1 ? '' : 's'} added up`;
  return page({
    title: `JITPaxos: ${heading}`,
    heading,
    lead: `${runs.map(({ name }) => name).join(', ')}. Histograms are added bucket by bucket: the percentiles are those of all operations.`,
    sections: [
      flaws.length + differences.length === 0
        ? ''
        : notice('warn', flaws.length > 0 ? 'Not every run is whole' : 'The runs differ', [
            ...flaws,
            ...differences.map((difference) => `Differ in ${difference}`),
          ]),
      figures(figuresOf(merge)),
      percentileSection(
        named,
        'Half of all operations took no longer than the line at 50 %, and so on. Every nine has the same width; latency is on a logarithmic scale.',
      ),
      ...(points.length === 0
        ? []
        : [
            throughputSection(points, timeline.spacing, []),
            latencyOverTimeSection(points, timeline.spacing, []),
            section('Time', '', timeNote(merge, zero)),
          ]),
      section('Runs', dataTable(RUNS_HEAD, runs.map(rowOf))),
      ...runs.flatMap(({ name, oneWay }) => (oneWay === null ? [] : [oneWaySection(oneWay, `, ${name}`)])),
      merge.tags.size === 0 ? '' : section('Operations', dataTable(TAGS_HEAD, tagRows(merge)), tagNote(merge)),
      section(
        'Configuration',
        dataTable(
          ['', 'host', ...settingNames(runs)],
          runs.map(({ name, host, settings }) => [
            name,
            host,
            ...settingNames(runs).map((setting) => settings[setting] ?? '–'),
          ]),
        ),
      ),
    ],
  });
}

export function mergeText(merge: Merge): string {
  const { runs, latency } = merge;
  const right = (head: readonly string[]): Set<number> => new Set(head.map((_, column) => column).slice(1));
  const rows: string[][] = [
    RUNS_HEAD.slice(),
    ...runs.map(rowOf),
    [
      'all',
      '',
      '',
      formatCount(operationsOf(runs)),
      merge.opsPerSecond === null ? '–' : rateText(merge.opsPerSecond),
      ...latencies(latency),
      '',
    ],
  ];
  const columns = right(RUNS_HEAD);
  columns.delete(RUNS_HEAD.length - 1);
  return [
    ...table(rows, columns),
    ...(merge.tags.size === 0 ? [] : ['', ...table([TAGS_HEAD.slice(), ...tagRows(merge)], right(TAGS_HEAD))]),
    ...oneWayText(merge),
    ...merge.flaws(),
    ...merge.differences().map((difference) => `differ in ${difference}`),
  ].join('\n');
}

function oneWayText({ runs }: Merge): string[] {
  const measured = runs.filter(({ oneWay }) => oneWay !== null);
  if (measured.length === 0) return [];
  const rows = measured.flatMap(({ name, oneWay }) => oneWay!.map((figures) => [name, ...oneWayRow(figures)]));
  return [
    '',
    ...table([['one way', ...ONE_WAY_HEAD], ...rows], new Set(ONE_WAY_HEAD.map((_, column) => column + 1))),
    ...measured.flatMap(({ name, oneWay }) => oneWayNotes(oneWay!).map((note) => `${name}: ${note}`)),
    '',
  ];
}

/** The object of the schema `jitpaxos.merge/1`. */
export function mergeJson(merge: Merge): object {
  const { runs, latency, timeline, tags } = merge;
  return {
    schema: 'jitpaxos.merge/1',
    runs: runs.map(({ latency: own, ...run }) => ({ ...run, latencies: own.count, latencyNs: own.summary() })),
    operations: operationsOf(runs),
    opsPerSecond: merge.opsPerSecond,
    latencies: latency.count,
    latencyNs: latency.summary(),
    histogram: latency.toData(),
    tags: Object.fromEntries(
      [...tags].map(([tag, histogram]) => [tag, { count: histogram.count, latencyNs: histogram.summary() }]),
    ),
    timeline: timeline.intervals().map((interval) => ({ ...interval, seconds: timeline.spacing })),
    withoutIntervals: merge.withoutIntervals,
    flaws: merge.flaws(),
    differences: merge.differences(),
  };
}

function figuresOf(merge: Merge): { name: string; value: string; remark: string }[] {
  const { latency, runs } = merge;
  const { p50, p90, p99, p999, max } = latency.summary();
  return [
    { name: 'p50', value: formatDuration(p50), remark: 'half took less' },
    { name: 'p99', value: formatDuration(p99), remark: `p90 ${formatDuration(p90)}` },
    { name: 'p99.9', value: formatDuration(p999), remark: `max ${formatDuration(max)}` },
    {
      name: 'completed',
      value: merge.opsPerSecond === null ? '–' : rateText(merge.opsPerSecond),
      remark: merge.opsPerSecond === null ? 'the runs were not at the same time' : 'the sum of all runs',
    },
    { name: 'operations', value: formatCount(operationsOf(runs)), remark: 'that succeeded' },
  ];
}

function rowOf(run: MergedRun): string[] {
  const { name, startSeconds, endSeconds, operations, opsPerSecond, latency, partial, shortfall } = run;
  return [
    name,
    startSeconds === null ? '–' : timeText(startSeconds),
    startSeconds === null || endSeconds === null ? '–' : `${(endSeconds - startSeconds).toFixed(1)} s`,
    formatCount(operations),
    rateText(opsPerSecond),
    ...latencies(latency),
    partial !== null ? 'partial' : shortfall !== null ? 'not sustained' : 'complete',
  ];
}

function latencies(histogram: Histogram): string[] {
  const { p50, p99, p999, max } = histogram.summary();
  return [p50, p99, p999, max].map(formatDuration);
}

function tagRows({ tags }: Merge): string[][] {
  return [...tags.keys()].sort().map((tag) => [tag, formatCount(tags.get(tag)!.count), ...latencies(tags.get(tag)!)]);
}

function tagNote({ runs }: Merge): string {
  return `By operation and outcome, of the runs that have logs${runs.some(({ from }) => from === 'report') ? '; reports do not tell them apart' : ''}. Maxima are the ends of their buckets.`;
}

function timeNote(merge: Merge, zero: number): string {
  const { withoutIntervals, timeline, runs } = merge;
  const without =
    withoutIntervals.length === 0
      ? ''
      : ` Latency over time is of the logs alone: ${withoutIntervals.length === runs.length ? 'there are none' : 'reports have no histograms of intervals'}.`;
  return `Second 0 is ${timeText(zero)}. Runs are laid side by side by the wall clocks of their hosts, in steps of ${timeline.spacing} s: they fit as well as these clocks agree.${without}`;
}

function settingNames(runs: readonly MergedRun[]): string[] {
  return [...new Set(runs.flatMap(({ settings }) => Object.keys(settings)))];
}

function operationsOf(runs: readonly MergedRun[]): number {
  return runs.reduce((sum, { operations }) => sum + operations, 0);
}

/** UTC, to the second. */
function timeText(seconds: number): string {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
