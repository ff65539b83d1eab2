/**
 * What a replica must never forget: the views it promised, how often it was started, and the identity of its directory.
 *
 * One file has two slots of 4,096 bytes, each with the same content. One write and one sync put the new content into
 * both. This guards a rule: once `write` has returned, neither a crash in a later write nor the loss of one slot can
 * bring back an older state. The first 64 bytes of a slot, its *record*, are all that the replica must not forget, and
 * lie in one sector. A disk writes a sector whole or not at all, so a crash leaves in each slot the old record or the new
 * one. Of two intact records the newer counts: nothing relied on it yet, and the next write goes to both slots. A file
 * without an intact record is refused, and so is one whose records a crash tore both, against the assumption: a replica
 * that forgets its promises may break agreement; a replica that stays away cannot
 * (docs/internals/decisions/hard-state.md).
 *
 *      0 4 8 16 24 28 32 36 40 48 56
 *      | JPHS | version | sequence | cluster id | replica | view | logView | incarnation | identity | members | XXH3-64 of 0…55 |
 *
 * `identity`: see identity.ts. Older releases write zero there; the next start of this release then draws one.
 * `members`: the entry of the log that made the members with which this was written. It is 0 as long as the file of that
 * name is not written; later that file is never older.
 *
 * So the record has version 3 from the first entry on that changed the members: the log may list the identity, and
 * releases that would drop it refuse the file. It never has version 1 again. Before, it has version 1, whose bytes are the
 * same with a zero in the place of `members`. Version 2 was written before version 3. It has the members only behind the
 * record, so that one of its slots counts only if all of it is intact. One write into such slots could break both, so the first
 * write makes a new file.
 *
 * The rest of the slot holds what the replica knows about the others. If a crash tore it, that of the other slot is used,
 * which may be from the write before. A replica that finds both missing or damaged learns it again. Older releases neither
 * read nor write it.
 *
 *      64 68 72 80 84 136 188 192 4088
 *      | JPHX | version | sequence | replicas | known incarnations, 13 of u32 | lives, 13 … u32 | length of list | list … | XXH3-64 of 64…4087 |
 *
 * Beside a record of version 2 or 3 it has version 2. There, incarnations and lives are by slot, and belong to the members
 * that the entry `members` made: beside other members they say nothing.
 *
 *      64 68 72 80 84 208 332 340 344 4088
 *      | JPHX | version | sequence | replicas | known incarnations, 31 | lives, 31 | members u64 | length of list | list … | XXH3-64 of 64…4087 |
 *
 * `list`: the addresses of all replicas as the cluster file had them, JSON. Their number and order belong to the
 * identity of the cluster as much as its id does: quorums follow from them (bootstrap-list.ts), until the log changes the
 * members.
 *
 * All big-endian. The file is created under another name and renamed, so that it is never seen half-written.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  open,
  openSync,
  readSync,
  write,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { JitPaxosError } from '../errors.js';
import type { HardState } from '../protocol/contract.js';
import { invariant } from '../protocol/invariant.js';
import type { Hash64 } from '../wire/envelope.js';
import { readHex, readI32, readIndex, toHex, writeHex, writeI32, writeIndex } from '../wire/u64.js';
import { SLOTS } from '../protocol/configuration.js';
import { MAX_REPLICAS } from '../protocol/views.js';
import { checkAddresses } from './bootstrap-list.js';
import { DirectoryFiles, UnreadableError } from './files.js';
import { checkFormat, FORMATS, MEMBERS_BEHIND_RECORD_FORMAT, MEMBERS_HARD_STATE_FORMAT } from './formats.js';
import { drawIdentity, NO_IDENTITY } from './identity.js';
import {
  areStored,
  listToStore,
  MEMBERS_FILE,
  membersIndex,
  membersLost,
  promisesLost,
  writeMembers,
} from './members-file.js';
import { removeJoining } from './joining-file.js';
import { kindOf } from './regular-file.js';
import { writeWhole } from './write-whole.js';

export const HARD_STATE_FILE = 'hard-state';
export const SLOT_BYTES = 4096;
const SLOTS_IN_FILE = 2;
export const HARD_STATE_BYTES = SLOTS_IN_FILE * SLOT_BYTES;
const MAGIC = 0x4a504853;
const PEERS_MAGIC = 0x4a504858;
/** By version. */
const PEERS_LAYOUTS = {
  1: { places: MAX_REPLICAS, known: 84, lives: 136, members: -1, listLength: 188, list: 192 },
  2: { places: SLOTS, known: 84, lives: 208, members: 332, listLength: 340, list: 344 },
} as const;
/** Length of the promises' record; what follows it in the slot has its own checksum. */
const RECORD_BYTES = 64;
const AT_VERSION = 4;
const AT_SEQUENCE = 8;
const AT_CLUSTER = 16;
const AT_REPLICA = 24;
const AT_VIEW = 28;
const AT_LOG_VIEW = 32;
const AT_INCARNATION = 36;
const AT_IDENTITY = 40;
const AT_MEMBERS = 48;
const AT_CHECKSUM = 56;
const AT_PEERS = RECORD_BYTES;
const AT_PEERS_SEQUENCE = 72;
const AT_REPLICAS = 80;
const AT_PEERS_CHECKSUM = SLOT_BYTES - 8;

