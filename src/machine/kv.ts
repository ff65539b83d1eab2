/**
 * A key-value store as a state machine: get, put, delete, compare-and-set, increment, scan.
 *
 * kv-layout.ts shows its bytes; kv-codec.ts writes operations and reads results. There are two rules. Malformed bytes
 * get the result `bad-operation` and change nothing. The state depends only on the operations applied and the limits;
 * the reply depends also on its own capacity. Operations of level 1 are in store/. A get, put, compare-and-set or increment of an existing key creates no
 * object (for values of 256 bytes and more: two views for the copy).
 */
import { copyBytes } from '../wire/copy.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { carryOf } from './bytes.js';
import { answer, badKey, refuse, tooLarge } from './kv-answers.js';
import {
  BAD_KEY,
  BAD_LENGTH,
  BAD_LIMIT,
  BAD_OPCODE,
  BAD_VALUE,
  BAD_WRITE_IN_QUERY,
  Cas,
  Delete,
  Get,
  Increment,
  KEEP_HOLD,
  KV_ABSENT_LENGTH,
  KV_KEY_BYTES_MAX,
  KV_NUMBER_BYTES,
  KV_VALUE_BYTES_MAX,
  Put,
  RESULT_STATUS_BYTES,
  Scan,
  SCAN_ENTRY_FIXED_BYTES,
  SCAN_RESULT_FIXED_BYTES,
  STATUS_FULL,
  STATUS_MISMATCH,
  STATUS_NOT_A_NUMBER,
  STATUS_NOT_FOUND,
  STATUS_OK,
  STATUS_WRONG_TYPE,
  type KvOpcode,
} from './kv-layout.js';
import { KV_LEVEL_MAX, KvStore, type KvOptions } from './kv-store.js';
import { RedisCommands } from './redis/commands.js';
import { COMMANDS_OPCODE } from './redis/layout.js';
import type {
  ApplyContext,
  Operation,
  Reply,
  RestoreInPieces,
  SnapshotInPieces,
  StateMachine,
} from './state-machine.js';
import type { WatchableStore } from './store/change-ring.js';
import { PASSED_KEYS_MAX } from './store/layout.js';
import type { LeaseFigures } from './store/leases.js';
import { StoreOperations } from './store/operations.js';

export type { KvOptions } from './kv-store.js';

let storeOf: (machine: KvMachine) => KvStore;

/** The store of a key-value machine, if its changes can be watched: they are numbered, and it keeps them. */
export function watchableOf(machine: StateMachine): WatchableStore | undefined {
  if (!(machine instanceof KvMachine)) return undefined;
  const store = storeOf(machine);
  return store.level > 0 && store.changes.size > 0 ? store : undefined;
}

/** The figures of a key-value machine's leases. Undefined: another machine, or one that has no leases yet. Allocates. */
export function leaseFiguresOf(machine: StateMachine): LeaseFigures | undefined {
  if (!(machine instanceof KvMachine)) return undefined;
  const store = storeOf(machine);
  return store.level > 0 ? store.leaseFigures : undefined;
}

export class KvMachine implements StateMachine {
  static {
    storeOf = (machine) => machine.#store;
  }

  readonly #store: KvStore;
  /** The operations of level 1. */
  readonly #later: StoreOperations;
  /** Redis commands, from level 2 on. Made when the first ones come: it has buffers. */
  #commands: RedisCommands | undefined;
  readonly #number = new Uint8Array(KV_NUMBER_BYTES);
  readonly #cursor = { block: 0, position: 0 };

  /** Throws `KvError` (`kv-option`) for an unknown option or a value out of range. */
  constructor(options: KvOptions = {}) {
    this.#store = new KvStore(options);
    this.#later = new StoreOperations(this.#store);
  }

  get keyCount(): number {
    return this.#store.keyCount;
  }

  /** Bytes of keys and values plus 32 for each entry: what `maxBytes` bounds. */
  get contentBytes(): number {
    return this.#store.contentBytes;
  }

