/**
 * The key file: which keys a process accepts, and which one it uses itself. Replicas hold the cluster's key and every
 * client's; a client holds only its own.
 *
 *     { "schema": "jitpaxos.keys/1", "cluster": "<16 hex digits>", "use": 1,
 *       "keys": [{ "id": 1, "role": "replica", "secret": "<64 hex digits>" }, { "id": 2, "role": "client", "secret":
 *       "…" }],
 *       "chainSecret": "<32 hex digits>" }
 *
 * `chainSecret` is only in the replicas' file: it keys the chain of their log (chain.ts), and stays for the life of the
 * cluster. A further key of the same client has the first one's id as its "owner": sessions belong to clients, not to
 * keys.
 *
 * The rule: a file that other users may read or write, or that another user owns, holds no secrets, and is refused.
 * Root reads the files of every user: it administers the hosts of services that have users of their own.
 */
import { JitPaxosError } from '../errors.js';
import { MAC_KEY_BYTES } from '../native/mac.js';
import { CHAIN_SECRET_BYTES } from './chain.js';
import { readRegularText } from '../storage/regular-file.js';
import { checkKeys, isObject, show } from './options.js';

export const KEYS_SCHEMA = 'jitpaxos.keys/1';

/**
 * `replica`: speaks for any replica. `client`: reads and writes. `operator`: a client that may also ask for changes of the
 * members. `read-only`: registers a session and reads.
 */
const KEY_ROLES = ['replica', 'client', 'operator', 'read-only'] as const;
export type KeyRole = (typeof KEY_ROLES)[number];

/** Most keys in a file: half of what the addon can hold open, so that a replacement file fits beside it. */
export const MAX_KEYS = 1024;

export interface KeyEntry {
  /** 1 to 2³¹−1; part of every datagram under the key. */
  readonly id: number;
  readonly role: KeyRole;
  /** 64 hexadecimal digits. */
  readonly secret: string;
  /** For a client's key: the id of the client's first key, whose sessions this key continues. Default: its own id. */
  readonly owner?: number;
}

/** The file's content, or an object given instead of a file. */
export interface KeyFile {
  readonly schema: typeof KEYS_SCHEMA;
  /** The cluster file's `id`. */
  readonly cluster: string;
  /** Id of the key with which this process seals datagrams. */
  readonly use: number;
  readonly keys: readonly KeyEntry[];
  /** 32 hexadecimal digits; only in a replica's file, in a cluster with a keyed chain. */
  readonly chainSecret?: string;
}

/**
 * Reads and checks a key file, or checks the object. `speaksFor`: whether the process is a replica or a client;
 * undefined for a tool that only looks. Throws JitPaxosError `key-file-unreadable`, `key-file-exposed` or
 * `key-file-invalid`; no message holds a secret.
 */
export function loadKeys(
  source: string | KeyFile,
  clusterId: string,
  speaksFor: 'replica' | 'client' | undefined,
): KeyFile {
  const where = typeof source === 'string' ? `key file ${source}` : 'keys';
  const file = checkKeyFile(where, typeof source === 'string' ? readKeyFile(source) : source);
  if (file.cluster !== clusterId)
    throw invalid(
      `${where}: "cluster" is ${file.cluster}, and the cluster file's id is ${clusterId}; use the key file of this cluster`,
    );
  const own = file.keys.find(({ id }) => id === file.use)!;
  if (speaksFor !== undefined && (own.role === 'replica') !== (speaksFor === 'replica')) {
    throw invalid(
      `${where}: key ${own.id}, which "use" names, has the role "${own.role}"; ${speaksFor === 'replica' ? 'a replica needs one with the role "replica"' : 'a client needs one with the role "client", "operator" or "read-only"; a replica\'s key is not for clients'}`,
    );
  }
  if (speaksFor === 'client' && file.chainSecret !== undefined)
    throw invalid(
      `${where}: it has a "chainSecret", which is only for replicas; remove it. If somebody else may have read it, move to a new cluster by a backup`,
    );
  return file;
}

function readKeyFile(path: string): unknown {
  let text: string;
  try {
    text = readRegularText(path, (file) => {
      const exposure = exposureOf(path, file, process.geteuid?.() ?? file.uid);
      if (exposure !== undefined) throw new JitPaxosError('key-file-exposed', exposure);
    });
  } catch (error) {
    if (error instanceof JitPaxosError) throw error;
    throw new JitPaxosError(
      'key-file-unreadable',
      `key file ${path} cannot be read (${messageOf(error)}); write one with \`jitpaxos keys\`, or give the right path`,
      error,
    );
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text, which is secret.
    throw invalid(`key file ${path} is not JSON; correct it, or write one with \`jitpaxos keys\``);
  }
}

