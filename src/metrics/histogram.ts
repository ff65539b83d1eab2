/**
 * A histogram of latencies in nanoseconds: log-linear buckets in a typed array, like HdrHistogram's.
 *
 * Every power of two is cut into 128 buckets, so a reported value exceeds the recorded one by less than 1/128 (0.8 %).
 * `record` does a few integer operations and allocates nothing, so measuring does not disturb what is measured.
 * Histograms of several processes are merged by adding their counts: percentiles are then those of all operations, not
 * an average of averages.
 */

const SUB_BITS = 7;
const SUB = 1 << SUB_BITS;
const SHIFTS = 35;
const BUCKETS = (SHIFTS + 2) * SUB;

/** Number of buckets. */
export const HISTOGRAM_BUCKETS: number = BUCKETS;

/**
 * In HdrHistogram's terms: the first bucket is linear; each further one covers twice as much with half as many new
 * sub-buckets.
 */
export const HISTOGRAM_SHAPE = { buckets: SHIFTS + 1, subBuckets: 2 * SUB } as const;

/** Values at or above this (146 minutes) are counted in the last bucket; `max` stays exact. */
export const HISTOGRAM_LIMIT_NS = 2 ** (SHIFTS + SUB_BITS + 1);

// Positions in `totals`, an array because a field that holds a double would be boxed on every write.
const COUNT = 0;
const SUM = 1;
const MIN = 2;
const MAX = 3;

/** What is sent between processes: sparse, plain numbers, survives JSON. */
export interface HistogramData {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
  /** Pairs of bucket index and count, flattened. */
  readonly buckets: readonly number[];
}

/** The percentiles that a bench reports, in ns; null: nothing was recorded, which differs from 0. */
export interface LatencySummary {
  readonly min: number | null;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
  readonly mean: number | null;
}

const NOTHING: LatencySummary = { min: null, p50: null, p90: null, p99: null, p999: null, max: null, mean: null };

export class Histogram {
  private readonly counts = new Float64Array(BUCKETS);
  private readonly totals = Float64Array.of(0, 0, Infinity, 0);

  /** @param valueNs a latency in ns; fractions are cut, negative values count as 0 */
  record(valueNs: number): void {
    const value = valueNs > 0 ? Math.floor(valueNs) : 0;
    const { counts, totals } = this;
    counts[bucketOf(value)]! += 1;
    totals[COUNT]! += 1;
    totals[SUM]! += value;
    if (value < totals[MIN]!) totals[MIN] = value;
    if (value > totals[MAX]!) totals[MAX] = value;
  }

  get count(): number {
    return this.totals[COUNT]!;
  }

  get min(): number {
    return this.count === 0 ? 0 : this.totals[MIN]!;
  }

  get max(): number {
    return this.totals[MAX]!;
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.totals[SUM]! / this.count;
  }

  /**
   * The smallest recorded value that a `fraction` (0…1) of all values does not exceed, up to the bucket's width. 0 if
   * empty.
   */
  quantile(fraction: number): number {
    const wanted = Math.max(1, Math.ceil(fraction * this.count - 1e-9));
    let seen = 0;
    for (let i = 0; i < BUCKETS; i++) {
      seen += this.counts[i]!;
      if (seen >= wanted) return this.within(highestOf(i));
    }
    return this.max;
  }

  /** Computed from the middles of the buckets. */
  get standardDeviation(): number {
    if (this.count === 0) return 0;
    const mean = this.mean;
    let sum = 0;
    for (let i = 0; i < BUCKETS; i++) {
      if (this.counts[i] !== 0) sum += this.counts[i]! * ((lowestOf(i) + highestOf(i)) / 2 - mean) ** 2;
    }
    return Math.sqrt(sum / this.count);
  }

  summary(): LatencySummary {
    if (this.count === 0) return NOTHING;
    return {
      min: this.min,
      p50: this.quantile(0.5),
      p90: this.quantile(0.9),
      p99: this.quantile(0.99),
      p999: this.quantile(0.999),
      max: this.max,
      mean: Math.round(this.mean),
    };
  }

  /** Calls `visit(highest value of the bucket, its count)` for each bucket that is not empty, ascending. */
  forEach(visit: (valueNs: number, count: number) => void): void {
    for (let i = 0; i < BUCKETS; i++) if (this.counts[i] !== 0) visit(this.within(highestOf(i)), this.counts[i]!);
  }

  merge(other: Histogram): void {
    for (let i = 0; i < BUCKETS; i++) this.counts[i]! += other.counts[i]!;
    this.totals[COUNT]! += other.totals[COUNT]!;
    this.totals[SUM]! += other.totals[SUM]!;
    this.totals[MIN] = Math.min(this.totals[MIN]!, other.totals[MIN]!);
    this.totals[MAX] = Math.max(this.totals[MAX]!, other.totals[MAX]!);
  }

  reset(): void {
    this.counts.fill(0);
    this.totals.set([0, 0, Infinity, 0]);
  }

  toData(): HistogramData {
    const buckets: number[] = [];
    this.counts.forEach((count, index) => {
      if (count !== 0) buckets.push(index, count);
    });
    return { count: this.count, sum: this.totals[SUM]!, min: this.min, max: this.max, buckets };
  }

  /** Throws RangeError if the data names a bucket that does not exist. */
  static fromData(data: HistogramData): Histogram {
    const histogram = new Histogram();
    for (let i = 0; i + 1 < data.buckets.length; i += 2) {
      const index = data.buckets[i]!;
      if (!Number.isInteger(index) || index < 0 || index >= BUCKETS)
        throw new RangeError(`a histogram has buckets 0…${BUCKETS - 1}, not ${index}`);
      histogram.counts[index]! += data.buckets[i + 1]!;
    }
    histogram.totals.set([data.count, data.sum, data.count === 0 ? Infinity : data.min, data.max]);
    return histogram;
  }

  private within(value: number): number {
    return Math.max(this.min, Math.min(this.max, value));
  }
}

function bucketOf(value: number): number {
  if (value < 2 * SUB) return value;
  if (value >= HISTOGRAM_LIMIT_NS) return BUCKETS - 1;
  if (value < 0x80000000) {
    const shift = 31 - SUB_BITS - Math.clz32(value);
    return (shift << SUB_BITS) + (value >>> shift);
  }
  const upper = Math.floor(value / 65536);
  const shift = 31 - SUB_BITS - Math.clz32(upper);
  return ((shift + 16) << SUB_BITS) + (upper >>> shift);
}

/** The smallest value that bucket `index` counts, ns. */
export function lowestOf(index: number): number {
  if (index < 2 * SUB) return index;
  const shift = (index >>> SUB_BITS) - 1;
  return (index - (shift << SUB_BITS)) * 2 ** shift;
}

/** The largest value that bucket `index` counts, ns; the last bucket counts larger ones too. */
export function highestOf(index: number): number {
  return index < 2 * SUB ? index : lowestOf(index + 1) - 1;
}
