/**
 * What a data directory holds before it belongs to a replica: the cluster that it is for, and its identity.
 *
 * A process that waits to be added tells this identity to an operator's tool, and the log may list it before the process
 * knows. So it is durable before it is told, and a process that is started again has the same. Once the replica has made
 * its promises durable, they hold the identity, and the file is removed: it would let a directory whose promises were
 * deleted pass for that of a new host.
 *
 *     0 4 8 16 24
 *     | JPJN | version | cluster id | identity | XXH3-64 of all before |
 *
 * All big-endian.
 */
import { randomBytes } from 'node:crypto';
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../wire/envelope.js';
import { readHex, readI32, toHex, writeHex, writeI32 } from '../wire/u64.js';
import { writeWhole } from './write-whole.js';
import type { Files } from './files.js';
import { checkFormat, FORMATS } from './formats.js';
import { drawIdentity, NO_IDENTITY } from './identity.js';

export const JOINING_FILE = 'joining';
export const JOINING_ASIDE = 'joining.aside';
const MAGIC = 0x4a504a4e;
const AT_VERSION = 4;
const AT_CLUSTER = 8;
const AT_IDENTITY = 16;
const AT_CHECKSUM = 24;
const FILE_BYTES = 32;

interface Cluster {
  readonly clusterHi: number;
  readonly clusterLo: number;
}

/** The identity of a directory that waits for its host to be added; undefined if there is no such file. Throws the errors of `decodeJoining`. */
export async function readJoining(
  files: Files,
  cluster: Cluster,
  hash: Hash64,
  directory: string,
): Promise<string | undefined> {
  const bytes = await files.read(JOINING_FILE);
  return bytes === undefined ? undefined : decodeJoining(bytes, cluster, hash, `${directory}/${JOINING_FILE}`);
}

/** Draws an identity for an empty directory. Resolves when it is durable; rejects with the system's errors. */
export async function beginJoining(files: Files, cluster: Cluster, hash: Hash64): Promise<string> {
  const identity = drawIdentity(() => randomBytes(4).readInt32BE());
  await writeWhole(files, JOINING_FILE, encodeJoining(identity, cluster, hash), JOINING_ASIDE);
  return identity;
}

/** The promises are durable. Resolves when the file is gone for good; rejects with the system's errors. */
export async function removeJoining(files: Files): Promise<void> {
  await files.remove(JOINING_FILE);
  await files.sync();
}

export function encodeJoining(identity: string, cluster: Cluster, hash: Hash64): Uint8Array {
  const bytes = new Uint8Array(FILE_BYTES);
  writeI32(bytes, 0, MAGIC);
  writeI32(bytes, AT_VERSION, FORMATS.joining.written);
  writeI32(bytes, AT_CLUSTER, cluster.clusterHi);
  writeI32(bytes, AT_CLUSTER + 4, cluster.clusterLo);
  writeHex(bytes, AT_IDENTITY, identity);
  hash.hash64(bytes, 0, AT_CHECKSUM, bytes, AT_CHECKSUM);
  return bytes;
}

/** Throws JitPaxosError `data-directory-unusable` or `data-directory-foreign`. `path` is for the message. */
export function decodeJoining(bytes: Uint8Array, cluster: Cluster, hash: Hash64, path: string): string {
  const digest = new Uint8Array(8);
  hash.hash64(bytes, 0, Math.min(bytes.length, AT_CHECKSUM), digest, 0);
  const identity = bytes.length === FILE_BYTES ? readHex(bytes, AT_IDENTITY) : NO_IDENTITY;
  if (
    identity === NO_IDENTITY ||
    readI32(bytes, 0) !== MAGIC ||
    digest.some((byte, at) => byte !== bytes[AT_CHECKSUM + at])
  )
    throw new JitPaxosError(
      'data-directory-unusable',
      `${path} is damaged, so the identity of this directory is not known; if nothing else is in the directory, empty it and start with --join again. If a host with it is listed already (jitpaxos member list), remove that first`,
    );
  checkFormat(FORMATS.joining, readI32(bytes, AT_VERSION), path);
  const [hi, lo] = [readI32(bytes, AT_CLUSTER), readI32(bytes, AT_CLUSTER + 4)];
  if (hi !== cluster.clusterHi || lo !== cluster.clusterLo)
    throw new JitPaxosError(
      'data-directory-foreign',
      `${path} is of cluster ${toHex(hi, lo)}, not of cluster ${toHex(cluster.clusterHi, cluster.clusterLo)}; give each replica its own data directory`,
    );
  return identity;
}
