/**
 * Intervals of several runs, laid side by side by wall time. Slots begin at whole seconds; when there are too many, each
 * becomes twice as long, so memory is bounded whatever times the files name.
 */
import { Histogram } from '../../metrics/histogram.js';

const SLOTS_MAX = 300;

interface Slot {
  /** What is known of latencies: reports have none for intervals. */
  readonly histogram: Histogram;
  completed: number;
  /** The part of the slot in which something was measured, seconds since the epoch. */
  from: number;
  to: number;
}

/** A slot as it is shown. */
export interface WallInterval {
  /** Since the epoch. */
  readonly startSeconds: number;
  readonly operationsPerSecond: number;
  /** ns; null if no latency is known. */
  readonly p50: number | null;
  readonly p99: number | null;
}

export class WallTimeline {
  private readonly slots = new Map<number, Slot>();
  private first = Infinity;
  private last = -Infinity;
  private seconds = 1;

  /** Length of a slot, seconds. */
  get spacing(): number {
    return this.seconds;
  }

  /**
   * Adds what ended from `from` to `to`, seconds since the epoch. An interval that is longer than a slot is spread
   * evenly.
   * @param latency what is to be added to the latencies of the slot in which it begins; undefined: nothing
   */
  add(from: number, to: number, completed: number, latency?: Histogram): void {
    this.cover(Math.floor(from), Math.max(Math.floor(from), Math.ceil(to) - 1));
    if (latency !== undefined) this.slotAt(from).histogram.merge(latency);
    for (let at = from; ; ) {
      const slot = this.slotAt(at);
      const end = Math.min(to, (Math.floor(at / this.seconds) + 1) * this.seconds);
      slot.completed += to > from ? (completed * (end - at)) / (to - from) : completed;
      slot.from = Math.min(slot.from, at);
      slot.to = Math.max(slot.to, end);
      if (end >= to) return;
      at = end;
    }
  }

  /** Ascending. Slots in which nothing was measured are left out. */
  intervals(): WallInterval[] {
    return [...this.slots.entries()]
      .sort(([a], [b]) => a - b)
      .map(([index, { histogram, completed, from, to }]) => ({
        startSeconds: index * this.seconds,
        operationsPerSecond: to > from ? completed / (to - from) : 0,
        p50: histogram.count === 0 ? null : histogram.quantile(0.5),
        p99: histogram.count === 0 ? null : histogram.quantile(0.99),
      }));
  }

  private cover(first: number, last: number): void {
    this.first = Math.min(this.first, first);
    this.last = Math.max(this.last, last);
    while (Math.floor(this.last / this.seconds) - Math.floor(this.first / this.seconds) >= SLOTS_MAX) this.double();
  }

  private double(): void {
    this.seconds *= 2;
    const old = [...this.slots.entries()];
    this.slots.clear();
    for (const [index, slot] of old) {
      const half = this.slots.get(Math.floor(index / 2));
      if (half === undefined) this.slots.set(Math.floor(index / 2), slot);
      else {
        half.histogram.merge(slot.histogram);
        half.completed += slot.completed;
        half.from = Math.min(half.from, slot.from);
        half.to = Math.max(half.to, slot.to);
      }
    }
  }

  private slotAt(seconds: number): Slot {
    const index = Math.floor(seconds / this.seconds);
    let slot = this.slots.get(index);
    if (slot === undefined)
      this.slots.set(index, (slot = { histogram: new Histogram(), completed: 0, from: Infinity, to: -Infinity }));
    return slot;
  }
}
