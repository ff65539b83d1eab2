/** CLOCK_MONOTONIC, which all processes of a host share, and its offset to `performance.now()`. */
import { native, type NativeBinding } from '../native/addon.js';

const NS_PER_US = 1e3;
const NS_PER_MS = 1e6;
/** Pairs of readings; the closest pair gives the offset. */
const ORIGIN_SAMPLES = 32;

/** CLOCK_MONOTONIC now, ns. Allocates; for data that must be comparable across processes, such as histories. */
export function hostMonotonicNs(): number {
  return Number(process.hrtime.bigint());
}

let origin: number | undefined;

/** CLOCK_MONOTONIC, ns, when this thread's `performance.now()` was 0, to within about 100 ns. Measured once. */
export function monotonicOriginNs(): number {
  return (origin ??= measureOrigin());
}

/**
 * Takes the narrowest of several brackets: a process that is preempted between two readings would be off by that pause.
 */
function measureOrigin(): number {
  let narrowest = Infinity;
  let measured = 0;
  for (let i = 0; i < ORIGIN_SAMPLES; i++) {
    const before = hostMonotonicNs();
    const between = performance.now() * NS_PER_MS;
    const after = hostMonotonicNs();
    if (after - before >= narrowest) continue;
    narrowest = after - before;
    measured = before + narrowest / 2 - between;
  }
  return measured;
}

/** Reads `performance.now()`, in µs, without the allocation that a returned number would cost. */
export interface MonotonicReader {
  /** µs, after `read`. */
  readonly at: Float64Array;
  read(): void;
}

export function openMonotonic(binding: NativeBinding = native): MonotonicReader {
  const at = new Float64Array(1);
  if (!binding.available) return { at, read: () => void (at[0] = performance.now() * (NS_PER_MS / NS_PER_US)) };
  const { addon } = binding;
  const { monotonic } = addon.systemClocks;
  const halves = new Int32Array(2);
  const originNs = monotonicOriginNs();
  const read = (): void => {
    addon.clockWriteHalves(monotonic, halves, 0);
    at[0] = ((halves[0]! >>> 0) * 2 ** 32 + (halves[1]! >>> 0) - originNs) / NS_PER_US;
  };
  return { at, read };
}
