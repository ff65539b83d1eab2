/**
 * Reads a durable log, for a starting replica and for `jitpaxos inspect`.
 *
 * The rule: a log is used as a whole, or counts as lost. Only the last frame of a log may be torn, because a frame is
 * written only after the one before it was synced. The log then ends before the torn frame. Any other change has a
 * later frame behind it. It is a hole or bit rot in acknowledged data, and is reported with file and offset. Bit rot in
 * the very last frame looks like a torn write. A clean stop closes that gap with one more frame.
 */
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../native/hash64.js';
import type { HardState, Snapshot } from '../protocol/contract.js';
import { UnreadableError, type Files } from './files.js';
import { decodeHardState, HARD_STATE_FILE, type Owner } from './hard-state.js';
import { promisesLost } from './members-file.js';
import { readI32 } from '../wire/u64.js';
import {
  bodyIsWhole,
  decodeFrameHeader,
  decodeSegmentHeader,
  decodeSnapshotFile,
  DAMAGED,
  ENTRY_LENGTH_BYTES,
  FRAME_CLEAN,
  FRAME_HEADER_BYTES,
  FRAME_RESET,
  LOST,
  NO_BOOT_ID,
  parseSegmentName,
  SECTOR_BYTES,
  SEGMENT_HEADER_BYTES,
  snapshotName,
  toSector,
  type FrameHeader,
  type SegmentHeader,
} from './log-format.js';

/** A place where the data differs from the data that was written. */
export interface Damage {
  readonly file: string;
  readonly offset: number;
  readonly what: string;
}

export interface StoredLog {
  /** The hard state of the log's last frame. */
  readonly hardState: HardState;
  readonly snapshot: Snapshot | undefined;
  /** The entries after the snapshot, oldest first. */
  readonly entries: readonly Uint8Array[];
  /** Entries up to here were known to be committed when the last batch was written. */
  readonly committed: number;
  /** The log ends with a clean stop. */
  readonly clean: boolean;
}

export interface SegmentReport {
  readonly name: string;
  readonly bytes: number;
  readonly frames: number;
  /** Where the last intact frame ends. */
  readonly usedBytes: number;
  readonly header: SegmentHeader | undefined;
}

export interface Stored {
  /** The newest promises on disk, from file and log together; undefined in a new directory. */
  readonly hardState: HardState | undefined;
  /** Sequence number of the hard state file's newest slot; 0 if there is no such file. */
  readonly hardStateSequence: number;
  /** See StoredPromises. */
  readonly identity: string | undefined;
  /** See StoredPromises. */
  readonly addresses: readonly string[] | undefined;
  readonly membersIndex: number;
  /** Format of the hard state file; undefined if there is none. */
  readonly hardStateFormat: number | undefined;
  /** Undefined if there never was a log, or it is lost. */
  readonly log: StoredLog | undefined;
  /** Why the log is lost. Undefined if it is not lost, or if there never was one. */
  readonly lost: string | undefined;
  /** It is lost because its end may be missing; what there is of it is intact. */
  readonly lacksEnd: boolean;
  /** Where the log was damaged, if that is the reason. */
  readonly damage: Damage | undefined;
  /** Where a crash cut off a write. This is normal after a crash. */
  readonly torn: { readonly file: string; readonly offset: number } | undefined;
  /** Every segment found, oldest first. */
  readonly segments: readonly SegmentReport[];
  /** Highest generation of any file. */
  readonly lastGeneration: number;
  /**
   * Evidence that the file of the promises existed, although it is missing: the replica no longer knows what it
   * promised. Undefined if there is no such evidence.
   */
  readonly forgotten: string | undefined;
}

/** The files of a directory, for reading. */
type ReadableFiles = Pick<Files, 'list' | 'read'>;

/** The log that a start set aside, because its end may be missing, under the names that it had. */
export function setAsideIn(files: ReadableFiles): ReadableFiles {
  return {
    list: async () => (await files.list()).flatMap((name) => (name.startsWith(LOST) ? [name.slice(LOST.length)] : [])),
    read: (name) => files.read(LOST + name),
  };
}

/** The promises in the hard state file. */
export type Promised = ReturnType<typeof decodeHardState> | undefined;

