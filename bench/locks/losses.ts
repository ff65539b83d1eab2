/** Why locks were lost that a living process held, counted by cause. */
import type { Lock } from '../../src/client/lock.js';

export type LossCause = 'stoodStill' | 'notRenewed' | 'clockSet' | 'ended' | 'deleted' | 'unknown';
export type Losses = Record<LossCause, number>;

/** What the reason of a lease's signal says (src/client/lease.ts). */
const REASONS: readonly (readonly [LossCause, RegExp])[] = [
  ['notRenewed', /: no renewal was answered in time/],
  ['clockSet', /: its end has come by this host's clock/],
  ['ended', /: the cluster has ended it/],
  ['deleted', /: the key of its place was deleted/],
];

export function noLosses(): Losses {
  return { stoodStill: 0, notRenewed: 0, clockSet: 0, ended: 0, deleted: 0, unknown: 0 };
}

/**
 * Why a lock is not held any more. A process cannot tell that it was stopped from a cluster that did not answer it: with
 * `stoodStill`, its observer does.
 */
export function causeOf(lock: Lock, stoodStill = false): LossCause {
  const { reason } = lock.signal as { readonly reason: unknown };
  const text = reason instanceof Error ? reason.message : '';
  const cause = REASONS.find(([, pattern]) => pattern.test(text))?.[0] ?? 'unknown';
  return stoodStill && cause === 'notRenewed' ? 'stoodStill' : cause;
}

/** Those of `counts` that are not 0, for people. */
export function listed(counts: Readonly<Record<string, number>>): string {
  const some = Object.entries(counts).filter(([, count]) => count > 0);
  return some.length === 0 ? 'none' : some.map(([name, count]) => `${name} ${count}`).join(', ');
}
