/**
 * Maps a view number to its primary and quorum.
 *
 * View numbers enumerate all N·C(N−1, f) pairs of a primary and f fellow members, each exactly once per cycle; the
 * primary changes with every view. Safety holds for any assignment. This one leaves no set of f+1 living replicas
 * without a view of its own, which contiguous arcs of a ring do not (docs/internals/protocol.md). Model: JITViews.tla.
 */
import { invariant } from './invariant.js';

/** Most replicas of a cluster: bounded by the 32-bit member masks and by C(N−1, f) staying small. */
export const MAX_REPLICAS = 13;

/**
 * Views are u32 on the wire and int32 in the core; at one view change per millisecond, the last one comes after 24
 * days.
 */
export const MAX_VIEW = 0x7fffffff;

export class Views {
  /** Failures tolerated: N = 2f + 1. */
  readonly f: number;
  /** Views after which the assignment repeats. */
  readonly cycle: number;
  private readonly combinations: number;
  /** Bit r is set in masks[v mod cycle] if replica r is a member of view v. */
  private readonly masks: Int32Array;

  /** @param n number of replicas, odd, 1…MAX_REPLICAS; throws RangeError otherwise */
  constructor(readonly n: number) {
    if (!Number.isInteger(n) || n < 1 || n > MAX_REPLICAS || n % 2 === 0) {
      throw new RangeError(`a cluster has an odd number of replicas from 1 to ${MAX_REPLICAS}, not ${n}`);
    }
    this.f = (n - 1) / 2;
    this.combinations = binomial(n - 1, this.f);
    this.cycle = n * this.combinations;
    this.masks = new Int32Array(this.cycle);
    for (let view = 0; view < this.cycle; view++) {
      const primary = view % n;
      let mask = 1 << primary;
      for (const j of subset(n - 1, this.f, Math.floor(view / n))) mask |= 1 << ((primary + 1 + j) % n);
      this.masks[view] = mask;
    }
  }

  primary(view: number): number {
    return view % this.n;
  }

  /** The members of the view's quorum, primary included, as a bit mask. */
  memberMask(view: number): number {
    return this.masks[view % this.cycle]!;
  }

  isMember(view: number, replica: number): boolean {
    return ((this.masks[view % this.cycle]! >>> replica) & 1) === 1;
  }

  /** The members in ascending order. Allocates: not for the fast path. */
  members(view: number): number[] {
    return Array.from({ length: this.n }, (_, r) => r).filter((r) => this.isMember(view, r));
  }

  /**
   * The smallest view above `above` whose members are all in `aliveMask` and whose primary is `primary` or, if
   * `primary` is −1, any in `primaryMask`. −1 if there is none.
   */
  next(above: number, aliveMask: number, primary: number, primaryMask: number): number {
    for (let view = above + 1; view <= above + this.cycle && view <= MAX_VIEW; view++) {
      const p = view % this.n;
      if (primary >= 0 ? p !== primary : ((primaryMask >>> p) & 1) === 0) continue;
      const mask = this.memberMask(view);
      if ((mask & aliveMask) === mask) return view;
    }
    return -1;
  }
}

function binomial(n: number, k: number): number {
  let result = 1;
  for (let i = 1; i <= k; i++) result = (result * (n - k + i)) / i;
  return Math.round(result);
}

/** The i-th k-subset of 0…n−1 in lexicographic order. */
function subset(n: number, k: number, i: number): number[] {
  const chosen: number[] = [];
  let rank = i;
  for (let x = 0; chosen.length < k; x++) {
    invariant(x < n, 'a subset rank is below the number of subsets');
    const withX = binomial(n - x - 1, k - chosen.length - 1);
    if (rank < withX) chosen.push(x);
    else rank -= withX;
  }
  return chosen;
}
