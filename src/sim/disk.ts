/**
 * The simulated disk of one replica, and the power of its machine.
 *
 * As in src/storage there are three things on it: the log, whose frames have the promises as well; the hard state, in
 * two slots with a checksum each, which one write fills; and the list of members, there as a whole or not at all. A batch
 * is written in this order: members, frame, slots. A crash at any byte leaves at least one slot intact (other parts of
 * that write are in test/storage/hard-state-crash.test.ts), and one slot may rot while the process runs. At a crash,
 * unacknowledged batches are lost from some batch on. Of the batch being written, a first part is there: the members,
 * then the frame, which counts as the whole batch, then bytes of a slot.
 *
 * Members that no message depends on (contract.ts) are written beside the log, and take their time. A crash finds any
 * first part of that write beside any later end of the log. The next promise is written behind them.
 */
import { ENTRY_HEADER_BYTES } from '../protocol/log/entry.js';
import type { Hasher, HardState, PersistBatch, Recovered, Snapshot, Storage } from '../protocol/contract.js';
import { EPOCH_VIEWS } from '../protocol/configuration.js';
import { decodeMembership } from '../protocol/membership/membership.js';
import { readI32, readIndex, writeI32 } from '../wire/u64.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Random } from './random.js';
import { Violation } from './violation.js';

/**
 * Fields: view, logView, incarnation, sequence, the entry that made the members; if replicas remember each other, what is
 * known of each (incarnation, life); then the checksum of all before.
 */
const SLOT_BYTES = 28;
const KNOWN_BYTES = 8;
const CHECKSUM_BYTES = 8;

export interface DiskConditions {
  /** False in mode `memory`: hard state only. */
  readonly keepsLog: boolean;
  /** Mean time of a write, µs; 0: done at once, within the call. */
  readonly latencyUs: number;
  /** Probability that a write takes a hundred times as long. */
  readonly hiccup: number;
}

interface PendingBatch {
  readonly token: number;
  readonly generation: number;
  readonly hardState: HardState;
  readonly entriesFrom: number;
  readonly entries: readonly Uint8Array[];
  readonly snapshot: Snapshot | undefined;
  readonly committed: number;
  /** Messages wait for the hard state, not only for the log. */
  readonly awaitsHardState: boolean;
}

/** The promises in a frame of the log. */
type Promises = Pick<HardState, 'view' | 'logView' | 'incarnation'>;

/** Kinds of events. */
const BATCH = 0;
const QUIET = 1;
/** A list of members and two slots are this many writes. */
const QUIET_WRITES = 5;
/** How often a quiet write takes a hundred times as long: the disk is busy with the log. */
const QUIET_SLOW = 0.2;
/** Mean time of a write on a disk that has none, for quiet writes, µs. */
const QUIET_LEAST_US = 20;

/** What a replica's failure did to its log. */
export type LogFate = 'kept' | 'lost';

export class SimulatedDisk implements Storage, EventHandler {
  readonly stalled = false;
  /** Called when a batch is durable; set by the host of the present process. */
  onPersisted: (token: number) => void = () => {};
  /** See ReplicaState.nothingIsDecided; set by that host too. */
  nothingIsDecided: () => boolean = () => false;
  /** Batches torn, slots rotten: for reports. */
  readonly counts = { batches: 0, torn: 0, unsynced: 0, rotten: 0, quietLost: 0 };
  private readonly slotBytes: number;
  private readonly slots: readonly [Uint8Array, Uint8Array];
  private sequence = 0;
  private log = new Map<number, Uint8Array>();
  private logFirst = 1;
  private logLast = 0;
  private snapshot: Snapshot | undefined;
  /** The commit index of the last batch on disk. */
  private committed = 0;
  /** Whether its state came from another replica; kept with the log. */
  private isEcho = false;
  private pending: PendingBatch[] = [];
  private generation = 0;
  private busyUntilUs = 0;
  private persisting = false;
  private logLost = false;
  private installedView: number;
  /** The list of members on the disk. */
  private members: Uint8Array | undefined;
  /** The promises in the last frame of the log; undefined: there is no frame. */
  private frame: Promises | undefined;
  /** The hard state of the last batch that came in this life, and its token. */
  private given: HardState | undefined;
  private givenToken = 0;
  /** Views that were promised while nothing was decided: then those of every epoch are of the cluster file's voters. */
  private readonly ofNoEpoch = new Set<number>();
  /** The view that the directory had promised which was lost. */
  private forgotten = 0;
  /** Hard states that nothing waits for: the one that is being written, and the newest behind it. */
  private quiet: HardState[] = [];

