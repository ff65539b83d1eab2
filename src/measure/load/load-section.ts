/** What `bench load` reports beyond the fields that all benches have: field `load` of `jitpaxos.bench/1`. */
import type { HistogramData, LatencySummary } from '../../metrics/histogram.js';
import type { ArrivalKind } from './arrivals.js';
import type { KeyDistribution } from './keys.js';
import type { Limit } from './knee.js';
import type { PacingKind } from './pacer.js';

export interface LoadStep {
  readonly offeredPerSecond: number;
  /** The arrivals that the random process actually produced in the window. */
  readonly arrivedPerSecond: number;
  readonly sentPerSecond: number;
  /** Completed within the window. */
  readonly opsPerSecond: number;
  readonly seconds: number;
  readonly operations: number;
  /** From the intended time of sending. */
  readonly latencyNs: LatencySummary;
  /** From the moment of sending. */
  readonly serviceLatencyNs: LatencySummary;
  /** From the intended time until the client handled it: its own lateness. */
  readonly schedulingDelayNs: LatencySummary;
  readonly fastPathRatio: number | null;
  readonly rejected: number;
  readonly rejectedByReason: Readonly<Record<string, number>>;
  readonly reconciled: number;
  readonly retransmitted: number;
  readonly viewChanges: number;
  readonly failed: number;
  /** Failed operations by error code. */
  readonly errors: Readonly<Record<string, number>>;
  /** Never sent, because no lane was free before the end; they are in the latencies with the time they had waited. */
  readonly unsent: number;
  /** Sent late because no lane was free. */
  readonly queued: number;
  /** Cores kept busy: by each client process, by each replica (null: did not answer), by the whole host. */
  readonly cores: {
    readonly clients: readonly number[];
    readonly replicas: readonly (number | null)[];
    readonly host: number;
    readonly hostTotal: number;
  };
  /** Null if the rate was sustained; otherwise the reason why not. */
  readonly shortfall: string | null;
}

export interface LoadSection {
  readonly arrivals: ArrivalKind;
  readonly seed: number;
  readonly pacing: PacingKind;
  readonly keys: number | null;
  readonly distribution: KeyDistribution | null;
  /** Operations have between `opBytes` and this many bytes. */
  readonly opBytesMax: number;
  /** Unmeasured time before each step. */
  readonly warmupSeconds: number;
  readonly steps: readonly LoadStep[];
  /** The step that the report's own figures describe: the only one, or the knee, or the first if none was sustained. */
  readonly reported: number;
  /** Latency in the step that the report describes, from the moment of sending. */
  readonly serviceHistogram: HistogramData;
  /** The highest rate that was sustained; null if there was none, or if a single rate was requested. */
  readonly knee: { readonly offeredPerSecond: number; readonly opsPerSecond: number } | null;
  /** What ended it; null if every rate was sustained. */
  readonly limit: Limit | null;
  /** Null if the run was complete; otherwise the reason, such as "interrupted after 2.1 of 30 s". */
  readonly partial: string | null;
}
