/**
 * Random commands on keys and collections for the tests of the store at level 2: each is executed at a store and at a
 * model, which is plain Maps, and can be executed again at another store.
 */
import { Hold, KEEP_HOLD, PART_FLAG, ValueType } from '../../src/machine/kv-layout.js';
import type { KvStore } from '../../src/machine/kv-store.js';
import {
  ABSENT,
  Collection,
  elementCost,
  keyCost,
  memberCost,
  SCORE_BYTES,
} from '../../src/machine/store/collection.js';

export type Command =
  | { name: 'put'; key: string; value: string; ttl: number | undefined; keep: boolean }
  | { name: 'delete'; key: string }
  | { name: 'setMembers'; type: 1 | 2; key: string; members: readonly (readonly [string, string])[] }
  | { name: 'setScores'; key: string; members: readonly (readonly [string, string])[] }
  | { name: 'removeMembers'; type: 1 | 2 | 4; key: string; members: readonly string[] }
  | { name: 'push'; key: string; front: boolean; values: readonly string[] }
  | { name: 'pop'; key: string; front: boolean; count: number }
  | { name: 'setAt'; key: string; index: number; value: string }
  | { name: 'rename' | 'copy'; key: string; to: string }
  | { name: 'expire'; key: string; ttl: number }
  | { name: 'grant'; ttl: number }
  | { name: 'attach'; key: string; lease: number }
  | { name: 'empty' };

export interface ModelKey {
  readonly type: number;
  readonly value: string | Map<string, string> | string[];
  readonly end: number | undefined;
  readonly lease: number | undefined;
}
/** What is there, without what has ended. */
export type Contents = Map<string, ModelKey>;

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));

export class Runner {
  readonly a: Collection;
  readonly b: Collection;

  constructor(readonly store: KvStore) {
    this.a = new Collection(store);
    this.b = new Collection(store);
  }

  /** Executes entry `index` at an agreed time, ms. Returns what the command says, as a text. */
  run(command: Command, index: number, ms: number): string {
    const { store } = this;
    const ns = BigInt(ms) * 1_000_000n;
    store.entry(index);
    store.advance(Number(BigInt.asIntN(32, ns >> 32n)), Number(BigInt.asIntN(32, ns)));
    return this.#execute(command);
  }