/** The owner of the state: a data directory mounted in the wrong place must not be used. */
export interface Owner {
  readonly clusterHi: number;
  readonly clusterLo: number;
  readonly replica: number;
  /** Addresses of all replicas of the cluster, by id. Undefined: not checked, as in tools. */
  readonly addresses?: readonly string[];
  /** The log has changed the members: the addresses are where one may ask for them, and any others do as well. */
  readonly areSeeds?: boolean;
}

/** Content of the file. */
export interface StoredPromises {
  readonly sequence: number;
  readonly state: HardState;
  /** Of the directory; undefined if an older release wrote the file. */
  readonly identity: string | undefined;
  /**
   * Addresses of all replicas in the cluster file when this was written; undefined if an older release wrote it, which
   * did not keep them.
   */
  readonly addresses: readonly string[] | undefined;
  /** The entry that made the members to which what is known of other replicas belongs. */
  readonly membersIndex: number;
  /** Of the record. */
  readonly format: number;
}

const writeAt = promisify(write);
const syncData = promisify(fdatasync);
const openFile = promisify(open);

/** On Linux a write returns when its bytes are durable: one turn in libuv's pool instead of two (files.ts). */
const WRITES_THROUGH = process.platform === 'linux';
const THROUGH = WRITES_THROUGH ? constants.O_DSYNC : 0;

export class HardStateFile {
  private readonly files: DirectoryFiles;
  private readonly image = new Uint8Array(HARD_STATE_BYTES);
  private sequence = 0;
  /** See StoredPromises; also undefined if there has never been a file. */
  addresses: readonly string[] | undefined;
  /** The state on disk; undefined if there has never been one. */
  private stored: HardState | undefined;
  /** The identity on disk; undefined before the first write that has one. */
  private storedIdentity: string | undefined;
  private drawn: string | undefined;
  /** That of the file. */
  private format: number = FORMATS.hardState.written;
  private fd: number | undefined;

  private constructor(
    private readonly path: string,
    private readonly directory: string,
    private readonly owner: Owner,
    private readonly hash: Hash64,
    /** What the file `members` holds. */
    public members: Uint8Array | undefined,
    /** What the file `joining` holds; undefined: there is none. */
    private joining: string | undefined,
  ) {
    this.files = new DirectoryFiles(directory);
  }

