/**
 * The open keys of a process. A slot belongs to one key id and secret for as long as the file has them, so a new file
 * changes nothing for keys that stay.
 *
 * Secrets are kept only by what computes with them. Their text is forgotten once the keys are open, and a new file is
 * compared with them by digests.
 */
import { createHash, createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { JitPaxosError } from '../errors.js';
import { openCiphers, type CipherSource, type DatagramMemory, type StreamCipher } from '../native/aead.js';
import { openMac, type Mac } from '../native/mac.js';
import { NO_OWNER } from '../protocol/log/session-owner.js';
import { CLIENT_SENDER, SEALED_FRAME, type Keyring as WireKeyring } from '../wire/envelope.js';
import type { Cluster, ClusterConfig } from './cluster-config.js';
import { checkChainSecret } from './chain.js';
import { loadKeys, type KeyEntry, type KeyFile, type KeyRole } from './key-file.js';

/** Which keys a process has loaded, for a report. No secret can be found from it. */
export interface KeysReport {
  /** Id of the key with which the process seals its own datagrams. */
  readonly use: number;
  /** Ids of all keys, ascending. */
  readonly loaded: readonly number[];
  /**
   * Eight hexadecimal digits of a digest over ids, roles, owners and secrets: the same ids with another fingerprint are
   * other keys.
   */
  readonly fingerprint: string;
}

/** Separates the keys of encryption from every other use of the secrets. */
const STREAMS_LABEL = 'jitpaxos/5 aead';

interface OpenKey {
  readonly id: number;
  readonly role: KeyRole;
  readonly owner: number;
  /** Of the secret: see `digestOf`. */
  readonly digest: string;
  readonly mac: Mac;
  /** Derives the keys of streams: see `streamsKey`. */
  readonly streams: Mac;
}

/** What the keys of streams are derived from: one for each key of a cluster. */
export function streamsKey(secret: Uint8Array, cluster: string, keyId: number): Uint8Array {
  const id = Buffer.alloc(4);
  id.writeUInt32BE(keyId);
  return createHmac('sha256', secret).update(STREAMS_LABEL).update(Buffer.from(cluster, 'hex')).update(id).digest();
}

export class Keyring implements WireKeyring {
  /** By slot; undefined if the key was removed. Slots are never reused, because something may still refer to them. */
  private readonly open: (OpenKey | undefined)[] = [];
  private readonly slots = new Map<number, number>();
  /** Slot of the key with which this process seals datagrams. */
  own = -1;
  /** Who is told of removed keys. */
  private readonly watchers: ((slot: number) => void)[] = [];
  private ciphers: CipherSource | undefined;
  private described: KeysReport = { use: 0, loaded: [], fingerprint: '' };

  /**
   * @param isReplica whether the process is a replica. A client holds only its own keys, and the replicas answer it
   * under these.
   */
  constructor(
    file: KeyFile,
    private readonly isReplica: boolean,
  ) {
    this.replace(file);
  }

  /** Replaces the current keys by those of a file: rotation. Returns the ids that were added and removed. */
  replace(file: KeyFile): { readonly added: readonly number[]; readonly removed: readonly number[] } {
    const added: number[] = [];
    const removed: number[] = [];
    const wanted = new Map(file.keys.map((entry) => [entry.id, entry]));
    for (const [id, slot] of this.slots) {
      const entry = wanted.get(id);
      const present = this.open[slot]!;
      if (entry !== undefined && entry.role === present.role && digestOf(entry.secret) === present.digest) {
        this.open[slot] = { ...present, owner: ownerIn(entry) };
        continue;
      }
      this.closeKey(slot);
      this.slots.delete(id);
      removed.push(id);
    }
    for (const entry of file.keys) {
      if (this.slots.has(entry.id)) continue;
      const { id, role } = entry;
      const key = withSecret(entry.secret, (secret) => {
        const derived = streamsKey(secret, file.cluster, id);
        const opened = { mac: openMac(secret), streams: openMac(derived) };
        derived.fill(0);
        return opened;
      });
      const digest = digestOf(entry.secret);
      this.slots.set(id, this.open.push({ id, role, owner: ownerIn(entry), digest, ...key }) - 1);
      added.push(entry.id);
    }
    this.own = this.slots.get(file.use)!;
    this.described = describeKeys(file);
    return { added, removed };
  }

  /** The keys that are loaded now. */
  report(): KeysReport {
    return this.described;
  }

  find(keyId: number): number {
    return this.slots.get(keyId) ?? -1;
  }

  permits(slot: number, sender: number): boolean {
    if (!this.isReplica) return sender !== CLIENT_SENDER;
    return (this.roleOf(slot) === 'replica') === (sender !== CLIENT_SENDER);
  }

  mayWrite(slot: number): boolean {
    return this.roleOf(slot) !== 'read-only';
  }

  mayConfigure(slot: number): boolean {
    const role = this.roleOf(slot);
    return role === 'operator' || role === 'replica';
  }

  ownerOf(slot: number): number {
    return this.open[slot]?.owner ?? NO_OWNER;
  }

  idOf(slot: number): number {
    return this.open[slot]?.id ?? 0;
  }

  mac128(slot: number, bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    this.open[slot]!.mac.mac128(bytes, offset, length, out, outOffset);
  }

  streamKey(slot: number, identity: Uint8Array, out: Uint8Array): void {
    this.open[slot]!.streams.mac128(identity, 0, identity.length, out, 0);
  }

  /** Says where the datagrams lie, before the first cipher is made. Not needed, but then a datagram costs more. */
  useMemory(memory: DatagramMemory): void {
    this.ciphers = openCiphers(SEALED_FRAME, memory);
  }

  cipher(seals: boolean): StreamCipher {
    this.ciphers ??= openCiphers(SEALED_FRAME);
    return this.ciphers.cipher(seals);
  }

  draw(target: Int32Array<ArrayBuffer>): void {
    crypto.getRandomValues(target);
  }

  watch(forget: (slot: number) => void): void {
    this.watchers.push(forget);
  }

  close(): void {
    for (let slot = 0; slot < this.open.length; slot++) this.closeKey(slot);
    this.slots.clear();
    this.own = -1;
  }

  private closeKey(slot: number): void {
    const key = this.open[slot];
    if (key === undefined) return;
    key.mac.close();
    key.streams.close();
    this.open[slot] = undefined;
    for (const forget of this.watchers) forget(slot);
  }

  private roleOf(slot: number): KeyRole | undefined {
    return this.open[slot]?.role;
  }
}

function ownerIn({ id, owner }: KeyEntry): number {
  return owner ?? id;
}

/** Lends the bytes of a secret, and wipes them. */
function withSecret<T>(hex: string, use: (bytes: Uint8Array) => T): T {
  const bytes = Buffer.from(hex, 'hex');
  try {
    return use(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** Tells secrets apart, in either case of their digits, without keeping them. */
function digestOf(hex: string): string {
  return withSecret(hex, (bytes) => createHash('sha256').update(bytes).digest('hex'));
}

function describeKeys(file: KeyFile): KeysReport {
  const ascending = [...file.keys].sort((a, b) => a.id - b.id);
  const digest = createHash('sha256').update('jitpaxos keys\n');
  for (const { id, role, owner, secret } of ascending) {
    digest.update(`${id} ${role} ${owner ?? id} `);
    withSecret(secret, (bytes) => digest.update(bytes));
    digest.update('\n');
  }
  return { use: file.use, loaded: ascending.map(({ id }) => id), fingerprint: digest.digest('hex').slice(0, 8) };
}

/** Keys that a report names with forged datagrams. Key files may have more, and a report has to stay short. */
export const FORGED_KEYS_MAX = 64;

/** Counts of forged datagrams by the id of a loaded key, largest first. @param forged by slot of the keyring */
export function forgedReport(forged: readonly number[], keys: Pick<Keyring, 'idOf'>): Record<string, number> {
  const loaded: [id: number, count: number][] = [];
  forged.forEach((count, slot) => {
    const id = keys.idOf(slot);
    if (id !== 0) loaded.push([id, count]);
  });
  return Object.fromEntries(loaded.sort(([, a], [, b]) => b - a).slice(0, FORGED_KEYS_MAX));
}

/** Names of the key files that `jitpaxos init` writes beside the cluster file, where processes look for them. */
export const KEY_FILE_NAMES = { replica: 'replica.keys', client: 'client.keys' } as const;

/** The default cluster file; files that belong to another cluster file contain its name. */
const DEFAULT_CLUSTER_FILE = 'cluster.json';

/**
 * Prefix of files that belong to a cluster file, so that clusters can share a directory: nothing for `cluster.json`,
 * `monday.` for `monday.json`.
 */
export function prefixBeside(clusterFile: string): string {
  const name = basename(clusterFile);
  return name === DEFAULT_CLUSTER_FILE ? '' : `${name.replace(/\.json$/, '')}.`;
}

/** The key file that belongs to a cluster file. */
export function newKeyFileBeside(clusterFile: string, kind: keyof typeof KEY_FILE_NAMES): string {
  return join(dirname(clusterFile), `${prefixBeside(clusterFile)}${KEY_FILE_NAMES[kind]}`);
}

/** The key file that a process looks for beside a cluster file: `client.keys`, `monday.client.keys`. */
export function keyFileBeside(clusterFile: string, kind: keyof typeof KEY_FILE_NAMES): string {
  const own = newKeyFileBeside(clusterFile, kind);
  const plain = join(dirname(clusterFile), KEY_FILE_NAMES[kind]);
  // A file from before key file names contained the cluster's name.
  return own !== plain && !existsSync(own) && existsSync(plain) ? plain : own;
}

/** The keys of a process and their source, so that they can be read again. */
export interface ProcessKeys {
  readonly ring: Keyring;
  /** In a replica of a cluster with a keyed chain: its secret, which is then forgotten here. */
  takeChainSecret(): string | undefined;
  /** Reads the file again. Throws the errors of `openKeys`; the current keys then stay. */
  reload(): { readonly added: readonly number[]; readonly removed: readonly number[] };
}

/**
 * The keys that a process needs, or undefined in a cluster without keys. `keys`: path or content; default: the file
 * beside the cluster file. Throws JitPaxosError `key-file-unreadable`, `key-file-invalid`, `key-file-exposed`; for a
 * replica also `chain-secret-missing` and `chain-differs`; `option-invalid` for keys in a cluster without
 * authentication.
 */
export function openKeys(
  cluster: Cluster,
  clusterSource: string | ClusterConfig,
  keys: string | KeyFile | undefined,
  speaksFor: 'replica' | 'client',
): ProcessKeys | undefined {
  if (cluster.authentication === 'none') {
    if (keys === undefined) return undefined;
    throw new JitPaxosError(
      'option-invalid',
      'keys are given, but the cluster has none; write "authentication": "keys" into the cluster file on every host, or leave the keys out',
    );
  }
  const source = keys ?? (typeof clusterSource === 'string' ? keyFileBeside(clusterSource, speaksFor) : undefined);
  if (source === undefined)
    throw new JitPaxosError(
      'key-file-unreadable',
      'the cluster authenticates its datagrams and no keys are given; give the path of a key file, or its content, as `keys`',
    );
  const load = (): KeyFile => loadKeys(source, cluster.id, speaksFor);
  const file = load();
  let { chainSecret } = file;
  if (speaksFor === 'replica') checkChainSecret(cluster, chainSecret);
  const digest = chainSecret === undefined ? undefined : digestOf(chainSecret);
  const ring = new Keyring(file, speaksFor === 'replica');
  const takeChainSecret = (): string | undefined => {
    const taken = chainSecret;
    chainSecret = undefined;
    return taken;
  };
  const reload = (): ReturnType<Keyring['replace']> => {
    const next = load();
    if ((next.chainSecret === undefined ? undefined : digestOf(next.chainSecret)) !== digest)
      throw new JitPaxosError(
        'chain-differs',
        'the "chainSecret" of the key file is not the one in use; put that back: the log depends on it, and it stays the same for the life of the cluster',
      );
    return ring.replace(next);
  };
  return { ring, takeChainSecret, reload };
}