  #execute(command: Command): string {
    const { store, a, b } = this;
    const { records } = store;
    const key = 'key' in command ? bytes(command.key) : bytes('');
    const n = key.length;
    switch (command.name) {
      case 'put': {
        const id = store.findToChange(key, 0, n);
        const value = bytes(command.value);
        const { ttl, keep } = command;
        const kind = keep ? KEEP_HOLD : ttl === undefined ? Hold.none : Hold.until;
        const end = ttl === undefined ? 0 : store.nowMs + ttl;
        return store.put(id, key, 0, n, value, 0, value.length, kind, end) ? 'ok' : 'full';
      }
      case 'delete': {
        const id = store.findToChange(key, 0, n);
        if (id >= 0) store.remove(id, key, 0, n);
        return id >= 0 ? 'ok' : 'absent';
      }
      case 'setMembers': {
        const type = a.openToChange(key, 0, n);
        if (type !== ABSENT && type !== command.type) return 'wrong-type';
        let cost = type === ABSENT ? keyCost(command.type, n) : 0;
        for (const [member, value] of command.members) cost += memberCost(member.length, value.length);
        if (!store.fits(command.members.length + (type === ABSENT ? 1 : 0), cost)) return 'full';
        if (type === ABSENT) a.create(command.type);
        let added = 0;
        for (const [member, value] of command.members)
          if (a.set(bytes(member), 0, member.length, bytes(value), 0, value.length)) added++;
        a.save();
        return String(added);
      }
      case 'setScores': {
        const type = a.openToChange(key, 0, n);
        if (type !== ABSENT && type !== ValueType.zset) return 'wrong-type';
        let cost = type === ABSENT ? keyCost(ValueType.zset, n) : 0;
        for (const [member] of command.members) cost += memberCost(member.length, SCORE_BYTES);
        if (!store.fits(command.members.length + (type === ABSENT ? 1 : 0), cost)) return 'full';
        if (type === ABSENT) a.create(ValueType.zset);
        let added = 0;
        for (const [member, score] of command.members)
          if (a.setScore(bytes(member), 0, member.length, Number(score))) added++;
        a.save();
        return String(added);
      }
      case 'removeMembers': {
        if (a.openToChange(key, 0, n) !== command.type) return 'absent';
        const removed = command.members.filter((member) => a.remove(bytes(member), 0, member.length));
        a.save();
        return String(removed.length);
      }
      case 'push': {
        const type = a.openToChange(key, 0, n);
        if (type !== ABSENT && type !== ValueType.list) return 'wrong-type';
        let cost = type === ABSENT ? keyCost(ValueType.list, n) : 0;
        for (const value of command.values) cost += elementCost(value.length);
        if (!store.fits(command.values.length + 1, cost)) return 'full';
        if (type === ABSENT) a.create(ValueType.list);
        for (const value of command.values) a.push(command.front, bytes(value), 0, value.length);
        a.save();
        return String(a.count);
      }
      case 'pop': {
        if (a.openToChange(key, 0, n) !== ValueType.list) return 'absent';
        let popped = 0;
        for (; popped < command.count && a.count > 0; popped++) a.pop(command.front);
        a.save();
        return String(popped);
      }
      case 'setAt': {
        if (a.openToChange(key, 0, n) !== ValueType.list || command.index >= a.count) return 'absent';
        const before = records.valueLength(a.at(command.index));
        if (!store.fits(0, command.value.length - before)) return 'full';
        a.setAt(command.index, bytes(command.value), 0, command.value.length);
        a.save();
        return 'ok';
      }
      case 'rename': {
        const to = bytes(command.to);
        const id = store.findToChange(key, 0, n);
        if (id < 0 || command.to === command.key) return 'absent';
        const toId = store.findToChange(to, 0, to.length);
        const value = records.valueLength(id);
        const keys = store.keysAdded(toId) - 1;
        if (!store.fits(keys, store.bytesAdded(toId, to.length, value) - 32 - n - value)) return 'full';
        store.move(id, key, 0, n, toId, to, 0, to.length);
        return 'ok';
      }
      case 'copy': {
        const to = bytes(command.to);
        const type = a.openToChange(key, 0, n);
        if (type < 1 || store.findToChange(to, 0, to.length) >= 0) return 'absent';
        b.openToChange(to, 0, to.length);
        let cost = keyCost(type, to.length);
        if (type === ValueType.list)
          for (let i = 0; i < a.count; i++) cost += elementCost(records.valueLength(a.at(i)));
        else {
          a.seek(0);
          for (let id = a.next(); id >= 0; id = a.next())
            cost += memberCost(a.memberLength(id), records.valueLength(id));
        }
        if (!store.fits(a.count + 1, cost)) return 'full';
        b.create(type);
        b.copyFrom(a);
        b.save();
        const kind = records.holdKind(a.id);
        if (kind !== Hold.none) store.setHold(b.id, to, 0, to.length, kind, records.hold(a.id));
        return 'ok';
      }
      case 'expire': {
        const id = store.findToChange(key, 0, n);
        if (id >= 0) store.setHold(id, key, 0, n, Hold.until, store.nowMs + command.ttl);
        return id >= 0 ? 'ok' : 'absent';
      }
      case 'grant':
        return `lease ${store.grant(command.ttl)}`;
      case 'attach': {
        const id = store.findToChange(key, 0, n);
        if (id < 0 || !store.hasLease(command.lease)) return 'absent';
        store.setHold(id, key, 0, n, Hold.lease, command.lease);
        return 'ok';
      }
      case 'empty':
        store.empty();
        return 'ok';
    }
  }
}

