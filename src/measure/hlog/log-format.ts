/**
 * What a bench writes into a histogram log (`--hlog`) besides what HdrHistogram's format 1.3 asks for: two comments, one
 * at the beginning and one at the end. Other readers skip comments. A log without the second one is incomplete.
 */
import type { Mix } from '../load/messages.js';
import type { ArrivalKind } from '../load/arrivals.js';
import type { OneWayFigures } from '../oneway/figures.js';
import type { KeyDistribution } from '../load/keys.js';

export const RUN_COMMENT = '[JITPaxos run: ';
export const STEP_COMMENT = '[JITPaxos step: ';
export const END_COMMENT = '[JITPaxos end: ';
/** Closes each of them. */
export const COMMENT_END = ']';

export const HLOG_SCHEMA = 'jitpaxos.hlog/1';

/** How an operation ended: as asked for, certainly without effect, or nobody knows. */
export type OperationOutcome = 'ok' | 'failed' | 'unknown';
export const OUTCOMES: readonly OperationOutcome[] = ['ok', 'failed', 'unknown'];

/** Tag of arrivals that were never sent, because no lane was free; which operations they were to be is not decided. */
export const UNSENT_TAG = 'unsent';
/** How tags of one-way delays begin (oneway/tags.ts). */
export const ONE_WAY_TAG = 'oneway-';

/** `write-ok`, `read-unknown`. */
export function tagOf(operation: string, outcome: OperationOutcome): string {
  return `${operation}-${outcome}`;
}

/** The settings of a run, as far as they are known when it begins. */
export interface RunSettings {
  readonly command: 'latency' | 'load' | 'soak';
  readonly version: string;
  readonly commandLine: string;
  readonly host: { readonly cpu: string; readonly cores: number; readonly kernel: string; readonly node: string };
  readonly replicas: number;
  readonly machine: string;
  readonly mix: Mix;
  readonly opBytes: number;
  readonly opBytesMax: number;
  readonly authenticated: boolean;
  readonly clients: number;
  readonly lanes: number;
  /** The rates of an open loop; none in a closed one. */
  readonly rates: readonly number[];
  /** Null in a closed loop. */
  readonly arrivals: ArrivalKind | null;
  readonly seed: number | null;
  readonly keys: number | null;
  readonly distribution: KeyDistribution | null;
}

/** The first comment. */
export interface HlogRun extends RunSettings {
  readonly schema: typeof HLOG_SCHEMA;
  /** Names the run, 16 hexadecimal digits; also in the report of `--json`. */
  readonly run: string;
  /** The unit of the values. */
  readonly unit: 'ns';
  /**
   * Which tags make up the latency that the bench reports. `ok`: those of operations that succeeded, as in a closed
   * loop. `all`: every tag, as in an open loop. Tags of one-way delays never do.
   */
  readonly latencyOf: 'ok' | 'all';
}

/** A comment before the intervals of each rate of a ramp. */
export interface HlogStep {
  readonly offeredPerSecond: number;
}

/** The last comment. The lines before it have all that was measured. */
export interface HlogEnd {
  /** Why the run is incomplete, such as "interrupted after 2.1 of 30 s"; null if it is complete. */
  readonly partial: string | null;
  /** Why its rate was not sustained; null if it was, or if none was asked for. */
  readonly shortfall: string | null;
  /** Null: not known. */
  readonly transport: string | null;
  readonly durability: string | null;
  /** Length of the measurement. */
  readonly seconds: number;
  readonly failed: number;
  /** One-way delays, if they were measured. */
  readonly oneWay?: readonly OneWayFigures[];
  /** All latencies that the log holds of the tags that `latencyOf` says, ns. Encoded histograms have no exact extremes. */
  readonly latency: { readonly count: number; readonly sum: number; readonly min: number; readonly max: number };
}

/** Is a tag one of one-way delays? Those are no latencies of operations. */
export function isOneWay(tag: string): boolean {
  return tag.startsWith(ONE_WAY_TAG);
}

/** Does a tag count towards the latency that the bench reports? */
export function isReported(tag: string, latencyOf: HlogRun['latencyOf']): boolean {
  return !isOneWay(tag) && (latencyOf === 'all' || tag.endsWith('-ok'));
}
