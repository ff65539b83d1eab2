/**
 * What a replica is: the state that all of its handlers share, and the few ways in which it may change.
 *
 * Durable: view, logView, incarnation (and the log, in modes that keep it). Everything else is volatile. Rules guarded
 * here: a committed entry is never truncated; durable state that changed marks the turn, so that no message leaves
 * before it is written (durable-outbox.ts).
 */
import type { StateMachine } from '../../machine/state-machine.js';
import { LastWords } from '../../wire/copy.js';
import { ReplicaStatus } from '../../wire/messages.js';
import { BucketCounts } from '../bucket-counts.js';
import type { ReplicaConfig } from '../config.js';
import type {
  Chain,
  HardState,
  Outbox,
  PersistBatch,
  Recovered,
  ReplicaObserver,
  Snapshot,
  Storage,
} from '../contract.js';
import { COUNTER_NAMES, Counter } from '../counters.js';
import { DurableOutbox } from './durable-outbox.js';
import { Execution } from '../log/execution.js';
import { invariant } from '../invariant.js';
import { ENTRY_HEADER_BYTES } from '../log/entry.js';
import { appendEntry, Log } from '../log/log.js';
import { REGISTER_BYTES, type SessionBounds } from '../log/sessions.js';
import { installBase, snapshotFault } from '../log/snapshots.js';
import { TailIndex } from '../log/tail-index.js';
import { Views } from '../views.js';
import { count } from '../masks.js';

/** What was written to the disk was written under the limits of then. */
const UNBOUNDED: SessionBounds = {
  maxSessions: Infinity,
  maxLanes: Infinity,
  lanesPerSession: Infinity,
  resultBytes: Infinity,
};

/** `logView` of a replica that lost its log and has not installed another. Durable, like any other. */
export const NO_LOG = -1;

/**
 * Above a share of the log's capacity a snapshot is taken and the log cut behind it: when the log is so many times as long as the last
 * snapshot (Ongaro, "Consensus: Bridging Theory and Practice", 5.1.3), from a share on that is worth the trouble, to one that has to be
 * kept free. Where the log is on disk, and so each snapshot as well, the largest share counts.
 */
const SNAPSHOT_TIMES = 4;
const SNAPSHOT_FILL_MIN = 1 / 16;
const SNAPSHOT_FILL_MAX = 0.5;
/**
 * Entries that are kept in front of the snapshot for those who are a little behind: this part of what makes one due, less where it came
 * late. A spare that is always handed a snapshot has no state of its own to compare with the others'.
 */
const KEPT_PART = 0.5;
const KEPT_PART_LATE = 0.125;
/** … and above this one no longer for the sake of those who lag: they get the snapshot. */
const CUT_FILL = 0.75;
/** From here on any snapshot that makes any room is taken. */
const LAST_FILL = 0.9;

/** From a client's clock that is ahead (negative) to one that is behind, or a slow network. */
const SLACK_BOUNDS_US = [
  -10_000, -1_000, -300, -100, -30, 0, 10, 20, 30, 50, 75, 100, 200, 300, 1_000, 3_000, 10_000, 100_000,
];

export class ReplicaState implements PersistBatch {
  readonly id: number;
  readonly n: number;
  readonly views: Views;
  /** What the cluster file lists, as Probe and answers to clients say it. */
  readonly list: number;
  readonly log: Log;
  readonly tail: TailIndex;
  readonly execution: Execution;
  readonly out: DurableOutbox;
  readonly counters = new Float64Array(COUNTER_NAMES.length);
  /** Arrival clock − timestamp of requests that were appended, late or too far ahead, µs. */
  readonly arrivalSlackUs = new BucketCounts(SLACK_BOUNDS_US);

  /** At a primary: status is normal and the view is its own. Follows from view and status, as `isMember` does. */
  isPrimary = false;
  /** A member of the present view's quorum that may acknowledge in it. */
  isMember = false;
  /** See HardState. Durable with the log. */
  isEcho = false;
  /** Entries up to here are committed, as far as this replica knows. */
  committed = 0;
  /** Index up to which some other replica that was heard lately has the log; what is behind may still be asked for. */
  neededFrom = Infinity;

