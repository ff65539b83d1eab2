/**
 * Storage for durability `os` and `fsync`: hard state, log and snapshots on disk.
 *
 * The rules:
 * - A batch is acknowledged (`persisted`) when all of it is on disk. First its frame is written, and in mode `fsync`
 *   synced. Then the hard state file is written, if the promises changed. Because of that order the log on disk is
 *   never older than a promise that anything relied on. A log that is older lacks its end, and counts as lost.
 * - Members that no message depends on are written beside the log. The next promise waits until they are on disk. If
 *   their write fails, the next write of any kind fails with that error.
 * - One write at a time. Batches that arrive meanwhile are merged and go with the next write.
 * - After a disk error, the failed write is not retried. Nothing more is acknowledged, and the files in use are
 *   abandoned. After a while the whole log, which the core has in memory, is written again, as a new generation in new
 *   files. When that is on disk, everything that waited is acknowledged. So a full disk heals by itself.
 * - A start does the same: it writes the log that it read as a new generation before it relies on any of it.
 */
import type { Hash64 } from '../native/hash64.js';
import {
  UNKEYED_FINGERPRINT,
  type HardState,
  type PersistBatch,
  type Recovered,
  type Snapshot,
  type Storage,
} from '../protocol/contract.js';
import { invariant } from '../protocol/invariant.js';
import { identityFrom } from '../protocol/membership/operations.js';
import { DiskTimes, timed } from './disk-times.js';
import type { Files, OpenFile } from './files.js';
import { drawIdentity } from './identity.js';
import { FORMATS } from './formats.js';
import {
  checkMembersBeside,
  encodeHardState,
  formatFor,
  HARD_STATE_BYTES,
  HARD_STATE_FILE,
  withMembers,
  type Owner,
} from './hard-state.js';
import { removeJoining } from './joining-file.js';
import { listToStore, membersIndex, writeMembers } from './members-file.js';
import {
  DAMAGED,
  encodeFrameHeader,
  encodeSnapshotHeader,
  FRAME_CLEAN,
  FRAME_HEADER_BYTES,
  FRAME_RESET,
  isSnapshotName,
  LOST,
  parseSegmentName,
  snapshotName,
  SNAPSHOT_HEADER_BYTES,
  toSector,
  UNFINISHED,
  type LogMode,
} from './log-format.js';
import { readStored, type Stored } from './log-reader.js';
import { PendingChange } from './pending-change.js';
import { Segments } from './segments.js';
import { writeWhole } from './write-whole.js';

const DEFAULT_SEGMENT_BYTES = 16 << 20;

/** Bytes of a snapshot that are written at once. */
const SNAPSHOT_SYNC_BYTES = 4 << 20;

/** A write that takes longer than this harms the cluster as much as a failed disk. */
const STALL_MS = 500;
/** Delay before the whole log is written again after an error. It is doubled each time, up to RETRY_MAX_MS. */
const RETRY_MS = 100;
/** Longest delay before the whole log is written again. */
const RETRY_MAX_MS = 5_000;

export interface DurableStorageOptions {
  readonly files: Files;
  /** Where the files are, for messages. */
  readonly directory: string;
  readonly owner: Owner;
  readonly hash: Hash64;
  /** Fingerprint of the log's chain secret. Default: the chain without a secret. */
  readonly chain?: number;
  readonly mode: LogMode;
  /** Boot id of the host, 32 hex digits. */
  readonly bootId: string;
  /** Default DEFAULT_SEGMENT_BYTES. */
  readonly segmentBytes?: number;
  /** Default SNAPSHOT_SYNC_BYTES. */
  readonly snapshotSyncBytes?: number;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** Those of the file `members`, as a hard state has them. Default: there is no such file. */
  readonly members?: Uint8Array | undefined;
  /** What those list as this directory's, if nothing else was written in it yet. Default: another is drawn. */
  readonly identity?: string | undefined;
  /** A random int32. */
  readonly random: () => number;
  /** Calls back after this delay; must not keep the process alive. */
  readonly later: (delayMs: number, callback: () => void) => void;
}

/** The calls of durable storage to the core's host. All are made outside of `persist`. */
export interface DurableStorageEvents {
  /** Everything up to this token is durable. */
  persisted(token: number): void;
  /** Make the core persist its whole log (ReplicaCore.rewriteLog). */
  rewrite(): void;
  /** The disk fails: nothing is acknowledged from here on. */
  failed(error: Error): void;
  /** The disk works again, and everything that waited is acknowledged. */
  healed(): void;
  /** A bug. The replica has to stop. */
  broken(error: unknown): void;
}

