/**
 * What a StoreClient uses of a client beside its calls: watches, clocks and timers. Client registers its own; tests give
 * those of a simulated client, so that the shipped leases, locks and watches run in virtual time.
 */
import type { LeaseClock } from './lease-clock.js';
import type { OneWayEvents } from './time-sampler.js';
import type { WatchRequest } from './watch-reader.js';

export interface OpenWatch {
  /** The reader has taken changes that count for this many bytes. */
  taken(bytes: number): void;
  /** Has the replica say how far the store is. */
  ask(): void;
  close(): void;
}

type Call = (
  operation: Uint8Array,
  options?: { readonly signal?: AbortSignal; readonly timeout?: number },
) => Promise<Uint8Array>;

/** As those of Client. */
interface Calls {
  readonly execute: Call;
  readonly query: Call;
  agreedTime(): number;
}

export interface ClientParts {
  readonly clock: LeaseClock;
  /** Throws JitPaxosError `client-closed`. */
  watch(request: WatchRequest): OpenWatch;
  /** The same client; what waits for a lane goes before its other calls: renewals of leases, and little else. */
  readonly first: Calls;
  /** See ClientHost; a simulated client has no such. */
  readonly sampleTimes?: (everyMs: number, events: OneWayEvents) => void;
}

const parts = new WeakMap<object, ClientParts>();

export function registerParts(client: object, own: ClientParts): void {
  parts.set(client, own);
}

/** Undefined: this client has none. */
export function partsOf(client: object): ClientParts | undefined {
  return parts.get(client);
}
