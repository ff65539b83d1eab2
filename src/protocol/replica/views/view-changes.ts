/**
 * View changes, message by message: passes what others say of views to the rules that decide.
 *
 * promise.ts holds the promise and the vote, view-start.ts and votes.ts how a view starts, installation.ts how a log is taken over.
 * *When* a view is asked for is decided in suspicion/.
 *
 * Rule S guarded here, *R1* (the second case of `SyncInstall` in model/JITPaxos.tla): a replica that lost its log casts no vote and
 * acknowledges nothing in a view at or below its durable one as a member; it joins a later view, or its durable one as a spare, by
 * installing the log of that view's primary. ReplicaState.install (replica-state.ts) checks it again.
 */
import { ReplicaStatus, Sync, ViewChange, ViewReason, Vote } from '../../../wire/messages.js';
import { readI32, readIndex } from '../../../wire/u64.js';
import type { Hasher, Instant } from '../../contract.js';
import type { Synchronization } from '../agreement/synchronization.js';
import type { Contradictions } from '../contradictions.js';
import type { Sender } from '../replica-sender.js';
import type { ReplicaState } from '../replica-state.js';
import type { TransferSender } from '../transfer-sender.js';

import type { Installation } from './installation.js';
import { Promises } from './promise.js';
import type { ViewListener } from './view-listener.js';
import { ViewStart } from './view-start.js';
import { readVote } from './votes.js';

export class ViewChanges {
  private readonly viewStart: ViewStart;
  private readonly promises: Promises;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    synchronization: Synchronization,
    transfers: TransferSender,
    hasher: Hasher,
    private readonly contradictions: Contradictions,
    private readonly listener: ViewListener,
  ) {
    this.viewStart = new ViewStart(state, sender, synchronization, transfers, hasher, contradictions, listener);
    this.promises = new Promises(state, sender, this.viewStart, contradictions, listener);
  }

  get installation(): Installation {
    return this.viewStart.installation;
  }

  tick(now: Instant): void {
    this.installation.tick(now);
  }

  forgive(gapUs: number): void {
    this.installation.forgive(gapUs);
  }

  /** Promises a view that this replica or a client asks for. */
  promise(view: number, why: string, now: Instant, reason: number = ViewReason.unknown, runs = false): void {
    this.promises.promise(view, why, now, reason, runs);
  }

  /** Asks for the promised view again, for that ViewReason. */
  repeat(reason: number, now: Instant): void {
    this.promises.repeat(reason, now);
  }

  giveUpSource(now: Instant): void {
    this.viewStart.giveUpSource(now);
  }

  onViewChange(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const view = readI32(bytes, o + ViewChange.at.view);
    const reason = bytes[o + ViewChange.at.reason]!;
    if (!this.isOfVoter(view, from, now) || this.isOfLeaving(view, from)) return;
    if (view === state.view) this.listener.asked(reason, now);
    if (view > state.view) this.promise(view, `asked by replica ${state.hosts.idOf(from)}`, now, reason);
    else if (view < state.view && state.isPrimary) this.sender.sync(from, 0);
    else if (view === state.view && state.status === ReplicaStatus.viewChange) this.promises.vote();
  }

  onVote(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const at = Vote.at;
    const view = readI32(bytes, o + at.view);
    if (view < 0 || !this.isOfVoter(view, from, now) || state.views.primary(view) !== state.id) return;
    if (view > state.view) this.promise(view, `vote of replica ${state.hosts.idOf(from)}`, now);
    if (view !== state.view) return;
    if (state.isPrimary) this.sender.sync(from, 0);
    if (state.status !== ReplicaStatus.viewChange || !this.viewStart.lacks(from)) return;
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    const logView = readI32(bytes, o + at.logView);
    // A replica without a log casts no vote.
    if (logView < 0 || logView >= view || committed > lastIndex) return;
    // A replica that takes something else for committed has no log that a view could start from. It may stop itself; this one
    // goes on.
    if (
      this.contradictions.contradicts(
        from,
        committed,
        readI32(bytes, o + at.committedChain),
        readI32(bytes, o + at.committedChain + 4),
        now,
      )
    )
      return;
    this.viewStart.take(readVote(bytes, o, from), now);
  }

  /**
   * Replica `from` may speak of `view`: its vote for it counts (C3). Of a view whose epoch is not known here, it is asked
   * for the epoch (C2); an older one is answered as ever.
   */
  private isOfVoter(view: number, from: number, now: Instant): boolean {
    const { state } = this;
    if (view < state.view || state.views.mayVote(view, from)) return true;
    if (state.views.of(view) === undefined) this.listener.unknownEpoch(from, view, now);
    return false;
  }

  /**
   * The replica leaves with the epoch that `view` is of, and a log of that epoch is here: what is left of the change is for the
   * voters of the epoch, whose votes are enough (C3). The other may not know yet that the epoch runs.
   */
  private isOfLeaving(view: number, from: number): boolean {
    const { state } = this;
    const { views } = state;
    if (view <= state.view) return false;
    const own = views.of(view);
    return own !== undefined && own === views.of(state.logView) && ((own.voters >>> from) & 1) === 0;
  }

  /** Joins the view of a Sync if it has not started here. True when there is nothing else to do with the Sync. */
  onSync(bytes: Uint8Array, o: number, from: number, now: Instant): boolean {
    const { state } = this;
    const at = Sync.at;
    const view = readI32(bytes, o + at.view);
    if (view >= state.view && state.views.of(view) === undefined) this.listener.unknownEpoch(from, view, now);
    if (view < 0 || view < state.view || state.views.primary(view) !== from || from === state.id) return true;
    if (view === state.view && state.status === ReplicaStatus.normal) return false;
    if (state.status === ReplicaStatus.recovering) {
      // Rule R1: in its durable view it may have acknowledged what it no longer has.
      if (view === state.view && state.views.isMember(view, state.id)) return true;
    } else if (view > state.view) {
      this.promise(view, `view ${view} runs`, now, ViewReason.unknown, true);
    }
    const { target } = this.installation;
    if (target !== undefined && target.view >= view) return true;
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    if (committed > lastIndex) return true;
    if (
      this.contradictions.contradicts(
        from,
        committed,
        readI32(bytes, o + at.committedChain),
        readI32(bytes, o + at.committedChain + 4),
        now,
      )
    )
      return true;
    if (lastIndex < state.committed) {
      // An older Sync of the view whose log was being taken up.
      if (state.status === ReplicaStatus.recovering) return true;
      this.contradictions.impossible(
        from,
        `starts view ${view} with a log of ${lastIndex} entries, and ${state.committed} are committed here`,
        now,
      );
      return true;
    }
    this.installation.start(
      {
        view,
        logView: view,
        source: this.installation.sourceFor(from, view),
        lastIndex,
        chainHi: readI32(bytes, o + at.lastChain),
        chainLo: readI32(bytes, o + at.lastChain + 4),
        committed,
        claims: [],
      },
      now,
    );
    return true;
  }
}
