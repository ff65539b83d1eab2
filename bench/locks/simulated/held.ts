/** A lock that a simulated process holds, and why it does not any more: the process asks now and then. */
import type { Lock } from '../../../src/client/lock.js';
import { causeOf, type LossCause } from '../losses.js';
import type { SimulatedClient } from './client.js';

/** It stood still for this part of what was left of the lease when it was last known to be held: that is why it was lost. */
const STOOD_PART = 0.5;

export class Held {
  /** The last answer was the first that said no. */
  isNews = false;
  private isLost = false;
  private leftMs: number;
  private stoodUs: number;

  constructor(
    private readonly client: SimulatedClient,
    readonly lock: Lock,
  ) {
    this.leftMs = lock.lease.remaining;
    this.stoodUs = client.stoodUs;
  }

  /** Whether it is still held. */
  ask(): boolean {
    const leftMs = this.lock.lease.remaining;
    this.isNews = leftMs === 0 && !this.isLost;
    this.isLost = leftMs === 0;
    if (leftMs === 0) return false;
    this.leftMs = leftMs;
    this.stoodUs = this.client.stoodUs;
    return true;
  }

  /** Why it was lost. */
  get cause(): LossCause {
    const stoodMs = (this.client.stoodUs - this.stoodUs) / 1e3;
    return causeOf(this.lock, stoodMs >= STOOD_PART * this.leftMs);
  }
}
