/**
 * A backup: the committed state of one replica in one file, from which another cluster can start.
 *
 * The rules. It holds what the disk knows to be committed and nothing else, so it is a state that the cluster was in.
 * It is written under another name, synced and renamed, so a file with its final name is complete. It never becomes a
 * replica's own log again: a replica that came back with an older log than it acknowledged could vote with it. So a
 * backup is restored to a *new* cluster, whose file names the backup, and to all of its replicas.
 *
 *     0 4 8 16 20 28 36 44 52
 *     | JPBK | version | cluster id | replica | base index | chain | snapshot length | entries' length | …
 *     52 60 68
 *     | last index | checksum of the body | checksum of 0…67 | body: snapshot, then the entries behind it, each: length u32, entry
 *
 * Without a snapshot there is no chain to begin with. Then its place says which features were on before the first entry,
 * because a cluster file says it and no entry: bit 31, which means that this is known, and the mask of the features.
 * Earlier releases wrote 0 there, and do not look at it.
 *
 * All big-endian; checksums are XXH3-64. The last checksum is the backup's id. Checksums find damage, and nothing else:
 * anybody can compute them. The seal, a record behind the last entry, says who made the backup (backup-seal.ts).
 *
 * Nothing is taken from a backup before all of it was checked (backup-check.ts): its bytes may be anybody's.
 */
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../native/hash64.js';
import type { PersistBatch } from '../protocol/contract.js';
import { unknownIn } from '../protocol/log/features.js';
import { featuresIn } from '../protocol/log/snapshots.js';
import { readI32, readIndex, toHex, writeI32, writeIndex } from '../wire/u64.js';
import { MAX_INDEX, snapshotBytesFault, takeEntries } from './backup-check.js';
import { holdsSeal, readSeal, SEAL_BYTES, writeSeal, type BackupKey } from './backup-seal.js';
import { DurableStorage, type DurableStorageOptions } from './durable-storage.js';
import { formatRefusal, FORMATS, isRead } from './formats.js';
import type { Owner } from './hard-state.js';
import { ENTRY_LENGTH_BYTES } from './log-format.js';
import type { StoredLog } from './log-reader.js';

const MAGIC = 0x4a50424b;
/** The fields that a seal covers: all in front of the checksums. */
const FIELDS_BYTES = 60;
const AT_BODY_CHECKSUM = 60;
const AT_CHECKSUM = 68;
const HEADER_BYTES = 76;
const AT_FEATURES = 28;
const FEATURES_KNOWN = 1 << 31;
/** Longest backup: Node reads no longer file as a whole. */
export const BACKUP_BYTES_MAX = 2 ** 31 - 1;

export interface Backup {
  /** 16 hex digits, derived from the content; a cluster file names a backup by it. */
  readonly id: string;
  /** The owner of the directory that was backed up. */
  readonly owner: Owner;
  /** Snapshot and entries; all of them committed. */
  readonly log: StoredLog;
  readonly lastIndex: number;
  /** That were on behind the snapshot, or before the first entry, a mask; undefined if the backup does not say it. */
  readonly features: number | undefined;
  /** Id of the key that its seal names (backup-seal.ts), which is not checked yet; undefined if it has no seal. */
  readonly sealedBy: number | undefined;
}

/**
 * Throws JitPaxosError `backup-unusable` if it would be longer than what can be read again.
 * @param log the log as found on disk; entries not known to be committed are left out
 * @param key seals the backup; undefined in a cluster without keys
 * @param features with which the cluster began, a mask; undefined if that is not known
 */
