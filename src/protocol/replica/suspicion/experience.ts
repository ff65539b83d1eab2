/**
 * How often the cluster recently left a view that still worked: each time raises the bar for the next one, and calm lowers it
 * again. May be changed freely.
 *
 * The first time may be for a good reason. When the same reason comes back soon, the last view change did not help: on hosts
 * that other programs share, every replica looks slow, or silent, in turns. All replicas count all of these view changes, as
 * the ViewChange says why it is asked for, so that another primary does not begin anew.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import type { Instant } from '../../contract.js';

/** After this long without another one, one of them is forgotten. */
export const CALM_US = 600_000_000;
/** A change within this many such times after the last one shows that what was forgotten still holds. */
const RELAPSE = 4;

export class Experience {
  /** View changes that count. */
  private level = DOUBLE_ZERO;
  private changedUs = -Infinity;
  /** How long it takes until one is forgotten, in CALM_US. */
  private calms = 1;

  /**
   * @param most view changes that are counted
   * @param calmsMax what is forgotten and comes back is remembered for twice as long the next time, up to this many CALM_US
   */
  constructor(
    private readonly most: number,
    private readonly calmsMax = 1,
  ) {
    this.level = 0;
  }

  /** A view was left for this reason. */
  changed(now: Instant): void {
    const left = this.at(now);
    if (this.sinceUs(now) > RELAPSE * this.calms * CALM_US) this.calms = 1;
    else if (left < this.level) this.calms = Math.min(this.calmsMax, 2 * this.calms);
    this.level = Math.min(this.most, left + 1);
    this.changedUs = now.monotonicUs;
  }

  /** View changes that count now: none after long enough a calm. */
  at(now: Instant): number {
    return this.level === 0
      ? 0
      : Math.max(0, this.level - Math.floor((now.monotonicUs - this.changedUs) / (this.calms * CALM_US)));
  }

  /** µs since the last one. */
  sinceUs(now: Instant): number {
    return now.monotonicUs - this.changedUs;
  }
}
