/**
 * Executes the log: runs the state machine, keeps the session table in step with it, takes snapshots, and rolls back
 * what was executed too early. Model: `Execute`, and the invariants `ExecAgree` and `ExecInLog` (model/JITPaxos.tla).
 *
 * A primary executes entries as it appends them, before they are committed; members and spares execute committed
 * entries, and of the log that a view starts from those that may list another data directory (`membershipAhead`). Only a
 * view change removes executed entries from the log. What they did is then undone; if the machine cannot
 * do that, the state goes back to the last snapshot at or below `committed`, and the entries that stay are executed
 * again. A snapshot is *provisional* until its index is committed, and then *stable*; the log is cut only at a stable
 * one. Before that a long one is *unfinished* for many turns, in which it is taken in pieces.
 */
import type {
  ApplyContext,
  Operation,
  Reply as MachineReply,
  RestoreInPieces,
  StateMachine,
} from '../../machine/state-machine.js';
import { REGISTER_LANES, ReplyStatus, RequestFlag } from '../../wire/messages.js';
import { LastWords } from '../../wire/copy.js';
import { compareU64, readI32, readU16 } from '../../wire/u64.js';
import type { Limits } from '../config.js';
import type { Hasher, Snapshot } from '../contract.js';
import { Counter } from '../counters.js';
import { RecordAt, type Log } from './log.js';
import { invariant } from '../invariant.js';
import { change } from '../membership/changes.js';
import type { Membership } from '../membership/membership.js';
import { decodeOperation } from '../membership/operations.js';
import { RESULT_BYTES, writeChangeResult } from '../membership/results.js';
import { Feature, featureOf, FeatureUnknownError, maskOf, unknownIn } from './features.js';
import { Executed, Session } from './session.js';
import { REGISTER_BORN, REGISTER_BYTES, REGISTER_LANE, SessionTable } from './sessions.js';
import {
  decodeSnapshot,
  encodeHead,
  encodeSnapshot,
  featuresIn,
  machineBytes,
  machineRefuses,
  membershipIn,
  restoreSessions,
  sessionsAt,
} from './snapshots.js';
import { SnapshotMemory } from './snapshot-memory.js';
import type { TailIndex } from './tail-index.js';
import { piecesOf, UnfinishedSnapshot } from './unfinished-snapshot.js';

export class Execution {
  readonly sessions: SessionTable;
  /** Index of the last entry that the state reflects. */
  executed = 0;
  /** Features that are on behind that entry, a mask (features.ts). */
  features: number;
  /** Who the hosts are behind that entry (membership/). */
  membership: Membership;
  /** The same behind the committed entries: nobody acts upon another (C2). */
  committedMembership: Membership;
  /** The newest snapshot whose index is committed. */
  stable: Snapshot;
  /** A newer snapshot whose index is not committed yet. */
  provisional: Snapshot | undefined;
  /** The snapshot that is being taken in pieces. */
  readonly unfinished: UnfinishedSnapshot;
  /** Entries up to here are committed; `commits` sets it. */
  committed = 0;
  /** A stable snapshot of what was executed here, not one from elsewhere; the code that compares it takes it away. */
  comparable: Snapshot | undefined;
  /** While the log is less full than this, no snapshot is begun that is due. −Infinity, a double: there is no such bound. */
  snapshotFill = -Infinity;
  /** How often the state was replaced by another replica's. */
  installs = 0;
  /** Hears when the machine begins to give its whole state at once, and when that is over. */
  whole: ((isOver: boolean) => void) | undefined;
  /** Whether somebody reads a snapshot that is no longer the stable one; without an answer somebody may. */
  isHeld: (snapshot: Snapshot) => boolean = () => true;
  /** How often executed entries were undone, without a restore. */
  undone = 0;
  /** Where the last execution put its result: valid until the next one. */
  readonly reply: MachineReply;
  /** ReplyStatus of the last execution. */
  lastStatus = 0;

