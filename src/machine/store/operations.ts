/**
 * Executes the store's operations of level 1. layout.ts shows their bytes. The rules of the machine hold here too:
 * malformed bytes get `bad-operation` and change nothing, and what an operation changes never depends on the room for
 * its result. A read or a write creates no object, but for the views of a long copy.
 */
import { equalBytes } from '../bytes.js';
import { answer, badKey, refuse, tooLarge } from '../kv-answers.js';
import {
  BAD_KEY,
  BAD_LENGTH,
  BAD_LIMIT,
  BAD_OPCODE,
  BAD_VALUE,
  BAD_WRITE_IN_QUERY,
  Hold,
  KEEP_HOLD,
  KV_ABSENT_LENGTH,
  KV_KEY_BYTES_MAX,
  KV_VALUE_BYTES_MAX,
  STATUS_FULL,
  STATUS_MISMATCH,
  STATUS_NOT_FOUND,
  STATUS_LEASE_ENDED,
  STATUS_OK,
  STATUS_WRONG_TYPE,
} from '../kv-layout.js';
import type { KvStore } from '../kv-store.js';
import type { Operation, Reply } from '../state-machine.js';
import { readIndex, readU16, writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import {
  BAD_CONDITION,
  BAD_COUNT,
  BAD_HOLD,
  BAD_PART,
  BAD_TTL,
  BAD_TWICE,
  Condition,
  CONDITION_BYTES,
  ConditionAt,
  Grant,
  GRANT_BYTES,
  PART_LENGTH_BYTES,
  PART_RESULT_BYTES,
  PASSED_KEYS_MAX,
  Range,
  RANGE_BYTES,
  RANGE_ENTRY_BYTES,
  Read,
  READ_BYTES,
  Remove,
  Renew,
  RENEW_BYTES,
  RENEWED_MAX,
  RESULT_BYTES,
  Revoke,
  Tick,
  TICK_BYTES,
  Transact,
  TRANSACT_BYTES,
  TRANSACTION_PARTS_MAX,
  TTL_MS_MAX,
  Write,
  WRITE_BYTES,
  WriteHold,
  type StoreOpcode,
} from './layout.js';

/** Not a reason of `bad-operation`. */
const GOOD = -1;
const STATUS_NONE = -1;

export class StoreOperations {
  readonly #store: KvStore;
  readonly #cursor = { block: 0, position: 0 };
  /** An operation of a transaction, and the room for its result. */
  readonly #part: Operation = { bytes: new Uint8Array(0), offset: 0, length: 0 };
  readonly #partReply: Reply = { bytes: new Uint8Array(0), offset: 0, capacity: 0, length: 0 };
  /** Where the operations of the branches begin, from the beginning of the transaction. */
  readonly #starts = new Int32Array(2 * TRANSACTION_PARTS_MAX);
  /** Whether the transaction that was checked last can change something. */
  #canChange = false;
  /** Keys that this operation has passed over: they have ended, or are collections. Its ranges share the bound. */
  #passed = 0;

  constructor(store: KvStore) {
    this.#store = store;
  }

  apply(operation: Operation, reply: Reply): void {
    this.#passed = 0;
    const opcode = operation.bytes[operation.offset] as StoreOpcode;
    switch (opcode) {
      case Read.opcode:
        return this.#read(operation, reply);
      case Write.opcode:
        return this.#write(operation, reply);
      case Remove.opcode:
        return this.#remove(operation, reply);
      case Range.opcode:
        return this.#range(operation, reply);
      case Transact.opcode:
        return this.#transact(operation, reply, false);
      case Grant.opcode:
        return this.#grant(operation, reply);
      case Renew.opcode:
        return this.#renew(operation, reply);
      case Revoke.opcode:
        return this.#revoke(operation, reply);
      case Tick.opcode:
        return this.#tick(operation, reply);
      default:
        opcode satisfies never; // each operation of the table has its case
        return refuse(reply, BAD_OPCODE);
    }
  }

  query(operation: Operation, reply: Reply): void {
    this.#passed = 0;
    const opcode = operation.bytes[operation.offset] as StoreOpcode;
    switch (opcode) {
      case Read.opcode:
        return this.#read(operation, reply);
      case Range.opcode:
        return this.#range(operation, reply);
      case Transact.opcode:
        return this.#transact(operation, reply, true);
      case Write.opcode:
      case Remove.opcode:
      case Grant.opcode:
      case Renew.opcode:
      case Revoke.opcode:
      case Tick.opcode:
        return refuse(reply, BAD_WRITE_IN_QUERY);
      default:
        opcode satisfies never; // each operation of the table has its case
        return refuse(reply, BAD_OPCODE);
    }
  }

  #read(operation: Operation, reply: Reply): void {
    const reason = checkRead(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    const { bytes, offset } = operation;
    const store = this.#store;
    const id = store.find(bytes, offset + Read.size, readU16(bytes, offset + Read.at.key));
    if (id < 0) return this.#answer(reply, STATUS_NOT_FOUND);
    if (store.isCollection(id)) return this.#answer(reply, STATUS_WRONG_TYPE);
    const needed = READ_BYTES + store.records.valueLength(id);
    if (needed > reply.capacity) return tooLarge(reply, needed);
    this.#answer(reply, STATUS_OK);
    this.#describe(id, reply.bytes, reply.offset + RESULT_BYTES);
    store.records.copyValue(id, reply.bytes, reply.offset + READ_BYTES);
    reply.length = needed;
  }

  #write(operation: Operation, reply: Reply): void {
    const reason = checkWrite(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    const { bytes, offset } = operation;
    const store = this.#store;
    const keyLength = readU16(bytes, offset + Write.at.key);
    const valueLength = readU16(bytes, offset + Write.at.value);
    const key = offset + Write.size;
    const id = store.findToChange(bytes, key, keyLength);
    if (!this.#holds(bytes[offset + Write.at.condition]!, id, bytes, offset + Write.at.compared))
      return this.#answer(reply, STATUS_MISMATCH);
    if (this.#leaseEnded(operation)) return this.#answer(reply, STATUS_LEASE_ENDED);
    if (!store.fitsWrite(id, keyLength, valueLength)) return this.#answer(reply, STATUS_FULL);
    this.#set(id, operation);
    this.#answerWrite(operation, reply);
  }

  /** Executes a write that is known to fit. */
  #set(id: number, { bytes, offset }: Operation): void {
    const store = this.#store;
    const keyLength = readU16(bytes, offset + Write.at.key);
    const valueLength = readU16(bytes, offset + Write.at.value);
    const key = offset + Write.size;
    const value = key + keyLength;
    switch (bytes[offset + Write.at.hold]) {
      case WriteHold.ttl: {
        const end = store.nowMs + readIndex(bytes, offset + Write.at.held);
        return store.set(id, bytes, key, keyLength, bytes, value, valueLength, Hold.until, end);
      }
      case WriteHold.lease: {
        const lease = readIndex(bytes, offset + Write.at.held);
        return store.set(id, bytes, key, keyLength, bytes, value, valueLength, Hold.lease, lease);
      }
      case WriteHold.keep:
        return store.set(id, bytes, key, keyLength, bytes, value, valueLength, KEEP_HOLD, 0);
      default:
        return store.set(id, bytes, key, keyLength, bytes, value, valueLength, Hold.none, 0);
    }
  }

  /** The result of a write that was executed. */
  #answerWrite({ bytes, offset }: Operation, reply: Reply): void {
    if (reply.capacity < WRITE_BYTES) return tooLarge(reply, WRITE_BYTES);
    const store = this.#store;
    this.#answer(reply, STATUS_OK);
    let end = 0;
    switch (bytes[offset + Write.at.hold]) {
      case WriteHold.ttl:
        end = store.nowMs + readIndex(bytes, offset + Write.at.held);
        break;
      case WriteHold.lease:
        end = store.leases.ends(store.leases.find(readIndex(bytes, offset + Write.at.held)));
        break;
      case WriteHold.keep: {
        const id = store.find(bytes, offset + Write.size, readU16(bytes, offset + Write.at.key));
        if (store.records.holdKind(id) !== Hold.none) end = store.endOf(id);
      }
    }
    writeIndex(reply.bytes, reply.offset + RESULT_BYTES, end);
    reply.length = WRITE_BYTES;
  }

  #remove(operation: Operation, reply: Reply): void {
    const reason = checkRemove(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    const { bytes, offset } = operation;
    const keyLength = readU16(bytes, offset + Remove.at.key);
    const key = offset + Remove.size;
    const id = this.#store.findToChange(bytes, key, keyLength);
    if (!this.#holds(bytes[offset + Remove.at.condition]!, id, bytes, offset + Remove.at.compared))
      return this.#answer(reply, STATUS_MISMATCH);
    if (id < 0) return this.#answer(reply, STATUS_NOT_FOUND);
    this.#store.remove(id, bytes, key, keyLength);
    this.#answer(reply, STATUS_OK);
  }

  #range(operation: Operation, reply: Reply): void {
    const reason = checkRange(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    if (reply.capacity < RANGE_BYTES) return tooLarge(reply, RANGE_BYTES);
    const { bytes, offset } = operation;
    const store = this.#store;
    const { records } = store;
    const cursor = this.#cursor;
    const fromLength = readU16(bytes, offset + Range.at.from);
    const toField = readU16(bytes, offset + Range.at.to);
    const limit = readU16(bytes, offset + Range.at.limit);
    const from = offset + Range.size;
    const to = from + fromLength;
    store.seek(bytes, from, fromLength, cursor);
    let at = RANGE_BYTES;
    let count = 0;
    const passedBefore = this.#passed;
    let next = -1;
    for (let id = store.next(cursor); id >= 0; id = store.next(cursor)) {
      if (toField !== KV_ABSENT_LENGTH && records.compareKey(id, bytes, to, toField) >= 0) break;
      const isPassed = store.hasEnded(id) || store.isCollection(id);
      const keyLength = records.keyLength(id);
      const end = at + RANGE_ENTRY_BYTES + keyLength + records.valueLength(id);
      // Room for `next` is kept.
      const fits = isPassed || end + KV_KEY_BYTES_MAX <= reply.capacity;
      if (!fits && count === 0 && this.#passed === passedBefore) return tooLarge(reply, end + KV_KEY_BYTES_MAX);
      if (!fits || count === limit || this.#passed === PASSED_KEYS_MAX) {
        next = id;
        break;
      }
      if (isPassed) {
        this.#passed++;
        continue;
      }
      const entry = reply.offset + at;
      writeU16(reply.bytes, entry, keyLength);
      writeU16(reply.bytes, entry + 2, records.valueLength(id));
      this.#describe(id, reply.bytes, entry + 4);
      records.copyKey(id, reply.bytes, entry + RANGE_ENTRY_BYTES);
      records.copyValue(id, reply.bytes, entry + RANGE_ENTRY_BYTES + keyLength);
      at = end;
      count++;
    }
    this.#answer(reply, STATUS_OK);
    const fixed = reply.offset + RESULT_BYTES;
    const nextLength = next < 0 ? 0 : records.keyLength(next);
    reply.bytes[fixed] = next < 0 ? 0 : 1;
    writeU16(reply.bytes, fixed + 1, count);
    writeU16(reply.bytes, fixed + 3, nextLength);
    if (next >= 0 && at + nextLength > reply.capacity) return tooLarge(reply, at + nextLength);
    if (next >= 0) records.copyKey(next, reply.bytes, reply.offset + at);
    reply.length = at + nextLength;
  }

  #transact(operation: Operation, reply: Reply, isQuery: boolean): void {
    const reason = this.#checkTransaction(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    if (isQuery && this.#canChange) return refuse(reply, BAD_WRITE_IN_QUERY);
    const { bytes, offset } = operation;
    const doCount = bytes[offset + Transact.at.do]!;
    const held = this.#allHold(operation);
    if (held < 0) return this.#answer(reply, STATUS_WRONG_TYPE);
    const isDo = held > 0;
    const first = isDo ? 0 : doCount;
    const count = isDo ? doCount : bytes[offset + Transact.at.else]!;
    const problem = this.#problem(operation, first, count);
    if (problem !== STATUS_NONE) return this.#answer(reply, problem);
    let at = TRANSACT_BYTES;
    for (let i = 0; i < count; i++) {
      // Each of the others keeps room for a result that says no more than that it does not fit, or was done.
      const kept = (count - 1 - i) * (PART_RESULT_BYTES + WRITE_BYTES);
      const partReply = this.#partReply;
      partReply.bytes = reply.bytes;
      partReply.offset = reply.offset + at + PART_RESULT_BYTES;
      partReply.capacity = Math.max(0, reply.capacity - at - PART_RESULT_BYTES - kept);
      partReply.length = 0;
      this.#execute(this.#partOf(operation, first + i), partReply);
      if (at + PART_RESULT_BYTES <= reply.capacity) writeI32(reply.bytes, reply.offset + at, partReply.length);
      at += PART_RESULT_BYTES + partReply.length;
    }
    const least = TRANSACT_BYTES + count * (PART_RESULT_BYTES + WRITE_BYTES);
    if (least > reply.capacity) return tooLarge(reply, least);
    this.#answer(reply, STATUS_OK);
    reply.bytes[reply.offset + RESULT_BYTES] = isDo ? 1 : 0;
    reply.bytes[reply.offset + RESULT_BYTES + 1] = count;
    reply.length = at;
  }

  /** Executes an operation of a transaction that was checked. */
  #execute(part: Operation, reply: Reply): void {
    const { bytes, offset } = part;
    switch (bytes[offset]) {
      case Read.opcode:
        return this.#read(part, reply);
      case Range.opcode:
        return this.#range(part, reply);
      case Remove.opcode:
        return this.#remove(part, reply);
      default:
        this.#set(this.#store.findToChange(bytes, offset + Write.size, readU16(bytes, offset + Write.at.key)), part);
        return this.#answerWrite(part, reply);
    }
  }

  /** Why a branch cannot be executed as a whole: a status, or STATUS_NONE. */
  #problem(operation: Operation, first: number, count: number): number {
    const store = this.#store;
    let keys = 0;
    let growth = 0;
    for (let i = first; i < first + count; i++) {
      const part = this.#partOf(operation, i);
      const { bytes, offset } = part;
      if (bytes[offset] === Write.opcode) {
        if (this.#leaseEnded(part)) return STATUS_LEASE_ENDED;
        const keyLength = readU16(bytes, offset + Write.at.key);
        const valueLength = readU16(bytes, offset + Write.at.value);
        const id = store.find(bytes, offset + Write.size, keyLength);
        keys += store.keysAdded(id);
        growth += store.bytesAdded(id, keyLength, valueLength);
      } else if (bytes[offset] === Remove.opcode) {
        const keyLength = readU16(bytes, offset + Remove.at.key);
        const id = store.find(bytes, offset + Remove.size, keyLength);
        if (id < 0) continue;
        keys -= store.keysFreed(id);
        growth -= store.bytesFreed(id, keyLength);
      }
    }
    return store.fits(keys, growth) ? STATUS_NONE : STATUS_FULL;
  }

  /** Checks every part of a transaction, also of the branch that will not be executed, and notes where they begin. */
  #checkTransaction(operation: Operation): number {
    const { bytes, offset, length } = operation;
    this.#canChange = false;
    if (length < Transact.size) return BAD_LENGTH;
    const conditions = bytes[offset + Transact.at.conditions]!;
    const doCount = bytes[offset + Transact.at.do]!;
    const elseCount = bytes[offset + Transact.at.else]!;
    if (Math.max(conditions, doCount, elseCount) > TRANSACTION_PARTS_MAX) return BAD_COUNT;
    const end = offset + length;
    let at = offset + Transact.size;
    for (let i = 0; i < conditions; i++) {
      if (at + CONDITION_BYTES > end) return BAD_LENGTH;
      const kind = bytes[at + ConditionAt.kind]!;
      const keyLength = readU16(bytes, at + ConditionAt.key);
      const valueLength = readU16(bytes, at + ConditionAt.value);
      if (kind < Condition.absent || kind > Condition.value) return BAD_CONDITION;
      if (badCompared(kind, bytes, at + ConditionAt.compared)) return BAD_CONDITION;
      if (kind !== Condition.value && valueLength > 0) return BAD_CONDITION;
      if (badKey(keyLength)) return BAD_KEY;
      if (valueLength > KV_VALUE_BYTES_MAX) return BAD_VALUE;
      at += CONDITION_BYTES + keyLength + valueLength;
    }
    const starts = this.#starts;
    for (let i = 0; i < doCount + elseCount; i++) {
      if (at + PART_LENGTH_BYTES > end) return BAD_LENGTH;
      const partLength = readU16(bytes, at);
      starts[i] = at + PART_LENGTH_BYTES - offset;
      at += PART_LENGTH_BYTES + partLength;
      if (at > end || partLength === 0) return BAD_LENGTH;
      const reason = checkPart(this.#partOf(operation, i));
      if (reason !== GOOD) return reason;
      const opcode = bytes[offset + starts[i]!];
      if (opcode !== Write.opcode && opcode !== Remove.opcode) continue;
      this.#canChange = true;
      if (this.#isChangedBefore(operation, i < doCount ? 0 : doCount, i)) return BAD_TWICE;
    }
    return at === end ? GOOD : BAD_LENGTH;
  }

  /** Whether one of the branch's operations from `first` on, before this one, changes the same key. */
  #isChangedBefore({ bytes, offset }: Operation, first: number, own: number): boolean {
    const key = keyOf(bytes, offset + this.#starts[own]!);
    const keyLength = keyLengthOf(bytes, offset + this.#starts[own]!);
    for (let i = first; i < own; i++) {
      const other = offset + this.#starts[i]!;
      const changes = bytes[other] === Write.opcode || bytes[other] === Remove.opcode;
      if (
        changes &&
        keyLengthOf(bytes, other) === keyLength &&
        equalBytes(bytes, keyOf(bytes, other), bytes, key, keyLength)
      )
        return true;
    }
    return false;
  }

  #partOf({ bytes, offset }: Operation, index: number): Operation {
    const part = this.#part;
    part.bytes = bytes;
    part.offset = offset + this.#starts[index]!;
    part.length = readU16(bytes, part.offset - PART_LENGTH_BYTES);
    return part;
  }

  /** 1 if all conditions hold, 0 if one does not; -1 if the first one that does not hold asks for the value of a collection. */
  #allHold({ bytes, offset }: Operation): number {
    const store = this.#store;
    let at = offset + Transact.size;
    for (let i = bytes[offset + Transact.at.conditions]!; i > 0; i--) {
      const kind = bytes[at + ConditionAt.kind]!;
      const keyLength = readU16(bytes, at + ConditionAt.key);
      const valueLength = readU16(bytes, at + ConditionAt.value);
      const key = at + CONDITION_BYTES;
      const id = store.find(bytes, key, keyLength);
      if (kind === Condition.value && id >= 0 && store.isCollection(id)) return -1;
      const holds =
        kind === Condition.value
          ? id >= 0 && store.records.valueEquals(id, bytes, key + keyLength, valueLength)
          : this.#holds(kind, id, bytes, at + ConditionAt.compared);
      if (!holds) return 0;
      at = key + keyLength + valueLength;
    }
    return 1;
  }

  #grant(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length !== Grant.size) return refuse(reply, BAD_LENGTH);
    const ttl = readIndex(bytes, offset + Grant.at.ttl);
    if (!goodTtl(ttl)) return refuse(reply, BAD_TTL);
    const lease = this.#store.grant(ttl);
    if (lease < 0) return this.#answer(reply, STATUS_FULL);
    if (reply.capacity < GRANT_BYTES) return tooLarge(reply, GRANT_BYTES);
    this.#answer(reply, STATUS_OK);
    writeIndex(reply.bytes, reply.offset + RESULT_BYTES, lease);
    writeIndex(reply.bytes, reply.offset + RESULT_BYTES + 8, this.#store.nowMs + ttl);
    reply.length = GRANT_BYTES;
  }

  #renew(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length < Renew.size) return refuse(reply, BAD_LENGTH);
    const count = readU16(bytes, offset + Renew.at.count);
    if (count === 0 || count > RENEWED_MAX) return refuse(reply, BAD_COUNT);
    if (length !== Renew.size + 8 * count) return refuse(reply, BAD_LENGTH);
    const needed = RENEW_BYTES + 8 * count;
    const fits = needed <= reply.capacity;
    for (let i = 0; i < count; i++) {
      const end = this.#store.renew(readIndex(bytes, offset + Renew.size + 8 * i));
      if (fits) writeIndex(reply.bytes, reply.offset + RENEW_BYTES + 8 * i, end);
    }
    if (!fits) return tooLarge(reply, needed);
    this.#answer(reply, STATUS_OK);
    writeU16(reply.bytes, reply.offset + RESULT_BYTES, count);
    reply.length = needed;
  }

  #revoke(operation: Operation, reply: Reply): void {
    const { bytes, offset, length } = operation;
    if (length !== Revoke.size) return refuse(reply, BAD_LENGTH);
    const revoked = this.#store.revoke(readIndex(bytes, offset + Revoke.at.lease));
    this.#answer(reply, revoked ? STATUS_OK : STATUS_NOT_FOUND);
  }

  #tick(operation: Operation, reply: Reply): void {
    if (operation.length !== Tick.size) return refuse(reply, BAD_LENGTH);
    if (reply.capacity < TICK_BYTES) return tooLarge(reply, TICK_BYTES);
    this.#answer(reply, STATUS_OK);
    writeIndex(reply.bytes, reply.offset + RESULT_BYTES, this.#store.nowMs);
    writeIndex(reply.bytes, reply.offset + RESULT_BYTES + 8, this.#store.nextEnd);
    reply.length = TICK_BYTES;
  }

  /** @param compared where the revision lies that the condition names */
  #holds(condition: number, id: number, bytes: Uint8Array, compared: number): boolean {
    switch (condition) {
      case Condition.absent:
        return id < 0;
      case Condition.present:
        return id >= 0;
      case Condition.revision:
        return id >= 0 && this.#store.revisionOf(id) === readIndex(bytes, compared);
      default:
        return true;
    }
  }

  #leaseEnded({ bytes, offset }: Operation): boolean {
    return (
      bytes[offset + Write.at.hold] === WriteHold.lease &&
      !this.#store.hasLease(readIndex(bytes, offset + Write.at.held))
    );
  }

  /** Writes revision, end and lease of a key. */
  #describe(id: number, target: Uint8Array, offset: number): void {
    const store = this.#store;
    const kind = store.records.holdKind(id);
    writeIndex(target, offset, store.revisionOf(id));
    writeIndex(target, offset + 8, kind === Hold.none ? 0 : store.endOf(id));
    writeIndex(target, offset + 16, kind === Hold.lease ? store.records.hold(id) : 0);
  }

  /** The status, with the store's revision if there is room. */
  #answer(reply: Reply, status: number): void {
    if (reply.capacity < RESULT_BYTES) return answer(reply, status);
    reply.bytes[reply.offset] = status;
    writeIndex(reply.bytes, reply.offset + 1, this.#store.revision);
    reply.length = RESULT_BYTES;
  }
}

