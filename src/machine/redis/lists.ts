/** Commands on lists. */
import { Hold, KV_ENTRY_OVERHEAD_BYTES, ValueType } from '../kv-layout.js';
import { elementCost, keyCost, type Collection } from '../store/collection.js';
import { BYTES_MAX, NOT_AN_INTEGER, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { contentBytes, fewMembers, MEMBERS_MAX } from './collections.js';
import { tellAs } from './events.js';
import { readPopOptions } from './sorted-sets.js';

const NO_SUCH_KEY = 'ERR no such key';

function pushArgument(call: Call, list: Collection, isFront: boolean, index: number): void {
  list.push(isFront, call.bytes, call.starts[index]!, call.lengths[index]!);
}

/** LPUSH, RPUSH, LPUSHX, RPUSHX key element … */
function push(isFront: boolean, onlyIfPresent: boolean): Handler {
  return (call) => {
    const list = call.first;
    if (!call.open(list, 1, ValueType.list, true)) return;
    if (list.count === 0 && onlyIfPresent) return call.out.integer(0);
    if (!call.keyFits(1)) return;
    const isNew = list.count === 0;
    let bytes = isNew ? keyCost(ValueType.list, call.lengths[1]!) : 0;
    for (let i = 2; i < call.argc; i++) {
      if (!call.valueFits(call.lengths[i]!)) return;
      bytes += elementCost(call.lengths[i]!);
    }
    if (!call.fits(call.argc - 2 + (isNew ? 1 : 0), bytes)) return;
    if (isNew) list.create(ValueType.list);
    for (let i = 2; i < call.argc; i++) pushArgument(call, list, isFront, i);
    const { count } = list;
    list.save();
    call.work += call.argc;
    call.out.integer(count);
  };
}

/** LPOP and RPOP key [count] */
function pop(isFront: boolean): Handler {
  return (call) => {
    const { out } = call;
    const list = call.first;
    if (call.argc > 3) return call.arityError();
    let count = 1;
    if (call.argc === 3) {
      count = call.integer(2);
      if (Number.isNaN(count) || count < 0) return call.error('ERR value is out of range, must be positive');
    }
    if (!call.open(list, 1, ValueType.list, true)) return;
    if (list.count === 0) return call.argc === 3 ? out.nilArray() : out.nil();
    const popped = Math.min(count, list.count);
    if (!fewMembers(call, popped)) return;
    if (call.argc === 3) out.array(popped);
    popFrom(call, list, isFront, popped);
  };
}

/** Answers with so many elements, and removes them if the answer fits. */
function popFrom(call: Call, list: Collection, isFront: boolean, popped: number): void {
  const { out } = call;
  for (let i = 0; i < popped && !out.overflows; i++) call.bulkOf(list.at(isFront ? i : list.count - 1 - i));
  if (out.overflows) return;
  tellAs(call, isFront ? 'lpop' : 'rpop');
  for (let i = 0; i < popped; i++) list.pop(isFront);
  list.save();
}

function llen(call: Call): void {
  if (call.open(call.first, 1, ValueType.list)) call.out.integer(call.first.count);
}

/** LRANGE key start stop */
function lrange(call: Call): void {
  const { out, first } = call;
  let start = call.integer(2);
  let stop = call.integer(3);
  if (Number.isNaN(start) || Number.isNaN(stop)) return call.error(NOT_AN_INTEGER);
  if (!call.open(first, 1, ValueType.list)) return;
  if (start < 0) start = Math.max(0, first.count + start);
  if (stop < 0) stop = first.count + stop;
  stop = Math.min(stop, first.count - 1);
  if (start > stop) return out.array(0);
  out.array(stop - start + 1);
  call.work += stop - start + 1;
  for (let i = start; i <= stop && !out.overflows; i++) call.bulkOf(first.at(i));
}

function lindex(call: Call): void {
  const { out, first } = call;
  if (!call.open(first, 1, ValueType.list)) return;
  if (first.count === 0) return out.nil();
  const index = call.integerOrError(2);
  if (Number.isNaN(index)) return;
  const id = first.at(index < 0 ? first.count + index : index);
  if (id < 0) out.nil();
  else call.bulkOf(id);
}

/** LSET key index element */
function lset(call: Call): void {
  const list = call.first;
  if (!call.open(list, 1, ValueType.list, true)) return;
  if (list.count === 0) return call.error(NO_SUCH_KEY);
  const given = call.integerOrError(2);
  if (Number.isNaN(given)) return;
  const index = given < 0 ? list.count + given : given;
  const id = list.at(index);
  if (id < 0) return call.error('ERR index out of range');
  const length = call.lengths[3]!;
  if (!call.valueFits(length) || !call.fits(0, length - call.store.records.valueLength(id))) return;
  list.setAt(index, call.bytes, call.starts[3]!, length);
  list.save();
  call.out.ok();
}

/** LTRIM key start stop */
function ltrim(call: Call): void {
  const list = call.first;
  let start = call.integer(2);
  let stop = call.integer(3);
  if (Number.isNaN(start) || Number.isNaN(stop)) return call.error(NOT_AN_INTEGER);
  if (!call.open(list, 1, ValueType.list, true)) return;
  if (list.count === 0) return call.out.ok();
  if (start < 0) start = Math.max(0, list.count + start);
  if (stop < 0) stop = list.count + stop;
  stop = Math.min(stop, list.count - 1);
  const kept = stop - start + 1;
  const removed = list.count - kept;
  if (kept <= 0) call.remove(1);
  else if (removed > MEMBERS_MAX && kept <= MEMBERS_MAX) {
    if (!rebuild(call, list, start, kept)) return;
  } else {
    if (!fewMembers(call, removed)) return;
    for (let i = 0; i < start; i++) list.pop(true);
    while (list.count > kept) list.pop(false);
    list.save();
  }
  call.out.ok();
}

/**
 * Makes a new list of the elements that stay, where fewer stay than would have to be removed one by one. False: an error,
 * which is the answer.
 */
function rebuild(call: Call, list: Collection, start: number, kept: number): boolean {
  const { records } = call.store;
  const elements: Uint8Array[] = [];
  let bytes = keyCost(ValueType.list, call.lengths[1]!) + KV_ENTRY_OVERHEAD_BYTES;
  if (!fewMembers(call, kept)) return false;
  for (let i = start; i < start + kept; i++) {
    const id = list.at(i);
    const at = records.valueOffset(id);
    const length = records.valueLength(id);
    elements.push(records.valueBytes(id).slice(at, at + length));
    bytes += elementCost(length);
    if (bytes > BYTES_MAX) break;
  }
  if (!call.fewBytes(bytes)) return false;
  // What is removed counts until it is gone.
  if (!call.fits(kept + 2, bytes)) return false;
  const kind = records.holdKind(list.id);
  const hold = records.hold(list.id);
  call.remove(1);
  call.open(list, 1, ValueType.list, true);
  list.create(ValueType.list);
  for (const element of elements) list.push(false, element, 0, element.length);
  list.save();
  if (kind !== Hold.none) call.hold(1, kind, hold);
  return true;
}

function equalsElement(call: Call, id: number, index: number): boolean {
  return call.store.records.valueEquals(id, call.bytes, call.starts[index]!, call.lengths[index]!);
}

/** Moves the element at an index to another one, which is free or may be overwritten. */
function moveElement(call: Call, list: Collection, from: number, to: number): void {
  const id = list.at(from);
  const length = call.copyValue(id);
  list.setAt(to, call.value, 0, length);
}

/** LREM key count element */
function lrem(call: Call): void {
  const list = call.first;
  const given = call.integerOrError(2);
  if (Number.isNaN(given)) return;
  if (!call.open(list, 1, ValueType.list, true)) return;
  if (!fewMembers(call, list.count) || !call.fewBytes(contentBytes(call, list))) return;
  const most = given === 0 ? list.count : Math.abs(given);
  const isFromEnd = given < 0;
  const { count } = list;
  let removed = 0;
  // What stays moves towards the end at which the search began.
  for (let i = 0; i < count; i++) {
    const from = isFromEnd ? count - 1 - i : i;
    if (removed < most && equalsElement(call, list.at(from), 3)) removed++;
    else if (removed > 0) moveElement(call, list, from, isFromEnd ? from + removed : from - removed);
  }
  for (let i = 0; i < removed; i++) list.pop(isFromEnd);
  list.save();
  call.out.integer(removed);
}

/** LINSERT key BEFORE | AFTER pivot element */
function linsert(call: Call): void {
  const list = call.first;
  const isAfter = call.is(2, 'after');
  if (!isAfter && !call.is(2, 'before')) return call.error(SYNTAX_ERROR);
  if (!call.open(list, 1, ValueType.list, true)) return;
  if (list.count === 0) return call.out.integer(0);
  const length = call.lengths[4]!;
  if (!call.valueFits(length)) return;
  if (!fewMembers(call, list.count) || !call.fewBytes(contentBytes(call, list))) return;
  let at = 0;
  while (at < list.count && !equalsElement(call, list.at(at), 3)) at++;
  if (at === list.count) return call.out.integer(-1);
  if (!call.fits(1, elementCost(length))) return;
  if (isAfter) at++;
  // The shorter side makes room.
  const isFront = 2 * at < list.count;
  pushArgument(call, list, isFront, 4);
  if (isFront) for (let i = 0; i < at; i++) moveElement(call, list, i + 1, i);
  else for (let i = list.count - 1; i > at; i--) moveElement(call, list, i - 1, i);
  list.setAt(at, call.bytes, call.starts[4]!, length);
  const { count } = list;
  list.save();
  call.out.integer(count);
}

/** LPOS key element [RANK n] [COUNT n] [MAXLEN n] */
function lpos(call: Call): void {
  const { out, first } = call;
  let rank = 1;
  let count = -1;
  let most = 0;
  for (let i = 3; i < call.argc; i += 2) {
    if (i + 1 === call.argc) return call.error(SYNTAX_ERROR);
    const value = call.integer(i + 1);
    if (call.is(i, 'rank')) {
      if (Number.isNaN(value)) return call.error(NOT_AN_INTEGER);
      rank = value;
      if (rank === 0)
        return call.error(
          "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        );
    } else if (call.is(i, 'count')) {
      if (Number.isNaN(value) || value < 0) return call.error("ERR COUNT can't be negative");
      count = value;
    } else if (call.is(i, 'maxlen')) {
      if (Number.isNaN(value) || value < 0) return call.error("ERR MAXLEN can't be negative");
      most = value;
    } else return call.error(SYNTAX_ERROR);
  }
  if (!call.open(first, 1, ValueType.list)) return;
  if (first.count === 0) return count < 0 ? out.nil() : out.array(0);
  const compared = most === 0 ? first.count : Math.min(most, first.count);
  // MAXLEN bounds it otherwise.
  if (compared > MEMBERS_MAX && !fewMembers(call, compared)) return;
  call.work += compared;
  const wanted = count < 0 ? 1 : count === 0 ? Infinity : count;
  const found: number[] = [];
  let skip = Math.abs(rank) - 1;
  const { records } = call.store;
  let bytes = 0;
  for (let i = 0; i < compared && found.length < wanted; i++) {
    const index = rank < 0 ? first.count - 1 - i : i;
    const id = first.at(index);
    if (records.valueLength(id) !== call.lengths[2]!) continue;
    bytes += call.lengths[2]!;
    if (bytes > BYTES_MAX) break;
    if (!equalsElement(call, id, 2)) continue;
    if (skip > 0) skip--;
    else found.push(index);
  }
  if (!call.fewBytes(bytes)) return;
  if (count < 0) {
    if (found.length === 0) out.nil();
    else out.integer(found[0]!);
    return;
  }
  out.array(found.length);
  for (const index of found) out.integer(index);
}

/** Takes an element from an end of one list to an end of another one, or of the same. */
function move(call: Call, fromFront: boolean, toFront: boolean): void {
  const { out, first, second } = call;
  if (!call.open(first, 1, ValueType.list, true)) return;
  if (first.count === 0) return out.nil();
  const isSame = call.sameArguments(1, 2);
  if (!isSame && !call.open(second, 2, ValueType.list, true)) return;
  const id = first.at(fromFront ? 0 : first.count - 1);
  call.bulkOf(id);
  if (out.overflows) return;
  const length = call.copyValue(id);
  if (isSame) {
    first.pop(fromFront);
    first.push(toFront, call.value, 0, length);
    tellAs(call, toFront ? 'lpush' : 'rpush');
    return first.save();
  }
  const isNew = second.count === 0;
  // The element goes from one list to the other.
  const keys = (isNew ? 1 : 0) - (first.count === 1 ? 1 : 0);
  const answer = out.length;
  out.cut(0);
  if (!call.keyFits(2) || !call.fits(keys, isNew ? keyCost(ValueType.list, call.lengths[2]!) : 0)) return;
  out.cut(answer);
  tellAs(call, fromFront ? 'lpop' : 'rpop');
  first.pop(fromFront);
  first.save();
  tellAs(call, toFront ? 'lpush' : 'rpush');
  if (isNew) second.create(ValueType.list);
  second.push(toFront, call.value, 0, length);
  second.save();
}

/** LMOVE source destination LEFT | RIGHT LEFT | RIGHT */
function lmove(call: Call): void {
  const isSide = (index: number): boolean => call.is(index, 'left') || call.is(index, 'right');
  if (!isSide(3) || !isSide(4)) return call.error(SYNTAX_ERROR);
  move(call, call.is(3, 'left'), call.is(4, 'left'));
}

/** LMPOP numkeys key … LEFT | RIGHT [COUNT n] */
function lmpop(call: Call): void {
  const { out, first } = call;
  const options = readPopOptions(call, ['left', 'right']);
  if (options === undefined) return;
  for (let i = 2; i < 2 + options.keys; i++) {
    if (!call.open(first, i, ValueType.list, true)) return;
    if (first.count === 0) continue;
    const popped = Math.min(options.count, first.count);
    if (!fewMembers(call, popped)) return;
    out.array(2);
    out.bulk(call.bytes, call.starts[i]!, call.lengths[i]!);
    out.array(popped);
    return popFrom(call, first, !options.isLast, popped);
  }
  out.nilArray();
}

export const LIST_HANDLERS: Readonly<Record<string, Handler>> = {
  lpush: push(true, false),
  rpush: push(false, false),
  lpushx: push(true, true),
  rpushx: push(false, true),
  lpop: pop(true),
  rpop: pop(false),
  llen,
  lrange,
  lindex,
  lset,
  ltrim,
  lrem,
  linsert,
  lpos,
  lmove,
  lmpop,
  rpoplpush: (call) => move(call, false, true),
};