  /** A snapshot is taken after each entry whose index is a multiple of this; the next one after `snapshotAt`. */
  private pitch = Infinity;
  private snapshotAt = Infinity;
  /** What executed entries made of the membership that are not known to be committed, oldest first. */
  private changesAhead: { readonly index: number; readonly membership: Membership }[] = [];
  /** The last entry that switched a feature on. It is not undone, since a machine does not know when it was raised. */
  private switchedAt = 0;
  private readonly operation: Operation;
  /** Where the machine writes a result, unless it points to its own memory. */
  private readonly results: Uint8Array;
  private readonly outcome = new Uint8Array(RESULT_BYTES);
  private readonly replies = new LastWords();
  private readonly done = new Executed();
  private readonly context: ApplyContext = { timestampHi: 0, timestampLo: 0, index: 0 };
  private readonly memory: SnapshotMemory;

  constructor(
    private readonly log: Log,
    private readonly tail: TailIndex,
    private readonly machine: StateMachine,
    private readonly limits: Limits,
    private readonly counters: Float64Array,
    /** What chains the log. */
    private readonly chain: Hasher,
    /** Features that are on before the first entry, a mask. */
    features: number,
    /** Who the hosts are before the first entry that changes it. */
    private readonly firstMembership: Membership,
    /** Length of a piece of a snapshot; one that is no longer is taken at once. */
    readonly pieceBytes: number,
    /** XXH3-64, for digests of snapshots. */
    private readonly hasher?: Hasher,
    /** Bytes for what undoes the sessions' part of entries that are not committed. */
    undoBytes?: number,
  ) {
    this.features = features;
    this.membership = this.committedMembership = firstMembership;
    this.sessions = new SessionTable(limits.maxSessions, limits.maxLanes, limits.keptResultBytes, undoBytes);
    this.unfinished = new UnfinishedSnapshot(this.sessions.copy);
    this.memory = new SnapshotMemory(pieceBytes);
    this.setFeatures(features);
    this.results = new Uint8Array(limits.resultBytes);
    this.reply = { bytes: this.results, offset: 0, capacity: limits.resultBytes, length: 0 };
    this.operation = { bytes: log.bytes, offset: 0, length: 0 };
    this.stable = this.encodeWhole();
    // Whatever has to be loaded for a hash in parts is loaded now, not in the middle of a turn.
    hasher?.begin?.();
    this.commits(0);
  }

  /** Executes up to `index`, oldest first. */
  executeTo(index: number): void {
    invariant(index <= this.log.lastIndex, 'only what is in the log is executed');
    while (this.executed < index) {
      // Not right after the execution, because the caller has not read its result yet.
      if (this.executed === this.snapshotAt) this.takeSnapshotBefore(index);
      const next = this.executed + 1;
      if (this.tail.size > 0) this.tail.executed(next);
      this.execute(next);
      this.executed = next;
    }
  }

  /** Answers a read from the present state; the result is in `reply`. */
  query(bytes: Uint8Array, offset: number, length: number): void {
    this.operation.bytes = bytes;
    this.operation.offset = offset;
    this.operation.length = length;
    this.context.timestampHi = 0;
    this.context.timestampLo = 0;
    this.context.index = this.executed;
    this.emptyReply();
    this.machine.query(this.operation, this.context, this.reply);
    invariant(this.reply.length <= this.reply.capacity, 'a state machine keeps within the reply capacity');
    this.operation.bytes = this.log.bytes;
  }

  /** Entries up to `committed` are committed. Call it before they are executed. */
  commits(committed: number): void {
    this.committed = committed;
    if (this.machine.undoTo === undefined) return;
    this.machine.committedTo?.(committed);
    this.sessions.committedTo(committed);
  }

