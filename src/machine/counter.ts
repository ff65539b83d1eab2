/**
 * The smallest machine whose result depends on every earlier operation: one signed 64-bit counter that wraps. A lost,
 * doubled or reordered operation shows in the replies, which is its purpose.
 *
 * apply: 8 bytes, the big-endian amount to add → 8 bytes, the new value. query: no bytes → 8 bytes, the value. Anything
 * else, and a reply capacity below 8, → one byte, `COUNTER_BAD_OPERATION` (no bytes if capacity is 0). The amount is
 * added whatever the reply's capacity.
 */
import { readI32, writeI32 } from '../wire/u64.js';
import { carryOf } from './bytes.js';
import { SnapshotError } from './machine-error.js';
import type { ApplyContext, Operation, Reply, StateMachine } from './state-machine.js';

export const COUNTER_BAD_OPERATION = 0xff;
const VALUE_BYTES = 8;
const HI = 0;
const LO = 1;

export class CounterMachine implements StateMachine {
  readonly #value = new Int32Array(2);

  get value(): bigint {
    return (BigInt(this.#value[HI]!) << 32n) | BigInt(this.#value[LO]! >>> 0);
  }

  apply(operation: Operation, _context: ApplyContext, reply: Reply): void {
    if (operation.length !== VALUE_BYTES) return refuse(reply);
    const value = this.#value;
    const addHi = readI32(operation.bytes, operation.offset);
    const addLo = readI32(operation.bytes, operation.offset + 4);
    value[HI]! += addHi + carryOf(value[LO]!, addLo);
    value[LO]! += addLo;
    this.#answer(reply);
  }

  query(operation: Operation, _context: ApplyContext, reply: Reply): void {
    if (operation.length !== 0) return refuse(reply);
    this.#answer(reply);
  }

  snapshot(): Uint8Array {
    const bytes = new Uint8Array(VALUE_BYTES);
    this.#write(bytes, 0);
    return bytes;
  }

  restore(snapshot: Uint8Array): void {
    if (snapshot.length !== VALUE_BYTES) {
      throw new SnapshotError('counter', `expected ${VALUE_BYTES} bytes, got ${snapshot.length}`);
    }
    this.#value[HI] = readI32(snapshot, 0);
    this.#value[LO] = readI32(snapshot, 4);
  }

  #answer(reply: Reply): void {
    if (reply.capacity < VALUE_BYTES) return refuse(reply);
    this.#write(reply.bytes, reply.offset);
    reply.length = VALUE_BYTES;
  }

  #write(bytes: Uint8Array, offset: number): void {
    writeI32(bytes, offset, this.#value[HI]!);
    writeI32(bytes, offset + 4, this.#value[LO]!);
  }
}

function refuse(reply: Reply): void {
  reply.length = reply.capacity > 0 ? 1 : 0;
  if (reply.capacity > 0) reply.bytes[reply.offset] = COUNTER_BAD_OPERATION;
}
