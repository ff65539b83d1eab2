/** Commands on hashes. Fields come in the order of their hashes, which is the same at every replica. */
import { KV_VALUE_BYTES_MAX, ValueType } from '../kv-layout.js';
import { keyCost, memberCost, type Collection } from '../store/collection.js';
import { NOT_A_FLOAT, NOT_AN_INTEGER, type Call, type Handler } from './call.js';
import { bulkMember, randomMembersOf, scanMembers } from './collections.js';
import { addLongDoubles, longDoubleText, readLongDouble } from './long-double.js';
import { INT64_MAX, INT64_MIN, readInt64, writeLatin1 } from './numbers.js';

/** The field's part that argument `index` names, or -1. */
function fieldOf(call: Call, hash: Collection, index: number): number {
  return hash.count === 0 ? -1 : hash.find(call.bytes, call.starts[index]!, call.lengths[index]!);
}

/** Whether fields and values, from argument `from` on in turns, can be written; with the error as the answer. */
function fieldsFit(call: Call, hash: Collection, from: number): boolean {
  const { records } = call.store;
  let keys = hash.count === 0 ? 1 : 0;
  let bytes = hash.count === 0 ? keyCost(ValueType.hash, call.lengths[1]!) : 0;
  for (let i = from; i < call.argc; i += 2) {
    const length = call.lengths[i + 1]!;
    if (!call.memberFits(i) || !call.valueFits(length)) return false;
    const id = fieldOf(call, hash, i);
    // A field that comes twice counts twice, which is more than it needs.
    if (id < 0) keys++;
    bytes += id < 0 ? memberCost(call.lengths[i]!, length) : Math.max(0, length - records.valueLength(id));
  }
  return call.fits(keys, bytes);
}

function setField(call: Call, hash: Collection, field: number): boolean {
  const { bytes, starts, lengths } = call;
  return hash.set(bytes, starts[field]!, lengths[field]!, bytes, starts[field + 1]!, lengths[field + 1]!);
}

/** HSET and HMSET key field value … */
function hset(answersCount: boolean): Handler {
  return (call) => {
    const hash = call.first;
    if (call.argc % 2 === 1) return call.arityError();
    if (!call.open(hash, 1, ValueType.hash, true) || !call.keyFits(1)) return;
    if (!fieldsFit(call, hash, 2)) return;
    if (hash.count === 0) hash.create(ValueType.hash);
    let added = 0;
    for (let i = 2; i < call.argc; i += 2) if (setField(call, hash, i)) added++;
    hash.save();
    call.work += call.argc / 2;
    if (answersCount) call.out.integer(added);
    else call.out.ok();
  };
}

function hsetnx(call: Call): void {
  const hash = call.first;
  if (!call.open(hash, 1, ValueType.hash, true) || !call.keyFits(1)) return;
  if (fieldOf(call, hash, 2) >= 0) return call.out.integer(0);
  if (!fieldsFit(call, hash, 2)) return;
  if (hash.count === 0) hash.create(ValueType.hash);
  setField(call, hash, 2);
  hash.save();
  call.out.integer(1);
}

function hget(call: Call): void {
  if (!call.open(call.first, 1, ValueType.hash)) return;
  const id = fieldOf(call, call.first, 2);
  if (id < 0) call.out.nil();
  else call.bulkOf(id);
}

function hmget(call: Call): void {
  const { out } = call;
  if (!call.open(call.first, 1, ValueType.hash)) return;
  out.array(call.argc - 2);
  for (let i = 2; i < call.argc && !out.overflows; i++) {
    const id = fieldOf(call, call.first, i);
    if (id < 0) out.nil();
    else call.bulkOf(id);
  }
}

/** HGETALL, HKEYS, HVALS */
function hashAll(withFields: boolean, withValues: boolean): Handler {
  return (call) => {
    const { out, first } = call;
    if (!call.open(first, 1, ValueType.hash)) return;
    if (withFields && withValues) out.map(first.count);
    else out.array(first.count);
    if (first.count === 0) return;
    call.work += first.count;
    first.seek(0);
    for (let id = first.next(); id >= 0 && !out.overflows; id = first.next()) {
      if (withFields) bulkMember(call, first, id);
      if (withValues) call.bulkOf(id);
    }
  };
}