  /** `committed` advanced, and what it covers is executed: a provisional snapshot may have become stable. */
  committedTo(committed: number): void {
    while (this.changesAhead.length > 0 && this.changesAhead[0]!.index <= committed)
      this.committedMembership = this.changesAhead.shift()!.membership;
    if (this.provisional === undefined || this.provisional.index > committed) return;
    const before = this.stable;
    this.stable = this.provisional;
    this.provisional = undefined;
    this.comparable = this.stable;
    this.isOver(before);
  }

  /** The next snapshot is taken after an entry whose index is a multiple of this, which divides the pitch, at the latest. */
  hasten(entries: number): void {
    this.snapshotAt = Math.min(this.snapshotAt, Math.ceil(this.executed / entries) * entries);
    this.takeDueSnapshot();
  }

  /** The next snapshot is taken at a multiple of the pitch after all. */
  takeTime(): void {
    if (this.snapshotAt % this.pitch !== 0) this.aim();
  }

  /** From now on a snapshot is taken after each entry whose index is a multiple of `entries`. */
  setPitch(entries: number): void {
    if (entries === this.pitch) return;
    this.pitch = entries;
    this.aim();
  }

  /**
   * Takes the snapshot that is due, and entries up to `index` follow at once. There is one provisional snapshot at most, so
   * another one that is due among them would replace this one before anything else is committed.
   */
  private takeSnapshotBefore(index: number): void {
    if (this.executed > this.committed && this.executed + this.pitch < index) this.aim();
    else this.takeDueSnapshot();
  }

  /** Ends a turn: takes the snapshot after the last executed entry, if one is due. */
  takeDueSnapshot(): void {
    if (this.executed !== this.snapshotAt) return;
    if (this.log.fill() >= this.snapshotFill) this.beginSnapshot();
    this.aim();
  }

  /** Index of the newest snapshot, whole or not. */
  get newestSnapshot(): number {
    const { unfinished } = this;
    return unfinished.isUnderway ? unfinished.index : (this.provisional?.index ?? this.stable.index);
  }

  private aim(): void {
    this.snapshotAt = (Math.floor(this.executed / this.pitch) + 1) * this.pitch;
  }

  /**
   * Begins a snapshot of the present state, unless there is one of that index, or one is unfinished. A short one is whole
   * at once.
   */
  beginSnapshot(): void {
    if (this.unfinished.isUnderway || this.executed === this.newestSnapshot) return;
    const pieces = this.machine.beginSnapshot?.() ?? piecesOf(this.wholeState());
    const { log, executed, features, membership, sessions } = this;
    const { memory } = this;
    const snapshot = encodeHead(log, executed, features, membership, sessions.encodedLength(), pieces.length, memory);
    sessions.beginCopy(snapshot.bytes, sessionsAt(snapshot));
    const isShort = snapshot.bytes.length <= this.pieceBytes;
    const hash = isShort ? undefined : this.hasher?.begin?.();
    this.unfinished.begin(snapshot, pieces, hash);
    if (isShort) this.finishSnapshot();
  }

  /** Takes the next piece of the unfinished snapshot, of about this many bytes. */
  continueSnapshot(maxBytes: number): void {
    const { unfinished } = this;
    if (unfinished.left > 0) unfinished.take(maxBytes);
    if (unfinished.left > 0) return;
    this.took(unfinished.finish(), this.committed);
  }

  /** Takes all that is missing of the unfinished snapshot. */
  finishSnapshot(): void {
    while (this.unfinished.isUnderway) this.continueSnapshot(this.pieceBytes);
  }

  /** Takes a snapshot of the present state at once, unless there is one of that index. */
  takeSnapshot(committed: number): void {
    if (this.executed === this.unfinished.index) this.finishSnapshot();
    this.abort();
    if (this.executed === this.stable.index || this.executed === this.provisional?.index) return;
    this.took(this.encodeWhole(), committed);
  }

  private took(snapshot: Snapshot, committed: number): void {
    this.dropProvisional();
    this.provisional = snapshot;
    this.counters[Counter.snapshots_taken]!++;
    this.committedTo(committed);
  }

