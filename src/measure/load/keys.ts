/** Chooses keys: all equally often, or few of them most of the time. */

export type KeyDistribution = 'uniform' | 'zipfian';

/** Skew of the Zipf distribution; the same as YCSB's, so that results can be compared. */
export const ZIPF_THETA = 0.99;

/** Turns random numbers in [0, 1) into key numbers 0 … keys−1. */
export function keyChooser(distribution: KeyDistribution, keys: number): (random: number) => number {
  return distribution === 'uniform' || keys < 3 ? (random) => Math.floor(random * keys) : zipfian(keys);
}

/**
 * Key k with probability (k+1)^−θ / ζ(keys, θ), approximated as in Gray et al., "Quickly Generating Billion-Record
 * Synthetic Databases" (SIGMOD 1994), section 3.2: exact for keys 0 and 1, a power law after them. Key 0 is the
 * hottest.
 */
function zipfian(keys: number): (random: number) => number {
  const zeta = (n: number): number => {
    let sum = 0;
    for (let i = 1; i <= n; i++) sum += i ** -ZIPF_THETA;
    return sum;
  };
  const total = zeta(keys);
  const alpha = 1 / (1 - ZIPF_THETA);
  const eta = (1 - (2 / keys) ** (1 - ZIPF_THETA)) / (1 - zeta(2) / total);
  return (random) => {
    const mass = random * total;
    if (mass < 1) return 0;
    if (mass < 1 + 0.5 ** ZIPF_THETA) return 1;
    return Math.min(keys - 1, Math.floor(keys * (eta * random - eta + 1) ** alpha));
  };
}