  /**
   * @param lags chance for the writes that nothing waits for
   * @param known replicas about which the hard state keeps what was heard; 0: like a release that did not keep it
   */
  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly hasher: Hasher,
    private conditions: DiskConditions,
    private readonly name: string,
    private readonly lags: Random,
    private readonly known = 0,
  ) {
    this.slotBytes = SLOT_BYTES + KNOWN_BYTES * known;
    this.slots = [new Uint8Array(this.slotBytes), new Uint8Array(this.slotBytes)];
    this.installedView = this.viewOfNone;
  }

  get membersIndex(): number {
    return indexOf(this.members);
  }

  /** Nothing was ever written, or all of it is gone, and nothing is being written. */
  get isEmpty(): boolean {
    return this.sequence === 0 && this.pending.length === 0;
  }

  /** Something is on it for good. */
  get isWritten(): boolean {
    return this.sequence > 0;
  }

  /**
   * On an empty disk, a replica that asks who it is has no log; a replica whose host vouches that it is new has one.
   */
  private get viewOfNone(): number {
    return this.known > 0 ? -1 : 0;
  }

  get keepsLog(): boolean {
    return this.conditions.keepsLog;
  }

  /**
   * True if a restart that keeps the disk finds an installed log. A disk that keeps none is not told of an installation: it
   * only has the promise.
   */
  get hasInstalledLog(): boolean {
    return !this.keepsLog || (!this.logLost && this.installedView >= 0);
  }

  setConditions(conditions: DiskConditions): void {
    this.conditions = conditions;
  }

  persist(token: number, batch: PersistBatch): void {
    const entries: Uint8Array[] = [];
    if (this.keepsLog) {
      for (let index = batch.entriesFrom; index <= batch.lastIndex; index++) {
        const entry = new Uint8Array(batch.entryBytes(index));
        const length = batch.readEntry(index, entry, 0);
        if (length !== entry.length || length < ENTRY_HEADER_BYTES)
          throw new Violation(
            'core-exception',
            `${this.name}: entry ${index} of a batch was announced with ${entry.length} bytes and has ${length}`,
          );
        entries.push(entry);
      }
    }
    const { view, logView, incarnation, isEcho = false, known = [], lives = [], members } = batch.hardState;
    const also = members === undefined || !areStored(members) ? {} : { members };
    const hardState: HardState =
      this.known === 0
        ? { view, logView, incarnation, isEcho, ...also }
        : { view, logView, incarnation, isEcho, known, lives, ...also };
    if (this.nothingIsDecided()) this.ofNoEpoch.add(view);
    const { given } = this;
    // Without a log, and at the first write of a life, everything is one write.
    const awaitsHardState =
      !this.keepsLog || given === undefined || (token !== this.givenToken && !isSameButMembers(given, hardState));
    this.given = hardState;
    this.givenToken = token;
    const copy: PendingBatch = {
      token,
      generation: this.generation,
      hardState,
      awaitsHardState,
      entriesFrom: batch.entriesFrom,
      entries,
      committed: batch.committed,
      snapshot:
        this.keepsLog && batch.snapshot !== undefined
          ? { ...batch.snapshot, bytes: batch.snapshot.bytes.slice() }
          : undefined,
    };
    this.counts.batches++;
    if (this.conditions.latencyUs === 0 && this.pending.length === 0) {
      this.apply(copy);
      this.persisting = true;
      this.onPersisted(token);
      this.persisting = false;
      return;
    }
    this.pending.push(copy);
    let latencyUs = this.random.exponential(Math.max(1, this.conditions.latencyUs));
    if (this.random.chance(this.conditions.hiccup)) latencyUs *= 100;
    this.busyUntilUs = Math.max(this.busyUntilUs, this.queue.nowUs) + latencyUs;
    this.queue.schedule(this.busyUntilUs, this, BATCH, copy);
  }

  /** True while `persist` itself reports completion: the host's turn is still running and will send the results. */
  get withinPersist(): boolean {
    return this.persisting;
  }

  handle(kind: number, payload: unknown): void {
    if (kind === QUIET) {
      if (payload === this.quiet[0]) this.quietIsWritten();
      return;
    }
    const batch = payload as PendingBatch;
    if (batch.generation !== this.generation) return;
    if (this.pending.shift() !== batch) throw new Error('simulated disk: batches complete in order');
    this.apply(batch);
    this.onPersisted(batch.token);
  }

  /** The process stops. Of the batches being written, only a first part survives. */
  crash(fate: LogFate): void {
    const survivors = this.random.below(this.pending.length + 1);
    for (let i = 0; i < survivors; i++) this.apply(this.pending[i]!);
    this.counts.unsynced += this.pending.length - survivors;
    const torn = this.pending[survivors];
    if (torn !== undefined && this.random.chance(0.5)) this.tear(torn);
    this.tearQuiet();
    this.endLife();
    if (fate === 'lost') {
      this.frame = undefined;
      this.log.clear();
      this.logFirst = 1;
      this.logLast = 0;
      this.snapshot = undefined;
      this.committed = 0;
      this.logLost = true;
    }
  }

  /** Another host gets the machine: its directory has no log. */
  joins(): void {
    this.wipe();
    this.forgotten = 0;
    this.logLost = true;
  }

  /** The whole directory is gone, including the promises. Between two processes. */
  wipe(): void {
    const newest = decodeSlot(this.slots[0], this.hasher) ?? decodeSlot(this.slots[1], this.hasher);
    if (newest !== undefined) this.forgotten = Math.max(this.forgotten, (this.frame ?? newest.hardState).view);
    for (const slot of this.slots) slot.fill(0);
    this.sequence = 0;
    this.log.clear();
    this.logFirst = 1;
    this.logLast = 0;
    this.snapshot = undefined;
    this.committed = 0;
    this.logLost = false;
    this.isEcho = false;
    this.members = undefined;
    this.frame = undefined;
    this.quiet = [];
    this.endLife();
    this.installedView = this.viewOfNone;
  }

  /** A clean stop: completes all writes. */
  close(): void {
    for (const batch of this.pending) this.apply(batch);
    this.finishQuiet();
    this.endLife();
  }

  private endLife(): void {
    this.pending = [];
    this.generation++;
    this.busyUntilUs = 0;
    this.given = undefined;
    this.givenToken = 0;
  }

  /**
   * Damages one of the two slots, as ageing media do; does nothing if they differ (that would be two faults at once).
   */
  rot(): void {
    const [a, b] = this.slots;
    if (this.sequence === 0 || sequenceOf(a) !== sequenceOf(b)) return;
    if (decodeSlot(a, this.hasher) === undefined || decodeSlot(b, this.hasher) === undefined) return;
    this.counts.rotten++;
    this.slots[this.random.below(2)]![this.random.below(this.slotBytes)]! ^= 1 << this.random.below(8);
  }

  /** What a starting process finds. */
  recover(): Recovered {
    const found = this.slots.map((slot) => decodeSlot(slot, this.hasher)).filter((slot) => slot !== undefined);
    found.sort((a, b) => b.sequence - a.sequence);
    const newest = found[0];
    if (newest === undefined && this.sequence > 0)
      throw new Violation(
        'promise-kept',
        `${this.name}: both slots of the hard state are unreadable after ${this.sequence} writes`,
      );
    const hardState = newest === undefined ? undefined : this.besideMembers(newest);
    if (hardState !== undefined) this.checkMembers(hardState);
    const hasLog = this.keepsLog && !this.logLost && hardState !== undefined;
    if (newest !== undefined) this.writeSlots(newest);
    if (!hasLog) return { hardState, log: undefined };
    const entries: Uint8Array[] = [];
    for (let index = this.logFirst; index <= this.logLast; index++) entries.push(this.log.get(index)!.slice());
    return {
      hardState: { ...hardState, isEcho: this.isEcho },
      log: { snapshot: this.snapshot, entries, committed: this.committed },
    };
  }

  /** What a start finds in slot, frame and list of members together. */
  private besideMembers({ hardState, membersIndex }: Slot): HardState {
    const { members, frame } = this;
    const promises = { ...hardState, ...frame };
    if (members === undefined) return promises;
    // What is known of the hosts in slots says nothing beside other members.
    const { view, logView, incarnation } = promises;
    return membersIndex === indexOf(members) ? { ...promises, members } : { view, logView, incarnation, members };
  }

  private apply(batch: PendingBatch): void {
    const slot = decodeSlot(this.slots[0], this.hasher) ?? decodeSlot(this.slots[1], this.hasher);
    const { view, logView, incarnation } = batch.hardState;
    if (slot !== undefined) {
      const old = { ...slot.hardState, ...this.frame };
      // A process that starts without the log has installed none, so its logView starts again; the promise stays.
      const fellBack = logView < old.logView && incarnation === old.incarnation;
      const forgot =
        batch.hardState.members === undefined &&
        batch.hardState.known?.some((heard, replica) => heard < (old.known?.[replica] ?? 0)) === true;
      if (forgot)
        throw new Violation(
          'promise-kept',
          `${this.name}: what it knew of others' incarnations (${old.known?.join(' ')}) was overwritten by less (${batch.hardState.known?.join(' ')})`,
        );
      if (view < old.view || fellBack || incarnation < old.incarnation || logView > view) {
        throw new Violation(
          'promise-kept',
          `${this.name}: hard state (view ${old.view}, logView ${old.logView}, incarnation ${old.incarnation}) was overwritten by (${view}, ${logView}, ${incarnation})`,
        );
      }
    }
    if (view < this.forgotten)
      throw new Violation(
        'promise-kept',
        `${this.name}: its directory was lost, in which it had promised view ${this.forgotten}, and it began anew in view ${view}`,
      );
    if (batch.awaitsHardState) this.finishQuiet();
    this.applyLog(batch);
    if (batch.awaitsHardState) this.writeHardState(batch.hardState);
    else if (indexOf(batch.hardState.members) !== indexOf(this.newestMembers)) this.writeQuietly(batch.hardState);
    this.checkMembers(batch.hardState);
  }

  /** Rule S, C2: the list of members is on the disk before a promise of an epoch that it decides. */
  private checkMembers({ view }: HardState): void {
    const epoch = Math.floor(view / EPOCH_VIEWS);
    if (epoch === 0 || this.ofNoEpoch.has(view)) return;
    const { members } = this;
    const decided = members === undefined ? 0 : decodeMembership(members, 0, members.length)!.decided;
    if (epoch > decided)
      throw new Violation(
        'members-first',
        `${this.name}: the promise of view ${view} is on the disk, of epoch ${epoch}, beside members that know of no epoch above ${decided}`,
      );
  }

  /** Members that nothing waits for: at most one is being written, and the newest waits. */
  private writeQuietly(hardState: HardState): void {
    this.quiet.splice(1, 1, hardState);
    if (this.quiet.length === 1) this.beginQuiet();
  }

  private beginQuiet(): void {
    const { lags, queue } = this;
    const slow = lags.chance(QUIET_SLOW) ? 100 : 1;
    const meanUs = QUIET_WRITES * slow * Math.max(QUIET_LEAST_US, this.conditions.latencyUs);
    queue.schedule(queue.nowUs + lags.exponential(meanUs), this, QUIET, this.quiet[0]);
  }

  private quietIsWritten(): void {
    this.writeHardState(this.quiet.shift()!);
    if (this.quiet.length > 0) this.beginQuiet();
  }

  private finishQuiet(): void {
    for (const hardState of this.quiet) this.writeHardState(hardState);
    this.quiet = [];
  }

  /** Members that are on the disk, or on their way to it. */
  private get newestMembers(): Uint8Array | undefined {
    return this.quiet.at(-1)?.members ?? this.members;
  }

  private writeHardState(hardState: HardState): void {
    if (hardState.members !== undefined) this.members = hardState.members;
    this.sequence++;
    this.writeSlots({ hardState, sequence: this.sequence, membersIndex: indexOf(hardState.members) });
  }

  /** A frame of the log, and what stands on it. Without a log there is only the hard state. */
  private applyLog(batch: PendingBatch): void {
    // The boot that the log belongs to is written with the hard state: until then the loss is noticed again.
    this.logLost = false;
    this.installedView = batch.hardState.logView;
    if (!this.keepsLog) return;
    const { view, logView, incarnation } = batch.hardState;
    this.frame = { view, logView, incarnation };
    const { snapshot, entriesFrom, entries, committed } = batch;
    if (snapshot !== undefined) {
      for (let index = this.logFirst; index <= snapshot.index; index++) this.log.delete(index);
      this.snapshot = snapshot;
      this.logFirst = snapshot.index + 1;
      if (this.logLast < snapshot.index) this.logLast = snapshot.index;
    }
    if (entriesFrom > this.logLast + 1) {
      throw new Violation(
        'core-exception',
        `${this.name}: a batch begins at entry ${entriesFrom}, the stored log holds ${this.logFirst}…${this.logLast}`,
      );
    }
    for (let index = entriesFrom; index <= this.logLast; index++) this.log.delete(index);
    // Entries that arrived and were covered by the snapshot within one turn need not be kept.
    for (let i = 0; i < entries.length; i++)
      if (entriesFrom + i >= this.logFirst) this.log.set(entriesFrom + i, entries[i]!);
    this.logLast = Math.max(entriesFrom + entries.length, this.logFirst) - 1;
    this.committed = committed;
    this.isEcho = batch.hardState.isEcho === true;
  }

  private writeSlots(content: Slot): void {
    for (const slot of this.slots) encodeSlot(slot, content, this.hasher);
  }

  /** The crash came while the batch was being written. */
  private tear(batch: PendingBatch): void {
    this.counts.torn++;
    const written = this.isOtherIntact ? this.random.below(this.slotBytes + 1) : 0;
    if (!batch.awaitsHardState) {
      if (this.lags.chance(0.5)) this.applyLog(batch);
      return;
    }
    this.finishQuiet();
    const { members } = batch.hardState;
    if (members !== undefined) this.members = members;
    // Before the first slots there is no use of the directory: the frame alone is as good as nothing.
    const hasFrame = this.keepsLog && this.sequence > 0 && this.lags.chance(0.7);
    if (hasFrame) this.applyLog(batch);
    const isFirst = this.sequence === 0 || !this.keepsLog;
    // An intact first slot counts, and its batch with it.
    if ((hasFrame || isFirst) && this.tearSlot(batch.hardState, written) && !hasFrame) this.applyLog(batch);
  }

  /** The crash came while members were being written that nothing waits for, or before. */
  private tearQuiet(): void {
    for (const hardState of this.quiet) {
      const stage = this.lags.below(4);
      if (stage < 3) this.counts.quietLost++;
      if (stage === 0) break;
      this.members = hardState.members;
      if (stage === 3) this.writeHardState(hardState);
      else {
        if (stage === 2 && this.isOtherIntact) this.tearSlot(hardState, this.lags.below(this.slotBytes + 1));
        break;
      }
    }
    this.quiet = [];
  }

  /** A torn slot beside a rotten one would be two faults at once, which two slots do not survive. */
  private get isOtherIntact(): boolean {
    return this.sequence === 0 || decodeSlot(this.slots[1], this.hasher) !== undefined;
  }

  /** The first bytes of a new slot are there. True if that is all of it. */
  private tearSlot(hardState: HardState, written: number): boolean {
    const whole = new Uint8Array(this.slotBytes);
    const sequence = this.sequence + 1;
    encodeSlot(whole, { hardState, sequence, membersIndex: indexOf(hardState.members) }, this.hasher);
    const [first] = this.slots;
    for (let i = 0; i < written; i++) first[i] = whole[i]!;
    if (decodeSlot(first, this.hasher)?.sequence !== sequence) return false;
    this.sequence++;
    return true;
  }
}

