/** What is counted in a run. Replicas' own counters end with their processes, so they are collected here in time. */
import { Counter, COUNTER_NAMES, type CounterName } from '../protocol/counters.js';
import type { ReplicaHost } from './replica-host.js';

export class Tally {
  crashes = 0;
  logsLost = 0;
  directoriesLost = 0;
  forgottenStops = 0;
  refusedStops = 0;
  private readonly counters = new Float64Array(COUNTER_NAMES.length);
  /** By replica: the counters of its present process that are in `counters` already. */
  private readonly seen: readonly Float64Array[];

  constructor(replicas: number) {
    this.seen = Array.from({ length: replicas }, () => new Float64Array(COUNTER_NAMES.length));
  }

  /** A process of this replica begins, with all counters at 0. */
  started(replica: number): void {
    this.seen[replica]!.fill(0);
  }

  /** The process of this replica is about to end, or the run is: its counters are kept. */
  remember({ id, core }: ReplicaHost): void {
    const { counters } = core!;
    const seen = this.seen[id]!;
    for (let i = 0; i < counters.length; i++) {
      this.counters[i]! += counters[i]! - seen[i]!;
      seen[i] = counters[i]!;
    }
  }

  counter(name: CounterName): number {
    return this.counters[Counter[name]]!;
  }
}