export interface DurableStorageStatus {
  /** The disk error because of which nothing is acknowledged, or null. */
  readonly failing: string | null;
  readonly generation: number;
  readonly segments: number;
  /** Index of the snapshot with which the log on disk begins. */
  readonly baseIndex: number;
  readonly frames: number;
  /** Batches contained in these frames. */
  readonly batches: number;
  readonly writtenBytes: number;
  readonly failures: number;
}

interface Base {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
}

/** The last frame on disk. */
interface LastFrame {
  /** Ordinal of its segment. */
  readonly ordinal: number;
  readonly lastIndex: number;
  readonly baseIndex: number;
  readonly committed: number;
  readonly hardState: HardState;
}

export class DurableStorage implements Storage {
  readonly keepsLog = true;
  readonly times = new DiskTimes();
  /** Set by the host before the core starts. */
  events: DurableStorageEvents | undefined;

  private pending = new PendingChange();
  private writing = new PendingChange();
  private segments: Segments | undefined;
  private lastGeneration: number;
  private sequence = 0;
  private last: LastFrame | undefined;
  /** The newest snapshot on disk. */
  private base: Base;
  /** A snapshot to be written while the log continues. */
  private cut: Snapshot | undefined;
  private background: Promise<void> = Promise.resolve();
  private cleanedBase = 0;
  /** The prefix under which the log that was found is set aside: it is damaged, or its end may be missing. */
  private setAside: string | undefined;
  private hardStateFile: OpenFile | undefined;
  private hardStateSequence: number;
  private hardStateFormat: number;
  private storedHardState: HardState | undefined;
  /** The last one that came, and its token. A batch with the token of the one before it changed what nothing waits for. */
  private given: HardState | undefined;
  private givenToken = 0;
  /** Ends when the hard states that nothing waits for are on disk. One is written at a time, and one waits: the newest. */
  private quiet: Promise<void> = Promise.resolve();
  private newestQuiet: HardState | undefined;
  private isQuietRunning = false;
  /** The disk refused one of them. The next write waits for `quiet`, and so fails as well. */
  private hasQuietFailed = false;
  /** What the file `members` holds. */
  private storedMembers: Uint8Array | undefined;
  /** Of the directory. It is on disk once `storedHardState` is, or before. */
  private readonly presentIdentity: string;
  /** The next frame begins a generation. */
  private wantsAll = true;
  private running = false;
  private idle: Promise<void> = Promise.resolve();
  private busySinceMs = Infinity;
  private failure: Error | undefined;
  private reported = false;
  private retryMs = RETRY_MS;
  private closing = false;
  private readonly image = new Uint8Array(HARD_STATE_BYTES);
  private readonly counts = { frames: 0, batches: 0, writtenBytes: 0, failures: 0 };

  private readonly options: DurableStorageOptions;

  private constructor(
    options: DurableStorageOptions,
    /** The files' contents at the start. */
    readonly stored: Stored,
  ) {
    this.options = { ...options, files: timed(options.files, this.times, options.nowMs) };
    const { log } = stored;
    this.base = log?.snapshot ?? { index: 0, chainHi: 0, chainLo: 0 };
    this.lastGeneration = stored.lastGeneration;
    this.setAside = stored.damage !== undefined ? DAMAGED : stored.lacksEnd ? LOST : undefined;
    this.hardStateSequence = stored.hardStateSequence;
    this.hardStateFormat = stored.hardStateFormat ?? FORMATS.hardState.written;
    this.storedMembers = options.members;
    this.presentIdentity = stored.identity ?? options.identity ?? drawIdentity(options.random);
  }

  /** Reads the directory. Changes nothing before the first `persist`. Throws the errors of `readStored`, and JitPaxosError `members-corrupt`. */
  static async open(options: DurableStorageOptions): Promise<DurableStorage> {
    const stored = await readStored(options.files, { ...options, chain: options.chain ?? UNKEYED_FINGERPRINT });
    checkMembersBeside(stored.membersIndex, options.members, options.directory);
    return new DurableStorage(options, stored);
  }

  recovered(): Recovered {
    const { members } = this.options;
    const { hardState, membersIndex, log } = this.stored;
    return {
      hardState: hardState === undefined ? undefined : withMembers(hardState, membersIndex, members),
      identity: identityFrom(this.presentIdentity),
      ...(hardState === undefined && members !== undefined ? { members } : {}),
      log,
    };
  }

  /** The identity of the directory; undefined until it is durable. */
  get identity(): string | undefined {
    return this.storedHardState === undefined ? this.stored.identity : this.presentIdentity;
  }