/** What the command does to the contents, given what the store said. */
export function executeAtModel(
  model: Contents,
  leases: Map<number, number>,
  command: Command,
  said: string,
  now: number,
): string {
  for (const [key, { end, lease }] of model)
    if ((lease === undefined ? (end ?? Infinity) : (leases.get(lease) ?? 0)) <= now) model.delete(key);
  if (said === 'full') return said;
  const { name } = command;
  if (name === 'empty') {
    model.clear();
    return 'ok';
  }
  if (name === 'grant') {
    const number = Number(said.slice(6));
    if (number >= 0) leases.set(number, now + command.ttl);
    return said;
  }
  const { key } = command;
  const found = model.get(key);
  const { end, lease } = found ?? { end: undefined, lease: undefined };
  switch (name) {
    case 'put': {
      const hold = command.keep ? { end, lease } : { end: undefined, lease: undefined };
      const own = command.ttl === undefined || command.keep ? hold : { end: now + command.ttl, lease: undefined };
      model.set(key, { type: 0, value: command.value, ...own });
      return 'ok';
    }
    case 'delete':
      return model.delete(key) ? 'ok' : 'absent';
    case 'setMembers':
    case 'setScores': {
      const type = name === 'setMembers' ? command.type : ValueType.zset;
      if (found !== undefined && found.type !== type) return 'wrong-type';
      const members = (found?.value ?? new Map()) as Map<string, string>;
      const before = members.size;
      for (const [member, value] of command.members) members.set(member, value);
      model.set(key, { type, value: members, end, lease });
      return String(members.size - before);
    }
    case 'removeMembers': {
      if (found?.type !== command.type) return 'absent';
      const members = found.value as Map<string, string>;
      const removed = command.members.filter((member) => members.delete(member));
      if (members.size === 0) model.delete(key);
      return String(removed.length);
    }
    case 'push': {
      if (found !== undefined && found.type !== ValueType.list) return 'wrong-type';
      const list = (found?.value ?? []) as string[];
      for (const value of command.values) {
        if (command.front) list.unshift(value);
        else list.push(value);
      }
      model.set(key, { type: ValueType.list, value: list, end, lease });
      return String(list.length);
    }
    case 'pop': {
      if (found?.type !== ValueType.list) return 'absent';
      const list = found.value as string[];
      const popped = command.front ? list.splice(0, command.count) : list.splice(-command.count);
      if (list.length === 0) model.delete(key);
      return String(popped.length);
    }
    case 'setAt': {
      const list = found?.value as string[];
      if (found?.type !== ValueType.list || command.index >= list.length) return 'absent';
      list[command.index] = command.value;
      return 'ok';
    }
    case 'rename':
      if (found === undefined || command.to === key) return 'absent';
      model.delete(key);
      model.set(command.to, found);
      return 'ok';
    case 'copy': {
      if (found === undefined || found.type === 0 || model.has(command.to)) return 'absent';
      const { value } = found;
      model.set(command.to, {
        ...found,
        value: Array.isArray(value) ? [...value] : new Map(value as Map<string, string>),
      });
      return 'ok';
    }
    case 'expire':
      if (found === undefined) return 'absent';
      model.set(key, { ...found, end: now + command.ttl, lease: undefined });
      return 'ok';
    case 'attach':
      if (found === undefined || (leases.get(command.lease) ?? 0) <= now) return 'absent';
      model.set(key, { ...found, end: undefined, lease: command.lease });
      return 'ok';
  }
}

/** All that a store shows, in the shape of the model, members in order. */
export function contentsOf(store: KvStore): Record<string, unknown> {
  const text = (array: Uint8Array, offset: number, length: number): string =>
    Buffer.from(array.subarray(offset, offset + length)).toString('latin1');
  const { records } = store;
  const shown: Record<string, unknown> = {};
  const cursor = { block: 0, position: 0 };
  store.seek(new Uint8Array(0), 0, 0, cursor);
  const open = new Collection(store);
  const valueText = (id: number): string =>
    text(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
  for (let id = store.next(cursor); id >= 0; id = store.next(cursor)) {
    if (store.hasEnded(id)) continue;
    const key = text(records.valueBytes(id), records.keyOffset(id), records.keyBytes(id));
    const type = open.open(bytes(key), 0, key.length);
    if (type === ValueType.string) shown[key] = valueText(id);
    else if (type === ValueType.list) shown[key] = Array.from({ length: open.count }, (_, i) => valueText(open.at(i)));
    else {
      const members: Record<string, string> = {};
      open.seek(0);
      for (let part = open.next(); part >= 0; part = open.next()) {
        const member = text(records.valueBytes(part), open.memberOffset(part), open.memberLength(part));
        members[member] = `${type} ${type === ValueType.zset ? open.scoreOf(part) : valueText(part)}`;
        if (open.find(bytes(member), 0, member.length) !== part) throw new Error(`member ${member} is not found`);
      }
      if (type === ValueType.zset) checkRanks(open, records, key);
      if (Object.keys(members).length !== open.count) throw new Error(`${key} has not ${open.count} members`);
      shown[key] = members;
    }
  }
  return shown;
}

/** A sorted set is walked through by score, and each member has the rank at which it comes. */
function checkRanks(open: Collection, records: KvStore['records'], key: string): void {
  const walked: [number, string][] = [];
  open.seekRank(0);
  for (let rank = 0; rank < open.count; rank++) {
    const part = open.nextByScore(false);
    if (open.rankOf(part) !== rank) throw new Error(`${key}: rank ${open.rankOf(part)} comes as ${rank}`);
    const from = open.memberOffset(part);
    const member = Buffer.from(records.valueBytes(part).subarray(from, from + open.memberLength(part)));
    walked.push([open.scoreOf(part), member.toString('latin1')]);
  }
  const isSorted = walked.every(([score, member], i) => {
    const [before, other] = walked[i - 1] ?? [-Infinity, ''];
    return i === 0 || before < score || (before === score && other < member);
  });
  if (!isSorted) throw new Error(`${key} is not in the order of scores`);
}

/** The same of a model. */
export function contentsOfModel(
  model: Contents,
  leases: ReadonlyMap<number, number>,
  now: number,
): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [key, { type, value, end, lease }] of model) {
    if ((lease === undefined ? (end ?? Infinity) : (leases.get(lease) ?? 0)) <= now) continue;
    shown[key] =
      value instanceof Map ? Object.fromEntries([...value].map(([member, of]) => [member, `${type} ${of}`])) : value;
  }
  return shown;
}

