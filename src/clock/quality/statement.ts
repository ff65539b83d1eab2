/**
 * What others say of a clock's error: one statement a source, each read by a file of its own in this folder.
 *
 * The rule: nothing is trusted blindly. A source that is not there, or whose answer makes no sense, is `unavailable` with
 * the reason; a bound that is not given is null, which means unknown and never zero. Unknown is never shown as good.
 */

/**
 * `synchronized`: somebody keeps the clock, and the source vouches for it. `stepped`: it was set, or is being corrected by
 * more than a slew. `free-running`: nobody keeps it. `lost`: it cannot be read any more. `unknown`: the source does not say.
 */
export type ClockStatus = 'synchronized' | 'stepped' | 'free-running' | 'lost' | 'unknown';

export type QualitySourceName = 'kernel' | 'chrony' | 'clockbound' | 'ptp4l' | 'ena' | 'platform';

export interface Statement {
  readonly source: QualitySourceName;
  /** What it is about: CLOCK_REALTIME, or a PTP hardware clock. */
  readonly about: 'realtime' | 'phc';
  readonly status: ClockStatus;
  /** Largest error against true time, ns; null: unknown. */
  readonly errorNs: number | null;
  /** In a few words, for people. */
  readonly found: string;
  /** The source's own figures, by name and unit. */
  readonly detail: Readonly<Record<string, number | string | boolean | null>>;
}

export type Stated =
  | { readonly available: true; readonly statement: Statement }
  | { readonly available: false; readonly source: QualitySourceName; readonly reason: string };

/** A bound above this is too wide to stamp by: requests of different clients would be in the wrong order all the time. */
export const ERROR_LIMIT_NS = 1_000_000;

/**
 * A bound as a source gives it, or null when it gives none. A perfect clock does not exist: zero is a default that nobody
 * measured. A bound that is far too large is kept: a clock that is known to be 37 s off is not a clock of unknown error.
 */
export function statedError(ns: number): number | null {
  return Number.isFinite(ns) && ns > 0 ? ns : null;
}

export function unavailable(source: QualitySourceName, reason: string): Stated {
  return { available: false, source, reason };
}

export function stated(statement: Statement): Extract<Stated, { readonly available: true }> {
  return { available: true, statement };
}

/** What an error of the system says, in one word where it has one. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === 'string' ? code : typeof message === 'string' ? message : String(error);
}
