/**
 * How often one owner (session-owner.ts) may register sessions: each Register makes every replica a session, and may
 * evict another one. May be changed freely: a Register that is refused was never appended, and its client sends it again.
 *
 * Each member decides alone, before it appends. In a cluster without keys nobody owns anything, and nothing is limited:
 * there a limit would be one for all clients together, which a single one could use up.
 */
import type { Instant } from '../contract.js';
import { NO_OWNER } from '../log/session-owner.js';
import { TriggerBudgets } from './trigger-budget.js';

/** Registers of one owner: this many at once, and another one after each interval. */
export const OWNER_REGISTERS = 16;
export const OWNER_REGISTER_US = 100_000;
/** Owners that are remembered: as many as there are keys. The one that registered longest ago is forgotten. */
export const OWNERS_MAX = 1024;

export class RegisterRate {
  private readonly budgets = new TriggerBudgets(OWNER_REGISTERS, OWNER_REGISTER_US, OWNERS_MAX);

  /** Owners that are remembered now. */
  get owners(): number {
    return this.budgets.size;
  }

  permits(owner: number, now: Instant): boolean {
    return owner === NO_OWNER || this.budgets.has(owner, now);
  }

  /** A Register of that owner was appended. */
  spend(owner: number, now: Instant): void {
    if (owner !== NO_OWNER) this.budgets.of(owner).spend(now);
  }
}
