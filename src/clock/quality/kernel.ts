/** What a time daemon told the kernel about CLOCK_REALTIME: ntp_adjtime(3), adjtimex(2). */
import type { KernelClockRecord, NativeBinding } from '../../native/addon.js';
import { reasonOf, stated, statedError, unavailable, type Stated } from './statement.js';

/** linux/timex.h. */
const STA_CLOCKERR = 0x1000;
const STA_NANO = 0x2000;
/** NTP_PHASE_LIMIT: where maxerror stops growing, and its value while no daemon disciplines the clock. */
const PHASE_LIMIT_US = 16_000_000;
/** maxerror grows by this much each second. */
const GROWTH_US = 500;
/** systemd-timesyncd polls every 2,048 s at most; after twice that long without an update it is gone. */
const SILENT_US = 2 * 2_048 * GROWTH_US;

export function readKernel(binding: NativeBinding): Stated {
  if (!binding.available) return unavailable('kernel', binding.reason);
  try {
    return interpretKernel(binding.addon.kernelClock());
  } catch (error) {
    return unavailable('kernel', `adjtimex fails: ${reasonOf(error)}`);
  }
}

/**
 * maxerror is the daemon's last statement, and grows by 500 ppm until the next one. Without a daemon it is 16 s, and
 * that alone decides: STA_UNSYNC is also set where chronyd runs without `rtcsync` and still updates maxerror.
 *
 * systemd-timesyncd and phc2sys write a maxerror of 0, which is not a measurement: the value read is half a millisecond
 * for each second since then. Such a bound is unknown.
 */
export function interpretKernel(record: KernelClockRecord): Stated {
  const { maxErrorUs, estimatedErrorUs } = record;
  const fromZero = maxErrorUs % GROWTH_US === 0 && (estimatedErrorUs === 0 || estimatedErrorUs >= PHASE_LIMIT_US);
  const silent = fromZero && maxErrorUs > SILENT_US && maxErrorUs < PHASE_LIMIT_US;
  const unsynchronized = (record.status & STA_CLOCKERR) !== 0 || maxErrorUs >= PHASE_LIMIT_US || silent;
  return stated({
    source: 'kernel',
    about: 'realtime',
    status: unsynchronized ? 'free-running' : 'synchronized',
    errorNs: unsynchronized || fromZero ? null : statedError(maxErrorUs * 1e3),
    found: silent
      ? `its daemon has said nothing for ${Math.round(maxErrorUs / GROWTH_US)} s`
      : unsynchronized
        ? 'no daemon has told the kernel that its clock is synchronized'
        : fromZero
          ? 'told that its clock is synchronized, by a daemon that does not say how well'
          : 'told that its clock is synchronized',
    detail: {
      offsetNs: record.offset * ((record.status & STA_NANO) !== 0 ? 1 : 1e3),
      frequencyPpb: Math.round((record.frequency / 65536) * 1e3),
      maxErrorUs,
      estimatedErrorUs,
      taiOffsetS: record.taiOffsetS,
      status: `0x${record.status.toString(16)}`,
    },
  });
}
