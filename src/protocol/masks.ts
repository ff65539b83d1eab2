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
