/** Commands on strings as Redis executes them, but for those on bits (bits.ts) and LCS (lcs.ts). */
import { Hold, KEEP_HOLD, KV_VALUE_BYTES_MAX } from '../kv-layout.js';
import { copyBytes } from '../../wire/copy.js';
import { ABSENT, NOT_A_FLOAT, NOT_AN_INTEGER, SYNTAX_ERROR, WRONG_TYPE, type Call, type Handler } from './call.js';
import { endOfOption, positiveEnd, readExpiryOption } from './expiry.js';
import { addLongDoubles, longDoubleText, readLongDouble } from './long-double.js';
import { INT64_MAX, INT64_MIN, readInt64, readInteger, writeInteger } from './numbers.js';

const SECOND = 1000;

function get(call: Call): void {
  const id = call.findString(1);
  if (id >= 0) call.bulkOf(id);
  else if (id === ABSENT) call.out.nil();
}

/** SET key value [NX | XX | IFEQ value] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] */
function set(call: Call): void {
  const { out } = call;
  if (call.argc === 3) {
    if (call.putArgument(1, 2)) out.ok();
    return;
  }
  let nx = false;
  let xx = false;
  let equalTo = 0;
  let answersOld = false;
  const options = { timeAt: 0, keep: false, persist: false };
  for (let i = 3; i < call.argc; ) {
    if (call.is(i, 'nx') && !xx && equalTo === 0) nx = true;
    else if (call.is(i, 'xx') && !nx && equalTo === 0) xx = true;
    else if (call.is(i, 'get')) answersOld = true;
    else if (call.is(i, 'ifeq') && !nx && !xx && i + 1 < call.argc) equalTo = ++i;
    else {
      const count = readExpiryOption(call, i, options, true);
      if (count === 0) return call.error(SYNTAX_ERROR);
      i += count;
      continue;
    }
    i++;
  }
  const end = options.timeAt === 0 ? 0 : endOfOption(call, options.timeAt);
  if (end === undefined) return;
  const id = answersOld || equalTo > 0 ? call.findString(1) : call.find(1);
  if (id === WRONG_TYPE) return;
  const applies =
    !(nx && id >= 0) && !(xx && id < 0) && (equalTo === 0 || (id >= 0 && equalsArgument(call, id, equalTo)));
  if (applies && !call.canPut(1, call.lengths[2]!)) return;
  if (answersOld) {
    if (id >= 0) call.bulkOf(id);
    else out.nil();
    if (out.overflows) return;
  } else if (!applies) return out.nil();
  if (!applies) return;
  call.putArgument(1, 2, options.timeAt > 0 ? Hold.until : options.keep ? KEEP_HOLD : Hold.none, end);
  if (!answersOld) out.ok();
}

function equalsArgument(call: Call, id: number, index: number): boolean {
  call.copied(call.lengths[index]!);
  return call.store.records.valueEquals(id, call.bytes, call.starts[index]!, call.lengths[index]!);
}

/** DELEX key [IFEQ value]: removes a key, if its value is this one. Not a command of Redis 7. */
function delex(call: Call): void {
  if (call.argc !== 2 && (call.argc !== 4 || !call.is(2, 'ifeq'))) return call.error(SYNTAX_ERROR);
  const id = call.argc === 2 ? call.find(1) : call.findString(1);
  if (id === WRONG_TYPE) return;
  const applies = id >= 0 && (call.argc === 2 || equalsArgument(call, id, 3));
  if (applies) call.remove(1);
  call.out.integer(applies ? 1 : 0);
}

function setnx(call: Call): void {
  if (call.find(1) >= 0) return call.out.integer(0);
  if (call.putArgument(1, 2)) call.out.integer(1);
}

/** SETEX key s value, PSETEX key ms value */
function setWithEnd(unit: number): Handler {
  return (call) => {
    const end = positiveEnd(call, 2, unit, false);
    if (end !== undefined && call.putArgument(1, 3, Hold.until, end)) call.out.ok();
  };
}

function getset(call: Call): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE || !call.canPut(1, call.lengths[2]!)) return;
  if (id >= 0) call.bulkOf(id);
  else call.out.nil();
  if (!call.out.overflows) call.putArgument(1, 2);
}

function getdel(call: Call): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  if (id < 0) return call.out.nil();
  call.bulkOf(id);
  if (!call.out.overflows) call.remove(1);
}

function mget(call: Call): void {
  const { out } = call;
  out.array(call.argc - 1);
  for (let i = 1; i < call.argc && !out.overflows; i++) {
    const id = call.find(i);
    if (id >= 0 && !call.store.isCollection(id)) call.bulkOf(id);
    else out.nil();
  }
}

/** MSET and MSETNX: all pairs or none. */
function setMany(onlyIfAbsent: boolean): Handler {
  return (call) => {
    const { store, out } = call;
    if (call.argc % 2 === 0) return call.arityError();
    let keys = 0;
    let bytes = 0;
    for (let i = 1; i < call.argc; i += 2) {
      const id = call.find(i);
      if (id >= 0 && onlyIfAbsent) return out.integer(0);
      if (!call.keyFits(i) || !call.valueFits(call.lengths[i + 1]!)) return;
      // A key that comes twice counts twice, which is more than it needs.
      keys += store.keysAdded(id);
      bytes += Math.max(0, store.bytesAdded(id, call.lengths[i]!, call.lengths[i + 1]!));
    }
    if (!store.fits(keys, bytes)) return call.outOfMemory();
    for (let i = 1; i < call.argc; i += 2) call.putArgument(i, i + 1);
    if (onlyIfAbsent) out.integer(1);
    else out.ok();
  };
}

