/**
 * Compares and hashes byte ranges inside larger buffers. Copies and integers are in wire/.
 *
 * Everything here works on (array, offset, length) and creates no view. A `subarray` costs about a hundred bytes of
 * garbage, and these calls are on the path of every operation. The caller must check bounds.
 */

export function equalBytes(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aOffset + i] !== b[bOffset + i]) return false;
  return true;
}

/**
 * Compares as unsigned bytes. A prefix comes before longer keys. The result is negative, zero or positive as a is
 * below, equal to or above b.
 */
export function compareBytes(
  a: Uint8Array,
  aOffset: number,
  aLength: number,
  b: Uint8Array,
  bOffset: number,
  bLength: number,
): number {
  const common = aLength < bLength ? aLength : bLength;
  for (let i = 0; i < common; i++) {
    const difference = a[aOffset + i]! - b[bOffset + i]!;
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
}

/**
 * MurmurHash3 x86 32-bit (Austin Appleby, public domain), signed. It does not resist chosen keys: use it for tables
 * only, never for security.
 */
export function hashBytes(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  let hash = seed | 0;
  const end = offset + length;
  let i = offset;
  for (; i + 4 <= end; i += 4) {
    hash ^= scramble(bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  if (i < end) {
    let rest = 0;
    for (let shift = 0; i < end; i++, shift += 8) rest |= bytes[i]! << shift;
    hash ^= scramble(rest);
  }
  hash ^= length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function scramble(word: number): number {
  const product = Math.imul(word, 0xcc9e2d51);
  return Math.imul((product << 15) | (product >>> 17), 0x1b873593);
}

/** 1 if adding the two unsigned lower halves overflows 32 bits. */
export function carryOf(aLo: number, bLo: number): number {
  return (aLo >>> 0) + (bLo >>> 0) > 0xffffffff ? 1 : 0;
}
