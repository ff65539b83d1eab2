/**
 * `jitpaxos backup` and `jitpaxos restore`: write the committed state of a replica to one file, and start a new cluster
 * from it. storage/backup.ts has the rule that restoring guards: a backup never becomes the log of a replica that was
 * in use. And, for a cluster with keys: its state is never anybody's. A backup that no holder of the old cluster's keys
 * sealed is restored only if the operator says so.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { randomInt } from 'node:crypto';
import { basename, dirname, resolve } from 'node:path';
import { StatusClient } from '../client/status-client.js';
import { JitPaxosError } from '../errors.js';
import { loadHash } from '../native/hash64.js';
import { KEYED_CHAIN, openChain } from '../host/chain.js';
import { loadCluster, type Cluster } from '../host/cluster-config.js';
import { loadKeys, type KeyFile } from '../host/key-file.js';
import { KEY_FILE_NAMES, keyFileBeside, openKeys } from '../host/keyring.js';
import { EchoMachine } from '../machine/echo.js';
import { KvMachine } from '../machine/kv.js';
import { dataBeside } from '../console/data-beside.js';
import { KEY_FILE_FLAG } from '../console/settings.js';
import { bootDigits, checkFits, ownerOf } from '../server/storage-choice.js';
import {
  type Backup,
  BACKUP_BYTES_MAX,
  decodeBackup,
  encodeBackup,
  isSealedWith,
  restoreBackup,
} from '../storage/backup.js';
import { writeWhole } from '../storage/write-whole.js';
import { beginMembersAnew } from '../storage/backup-members.js';
import { carryFeatures } from '../storage/backup-features.js';
import { featureNames, featuresNamed, type FeatureName } from '../protocol/log/features.js';
import { backupKey, CHAIN_SECRET_KEY, type BackupKey } from '../storage/backup-seal.js';
import { DirectoryLock } from '../storage/directory-lock.js';
import { DirectoryFiles } from '../storage/files.js';
import { findOwner } from '../storage/inspection.js';
import type { Owner } from '../storage/hard-state.js';
import { readStored } from '../storage/log-reader.js';
import { readRegularFile } from '../storage/regular-file.js';
import { unkeyedChain, type Chain } from '../protocol/contract.js';
import { machineBytes, snapshotFault, stampOf } from '../protocol/log/snapshots.js';
import { readI32, toHex } from '../wire/u64.js';
import { defineCommand, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import type { Flags } from '../console/flags.js';
import { checkDirectory, noDataDirectory } from './inspect.js';
import { checkWritable } from '../console/output-file.js';

const CLUSTER_FILE = 'cluster.json';
const ANSWER_MS = 1_000;
/** How far the clocks of hosts may be apart when a backup is restored. */
const AHEAD_MS = 86_400_000;

/** The flags of a command that takes a backup. */
export const SOURCE_FLAGS = {
  'backup-keys': {
    kind: 'text',
    value: 'FILE',
    standard: `./${KEY_FILE_NAMES.replica}, if it is of the cluster that was backed up`,
    help: "the replicas' key file of the cluster that was backed up: its keys must have sealed the backup",
  },
  unauthenticated: {
    kind: 'switch',
    help: 'take the backup although nothing proves who made it. A forged one decides what the new cluster holds',
  },
} as const satisfies Flags;

