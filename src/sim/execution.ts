/** What a machine of a simulation executed. */

/** One operation that a machine executed. */
export interface Execution {
  /** What the machine had been raised to. */
  readonly level: number;
  readonly operation: Uint8Array;
  readonly result: Uint8Array;
  readonly timestampHi: number;
  readonly timestampLo: number;
}
