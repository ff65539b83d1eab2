/** Memory of other processes. */
import { readFileSync } from 'node:fs';

/** What a process has in memory, bytes; null if the kernel does not tell. Linux, proc(5). */
export function residentBytes(pid: number | undefined): number | null {
  try {
    const kib = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  } catch {
    return null;
  }
}