  /** At a primary: it pushes its order to members (order-push.ts). */
  pushing = false;
  /** At a member: its log differed from the primary's, or may have, since it last said so. */
  differed = false;
  /** The replicas that have lost their logs, bit r for replica r, when those are more than the cluster survives as far as this one has heard; otherwise 0. */
  lostLogs = 0;
  /** Sequence of the newest Sync heard in this view. */
  syncHeard = 0;
  /** Replicas that said last that their log is chained by another function or secret than this one's, a bit each. */
  otherChain = 0;
  /** Replicas that said last that their cluster file lists others than this one's, a bit each. */
  otherList = 0;

  /** Nothing was on disk, and it is not known yet whether there ever was (introduction.ts). The status is `recovering`. */
  starting = false;
  /** It has begun, or returned, with nothing in its log, and takes no request until others have begun as well (introduction.ts). */
  alone = false;
  /** While starting: the replicas that said in this life that they are unused, a bit each. */
  met = 0;
  /** By replica: the highest incarnation of it that was heard of; 0: none. Durable. Never changed in place. */
  known: readonly number[];
  /** By replica: the life that came with it; the own one at the own place. Durable. Never changed in place. */
  lives: readonly number[];

  private presentView = 0;
  private presentLogView = 0;
  private presentIncarnation = 0;
  private presentStatus: number = ReplicaStatus.normal;
  private presentSynced = 0;
  private readonly entryTargets = new LastWords();
  private dirtyFrom = Infinity;
  private persistedBase = 0;

  constructor(
    readonly config: ReplicaConfig,
    outbox: Outbox,
    private readonly storage: Storage,
    machine: StateMachine,
    /** What chains the log. */
    readonly chain: Chain,
    readonly observer: ReplicaObserver,
  ) {
    this.id = config.id;
    this.n = config.replicas;
    this.list = (config.replicas << 28) | ((config.list ?? 0) & 0x0fffffff);
    this.views = new Views(config.replicas);
    this.known = new Array<number>(config.replicas).fill(0);
    this.lives = this.known;
    this.log = new Log(
      config.limits.logEntries,
      config.limits.logBytes,
      Math.max(config.limits.operationBytes, REGISTER_BYTES),
      chain,
    );
    this.tail = new TailIndex(this.log);
    this.execution = new Execution(this.log, this.tail, machine, config.limits, this.counters);
    this.out = new DurableOutbox(outbox);
    this.takeRole();
    // Until the log is long enough to tell how long its entries are.
    const { logEntries } = config.limits;
    this.execution.setPitch(
      nearestPowerOfTwo(storage.keepsLog ? SNAPSHOT_FILL_MAX * logEntries : SNAPSHOT_FILL_MIN * KEPT_PART * logEntries),
    );
  }

  /** Highest view joined or promised. Durable. */
  get view(): number {
    return this.presentView;
  }

  /** View whose starting log was installed last. Durable. */
  get logView(): number {
    return this.presentLogView;
  }

  /** How often this replica was started. Durable. */
  get incarnation(): number {
    return this.presentIncarnation;
  }

  /** ReplicaStatus. */
  get status(): number {
    return this.presentStatus;
  }

  /** The log up to here is known to equal the primary's in this view. */
  get synced(): number {
    return this.presentSynced;
  }

  get executed(): number {
    return this.execution.executed;
  }

  get primary(): number {
    return this.views.primary(this.view);
  }

