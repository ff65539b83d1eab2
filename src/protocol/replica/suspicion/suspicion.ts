/**
 * Who is suspected, and when: silence of the primary or of members, what hosts and clients say, and the probes that follow.
 *
 * Everything in this folder decides only when another view is asked for, and which one. It may be changed freely. It writes
 * neither view, logView, status nor log (a test holds that): it asks ViewChanges for a promise, and the rules in views/ decide.
 * Before it asks for a view a replica probes who is alive (probe-round.ts), draws its conclusion (verdict.ts), and backs off
 * when views do not start (patience.ts). At the primary, slow members (member-lag.ts), clocks that are off (replica-clocks.ts)
 * and pleas of clients (pleas.ts) are further reasons for another view (better-view.ts).
 */
import { Plea, Probe, ProbeReply, ReplicaStatus, ViewReason } from '../../../wire/messages.js';
import { readI32 } from '../../../wire/u64.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { DOUBLE_ZERO } from '../../double-zero.js';
import { NO_OWNER } from '../../log/session-owner.js';
import { lowest } from '../../masks.js';
import type { Synchronization } from '../agreement/synchronization.js';
import type { MemberSearch } from '../membership/member-search.js';
import type { Sender } from '../replica-sender.js';
import type { ReplicaState } from '../replica-state.js';
import type { ViewChanges } from '../views/view-changes.js';
import type { ViewListener } from '../views/view-listener.js';
import { BetterView } from './better-view.js';
import { CuriousClients } from './curious-clients.js';
import { ENTRIES_BEHIND, OpenEpoch } from './open-epoch.js';
import { Patience } from './patience.js';
import { ProbeRound } from './probe-round.js';
import type { SyncAnswers } from './sync-answers.js';
import { Verdict } from './verdict.js';

/**
 * Silence of the primary, in Sync intervals, after which a member sends it a probe, so that its host may say that no process
 * listens there.
 */
const LOOK_AFTER = 1.5;
/** Views in a row that were promised and did not start, after which the members are searched for elsewhere. */
const SEARCH_AFTER = 2;
/** Fields of `due`. */
const SUSPECT = 0;
const LOOK = 1;

export class Suspicion implements Omit<ViewListener, 'unknownEpoch'> {
  private readonly round: ProbeRound;
  private readonly patience: Patience;
  private readonly better: BetterView;
  private readonly verdict: Verdict;
  private readonly curious: CuriousClients;
  private readonly openEpoch: OpenEpoch;

