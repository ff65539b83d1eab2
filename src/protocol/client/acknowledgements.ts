/**
 * What the members answered to each open request of a client: the primary's (index, chain), and the last few answers of
 * every other member. A set, not only the last answer: a member may acknowledge under one chain, be repaired, and an
 * earlier answer may arrive later. Any answer that equals the primary's counts. The set is bounded; the client asks
 * again for what it forgets. commit-rule.ts decides by it.
 *
 * A member's place in the table is its rank among the members of the view, so that the table is as wide as the largest
 * quorum, however many hosts there may be.
 */
import { MAX_REPLICAS, SLOTS } from '../configuration.js';
import { count, lowest } from '../masks.js';

/** Members of the largest quorum. */
const MEMBERS_MAX = (MAX_REPLICAS >> 1) + 1;

/** Answers kept for each member. */
const KEPT = 4;

export class Acknowledgements {
  private readonly primaryIndexes: Float64Array;
  /** Chain of the primary's answer, two halves for each slot. */
  private readonly primaryChains: Int32Array;
  private readonly counts: Int32Array;
  private readonly indexes: Float64Array;
  private readonly chains: Int32Array;

  /** By replica: its rank among the members. */
  private readonly ranks = new Uint8Array(SLOTS);
  private members = 0;

  constructor(private readonly slots: number) {
    this.primaryIndexes = new Float64Array(slots);
    this.primaryChains = new Int32Array(slots * 2);
    this.counts = new Int32Array(slots * MEMBERS_MAX);
    this.indexes = new Float64Array(slots * MEMBERS_MAX * KEPT);
    this.chains = new Int32Array(slots * MEMBERS_MAX * KEPT * 2);
  }

  /** From now on these are the members, one bit each, and nothing was answered yet. */
  enter(members: number): void {
    this.members = count(members);
    for (let rest = members, rank = 0; rest !== 0; rest &= rest - 1) this.ranks[lowest(rest)] = rank++;
    for (let slot = 0; slot < this.slots; slot++) this.clear(slot);
  }

  /** Nothing was answered yet. */
  clear(slot: number): void {
    this.primaryIndexes[slot] = -1;
    for (let rank = 0; rank < this.members; rank++) this.counts[slot * MEMBERS_MAX + rank] = 0;
  }

  /** The request is decided: nothing more is made of its answers. */
  close(slot: number): void {
    this.primaryIndexes[slot] = -1;
  }

  hasPrimary(slot: number): boolean {
    return this.primaryIndexes[slot]! >= 0;
  }

  setPrimary(slot: number, index: number, chainHi: number, chainLo: number): void {
    this.primaryIndexes[slot] = index;
    this.primaryChains[2 * slot] = chainHi;
    this.primaryChains[2 * slot + 1] = chainLo;
  }

  primaryIndex(slot: number): number {
    return this.primaryIndexes[slot]!;
  }

  primaryChainHi(slot: number): number {
    return this.primaryChains[2 * slot]!;
  }

  primaryChainLo(slot: number): number {
    return this.primaryChains[2 * slot + 1]!;
  }

  add(slot: number, replica: number, index: number, chainHi: number, chainLo: number): void {
    const of = slot * MEMBERS_MAX + this.ranks[replica]!;
    const at = of * KEPT + (this.counts[of]!++ % KEPT);
    this.indexes[at] = index;
    this.chains[2 * at] = chainHi;
    this.chains[2 * at + 1] = chainLo;
  }

  /** An answer of this member equals the primary's. */
  agrees(slot: number, replica: number): boolean {
    const of = slot * MEMBERS_MAX + this.ranks[replica]!;
    const kept = Math.min(this.counts[of]!, KEPT);
    for (let at = of * KEPT; at < of * KEPT + kept; at++) {
      if (
        this.indexes[at] === this.primaryIndexes[slot] &&
        this.chains[2 * at] === this.primaryChains[2 * slot] &&
        this.chains[2 * at + 1] === this.primaryChains[2 * slot + 1]
      )
        return true;
    }
    return false;
  }

  /** The members of `mask`, one bit each, with no answer that equals the primary's. */
  missing(slot: number, mask: number): number {
    let missing = 0;
    for (let rest = mask; rest !== 0; rest &= rest - 1) {
      const replica = lowest(rest);
      if (!this.agrees(slot, replica)) missing |= 1 << replica;
    }
    return missing;
  }

  /** This member has answered, whatever it was. */
  hasAnswered(slot: number, replica: number): boolean {
    return this.counts[slot * MEMBERS_MAX + this.ranks[replica]!]! > 0;
  }
}
