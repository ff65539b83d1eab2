/**
 * What follows from a round of probes: nothing, patience, or another view, and which. Speed only: whatever is asked for here, views
 * start by the rules in views/.
 *
 * The view that is asked for is the smallest above all that were heard of whose quorum is alive. The primary is kept if it is alive.
 */
import { ReplicaStatus, ViewReason } from '../../../wire/messages.js';
import type { Instant } from '../../contract.js';
import { count, maskToString } from '../../masks.js';
import type { Synchronization } from '../agreement/synchronization.js';
import type { Sender } from '../replica-sender.js';
import type { ReplicaState } from '../replica-state.js';
import type { ViewChanges } from '../views/view-changes.js';
import type { BetterView } from './better-view.js';
import type { Patience } from './patience.js';
import type { ProbeRound } from './probe-round.js';

/** Probe rounds in which a member believes the others that its primary is alive before it asks for a view all the same. */
const PATIENCE = 2;

export class Verdict {
  /** Rounds in a row in which others said that all is well, and this replica heard nothing. */
  alarms = 0;
  private askedUs = -Infinity;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly synchronization: Synchronization,
    private readonly viewChanges: ViewChanges,
    private readonly round: ProbeRound,
    private readonly patience: Patience,
    private readonly better: BetterView,
  ) {}

  /**
   * The answers are in, or time is up: what follows from them.
   * @param pleading the round was for the sake of a client
   * @param hinted it was begun by what a host says, before anybody had been silent for as long as is tolerated
   * @returns true when a client is still not served: an answer that comes later may name a view for it
   */
  decide(pleading: boolean, hinted: boolean, now: Instant): boolean {
    const { state } = this;
    let pleaOpen = false;
    const mine = state.status;
    const alive = this.round.alive() | (1 << state.id);
    const withLog = this.round.withLog() | (mine === ReplicaStatus.recovering ? 0 : 1 << state.id);
    let above = state.view;
    let heard = false;
    // A higher view runs of which this replica hears nothing: its primary's Syncs are lost on the way here.
    let elsewhere = -1;
    let lost = mine === ReplicaStatus.recovering ? 1 << state.id : 0;
    for (const [r, answer] of this.round.answers) {
      // One that is starting has lost nothing where there is nothing yet.
      if (answer.status === ReplicaStatus.recovering && (!answer.starting || state.view > 0 || state.log.lastIndex > 0))
        lost |= 1 << r;
      if (answer.view === state.view && answer.heardPrimary && r !== state.primary) heard = true;
      if (answer.view > above) {
        above = answer.view;
        // Its primary's Sync, or the promise that it asks for, brings us there.
        if (mine !== ReplicaStatus.recovering && answer.status === ReplicaStatus.viewChange) {
          this.viewChanges.promise(answer.view, `replica ${r} promised it`, now);
          return pleaOpen;
        }
        if (answer.status === ReplicaStatus.normal) this.askAbout(answer.view, now);
      }
      if (
        answer.view > state.view &&
        answer.status === ReplicaStatus.normal &&
        answer.heardPrimary &&
        r !== state.views.primary(answer.view)
      )
        elsewhere = Math.max(elsewhere, answer.view);
    }
    state.noteLost(lost, alive);
    if (pleading && mine === ReplicaStatus.normal && above === state.view) {
      const better = this.better.forClients(alive, withLog, now);
      if (better >= 0) {
        this.leaveFor(better, now);
        return pleaOpen;
      }
      pleaOpen = true;
      if (!this.patience.isWorried(now)) return true;
    }
    const answerOfPrimary = this.round.answers.get(state.primary);
    if (
      mine === ReplicaStatus.normal &&
      !state.isPrimary &&
      answerOfPrimary !== undefined &&
      answerOfPrimary.view === state.view &&
      answerOfPrimary.status === ReplicaStatus.normal
    ) {
      // It lives, and its Sync was lost or is on its way.
      this.synchronization.heartbeat.primaryAnswered(now);
      this.alarms = this.patience.undecided = 0;
      return pleaOpen;
    }
    // The hint did not come true: no host says that nobody listens there, and silence is borne for as long as without it.
    if (
      mine === ReplicaStatus.normal &&
      hinted &&
      !this.round.someoneGone() &&
      now.monotonicUs < this.patience.silentFromUs() + this.patience.borneUs()
    ) {
      if (state.isPrimary) this.membersAnswered(now);
      return pleaOpen;
    }
    if (
      mine === ReplicaStatus.normal &&
      !state.isPrimary &&
      heard &&
      !this.round.isGone(state.primary) &&
      (++this.alarms <= PATIENCE || !state.isMember)
    )
      return pleaOpen;
    // Where it is needed, that view's primary misses it. To take everybody out of a view that serves would only move the hole.
    if (
      mine !== ReplicaStatus.recovering &&
      elsewhere === above &&
      elsewhere > state.view &&
      (++this.alarms <= PATIENCE || !state.views.isMember(elsewhere, state.id))
    )
      return pleaOpen;
    if (state.isPrimary && this.membersAnswered(now)) return pleaOpen;
    // A recovering member needs a view above its durable one; a recovering spare only needs to hear of the one that runs.
    if (mine === ReplicaStatus.recovering && (above > state.view || !state.views.isMember(state.view, state.id))) {
      this.announceRecovery();
      if (this.round.highestNormal() >= state.view || above > state.view) return pleaOpen;
    }
    const { patience } = this;
    patience.undecided = count(withLog) < state.views.f + 1 ? patience.undecided + 1 : 0;
    if (count(withLog) < state.views.f + 1) {
      if (state.isPrimary) this.stopLeading(alive);
      return pleaOpen;
    }
    const keep = state.primary;
    const keepAlive =
      ((withLog >>> keep) & 1) === 1 &&
      (mine !== ReplicaStatus.viewChange || keep === state.id || patience.attempts === 0);
    // That clients do not hear a replica, or its clock is off, is no reason to have no view; nor to wait once more for a member that did not come.
    const preferred = alive & ~this.better.avoided(now);
    const absent = this.synchronization.commitIndex.absentMembers();
    let view = keepAlive ? state.views.next(above, preferred & ~absent, keep, 0) : -1;
    if (view < 0 && keepAlive && absent !== 0) view = state.views.next(above, alive & ~absent, keep, 0);
    if (view < 0 && keepAlive) view = state.views.next(above, preferred, keep, 0);
    if (view < 0 && keepAlive) view = state.views.next(above, alive, keep, 0);
    if (view < 0) view = state.views.next(above, preferred, -1, withLog);
    if (view < 0) view = state.views.next(above, alive, -1, withLog);
    if (view < 0) return pleaOpen;
    const reason =
      mine !== ReplicaStatus.normal
        ? ViewReason.unknown
        : this.round.someoneGone()
          ? ViewReason.gone
          : ViewReason.silence;
    this.askFor(view, `alive ${maskToString(alive, state.n)}`, reason);
    this.accuse();
    if (mine !== ReplicaStatus.recovering) this.viewChanges.promise(view, 'own suspicion', now, reason);
    return pleaOpen && state.view !== view;
  }

  leaveFor(view: number, now: Instant): void {
    const { why, reason } = this.better;
    this.askFor(view, why, reason);
    this.viewChanges.promise(view, why, now, reason);
  }

  /** A client or replica speaks of a view above ours: ask that view's primary, do not believe. */
  askAbout(view: number, now: Instant): void {
    const { state } = this;
    if (now.monotonicUs - this.askedUs < state.config.timings.syncIntervalUs) return;
    this.askedUs = now.monotonicUs;
    const primary = state.views.primary(view);
    if (primary !== state.id) this.sender.probe(primary, 0);
  }

  /** Remembers whose silence, or end, a view is asked for. */
  private accuse(): void {
    const { state, synchronization } = this;
    const sinceUs = this.patience.silentFromUs();
    let silent = 0;
    for (let r = 0; r < state.n; r++)
      if (
        r !== state.id &&
        state.views.isMember(state.view, r) &&
        (state.isPrimary ? synchronization.heartbeat.ackedUs[r] === sinceUs : r === state.primary)
      )
        silent |= 1 << r;
    this.round.accuse(state.status === ReplicaStatus.normal ? silent : 0, sinceUs);
  }

  private askFor(view: number, why: string, reason: number): void {
    const { state } = this;
    state.transition('ask-view', `view ${view}; ${why}`);
    for (let r = 0; r < state.n; r++) if (r !== state.id) this.sender.viewChange(r, view, reason);
  }

  /** The primary of a running view hears too few replicas for any view: the others have to go on without it, and are let know by silence. */
  private stopLeading(alive: number): void {
    const { state, synchronization } = this;
    if (synchronization.heartbeat.unheard) return;
    synchronization.heartbeat.unheard = true;
    // One that starts first is alone for a while: nobody lost it.
    if (synchronization.heartbeat.heardAnyone())
      state.transition('unheard', `only ${maskToString(alive, state.n)} answer: no Sync until more do`);
  }

  /** At the primary: the members that were silent did answer; they are alive, if slow. */
  private membersAnswered(now: Instant): boolean {
    const { state } = this;
    for (let r = 0; r < state.n; r++) {
      if (r === state.id || !state.views.isMember(state.view, r)) continue;
      const answer = this.round.answers.get(r);
      if (this.round.isGone(r)) return false;
      if (now.monotonicUs - this.synchronization.heartbeat.ackedUs[r]! < state.config.timings.suspectUs) continue;
      if (answer === undefined || answer.view !== state.view || answer.status !== ReplicaStatus.normal) return false;
    }
    for (const r of this.round.answers.keys()) {
      if (state.views.isMember(state.view, r))
        this.synchronization.heartbeat.silence.note(now.monotonicUs - this.synchronization.heartbeat.ackedUs[r]!);
      this.synchronization.heartbeat.ackedUs[r] = now.monotonicUs;
    }
    if (this.synchronization.heartbeat.unheard) {
      this.synchronization.heartbeat.unheard = false;
      if (this.synchronization.heartbeat.heardAnyone()) state.transition('heard-again', 'members answer: Syncs go on');
      this.synchronization.sync(now);
    }
    return true;
  }

  /** The primary of the highest view heard of answers a probe from an older view with its Sync; ask it as one. */
  private announceRecovery(): void {
    const { state } = this;
    const primary = state.views.primary(Math.max(state.view, this.round.highestNormal()));
    if (primary !== state.id) this.sender.probe(primary, 0);
  }
}
