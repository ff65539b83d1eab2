/** What is told of view changes: by what decides when the next one is asked for (suspicion/). The rules of views depend on nothing there. */
import type { Instant } from '../../contract.js';

export interface ViewListener {
  /**
   * This replica promised the present view.
   * @param left the view that it was in before
   * @param wasWaiting it had promised that one as well, and it never started here
   * @param reason ViewReason
   */
  promised(left: number, wasWaiting: boolean, reason: number, now: Instant): void;
  /** Another replica says why it asks for the present view: a ViewReason. */
  asked(reason: number, now: Instant): void;
  /** The present view started here. */
  started(now: Instant): void;
}
