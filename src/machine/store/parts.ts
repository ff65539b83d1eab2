/**
 * The names of parts: what a store holds besides keys. The members of a hash, a set or a sorted set, and the elements of
 * a list, are parts of it, with names behind all keys (kv-layout.ts, PART_FLAG). A grave is a part, too: it stands for a collection
 * whose key is gone, and whose parts are removed a little at a time.
 *
 *     grave    | 0 | generation u56 |
 *     member   | 1 | generation u56 | hash of the member u32 | member |   its value: that of the field; nothing in a set
 *     ranked   | 2 | generation u56 | hash of the member u32 | member |   its value: the score in the sorted set f64
 *     element  | 1 | generation u56 | position u64 |                      its value: the element
 *     value of the collection's key | generation u64 | count u32 |, and of a list | position of its first element u64 |
 *
 * A generation is a number that the store gave once, to one collection, so that the parts of a collection that is gone
 * are never taken for those of another. Numbers are big-endian, so that parts lie in the order of hashes or positions.
 * Members of sorted sets have a kind of their own, which tells that they are also in the order of scores (rank-order.ts).
 */
import { readI32, readIndex, writeI32, writeIndex } from '../../wire/u64.js';
import { hashBytes } from '../bytes.js';
import { KV_ENTRY_OVERHEAD_BYTES, KV_KEY_BYTES_MAX, ValueType } from '../kv-layout.js';

export const PartKind = { grave: 0, living: 1, ranked: 2 } as const;

export const GRAVE_NAME_BYTES = 8;
/** Before the member. */
export const MEMBER_NAME_BYTES = 12;
export const ELEMENT_NAME_BYTES = 16;
/** Longest member of a hash or a set. */
export const MEMBER_BYTES_MAX = KV_KEY_BYTES_MAX - MEMBER_NAME_BYTES;
/** What a grave counts as towards `maxBytes`. It takes the place of a key. */
export const GRAVE_BYTES = KV_ENTRY_OVERHEAD_BYTES + GRAVE_NAME_BYTES;

export const SCORE_BYTES = 8;
const COLLECTION_BYTES = 12;
const LIST_BYTES = 20;
export const COLLECTION_BYTES_MAX = LIST_BYTES;
/** Position of the first element of a new list: there is room for 2⁵² pushes at both ends. */
export const FIRST_POSITION = 2 ** 52;
export const COUNT_MAX = 0xffffffff;

const TWO_32 = 4294967296;
const MEMBER_SEED = 0x6d656d62;

/** Length of the value of a collection's key; 0: there is no such type of collection. */
export function collectionBytes(type: number): number {
  return type === ValueType.list
    ? LIST_BYTES
    : type === ValueType.hash || type === ValueType.set || type === ValueType.zset
      ? COLLECTION_BYTES
      : 0;
}

/** The kind of the parts of a collection of this type. */
export function partKindOf(type: number): number {
  return type === ValueType.zset ? PartKind.ranked : PartKind.living;
}

const double = new Float64Array(1);
const halves = new Int32Array(double.buffer);
/** Which half of a double comes first in this process. */
const UPPER = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 1 : 0;

export function readScore(bytes: Uint8Array, offset: number): number {
  halves[UPPER] = readI32(bytes, offset);
  halves[1 - UPPER] = readI32(bytes, offset + 4);
  return double[0]!;
}

/** Writes SCORE_BYTES. A score is not NaN; minus zero becomes zero, so that equal scores have equal bytes. */
export function writeScore(bytes: Uint8Array, offset: number, score: number): void {
  double[0] = score + 0;
  writeI32(bytes, offset, halves[UPPER]!);
  writeI32(bytes, offset + 4, halves[1 - UPPER]!);
}

/** Writes what all names of a generation begin with: GRAVE_NAME_BYTES. */
export function writeGeneration(name: Uint8Array, kind: number, generation: number): void {
  writeIndex(name, 0, generation);
  name[0] = kind;
}

/** Of a name, whatever its kind. */
export function readGeneration(name: Uint8Array, offset: number): number {
  return (readI32(name, offset) & 0xffffff) * TWO_32 + (readI32(name, offset + 4) >>> 0);
}

/** The hash that a collection's members are in the order of, 0 to 2³² − 1. */
export function memberHash(member: Uint8Array, offset: number, length: number): number {
  return hashBytes(member, offset, length, MEMBER_SEED) >>> 0;
}

/** What the key of a collection says of it. */
export interface CollectionHead {
  generation: number;
  count: number;
  /** Position of the first element of a list. */
  first: number;
}

/** Writes the value of the key; returns its length. */
export function writeCollection(target: Uint8Array, type: number, head: CollectionHead): number {
  writeIndex(target, 0, head.generation);
  writeI32(target, 8, head.count);
  if (type === ValueType.list) writeIndex(target, COLLECTION_BYTES, head.first);
  return collectionBytes(type);
}

export function readCollection(source: Uint8Array, offset: number, type: number, head: CollectionHead): void {
  head.generation = readIndex(source, offset);
  head.count = readI32(source, offset + 8) >>> 0;
  head.first = type === ValueType.list ? readIndex(source, offset + COLLECTION_BYTES) : 0;
}
