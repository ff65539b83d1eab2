/**
 * A small seeded generator (mulberry32) for workloads: the same seed gives the same keys and the same mix. Returns
 * numbers in [0, 1).
 */
export function seededRandom(seed: number): () => number {
  const state = Int32Array.of(seed);
  return () => {
    state[0]! += 0x6d2b79f5;
    let x = state[0]!;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}