export const backup = defineCommand(
  {
    name: 'backup',
    summary:
      'Writes the committed state of a data directory (durability os or fsync) to one file, which appears whole or not at all. The replica may be running; the backup then has what its disk knew as committed at that moment.',
    positionals: ['DIR'],
    flags: {
      out: { kind: 'text', value: 'FILE', help: 'the file to write; an existing file is refused' },
      cluster: {
        kind: 'text',
        value: 'FILE',
        standard: 'cluster.json, if it is of the cluster of this directory',
        help: 'the cluster file',
      },
      'replica-keys': {
        kind: 'text',
        value: 'FILE',
        standard: `${KEY_FILE_NAMES.replica} beside the cluster file`,
        help: "the replicas' key file, in a cluster with keys: the backup is sealed, so that restoring shows who made it",
      },
    },
    examples: [
      'jitpaxos backup .jitpaxos/replica-0 --out monday.jpb',
      'jitpaxos backup /var/lib/jitpaxos/0 --cluster /etc/jitpaxos/cluster.json --out monday.jpb',
    ],
  },
  async ({ values, positionals }, output) => {
    const [directory] = positionals as [string];
    const { out } = values;
    if (out === undefined) throw new CliError('flag-invalid', '--out is missing; give the file to write');
    checkDirectory(directory);
    checkWritable('out', out);
    if (existsSync(out)) throw new CliError('file-exists', `${out} exists already; choose another name with --out`);
    const files = new DirectoryFiles(directory);
    const hash = loadHash();
    const owner = await findOwner(files, hash);
    if (owner === undefined) throw noDataDirectory(directory, 'it holds no intact file of a replica');
    const { log, lost } = await readStored(files, { owner, hash, bootId: bootDigits(), directory });
    if (log === undefined)
      throw new CliError(
        'backup-empty',
        `${directory} holds no log to back up${lost === undefined ? '' : `: ${lost}`}; back up another replica, with durability os or fsync. If no replica has its log any more, jitpaxos recover uses what is left`,
      );
    const cluster = clusterIn(values.cluster, owner);
    const keys = sealingKeys(cluster, values.cluster ?? CLUSTER_FILE, values['replica-keys'], owner);
    const sealed = typeof keys === 'object';
    const began = cluster === undefined ? undefined : featuresNamed(cluster.features);
    const bytes = encodeBackup(log, owner, hash, sealed ? sealingKey(keys) : undefined, began);
    const { id, lastIndex, features } = decodeBackup(bytes, hash, out);
    if (lastIndex === 0)
      throw new CliError(
        'backup-empty',
        `${directory} has no committed entry, so there is nothing to back up; if operations were committed, back up the primary, or a replica after a clean stop`,
      );
    await writeWhole(new DirectoryFiles(dirname(resolve(out))), basename(out), bytes);
    tell(
      output,
      {
        schema: 'jitpaxos.backup/1',
        file: out,
        id,
        cluster: clusterOf(owner),
        replica: owner.replica,
        lastIndex,
        bytes: bytes.length,
        sealed,
      },
      `wrote ${out}: backup ${id}, entries 1 to ${lastIndex} of cluster ${clusterOf(owner)}, ${bytes.length} bytes${sealed ? ', sealed with its keys' : ''}`,
    );
    if (keys === undefined)
      output.note(
        'no keys of this cluster were given, so the backup is not sealed: a cluster with keys takes it only with --unauthenticated. If this cluster has keys, name them with --cluster or --replica-keys',
      );
    if (features === undefined)
      output.note(
        'the cluster file was not given, so the backup does not say with which features the cluster began; init --restore will ask for that file (--backup-cluster)',
      );
    return Exit.done;
  },
);