  /**
   * Opens the hard state in `directory`, which exists and is locked by this process; creates nothing before the first
   * `write`.
   *
   * Throws JitPaxosError `hard-state-corrupt`, `members-corrupt`, `data-directory-foreign` or `data-directory-unusable`.
   * @param members those of the file `members` beside it
   * @param joining the identity in the file `joining` beside it
   */
  static open(directory: string, owner: Owner, hash: Hash64, members?: Uint8Array, joining?: string): HardStateFile {
    const path = join(directory, HARD_STATE_FILE);
    const file = new HardStateFile(path, directory, owner, hash, members, joining);
    if (!existsSync(path)) return file;
    try {
      file.fd = openSync(path, constants.O_RDWR | THROUGH);
      const stat = fstatSync(file.fd);
      if (!stat.isFile()) throw new Error(`it is ${kindOf(stat)}, not a regular file`); // reading would not end
      file.load(file.fd, stat.size);
      return file;
    } catch (error) {
      file.close();
      throw error instanceof JitPaxosError ? error : unusable(path, error);
    }
  }

  /** The state that the replica last made durable; undefined on the very first start. */
  get state(): HardState | undefined {
    return this.stored;
  }

  /** The identity of the directory; undefined until it is durable. */
  get identity(): string | undefined {
    return this.storedIdentity;
  }

  /** The same, or what it will be. */
  get ownIdentity(): string {
    return (this.drawn ??= this.storedIdentity ?? this.joining ?? drawIdentity(() => randomBytes(4).readInt32BE()));
  }

  /**
   * Resolves when the state is durable. One write at a time. Rejects with JitPaxosError `storage-failed`; do not use the
   * file afterwards.
   */
  async write(state: HardState): Promise<void> {
    const { ownIdentity: identity } = this;
    try {
      await this.writeMembers(state.members);
      const { image, owner, hash, fd } = this;
      const before = this.format;
      this.format = formatFor(state, before);
      const bytes = encodeHardState(image, state, identity, ++this.sequence, owner, hash, this.format);
      if (fd === undefined || before === MEMBERS_BEHIND_RECORD_FORMAT) await this.create(bytes);
      else await this.writeImage(fd, bytes);
      // The promises are durable, and hold the identity.
      if (this.joining !== undefined) await removeJoining(this.files);
    } catch (error) {
      throw new JitPaxosError(
        'storage-failed',
        `${this.path} cannot be written (${messageOf(error)}); check the disk, then start the replica again`,
        error,
      );
    }
    this.stored = { ...state };
    this.storedIdentity = identity;
    this.joining = undefined;
  }

  /** Not while a write is under way. */
  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  /** Rule S, C2 (members-file.ts): before the promises. */
  private async writeMembers(members: Uint8Array | undefined): Promise<void> {
    if (members === undefined || membersIndex(members) === membersIndex(this.members)) return;
    const list = listToStore(members, this.members, this.owner.addresses);
    if (list === undefined) return;
    await writeMembers(this.files, list, this.owner, this.hash);
    this.members = members;
  }

  /** A new file, in the place of the one that there is. */
  private async create(bytes: number): Promise<void> {
    await writeWhole(this.files, HARD_STATE_FILE, this.image.subarray(0, bytes));
    this.close();
    this.fd = await openFile(this.path, constants.O_RDWR | THROUGH);
  }

  private async writeImage(fd: number, bytes: number): Promise<void> {
    for (let written = 0; written < bytes; )
      written += (await writeAt(fd, this.image, written, bytes - written, written)).bytesWritten;
    if (!WRITES_THROUGH) await syncData(fd);
  }

  private load(fd: number, fileBytes: number): void {
    const bytes = new Uint8Array(Math.min(fileBytes, HARD_STATE_BYTES));
    for (let at = 0; at < bytes.length; ) {
      const count = this.read(fd, bytes, at);
      if (count === 0) throw new Error(`it ends at byte ${at}`);
      at += count;
    }
    const newest = decodeHardState(bytes, this.owner, this.hash, this.path);
    checkMembersBeside(newest.membersIndex, this.members, this.directory);
    this.sequence = newest.sequence;
    this.stored = withMembers(newest.state, newest.membersIndex, this.members);
    this.storedIdentity = newest.identity;
    this.addresses = newest.addresses;
    this.format = newest.format;
  }