export function encodeBackup(
  log: StoredLog,
  owner: Owner,
  hash: Hash64,
  key?: BackupKey,
  features?: number,
): Uint8Array {
  const base = log.snapshot?.index ?? 0;
  const entries = log.entries.slice(0, Math.max(0, log.committed - base));
  const snapshotBytes = log.snapshot?.bytes.length ?? 0;
  const sealBytes = key === undefined ? 0 : ENTRY_LENGTH_BYTES + SEAL_BYTES;
  const entriesBytes = entries.reduce((sum, entry) => sum + ENTRY_LENGTH_BYTES + entry.length, sealBytes);
  const length = HEADER_BYTES + snapshotBytes + entriesBytes;
  if (length > BACKUP_BYTES_MAX)
    throw new JitPaxosError(
      'backup-unusable',
      `the backup would have ${length} bytes, and at most ${BACKUP_BYTES_MAX} can be read again; delete data that is not needed, or read it out through a client`,
    );
  const bytes = new Uint8Array(length);
  writeI32(bytes, 0, MAGIC);
  writeI32(bytes, 4, FORMATS.backup.written);
  writeI32(bytes, 8, owner.clusterHi);
  writeI32(bytes, 12, owner.clusterLo);
  writeI32(bytes, 16, owner.replica);
  writeIndex(bytes, 20, base);
  writeI32(bytes, 28, log.snapshot?.chainHi ?? 0);
  writeI32(bytes, 32, log.snapshot?.chainLo ?? 0);
  if (log.snapshot === undefined && features !== undefined) writeI32(bytes, AT_FEATURES, features | FEATURES_KNOWN);
  writeIndex(bytes, 36, snapshotBytes);
  writeIndex(bytes, 44, entriesBytes);
  writeIndex(bytes, 52, base + entries.length);
  if (log.snapshot !== undefined) bytes.set(log.snapshot.bytes, HEADER_BYTES);
  let at = HEADER_BYTES + snapshotBytes;
  for (const entry of entries) {
    writeI32(bytes, at, entry.length);
    bytes.set(entry, at + ENTRY_LENGTH_BYTES);
    at += ENTRY_LENGTH_BYTES + entry.length;
  }
  if (key !== undefined) {
    writeI32(bytes, at, SEAL_BYTES);
    writeSeal(bytes, FIELDS_BYTES, HEADER_BYTES, at + ENTRY_LENGTH_BYTES, key);
  }
  hash.hash64(bytes, HEADER_BYTES, bytes.length - HEADER_BYTES, bytes, AT_BODY_CHECKSUM);
  hash.hash64(bytes, 0, AT_CHECKSUM, bytes, AT_CHECKSUM);
  return bytes;
}

/**
 * Throws JitPaxosError `backup-unusable`, which names `path` and the place, unless every byte is intact and a replica
 * can begin with the content. The machine's part of the snapshot, and the seal, are left to the caller.
 */
