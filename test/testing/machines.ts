// Machines for tests of the simulator of users' machines: one that is right, and ways to be wrong.
import type {
  ApplyContext,
  Operation,
  Reply,
  RestoreInPieces,
  SnapshotInPieces,
  StateMachine,
} from '../../src/machine/state-machine.js';
import type { Model } from '../../src/testing/model.js';
import type { Workload } from '../../src/testing/workload.js';

export function bytesOf(number: number): Uint8Array {
  return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
}

export function numberOf(bytes: Uint8Array, offset = 0): number {
  return new DataView(bytes.buffer, bytes.byteOffset + offset, 4).getUint32(0);
}

/** Adds numbers up: 4 bytes in, the sum out. A query gives the sum; anything else adds nothing. */
export class Sum implements StateMachine {
  sum = 0;

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    if (operation.length === 4) this.sum = (this.sum + numberOf(operation.bytes, operation.offset)) >>> 0;
    this.query(operation, context, reply);
  }

  query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
    this.answer(reply, this.sum);
  }

  snapshot(): Uint8Array {
    return bytesOf(this.sum);
  }

  restore(snapshot: Uint8Array): void {
    if (snapshot.length !== 4) throw new RangeError('4 bytes expected');
    this.sum = numberOf(snapshot);
  }

  protected answer(reply: Reply, value: number): void {
    reply.bytes.set(bytesOf(value), reply.offset);
    reply.length = 4;
  }
}

export const sumModel: Model<number> = {
  initial: () => 0,
  apply: (sum, operation) => {
    const after = operation.length === 4 ? (sum + numberOf(operation)) >>> 0 : sum;
    return { state: after, result: bytesOf(after) };
  },
};

/** Gives its snapshot byte by byte, as it was when that began. */
export class SumInPieces extends Sum {
  beginSnapshot(): SnapshotInPieces {
    const whole = this.snapshot();
    let at = 0;
    return { length: whole.length, step: () => whole.subarray(at, ++at), abort: () => undefined };
  }

  beginRestore(length: number): RestoreInPieces {
    const whole = new Uint8Array(length);
    let at = 0;
    return {
      step: (piece) => {
        whole.set(piece, at);
        at += piece.length;
      },
      end: () => this.restore(whole),
      abort: () => undefined,
    };
  }
}

/** Undoes: it keeps what the sum was before each entry that is not committed. */
export class SumWithUndo extends Sum {
  protected before: { readonly index: number; readonly sum: number }[] = [];
  private committed = 0;

  override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    if (context.index > this.committed) this.before.push({ index: context.index, sum: this.sum });
    super.apply(operation, context, reply);
  }

  override restore(snapshot: Uint8Array): void {
    super.restore(snapshot);
    this.before = [];
  }

  committedTo(index: number): void {
    this.committed = index;
    this.before = this.before.filter((each) => each.index > index);
  }

  undoTo(index: number): boolean {
    for (let last = this.before.pop(); last !== undefined; last = this.before.pop()) {
      if (last.index <= index) {
        this.before.push(last);
        break;
      }
      this.sum = last.sum;
    }
    return true;
  }
}

/** Adds small numbers, now and then something malformed; three of ten are queries. */
export const adding: Workload = (chance) => () =>
  chance.chance(0.3)
    ? { query: new Uint8Array(0) }
    : chance.chance(0.05)
      ? Uint8Array.of(1)
      : bytesOf(chance.between(1, 100));

/** Members come and go; the answer is the member that is first. */
export abstract class Members implements StateMachine {
  protected members = new Map<number, true>();

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    const member = operation.bytes[operation.offset]! % 16;
    if (!this.members.delete(member)) this.members.set(member, true);
    this.query(operation, context, reply);
  }

  query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
    reply.bytes[reply.offset] = this.first();
    reply.length = 1;
  }

  snapshot(): Uint8Array {
    return Uint8Array.from(this.members.keys()).sort();
  }

  restore(snapshot: Uint8Array): void {
    this.members = new Map([...snapshot].map((member) => [member, true]));
  }

  protected abstract first(): number;
}

/** The member that came first: an order that the snapshot forgets. */
export class ByArrival extends Members {
  protected first(): number {
    return this.members.keys().next().value ?? 255;
  }
}

/** The smallest member: the snapshot has all that it depends on. */
export class BySize extends Members {
  protected first(): number {
    return Math.min(255, ...this.members.keys());
  }
}

export const joining: Workload = (chance) => () => Uint8Array.of(chance.below(256));
