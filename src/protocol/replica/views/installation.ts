/**
 * Installs the starting log of a view, whole or not at all.
 *
 * Rule S guarded here (the change of `log` in `Start` and `SyncInstall` in model/JITPaxos.tla): the log that a replica takes
 * up is exactly the one that was asked for, up to its last chain, and holds every entry that is committed here.
 *
 * A replica that joins a view adopts a log that another replica holds: the primary the one of the vote it chose, all others
 * the primary's. Until it has all of it, its own log stays as it is, because its vote still stands for that one if the view
 * does not start. So the other log is staged apart (log-transfer.ts), and takes effect in one step, when its last chain is
 * the one that was asked for.
 *
 * A replica that lost its log has none that a vote could stand for, and serves nothing. It takes up a staged log in slices,
 * one a turn, committed entries first, so that it answers probes and its operator meanwhile.
 */
import { ReplicaStatus, SnapshotOffer } from '../../../wire/messages.js';
import { readI32 } from '../../../wire/u64.js';
import type { Hasher, Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { DOUBLE_ZERO } from '../../double-zero.js';
import type { Contradictions } from '../contradictions.js';
import { invariant } from '../../invariant.js';
import { SNAPSHOT_FILL_MAX } from '../log-capacity.js';
import { goBehind } from '../membership/primary-entries.js';
import type { ReplicaState } from '../replica-state.js';
import type { TransferSender } from '../transfer-sender.js';
import { readOffer, type Offered } from './arriving-snapshot.js';
import { LogTransfer, type Target, type TransferListener } from './log-transfer.js';
import type { Claim } from './votes.js';

/** A snapshot that is offered in a running view is committed there, so nothing has to be claimed of it. */
const NO_CLAIMS: readonly Claim[] = [];

/** A slice has about as many bytes of entries as this many answers of a transfer. */
const SLICE_ANSWERS = 4;
/** Between two slices, µs: the host looks for messages. */
const BETWEEN_SLICES_US = 1;

export class Installation implements TransferListener {
  private readonly transfer: LogTransfer;
  /** Staged entries that were taken up; −1: they are not being taken up. */
  private taken = -1;
  private nextSliceUs = DOUBLE_ZERO;

  /**
   * @param installed called when the target's log is in place; if it came behind a snapshot, the last argument is true
   * @param refused called when the target's log, which was dropped, contradicts that claim
   */
  constructor(
    private readonly state: ReplicaState,
    sender: TransferSender,
    hasher: Hasher,
    private readonly contradictions: Contradictions,
    private readonly installed: (target: Target, now: Instant, isBehindSnapshot: boolean) => void,
    private readonly refused: (target: Target, claim: Claim, now: Instant) => void,
  ) {
    this.transfer = new LogTransfer(state, sender, hasher, contradictions, this);
  }

  /** The log that is being brought here, if there is one. */
  get target(): Target | undefined {
    return this.transfer.target;
  }

  /** Monotonic µs at which something of it last arrived. */
  get progressUs(): number {
    return this.transfer.pace.progressUs;
  }

  get wakeAtUs(): number {
    return this.target === undefined ? Infinity : this.transfer.pace.askAgainUs;
  }

  /** Monotonic µs at which the next slice is taken up. */
  get nextSliceAtUs(): number {
    return this.taken < 0 ? Infinity : this.nextSliceUs;
  }

  tick(now: Instant): void {
    if (this.taken < 0) this.transfer.tick(now);
    else if (now.monotonicUs >= this.nextSliceUs) this.takeUpMore(now);
  }

  forgive(gapUs: number): void {
    this.transfer.pace.forgive(gapUs);
  }

  /** The source has brought nothing for so long that it is given up. */
  isSourceGivenUp(now: Instant): boolean {
    return this.transfer.isSourceGivenUp(now);
  }

  /** Whom to ask for the log of `view`, which `primary` leads. */
  sourceFor(primary: number, view: number): number {
    const { state } = this;
    const { views } = state;
    const { unusable } = this.transfer;
    // A member is waited for, and needs all of the log at once.
    if (state.status !== ReplicaStatus.recovering || views.isMember(view, state.id)) return unusable.sourceFor(primary);
    const members = views.memberMask(view);
    return unusable.sourceBeside(primary, (views.of(view)?.voters ?? 0) & ~members, members);
  }

  /** Gives up the transfer. The next one may go on with its snapshot. */
  abandon(): void {
    this.taken = -1;
    this.transfer.pause();
  }

  /** Begins; may be done at once when nothing has to be fetched. */
  start(target: Target, now: Instant): void {
    const { state, transfer } = this;
    const { log } = state;
    invariant(!state.isPrimary, 'the primary of a running view takes up no other log');
    this.taken = -1;
    transfer.begin(target, now);
    state.transition(
      'install',
      `log of view ${target.logView} up to ${target.lastIndex} from replica ${state.hosts.idOf(target.source)}`,
    );
    if (log.matches(target.lastIndex, target.chainHi, target.chainLo)) {
      for (const claim of target.claims) {
        const { committed } = claim;
        if (
          committed >= log.baseIndex &&
          !this.agrees(claim, committed, log.chainHi(committed), log.chainLo(committed), now)
        )
          return;
      }
      transfer.staged.beginBehind(target.lastIndex, target.chainHi, target.chainLo);
      transfer.whole(now);
      return;
    }
    if (this.stageGo(target)) {
      transfer.whole(now);
      return;
    }
    transfer.stageBehindCommitted();
    if (this.staged(now)) transfer.ask(now);
  }

  /**
   * The log that an epoch begins with has all that the own one has up to some entry, and `Go` behind it, which follows from
   * that entry (primary-entries.ts): its last chain proves it. So all of it is here, and nothing is fetched while clients
   * wait for the epoch.
   */
  private stageGo({ view, logView, lastIndex, chainHi, chainLo }: Target): boolean {
    const { state, transfer } = this;
    const { log, views, committed } = state;
    const epoch = views.of(view)?.epoch ?? 0;
    const before = lastIndex - 1;
    if (epoch === 0 || logView !== view || before < Math.max(committed, log.baseIndex) || before > log.lastIndex)
      return false;
    const { staged } = transfer;
    const go = goBehind(log, before, epoch).toBytes();
    staged.beginBehind(before, log.chainHi(before), log.chainLo(before));
    staged.stage(go, 0, go.length, before);
    return staged.endsWith(lastIndex, chainHi, chainLo);
  }

  onChunk(bytes: Uint8Array, o: number, from: number, now: Instant): boolean {
    return this.transfer.onChunk(bytes, o, from, now);
  }

  onSnapshotOffer(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const offered = readOffer(bytes, o);
    // What a snapshot covers is committed.
    if (this.contradictions.contradicts(from, offered.index, offered.chainHi, offered.chainLo, now)) return;
    // It brings nothing, so another source is taken.
    if (this.transfer.unusable.isGivenUp(from, offered)) return;
    if (this.target === undefined) this.startInView(readI32(bytes, o + SnapshotOffer.at.view), from, offered, now);
    this.transfer.onSnapshotOffer(bytes, o, from, offered, now);
  }

  onSnapshotChunk(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    this.transfer.onSnapshotChunk(bytes, o, from, now);
  }

  /** In the view it is in, a replica takes a snapshot when it lags so far that the entries it needs are cut everywhere. */
  private startInView(view: number, source: number, offered: Offered, now: Instant): void {
    const { state } = this;
    const { index, chainHi, chainLo } = offered;
    if (state.status !== ReplicaStatus.normal || state.isPrimary || view !== state.view || index <= state.synced)
      return;
    // What a snapshot covers is committed, so a log that agrees with it there is the primary's up to there.
    if (state.log.matches(index, chainHi, chainLo)) state.confirm(index);
    else
      this.start(
        { view, logView: view, source, lastIndex: index, chainHi, chainLo, committed: index, claims: NO_CLAIMS },
        now,
      );
  }

  /** What was claimed of the entry that the staged part ends with holds. Otherwise the staged log is dropped. */
  staged(now: Instant): boolean {
    const { endIndex, endChainHi, endChainLo } = this.transfer.staged;
    return this.target!.claims.every((claim) => this.agrees(claim, endIndex, endChainHi, endChainLo, now));
  }

  private agrees(claim: Claim, index: number, chainHi: number, chainLo: number, now: Instant): boolean {
    if (claim.committed !== index || (claim.committedChainHi === chainHi && claim.committedChainLo === chainLo))
      return true;
    const target = this.target!;
    this.transfer.drop();
    this.refused(target, claim, now);
    return false;
  }

  /** Begins to put the staged log in place of the own one, unless it contradicts what is committed here. */
  whole(now: Instant): void {
    const { state, transfer } = this;
    const target = this.target!;
    transfer.pace.succeeded();
    if (
      state.status === ReplicaStatus.normal &&
      (target.lastIndex <= state.synced || state.log.matches(target.lastIndex, target.chainHi, target.chainLo))
    ) {
      // Meanwhile the entries came by themselves.
      state.confirm(target.lastIndex);
      transfer.drop();
      return;
    }
    const contradiction = this.contradiction(target);
    if (contradiction !== undefined) {
      this.contradictions.impossible(target.source, contradiction, now);
      transfer.fail('it contradicts what is committed here');
      return;
    }
    const { snapshot, restore } = transfer.staged;
    const fault = snapshot === undefined ? undefined : state.installSnapshot(snapshot, restore);
    if (fault !== undefined) {
      transfer.refuseSnapshot(fault, now);
      return;
    }
    if (snapshot !== undefined) {
      transfer.tookSnapshot();
      // Until it has caught up (catch-up.ts).
      state.execution.snapshotFill = SNAPSHOT_FILL_MAX;
    }
    this.taken = 0;
    if (snapshot === undefined || !this.isInSlices) this.takeUpMore(now);
    else this.wait(now);
  }

  /** The own log is no replica's vote. */
  private get isInSlices(): boolean {
    return this.state.status === ReplicaStatus.recovering;
  }

  private takeUpMore(now: Instant): void {
    const { state, transfer } = this;
    const target = this.target!;
    const slice = SLICE_ANSWERS * state.config.limits.chunkBytes;
    if (!this.takeUp(target, this.isInSlices ? slice : Infinity)) {
      this.wait(now);
      return;
    }
    const isBehindSnapshot = transfer.staged.snapshot !== undefined;
    this.taken = -1;
    transfer.drop();
    this.installed(target, now, isBehindSnapshot);
  }

  /** The next slice has its own turn. */
  private wait(now: Instant): void {
    this.transfer.pace.progressed(now);
    this.nextSliceUs = now.monotonicUs + BETWEEN_SLICES_US;
  }

  /**
   * Where the staged log contradicts what is committed here, in words; undefined: nowhere. Committed entries may have come
   * since the transfer was begun.
   */
  private contradiction(target: Target): string | undefined {
    const { committed, log } = this.state;
    const { staged } = this.transfer;
    const { snapshot, baseIndex } = staged;
    if (target.lastIndex < committed)
      return `has a log of ${target.lastIndex} entries for a view that has to hold the ${committed} entries committed here`;
    if (snapshot !== undefined && snapshot.index < committed)
      return `sends the snapshot of ${snapshot.index}, and ${committed} entries are committed here`;
    for (let i = 0, index = baseIndex + 1; index <= committed && i < staged.length; i++, index++) {
      if (log.has(index) && !log.equalsEntry(index, staged.blockOf(i), staged.offsetOf(i), staged.lengthOf(i)))
        return `sends another entry ${index} than the one that is committed here`;
    }
    return undefined;
  }

  /**
   * Replaces the own entries that differ from the staged ones, and those behind. False when more is left than this many
   * bytes: then what was taken up is committed as far as that is known, and executed.
   */
  private takeUp(target: Target, sliceBytes: number): boolean {
    const { state } = this;
    const { log } = state;
    const { staged } = this.transfer;
    const committedBefore = state.committed;
    invariant(!state.isPrimary, 'the primary of a running view takes up no other log');
    invariant(
      staged.endsWith(target.lastIndex, target.chainHi, target.chainLo),
      'the log that takes the place of another is whole',
    );
    for (let left = sliceBytes; this.taken < staged.length && left > 0; this.taken++) {
      left -= staged.lengthOf(this.taken);
      this.takeUpEntry(target, this.taken);
    }
    if (this.taken < staged.length) {
      state.commitTo(Math.min(target.committed, staged.baseIndex + this.taken));
      return false;
    }
    state.truncate(target.lastIndex);
    invariant(
      log.matches(target.lastIndex, target.chainHi, target.chainLo),
      'the installed log ends with the chain that was asked for',
    );
    invariant(
      state.committed >= committedBefore && state.committed <= log.lastIndex,
      'the installed log holds every entry that was committed here',
    );
    return true;
  }

  /** Staged entry `i`. */
  private takeUpEntry({ committed }: Target, i: number): void {
    const { state } = this;
    const { log } = state;
    const { staged } = this.transfer;
    const index = staged.baseIndex + i;
    const bytes = staged.blockOf(i);
    const offset = staged.offsetOf(i);
    const length = staged.lengthOf(i);
    // Entries that were committed meanwhile are the same, and may be cut already.
    if (index < state.committed || (log.has(index + 1) && log.equalsEntry(index + 1, bytes, offset, length))) return;
    state.truncate(index);
    if (!state.appendStored(bytes, offset, length)) {
      // What is committed goes behind a snapshot. The rest stands in the source's log, whose base is committed too, so it
      // fits.
      state.commitTo(Math.min(committed, index));
      state.makeRoom();
      invariant(state.appendStored(bytes, offset, length), 'a staged log fits the log that it is installed in');
    }
    state.counters[Counter.entries_fetched]!++;
  }
}
