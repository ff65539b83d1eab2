/** Opens clocks by name: the entry point for everything above. */

import { native, type NativeBinding } from '../native/addon.js';
import type { Clock } from './clock.js';
import { ClockError } from './errors.js';
import { JavaScriptMonotonicClock, JavaScriptRealtimeClock } from './javascript-clock.js';
import { DisciplinedClock, type DisciplinedOptions } from './disciplined-clock.js';
import { openPhc, openSystemClock } from './native-clock.js';
import { parseClockSpec } from './spec.js';

/**
 * Opens the clock that `spec` names.
 *
 * | spec | reads | epoch |
 * | --- | --- | --- |
 * | `auto` | `realtime` here, because this function asks no daemon; replicas and clients choose the best disciplined clock (choose.ts) | utc |
 * | `realtime` | CLOCK_REALTIME: the system clock, which NTP, chrony or phc2sys disciplines | utc |
 * | `tai` | CLOCK_TAI: the same without leap seconds. A time daemon (phc2sys, chrony with `leapsectz`) must tell the kernel the offset; until then the offset is 0 and it **reads the same as UTC**. All members and clients of a cluster must agree on that. | tai |
 * | `monotonic` | CLOCK_MONOTONIC: time since boot, with a disciplined rate. For tests within one host | boot |
 * | `monotonic-raw` | CLOCK_MONOTONIC_RAW: the same without discipline. For measuring other clocks | boot |
 * | `disciplined:/dev/ptpN` | CLOCK_MONOTONIC_RAW, steered to the hardware clock of a network card: as good as that, at the cost of a vDSO reading (disciplined-clock.ts) | utc |
 * | `phc:/dev/ptpN` | the hardware clock of a network card, by a system call (0.3–1 µs or more, because the card is asked). ptp4l keeps it in TAI, clouds and hypervisors in UTC; `epoch` is found by comparison with the system clock, `boot` if the clock was never set | as found |
 *
 * Without the addon, `realtime` (and `auto`) and `monotonic` are read through JavaScript; javascript-clock.ts says what
 * that costs in precision. The other specifications then throw.
 *
 * Throws ClockError `clock-spec-invalid`, `clock-addon-missing`, and for a device `clock-not-found`,
 * `clock-permission`, `clock-not-a-clock`, `clock-not-set`, `clock-lost`, `clock-limit`, `clock-unavailable`;
 * `clock-spec-invalid` also for `phc` without a path, which chooseClock opens. At most 60 hardware clocks can be open
 * in a thread. `binding` is for tests; `options` are for a disciplined clock.
 */
export function openClock(spec: string, binding: NativeBinding = native, options: DisciplinedOptions = {}): Clock {
  const parsed = parseClockSpec(spec);
  const name = parsed.kind === 'auto' ? 'realtime' : parsed.kind === 'system' ? parsed.name : undefined;
  if (parsed.kind === 'disciplined' && parsed.path === undefined)
    throw new ClockError(
      'clock-spec-invalid',
      'phc has to be chosen among the devices of the host, which takes time; open it with chooseClock, or name the device: disciplined:/dev/ptp0',
    );
  if (binding.available) {
    if (name !== undefined) return openSystemClock(binding.addon, name);
    if (parsed.kind === 'phc') return openPhc(binding.addon, parsed.path);
    if (parsed.kind === 'disciplined') return DisciplinedClock.open(binding.addon, parsed.path!, options);
  } else {
    if (name === 'realtime') return new JavaScriptRealtimeClock();
    if (name === 'monotonic') return new JavaScriptMonotonicClock();
  }
  throw new ClockError(
    'clock-addon-missing',
    `clock ${spec} needs the native addon, and ${binding.reason}; or use realtime`,
  );
}
