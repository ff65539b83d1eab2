/** A snapshot that is being taken in pieces, its sessions first: its bytes are complete up to some place. */
import type { SnapshotInPieces } from '../../machine/state-machine.js';
import type { HashInParts, Snapshot } from '../contract.js';
import { invariant } from '../invariant.js';
import type { SessionCopy } from './session-copy.js';

/** A machine that gives this many empty pieces, one after the other, is stuck. */
const EMPTY_PIECES_MAX = 1 << 20;

/** The pieces of a state that is there as a whole. */
export function piecesOf(state: Uint8Array): SnapshotInPieces {
  let taken = 0;
  return {
    length: state.length,
    step: (maxBytes) => {
      const piece = state.subarray(taken, taken + maxBytes);
      taken += piece.length;
      return piece;
    },
    abort: () => undefined,
  };
}

export class UnfinishedSnapshot {
  private filled: number;
  private empty = 0;

  /**
   * @param snapshot what comes before the sessions is there
   * @param sessions writes them to their place in it
   * @param hash of the bytes, computed as they come
   */
  constructor(
    readonly snapshot: Snapshot,
    private readonly sessions: SessionCopy,
    private readonly pieces: SnapshotInPieces,
    private readonly hash: HashInParts | undefined,
  ) {
    this.filled = sessions.reached;
    hash?.update(snapshot.bytes, 0, this.filled);
    invariant(
      sessions.end + pieces.length === snapshot.bytes.length,
      'a snapshot has room for as many bytes as the sessions and the machine say',
    );
  }

  /** Bytes that are missing. */
  get left(): number {
    return this.snapshot.bytes.length - this.filled;
  }

  /** Takes the next piece, of about this many bytes. */
  take(maxBytes: number): void {
    const { bytes } = this.snapshot;
    const { sessions } = this;
    if (this.filled < sessions.end) {
      sessions.step(maxBytes);
      this.has(sessions.reached - this.filled);
      return;
    }
    const piece = this.pieces.step(maxBytes);
    invariant(piece.length <= this.left, 'a machine gives no more bytes of a snapshot than it said');
    bytes.set(piece, this.filled);
    this.has(piece.length);
    this.empty = piece.length === 0 ? this.empty + 1 : 0;
    invariant(this.empty < EMPTY_PIECES_MAX, 'a snapshot that is begun comes to its end');
  }

  private has(more: number): void {
    if (more > 0) this.hash?.update(this.snapshot.bytes, this.filled, more);
    this.filled += more;
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
    this.sessions.abort();
    this.pieces.abort();
  }
}
