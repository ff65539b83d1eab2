/**
 * The client's side of the store's operations of level 1: writes them into a given buffer, reads their results into
 * objects. layout.ts shows the bytes. As in kv-codec.ts, encoders return the number of bytes written, and throw `KvError`
 * before they write an operation that the store would refuse.
 */
import { copyBytes } from '../../wire/copy.js';
import { readI32, readIndex, readU16, writeIndex, writeU16 } from '../../wire/u64.js';
import {
  checkBound,
  checkKey,
  checkRoom,
  checkValue,
  copyOf,
  decodeRefusal,
  decodeStatus,
  malformed,
} from '../kv-checks.js';
import { KV_ABSENT_LENGTH, KV_SCAN_LIMIT_MAX, RESULT_STATUS_BYTES } from '../kv-layout.js';
import { KvError } from '../machine-error.js';
import {
  Condition,
  CONDITION_BYTES,
  ConditionAt,
  Grant,
  GRANT_BYTES,
  PART_LENGTH_BYTES,
  PART_RESULT_BYTES,
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
  STORE_BAD_REASON_NAMES,
  STORE_OPERATIONS,
  STORE_STATUS_NAMES,
  Tick,
  TICK_BYTES,
  Transact,
  TRANSACT_BYTES,
  TRANSACTION_PARTS_MAX,
  TTL_MS_MAX,
  Write,
  WRITE_BYTES,
  WriteHold,
  type StoreBadReason,
  type StoreOperationName,
  type StoreStatus,
} from './layout.js';

/** What has to be so before a key is written or removed. Default: nothing. */
export type KeyCondition =
  | { readonly absent: true }
  | { readonly present: true }
  /** The revision of the key's last change. */
  | { readonly revision: number };

/** A condition of a transaction. */
export type TransactionCondition = { readonly key: Uint8Array } & (KeyCondition | { readonly value: Uint8Array });

/** How long a key stays that is written; default: for ever. At most one of the three. */
export interface KeyHold {
  /** For this long, ms. */
  readonly ttl?: number | undefined;
  /** As long as the lease with this number. */
  readonly lease?: number | undefined;
  /** As it was before. */
  readonly keep?: boolean | undefined;
}

/** An operation of a transaction. */
export type TransactionOperation =
  | { readonly get: Uint8Array }
  | ({ readonly put: Uint8Array; readonly value: Uint8Array } & KeyHold)
  | { readonly delete: Uint8Array }
  | { readonly range: { readonly from: Uint8Array; readonly to: Uint8Array | null; readonly limit: number } };

export interface TransactionParts {
  readonly if: readonly TransactionCondition[];
  readonly do: readonly TransactionOperation[];
  readonly else: readonly TransactionOperation[];
}

export function encodeRead(target: Uint8Array, offset: number, key: Uint8Array): number {
  checkKey(key);
  const length = Read.size + key.length;
  checkRoom(target, offset, length);
  target[offset] = Read.opcode;
  writeU16(target, offset + Read.at.key, key.length);
  copyBytes(key, 0, target, offset + Read.size, key.length);
  return length;
}

export function encodeWrite(
  target: Uint8Array,
  offset: number,
  key: Uint8Array,
  value: Uint8Array,
  hold: KeyHold = {},
  condition?: KeyCondition,
): number {
  checkKey(key);
  checkValue('value', value);
  const kind = holdKind(hold);
  const length = Write.size + key.length + value.length;
  checkRoom(target, offset, length);
  target[offset] = Write.opcode;
  writeCondition(target, offset + Write.at.condition, condition);
  target[offset + Write.at.hold] = kind;
  writeIndex(target, offset + Write.at.held, (kind === WriteHold.lease ? hold.lease : hold.ttl) ?? 0);
  writeU16(target, offset + Write.at.key, key.length);
  writeU16(target, offset + Write.at.value, value.length);
  copyBytes(key, 0, target, offset + Write.size, key.length);
  copyBytes(value, 0, target, offset + Write.size + key.length, value.length);
  return length;
}

