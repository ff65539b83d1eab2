/**
 * A 64-bit hash for simulated clusters: two MurmurHash3 of 32 bits with different seeds. The real cluster uses XXH3-64
 * from an addon or a package; a simulation only needs a cheap function that gives different values for different bytes,
 * and the same values everywhere.
 *
 * In half of the runs the log is chained by another function than everything else uses, as in a cluster with keys: code
 * that confuses the two is noticed there.
 */
import { hashBytes } from '../machine/bytes.js';
import { chainOf, type Chain, type Hasher, type HashInParts } from '../protocol/contract.js';
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

  begin(): HashInParts {
    const parts: Uint8Array[] = [];
    return {
      update: (bytes, offset, length) => parts.push(bytes.slice(offset, offset + length)),
      digest: (out, outOffset) => {
        const whole = Buffer.concat(parts);
        this.hash64(whole, 0, whole.length, out, outOffset);
      },
    };
  }
}

/**
 * The chain of a simulated cluster with keys: the shipped function, computed as on hosts without the addon.
 * @param random draws the secret
 */
export function simulationChain(random: Random): Chain {
  const secret = Uint8Array.from({ length: SIP_SECRET_BYTES }, () => random.below(256));
  const hash = loadSipHash(secret, { available: false, addon: null, reason: '' });
  return chainOf(hash, 2 + random.below(1 << 30));
}
