/**
 * The memory of snapshots that are taken in pieces. That of one which is over is used for the next one.
 *
 * Memory outside V8's heap counts for its collector: 64 MiB more of it begin a collection of the whole heap, during which
 * the replica does nothing else. A snapshot of a large state would cause one each time, or two if its memory came in
 * parts; with memory that is used again there is none.
 *
 * The rule: memory is given back once, by the one who took it, and only if nobody reads it any more. What is not given
 * back is left to the collector.
 */

/** A state grows: this part of a length is added to it. Memory that is never written to takes no room. */
const ROOM = 1 / 8;
/** Memory is too large for a snapshot of less than this part of it. */
const USED_PART_MIN = 1 / 2;

export class SnapshotMemory {
  /** What was taken and can be given back. */
  private readonly taken = new WeakSet<ArrayBufferLike>();
  private spare: ArrayBufferLike | undefined;

  /** @param shortBytes memory of no more than this is not worth keeping */
  constructor(private readonly shortBytes: number) {}

  /** Array of `length` bytes, which may be any. */
  take(length: number): Uint8Array {
    const { spare } = this;
    // Whether it fits or not: of memory that is too large none is left once the snapshots are shorter.
    this.spare = undefined;
    if (length <= this.shortBytes) return new Uint8Array(length);
    const fits = spare !== undefined && length <= spare.byteLength && length >= spare.byteLength * USED_PART_MIN;
    const memory = fits ? spare : new ArrayBuffer(length + Math.ceil(length * ROOM));
    this.taken.add(memory);
    return new Uint8Array(memory, 0, length);
  }

  /** Nobody reads `bytes` any more. Arrays from elsewhere, and those that were kept, are ignored. */
  giveBack(bytes: Uint8Array): void {
    if (!this.taken.delete(bytes.buffer)) return;
    if (this.spare === undefined || this.spare.byteLength < bytes.buffer.byteLength) this.spare = bytes.buffer;
  }

  /** Somebody may read `bytes` at any time from now on. */
  keep(bytes: Uint8Array): void {
    this.taken.delete(bytes.buffer);
  }
}
