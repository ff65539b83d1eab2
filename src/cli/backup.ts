/**
 * `jitpaxos backup` and `jitpaxos restore`: write the committed state of a replica to one file, and start a new cluster
 * from it. storage/backup.ts has the rule that restoring guards: a backup never becomes the log of a replica that was
 * in use.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { randomInt } from 'node:crypto';
import { basename, dirname, resolve } from 'node:path';
import { StatusClient } from '../client/status-client.js';
import { JitPaxosError } from '../errors.js';
import { loadHash } from '../native/hash64.js';
import { chainFingerprint } from '../host/chain.js';
import { loadCluster, type Cluster } from '../host/cluster-config.js';
import { KEY_FILE_NAMES, openKeys } from '../host/keyring.js';
import { dataBeside } from '../console/data-beside.js';
import { KEY_FILE_FLAG } from '../console/settings.js';
import { bootDigits, checkFits, ownerOf } from '../server/storage-choice.js';
import { type Backup, decodeBackup, encodeBackup, restoreBackup, writeWhole } from '../storage/backup.js';
import { DirectoryLock } from '../storage/directory-lock.js';
import { DirectoryFiles } from '../storage/files.js';
import { findOwner } from '../storage/inspection.js';
import { readStored } from '../storage/log-reader.js';
import { toHex } from '../wire/u64.js';
import { defineCommand, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { checkDirectory, noDataDirectory } from './inspect.js';
import { checkWritable } from '../console/output-file.js';

const ANSWER_MS = 1_000;

export const backup = defineCommand(
  {
    name: 'backup',
    summary:
      'Writes the committed state of a data directory (durability os or fsync) to one file, which appears whole or not at all. The replica may be running; the backup then has what its disk knew as committed at that moment.',
    positionals: ['DIR'],
    flags: { out: { kind: 'text', value: 'FILE', help: 'the file to write; an existing file is refused' } },
    examples: ['jitpaxos backup .jitpaxos/replica-0 --out monday.jpb'],
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
        `${directory} holds no log to back up${lost === undefined ? '' : `: ${lost}`}; back up another replica, with durability os or fsync`,
      );
    const bytes = encodeBackup(log, owner, hash);
    const { id, lastIndex } = decodeBackup(bytes, hash, out);
    if (lastIndex === 0)
      throw new CliError(
        'backup-empty',
        `${directory} has no committed entry, so there is nothing to back up; if operations were committed, back up the primary, or a replica after a clean stop`,
      );
    await writeWhole(new DirectoryFiles(dirname(resolve(out))), basename(out), bytes);
    const cluster = toHex(owner.clusterHi, owner.clusterLo);
    tell(
      output,
      { schema: 'jitpaxos.backup/1', file: out, id, cluster, replica: owner.replica, lastIndex, bytes: bytes.length },
      `wrote ${out}: backup ${id}, entries 1 to ${lastIndex} of cluster ${cluster}, ${bytes.length} bytes`,
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
    },
    examples: [
      'jitpaxos init --replicas 10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400 --restore monday.jpb',
      'jitpaxos restore monday.jpb --id 0',
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
    const from = readBackup(file);
    if (cluster.restored !== from.id || cluster.id === toHex(from.owner.clusterHi, from.owner.clusterLo)) {
      throw new CliError(
        'backup-other',
        `the cluster of ${values.cluster} does not begin with backup ${from.id}; a backup is restored to a new cluster, with a new id: write its cluster file with jitpaxos init --restore ${file}`,
      );
    }
    checkFits(from.log, cluster.limits, file);
    const data = values.data ?? dataBeside(values.cluster, id);
    if (existsSync(data) && readdirSync(data).length > 0)
      throw new CliError(
        'file-exists',
        `${data} is not empty; a backup is restored to an empty data directory of a replica that was never in use`,
      );
    const chain = fingerprintFor(cluster, values.cluster, values['replica-keys']);
    await refuseRunning(values.cluster, values['key-file']);
    mkdirSync(data, { recursive: true, mode: 0o700 });
    const lock = DirectoryLock.acquire(data);
    try {
      const owner = ownerOf(cluster, id);
      await restoreBackup(from, {
        files: new DirectoryFiles(data),
        directory: data,
        owner,
        hash,
        chain,
        mode: 'fsync',
        bootId: bootDigits(),
        nowMs: () => performance.now(),
        random: () => randomInt(-0x80000000, 0x7fffffff),
        later: () => undefined,
      });
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
 * Fingerprint of the chain secret of this cluster's log: segments contain it, so that a replica with another secret is
 * refused. Throws the errors of `openKeys`.
 */
function fingerprintFor(cluster: Cluster, clusterFile: string, keys: string | undefined): number {
  const opened = openKeys(cluster, clusterFile, keys, 'replica');
  opened?.ring.close();
  return chainFingerprint(cluster.chain, opened?.chainSecret);
}

/** Throws CliError `argument-invalid` or `backup-empty`, JitPaxosError `backup-unusable`. */
export function readBackup(file: string): Backup {
  let backup: Backup;
  try {
    backup = decodeBackup(readFileSync(file), loadHash(), file);
  } catch (error) {
    if (error instanceof JitPaxosError) throw error;
    throw new CliError(
      'argument-invalid',
      `${file} can't be read (${(error as NodeJS.ErrnoException).code ?? String(error)}); give the file that jitpaxos backup wrote`,
    );
  }
  // Earlier versions wrote such files for a lost log.
  if (backup.lastIndex === 0)
    throw new CliError(
      'backup-empty',
      `${file} holds no entry: it may be of a replica that had lost its log; use another backup`,
    );
  return backup;
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
