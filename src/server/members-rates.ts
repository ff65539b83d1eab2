/**
 * How many questions for the members a replica answers. The rule: a host that cannot find the members cannot do anything
 * else either, so its questions have rates that nobody else can use up.
 *
 * - Each listed host has a rate of its own.
 * - Hosts that are not listed share one. Such a host waits to be added, has left, or is a member already that is not known
 *   here.
 * - Clients and tools have the rates of status questions (status-rates.ts), counted apart from these.
 */
import type { Instant } from '../protocol/contract.js';
import { TriggerBudget, TriggerBudgets } from '../protocol/replica/trigger-budget.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import { StatusRates } from './status-rates.js';

/** Answers at once, and per second. A host asks ten times a second, and for each piece of a long list. */
export const HOST_RATE = { burst: 50, perSecond: 50 } as const;
export const UNLISTED_RATE = { burst: 50, perSecond: 50 } as const;

/** Who asks. */
export const Asker = {
  /** A client or tool whose address is not proven. */
  unproven: 0,
  /** A client or tool that has proven its address, under a key of the owner. */
  proven: 1,
  host: 2,
  unlistedHost: 3,
} as const;

export type AskerCode = (typeof Asker)[keyof typeof Asker];

/**
 * @param from endpoint of the sender
 * @param isUnlisted the sender is a host that is not listed
 * @param isProven see hasProven
 */
export function askerOf(from: number, isUnlisted: boolean, isProven: boolean): AskerCode {
  if (from < HOST_PLACES) return Asker.host;
  if (isUnlisted) return Asker.unlistedHost;
  return isProven ? Asker.proven : Asker.unproven;
}

export class MembersRates {
  private readonly clients = new StatusRates();
  private readonly hosts = new TriggerBudgets(HOST_RATE.burst, 1e6 / HOST_RATE.perSecond, HOST_PLACES);
  private readonly unlisted = new TriggerBudget(UNLISTED_RATE.burst, 1e6 / UNLISTED_RATE.perSecond);

  /** Whether a question may be answered; if so, it is charged. */
  admits(owner: number, from: number, asker: AskerCode, now: Pick<Instant, 'monotonicUs'>): boolean {
    if (asker === Asker.host) return this.hosts.of(from).take(now);
    if (asker === Asker.unlistedHost) return this.unlisted.take(now);
    return this.clients.admits(owner, from, asker === Asker.proven, now);
  }
}
