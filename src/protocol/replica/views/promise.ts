/**
 * The promise to leave all older views, and the vote that goes with it.
 *
 * Rule S, *promise* (action `Promise` in model/JITPaxos.tla): from the moment that a replica's durable view is v it acknowledges in
 * no older one, ever. A replica that lost its log promises nothing and casts no vote (rule R1). A vote says what the log is, and
 * the log stays as it is until a view starts. The change of state is ReplicaState.promise (replica-state.ts); it is durable before
 * the vote leaves (durable-outbox.ts).
 */
import { ReplicaStatus, ViewReason } from '../../../wire/messages.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { invariant } from '../../invariant.js';
import { lowest } from '../../masks.js';
import { MAX_VIEW } from '../../views.js';
import type { Contradictions } from '../contradictions.js';
import type { Sender } from '../replica-sender.js';
import type { ReplicaState } from '../replica-state.js';
import type { ViewListener } from './view-listener.js';
import type { ViewStart } from './view-start.js';

export class Promises {
  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly viewStart: ViewStart,
    private readonly contradictions: Contradictions,
    private readonly listener: ViewListener,
  ) {}

  /**
   * Promises view `view`, and votes for it. A replica that lost its log does nothing; nor does one that does not know that
   * the epoch of `view` is committed (C2), or whose vote would not count.
   * @param runs the view has started, so that it can be joined without a vote
   */
  promise(view: number, why: string, now: Instant, reason: number = ViewReason.unknown, runs = false): void {
    const { state } = this;
    if (state.status === ReplicaStatus.recovering || view > MAX_VIEW || state.views.of(view) === undefined) return;
    if (!runs && !state.views.mayVote(view, state.id)) return;
    const wasWaiting = state.status === ReplicaStatus.viewChange;
    const left = state.view;
    state.promise(view);
    state.counters[Counter.view_changes_started]!++;
    this.viewStart.reset();
    this.listener.promised(left, wasWaiting, reason, now);
    state.transition('promise', why);
    this.vote();
    if (state.primary === state.id) this.viewStart.choose(now);
  }

  /** Tells the primary of the promised view what this replica's log is. */
  vote(): void {
    const { state } = this;
    invariant(
      state.status === ReplicaStatus.viewChange && state.logView < state.view,
      'a vote is cast by a replica that has its log, for a view that has not started there',
    );
    if (!state.views.mayVote(state.view, state.id)) return;
    if (state.primary === state.id) this.viewStart.takeOwn();
    // A primary that takes something else for committed would ignore the vote; one of an earlier release would stop.
    else if (((this.contradictions.replicas >>> state.primary) & 1) === 0) this.sender.vote(state.primary);
  }

  /** Asks the others for the promised view again, and votes again; as long as the view has not started. */
  repeat(reason: number, now: Instant): void {
    const { state } = this;
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1)
      this.sender.viewChange(lowest(rest), state.view, reason);
    this.vote();
    this.viewStart.choose(now);
  }
}
