/** Makes key files: a cluster's first ones, and one for each key that is added. */
import { randomBytes, randomInt } from 'node:crypto';
import { MAC_KEY_BYTES } from '../native/mac.js';
import { CHAIN_SECRET_BYTES } from '../host/chain.js';
import { KEYS_SCHEMA, type KeyEntry, type KeyFile, type KeyRole } from '../host/key-file.js';
import { newKeyFileBeside } from '../host/keyring.js';
import { writeTogether, type NewFile } from './output-file.js';

export const KEY_FILE_MODE = 0o600;

/**
 * The first key files of a cluster, beside its cluster file: one key for the replicas, one for clients, and the secret
 * if the chain is keyed. Pass the result to writeTogether.
 */
export function firstKeyFiles(clusterFile: string, clusterId: string, keyedChain = true): readonly NewFile[] {
  const replicas = newKey('replica', []);
  const client = newKey('client', [replicas]);
  return [
    {
      path: newKeyFileBeside(clusterFile, 'replica'),
      content: textOf({
        schema: KEYS_SCHEMA,
        cluster: clusterId,
        use: replicas.id,
        keys: [replicas, client],
        ...(keyedChain ? { chainSecret: randomBytes(CHAIN_SECRET_BYTES).toString('hex') } : {}),
      }),
      mode: KEY_FILE_MODE,
    },
    {
      path: newKeyFileBeside(clusterFile, 'client'),
      content: textOf(clientFile(clusterId, client)),
      mode: KEY_FILE_MODE,
    },
  ];
}

/** Writes the first key files of a cluster. Throws CliError `file-exists` or `output-unwritable`. */
export function writeFirstKeys(
  clusterFile: string,
  clusterId: string,
  keyedChain = true,
): { readonly replica: string; readonly client: string } {
  const files = firstKeyFiles(clusterFile, clusterId, keyedChain);
  writeTogether(files);
  return { replica: files[0]!.path, client: files[1]!.path };
}

/** Ids are random, so that two operators who add keys at once do not give both the same id. */
export function newKey(role: KeyRole, present: readonly KeyEntry[]): KeyEntry {
  for (;;) {
    const id = randomInt(1, 0x80000000);
    if (present.every((entry) => entry.id !== id && entry.owner !== id))
      return { id, role, secret: randomBytes(MAC_KEY_BYTES).toString('hex') };
  }
}

export function clientFile(cluster: string, key: KeyEntry): KeyFile {
  return { schema: KEYS_SCHEMA, cluster, use: key.id, keys: [key] };
}

export function textOf(file: KeyFile): string {
  return `${JSON.stringify(file, null, 2)}\n`;
}
