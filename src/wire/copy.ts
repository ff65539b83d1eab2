/**
 * Copies that allocate nothing.
 *
 * A loop over bytes is most of the cost of a small operation. A native copy needs a view of the range, which becomes
 * garbage. A DataView of the whole array, made once, lets a loop copy four bytes at a time at any offset.
 */

/** From this length on, a native copy saves more than its two views cost. */
const NATIVE_COPY_BYTES_MIN = 2048;

/**
 * Copies `length` bytes. The ranges must not overlap. Throws RangeError beyond the end of either array. Allocates two
 * short-lived views for 2,048 bytes and more.
 */
export function copyWords(
  source: DataView,
  sourceOffset: number,
  target: DataView,
  targetOffset: number,
  length: number,
): void {
  if (length >= NATIVE_COPY_BYTES_MIN) {
    new Uint8Array(target.buffer, target.byteOffset + targetOffset, length).set(
      new Uint8Array(source.buffer, source.byteOffset + sourceOffset, length),
    );
    return;
  }
  const blocks = length & ~15;
  let i = 0;
  for (; i < blocks; i += 16) {
    const from = sourceOffset + i;
    const to = targetOffset + i;
    target.setInt32(to, source.getInt32(from, true), true);
    target.setInt32(to + 4, source.getInt32(from + 4, true), true);
    target.setInt32(to + 8, source.getInt32(from + 8, true), true);
    target.setInt32(to + 12, source.getInt32(from + 12, true), true);
  }
  const words = length & ~3;
  for (; i < words; i += 4) target.setInt32(targetOffset + i, source.getInt32(sourceOffset + i, true), true);
  for (; i < length; i++) target.setUint8(targetOffset + i, source.getUint8(sourceOffset + i));
}

/** Like `copyWords`, for arrays without a ready DataView. */
export function copyBytes(
  source: Uint8Array,
  sourceOffset: number,
  target: Uint8Array,
  targetOffset: number,
  length: number,
): void {
  if (length >= NATIVE_COPY_BYTES_MIN) {
    target.set(source.subarray(sourceOffset, sourceOffset + length), targetOffset);
    return;
  }
  // Eight bytes at a time: half of a plain loop's time is loop overhead.
  const whole = length & ~7;
  let i = 0;
  for (; i < whole; i += 8) {
    const from = sourceOffset + i;
    const to = targetOffset + i;
    target[to] = source[from]!;
    target[to + 1] = source[from + 1]!;
    target[to + 2] = source[from + 2]!;
    target[to + 3] = source[from + 3]!;
    target[to + 4] = source[from + 4]!;
    target[to + 5] = source[from + 5]!;
    target[to + 6] = source[from + 6]!;
    target[to + 7] = source[from + 7]!;
  }
  for (; i < length; i++) target[targetOffset + i] = source[sourceOffset + i]!;
}

/** The DataView of a whole array, which reads and writes its words. */
export function wordsOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Keeps the DataViews of the two arrays used last. Allocates when asked for a third one. */
export class LastWords {
  private bytes: Uint8Array = new Uint8Array(0);
  private words = wordsOf(this.bytes);
  private otherBytes = this.bytes;
  private otherWords = this.words;

  of(bytes: Uint8Array): DataView {
    if (bytes !== this.bytes) this.turnTo(bytes);
    return this.words;
  }

  private turnTo(bytes: Uint8Array): void {
    const words = bytes === this.otherBytes ? this.otherWords : wordsOf(bytes);
    this.otherBytes = this.bytes;
    this.otherWords = this.words;
    this.bytes = bytes;
    this.words = words;
  }
}
