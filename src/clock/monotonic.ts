/** CLOCK_MONOTONIC, which all processes of a host share, and how `performance.now()` lies in it. */

const NS_PER_MS = 1e6;
/** Readings of both, of which the closest pair says how far they are apart. */
const ORIGIN_SAMPLES = 32;

/** CLOCK_MONOTONIC now, ns. Allocates; for what must be exact across processes, as histories. */
export function hostMonotonicNs(): number {
  return Number(process.hrtime.bigint());
}

let origin: number | undefined;

/** CLOCK_MONOTONIC, ns, when this thread's `performance.now()` was 0, to some 100 ns. Measured once. */
export function monotonicOriginNs(): number {
  return (origin ??= measureOrigin());
}

/** The narrowest of several brackets: a process that is preempted between two readings would be off by as long as that took. */
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
