/**
 * Stands between a simulated replica and the user's machine, holds the machine to the contract of `StateMachine`, and
 * keeps what it executed.
 *
 * At drawn moments the state is saved and restored, into the same machine or a new one, as a view change or a restart
 * would. That must change nothing: a machine whose behaviour depends on more than its snapshot is found soon. If the
 * machine can undo, entries that are not committed are undone at drawn moments, and applied again. What is undone is
 * compared with what another machine has that was restored and applied what stays.
 */
import type {
  ApplyContext,
  Operation,
  Reply,
  RestoreInPieces,
  SnapshotInPieces,
  StateMachine,
} from '../machine/state-machine.js';
import type { Random } from '../sim/random.js';
import { describeBytes, sameBytes } from '../sim/bytes.js';
import type { Execution } from '../sim/execution.js';
import type { Faults } from './fault.js';
import type { StandIns } from './stand-ins.js';

/** How often an operation finds a state that was just saved and restored. */
const RESTORED = 1 / 16;
/** Of these, how often into a new machine. */
const ANEW = 0.5;
/** How often an operation finds that a snapshot in pieces has begun just before it; how often one of these is given up. */
const BEGUN = 1 / 16;
const ABORTED = 1 / 16;
/** Longest piece of those, bytes: so short that operations come in between. */
const PIECE_BYTES_MAX = 64;
/** A machine that returns this many empty pieces one after the other is stuck. */
const EMPTY_PIECES_MAX = 10_000;
/** How often an operation finds that some before it were undone and applied again. */
const UNDONE = 1 / 32;
/** How often a query is checked to change nothing. */
const QUERY_CHECKED = 1 / 4;
/** How often a state is restored in pieces, of those that are; and how often an operation finds one that is given up. */
const IN_PIECES = 0.5;
const UNUSED = 1 / 64;

export class CheckedMachine implements StateMachine {
  /** By log index, since the state was last replaced by the replica. */
  readonly executions: (Execution | undefined)[] = [];
  /** Room that the machine had for a result, bytes; 0: it was not called. */
  capacity = 0;
  /** What it was raised to before all else. */
  firstLevel = 0;
  /** Entries before which the state was saved and restored. */
  readonly restoredBefore: number[] = [];
  private machine: StateMachine;
  /** As the machine has it: the replica then uses it. */
  readonly beginSnapshot?: () => SnapshotInPieces;
  readonly beginRestore?: (length: number) => RestoreInPieces;
  readonly undoTo?: (index: number) => boolean;
  readonly committedTo?: (index: number) => void;
  /** Last entry that was applied. */
  private applied = 0;
  private committed = 0;
  /** Each rise of the level behind `restoredAt`, with the last entry that was applied before it. */
  private raises: { readonly after: number; readonly level: number }[] = [];
  /** Since the state was last replaced by the replica, which then raises it again. */
  private level = 0;
  /** The state that `executions` behind `restoredAt` lead on from; undefined: the initial one. */
  private restored: Uint8Array | undefined;
  /** Nothing before this entry can be undone. */
  private restoredAt = 0;
  /** The snapshot in pieces that was begun last, until it is over. */
  private pieces: CheckedPieces | undefined;
  /** The same, if it was not the replica that began it. */
  private own: CheckedPieces | undefined;
  /** What the replica, or this, restores in pieces. */
  private restoring: CheckedRestore | undefined;
  private kept: { readonly given: Uint8Array; readonly copy: Uint8Array } | undefined;

