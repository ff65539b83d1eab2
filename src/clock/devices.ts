/** The PTP hardware clocks of this host, as sysfs shows them. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface ClockDevice {
  /** `ptp0`. */
  readonly name: string;
  /** `/dev/ptp0`. */
  readonly path: string;
  /** The name that the driver gives it. */
  readonly clockName: string;
  readonly driver: string | undefined;
  /** Network interfaces whose packets it timestamps. */
  readonly interfaces: readonly string[];
}

/** In order of device number; empty if there are none. `root` is for tests. */
export function listDevices(root: string = '/'): ClockDevice[] {
  const ptp = join(root, 'sys/class/ptp');
  const networks = join(root, 'sys/class/net');
  return names(ptp)
    .filter((name) => /^ptp\d+$/.test(name))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .map((name) => ({
      name,
      path: `/dev/${name}`,
      clockName: text(join(ptp, name, 'clock_name')) ?? 'unknown',
      driver: link(join(ptp, name, 'device/driver')),
      interfaces: names(networks).filter((network) => names(join(networks, network, 'device/ptp')).includes(name)),
    }));
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function link(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}
