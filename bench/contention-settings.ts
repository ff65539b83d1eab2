/** What the contention benches compare: the protocol as published, and its remedies one by one and together. */
import type { LateRule, Timings } from '../src/protocol/config.js';

export interface ContentionSetting {
  readonly name: string;
  readonly late: LateRule;
  readonly timings: Partial<Timings>;
  readonly maxLeadNs: number;
}

const PUBLISHED = { orderHoldUs: 0, lateRepairUs: 0 };
const LEAD_NS = 250_000;

export const CONTENTION_SETTINGS: readonly ContentionSetting[] = [
  { name: 'published', late: 'reject', timings: PUBLISHED, maxLeadNs: 0 },
  { name: 'lead', late: 'reject', timings: PUBLISHED, maxLeadNs: LEAD_NS },
  { name: 'push', late: 'reject', timings: {}, maxLeadNs: 0 },
  { name: 'push+restamp', late: 'restamp', timings: {}, maxLeadNs: 0 },
  { name: 'all', late: 'restamp', timings: {}, maxLeadNs: LEAD_NS },
];
export const CONTENTION_NAMES = CONTENTION_SETTINGS.map(({ name }) => name);

/**
 * Shares of the load of this many clients: equal with `skew` 0, otherwise client k's is proportional to 1 / (k +
 * 1)^skew.
 */
export function shares(clients: number, skew: number): number[] {
  const weights = Array.from({ length: clients }, (_, k) => 1 / (k + 1) ** skew);
  const whole = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / whole);
}