  /** True if the disk fails, or a write has taken too long: the others should continue without this replica. */
  get stalled(): boolean {
    return this.failure !== undefined || this.options.nowMs() - this.busySinceMs > STALL_MS;
  }

  status(): DurableStorageStatus {
    return {
      failing: this.failure?.message ?? null,
      generation: this.lastGeneration,
      segments: this.segments?.kept.length ?? 0,
      baseIndex: this.base.index,
      ...this.counts,
    };
  }

  get membersIndex(): number {
    return membersIndex(this.storedHardState?.members);
  }

  persist(token: number, batch: PersistBatch): void {
    // While the disk fails, incoming batches are not kept: the whole log will be written again.
    if (this.closing || this.failure !== undefined) return;
    const { pending } = this;
    const base = pending.snapshot?.index ?? Math.max(this.base.index, this.writing.snapshot?.index ?? 0);
    const snapshot = batch.snapshot !== undefined && batch.snapshot.index > base ? batch.snapshot : undefined;
    const onSnapshot = snapshot !== undefined && batch.entriesFrom <= snapshot.index + 1;
    if (snapshot !== undefined && !onSnapshot) this.cut = snapshot;
    pending.add(token, batch, onSnapshot ? snapshot.index : base, onSnapshot);
    const { given } = this;
    // Members alone are awaited by nothing (C2): a frame that names a view of their epoch has another view or logView.
    if (token !== this.givenToken && (given === undefined || !isSameButMembers(given, pending.hardState)))
      pending.awaitsHardState = true;
    this.given = pending.hardState;
    this.givenToken = token;
    if (this.wantsAll) {
      invariant(onSnapshot || batch.entriesFrom <= base + 1, 'the first batch of a generation has the whole log');
      pending.reset = true;
      this.wantsAll = false;
    }
    this.counts.batches++;
    if (!this.running) this.idle = this.run();
  }

  /**
   * Waits for the current write, marks the end of the log, and closes the files. The end mark has the commit index of
   * the last batch, because only in a batch do the commit index and the log come from one state (ReplicaCore.finish).
   */
  async close(): Promise<void> {
    this.closing = true;
    await this.idle;
    await this.background;
    await this.quiet.catch(() => undefined);
    if (this.failure === undefined && this.segments !== undefined) {
      try {
        await this.writeEnd(this.segments);
      } catch {
        // The log then ends as after a crash; a start can handle that.
      }
    }
    await this.releaseFiles();
  }

  private async run(): Promise<void> {
    this.running = true;
    try {
      while (this.pending.token !== 0) {
        const change = this.pending;
        this.pending = this.writing;
        this.pending.clear();
        this.writing = change;
        this.busySinceMs = this.options.nowMs();
        await this.write(change);
        this.busySinceMs = Infinity;
        const { token } = change;
        change.clear();
        this.events!.persisted(token);
        this.tidy();
      }
    } catch (error) {
      await this.fail(error);
    }
    this.busySinceMs = Infinity;
    this.running = false;
    if (this.failure === undefined || this.closing) return;
    this.options.later(this.retryMs, () => this.retry());
    this.retryMs = Math.min(2 * this.retryMs, RETRY_MAX_MS);
  }

  /** Resolves when the whole change is on disk. */
  private async write(change: PendingChange): Promise<void> {
    const { options } = this;
    const begins = this.segments === undefined;
    if (begins) {
      await this.background;
      this.quiet = this.quiet.catch(() => undefined);
      this.hasQuietFailed = false;
      this.segments = new Segments(
        options.files,
        {
          ...options,
          chain: options.chain ?? UNKEYED_FINGERPRINT,
          segmentBytes: options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
        },
        ++this.lastGeneration,
        options.random(),
        options.random(),
      );
      this.sequence = 0;
    }
    const { hardState } = change;
    const isAwaited = begins || change.awaitsHardState || this.hasQuietFailed;
    if (isAwaited) {
      await this.quiet;
      await this.writeMembers(hardState.members);
    }
    if (change.snapshot !== undefined) await this.writeSnapshot(change.snapshot);
    const { segments } = this;
    await this.writeFrame(segments!, change, change.reset ? FRAME_RESET : 0, begins || options.mode === 'fsync');
    if (begins) {
      await this.removeOthers(segments!.generation);
      this.wasDurable();
    }
    if (isAwaited) await this.writeHardState(hardState);
    else if (!isSame(this.storedHardState!, hardState)) this.writeQuietly(hardState);
    segments!.prepare();
  }

