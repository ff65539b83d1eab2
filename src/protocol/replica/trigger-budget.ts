/**
 * Limits how often clients may trigger something that costs others: this many times at once, and once more after each
 * interval. One budget for all together, or one for each of them.
 */
import type { Instant } from '../contract.js';

type Now = Pick<Instant, 'monotonicUs'>;

export class TriggerBudget {
  private left: number;
  private fromUs = -Infinity;

  constructor(
    private readonly most: number,
    private readonly refillUs: number,
  ) {
    this.left = most;
  }

  has(now: Now): boolean {
    this.refill(now);
    return this.left >= 1;
  }

  spend(now: Now): void {
    this.refill(now);
    this.left = Math.max(0, this.left - 1);
  }

  /** True if something is left; one is then spent. */
  take(now: Now): boolean {
    if (!this.has(now)) return false;
    this.left--;
    return true;
  }

  private refill(now: Now): void {
    if (this.fromUs === -Infinity) this.fromUs = now.monotonicUs;
    const earned = Math.floor((now.monotonicUs - this.fromUs) / this.refillUs);
    if (earned <= 0) return;
    this.left = Math.min(this.most, this.left + earned);
    this.fromUs += earned * this.refillUs;
  }
}

/** A budget for each key, such as an owner. If there are too many, the key that was used longest ago begins anew. */
export class TriggerBudgets {
  /** In the order of last use. */
  private readonly budgets = new Map<number, TriggerBudget>();

  /**
   * @param most,refillUs of each budget
   * @param keys that are remembered
   */
  constructor(
    private readonly most: number,
    private readonly refillUs: number,
    private readonly keys: number,
  ) {}

  /** Keys that are remembered now. */
  get size(): number {
    return this.budgets.size;
  }

  /** Whether something is left for a key. This does not count as using it. */
  has(key: number, now: Now): boolean {
    return this.budgets.get(key)?.has(now) ?? true;
  }

  /** The budget of a key, which is used now. */
  of(key: number): TriggerBudget {
    const budget = this.budgets.get(key) ?? new TriggerBudget(this.most, this.refillUs);
    this.budgets.delete(key);
    if (this.budgets.size === this.keys) this.budgets.delete(this.budgets.keys().next().value!);
    this.budgets.set(key, budget);
    return budget;
  }
}
