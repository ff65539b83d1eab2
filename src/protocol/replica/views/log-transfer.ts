/**
 * Brings another replica's log here, entry by entry or a snapshot first if the entries are gone, and stages it apart.
 *
 * Nothing of this replica changes by it: the own log stays as it is until installation.ts takes the staged one up. An entry
 * is staged only under the chain that its source names for what it follows, and in key order.
 */
import { Chunk, ReplicaStatus, SnapshotChunk, SnapshotOffer } from '../../../wire/messages.js';
import { readI32, readIndex, readU16 } from '../../../wire/u64.js';
import type { Hasher, Instant } from '../../contract.js';
import type { Contradictions } from '../contradictions.js';
import { ENTRY_HEADER_BYTES } from '../../log/entry.js';
import { decodeSnapshot, snapshotFault } from '../../log/snapshots.js';
import { RETAINED_TIMES } from '../log-capacity.js';
import { EarlyMessages } from '../early-messages.js';
import { FetchSeries } from '../fetch-series.js';
import type { ReplicaState } from '../replica-state.js';
import type { TransferSender } from '../transfer-sender.js';
import { ArrivingSnapshot, isTransferable, type Offered } from './arriving-snapshot.js';
import { PieceWindow } from './piece-window.js';
import { StagedLog } from './staged-log.js';
import { TransferPace } from './transfer-pace.js';
import { UnusableSnapshots } from './unusable-snapshots.js';
import type { Claim } from './votes.js';

/** How long the snapshot of a transfer that was given up is kept, from what last came on, monotonic µs. */
const KEPT_US = 5_000_000;

/** The log to bring here. */
export interface Target {
  /** View that is being joined; the source is in it too. */
  readonly view: number;
  /** logView of the source's log. */
  readonly logView: number;
  readonly source: number;
  readonly lastIndex: number;
  readonly chainHi: number;
  readonly chainLo: number;
  /** Entries of the target up to here are known to be committed. */
  readonly committed: number;
  /** What the log has to hold: if it does not, nothing of it is installed. */
  readonly claims: readonly Claim[];
}

export interface TransferListener {
  /** The staged part ends elsewhere now. False when it must not go on: the transfer was dropped. */
  staged(now: Instant): boolean;
  /** The target is staged, up to its last chain. Nothing more is asked for. */
  whole(now: Instant): void;
}

