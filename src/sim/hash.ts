/**
 * A 64-bit hash for simulated clusters: two MurmurHash3 of 32 bits with different seeds. Where the real cluster uses
 * XXH3-64 by way of an addon or a package, a simulation needs only that different bytes give different values, the same
 * values everywhere, at little cost.
 *
 * In half of the runs the log is chained by another function than all else, as in a cluster with keys: what takes the one for the other is noticed there.
 */
import { hashBytes } from '../machine/bytes.js';
import { chainOf, type Chain, type Hasher } from '../protocol/contract.js';
import { loadSipHash, SIP_SECRET_BYTES } from '../native/siphash.js';
import { writeI32 } from '../wire/u64.js';
import type { Random } from './random.js';

const SEED_HI = 0x9e3779b9;
const SEED_LO = 0x7f4a7c15;

export class SimulationHasher implements Hasher {
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    const hi = hashBytes(bytes, offset, length, SEED_HI);
    const lo = hashBytes(bytes, offset, length, SEED_LO);
    writeI32(out, outOffset, hi);
    writeI32(out, outOffset + 4, lo);
  }
}

/**
 * The chain of a simulated cluster with keys: the shipped function, as hosts without the addon compute it, whatever this host has.
 * @param random what the secret is drawn from
 */
export function simulationChain(random: Random): Chain {
  const secret = Uint8Array.from({ length: SIP_SECRET_BYTES }, () => random.below(256));
  const hash = loadSipHash(secret, { available: false, addon: null, reason: '' });
  return chainOf(hash, 2 + random.below(1 << 30));
}