  /** Writes members that no message depends on, while the log continues. */
  private writeQuietly(hardState: HardState): void {
    this.newestQuiet = hardState;
    if (this.isQuietRunning) return;
    this.isQuietRunning = true;
    this.quiet = this.runQuietly();
    this.quiet.catch((error: unknown) => {
      this.hasQuietFailed = true;
      if (!isOfTheSystem(error)) this.events!.broken(error);
    });
  }

  private async runQuietly(): Promise<void> {
    try {
      for (let state = this.newestQuiet; state !== undefined; state = this.newestQuiet) {
        this.newestQuiet = undefined;
        await this.writeMembers(state.members);
        await this.writeHardState(state);
      }
    } finally {
      this.newestQuiet = undefined;
      this.isQuietRunning = false;
    }
  }

  private async writeFrame(segments: Segments, change: PendingChange, flags: number, synced: boolean): Promise<void> {
    const { base } = this;
    const { view, logView } = change.hardState;
    invariant(
      base.index <= change.committed && change.committed <= change.lastIndex,
      'the commit index on disk is within the log on disk',
    );
    invariant(logView <= view, 'the log on disk is of no view above the promised one');
    const frameBytes = FRAME_HEADER_BYTES + change.bodyBytes;
    // If a segment has room, do not wait: the write then begins in the turn that asked for it.
    const segment = segments.present(frameBytes) ?? (await segments.withRoom(frameBytes));
    const header = {
      generation: segments.generation,
      sequence: ++this.sequence,
      bodyBytes: change.bodyBytes,
      flags,
      hardState: change.hardState,
      count: change.count,
      entriesFrom: change.entriesFrom,
      baseIndex: base.index,
      baseChainHi: base.chainHi,
      baseChainLo: base.chainLo,
      committed: change.committed,
      saltHi: segments.saltHi,
      saltLo: segments.saltLo,
    };
    encodeFrameHeader(header, change.bytes, this.options.hash);
    const began = this.options.nowMs();
    await segment.file.write(change.bytes, frameBytes, segment.end);
    this.times.writeUs.record((this.options.nowMs() - began) * 1e3);
    if (synced && this.options.mode !== 'fsync') await segment.file.sync();
    segment.end = toSector(segment.end + frameBytes);
    segment.lastIndex = Math.max(segment.lastIndex, change.lastIndex);
    this.last = {
      ordinal: segment.ordinal,
      lastIndex: change.lastIndex,
      baseIndex: base.index,
      committed: change.committed,
      hardState: change.hardState,
    };
    this.counts.frames++;
    this.counts.writtenBytes += frameBytes;
  }

  private async writeEnd(segments: Segments): Promise<void> {
    const end = this.pending;
    end.clear();
    const last = this.last!;
    end.entriesFrom = last.lastIndex + 1;
    end.hardState = last.hardState;
    end.committed = last.committed;
    await this.writeFrame(segments, end, FRAME_CLEAN, true);
  }

  /** A snapshot counts once it has its final name. From then on it is the base of new frames. */
  private async writeSnapshot(snapshot: Snapshot): Promise<void> {
    const { files, owner, hash } = this.options;
    const name = snapshotName(snapshot.index, snapshot.chainHi, snapshot.chainLo);
    const file = await files.create(name + UNFINISHED);
    try {
      await file.write(
        encodeSnapshotHeader(snapshot, owner, hash, this.options.chain ?? UNKEYED_FINGERPRINT),
        SNAPSHOT_HEADER_BYTES,
        0,
      );
      // Synced in between: a write of the log never waits until more than this is on the disk.
      const { snapshotSyncBytes = SNAPSHOT_SYNC_BYTES } = this.options;
      let at = 0;
      do {
        const part = snapshot.bytes.subarray(at, at + snapshotSyncBytes);
        await file.write(part, part.length, SNAPSHOT_HEADER_BYTES + at);
        await file.sync();
        at += part.length;
      } while (at < snapshot.bytes.length);
    } finally {
      await file.close();
    }
    await files.rename(name + UNFINISHED, name);
    await files.sync();
    if (snapshot.index > this.base.index)
      this.base = { index: snapshot.index, chainHi: snapshot.chainHi, chainLo: snapshot.chainLo };
  }

  /** Rule S, C2 (members-file.ts): before the frame and the promises, either of which may name a view of a new epoch. */
  private async writeMembers(members: Uint8Array | undefined): Promise<void> {
    if (members === undefined || membersIndex(members) === membersIndex(this.storedMembers)) return;
    const { files, owner, hash } = this.options;
    const list = listToStore(members, this.storedMembers, owner.addresses);
    if (list === undefined) return;
    await writeMembers(files, list, owner, hash);
    this.storedMembers = members;
  }