  /** Takes up what an earlier life left behind. Incarnation + 1 is durable before anything is sent. */
  recover(recovered: Recovered): void {
    const { hardState, log, first } = recovered;
    if (hardState === undefined && first !== undefined) {
      // Nothing of it is durable, so that the next start asks as well.
      this.starting = true;
      this.loseLog();
      return;
    }
    this.presentIncarnation = (hardState?.incarnation ?? 0) + 1;
    this.markHardState();
    if (hardState === undefined) return;
    this.known = this.known.map((_, replica) => hardState.known?.[replica] ?? 0);
    this.lives = this.lives.map((_, replica) => hardState.lives?.[replica] ?? 0);
    this.presentView = hardState.view;
    // A log that was lost stays lost until another is installed, however often the replica starts in between.
    if (log === undefined || hardState.logView === NO_LOG) {
      this.loseLog();
      return;
    }
    invariant(hardState.logView <= hardState.view, 'the log that is recovered is of no view above the promised one');
    this.presentLogView = hardState.logView;
    this.isEcho = hardState.isEcho === true;
    this.become(this.view === this.logView ? ReplicaStatus.normal : ReplicaStatus.viewChange);
    if (log.snapshot !== undefined) {
      // Its checksum is right, so this is how it was written.
      const fault = snapshotFault(log.snapshot, UNBOUNDED) ?? this.execution.install(log.snapshot);
      invariant(fault === undefined, `a snapshot on the disk is one that a replica wrote (${fault})`);
      installBase(log.snapshot, this.log);
      this.committed = log.snapshot.index;
      this.persistedBase = log.snapshot.index;
    }
    const committed = log.committed ?? 0;
    for (const entry of log.entries) {
      if (!appendEntry(this.log, entry, 0, entry.length)) {
        // Behind a snapshot that was still being written memory had cut entries that the disk still has; or the limits were lowered.
        this.commitTo(Math.min(committed, this.log.lastIndex));
        this.makeRoom();
        invariant(
          appendEntry(this.log, entry, 0, entry.length),
          'a log that was durable fits: its host has asked misfitOf',
        );
      }
      this.tail.add(this.log.lastIndex);
    }
    invariant(
      committed <= this.log.lastIndex,
      'the commit index that is recovered is within the log that is recovered',
    );
    this.commitTo(committed);
    this.presentSynced = this.isPrimary ? this.log.lastIndex : this.committed;
    this.rewriteLog();
    if (this.isPrimary) this.execution.executeTo(this.log.lastIndex);
  }

  /** It was never in use, nor were the others. */
  beginNew(): void {
    invariant(this.starting, 'a replica begins once');
    invariant(this.view === 0 && this.log.lastIndex === 0, 'a replica that is new has neither a promise nor an entry');
    this.starting = false;
    this.presentLogView = 0;
    this.presentIncarnation = 1;
    this.lostLogs = 0;
    this.become(ReplicaStatus.normal);
    this.drawLife();
  }

  /** It may have been in use: `view` is above all views that it may have acknowledged or promised, `incarnation` above all that others remember. */
  beginWithoutMemory(view: number, incarnation: number): void {
    invariant(this.starting, 'a replica begins once');
    invariant(view > this.view && incarnation > this.incarnation, 'a replica that forgot begins above what it was');
    this.starting = false;
    this.presentView = view;
    this.presentIncarnation = incarnation;
    this.takeRole();
    this.drawLife();
    invariant(
      this.status === ReplicaStatus.recovering && this.logView === NO_LOG,
      'a replica that forgot has no log to vote with',
    );
  }

  /**
   * The promise (Promise in model/): from now on it acknowledges in no view below `view`, and its log stands for its vote until a view
   * starts. Durable before anything else is said.
   */
  promise(view: number): void {
    invariant(this.status !== ReplicaStatus.recovering, 'a replica that lost its log promises nothing');
    invariant(view > this.view, 'a promise is for a higher view');
    this.presentView = view;
    this.become(ReplicaStatus.viewChange);
    this.markHardState();
    invariant(this.logView < this.view && !this.isMember, 'a replica that promised a view acknowledges in none');
  }

  /** The starting log of `view` is the log (SyncInstall and Start in model/): it takes part in that view. Once a view. */
  install(view: number): void {
    invariant(view >= this.view, 'a view that is installed is not below the promised one');
    invariant(this.logView < view, 'a view starts here once');
    invariant(
      this.status !== ReplicaStatus.recovering || view > this.view || !this.views.isMember(view, this.id),
      'a replica that lost its log is no member again in the view that it may have acknowledged in',
    );
    this.presentView = view;
    this.presentLogView = view;
    this.presentSynced = this.log.lastIndex;
    this.lostLogs = 0;
    this.become(ReplicaStatus.normal);
    this.markHardState();
    invariant(this.committed <= this.synced, 'the log that starts a view holds what is committed here');
  }

  /** The log up to `index` is known to equal the primary's in this view. */
  confirm(index: number): void {
    if (index <= this.presentSynced) return;
    invariant(
      this.presentStatus === ReplicaStatus.normal && index <= this.log.lastIndex,
      "only what is in the log of a running view is known to equal the primary's",
    );
    this.presentSynced = index;
  }

  /** See HardState; 0: not known. */
  get life(): number {
    return this.lives[this.id]!;
  }

  private drawLife(): void {
    const life = this.config.seed || 1; // drawn by the host for each life
    this.lives = this.lives.map((other, r) => (r === this.id ? life : other));
    this.markHardState();
  }

