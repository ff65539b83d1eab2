/**
 * What a replicated program must be: a deterministic function from its state and an operation to a new state and a
 * reply.
 *
 * Every replica applies the same operations in the same order. `apply` may therefore use nothing but its arguments and
 * the state: no clock (the context has the agreed timestamp), no randomness, no I/O, no iteration order that depends on
 * anything but the operations applied. A primary applies an operation before it is committed and may have to take it
 * back. Then `restore` is called with an earlier snapshot, and the operations that stay are applied again; or `undoTo`, if
 * the machine has it.
 */
export interface StateMachine {
  /**
   * Applies one operation and writes its result into `reply`. Must not throw: a malformed operation gets an error
   * result that the machine defines.
   */
  apply(operation: Operation, context: ApplyContext, reply: Reply): void;
  /** Answers a read from the current state without changing it. Same rules as `apply`. */
  query(operation: Operation, context: ApplyContext, reply: Reply): void;
  /**
   * The whole state as bytes. The same state always gives the same bytes. The caller keeps the array; later calls must
   * not change it.
   */
  snapshot(): Uint8Array;
  /**
   * Replaces the state by a snapshot's. Throws if the bytes are not a snapshot of this machine; the state is then
   * unchanged.
   */
  restore(snapshot: Uint8Array): void;
  /**
   * Begins a snapshot of the present state that is taken in pieces, while operations are applied: for states that are so
   * large that `snapshot` would stop the replica for milliseconds. Optional. At most one is in progress; `restore` and
   * `abort` end it. `snapshot` is needed all the same, and may be called meanwhile.
   */
  beginSnapshot?(): SnapshotInPieces;
  /**
   * Begins to replace the state by a snapshot that comes in pieces: for states that are so large that `restore` would
   * stop the replica for milliseconds. Optional. Until it ends, the present state stays as it is and all other methods
   * go on with it; even `restore` leaves this one alone. At most one is in progress. `restore` is needed all the same.
   * @param length bytes of all pieces together
   */
  beginRestore?(length: number): RestoreInPieces;
  /**
   * From the next operation on, the machine may do what it refused before: its level is at least this. The level is part
   * of the state, and of snapshots; a new machine has level 0. It is 1 when the feature `store` is on, and 2 when `redis` is
   * on, too. Every replica is
   * told at the same entry of the log, and may be told again. Optional: for machines whose operations grow in number
   * while a cluster is upgraded.
   */
  raise?(level: number): void;
  /**
   * Takes back what was applied behind entry `index`, so that the state is what it was after that entry. For states that
   * are so large that `restore` takes long. Optional, together with `committedTo`. Returns false if the machine does not
   * know any more how to undo it, for example because what it kept for that had a bound; nothing is changed then, and
   * `restore` follows. A snapshot in pieces goes on, unless its `abort` was called: it began at or before that entry. What
   * was applied before the level was raised is not asked for.
   */
  undoTo?(index: number): boolean;
  /**
   * No entry up to `index` will have to be undone, whether it was applied already or is still to come (`context.index`).
   * So a machine keeps what undoes an entry only if its index is above that. The first call comes before the first
   * `apply`. `restore` leads to a state of which nothing has to be undone.
   */
  committedTo?(index: number): void;
}

/** A state that is built from the pieces of a snapshot, apart from the present one. */
export interface RestoreInPieces {
  /**
   * Takes the next bytes, at least one, cut anywhere: copy what is needed after the call. Throws if this cannot be a
   * snapshot of this machine. Then it is over, and the state is unchanged.
   */
  step(piece: Uint8Array): void;
  /**
   * Everything has come: from now on this is the state, and a snapshot in pieces of the old one is over. Should take
   * much less time than `restore`. Throws, with the state unchanged, if something is missing or wrong.
   */
  end(): void;
  /** The rest will not come: forgets the pieces. May be called when it is over, and then does nothing. */
  abort(): void;
}

/** A snapshot of the state as it was when it began, whatever was applied since. */
export interface SnapshotInPieces {
  /** Bytes of all pieces together, which are those that `snapshot` would have returned when it began. */
  readonly length: number;
  /**
   * The next piece: about `maxBytes`, by at most one record more, so that the call takes a bounded time. Empty if it
   * only got on. The caller copies it before the next call of the machine, and does not call again after the last one.
   */
  step(maxBytes: number): Uint8Array;
  /** The rest is not wanted. */
  abort(): void;
}

/** The operation's bytes in place: a reused view, valid only during the call. */
export interface Operation {
  bytes: Uint8Array;
  offset: number;
  length: number;
}

/** What the replicas agreed on about the operation, besides its bytes. */
export interface ApplyContext {
  /**
   * Agreed timestamp in nanoseconds, upper and lower 32 bits, each as a signed int32 (see wire/u64.ts). Strictly
   * increasing with the index, except for ties between sessions. 0 in `query`.
   */
  timestampHi: number;
  timestampLo: number;
  /** Log index of the operation, from 1. In `query`: the index of the last entry that the state reflects. */
  index: number;
}

/**
 * Where the result goes: write at most `capacity` bytes from `bytes[offset]` on, then set `length`. A result that
 * already lies in the operation, or in memory of the machine that does not change before its next call, need not be
 * copied: set `bytes` and `offset` to it.
 */
export interface Reply {
  bytes: Uint8Array;
  offset: number;
  capacity: number;
  length: number;
}