  private abort(): void {
    const { bytes } = this.unfinished.snapshot;
    this.unfinished.abort();
    this.memory.giveBack(bytes);
  }

  private dropProvisional(): void {
    const { provisional } = this;
    this.provisional = undefined;
    if (provisional !== undefined) this.memory.giveBack(provisional.bytes);
  }

  /** It was the stable one. */
  private isOver(snapshot: Snapshot): void {
    if (!this.isHeld(snapshot)) this.memory.giveBack(snapshot.bytes);
  }

  private encodeWhole(): Snapshot {
    const { log, executed, features, membership, sessions } = this;
    return encodeSnapshot(log, executed, features, membership, sessions, this.wholeState());
  }

  private wholeState(): Uint8Array {
    this.whole?.(false);
    const state = this.machine.snapshot();
    this.whole?.(true);
    return state;
  }

  /** The entries after `index` leave the log. Call it after the truncation. */
  truncated(index: number, committed: number): void {
    if (this.provisional !== undefined && this.provisional.index > index) this.dropProvisional();
    if (this.executed > index) this.goBack(Math.min(committed, index));
  }

  /** Rolls back what was executed beyond `committed`; all of it is still in the log. */
  rewind(committed: number): void {
    if (this.executed <= committed) return;
    this.dropProvisional();
    this.goBack(committed);
  }

  /** Goes back to the state behind entry `index`, which is committed. */
  private goBack(index: number): void {
    const { log, tail } = this;
    invariant(this.stable.index <= index, 'a stable snapshot is committed');
    this.counters[Counter.rollbacks]!++;
    if (!this.undoTo(index)) this.restore(this.stable);
    tail.clear();
    this.executeTo(index);
    for (let i = index + 1; i <= log.lastIndex; i++) tail.add(i);
  }

  /** Undoes what entries behind `index` did. False, and nothing is changed, if that is not possible. */
  private undoTo(index: number): boolean {
    const { machine, sessions } = this;
    if (machine.undoTo === undefined || this.switchedAt > index || !sessions.canUndoTo(index)) return false;
    if (this.unfinished.index > index) this.abort();
    if (!machine.undoTo(index)) return false;
    sessions.undoTo(index);
    this.changesAhead = this.changesAhead.filter((each) => each.index <= index);
    this.membership = this.changesAhead[this.changesAhead.length - 1]?.membership ?? this.committedMembership;
    this.executed = index;
    this.undone++;
    this.aim();
    return true;
  }

  /** Begins to restore the machine's part of a snapshot in pieces; undefined: the machine restores only all at once. */
  beginRestore(length: number): RestoreInPieces | undefined {
    return this.machine.beginRestore?.(length);
  }

  /**
   * Installs a snapshot from another replica, in which `snapshotFault` found nothing. The caller resets the log.
   * Returns the reason if the state machine refuses it; then nothing has changed.
   * @param restore got the machine's part of it already, all of it
   */
  install(snapshot: Snapshot, restore?: RestoreInPieces): string | undefined {
    this.abort();
    try {
      if (restore === undefined) this.machine.restore(machineBytes(snapshot));
      else restore.end();
    } catch (error) {
      return machineRefuses(error);
    }
    this.dropProvisional();
    this.comparable = undefined;
    this.installs++;
    this.isOver(this.stable);
    this.stable = snapshot;
    this.commits(snapshot.index);
    this.restored(snapshot);
    this.committedMembership = this.membership;
    this.tail.clear();
    return undefined;
  }

  /** Goes back to one of its own snapshots. */
  private restore(snapshot: Snapshot): void {
    invariant(decodeSnapshot(snapshot.bytes) !== undefined, 'a snapshot that was checked can be read');
    this.abort();
    // A machine may go on reading what it was given.
    this.memory.keep(snapshot.bytes);
    this.machine.restore(machineBytes(snapshot));
    this.restored(snapshot);
  }