export function encodeRemove(target: Uint8Array, offset: number, key: Uint8Array, condition?: KeyCondition): number {
  checkKey(key);
  const length = Remove.size + key.length;
  checkRoom(target, offset, length);
  target[offset] = Remove.opcode;
  writeCondition(target, offset + Remove.at.condition, condition);
  writeU16(target, offset + Remove.at.key, key.length);
  copyBytes(key, 0, target, offset + Remove.size, key.length);
  return length;
}

/** As encodeScan. */
export function encodeRange(
  target: Uint8Array,
  offset: number,
  from: Uint8Array,
  to: Uint8Array | null,
  limit: number,
): number {
  checkBound('from', from);
  if (to !== null) checkBound('to', to);
  if (!Number.isInteger(limit) || limit < 1 || limit > KV_SCAN_LIMIT_MAX)
    throw new KvError(
      'kv-limit',
      `limit must be an integer from 1 to ${KV_SCAN_LIMIT_MAX}, not ${limit}; read the range in several pages`,
    );
  const length = Range.size + from.length + (to === null ? 0 : to.length);
  checkRoom(target, offset, length);
  target[offset] = Range.opcode;
  writeU16(target, offset + Range.at.from, from.length);
  writeU16(target, offset + Range.at.to, to === null ? KV_ABSENT_LENGTH : to.length);
  writeU16(target, offset + Range.at.limit, limit);
  copyBytes(from, 0, target, offset + Range.size, from.length);
  if (to !== null) copyBytes(to, 0, target, offset + Range.size + from.length, to.length);
  return length;
}

/** Length of a transaction. */
export function transactionBytes(parts: TransactionParts): number {
  let length: number = Transact.size;
  for (const condition of parts.if)
    length += CONDITION_BYTES + condition.key.length + ('value' in condition ? condition.value.length : 0);
  for (const operation of [...parts.do, ...parts.else]) length += PART_LENGTH_BYTES + partBytes(operation);
  return length;
}

function partBytes(operation: TransactionOperation): number {
  if ('get' in operation) return Read.size + operation.get.length;
  if ('put' in operation) return Write.size + operation.put.length + operation.value.length;
  if ('delete' in operation) return Remove.size + operation.delete.length;
  const { from, to } = operation.range;
  return Range.size + from.length + (to?.length ?? 0);
}

/**
 * Throws `KvError`: `kv-limit` if the store would refuse it, `kv-buffer-too-small` if it is longer than the rest of the
 * buffer.
 */
export function encodeTransaction(target: Uint8Array, offset: number, parts: TransactionParts): number {
  checkCount('conditions', parts.if.length);
  checkCount('operations in "do"', parts.do.length);
  checkCount('operations in "else"', parts.else.length);
  checkRoom(target, offset, Transact.size);
  target[offset] = Transact.opcode;
  target[offset + Transact.at.conditions] = parts.if.length;
  target[offset + Transact.at.do] = parts.do.length;
  target[offset + Transact.at.else] = parts.else.length;
  let at = offset + Transact.size;
  for (const condition of parts.if) at += encodeCondition(target, at, condition);
  for (const branch of [parts.do, parts.else]) {
    checkTwice(branch);
    for (const operation of branch) {
      checkRoom(target, at, PART_LENGTH_BYTES);
      const length = encodePart(target, at + PART_LENGTH_BYTES, operation);
      writeU16(target, at, length);
      at += PART_LENGTH_BYTES + length;
    }
  }
  return at - offset;
}

/** @param ttl ms */
export function encodeGrant(target: Uint8Array, offset: number, ttl: number): number {
  checkTtl(ttl);
  checkRoom(target, offset, Grant.size);
  target[offset] = Grant.opcode;
  writeIndex(target, offset + Grant.at.ttl, ttl);
  return Grant.size;
}

export function encodeRenew(target: Uint8Array, offset: number, leases: readonly number[]): number {
  if (leases.length < 1 || leases.length > RENEWED_MAX)
    throw new KvError(
      'kv-limit',
      `${leases.length} leases: one operation renews 1 to ${RENEWED_MAX}; renew them in several`,
    );
  for (const lease of leases) checkLease(lease);
  const length = Renew.size + 8 * leases.length;
  checkRoom(target, offset, length);
  target[offset] = Renew.opcode;
  writeU16(target, offset + Renew.at.count, leases.length);
  for (let i = 0; i < leases.length; i++) writeIndex(target, offset + Renew.size + 8 * i, leases[i]!);
  return length;
}