  private read(fd: number, bytes: Uint8Array, at: number): number {
    try {
      return readSync(fd, bytes, at, bytes.length - at, at);
    } catch (error) {
      throw new UnreadableError(this.path, at, error as Error);
    }
  }
}

/** The format in which a state is written. @param before that of the file so far */
export function formatFor({ members }: HardState, before: number): number {
  const isAsEver = membersIndex(members) === 0 && before === FORMATS.hardState.written;
  return isAsEver ? before : MEMBERS_HARD_STATE_FORMAT;
}

/**
 * Writes the content of the file into `image`, HARD_STATE_BYTES long, and returns how many bytes of it must be written,
 * in one write.
 * @param format as `formatFor` says
 */
export function encodeHardState(
  image: Uint8Array,
  state: HardState,
  identity: string,
  sequence: number,
  owner: Owner,
  hash: Hash64,
  format: number,
): number {
  const record = image.subarray(0, SLOT_BYTES);
  const length = encodeSlot(record, state, identity, sequence, owner, hash, format);
  image.set(record, SLOT_BYTES);
  return SLOT_BYTES + length;
}

/** Returns how many bytes of the slot it uses. */
function encodeSlot(
  record: Uint8Array,
  state: HardState,
  identity: string,
  sequence: number,
  owner: Owner,
  hash: Hash64,
  format: number,
): number {
  record.fill(0);
  writeI32(record, 0, MAGIC);
  writeI32(record, AT_VERSION, format);
  writeIndex(record, AT_SEQUENCE, sequence);
  writeI32(record, AT_CLUSTER, owner.clusterHi);
  writeI32(record, AT_CLUSTER + 4, owner.clusterLo);
  writeI32(record, AT_REPLICA, owner.replica);
  writeI32(record, AT_VIEW, state.view);
  writeI32(record, AT_LOG_VIEW, state.logView);
  writeI32(record, AT_INCARNATION, state.incarnation);
  writeHex(record, AT_IDENTITY, identity);
  const members = membersIndex(onDisk(state.members));
  const version = format === MEMBERS_HARD_STATE_FORMAT ? 2 : 1;
  if (version === 2) writeIndex(record, AT_MEMBERS, members);
  hash.hash64(record, 0, AT_CHECKSUM, record, AT_CHECKSUM);
  const addresses = owner.addresses ?? (version === 2 ? [] : undefined);
  if (addresses === undefined) return RECORD_BYTES;
  const at = PEERS_LAYOUTS[version];
  writeI32(record, AT_PEERS, PEERS_MAGIC);
  writeI32(record, AT_PEERS + 4, version);
  writeIndex(record, AT_PEERS_SEQUENCE, sequence);
  writeI32(record, AT_REPLICAS, addresses.length);
  state.known?.slice(0, at.places).forEach((known, replica) => writeI32(record, at.known + 4 * replica, known));
  state.lives?.slice(0, at.places).forEach((life, replica) => writeI32(record, at.lives + 4 * replica, life));
  if (version === 2) writeIndex(record, at.members, members);
  const list = Buffer.from(JSON.stringify(addresses));
  invariant(
    addresses.length <= MAX_REPLICAS && at.list + list.length <= AT_PEERS_CHECKSUM,
    'the addresses of a cluster fit a slot of the hard state',
  );
  writeI32(record, at.listLength, list.length);
  record.set(list, at.list);
  hash.hash64(record, AT_PEERS, AT_PEERS_CHECKSUM - AT_PEERS, record, AT_PEERS_CHECKSUM);
  return SLOT_BYTES;
}

/**
 * The promises of the newest intact slot. Throws JitPaxosError `hard-state-corrupt`, `data-directory-foreign`,
 * `data-directory-unusable`, or `cluster-file-changed` if the owner's addresses belong to other replicas.
 * @param path for messages
 */
