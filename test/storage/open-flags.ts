/** How this process has files open. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Linux, O_DSYNC: of O_SYNC it is the part that waits for the data. */
export const O_DSYNC = 0o10000;

/** How this process has a file open: the flags of each of its descriptors. Source: proc_pid_fdinfo(5). */
export function openFlags(path: string): number[] {
  const flags: number[] = [];
  for (const descriptor of readdirSync('/proc/self/fd')) {
    let target = '';
    try {
      target = readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      continue; // that of the listing itself
    }
    if (target === path)
      flags.push(
        parseInt(/^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))![1]!, 8),
      );
  }
  return flags;
}