export const restore = defineCommand(
  {
    name: 'restore',
    summary:
      'Makes the data directory of one replica of a new cluster from a backup. Run it for every replica of that cluster before the first of them starts.',
    positionals: ['FILE'],
    flags: {
      cluster: {
        kind: 'text',
        value: 'FILE',
        default: 'cluster.json',
        help: 'the cluster file, written by jitpaxos init --restore',
      },
      'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
      'replica-keys': {
        kind: 'text',
        value: 'FILE',
        standard: `${KEY_FILE_NAMES.replica} beside the cluster file`,
        help: "the replicas' key file, in a cluster with keys: it has the secret of the chain",
      },
      id: { kind: 'count', help: 'index of this replica in the cluster file, from 0' },
      data: {
        kind: 'text',
        value: 'DIR',
        standard: '.jitpaxos/replica-N beside the cluster file',
        help: 'data directory of the replica: empty, or not there yet',
      },
      machine: {
        kind: 'choice',
        choices: ['kv', 'echo', 'own'],
        default: 'kv',
        help: 'the state machine, which checks its state before anything is written; own: a program with its own machine, whose state is not checked',
      },
      ...SOURCE_FLAGS,
    },
    examples: [
      'jitpaxos init --replicas 10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400 --restore monday.jpb --backup-keys old/replica.keys',
      'jitpaxos restore monday.jpb --backup-keys old/replica.keys --id 0',
    ],
  },
  async ({ values, positionals }, output) => {
    const [file] = positionals as [string];
    const { id } = values;
    if (id === undefined)
      throw new CliError('flag-invalid', '--id is missing; give the index of this replica in the cluster file, from 0');
    const cluster = loadCluster(values.cluster);
    if (id >= cluster.replicas.length)
      throw new CliError(
        'flag-invalid',
        `--id ${id} is not in ${values.cluster}, which has replicas 0 to ${cluster.replicas.length - 1}`,
      );
    const hash = loadHash();
    const { backup: from, chainSecret } = readBackup(file, values, cluster.authentication === 'keys');
    if (cluster.restored !== from.id || cluster.id === clusterOf(from.owner)) {
      throw new CliError(
        'backup-other',
        `the cluster of ${values.cluster} does not begin with backup ${from.id}; a backup is restored to a new cluster, with a new id: write its cluster file with jitpaxos init --restore ${file}`,
      );
    }
    const begins = featuresNamed(cluster.features);
    if (from.log.snapshot === undefined && from.features !== undefined && from.features !== begins)
      throw new CliError(
        'backup-other',
        `the cluster of ${values.cluster} begins with the features ${list(begins)}, and that of ${file} began with ${list(from.features)}, so the entries would mean something else; write the cluster file with jitpaxos init --restore ${file}`,
      );
    checkFits(from.log, cluster.limits, file);
    checkState(from, cluster, file, values.machine);
    const data = values.data ?? dataBeside(values.cluster, id);
    if (existsSync(data) && readdirSync(data).length > 0)
      throw new CliError(
        'file-exists',
        `${data} is not empty; a backup is restored to an empty data directory of a replica that was never in use`,
      );
    const chain = chainFor(cluster, values.cluster, values['replica-keys']);
    const before =
      chainSecret === undefined ? unkeyedChain(hash) : openChain({ chain: KEYED_CHAIN }, chainSecret, hash);
    carryFeatures(from.log.entries, (from.log.snapshot?.index ?? 0) + 1, before, chain);
    const snapshot = beginMembersAnew(from.log.snapshot, from.log.entries, cluster.replicas.length, begins, chain);
    await refuseRunning(values.cluster, values['key-file']);
    mkdirSync(data, { recursive: true, mode: 0o700 });
    const lock = DirectoryLock.acquire(data);
    try {
      const owner = ownerOf(cluster, id);
      await restoreBackup(
        { ...from, log: { ...from.log, snapshot } },
        {
          files: new DirectoryFiles(data),
          directory: data,
          owner,
          hash,
          chain: chain.fingerprint,
          mode: 'fsync',
          bootId: bootDigits(),
          nowMs: () => performance.now(),
          random: () => randomInt(-0x80000000, 0x7fffffff),
          later: () => undefined,
        },
      );
    } finally {
      lock.release();
    }
    const { lastIndex } = from;
    tell(
      output,
      { schema: 'jitpaxos.restore/1', file, id: from.id, cluster: cluster.id, replica: id, data, lastIndex },
      `replica ${id} of cluster ${cluster.id} begins with entries 1 to ${lastIndex} of backup ${from.id}, in ${data}`,
    );
    output.note(`restore it on all ${cluster.replicas.length} replicas, then start them with --durability os or fsync`);
    return Exit.done;
  },
);

/**
 * What chains this cluster's log: segments contain its fingerprint, so that a replica with another secret is refused.
 * Throws the errors of `openKeys`.
 */
function chainFor(cluster: Cluster, clusterFile: string, keys: string | undefined): Chain {
  const opened = openKeys(cluster, clusterFile, keys, 'replica');
  opened?.ring.close();
  return openChain(cluster, opened?.takeChainSecret(), loadHash());
}

/**
 * Reads and checks a backup for a new cluster. Throws CliError `argument-invalid`, `backup-empty` or
 * `backup-unauthenticated`, JitPaxosError `backup-unusable` or an error of the key file.
 * @param hasKeys whether the new cluster has keys @returns also the chain secret of the old cluster, if it is known
 */
