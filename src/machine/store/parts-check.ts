/**
 * Checks the collections of a snapshot while it is read: every part belongs to a collection or to a grave, and every
 * collection has all of its parts. Keys come first, then graves, then the parts of one generation after the other.
 */
import { KV_VALUE_BYTES_MAX, ValueType } from '../kv-layout.js';
import {
  collectionBytes,
  COUNT_MAX,
  ELEMENT_NAME_BYTES,
  FIRST_POSITION,
  GRAVE_NAME_BYTES,
  MEMBER_NAME_BYTES,
  memberHash,
  PartKind,
  partKindOf,
  readCollection,
  readGeneration,
  readScore,
  SCORE_BYTES,
} from './parts.js';
import { readI32, readIndex } from '../../wire/u64.js';

interface Expected {
  readonly generation: number;
  /** A collection's type; undefined: it is gone, and a grave stands for it. */
  readonly type: number | undefined;
  readonly count: number;
  readonly first: number;
}

export class PartsCheck {
  /** By generation. */
  readonly #expected = new Map<number, Expected>();
  /** Collections whose parts have not all come. */
  #unfinished = 0;
  /** The one whose parts are coming, and how many have come. */
  #present: Expected | undefined;
  #come = 0;

  /** What the key of a collection says. False if that cannot be. @param revision of the store */
  collection(bytes: Uint8Array, value: number, valueLength: number, type: number, revision: number): boolean {
    if (collectionBytes(type) === 0 || collectionBytes(type) !== valueLength) return false;
    const head = { generation: 0, count: 0, first: 0 };
    readCollection(bytes, value, type, head);
    const { generation, count, first } = head;
    const isInBounds = first >= 0 && first + count <= 2 * FIRST_POSITION;
    if (!this.#isNew(generation, revision) || count < 1 || count > COUNT_MAX || !isInBounds) return false;
    this.#expected.set(generation, { generation, type, count, first });
    this.#unfinished++;
    return true;
  }

  /** A grave, or a part of a collection. False if there can be none such. */
  part(bytes: Uint8Array, name: number, nameBytes: number, valueLength: number, revision: number): boolean {
    const generation = readGeneration(bytes, name);
    if (bytes[name] === PartKind.grave) {
      if (nameBytes !== GRAVE_NAME_BYTES || valueLength !== 0 || !this.#isNew(generation, revision)) return false;
      this.#expected.set(generation, { generation, type: undefined, count: 0, first: 0 });
      return true;
    }
    const kind = bytes[name];
    if ((kind !== PartKind.living && kind !== PartKind.ranked) || nameBytes < MEMBER_NAME_BYTES) return false;
    // Its rank is found by its score, in whatever is left of a set.
    if (kind === PartKind.ranked && !isScore(bytes, name + nameBytes, valueLength)) return false;
    if (this.#present?.generation !== generation) {
      if (this.#present?.type !== undefined && this.#come !== this.#present.count) return false;
      this.#present = this.#expected.get(generation);
      this.#come = 0;
    }
    const present = this.#present;
    if (present === undefined || (present.type !== undefined && kind !== partKindOf(present.type))) return false;
    if (++this.#come === present.count && present.type !== undefined) this.#unfinished--;
    switch (present.type) {
      case undefined:
        return true;
      case ValueType.list: {
        const position = readIndex(bytes, name + GRAVE_NAME_BYTES);
        return (
          nameBytes === ELEMENT_NAME_BYTES && position >= present.first && position < present.first + present.count
        );
      }
      default: {
        const hash = readI32(bytes, name + GRAVE_NAME_BYTES) >>> 0;
        const own = memberHash(bytes, name + MEMBER_NAME_BYTES, nameBytes - MEMBER_NAME_BYTES);
        return hash === own && valueLength <= (present.type === ValueType.set ? 0 : KV_VALUE_BYTES_MAX);
      }
    }
  }

  /** Once everything has come: what is wrong, if something is. */
  missing(): string | undefined {
    const isMore = this.#present?.type !== undefined && this.#come > this.#present.count;
    return this.#unfinished > 0 || isMore ? 'its collections do not have the parts that their keys say' : undefined;
  }

  #isNew(generation: number, revision: number): boolean {
    return generation >= 1 && generation <= revision && !this.#expected.has(generation);
  }
}

function isScore(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length !== SCORE_BYTES) return false;
  const score = readScore(bytes, offset);
  return !Number.isNaN(score) && !Object.is(score, -0);
}