  /** `nowLost`: those of the replicas `heard` that have no log. What was heard of another one before still holds: a busy host answers late. */
  noteLost(nowLost: number, heard: number): void {
    const before = this.lostLogs;
    const lost = nowLost | (before & ~heard);
    const lostCount = count(lost);
    this.lostLogs = lostCount > this.views.f ? lost : 0;
    if (before !== 0 || this.lostLogs === 0) return;
    this.transition(
      'majority-lost',
      `${lostCount} of ${this.n} replicas lost their logs at once, more than the ${this.views.f} that this cluster survives: it stays stopped unless one of them returns with its log; see docs/operate/operations.md`,
    );
  }

  /** Replica `replica` says that these are its incarnation and life. */
  remember(replica: number, incarnation: number, life: number): void {
    const known = this.known[replica]!;
    if (
      replica === this.id ||
      incarnation < known ||
      (incarnation === known && (life === 0 || this.lives[replica] !== 0))
    )
      return;
    this.known = this.known.map((before, r) => (r === replica ? incarnation : before));
    this.lives = this.lives.map((before, r) => (r === replica ? life : before));
    // Not while nothing of this replica itself is known: what is durable says that there was a start.
    if (!this.starting) this.markHardState();
  }

  /** It may say that it is alive, whatever is still being written: a replica whose disk hangs or fails does better to be replaced. */
  get isLively(): boolean {
    return !this.storage.stalled;
  }

  /** The hard state changed in this turn. */
  markHardState(): void {
    this.out.dirty = true;
    this.out.promised = true;
  }

  /** An entry was just appended. On a primary it is executed at once by the caller. */
  appended(): void {
    const index = this.log.lastIndex;
    this.counters[Counter.entries_appended]!++;
    if (!this.isPrimary) this.tail.add(index);
    this.markLog(index);
  }

  /** Drops every entry behind `index`; takes back what was executed of them. */
  truncate(index: number): void {
    invariant(index >= this.committed, 'a committed entry is never cut from a log');
    const { log } = this;
    if (index === log.lastIndex) return;
    this.counters[Counter.entries_cut]! += log.lastIndex - index;
    const executed = this.execution.executed;
    for (let i = log.lastIndex; i > index && i > executed; i--) this.tail.truncated(i, executed);
    log.truncate(index);
    this.presentSynced = Math.min(this.presentSynced, index);
    this.markLog(index + 1);
    this.execution.truncated(index, this.committed);
  }

  /** Starts the log anew behind a snapshot of committed state, in which `snapshotFault` found nothing. Returns why the state machine refuses it: then nothing has changed. */
  installSnapshot(snapshot: Snapshot): string | undefined {
    invariant(snapshot.index >= this.committed, 'a snapshot that is installed is not behind what is committed');
    const fault = this.execution.install(snapshot);
    if (fault !== undefined) return fault;
    this.isEcho = true;
    installBase(snapshot, this.log);
    this.committed = snapshot.index;
    this.presentSynced = snapshot.index;
    this.counters[Counter.snapshots_installed]!++;
    this.markLog(snapshot.index + 1);
    return undefined;
  }

  /** Entries up to `index` are committed. Members and spares execute them. */
  commitTo(index: number): void {
    if (index <= this.committed) return;
    invariant(index <= this.log.lastIndex, 'only what is in the log is committed');
    this.committed = index;
    this.execution.committed = index;
    if (this.execution.executed < index) this.execution.executeTo(index);
    this.execution.committedTo(index);
    this.bound();
  }

  /**
   * Keeps the log within its capacity: snapshot, and cut behind it. Snapshots are taken at indexes that all replicas choose alike, so that
   * they can be compared (divergence.ts): multiples of a power of two, which is about as many entries as make one due.
   */
  bound(): void {
    const { log, execution } = this;
    execution.takeDueSnapshot();
    const fill = log.fill();
    if (fill < SNAPSHOT_FILL_MIN) return;
    const due = this.snapshotFill();
    // As many entries as make one due, of the length that they have now.
    const entries = ((log.lastIndex - log.baseIndex) * due) / fill;
    const kept = Math.floor(entries * (due < SNAPSHOT_FILL_MAX ? KEPT_PART : KEPT_PART_LATE));
    execution.setPitch(nearestPowerOfTwo(entries - kept));
    if (fill < due) return;
    // Nothing else makes room: wherever it is. A provisional snapshot is given the time to become stable, a new one after half of that at the soonest.
    const newest = execution.provisional?.index ?? execution.stable.index;
    const late = fill >= CUT_FILL && execution.executed - newest >= entries / 2;
    if (late || (fill >= LAST_FILL && newest === log.baseIndex && execution.executed > newest))
      execution.takeSnapshot(this.committed);
    this.cut(fill < CUT_FILL ? Math.min(execution.stable.index - kept, this.neededFrom) : execution.stable.index);
  }