function checkRead({ bytes, offset, length }: Operation): number {
  if (length < Read.size) return BAD_LENGTH;
  const keyLength = readU16(bytes, offset + Read.at.key);
  if (badKey(keyLength)) return BAD_KEY;
  return length === Read.size + keyLength ? GOOD : BAD_LENGTH;
}

function checkWrite({ bytes, offset, length }: Operation): number {
  if (length < Write.size) return BAD_LENGTH;
  const condition = bytes[offset + Write.at.condition]!;
  const keyLength = readU16(bytes, offset + Write.at.key);
  const valueLength = readU16(bytes, offset + Write.at.value);
  if (condition > Condition.revision || badCompared(condition, bytes, offset + Write.at.compared)) return BAD_CONDITION;
  const held = readIndex(bytes, offset + Write.at.held);
  switch (bytes[offset + Write.at.hold]) {
    case WriteHold.ttl:
      if (!goodTtl(held)) return BAD_TTL;
      break;
    case WriteHold.lease:
      break;
    case WriteHold.none:
    case WriteHold.keep:
      if (held !== 0) return BAD_HOLD;
      break;
    default:
      return BAD_HOLD;
  }
  if (badKey(keyLength)) return BAD_KEY;
  if (valueLength > KV_VALUE_BYTES_MAX) return BAD_VALUE;
  return length === Write.size + keyLength + valueLength ? GOOD : BAD_LENGTH;
}

