/** What the kernel was told of CLOCK_REALTIME by whoever keeps it: ntp_adjtime(3), adjtimex(2). */
import type { KernelClockRecord, NativeBinding } from '../../native/addon.js';
import { plausibleError, reasonOf, stated, unavailable, type Stated } from './statement.js';

/** linux/timex.h. */
const STA_UNSYNC = 0x0040;
const STA_CLOCKERR = 0x1000;
const STA_NANO = 0x2000;
const TIME_ERROR = 5;

export function readKernel(binding: NativeBinding): Stated {
  if (!binding.available) return unavailable('kernel', binding.reason);
  try {
    return interpretKernel(binding.addon.kernelClock());
  } catch (error) {
    return unavailable('kernel', `adjtimex fails: ${reasonOf(error)}`);
  }
}

/** maxerror is what the daemon said last, and grows by 500 ppm until it says something again; a daemon that says nothing leaves 16 s. */
export function interpretKernel(record: KernelClockRecord): Stated {
  const unsynchronized = (record.status & (STA_UNSYNC | STA_CLOCKERR)) !== 0 || record.state === TIME_ERROR;
  const errorNs = unsynchronized ? null : plausibleError(record.maxErrorUs * 1e3);
  return stated({
    source: 'kernel',
    about: 'realtime',
    status: unsynchronized ? 'free-running' : 'synchronized',
    errorNs,
    found: unsynchronized ? 'no daemon has told the kernel that its clock is synchronized' : 'told that its clock is synchronized',
    detail: {
      offsetNs: record.offset * ((record.status & STA_NANO) !== 0 ? 1 : 1e3),
      frequencyPpb: Math.round((record.frequency / 65536) * 1e3),
      maxErrorUs: record.maxErrorUs,
      estimatedErrorUs: record.estimatedErrorUs,
      taiOffsetS: record.taiOffsetS,
      status: `0x${record.status.toString(16)}`,
    },
  });
}
