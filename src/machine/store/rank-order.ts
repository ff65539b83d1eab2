/**
 * The members of all sorted sets in the order of (generation, score, member), with their ranks. The order is not part of
 * snapshots: it follows from the parts that are in the heap (parts.ts), as the order of keys does.
 *
 * A tree of sorted blocks of entry ids. Every node knows how many ids are below it, so a position is found, and the id at
 * a position, in one way down: at most some hundred additions at each of at most four levels. A node that is full splits,
 * and neighbours merge that together fill less than half of one. One change moves at most one block's ids.
 *
 * The rule: an id is in the order from when its part is added until it is removed; its score changes only while it is out.
 */
import { compareBytes } from '../bytes.js';
import type { RecordHeap } from '../kv-heap.js';
import { MEMBER_NAME_BYTES, readGeneration, readScore } from './parts.js';

const LEAF_IDS_MAX = 256;
const CHILDREN_MAX = 128;

class Leaf {
  readonly ids = new Int32Array(LEAF_IDS_MAX);
  count = 0;
  previous: Leaf | undefined;
  next: Leaf | undefined;

  get lowest(): number {
    return this.ids[0]!;
  }
}

class Inner {
  readonly children: (Leaf | Inner)[] = [];
  /** Ids below it. */
  count = 0;
  /** The first one of them. */
  lowest = -1;
}

type Node = Leaf | Inner;

/** A place in the order. Valid until the next change of the store. */
export class RankCursor {
  leaf: Leaf | undefined;
  at = 0;
}

/** How much of the sought entry is compared. */
const Depth = { generation: 1, score: 2, member: 3 } as const;

export class RankOrder {
  readonly #heap: RecordHeap;
  #root: Node | undefined;
  // What is sought.
  #depth: number = Depth.generation;
  #generation = 0;
  #score = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #offset = 0;
  #length = 0;

  constructor(heap: RecordHeap) {
    this.#heap = heap;
  }

  /** Adds the part of a member. */
  insert(id: number): void {
    this.#seekEntry(id);
    if (this.#root === undefined) {
      this.#root = new Leaf();
      this.#root.ids[0] = id;
      this.#root.count = 1;
      return;
    }
    const split = this.#insertInto(this.#root, id);
    if (split !== undefined) this.#root = parentOf(this.#root, split);
  }

  /** Takes the part of a member out, which must still be in the heap as it was when it was added. */
  remove(id: number): void {
    this.#seekEntry(id);
    const root = this.#root!;
    this.#removeFrom(root);
    if (root.count === 0) this.#root = undefined;
    else if (root instanceof Inner && root.children.length === 1) this.#root = root.children[0];
  }

  /** How many members there are below the sorted set of this generation; with `orAt`, those of it, too. */
  beforeSet(generation: number, orAt: boolean): number {
    this.#depth = Depth.generation;
    this.#generation = generation;
    return this.#positionOf(orAt);
  }

  /** The same for a score in that set. */
  beforeScore(generation: number, score: number, orAt: boolean): number {
    this.#depth = Depth.score;
    this.#generation = generation;
    this.#score = score;
    return this.#positionOf(orAt);
  }

  /** The same for a member of this score. */
  beforeMember(
    generation: number,
    score: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    orAt: boolean,
  ): number {
    this.#depth = Depth.member;
    this.#generation = generation;
    this.#score = score;
    this.#bytes = bytes;
    this.#offset = offset;
    this.#length = length;
    return this.#positionOf(orAt);
  }

  /** The position of a part. */
  before(id: number): number {
    this.#seekEntry(id);
    return this.#positionOf(false);
  }

  /** Sets the cursor to a position, at which there is a part. */
  seek(position: number, cursor: RankCursor): void {
    let node = this.#root!;
    let left = position;
    while (node instanceof Inner) {
      let i = 0;
      for (; left >= node.children[i]!.count; i++) left -= node.children[i]!.count;
      node = node.children[i]!;
    }
    cursor.leaf = node;
    cursor.at = left;
  }

  /** The part at the cursor, which moves on by one, or back by one; -1 behind the last one and before the first one. */
  next(cursor: RankCursor, isBack: boolean): number {
    const { leaf } = cursor;
    if (leaf === undefined) return -1;
    const id = leaf.ids[cursor.at]!;
    if (isBack) {
      if (--cursor.at < 0) {
        cursor.leaf = leaf.previous;
        cursor.at = (cursor.leaf?.count ?? 0) - 1;
      }
    } else if (++cursor.at === leaf.count) {
      cursor.leaf = leaf.next;
      cursor.at = 0;
    }
    return id;
  }