  /** @param name of the replica, for texts */
  constructor(
    private readonly create: () => StateMachine,
    private readonly name: string,
    private readonly random: Random,
    private readonly standIns: StandIns,
    private readonly faults: Faults,
  ) {
    this.machine = this.make();
    if (this.machine.beginSnapshot !== undefined) this.beginSnapshot = () => this.begin();
    if (this.machine.beginRestore !== undefined) this.beginRestore = (length) => this.restoreInPieces(length);
    if (this.machine.undoTo === undefined) return;
    if (this.machine.committedTo === undefined)
      this.broke('undoTo without committedTo: a machine has both, or restores');
    this.undoTo = (index) => this.undo(index);
    this.committedTo = (index) => {
      this.committed = index;
      this.call('committedTo', undefined, () => this.machine.committedTo!(index));
    };
  }

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    if (this.random.chance(RESTORED) && (this.pieces === undefined || this.pieces === this.own))
      this.replace(context.index);
    if (this.undoTo !== undefined && this.random.chance(UNDONE)) this.undoAndRedo();
    if (this.beginSnapshot !== undefined) this.takePiece();
    if (this.beginRestore !== undefined && this.restoring === undefined && this.random.chance(UNUSED))
      this.restoreForNothing();
    const given = bytesOf(operation);
    const { timestampHi, timestampLo, index } = context;
    const { capacity } = reply;
    this.capacity = capacity;
    this.call('apply', given, () => this.machine.apply(operation, context, reply));
    this.checkReply('apply', given, reply, capacity);
    if (!sameBytes(given, bytesOf(operation)))
      this.broke(`apply changed the bytes of the operation ${describeBytes(given)}`);
    this.executions[index] = { level: this.level, operation: given, result: resultOf(reply), timestampHi, timestampLo };
    this.applied = index;
  }

  query(operation: Operation, context: ApplyContext, reply: Reply): void {
    const given = bytesOf(operation);
    const { capacity } = reply;
    this.capacity = capacity;
    const before = this.random.chance(QUERY_CHECKED) ? this.snapshot().slice() : undefined;
    this.call('query', given, () => this.machine.query(operation, context, reply));
    this.checkReply('query', given, reply, capacity);
    if (before === undefined) return;
    // The reply may lie in memory of the machine, which is valid until the next call only.
    const result = resultOf(reply);
    if (!sameBytes(before, this.snapshot())) this.broke(`query changed the state: ${describeBytes(given)}`);
    reply.bytes = result;
    reply.offset = 0;
  }

  snapshot(): Uint8Array {
    const given = this.call('snapshot', undefined, () => this.machine.snapshot());
    if (!(given instanceof Uint8Array)) this.broke(`snapshot returned ${String(given)}, not a Uint8Array`);
    if (this.kept !== undefined && !sameBytes(this.kept.given, this.kept.copy))
      this.broke('an array that snapshot had returned was changed afterwards; it has to return a new one each time');
    this.kept = { given, copy: given.slice() };
    return given;
  }

  restore(snapshot: Uint8Array): void {
    this.executions.length = 0;
    this.level = 0;
    this.restoreChecked(snapshot, 0);
  }

  private undo(index: number): boolean {
    if (index < this.restoredAt) return false;
    if (this.own !== undefined && this.own.begunAt > index) this.own.abort();
    if (!this.undoChecked(index)) return false;
    this.executions.length = Math.min(this.executions.length, index + 1);
    this.applied = Math.min(this.applied, index);
    return true;
  }

  private undoChecked(index: number): boolean {
    const before = this.snapshot().slice();
    const isUndone = this.call('undoTo', undefined, () => this.machine.undoTo!(index));
    const after = this.snapshot();
    if (!isUndone) {
      if (!sameBytes(before, after)) this.broke(`undoTo(${index}) returned false and changed the state all the same`);
      return false;
    }
    const twin = this.make();
    this.call('committedTo', undefined, () => twin.committedTo!(index));
    if (this.restored !== undefined) twin.restore(this.restored.slice());
    this.applyAgain(twin, this.restoredAt, index);
    const expected = this.call('snapshot', undefined, () => twin.snapshot());
    if (!sameBytes(after, expected))
      this.broke(
        `after undoTo(${index}) snapshot() returned ${describeBytes(after)}; a machine that applied everything up to that entry, and nothing else, has ${describeBytes(expected)}`,
      );
    return true;
  }

  /** Undoes some entries that are not committed, and applies them again. */
  private undoAndRedo(): void {
    const raisedAt = this.raises.at(-1)?.after ?? 0;
    const from = Math.max(this.committed, this.restoredAt, raisedAt, this.pieces?.begunAt ?? 0);
    if (from >= this.applied) return;
    const index = this.random.between(from, this.applied - 1);
    if (this.undoChecked(index)) this.applyAgain(this.machine, index, this.applied);
  }

  /** Applies what was applied behind entry `from`, up to entry `to`, and raises the level where it rose. */
  private applyAgain(machine: StateMachine, from: number, to: number): void {
    for (let index = from; index <= to; index++) {
      const execution = index === from ? undefined : this.executions[index];
      if (execution !== undefined) this.applyOne(machine, execution, from, index);
      for (const { after, level } of this.raises)
        if (after === index) this.call('raise', undefined, () => machine.raise!(level));
    }
  }

  private applyOne(machine: StateMachine, execution: Execution, from: number, index: number): void {
    const { operation, result, timestampHi, timestampLo } = execution;
    const { capacity } = this;
    const reply = { bytes: new Uint8Array(capacity), offset: 0, capacity, length: 0 };
    const given = { bytes: operation.slice(), offset: 0, length: operation.length };
    this.call('apply', operation, () => machine.apply(given, { timestampHi, timestampLo, index }, reply));
    if (!sameBytes(result, resultOf(reply)))
      this.broke(
        `apply of ${describeBytes(operation)} returned ${describeBytes(resultOf(reply))} after undoTo(${from}), and ${describeBytes(result)} before`,
      );
  }

  raise(level: number): void {
    if (this.machine.raise === undefined) return;
    this.call('raise', undefined, () => this.machine.raise!(level));
    if (level <= this.level) return;
    if (this.applied === 0 && this.restored === undefined) this.firstLevel = level;
    this.level = level;
    this.raises.push({ after: this.applied, level });
  }

  /** Beside the snapshots of the replica: begins one, or takes a piece of it. */
  private takePiece(): void {
    const { own, random } = this;
    if (own === undefined) {
      if (this.pieces === undefined && random.chance(BEGUN)) this.own = this.begin();
    } else if (this.pieces !== own) this.own = undefined;
    else if (random.chance(ABORTED)) own.abort();
    else while (own.step(random.between(1, PIECE_BYTES_MAX)).length === 0);
  }

  private begin(): CheckedPieces {
    this.pieces?.abort();
    const expected = this.snapshot().slice();
    const begun = this.call('beginSnapshot', undefined, () => this.machine.beginSnapshot!());
    if (begun.length !== expected.length)
      this.broke(
        `beginSnapshot returned a length of ${begun.length}, and snapshot returns ${expected.length} bytes of the same state`,
      );
    const pieces: CheckedPieces = new CheckedPieces(begun, expected, this.applied, {
      call: (what, call) => this.call(what, undefined, call),
      broke: (detail) => this.broke(detail),
      over: () => {
        if (this.pieces === pieces) this.pieces = undefined;
      },
    });
    if (pieces.length > 0) this.pieces = pieces;
    return pieces;
  }

  /** A restore that is given up has to leave no trace. */
  private restoreForNothing(): void {
    const saved = this.snapshot().slice();
    const restore = this.restoreInPieces(saved.length, true);
    this.stepThrough(restore, saved.subarray(0, this.random.between(0, saved.length)));
    restore.abort();
    if (!sameBytes(saved, this.snapshot())) this.broke('a restore that was given up changed the state');
  }

  private stepThrough(restore: RestoreInPieces, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      // The machine gets an array of its own, and its bytes change after the call.
      const piece = bytes.slice(at, at + this.random.between(1, PIECE_BYTES_MAX));
      at += piece.length;
      restore.step(piece);
      piece.fill(0xa5);
    }
  }

  /** @param isOwn not the replica's: the state that is restored is the present one */
  private restoreInPieces(length: number, isOwn = false): CheckedRestore {
    const begun = this.call('beginRestore', undefined, () => this.machine.beginRestore!(length));
    const restore: CheckedRestore = new CheckedRestore(begun, length, {
      call: (what, call) => this.call(what, undefined, call),
      attempt: (call) => this.standIns.during(this.random, call),
      over: () => {
        if (this.restoring === restore) this.restoring = undefined;
      },
      restored: (snapshot) => {
        if (!isOwn) {
          this.executions.length = 0;
          this.level = 0;
        }
        this.raises = [];
        this.restored = snapshot.slice();
        this.restoredAt = this.applied = isOwn ? this.applied : 0;
        this.pieces = this.own = undefined;
        this.checkRestored(`a restore in pieces of ${describeBytes(snapshot)}`, snapshot);
      },
    });
    this.restoring = restore;
    return restore;
  }

  private replace(index: number): void {
    const saved = this.snapshot().slice();
    if (this.restoring === undefined && this.random.chance(ANEW)) {
      this.machine = this.make();
      this.kept = undefined;
      if (this.committedTo !== undefined) this.committedTo(this.committed);
    }
    if (this.restoring === undefined && this.beginRestore !== undefined && this.random.chance(IN_PIECES)) {
      const restore = this.restoreInPieces(saved.length, true);
      this.stepThrough(restore, saved);
      restore.end();
    } else this.restoreChecked(saved, this.applied);
    this.restoredBefore.push(index);
  }

  /** @param index of the last entry that it shows; 0: only entries behind it will be known */
  private restoreChecked(snapshot: Uint8Array, index: number): void {
    this.raises = [];
    this.restored = snapshot.slice();
    this.restoredAt = this.applied = index;
    const given = snapshot.slice();
    this.pieces = this.own = undefined;
    this.call('restore', undefined, () => this.machine.restore(given));
    this.checkRestored(`restore(${describeBytes(snapshot)})`, snapshot);
  }

  private checkRestored(what: string, snapshot: Uint8Array): void {
    const again = this.snapshot();
    if (!sameBytes(snapshot, again))
      this.broke(
        `after ${what} snapshot() returned ${describeBytes(again)}; the same state always gives the same bytes`,
      );
  }

  private checkReply(call: string, given: Uint8Array, { bytes, offset, length }: Reply, capacity: number): void {
    const fits = Number.isInteger(length) && length >= 0 && length <= capacity;
    if (!fits || !(bytes instanceof Uint8Array) || !(offset >= 0 && offset + length <= bytes.length))
      this.broke(
        `${call} of ${describeBytes(given)} set reply.length to ${length}, with room for ${capacity} bytes; see Reply`,
      );
  }

  /** Whoever uses it tells it more later. Only a machine that was told undoes. */
  private make(): StateMachine {
    const machine = this.call('the constructor', undefined, this.create);
    if (machine.undoTo !== undefined && machine.committedTo !== undefined)
      this.call('committedTo', undefined, () => machine.committedTo!(0));
    return machine;
  }

  private call<T>(what: string, operation: Uint8Array | undefined, call: () => T): T {
    const named = `${what}${operation === undefined ? '' : ` of ${describeBytes(operation)}`} (${this.name})`;
    const given = this.faults.guard('machine-threw', named, () => this.standIns.during(this.random, call));
    if (given instanceof Promise) this.broke(`${what} returned a promise; a machine works within the call`);
    return given;
  }

  private broke(detail: string): never {
    return this.faults.report('contract-broken', `${this.name}: ${detail}`);
  }
}