/** Why other users may know the keys in a file, and what to do; undefined if they may not. `self`: the process's user. */
export function exposureOf(
  path: string,
  { mode, uid }: { readonly mode: number; readonly uid: number },
  self: number,
): string | undefined {
  if ((mode & 0o077) !== 0)
    return `key file ${path} has mode 0${(mode & 0o777).toString(8)}: users other than its owner may use it; run \`chmod 600 ${path}\`, and rotate its keys if somebody else may have read them`;
  if (uid !== self && uid !== 0 && self !== 0)
    return `key file ${path} belongs to user ${uid}, who may know its keys, and this process is user ${self}; run \`chown ${self} ${path}\`, or give a key file of your own`;
  return undefined;
}

function checkKeyFile(where: string, value: unknown): KeyFile {
  if (!isObject(value)) throw invalid(`${where} is not a JSON object; write one with \`jitpaxos keys\``);
  checkKeys('key-file-invalid', where, value, ['schema', 'cluster', 'use', 'keys', 'chainSecret']);
  const { schema, cluster, use, keys, chainSecret } = value;
  if (schema !== KEYS_SCHEMA)
    throw invalid(`${where}: "schema" is ${show(schema)}; this program reads "${KEYS_SCHEMA}"`);
  if (typeof cluster !== 'string' || !/^[0-9a-f]{16}$/i.test(cluster))
    throw invalid(`${where}: "cluster" is ${show(cluster)}; it has to be the cluster file's id, 16 hexadecimal digits`);
  if (!Array.isArray(keys) || keys.length === 0 || keys.length > MAX_KEYS)
    throw invalid(`${where}: "keys" has to be an array of 1 to ${MAX_KEYS} keys`);
  const ids = new Set<number>();
  const idOf = new Map<string, number>();
  keys.forEach((key: unknown, index) => {
    const at = `${where}: "keys"[${index}]`;
    if (!isObject(key)) throw invalid(`${at} is not an object; it has to be { "id", "role", "secret" }`);
    checkKeys('key-file-invalid', at, key, ['id', 'role', 'secret', 'owner']);
    const { id, role, secret, owner } = key;
    if (!isKeyId(id)) throw invalid(`${at}: "id" is ${show(id)}; it has to be a whole number from 1 to 2147483647`);
    if (ids.has(id)) throw invalid(`${at}: "id" ${id} is there already; each key needs one of its own`);
    ids.add(id);
    if (!KEY_ROLES.includes(role as KeyRole))
      throw invalid(`${at}: "role" is ${show(role)}; it has to be one of ${KEY_ROLES.join(', ')}`);
    if (owner !== undefined && (!isKeyId(owner) || role === 'replica'))
      throw invalid(
        `${at}: "owner" is ${show(owner)}; it has to be the id of the client's first key; a replica's key has no owner`,
      );
    if (typeof secret !== 'string' || !isSecret(secret, MAC_KEY_BYTES))
      throw invalid(`${at}: "secret" has to be a string of ${MAC_KEY_BYTES * 2} hexadecimal digits`);
    // The role and the owner of a datagram follow from its key's id. A holder of the secret could choose between them.
    const twin = idOf.get(secret.toLowerCase());
    if (twin !== undefined)
      throw invalid(
        `${at}: key ${id} has the same secret as key ${twin}; each key needs its own: remove one of them, and write a new one with \`jitpaxos keys add\``,
      );
    idOf.set(secret.toLowerCase(), id);
  });
  if (chainSecret !== undefined && (typeof chainSecret !== 'string' || !isSecret(chainSecret, CHAIN_SECRET_BYTES)))
    throw invalid(`${where}: "chainSecret" has to be a string of ${CHAIN_SECRET_BYTES * 2} hexadecimal digits`);
  if (!isKeyId(use) || !ids.has(use))
    throw invalid(`${where}: "use" is ${show(use)}; it has to be the id of one of "keys"`);
  return { ...(value as unknown as KeyFile), cluster: cluster.toLowerCase() };
}

/** Hexadecimal digits of this many bytes. Not by a RegExp: the engine keeps the last text that one was tried on. */
function isSecret(text: string, length: number): boolean {
  if (text.length !== 2 * length) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const lower = code | 0x20;
    if (!((code >= 0x30 && code <= 0x39) || (lower >= 0x61 && lower <= 0x66))) return false;
  }
  return true;
}

function isKeyId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 0x7fffffff;
}

function invalid(message: string): JitPaxosError {
  return new JitPaxosError('key-file-invalid', message);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
