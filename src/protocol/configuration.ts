/**
 * Who votes in an epoch, and which views it has: the primary and quorum of each.
 *
 * View numbers of an epoch enumerate all N·C(N−1, q−1) pairs of a primary and q−1 fellow members, where a quorum has
 * q = ⌊N/2⌋+1 members. Each pair comes exactly once per cycle, and the primary changes with every view. Safety holds for
 * any assignment. This one leaves no set of q living replicas without a view of its own, which contiguous arcs of a ring
 * do not (docs/internals/protocol.md). Model: JITViews.tla.
 *
 * A voter is known by its *id*, for good. Its *rank* is its place among the voters in ascending order of ids, by which
 * pairs are enumerated. Its *slot* is its place in masks and tables of the process that asks: they are made once, so that
 * every look-up is one in an array, with the view as the index.
 */
import { invariant } from './invariant.js';
import { count } from './masks.js';

/** Most voters: bounded by C(N−1, q−1) staying small. */
export const MAX_REPLICAS = 13;
/** Places in a mask of replicas, 0…30: the sign bit stays free. */
export const SLOTS = 31;

/**
 * Views are u32 on the wire and int32 in the core; at one view change per millisecond, the last one comes after 24
 * days.
 */
export const MAX_VIEW = 0x7fffffff;
/** Views of an epoch: the first one of epoch e is e · EPOCH_VIEWS. */
export const EPOCH_VIEWS = 1 << 18;
export const EPOCH_MAX = Math.floor(MAX_VIEW / EPOCH_VIEWS);

export class Configuration {
  /** Failures tolerated: N = 2f + 1, or 2f + 2. */
  readonly f: number;
  /** Members of a view, its primary included. With `votes` more than N, so that both meet. */
  readonly quorum: number;
  /** Votes that a view starts from. */
  readonly votes: number;
  /** Views after which the assignment repeats. */
  readonly cycle: number;
  /** The slots of all voters; a mask. */
  readonly voters: number;
  /** Bit s is set in masks[counter mod cycle] if the voter in slot s is a member of that view. */
  private readonly masks: Int32Array;

  /**
   * @param epoch counted from 0
   * @param ids of the voters, ascending
   * @param slots of the voters, in the order of their ids
   * @param first view of the epoch; `counter` is 0 there
   * @param last view of the epoch
   */
  constructor(
    readonly epoch: number,
    readonly ids: readonly number[],
    private readonly slots: readonly number[],
    readonly first: number,
    readonly last: number,
  ) {
    const n = ids.length;
    invariant(
      n >= 1 && n <= MAX_REPLICAS && slots.length === n && ids.every((id, rank) => rank === 0 || id > ids[rank - 1]!),
      'a configuration has from one to 13 voters, each with an id and a slot of its own',
    );
    this.f = Math.floor((n - 1) / 2);
    this.quorum = n - this.f;
    this.votes = this.f + 1;
    const combinations = binomial(n - 1, this.quorum - 1);
    this.cycle = n * combinations;
    this.masks = new Int32Array(this.cycle);
    let voters = 0;
    for (const slot of slots) voters |= 1 << slot;
    this.voters = voters;
    for (let counter = 0; counter < this.cycle; counter++) {
      const primary = counter % n;
      let mask = 1 << slots[primary]!;
      for (const j of subset(n - 1, this.quorum - 1, Math.floor(counter / n)))
        mask |= 1 << slots[(primary + 1 + j) % n]!;
      this.masks[counter] = mask;
    }
  }

  /** Number of voters. */
  get n(): number {
    return this.ids.length;
  }

  /** `view` is one of this epoch. Only then do the following say anything. */
  has(view: number): boolean {
    return view >= this.first && view <= this.last;
  }

  /** The same with fewer views: those after `last` are of another epoch. */
  until(last: number): Configuration {
    return last >= this.last ? this : new Configuration(this.epoch, this.ids, this.slots, this.first, last);
  }

  /** The slot of the view's primary. */
  primary(view: number): number {
    return this.slots[(view - this.first) % this.slots.length]!;
  }

  /** The slots of the view's quorum, primary included; a mask. */
  memberMask(view: number): number {
    return this.masks[(view - this.first) % this.cycle]!;
  }

  /** These slots have as many voters as a quorum. More of them are right than wrong, where at most f are wrong. */
  hasQuorum(slots: number): boolean {
    return count(slots & this.voters) >= this.quorum;
  }

  /** The ids of the voters in these slots, a mask, ascending. Allocates: not for the fast path. */
  idsOf(slots: number): number[] {
    return this.ids.filter((_, rank) => ((slots >>> this.slots[rank]!) & 1) === 1);
  }

  /**
   * The smallest view of this epoch above `above` whose members are all in `aliveMask` and whose primary is `primary` or,
   * if `primary` is −1, any in `primaryMask`. −1 if there is none. Rule S (`overflow` in the model): it never is a view
   * of the next epoch.
   */
  next(above: number, aliveMask: number, primary: number, primaryMask: number): number {
    const start = Math.max(above + 1, this.first);
    const end = Math.min(start + this.cycle - 1, this.last);
    for (let view = start; view <= end; view++) {
      const p = this.primary(view);
      if (primary >= 0 ? p !== primary : ((primaryMask >>> p) & 1) === 0) continue;
      const mask = this.memberMask(view);
      if ((mask & aliveMask) === mask) return view;
    }
    return -1;
  }
}

/**
 * An epoch of which nothing but its number is known any more: a view of it was durable, and the members that are durable with it
 * are of a later one, which has begun. None of its views has a primary or members here, and no votes are enough for one.
 */
export class ForgottenConfiguration extends Configuration {
  override readonly voters = 0;

  /** @param before views below this one are of it, or of older epochs */
  constructor(epoch: number, ids: readonly number[], before: number) {
    super(
      epoch,
      ids,
      ids.map((_, rank) => rank),
      epoch * EPOCH_VIEWS,
      before - 1,
    );
  }

  override primary(): number {
    return -1;
  }

  override memberMask(): number {
    return 0;
  }

  override next(): number {
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
