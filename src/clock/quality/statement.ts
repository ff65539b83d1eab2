/**
 * What daemons and drivers state about a clock's error: one statement for each source, and one file in this folder for
 * each kind.
 *
 * The rule: nothing is trusted blindly. A source that is missing, or whose answer makes no sense, is `unavailable` with
 * the reason. A missing bound is null, which means unknown and never zero. Unknown is never shown as good.
 */

/**
 * `synchronized`: the source vouches that the clock is disciplined. `stepped`: it was set, or is being corrected by
 * more than a slew. `free-running`: nothing disciplines it. `lost`: it can no longer be read. `unknown`: the source
 * does not say.
 */
export type ClockStatus = 'synchronized' | 'stepped' | 'free-running' | 'lost' | 'unknown';

export type QualitySourceName = 'kernel' | 'chrony' | 'clockbound' | 'ptp4l' | 'ena' | 'platform';

export interface Statement {
  readonly source: QualitySourceName;
  /** The clock that the statement is about: CLOCK_REALTIME, or a PTP hardware clock. */
  readonly about: 'realtime' | 'phc';
  readonly status: ClockStatus;
  /** Largest error against true time, ns; null: unknown. */
  readonly errorNs: number | null;
  /** In a few words, for display. */
  readonly found: string;
  /** The source's own figures, by name and unit. */
  readonly detail: Readonly<Record<string, number | string | boolean | null>>;
}

export type Stated =
  | { readonly available: true; readonly statement: Statement }
  | { readonly available: false; readonly source: QualitySourceName; readonly reason: string };

/**
 * A clock with a larger bound is not used for timestamps: requests of different clients would constantly be in the
 * wrong order.
 */
export const ERROR_LIMIT_NS = 1_000_000;

/**
 * A source's bound, or null if it gives none. No clock is perfect: zero is a default that was never measured. A bound
 * that is far too large is kept: a clock known to be 37 s off is not a clock of unknown error.
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

/** A system error in one word, if it has one. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === 'string' ? code : typeof message === 'string' ? message : String(error);
}