export function encodeRevoke(target: Uint8Array, offset: number, lease: number): number {
  checkLease(lease);
  checkRoom(target, offset, Revoke.size);
  target[offset] = Revoke.opcode;
  writeIndex(target, offset + Revoke.at.lease, lease);
  return Revoke.size;
}

export function encodeTick(target: Uint8Array, offset: number): number {
  checkRoom(target, offset, Tick.size);
  target[offset] = Tick.opcode;
  return Tick.size;
}

/** Refusals that any operation may get. */
export type StoreRefusal =
  | { status: 'bad-operation'; reason: StoreBadReason | null }
  | { status: 'too-large'; neededBytes: number | null };

/** What is known of a key besides its value. */
export interface KeyState {
  /** The number of its last change. */
  readonly revision: number;
  /** The agreed time at which it ends, ms; undefined: never. */
  readonly ends: number | undefined;
  /** The number of the lease that holds it. */
  readonly lease: number | undefined;
}
export interface StoreEntry extends KeyState {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** The revision is that of the store when the operation was executed. */
interface Answer<Status extends StoreStatus> {
  status: Status;
  revision: number;
}
/** Result by operation. Byte arrays are copies. */
export interface StoreResults {
  read:
    | (Answer<'ok'> & { found: KeyState & { readonly value: Uint8Array } })
    | Answer<'not-found' | 'wrong-type'>
    | StoreRefusal;
  write: (Answer<'ok'> & { ends: number | undefined }) | Answer<'mismatch' | 'lease-ended' | 'full'> | StoreRefusal;
  remove: Answer<'ok' | 'not-found' | 'mismatch'> | StoreRefusal;
  range: (Answer<'ok'> & { entries: StoreEntry[]; next: Uint8Array | undefined }) | StoreRefusal;
  transact:
    | (Answer<'ok'> & { isDo: boolean; results: Uint8Array[] })
    | Answer<'lease-ended' | 'full' | 'wrong-type'>
    | StoreRefusal;
  grant: (Answer<'ok'> & { lease: number; ends: number }) | Answer<'full'> | StoreRefusal;
  /** Undefined: that lease has ended. */
  renew: (Answer<'ok'> & { ends: (number | undefined)[] }) | StoreRefusal;
  revoke: Answer<'ok' | 'not-found'> | StoreRefusal;
  tick: (Answer<'ok'> & { now: number; nextEnd: number | undefined }) | StoreRefusal;
}

/**
 * Reads the result of the operation named. Throws `KvError` (`kv-result-malformed`) if the bytes are not such a result,
 * which means that another machine runs there, or another version of this one.
 */
export function decodeStoreResult<Name extends StoreOperationName>(
  name: Name,
  bytes: Uint8Array,
  offset: number,
  length: number,
): StoreResults[Name] {
  return decode(name, bytes, offset, length) as StoreResults[Name];
}

function decode(name: StoreOperationName, bytes: Uint8Array, offset: number, length: number): object {
  const refusal = decodeRefusal(name, STORE_BAD_REASON_NAMES, bytes, offset, length);
  if (refusal !== undefined) return refusal;
  const status = decodeStatus(name, STORE_STATUS_NAMES, STORE_OPERATIONS[name].statuses, bytes[offset]!);
  if (length < RESULT_BYTES) throw malformed(name, 'it ends before the revision');
  const answer = { status, revision: readIndex(bytes, offset + RESULT_STATUS_BYTES) };
  if (status !== 'ok') {
    if (length !== RESULT_BYTES) throw malformed(name, `${length - RESULT_BYTES} bytes follow the status ${status}`);
    return answer;
  }
  const body = offset + RESULT_BYTES;
  const exactly = (expected: number): void => {
    if (length !== expected) throw malformed(name, `it has ${length} bytes, not ${expected}`);
  };
  switch (name) {
    case 'read':
      if (length < READ_BYTES) throw malformed(name, 'it ends before the value');
      return {
        ...answer,
        found: { ...keyState(bytes, body), value: copyOf(bytes, offset + READ_BYTES, offset + length) },
      };
    case 'write':
      exactly(WRITE_BYTES);
      return { ...answer, ends: numberOf(bytes, body) };
    case 'range':
      return { ...answer, ...decodeRange(bytes, offset, length) };
    case 'transact':
      return { ...answer, ...decodeTransaction(bytes, offset, length) };
    case 'grant':
      exactly(GRANT_BYTES);
      return { ...answer, lease: readIndex(bytes, body), ends: readIndex(bytes, body + 8) };
    case 'renew': {
      if (length < RENEW_BYTES) throw malformed(name, 'it ends before the count');
      const count = readU16(bytes, body);
      exactly(RENEW_BYTES + 8 * count);
      const ends = Array.from({ length: count }, (_, i) => numberOf(bytes, offset + RENEW_BYTES + 8 * i));
      return { ...answer, ends };
    }
    case 'tick':
      exactly(TICK_BYTES);
      return { ...answer, now: readIndex(bytes, body), nextEnd: numberOf(bytes, body + 8) };
    case 'remove':
    case 'revoke':
      exactly(RESULT_BYTES);
      return answer;
  }
}

function decodeRange(
  bytes: Uint8Array,
  offset: number,
  length: number,
): { entries: StoreEntry[]; next: Uint8Array | undefined } {
  const end = offset + length;
  const body = offset + RESULT_BYTES;
  if (length < RANGE_BYTES || bytes[body]! > 1) throw malformed('range', 'its fixed part is damaged');
  const count = readU16(bytes, body + 1);
  const nextLength = readU16(bytes, body + 3);
  const entries: StoreEntry[] = [];
  let at = offset + RANGE_BYTES;
  for (let i = 0; i < count; i++) {
    if (at + RANGE_ENTRY_BYTES > end) throw malformed('range', `it ends in entry ${i} of ${count}`);
    const keyEnd = at + RANGE_ENTRY_BYTES + readU16(bytes, at);
    const valueEnd = keyEnd + readU16(bytes, at + 2);
    if (valueEnd > end) throw malformed('range', `it ends in entry ${i} of ${count}`);
    entries.push({
      key: copyOf(bytes, at + RANGE_ENTRY_BYTES, keyEnd),
      value: copyOf(bytes, keyEnd, valueEnd),
      ...keyState(bytes, at + 4),
    });
    at = valueEnd;
  }
  if (at + nextLength !== end) throw malformed('range', 'its length is not that of its entries');
  return { entries, next: bytes[body] === 0 ? undefined : copyOf(bytes, at, end) };
}

function decodeTransaction(
  bytes: Uint8Array,
  offset: number,
  length: number,
): { isDo: boolean; results: Uint8Array[] } {
  const end = offset + length;
  const body = offset + RESULT_BYTES;
  if (length < TRANSACT_BYTES || bytes[body]! > 1) throw malformed('transact', 'its fixed part is damaged');
  const results: Uint8Array[] = [];
  let at = offset + TRANSACT_BYTES;
  for (let i = 0; i < bytes[body + 1]!; i++) {
    const start = at + PART_RESULT_BYTES;
    const stop = start > end ? start : start + (readI32(bytes, at) >>> 0);
    if (stop > end) throw malformed('transact', `it ends in result ${i}`);
    results.push(copyOf(bytes, start, stop));
    at = stop;
  }
  if (at !== end) throw malformed('transact', `${end - at} bytes follow the last result`);
  return { isDo: bytes[body] === 1, results };
}

function keyState(bytes: Uint8Array, at: number): KeyState {
  return { revision: readIndex(bytes, at), ends: numberOf(bytes, at + 8), lease: numberOf(bytes, at + 16) };
}

/** 0 stands for none. */
function numberOf(bytes: Uint8Array, at: number): number | undefined {
  return readIndex(bytes, at) || undefined;
}

function encodeCondition(target: Uint8Array, offset: number, condition: TransactionCondition): number {
  const { key } = condition;
  const value = 'value' in condition ? condition.value : undefined;
  checkKey(key);
  if (value !== undefined) checkValue('value of a condition', value);
  const valueLength = value?.length ?? 0;
  const length = CONDITION_BYTES + key.length + valueLength;
  checkRoom(target, offset, length);
  if (value === undefined) writeCondition(target, offset, condition as KeyCondition);
  else {
    target[offset] = Condition.value;
    writeIndex(target, offset + ConditionAt.compared, 0);
  }
  writeU16(target, offset + ConditionAt.key, key.length);
  writeU16(target, offset + ConditionAt.value, valueLength);
  copyBytes(key, 0, target, offset + CONDITION_BYTES, key.length);
  if (value !== undefined) copyBytes(value, 0, target, offset + CONDITION_BYTES + key.length, valueLength);
  return length;
}

/** Kind and number of a condition; the layout has them beside each other everywhere. */
function writeCondition(target: Uint8Array, offset: number, condition: KeyCondition | undefined): void {
  let kind: number = Condition.none;
  let compared = 0;
  if (condition !== undefined) {
    if ('revision' in condition) {
      kind = Condition.revision;
      compared = condition.revision;
      if (!Number.isSafeInteger(compared) || compared < 1)
        throw new KvError(
          'kv-limit',
          `revision ${compared}: revisions are whole numbers from 1; use one that was read`,
        );
    } else if ('absent' in condition && condition.absent === true) kind = Condition.absent;
    else if ('present' in condition && condition.present === true) kind = Condition.present;
    // A caller without types may have said something that nobody would check.
    else
      throw new KvError(
        'kv-limit',
        `a condition with ${Object.keys(condition).join(', ') || 'nothing in it'} is none; give absent: true, present: true or a revision, and in a transaction also a value`,
      );
  }
  target[offset] = kind;
  writeIndex(target, offset + ConditionAt.compared, compared);
}

function encodePart(target: Uint8Array, offset: number, operation: TransactionOperation): number {
  if ('get' in operation) return encodeRead(target, offset, operation.get);
  if ('put' in operation) return encodeWrite(target, offset, operation.put, operation.value, operation);
  if ('delete' in operation) return encodeRemove(target, offset, operation.delete);
  const { from, to, limit } = operation.range;
  return encodeRange(target, offset, from, to, limit);
}

function checkTwice(branch: readonly TransactionOperation[]): void {
  const changed = new Set<string>();
  for (const operation of branch) {
    const key = 'put' in operation ? operation.put : 'delete' in operation ? operation.delete : undefined;
    if (key === undefined) continue;
    const name = String.fromCharCode(...key);
    if (changed.has(name))
      throw new KvError('kv-limit', 'a transaction changes one key twice in a branch; give the last change only');
    changed.add(name);
  }
}

function holdKind({ ttl, lease, keep }: KeyHold): number {
  if ((ttl === undefined ? 0 : 1) + (lease === undefined ? 0 : 1) + (keep === true ? 1 : 0) > 1)
    throw new KvError('kv-limit', 'ttl, lease and keep exclude each other; give one of them');
  if (ttl !== undefined) {
    checkTtl(ttl);
    return WriteHold.ttl;
  }
  if (lease !== undefined) {
    checkLease(lease);
    return WriteHold.lease;
  }
  return keep === true ? WriteHold.keep : WriteHold.none;
}

function checkTtl(ttl: number): void {
  if (Number.isInteger(ttl) && ttl >= 1 && ttl <= TTL_MS_MAX) return;
  throw new KvError('kv-limit', `ttl ${ttl}: a time to live is a whole number of milliseconds from 1 to ${TTL_MS_MAX}`);
}

function checkLease(lease: number): void {
  if (Number.isSafeInteger(lease) && lease >= 1) return;
  throw new KvError('kv-limit', `lease ${lease}: leases are whole numbers from 1; use one that was granted`);
}

function checkCount(what: string, count: number): void {
  if (count <= TRANSACTION_PARTS_MAX) return;
  throw new KvError(
    'kv-limit',
    `${count} ${what}: a transaction has at most ${TRANSACTION_PARTS_MAX} conditions, and as many operations in a branch; split it`,
  );
}