export function decodeBackup(bytes: Uint8Array, hash: Hash64, path: string): Backup {
  const refuse = (what: string, next: string): JitPaxosError =>
    new JitPaxosError('backup-unusable', `${path} ${what}; ${next}`);
  if (bytes.length < HEADER_BYTES || readI32(bytes, 0) !== MAGIC)
    throw refuse('is not a backup of jitpaxos', 'give a file that jitpaxos backup wrote');
  const damaged = (where: string): JitPaxosError =>
    refuse(`is damaged: its ${where} not as it was written`, 'use another copy of it, or another backup');
  if (!holds(bytes, 0, AT_CHECKSUM, AT_CHECKSUM, hash)) throw damaged('first 76 bytes are');
  const format = readI32(bytes, 4);
  if (!isRead(FORMATS.backup, format))
    throw new JitPaxosError('backup-unusable', `${path} ${formatRefusal(FORMATS.backup, format)}`);
  const base = readIndex(bytes, 20);
  const snapshotBytes = readIndex(bytes, 36);
  const lastIndex = readIndex(bytes, 52);
  const end = HEADER_BYTES + snapshotBytes + readIndex(bytes, 44);
  if (bytes.length !== end) throw refuse(`has ${bytes.length} bytes instead of ${end}`, 'copy it again, as a whole');
  if (!holds(bytes, HEADER_BYTES, end - HEADER_BYTES, AT_BODY_CHECKSUM, hash)) throw damaged('content is');
  // The checksums hold, so this is what somebody wrote; no disk changed it.
  const made = (fault: string): JitPaxosError =>
    refuse(`is not what a replica wrote: ${fault}`, 'find out who made it, and use another backup');
  if (!(base <= lastIndex && lastIndex <= MAX_INDEX))
    throw made(`it says that it has entries ${base + 1} to ${lastIndex}`);
  if (base === 0 && snapshotBytes > 0) throw made('it has a snapshot, and begins with the first entry');
  const snapshot =
    base === 0
      ? undefined
      : {
          index: base,
          chainHi: readI32(bytes, 28),
          chainLo: readI32(bytes, 32),
          bytes: bytes.slice(HEADER_BYTES, HEADER_BYTES + snapshotBytes),
        };
  const fault = snapshot === undefined ? undefined : snapshotBytesFault(snapshot);
  if (fault !== undefined) throw made(`its snapshot, at byte ${HEADER_BYTES}: ${fault}`);
  const said = readI32(bytes, AT_FEATURES);
  let features: number | undefined;
  if (snapshot !== undefined) features = featuresIn(snapshot);
  else if ((said & FEATURES_KNOWN) !== 0) features = said & ~FEATURES_KNOWN;
  if (features !== undefined && unknownIn(features) !== 0)
    throw refuse(
      `begins with feature ${unknownIn(features)}, which this version does not know`,
      'use the version that wrote it',
    );
  const entries: Uint8Array[] = [];
  const behind = takeEntries(bytes, HEADER_BYTES + snapshotBytes, snapshot, lastIndex - base, entries);
  if (typeof behind === 'string') throw made(behind);
  const sealedBy = behind === end ? undefined : readSeal(bytes, behind, end);
  if (behind !== end && sealedBy === undefined)
    throw made(`the ${end - behind} bytes at byte ${behind}, behind its last entry, are no seal`);
  return {
    id: toHex(readI32(bytes, AT_CHECKSUM), readI32(bytes, AT_CHECKSUM + 4)),
    owner: { clusterHi: readI32(bytes, 8), clusterLo: readI32(bytes, 12), replica: readI32(bytes, 16) },
    log: { hardState: { view: 0, logView: 0, incarnation: 0 }, snapshot, entries, committed: lastIndex, clean: true },
    lastIndex,
    features,
    sealedBy,
  };
}

/**
 * Whether the seal of a backup was made with this key. `bytes` are those that `decodeBackup` accepted, and their seal
 * names the key's id.
 */
export function isSealedWith(bytes: Uint8Array, key: BackupKey): boolean {
  return holdsSeal(bytes, FIELDS_BYTES, HEADER_BYTES, bytes.length - SEAL_BYTES, key);
}

/**
 * Creates a new data directory from a backup; its replica starts in view 0 with the backup's log. Rejects with the
 * system's errors; the directory is then unusable.
 */
export async function restoreBackup(
  backup: Pick<Backup, 'log' | 'lastIndex'>,
  options: DurableStorageOptions,
): Promise<void> {
  const { snapshot, entries, hardState } = backup.log;
  const storage = await DurableStorage.open(options);
  const first = (snapshot?.index ?? 0) + 1;
  const batch: PersistBatch = {
    hardState,
    entriesFrom: first,
    lastIndex: backup.lastIndex,
    committed: backup.lastIndex,
    snapshot,
    entryBytes: (index) => entries[index - first]!.length,
    readEntry: (index, target, offset) => {
      target.set(entries[index - first]!, offset);
      return entries[index - first]!.length;
    },
  };
  try {
    await new Promise<void>((resolve, reject) => {
      storage.events = {
        persisted: () => resolve(),
        failed: reject,
        broken: reject,
        rewrite: () => undefined,
        healed: () => undefined,
      };
      storage.persist(1, batch);
    });
  } finally {
    await storage.close();
  }
}

function holds(bytes: Uint8Array, offset: number, length: number, checksumOffset: number, hash: Hash64): boolean {
  const digest = new Uint8Array(8);
  hash.hash64(bytes, offset, length, digest, 0);
  return (
    readI32(digest, 0) === readI32(bytes, checksumOffset) && readI32(digest, 4) === readI32(bytes, checksumOffset + 4)
  );
}
