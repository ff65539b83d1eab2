/**
 * Hardware clocks that the platform below this host keeps: a hypervisor's own clock, or that of a cloud's network cards.
 * It does not say how well; who keeps them is known from the names that the drivers of Linux give.
 */
import type { ClockDevice } from '../devices.js';
import { stated, unavailable, type Stated } from './statement.js';

/** drivers/ptp: ptp_kvm, ptp_vmclock, ptp_vmw; drivers/hv; drivers/net/ethernet/amazon/ena. */
const KEPT = /^(KVM virtual PTP|hyperv|vmclock|ptp_vmw|ena-ptp)/i;

export function readPlatform(device: ClockDevice): Stated {
  if (!KEPT.test(device.clockName))
    return unavailable('platform', `${device.clockName} is no clock that a hypervisor or cloud is known to keep`);
  return stated({
    source: 'platform',
    about: 'phc',
    status: 'synchronized',
    errorNs: null,
    found: `${device.clockName} is kept by the platform, which does not say how well`,
    detail: { clockName: device.clockName },
  });
}
