/**
 * Hardware clocks that the platform below this host disciplines: a hypervisor's own clock, or the clock of a cloud's
 * network cards. The platform does not say how well. Such clocks are recognised by the names that Linux drivers give
 * them.
 */
import type { ClockDevice } from '../devices.js';
import { stated, unavailable, type Stated } from './statement.js';

/** drivers/ptp: ptp_kvm, ptp_vmclock, ptp_vmw; drivers/hv; drivers/net/ethernet/amazon/ena. */
const KEPT = /^(KVM virtual PTP|hyperv|vmclock|ptp_vmw|ena-ptp)/i;

export function readPlatform(device: ClockDevice): Stated {
  if (!KEPT.test(device.clockName))
    return unavailable(
      'platform',
      `${device.clockName} is not a clock that a hypervisor or cloud is known to discipline`,
    );
  return stated({
    source: 'platform',
    about: 'phc',
    status: 'synchronized',
    errorNs: null,
    found: `${device.clockName} is disciplined by the platform, which does not say how well`,
    detail: { clockName: device.clockName },
  });
}
