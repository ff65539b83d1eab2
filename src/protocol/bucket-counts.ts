/**
 * Counts how often a value fell into each of a few fixed ranges. Recording allocates nothing; reading is for tools and
 * metrics.
 */

/** A copy at one moment. */
export interface BucketSnapshot {
  /** Upper limits of the ranges, inclusive, ascending; values above the last limit have a count of their own. */
  readonly bounds: readonly number[];
  /** One more than there are bounds; not cumulative. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export class BucketCounts {
  private readonly limits: Float64Array;
  private readonly counts: Float64Array;
  /** An array, because a field that holds a double would be boxed on every write. */
  private readonly sum = new Float64Array(1);

  /** @param bounds ascending */
  constructor(bounds: readonly number[]) {
    this.limits = Float64Array.from(bounds);
    this.counts = new Float64Array(bounds.length + 1);
  }

  record(value: number): void {
    const { limits } = this;
    let at = 0;
    while (at < limits.length && value > limits[at]!) at++;
    this.counts[at]!++;
    this.sum[0]! += value;
  }

  snapshot(): BucketSnapshot {
    return { bounds: [...this.limits], counts: [...this.counts], sum: this.sum[0]! };
  }
}