/** Compares each piece with what the whole was when it began. */
class CheckedPieces implements SnapshotInPieces {
  readonly length: number;
  private written = 0;
  private empty = 0;

  constructor(
    private readonly given: SnapshotInPieces,
    private readonly expected: Uint8Array,
    /** The last entry that it shows. */
    readonly begunAt: number,
    private readonly machine: {
      call<T>(what: string, call: () => T): T;
      broke(detail: string): never;
      over(): void;
    },
  ) {
    this.length = expected.length;
  }

  step(maxBytes: number): Uint8Array {
    const { machine, expected, written } = this;
    const piece = machine.call('step', () => this.given.step(maxBytes));
    if (!(piece instanceof Uint8Array)) machine.broke(`step returned ${String(piece)}, not a Uint8Array`);
    this.empty = piece.length === 0 ? this.empty + 1 : 0;
    if (this.empty > EMPTY_PIECES_MAX) machine.broke(`step returned ${this.empty} empty pieces, one after the other`);
    this.written += piece.length;
    const wanted = expected.subarray(written, this.written);
    if (!sameBytes(piece, wanted))
      machine.broke(
        `step returned ${describeBytes(piece)} at byte ${written}, and at its beginning the snapshot had ${describeBytes(wanted)} there; what is applied later must not show`,
      );
    if (this.written === this.length) machine.over();
    return piece;
  }

