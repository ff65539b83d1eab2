/**
 * XXH3, 64 bits, seed 0: the checksum that chains the log.
 *
 * Two implementations with one interface and identical bytes. The addon's allocates nothing and serves the packet path.
 * The other one uses xxhash-addon's JavaScript API, which allocates a Buffer for each digest and takes about ten times
 * as long. A cluster may mix them.
 */

import { createRequire } from 'node:module';
import { native, type HashArena, type NativeBinding } from './addon.js';
import { fits, invalidArgument, outOfBounds } from './errors.js';

/** XXH3-64 over bytes in place. Source: xxHash, doc/xxhash_spec.md, "XXH3". */
export interface Hash64 {
  /**
   * Hashes `length` bytes from `bytes[offset]` on (0 is allowed) and writes the canonical digest, 8 bytes big-endian,
   * to `out[outOffset]`. `out` may be `bytes`, even overlapping: the digest is computed before it is written.
   *
   * Throws RangeError `out-of-bounds` if a range leaves its array or a number is not whole, TypeError
   * `invalid-argument` if an array is not a Uint8Array; nothing is then written.
   */
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /**
   * Memory of `length` bytes that is hashed often; only the addon has it. Throws RangeError `out-of-bounds` if `length`
   * is not a length, or above 2^31 − 1.
   */
  hashArena?(length: number): HashArena;
}

/** XXH3-64 of bytes that come in parts. */
export interface Hash64InParts {
  update(bytes: Uint8Array, offset: number, length: number): void;
  /** Writes the canonical digest of all parts, 8 bytes big-endian, to `out[outOffset]`. */
  digest(out: Uint8Array, outOffset: number): void;
}

const DIGEST_BYTES = 8;

/** The part of xxhash-addon that is used here. */
interface OneShot {
  readonly XXHash3: {
    hash(data: Uint8Array): Uint8Array;
    new (seed: Uint8Array): { update(data: Uint8Array): void; digest(): Uint8Array };
  };
}

let inParts: OneShot['XXHash3'] | null | undefined;

/**
 * Undefined where xxhash-addon has no binary for this platform and was not compiled: then hash the whole. The first call
 * loads xxhash-addon, also in a process that has this package's addon, which hashes nothing in parts.
 */
export function beginHash64(): Hash64InParts | undefined {
  if (inParts === undefined) {
    try {
      inParts = (createRequire(import.meta.url)('xxhash-addon') as OneShot).XXHash3;
    } catch {
      inParts = null;
    }
  }
  if (inParts === null) return undefined;
  const hash = new inParts(Buffer.alloc(8));
  return {
    update: (bytes, offset, length) => hash.update(Buffer.from(bytes.buffer, bytes.byteOffset + offset, length)),
    digest: (out, outOffset) => out.set(hash.digest(), outOffset),
  };
}

class JavaScriptHash64 implements Hash64 {
  readonly #oneShot: OneShot['XXHash3'];

  constructor(oneShot: OneShot['XXHash3']) {
    this.#oneShot = oneShot;
  }

  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    if (!(bytes instanceof Uint8Array) || !(out instanceof Uint8Array)) {
      throw invalidArgument(
        'hash64: bytes and out must be Uint8Arrays; call hash64(bytes, offset, length, out, outOffset)',
      );
    }
    if (!fits(bytes.length, offset, length)) {
      throw outOfBounds('hash64: offset and length must be whole numbers from 0 on and stay inside bytes');
    }
    if (!fits(out.length, outOffset, DIGEST_BYTES)) {
      throw outOfBounds('hash64: outOffset must be a whole number from 0 on and leave 8 bytes in out');
    }
    out.set(this.#oneShot.hash(bytes.subarray(offset, offset + length)), outOffset);
  }
}

/**
 * The fastest hash available: the addon's, else the other one. Throws what `require` throws if both are missing
 * (xxhash-addon has no binary for this platform and was not compiled).
 */
export function loadHash(binding: NativeBinding = native): Hash64 {
  if (binding.available) return binding.addon;
  // A process with the addon loads xxhash-addon only for `beginHash64`.
  const { XXHash3 } = createRequire(import.meta.url)('xxhash-addon') as OneShot;
  return new JavaScriptHash64(XXHash3);
}