export function decodeHardState(bytes: Uint8Array, owner: Owner, hash: Hash64, path: string): StoredPromises {
  const [record, other] = intactSlots(bytes, hash, path);
  if (record === undefined) {
    throw new JitPaxosError(
      'hard-state-corrupt',
      `${path} has no intact copy of the replica's promises, so it must not take part under its old identity; check the disk and restore the file if you can. ` +
        `${promisesLost(owner.areSeeds === true, owner.replica)}: do not delete the file alone`,
    );
  }
  checkOwner(path, owner, ownerIn(record));
  const identity = readHex(record, AT_IDENTITY);
  const format = readI32(record, AT_VERSION);
  const peers = peersIn(record, hash) ?? olderPeers(record, other, hash);
  if (owner.addresses !== undefined && peers !== undefined && peers.addresses.length > 0 && owner.areSeeds !== true)
    checkAddresses(path, peers.addresses, owner.addresses);
  return {
    sequence: readIndex(record, AT_SEQUENCE),
    state: {
      view: readI32(record, AT_VIEW),
      logView: readI32(record, AT_LOG_VIEW),
      incarnation: readI32(record, AT_INCARNATION),
      ...(peers === undefined ? {} : { known: peers.known, lives: peers.lives }),
    },
    identity: identity === NO_IDENTITY ? undefined : identity,
    addresses: peers?.addresses.length === 0 ? undefined : peers?.addresses,
    membersIndex: format === MEMBERS_HARD_STATE_FORMAT ? readIndex(record, AT_MEMBERS) : (peers?.membersIndex ?? 0),
    format,
  };
}

/** Those of them that are in the file `members` as well. */
function onDisk(members: Uint8Array | undefined): Uint8Array | undefined {
  return members === undefined || !areStored(members) ? undefined : members;
}

/**
 * Rule S, C2 (members-file.ts): promises never stand beside members that are older. Throws JitPaxosError
 * `members-corrupt` if they do: somebody took the file away, or put an old one in its place.
 * @param known the entry that made the members that these promises were written with
 */
export function checkMembersBeside(known: number, members: Uint8Array | undefined, directory: string): void {
  const found = membersIndex(members);
  if (found >= known) return;
  throw membersLost(
    `${directory}/${MEMBERS_FILE}`,
    `${members === undefined ? 'is missing' : `is an old one, with the members that entry ${found} made`}, and the promises beside it were written with those that entry ${known} made`,
  );
}

/** The hard state beside these members. What it knows of other replicas is left out if it belongs to other members. */
export function withMembers(state: HardState, knownOf: number, members: Uint8Array | undefined): HardState {
  if (members === undefined) return state;
  if (knownOf === membersIndex(members)) return { ...state, members };
  const { view, logView, incarnation, isEcho } = state;
  return { view, logView, incarnation, members, ...(isEcho === undefined ? {} : { isEcho }) };
}

/** What a slot has of the others behind its record. */
interface Peers {
  readonly known: readonly number[];
  readonly lives: readonly number[];
  readonly addresses: readonly string[];
  readonly membersIndex: number;
}

/**
 * What the other slot has of the others, for a record behind which a crash tore it. It may be from the write before:
 * incarnations only grow, so old ones are true as well. Undefined if it is damaged too, or belongs to other members.
 */
function olderPeers(record: Uint8Array, other: Uint8Array | undefined, hash: Hash64): Peers | undefined {
  const peers = other === undefined ? undefined : peersIn(other, hash);
  const members = readI32(record, AT_VERSION) === MEMBERS_HARD_STATE_FORMAT ? readIndex(record, AT_MEMBERS) : 0;
  return peers?.membersIndex === members ? peers : undefined;
}

