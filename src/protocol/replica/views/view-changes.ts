/**
 * View changes: who suspects whom, promises, votes, the choice of the log, one start a view, and the return of a replica
 * that lost its log.
 *
 * Rules S guarded here:
 * - *Promise*: from the moment that a replica's durable view is v it acknowledges in no older one, ever.
 * - *Choice*: the primary of v starts from the votes of f+1 replicas: of those with the highest logView, the vote of that
 *   view's primary, else of a member of its quorum, else (no member can then have acknowledged in it) any.
 * - *One start*: it fixes the log once; later votes change nothing.
 * - *R1*: a replica that lost its log casts no vote and acknowledges nothing in a view at or below its durable one as a
 *   member; it joins a later view, or its durable one as a spare, by installing the log of that view's primary.
 *
 * Everything else is liveness: before it asks for a view, a replica probes who is alive, chooses the smallest view above
 * all it heard of whose quorum is, keeps the primary if that is, and backs off when views come to nothing.
 */
import { Plea, Probe, ReplicaStatus, Sync, ViewChange, ViewReason, Vote } from '../../../wire/messages.js';
import { readI32, readIndex } from '../../../wire/u64.js';
import { chooseVote, readBallot, type Ballot } from './ballots.js';
import { BetterView } from '../suspicion/better-view.js';
import type { Hasher, Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import type { Divergence } from '../divergence.js';
import { Experience } from '../suspicion/experience.js';
import { Installation, type Target } from './installation.js';
import { invariant } from '../../invariant.js';
import { count, maskToString } from '../../masks.js';
import { ProbeRound } from '../suspicion/probe-round.js';
import { Jitter } from '../../jitter.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';
import type { Synchronization } from '../agreement/synchronization.js';
import { NO_OWNER } from '../../log/session-owner.js';
import { MAX_VIEW } from '../../views.js';

/** Clients that are told when a view starts here; those beyond have to ask again. */
const CURIOUS_MAX = 64;
/** Silence of the primary, in Sync intervals, after which a member sends it a probe, so that its host may say that nobody listens. */
const LOOK_AFTER = 1.5;

/** Silence that is borne, in multiples of the longest that turned out to be harmless of late (silence.ts), … */
const SILENCE_BORNE = 3;
/** … up to so many times `suspectUs`. */
const SUSPECT_MAX = 50;
/** Views left for silence that count: each one after the first doubles what is borne. */
const SILENCES_MAX = 6;
/** Fields of `due`. */
const SUSPECT = 0;
const LOOK = 1;
/** An answer to a probe is waited for as long as half of that silence, up to so many times `probeWindowUs`; where too few answered for a view, they may be farther away: twice as long the next time. */
const WINDOW_MAX = 50;

/** Probe rounds in which a member believes the others that its primary is alive before it asks for a view all the same. */
const PATIENCE = 2;

export class ViewChanges {
  readonly installation: Installation;

  private readonly jitter: Jitter;
  /** Votes for the present view, at its primary. */
  private votes = new Map<number, Ballot>();
  /** The vote whose log is being fetched, and those that failed to deliver theirs. */
  private chosen: Ballot | undefined;
  private failed = new Set<number>();
  /** Replicas whose votes for the present view contradict another's, each other's: none of them counts. */
  private refused = new Set<number>();
  /** Monotonic µs at which the present view was promised. */
  private promisedUs = 0;
  private repeatUs = 0;
  /** Views that came to nothing in a row. */
  private attempts = 0;
  private patienceUs = 0;

  private readonly round: ProbeRound;
  private probing = false;
  /** Monotonic µs, by `findDue`: when the one who is silent is suspected, and when it is looked whether the primary's process is gone. */
  private readonly due = new Float64Array(2);
  private probeRounds = 0;
  private undecided = 0; // rounds in a row in which too few answered for a view
  private askedUs = -Infinity;
  private lookedUs = -Infinity;
  /** Endpoints of clients that asked in a view that does not serve them. */
  private readonly curious: Int32Array = new Int32Array(CURIOUS_MAX);
  private curiousCount = 0;
  private suspicion = 0;
  /** ViewReason of the present view, as far as it was heard; and the views left because somebody was silent. */
  private reason: number = ViewReason.unknown;
  private readonly silences = new Experience(SILENCES_MAX);
  private left = 0;
  private readonly better: BetterView;
  /** The running probe is for the sake of a client. */
  private pleading = false;
  /** The last round was for the sake of a client, and found no view for it yet: an answer that comes later may. */
  private pleaOpen = false;
  /** The running probe was begun by what a host says, before anybody had been silent for as long as is borne. */
  private hinted = false;
  /** What they multiply `suspectUs` by, now. */
  private borneTimes = 1;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly synchronization: Synchronization,
    hasher: Hasher,
    private readonly divergence: Divergence,
    /** Called when the replica leaves normal operation of a view. */
    private readonly viewEnded: () => void,
  ) {
    this.jitter = new Jitter(state.config.seed);
    this.better = new BetterView(state, synchronization);
    this.round = new ProbeRound(state);
    this.installation = new Installation(
      state,
      sender,
      hasher,
      divergence,
      (target, now) => this.installed(target, now),
      (target, claim, now) => this.disagree(target.source, claim.from, claim.committed, now),
    );
  }

  /** After recovery: nothing is known of the others yet. */
  start(now: Instant): void {
    const { state } = this;
    this.draw();
    this.promisedUs = now.monotonicUs;
    if (state.status === ReplicaStatus.normal) this.synchronization.viewStarted(now);
  }

  /** Lowers `out[0]` to the monotonic µs of the next thing to do by time. */
  wakeBefore(out: Float64Array): void {
    const { state } = this;
    if (this.probing) {
      out[0] = Math.min(out[0]!, this.round.sentUs + this.windowUs());
      return;
    }
    this.findDue();
    let at = Math.min(out[0]!, this.due[SUSPECT]!, this.due[LOOK]!);
    if (state.status === ReplicaStatus.viewChange) at = Math.min(at, this.repeatUs);
    if (this.installation.target !== undefined) at = Math.min(at, this.installation.wakeAtUs);
    out[0] = at;
  }

  tick(now: Instant): void {
    const { state } = this;
    this.installation.tick(now);
    this.borneTimes = 2 ** Math.max(0, this.silences.at(now) - 1);
    this.round.tick(now);
    if (this.probing && now.monotonicUs - this.round.sentUs >= this.windowUs()) this.decide(now);
    if (state.status === ReplicaStatus.viewChange && now.monotonicUs >= this.repeatUs) this.repeat(now);
    this.findDue();
    if (!this.probing && now.monotonicUs >= this.due[SUSPECT]!) this.suspect(now);
    else if (now.monotonicUs >= this.due[LOOK]!) this.look(now);
    this.giveUpSource(now);
  }

  /** Primary, end of a turn: leaves a view that works for a better one, where that is worth it. */
  improve(now: Instant): void {
    if (!this.state.isPrimary) return;
    const view = this.better.find(now);
    if (view >= 0) this.leaveFor(view, now);
  }

  forgive(gapUs: number): void {
    this.promisedUs += gapUs;
    this.installation.progressUs += gapUs;
    if (this.probing) this.round.sentUs += gapUs;
  }

  /** True while nothing says that the primary, or at the primary a member, is gone. */
  heardPrimary(now: Instant): boolean {
    return this.state.status === ReplicaStatus.normal && now.monotonicUs < this.silentFromUs() + this.borneUs();
  }

  /** A client or replica speaks of a view above ours: ask that view's primary, do not believe. */
  askAbout(view: number, now: Instant): void {
    const { state } = this;
    if (now.monotonicUs - this.askedUs < state.config.timings.syncIntervalUs) return;
    this.askedUs = now.monotonicUs;
    const primary = state.views.primary(view);
    if (primary !== state.id) this.sender.probe(primary, 0);
  }

  onProbe(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    // A primary that is about to be replaced does not say that all is well; one that is alone has to be heard by those that are to begin beside it. Who asks from another view has to know of it: two such primaries would be silent to each other for ever.
    if (
      from < state.n &&
      this.synchronization.unheard &&
      !state.alone &&
      readI32(bytes, o + Probe.at.view) === state.view
    )
      return;
    this.sender.probeReply(from, readI32(bytes, o + Probe.at.nonce), this.heardPrimary(now));
    if (state.status !== ReplicaStatus.normal) this.remember(from);
    // Whoever asks from an older view is told of this one by its primary's Sync.
    if (from < state.n && state.isPrimary && readI32(bytes, o + Probe.at.view) < state.view) this.sender.sync(from, 0);
  }

  onProbeReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    if (!this.round.isAnswer(bytes, o)) return;
    if (!this.probing && !this.isPleaOpen(now)) {
      this.answeredLate(from, now);
      return;
    }
    this.round.take(bytes, o, from);
    if (!this.probing) {
      this.answeredLate(from, now);
      this.relieve(now);
    } else if (this.round.allAnswered()) this.decide(now);
  }

  /** A client says that nothing commits: look at once, instead of when the timeout has passed; and whether to leave the view for its sake. */
  onPlea(bytes: Uint8Array, o: number, from: number, owner: number, now: Instant): void {
    const { state } = this;
    if (readI32(bytes, o + Plea.at.view) !== state.view) return;
    this.remember(from);
    if (this.probing || state.status !== ReplicaStatus.normal) return;
    const rested = now.monotonicUs - this.round.sentUs >= state.config.timings.suspectUs;
    const unreachable = readI32(bytes, o + Plea.at.unreachable);
    if (unreachable !== 0 && this.better.pleas.heard(owner === NO_OWNER ? -from : owner, unreachable, now) && rested) {
      // Another round would make nothing of the answers to this one, and where replicas are far apart those always come later.
      if (this.isPleaOpen(now)) return;
      this.suspect(now);
      this.pleading = true;
      this.probeRounds = 0; // nobody is suspected yet
      return;
    }
    if (!this.isWorried(now) || !rested) this.look(now);
    else this.suspect(now);
  }

  /** Somebody has been silent for longer than is usual, if not yet for as long as is borne: what a plea may find. */
  private isWorried(now: Instant): boolean {
    const { syncIntervalUs, suspectUs } = this.state.config.timings;
    return (
      now.monotonicUs - this.silentFromUs() >=
      Math.max(3 * syncIntervalUs, 2 * this.synchronization.silence.worstUs, (suspectUs * (this.borneTimes - 1)) / 2)
    );
  }

  /**
   * The host of replica `replica` says that nobody listens at its address: its process is gone. A hint, and forgeable: it
   * brings a probe forward, and stands for an answer only when it came since that was sent; silence it makes no longer than
   * it is. After one that was false, hosts are not believed for a while. One that was not heard in this view is not gone, it
   * has not come yet.
   */
  unreachable(replica: number, now: Instant): void {
    const { state, synchronization } = this;
    if (replica < 0 || replica >= state.n || replica === state.id) return;
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
      ? state.views.isMember(state.view, replica) && synchronization.wasHeard(replica)
      : replica === state.primary && state.syncHeard > 0;
    if (!matters) return;
    this.suspect(now);
    this.hinted = true;
  }

  onViewChange(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const view = readI32(bytes, o + ViewChange.at.view);
    const reason = bytes[o + ViewChange.at.reason]!;
    // A vote may have come first.
    if (view === state.view && this.reason === ViewReason.unknown) this.count(reason, now);
    if (view > state.view) this.promise(view, `asked by replica ${from}`, now, reason);
    else if (view < state.view && state.isPrimary) this.sender.sync(from, 0);
    else if (view === state.view && state.status === ReplicaStatus.viewChange) this.vote();
  }

  onVote(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const at = Vote.at;
    const view = readI32(bytes, o + at.view);
    if (view < 0 || state.views.primary(view) !== state.id) return;
    if (view > state.view) this.promise(view, `vote of replica ${from}`, now);
    if (view !== state.view) return;
    if (state.isPrimary) this.sender.sync(from, 0);
    if (state.status !== ReplicaStatus.viewChange || this.votes.has(from)) return;
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    const logView = readI32(bytes, o + at.logView);
    if (logView >= view || committed > lastIndex || this.refused.has(from)) return;
    // Whoever takes something else for committed says nothing that a view could start from. It may stop itself, this replica goes on.
    if (
      this.divergence.contradicts(
        from,
        committed,
        readI32(bytes, o + at.committedChain),
        readI32(bytes, o + at.committedChain + 4),
        now,
      )
    )
      return;
    this.votes.set(from, readBallot(bytes, o, from));
    this.choose(now);
  }

  /** A Sync of a view that this replica has not started: adopt it. True when there is nothing else to do with it. */
  onSync(bytes: Uint8Array, o: number, from: number, now: Instant): boolean {
    const { state } = this;
    const at = Sync.at;
    const view = readI32(bytes, o + at.view);
    if (view < 0 || view < state.view || state.views.primary(view) !== from || from === state.id) return true;
    if (view === state.view && state.status === ReplicaStatus.normal) return false;
    if (state.status === ReplicaStatus.recovering) {
      // Rule R1: in its durable view it may have acknowledged what it no longer has.
      if (view === state.view && state.views.isMember(view, state.id)) return true;
    } else if (view > state.view) {
      this.promise(view, `view ${view} runs`, now);
    }
    const { target } = this.installation;
    if (target !== undefined && target.view >= view) return true;
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    if (committed > lastIndex) return true;
    if (
      this.divergence.contradicts(
        from,
        committed,
        readI32(bytes, o + at.committedChain),
        readI32(bytes, o + at.committedChain + 4),
        now,
      )
    )
      return true;
    if (lastIndex < state.committed) {
      this.divergence.impossible(
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
        source: this.installation.sourceFor(from),
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

  /** The promise. Durable before the vote leaves (durable-outbox.ts). */
  private promise(view: number, why: string, now: Instant, reason: number = ViewReason.unknown): void {
    const { state } = this;
    if (state.status === ReplicaStatus.recovering || view > MAX_VIEW) return;
    if (state.status === ReplicaStatus.viewChange) this.attempts++;
    this.left = state.view;
    state.promise(view);
    state.counters[Counter.view_changes_started]!++;
    this.votes.clear();
    this.chosen = undefined;
    this.failed.clear();
    this.refused.clear();
    this.installation.abandon();
    this.probing = false;
    this.pleading = false;
    this.pleaOpen = false;
    this.suspicion = 0;
    this.promisedUs = now.monotonicUs;
    this.count(reason, now);
    this.repeatUs = now.monotonicUs + state.config.timings.syncIntervalUs;
    this.draw();
    this.viewEnded();
    state.transition('promise', why);
    this.vote();
    if (state.primary === state.id) this.choose(now);
  }

  /** Remembers why the present view was asked for: what comes back again and again was no good reason. */
  private count(reason: number, now: Instant): void {
    this.reason = reason;
    this.better.count(reason, this.left, now);
    if (reason === ViewReason.silence) this.silences.changed(now);
  }

  private vote(): void {
    const { state } = this;
    const { log } = state;
    if (state.primary !== state.id) {
      // One that takes something else for committed would ignore it; one of an earlier release would stop.
      if (((this.divergence.log >>> state.primary) & 1) === 0) this.sender.vote(state.primary);
      return;
    }
    if (this.refused.has(state.id)) return;
    const last = log.lastIndex;
    const { committed } = state;
    this.votes.set(state.id, {
      from: state.id,
      logView: state.logView,
      lastIndex: last,
      chainHi: log.chainHi(last),
      chainLo: log.chainLo(last),
      committed,
      committedChainHi: log.chainHi(committed),
      committedChainLo: log.chainLo(committed),
    });
  }

  /** The primary of the promised view chooses the starting log, once it has f+1 votes. */
  private choose(now: Instant): void {
    const { state } = this;
    if (state.status !== ReplicaStatus.viewChange || this.chosen !== undefined || this.votes.size < state.views.f + 1)
      return;
    const { vote, committed, accuser } = chooseVote(this.votes, this.failed, state.views, state.id);
    if (vote.lastIndex < committed) {
      this.disagree(vote.from, accuser, committed, now);
      return;
    }
    this.chosen = vote;
    this.installation.start(
      {
        view: state.view,
        logView: vote.logView,
        source: vote.from,
        lastIndex: vote.lastIndex,
        chainHi: vote.chainHi,
        chainLo: vote.chainLo,
        committed,
        claims: [...this.votes.values()],
      },
      now,
    );
  }

  /**
   * The log of replica `source`, from which the view would start, does not hold what replica `accuser` takes for committed: one of the
   * two is wrong. What is committed at this replica itself it does not doubt; otherwise it cannot know which, and neither vote counts.
   * A view starts from f + 1 votes that do not contradict each other, or not at all.
   */
  private disagree(source: number, accuser: number, index: number, now: Instant): void {
    const { state } = this;
    this.chosen = undefined;
    for (const r of source === accuser || accuser === state.id ? [source] : [source, accuser]) {
      this.votes.delete(r);
      this.refused.add(r);
    }
    this.divergence.impossible(
      source,
      `has a log for view ${state.view} that does not hold entry ${index}, which is committed as replica ${accuser} says`,
      now,
    );
    this.choose(now);
  }

  /** The log of `target` is in place. */
  private installed(target: Target, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const primary = state.views.primary(target.view) === state.id;
    if (state.status === ReplicaStatus.normal) {
      // A spare that lagged too far took a snapshot of the view it is in; the next Sync shows what follows.
      this.sender.syncAck(state.primary, now);
      return;
    }
    if (primary) {
      for (const vote of this.votes.values()) {
        invariant(
          vote.committed <= log.lastIndex &&
            (vote.committed < log.baseIndex ||
              log.matches(vote.committed, vote.committedChainHi, vote.committedChainLo)),
          'the log that starts a view holds every committed entry',
        );
      }
    }
    state.install(target.view);
    state.counters[Counter.views_installed]!++;
    this.attempts = 0;
    this.suspicion = 0;
    this.probing = false;
    this.votes.clear();
    this.chosen = undefined;
    this.draw();
    this.synchronization.viewStarted(now);
    state.commitTo(Math.max(state.committed, target.committed));
    if (primary) {
      state.execution.executeTo(log.lastIndex);
      state.transition('start-view', `log up to ${log.lastIndex}`);
      this.synchronization.sync(now);
    } else {
      state.transition('join-view', `log up to ${log.lastIndex}`);
      this.sender.syncAck(state.primary, now);
      // Not by the primary, which is first: requests would come to members that are not there yet.
      for (let i = 0; i < this.curiousCount; i++) this.sender.probeReply(this.curious[i]!, 0, true);
    }
    this.curiousCount = 0;
  }

  /** Says the promise again, as long as the view has not started. */
  private repeat(now: Instant): void {
    const { state } = this;
    this.repeatUs = now.monotonicUs + state.config.timings.syncIntervalUs * Math.min(8, 1 + this.attempts);
    for (let r = 0; r < state.n; r++) if (r !== state.id) this.sender.viewChange(r, state.view, this.reason);
    this.vote();
    this.choose(now);
  }

  /** The source of an installation brings nothing: another vote that qualifies, or whoever speaks next. */
  private giveUpSource(now: Instant): void {
    const { installation } = this;
    if (installation.target === undefined || !installation.bringsNothing(now)) return;
    this.state.transition('install-failed', `replica ${installation.target.source} brings nothing`);
    this.failed.add(installation.target.source);
    installation.abandon();
    this.chosen = undefined;
    this.choose(now);
  }

  /** Since when nothing was heard of the one whose silence matters: the primary; at the primary the most silent member. */
  private silentFromUs(): number {
    const { state } = this;
    if (!state.isPrimary) return this.synchronization.primaryHeardUs;
    let silent = Infinity;
    for (let r = 0; r < state.n; r++) {
      if (r !== state.id && state.views.isMember(state.view, r) && this.synchronization.ackedUs[r]! < silent)
        silent = this.synchronization.ackedUs[r]!;
    }
    return silent;
  }

  /** Finds out when somebody is to be suspected, and looked at. */
  private findDue(): void {
    const { state, due, synchronization } = this;
    const { syncIntervalUs } = state.config.timings;
    const isNormal = state.status === ReplicaStatus.normal;
    // A round without a decision is repeated, more slowly each time.
    const rest = this.round.sentUs + syncIntervalUs * Math.min(16, 1 << Math.min(this.probeRounds, 4));
    if (state.status === ReplicaStatus.recovering) due[SUSPECT] = rest;
    else {
      const since = isNormal
        ? this.silentFromUs()
        : Math.max(this.promisedUs, this.installation.target === undefined ? 0 : this.installation.progressUs);
      due[SUSPECT] = Math.max(
        since + (isNormal ? Math.max(this.patienceUs * this.borneTimes, this.borneUs()) : this.patienceUs),
        rest,
      );
    }
    // To look costs a message each way where the process is not gone.
    const looks = isNormal && !this.probing && !state.isPrimary && state.syncHeard !== 0;
    due[LOOK] = looks
      ? Math.max(synchronization.primaryHeardUs + LOOK_AFTER * syncIntervalUs, this.lookedUs + syncIntervalUs)
      : Infinity;
  }

  /** Silence that is borne in the present view, but for the jitter. */
  private borneUs(): number {
    const { suspectUs } = this.state.config.timings;
    return Math.min(
      Math.max(SILENCE_BORNE * this.synchronization.silence.worstUs, suspectUs * this.borneTimes),
      SUSPECT_MAX * suspectUs,
    );
  }

  private windowUs(): number {
    const { probeWindowUs } = this.state.config.timings;
    return (
      probeWindowUs *
      Math.min(WINDOW_MAX, Math.max(2 ** this.undecided, this.synchronization.silence.worstUs / 2 / probeWindowUs))
    );
  }

  /** A replica answers a probe of a round that is over: it was alive all the time. One that a view was asked for without was accused wrongly. */
  private answeredLate(from: number, now: Instant): void {
    const { round } = this;
    if (!round.acquits(from)) return;
    this.state.counters[Counter.false_suspicions]!++;
    if (!round.accusedGone) this.synchronization.silence.note(now.monotonicUs - round.accusedSinceUs);
    else {
      round.wasForged(now);
      this.state.transition(
        'gone-wrongly',
        `replica ${from} answers, and its host was said to have nobody who listens; such words are not believed for ten minutes`,
      );
    }
  }

  /** Sends a probe to those whose end would matter. Not for the answer: where nobody listens, its host says so. */
  private look(now: Instant): void {
    const { state } = this;
    if (now.monotonicUs - this.lookedUs < state.config.timings.syncIntervalUs / 4) return;
    this.lookedUs = now.monotonicUs;
    if (!state.isPrimary) this.sender.probe(state.primary, 0);
    else
      for (let r = 0; r < state.n; r++)
        if (r !== state.id && state.views.isMember(state.view, r)) this.sender.probe(r, 0);
  }

  /** A client that waits for a view is told when it starts here. */
  private remember(endpoint: number): void {
    if (
      endpoint < this.state.n ||
      this.curiousCount === CURIOUS_MAX ||
      this.curious.subarray(0, this.curiousCount).includes(endpoint)
    )
      return;
    this.curious[this.curiousCount++] = endpoint;
  }

  /** How long silence is borne now: drawn anew for each view, so that replicas do not ask for views at the same moment. */
  private draw(): void {
    const { timings } = this.state.config;
    const base =
      this.state.status === ReplicaStatus.viewChange
        ? Math.min(timings.viewChangeUs * 2 ** Math.min(this.attempts, 10), timings.viewChangeMaxUs)
        : timings.suspectUs;
    this.patienceUs = base * (1 + 0.5 * this.jitter.next());
    this.probeRounds = this.undecided = 0;
  }

  /** Something is wrong: ask all replicas how they are. */
  private suspect(now: Instant): void {
    const { state } = this;
    this.round.sentUs = now.monotonicUs;
    if (state.n === 1) {
      if (state.status === ReplicaStatus.recovering) state.noteLost(1, 1);
      return;
    }
    state.counters[Counter.suspicions]!++;
    this.probing = true;
    this.pleaOpen = false;
    this.hinted = false;
    const nonce = this.round.begin();
    this.probeRounds++;
    for (let r = 0; r < state.n; r++) if (r !== state.id) this.sender.probe(r, nonce);
  }

  /** The answers are in, or time is up. */
  private decide(now: Instant): void {
    const { state } = this;
    this.probing = false;
    const { pleading } = this;
    this.pleading = false;
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
          this.promise(answer.view, `replica ${r} promised it`, now);
          return;
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
        return;
      }
      this.pleaOpen = true;
      if (!this.isWorried(now)) return;
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
      this.synchronization.primaryAnswered(now);
      this.suspicion = this.undecided = 0;
      return;
    }
    // The hint did not come true: no host says that nobody listens there, and silence is borne for as long as without it.
    if (
      mine === ReplicaStatus.normal &&
      this.hinted &&
      !this.round.someoneGone() &&
      now.monotonicUs < this.silentFromUs() + this.borneUs()
    ) {
      if (state.isPrimary) this.membersAnswered(now);
      return;
    }
    if (
      mine === ReplicaStatus.normal &&
      !state.isPrimary &&
      heard &&
      !this.round.isGone(state.primary) &&
      (++this.suspicion <= PATIENCE || !state.isMember)
    )
      return;
    // Where it is needed, that view's primary misses it. To take everybody out of a view that serves would only move the hole.
    if (
      mine !== ReplicaStatus.recovering &&
      elsewhere === above &&
      elsewhere > state.view &&
      (++this.suspicion <= PATIENCE || !state.views.isMember(elsewhere, state.id))
    )
      return;
    if (state.isPrimary && this.membersAnswered(now)) return;
    // A recovering member needs a view above its durable one; a recovering spare only needs to hear of the one that runs.
    if (mine === ReplicaStatus.recovering && (above > state.view || !state.views.isMember(state.view, state.id))) {
      this.announceRecovery();
      if (this.round.highestNormal() >= state.view || above > state.view) return;
    }
    this.undecided = count(withLog) < state.views.f + 1 ? this.undecided + 1 : 0;
    if (count(withLog) < state.views.f + 1) {
      if (state.isPrimary) this.stopLeading(alive);
      return;
    }
    const keep = state.primary;
    const keepAlive =
      ((withLog >>> keep) & 1) === 1 && (mine !== ReplicaStatus.viewChange || keep === state.id || this.attempts === 0);
    // That clients do not hear a replica, or its clock is off, is no reason to have no view; nor to wait once more for a member that did not come.
    const preferred = alive & ~this.better.avoided(now);
    const absent = this.synchronization.absentMembers();
    let view = keepAlive ? state.views.next(above, preferred & ~absent, keep, 0) : -1;
    if (view < 0 && keepAlive && absent !== 0) view = state.views.next(above, alive & ~absent, keep, 0);
    if (view < 0 && keepAlive) view = state.views.next(above, preferred, keep, 0);
    if (view < 0 && keepAlive) view = state.views.next(above, alive, keep, 0);
    if (view < 0) view = state.views.next(above, preferred, -1, withLog);
    if (view < 0) view = state.views.next(above, alive, -1, withLog);
    if (view < 0) return;
    const reason =
      mine !== ReplicaStatus.normal
        ? ViewReason.unknown
        : this.round.someoneGone()
          ? ViewReason.gone
          : ViewReason.silence;
    this.askFor(view, `alive ${maskToString(alive, state.n)}`, reason);
    this.accuse();
    if (mine !== ReplicaStatus.recovering) this.promise(view, 'own suspicion', now, reason);
  }

  /**
   * A round for the sake of a client is not over with the window of a suspicion, in which only those nearby answer: nobody waits
   * for it, so answers count for as long as the longest window.
   */
  private isPleaOpen(now: Instant): boolean {
    return (
      this.pleaOpen &&
      now.monotonicUs - this.round.sentUs < WINDOW_MAX * this.state.config.timings.probeWindowUs &&
      !this.round.allAnswered()
    );
  }

  /** An answer came after its round, which was for the sake of a client: there may be a view for it now. */
  private relieve(now: Instant): void {
    const { state } = this;
    if (state.status !== ReplicaStatus.normal) return;
    const alive = this.round.alive() | (1 << state.id);
    const withLog = this.round.withLog() | (1 << state.id);
    const view = this.better.forClients(alive, withLog, now);
    if (view >= 0) this.leaveFor(view, now);
  }

  /** Remembers whose silence, or end, a view is asked for. */
  private accuse(): void {
    const { state, synchronization } = this;
    const sinceUs = this.silentFromUs();
    let silent = 0;
    for (let r = 0; r < state.n; r++)
      if (
        r !== state.id &&
        state.views.isMember(state.view, r) &&
        (state.isPrimary ? synchronization.ackedUs[r] === sinceUs : r === state.primary)
      )
        silent |= 1 << r;
    this.round.accuse(state.status === ReplicaStatus.normal ? silent : 0, sinceUs);
  }

  private askFor(view: number, why: string, reason: number): void {
    const { state } = this;
    state.transition('ask-view', `view ${view}; ${why}`);
    for (let r = 0; r < state.n; r++) if (r !== state.id) this.sender.viewChange(r, view, reason);
  }

  private leaveFor(view: number, now: Instant): void {
    const { why, reason } = this.better;
    this.askFor(view, why, reason);
    this.promise(view, why, now, reason);
  }

  /** The primary of a running view hears too few replicas for any view: the others have to go on without it, and are let know by silence. */
  private stopLeading(alive: number): void {
    const { state, synchronization } = this;
    if (synchronization.unheard) return;
    synchronization.unheard = true;
    // One that starts first is alone for a while: nobody lost it.
    if (synchronization.heardAnyone())
      state.transition('unheard', `only ${maskToString(alive, state.n)} answer: no Sync until more do`);
  }

  /** At the primary: the members that were silent did answer; they are alive, if slow. */
  private membersAnswered(now: Instant): boolean {
    const { state } = this;
    for (let r = 0; r < state.n; r++) {
      if (r === state.id || !state.views.isMember(state.view, r)) continue;
      const answer = this.round.answers.get(r);
      if (this.round.isGone(r)) return false;
      if (now.monotonicUs - this.synchronization.ackedUs[r]! < state.config.timings.suspectUs) continue;
      if (answer === undefined || answer.view !== state.view || answer.status !== ReplicaStatus.normal) return false;
    }
    for (const r of this.round.answers.keys()) {
      if (state.views.isMember(state.view, r))
        this.synchronization.silence.note(now.monotonicUs - this.synchronization.ackedUs[r]!);
      this.synchronization.ackedUs[r] = now.monotonicUs;
    }
    if (this.synchronization.unheard) {
      this.synchronization.unheard = false;
      if (this.synchronization.heardAnyone()) state.transition('heard-again', 'members answer: Syncs go on');
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