export interface StoredOwner {
  readonly owner: Owner;
  readonly hash: Hash64;
  /** Fingerprint of the log's chain secret; undefined in tools, which accept any. */
  readonly chain?: number;
  /** Boot id of the host, 32 hex digits. */
  readonly bootId: string;
  /** Where the files are, for messages. */
  readonly directory: string;
  /**
   * For a forced recovery: a log whose frames are intact is returned although a start would count it as lost, because
   * its end may be missing. Called with each reason for that.
   */
  readonly salvage?: (reason: string) => void;
  /** Called for each intact frame that is read, for tools. */
  readonly frame?: (segment: string, offset: number, frame: FrameHeader) => void;
}

interface Segment {
  readonly name: string;
  readonly generation: number;
  readonly ordinal: number;
  readonly bytes: Uint8Array;
  readonly header: SegmentHeader | undefined;
  /** The disk does not return it as a whole; then `bytes` is empty. */
  readonly unreadable: Unreadable | undefined;
}

/** Where a file cannot be read, and why. */
type Unreadable = Omit<Damage, 'file'>;

/** The result of replaying the frames of one generation. */
type Replayed =
  | { readonly kind: 'whole'; readonly log: Replay }
  | { readonly kind: 'unfinished' }
  | { readonly kind: 'damaged'; readonly damage: Damage };

/**
 * Reads everything in the directory. Changes nothing.
 *
 * Throws JitPaxosError `hard-state-corrupt`, `hard-state-missing`, `data-directory-foreign`, `chain-differs`,
 * `data-directory-unusable`. A log that is damaged, or that the disk does not return, is not an error. It counts as lost, and
 * other replicas have the entries.
 */
export async function readStored(files: ReadableFiles, of: StoredOwner): Promise<Stored> {
  const stored = await readLog(files, of, await readPromised(files, of));
  if (stored.forgotten === undefined) return stored;
  throw new JitPaxosError(
    'hard-state-missing',
    `${of.directory} was in use (${stored.forgotten}), and its file ${HARD_STATE_FILE}, which has the replica's promises, is missing; put it back if you can. ` +
      `A replica that forgot its promises must not take part under its old identity. ${promisesLost(of.owner.areSeeds === true, of.owner.replica)}`,
  );
}

/** Reads the promises. Throws the same errors as `readStored`. */
export async function readPromised(files: ReadableFiles, { owner, hash, directory }: StoredOwner): Promise<Promised> {
  const bytes = await files.read(HARD_STATE_FILE);
  return bytes === undefined ? undefined : decodeHardState(bytes, owner, hash, `${directory}/${HARD_STATE_FILE}`);
}

/**
 * The log that belongs to these promises. Throws the errors of `readStored`, except `hard-state-corrupt` and
 * `hard-state-missing`.
 */