  /** The machine has restored its part. */
  private restored(snapshot: Snapshot): void {
    this.setFeatures(featuresIn(snapshot));
    this.membership = membershipIn(snapshot) ?? this.firstMembership;
    this.changesAhead = [];
    this.switchedAt = 0;
    restoreSessions(snapshot, this.sessions);
    this.executed = snapshot.index;
    this.aim();
  }

  private execute(index: number): void {
    const { log, reply } = this;
    this.counters[Counter.entries_executed]!++;
    this.emptyReply();
    const { bytes } = log;
    const record = log.record(index);
    const flags = bytes[record + RecordAt.flags]!;
    if ((flags & RequestFlag.register) !== 0) {
      this.lastStatus = this.executeRegister(index);
      return;
    }
    const session = this.sessions.find(
      readI32(bytes, record + RecordAt.session),
      readI32(bytes, record + RecordAt.session + 4),
    );
    if (session === undefined) {
      this.lastStatus = this.executeOfPrimary(index, flags) ? ReplyStatus.ok : ReplyStatus.sessionUnknown;
      return;
    }
    const lane = readU16(bytes, record + RecordAt.lane);
    const request = readI32(bytes, record + RecordAt.request);
    if (lane >= session.lanes) {
      this.lastStatus = ReplyStatus.badRequest;
      return;
    }
    if (request <= session.lastRequest(lane)) {
      this.lastStatus = ReplyStatus.superseded;
      return;
    }
    this.operation.offset = record + RecordAt.operation;
    this.operation.length = log.operationLength(index);
    this.context.timestampHi = readI32(bytes, record + RecordAt.timestamp);
    this.context.timestampLo = readI32(bytes, record + RecordAt.timestamp + 4);
    this.context.index = index;
    if (flags === RequestFlag.feature) {
      if (!this.executeFeature(index)) {
        this.lastStatus = ReplyStatus.badRequest;
        return;
      }
    } else if (flags === RequestFlag.configure && (this.features & Feature.membership) !== 0) {
      if (!this.executeChange(index, false)) {
        this.lastStatus = ReplyStatus.badRequest;
        return;
      }
    } else if ((flags & RequestFlag.query) !== 0) {
      this.context.timestampHi = 0;
      this.context.timestampLo = 0;
      this.context.index = this.executed;
      this.machine.query(this.operation, this.context, reply);
    } else {
      this.machine.apply(this.operation, this.context, reply);
    }
    invariant(reply.length <= reply.capacity, 'a state machine keeps within the reply capacity');
    this.lastStatus = ReplyStatus.ok;
    const { done } = this;
    done.lane = lane;
    done.request = request;
    done.index = index;
    done.chainHi = log.chainHi(index);
    done.chainLo = log.chainLo(index);
    // Of a query nothing is kept: its client asks again under another number (client-core.ts).
    const isKept = (flags & RequestFlag.query) === 0 || (this.features & Feature.sessionQuotas) === 0;
    done.status = isKept ? ReplyStatus.ok : ReplyStatus.superseded;
    done.resultWords = this.replies.of(reply.bytes);
    done.resultOffset = reply.offset;
    done.resultLength = isKept ? reply.length : 0;
    const { sessions } = this;
    const before = sessions.evicted;
    sessions.executed(session, done);
    if (sessions.evicted !== before) this.counters[Counter.sessions_evicted]! += sessions.evicted - before;
  }

  /** False if the operation is not one that switches a feature on. Throws FeatureUnknownError. */
  private executeFeature(index: number): boolean {
    const { bytes, offset, length } = this.operation;
    const number = featureOf(bytes, offset, length, this.chain);
    if (number === 0) return false;
    if (unknownIn(maskOf(number)) !== 0) throw new FeatureUnknownError(number, `entry ${index} of the log switches on`);
    this.switchedAt = index;
    this.setFeatures(this.features | maskOf(number));
    return true;
  }

