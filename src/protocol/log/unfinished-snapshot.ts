/**
 * A snapshot that is being taken in pieces, its sessions first: its bytes are complete up to some place.
 *
 * There is one of these for all snapshots of a replica. It is asked at each turn, and V8 throws its compiled callers away
 * when a collection has removed the only object of a class that they met.
 */
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

const NO_BYTES: Uint8Array = new Uint8Array(0);
const NO_SNAPSHOT: Snapshot = { index: -1, chainHi: 0, chainLo: 0, bytes: NO_BYTES };
const NO_PIECES = piecesOf(NO_BYTES);

export class UnfinishedSnapshot {
  /** What is complete of it; without bytes if none is being taken. */
  snapshot = NO_SNAPSHOT;
  /** Index of its last entry; −1: none is being taken. */
  index = -1;
  /** Bytes that are missing. */
  left = 0;
  private filled = 0;
  private empty = 0;
  private pieces = NO_PIECES;
  private hash: HashInParts | undefined;

  /** @param sessions writes those of the table, once the table has begun it */
  constructor(private readonly sessions: SessionCopy) {}

  get isUnderway(): boolean {
    return this.index >= 0;
  }

  /**
   * Begins one; there is none underway.
   * @param snapshot what comes before the sessions is there
   * @param hash of the bytes, computed as they come
   */
  begin(snapshot: Snapshot, pieces: SnapshotInPieces, hash: HashInParts | undefined): void {
    const { sessions } = this;
    this.snapshot = snapshot;
    this.index = snapshot.index;
    this.pieces = pieces;
    this.hash = hash;
    this.filled = sessions.reached;
    this.left = snapshot.bytes.length - this.filled;
    this.empty = 0;
    hash?.update(snapshot.bytes, 0, this.filled);
    invariant(
      sessions.end + pieces.length === snapshot.bytes.length,
      'a snapshot has room for as many bytes as the sessions and the machine say',
    );
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
    this.left -= more;
  }

  /** The snapshot, of which nothing is missing; now none is underway. */
  finish(): Snapshot {
    const { snapshot, hash } = this;
    invariant(this.isUnderway && this.left === 0, 'a snapshot that is used is whole');
    this.over();
    if (hash === undefined) return snapshot;
    const digest = new Uint8Array(8);
    hash.digest(digest, 0);
    return { ...snapshot, digest };
  }

  /** Gives up the one that is underway, if there is one. */
  abort(): void {
    if (!this.isUnderway) return;
    this.sessions.abort();
    this.pieces.abort();
    this.over();
  }

  /** Lets go of what it held. */
  private over(): void {
    this.snapshot = NO_SNAPSHOT;
    this.index = -1;
    this.left = 0;
    this.pieces = NO_PIECES;
    this.hash = undefined;
  }
}
