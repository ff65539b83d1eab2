/**
 * One histogram log out of several that were written at the same time: the intervals of all, in the order of time.
 * Counts are exact, bucket by bucket; the end mark has the exact figures of the sum.
 */
import type { HistogramData } from '../../metrics/histogram.js';
import type { RunSettings } from './log-format.js';
import { intervalsOf, type HlogInterval } from './log-reader.js';
import { HlogWriter } from './log-writer.js';
import type { Merge } from './merge.js';

const MS_PER_SECOND = 1000;

export interface MergedLog {
  readonly path: string;
  /** What is to be taken off its times: its clock was this much ahead. */
  readonly aheadSeconds: number;
}

/**
 * Throws CliError `file-exists`, `output-unwritable` or `argument-invalid`.
 * @param merge has the same logs
 * @param run names the sum, 16 hexadecimal digits
 */
export function writeMergedLog(
  path: string,
  run: string,
  settings: RunSettings,
  logs: readonly MergedLog[],
  merge: Merge,
): void {
  const startSeconds = Math.min(...merge.runs.map(({ startSeconds: start }) => start ?? Infinity));
  using writer = HlogWriter.open(path, run, settings, Number.isFinite(startSeconds) ? startSeconds * MS_PER_SECOND : 0);
  writer.step({ offeredPerSecond: settings.rates[0] ?? 0 });
  const sources = logs.map(({ path: log, aheadSeconds }, client) => {
    const intervals = intervalsOf(log);
    return { client, intervals, aheadSeconds, next: intervals.next() };
  });
  for (;;) {
    const open = sources.filter(({ next }) => next.done !== true);
    if (open.length === 0) break;
    const first = open.reduce((a, b) => (startOf(b) < startOf(a) ? b : a));
    const { tag, seconds, histogram } = first.next.value as HlogInterval;
    const fromMs = startOf(first) * MS_PER_SECOND;
    const tags: Record<string, HistogramData> = { [tag]: histogram.toData() };
    writer.add(first.client, {
      second: Math.floor(startOf(first)),
      fromMs,
      toMs: fromMs + seconds * MS_PER_SECOND,
      tags,
    });
    first.next = first.intervals.next();
  }
  const { runs, latency } = merge;
  const named = (name: 'partial' | 'shortfall'): string[] =>
    runs.flatMap((each) => (each[name] === null ? [] : [`${each.name}: ${each[name]}`]));
  const joined = (clauses: readonly string[]): string | null => (clauses.length === 0 ? null : clauses.join('; '));
  const missing = merge.missing.map(({ name, why }) => `${name} is missing: ${why}`);
  const { count, sum, min, max } = latency.toData();
  const same = (name: string): string | null => {
    const found = new Set(runs.map((each) => each.settings[name]));
    return found.size === 1 ? ([...found][0] ?? null) : null;
  };
  writer.end(
    {
      partial: joined([...missing, ...named('partial')]),
      shortfall: joined(named('shortfall')),
      transport: same('transport'),
      durability: same('durability'),
      seconds: Math.max(
        0,
        ...runs.map(({ operations, opsPerSecond }) => (opsPerSecond > 0 ? operations / opsPerSecond : 0)),
      ),
      failed: [...merge.tags].reduce(
        (sum, [tag, each]) => sum + (/-(?:failed|unknown)$/.test(tag) ? each.count : 0),
        0,
      ),
    },
    { count, sum, min: count === 0 ? 0 : min, max },
  );
}

function startOf({ next, aheadSeconds }: { next: IteratorResult<HlogInterval>; aheadSeconds: number }): number {
  return (next.value as HlogInterval).startSeconds - aheadSeconds;
}
