/**
 * Whether this process can use a PTP hardware clock: it can be opened and sampled, and its time belongs to an epoch.
 */
import type { NativeAddon, NativeBinding, PhcCapabilities } from '../native/addon.js';
import { epochOf, type DeviceEpoch } from './epoch.js';
import { ClockError } from './errors.js';
import { patiently } from './native-clock.js';
import { PhcSampler, RealtimeSampler, type SampleMethod } from './sampler.js';

export interface Probed {
  readonly method?: SampleMethod;
  /** Undefined if the driver does not tell. */
  readonly capabilities?: PhcCapabilities | undefined;
  readonly epoch?: DeviceEpoch['epoch'];
  /** Why it cannot be used, and what to do; undefined if it can. */
  readonly problem?: string;
}

/** Opens the device, samples it once, and closes it. */
export function probeDevice(binding: NativeBinding, path: string): Probed {
  if (!binding.available) return { problem: binding.reason };
  let sampler: PhcSampler | undefined;
  let found: Probed = {};
  try {
    sampler = PhcSampler.open(binding.addon, path);
    found = { method: sampler.method, capabilities: sampler.capabilities() };
    return { ...found, epoch: findEpoch(binding.addon, sampler).epoch };
  } catch (error) {
    return { ...found, problem: (error as Error).message };
  } finally {
    sampler?.close();
  }
}

/**
 * A device that is briefly busy is asked again after a pause. Throws ClockError `clock-not-set`, `clock-lost`,
 * `clock-unavailable`.
 */
export function findEpoch(addon: NativeAddon, sampler: PhcSampler): DeviceEpoch {
  const device = patiently(() => sampler.sample());
  const realtime = new RealtimeSampler(addon).sample();
  if (device === undefined)
    throw new ClockError(
      'clock-unavailable',
      `${sampler.path} gave no undisturbed sample: ${sampler.hindrance}; try again`,
    );
  const aheadNs = device.device - device.raw - (realtime.device - realtime.raw);
  const epoch = epochOf(aheadNs);
  if (epoch !== undefined) return epoch;
  // ENA, ptp_kvm: a clock that cannot be adjusted cannot be set either, so ptp4l cannot help.
  const cure =
    sampler.capabilities()?.maxAdjustmentPpb === 0
      ? 'its driver does not allow setting it: check that the system clock is right, and what the cloud or hypervisor says'
      : 'run ptp4l, or set it once with phc_ctl';
  throw new ClockError(
    'clock-not-set',
    `${sampler.path} is ${(Number(aheadNs) / 1e9).toFixed(3)} s from the system clock, which is neither UTC nor TAI: it was never set, or the system clock is wrong; ${cure}`,
  );
}