  /** Memory held for records, including garbage and reserve. */
  get heldBytes(): number {
    return this.#store.heldBytes;
  }

  /** Which operations it understands. See `StateMachine.raise`. */
  get level(): number {
    return this.#store.level;
  }

  raise(level: number): void {
    this.#store.raise(Math.min(level, KV_LEVEL_MAX));
  }

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    this.#store.entry(context.index);
    if (this.#store.level > 0) this.#store.advance(context.timestampHi, context.timestampLo);
    if (operation.length === 0) return refuse(reply, BAD_LENGTH);
    const opcode = operation.bytes[operation.offset] as KvOpcode;
    switch (opcode) {
      case Get.opcode:
        return this.#get(operation, reply);
      case Put.opcode:
        return this.#put(operation, reply);
      case Delete.opcode:
        return this.#delete(operation, reply);
      case Cas.opcode:
        return this.#compareAndSet(operation, reply);
      case Increment.opcode:
        return this.#increment(operation, reply);
      case Scan.opcode:
        return this.#scan(operation, reply);
      default:
        opcode satisfies never; // each operation of the table has its case
        if (this.#store.level > 1 && opcode === COMMANDS_OPCODE)
          return this.#redisCommands.apply(operation, context, reply);
        return this.#store.level > 0 ? this.#later.apply(operation, reply) : refuse(reply, BAD_OPCODE);
    }
  }

  /** Serves what reads; a write is answered with `bad-operation`. */
  query(operation: Operation, _context: ApplyContext, reply: Reply): void {
    if (operation.length === 0) return refuse(reply, BAD_LENGTH);
    const opcode = operation.bytes[operation.offset] as KvOpcode;
    switch (opcode) {
      case Get.opcode:
        return this.#get(operation, reply);
      case Scan.opcode:
        return this.#scan(operation, reply);
      case Put.opcode:
      case Delete.opcode:
      case Cas.opcode:
      case Increment.opcode:
        return refuse(reply, BAD_WRITE_IN_QUERY);
      default:
        opcode satisfies never; // each operation of the table has its case
        if (this.#store.level > 1 && opcode === COMMANDS_OPCODE) return this.#redisCommands.query(operation, reply);
        return this.#store.level > 0 ? this.#later.query(operation, reply) : refuse(reply, BAD_OPCODE);
    }
  }

  snapshot(): Uint8Array {
    return this.#store.snapshot();
  }

  /** A write in the meantime costs a copy of the record that it changes. */
  beginSnapshot(): SnapshotInPieces {
    return this.#store.beginSnapshot();
  }

  /** Knows the last 16 MiB of what entries changed that are not committed. */
  undoTo(index: number): boolean {
    return this.#store.undoTo(index);
  }

  committedTo(index: number): void {
    this.#store.committedTo(index);
  }

  /**
   * Throws `SnapshotError`, with the state unchanged, if the bytes are not a snapshot of this machine or exceed its
   * limits.
   */
  restore(snapshot: Uint8Array): void {
    this.#store.restore(snapshot);
  }

  /** Throws the errors of `restore`. Until it ends there are two states in memory. */
  beginRestore(length: number): RestoreInPieces {
    return this.#store.beginRestore(length);
  }

  get #redisCommands(): RedisCommands {
    return (this.#commands ??= new RedisCommands(this.#store));
  }

  #get(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Get.size) return refuse(reply, BAD_LENGTH);
    const keyLength = readU16(bytes, offset + Get.at.key);
    if (badKey(keyLength)) return refuse(reply, BAD_KEY);
    if (length !== Get.size + keyLength) return refuse(reply, BAD_LENGTH);
    const id = this.#store.find(bytes, offset + Get.size, keyLength);
    if (id < 0) return answer(reply, STATUS_NOT_FOUND);
    if (this.#store.isCollection(id)) return answer(reply, STATUS_WRONG_TYPE);
    const records = this.#store.records;
    const needed = RESULT_STATUS_BYTES + records.valueLength(id);
    if (needed > reply.capacity) return tooLarge(reply, needed);
    reply.bytes[reply.offset] = STATUS_OK;
    records.copyValue(id, reply.bytes, reply.offset + RESULT_STATUS_BYTES);
    reply.length = needed;
  }

  #put(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Put.size) return refuse(reply, BAD_LENGTH);
    const keyLength = readU16(bytes, offset + Put.at.key);
    const valueLength = readU16(bytes, offset + Put.at.value);
    if (badKey(keyLength)) return refuse(reply, BAD_KEY);
    if (valueLength > KV_VALUE_BYTES_MAX) return refuse(reply, BAD_VALUE);
    if (length !== Put.size + keyLength + valueLength) return refuse(reply, BAD_LENGTH);
    const key = offset + Put.size;
    const id = this.#store.findToChange(bytes, key, keyLength);
    const fits = this.#store.put(id, bytes, key, keyLength, bytes, key + keyLength, valueLength);
    answer(reply, fits ? STATUS_OK : STATUS_FULL);
  }

  #delete(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Delete.size) return refuse(reply, BAD_LENGTH);
    const keyLength = readU16(bytes, offset + Delete.at.key);
    if (badKey(keyLength)) return refuse(reply, BAD_KEY);
    if (length !== Delete.size + keyLength) return refuse(reply, BAD_LENGTH);
    const key = offset + Delete.size;
    const id = this.#store.findToChange(bytes, key, keyLength);
    if (id < 0) return answer(reply, STATUS_NOT_FOUND);
    this.#store.remove(id, bytes, key, keyLength);
    answer(reply, STATUS_OK);
  }