  abort(): void {
    this.machine.call('abort', () => this.given.abort());
    this.machine.over();
  }
}

/**
 * Keeps what it was given, to compare the state with it. Pieces come before it is known whether they are damaged, so a
 * machine that throws is at fault only if all of them were right.
 */
class CheckedRestore implements RestoreInPieces {
  private readonly given: Uint8Array[] = [];
  private thrown: { readonly error: unknown } | undefined;

  constructor(
    private readonly restore: RestoreInPieces,
    private readonly length: number,
    private readonly machine: {
      call<T>(what: string, call: () => T): T;
      attempt(call: () => void): void;
      over(): void;
      restored(snapshot: Uint8Array): void;
    },
  ) {}

  step(piece: Uint8Array): void {
    this.given.push(piece.slice());
    if (this.thrown !== undefined) return;
    try {
      this.machine.attempt(() => this.restore.step(piece));
    } catch (error) {
      this.thrown = { error };
    }
  }

  end(): void {
    const { machine, thrown } = this;
    machine.over();
    machine.call(thrown === undefined ? 'end of a restore' : 'step of a restore', () => {
      if (thrown !== undefined) throw thrown.error;
      this.restore.end();
    });
    const snapshot = new Uint8Array(this.length);
    let at = 0;
    for (const piece of this.given) {
      snapshot.set(piece, at);
      at += piece.length;
    }
    machine.restored(snapshot);
  }

  abort(): void {
    this.machine.call('abort of a restore', () => this.restore.abort());
    this.machine.over();
  }
}

function bytesOf({ bytes, offset, length }: Operation): Uint8Array {
  return bytes.slice(offset, offset + length);
}

function resultOf({ bytes, offset, length }: Reply): Uint8Array {
  return bytes.slice(offset, offset + length);
}