export function readBackup(
  file: string,
  source: { readonly 'backup-keys': string | undefined; readonly unauthenticated: boolean },
  hasKeys: boolean,
): { readonly backup: Backup; readonly chainSecret: string | undefined } {
  let bytes: Uint8Array;
  try {
    bytes = readRegularFile(file, BACKUP_BYTES_MAX);
  } catch (error) {
    throw new CliError(
      'argument-invalid',
      `${file} can't be read (${error instanceof Error ? error.message : String(error)}); give the file that jitpaxos backup wrote`,
    );
  }
  const backup = decodeBackup(bytes, loadHash(), file);
  // Earlier versions wrote such files for a lost log.
  if (backup.lastIndex === 0)
    throw new CliError(
      'backup-empty',
      `${file} holds no entry: it may be of a replica that had lost its log; use another backup`,
    );
  refuseStampedAhead(backup, file);
  const keys = source['backup-keys'] ?? (hasKeys && !source.unauthenticated ? keysHere(backup.owner) : undefined);
  if (keys !== undefined) return { backup, chainSecret: checkSeal(bytes, backup, file, keys).chainSecret };
  if (hasKeys && !source.unauthenticated)
    throw new CliError(
      'backup-unauthenticated',
      `nothing shows who made ${file}, and the new cluster has keys; give the ${KEY_FILE_NAMES.replica} of cluster ${clusterOf(backup.owner)} with --backup-keys, or add --unauthenticated if you know that the file was never out of your hands`,
    );
  return { backup, chainSecret: undefined };
}

/** The key file in the current directory, if it is of this cluster. */
function keysHere(owner: Owner): string | undefined {
  try {
    loadKeys(KEY_FILE_NAMES.replica, clusterOf(owner), undefined);
    return KEY_FILE_NAMES.replica;
  } catch {
    return undefined;
  }
}

/** Nothing that a client sends gets a place behind an entry that is stamped years ahead. */
function refuseStampedAhead({ log: { snapshot, entries } }: Backup, file: string): void {
  const last = entries.at(-1);
  const [hi, lo] = last === undefined ? stampOf(snapshot!) : [readI32(last, 0), readI32(last, 4)];
  const stampedMs = ((hi >>> 0) * 2 ** 32 + (lo >>> 0)) / 1e6;
  if (stampedMs > Date.now() + AHEAD_MS)
    throw new JitPaxosError(
      'backup-unusable',
      `${file} ends with an entry of the time ${Math.round(stampedMs)} ms since 1970, and this host's clock says ${Date.now()}; set the clock if it is wrong, or find out who made the file, and use another backup`,
    );
}

/** Throws CliError `backup-unauthenticated`, or an error of the key file. */
function checkSeal(bytes: Uint8Array, { owner, sealedBy }: Backup, file: string, keys: string): KeyFile {
  const cluster = clusterOf(owner);
  const keyFile = loadKeys(keys, cluster, undefined);
  const refuse = (why: string): CliError =>
    new CliError(
      'backup-unauthenticated',
      `${file} ${why}; use another backup, or give --unauthenticated in place of --backup-keys if you know that the file was never out of your hands`,
    );
  if (sealedBy === undefined)
    throw refuse(
      'has no seal: it was made without the key file of its cluster, or by an older release, or it is forged',
    );
  const secret =
    sealedBy === CHAIN_SECRET_KEY
      ? keyFile.chainSecret
      : keyFile.keys.find(({ id, role }) => id === sealedBy && role === 'replica')?.secret;
  if (secret === undefined)
    throw refuse(
      sealedBy === CHAIN_SECRET_KEY
        ? `is sealed with the "chainSecret" of its cluster, and ${keys} has none`
        : `is sealed with key ${sealedBy} of the replicas, and ${keys} does not have it: a copy of the key file from the day of the backup may`,
    );
  if (!isSealedWith(bytes, backupKey(cluster, sealedBy, secret)))
    throw refuse(`was not sealed with the keys in ${keys}: it was changed, or is forged`);
  return keyFile;
}

/**
 * The cluster of a directory, by its file; undefined if that is not given, and the one here is of another cluster.
 * Throws the errors of `loadCluster`, and CliError `flag-invalid`.
 */
function clusterIn(clusterFile: string | undefined, owner: Owner): Cluster | undefined {
  const path = clusterFile ?? CLUSTER_FILE;
  if (clusterFile === undefined && !existsSync(path)) return undefined;
  const cluster = loadCluster(path);
  const id = clusterOf(owner);
  if (cluster.id === id) return cluster;
  if (clusterFile === undefined) return undefined;
  throw new CliError(
    'flag-invalid',
    `--cluster ${path} is of cluster ${cluster.id}, and the directory belongs to cluster ${id}; give the cluster file of the directory`,
  );
}

