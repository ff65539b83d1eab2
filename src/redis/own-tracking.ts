/** CLIENT TRACKING of one connection. tracking.ts keeps it. */

export type TrackingMode = 'all' | 'optin' | 'optout' | 'bcast';

/** Of one connection. */
export interface OwnTracking {
  readonly mode: TrackingMode;
  readonly noLoop: boolean;
  /** Id of the connection that is told; 0: its own. */
  readonly redirect: number;
  /** Of BCAST, a byte a character. */
  readonly prefixes: Set<string>;
  /** CLIENT CACHING, for the next command. */
  caching: boolean | undefined;
  isBroken: boolean;
}