export async function readLog(files: ReadableFiles, of: StoredOwner, promised: Promised): Promise<Stored> {
  const { owner, hash, directory } = of;
  const segments = await readSegments(files, of);
  const reports = new Map<string, { frames: number; usedBytes: number }>();
  const generations = [...new Set(segments.map((segment) => segment.generation))].sort((a, b) => b - a);
  const common = {
    hardStateSequence: promised?.sequence ?? 0,
    identity: promised?.identity,
    addresses: promised?.addresses,
    membersIndex: promised?.membersIndex ?? 0,
    hardStateFormat: promised?.format,
    lastGeneration: generations[0] ?? 0,
    torn: undefined,
    lacksEnd: false,
    damage: undefined,
    forgotten: undefined,
  };
  const result = (rest: Pick<Stored, 'hardState' | 'log' | 'lost'> & Partial<Stored>): Stored => ({
    ...common,
    segments: segments.map((s) => ({
      name: s.name,
      bytes: s.bytes.length,
      header: s.header,
      ...(reports.get(s.name) ?? { frames: 0, usedBytes: 0 }),
    })),
    ...rest,
  });
  const lost = (why: string, damage?: Damage, hardState = promised?.state): Stored =>
    result({ hardState, log: undefined, lost: why, damage });

  for (const generation of generations) {
    const own = segments.filter((segment) => segment.generation === generation);
    const replayed = replay(own, of, reports);
    if (promised === undefined && of.salvage === undefined) {
      const evidence = evidenceOfUse(replayed, own);
      if (evidence !== undefined)
        return {
          ...lost(
            'the promises that it belongs to are missing',
            replayed.kind === 'damaged' ? replayed.damage : undefined,
          ),
          forgotten: evidence,
        };
      // Nothing was acknowledged: the very first write of the first life, or of each life since, did not complete.
      if (replayed.kind === 'whole' && isFromAnotherBoot(replayed.log, of)) continue;
    }
    if (replayed.kind === 'damaged')
      return lost(
        `${directory}/${replayed.damage.file} is damaged at byte ${replayed.damage.offset}: ${replayed.damage.what}`,
        replayed.damage,
      );
    // A generation without its first frame never counted: the generation before it was not removed yet.
    if (replayed.kind === 'unfinished') continue;
    const { log } = replayed;
    const { last } = log;
    const { hardState } = last;
    const doubts: string[] = [];
    if (
      promised !== undefined &&
      (hardState.incarnation < promised.state.incarnation ||
        hardState.view < promised.state.view ||
        hardState.logView < promised.state.logView)
    ) {
      doubts.push(
        `the log ends with view ${hardState.view}, incarnation ${hardState.incarnation}, and the replica's promises are at view ${promised.state.view}, incarnation ${promised.state.incarnation}: its end is missing, or it is from an earlier use of this directory`,
      );
    }
    if (isFromAnotherBoot(log, of))
      doubts.push('the host was restarted since, and in mode os the log survives the process, not the host');
    if (doubts.length > 0 && of.salvage === undefined) return { ...lost(doubts[0]!), lacksEnd: hardState.logView >= 0 };
    for (const doubt of doubts) of.salvage!(doubt);
    // A replica that waits for another replica's log has an empty log. It is intact, but does not count (rule R1).
    if (hardState.logView < 0)
      return lost('it was lost at an earlier start, and no other log was installed since', undefined, hardState);
    // This log must not be used: it would execute entries as committed that the cluster did not commit.
    if (log.committed < last.baseIndex || log.committed > log.lastIndex) {
      return lost(
        `the log's last frame says that ${log.committed} entries are committed, but the log goes from ${last.baseIndex} to ${log.lastIndex}: one of them is wrong`,
        undefined,
        hardState,
      );
    }
    let snapshot: Snapshot | undefined;
    if (last.baseIndex > 0) {
      const name = snapshotName(last.baseIndex, last.baseChainHi, last.baseChainLo);
      const { bytes, unreadable } = await readOrDamage(files, name);
      snapshot =
        bytes === undefined ? undefined : decodeSnapshotFile(bytes, owner, hash, `${directory}/${name}`, of.chain);
      if (snapshot === undefined) {
        const what = unreadable !== undefined ? 'unreadable' : bytes === undefined ? 'missing' : 'damaged';
        return lost(`the snapshot that the log stands on, ${directory}/${name}, is ${what}`, {
          file: name,
          ...(unreadable ?? { offset: 0, what }),
        });
      }
    }
    return result({
      hardState: withKnown(hardState, promised),
      log: {
        hardState,
        snapshot,
        entries: log.entriesBehind(last.baseIndex),
        committed: log.committed,
        clean: (last.flags & FRAME_CLEAN) !== 0,
      },
      lost: undefined,
      torn: log.torn,
    });
  }
  if (promised === undefined) {
    // Only a damaged log is evidence. A snapshot is not: the very first write may have stopped after it.
    const left = (await files.list()).find((name) => name.startsWith(DAMAGED));
    return result({
      hardState: undefined,
      log: undefined,
      lost: undefined,
      forgotten: left === undefined ? undefined : `${left} is there`,
    });
  }
  return lost(
    segments.length === 0 ? 'there is none in the directory' : `no segment in ${directory} begins with a whole frame`,
    undefined,
  );
}

/**
 * Evidence that a generation was used after it was begun. The promises are written after its first frame and before
 * anything else. So they were on disk when anything later was written.
 */
function evidenceOfUse(replayed: Replayed, segments: readonly Segment[]): string | undefined {
  if (replayed.kind === 'damaged') return `${replayed.damage.file} is not as it was written: ${replayed.damage.what}`;
  if (segments.length > 1) return `${segments[1]!.name} was made ready behind ${segments[0]!.name}`;
  if (replayed.kind === 'unfinished') return undefined;
  const { sequence, hardState } = replayed.log.last;
  return sequence > 1 ? `its log has ${sequence} writes, the last in view ${hardState.view}` : undefined;
}

