/**
 * What a replica must never forget: the views it promised and how often it was started.
 *
 * One file, two slots of 4,096 bytes, each with the same record. A write goes to the first slot, is made durable, then to
 * the second and is made durable again. The rule it guards: once `write` has returned, neither a crash at any byte
 * of a later write nor the loss of one slot can bring back an older state. A crash leaves one slot whole (the
 * new state in the first or the old one in the second); of two whole slots the newer counts. A file without a whole slot
 * is refused: a replica that forgets its promises may break the agreement, one that stays away may not.
 *
 *      0      4         8          16           24        28     32        36            40         56
 *      | JPHS | version | sequence | cluster id | replica | view | logView | incarnation | reserved | XXH3-64 of 0…55 |
 *
 * All big-endian. The file is created under another name and renamed, so that it is never seen half made.
 */
import { closeSync, existsSync, fdatasyncSync, fsyncSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { JitPaxosError } from '../errors.js';
import type { HardState } from '../protocol/contract.js';
import type { Hash64 } from '../wire/envelope.js';
import { readI32, readIndex, toHex, writeI32, writeIndex } from '../wire/u64.js';
import { checkFormat, FORMATS } from './formats.js';

export const HARD_STATE_FILE = 'hard-state';
export const SLOT_BYTES = 4096;
export const HARD_STATE_SLOTS = 2;
const MAGIC = 0x4a504853;
export const HARD_STATE_RECORD_BYTES = 64;
const HARD_STATE_BYTES = SLOT_BYTES * (HARD_STATE_SLOTS - 1) + HARD_STATE_RECORD_BYTES;
const AT_VERSION = 4;
const AT_SEQUENCE = 8;
const AT_CLUSTER = 16;
const AT_REPLICA = 24;
const AT_VIEW = 28;
const AT_LOG_VIEW = 32;
const AT_INCARNATION = 36;
const AT_CHECKSUM = 56;

/** Whose state it is: a data directory that was mounted in the wrong place must not be used. */
export interface Owner {
  readonly clusterHi: number;
  readonly clusterLo: number;
  readonly replica: number;
}

export class HardStateFile {
  private readonly record = new Uint8Array(HARD_STATE_RECORD_BYTES);
  private sequence = 0;
  /** The state on disk, undefined when there has never been one. */
  private stored: HardState | undefined;
  private fd: number | undefined;

  private constructor(
    private readonly path: string,
    private readonly directory: string,
    private readonly owner: Owner,
    private readonly hash: Hash64,
  ) {}

  /**
   * Opens the hard state in `directory`, which exists and is locked by this process; creates nothing before the first
   * `write`.
   *
   * Throws JitPaxosError `hard-state-corrupt`, `data-directory-foreign` or `data-directory-unusable`.
   */
  static open(directory: string, owner: Owner, hash: Hash64): HardStateFile {
    const path = join(directory, HARD_STATE_FILE);
    const file = new HardStateFile(path, directory, owner, hash);
    if (!existsSync(path)) return file;
    try {
      file.fd = openSync(path, 'r+');
      file.load(file.fd);
      return file;
    } catch (error) {
      file.close();
      throw error instanceof JitPaxosError ? error : unusable(path, error);
    }
  }

  /** The state as it was when the replica last made it durable; undefined on the very first start. */
  get state(): HardState | undefined {
    return this.stored;
  }

  /** Returns when the state is durable. Throws JitPaxosError `storage-failed`; the file must not be used afterwards. */
  write(state: HardState): void {
    try {
      encodeHardState(this.record, state, ++this.sequence, this.owner, this.hash);
      if (this.fd === undefined) this.create();
      else for (let slot = 0; slot < HARD_STATE_SLOTS; slot++) this.writeSlot(this.fd, slot);
    } catch (error) {
      throw new JitPaxosError('storage-failed', `${this.path} cannot be written (${messageOf(error)}); see to the disk, then start the replica again`, error);
    }
    this.stored = { view: state.view, logView: state.logView, incarnation: state.incarnation };
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  private create(): void {
    const temporary = `${this.path}.new`;
    const fd = openSync(temporary, 'w+', 0o600);
    this.fd = fd;
    for (let slot = 0; slot < HARD_STATE_SLOTS; slot++) this.writeSlot(fd, slot);
    renameSync(temporary, this.path);
    syncDirectory(this.directory);
  }

  private writeSlot(fd: number, slot: number): void {
    let written = 0;
    while (written < HARD_STATE_RECORD_BYTES) written += writeSync(fd, this.record, written, HARD_STATE_RECORD_BYTES - written, slot * SLOT_BYTES + written);
    fdatasyncSync(fd);
  }

  private load(fd: number): void {
    const bytes = new Uint8Array(HARD_STATE_BYTES);
    const newest = decodeHardState(bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)), this.owner, this.hash, this.path);
    this.sequence = newest.sequence;
    this.stored = newest.state;
  }
}