  private snapshotFill(): number {
    if (this.storage.keepsLog) return SNAPSHOT_FILL_MAX;
    const share = (SNAPSHOT_TIMES * this.execution.stable.bytes.length) / this.config.limits.logBytes;
    return Math.min(SNAPSHOT_FILL_MAX, Math.max(SNAPSHOT_FILL_MIN, share));
  }

  /** The log is full in mid-transfer or recovery: cuts all that is committed, behind a snapshot of just that. Never at a primary. */
  makeRoom(): void {
    this.execution.rewind(this.committed);
    this.execution.takeSnapshot(this.committed);
    this.cut(this.execution.stable.index);
  }

  /** What the storage has counts no longer: the next batch has the whole log. */
  rewriteLog(): void {
    if (!this.storage.keepsLog || this.starting) return;
    this.markLog(this.log.baseIndex + 1);
    this.persistedBase = -1;
  }

  /** The last turn of a life: writes how far the log is committed by now, which by itself marks no turn. */
  markCommitted(): void {
    // What is durable says that there was a start: not of one that was stopped while it asked who it is.
    if (this.storage.keepsLog && !this.starting) this.out.dirty = true;
  }

  /** Ends a turn: writes what changed in it. */
  persist(): void {
    if (!this.out.dirty) return;
    invariant(!this.starting, 'nothing is durable of a replica that does not know what it is');
    invariant(
      this.execution.stable.index <= this.committed && this.committed <= this.log.lastIndex,
      'what is stored of commits is within the log that is stored',
    );
    const token = this.out.nextToken();
    this.storage.persist(token, this);
    this.dirtyFrom = Infinity;
    this.persistedBase = this.log.baseIndex;
  }

  /** Says to logs, traces and checks what happened. Off the fast path only. */
  transition(event: string, detail = ''): void {
    this.observer.transition(event, detail);
  }

  // PersistBatch

  get hardState(): HardState {
    return {
      view: this.view,
      logView: this.logView,
      incarnation: this.incarnation,
      known: this.known,
      lives: this.lives,
      isEcho: this.isEcho,
    };
  }

  get entriesFrom(): number {
    return Math.max(Math.min(this.dirtyFrom, this.log.lastIndex + 1), this.log.baseIndex + 1);
  }

  get lastIndex(): number {
    return this.log.lastIndex;
  }

  get snapshot(): Snapshot | undefined {
    return this.log.baseIndex === this.persistedBase || this.execution.stable.index === 0
      ? undefined
      : this.execution.stable;
  }

  readEntry(index: number, target: Uint8Array, offset: number): number {
    return this.log.writeEntry(index, this.entryTargets.of(target), offset);
  }

  entryBytes(index: number): number {
    return ENTRY_HEADER_BYTES + this.log.operationLength(index);
  }

  private become(status: number): void {
    this.presentStatus = status;
    this.takeRole();
  }

  /** Whatever there was of the log is gone, and nothing is installed. */
  private loseLog(): void {
    this.presentLogView = NO_LOG;
    this.become(ReplicaStatus.recovering);
  }

  /** Follows each change of view and status. */
  private takeRole(): void {
    const isNormal = this.presentStatus === ReplicaStatus.normal;
    this.isPrimary = isNormal && this.views.primary(this.presentView) === this.id;
    this.isMember = isNormal && this.views.isMember(this.presentView, this.id);
  }

  private cut(index: number): void {
    if (index <= this.log.baseIndex) return;
    this.log.cut(index);
    if (this.storage.keepsLog) this.out.dirty = true;
  }

  private markLog(from: number): void {
    if (!this.storage.keepsLog) return;
    if (from < this.dirtyFrom) this.dirtyFrom = from;
    this.out.dirty = true;
  }
}

/** 1 at least. Of what is between two, the nearer one by ratio, so that replicas whose estimates differ a little choose the same. */
function nearestPowerOfTwo(value: number): number {
  return 2 ** Math.max(0, Math.round(Math.log2(Math.max(1, value))));
}
