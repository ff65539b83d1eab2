/**
 * What a clock is to the rest of the program.
 *
 * The rule: a reading decides speed, never an answer (docs of the protocol). So a clock may jump, run backwards or be
 * wrong; what it may not do is allocate on the hot path, which is why a reading is written to where it is needed.
 */

/**
 * Where zero is: `utc` 1970-01-01 UTC, stepping at leap seconds; `tai` 1970-01-01 TAI, 37 s ahead of UTC since 2017;
 * `boot` some moment of this host, so that readings compare with nothing outside of it.
 */
export type ClockEpoch = 'utc' | 'tai' | 'boot';

/** A source of time. Readings are nanoseconds since the epoch, an unsigned 64-bit number. */
export interface Clock {
  /**
   * What is being read: `realtime`, `tai`, `monotonic`, `monotonic-raw`, `phc:<path>`; with `-js` behind it when the
   * addon is missing and JavaScript stands in.
   */
  readonly source: string;
  /** Of a hardware clock: what it was found to count in when it was opened. */
  readonly epoch: ClockEpoch;
  /** For people and cold paths: allocates. Throws as writeBE. */
  nowBigInt(): bigint;
  /**
   * Writes 8 bytes, big-endian, from `bytes[offset]` on; no alignment needed.
   * Throws RangeError `out-of-bounds`, TypeError `invalid-argument`, ClockError `clock-closed` or `clock-lost`; nothing is written then.
   */
  writeBE(bytes: Uint8Array, offset: number): void;
  /** Writes the upper half to `out[index]` and the lower to `out[index + 1]`, each as the signed int32 with those bits (wire/u64.ts). Throws as writeBE. */
  writeHalves(out: Int32Array, index: number): void;
  /** Releases the device. Reading afterwards throws `clock-closed`; closing again does nothing. */
  close(): void;
}
