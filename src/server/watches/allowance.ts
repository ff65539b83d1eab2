/**
 * What watches may cost: an amount that grows with the time, up to a bound, and is spent. The rule: over any second,
 * little more than `perSecond` is spent, however many watches there are. Unlike a TriggerBudget, which permits or refuses
 * one thing, it is spent in amounts that are known only after the work, and may then be below 0.
 */
import { DOUBLE_ZERO } from '../../protocol/double-zero.js';

export class Allowance {
  /** Below 0 after a piece of work that cost more than was left. */
  left: number;
  private refilledUs = DOUBLE_ZERO;

  constructor(
    private readonly perSecond: number,
    private readonly most: number,
  ) {
    this.left = most;
  }

  refill(nowUs: number): void {
    const passedUs = nowUs - this.refilledUs;
    if (passedUs <= 0) return;
    this.left = Math.min(this.most, this.left + (passedUs * this.perSecond) / 1e6);
    this.refilledUs = nowUs;
  }

  /** Monotonic µs at which there is something left again. */
  get readyUs(): number {
    return this.left > 0 ? this.refilledUs : this.refilledUs + ((1 - this.left) * 1e6) / this.perSecond;
  }
}