export class LogTransfer {
  target: Target | undefined;
  readonly staged: StagedLog;
  readonly pace: TransferPace;
  readonly unusable: UnusableSnapshots;
  private readonly early = new EarlyMessages();
  private readonly series = new FetchSeries();
  private readonly pieces: PieceWindow;
  private arriving: ArrivingSnapshot | undefined;
  /** The staged snapshot. */
  private arrived: ArrivingSnapshot | undefined;
  /** The snapshot of a transfer that was given up, or what had come of it: another source may offer the same. */
  private kept: ArrivingSnapshot | undefined;
  /** When something of that transfer last came, monotonic µs. */
  private keptUs = 0;
  /** The source of the last target. */
  private asked = -1;
  /** Everything has come. */
  private isStaged = false;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: TransferSender,
    private readonly hasher: Hasher,
    private readonly contradictions: Contradictions,
    private readonly listener: TransferListener,
  ) {
    this.staged = new StagedLog(state.log, state.chain);
    const { limits, timings } = state.config;
    this.pace = new TransferPace(timings);
    this.pieces = new PieceWindow(limits.chunkBytes, timings.fetchTimeoutUs);
    this.unusable = new UnusableSnapshots(state.id, state.hosts);
  }

  begin(target: Target, now: Instant): void {
    this.pause();
    if (target.source !== this.asked) this.pieces.forget();
    this.asked = target.source;
    this.target = target;
    this.series.forget();
    this.pace.progressed(now);
  }

  /** Drops what was staged, but for the snapshot: if it is offered again, byte for byte, it goes on where it stopped. */
  pause(): void {
    const snapshot = this.arriving ?? this.arrived;
    if (snapshot !== undefined) {
      this.kept?.abort();
      this.kept = snapshot;
      this.keptUs = this.pace.progressUs;
      if (snapshot === this.arrived) this.staged.releaseRestore();
    }
    this.target = undefined;
    this.isStaged = false;
    this.staged.clear();
    this.arriving = undefined;
    this.arrived = undefined;
    this.early.clear();
  }

  /** Drops everything. */
  drop(): void {
    this.pause();
    this.dropKept();
  }

  private dropKept(): void {
    this.kept?.abort();
    this.kept = undefined;
  }

  /** Stages from the own log on. Everything committed is in every log that may be chosen, and in this one. */
  stageBehindCommitted(): void {
    const { log, committed } = this.state;
    const base = Math.max(committed, log.baseIndex);
    this.staged.beginBehind(base, log.chainHi(base), log.chainLo(base));
  }

  tick(now: Instant): void {
    if (this.kept !== undefined && now.monotonicUs - this.keptUs >= KEPT_US) this.dropKept();
    if (this.isStaged || this.target === undefined) return;
    if (this.pace.mayAskAgain(now)) this.ask(now, true);
  }

  /** @param inVain nothing came for the last question in time */
  ask(now: Instant, inVain = false): void {
    const { arriving } = this;
    if (arriving === undefined) {
      this.series.begin(this.sender.nextSeries(), inVain, now);
      this.pace.asked(now, this.series.waits);
      this.askForEntries();
      return;
    }
    if (inVain) this.pieces.late(arriving.received);
    this.askForPieces(arriving, now);
  }

  /** Sends one question of the present series. */
  private askForEntries(): void {
    const { staged, series } = this;
    const { source, view, logView } = this.target!;
    this.sender.fetch(source, view, logView, staged.endIndex, staged.endChainHi, staged.endChainLo, series.number);
  }

  /** Asks for pieces before those that were asked for are here, so that there is always something on its way. */
  private askForPieces(arriving: ArrivingSnapshot, now: Instant): void {
    const { pieces } = this;
    while (pieces.mayAsk(arriving.received, arriving.offered.length)) {
      this.fetchPieces(arriving, pieces.asked, this.state.config.limits.chunkBytes);
      pieces.asks(now);
    }
    this.pace.asked(now, pieces.waits, pieces.usualWaits);
  }

  private fetchPieces({ offered }: ArrivingSnapshot, offset: number, room: number): void {
    const { source, view } = this.target!;
    this.sender.snapshotFetch(source, view, offered.index, offered.chainHi, offered.chainLo, offset, room);
  }

  /** The message is of the transfer that goes on. */
  private isMine(view: number, logView: number, from: number): boolean {
    const { target } = this;
    return target !== undefined && from === target.source && view === target.view && logView === target.logView;
  }

  /** True when the Chunk was for this. */
  onChunk(bytes: Uint8Array, o: number, from: number, now: Instant): boolean {
    const at = Chunk.at;
    if (!this.isMine(readI32(bytes, o + at.view), readI32(bytes, o + at.logView), from)) return false;
    // Entries before the snapshot that arrives are of no use, and those behind it are asked for later.
    if (this.arriving === undefined && !this.isStaged) this.takeChunk(bytes, o, now);
    return true;
  }

  private takeChunk(bytes: Uint8Array, o: number, now: Instant): void {
    const { staged, state } = this;
    const target = this.target!;
    const at = Chunk.at;
    const base = readIndex(bytes, o + at.baseIndex);
    const before = staged.endIndex;
    const isLast = bytes[o + at.more] === 0;
    const isPresent = this.series.heard(bytes[o + at.series]!, state.config.timings.fetchTimeoutUs, now);
    if (base > before && base < target.lastIndex) {
      this.early.keep(base, bytes, o, Chunk.size + readU16(bytes, o + at.entries));
      if (this.early.isLost(before)) this.ask(now);
    }
    // What it brings came already. It counts as an answer all the same.
    if (base < before && isPresent && isLast) this.askForMoreEntries(base);
    if (!staged.endsWith(base, readI32(bytes, o + at.baseChain), readI32(bytes, o + at.baseChain + 4))) return;
    if (!this.stageEntries(target, bytes, o, now)) return;
    const { limits } = state.config;
    if (!staged.fits(state.log.operationBytes, limits.logBytes, limits.logEntries)) {
      this.fail('the log to install does not fit this replica: limits differ between replicas');
      return;
    }
    if (staged.endIndex === before) return;
    this.pace.progressed(now);
    if (staged.endIndex < target.lastIndex) {
      this.pace.asked(now, this.series.waits);
      if (isLast && isPresent) this.askForMoreEntries(base);
      const next = this.early.take(staged.endIndex);
      if (next !== undefined) this.takeChunk(next, 0, now);
      // From a source that knows no series. What follows may have been sent as well; then it is asked for only when it does
      // not come.
      else if (isLast && bytes[o + at.series] === 0 && !this.early.hasBeyond(staged.endIndex)) this.ask(now);
    } else if (staged.endsWith(target.lastIndex, target.chainHi, target.chainLo)) {
      this.whole(now);
    } else {
      this.fail(`chain of ${target.lastIndex} is not the one asked for`);
    }
  }

  private askForMoreEntries(base: number): void {
    for (let count = this.series.answered(base); count > 0; count--) this.askForEntries();
  }

  /** Stages the entries of a Chunk, up to the end of the target. False when the transfer was dropped. */
  private stageEntries(target: Target, bytes: Uint8Array, o: number, now: Instant): boolean {
    const { staged } = this;
    let offset = o + Chunk.size;
    const end = offset + readU16(bytes, o + Chunk.at.entries);
    while (offset + 2 <= end && staged.endIndex < target.lastIndex) {
      const length = ENTRY_HEADER_BYTES + readU16(bytes, offset);
      offset += 2;
      if (offset + length > end) break;
      if (!staged.isInOrder(bytes, offset)) {
        const entry = staged.endIndex + 1;
        this.contradictions.impossible(
          target.source,
          `sends an entry ${entry} whose key is not above the one before it`,
          now,
        );
        this.fail(`entry ${entry} is not in key order`);
        return false;
      }
      staged.stage(bytes, offset, length, target.committed);
      if (!this.listener.staged(now)) return false;
      offset += length;
    }
    return true;
  }

  /** The source has brought nothing for so long that it is given up. */
  isSourceGivenUp(now: Instant): boolean {
    const { arrived, target, state } = this;
    // Only the source keeps the entries behind its snapshot: from any other one a newer snapshot would come, all of it.
    const isPatient = arrived !== undefined && !state.views.isMember(target!.view, state.id);
    if (!this.pace.gaveUp(now, isPatient)) return false;
    this.unusable.silence();
    return true;
  }

  /** All of the target is staged. */
  whole(now: Instant): void {
    this.isStaged = true;
    this.early.clear();
    this.listener.whole(now);
  }

  /** The staged snapshot is installed: its bytes are of no use to a transfer any more. */
  tookSnapshot(): void {
    this.arrived = undefined;
    this.staged.releaseRestore();
  }

  /** What the source brought is not the log that was asked for. Everything is dropped, and it counts against the source. */
  fail(why: string): void {
    this.state.transition('install-failed', why);
    this.unusable.silence();
    this.drop();
  }

  /** The source no longer has the entries: its snapshot comes first. */
  onSnapshotOffer(bytes: Uint8Array, o: number, from: number, offered: Offered, now: Instant): void {
    const at = SnapshotOffer.at;
    if (this.isStaged || !this.isMine(readI32(bytes, o + at.view), readI32(bytes, o + at.logView), from)) return;
    const target = this.target!;
    const { index, chainHi, chainLo } = offered;
    if (index <= this.staged.endIndex || !isTransferable(offered)) return;
    // The source is so far behind that what follows its snapshot could not be staged: it brings nothing.
    if (target.lastIndex - index > (1 + RETAINED_TIMES) * this.state.config.limits.logEntries) return;
    if (index > target.lastIndex) {
      // A log that a vote stands for is frozen. One of the view itself went on, and was cut beyond what was asked for:
      // what the snapshot covers is committed in that view, so it is as good a log to join with, and the only one left.
      if (target.logView !== target.view) return;
      this.target = { ...target, lastIndex: index, chainHi, chainLo, committed: index };
    }
    if (this.arriving?.isOffered(offered) === true) return;
    this.early.clear();
    // A machine restores one snapshot at a time.
    this.staged.forgetRestore();
    this.arrived?.abort();
    this.arriving?.abort();
    this.arriving = this.resumed(offered);
    // A replica that the view waits for as a member is none yet.
    this.pieces.begin(this.arriving.received, this.state.views.isMember(target.view, this.state.id));
    this.pace.progressed(now);
    if (this.arriving.isWhole) this.arrivedWhole(this.arriving, now);
    else this.ask(now);
  }

  /** What there is of the snapshot that is offered. */
  private resumed(offered: Offered): ArrivingSnapshot {
    const { kept, state, hasher } = this;
    this.kept = undefined;
    if (kept?.isSame(offered) === true) return kept;
    kept?.abort();
    return new ArrivingSnapshot(offered, state.execution, hasher);
  }

  onSnapshotChunk(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { target, arriving } = this;
    if (target === undefined || arriving === undefined || from !== target.source || !arriving.isPiece(bytes, o)) return;
    const at = SnapshotChunk.at;
    const offset = readI32(bytes, o + at.offset);
    if (offset > arriving.received && offset < arriving.offered.length) {
      this.early.keep(offset, bytes, o, SnapshotChunk.size + readU16(bytes, o + at.data));
      if (this.early.isLost(arriving.received)) {
        this.pieces.lost(arriving.received);
        const missing = this.early.first() - arriving.received;
        this.fetchPieces(arriving, arriving.received, Math.min(missing, this.state.config.limits.chunkBytes));
      }
    }
    if (!arriving.take(bytes, o)) return;
    this.pieces.took(arriving.received - offset, arriving.received, arriving.isWhole, now);
    this.pace.progressed(now);
    if (arriving.isWhole) {
      this.arrivedWhole(arriving, now);
      return;
    }
    const next = this.early.take(arriving.received);
    if (next !== undefined) this.onSnapshotChunk(next, 0, from, now);
    else this.askForPieces(arriving, now);
  }

  private arrivedWhole(arriving: ArrivingSnapshot, now: Instant): void {
    this.arriving = undefined;
    this.early.clear();
    this.stageSnapshot(arriving, now);
  }

  private stageSnapshot(arrived: ArrivingSnapshot, now: Instant): void {
    const { state } = this;
    const { offered } = arrived;
    const { source, lastIndex } = this.target!;
    const digest = new Uint8Array(8);
    if (!arrived.isUndamaged(digest)) {
      arrived.abort();
      this.unusable.damaged(source, offered);
      state.transition(
        'snapshot-refused',
        `snapshot of ${offered.index} from replica ${state.hosts.idOf(source)} is damaged`,
      );
      this.ask(now);
      return;
    }
    this.arrived = arrived;
    const snapshot = decodeSnapshot(arrived.bytes);
    const fault =
      snapshot === undefined ||
      snapshot.index !== offered.index ||
      snapshot.chainHi !== offered.chainHi ||
      snapshot.chainLo !== offered.chainLo
        ? 'the header is that of another one, or of none'
        : (snapshotFault(snapshot, state.config.limits) ?? arrived.fault);
    if (snapshot === undefined || fault !== undefined) {
      arrived.abort();
      this.refuseSnapshot(fault!, now);
      return;
    }
    this.staged.beginBehindSnapshot({ ...snapshot, digest }, arrived.restore);
    if (!this.listener.staged(now)) return;
    if (snapshot.index === lastIndex) this.whole(now);
    else this.ask(now);
  }

  /**
   * The snapshot that came undamaged cannot be one of this cluster. Its source is named, nothing has changed, and the same
   * snapshot is not fetched from there again.
   */
  refuseSnapshot(fault: string, now: Instant): void {
    const { state } = this;
    const { offered } = this.arrived!;
    const { source } = this.target!;
    this.arrived = undefined;
    this.isStaged = false;
    this.unusable.impossible(source, offered);
    this.contradictions.impossible(source, `sends a snapshot of ${offered.index} that cannot be one: ${fault}`, now);
    state.transition(
      'snapshot-refused',
      `snapshot of ${offered.index} from replica ${state.hosts.idOf(source)} cannot be one: ${fault}`,
    );
    // In a view change the source is given up when it has brought nothing for long enough. In a running view, the replica
    // that is asked next offers its own.
    if (state.status === ReplicaStatus.normal) this.drop();
    else this.stageBehindCommitted();
  }
}
