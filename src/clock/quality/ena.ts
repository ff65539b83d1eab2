/**
 * The error bound of the hardware clock of AWS's network cards, which the ENA driver shows in sysfs: nanoseconds
 * against true time, as text. Source: Amazon EC2 User Guide, "Compare timestamps for your Linux instances".
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf, stated, statedError, unavailable, type Stated } from './statement.js';

/** `device`: its name in /dev, such as `ptp0`. `sysfs` is for tests. */
export function readEna(device: string, sysfs: string = '/sys'): Stated {
  const path = join(sysfs, 'class/ptp', device, 'device/phc_error_bound');
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (error) {
    return unavailable('ena', `${path}: ${reasonOf(error)}`);
  }
  const boundNs = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (Number.isNaN(boundNs))
    return unavailable('ena', `${path} holds ${JSON.stringify(text.slice(0, 40))}, which is no number of nanoseconds`);
  const errorNs = statedError(boundNs);
  return stated({
    source: 'ena',
    about: 'phc',
    status: errorNs === null ? 'unknown' : 'synchronized',
    errorNs,
    found: errorNs === null ? `says ${boundNs} ns, which no clock has` : `within ${boundNs} ns`,
    detail: { boundNs },
  });
}
