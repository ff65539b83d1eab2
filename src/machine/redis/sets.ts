/** Commands on sets. Members come in the order of their hashes, which is the same at every replica. */
import { KV_ENTRY_OVERHEAD_BYTES, ValueType } from '../kv-layout.js';
import { keyCost, memberCost, type Collection } from '../store/collection.js';
import { NOT_A_COUNT, NOT_AN_INTEGER, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import {
  bulkMember,
  fewMembers,
  oneRandomMember,
  randomMember,
  randomMembers,
  randomPicks,
  scanMembers,
} from './collections.js';
import { tellAs } from './events.js';
import { INT64_MIN, latin1, writeLatin1 } from './numbers.js';

const NO_VALUE = new Uint8Array(0);

function memberOf(call: Call, set: Collection, index: number): number {
  return set.count === 0 ? -1 : set.find(call.bytes, call.starts[index]!, call.lengths[index]!);
}

function addMember(call: Call, set: Collection, index: number): boolean {
  return set.set(call.bytes, call.starts[index]!, call.lengths[index]!, NO_VALUE, 0, 0);
}

function removeMember(call: Call, set: Collection, index: number): boolean {
  return set.count > 0 && set.remove(call.bytes, call.starts[index]!, call.lengths[index]!);
}

function sadd(call: Call): void {
  const set = call.first;
  if (!call.open(set, 1, ValueType.set, true) || !call.keyFits(1)) return;
  let keys = set.count === 0 ? 1 : 0;
  let bytes = set.count === 0 ? keyCost(ValueType.set, call.lengths[1]!) : 0;
  for (let i = 2; i < call.argc; i++) {
    if (!call.memberFits(i)) return;
    if (memberOf(call, set, i) >= 0) continue;
    keys++;
    bytes += memberCost(call.lengths[i]!, 0);
  }
  if (!call.fits(keys, bytes)) return;
  if (set.count === 0) set.create(ValueType.set);
  let added = 0;
  for (let i = 2; i < call.argc; i++) if (addMember(call, set, i)) added++;
  set.save();
  call.work += call.argc;
  call.out.integer(added);
}

function srem(call: Call): void {
  const set = call.first;
  if (!call.open(set, 1, ValueType.set, true)) return;
  let removed = 0;
  for (let i = 2; i < call.argc; i++) if (removeMember(call, set, i)) removed++;
  set.save();
  call.out.integer(removed);
}

function sismember(call: Call): void {
  if (call.open(call.first, 1, ValueType.set)) call.out.integer(memberOf(call, call.first, 2) < 0 ? 0 : 1);
}

function smismember(call: Call): void {
  if (!call.open(call.first, 1, ValueType.set)) return;
  call.out.array(call.argc - 2);
  for (let i = 2; i < call.argc; i++) call.out.integer(memberOf(call, call.first, i) < 0 ? 0 : 1);
}

function scard(call: Call): void {
  if (call.open(call.first, 1, ValueType.set)) call.out.integer(call.first.count);
}

function smembers(call: Call): void {
  if (!call.open(call.first, 1, ValueType.set)) return;
  call.out.set(call.first.count);
  bulkMembers(call, call.first);
}

function bulkMembers(call: Call, set: Collection): void {
  if (set.count === 0) return;
  call.work += set.count;
  set.seek(0);
  for (let id = set.next(); id >= 0 && !call.out.overflows; id = set.next()) bulkMember(call, set, id);
}

/** SPOP key [count] */
function spop(call: Call): void {
  const { out } = call;
  const set = call.first;
  if (call.argc > 3) return call.error(SYNTAX_ERROR);
  if (call.argc === 2) {
    if (!call.open(set, 1, ValueType.set, true)) return;
    if (set.count === 0) return out.nil();
    const id = randomMember(call, set);
    bulkMember(call, set, id);
    if (out.overflows) return;
    set.removePart(id);
    return set.save();
  }
  const count = call.integer(2);
  if (Number.isNaN(count) || count < 0) return call.error('ERR value is out of range, must be positive');
  if (!call.open(set, 1, ValueType.set, true)) return;
  const wanted = Math.min(count, set.count);
  if (!fewMembers(call, wanted)) return;
  out.set(wanted);
  if (wanted === 0) return;
  if (wanted === set.count) {
    bulkMembers(call, set);
    if (!out.overflows) call.remove(1);
    return;
  }
  // No member is shorter in the answer.
  if (6 * wanted > out.room) return out.overflow(6 * wanted);
  const chosen = randomMembers(call, set, wanted);
  for (const id of chosen) bulkMember(call, set, id);
  if (out.overflows) return;
  for (const id of chosen) set.removePart(id);
  set.save();
}

/** SRANDMEMBER key [count] */
function srandmember(call: Call): void {
  const { out, first } = call;
  if (call.argc > 3) return call.error(SYNTAX_ERROR);
  if (call.argc === 2) return oneRandomMember(call, ValueType.set);
  const exact = call.int64(2);
  if (exact === undefined) return call.error(NOT_AN_INTEGER);
  if (exact === INT64_MIN) return call.error(NOT_A_COUNT);
  const count = Number(exact);
  if (!call.open(first, 1, ValueType.set)) return;
  if (count === 0 || first.count === 0) return out.array(0);
  const wanted = count < 0 ? -count : Math.min(count, first.count);
  if (6 * wanted > out.room) return out.overflow(6 * wanted);
  if (!fewMembers(call, wanted)) return;
  out.array(wanted);
  if (count > 0 && wanted === first.count) return bulkMembers(call, first);
  const chosen = count < 0 ? randomPicks(call, first, wanted) : randomMembers(call, first, wanted);
  for (const id of chosen) bulkMember(call, first, id);
}

/** SMOVE source destination member */
function smove(call: Call): void {
  const { out, first, second } = call;
  if (!call.open(first, 1, ValueType.set, true)) return;
  if (first.count === 0) return out.integer(0);
  if (!call.open(second, 2, ValueType.set, true)) return;
  if (memberOf(call, first, 3) < 0) return out.integer(0);
  if (call.sameArguments(1, 2)) return out.integer(1);
  const isNew = second.count === 0;
  const isThere = memberOf(call, second, 3) >= 0;
  const keys = (isNew ? 1 : 0) - (first.count === 1 ? 1 : 0) - (isThere ? 1 : 0);
  // The member goes from one set to the other.
  if (!call.keyFits(2) || !call.fits(keys, isNew ? keyCost(ValueType.set, call.lengths[2]!) : 0)) return;
  tellAs(call, 'srem');
  removeMember(call, first, 3);
  first.save();
  if (!isThere) {
    tellAs(call, 'sadd');
    if (isNew) second.create(ValueType.set);
    addMember(call, second, 3);
    second.save();
  }
  out.integer(1);
}

type Operator = 'inter' | 'union' | 'diff';

/**
 * The members of the intersection, union or difference of the sets that arguments `from` to `to` name, as strings of
 * bytes. Undefined: an error, which is the answer.
 */
function combine(call: Call, operator: Operator, from: number, to: number): string[] | undefined {
  const set = call.first;
  let members = 0;
  /** The argument of the set that is walked through, and its size; in a union all are. */
  let walked = from;
  let least = Infinity;
  for (let i = from; i < to; i++) {
    if (!call.open(set, i, ValueType.set)) return undefined;
    members += set.count;
    if (set.count >= least || (operator === 'diff' && i > from)) continue;
    walked = i;
    least = set.count;
  }
  // Every member that is walked through is looked for in the other sets.
  if (!fewMembers(call, operator === 'union' ? members : least * (to - from))) return undefined;
  if (operator === 'union') {
    const all = new Set<string>();
    for (let i = from; i < to; i++) for (const member of membersOf(call, i)) all.add(member);
    return [...all];
  }
  let found = membersOf(call, walked);
  for (let i = from; i < to && found.length > 0; i++) {
    if (i === walked) continue;
    call.open(set, i, ValueType.set);
    found = found.filter((member) => {
      writeLatin1(call.value, 0, member);
      const isIn = set.count > 0 && set.find(call.value, 0, member.length) >= 0;
      return isIn === (operator === 'inter');
    });
  }
  return found;
}

function membersOf(call: Call, index: number): string[] {
  const set = call.first;
  const { records } = call.store;
  const members: string[] = [];
  call.open(set, index, ValueType.set);
  if (set.count === 0) return members;
  set.seek(0);
  for (let id = set.next(); id >= 0; id = set.next())
    members.push(latin1(records.valueBytes(id), set.memberOffset(id), set.memberLength(id)));
  return members;
}

function combined(operator: Operator): Handler {
  return (call) => {
    const { out } = call;
    const found = combine(call, operator, 1, call.argc);
    if (found === undefined) return;
    out.set(found.length);
    for (const member of found) out.bulkText(member);
  };
}

/** SINTERSTORE, SUNIONSTORE, SDIFFSTORE destination key … */
function combinedAndStored(operator: Operator): Handler {
  return (call) => {
    const { out } = call;
    const found = combine(call, operator, 2, call.argc);
    if (found === undefined || !call.keyFits(1)) return;
    if (found.length > 0) {
      let bytes = keyCost(ValueType.set, call.lengths[1]!) + KV_ENTRY_OVERHEAD_BYTES;
      for (const member of found) bytes += memberCost(member.length, 0);
      // One more for what is left of a collection that is replaced.
      if (!call.fits(found.length + 2, bytes)) return;
    }
    call.remove(1);
    if (found.length > 0) {
      const set = call.first;
      set.openToChange(call.bytes, call.starts[1]!, call.lengths[1]!);
      set.create(ValueType.set);
      for (const member of found) {
        writeLatin1(call.value, 0, member);
        set.set(call.value, 0, member.length, NO_VALUE, 0, 0);
      }
      set.save();
    }
    out.integer(found.length);
  };
}

/** SINTERCARD numkeys key … [LIMIT n] */
function sintercard(call: Call): void {
  const count = call.integer(1);
  if (Number.isNaN(count) || count < 1) return call.error('ERR numkeys should be greater than 0');
  if (count > call.argc - 2) return call.error("ERR Number of keys can't be greater than number of args");
  let limit = 0;
  for (let i = 2 + count; i < call.argc; i += 2) {
    if (!call.is(i, 'limit') || i + 1 === call.argc) return call.error(SYNTAX_ERROR);
    limit = call.integer(i + 1);
    if (Number.isNaN(limit) || limit < 0) return call.error("ERR LIMIT can't be negative");
  }
  const found = combine(call, 'inter', 2, 2 + count);
  if (found !== undefined) call.out.integer(limit === 0 ? found.length : Math.min(limit, found.length));
}

export const SET_HANDLERS: Readonly<Record<string, Handler>> = {
  sadd,
  srem,
  sismember,
  smismember,
  scard,
  smembers,
  spop,
  srandmember,
  smove,
  sscan: (call) => scanMembers(call, ValueType.set),
  sinter: combined('inter'),
  sunion: combined('union'),
  sdiff: combined('diff'),
  sinterstore: combinedAndStored('inter'),
  sunionstore: combinedAndStored('union'),
  sdiffstore: combinedAndStored('diff'),
  sintercard,
};
