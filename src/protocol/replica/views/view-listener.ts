/** What the code that decides when a view is asked for (suspicion/) hears of view changes. The rules of views depend on none of it. */
import type { Instant } from '../../contract.js';

export interface ViewListener {
  /**
   * This replica promised the present view.
   * @param left the view that it was in before
   * @param wasWaiting it had promised that view as well, and that view never started here
   * @param reason ViewReason
   */
  promised(left: number, wasWaiting: boolean, reason: number, now: Instant): void;
  /** Another replica says why it asks for the present view: a ViewReason. */
  asked(reason: number, now: Instant): void;
  /** Replica `from` speaks of `view`, whose epoch is not known here. */
  unknownEpoch(from: number, view: number, now: Instant): void;
  /** The present view started here. */
  started(now: Instant): void;
}
