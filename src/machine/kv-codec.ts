/**
 * The client's side of the key-value store: writes operations into a given buffer, reads results into objects.
 *
 * The operations are in the table of kv-layout.ts. Encoders return the number of bytes written and allocate nothing.
 * They throw `KvError` before they write anything: `kv-limit` for a key, value, range or delta outside its limits, or
 * `kv-buffer-too-small`.
 */
import { copyBytes } from '../wire/copy.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import {
  checkBound,
  checkKey,
  checkRoom,
  checkValue,
  copyOf,
  decodeRefusal,
  decodeStatus,
  malformed,
} from './kv-checks.js';
import {
  Cas,
  Delete,
  Get,
  Increment,
  KV_ABSENT_LENGTH,
  KV_BAD_REASON_NAMES,
  KV_KEY_BYTES_MAX,
  KV_NUMBER_BYTES,
  KV_OPERATIONS,
  KV_SCAN_LIMIT_MAX,
  KV_STATUS_NAMES,
  KV_VALUE_BYTES_MAX,
  Put,
  RESULT_STATUS_BYTES,
  Scan,
  SCAN_ENTRY_FIXED_BYTES,
  SCAN_RESULT_FIXED_BYTES,
  type KvBadReason,
  type KvOperationName,
} from './kv-layout.js';
import { KvError } from './machine-error.js';

export {
  KV_ENTRY_OVERHEAD_BYTES,
  KV_KEY_BYTES_MAX,
  KV_KEY_BYTES_MIN,
  KV_SCAN_LIMIT_MAX,
  KV_VALUE_BYTES_MAX,
} from './kv-layout.js';
export type { KvBadReason, KvOperationName, KvStatus } from './kv-layout.js';
export { KvError } from './machine-error.js';

/** Longest operation in bytes. */
export const KV_OPERATION_BYTES_MAX = Cas.size + KV_KEY_BYTES_MAX + 2 * KV_VALUE_BYTES_MAX;

/** `null`: the key must be absent. */
export type KvExpected = Uint8Array | null;

export function encodeGet(target: Uint8Array, offset: number, key: Uint8Array): number {
  return encodeKeyOnly(target, offset, Get, key);
}

export function encodeDelete(target: Uint8Array, offset: number, key: Uint8Array): number {
  return encodeKeyOnly(target, offset, Delete, key);
}

export function encodePut(target: Uint8Array, offset: number, key: Uint8Array, value: Uint8Array): number {
  checkKey(key);
  checkValue('value', value);
  const length = Put.size + key.length + value.length;
  checkRoom(target, offset, length);
  target[offset] = Put.opcode;
  writeU16(target, offset + Put.at.key, key.length);
  writeU16(target, offset + Put.at.value, value.length);
  copyBytes(key, 0, target, offset + Put.size, key.length);
  copyBytes(value, 0, target, offset + Put.size + key.length, value.length);
  return length;
}

/** Sets the key to `replacement` (`null`: deletes it) if its value is `expected` (`null`: if it is absent). */
export function encodeCas(
  target: Uint8Array,
  offset: number,
  key: Uint8Array,
  expected: KvExpected,
  replacement: KvExpected,
): number {
  checkKey(key);
  if (expected !== null) checkValue('expected value', expected);
  if (replacement !== null) checkValue('new value', replacement);
  const expectedLength = expected === null ? 0 : expected.length;
  const length = Cas.size + key.length + expectedLength + (replacement === null ? 0 : replacement.length);
  checkRoom(target, offset, length);
  target[offset] = Cas.opcode;
  writeU16(target, offset + Cas.at.key, key.length);
  writeU16(target, offset + Cas.at.expected, expected === null ? KV_ABSENT_LENGTH : expected.length);
  writeU16(target, offset + Cas.at.new, replacement === null ? KV_ABSENT_LENGTH : replacement.length);
  const at = offset + Cas.size;
  copyBytes(key, 0, target, at, key.length);
  if (expected !== null) copyBytes(expected, 0, target, at + key.length, expected.length);
  if (replacement !== null) copyBytes(replacement, 0, target, at + key.length + expectedLength, replacement.length);
  return length;
}

/**
 * Adds a signed 64-bit amount to the number stored under the key (8 bytes, big-endian; absent counts as 0). The sum
 * wraps at 64 bits. A `number` must be a safe integer; a `bigint` must fit 64 bits.
 */
export function encodeIncrement(target: Uint8Array, offset: number, key: Uint8Array, delta: number | bigint): number {
  checkKey(key);
  const length = Increment.size + key.length;
  let hi: number;
  let lo: number;
  if (typeof delta === 'bigint') {
    if (BigInt.asIntN(64, delta) !== delta)
      throw new KvError('kv-limit', `delta ${delta} does not fit a signed 64-bit integer`);
    hi = Number(BigInt.asIntN(32, delta >> 32n));
    lo = Number(BigInt.asIntN(32, delta));
  } else {
    if (!Number.isSafeInteger(delta))
      throw new KvError('kv-limit', `delta ${delta} is not a safe integer; give larger amounts as a bigint`);
    hi = Math.floor(delta / 2 ** 32);
    lo = delta | 0;
  }
  checkRoom(target, offset, length);
  target[offset] = Increment.opcode;
  writeU16(target, offset + Increment.at.key, key.length);
  writeI32(target, offset + Increment.at.delta, hi);
  writeI32(target, offset + Increment.at.delta + 4, lo);
  copyBytes(key, 0, target, offset + Increment.size, key.length);
  return length;
}

/**
 * The keys from `from` (included; no bytes: the first key) to `to` (excluded; `null`: no upper end), at most `limit` of
 * them.
 */
