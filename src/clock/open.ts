/** Opens clocks by name: the way in for everything above. */

import { native, type NativeBinding } from '../native/addon.js';
import type { Clock } from './clock.js';
import { ClockError } from './errors.js';
import { JavaScriptMonotonicClock, JavaScriptRealtimeClock } from './javascript-clock.js';
import { openPhc, openSystemClock } from './native-clock.js';
import { parseClockSpec } from './spec.js';

/**
 * Opens the clock that `spec` names.
 *
 * | spec | reads | epoch |
 * | --- | --- | --- |
 * | `auto` | `realtime`, for now: it is to become the best synchronized clock of the host | utc |
 * | `realtime` | CLOCK_REALTIME: the system clock, which NTP, chrony or phc2sys disciplines | utc |
 * | `tai` | CLOCK_TAI: the same without leap seconds. Its offset has to be given to the kernel by the time daemon (phc2sys, chrony with `leapsectz`); as long as nobody did, the offset is 0 and it **reads the same as UTC**. All members and clients of a cluster must agree on that. | tai |
 * | `monotonic` | CLOCK_MONOTONIC: time since boot, rate disciplined. For tests within one host | boot |
 * | `monotonic-raw` | CLOCK_MONOTONIC_RAW: the same undisciplined. For measuring other clocks | boot |
 * | `phc:/dev/ptpN` | the hardware clock of a network card, by a system call (0.3–1 µs and more: the card is asked). ptp4l keeps it in TAI by default; `epoch` says `tai` on that convention, nothing in the device tells | tai |
 *
 * Without the addon `realtime` (and `auto`) and `monotonic` are read through JavaScript: see javascript-clock.ts for what that costs
 * in precision. The others then throw.
 *
 * Throws ClockError `clock-spec-invalid`, `clock-addon-missing`, and for a device `clock-not-found`, `clock-permission`,
 * `clock-not-a-clock`, `clock-limit`, `clock-unavailable`. At most 60 hardware clocks can be open in a thread.
 * `binding` is for tests.
 */
export function openClock(spec: string, binding: NativeBinding = native): Clock {
  const parsed = parseClockSpec(spec);
  if (binding.available) return parsed.kind === 'phc' ? openPhc(binding.addon, parsed.path) : openSystemClock(binding.addon, parsed.name);
  if (parsed.kind === 'system') {
    if (parsed.name === 'realtime') return new JavaScriptRealtimeClock();
    if (parsed.name === 'monotonic') return new JavaScriptMonotonicClock();
  }
  throw new ClockError('clock-addon-missing', `clock ${spec} needs the native addon, and ${binding.reason}; or use realtime`);
}
