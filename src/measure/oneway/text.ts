/** One-way delays as rows of a table, for terminals and pages. */
import { formatCount, formatDuration } from '../../console/units.js';
import type { LatencySummary } from '../../metrics/histogram.js';
import type { OneWayFigures } from './figures.js';

export const ONE_WAY_HEAD = [
  'replica',
  'request way p50',
  'p99',
  'in the replica p50',
  'p99',
  'reply way p50',
  'p99',
  'both ways p50',
  'clocks',
  'answers',
] as const;

/** Cells under ONE_WAY_HEAD. */
export function oneWayRow(figures: OneWayFigures): string[] {
  const { replica, requestNs, replicaNs, replyNs, bothWaysNs, boundNs, asked, answered } = figures;
  const two = (summary: LatencySummary | null): string[] =>
    [summary?.p50, summary?.p99].map((ns) => (ns == null ? '–' : formatDuration(ns)));
  return [
    String(replica),
    ...two(requestNs),
    ...two(replicaNs),
    ...two(replyNs),
    bothWaysNs.p50 === null ? '–' : formatDuration(bothWaysNs.p50),
    boundNs === null ? 'unknown' : boundNs === 0 ? 'the same' : `±${formatDuration(boundNs)}`,
    `${formatCount(answered)} of ${formatCount(asked)}`,
  ];
}

/** What a reader must know beside the figures: a sentence for each replica that has one. */
export function oneWayNotes(replicas: readonly OneWayFigures[]): string[] {
  return replicas.flatMap(({ replica, says, longerRequestNs, boundNs }) => {
    if (says !== null) return [`Replica ${replica}: request way and reply way are not told apart: ${says}.`];
    if (longerRequestNs === null) return [];
    const [longer, other] = longerRequestNs > 0 ? ['request', 'reply'] : ['reply', 'request'];
    return [
      `Replica ${replica}: the ${longer} way is longer than the ${other} way by at least ${formatDuration(Math.abs(longerRequestNs) - 2 * boundNs!)}, by the medians.`,
    ];
  });
}