/** True if the log may lack data that was only in the memory of a host that has since restarted. */
function isFromAnotherBoot(log: Replay, of: StoredOwner): boolean {
  return log.unsynced && (log.last.flags & FRAME_CLEAN) === 0 && (log.bootId !== of.bootId || of.bootId === NO_BOOT_ID);
}

async function readSegments(files: ReadableFiles, { owner, hash, directory, chain }: StoredOwner): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (const name of await files.list()) {
    const place = parseSegmentName(name);
    if (place === undefined) continue;
    const { bytes = NOTHING, isMissing, unreadable } = await readOrDamage(files, name);
    if (isMissing)
      throw new JitPaxosError(
        'data-directory-unusable',
        `${directory}/${name} vanished while it was read; only the replica may change its data directory`,
      );
    const header = decodeSegmentHeader(bytes, owner, hash, `${directory}/${name}`, chain);
    segments.push({ name, bytes, ...place, header, unreadable });
  }
  return segments.sort((a, b) => a.generation - b.generation || a.ordinal - b.ordinal);
}

const NOTHING = new Uint8Array(0);

/** A file of the log. One that the disk does not return as a whole counts as damaged: that is no error. */
export async function readOrDamage(
  files: ReadableFiles,
  name: string,
): Promise<{ bytes: Uint8Array | undefined; isMissing: boolean; unreadable: Unreadable | undefined }> {
  try {
    const bytes = await files.read(name);
    return { bytes, isMissing: bytes === undefined, unreadable: undefined };
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    const what = `it cannot be read (${error.cause.message})`;
    return { bytes: undefined, isMissing: false, unreadable: { offset: error.offset, what } };
  }
}

/** Adds the knowledge of other replicas, which is only in the file of the promises: a frame has only the promises. */
function withKnown(hardState: HardState, promised: Promised): HardState {
  const { known, lives } = promised?.state ?? {};
  return known === undefined || lives === undefined ? hardState : { ...hardState, known, lives };
}

/** Applies frames one after the other. */
class Replay {
  last!: FrameHeader;
  /**
   * The commit index of the last frame that holds a batch. The one in a clean stop's end mark is not used: older
   * releases took it from memory, where it could cover entries that a turn had replaced and never written.
   */
  committed = 0;
  /** Some frames were written in mode `os`, under the boot `bootId`. */
  unsynced = false;
  /** Boot of the frames that were written in mode `os`. */
  bootId = '';
  torn: { file: string; offset: number } | undefined;
  private first = 1;
  private entries: Uint8Array[] = [];
  frames = 0;

  /** Returns false if the frame does not continue the log so far. */
  apply(frame: FrameHeader, bytes: Uint8Array, offset: number): boolean {
    this.frames++;
    // If older segments were removed, the frame may begin before all entries that are left. Whether the entries reach
    // the base is checked at the end.
    if (this.frames === 1 || (frame.flags & FRAME_RESET) !== 0 || frame.entriesFrom < this.first) {
      this.entries = [];
      this.first = frame.entriesFrom;
    }
    const keep = frame.entriesFrom - this.first;
    if (!(keep <= this.entries.length)) return false;
    this.entries.length = keep;
    const end = offset + FRAME_HEADER_BYTES + frame.bodyBytes;
    let at = offset + FRAME_HEADER_BYTES;
    for (let i = 0; i < frame.count; i++) {
      if (at + ENTRY_LENGTH_BYTES > end) return false;
      const length = readI32(bytes, at);
      at += ENTRY_LENGTH_BYTES;
      if (length < 0 || at + length > end) return false;
      this.entries.push(bytes.subarray(at, at + length));
      at += length;
    }
    this.last = frame;
    if ((frame.flags & FRAME_CLEAN) === 0) this.committed = frame.committed;
    return at === end;
  }

  /** Entries exist down to the base. */
  get reachesBase(): boolean {
    return this.first <= this.last.baseIndex + 1 && this.last.baseIndex < this.first + this.entries.length;
  }

  get lastIndex(): number {
    return this.first + this.entries.length - 1;
  }

  entriesBehind(index: number): readonly Uint8Array[] {
    return this.entries.slice(index + 1 - this.first);
  }
}

