/**
 * What a replica is: the state that all of its handlers share, and the verbs by which it changes. Handlers read every
 * field and write none (test/tree.test.ts holds that).
 *
 * Durable: view, logView, incarnation, what is known of the others' incarnations, and the log in modes that keep it.
 * The rest is volatile.
 *
 * Rules S guarded here (model/JITPaxos.tla): what `Promise`, `Start` and `SyncInstall` do to view, logView and status;
 * a committed entry is never cut from a log (`ChosenStable`); only what is in the log is committed (`ExecInLog`). A
 * change of durable state marks the turn, so that no message leaves before it is written (durable-outbox.ts).
 */
import type { RestoreInPieces, StateMachine } from '../../machine/state-machine.js';
import { ReplicaStatus } from '../../wire/messages.js';
import { BucketCounts } from '../bucket-counts.js';
import { DEFAULT_PIECES, type ReplicaConfig } from '../config.js';
import type { Configuration } from '../configuration.js';
import type {
  Chain,
  Hasher,
  HardState,
  Instant,
  Outbox,
  Recovered,
  ReplicaObserver,
  Snapshot,
  Storage,
} from '../contract.js';
import { COUNTER_NAMES, Counter } from '../counters.js';
import { DurableBatch } from './durable-batch.js';
import { DurableOutbox } from './durable-outbox.js';
import { Execution } from '../log/execution.js';
import { invariant } from '../invariant.js';
import { LAST_FILL, LogCapacity, RETAINED_TIMES, SHARED_FILL } from './log-capacity.js';
import type { Entry } from '../log/entry.js';
import { decodeMembership, encodeMembership, firstMembership, type Membership } from '../membership/membership.js';
import { FeatureUnknownError, unknownIn } from '../log/features.js';
import { appendEntry, Log } from '../log/log.js';
import { REGISTER_BYTES, type SessionBounds } from '../log/sessions.js';
import { RetainedLog } from '../log/retained-log.js';
import { featuresIn, installBase, snapshotFault } from '../log/snapshots.js';
import { TailIndex } from '../log/tail-index.js';
import { Hosts } from './hosts.js';
import { KnownMembers } from './known-members.js';
import { OtherReplicas } from './others.js';
import { SnapshotPace } from './snapshot-pace.js';
import { Views } from '../views.js';

/** For snapshots on this replica's disk: they were written under the limits of that time, which may have been larger. */
const UNBOUNDED: SessionBounds = {
  maxSessions: Infinity,
  maxLanes: Infinity,
  lanesPerSession: Infinity,
  resultBytes: Infinity,
  keptResultBytes: Infinity,
};

/** `logView` of a replica that lost its log and has not installed another. Durable, like any other. */
export const NO_LOG = -1;

/** From a client's clock that is ahead (negative) to one that is behind, or a slow network. */
const SLACK_BOUNDS_US = [
  -10_000, -1_000, -300, -100, -30, 0, 10, 20, 30, 50, 75, 100, 200, 300, 1_000, 3_000, 10_000, 100_000,
];

/** About as many bytes of entries are copied at once for transfers, while there is time. */
const RETAINED_PIECE_BYTES = 1 << 16;

export class ReplicaState {
  /** This replica's slot: its bit in masks, and its place in tables. */
  readonly id: number;
  /** Who else there is. */
  readonly hosts: Hosts;
  /** Primary and quorum of every view. */
  readonly views: Views;
  /**
   * What the cluster file lists, as Probe and answers to clients say it. 0, nothing, in epochs that the log decided: what
   * counts there is in the log, and the file only says where one may ask.
   */
  list = 0;
  readonly log: Log;
  readonly tail: TailIndex;
  readonly execution: Execution;
  readonly out: DurableOutbox;
  readonly others: OtherReplicas;
  readonly counters = new Float64Array(COUNTER_NAMES.length);
  /** Arrival clock − timestamp of requests that were appended, or rejected as late or too far ahead, µs. */
  readonly arrivalSlackUs = new BucketCounts(SLACK_BOUNDS_US);

