/**
 * Stands between a replica and its state machine and records what was executed where: a digest of operation, timestamp
 * and result for each index, so that the checks can compare replicas with the same log. It also counts the time that
 * the machine's work would take.
 *
 * If machines go wrong on purpose (diverging.ts), the state that it shows to the replica ends in a mark of one byte: 0
 * as long as all operations were applied correctly. The mark goes wherever the state goes: into snapshots, and to
 * replicas that install one.
 */
import { hashBytes } from '../machine/bytes.js';
import type {
  ApplyContext,
  Operation,
  Reply,
  RestoreInPieces,
  SnapshotInPieces,
  StateMachine,
} from '../machine/state-machine.js';
import type { Execution } from './execution.js';
import { Violation } from './violation.js';
import type { Standstill } from './world.js';

/** This many bytes of a snapshot from elsewhere count as one entry of the state. */
const SNAPSHOT_ENTRY_BYTES = 8;

export class MachineProbe implements StateMachine {
  /** Digest of what was executed at each index; undefined if nothing was, or if a snapshot came from elsewhere. */
  readonly digests: (number | undefined)[] = [];
  /** What was executed at each index, where `records` asks for it; a hole wherever `digests` has one. */
  readonly executions: (Execution | undefined)[] = [];
  /** How often the state was replaced or taken back. */
  restores = 0;
  /** The mark of the state: 0 if it is correct. */
  mark = 0;
  /** This machine itself went wrong since it was made: it did not take its mark from another one. */
  wentWrong = false;
  /** The state was wrong at some time since the machine was made, whoever made it so. */
  wasWrong = false;
  /** The mark that the next applied operation sets. */
  nextMark = 0;
  /** If the replica is to take its snapshots in pieces, and to restore those of others in pieces. */
  readonly beginSnapshot?: () => SnapshotInPieces;
  readonly beginRestore?: (length: number) => RestoreInPieces;
  /** If the replica is to undo what was executed too early, and not to restore a snapshot. */
  readonly undoTo?: (index: number) => boolean;
  readonly committedTo?: (index: number) => void;
  private lastIndex = 0;
  private readonly marksBefore: { readonly index: number; readonly mark: number }[] = [];
  private costUs = 0;

  constructor(
    private readonly inner: StateMachine,
    private readonly name: string,
    private readonly standstill?: Standstill,
    /** The state ends in its mark. */
    private readonly marked = false,
    inPieces = false,
    undoes = false,
    private readonly records = false,
    /** Is called before each snapshot, in the middle of a call of the core. */
    private readonly onSnapshot: () => void = () => undefined,
  ) {
    const { inner: machine } = this;
    if (undoes && machine.undoTo !== undefined) {
      this.undoTo = (index) => this.goBack(index);
      this.committedTo = (index) => machine.committedTo?.(index);
    }
    if (inPieces && machine.beginSnapshot !== undefined)
      this.beginSnapshot = () => {
        this.onSnapshot();
        return this.begin(machine.beginSnapshot!());
      };
    if (inPieces && machine.beginRestore !== undefined)
      this.beginRestore = (length) => this.restoreInPieces(length, machine.beginRestore!(this.unmarked(length)));
  }

