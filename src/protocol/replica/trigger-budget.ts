/**
 * Limits how often clients may trigger something that costs others: this many times at once, and once more after each
 * interval.
 */
import type { Instant } from '../contract.js';

export class TriggerBudget {
  private left: number;
  private fromUs = -Infinity;

  constructor(
    private readonly most: number,
    private readonly refillUs: number,
  ) {
    this.left = most;
  }

  has(now: Instant): boolean {
    this.refill(now);
    return this.left >= 1;
  }

  spend(now: Instant): void {
    this.refill(now);
    this.left = Math.max(0, this.left - 1);
  }

  private refill(now: Instant): void {
    if (this.fromUs === -Infinity) this.fromUs = now.monotonicUs;
    const earned = Math.floor((now.monotonicUs - this.fromUs) / this.refillUs);
    if (earned <= 0) return;
    this.left = Math.min(this.most, this.left + earned);
    this.fromUs += earned * this.refillUs;
  }
}
