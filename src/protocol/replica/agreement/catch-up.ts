/**
 * When a replica whose log differs from the primary's, or ends before it, asks for what it lacks, and whom. May be changed
 * freely: what comes is applied by the repair rule (repair.ts), whenever it was asked for.
 *
 * A member that differs tells the primary, which then pushes its order (order-push.ts). If that is switched off, or did
 * not help within `repairDelayUs`, the member fetches the entries. A spare fetches what is committed. Nothing blocks: a
 * lost answer leaves a timer, nothing else.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { FetchSeries } from '../fetch-series.js';
import { SNAPSHOT_FILL_MAX } from '../log-capacity.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';
import type { TransferSender } from '../transfer-sender.js';

/**
 * How long a spare waits for entries from the replica that gave it a snapshot, monotonic µs. Only that one keeps them: from
 * any other it would get a newer snapshot, all of it. The giver keeps them for longer (KEPT_US in served.ts).
 */
const GIVER_US = 2_000_000;

export class CatchUp {
  /** Fetches within the view are open. */
  private fetching = false;
  /** When the first was sent, or what was asked for last came further. */
  private fetchSentUs = DOUBLE_ZERO;
  /** The answers to them are here up to this index. */
  private fetchBase = 0;
  private readonly series = new FetchSeries();
  private fetchSource = -1;
  private fetchFailures = 0;
  /** A spare got a snapshot from this replica, which keeps the entries behind it (served.ts); −1: it has caught up since. */
  private giver = -1;
  /** When the giver last brought something. */
  private giverUs = DOUBLE_ZERO;
  /** The primary's log reaches `behindIndex` and this one does not, since `behindUs`. */
  private behindIndex = 0;
  private behindUs = Infinity;
  /** Since when this member's log differs, or may, and nothing has settled it. */
  private doubtUs = Infinity;
  /** When the primary was last told that this member differs. */
  private toldUs = -Infinity;
  /** When a late request last made this member look whether its log differs. */
  private lateUs = -Infinity;
  /** When an Order last arrived. */
  private orderHeardUs = -Infinity;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly transfers: TransferSender,
  ) {}

  /** The view ended: drops what it left open. */
  reset(): void {
    this.fetching = false;
    this.fetchFailures = 0;
    this.series.forget();
    this.giver = -1;
    this.behindUs = Infinity;
    this.behindIndex = 0;
    this.doubtUs = Infinity;
    this.orderHeardUs = -Infinity;
    this.state.execution.snapshotFill = -Infinity;
    this.state.forgetDifference();
  }

  /** Lowers `out[0]` to the time of the next timed action, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    const { timings } = this.state.config;
    let at = out[0]!;
    if (this.fetching) at = Math.min(at, this.fetchSentUs + this.series.waits * timings.fetchTimeoutUs);
    if (this.behindUs !== Infinity) at = Math.min(at, this.behindUs + timings.repairDelayUs);
    if (this.doubtUs !== Infinity) at = Math.min(at, this.doubtUs + timings.repairDelayUs);
    out[0] = at;
  }

  /** True if what was expected for `repairDelayUs` has not come. */
  tick(now: Instant): boolean {
    const { state } = this;
    const { timings } = state.config;
    if (this.fetching && now.monotonicUs - this.fetchSentUs >= this.series.waits * timings.fetchTimeoutUs) {
      this.fetching = false;
      if (this.giver < 0) this.fetchFailures++;
      else if (now.monotonicUs - this.giverUs >= GIVER_US) this.giver = -1;
      this.fetch(now, true);
    }
    if (now.monotonicUs - this.behindUs >= timings.repairDelayUs) {
      this.behindUs = Infinity;
      if (state.log.lastIndex < this.behindIndex || state.synced < Math.min(state.log.lastIndex, this.behindIndex))
        this.fetch(now);
    }
    if (now.monotonicUs - this.doubtUs < timings.repairDelayUs) return false;
    this.doubtUs = Infinity;
    if (state.isMember) this.fetch(now);
    return true;
  }

  /** The primary's log ends at `lastIndex` and is committed up to `committed`. */
  hear(lastIndex: number, committed: number, now: Instant): void {
    const { state } = this;
    if (committed <= state.synced) {
      state.execution.snapshotFill = -Infinity;
      this.giver = -1;
    }
    if (!state.isMember) {
      if (committed > state.synced) this.fetch(now);
    } else if (lastIndex > state.log.lastIndex) {
      // The missing requests may be on their way from the clients.
      if (committed > state.synced) this.fetch(now);
      else if (this.behindUs === Infinity) this.behindUs = now.monotonicUs;
      if (lastIndex > this.behindIndex) this.behindIndex = lastIndex;
    } else if (lastIndex > state.synced) {
      this.doubt(now);
    }
  }

  /** The primary pushes its order, as far as this member knows, so the member will learn of differences without asking. */
  isPushed(now: Instant): boolean {
    return now.monotonicUs - this.orderHeardUs < this.state.config.timings.orderHoldUs / 2;
  }

  orderHeard(now: Instant): void {
    this.orderHeardUs = now.monotonicUs;
  }

  /** The primary's order waits for a request, which is probably on its way. */
  orderWaits(now: Instant): void {
    if (this.doubtUs === Infinity) this.doubtUs = now.monotonicUs;
  }

  /** Nothing that is known of the primary's log differs from this one. */
  settled(): void {
    this.doubtUs = Infinity;
  }

  /** A client sent a request that no longer has a place in the log: the primary may have it. */
  lateRequest(now: Instant): void {
    const { timings } = this.state.config;
    if (timings.orderHoldUs > 0) {
      this.mayDiffer(now);
    } else if (timings.lateRepairUs > 0 && now.monotonicUs - this.lateUs >= timings.lateRepairUs) {
      this.lateUs = now.monotonicUs;
      this.mayDiffer(now);
    }
  }

  /** This member's log differs from the primary's, or is said to. */
  mayDiffer(now: Instant): void {
    if (!this.state.isMember || this.state.isPrimary) return;
    this.doubt(now);
    this.tellPrimary(now);
  }

  private doubt(now: Instant): void {
    const { state } = this;
    if (state.config.timings.orderHoldUs > 0) {
      state.noteDifference();
      if (this.doubtUs !== Infinity) return;
      this.doubtUs = now.monotonicUs;
      state.counters[Counter.repairs]!++;
    } else if (!this.fetching) {
      state.counters[Counter.repairs]!++;
      this.fetch(now);
    }
  }

  /**
   * Tells the primary that this member differs, if it does; repeated now and then while the primary pushes its order, so
   * that it continues.
   */
  tellPrimary(now: Instant): void {
    if (!this.state.differed) return;
    const { timings } = this.state.config;
    const pauseUs = this.isPushed(now) ? timings.orderHoldUs / 4 : timings.lateRepairUs;
    if (now.monotonicUs - this.toldUs < pauseUs) return;
    this.toldUs = now.monotonicUs;
    this.sender.syncAck(this.state.primary, now);
  }

  /**
   * Asks for what follows `synced`, unless such a question is open. A member asks the primary; a spare asks a member that
   * is not the primary, as long as that one answers, but behind a snapshot the replica that gave it.
   * @param inVain the last question brought nothing
   */
  fetch(now: Instant, inVain = false): void {
    const { state } = this;
    if (this.fetching) return;
    this.fetching = true;
    this.fetchSentUs = now.monotonicUs;
    let source = state.primary;
    if (!state.isMember && this.giver >= 0) {
      source = this.giver;
    } else if (!state.isMember && this.fetchFailures % 2 === 0) {
      const others = state.views.members(state.view).filter((r) => r !== state.primary);
      if (others.length > 0) source = others[(this.fetchFailures / 2 + state.id) % others.length]!;
    }
    this.fetchBase = state.synced;
    this.fetchSource = source;
    this.series.begin(this.transfers.nextSeries(), inVain, now);
    this.ask();
  }

  /** Sends one question of the present series. */
  private ask(): void {
    const { log, synced, view, logView } = this.state;
    this.transfers.fetch(
      this.fetchSource,
      view,
      logView,
      synced,
      log.chainHi(synced),
      log.chainLo(synced),
      this.series.number,
    );
  }

  /** A snapshot of replica `giver` was installed: what was asked for before is not wanted any more. */
  snapshotInstalled(giver: number, now: Instant): void {
    this.fetching = false;
    this.fetchFailures = 0;
    this.giver = giver;
    this.giverUs = now.monotonicUs;
    this.state.execution.snapshotFill = SNAPSHOT_FILL_MAX;
  }

  /** Replica `from` offers the snapshot of `index`: it does not keep the entries that this one lacks. */
  snapshotOffered(from: number, index: number): void {
    if (from === this.giver && index > this.state.synced) this.giver = -1;
  }

  /** A Chunk of the entries behind `base` is part of the answers that are awaited from `from`, and not the next one. */
  comesEarly(base: number, from: number): boolean {
    return this.fetching && from === this.fetchSource && base > this.fetchBase;
  }

  /**
   * The next Chunk is lost rather than late: several from beyond it have come. What is missing is asked for again. If a
   * single answer is awaited, the timer does that.
   */
  chunkLost(now: Instant): void {
    if (!this.series.isAhead) return;
    this.fetching = false;
    this.fetch(now);
  }

  /** Up to where the answers that are awaited have come. */
  get awaitedBehind(): number {
    return this.fetchBase;
  }

  /**
   * A Chunk of the entries behind `base` was applied up to `end`.
   * @param lastIndex the end of the primary's log
   * @param more further Chunks of the same answer are on their way
   * @param series that it says; 0: none
   */
  chunkApplied(base: number, end: number, lastIndex: number, more: boolean, series: number, now: Instant): void {
    const isPresent = this.series.heard(series, this.state.config.timings.fetchTimeoutUs, now);
    // One of the present series may bring again what came otherwise. It counts as an answer all the same.
    if (!this.fetching || (isPresent ? base > this.fetchBase : base !== this.fetchBase)) return;
    this.fetchFailures = 0;
    if (end > this.fetchBase) {
      this.fetchBase = end;
      this.fetchSentUs = now.monotonicUs;
      this.giverUs = now.monotonicUs;
    }
    if (this.state.synced >= lastIndex) {
      this.fetching = false;
      this.giver = -1;
    } else if (end <= base) {
      // Without progress (a full log) the next Sync tries again, not this answer.
      this.fetching = false;
    } else if (!more) {
      this.askForMore(base, isPresent, series, now);
    }
  }

  private askForMore(base: number, isPresent: boolean, series: number, now: Instant): void {
    if (isPresent) {
      for (let count = this.series.answered(base); count > 0; count--) this.ask();
    } else if (series === 0) {
      // From one that knows no series, or pushes: nothing else is on its way.
      this.fetching = false;
      this.fetch(now);
    }
  }
}