export function encodeScan(
  target: Uint8Array,
  offset: number,
  from: Uint8Array,
  to: KvExpected,
  limit: number,
): number {
  checkBound('from', from);
  if (to !== null) checkBound('to', to);
  if (!Number.isInteger(limit) || limit < 1 || limit > KV_SCAN_LIMIT_MAX) {
    throw new KvError(
      'kv-limit',
      `scan limit must be an integer from 1 to ${KV_SCAN_LIMIT_MAX}, not ${limit}; scan in several pages`,
    );
  }
  const length = Scan.size + from.length + (to === null ? 0 : to.length);
  checkRoom(target, offset, length);
  target[offset] = Scan.opcode;
  writeU16(target, offset + Scan.at.from, from.length);
  writeU16(target, offset + Scan.at.to, to === null ? KV_ABSENT_LENGTH : to.length);
  writeU16(target, offset + Scan.at.limit, limit);
  copyBytes(from, 0, target, offset + Scan.size, from.length);
  if (to !== null) copyBytes(to, 0, target, offset + Scan.size + from.length, to.length);
  return length;
}

/**
 * Refusals that any operation may get. `full`: the store is at its limits. `wrong-type`: the value of the key is a
 * collection. Nothing was changed.
 */
export type KvRefusal =
  | { status: 'bad-operation'; reason: KvBadReason | null }
  | { status: 'too-large'; neededBytes: number | null };
export interface KvEntry {
  key: Uint8Array;
  value: Uint8Array;
}
/** Result by operation. Byte arrays are copies. */
export interface KvResults {
  get: { status: 'ok'; value: Uint8Array } | { status: 'not-found' | 'wrong-type' } | KvRefusal;
  put: { status: 'ok' } | { status: 'full' } | KvRefusal;
  delete: { status: 'ok' } | { status: 'not-found' } | KvRefusal;
  cas: { status: 'ok' } | { status: 'mismatch' } | { status: 'full' | 'wrong-type' } | KvRefusal;
  increment:
    | { status: 'ok'; value: bigint }
    | { status: 'not-a-number' }
    | { status: 'full' | 'wrong-type' }
    | KvRefusal;
  /**
   * `more`: the range may have further keys; continue from the last key followed by a zero byte. `scan-limit`: more than
   * 1,000 keys that have ended, or hold collections, come first.
   */
  scan: { status: 'ok'; entries: KvEntry[]; more: boolean } | KvRefusal;
}
export type KvResult = KvResults[KvOperationName];

/**
 * Reads the result of the operation named. Throws `KvError` (`kv-result-malformed`) if the bytes are not such a result,
 * which means that another machine runs there, or another version of this one.
 */
export function decodeResult<Name extends KvOperationName>(
  name: Name,
  bytes: Uint8Array,
  offset: number,
  length: number,
): KvResults[Name] {
  return decode(name, bytes, offset, length) as KvResults[Name];
}

function decode(name: KvOperationName, bytes: Uint8Array, offset: number, length: number): KvResult {
  const refusal = decodeRefusal(name, KV_BAD_REASON_NAMES, bytes, offset, length);
  if (refusal !== undefined) return refusal;
  const status = decodeStatus(name, KV_STATUS_NAMES, KV_OPERATIONS[name].statuses, bytes[offset]!);
  const at = offset + RESULT_STATUS_BYTES;
  const rest = length - RESULT_STATUS_BYTES;
  if (status === 'ok') {
    if (name === 'get') return { status: 'ok', value: copyOf(bytes, at, at + rest) };
    if (name === 'increment') return decodeIncrement(bytes, at, rest);
    if (name === 'scan') return decodeScan(bytes, offset, length);
  }
  if (rest !== 0) throw malformed(name, `${rest} bytes follow the status ${status}`);
  return { status } as KvResult;
}

function decodeIncrement(bytes: Uint8Array, at: number, rest: number): KvResult {
  if (rest !== KV_NUMBER_BYTES) throw malformed('increment', `a number has ${KV_NUMBER_BYTES} bytes, not ${rest}`);
  const value = (BigInt(readI32(bytes, at)) << 32n) | BigInt(readI32(bytes, at + 4) >>> 0);
  return { status: 'ok', value };
}

function decodeScan(bytes: Uint8Array, offset: number, length: number): KvResult {
  const end = offset + length;
  if (length < SCAN_RESULT_FIXED_BYTES || bytes[offset + 1]! > 1) throw malformed('scan', 'its fixed part is damaged');
  const count = readU16(bytes, offset + 2);
  const entries: KvEntry[] = [];
  let at = offset + SCAN_RESULT_FIXED_BYTES;
  for (let i = 0; i < count; i++) {
    if (at + SCAN_ENTRY_FIXED_BYTES > end) throw malformed('scan', `it ends in entry ${i} of ${count}`);
    const keyEnd = at + SCAN_ENTRY_FIXED_BYTES + readU16(bytes, at);
    const valueEnd = keyEnd + readU16(bytes, at + 2);
    if (valueEnd > end) throw malformed('scan', `it ends in entry ${i} of ${count}`);
    entries.push({ key: copyOf(bytes, at + SCAN_ENTRY_FIXED_BYTES, keyEnd), value: copyOf(bytes, keyEnd, valueEnd) });
    at = valueEnd;
  }
  if (at !== end) throw malformed('scan', `${end - at} bytes follow the last entry`);
  return { status: 'ok', entries, more: bytes[offset + 1] === 1 };
}

function encodeKeyOnly(
  target: Uint8Array,
  offset: number,
  operation: typeof Get | typeof Delete,
  key: Uint8Array,
): number {
  checkKey(key);
  const length = operation.size + key.length;
  checkRoom(target, offset, length);
  target[offset] = operation.opcode;
  writeU16(target, offset + operation.at.key, key.length);
  copyBytes(key, 0, target, offset + operation.size, key.length);
  return length;
}
