/**
 * A hash, a set, a sorted set or a list of the store while a command reads or changes it. parts.ts shows what the store keeps of it.
 *
 *     if (set.openToChange(bytes, key, keyLength) === ABSENT) set.create(ValueType.set);
 *     set.set(bytes, member, memberLength, bytes, 0, 0);
 *     set.save();
 *
 * The rules. `save` follows every change, before the operation ends: it gives the key one revision, however much was
 * changed, and removes the key of a collection that has become empty. Nothing here looks at the limits: the caller asks
 * `KvStore.fits` before its first change. Between opening and saving, nothing else changes the same key. What a method
 * returns is the entry id of a part in `KvStore.records`; it is valid until that part is removed.
 */
import { ValueType, KV_ENTRY_OVERHEAD_BYTES, KV_KEY_BYTES_MAX, PART_FLAG } from '../kv-layout.js';
import type { KvStore } from '../kv-store.js';
import type { OrderCursor } from '../kv-order.js';
import { copyBytes } from '../../wire/copy.js';
import { readI32, writeI32, writeIndex } from '../../wire/u64.js';
import {
  COLLECTION_BYTES_MAX,
  collectionBytes,
  ELEMENT_NAME_BYTES,
  FIRST_POSITION,
  GRAVE_NAME_BYTES,
  MEMBER_BYTES_MAX,
  MEMBER_NAME_BYTES,
  memberHash,
  partKindOf,
  readCollection,
  readGeneration,
  readScore,
  SCORE_BYTES,
  writeCollection,
  writeGeneration,
  writeScore,
} from './parts.js';
import { RankCursor } from './rank-order.js';

export { MEMBER_BYTES_MAX, SCORE_BYTES } from './parts.js';

/** Instead of a type: there is no such key. */
export const ABSENT = -1;

/** What the key of a new collection counts as towards `maxBytes`, and as one key. */
export function keyCost(type: number, keyLength: number): number {
  return KV_ENTRY_OVERHEAD_BYTES + keyLength + collectionBytes(type);
}

/** What a new member counts as towards `maxBytes`, and as one key. @param valueLength 0 in a set, SCORE_BYTES in a sorted set */
export function memberCost(memberLength: number, valueLength: number): number {
  return KV_ENTRY_OVERHEAD_BYTES + MEMBER_NAME_BYTES + memberLength + valueLength;
}

/** What a new element of a list counts as towards `maxBytes`, and as one key. */
export function elementCost(valueLength: number): number {
  return KV_ENTRY_OVERHEAD_BYTES + ELEMENT_NAME_BYTES + valueLength;
}

export class Collection {
  /** Of ValueType, or ABSENT. */
  type: number = ABSENT;
  /** Members or elements. */
  count = 0;
  /** Entry id of the key, or -1. */
  id = -1;
  readonly #store: KvStore;
  #key: Uint8Array = new Uint8Array(0);
  #keyOffset = 0;
  #keyLength = 0;
  #isChanged = false;
  readonly #head = { generation: 0, count: 0, first: 0 };
  readonly #value = new Uint8Array(COLLECTION_BYTES_MAX);
  /** Of a part; it begins with the generation. */
  readonly #name = new Uint8Array(KV_KEY_BYTES_MAX);
  readonly #cursor: OrderCursor = { block: 0, position: 0 };
  readonly #rankCursor = new RankCursor();
  readonly #score = new Uint8Array(SCORE_BYTES);

  constructor(store: KvStore) {
    this.#store = store;
  }

  /** Opens what a key holds, for reading. Returns its type; a string has no members. The key's bytes must stay there. */
  open(key: Uint8Array, offset: number, length: number): number {
    return this.#opened(this.#store.find(key, offset, length), key, offset, length);
  }

  /** The same to change it: a key that has ended is removed at once. */
  openToChange(key: Uint8Array, offset: number, length: number): number {
    return this.#opened(this.#store.findToChange(key, offset, length), key, offset, length);
  }

