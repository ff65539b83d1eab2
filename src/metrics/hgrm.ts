/**
 * The percentile file that HdrHistogram's tools and plotters read: one line for each percentile, on a scale that gets
 * finer towards 100 %, with values in microseconds. The format matches, to the column, HdrHistogram's
 * `outputPercentileDistribution` with 5 ticks per half distance and a scaling ratio of 1000.
 */
import { HISTOGRAM_SHAPE, type Histogram } from './histogram.js';

const TICKS_PER_HALF_DISTANCE = 5;
const NS_PER_US = 1000;

/**
 * The percentiles (0…100) of the file: those of HdrHistogram's iterator up to the first that covers every value, and
 * then 100. Plotters draw all rows but the last, so the maximum must be in an earlier row too.
 */
export function percentileTicks(histogram: Pick<Histogram, 'count' | 'max' | 'quantile'>): number[] {
  const ticks: number[] = [];
  for (let percentile = 0; histogram.count > 0; ) {
    ticks.push(percentile);
    if (histogram.quantile(percentile / 100) >= histogram.max) break;
    const halvings = Math.floor(Math.log2(100 / (100 - percentile))) + 1;
    percentile += 100 / (TICKS_PER_HALF_DISTANCE * 2 ** halvings);
  }
  ticks.push(100);
  return ticks;
}

export function formatHgrm(histogram: Histogram): string {
  const lines = ['       Value     Percentile TotalCount 1/(1-Percentile)', ''];
  for (const percentile of percentileTicks(histogram)) {
    const value = histogram.quantile(percentile / 100);
    let covered = 0;
    histogram.forEach((bucketValue, count) => {
      if (bucketValue <= value) covered += count;
    });
    const inverse = percentile === 100 ? '' : (100 / (100 - percentile)).toFixed(2).padStart(14);
    lines.push(
      `${us(value)} ${(percentile / 100).toFixed(12).padStart(14)} ${String(covered).padStart(10)} ${inverse}`.trimEnd(),
    );
  }
  lines.push(
    `#[Mean    = ${us(histogram.mean)}, StdDeviation   = ${us(histogram.standardDeviation)}]`,
    `#[Max     = ${us(histogram.max)}, Total count    = ${whole(histogram.count)}]`,
    `#[Buckets = ${whole(HISTOGRAM_SHAPE.buckets)}, SubBuckets     = ${whole(HISTOGRAM_SHAPE.subBuckets)}]`,
    '',
  );
  return lines.join('\n');
}

function whole(value: number): string {
  return String(value).padStart(12);
}

function us(valueNs: number): string {
  return (valueNs / NS_PER_US).toFixed(3).padStart(12);
}
