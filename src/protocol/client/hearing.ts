/**
 * Which replicas a client does not hear while nothing commits: it repeatedly asks all of them for their view, and some
 * do not answer.
 *
 * Its plea names them, so that the cluster can continue in a view without them (pleas.ts). The client should be sure:
 * silence for UNHEARD_US despite UNHEARD_ASKED questions, while enough replicas for a view do answer. A client that
 * stood still, or is cut off itself, must not accuse others.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import type { Instant } from '../contract.js';
import { lowest } from '../masks.js';
import type { Views } from '../views.js';

export const UNHEARD_US = 400_000;
export const UNHEARD_ASKED = 8;
/** If round trips are long, this many of the longest must pass. */
const ROUND_TRIPS = 4;
/** Questions further apart than this belong to different periods of trouble. */
const APART_US = 1_000_000;

export class Hearing {
  private readonly heardUs: Float64Array;
  /** Questions since the last commit, and when the first and the last were asked. */
  private questions = 0;
  private sinceUs = DOUBLE_ZERO;
  private askedUs = DOUBLE_ZERO;

  constructor(
    private readonly views: Views,
    places: number,
  ) {
    this.heardUs = new Float64Array(places).fill(-Infinity);
  }

  heard(replica: number, now: Instant): void {
    this.heardUs[replica] = now.monotonicUs;
  }

  /** A request was committed: the view serves this client. */
  settled(): void {
    this.questions = 0;
  }

  /** All replicas are asked again. Returns those that do not answer, one bit each; 0 as long as that is not sure. */
  asked(now: Instant, longestRoundTripUs: number): number {
    if (this.questions === 0 || now.monotonicUs - this.askedUs > APART_US) {
      this.questions = 0;
      this.sinceUs = now.monotonicUs;
    }
    this.questions++;
    this.askedUs = now.monotonicUs;
    const silentUs = Math.max(UNHEARD_US, ROUND_TRIPS * longestRoundTripUs);
    if (this.questions <= UNHEARD_ASKED || now.monotonicUs - this.sinceUs < silentUs) return 0;
    let mask = 0;
    let heard = 0;
    const { voters, n } = this.views.present;
    for (let rest = voters; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (now.monotonicUs - this.heardUs[r]! >= silentUs) mask |= 1 << r;
      else heard++;
    }
    return heard > n / 2 ? mask : 0;
  }
}
