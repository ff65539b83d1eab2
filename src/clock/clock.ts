/**
 * What a clock is to the rest of the program.
 *
 * The rule: a clock reading affects speed, never an answer (docs/internals/protocol.md). A clock may therefore jump,
 * run backwards or be wrong. It must not allocate on the hot path, so a reading is written straight to where it is
 * needed.
 */

/**
 * Where zero is. `utc`: 1970-01-01 UTC, with steps at leap seconds. `tai`: 1970-01-01 TAI, 37 s ahead of UTC since
 * 2017. `boot`: some moment of this host; such readings cannot be compared with those of other hosts.
 */
export type ClockEpoch = 'utc' | 'tai' | 'boot';

/** A source of time. Readings are nanoseconds since the epoch, an unsigned 64-bit number. */
export interface Clock {
  /**
   * The source that is read: `realtime`, `tai`, `monotonic`, `monotonic-raw` or `phc:<path>`. The suffix `-js` means that the
   * addon is missing and JavaScript reads the clock.
   */
  readonly source: string;
  /** For a hardware clock: the epoch found when it was opened. */
  readonly epoch: ClockEpoch;
  /** For display and cold paths: allocates. Throws the errors of writeBE. */
  nowBigInt(): bigint;
  /**
   * Writes 8 bytes, big-endian, starting at `bytes[offset]`; no alignment is needed. Throws RangeError `out-of-bounds`,
   * TypeError `invalid-argument`, ClockError `clock-closed` or `clock-lost`, and then writes nothing.
   */
  writeBE(bytes: Uint8Array, offset: number): void;
  /**
   * Writes the upper half to `out[index]` and the lower half to `out[index + 1]`, each as the signed int32 with those
   * bits (wire/u64.ts). Throws the errors of writeBE.
   */
  writeHalves(out: Int32Array, index: number): void;
  /** Releases the device. Reading afterwards throws `clock-closed`; closing again does nothing. */
  close(): void;
}
