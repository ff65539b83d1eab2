/** A snapshot that arrives in pieces, in order. Nothing of it counts before its digest is the one that was offered. */
import { SnapshotChunk, SnapshotOffer } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Hasher } from '../../contract.js';
import { SNAPSHOT_BYTES_MAX } from '../../log/snapshots.js';

/**
 * Room for a snapshot that begins to arrive. It doubles as bytes come: what an offer says is no reason to allocate
 * gigabytes.
 */
const FIRST_BYTES = 1 << 16;

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

  constructor(readonly offered: Offered) {
    this.bytes = new Uint8Array(Math.min(offered.length, FIRST_BYTES));
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
      const larger = new Uint8Array(Math.min(this.offered.length, Math.max(2 * this.bytes.length, end)));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes.set(bytes.subarray(o + SnapshotChunk.size, o + SnapshotChunk.size + length), this.received);
    this.received = end;
    return true;
  }

  /** All of it came as it was sent. @param digest 8 bytes to write to */
  isUndamaged(hasher: Hasher, digest: Uint8Array): boolean {
    hasher.hash64(this.bytes, 0, this.bytes.length, digest, 0);
    return readI32(digest, 0) === this.offered.digestHi && readI32(digest, 4) === this.offered.digestLo;
  }
}
