/**
 * Judges a client's clock now and then, and when its quality changes: by that quality and by the replicas' clocks
 * (clock-trust.ts). Corrects the timestamps of the sessions by the judgement, and tells users of it.
 */
import type { ClockQuality, HostClock, HostClockReport } from '../clock/host-clock.js';
import type { Logger } from '../host/logger.js';
import type { ClientSessions } from '../protocol/client/client-sessions.js';
import type { ListedHost } from '../protocol/membership/membership.js';
import { ClockTrust } from './clock-trust.js';

/** Report on the client's clock. Offsets are replica minus client, with their uncertainty; null: not heard recently. */
export interface ClientClockReport extends HostClockReport {
  /** Whether a majority of the replicas' clocks contradict this one now, and how often that began. */
  readonly contradicted: boolean;
  readonly contradictions: number;
  /** What is currently added to readings. */
  readonly correctionNs: number;
  /** The members as far as this client knows; null: one that has not replied recently. */
  readonly replicas: readonly {
    readonly id: number;
    readonly offsetNs: number | null;
    readonly uncertaintyNs: number | null;
  }[];
}

export class ClockJudge {
  private readonly trust = new ClockTrust();
  private contradictions = 0;

  constructor(
    private readonly clock: HostClock,
    private readonly logger: Logger,
    private readonly sessions: () => ClientSessions,
  ) {}

  /** Added to the clock's readings. */
  get correctionNs(): number {
    return this.trust.correctionNs;
  }

  /** Logged once for each change; counted in the clock's report. */
  changed(now: ClockQuality, before: ClockQuality): void {
    const fields = {
      clock: this.clock.source,
      from: before.status,
      to: now.status,
      errorNs: now.errorNs,
      found: now.found,
    };
    if (now.healthy) this.logger.info('client.clock', fields);
    else
      this.logger.warn('client.clock', {
        ...fields,
        next: "requests are stamped by the replicas' clocks where these agree; jitpaxos clock list and jitpaxos doctor say more",
      });
    this.judge();
  }

  judge(): void {
    const { trust } = this;
    const sessions = this.sessions();
    const before = trust.contradicted;
    const majority = sessions.core.majorityOfClocks(performance.now() * 1000);
    trust.judge(this.clock.quality, majority);
    sessions.correctClock(trust.correctionNs);
    if (trust.contradicted === before) return;
    if (trust.contradicted) {
      this.contradictions++;
      this.logger.warn('client.clock', {
        clock: this.clock.source,
        offsetNs: Math.round(majority![0] * 1e3),
        found: "a majority of the replicas' clocks differ from this one by more than its error",
        next: "requests are stamped by the replicas' clocks; compare the clocks of the hosts (jitpaxos clock read)",
      });
    } else
      this.logger.info('client.clock', {
        clock: this.clock.source,
        found: "the replicas' clocks agree with this one again",
      });
  }

  /** This client's clock, its own quality and what the replicas' clocks say about it. Allocates. */
  report(hosts: readonly ListedHost[]): ClientClockReport {
    const { offsets } = this.sessions().core.clock;
    return {
      ...this.clock.report(),
      contradicted: this.trust.contradicted,
      contradictions: this.contradictions,
      correctionNs: this.trust.correctionNs,
      replicas: hosts.map(({ id, slot }) => {
        const offsetUs = offsets.offsetUs(slot);
        return Number.isNaN(offsetUs)
          ? { id, offsetNs: null, uncertaintyNs: null }
          : { id, offsetNs: Math.round(offsetUs * 1e3), uncertaintyNs: Math.round(offsets.roundTripUs(slot) * 500) };
      }),
    };
  }
}
