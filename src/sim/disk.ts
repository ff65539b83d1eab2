/**
 * The simulated disk of one replica, and the power of its machine.
 *
 * Hard state lies in two slots, written one after the other, each with a checksum: a crash at any byte leaves at least
 * one intact, and one slot may rot while the process runs. A batch is atomic together with its log entries. At a crash,
 * unacknowledged batches are lost from some batch on. Of the batch being written, either everything counts or nothing,
 * whatever bytes of it had reached the slots.
 */
import { ENTRY_HEADER_BYTES } from '../protocol/log/entry.js';
import type { Hasher, HardState, PersistBatch, Recovered, Snapshot, Storage } from '../protocol/contract.js';
import { readI32, writeI32 } from '../wire/u64.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Random } from './random.js';
import { Violation } from './violation.js';

/**
 * Fields: view, logView, incarnation, sequence; if replicas remember each other, what is known of each (incarnation,
 * life); then the checksum of all before.
 */
const SLOT_BYTES = 24;
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
}

/** What a replica's failure did to its log. */
export type LogFate = 'kept' | 'lost';

export class SimulatedDisk implements Storage, EventHandler {
  readonly stalled = false;
  /** Called when a batch is durable; set by the host of the present process. */
  onPersisted: (token: number) => void = () => {};
  /** Batches torn, slots rotten: for reports. */
  readonly counts = { batches: 0, torn: 0, unsynced: 0, rotten: 0 };
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
  /** Who the members are, written with the hard state. */
  private members: Uint8Array | undefined;

  /** @param known replicas about which the hard state keeps what was heard; 0: like a release that did not keep it */
  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly hasher: Hasher,
    private conditions: DiskConditions,
    private readonly name: string,
    private readonly known = 0,
  ) {
    this.slotBytes = SLOT_BYTES + KNOWN_BYTES * known;
    this.slots = [new Uint8Array(this.slotBytes), new Uint8Array(this.slotBytes)];
    this.installedView = this.viewOfNone;
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
    const also = members === undefined ? {} : { members };
    const copy: PendingBatch = {
      token,
      generation: this.generation,
      hardState:
        this.known === 0
          ? { view, logView, incarnation, isEcho, ...also }
          : { view, logView, incarnation, isEcho, known, lives, ...also },
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
    this.queue.schedule(this.busyUntilUs, this, 0, copy);
  }

  /** True while `persist` itself reports completion: the host's turn is still running and will send the results. */
  get withinPersist(): boolean {
    return this.persisting;
  }

  handle(_kind: number, payload: unknown): void {
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
    this.pending = [];
    this.generation++;
    this.busyUntilUs = 0;
    if (fate === 'lost') {
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
    this.logLost = true;
  }

  /** The whole directory is gone, including the promises. Between two processes. */
  wipe(): void {
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
    this.pending = [];
    this.generation++;
    this.installedView = this.viewOfNone;
  }

  /** A clean stop: completes all writes. */
  close(): void {
    for (const batch of this.pending) this.apply(batch);
    this.pending = [];
    this.generation++;
    this.busyUntilUs = 0;
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
    const hardState =
      newest === undefined || this.members === undefined
        ? newest?.hardState
        : { ...newest.hardState, members: this.members };
    const hasLog = this.keepsLog && !this.logLost && hardState !== undefined;
    if (newest !== undefined) this.writeSlots(newest.hardState, newest.sequence);
    if (!hasLog) return { hardState, log: undefined };
    const entries: Uint8Array[] = [];
    for (let index = this.logFirst; index <= this.logLast; index++) entries.push(this.log.get(index)!.slice());
    return {
      hardState: { ...hardState, isEcho: this.isEcho },
      log: { snapshot: this.snapshot, entries, committed: this.committed },
    };
  }

  private apply(batch: PendingBatch): void {
    // The boot that the log belongs to is written with the hard state: until then the loss is noticed again.
    this.logLost = false;
    this.installedView = batch.hardState.logView;
    const before = decodeSlot(this.slots[0], this.hasher) ?? decodeSlot(this.slots[1], this.hasher);
    const { view, logView, incarnation } = batch.hardState;
    if (before !== undefined) {
      const old = before.hardState;
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
    this.writeSlots(batch.hardState, ++this.sequence);
    this.members = batch.hardState.members;
    this.applyLog(batch);
  }

  private applyLog(batch: PendingBatch): void {
    if (!this.keepsLog) return;
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

  private writeSlots(hardState: HardState, sequence: number): void {
    for (const slot of this.slots) encodeSlot(slot, hardState, sequence, this.hasher);
  }

  /** The crash came while the slots were being written: the first bytes of the new one are there. */
  private tear(batch: PendingBatch): void {
    // With the other slot rotten this would be two faults at once, which two slots do not survive.
    if (this.sequence > 0 && decodeSlot(this.slots[1], this.hasher) === undefined) return;
    this.counts.torn++;
    // The file of the members is whole before anything of a hard state is written that may need them.
    if (batch.hardState.members !== undefined) this.members = batch.hardState.members;
    const whole = new Uint8Array(this.slotBytes);
    encodeSlot(whole, batch.hardState, this.sequence + 1, this.hasher);
    const [first] = this.slots;
    const written = this.random.below(this.slotBytes + 1);
    for (let i = 0; i < written; i++) first[i] = whole[i]!;
    // An intact first slot counts, and its batch with it.
    if (decodeSlot(first, this.hasher)?.sequence !== this.sequence + 1) return;
    this.sequence++;
    this.applyLog(batch);
  }
}

function encodeSlot(slot: Uint8Array, hardState: HardState, sequence: number, hasher: Hasher): void {
  writeI32(slot, 0, hardState.view);
  writeI32(slot, 4, hardState.logView);
  writeI32(slot, 8, hardState.incarnation);
  writeI32(slot, 12, sequence);
  const checked = slot.length - CHECKSUM_BYTES;
  for (let at = SLOT_BYTES - CHECKSUM_BYTES, replica = 0; at < checked; at += KNOWN_BYTES, replica++) {
    writeI32(slot, at, hardState.known?.[replica] ?? 0);
    writeI32(slot, at + 4, hardState.lives?.[replica] ?? 0);
  }
  hasher.hash64(slot, 0, checked, slot, checked);
}

const digest = new Uint8Array(8);

function decodeSlot(slot: Uint8Array, hasher: Hasher): { hardState: HardState; sequence: number } | undefined {
  if (sequenceOf(slot) === 0) return undefined;
  const checked = slot.length - CHECKSUM_BYTES;
  hasher.hash64(slot, 0, checked, digest, 0);
  for (let i = 0; i < digest.length; i++) if (digest[i] !== slot[checked + i]) return undefined;
  const hardState = { view: readI32(slot, 0), logView: readI32(slot, 4), incarnation: readI32(slot, 8) };
  if (slot.length === SLOT_BYTES) return { hardState, sequence: sequenceOf(slot) };
  const known: number[] = [];
  const lives: number[] = [];
  for (let at = SLOT_BYTES - CHECKSUM_BYTES; at < checked; at += KNOWN_BYTES) {
    known.push(readI32(slot, at));
    lives.push(readI32(slot, at + 4));
  }
  return { hardState: { ...hardState, known, lives }, sequence: sequenceOf(slot) };
}

function sequenceOf(slot: Uint8Array): number {
  return readI32(slot, 12);
}
