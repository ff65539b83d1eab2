/**
 * Views that work, left for a better one: without a member that is slow, whose clock is off, or that a client does not hear.
 * May be changed freely.
 *
 * Each of these is worth some milliseconds without service once, but not again and again. All replicas count alike how often a
 * view was left and why (`count`), because the ViewChange says why it is asked for.
 */
import { ViewReason } from '../../../wire/messages.js';
import type { Instant } from '../../contract.js';
import { Experience } from './experience.js';
import { ENTRIES_BEHIND, type OpenEpoch } from './open-epoch.js';
import { DOUBLE_ZERO } from '../../double-zero.js';
import { count, lowest } from '../../masks.js';
import { Pleas } from './pleas.js';
import type { ReplicaState } from '../replica-state.js';
import type { SyncAnswers } from './sync-answers.js';
import type { Synchronization } from '../agreement/synchronization.js';

/** Pause after a view was left because of a clock: four times as long each time, for this many of them. */
const CLOCK_PAUSE_US = 10_000_000;
const CLOCK_CHANGES_MAX = 4;

/** How often a primary looks whether the epoch that is decided can begin. */
const EPOCH_CHECK_US = 2_000;
/**
 * A promise waits until the host has written down who the members are, and while it does nothing commits. So a primary waits
 * until all voters that answer have said that they have. After the first time it takes a quorum for enough that has; after
 * the second, hosts whose disks hang, or that never say it, hold the epoch up no longer.
 */
const ALL_WRITE_US = 80_000;
const SOME_WRITE_US = 800_000;

export class BetterView {
  readonly pleas: Pleas;
  /** Why the view that was found last is better, for people. */
  why = '';
  /** ViewReason of the same view. */
  reason: number = ViewReason.unknown;
  /** When to look again whether the decided epoch can begin. */
  private epochUs = -Infinity;
  /** When it was found decided. */
  private decidedUs = DOUBLE_ZERO;
  /**
   * The epoch that was found decided in a view, and the newest Sync then. A host that answers a later one has been
   * told that the decision is committed. If it lacks the entry, it learns who the members are when it fetches the entry.
   */
  private decided = 0;
  private decidedIn = -1;
  private decidedSync = 0;
  private readonly clockChanges = new Experience(CLOCK_CHANGES_MAX);

  constructor(
    private readonly state: ReplicaState,
    private readonly synchronization: Synchronization,
    private readonly answers: SyncAnswers,
    private readonly openEpoch: OpenEpoch,
  ) {
    this.pleas = new Pleas(state);
  }

  /**
   * At the primary, at the end of a turn: a view without members that are slow or whose clocks are off. −1: there is none, or it
   * is not time yet.
   */
  find(now: Instant): number {
    const next = this.inNextEpoch(now);
    if (next >= 0) return next;
    const view = this.withoutSlow(now);
    return view >= 0 ? view : this.withoutClock(now);
  }

  /** A view of living replicas for clients that do not hear a member of this one; −1: none is worth leaving this one. */
  forClients(alive: number, withLog: number, now: Instant): number {
    const { state, pleas } = this;
    this.reason = ViewReason.plea;
    this.why = `for clients that do not hear ${state.hosts.namesOf(pleas.avoided(now))}`;
    return pleas.better(state.view, alive, withLog, now);
  }

  /** Replicas without which a view is better, if there is a choice; a mask. */
  avoided(now: Instant): number {
    return this.pleas.avoided(now) | this.answers.clocks.off;
  }

  /** View `left` was left for this reason, whichever replica asked. */
  count(reason: number, left: number, now: Instant): void {
    if (reason === ViewReason.slow) this.answers.lag.changed(now);
    if (reason === ViewReason.clock) this.clockChanges.changed(now);
    if (reason === ViewReason.plea) this.pleas.changed(left, now);
  }

  /** The first view of the decided epoch of which a quorum is there and lacks little; −1: there is none. Speed only. */
  private inNextEpoch(now: Instant): number {
    const { state, synchronization } = this;
    const { heartbeat, commitIndex } = synchronization;
    const { present, newest } = state.views;
    if (newest === present) return -1;
    if (newest.epoch !== this.decided || state.view !== this.decidedIn) {
      this.decided = newest.epoch;
      this.decidedIn = state.view;
      this.decidedSync = heartbeat.sent;
      this.decidedUs = now.monotonicUs;
    }
    if (now.monotonicUs < this.epochUs) return -1;
    this.epochUs = now.monotonicUs + EPOCH_CHECK_US;
    const own = 1 << state.id;
    let ready = own;
    for (let rest = heartbeat.answering(now) & ~own; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      const hasHeard = heartbeat.hasAnsweredSince(r, this.decidedSync);
      if (hasHeard && commitIndex.matched[r]! >= state.committed - ENTRIES_BEHIND) ready |= 1 << r;
    }
    return this.beginning(this.written(ready, now), state.id);
  }

  /** Of the hosts that are ready, those that need not wait for their disks to promise a view of the epoch; 0: not yet. */
  private written(ready: number, now: Instant): number {
    const { state, synchronization } = this;
    const { present, newest } = state.views;
    const sinceUs = now.monotonicUs - this.decidedUs;
    if (sinceUs >= SOME_WRITE_US) return ready;
    const own = state.nextIsWritten ? 1 << state.id : 0;
    const written = (synchronization.heartbeat.membersWritten | own) & ready;
    const answering = synchronization.heartbeat.answering(now) & (present.voters | newest.voters);
    if (sinceUs < ALL_WRITE_US && (answering & ~written) !== 0) return 0;
    return count(written & present.voters) >= present.votes ? written : 0;
  }

  /** A view of the decided epoch, if a quorum of it is `ready`; −1 otherwise. */
  beginning(ready: number, keep: number): number {
    this.reason = ViewReason.unknown;
    this.why = `for epoch ${this.state.views.newest.epoch}`;
    return this.openEpoch.view(ready, keep);
  }

  private withoutSlow(now: Instant): number {
    const { state, synchronization, answers } = this;
    const mask = answers.lag.withoutSlow(synchronization.commitIndex.matched, now);
    if (mask === 0) return -1;
    this.reason = ViewReason.slow;
    this.why = `slow members; as fast as the best spare: ${state.hosts.namesOf(mask)}`;
    return state.views.next(state.view, mask & ~this.avoided(now), state.id, 0);
  }

  /** Also says whose clock is off. */
  private withoutClock(now: Instant): number {
    const { state, synchronization, clockChanges } = this;
    const { clocks, lag } = this.answers;
    if (clocks.judge(now))
      state.transition(
        clocks.off === 0 && !clocks.divided ? 'clocks-agree' : 'clock-off',
        clocks.describe(state.hosts),
      );
    if (
      (clocks.off & state.views.memberMask(state.view)) === 0 ||
      clockChanges.sinceUs(now) < CLOCK_PAUSE_US * 4 ** Math.max(0, clockChanges.at(now) - 1)
    )
      return -1;
    const fit =
      clocks.right &
      ~this.avoided(now) &
      synchronization.heartbeat.answering(now) &
      lag.keepingUp(synchronization.commitIndex.matched);
    this.reason = ViewReason.clock;
    this.why = clocks.describe(state.hosts);
    return state.views.next(state.view, fit, ((fit >>> state.id) & 1) === 1 ? state.id : -1, fit);
  }
}