/** Writes the record of a slot into `record`, HARD_STATE_RECORD_BYTES long. */
export function encodeHardState(record: Uint8Array, state: HardState, sequence: number, owner: Owner, hash: Hash64): void {
  record.fill(0);
  writeI32(record, 0, MAGIC);
  writeI32(record, AT_VERSION, FORMATS.hardState.written);
  writeIndex(record, AT_SEQUENCE, sequence);
  writeI32(record, AT_CLUSTER, owner.clusterHi);
  writeI32(record, AT_CLUSTER + 4, owner.clusterLo);
  writeI32(record, AT_REPLICA, owner.replica);
  writeI32(record, AT_VIEW, state.view);
  writeI32(record, AT_LOG_VIEW, state.logView);
  writeI32(record, AT_INCARNATION, state.incarnation);
  hash.hash64(record, 0, AT_CHECKSUM, record, AT_CHECKSUM);
}

/**
 * The newest whole slot of the file's content. Throws JitPaxosError `hard-state-corrupt`, `data-directory-foreign` or
 * `data-directory-unusable`; `path` is for the message.
 */
export function decodeHardState(bytes: Uint8Array, owner: Owner, hash: Hash64, path: string): { readonly sequence: number; readonly state: HardState } {
  const record = newestSlot(bytes, hash, path);
  if (record === undefined) {
    throw new JitPaxosError(
      'hard-state-corrupt',
      `${path} has no intact copy of the replica's promises, so it must not take part under its old identity; check the disk and restore the file if you can. ` +
        'If it is lost, do not delete it to start afresh while the cluster is in use: stop, with all clients, and set up the cluster anew from the data of the others',
    );
  }
  checkOwner(path, owner, ownerIn(record));
  return { sequence: readIndex(record, AT_SEQUENCE), state: { view: readI32(record, AT_VIEW), logView: readI32(record, AT_LOG_VIEW), incarnation: readI32(record, AT_INCARNATION) } };
}

/** Whose hard state the file's content is; undefined when no slot is whole. Throws JitPaxosError `data-directory-unusable`. */
export function ownerOfHardState(bytes: Uint8Array, hash: Hash64): Owner | undefined {
  const record = newestSlot(bytes, hash, HARD_STATE_FILE);
  return record === undefined ? undefined : ownerIn(record);
}

function ownerIn(record: Uint8Array): Owner {
  return { clusterHi: readI32(record, AT_CLUSTER), clusterLo: readI32(record, AT_CLUSTER + 4), replica: readI32(record, AT_REPLICA) };
}

function newestSlot(bytes: Uint8Array, hash: Hash64, path: string): Uint8Array | undefined {
  let newest: Uint8Array | undefined;
  for (let slot = 0; slot < HARD_STATE_SLOTS; slot++) {
    const candidate = bytes.subarray(slot * SLOT_BYTES, slot * SLOT_BYTES + HARD_STATE_RECORD_BYTES);
    if (isWhole(candidate, hash, path) && (newest === undefined || readIndex(candidate, AT_SEQUENCE) > readIndex(newest, AT_SEQUENCE))) newest = candidate;
  }
  return newest;
}

function isWhole(bytes: Uint8Array, hash: Hash64, path: string): boolean {
  if (bytes.length !== HARD_STATE_RECORD_BYTES || readI32(bytes, 0) !== MAGIC) return false;
  const digest = new Uint8Array(8);
  hash.hash64(bytes, 0, AT_CHECKSUM, digest, 0);
  if (readI32(digest, 0) !== readI32(bytes, AT_CHECKSUM) || readI32(digest, 4) !== readI32(bytes, AT_CHECKSUM + 4)) return false;
  checkFormat(FORMATS.hardState, readI32(bytes, AT_VERSION), path);
  return true;
}

/** Throws JitPaxosError `data-directory-foreign` when the file at `path` says that it is another's. */
export function checkOwner(path: string, owner: Owner, found: Owner): void {
  if (found.clusterHi === owner.clusterHi && found.clusterLo === owner.clusterLo && found.replica === owner.replica) return;
  throw new JitPaxosError(
    'data-directory-foreign',
    `${path} belongs to replica ${found.replica} of cluster ${toHex(found.clusterHi, found.clusterLo)}, not to replica ${owner.replica} of cluster ${toHex(owner.clusterHi, owner.clusterLo)}; give each replica a data directory of its own`,
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
  return new JitPaxosError('data-directory-unusable', `${path} cannot be used (${messageOf(error)}); the data directory has to be a directory that this user may read and write`, error);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
