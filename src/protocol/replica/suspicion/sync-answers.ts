/**
 * What the answers to a primary's Syncs say of replicas: how long they take (member-lag.ts), and what their clocks show
 * (replica-clocks.ts). May be changed freely.
 */
import type { Instant } from '../../contract.js';
import type { SyncListener } from '../agreement/heartbeat.js';
import type { ReplicaState } from '../replica-state.js';
import { MemberLag } from './member-lag.js';
import { ReplicaClocks } from './replica-clocks.js';

export class SyncAnswers implements SyncListener {
  readonly lag: MemberLag;
  /** The clocks of all replicas, as this primary sees them. */
  readonly clocks: ReplicaClocks;

  constructor(state: ReplicaState) {
    this.lag = new MemberLag(state);
    this.clocks = new ReplicaClocks(state.id, state.views, state.config.timings.maxAheadNs);
  }

  reset(): void {
    this.lag.reset();
    this.clocks.reset();
  }

  forgive(gapUs: number): void {
    this.lag.forgive(gapUs);
  }

  sent(sequence: number, now: Instant): void {
    this.lag.sent(sequence, now);
  }

  answered(from: number, sequence: number, clockHi: number, clockLo: number, now: Instant): void {
    const sentUs = this.lag.sentAtUs(sequence);
    if (!Number.isNaN(sentUs)) this.clocks.heard(from, clockHi, clockLo, sentUs, now);
    this.lag.heard(from, sequence, now);
  }
}
