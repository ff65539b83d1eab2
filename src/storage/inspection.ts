/**
 * What is in a data directory, for operators and tools: everything that a start would find, and any damage.
 *
 * The rule: nothing is changed and no lock is taken, so the directory of a running replica can be inspected. Files that
 * such a replica removes or writes meanwhile may look damaged; they are then read again.
 */
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../native/hash64.js';
import { UNKEYED_FINGERPRINT, type HardState } from '../protocol/contract.js';
import type { MemberList } from '../wire/member-list.js';
import { toHex } from '../wire/u64.js';
import { lockHolder } from './directory-lock.js';
import type { Files } from './files.js';
import { HARD_STATE_FILE, ownerOfHardState, type Owner } from './hard-state.js';
import {
  DAMAGED,
  decodeSnapshotFile,
  FRAME_CLEAN,
  FRAME_RESET,
  isSnapshotName,
  LOST,
  ownerOf,
  parseSegmentName,
  UNFINISHED,
  type FrameHeader,
} from './log-format.js';
import { JOINING_ASIDE, JOINING_FILE } from './joining-file.js';
import { MEMBERS_ASIDE, MEMBERS_FILE, readMembers } from './members-file.js';
import {
  readLog,
  readOrDamage,
  readPromised,
  type Damage,
  type Promised,
  type SegmentReport,
  type Stored,
} from './log-reader.js';

/** A replica that writes during the inspection rarely does so twice in the same place. */
const ATTEMPTS = 4;

export interface Inspection {
  readonly cluster: string;
  readonly replica: number;
  /** The identity of the directory; null if its promises are damaged, or an older release wrote them last. */
  readonly identity: string | null;
  /** The members that the directory remembers; null if its file is damaged, or if they are those of the cluster file. */
  readonly members: MemberList | null;
  /** Pid of the living process that uses the directory. */
  readonly lockedBy: number | null;
  /** The newest promises on disk; null if their file is damaged and no log has them either. */
  readonly hardState: HardState | null;
  readonly log: LogInspection;
  /**
   * The chain of the log, according to its newest intact segment; null if there is none. Chain values are not on disk,
   * so none is verified here.
   */
  readonly chain: { readonly keyed: boolean; readonly fingerprint: number } | null;
  readonly segments: readonly SegmentInspection[];
  readonly snapshots: readonly SnapshotInspection[];
  /** Everything that is not as it was written. A write that was cut off does not count. */
  readonly damage: readonly Damage[];
  /** Where a write was cut off, or is in progress. */
  readonly torn: { readonly file: string; readonly offset: number } | null;
  /** Unfinished files, files that were set aside, and foreign files. */
  readonly others: readonly { readonly name: string; readonly what: 'unfinished' | 'set aside' | 'not of a replica' }[];
}

export interface LogInspection {
  /** `lost`: the others would refill it; `none`: durability memory, or never started. */
  readonly found: 'whole' | 'lost' | 'none';
  /** Why it is lost. */
  readonly why: string | null;
  readonly baseIndex: number | null;
  readonly lastIndex: number | null;
  readonly committed: number | null;
  readonly entryBytes: number | null;
  /** Ends with a clean stop. */
  readonly clean: boolean | null;
}

export interface SegmentInspection {
  readonly name: string;
  readonly bytes: number;
  readonly usedBytes: number;
  readonly mode: string | null;
  readonly frames: readonly FrameInspection[];
}

export interface FrameInspection {
  readonly offset: number;
  readonly sequence: number;
  readonly bytes: number;
  /** Entries `from` to `to` replace whatever was stored from `from` on; `to` is `from − 1` if there are none. */
  readonly from: number;
  readonly to: number;
  readonly baseIndex: number;
  readonly committed: number;
  readonly view: number;
  readonly logView: number;
  readonly incarnation: number;
  /** The log begins with this frame. */
  readonly reset: boolean;
  /** A clean stop. */
  readonly clean: boolean;
}

export interface SnapshotInspection {
  readonly name: string;
  readonly bytes: number;
  /** Null if it is damaged. */
  readonly index: number | null;
}

export interface InspectionOptions {
  readonly hash: Hash64;
  /** Boot id of the host, 32 hex digits. */
  readonly bootId: string;
  /** Where the files are, for messages. */
  readonly directory: string;
}

/** Undefined if the directory holds nothing of a replica. Throws JitPaxosError `data-directory-unusable`. */
export async function inspect(files: Files, options: InspectionOptions): Promise<Inspection | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      const inspection = await inspectOnce(files, options);
      if (
        inspection === undefined ||
        inspection.damage.length === 0 ||
        inspection.lockedBy === null ||
        attempt === ATTEMPTS
      )
        return inspection;
    } catch (error) {
      // A segment vanished: the replica has just removed it.
      if (!(error instanceof JitPaxosError) || lockHolder(options.directory) === undefined || attempt === ATTEMPTS)
        throw error;
    }
  }
}

/** The owner of the directory, according to any intact file; undefined if there is none. */
export async function findOwner(files: Files, hash: Hash64): Promise<Owner | undefined> {
  for (const name of await files.list()) {
    if (!isReadByInspection(name) || name === MEMBERS_FILE) continue;
    const { bytes } = await readOrDamage(files, name);
    const owner =
      bytes === undefined ? undefined : name === HARD_STATE_FILE ? ownerOfHardState(bytes, hash) : ownerOf(bytes, hash);
    if (owner !== undefined) return owner;
  }
  return undefined;
}