  /** Time that the work since the last call takes, µs. */
  takeCostUs(): number {
    const { costUs } = this;
    this.costUs = 0;
    return costUs;
  }

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    const { index } = context;
    if (index <= this.lastIndex)
      throw new Violation('executed-once', `${this.name} executes entry ${index} after entry ${this.lastIndex}`);
    this.lastIndex = index;
    if (this.standstill !== undefined) this.costUs += this.standstill.applyUs;
    let digest = hashBytes(
      operation.bytes,
      operation.offset,
      operation.length,
      context.timestampLo ^ Math.imul(context.timestampHi, 31),
    );
    const given = this.records
      ? operation.bytes.slice(operation.offset, operation.offset + operation.length)
      : undefined;
    this.inner.apply(operation, context, reply);
    if (given !== undefined) this.record(given, context, reply);
    digest ^= hashBytes(reply.bytes, reply.offset, reply.length, 0x5bd1e995);
    this.digests[index] = digest;
    if (this.nextMark === 0) return;
    this.marksBefore.push({ index, mark: this.mark });
    this.mark = this.nextMark;
    this.wentWrong = true;
    this.wasWrong = true;
    this.nextMark = 0;
  }

  private record(operation: Uint8Array, context: ApplyContext, reply: Reply): void {
    const { index, timestampHi, timestampLo } = context;
    const result = reply.bytes.slice(reply.offset, reply.offset + reply.length);
    const { level = 0 } = this.inner as { readonly level?: number };
    this.executions[index] = { level, operation, result, timestampHi, timestampLo };
  }

  query(operation: Operation, context: ApplyContext, reply: Reply): void {
    this.inner.query(operation, context, reply);
  }

  snapshot(): Uint8Array {
    this.onSnapshot();
    if (this.standstill !== undefined) this.costUs += this.standstill.snapshotEntryUs * this.lastIndex;
    const state = this.state();
    if (!this.marked) return state;
    const snapshot = new Uint8Array(state.length + 1);
    snapshot.set(state);
    snapshot[state.length] = this.mark;
    return snapshot;
  }

  private begin(pieces: SnapshotInPieces): SnapshotInPieces {
    const pieceUs = this.standstill === undefined ? 0 : this.standstill.snapshotEntryUs * this.lastIndex;
    const length = pieces.length + (this.marked ? 1 : 0);
    const mark = Uint8Array.of(this.mark);
    let taken = 0;
    return {
      length,
      step: (maxBytes) => {
        const piece = taken === pieces.length ? mark : pieces.step(maxBytes);
        taken += piece.length;
        this.costUs += (pieceUs * piece.length) / length;
        return piece;
      },
      abort: () => pieces.abort(),
    };
  }

  raise(level: number): void {
    this.inner.raise?.(level);
  }

  /** The machine's own state, without the mark. */
  state(): Uint8Array {
    return this.inner.snapshot();
  }

  private goBack(index: number): boolean {
    if (!this.inner.undoTo!(index)) return false;
    if (this.standstill !== undefined) this.costUs += this.standstill.applyUs * (this.lastIndex - index);
    for (let last = this.marksBefore.pop(); last !== undefined; last = this.marksBefore.pop()) {
      if (last.index <= index) {
        this.marksBefore.push(last);
        break;
      }
      this.mark = last.mark;
    }
    this.restores++;
    this.digests.length = Math.min(this.digests.length, index + 1);
    this.executions.length = Math.min(this.executions.length, index + 1);
    this.lastIndex = Math.min(this.lastIndex, index);
    return true;
  }

  restore(snapshot: Uint8Array): void {
    if (this.standstill !== undefined)
      this.costUs += this.standstill.snapshotEntryUs * Math.max(this.lastIndex, snapshot.length / SNAPSHOT_ENTRY_BYTES);
    const end = this.unmarked(snapshot.length);
    this.inner.restore(snapshot.subarray(0, end));
    this.restored(snapshot[end] ?? 0);
  }

  private restoreInPieces(length: number, restore: RestoreInPieces): RestoreInPieces {
    const { standstill } = this;
    const pieceUs = standstill === undefined ? 0 : standstill.snapshotEntryUs / SNAPSHOT_ENTRY_BYTES;
    const end = this.unmarked(length);
    let given = 0;
    let mark = 0;
    return {
      step: (piece) => {
        if (given + piece.length > length) throw new RangeError(`${this.name} restores more bytes than it said`);
        this.costUs += pieceUs * piece.length;
        const own = piece.subarray(0, Math.max(0, end - given));
        if (own.length < piece.length) mark = piece[piece.length - 1]!;
        given += piece.length;
        if (own.length > 0) restore.step(own);
      },
      end: () => {
        if (given !== length)
          throw new RangeError(`${this.name} has ${given} of ${length} bytes when its restore ends`);
        restore.end();
        this.restored(mark);
      },
      abort: () => restore.abort(),
    };
  }

  /** Length of the machine's own state in one of `length` bytes. */
  private unmarked(length: number): number {
    return length - (this.marked ? 1 : 0);
  }

  private restored(mark: number): void {
    if (this.marked) {
      // After a rollback the state is its own; a different mark shows that it came from elsewhere.
      if (mark !== this.mark) this.wentWrong = false;
      this.mark = mark;
      if (this.mark !== 0) this.wasWrong = true;
    }
    this.restores++;
    this.digests.length = 0;
    this.executions.length = 0;
    this.marksBefore.length = 0;
    this.lastIndex = 0;
  }
}
