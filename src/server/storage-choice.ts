/** Chooses a replica's storage by durability, locks the directory, and reads what is there. */
import { randomInt } from 'node:crypto';
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../native/hash64.js';
import type { Limits } from '../protocol/config.js';
import { UNKEYED_FINGERPRINT } from '../protocol/contract.js';
import { misfitOf } from '../protocol/log/log.js';
import { SNAPSHOT_FORMAT } from '../protocol/log/snapshots.js';
import { bootId, DirectoryLock } from '../storage/directory-lock.js';
import { refuseDiverged } from '../storage/divergence-mark.js';
import { DurableStorage } from '../storage/durable-storage.js';
import { DirectoryFiles } from '../storage/files.js';
import { checkFormat } from '../storage/formats.js';
import { movedReplicas } from '../storage/bootstrap-list.js';
import { HardStateFile, unusable, type Owner } from '../storage/hard-state.js';
import { encodeMembership } from '../protocol/membership/membership.js';
import { membershipOf } from '../protocol/membership/member-lists.js';
import { readJoining } from '../storage/joining-file.js';
import { readMembers } from '../storage/members-file.js';
import { NO_BOOT_ID, snapshotName } from '../storage/log-format.js';
import { readStored, type StoredLog } from '../storage/log-reader.js';
import { MemoryStorage, VolatileHardState } from '../storage/memory-storage.js';
import type { MemberList } from '../wire/member-list.js';
import { readI32 } from '../wire/u64.js';
import { addressText, type Cluster } from '../host/cluster-config.js';
import type { Logger } from '../host/logger.js';
import { show } from '../host/options.js';
import { DURABILITIES, type Durability } from '../storage/durability.js';
import { refuseTaken } from './host-identity.js';

/**
 * The default for a replica with a data directory. Not `memory`: if all replicas of a cluster stop, as at night,
 * everything would be lost. `fsync` only if `os` is not possible.
 */
export const DEFAULT_DURABILITY: Durability = bootDigits() === NO_BOOT_ID ? 'fsync' : 'os';

/** Bounds of the size of a log segment. */
export const SEGMENT_BYTES_MIN = 1 << 16;
export const SEGMENT_BYTES_MAX = 1 << 30;

export interface OpenedStorage {
  readonly storage: MemoryStorage | DurableStorage;
  readonly lock: DirectoryLock | undefined;
  /** The members that the data directory remembers. Undefined: those of the cluster file. */
  readonly members: MemberList | undefined;
}

/** Throws JitPaxosError `option-invalid`. */
export function checkDurability(durability: unknown, data: unknown): void {
  if (durability !== undefined && !DURABILITIES.includes(durability as Durability)) {
    throw new JitPaxosError(
      'option-invalid',
      `Replica.start: durability is ${show(durability)}; it has to be one of "${DURABILITIES.join('", "')}"`,
    );
  }
  if (durability !== undefined && durability !== 'memory' && data === undefined) {
    throw new JitPaxosError(
      'option-invalid',
      `Replica.start: durability "${String(durability)}" keeps the log on disk, so the option data is needed: the path of a directory for this replica only`,
    );
  }
}

export interface StorageOptions {
  /** The data directory; undefined: the replica has none, and keeps everything in memory. */
  readonly data: string | undefined;
  readonly durability: Durability;
  readonly cluster: Cluster;
  readonly limits: Limits;
  /** The replica's index. */
  readonly id: number;
  readonly hash: Hash64;
  readonly logger: Logger;
  /** Default: see DurableStorage. */
  readonly segmentBytes?: number | undefined;
  /** The boot id as 32 hex digits. Default: the host's. */
  readonly boot?: string | undefined;
  /** The fingerprint of what chains the log. Default: that of the unkeyed chain. */
  readonly chain?: number | undefined;
}