export function aCommand(random: (n: number) => number, keys: number, leases: readonly number[]): Command {
  const key = (): string => `key ${random(keys)}`;
  const value = (): string => String.fromCharCode(random(256)).repeat(random(20) === 0 ? random(3000) : random(40));
  const member = (): string => `m${random(random(4) === 0 ? 400 : 12)}`;
  const type = (1 + random(2)) as 1 | 2;
  const score = (): string => String(random(3) === 0 ? (random(2000) - 1000) / 8 : random(5));
  const many = random(12) === 0 ? 1 + random(200) : 1 + random(4);
  const some = <T>(one: () => T): T[] => Array.from({ length: many }, one);
  switch (random(26)) {
    case 0:
    case 1:
    case 2:
      return {
        name: 'put',
        key: key(),
        value: value(),
        ttl: random(3) === 0 ? 1 + random(200) : undefined,
        keep: random(4) === 0,
      };
    case 3:
    case 4:
      return { name: 'delete', key: key() };
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
      if (random(3) === 0) return { name: 'setScores', key: key(), members: some(() => [member(), score()] as const) };
      return {
        name: 'setMembers',
        type,
        key: key(),
        members: some(() => [member(), type === ValueType.set ? '' : value()] as const),
      };
    case 11:
    case 12:
    case 13:
      return { name: 'removeMembers', type: random(3) === 0 ? 4 : type, key: key(), members: some(member) };
    case 14:
    case 15:
    case 16:
      return { name: 'push', key: key(), front: random(2) === 0, values: some(value) };
    case 17:
    case 18:
      return { name: 'pop', key: key(), front: random(2) === 0, count: many };
    case 19:
      return { name: 'setAt', key: key(), index: random(6), value: value() };
    case 20:
    case 21:
      return { name: random(3) === 0 ? 'copy' : 'rename', key: key(), to: key() };
    case 22:
    case 23:
      return { name: 'expire', key: key(), ttl: 1 + random(300) };
    case 24:
      return { name: 'attach', key: key(), lease: leases[Math.max(0, leases.length - 1 - random(5))] ?? 1 };
    default:
      return random(4) === 0 ? { name: 'empty' } : { name: 'grant', ttl: 1 + random(400) };
  }
}

/** How many graves and other parts a snapshot of level 2 has. */
export function partsIn(snapshot: Uint8Array): { readonly parts: number; readonly graves: number } {
  const at = (offset: number): number => Buffer.from(snapshot.buffer, snapshot.byteOffset).readUInt32BE(offset);
  const parts = at(32);
  let offset = 36 + at(12) * 24;
  let graves = 0;
  for (let i = 0; i < at(4); i++) {
    const nameLength = (at(offset) >>> 16) & 0xffff;
    const isPart = (nameLength & PART_FLAG) !== 0;
    if (isPart && snapshot[offset + 4] === 0) graves++;
    offset += (isPart ? 4 : 20) + (nameLength & ~PART_FLAG) + (at(offset) & 0xffff);
  }
  return { parts: parts - graves, graves };
}
