/**
 * When the epoch that is decided is asked for, and which view of it. May be changed freely: until it begins the old epoch
 * serves, and it begins by the rules in views/.
 *
 * The primary hears all hosts anyway. It waits until they say that they have written down who the members are
 * (better-view.ts). Then it asks for the epoch as soon as a quorum of it is alive and lacks little. A primary that does not
 * hear them must not hold the change up. So after a second the other voters look as well, one after another, by a round of
 * probes.
 */
import { ReplicaStatus } from '../../../wire/messages.js';
import type { Instant } from '../../contract.js';
import { SLOTS } from '../../configuration.js';
import { count } from '../../masks.js';
import type { ReplicaState } from '../replica-state.js';

/** How long the others leave it to the primary, and how much later each of them looks than the one before. */
const PRIMARY_US = 1_000_000;
const TURN_US = 200_000;
/** How often each looks again. */
const AGAIN_US = 2_000_000;
/** What a host may lack that counts for a quorum of the epoch. */
export const ENTRIES_BEHIND = 1024;

export class OpenEpoch {
  /** When this voter looks, monotonic µs; Infinity: there is nothing to look for. */
  dueUs = Infinity;
  /** The decided epoch that it waits for. */
  private epoch = -1;

  constructor(private readonly state: ReplicaState) {}

  /** Sees whether an epoch was decided that has not begun. */
  tick(now: Instant): void {
    const { views, status } = this.state;
    const { present, newest } = views;
    if (newest === present || status !== ReplicaStatus.normal || !this.votes) {
      this.dueUs = Infinity;
      this.epoch = -1;
    } else if (newest.epoch !== this.epoch) {
      this.epoch = newest.epoch;
      this.dueUs = now.monotonicUs + PRIMARY_US + TURN_US * this.turn;
    }
  }

  /** It looks now; next time later. */
  looks(now: Instant): void {
    this.dueUs = now.monotonicUs + AGAIN_US;
  }

  /**
   * The view of the decided epoch to begin with: its members are all `ready`. It stays under `keep` if it can be, otherwise
   * under a member of the present view, which has the log; and has as many of those as can be. Who was no member has to
   * fetch first, and has never taken a request. Of equal ones the smallest. −1: there is none, or nothing was decided.
   */
  view(ready: number, keep: number): number {
    const { state } = this;
    const { present, newest } = state.views;
    if (newest === present || count(ready & newest.voters) < newest.quorum) return -1;
    const members = state.views.memberMask(state.view);
    const end = Math.min(newest.first + newest.cycle - 1, newest.last);
    let best = -1;
    let least = Infinity;
    for (let view = newest.first; view <= end; view++) {
      const mask = newest.memberMask(view);
      if ((mask & ~ready) !== 0) continue;
      const primary = newest.primary(view);
      const strange = primary === keep ? 0 : ((members >>> primary) & 1) === 1 ? 1 : 2;
      const cost = SLOTS * strange + count(mask & ~members);
      if (cost >= least) continue;
      least = cost;
      best = view;
    }
    return best;
  }

  /** It votes, and leads no view: a primary looks by itself. */
  private get votes(): boolean {
    const { views, id, isPrimary } = this.state;
    return !isPrimary && (((views.present.voters | views.newest.voters) >>> id) & 1) === 1;
  }

  /** Its place among the voters of both epochs. */
  private get turn(): number {
    const { views, id } = this.state;
    return count((views.present.voters | views.newest.voters) & ((1 << id) - 1));
  }
}
