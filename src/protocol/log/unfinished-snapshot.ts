/** A snapshot that is being taken in pieces: its bytes are complete up to some place. */
import type { SnapshotInPieces } from '../../machine/state-machine.js';
import type { HashInParts, Snapshot } from '../contract.js';
import { invariant } from '../invariant.js';

/** A machine that gives this many empty pieces, one after the other, is stuck. */
const EMPTY_PIECES_MAX = 1 << 20;

export class UnfinishedSnapshot {
  private empty = 0;

  /**
   * @param filled bytes of `snapshot` that are there; the machine gives the others
   * @param hash of the bytes, computed as they come
   */
  constructor(
    readonly snapshot: Snapshot,
    private filled: number,
    private readonly pieces: SnapshotInPieces,
    private readonly hash: HashInParts | undefined,
  ) {
    hash?.update(snapshot.bytes, 0, filled);
    invariant(
      filled + pieces.length === snapshot.bytes.length,
      'a snapshot has room for as many bytes as the machine says',
    );
  }

  /** Bytes that are missing. */
  get left(): number {
    return this.snapshot.bytes.length - this.filled;
  }

  /** Takes the next piece, of about this many bytes. */
  take(maxBytes: number): void {
    const piece = this.pieces.step(maxBytes);
    invariant(piece.length <= this.left, 'a machine gives no more bytes of a snapshot than it said');
    this.snapshot.bytes.set(piece, this.filled);
    if (piece.length > 0) this.hash?.update(this.snapshot.bytes, this.filled, piece.length);
    this.filled += piece.length;
    this.empty = piece.length === 0 ? this.empty + 1 : 0;
    invariant(this.empty < EMPTY_PIECES_MAX, 'a snapshot that is begun comes to its end');
  }

  /** The snapshot; nothing of it is missing. */
  finish(): Snapshot {
    const { snapshot, hash } = this;
    invariant(this.left === 0, 'a snapshot that is used is whole');
    if (hash === undefined) return snapshot;
    const digest = new Uint8Array(8);
    hash.digest(digest, 0);
    return { ...snapshot, digest };
  }

  abort(): void {
    this.pieces.abort();
  }
}