/**
 * The key file with whose keys a backup is sealed; `none` if the cluster has no keys, undefined if that is not known.
 * Throws the errors of `loadKeys`.
 */
function sealingKeys(
  cluster: Cluster | undefined,
  clusterFile: string,
  keys: string | undefined,
  owner: Owner,
): KeyFile | 'none' | undefined {
  const id = clusterOf(owner);
  if (keys !== undefined) return loadKeys(keys, id, 'replica');
  if (cluster === undefined) return undefined;
  return cluster.authentication === 'keys' ? loadKeys(keyFileBeside(clusterFile, 'replica'), id, 'replica') : 'none';
}

/**
 * The features with which a cluster begins that is restored from a backup. The rule: those that were on where the backup
 * begins, so that it computes from the entries what the old cluster did.
 * @param clusterFile of the cluster that was backed up, if the backup does not say it
 * Throws the errors of `loadCluster`, and CliError `flag-invalid`.
 */
export function featuresBefore(backup: Backup, file: string, clusterFile: string | undefined): readonly FeatureName[] {
  const old = clusterFile === undefined ? undefined : loadCluster(clusterFile);
  const id = clusterOf(backup.owner);
  if (old !== undefined && old.id !== id)
    throw new CliError(
      'flag-invalid',
      `--backup-cluster ${clusterFile} is of cluster ${old.id}, and ${file} of cluster ${id}; give the cluster file of that one`,
    );
  const features = backup.features ?? (old === undefined ? undefined : featuresNamed(old.features));
  if (features === undefined)
    throw new CliError(
      'flag-invalid',
      `${file} does not say with which features its cluster began, and they decide what its entries mean; give the cluster file of cluster ${id} with --backup-cluster`,
    );
  return featureNames(features) as FeatureName[];
}

/** The key for the backups of a cluster with these keys. */
export function sealingKey({ cluster, chainSecret, keys, use }: KeyFile): BackupKey {
  return chainSecret === undefined
    ? backupKey(cluster, use, keys.find(({ id }) => id === use)!.secret)
    : backupKey(cluster, CHAIN_SECRET_KEY, chainSecret);
}

function list(features: number): string {
  return featureNames(features).join(', ') || 'none';
}

function clusterOf({ clusterHi, clusterLo }: Owner): string {
  return toHex(clusterHi, clusterLo);
}

/** A replica would refuse such a state, or its machine would, at each start. Throws JitPaxosError. */
function checkState({ log: { snapshot } }: Backup, { limits }: Cluster, file: string, machine: string): void {
  if (snapshot === undefined) return;
  const fault = snapshotFault(snapshot, limits);
  if (fault !== undefined)
    throw new JitPaxosError(
      'limits-too-small',
      `the snapshot in ${file} does not fit the cluster's limits: ${fault}; take the limits of the old cluster over into the new cluster file`,
    );
  if (machine === 'own') return;
  try {
    (machine === 'kv' ? new KvMachine() : new EchoMachine()).restore(machineBytes(snapshot));
  } catch (error) {
    throw new JitPaxosError(
      'backup-unusable',
      `the machine "${machine}" refuses the state in ${file} (${error instanceof Error ? error.message : String(error)}); name the machine of the replicas with --machine, which is own for a program with its own, or use another backup`,
      error,
    );
  }
}

/** A cluster that has begun is ahead of the backup, and a replica that went back to the backup could vote with it. */
async function refuseRunning(cluster: string, keys: string | undefined): Promise<void> {
  await using client = await StatusClient.open({ cluster, ...(keys === undefined ? {} : { keys }) });
  const running = (await client.ask(ANSWER_MS)).find(({ report }) => report !== undefined);
  if (running !== undefined) {
    throw new CliError(
      'cluster-running',
      `replica ${running.id} of the cluster answers at ${running.address}, so the cluster has already begun; a backup is restored to all replicas before any of them starts. To go back to the backup, write a new cluster file with jitpaxos init --restore`,
    );
  }
}

function tell(output: Output, object: object, text: string): void {
  output.line(output.json ? JSON.stringify(object) : text);
}
