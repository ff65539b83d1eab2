/**
 * Which watches wait for a change of a key: a radix tree of their prefixes.
 *
 * The rule: a change is compared with the prefixes along its key, whatever the number of watches, and only watches that
 * wait are found. A watch that was found is not found again before it waits again, so watches that are busy with earlier
 * changes cost nothing here. A tree has at most two nodes for each prefix.
 */

/** A watch in the tree. */
export interface Waiting {
  readonly interests: Interest[];
}

/** One prefix of a watch. */
export interface Interest {
  readonly watch: Waiting;
  node: Node;
  /** Place in `node.waiting`, or -1. */
  position: number;
}

class Node {
  readonly children = new Map<number, Node>();
  /** Interests in exactly this prefix, and those of them whose watches wait. */
  interests = 0;
  readonly waiting: Interest[] = [];

  constructor(
    /** The bytes between the parent's prefix and this one. */
    public label: Uint8Array,
    public parent: Node | undefined,
  ) {}
}

export class Interests<Watch extends Waiting> {
  private readonly root = new Node(new Uint8Array(0), undefined);
  private readonly found: Watch[] = [];

  /** @param prefix is copied */
  add(watch: Watch, prefix: Uint8Array): void {
    const node = this.nodeOf(prefix);
    node.interests++;
    watch.interests.push({ watch, node, position: -1 });
  }

  /** `take` no longer finds the watch. */
  leave(watch: Watch): void {
    for (const interest of watch.interests) unlist(interest);
  }

  remove(watch: Watch): void {
    for (const interest of watch.interests) {
      unlist(interest);
      interest.node.interests--;
      prune(interest.node);
    }
    watch.interests.length = 0;
  }

  /** From now on `take` finds the watch. */
  wait(watch: Watch): void {
    for (const interest of watch.interests)
      if (interest.position < 0) interest.position = interest.node.waiting.push(interest) - 1;
  }

  /**
   * Gives the watches that wait for changes of this key, each once; they no longer wait.
   * @returns nodes that were looked at, and prefixes of the watches that were found
   */
  take(key: Uint8Array, length: number, into: (watch: Watch) => void): number {
    let node = this.root;
    let looked = 1;
    let at = 0;
    const { found } = this;
    for (;;) {
      while (node.waiting.length > 0) {
        const { watch } = node.waiting[node.waiting.length - 1]!;
        // Also from the nodes that are still to come.
        for (const interest of watch.interests) unlist(interest);
        found.push(watch as Watch);
        looked += watch.interests.length;
      }
      const next = at < length ? node.children.get(key[at]!) : undefined;
      if (next === undefined || at + next.label.length > length || !begins(next.label, key, at)) break;
      at += next.label.length;
      node = next;
      looked++;
    }
    for (const watch of found) into(watch);
    found.length = 0;
    return looked;
  }

  /** Nodes of the tree. */
  get size(): number {
    return sizeOf(this.root);
  }

  private nodeOf(prefix: Uint8Array): Node {
    let node = this.root;
    for (let at = 0; at < prefix.length; ) {
      const next = node.children.get(prefix[at]!);
      if (next === undefined) {
        const added = new Node(prefix.slice(at), node);
        node.children.set(prefix[at]!, added);
        return added;
      }
      const { label } = next;
      let common = 1;
      while (common < label.length && at + common < prefix.length && label[common] === prefix[at + common]) common++;
      at += common;
      node = common === label.length ? next : split(next, common);
    }
    return node;
  }
}

/** Puts a node between this one and its parent. @param length of the new node's label */
function split(node: Node, length: number): Node {
  const upper = new Node(node.label.slice(0, length), node.parent);
  node.parent!.children.set(node.label[0]!, upper);
  node.label = node.label.slice(length);
  node.parent = upper;
  upper.children.set(node.label[0]!, node);
  return upper;
}

/** Takes out a node that nothing needs, and those above it. */
function prune(from: Node): void {
  let node = from;
  while (node.parent !== undefined && node.interests === 0 && node.children.size === 0) {
    node.parent.children.delete(node.label[0]!);
    node = node.parent;
  }
  if (node.parent === undefined || node.interests > 0 || node.children.size !== 1) return;
  const [child] = node.children.values();
  const label = new Uint8Array(node.label.length + child!.label.length);
  label.set(node.label);
  label.set(child!.label, node.label.length);
  child!.label = label;
  child!.parent = node.parent;
  node.parent.children.set(label[0]!, child!);
}

function unlist(interest: Interest): void {
  const { waiting } = interest.node;
  if (interest.position < 0) return;
  const last = waiting.pop()!;
  if (last !== interest) {
    waiting[interest.position] = last;
    last.position = interest.position;
  }
  interest.position = -1;
}

function begins(label: Uint8Array, key: Uint8Array, at: number): boolean {
  for (let i = 0; i < label.length; i++) if (label[i] !== key[at + i]) return false;
  return true;
}

function sizeOf(node: Node): number {
  let size = 1;
  for (const child of node.children.values()) size += sizeOf(child);
  return size;
}
