/** How a replica rejects a request: the reason, and the time that its client should stamp by. */
import { RejectReason, type RejectReasonCode } from '../../wire/messages.js';
import { compareU64 } from '../../wire/u64.js';
import type { Instant } from '../contract.js';
import { REJECT_COUNTERS } from '../counters.js';
import type { ArrivedRequest } from './arrived-request.js';
import type { ClientAnswers } from './client-answers.js';
import type { ReplicaState } from './replica-state.js';

export class Rejections {
  constructor(
    private readonly state: ReplicaState,
    private readonly answers: ClientAnswers,
  ) {}

  reject(arrived: ArrivedRequest, reason: RejectReasonCode, now: Instant): void {
    const { state } = this;
    const { log } = state;
    state.counters[REJECT_COUNTERS[reason]!]!++;
    const last = log.lastIndex;
    // Too far ahead of what the cluster takes for now: the clock, or the end of a log that is ahead of the clock.
    const isByClock =
      reason === RejectReason.tooFarAhead &&
      compareU64(now.wallHi, now.wallLo, log.timestampHi(last), log.timestampLo(last)) > 0;
    if (reason === RejectReason.tooFarAhead || reason === RejectReason.late)
      state.arrivalSlackUs.record(arrived.slackUs);
    this.answers.reject(
      arrived,
      reason,
      isByClock ? now.wallHi : log.timestampHi(last),
      isByClock ? now.wallLo : log.timestampLo(last),
    );
  }
}