  /** True if the entry is one that a view's primary writes by itself, in session 0. */
  private executeOfPrimary(index: number, flags: number): boolean {
    const { log, operation } = this;
    if (flags !== RequestFlag.configure || (log.sessionHi(index) | log.sessionLo(index)) !== 0) return false;
    if ((this.features & Feature.membership) === 0) return false;
    operation.offset = log.operationOffset(index);
    operation.length = log.operationLength(index);
    return this.executeChange(index, true);
  }

  /**
   * Who the hosts are once the whole log is executed. Only the execution says which entries change them: one whose session
   * is not known, or whose lane has gone on, changes nothing. So it executes up to the last that may. They stay executed, as at
   * a primary: to go back may cost as much as the whole state is long, and the view that starts from this log commits them.
   */
  membershipAhead(): Membership {
    const { log } = this;
    let last = log.lastIndex;
    while (last > this.executed && log.flags(last) !== RequestFlag.configure) last--;
    this.executeTo(last);
    return this.membership;
  }

  /** False if the operation is none that changes who the hosts are. Its result: see membership/results.ts. */
  private executeChange(index: number, byPrimary: boolean): boolean {
    const { operation, reply, outcome } = this;
    const decoded = decodeOperation(operation.bytes, operation.offset, operation.length);
    if (decoded === undefined) return false;
    const changed = change(this.membership, decoded, index, byPrimary);
    if (changed.membership !== this.membership) {
      this.membership = changed.membership;
      this.changesAhead.push({ index, membership: changed.membership });
    }
    const { started, decided } = this.membership;
    writeChangeResult(outcome, changed.outcome, changed.id, started, decided);
    reply.bytes = outcome;
    reply.length = Math.min(RESULT_BYTES, reply.capacity);
    return true;
  }

  private setFeatures(features: number): void {
    this.features = features;
    this.sessions.setQuotas((features & Feature.sessionQuotas) !== 0);
    if ((features & Feature.store) !== 0) this.machine.raise?.((features & Feature.redis) === 0 ? 1 : 2);
  }

  private emptyReply(): void {
    const { reply } = this;
    if (reply.bytes !== this.results) reply.bytes = this.results;
    reply.offset = 0;
    reply.length = 0;
  }

  private executeRegister(index: number): number {
    const { log } = this;
    const at = log.operationOffset(index);
    if (log.operationLength(index) !== REGISTER_BYTES || log.lane(index) !== REGISTER_LANE)
      return ReplyStatus.badRequest;
    const nonceHi = readI32(log.bytes, at);
    const nonceLo = readI32(log.bytes, at + 4);
    const lanes = readU16(log.bytes, at + REGISTER_LANES);
    if (lanes < 1 || lanes > this.limits.lanesPerSession) return ReplyStatus.badRequest;
    const known = this.sessions.find(log.sessionHi(index), log.sessionLo(index));
    if (known !== undefined)
      return known.nonceHi === nonceHi && known.nonceLo === nonceLo ? ReplyStatus.ok : ReplyStatus.sessionTaken;
    const bornHi = readI32(log.bytes, at + REGISTER_BORN);
    const bornLo = readI32(log.bytes, at + REGISTER_BORN + 4);
    // Not later than its entry, so that a client cannot push the horizon ahead of time.
    if (compareU64(bornHi, bornLo, log.timestampHi(index), log.timestampLo(index)) > 0) return ReplyStatus.badRequest;
    if (this.sessions.mayBeEvicted(bornHi, bornLo)) return ReplyStatus.sessionTaken;
    const before = this.sessions.evicted;
    this.sessions.register(
      new Session(
        {
          hi: log.sessionHi(index),
          lo: log.sessionLo(index),
          nonceHi,
          nonceLo,
          lanes,
          bornHi,
          bornLo,
          registerIndex: index,
          registerChainHi: log.chainHi(index),
          registerChainLo: log.chainLo(index),
        },
        this.sessions.spares,
      ),
    );
    this.counters[Counter.sessions_evicted]! += this.sessions.evicted - before;
    return ReplyStatus.ok;
  }
}