  #opened(id: number, key: Uint8Array, offset: number, length: number): number {
    const { records } = this.#store;
    this.id = id;
    this.#key = key;
    this.#keyOffset = offset;
    this.#keyLength = length;
    this.#isChanged = false;
    this.count = 0;
    this.type = id < 0 ? ABSENT : records.type(id);
    if (this.type > ValueType.string) {
      readCollection(records.valueBytes(id), records.valueOffset(id), this.type, this.#head);
      this.count = this.#head.count;
      writeGeneration(this.#name, partKindOf(this.type), this.#head.generation);
    }
    return this.type;
  }

  /** The key that was opened was absent; or it has been removed from the store since. */
  create(type: number): void {
    this.id = -1;
    this.type = type;
    this.count = 0;
    this.#head.generation = this.#store.takeNumber();
    this.#head.first = FIRST_POSITION;
    writeGeneration(this.#name, partKindOf(type), this.#head.generation);
  }

  /** Gives the key its new revision, or removes it if nothing is left. Without a change since it was opened: nothing. */
  save(): void {
    if (!this.#isChanged) return;
    this.#isChanged = false;
    const store = this.#store;
    if (this.count === 0) {
      if (this.id >= 0) store.removeEmpty(this.id, this.#key, this.#keyOffset, this.#keyLength);
      this.id = -1;
      this.type = ABSENT;
      return;
    }
    this.#head.count = this.count;
    const length = writeCollection(this.#value, this.type, this.#head);
    this.id = store.setCollection(this.id, this.#key, this.#keyOffset, this.#keyLength, this.type, this.#value, length);
  }

  // Of hashes, sets and sorted sets.

  /** The member's part, or -1. */
  find(member: Uint8Array, offset: number, length: number): number {
    if (length > MEMBER_BYTES_MAX) return -1;
    return this.#store.findPart(this.#name, this.#nameMember(member, offset, length));
  }

  /**
   * Adds a member of at most MEMBER_BYTES_MAX bytes, or writes the value of one that is there. True if it was added. In a
   * set the value has no bytes; a member that is there already is then no change.
   */
  set(
    member: Uint8Array,
    offset: number,
    length: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): boolean {
    const nameLength = this.#nameMember(member, offset, length);
    const id = this.#store.findPart(this.#name, nameLength);
    if (id >= 0 && this.type === ValueType.set) return false;
    this.#store.setPart(id, this.#name, nameLength, value, valueOffset, valueLength);
    if (id < 0) this.count++;
    this.#isChanged = true;
    return id < 0;
  }

  /** False if it was not there. */
  remove(member: Uint8Array, offset: number, length: number): boolean {
    const id = this.find(member, offset, length);
    if (id < 0) return false;
    this.removePart(id);
    return true;
  }

  /** Removes a member that was found, by its part. */
  removePart(id: number): void {
    const { records } = this.#store;
    const nameLength = records.keyBytes(id);
    copyBytes(records.valueBytes(id), records.keyOffset(id), this.#name, 0, nameLength);
    this.#store.removePart(id, this.#name, 0, nameLength | PART_FLAG);
    this.count--;
    this.#isChanged = true;
  }

  /**
   * Sets the walk to the first member with this hash, 0 to 2³² − 1, or a higher one. Members are walked through in the
   * order of (hash, member). Valid until the next change of the store.
   */
  seek(hash: number): void {
    writeI32(this.#name, GRAVE_NAME_BYTES, hash | 0);
    this.#store.seek(this.#name, 0, MEMBER_NAME_BYTES | PART_FLAG, this.#cursor);
  }

  /** The member's part at the walk, which moves on by one; -1 at the end. */
  next(): number {
    const { records } = this.#store;
    const id = this.#store.nextPart(this.#cursor);
    if (id < 0) return -1;
    const generation = readGeneration(records.valueBytes(id), records.keyOffset(id));
    return generation === this.#head.generation ? id : -1;
  }

  /** A member; -1 if there is none. @param random 0 to 2³² − 1 */
  random(random: number): number {
    this.seek(random);
    const id = this.next();
    if (id >= 0) return id;
    this.seek(0);
    return this.next();
  }

  hashOf(id: number): number {
    const { records } = this.#store;
    return readI32(records.valueBytes(id), records.keyOffset(id) + GRAVE_NAME_BYTES) >>> 0;
  }

  memberLength(id: number): number {
    return this.#store.records.keyBytes(id) - MEMBER_NAME_BYTES;
  }

  /** Where the member begins in `records.valueBytes(id)`. */
  memberOffset(id: number): number {
    return this.#store.records.keyOffset(id) + MEMBER_NAME_BYTES;
  }

  // Of sorted sets. Ranks count from 0, from the lowest score on; members of one score are in the order of their bytes.

  /** Adds a member of at most MEMBER_BYTES_MAX bytes, or gives it another score, which is not NaN. True if it was added. */
  setScore(member: Uint8Array, offset: number, length: number, score: number): boolean {
    writeScore(this.#score, 0, score);
    return this.set(member, offset, length, this.#score, 0, SCORE_BYTES);
  }

  scoreOf(id: number): number {
    const { records } = this.#store;
    return readScore(records.valueBytes(id), records.valueOffset(id));
  }

  rankOf(id: number): number {
    return this.#store.ranks.before(id) - this.#begin;
  }

  /** How many members have a lower score; with `orEqual`, or the same. */
  rankOfScore(score: number, orEqual: boolean): number {
    return this.#store.ranks.beforeScore(this.#head.generation, score, orEqual) - this.#begin;
  }

  /** How many members are below one of this score, which need not be there; with `orEqual`, or the same. */
  rankOfMember(score: number, member: Uint8Array, offset: number, length: number, orEqual: boolean): number {
    const { ranks } = this.#store;
    return ranks.beforeMember(this.#head.generation, score, member, offset, length, orEqual) - this.#begin;
  }

  /** Sets the walk by score to a rank below `count`. It is valid until the next change of the store. */
  seekRank(rank: number): void {
    this.#store.ranks.seek(this.#begin + rank, this.#rankCursor);
  }

  /** The part at the walk by score, which moves on, or back, by one. The caller counts: behind the last one are others. */
  nextByScore(isBack: boolean): number {
    return this.#store.ranks.next(this.#rankCursor, isBack);
  }

  get #begin(): number {
    return this.#store.ranks.beforeSet(this.#head.generation, false);
  }

  // Of lists.

  /** The element's part at an index from 0 to `count` − 1; -1: there is none. */
  at(index: number): number {
    if (index < 0 || index >= this.count) return -1;
    return this.#store.findPart(this.#name, this.#nameElement(this.#head.first + index));
  }

  push(isFront: boolean, value: Uint8Array, offset: number, length: number): void {
    const position = isFront ? --this.#head.first : this.#head.first + this.count;
    this.#store.setPart(-1, this.#name, this.#nameElement(position), value, offset, length);
    this.count++;
    this.#isChanged = true;
  }

  /** Removes an element at an end; the list has one. */
  pop(isFront: boolean): void {
    const id = this.at(isFront ? 0 : this.count - 1);
    if (isFront) this.#head.first++;
    this.removePart(id);
  }

  /** Writes the element at an index from 0 to `count` − 1. */
  setAt(index: number, value: Uint8Array, offset: number, length: number): void {
    const id = this.at(index);
    this.#store.setPart(id, this.#name, ELEMENT_NAME_BYTES | PART_FLAG, value, offset, length);
    this.#isChanged = true;
  }

  /**
   * Adds all parts of another collection of the same type to this one, which was just created. How many that may be is
   * for the caller to say.
   */
  copyFrom(source: Collection): void {
    const { records } = this.#store;
    const ids: number[] = [];
    if (this.type === ValueType.list) for (let i = 0; i < source.count; i++) ids.push(source.at(i));
    else {
      source.seek(0);
      for (let id = source.next(); id >= 0; id = source.next()) ids.push(id);
    }
    for (const id of ids) {
      // The heap may move a record while another is added, but not before that is written.
      const bytes = records.valueBytes(id);
      const value = records.valueOffset(id);
      if (this.type === ValueType.list) this.push(false, bytes, value, records.valueLength(id));
      else this.set(bytes, this.memberOffset(id), this.memberLength(id), bytes, value, records.valueLength(id));
    }
  }

  #nameMember(member: Uint8Array, offset: number, length: number): number {
    writeI32(this.#name, GRAVE_NAME_BYTES, memberHash(member, offset, length) | 0);
    copyBytes(member, offset, this.#name, MEMBER_NAME_BYTES, length);
    return (MEMBER_NAME_BYTES + length) | PART_FLAG;
  }

  #nameElement(position: number): number {
    writeIndex(this.#name, GRAVE_NAME_BYTES, position);
    return ELEMENT_NAME_BYTES | PART_FLAG;
  }
}