function checkRemove({ bytes, offset, length }: Operation): number {
  if (length < Remove.size) return BAD_LENGTH;
  const condition = bytes[offset + Remove.at.condition]!;
  const keyLength = readU16(bytes, offset + Remove.at.key);
  if (condition > Condition.revision || badCompared(condition, bytes, offset + Remove.at.compared))
    return BAD_CONDITION;
  if (badKey(keyLength)) return BAD_KEY;
  return length === Remove.size + keyLength ? GOOD : BAD_LENGTH;
}

function checkRange({ bytes, offset, length }: Operation): number {
  if (length < Range.size) return BAD_LENGTH;
  const fromLength = readU16(bytes, offset + Range.at.from);
  const toField = readU16(bytes, offset + Range.at.to);
  const toLength = toField === KV_ABSENT_LENGTH ? 0 : toField;
  if (fromLength > KV_KEY_BYTES_MAX || toLength > KV_KEY_BYTES_MAX) return BAD_KEY;
  if (readU16(bytes, offset + Range.at.limit) === 0) return BAD_LIMIT;
  return length === Range.size + fromLength + toLength ? GOOD : BAD_LENGTH;
}

/** An operation of a transaction: its conditions are the transaction's. */
function checkPart(part: Operation): number {
  const { bytes, offset } = part;
  let reason: number;
  switch (bytes[offset]) {
    case Read.opcode:
      return checkRead(part);
    case Range.opcode:
      return checkRange(part);
    case Write.opcode:
      reason = checkWrite(part);
      return reason === GOOD && bytes[offset + Write.at.condition] !== Condition.none ? BAD_PART : reason;
    case Remove.opcode:
      reason = checkRemove(part);
      return reason === GOOD && bytes[offset + Remove.at.condition] !== Condition.none ? BAD_PART : reason;
    default:
      return BAD_PART;
  }
}

function keyLengthOf(bytes: Uint8Array, offset: number): number {
  return readU16(bytes, offset + (bytes[offset] === Write.opcode ? Write.at.key : Remove.at.key));
}

function keyOf(bytes: Uint8Array, offset: number): number {
  return offset + (bytes[offset] === Write.opcode ? Write.size : Remove.size);
}

/** Only a condition on the revision has a number to compare with. */
function badCompared(condition: number, bytes: Uint8Array, offset: number): boolean {
  const compared = readIndex(bytes, offset);
  return condition === Condition.revision ? !(compared >= 1) : compared !== 0;
}

function goodTtl(ttl: number): boolean {
  return ttl >= 1 && ttl <= TTL_MS_MAX;
}