  /** At a primary: status is normal and the view is its own. Follows from view and status, as `isMember` does. */
  isPrimary = false;
  /** A member of the present view's quorum that may acknowledge in it. */
  isMember = false;
  /** See HardState. Durable with the log. */
  isEcho = false;
  /** Entries up to here are committed, as far as this replica knows. */
  committed = 0;
  /** Every replica that was heard recently has the log up to here; the entries behind may still be asked for. */
  neededFrom = Infinity;
  /** Entries that were cut, and that a replica will ask for which fetches this one's state. */
  readonly retained: RetainedLog;
  /** Some replica fetches this one's state, and will ask for the entries behind this. */
  private fetchedFrom = Infinity;

  /** At a primary: it pushes its order to members (order-push.ts). */
  pushing = false;
  /** At a member: its log differed from the primary's, or may have, since it last told the primary. */
  differed = false;
  /** Sequence of the newest Sync heard in this view; 0: none. */
  syncHeard = 0;

  /** Nothing was on disk, and it is not known yet whether there ever was (introduction.ts). The status is `recovering`. */
  starting = false;
  /**
   * It has begun, or returned, with nothing in its log, and takes no request until others have begun as well
   * (introduction.ts).
   */
  alone = false;

  private presentView = 0;
  private presentLogView = 0;
  private presentIncarnation = 0;
  private presentStatus: number = ReplicaStatus.normal;
  private presentSynced = 0;
  private readonly known: KnownMembers;
  private readonly capacity: LogCapacity;
  private readonly snapshotPace: SnapshotPace;
  private readonly batch = new DurableBatch(this);

