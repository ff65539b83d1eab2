/**
 * The percentile file that HdrHistogram's tools and plotters read: a line for each percentile on a scale that gets finer
 * towards 100 %, values in microseconds. Format: HdrHistogram's `outputPercentileDistribution`.
 */
import type { Histogram } from './histogram.js';

const TICKS_PER_HALF_DISTANCE = 5;
const NS_PER_US = 1000;

/** The percentiles (0…100) of the file for a histogram of `count` values; ends with 100. */
export function percentileTicks(count: number): number[] {
  const ticks: number[] = [];
  const finest = 100 * (1 - 1 / Math.max(1, count));
  let percentile = 0;
  while (percentile < finest) {
    ticks.push(percentile);
    const halvings = Math.floor(Math.log2(100 / (100 - percentile))) + 1;
    percentile += 100 / (TICKS_PER_HALF_DISTANCE * 2 ** halvings);
  }
  ticks.push(100);
  return ticks;
}

export function formatHgrm(histogram: Histogram): string {
  const lines = [`${'Value'.padStart(12)} ${'Percentile'.padStart(14)} ${'TotalCount'.padStart(10)} ${'1/(1-Percentile)'.padStart(14)}`, ''];
  for (const percentile of percentileTicks(histogram.count)) {
    const value = histogram.quantile(percentile / 100);
    let covered = 0;
    histogram.forEach((bucketValue, count) => {
      if (bucketValue <= value) covered += count;
    });
    const inverse = percentile === 100 ? '' : (100 / (100 - percentile)).toFixed(2).padStart(14);
    lines.push(`${us(value)} ${(percentile / 100).toFixed(12).padStart(14)} ${String(covered).padStart(10)} ${inverse}`.trimEnd());
  }
  lines.push(
    `#[Mean    = ${us(histogram.mean)}, StdDeviation   = ${us(histogram.standardDeviation)}]`,
    `#[Max     = ${us(histogram.max)}, Total count    = ${String(histogram.count).padStart(12)}]`,
    '#[Values in microseconds]',
    '',
  );
  return lines.join('\n');
}

function us(valueNs: number): string {
  return (valueNs / NS_PER_US).toFixed(3).padStart(12);
}