/** Undefined if it is missing, damaged, or not of the write that wrote the record. */
function peersIn(slot: Uint8Array, hash: Hash64): Peers | undefined {
  if (slot.length < SLOT_BYTES || readI32(slot, AT_PEERS) !== PEERS_MAGIC) return undefined;
  const version = readI32(slot, AT_PEERS + 4);
  if (version !== 1 && version !== 2) return undefined;
  const at = PEERS_LAYOUTS[version];
  if (
    !holds(slot, AT_PEERS, AT_PEERS_CHECKSUM - AT_PEERS, AT_PEERS_CHECKSUM, hash) ||
    readIndex(slot, AT_PEERS_SEQUENCE) !== readIndex(slot, AT_SEQUENCE)
  )
    return undefined;
  const addresses = JSON.parse(
    Buffer.from(slot.subarray(at.list, at.list + readI32(slot, at.listLength))).toString(),
  ) as string[];
  const length = version === 1 ? addresses.length : at.places;
  const numbers = (from: number): number[] => Array.from({ length }, (_, replica) => readI32(slot, from + 4 * replica));
  return {
    known: numbers(at.known),
    lives: numbers(at.lives),
    addresses,
    membersIndex: version === 1 ? 0 : readIndex(slot, at.members),
  };
}

/**
 * The owner according to the file's content; undefined if no slot is intact. Throws JitPaxosError
 * `data-directory-unusable`.
 */
export function ownerOfHardState(bytes: Uint8Array, hash: Hash64): Owner | undefined {
  const [record] = intactSlots(bytes, hash, HARD_STATE_FILE);
  return record === undefined ? undefined : ownerIn(record);
}

function ownerIn(record: Uint8Array): Owner {
  return {
    clusterHi: readI32(record, AT_CLUSTER),
    clusterLo: readI32(record, AT_CLUSTER + 4),
    replica: readI32(record, AT_REPLICA),
  };
}

/** The slots with an intact record, the newest first. */
function intactSlots(bytes: Uint8Array, hash: Hash64, path: string): readonly Uint8Array[] {
  return [0, SLOT_BYTES]
    .map((at) => bytes.subarray(at, at + SLOT_BYTES))
    .filter((slot) => isWhole(slot, hash, path))
    .sort((a, b) => readIndex(b, AT_SEQUENCE) - readIndex(a, AT_SEQUENCE));
}

function isWhole(bytes: Uint8Array, hash: Hash64, path: string): boolean {
  if (bytes.length < RECORD_BYTES || readI32(bytes, 0) !== MAGIC || !holds(bytes, 0, AT_CHECKSUM, AT_CHECKSUM, hash))
    return false;
  const format = readI32(bytes, AT_VERSION);
  checkFormat(FORMATS.hardState, format, path);
  return format !== MEMBERS_BEHIND_RECORD_FORMAT || peersIn(bytes, hash) !== undefined;
}

function holds(bytes: Uint8Array, offset: number, length: number, checksumAt: number, hash: Hash64): boolean {
  const digest = new Uint8Array(8);
  hash.hash64(bytes, offset, length, digest, 0);
  return readI32(digest, 0) === readI32(bytes, checksumAt) && readI32(digest, 4) === readI32(bytes, checksumAt + 4);
}

/** Throws JitPaxosError `data-directory-foreign` if the file at `path` names another owner. */
export function checkOwner(path: string, owner: Owner, found: Owner): void {
  if (found.clusterHi === owner.clusterHi && found.clusterLo === owner.clusterLo && found.replica === owner.replica)
    return;
  throw new JitPaxosError(
    'data-directory-foreign',
    `${path} belongs to replica ${found.replica} of cluster ${toHex(found.clusterHi, found.clusterLo)}, not to replica ${owner.replica} of cluster ${toHex(owner.clusterHi, owner.clusterLo)}; give each replica its own data directory`,
  );
}

/** Makes creations and renames in a directory durable. */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export function unusable(path: string, error: unknown): JitPaxosError {
  return new JitPaxosError(
    'data-directory-unusable',
    `${path} cannot be used (${messageOf(error)}); the data directory has to be a directory that this user may read and write`,
    error,
  );
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