  #compareAndSet(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Cas.size) return refuse(reply, BAD_LENGTH);
    const keyLength = readU16(bytes, offset + Cas.at.key);
    const expectedField = readU16(bytes, offset + Cas.at.expected);
    const newField = readU16(bytes, offset + Cas.at.new);
    const expectedLength = expectedField === KV_ABSENT_LENGTH ? 0 : expectedField;
    const newLength = newField === KV_ABSENT_LENGTH ? 0 : newField;
    if (badKey(keyLength)) return refuse(reply, BAD_KEY);
    if (expectedLength > KV_VALUE_BYTES_MAX || newLength > KV_VALUE_BYTES_MAX) return refuse(reply, BAD_VALUE);
    if (length !== Cas.size + keyLength + expectedLength + newLength) return refuse(reply, BAD_LENGTH);
    const key = offset + Cas.size;
    const expected = key + keyLength;
    const id = this.#store.findToChange(bytes, key, keyLength);
    if (id >= 0 && this.#store.isCollection(id)) return answer(reply, STATUS_WRONG_TYPE);
    const matches =
      expectedField === KV_ABSENT_LENGTH
        ? id < 0
        : id >= 0 && this.#store.records.valueEquals(id, bytes, expected, expectedLength);
    if (!matches) return answer(reply, STATUS_MISMATCH);
    if (newField === KV_ABSENT_LENGTH) {
      if (id >= 0) this.#store.remove(id, bytes, key, keyLength);
      return answer(reply, STATUS_OK);
    }
    const fits = this.#store.put(id, bytes, key, keyLength, bytes, expected + expectedLength, newLength);
    answer(reply, fits ? STATUS_OK : STATUS_FULL);
  }

