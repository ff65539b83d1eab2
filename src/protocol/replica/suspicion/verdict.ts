/**
 * What follows from a round of probes: nothing, patience, or another view, and which. May be changed freely: whatever is
 * asked for here, views start by the rules in views/.
 *
 * The view that is asked for is the smallest above all that were heard of whose quorum is alive. The primary is kept if it
 * is alive.
 */
import { ReplicaStatus, ViewReason } from '../../../wire/messages.js';
import type { Instant } from '../../contract.js';
import { count, lowest } from '../../masks.js';
import type { Synchronization } from '../agreement/synchronization.js';
import type { MemberSearch } from '../membership/member-search.js';
import type { Sender } from '../replica-sender.js';
import type { ReplicaState } from '../replica-state.js';
import type { ViewChanges } from '../views/view-changes.js';
import type { BetterView } from './better-view.js';
import type { Patience } from './patience.js';
import type { ProbeRound } from './probe-round.js';

/** Probe rounds in which a member believes the others that its primary is alive before it asks for a view all the same. */
const PATIENCE = 2;
/** Rounds in a row with too few answers for any view, after which the members are searched for elsewhere. */
const SEARCH_AFTER = 3;

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
    private readonly memberSearch: MemberSearch,
  ) {}

  /**
   * The answers are in, or time is up: what follows from them.
   * @param pleading the round was for the sake of a client
   * @param hinted it was begun by what a host says, before any replica had been silent for as long as is tolerated
   * @returns true when a client is still not served: an answer that comes later may name a view for it
   */
  decide(pleading: boolean, hinted: boolean, now: Instant): boolean {
    const { state, round } = this;
    const isNormal = state.status === ReplicaStatus.normal;
    const isRecovering = state.status === ReplicaStatus.recovering;
    const answered = round.alive() | (1 << state.id);
    if (this.joinPromise(answered, now)) return false;
    // Who promised a view of another epoch, in which too few are alive, takes no part in this one.
    const alive = answered & ~this.ahead(answered);
    const withLog = (round.withLog() & alive) | (isRecovering ? 0 : 1 << state.id);
    const above = Math.max(state.view, round.highest(alive));
    state.noteLost(this.lostLogs(), alive);
    let pleaOpen = false;
    if (pleading && isNormal && above === state.view) {
      const better = this.better.forClients(alive, withLog, now);
      if (better >= 0) {
        this.leaveFor(better, now);
        return false;
      }
      pleaOpen = true;
      if (!this.patience.isWorried(now)) return true;
    }
    if (isNormal && this.primaryAnswered(now)) return pleaOpen;
    if (isNormal && hinted && this.hintWasWrong(now)) return pleaOpen;
    const servesElsewhere = (isNormal && this.othersHearPrimary()) || (!isRecovering && this.runsElsewhere(above));
    // Others are served, and this replica hears nothing of it: perhaps it is no member any more.
    if (this.alarms > PATIENCE) this.memberSearch.search(now);
    if (servesElsewhere) return pleaOpen;
    if (state.isPrimary && this.membersAnswered(now)) return pleaOpen;
    if (isRecovering && this.hearsOfAnotherView(above)) return pleaOpen;
    if (!this.enoughFor(above, withLog, alive)) {
      if (this.patience.undecided >= SEARCH_AFTER) this.memberSearch.search(now);
      return pleaOpen;
    }
    const view = this.choose(above, alive, withLog, now);
    if (view < 0 || !state.views.mayVote(view, state.id)) return pleaOpen;
    const reason = !isNormal ? ViewReason.unknown : round.someoneGone() ? ViewReason.gone : ViewReason.silence;
    this.askFor(view, `alive ${state.hosts.namesOf(alive)}`, reason);
    this.accuse();
    if (!isRecovering) this.viewChanges.promise(view, 'own suspicion', now, reason);
    return pleaOpen && state.view !== view;
  }

  /**
   * Looks at higher views that others name. A view that another replica promised is promised here too: true. Of one that
   * runs, its primary is asked: its Sync brings this replica there.
   */
  private joinPromise(answered: number, now: Instant): boolean {
    const { state } = this;
    let above = state.view;
    for (const [r, answer] of this.round.answers) {
      if (answer.view <= above || !this.isWithinReach(answer.view, answered)) continue;
      above = answer.view;
      if (state.status !== ReplicaStatus.recovering && answer.status === ReplicaStatus.viewChange) {
        this.viewChanges.promise(answer.view, `replica ${state.hosts.idOf(r)} promised it`, now);
        return true;
      }
      if (answer.status === ReplicaStatus.normal) this.askAbout(answer.view, now);
    }
    return false;
  }

  /** `view` is of the present epoch, or of a later one of which a quorum is alive. */
  private isWithinReach(view: number, answered: number): boolean {
    const { views } = this.state;
    const configuration = views.of(view);
    if (configuration === undefined) return false;
    return configuration === views.present || count(answered & configuration.voters) >= configuration.quorum;
  }

  /** Replicas in views of epochs that are out of reach; a mask. */
  private ahead(answered: number): number {
    let mask = 0;
    for (const [r, { view }] of this.round.answers)
      if (view > this.state.view && !this.isWithinReach(view, answered)) mask |= 1 << r;
    return mask;
  }

  /** The replicas that have lost their logs; a mask. One that is starting has lost nothing where there is nothing yet. */
  private lostLogs(): number {
    const { state } = this;
    const hasSomething = state.view > 0 || state.log.lastIndex > 0;
    let lost = state.status === ReplicaStatus.recovering ? 1 << state.id : 0;
    for (const [r, answer] of this.round.answers)
      if (answer.status === ReplicaStatus.recovering && (!answer.starting || hasSomething)) lost |= 1 << r;
    return lost;
  }

  /** The primary lives, and its Sync was lost or is on its way. */
  private primaryAnswered(now: Instant): boolean {
    const { state } = this;
    const answer = this.round.answers.get(state.primary);
    if (state.isPrimary || answer?.view !== state.view || answer.status !== ReplicaStatus.normal) return false;
    this.synchronization.heartbeat.primaryAnswered(now);
    this.alarms = 0;
    this.patience.undecided = 0;
    return true;
  }

  /** No host says that no process listens there, so silence is tolerated for as long as without the hint. */
  private hintWasWrong(now: Instant): boolean {
    const { state, patience } = this;
    if (this.round.someoneGone() || now.monotonicUs >= patience.silentFromUs() + patience.toleratedUs()) return false;
    if (state.isPrimary) this.membersAnswered(now);
    return true;
  }

  /** Others hear the primary of this view, which this replica does not hear. A member believes that for PATIENCE rounds. */
  private othersHearPrimary(): boolean {
    const { state, round } = this;
    if (state.isPrimary || round.isGone(state.primary) || !round.isHeardPrimary(state.view)) return false;
    return ++this.alarms <= PATIENCE || !state.isMember;
  }

  /**
   * The highest view runs, and this replica hears nothing of it: the Syncs of its primary are lost on the way here. If this
   * replica is needed there, that view's primary misses it. Another view would take everybody out of one that serves, and
   * only move the hole. A member believes it for PATIENCE rounds.
   */
  private runsElsewhere(above: number): boolean {
    const { state } = this;
    if (above === state.view || !this.round.isHeardPrimary(above)) return false;
    return ++this.alarms <= PATIENCE || !state.views.isMember(above, state.id);
  }

  /**
   * A replica that lost its log waits for a view of which it has heard. A member of its durable view needs a view above that
   * one; a spare only needs to hear of the view that runs.
   */
  private hearsOfAnotherView(above: number): boolean {
    const { state } = this;
    if (above <= state.view && state.views.isMember(state.view, state.id)) return false;
    this.announceRecovery();
    return this.round.highestNormal() >= state.view || above > state.view;
  }

  /** Enough replicas are alive for some view, and enough of them have a log that it could start from. */
  private enoughFor(above: number, withLog: number, alive: number): boolean {
    const { state, patience } = this;
    const { voters, quorum, votes } = state.views.of(above) ?? state.configuration;
    const isEnough = count(alive & voters) >= quorum && count(withLog & voters) >= votes;
    patience.undecided = isEnough ? 0 : patience.undecided + 1;
    if (!isEnough && state.isPrimary) this.stopLeading(alive);
    return isEnough;
  }

  /** The view to ask for; −1: there is none. */
  private choose(above: number, alive: number, withLog: number, now: Instant): number {
    const { state, patience } = this;
    const { views } = state;
    const keep = state.primary;
    const keepAlive =
      ((withLog >>> keep) & 1) === 1 &&
      (state.status !== ReplicaStatus.viewChange || keep === state.id || patience.attempts === 0);
    // That clients do not hear a replica, or its clock is off, is no reason to have no view; nor to wait once more for a
    // member that did not come.
    const preferred = alive & ~this.better.avoided(now);
    const absent = this.synchronization.commitIndex.absentMembers();
    let view = keepAlive ? views.next(above, preferred & ~absent, keep, 0) : -1;
    if (view < 0 && keepAlive && absent !== 0) view = views.next(above, alive & ~absent, keep, 0);
    if (view < 0 && keepAlive) view = views.next(above, preferred, keep, 0);
    if (view < 0 && keepAlive) view = views.next(above, alive, keep, 0);
    if (view < 0) view = views.next(above, preferred, -1, withLog);
    if (view < 0) view = views.next(above, alive, -1, withLog);
    return view;
  }

  /** Asks all for the better view that was found last, and promises it. */
  leaveFor(view: number, now: Instant): void {
    const { why, reason } = this.better;
    this.askFor(view, why, reason);
    this.viewChanges.promise(view, why, now, reason);
  }

  /** A client or replica speaks of a higher view: it is not believed, that view's primary is asked. */
  askAbout(view: number, now: Instant): void {
    const { state } = this;
    if (now.monotonicUs - this.askedUs < state.config.timings.syncIntervalUs) return;
    this.askedUs = now.monotonicUs;
    const primary = state.views.primary(view);
    // There is none if the view is of an epoch that is not known here: any client can name such a view.
    if (primary >= 0 && primary !== state.id) this.sender.probe(primary, 0);
  }

  /** Remembers whose silence, or end, a view is asked for. */
  private accuse(): void {
    const { state } = this;
    const { ackedUs } = this.synchronization.heartbeat;
    const sinceUs = this.patience.silentFromUs();
    let silent = 0;
    for (let rest = this.otherMembers; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (state.isPrimary ? ackedUs[r] === sinceUs : r === state.primary) silent |= 1 << r;
    }
    this.round.accuse(state.status === ReplicaStatus.normal ? silent : 0, sinceUs);
  }

  private get otherMembers(): number {
    const { state } = this;
    return state.views.memberMask(state.view) & ~(1 << state.id);
  }

  private askFor(view: number, why: string, reason: number): void {
    const { state } = this;
    state.transition('ask-view', `view ${view}; ${why}`);
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1)
      this.sender.viewChange(lowest(rest), view, reason);
  }

  /**
   * The primary of a running view hears too few replicas for any view: the others have to continue without it, and notice by
   * its silence.
   */
  private stopLeading(alive: number): void {
    const { state } = this;
    const { heartbeat } = this.synchronization;
    if (heartbeat.unheard) return;
    heartbeat.unheard = true;
    // A replica that starts first is alone for a while: it has lost none.
    if (heartbeat.heardAnyone())
      state.transition('unheard', `of the replicas only ${state.hosts.namesOf(alive)} answer: no Sync until more do`);
  }

  /** At the primary: the members that were silent did answer; they are alive, if slow. */
  private membersAnswered(now: Instant): boolean {
    const { state } = this;
    const { heartbeat } = this.synchronization;
    for (let rest = this.otherMembers; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      const answer = this.round.answers.get(r);
      if (this.round.isGone(r)) return false;
      if (now.monotonicUs - heartbeat.ackedUs[r]! < state.config.timings.suspectUs) continue;
      if (answer === undefined || answer.view !== state.view || answer.status !== ReplicaStatus.normal) return false;
    }
    for (const r of this.round.answers.keys()) {
      if (state.views.isMember(state.view, r)) heartbeat.silence.note(now.monotonicUs - heartbeat.ackedUs[r]!);
      heartbeat.ackedUs[r] = now.monotonicUs;
    }
    if (heartbeat.unheard) {
      heartbeat.unheard = false;
      if (heartbeat.heardAnyone()) state.transition('heard-again', 'members answer: Syncs go on');
      this.synchronization.sync(now);
    }
    return true;
  }

  /** Asks the primary of the highest view heard of: it answers a probe from an older view with its Sync. */
  private announceRecovery(): void {
    const { state } = this;
    const primary = state.views.primary(Math.max(state.view, this.round.highestNormal()));
    if (primary >= 0 && primary !== state.id) this.sender.probe(primary, 0);
  }
}
