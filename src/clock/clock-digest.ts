/**
 * A digest of the clock that a process reads, by which two processes find out that they read the same one: between their
 * readings there is then no error at all.
 */
import { readFileSync } from 'node:fs';
import type { Hash64 } from '../native/hash64.js';
import { readI32 } from '../wire/u64.js';

/** Drawn by the kernel at its start. Containers of a host share it, as they share its clocks. */
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id';
/** Clocks of the kernel that no namespace shifts. Others are the process's own, or their device may be another one. */
const SHARED: ReadonlySet<string> = new Set(['realtime', 'tai']);

/**
 * Writes 8 bytes to `out[0]`: the digest of the source, zero if the process may be the only one that reads it, or if the
 * host does not say which it is. Reads a file.
 * @param source of a Clock
 * @param bootId for tests: where to read the host's
 */
export function writeClockDigest(source: string, hash: Hash64, out: Uint8Array, bootId = BOOT_ID_PATH): void {
  out.fill(0, 0, 8);
  if (!SHARED.has(source)) return;
  let boot: string;
  try {
    boot = readFileSync(bootId, 'latin1').trim();
  } catch {
    return;
  }
  if (!/^[0-9a-f-]{36}$/.test(boot)) return;
  const bytes = new TextEncoder().encode(`${boot} ${source}`);
  hash.hash64(bytes, 0, bytes.length, out, 0);
}

/** Two digests of the same clock. */
export function sameClock(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
  const hi = readI32(a, aOffset);
  const lo = readI32(a, aOffset + 4);
  return (hi | lo) !== 0 && hi === readI32(b, bOffset) && lo === readI32(b, bOffset + 4);
}