/** Whether an inspection reads the content of a file of this name. */
export function isReadByInspection(name: string): boolean {
  return (
    name === HARD_STATE_FILE || name === MEMBERS_FILE || parseSegmentName(name) !== undefined || isSnapshotName(name)
  );
}

async function inspectOnce(files: Files, options: InspectionOptions): Promise<Inspection | undefined> {
  const { hash, directory } = options;
  const names = [...(await files.list())].sort();
  if (
    !names.some(
      (name) =>
        name === HARD_STATE_FILE || parseSegmentName(name.replace(DAMAGED, '')) !== undefined || isSnapshotName(name),
    )
  )
    return undefined;
  const owner = await findOwner(files, hash);
  if (owner === undefined)
    throw new JitPaxosError(
      'data-directory-unusable',
      `${directory} holds files of a replica, but none with an intact header; check the disk`,
    );
  const frames = new Map<string, FrameInspection[]>();
  const of = {
    ...options,
    owner,
    frame: (segment: string, offset: number, frame: FrameHeader) =>
      void (frames.get(segment) ?? frames.set(segment, []).get(segment)!).push(inspectFrame(offset, frame)),
  };
  const damage: Damage[] = [];
  let promised: Promised;
  try {
    promised = await readPromised(files, of);
  } catch (error) {
    damage.push({ file: HARD_STATE_FILE, offset: 0, what: messageOf(error) });
  }
  let members: MemberList | undefined;
  try {
    members = await readMembers(files, of);
  } catch (error) {
    damage.push({ file: MEMBERS_FILE, offset: 0, what: messageOf(error) });
  }
  const stored = await readLog(files, of, promised);
  if (stored.damage !== undefined) damage.push(stored.damage);
  if (stored.forgotten !== undefined)
    damage.push({
      file: HARD_STATE_FILE,
      offset: 0,
      what: `missing, and the directory was in use: ${stored.forgotten}`,
    });
  const snapshots: SnapshotInspection[] = [];
  for (const name of names.filter(isSnapshotName)) {
    const { bytes, isMissing, unreadable } = await readOrDamage(files, name);
    if (isMissing) continue; // a newer one has just taken its place
    const snapshot = bytes === undefined ? undefined : decodeSnapshotFile(bytes, owner, hash, `${directory}/${name}`);
    snapshots.push({ name, bytes: bytes?.length ?? 0, index: snapshot?.index ?? null });
    if (snapshot === undefined && stored.damage?.file !== name)
      damage.push({ file: name, ...(unreadable ?? { offset: 0, what: 'damaged' }) });
  }
  return {
    cluster: toHex(owner.clusterHi, owner.clusterLo),
    replica: owner.replica,
    identity: stored.identity ?? null,
    members: members ?? null,
    lockedBy: lockHolder(directory) ?? null,
    hardState: stored.hardState ?? null,
    log: inspectLog(stored),
    chain: inspectChain(stored),
    segments: stored.segments.map((segment) => inspectSegment(segment, frames.get(segment.name) ?? [])),
    snapshots,
    damage,
    torn: stored.torn ?? null,
    others: names.flatMap((name) => {
      const what = whatElse(name);
      return what === undefined ? [] : [{ name, what }];
    }),
  };
}

function inspectLog({ log, lost }: Stored): LogInspection {
  if (log === undefined)
    return {
      found: lost === undefined ? 'none' : 'lost',
      why: lost ?? null,
      baseIndex: null,
      lastIndex: null,
      committed: null,
      entryBytes: null,
      clean: null,
    };
  const baseIndex = log.snapshot?.index ?? 0;
  return {
    found: 'whole',
    why: null,
    baseIndex,
    lastIndex: baseIndex + log.entries.length,
    committed: log.committed,
    entryBytes: log.entries.reduce((sum, entry) => sum + entry.length, 0),
    clean: log.clean,
  };
}

function inspectChain({ segments }: Stored): Inspection['chain'] {
  const header = segments.filter((segment) => segment.header !== undefined).at(-1)?.header;
  return header === undefined ? null : { keyed: header.chain !== UNKEYED_FINGERPRINT, fingerprint: header.chain };
}

function inspectSegment(
  { name, bytes, usedBytes, header }: SegmentReport,
  frames: readonly FrameInspection[],
): SegmentInspection {
  return { name, bytes, usedBytes, mode: header?.mode ?? null, frames };
}

function inspectFrame(offset: number, frame: FrameHeader): FrameInspection {
  const { sequence, bodyBytes, entriesFrom, count, baseIndex, committed, hardState, flags } = frame;
  return {
    offset,
    sequence,
    bytes: bodyBytes,
    from: entriesFrom,
    to: entriesFrom + count - 1,
    baseIndex,
    committed,
    ...hardState,
    reset: (flags & FRAME_RESET) !== 0,
    clean: (flags & FRAME_CLEAN) !== 0,
  };
}

function whatElse(name: string): Inspection['others'][number]['what'] | undefined {
  if (name.endsWith(UNFINISHED) || name === MEMBERS_ASIDE || name === JOINING_ASIDE) return 'unfinished';
  if (name.startsWith(DAMAGED) || name.startsWith(LOST)) return 'set aside';
  if (
    name === HARD_STATE_FILE ||
    name === MEMBERS_FILE ||
    name === JOINING_FILE ||
    name === 'lock' ||
    name.startsWith('lock.') ||
    isSnapshotName(name) ||
    parseSegmentName(name) !== undefined
  )
    return undefined;
  return 'not of a replica';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