/** Throws JitPaxosError `data-directory-locked`, `data-directory-unusable`, `data-directory-foreign`, `chain-differs`, `cluster-file-changed`, `hard-state-corrupt`, `hard-state-missing`, `members-corrupt`, `replica-id-taken`, `boot-id-unknown`, `limits-too-small`, `log-diverged`, `state-diverged`, `restore-missing` or `option-invalid`. */
export async function openStorage({
  data,
  durability,
  cluster,
  limits,
  id,
  hash,
  logger,
  segmentBytes,
  boot = bootDigits(),
  chain = UNKEYED_FINGERPRINT,
}: StorageOptions): Promise<OpenedStorage> {
  if (cluster.restored !== undefined && durability === 'memory') {
    throw new JitPaxosError(
      'option-invalid',
      'Replica.start: the cluster began with a backup, which is a log on disk, and durability "memory" would lose it; use "os" or "fsync"',
    );
  }
  if (data === undefined) {
    logger.info('replica.volatile', {
      replica: id,
      next: 'without a data directory this replica must not be started again while its cluster is in use',
    });
    return { storage: new MemoryStorage(new VolatileHardState()), lock: undefined, members: undefined };
  }
  if (durability === 'os' && boot === NO_BOOT_ID) {
    throw new JitPaxosError(
      'boot-id-unknown',
      'durability "os" has to know whether the host was restarted after the log was written, and this system has no boot id (/proc/sys/kernel/random/boot_id cannot be read); use durability "fsync", which needs none, or make that file readable',
    );
  }
  const owned = ownerOf(cluster, id);
  const lock = DirectoryLock.acquire(data);
  try {
    const files = new DirectoryFiles(data);
    const members = await readMembers(files, { owner: owned, hash, directory: data });
    // From the first entry that changes the members on, the cluster file only says where one may ask for them.
    const areSeeds = members !== undefined && members.index > 0;
    const known = areSeeds ? encodeMembership(membershipOf(members)) : undefined;
    const owner = { ...owned, areSeeds };
    // A host that joins was listed before it wrote anything but these two files.
    const identity = await readJoining(files, owned, hash, data);
    const listed = areSeeds ? members.hosts.find((host) => host.id === id)?.identity : undefined;
    if (durability === 'memory') {
      const promises = HardStateFile.open(data, owner, hash, known, identity);
      // Another durability may have been used here before.
      if (promises.state === undefined) await readStored(files, { owner, hash, bootId: boot, directory: data });
      refuseTaken(id, listed, promises.state === undefined ? identity : promises.identity, data);
      if (!areSeeds) sayMoved(promises.addresses, owner, logger);
      return { storage: new MemoryStorage(promises), lock, members };
    }
    refuseDiverged(data);
    const storage = await DurableStorage.open({
      files,
      directory: data,
      owner,
      hash,
      chain,
      mode: durability,
      bootId: boot,
      members: known,
      identity,
      ...(segmentBytes === undefined ? {} : { segmentBytes }),
      nowMs: () => performance.now(),
      random: () => randomInt(-0x80000000, 0x7fffffff),
      later: (delayMs, callback) => void setTimeout(callback, delayMs).unref(),
    });
    const { lost, torn, log, hardState, addresses } = storage.stored;
    refuseTaken(id, listed, hardState === undefined ? identity : storage.stored.identity, data);
    if (cluster.restored !== undefined && hardState === undefined) {
      throw new JitPaxosError(
        'restore-missing',
        `the cluster began with backup ${cluster.restored}, and ${data} is empty; before its first start, give it the backup with jitpaxos restore. If this replica was in use and its directory was lost, do not; set up a new cluster`,
      );
    }
    if (log !== undefined) {
      const { snapshot } = log;
      if (snapshot !== undefined)
        checkFormat(
          SNAPSHOT_FORMAT,
          readI32(snapshot.bytes, 0),
          `the content of ${data}/${snapshotName(snapshot.index, snapshot.chainHi, snapshot.chainLo)}`,
        );
      checkFits(log, limits, data);
    }
    if (!areSeeds) sayMoved(addresses, owner, logger);
    if (lost !== undefined)
      logger.warn('log.lost', {
        replica: id,
        why: lost,
        next: 'nothing, as long as a majority has its log: the others refill it',
      });
    else if (torn !== undefined)
      logger.info('log.torn', {
        replica: id,
        ...torn,
        next: 'nothing: a crash cut off a write that was not acknowledged',
      });
    return { storage, lock, members };
  } catch (error) {
    lock.release();
    throw error instanceof JitPaxosError ? error : unusable(data, error);
  }
}

/** The owner of a data directory. */
export function ownerOf(cluster: Cluster, replica: number): Owner {
  return { clusterHi: cluster.idHi, clusterLo: cluster.idLo, replica, addresses: cluster.replicas.map(addressText) };
}

function sayMoved(before: readonly string[] | undefined, { replica, addresses }: Owner, logger: Logger): void {
  for (const moved of movedReplicas(before ?? addresses!, addresses!)) {
    logger.warn('cluster.address-changed', {
      replica,
      moved: moved.replica,
      from: moved.from,
      to: moved.to,
      next: 'nothing, if that replica moved there with its data directory; otherwise put the cluster file back, on all hosts',
    });
  }
}

/** Throws JitPaxosError `limits-too-small`. `where` is for the message. */
export function checkFits(log: StoredLog, limits: Limits, where: string): void {
  const misfit = misfitOf(log.entries, (log.snapshot?.index ?? 0) + 1, log.committed, limits);
  if (misfit !== undefined)
    throw new JitPaxosError(
      'limits-too-small',
      `the log in ${where} does not fit the cluster's limits: ${misfit}; raise that limit again, on all replicas`,
    );
}

/** The boot id as 32 hex digits; NO_BOOT_ID if the system has none. */
export function bootDigits(): string {
  const digits = bootId().replaceAll('-', '').toLowerCase();
  return /^[0-9a-f]{32}$/.test(digits) ? digits : NO_BOOT_ID;
}
