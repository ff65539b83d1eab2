/**
 * 64-bit values without BigInt.
 *
 * Timestamps, session ids and chains exceed 2^53, and a BigInt is an allocation. They are passed as two halves, `hi`
 * and `lo`. Each half is a *signed* int32 that holds the bits of the unsigned half. A signed int32 is always a small
 * integer in V8 and so never boxed, whichever function receives it. They are compared as unsigned. In bytes they are
 * big-endian.
 */

const TWO_32 = 4294967296;

/** Bound on the upper half of an index: the upper half of `Number.MAX_SAFE_INTEGER` is 21 bits wide. */
const INDEX_HI_LIMIT = 0x200000;

/** The int32 at `bytes[offset]`, big-endian. */
export function readI32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
}

/** Writes the 32 bits of `value` big-endian. */
export function writeI32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

export function readU16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

/**
 * Reads a u64 that is an index or a count, as a plain number. NaN above 2^53, which no honest sender writes.
 *
 * Below 2^31 it always is a small integer. V8 makes a product a double on the heap as long as the code is not compiled, and a
 * field that gets such a double for the first time changes its object's hidden class: all compiled code that uses the
 * object is thrown away. That happened when a rare message came for the first time, as in a view change.
 */
export function readIndex(bytes: Uint8Array, offset: number): number {
  const hi = readI32(bytes, offset);
  const lo = readI32(bytes, offset + 4);
  return hi === 0 && lo >= 0 ? lo : largeIndex(hi >>> 0, lo >>> 0);
}

/** Like `readIndex`, from a DataView. */
export function indexAt(words: DataView, offset: number): number {
  const hi = words.getInt32(offset);
  const lo = words.getInt32(offset + 4);
  return hi === 0 && lo >= 0 ? lo : largeIndex(hi >>> 0, lo >>> 0);
}

function largeIndex(hi: number, lo: number): number {
  return hi < INDEX_HI_LIMIT ? hi * TWO_32 + lo : NaN;
}

/**
 * The same number. What is read from a Float64Array, or from a field that holds doubles, is a double on the heap as long as
 * the code is not compiled; here it becomes a small integer if it is one. See `readIndex`.
 */
export function smallInteger(value: number): number {
  const small = value | 0;
  return small === value ? small : value;
}

/** Whether the u64 is one that `readIndex` can read. */
export function isIndex(words: DataView, offset: number): boolean {
  return words.getUint32(offset) < INDEX_HI_LIMIT;
}

/** Writes a safe integer as u64. */
export function writeIndex(bytes: Uint8Array, offset: number, value: number): void {
  writeI32(bytes, offset, (value / TWO_32) | 0);
  writeI32(bytes, offset + 4, value | 0);
}

/** Negative, zero or positive as a is below, equal to or above b, both unsigned. */
export function compareU64(aHi: number, aLo: number, bHi: number, bLo: number): number {
  if (aHi !== bHi) return aHi >>> 0 < bHi >>> 0 ? -1 : 1;
  if (aLo !== bLo) return aLo >>> 0 < bLo >>> 0 ? -1 : 1;
  return 0;
}

/** a − b as a number: exact up to 2^53 either way, which for nanoseconds is 104 days. */
export function differenceU64(aHi: number, aLo: number, bHi: number, bLo: number): number {
  return ((aHi >>> 0) - (bHi >>> 0)) * TWO_32 + ((aLo >>> 0) - (bLo >>> 0));
}

/** Upper half of a + `delta`, 0 ≤ delta < 2^53. */
export function addHi(aHi: number, aLo: number, delta: number): number {
  return (aHi + Math.floor(((aLo >>> 0) + delta) / TWO_32)) | 0;
}

/** Lower half of a + `delta`, 0 ≤ delta < 2^53. */
export function addLo(aLo: number, delta: number): number {
  return (aLo + (delta % TWO_32)) | 0;
}

/** For display and cold paths only: allocates. */
export function toBigInt(hi: number, lo: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}

/** The u64 at `bytes[offset]` as sixteen hexadecimal digits. For cold paths only: allocates. */
export function readHex(bytes: Uint8Array, offset: number): string {
  return toHex(readI32(bytes, offset), readI32(bytes, offset + 4));
}

/** Writes a u64 that is given as sixteen hexadecimal digits. */
export function writeHex(bytes: Uint8Array, offset: number, digits: string): void {
  writeI32(bytes, offset, parseInt(digits.slice(0, 8), 16) | 0);
  writeI32(bytes, offset + 4, parseInt(digits.slice(8), 16) | 0);
}

/** Sixteen hexadecimal digits, for logs and traces. */
export function toHex(hi: number, lo: number): string {
  return (hi >>> 0).toString(16).padStart(8, '0') + (lo >>> 0).toString(16).padStart(8, '0');
}
