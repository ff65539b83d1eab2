/**
 * Finds which epoch a PTP clock uses. Nothing in the device tells: ptp4l keeps it in TAI, hypervisors and AWS's cards
 * keep it in UTC, and a clock that was never set counts from 1970 or from the host's start. So it is compared with the
 * system clock, which is right to the second wherever these clocks are useful.
 */
import type { ClockEpoch } from './clock.js';

/** TAI − UTC has been 37 s since 2017. It was smaller before, and one more step will take years. */
const TAI_OFFSETS_S = [35, 40] as const;
/** A device further than this from a whole offset is not set. */
export const TOLERANCE_NS = 400_000_000n;

export type DeviceEpoch = {
  readonly epoch: Extract<ClockEpoch, 'utc' | 'tai'> /** Add this to the device's time to get UTC, ns. */;
  readonly toUtcNs: bigint;
};

/** Undefined: the device is not set. `aheadNs`: device minus CLOCK_REALTIME. */
export function epochOf(aheadNs: bigint): DeviceEpoch | undefined {
  const seconds = Math.round(Number(aheadNs) / 1e9);
  const rest = aheadNs - BigInt(seconds) * 1_000_000_000n;
  if (rest > TOLERANCE_NS || rest < -TOLERANCE_NS) return undefined;
  if (seconds === 0) return { epoch: 'utc', toUtcNs: 0n };
  if (seconds < TAI_OFFSETS_S[0] || seconds > TAI_OFFSETS_S[1]) return undefined;
  return { epoch: 'tai', toUtcNs: BigInt(-seconds) * 1_000_000_000n };
}
