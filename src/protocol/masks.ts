/** Sets of replicas, one bit each. */

/** The lowest of a set that is not empty: `for (let rest = mask; rest !== 0; rest &= rest - 1) f(lowest(rest))`. */
export function lowest(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}

export function count(mask: number): number {
  let n = 0;
  for (let m = mask; m !== 0; m &= m - 1) n++;
  return n;
}

/** The replicas of a set, in words: `0 and 2`. */
export function namesOf(mask: number): string {
  return Array.from({ length: 32 }, (_, r) => r)
    .filter((r) => ((mask >>> r) & 1) === 1)
    .join(' and ');
}

/** The replicas of a set in their places: `0-2` of three. */
export function maskToString(mask: number, n: number): string {
  return Array.from({ length: n }, (_, r) => ((mask >>> r) & 1 ? String(r) : '-')).join('');
}
