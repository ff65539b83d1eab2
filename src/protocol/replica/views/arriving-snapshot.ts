/**
 * A snapshot that arrives in pieces, in order. Nothing of it counts before its digest is the one that was offered. A
 * machine that restores in pieces gets its part as it comes, apart from its present state, so that little is left to do
 * when the last piece is there.
 */
import type { RestoreInPieces } from '../../../machine/state-machine.js';
import { SnapshotChunk, SnapshotOffer } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Hasher, HashInParts } from '../../contract.js';
import type { Execution } from '../../log/execution.js';
import { machineRefuses, machineStart, SNAPSHOT_BYTES_MAX } from '../../log/snapshots.js';

/** Room for a snapshot that begins to arrive. What an offer says is no reason to allocate gigabytes. */
const FIRST_BYTES = 1 << 16;
/**
 * When the room is full, there is this many times as much. The system gives memory only when it is written to, so little
 * is copied this way, and a source that lies makes others reserve addresses, not memory.
 */
const GROWTH = 64;
/** What a source says of its snapshot. */
export interface Offered {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly digestHi: number;
  readonly digestLo: number;
  readonly length: number;
}

/** The SnapshotOffer at `bytes[o]`. */
export function readOffer(bytes: Uint8Array, o: number): Offered {
  const at = SnapshotOffer.at;
  return {
    index: readIndex(bytes, o + at.index),
    chainHi: readI32(bytes, o + at.chain),
    chainLo: readI32(bytes, o + at.chain + 4),
    digestHi: readI32(bytes, o + at.digest),
    digestLo: readI32(bytes, o + at.digest + 4),
    length: readI32(bytes, o + at.length),
  };
}

export function isTransferable({ length }: Offered): boolean {
  return length >= 0 && length <= SNAPSHOT_BYTES_MAX;
}

export class ArrivingSnapshot {
  /** Bytes that have come. */
  received = 0;
  bytes: Uint8Array;
  /** Has what has come of the machine's part; undefined: no such part is known yet, or the machine restores at once. */
  restore: RestoreInPieces | undefined;
  /** Why the machine refused what has come. */
  fault: string | undefined;
  private readonly hash: HashInParts | undefined;
  /** Where the machine's part begins (machineStart), and where what the machine has not got yet. */
  private machineAt = -1;
  private restored = 0;

  constructor(
    readonly offered: Offered,
    private readonly execution: Pick<Execution, 'beginRestore' | 'pieceBytes'>,
    private readonly hasher: Hasher,
  ) {
    this.bytes = new Uint8Array(Math.min(offered.length, FIRST_BYTES));
    this.hash = offered.length > execution.pieceBytes ? hasher.begin?.() : undefined;
  }

  get isWhole(): boolean {
    return this.received >= this.offered.length;
  }

  /** It is the one that arrives already. */
  isOffered({ index, chainHi, chainLo, length }: Offered): boolean {
    const { offered } = this;
    return (
      offered.index === index && offered.chainHi === chainHi && offered.chainLo === chainLo && offered.length === length
    );
  }

  /** It is the one that is offered, byte for byte. */
  isSame(offered: Offered): boolean {
    const { digestHi, digestLo } = this.offered;
    return this.isOffered(offered) && offered.digestHi === digestHi && offered.digestLo === digestLo;
  }

  /** The SnapshotChunk at `bytes[o]` is a piece of it. */
  isPiece(bytes: Uint8Array, o: number): boolean {
    const at = SnapshotChunk.at;
    const { index, chainHi, chainLo } = this.offered;
    return (
      readIndex(bytes, o + at.index) === index &&
      readI32(bytes, o + at.chain) === chainHi &&
      readI32(bytes, o + at.chain + 4) === chainLo
    );
  }

  /** Takes the next piece; false when the piece is not the next one, or does not fit. */
  take(bytes: Uint8Array, o: number): boolean {
    const length = readU16(bytes, o + SnapshotChunk.at.data);
    const end = this.received + length;
    if (readI32(bytes, o + SnapshotChunk.at.offset) !== this.received || end > this.offered.length || length === 0)
      return false;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.min(this.offered.length, Math.max(GROWTH * this.bytes.length, end)));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes.set(bytes.subarray(o + SnapshotChunk.size, o + SnapshotChunk.size + length), this.received);
    this.hash?.update(this.bytes, this.received, length);
    this.received = end;
    this.restoreMore();
    return true;
  }

  private restoreMore(): void {
    const { bytes, received, offered } = this;
    if (this.fault !== undefined) return;
    try {
      if (this.machineAt < 0) {
        this.machineAt = this.restored = machineStart(bytes, received, offered.length);
        if (this.machineAt < 0 || this.machineAt === Infinity) return;
        this.restore = this.execution.beginRestore(offered.length - this.machineAt);
      }
      if (this.restore === undefined || received <= this.restored) return;
      this.restore.step(bytes.subarray(this.restored, received));
      this.restored = received;
    } catch (error) {
      this.fault = machineRefuses(error);
      this.abort();
    }
  }

  /** All of it came as it was sent. @param digest 8 bytes to write to */
  isUndamaged(digest: Uint8Array): boolean {
    if (this.hash === undefined) this.hasher.hash64(this.bytes, 0, this.bytes.length, digest, 0);
    else this.hash.digest(digest, 0);
    return readI32(digest, 0) === this.offered.digestHi && readI32(digest, 4) === this.offered.digestLo;
  }

  /** The rest is not wanted. */
  abort(): void {
    this.restore?.abort();
    this.restore = undefined;
  }
}