function append(call: Call): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  if (id < 0) {
    if (call.putArgument(1, 2)) call.out.integer(call.lengths[2]!);
    return;
  }
  const before = call.store.records.valueLength(id);
  const length = before + call.lengths[2]!;
  if (!stringFits(call, length)) return;
  call.copyValue(id);
  copyBytes(call.bytes, call.starts[2]!, call.value, before, call.lengths[2]!);
  if (call.put(1, call.value, 0, length, KEEP_HOLD)) call.out.integer(length);
}

/** Whether a string can become this long, with the error as the answer. */
export function stringFits(call: Call, length: number): boolean {
  if (length <= KV_VALUE_BYTES_MAX) return true;
  call.error('ERR string exceeds maximum allowed size (proto-max-bulk-len)');
  return false;
}

function strlen(call: Call): void {
  const id = call.findString(1);
  if (id !== WRONG_TYPE) call.out.integer(id < 0 ? 0 : call.store.records.valueLength(id));
}

/** GETRANGE key start end */
function getrange(call: Call): void {
  const { out } = call;
  let start = call.integer(2);
  let end = call.integer(3);
  if (Number.isNaN(start) || Number.isNaN(end)) return call.error(NOT_AN_INTEGER);
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  const { records } = call.store;
  const length = id < 0 ? 0 : records.valueLength(id);
  const isNothing = start < 0 && end < 0 && start > end;
  if (start < 0) start = Math.max(0, length + start);
  if (end < 0) end = Math.max(0, length + end);
  end = Math.min(end, length - 1);
  if (isNothing || start > end || length === 0) return out.bulkText('');
  out.bulk(records.valueBytes(id), records.valueOffset(id) + start, end - start + 1);
}

/** SETRANGE key offset value: zeros fill what is between. */
function setrange(call: Call): void {
  const { out } = call;
  const offset = call.integerOrError(2);
  if (Number.isNaN(offset)) return;
  if (offset < 0) return call.error('ERR offset is out of range');
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  const added = call.lengths[3]!;
  const before = id < 0 ? 0 : call.store.records.valueLength(id);
  if (added === 0) return out.integer(before);
  const length = Math.max(before, offset + added);
  if (!stringFits(call, length)) return;
  if (id >= 0) call.copyValue(id);
  if (offset > before) call.value.fill(0, before, offset);
  copyBytes(call.bytes, call.starts[3]!, call.value, offset, added);
  if (call.put(1, call.value, 0, length, KEEP_HOLD)) out.integer(length);
}

function increment(sign: 1 | -1): Handler {
  return (call) => add(call, sign);
}

/** INCRBY key n, DECRBY key n */
function incrementBy(sign: 1 | -1): Handler {
  return (call) => {
    const delta = call.integerOrError(2);
    if (Number.isNaN(delta)) return;
    if (Number.isSafeInteger(delta)) return add(call, sign * delta);
    const exact = call.int64(2) ?? 0n;
    if (sign < 0 && exact === INT64_MIN) return call.error('ERR decrement would overflow');
    addExactly(call, sign < 0 ? -exact : exact);
  };
}

function add(call: Call, delta: number): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  let before = 0;
  if (id >= 0) {
    const { records } = call.store;
    before = readInteger(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
    if (Number.isNaN(before)) return call.error(NOT_AN_INTEGER);
  }
  const sum = before + delta;
  if (!Number.isSafeInteger(before) || !Number.isSafeInteger(sum)) return addExactly(call, BigInt(delta));
  const length = writeInteger(call.value, 0, sum);
  if (call.put(1, call.value, 0, length, KEEP_HOLD)) call.out.integer(sum);
}

function addExactly(call: Call, delta: bigint): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  let sum = delta;
  if (id >= 0) {
    const { records } = call.store;
    const before = readInt64(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
    if (before === undefined) return call.error(NOT_AN_INTEGER);
    sum += before;
  }
  if (sum < INT64_MIN || sum > INT64_MAX) return call.error('ERR increment or decrement would overflow');
  const text = sum.toString();
  if (call.putText(1, text)) call.out.integerText(text);
}

function incrbyfloat(call: Call): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  const { records } = call.store;
  call.calculated(call.lengths[2]! + (id < 0 ? 0 : records.valueLength(id)));
  const before =
    id < 0
      ? { mantissa: 0n, exponent: 0, isInfinite: false }
      : readLongDouble(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
  const delta = readLongDouble(call.bytes, call.starts[2]!, call.lengths[2]!);
  if (before === undefined || delta === undefined) return call.error(NOT_A_FLOAT);
  const sum = addLongDoubles(before, delta);
  if (sum === undefined || sum.isInfinite) return call.error('ERR increment would produce NaN or Infinity');
  const text = longDoubleText(sum);
  if (!call.canPut(1, text.length)) return;
  call.out.bulkText(text);
  if (!call.out.overflows) call.putText(1, text);
}

export const STRING_HANDLERS: Readonly<Record<string, Handler>> = {
  get,
  set,
  delex,
  setnx,
  setex: setWithEnd(SECOND),
  psetex: setWithEnd(1),
  getset,
  getdel,
  mget,
  mset: setMany(false),
  msetnx: setMany(true),
  append,
  strlen,
  getrange,
  substr: getrange,
  setrange,
  incr: increment(1),
  decr: increment(-1),
  incrby: incrementBy(1),
  decrby: incrementBy(-1),
  incrbyfloat,
};
