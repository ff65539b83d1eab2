/**
 * `jitpaxos keys add|list|use|remove`: shows and writes the key files of a cluster and rotates their keys. Files are
 * written under another name with mode 0600, synced and renamed: a crash leaves the old or the new one. The output
 * never holds a secret.
 *
 * The rule: one command at a time changes a key file. Each writes the whole file, so of two at once the later one would
 * undo what the earlier one did, and a key that was removed after a theft would be back.
 */
import { createHash } from 'node:crypto';
import { existsSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadCluster } from '../host/cluster-config.js';
import { loadKeys, MAX_KEYS, type KeyEntry, type KeyFile, type KeyRole } from '../host/key-file.js';
import { KEY_FILE_NAMES, keyFileBeside, prefixBeside } from '../host/keyring.js';
import { defineCommand, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import type { Flags } from '../console/flags.js';
import { clientFile, KEY_FILE_MODE, newKey, textOf } from '../console/key-files.js';
import { writeTogether } from '../console/output-file.js';
import { FileLock } from '../storage/directory-lock.js';
import { table } from '../console/terminal.js';

const FILES = {
  cluster: { kind: 'text', value: 'FILE', default: 'cluster.json', help: 'the cluster file' },
  keys: {
    kind: 'text',
    value: 'FILE',
    alias: 'key-file',
    standard: `${KEY_FILE_NAMES.replica} beside the cluster file`,
    help: "the replicas' key file",
  },
} as const satisfies Flags;

/** A command holds the lock for moments. */
const LOCK_WAIT_MS = 10_000;

const NEXT = 'copy the file to every replica, then send each SIGHUP';

export const add = defineCommand(
  {
    name: 'keys add',
    summary: "Adds a key to the replicas' key file; for a client also writes the file that the client needs.",
    positionals: [],
    flags: {
      ...FILES,
      role: {
        kind: 'choice',
        choices: ['client', 'operator', 'read-only', 'replica'],
        default: 'client',
        help: 'what the key is for: a client that may write, an operator who may also change the members, a client that only reads, or the replicas (first step of a rotation)',
      },
      for: {
        kind: 'text',
        value: 'ID',
        help: 'a key that the client already has; its sessions continue under the new key',
      },
      out: {
        kind: 'text',
        value: 'FILE',
        help: "the client's key file (default client-ID.keys beside the cluster file)",
      },
    },
    examples: [
      'jitpaxos keys add --role read-only --out reader.keys',
      'jitpaxos keys add --for 123456789',
      'jitpaxos keys add --role replica',
    ],
  },
  async ({ values }, output) => {
    using changing = open(values);
    const { path, file } = changing;
    const role = values.role as KeyRole;
    if (file.keys.length === MAX_KEYS)
      throw new CliError(
        'key-file-full',
        `${path} holds ${MAX_KEYS} keys, which is the maximum; remove some with jitpaxos keys remove`,
      );
    const predecessor = values.for === undefined ? undefined : find(path, file, values.for);
    if (predecessor !== undefined && (predecessor.role === 'replica') !== (role === 'replica'))
      throw new CliError(
        'key-role',
        `key ${predecessor.id} has the role "${predecessor.role}" and the new one "${role}"; --for names a key of the same client`,
      );
    const key = {
      ...newKey(role, file.keys),
      ...(predecessor === undefined || role === 'replica' ? {} : { owner: predecessor.owner ?? predecessor.id }),
    };
    const out =
      role === 'replica'
        ? undefined
        : (values.out ?? join(dirname(values.cluster), `${prefixBeside(values.cluster)}client-${key.id}.keys`));
    if (out !== undefined)
      writeTogether([{ path: out, content: textOf(clientFile(file.cluster, key)), mode: KEY_FILE_MODE }]);
    changing.write({ ...file, keys: [...file.keys, key] });
    report(output, { added: key.id, role, file: path, ...(out === undefined ? {} : { clientFile: out }) }, [
      `key ${key.id} (${role}) is in ${path}${out === undefined ? '' : `; the client's file is ${out}`}`,
      role === 'replica' ? `${NEXT}; then jitpaxos keys use ${key.id}` : NEXT,
    ]);
    return Exit.done;
  },
);

export const list = defineCommand(
  {
    name: 'keys list',
    summary:
      'Shows the keys of a file without their secrets. The column check is the same in two files if the secrets are the same.',
    positionals: [],
    flags: {
      ...FILES,
      keys: {
        ...FILES.keys,
        standard: `${KEY_FILE_NAMES.replica} beside the cluster file, or ${KEY_FILE_NAMES.client} if there is none`,
        help: 'the key file',
      },
    },
    examples: ['jitpaxos keys list', 'jitpaxos keys list --key-file client.keys --json'],
  },
  async ({ values }, output) => {
    const { id } = loadCluster(values.cluster);
    const standard = keyFileBeside(values.cluster, 'replica');
    const path = values.keys ?? (existsSync(standard) ? standard : keyFileBeside(values.cluster, 'client'));
    const file = loadKeys(path, id, undefined);
    const keys = file.keys.map(({ id: key, role, owner, secret }) => ({
      id: key,
      role,
      owner: role === 'replica' ? null : (owner ?? key),
      inUse: key === file.use,
      check: checkOf(id, secret),
    }));
    if (output.json)
      output.line(JSON.stringify({ schema: 'jitpaxos.keys-list/1', file: path, cluster: file.cluster, keys }));
    else {
      output.note(`${path}: keys of cluster ${file.cluster}`);
      for (const line of table([
        ['key', 'role', 'client', 'in use', 'check'],
        ...keys.map(({ id: key, role, owner, inUse, check }) => [
          `${key}`,
          role,
          owner === null ? '' : `${owner}`,
          inUse ? 'yes' : '',
          check,
        ]),
      ]))
        output.line(line);
    }
    return Exit.done;
  },
);

/** Eight digits that equal secrets share and that reveal nothing about them: a hash of 256 random bits. */
function checkOf(cluster: string, secret: string): string {
  return createHash('sha256').update(`jitpaxos key check ${cluster} ${secret.toLowerCase()}`).digest('hex').slice(0, 8);
}

export const use = defineCommand(
  {
    name: 'keys use',
    summary:
      'Makes the replicas use another of their keys. This is the second step of a rotation, when every replica has the new key.',
    positionals: ['ID'],
    flags: FILES,
    examples: ['jitpaxos keys use 2000000001'],
  },
  async ({ values, positionals }, output) => {
    using changing = open(values);
    const { path, file } = changing;
    const key = find(path, file, positionals[0]!);
    if (key.role !== 'replica')
      throw new CliError(
        'key-role',
        `key ${key.id} has the role "${key.role}"; replicas use a key with the role "replica"`,
      );
    changing.write({ ...file, use: key.id });
    report(output, { use: key.id, file: path }, [
      `replicas with ${path} use key ${key.id}`,
      `${NEXT}; when all have, run jitpaxos keys remove ${file.use}`,
    ]);
    return Exit.done;
  },
);

export const remove = defineCommand(
  {
    name: 'keys remove',
    summary: 'Removes a key: datagrams under it are dropped.',
    positionals: ['ID'],
    flags: FILES,
    examples: ['jitpaxos keys remove 123456789'],
  },
  async ({ values, positionals }, output) => {
    using changing = open(values);
    const { path, file } = changing;
    const key = find(path, file, positionals[0]!);
    if (key.id === file.use)
      throw new CliError(
        'key-in-use',
        `replicas use key ${key.id}; make them use another one first, with jitpaxos keys use`,
      );
    changing.write({ ...file, keys: file.keys.filter(({ id }) => id !== key.id) });
    report(output, { removed: key.id, file: path }, [`key ${key.id} is no longer in ${path}`, NEXT]);
    return Exit.done;
  },
);

/** A key file that only this command changes, until it is disposed. */
interface Changing extends Disposable {
  /** As the user wrote it. */
  readonly path: string;
  readonly file: KeyFile;
  write(file: KeyFile): void;
}

/** Throws CliError `key-file-locked`, and the errors of `loadCluster` and `loadKeys`. */
function open(values: { readonly cluster: string; readonly keys: string | undefined }): Changing {
  const path = values.keys ?? keyFileBeside(values.cluster, 'replica');
  const { id } = loadCluster(values.cluster);
  loadKeys(path, id, 'replica'); // before a lock is left beside something that is no key file
  // A link stays, and leads to the changed file; all names of a file have one lock.
  const target = realpathSync(path);
  const lock = FileLock.acquire(target, LOCK_WAIT_MS);
  if (!(lock instanceof FileLock))
    throw new CliError(
      'key-file-locked',
      `${path} is being changed by ${lock === undefined ? 'another process' : `process ${lock.pid}`}; try again when that has ended. If no such process is there, delete ${FileLock.of(target)}`,
    );
  try {
    return {
      path,
      file: loadKeys(target, id, 'replica'),
      write: (file) => {
        const owner = statSync(target);
        writeTogether([{ path: target, content: textOf(file), mode: KEY_FILE_MODE, owner }], true);
      },
      [Symbol.dispose]: () => lock.release(),
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function find(path: string, file: KeyFile, id: string): KeyEntry {
  const key = file.keys.find((entry) => String(entry.id) === id);
  if (key === undefined)
    throw new CliError(
      'key-unknown',
      `${path} has no key ${id}; it has ${file.keys.map((entry) => `${entry.id} (${entry.role})`).join(', ')}`,
    );
  return key;
}

function report(output: Output, fields: Readonly<Record<string, unknown>>, lines: readonly [string, string]): void {
  if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.keys-change/1', ...fields }));
  else {
    output.line(lines[0]);
    output.note(lines[1]);
  }
}
