/**
 * The machine for benches: it answers with the operation's bytes. It also keeps a count and a digest of everything it
 * applied, so two replicas whose histories differ in content or order have different snapshots. `apply` allocates
 * nothing.
 *
 * If an operation is longer than the reply's capacity, the answer is its first `capacity` bytes.
 */
import { LastWords } from '../wire/copy.js';
import { readI32, writeI32 } from '../wire/u64.js';
import { carryOf } from './bytes.js';
import { SnapshotError } from './machine-error.js';
import type { ApplyContext, Operation, Reply, StateMachine } from './state-machine.js';

// snapshot := count u64, digest 2 × u32, all big-endian
const SNAPSHOT_BYTES = 16;
const COUNT_HI = 0;
const COUNT_LO = 1;
const DIGEST_A = 2;
const DIGEST_B = 3;

export class EchoMachine implements StateMachine {
  /** A typed array, because a field that outgrows 31 bits would allocate on every write. */
  readonly #state = new Int32Array(SNAPSHOT_BYTES / 4);
  readonly #operations = new LastWords();

  /** Operations applied so far; exact up to 2^53. */
  get count(): number {
    return (this.#state[COUNT_HI]! >>> 0) * 2 ** 32 + (this.#state[COUNT_LO]! >>> 0);
  }

  apply(operation: Operation, _context: ApplyContext, reply: Reply): void {
    const state = this.#state;
    state[COUNT_HI]! += carryOf(state[COUNT_LO]!, 1);
    state[COUNT_LO]! += 1;
    // Each digest starts from the previous one, so it depends on the order.
    const digest = digestOf(this.#operations.of(operation.bytes), operation.offset, operation.length, state[DIGEST_A]!);
    state[DIGEST_A] = digest;
    state[DIGEST_B] = (Math.imul(state[DIGEST_B]!, 0x01000193) + digest) | 0;
    this.#echo(operation, reply);
  }

  query(operation: Operation, _context: ApplyContext, reply: Reply): void {
    this.#echo(operation, reply);
  }

  snapshot(): Uint8Array {
    const bytes = new Uint8Array(SNAPSHOT_BYTES);
    for (let i = 0; i < this.#state.length; i++) writeI32(bytes, i * 4, this.#state[i]!);
    return bytes;
  }

  restore(snapshot: Uint8Array): void {
    if (snapshot.length !== SNAPSHOT_BYTES) {
      throw new SnapshotError('echo', `expected ${SNAPSHOT_BYTES} bytes, got ${snapshot.length}`);
    }
    for (let i = 0; i < this.#state.length; i++) this.#state[i] = readI32(snapshot, i * 4);
  }

  #echo(operation: Operation, reply: Reply): void {
    reply.bytes = operation.bytes;
    reply.offset = operation.offset;
    reply.length = operation.length < reply.capacity ? operation.length : reply.capacity;
  }
}

/** Four independent sums side by side, so that a bench does not measure its own machine. */
function digestOf(words: DataView, offset: number, length: number, seed: number): number {
  let a = seed;
  let b = 0x9e3779b1 | 0;
  let c = 0x85ebca6b | 0;
  let d = 0xc2b2ae35 | 0;
  const blocks = offset + (length & ~15);
  let at = offset;
  for (; at < blocks; at += 16) {
    a = Math.imul(a ^ words.getInt32(at, true), 0x01000193);
    b = Math.imul(b ^ words.getInt32(at + 4, true), 0x01000193);
    c = Math.imul(c ^ words.getInt32(at + 8, true), 0x01000193);
    d = Math.imul(d ^ words.getInt32(at + 12, true), 0x01000193);
  }
  for (; at < offset + length; at++) a = Math.imul(a ^ words.getUint8(at), 0x01000193);
  a = Math.imul(a ^ length ^ (b << 7) ^ (b >>> 25), 0x85ebca6b);
  a = Math.imul(a ^ (c << 13) ^ (c >>> 19), 0xc2b2ae35);
  a = Math.imul(a ^ (d << 19) ^ (d >>> 13), 0x85ebca6b);
  return a ^ (a >>> 15);
}
