/**
 * How many status questions a replica answers, so that nobody's questions keep another's from being answered. May be
 * changed freely: a question that is not answered is sent again.
 *
 * A question from an endpoint that has proven its address (wire/address-proofs.ts) is charged to the owner of its key
 * and to the endpoint. All others, which may be recordings sent by anyone, share one small rate. A tool proves its
 * address in its first exchange with a replica, so at most its first question is among them.
 */
import type { Instant } from '../protocol/contract.js';
import { TriggerBudget, TriggerBudgets } from '../protocol/replica/trigger-budget.js';
import type { Keyring } from '../wire/envelope.js';
import type { Peers } from '../wire/peers.js';

/** Answers at once, and per second. A report takes three or four. */
export const OWNER_RATE: Rate = { burst: 200, perSecond: 400 };
export const ENDPOINT_RATE: Rate = { burst: 100, perSecond: 200 };
export const UNPROVEN_RATE: Rate = { burst: 50, perSecond: 100 };
/** Owners and endpoints that are remembered. The one that asked longest ago is forgotten. */
export const OWNERS_MAX = 1024;
export const ENDPOINTS_MAX = 1024;

interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

interface Rates {
  readonly owner: Rate;
  readonly endpoint: Rate;
  readonly unproven: Rate;
}

/**
 * Whether an endpoint has proven its address under a key of this owner (0 without keys). A datagram under another key,
 * with the address of a proven endpoint in front, proves nothing.
 */
export function hasProven(
  peers: Pick<Peers, 'isProven' | 'keyFor'>,
  keys: Pick<Keyring, 'ownerOf'> | undefined,
  endpoint: number,
  owner: number,
): boolean {
  return peers.isProven(endpoint) && (keys === undefined || keys.ownerOf(peers.keyFor(endpoint)) === owner);
}

export class StatusRates {
  private readonly owners: TriggerBudgets;
  private readonly endpoints: TriggerBudgets;
  private readonly unproven: TriggerBudget;

  /** @param rates of questions of another kind */
  constructor(rates: Rates = { owner: OWNER_RATE, endpoint: ENDPOINT_RATE, unproven: UNPROVEN_RATE }) {
    this.owners = budgets(rates.owner, OWNERS_MAX);
    this.endpoints = budgets(rates.endpoint, ENDPOINTS_MAX);
    this.unproven = new TriggerBudget(rates.unproven.burst, refillUs(rates.unproven));
  }

  /** Owners and endpoints that are remembered now. */
  get remembered(): number {
    return this.owners.size + this.endpoints.size;
  }

  /**
   * Whether a question may be answered; if so, it is charged.
   * @param proven the endpoint has proven its address, under a key of this owner
   */
  admits(owner: number, endpoint: number, proven: boolean, now: Pick<Instant, 'monotonicUs'>): boolean {
    if (!proven) return this.unproven.take(now);
    // Of an endpoint that asks too much, nothing is charged to the owner's other tools.
    return this.endpoints.of(endpoint).take(now) && this.owners.of(owner).take(now);
  }
}

function budgets(rate: Rate, keys: number): TriggerBudgets {
  return new TriggerBudgets(rate.burst, refillUs(rate), keys);
}

function refillUs({ perSecond }: Rate): number {
  return 1e6 / perSecond;
}