  private probing = false;
  /** The running probe is for the sake of a client. */
  private pleading = false;
  /** The running probe is for the sake of the epoch that is decided: no replica is suspected. */
  private opening = false;
  /** The last round was for the sake of a client and found no view for it. An answer that comes later may bring one. */
  private pleaOpen = false;
  /** The running probe was begun by what a host says, before any replica had been silent for as long as is tolerated. */
  private hinted = false;
  /**
   * Written by `findDue`, monotonic µs: when the silent replica is suspected (SUSPECT), and when it is asked whether the
   * primary's process is gone (LOOK).
   */
  private readonly due = new Float64Array(2);
  private lookedUs = -Infinity;
  /** Monotonic µs at which the present view was promised, and at which that is said again. */
  private promisedUs = DOUBLE_ZERO;
  private repeatUs = DOUBLE_ZERO;
  /** ViewReason of the present view, as far as it was heard, and the view that was left for it. */
  private reason: number = ViewReason.unknown;
  private left = 0;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly synchronization: Synchronization,
    private readonly viewChanges: ViewChanges,
    answers: SyncAnswers,
    private readonly memberSearch: MemberSearch,
  ) {
    this.openEpoch = new OpenEpoch(state);
    this.better = new BetterView(state, synchronization, answers, this.openEpoch);
    this.round = new ProbeRound(state);
    this.patience = new Patience(state, synchronization);
    this.verdict = new Verdict(
      state,
      sender,
      synchronization,
      viewChanges,
      this.round,
      this.patience,
      this.better,
      memberSearch,
    );
    this.curious = new CuriousClients(state.hosts, sender);
  }

  /** After recovery: nothing is known of the others yet. */
  start(now: Instant): void {
    const { state } = this;
    this.patience.draw();
    this.promisedUs = now.monotonicUs;
    if (state.status === ReplicaStatus.normal) this.synchronization.viewStarted(now);
  }

  /** Lowers `out[0]` to the monotonic µs of the next thing to do by time. */
  wakeBefore(out: Float64Array): void {
    const { state } = this;
    if (state.removed) return;
    out[0] = Math.min(out[0]!, this.viewChanges.installation.nextSliceAtUs);
    if (this.probing) {
      out[0] = Math.min(out[0]!, this.round.sentUs + this.patience.windowUs());
      return;
    }
    this.findDue();
    let at = Math.min(out[0]!, this.due[SUSPECT]!, this.due[LOOK]!, this.openEpoch.dueUs);
    if (state.status === ReplicaStatus.viewChange) at = Math.min(at, this.repeatUs);
    if (this.viewChanges.installation.target !== undefined) at = Math.min(at, this.viewChanges.installation.wakeAtUs);
    out[0] = at;
  }

  tick(now: Instant): void {
    const { state } = this;
    if (state.removed) return;
    // Before its promise is on the disk it has said nothing that others could answer.
    if (state.status === ReplicaStatus.viewChange && !state.out.hardStateIsDurable) this.promisedUs = now.monotonicUs;
    this.patience.tick(now);
    this.round.tick(now);
    this.openEpoch.tick(now);
    if (this.probing && now.monotonicUs - this.round.sentUs >= this.patience.windowUs()) this.decide(now);
    if (state.status === ReplicaStatus.viewChange && now.monotonicUs >= this.repeatUs) this.repeat(now);
    this.findDue();
    if (!this.probing && now.monotonicUs >= this.due[SUSPECT]!) this.suspect(now);
    else if (!this.probing && now.monotonicUs >= this.openEpoch.dueUs) this.open(now);
    else if (now.monotonicUs >= this.due[LOOK]!) this.look(now);
  }

  /** Primary, end of a turn: leaves a view that works for a better one, if that is worth it. */
  improve(now: Instant): void {
    if (!this.state.isPrimary) return;
    const view = this.better.find(now);
    if (view >= 0) this.verdict.leaveFor(view, now);
  }

  forgive(gapUs: number): void {
    this.promisedUs += gapUs;
    if (this.probing) this.round.sentUs += gapUs;
  }

  promised(left: number, wasWaiting: boolean, reason: number, now: Instant): void {
    if (wasWaiting) this.patience.attempts++;
    this.left = left;
    this.probing = false;
    this.pleading = false;
    this.opening = false;
    this.pleaOpen = false;
    this.verdict.alarms = 0;
    this.promisedUs = now.monotonicUs;
    this.count(reason, now);
    this.repeatUs = now.monotonicUs + this.state.config.timings.syncIntervalUs;
    this.patience.draw(!wasWaiting && reason !== ViewReason.silence && reason !== ViewReason.gone);
  }

  asked(reason: number, now: Instant): void {
    // A vote may have come first.
    if (this.reason === ViewReason.unknown) this.count(reason, now);
  }

  started(_now: Instant): void {
    this.patience.attempts = 0;
    this.verdict.alarms = 0;
    this.probing = false;
    this.patience.draw();
    // The primary starts first and does not tell clients: their requests would reach members that have not started.
    if (this.state.isPrimary) this.curious.forget();
    else this.curious.tell();
  }

  /** A client or replica speaks of a view above ours: ask that view's primary, do not believe. */
  askAbout(view: number, now: Instant): void {
    this.verdict.askAbout(view, now);
  }

  /** Asks these for a sign of life; a mask. What they answer is not waited for. */
  greet(replicas: number): void {
    for (let rest = replicas; rest !== 0; rest &= rest - 1) this.sender.probe(lowest(rest), 0);
  }

  onProbe(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    // A primary that is about to be replaced does not say that all is well, with two exceptions. One that is alone has to be
    // heard by the replicas that are to begin beside it. A replica that asks from another view has to learn of this one: two
    // such primaries would be silent to each other for ever.
    if (
      state.hosts.has(from) &&
      this.synchronization.heartbeat.unheard &&
      !state.alone &&
      readI32(bytes, o + Probe.at.view) === state.view
    )
      return;
    this.sender.probeReply(from, readI32(bytes, o + Probe.at.nonce), this.patience.heardPrimary(now));
    if (state.status !== ReplicaStatus.normal) this.curious.remember(from);
    // A replica that asks from an older view learns of this one by its primary's Sync.
    if (state.hosts.has(from) && state.isPrimary && readI32(bytes, o + Probe.at.view) < state.view)
      this.sender.sync(from, 0);
  }

  onProbeReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const view = readI32(bytes, o + ProbeReply.at.view);
    if (view > this.state.view && this.state.views.of(view) === undefined) this.memberSearch.ask(from, now);
    if (!this.round.isAnswer(bytes, o)) return;
    if (!this.probing && !this.isPleaOpen(now)) {
      this.answeredAfterRound(from, now);
      return;
    }
    this.round.take(bytes, o, from);
    if (!this.probing) {
      this.answeredAfterRound(from, now);
      this.relieve(now);
    } else if (this.round.allAnswered()) this.decide(now);
  }

  /**
   * A client says that nothing commits: this replica looks at once, instead of when the timeout has passed, and may leave the
   * view for the client's sake.
   */
  onPlea(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant): void {
    const { state } = this;
    if (readI32(bytes, o + Plea.at.view) !== state.view) return;
    this.curious.remember(from);
    if (this.probing || state.status !== ReplicaStatus.normal) return;
    const rested = now.monotonicUs - this.round.sentUs >= state.config.timings.suspectUs;
    const unreachable = readI32(bytes, o + Plea.at.unreachable);
    if (unreachable !== 0 && this.better.pleas.heard(owner === NO_OWNER ? -from : owner, unreachable, now) && rested) {
      // Another round would void the answers to this one, which come after it where replicas are far apart.
      if (this.isPleaOpen(now)) return;
      this.suspect(now);
      this.pleading = true;
      this.patience.probeRounds = 0; // no replica is suspected yet
      return;
    }
    if (!this.patience.isWorried(now) || !rested) this.look(now);
    else this.suspect(now);
  }

  /**
   * The host of replica `replica` says that no process listens at its address. It is a hint, and can be forged. It brings a
   * probe forward, and stands for an answer only if it came after the probe was sent. It does not shorten the silence that is
   * tolerated. After a false one, hosts are not believed for a while. A replica that was never heard in this view is not gone:
   * it has not come yet.
   */
  unreachable(replica: number, now: Instant): void {
    const { state, synchronization } = this;
    if (replica < 0 || !state.hosts.has(replica) || replica === state.id) return;
    state.counters[Counter.unreachable]!++;
    this.round.hostSays(replica, now);
    if (this.probing) {
      if (this.round.allAnswered()) this.decide(now);
      return;
    }
    if (
      state.status !== ReplicaStatus.normal ||
      now.monotonicUs - this.round.sentUs < state.config.timings.syncIntervalUs
    )
      return;
    const matters = state.isPrimary
      ? state.views.isMember(state.view, replica) && synchronization.heartbeat.wasHeard(replica)
      : replica === state.primary && state.syncHeard > 0;
    if (!matters) return;
    this.suspect(now);
    this.hinted = true;
  }

  /** Remembers why the present view was asked for: a reason that comes back again and again was no good one. */
  private count(reason: number, now: Instant): void {
    this.reason = reason;
    this.better.count(reason, this.left, now);
    if (reason === ViewReason.silence) this.patience.leftForSilence(now);
  }

  /** Says the promise again, as long as the view has not started. */
  private repeat(now: Instant): void {
    this.repeatUs =
      now.monotonicUs + this.state.config.timings.syncIntervalUs * Math.min(8, 1 + this.patience.attempts);
    // What was said first waits for the disk. Said again it would all leave at once then, and be answered one by one.
    if (this.state.out.hardStateIsDurable) this.viewChanges.repeat(this.reason, now);
    // Views that do not start: perhaps this replica is no member any more, and nobody tells it.
    if (this.patience.attempts >= SEARCH_AFTER) this.memberSearch.search(now);
  }

  /** Finds out when a replica is to be suspected, and when to look whether the primary's process is gone. */
  private findDue(): void {
    const { state, due, synchronization, patience } = this;
    const { installation } = this.viewChanges;
    const { syncIntervalUs } = state.config.timings;
    const isNormal = state.status === ReplicaStatus.normal;
    // A round without a decision is repeated, more slowly each time.
    const rest = this.round.sentUs + syncIntervalUs * Math.min(16, 1 << Math.min(patience.probeRounds, 4));
    if (state.status === ReplicaStatus.recovering) due[SUSPECT] = rest;
    else {
      const since = isNormal
        ? patience.silentFromUs()
        : Math.max(this.promisedUs, installation.target === undefined ? 0 : installation.progressUs);
      due[SUSPECT] = Math.max(
        since +
          (isNormal ? Math.max(patience.drawnUs * patience.silenceFactor, patience.toleratedUs()) : patience.drawnUs),
        rest,
      );
    }
    // If the process is not gone, to look costs a message each way.
    const looks = isNormal && !this.probing && !state.isPrimary && state.syncHeard !== 0;
    due[LOOK] = looks
      ? Math.max(synchronization.heartbeat.primaryHeardUs + LOOK_AFTER * syncIntervalUs, this.lookedUs + syncIntervalUs)
      : Infinity;
  }

  /**
   * A replica answers a probe of a round that is over: it was alive all the time. If a view was asked for without it, it was
   * suspected wrongly.
   */
  private answeredAfterRound(from: number, now: Instant): void {
    const { round } = this;
    if (!round.acquits(from)) return;
    this.state.counters[Counter.false_suspicions]!++;
    if (!round.accusedGone) this.synchronization.heartbeat.silence.note(now.monotonicUs - round.accusedSinceUs);
    else {
      round.wasForged(now);
      this.state.transition(
        'gone-wrongly',
        `replica ${this.state.hosts.idOf(from)} answers, and its host had said that nothing listens there; such reports are not believed for ten minutes`,
      );
    }
  }

  /** Sends a probe to the replicas that this view needs. Not for the answer: if no process listens there, its host says so. */
  private look(now: Instant): void {
    const { state } = this;
    if (now.monotonicUs - this.lookedUs < state.config.timings.syncIntervalUs / 4) return;
    this.lookedUs = now.monotonicUs;
    if (state.isPrimary) this.greet(state.views.memberMask(state.view) & ~(1 << state.id));
    else this.sender.probe(state.primary, 0);
  }

  /** Something is wrong: ask all replicas how they are. */
  private suspect(now: Instant): void {
    const { state } = this;
    this.round.sentUs = now.monotonicUs;
    if (state.hosts.others === 0) {
      if (state.status === ReplicaStatus.recovering) state.noteLost(1, 1);
      return;
    }
    state.counters[Counter.suspicions]!++;
    this.probing = true;
    this.pleaOpen = false;
    this.hinted = false;
    this.opening = false;
    const nonce = this.round.begin();
    this.patience.probeRounds++;
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1) this.sender.probe(lowest(rest), nonce);
  }

  /** The decided epoch has not begun for long: asks all whether a quorum of it is there. */
  private open(now: Instant): void {
    this.openEpoch.looks(now);
    this.suspect(now);
    this.opening = this.probing;
    this.patience.probeRounds = 0; // no replica is suspected
  }

  /** Asks for the decided epoch, if the round found a quorum of it. */
  private begins(now: Instant): boolean {
    const { state, round } = this;
    if (state.status !== ReplicaStatus.normal) return false;
    const ready = round.keepingUp(state.committed - ENTRIES_BEHIND) | (1 << state.id);
    const view = this.better.beginning(ready, state.primary);
    if (view < 0) return false;
    this.verdict.leaveFor(view, now);
    return true;
  }

  /** The answers are in, or time is up. */
  private decide(now: Instant): void {
    const { pleading, opening } = this;
    this.probing = false;
    this.pleading = false;
    this.opening = false;
    if (opening && (this.begins(now) || !this.patience.isWorried(now))) return;
    if (this.verdict.decide(pleading, this.hinted, now)) this.pleaOpen = true;
  }

  /**
   * A round for the sake of a client does not end with the window of a suspicion, in which only replicas nearby answer. Nothing
   * waits for it, so answers count for as long as the longest window.
   */
  private isPleaOpen(now: Instant): boolean {
    return (
      this.pleaOpen && now.monotonicUs - this.round.sentUs < this.patience.longestWindowUs && !this.round.allAnswered()
    );
  }

  /** An answer came after its round, which was for the sake of a client: now there may be a view for that client. */
  private relieve(now: Instant): void {
    const { state } = this;
    if (state.status !== ReplicaStatus.normal) return;
    const alive = this.round.alive() | (1 << state.id);
    const withLog = this.round.withLog() | (1 << state.id);
    const view = this.better.forClients(alive, withLog, now);
    if (view >= 0) this.verdict.leaveFor(view, now);
  }
}