/** The entry that made these members; 0: they are those of the cluster file. */
function indexOf(members: Uint8Array | undefined): number {
  return members === undefined ? 0 : readIndex(members, 0);
}

/** As long as no epoch is decided, and some host is not named, there is no list of members: the log says it all. */
function areStored(members: Uint8Array): boolean {
  const { decided, hosts } = decodeMembership(members, 0, members.length)!;
  return decided > 0 || hosts.every(({ address }) => address !== '');
}

function isSameButMembers(a: HardState, b: HardState): boolean {
  return (
    a.view === b.view &&
    a.logView === b.logView &&
    a.incarnation === b.incarnation &&
    isSameList(a.known, b.known) &&
    isSameList(a.lives, b.lives)
  );
}

function isSameList(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  return a === b || (a?.every((value, i) => value === b?.[i]) ?? false);
}

interface Slot {
  readonly hardState: HardState;
  readonly sequence: number;
  readonly membersIndex: number;
}

function encodeSlot(slot: Uint8Array, { hardState, sequence, membersIndex }: Slot, hasher: Hasher): void {
  writeI32(slot, 0, hardState.view);
  writeI32(slot, 4, hardState.logView);
  writeI32(slot, 8, hardState.incarnation);
  writeI32(slot, 12, sequence);
  writeI32(slot, 16, membersIndex);
  const checked = slot.length - CHECKSUM_BYTES;
  for (let at = SLOT_BYTES - CHECKSUM_BYTES, replica = 0; at < checked; at += KNOWN_BYTES, replica++) {
    writeI32(slot, at, hardState.known?.[replica] ?? 0);
    writeI32(slot, at + 4, hardState.lives?.[replica] ?? 0);
  }
  hasher.hash64(slot, 0, checked, slot, checked);
}

const digest = new Uint8Array(8);

function decodeSlot(slot: Uint8Array, hasher: Hasher): Slot | undefined {
  if (sequenceOf(slot) === 0) return undefined;
  const checked = slot.length - CHECKSUM_BYTES;
  hasher.hash64(slot, 0, checked, digest, 0);
  for (let i = 0; i < digest.length; i++) if (digest[i] !== slot[checked + i]) return undefined;
  const hardState = { view: readI32(slot, 0), logView: readI32(slot, 4), incarnation: readI32(slot, 8) };
  const rest = { sequence: sequenceOf(slot), membersIndex: readI32(slot, 16) };
  if (slot.length === SLOT_BYTES) return { hardState, ...rest };
  const known: number[] = [];
  const lives: number[] = [];
  for (let at = SLOT_BYTES - CHECKSUM_BYTES; at < checked; at += KNOWN_BYTES) {
    known.push(readI32(slot, at));
    lives.push(readI32(slot, at + 4));
  }
  return { hardState: { ...hardState, known, lives }, ...rest };
}

function sequenceOf(slot: Uint8Array): number {
  return readI32(slot, 12);
}