function replay(
  segments: readonly Segment[],
  { hash, frame: report }: StoredOwner,
  reports: Map<string, { frames: number; usedBytes: number }>,
): Replayed {
  const log = new Replay();
  /** Where reading stopped in the previous segment. This is no damage if the next segment continues from there. */
  let stopped: Damage | undefined;
  for (const [i, segment] of segments.entries()) {
    const { header, bytes, name } = segment;
    const damaged = (offset: number, what: string): Replayed => ({
      kind: 'damaged',
      damage: { file: name, offset, what },
    });
    if (i > 0 && segment.ordinal !== segments[i - 1]!.ordinal + 1)
      return damaged(0, `segment ${segments[i - 1]!.ordinal + 1} of its generation is missing`);
    if (segment.unreadable !== undefined) return damaged(segment.unreadable.offset, segment.unreadable.what);
    if (header === undefined || header.generation !== segment.generation || header.ordinal !== segment.ordinal)
      return damaged(0, 'no intact header');
    if (header.mode === 'os') log.unsynced = true;
    log.bootId = header.bootId;
    const used = { frames: 0, usedBytes: SEGMENT_HEADER_BYTES };
    reports.set(name, used);
    let at = SEGMENT_HEADER_BYTES;
    for (;;) {
      const frame = decodeFrameHeader(bytes, at, header, hash);
      if (frame === undefined || !bodyIsWhole(bytes, at, frame, hash)) break;
      if (log.frames > 0 && frame.sequence !== log.last.sequence + 1) {
        if (stopped !== undefined) return { kind: 'damaged', damage: stopped };
        return damaged(at, `frame ${frame.sequence} follows frame ${log.last.sequence}`);
      }
      if (!log.apply(frame, bytes, at))
        return damaged(
          at,
          `frame ${frame.sequence} begins at entry ${frame.entriesFrom}, which does not follow what is before it`,
        );
      report?.(name, at, frame);
      at = toSector(at + FRAME_HEADER_BYTES + frame.bodyBytes);
      used.frames++;
      used.usedBytes = at;
      stopped = undefined;
    }
    const later = laterFrame(bytes, at, header, log, hash);
    if (later !== undefined) return damaged(at, `no whole frame, although frame ${later} follows behind it`);
    if (used.frames > 0 || stopped === undefined)
      stopped = { file: name, offset: at, what: 'no whole frame, although another segment goes on behind it' };
    if (used.frames > 0 || i === 0) log.torn = isWritten(bytes, at) ? { file: name, offset: at } : undefined;
  }
  if (log.frames === 0)
    return segments[0]?.ordinal === 0
      ? { kind: 'unfinished' }
      : {
          kind: 'damaged',
          damage: stopped ?? {
            file: segments[0]!.name,
            offset: SEGMENT_HEADER_BYTES,
            what: 'no whole frame, and the segments before it are gone',
          },
        };
  if (!log.reachesBase)
    return {
      kind: 'damaged',
      damage: {
        file: segments[0]!.name,
        offset: SEGMENT_HEADER_BYTES,
        what: `the entries behind snapshot ${log.last.baseIndex} do not begin here, nor in another segment`,
      },
    };
  return { kind: 'whole', log };
}

/**
 * The sequence number of a frame after `from` that could not exist if the log ended at `from`. Bytes within the torn
 * frame at `from` do not count.
 */
function laterFrame(
  bytes: Uint8Array,
  from: number,
  header: SegmentHeader,
  log: Replay,
  hash: Hash64,
): number | undefined {
  const expected = log.frames === 0 ? -Infinity : log.last.sequence + 1;
  const torn = decodeFrameHeader(bytes, from, header, hash);
  for (let at = from + SECTOR_BYTES; at < bytes.length; at += SECTOR_BYTES) {
    const frame = decodeFrameHeader(bytes, at, header, hash);
    if (frame === undefined || frame.sequence < expected) continue;
    if (torn !== undefined && at < from + FRAME_HEADER_BYTES + torn.bodyBytes) continue;
    return frame.sequence;
  }
  return undefined;
}

function isWritten(bytes: Uint8Array, from: number): boolean {
  for (let i = from; i < bytes.length; i++) if (bytes[i] !== 0) return true;
  return false;
}
