/**
 * Chooses the key that seals a datagram: to a replica, this process's own; to a client, the key of the client's last
 * authenticated datagram. So only the replicas and the client itself need to know a client's key.
 */
import { NO_KEY } from '../wire/envelope.js';

/** Which key seals a datagram to an endpoint. */
export interface SealKeys {
  /** Slot of a Keyring, or NO_KEY. */
  keyFor(endpoint: number): number;
}

/** A cluster without keys. */
export const NO_KEYS: SealKeys = { keyFor: () => NO_KEY };

export class PeerKeys implements SealKeys {
  /**
   * By the endpoint's place in the endpoint table; when another endpoint takes over a place, it has set its own key by
   * then.
   */
  private readonly slots: Int32Array;

  /**
   * @param process holds the slot of this process's own key, which changes when keys are rotated
   * @param replicas endpoints below this are replicas
   * @param endpoints places of the endpoint table, a power of two
   */
  constructor(
    private readonly process: { readonly own: number },
    private readonly replicas: number,
    private readonly endpoints: number,
  ) {
    this.slots = new Int32Array(endpoints).fill(NO_KEY);
  }

  /** An authenticated datagram arrived from a client's endpoint. */
  heard(endpoint: number, slot: number): void {
    this.slots[(endpoint - this.replicas) & (this.endpoints - 1)] = slot;
  }

  keyFor(endpoint: number): number {
    return endpoint < this.replicas ? this.process.own : this.slots[(endpoint - this.replicas) & (this.endpoints - 1)]!;
  }
}
