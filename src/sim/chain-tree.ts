/**
 * Every log prefix that any replica ever held, as a tree: a node is one entry in one place; its parent is the entry
 * before it. A chain value names a node, so comparing two prefixes means comparing two small integers.
 *
 * Two rules are checked here once for each node, and thereby for every log: key order, and one chain value for one
 * prefix.
 */
import { compareU64, toHex } from '../wire/u64.js';
import type { LogView } from './cores.js';
import { Violation } from './violation.js';

/** The empty log. */
export const ROOT = 0;

export class ChainTree {
  readonly parents: number[] = [-1];
  readonly indexes: number[] = [0];
  readonly chainHis: number[];
  readonly chainLos: number[];
  /** Interned (session, lane, request) of each node's entry; see `requestOf`. */
  readonly requests: number[] = [-1];
  private readonly timestampHis: number[] = [0];
  private readonly timestampLos: number[] = [0];
  private readonly sessionHis: number[] = [0];
  private readonly sessionLos: number[] = [0];
  private readonly byChain = new Map<number, number>();
  private readonly requestIds = new Map<string, number>();
  private readonly requestNames: string[] = [];
  /** Nodes that carry each request. */
  private readonly carriers: number[][] = [];

  constructor(rootHi = 0, rootLo = 0) {
    this.chainHis = [rootHi];
    this.chainLos = [rootLo];
    this.byChain.set(keyOf(rootHi, rootLo), ROOT);
  }

  get size(): number {
    return this.parents.length;
  }

  /** The node of a chain value, or −1 if no log ever had it. */
  find(hi: number, lo: number): number {
    const node = this.byChain.get(keyOf(hi, lo));
    return node !== undefined && this.chainHis[node] === hi && this.chainLos[node] === lo ? node : -1;
  }

  /** The node of entry `index` of a log, whose previous entry is `parent`; added if it is new. */
  extend(parent: number, log: LogView, index: number): number {
    const hi = log.chainHi(index);
    const lo = log.chainLo(index);
    const known = this.byChain.get(keyOf(hi, lo));
    if (known !== undefined) {
      if (this.parents[known] !== parent || this.chainHis[known] !== hi || this.chainLos[known] !== lo) {
        throw new Violation(
          'hash-collision',
          `chain ${toHex(hi, lo)} stands for entry ${index} behind node ${parent} and for entry ${this.indexes[known]} behind node ${this.parents[known]}`,
        );
      }
      return known;
    }
    return this.add(parent, log, index, hi, lo);
  }

  /** The id of (session, lane, request); equal triples have equal ids. */
  requestOf(sessionHi: number, sessionLo: number, lane: number, request: number): number {
    const name = `${toHex(sessionHi, sessionLo)}/${lane}/${request}`;
    let id = this.requestIds.get(name);
    if (id === undefined) {
      id = this.requestNames.length;
      this.requestIds.set(name, id);
      this.requestNames.push(name);
      this.carriers.push([]);
    }
    return id;
  }

  /** `session/lane/request`, for people. */
  requestName(id: number): string {
    return this.requestNames[id] ?? 'none';
  }

  /** Nodes whose entry is this request. */
  carriersOf(request: number): readonly number[] {
    return this.carriers[request]!;
  }

  /** `index:chain`, for people. */
  describe(node: number): string {
    return node < 0 ? 'nothing' : `${this.indexes[node]}:${toHex(this.chainHis[node]!, this.chainLos[node]!)}`;
  }

  private add(parent: number, log: LogView, index: number, hi: number, lo: number): number {
    const timestampHi = log.timestampHi(index);
    const timestampLo = log.timestampLo(index);
    const sessionHi = log.sessionHi(index);
    const sessionLo = log.sessionLo(index);
    const order =
      compareU64(timestampHi, timestampLo, this.timestampHis[parent]!, this.timestampLos[parent]!) ||
      compareU64(sessionHi, sessionLo, this.sessionHis[parent]!, this.sessionLos[parent]!);
    if (order <= 0 && parent !== ROOT) {
      throw new Violation(
        'key-order',
        `entry ${index} (${toHex(timestampHi, timestampLo)}, ${toHex(sessionHi, sessionLo)}) is not above the one before it (${toHex(this.timestampHis[parent]!, this.timestampLos[parent]!)}, ${toHex(this.sessionHis[parent]!, this.sessionLos[parent]!)})`,
      );
    }
    const node = this.parents.length;
    const request = this.requestOf(sessionHi, sessionLo, log.lane(index), log.request(index));
    this.parents.push(parent);
    this.indexes.push(index);
    this.chainHis.push(hi);
    this.chainLos.push(lo);
    this.requests.push(request);
    this.timestampHis.push(timestampHi);
    this.timestampLos.push(timestampLo);
    this.sessionHis.push(sessionHi);
    this.sessionLos.push(sessionLo);
    this.byChain.set(keyOf(hi, lo), node);
    this.carriers[request]!.push(node);
    return node;
  }
}

/** 53 bits of a chain as one number; `find` and `extend` tell collisions apart. */
function keyOf(hi: number, lo: number): number {
  return (hi >>> 0) * 0x200000 + (lo >>> 11);
}