  /** Uses a new file after a start or an error. */
  private async writeHardState(state: HardState): Promise<void> {
    const { storedHardState: stored, image, options } = this;
    if (this.hardStateFile !== undefined && stored !== undefined && isSame(stored, state)) return;
    const { presentIdentity: identity } = this;
    const { owner, hash } = options;
    this.hardStateFormat = formatFor(state, this.hardStateFormat);
    const bytes = encodeHardState(image, state, identity, ++this.hardStateSequence, owner, hash, this.hardStateFormat);
    if (this.hardStateFile === undefined) await this.createHardState(bytes);
    else {
      const began = options.nowMs();
      await this.hardStateFile.write(image, bytes, 0);
      this.times.syncUs.record((options.nowMs() - began) * 1e3);
    }
    this.storedHardState = state;
  }

  private async createHardState(bytes: number): Promise<void> {
    const { files, identity } = this.options;
    await writeWhole(files, HARD_STATE_FILE, this.image.subarray(0, bytes));
    this.hardStateFile = await files.openThrough(HARD_STATE_FILE);
    if (identity !== undefined) await removeJoining(files);
  }

  /**
   * Removes files that only an older generation needed. Renames a damaged log, to keep it for inspection, and one whose
   * end may be missing, for a forced recovery: that one until a start finds a log.
   */
  private async removeOthers(generation: number): Promise<void> {
    const { files } = this.options;
    const { setAside } = this;
    const names = await files.list();
    const base = snapshotName(this.base.index, this.base.chainHi, this.base.chainLo);
    for (const name of names)
      if (
        name.endsWith(UNFINISHED) ||
        (setAside !== undefined && name.startsWith(setAside)) ||
        (name.startsWith(LOST) && this.stored.log !== undefined)
      )
        await files.remove(name);
    for (const name of names) {
      const old = parseSegmentName(name);
      if (old !== undefined && old.generation !== generation)
        await (setAside === undefined ? files.remove(name) : files.rename(name, setAside + name));
      else if (isSnapshotName(name) && name !== base)
        await (setAside === LOST ? files.rename(name, LOST + name) : files.remove(name));
    }
    await files.sync();
    this.setAside = undefined;
    this.cleanedBase = this.base.index;
  }

  /** In the background: writes the snapshot at which the log was cut, then removes the files that it replaces. */
  private tidy(): void {
    const { cut, segments } = this;
    const last = this.last!;
    if (cut === undefined && last.baseIndex <= this.cleanedBase) return;
    this.cut = undefined;
    this.background = this.background
      .then(async () => {
        if (segments === undefined || segments !== this.segments || this.failure !== undefined) return;
        if (cut !== undefined && cut.index > this.base.index) await this.writeSnapshot(cut);
        if (last.baseIndex > this.cleanedBase) await this.removeCovered(segments, last);
      })
      // The log stays as it was; the next cut tries again.
      .catch((error: unknown) => (isOfTheSystem(error) ? undefined : this.events!.broken(error)));
  }

  private async removeCovered(segments: Segments, last: LastFrame): Promise<void> {
    const { files } = this.options;
    const index = last.baseIndex;
    await segments.removeUpTo(index, last.ordinal);
    for (const name of await files.list()) {
      if (isSnapshotName(name) && parseInt(name.slice('snapshot-'.length), 16) < index) await files.remove(name);
    }
    await files.sync();
    this.cleanedBase = Math.max(this.cleanedBase, index);
  }

  private wasDurable(): void {
    this.retryMs = RETRY_MS;
    if (this.reported) this.events!.healed();
    this.reported = false;
  }

  private async fail(error: unknown): Promise<void> {
    if (!isOfTheSystem(error)) {
      this.events!.broken(error);
      return;
    }
    this.failure = error;
    this.counts.failures++;
    if (!this.reported) this.events!.failed(error);
    this.reported = true;
    this.pending.clear();
    this.writing.clear();
    await this.quiet.catch(() => undefined);
    await this.releaseFiles();
  }

  private retry(): void {
    if (this.closing) return;
    this.failure = undefined;
    this.wantsAll = true;
    this.cut = undefined;
    this.events!.rewrite();
  }

  private async releaseFiles(): Promise<void> {
    await this.segments?.close();
    this.segments = undefined;
    await this.hardStateFile?.close().catch(() => undefined);
    this.hardStateFile = undefined;
  }
}

function isSame(a: HardState, b: HardState): boolean {
  return isSameButMembers(a, b) && membersIndex(a.members) === membersIndex(b.members);
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

function isOfTheSystem(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error;
}