  constructor(
    readonly config: ReplicaConfig,
    outbox: Outbox,
    private readonly storage: Storage,
    machine: StateMachine,
    /** What chains the log. */
    readonly chain: Chain,
    readonly observer: ReplicaObserver,
    /** XXH3-64, for digests of snapshots. */
    hasher: Hasher,
  ) {
    const { limits, pieces = DEFAULT_PIECES } = config;
    this.id = config.id;
    this.hosts = new Hosts(config.id, config.replicas, config.hostId);
    this.views = new Views(config.replicas, () => this.known.nothingIsDecided());
    this.others = new OtherReplicas(config.id, this.views);
    this.hosts.onOther((slot) => this.others.forget(slot));
    this.log = new Log(limits.logEntries, limits.logBytes, Math.max(limits.operationBytes, REGISTER_BYTES), chain);
    this.retained = new RetainedLog(RETAINED_TIMES * limits.logBytes, RETAINED_TIMES * limits.logEntries);
    this.tail = new TailIndex(this.log);
    this.execution = new Execution(
      this.log,
      this.tail,
      machine,
      limits,
      this.counters,
      chain,
      config.features ?? 0,
      firstMembership(config.replicas),
      pieces.bytes,
      hasher,
      config.undoBytes,
    );
    if (observer.wholeState !== undefined) this.execution.whole = (isOver) => observer.wholeState!(isOver);
    this.snapshotPace = new SnapshotPace(this.log, this.execution, pieces.everyUs);
    this.capacity = new LogCapacity(this.log, this.execution, limits, storage.keepsLog);
    this.out = new DurableOutbox(outbox);
    this.known = new KnownMembers(
      this.execution.membership,
      this,
      () => this.takeRole(),
      (event, detail) => this.transition(event, detail),
    );
    this.takeRole();
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

  /** Who the hosts are, as far as it is known here to be committed; the entries may not be here yet. Durable. */
  get members(): Membership {
    return this.known.present;
  }

  /** An epoch is decided that has not begun, and the disk says who its voters are. Speed only. */
  get nextIsWritten(): boolean {
    const { views, storage, members } = this;
    return views.newest !== views.present && (storage.membersIndex ?? -1) >= members.index;
  }

  /** It was a host, and is none any more: no timers, no views. */
  get removed(): boolean {
    return this.known.removed;
  }

  /** Rule C7: under its id the committed members list another data directory. Its host stops it before anything is sent. */
  get isOfAnother(): boolean {
    return this.known.isOfAnother;
  }

  /** Who votes in the epoch of the present view. */
  get configuration(): Configuration {
    return this.views.present;
  }

  /** The slot of the present view's primary. */
  get primary(): number {
    return this.views.primary(this.view);
  }

  /** See HardState; 0: not known. */
  get life(): number {
    return this.others.lives[this.id]!;
  }

  /** See OtherReplicas. */
  get lostLogs(): number {
    return this.others.lostLogs;
  }

  /** See Storage. */
  get keepsLog(): boolean {
    return this.storage.keepsLog;
  }

  /** It may say that it is alive. A replica whose disk hangs or fails does better to be replaced. */
  get isLively(): boolean {
    return !this.storage.stalled;
  }

  // Lives.

  /** Takes up what an earlier life left behind. Incarnation + 1 is durable before any message of the core is sent. */
  recover(recovered: Recovered): void {
    const { hardState, log, first } = recovered;
    this.known.identity = recovered.identity;
    const members = hardState?.members ?? recovered.members;
    if (members !== undefined) this.recoverMembers(members);
    if (hardState === undefined && first !== undefined) {
      // None of this is durable, so that the next start asks as well.
      this.starting = true;
      this.loseLog();
      return;
    }
    this.presentIncarnation = (hardState?.incarnation ?? 0) + 1;
    this.markHardState();
    if (hardState === undefined) {
      if (members === undefined) return;
      // A host that joins has no log. It is none of the cluster file's replicas, though its slot may have been of one: once an
      // epoch began, it knows nothing of epoch 0.
      this.views.restore(0, this.members.started);
      this.loseLog();
      return;
    }
    this.others.recover(hardState.known, hardState.lives);
    this.presentView = hardState.view;
    this.views.restore(hardState.view, this.members.started);
    // A log that was lost stays lost until another is installed, however often the replica starts in between.
    if (log === undefined || hardState.logView === NO_LOG) {
      this.loseLog();
      return;
    }
    invariant(hardState.logView <= hardState.view, 'the log that is recovered is of no view above the promised one');
    this.presentLogView = hardState.logView;
    this.isEcho = hardState.isEcho === true;
    this.become(this.view === this.logView ? ReplicaStatus.normal : ReplicaStatus.viewChange);
    this.recoverLog(log);
  }

  private recoverLog(log: NonNullable<Recovered['log']>): void {
    if (log.snapshot !== undefined) {
      const unknown = unknownIn(featuresIn(log.snapshot));
      if (unknown !== 0)
        throw new FeatureUnknownError(
          unknown,
          `the snapshot of entry ${log.snapshot.index} on the disk was taken with`,
        );
      // Its checksum is right, so it is what a replica wrote.
      const fault = snapshotFault(log.snapshot, UNBOUNDED) ?? this.execution.install(log.snapshot, log.restore);
      invariant(fault === undefined, `a snapshot on the disk is one that a replica wrote (${fault})`);
      installBase(log.snapshot, this.log);
      this.committed = log.snapshot.index;
      this.batch.begin(log.snapshot.index);
    }
    const committed = log.committed ?? 0;
    for (const entry of log.entries) {
      if (!appendEntry(this.log, entry, 0, entry.length)) {
        // Memory had cut entries behind a snapshot that was still being written, and the disk still has them; or the
        // limits were lowered.
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

  /** Begins for the first time: neither this replica nor any other was ever in use. */
  beginNew(): void {
    invariant(this.starting, 'a replica begins once');
    invariant(this.view === 0 && this.log.lastIndex === 0, 'a replica that is new has neither a promise nor an entry');
    this.starting = false;
    this.presentLogView = 0;
    this.presentIncarnation = 1;
    this.others.noneLost();
    this.become(ReplicaStatus.normal);
    this.drawLife();
  }

  /**
   * Begins without a memory, after it may have been in use.
   * @param view above all views that it may have acknowledged in or promised
   * @param incarnation above all that others remember
   */
  beginWithoutMemory(view: number, incarnation: number): void {
    invariant(this.starting, 'a replica begins once');
    invariant(view > this.view && incarnation > this.incarnation, 'a replica that forgot begins above what it was');
    this.starting = false;
    this.presentView = view;
    this.views.enter(view);
    this.presentIncarnation = incarnation;
    this.takeRole();
    this.drawLife();
    invariant(
      this.status === ReplicaStatus.recovering && this.logView === NO_LOG,
      'a replica that forgot has no log to vote with',
    );
  }

  private drawLife(): void {
    this.others.live(this.config.seed || 1); // the host draws the seed for each life
    this.markHardState();
  }

  /** As long as nothing shows that this replica was ever in use, it must stay so until f others have begun. */
  beAlone(): void {
    this.alone =
      !this.starting &&
      this.view === 0 &&
      this.status === ReplicaStatus.normal &&
      this.log.lastIndex === 0 &&
      this.configuration.n > 1;
  }

  /** This many others have begun, and know that this replica has. */
  othersBegan(count: number): void {
    if (count >= this.configuration.f) this.alone = false;
  }

  // What is known of other replicas.

  /** See OtherReplicas.noteLost. Says so when more logs are lost than the cluster survives. */
  noteLost(nowLost: number, heard: number): void {
    const wasKnown = this.others.lostLogs !== 0;
    const lostCount = this.others.noteLost(nowLost, heard);
    if (wasKnown || this.others.lostLogs === 0) return;
    this.transition(
      'majority-lost',
      `${lostCount} of ${this.configuration.n} replicas lost their logs at once, more than the ${this.configuration.f} that this cluster survives: it stays stopped unless one of them returns with its log; see docs/operate/operations.md`,
    );
  }

  /** Replica `replica` says that these are its incarnation and its life. */
  remember(replica: number, incarnation: number, life: number): void {
    // While nothing of this replica itself is known nothing is stored: what is durable says that there was a start.
    if (this.others.remember(replica, incarnation, life) && !this.starting) this.markHardState();
  }

  // View, logView, status.

  /**
   * The promise (Promise in model/): from now on this replica acknowledges in no view below `view`, and its log stands
   * for its vote until a view starts. Durable before anything else is said.
   */
  promise(view: number): void {
    invariant(this.status !== ReplicaStatus.recovering, 'a replica that lost its log promises nothing');
    invariant(view > this.view, 'a promise is for a higher view');
    this.presentView = view;
    this.views.enter(view);
    this.become(ReplicaStatus.viewChange);
    this.markHardState();
    invariant(this.logView < this.view && !this.isMember, 'a replica that promised a view acknowledges in none');
  }

  /**
   * The starting log of `view` is the log now (SyncInstall and Start in model/): this replica takes part in that view.
   * Once a view.
   */
  install(view: number): void {
    invariant(view >= this.view, 'a view that is installed is not below the promised one');
    invariant(this.logView < view, 'a view starts here once');
    invariant(
      this.status !== ReplicaStatus.recovering || view > this.view || !this.views.isMember(view, this.id),
      'a replica that lost its log is no member again in the view that it may have acknowledged in',
    );
    const isPromised = view === this.view;
    this.presentView = view;
    this.views.enter(view);
    this.presentLogView = view;
    this.presentSynced = this.log.lastIndex;
    this.others.noneLost();
    this.become(ReplicaStatus.normal);
    // A log that a crash takes is of no view afterwards: then only the promise counts, which is durable or on its way.
    if (this.storage.keepsLog || !isPromised) this.markHardState();
    invariant(this.committed <= this.synced, 'the log that starts a view holds what is committed here');
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
    const { replicas, list = 0 } = this.config;
    this.list = this.configuration.epoch > 0 ? 0 : (replicas << 28) | (list & 0x0fffffff);
    const isNormal = this.presentStatus === ReplicaStatus.normal;
    this.isPrimary = isNormal && this.views.primary(this.presentView) === this.id;
    this.isMember = isNormal && this.views.isMember(this.presentView, this.id);
  }

  // The log.

  /**
   * Appends an entry, whose key is above the last one. False, and nothing changed, when the log is full. A primary
   * executes the entry at once: the caller does.
   */
  append(entry: Entry): boolean {
    if (!this.log.append(entry)) return false;
    this.appended();
    return true;
  }

  /** Appends an entry in its wire form; else like `append`. */
  appendStored(bytes: Uint8Array, offset: number, length: number): boolean {
    if (!appendEntry(this.log, bytes, offset, length)) return false;
    this.appended();
    return true;
  }

  /** An entry was just appended to the log itself. */
  appended(): void {
    const index = this.log.lastIndex;
    this.counters[Counter.entries_appended]!++;
    if (!this.isPrimary) this.tail.add(index);
    this.markLog(index);
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

  /** Entries up to `index` are committed. Members and spares execute them. */
  commitTo(index: number): void {
    if (index <= this.committed) return;
    invariant(index <= this.log.lastIndex, 'only what is in the log is committed');
    this.committed = index;
    this.execution.commits(index);
    if (this.execution.executed < index) this.execution.executeTo(index);
    this.execution.committedTo(index);
    this.followMembers();
    this.bound();
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

  /**
   * Starts the log anew behind a snapshot of committed state, in which `snapshotFault` found nothing. Returns the reason
   * if the state machine refuses it; then nothing has changed.
   * @param restore got the machine's part of it already, all of it
   */
  installSnapshot(snapshot: Snapshot, restore?: RestoreInPieces): string | undefined {
    invariant(snapshot.index >= this.committed, 'a snapshot that is installed is not behind what is committed');
    const fault = this.execution.install(snapshot, restore);
    if (fault !== undefined) return fault;
    this.isEcho = true;
    this.retained.clear();
    installBase(snapshot, this.log);
    this.committed = snapshot.index;
    this.presentSynced = snapshot.index;
    this.counters[Counter.snapshots_installed]!++;
    this.markLog(snapshot.index + 1);
    this.followMembers();
    return undefined;
  }

  // Who the hosts are.

  /** Another replica has these members; see ReplicaCore.takeMembers. Bytes that are none are ignored. */
  learnMembers(bytes: Uint8Array): void {
    const members = decodeMembership(bytes, 0, bytes.length);
    if (members === undefined) this.counters[Counter.ignored]!++;
    // While nothing of this replica itself is known nothing is stored: what is durable says that there was a start.
    else if (this.known.learn(members) && !this.starting) this.out.markQuiet();
  }

  /**
   * Entries that were committed may have changed the members (C2: not before). A quorum of one has committed what is
   * durable, and nothing else. No message depends on their being durable: what names a view of their epoch is written
   * later, or with them.
   */
  private followMembers(): void {
    if (this.known.follow(!this.isPrimary || this.configuration.quorum > 1)) this.out.markQuiet();
  }

  /** See KnownMembers. */
  mayBeNamed(slot: number): boolean {
    return this.known.mayBeNamed(slot);
  }

  /** See KnownMembers. */
  nothingIsDecided(): boolean {
    return this.known.nothingIsDecided();
  }

  /**
   * See KnownMembers.
   * @param committed entries of the log that are
   */
  listsAnother(committed: number): boolean {
    return this.known.listsAnother(() => this.commitTo(committed));
  }

  private recoverMembers(bytes: Uint8Array): void {
    const members = decodeMembership(bytes, 0, bytes.length);
    invariant(members !== undefined, 'members are as a replica wrote them');
    this.known.learn(members);
  }

  /** The state, which came from another replica, counts as this one's own (state-digests.ts). */
  ownState(): void {
    this.isEcho = false;
  }

  /** Keeps the log within its capacity: takes snapshots that are due, and cuts behind them. */
  bound(): void {
    if (this.fetchedFrom !== Infinity && this.log.fill() >= SHARED_FILL) this.retain(RETAINED_PIECE_BYTES);
    const index = this.capacity.bound(this.committed, this.neededFrom, this.fetchedFrom);
    const { isActive, endIndex } = this.retained;
    // What is still to be copied stays in the log for a few turns. Copied at once, a whole log would stop this one.
    if (isActive && index > Math.max(this.fetchedFrom, endIndex) && this.log.fill() < LAST_FILL) return;
    this.cut(index);
  }

  /** Ends a turn: takes a piece of the snapshot that is being taken, if it is time for one. */
  takePiece(now: Instant): void {
    if (this.snapshotPace.take(now)) this.bound();
  }

  /** Lowers `out[0]` to the time of the next piece, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    this.snapshotPace.wakeBefore(out);
  }

  /** Entries behind `index` may still be asked for by some replica. */
  keepFrom(index: number): void {
    this.neededFrom = index;
  }

  /** Entries behind `index` will be asked for by a replica that fetches this one's state; Infinity: by none. */
  keepForTransfers(index: number): void {
    const { log, retained } = this;
    this.fetchedFrom = index;
    // What was retained for others lacks the entries behind `index`. The log still has all of them.
    const isBefore = index < retained.baseIndex && index >= log.baseIndex;
    if (index === Infinity || (retained.isActive && isBefore)) retained.clear();
    else retained.forgetTo(index);
  }

  /** Entries behind this index can be given to others. */
  get givenFrom(): number {
    const { log, retained } = this;
    return retained.isActive ? Math.min(retained.baseIndex, log.baseIndex) : log.baseIndex;
  }

  /** Copies some of the entries that a replica will ask for and that may soon be cut. */
  private retain(bytes: number): void {
    const { retained, log } = this;
    if (!retained.isActive) {
      if (this.fetchedFrom < log.baseIndex || this.fetchedFrom > this.committed) return;
      retained.begin(log, this.fetchedFrom);
    }
    const before = retained.baseIndex;
    retained.follow(log, this.committed, bytes);
    if (before <= this.fetchedFrom && retained.baseIndex > this.fetchedFrom)
      this.transition(
        'transfer-too-long',
        `the entries since ${this.fetchedFrom} are more than are kept for a transfer`,
      );
  }

  /**
   * The log is full in the middle of a transfer or of recovery: cuts all that is committed, behind a snapshot of just
   * that. Never at a primary, which has executed more.
   */
  makeRoom(): void {
    this.execution.rewind(this.committed);
    this.execution.takeSnapshot(this.committed);
    this.cut(this.execution.stable.index);
  }

  private cut(index: number): void {
    if (index <= this.log.baseIndex) return;
    invariant(
      index <= this.execution.stable.index && this.execution.stable.index <= this.committed,
      'a log is cut only behind a snapshot of committed state',
    );
    if (index > this.fetchedFrom) this.retain(Infinity);
    this.log.cut(index);
    if (this.storage.keepsLog) this.markLogChanged();
  }

  // What a view leaves open. All of it is volatile, and decides only when something is sent.

  /** At a member: a Sync of this view was heard, newer than those before. */
  heardSync(sequence: number): void {
    this.syncHeard = sequence;
  }

  /** The next Sync counts as the first: another view, or its primary numbers them anew. */
  forgetSyncs(): void {
    this.syncHeard = 0;
  }

  /** At a member: the log differs from the primary's, or may. */
  noteDifference(): void {
    this.differed = true;
  }

  /** The primary was told, or the view is over. */
  forgetDifference(): void {
    this.differed = false;
  }

  startPushing(): void {
    this.pushing = true;
  }

  stopPushing(): void {
    this.pushing = false;
  }

  // What is durable.

  /** The storage's copy does not count any more: the next batch has the whole log. */
  rewriteLog(): void {
    if (!this.storage.keepsLog || this.starting) return;
    this.batch.rewrite();
    this.out.markLog();
  }

  /** The last turn of a life: writes how far the log is committed by now, which by itself marks no turn. */
  markCommitted(): void {
    // A replica that was stopped while it asked who it is stores nothing: what is durable says that there was a start.
    if (this.storage.keepsLog && !this.starting) this.markLogChanged();
  }

  /** The storage made everything up to `token` durable. */
  persisted(token: number): void {
    this.out.persisted(token);
    if (this.known.learnWritten()) this.out.markQuiet();
  }

  /** Ends a turn: writes what changed in it. */
  persist(): void {
    if (!this.out.wantsWrite) return;
    invariant(!this.starting, 'nothing is durable of a replica that does not know what it is');
    invariant(
      this.execution.stable.index <= this.committed && this.committed <= this.log.lastIndex,
      'what is stored of commits is within the log that is stored',
    );
    const token = this.out.nextToken();
    this.storage.persist(token, this.batch);
    this.batch.taken();
  }

  private markHardState(): void {
    this.out.markHardState();
  }

  private markLog(from: number): void {
    if (!this.storage.keepsLog) return;
    this.batch.mark(from);
    this.markLogChanged();
  }

  /** A log that is taken up in slices is of no use before it is whole, and nothing waits for it until then. */
  private markLogChanged(): void {
    if (this.presentStatus !== ReplicaStatus.recovering) this.out.markLog();
  }

  /** Tells logs, traces and checks what happened. Off the fast path only. */
  transition(event: string, detail = ''): void {
    this.observer.transition(event, detail);
  }

  get hardState(): HardState {
    return {
      view: this.view,
      logView: this.logView,
      incarnation: this.incarnation,
      known: this.others.known,
      lives: this.others.lives,
      isEcho: this.isEcho,
      ...(this.members.index === 0 ? {} : { members: encodeMembership(this.members) }),
    };
  }
}