  /** An absent key counts as 0; the sum wraps at 64 bits. */
  #increment(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Increment.size) return refuse(reply, BAD_LENGTH);
    const keyLength = readU16(bytes, offset + Increment.at.key);
    if (badKey(keyLength)) return refuse(reply, BAD_KEY);
    if (length !== Increment.size + keyLength) return refuse(reply, BAD_LENGTH);
    const key = offset + Increment.size;
    const id = this.#store.findToChange(bytes, key, keyLength);
    let hi = 0;
    let lo = 0;
    if (id >= 0) {
      const records = this.#store.records;
      if (this.#store.isCollection(id)) return answer(reply, STATUS_WRONG_TYPE);
      if (records.valueLength(id) !== KV_NUMBER_BYTES) return answer(reply, STATUS_NOT_A_NUMBER);
      const at = records.valueOffset(id);
      hi = readI32(records.valueBytes(id), at);
      lo = readI32(records.valueBytes(id), at + 4);
    }
    const deltaLo = readI32(bytes, offset + Increment.at.delta + 4);
    writeI32(this.#number, 0, (hi + readI32(bytes, offset + Increment.at.delta) + carryOf(lo, deltaLo)) | 0);
    writeI32(this.#number, 4, (lo + deltaLo) | 0);
    if (!this.#store.put(id, bytes, key, keyLength, this.#number, 0, KV_NUMBER_BYTES, KEEP_HOLD))
      return answer(reply, STATUS_FULL);
    const needed = RESULT_STATUS_BYTES + KV_NUMBER_BYTES;
    if (needed > reply.capacity) return tooLarge(reply, needed);
    reply.bytes[reply.offset] = STATUS_OK;
    copyBytes(this.#number, 0, reply.bytes, reply.offset + RESULT_STATUS_BYTES, KV_NUMBER_BYTES);
    reply.length = needed;
  }

  #scan(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Scan.size) return refuse(reply, BAD_LENGTH);
    const fromLength = readU16(bytes, offset + Scan.at.from);
    const toField = readU16(bytes, offset + Scan.at.to);
    const limit = readU16(bytes, offset + Scan.at.limit);
    const bounded = toField !== KV_ABSENT_LENGTH;
    const toLength = bounded ? toField : 0;
    if (fromLength > KV_KEY_BYTES_MAX || toLength > KV_KEY_BYTES_MAX) return refuse(reply, BAD_KEY);
    if (limit === 0) return refuse(reply, BAD_LIMIT);
    if (length !== Scan.size + fromLength + toLength) return refuse(reply, BAD_LENGTH);
    if (reply.capacity < SCAN_RESULT_FIXED_BYTES) return tooLarge(reply, SCAN_RESULT_FIXED_BYTES);

    const from = offset + Scan.size;
    const records = this.#store.records;
    const cursor = this.#cursor;
    this.#store.seek(bytes, from, fromLength, cursor);
    let at = SCAN_RESULT_FIXED_BYTES;
    let count = 0;
    let passed = 0;
    let more = 0;
    for (let id = this.#store.next(cursor); id >= 0; id = this.#store.next(cursor)) {
      if (bounded && records.compareKey(id, bytes, from + fromLength, toLength) >= 0) break;
      const isPassed = this.#store.level > 0 && (this.#store.hasEnded(id) || this.#store.isCollection(id));
      if (isPassed && passed < PASSED_KEYS_MAX) {
        passed++;
        continue;
      }
      const keyLength = records.keyLength(id);
      const valueLength = records.valueLength(id);
      const end = at + SCAN_ENTRY_FIXED_BYTES + keyLength + valueLength;
      if (isPassed || count === limit || end > reply.capacity) {
        // An empty page with "more" would make the caller ask forever.
        if (count === 0) return isPassed ? refuse(reply, BAD_LIMIT) : tooLarge(reply, end);
        more = 1;
        break;
      }
      const to = reply.offset + at;
      writeU16(reply.bytes, to, keyLength);
      writeU16(reply.bytes, to + 2, valueLength);
      records.copyKey(id, reply.bytes, to + SCAN_ENTRY_FIXED_BYTES);
      records.copyValue(id, reply.bytes, to + SCAN_ENTRY_FIXED_BYTES + keyLength);
      at = end;
      count++;
    }
    reply.bytes[reply.offset] = STATUS_OK;
    reply.bytes[reply.offset + 1] = more;
    writeU16(reply.bytes, reply.offset + 2, count);
    reply.length = at;
  }
}
