/**
 * Which epoch a PTP clock counts from. Nothing in the device tells: ptp4l keeps it in TAI, hypervisors and AWS's cards in
 * UTC, and one that nobody has set counts from 1970 or from the start of the host. So it is compared with the system
 * clock, which is right to the second wherever these clocks are of use.
 */
import type { ClockEpoch } from './clock.js';

/** TAI − UTC has been 37 s since 2017; it can only have been smaller before, and a step more will take years. */
const TAI_OFFSETS_S = [35, 40] as const;
/** A device this far from a whole offset is not set. */
export const TOLERANCE_NS = 400_000_000n;

export type DeviceEpoch = {
  readonly epoch: Extract<ClockEpoch, 'utc' | 'tai'> /** To be added to the device for UTC, ns. */;
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
