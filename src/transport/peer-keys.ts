/**
 * Under which key a datagram leaves: to a replica under this process's own, to a client under the one that the client's last
 * authenticated datagram was under. So a client's key needs to be known to the replicas and to that client only.
 */
import { NO_KEY } from '../wire/envelope.js';

/** What a datagram to an endpoint is sealed with. */
export interface SealKeys {
  /** Slot of a Keyring, or NO_KEY. */
  keyFor(endpoint: number): number;
}

/** A cluster without keys. */
export const NO_KEYS: SealKeys = { keyFor: () => NO_KEY };

export class PeerKeys implements SealKeys {
  /** By endpoint's place in the endpoint table; a place that another endpoint took over has that one's key by then. */
  private readonly slots: Int32Array;

  /**
   * @param process where the slot of this process's own key is; it changes when keys are rotated
   * @param replicas endpoints below it are replicas
   * @param endpoints places of the endpoint table, a power of two
   */
  constructor(
    private readonly process: { readonly own: number },
    private readonly replicas: number,
    private readonly endpoints: number,
  ) {
    this.slots = new Int32Array(endpoints).fill(NO_KEY);
  }

  /** An authenticated datagram came from a client's endpoint. */
  heard(endpoint: number, slot: number): void {
    this.slots[(endpoint - this.replicas) & (this.endpoints - 1)] = slot;
  }

  keyFor(endpoint: number): number {
    return endpoint < this.replicas ? this.process.own : this.slots[(endpoint - this.replicas) & (this.endpoints - 1)]!;
  }
}