  /** A part itself is sought. */
  #seekEntry(id: number): void {
    const heap = this.#heap;
    const bytes = heap.valueBytes(id);
    const name = heap.keyOffset(id);
    this.#depth = Depth.member;
    this.#generation = readGeneration(bytes, name);
    this.#score = readScore(bytes, heap.valueOffset(id));
    this.#bytes = bytes;
    this.#offset = name + MEMBER_NAME_BYTES;
    this.#length = heap.keyBytes(id) - MEMBER_NAME_BYTES;
  }

  /** Sign of (a part) − (what is sought), as far as that is compared. */
  #compare(id: number): number {
    const heap = this.#heap;
    const bytes = heap.valueBytes(id);
    const name = heap.keyOffset(id);
    const generation = readGeneration(bytes, name);
    if (generation !== this.#generation) return generation - this.#generation;
    if (this.#depth === Depth.generation) return 0;
    const nameBytes = heap.keyBytes(id);
    const score = readScore(bytes, name + nameBytes);
    if (score !== this.#score) return score < this.#score ? -1 : 1;
    if (this.#depth === Depth.score) return 0;
    const member = name + MEMBER_NAME_BYTES;
    return compareBytes(bytes, member, nameBytes - MEMBER_NAME_BYTES, this.#bytes, this.#offset, this.#length);
  }

  /** Whether a part is before what is sought; with `orAt`, or the same. */
  #isBefore(id: number, orAt: boolean): boolean {
    const sign = this.#compare(id);
    return sign < 0 || (orAt && sign === 0);
  }

  #positionOf(orAt: boolean): number {
    let node = this.#root;
    let position = 0;
    while (node instanceof Inner) {
      const child: number = this.#childOf(node, orAt);
      for (let i = 0; i < child; i++) position += node.children[i]!.count;
      node = node.children[child];
    }
    return node === undefined ? 0 : position + this.#placeIn(node, orAt);
  }

  /** The child in which a search goes on: the last one that begins before what is sought. */
  #childOf({ children }: Inner, orAt: boolean): number {
    let low = 1;
    let high = children.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isBefore(children[middle]!.lowest, orAt)) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #placeIn({ ids, count }: Leaf, orAt: boolean): number {
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isBefore(ids[middle]!, orAt)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Returns what a full node gave away, which comes behind it. */
  #insertInto(node: Node, id: number): Node | undefined {
    if (node instanceof Leaf) return this.#insertIntoLeaf(node, id);
    const at = this.#childOf(node, true);
    const split = this.#insertInto(node.children[at]!, id);
    node.count++;
    node.lowest = node.children[0]!.lowest;
    if (split === undefined) return undefined;
    node.children.splice(at + 1, 0, split);
    if (node.children.length <= CHILDREN_MAX) return undefined;
    const keep = at + 1 === CHILDREN_MAX ? CHILDREN_MAX : CHILDREN_MAX / 2;
    return given(node, node.children.splice(keep));
  }

  #insertIntoLeaf(leaf: Leaf, id: number): Leaf | undefined {
    const at = this.#placeIn(leaf, false);
    if (leaf.count < LEAF_IDS_MAX) {
      insertAt(leaf, at, id);
      return undefined;
    }
    // At the end the full leaf stays full, so that ascending scores fill leaves.
    const keep = at === LEAF_IDS_MAX ? LEAF_IDS_MAX : LEAF_IDS_MAX / 2;
    const split = new Leaf();
    split.ids.set(leaf.ids.subarray(keep));
    split.count = LEAF_IDS_MAX - keep;
    leaf.count = keep;
    split.previous = leaf;
    split.next = leaf.next;
    if (leaf.next !== undefined) leaf.next.previous = split;
    leaf.next = split;
    if (at < keep || (at === keep && split.count > 0)) insertAt(leaf, at, id);
    else insertAt(split, at - keep, id);
    return split;
  }

  /** Removes what is sought, which is there. */
  #removeFrom(node: Node): void {
    if (node instanceof Leaf) {
      const at = this.#placeIn(node, false);
      node.ids.copyWithin(at, at + 1, node.count);
      node.count--;
      return;
    }
    const { children } = node;
    const at = this.#childOf(node, true);
    const child = children[at]!;
    this.#removeFrom(child);
    node.count--;
    if (child.count === 0) {
      if (child instanceof Leaf) unlink(child);
      children.splice(at, 1);
    } else if (!mergeAt(children, at - 1)) mergeAt(children, at);
    node.lowest = children.length === 0 ? -1 : children[0]!.lowest;
  }
}

function parentOf(...children: Node[]): Inner {
  const parent = new Inner();
  parent.children.push(...children);
  return counted(parent);
}

/** A new node behind another one, with the children that are taken from it. */
function given(from: Inner, children: Node[]): Inner {
  counted(from);
  return parentOf(...children);
}

function counted(node: Inner): Inner {
  node.count = 0;
  for (const child of node.children) node.count += child.count;
  node.lowest = node.children[0]!.lowest;
  return node;
}

function insertAt(leaf: Leaf, at: number, id: number): void {
  leaf.ids.copyWithin(at + 1, at, leaf.count);
  leaf.ids[at] = id;
  leaf.count++;
}

function unlink(leaf: Leaf): void {
  if (leaf.previous !== undefined) leaf.previous.next = leaf.next;
  if (leaf.next !== undefined) leaf.next.previous = leaf.previous;
}

/** Merges a child with the next one if together they fill less than half of one. */
function mergeAt(children: Node[], at: number): boolean {
  const a = children[at];
  const b = children[at + 1];
  if (a instanceof Leaf && b instanceof Leaf && a.count + b.count < LEAF_IDS_MAX / 2) {
    a.ids.set(b.ids.subarray(0, b.count), a.count);
    a.count += b.count;
    unlink(b);
  } else if (a instanceof Inner && b instanceof Inner && a.children.length + b.children.length < CHILDREN_MAX / 2) {
    a.children.push(...b.children);
    a.count += b.count;
  } else return false;
  children.splice(at + 1, 1);
  return true;
}
