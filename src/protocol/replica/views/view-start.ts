/**
 * How a view starts: votes, the choice among them, and the installed log.
 *
 * Rules S guarded here (actions `Start` and `SyncInstall` in model/JITPaxos.tla; the choice itself, `Candidates`, is votes.ts):
 * - *Start*: the primary of v starts from enough votes (membership/enough-votes.ts), its own among them.
 * - *One start*: it fixes the log once; later votes change nothing.
 * - *Whole log*: a replica takes part in v when it holds the log that v starts from, up to its last chain (installation.ts).
 */
import { ReplicaStatus } from '../../../wire/messages.js';
import type { Hasher, Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { invariant } from '../../invariant.js';
import type { Synchronization } from '../agreement/synchronization.js';
import type { Contradictions } from '../contradictions.js';
import type { Sender } from '../replica-sender.js';
import type { TransferSender } from '../transfer-sender.js';
import type { ReplicaState } from '../replica-state.js';
import { chooseVote, type CastVote } from './votes.js';
import { areEnough } from '../membership/enough-votes.js';
import { goBehind } from '../membership/primary-entries.js';
import { Installation } from './installation.js';
import type { Target } from './log-transfer.js';
import type { ViewListener } from './view-listener.js';

export class ViewStart {
  readonly installation: Installation;

  /** Votes for the present view, at its primary. */
  private readonly votes = new Map<number, CastVote>();
  /** The vote whose log is being fetched, and the replicas that failed to deliver theirs. */
  private chosen: CastVote | undefined;
  private readonly failed = new Set<number>();
  /** Replicas whose votes for the present view contradict each other: none of them counts. */
  private readonly refused = new Set<number>();

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly synchronization: Synchronization,
    transfers: TransferSender,
    hasher: Hasher,
    private readonly contradictions: Contradictions,
    private readonly listener: ViewListener,
  ) {
    this.installation = new Installation(
      state,
      transfers,
      hasher,
      contradictions,
      (target, now, isBehindSnapshot) => this.installed(target, now, isBehindSnapshot),
      (target, claim, now) => this.disagree(target.source, claim.from, claim.committed, now),
    );
  }

  /** Another view was promised: votes for the last one say nothing of it. */
  reset(): void {
    this.votes.clear();
    this.chosen = undefined;
    this.failed.clear();
    this.refused.clear();
    this.installation.abandon();
  }

  /** The vote of that replica is missing, and would count. */
  lacks(replica: number): boolean {
    return !this.votes.has(replica) && !this.refused.has(replica);
  }

  /** The vote of another replica for the present view. */
  take(vote: CastVote, now: Instant): void {
    invariant(vote.logView < this.state.view, 'the log that a vote stands for is of an older view');
    this.votes.set(vote.from, vote);
    this.choose(now);
  }

  /** The vote of this replica itself. */
  takeOwn(): void {
    const { state } = this;
    if (this.refused.has(state.id)) return;
    const { log, committed } = state;
    const last = log.lastIndex;
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
  choose(now: Instant): void {
    const { state } = this;
    if (state.status !== ReplicaStatus.viewChange || this.chosen !== undefined || !this.hasEnough()) return;
    const { vote, committed, claimant } = chooseVote(this.votes, this.failed, state.views, state.id);
    invariant(
      state.primary === state.id && vote.logView < state.view,
      'the primary of a view chooses its log among those of older views',
    );
    if (vote.lastIndex < committed) {
      this.disagree(vote.from, claimant, committed, now);
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
   * The log of replica `source`, from which the view would start, does not hold what replica `claimant` takes for committed: one of the
   * two is wrong. What is committed at this replica itself it does not doubt; otherwise it cannot know which, and neither vote counts.
   * A view starts from f + 1 votes that do not contradict each other, or not at all.
   */
  private disagree(source: number, claimant: number, index: number, now: Instant): void {
    const { state } = this;
    this.chosen = undefined;
    for (const r of source === claimant || claimant === state.id ? [source] : [source, claimant]) {
      this.votes.delete(r);
      this.refused.add(r);
    }
    this.contradictions.impossible(
      source,
      `has a log for view ${state.view} that does not hold entry ${index}, which is committed as replica ${state.hosts.idOf(claimant)} says`,
      now,
    );
    this.choose(now);
  }

  /** The log of `target` is in place. */
  private installed(target: Target, now: Instant, isBehindSnapshot: boolean): void {
    const { state } = this;
    const { log } = state;
    const primary = state.views.primary(target.view) === state.id;
    if (state.status === ReplicaStatus.normal) {
      // A spare that lagged too far took a snapshot of the view it is in; the next Sync shows what follows.
      if (isBehindSnapshot) this.synchronization.catchUp.snapshotInstalled(target.source, now);
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
    if (state.views.of(target.view) === undefined) {
      // Newer members were learned meanwhile: that view is over.
      state.transition('install-failed', `the epoch of view ${target.view} is not known any more`);
      return;
    }
    if (state.listsAnother(target.committed)) {
      state.transition('install-failed', `it lists another data directory than this one under id ${state.hosts.self}`);
      if (!primary) this.listener.unknownEpoch(target.source, target.view, now);
      return;
    }
    if (primary && state.views.of(target.logView) !== state.configuration && !this.beginEpoch(target)) return;
    if (primary && !this.isOfItsEpoch(target, now)) return;
    state.install(target.view);
    state.counters[Counter.views_installed]!++;
    this.votes.clear();
    this.chosen = undefined;
    this.synchronization.viewStarted(now);
    if (!primary && isBehindSnapshot) this.synchronization.catchUp.snapshotInstalled(target.source, now);
    state.commitTo(Math.max(state.committed, target.committed));
    if (primary) {
      state.execution.executeTo(log.lastIndex);
      invariant(
        state.execution.membership.started === state.configuration.epoch,
        'the log that a view starts from says in which epoch it is',
      );
      state.transition('start-view', `log up to ${log.lastIndex}`);
      this.synchronization.sync(now);
    } else {
      state.transition('join-view', `log up to ${log.lastIndex}`);
      this.sender.syncAck(state.primary, now);
    }
    this.listener.started(now);
  }

  /** C3. */
  private hasEnough(): boolean {
    const { state } = this;
    return areEnough(this.votes.values(), state.view, state.views);
  }

  /** The log of the epoch before gets the entry that takes it into this one (C4). False if there is no room for it. */
  private beginEpoch({ committed }: Target): boolean {
    const { state } = this;
    const { log } = state;
    const entry = goBehind(log, log.lastIndex, state.configuration.epoch);
    if (!state.append(entry)) {
      state.commitTo(Math.min(committed, log.lastIndex));
      state.makeRoom();
      if (!state.append(entry)) {
        state.transition('install-failed', 'the log has no room for the entry that begins the epoch');
        this.chosen = undefined;
        this.votes.clear();
        return false;
      }
    }
    state.transition('begin-epoch', `epoch ${state.configuration.epoch}, entry ${log.lastIndex}`);
    return true;
  }

  /**
   * The log says that it is of the epoch of the present view (C4). If not, its source said of it what is not so: its vote does not
   * count, as if it had not come.
   */
  private isOfItsEpoch({ source, logView }: Target, now: Instant): boolean {
    const { state } = this;
    const { execution } = state;
    execution.executeTo(state.log.lastIndex);
    const { started } = execution.membership;
    if (started === state.configuration.epoch) return true;
    execution.rewind(state.committed);
    this.chosen = undefined;
    this.votes.delete(source);
    this.refused.add(source);
    this.contradictions.impossible(
      source,
      `says that its log is of view ${logView}, and that log leads to epoch ${started} instead of ${state.configuration.epoch}`,
      now,
    );
    this.choose(now);
    return false;
  }

  /** If the source of an installation brings nothing, another vote that qualifies is tried, or the next Sync is waited for. */
  giveUpSource(now: Instant): void {
    const { installation } = this;
    if (installation.target === undefined || !installation.isSourceGivenUp(now)) return;
    this.state.transition(
      'install-failed',
      `replica ${this.state.hosts.idOf(installation.target.source)} brings nothing`,
    );
    this.failed.add(installation.target.source);
    installation.abandon();
    this.chosen = undefined;
    this.choose(now);
  }
}
