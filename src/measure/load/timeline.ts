/** A run over time: the progress reports of all clients, in intervals of equal length. */
import { Histogram } from '../../metrics/histogram.js';
import { addCounts, NO_COUNTS } from './counts.js';
import type { ClientCounts } from './messages.js';

export interface Interval {
  readonly startSeconds: number;
  readonly operationsPerSecond: number;
  /** ns; null if nothing completed. */
  readonly p50: number | null;
  readonly p99: number | null;
  /** Null if nothing committed. */
  readonly fastPathRatio: number | null;
  readonly rejected: number;
  readonly viewChanges: number;
}

export class Timeline {
  private readonly slots: { histogram: Histogram; counts: ClientCounts }[] = [];
  private readonly whole = new Histogram();
  private totals = NO_COUNTS;

  constructor(readonly intervalMs: number) {}

  /** @param atMs when the report arrived, since the start; its operations ended in the interval before */
  add(atMs: number, histogram: Histogram, counts: ClientCounts): void {
    const index = Math.max(0, Math.round(atMs / this.intervalMs) - 1);
    while (this.slots.length <= index) this.slots.push({ histogram: new Histogram(), counts: NO_COUNTS });
    const slot = this.slots[index]!;
    slot.histogram.merge(histogram);
    slot.counts = addCounts(slot.counts, counts);
    this.whole.merge(histogram);
    this.totals = addCounts(this.totals, counts);
  }

  /** Everything so far. */
  get total(): { readonly histogram: Histogram; readonly counts: ClientCounts } {
    return { histogram: this.whole, counts: this.totals };
  }

  intervals(): Interval[] {
    return this.slots.map(({ histogram, counts }, index) => ({
      startSeconds: (index * this.intervalMs) / 1000,
      operationsPerSecond: (histogram.count * 1000) / this.intervalMs,
      p50: histogram.count === 0 ? null : histogram.quantile(0.5),
      p99: histogram.count === 0 ? null : histogram.quantile(0.99),
      fastPathRatio: counts.committed === 0 ? null : counts.fast / counts.committed,
      rejected: counts.rejected,
      viewChanges: counts.viewChanges,
    }));
  }

  /**
   * The operations that ended after `ms`: their number, in whole intervals, and the slowest one, including the interval
   * that contains `ms`.
   */
  after(ms: number): { readonly operations: number; readonly slowestNs: number | null } {
    let operations = 0;
    let slowestNs: number | null = null;
    this.slots.forEach(({ histogram }, index) => {
      if ((index + 1) * this.intervalMs > ms)
        slowestNs = histogram.count === 0 ? slowestNs : Math.max(slowestNs ?? 0, histogram.max);
      if (index * this.intervalMs >= ms) operations += histogram.count;
    });
    return { operations, slowestNs };
  }
}
