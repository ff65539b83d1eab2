/**
 * What the stand-in shows below /sys and /dev (FAKE_PTP_ROOT of test/native/fake-ptp.c): one device, /dev/ptp0, or
 * none.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export class Sysfs {
  constructor(readonly root: string) {
    for (const folder of ['sys/class/ptp', 'sys/class/net', 'dev']) mkdirSync(join(root, folder), { recursive: true });
  }

  /** `boundNs`: what the driver states as ENA does; undefined: nothing. */
  plug(clockName: string, boundNs?: number, networkInterface?: string): void {
    const device = join(this.root, 'sys/class/ptp/ptp0/device');
    mkdirSync(device, { recursive: true });
    writeFileSync(join(this.root, 'sys/class/ptp/ptp0/clock_name'), `${clockName}\n`);
    writeFileSync(join(this.root, 'dev/ptp0'), '');
    rmSync(join(device, 'phc_error_bound'), { force: true });
    if (boundNs !== undefined) writeFileSync(join(device, 'phc_error_bound'), `${boundNs}\n`);
    if (networkInterface !== undefined)
      mkdirSync(join(this.root, 'sys/class/net', networkInterface, 'device/ptp/ptp0'), { recursive: true });
  }

  unplug(): void {
    for (const path of ['sys/class/ptp/ptp0', 'dev/ptp0', 'sys/class/net'])
      rmSync(join(this.root, path), { recursive: true, force: true });
    mkdirSync(join(this.root, 'sys/class/net'));
  }
}
