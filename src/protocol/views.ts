/**
 * What a view number means: looks up its epoch, whose configuration knows its primary and quorum (configuration.ts).
 *
 * Replicas are named by their slots here. A view of an epoch that is not known has no primary (−1) and no members.
 */
import { Configuration, MAX_REPLICAS, MAX_VIEW } from './configuration.js';

export { MAX_REPLICAS, MAX_VIEW } from './configuration.js';

export class Views {
  /** The configuration of the present view. */
  present: Configuration;

  /**
   * The replicas of a cluster file: ids and slots are their places in it. All views are theirs.
   * @param n number of replicas, odd, 1…MAX_REPLICAS; throws RangeError otherwise
   */
  constructor(n: number) {
    if (!Number.isInteger(n) || n < 1 || n > MAX_REPLICAS || n % 2 === 0) {
      throw new RangeError(`a cluster has an odd number of replicas from 1 to ${MAX_REPLICAS}, not ${n}`);
    }
    const ids = Array.from({ length: n }, (_, id) => id);
    this.present = new Configuration(0, ids, ids, 0, MAX_VIEW);
  }

  /** Number of voters at present, and failures that they tolerate. */
  get n(): number {
    return this.present.n;
  }

  get f(): number {
    return this.present.f;
  }

  /** Views after which the present assignment repeats. */
  get cycle(): number {
    return this.present.cycle;
  }

  /** The configuration that a view is of; undefined if it is not known. */
  of(view: number): Configuration | undefined {
    return this.present.has(view) ? this.present : undefined;
  }

  primary(view: number): number {
    return this.of(view)?.primary(view) ?? -1;
  }

  /** The members of the view's quorum, primary included, as a bit mask. */
  memberMask(view: number): number {
    return this.of(view)?.memberMask(view) ?? 0;
  }

  isMember(view: number, replica: number): boolean {
    return ((this.memberMask(view) >>> replica) & 1) === 1;
  }

  /** The members in ascending order. Allocates: not for the fast path. */
  members(view: number): number[] {
    const mask = this.memberMask(view);
    return Array.from({ length: 32 }, (_, r) => r).filter((r) => ((mask >>> r) & 1) === 1);
  }

  /**
   * The smallest view above `above` in its epoch whose members are all in `aliveMask` and whose primary is `primary` or,
   * if `primary` is −1, any in `primaryMask`. −1 if there is none.
   */
  next(above: number, aliveMask: number, primary: number, primaryMask: number): number {
    return this.of(Math.max(above, 0))?.next(above, aliveMask, primary, primaryMask) ?? -1;
  }
}
