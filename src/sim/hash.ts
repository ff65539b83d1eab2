/**
 * A 64-bit hash for simulated clusters: two MurmurHash3 of 32 bits with different seeds. Where the real cluster uses
 * XXH3-64 by way of an addon or a package, a simulation needs only that different bytes give different values, the same
 * values everywhere, at little cost.
 */
import { hashBytes } from '../machine/bytes.js';
import type { Hasher } from '../protocol/contract.js';
import { writeI32 } from '../wire/u64.js';

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