function hdel(call: Call): void {
  const hash = call.first;
  if (!call.open(hash, 1, ValueType.hash, true)) return;
  let removed = 0;
  for (let i = 2; i < call.argc && hash.count > 0; i++)
    if (hash.remove(call.bytes, call.starts[i]!, call.lengths[i]!)) removed++;
  hash.save();
  call.out.integer(removed);
}

function hexists(call: Call): void {
  if (!call.open(call.first, 1, ValueType.hash)) return;
  call.out.integer(fieldOf(call, call.first, 2) < 0 ? 0 : 1);
}

function hlen(call: Call): void {
  if (call.open(call.first, 1, ValueType.hash)) call.out.integer(call.first.count);
}

function hstrlen(call: Call): void {
  if (!call.open(call.first, 1, ValueType.hash)) return;
  const id = fieldOf(call, call.first, 2);
  call.out.integer(id < 0 ? 0 : call.store.records.valueLength(id));
}

/** Writes a field's new value if it fits; false: an error, which is the answer. */
function writeText(call: Call, text: string): boolean {
  const hash = call.first;
  if (!call.keyFits(1) || !call.memberFits(2)) return false;
  const id = fieldOf(call, hash, 2);
  const { records } = call.store;
  const isNew = hash.count === 0;
  const keys = (id < 0 ? 1 : 0) + (isNew ? 1 : 0);
  const bytes =
    (isNew ? keyCost(ValueType.hash, call.lengths[1]!) : 0) +
    (id < 0 ? memberCost(call.lengths[2]!, text.length) : text.length - records.valueLength(id));
  if (text.length > KV_VALUE_BYTES_MAX || !call.fits(keys, bytes)) return false;
  if (isNew) hash.create(ValueType.hash);
  writeLatin1(call.value, 0, text);
  hash.set(call.bytes, call.starts[2]!, call.lengths[2]!, call.value, 0, text.length);
  hash.save();
  return true;
}

/** HINCRBY key field n */
function hincrby(call: Call): void {
  const delta = call.int64(3);
  if (delta === undefined) return call.error(NOT_AN_INTEGER);
  if (!call.open(call.first, 1, ValueType.hash, true)) return;
  const { records } = call.store;
  const id = fieldOf(call, call.first, 2);
  const before = id < 0 ? 0n : readInt64(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
  if (before === undefined) return call.error('ERR hash value is not an integer');
  const sum = before + delta;
  if (sum < INT64_MIN || sum > INT64_MAX) return call.error('ERR increment or decrement would overflow');
  const text = sum.toString();
  if (writeText(call, text)) call.out.integerText(text);
}

/** HINCRBYFLOAT key field n */
function hincrbyfloat(call: Call): void {
  const { out } = call;
  call.calculated(call.lengths[3]!);
  const delta = readLongDouble(call.bytes, call.starts[3]!, call.lengths[3]!);
  if (delta === undefined) return call.error(NOT_A_FLOAT);
  if (delta.isInfinite) return call.error('ERR value is NaN or Infinity');
  if (!call.open(call.first, 1, ValueType.hash, true)) return;
  const { records } = call.store;
  const id = fieldOf(call, call.first, 2);
  if (id >= 0) call.calculated(records.valueLength(id));
  const before =
    id < 0
      ? { mantissa: 0n, exponent: 0, isInfinite: false }
      : readLongDouble(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
  if (before === undefined) return call.error('ERR hash value is not a float');
  const sum = addLongDoubles(before, delta);
  if (sum === undefined || sum.isInfinite) return call.error('ERR increment would produce NaN or Infinity');
  const text = longDoubleText(sum);
  out.bulkText(text);
  if (out.overflows) return;
  const { length } = out;
  out.cut(0);
  if (writeText(call, text)) out.cut(length);
}

export const HASH_HANDLERS: Readonly<Record<string, Handler>> = {
  hset: hset(true),
  hmset: hset(false),
  hsetnx,
  hget,
  hmget,
  hgetall: hashAll(true, true),
  hkeys: hashAll(true, false),
  hvals: hashAll(false, true),
  hdel,
  hexists,
  hlen,
  hstrlen,
  hincrby,
  hincrbyfloat,
  hscan: (call) => scanMembers(call, ValueType.hash),
  hrandfield: (call) => randomMembersOf(call, ValueType.hash, 'withvalues'),
};
