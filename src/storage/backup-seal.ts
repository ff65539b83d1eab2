/**
 * The seal of a backup: a keyed digest that only replicas, and operators with their key file, can make. The rule: who
 * restores a backup to a cluster with keys gets the state of a cluster whose keys he has, or is told that nothing says
 * who made it. The checksums of a backup are no signature: anybody can compute them.
 *
 * The seal is a record behind the last entry, with the length field that an entry has:
 *
 *     0      4         8        12                       44
 *     | JPBS | version | key id | HMAC-SHA-256
 *
 * The digest covers the fields of the backup's header, snapshot, entries, and the record up to the digest. A release
 * from before seals takes the record for one more entry and leaves it out, because the header says which entry is the
 * last. So it reads a sealed backup, and the format of backups stays what it was.
 *
 * The key is derived (HKDF, RFC 5869) from the secret of the chain, which stays for the life of the cluster: the key file
 * of today opens the backups of all the years. Its id is then 0. In a cluster without that secret it is derived from a
 * key of the replicas, which the id names.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { readI32, writeI32 } from '../wire/u64.js';
import { ENTRY_LENGTH_BYTES } from './log-format.js';

const MAGIC = 0x4a504253;
const VERSION = 1;
const AT_KEY = 8;
const AT_DIGEST = 12;
const DIGEST_BYTES = 32;
export const SEAL_BYTES = AT_DIGEST + DIGEST_BYTES;

/** The id of a key that was derived from the secret of the chain. */
export const CHAIN_SECRET_KEY = 0;

export interface BackupKey {
  readonly id: number;
  readonly bytes: Uint8Array;
}

/** @param cluster id of the cluster that is backed up, 16 hex digits @param secret hex digits */
export function backupKey(cluster: string, id: number, secret: string): BackupKey {
  const derived = hkdfSync('sha256', Buffer.from(secret, 'hex'), '', `jitpaxos backup ${cluster}`, DIGEST_BYTES);
  return { id, bytes: new Uint8Array(derived) };
}

/** Writes the record at `at`, which ends the backup; what it covers is in place. */
export function writeSeal(bytes: Uint8Array, fieldsBytes: number, body: number, at: number, key: BackupKey): void {
  writeI32(bytes, at, MAGIC);
  writeI32(bytes, at + 4, VERSION);
  writeI32(bytes, at + AT_KEY, key.id);
  bytes.set(digestOf(bytes, fieldsBytes, body, at, key), at + AT_DIGEST);
}

/** The key id of the record from `from` to `end`, with its length field; undefined if it is not one. */
export function readSeal(bytes: Uint8Array, from: number, end: number): number | undefined {
  const at = from + ENTRY_LENGTH_BYTES;
  if (end - at !== SEAL_BYTES || readI32(bytes, from) !== SEAL_BYTES) return undefined;
  if (readI32(bytes, at) !== MAGIC || readI32(bytes, at + 4) !== VERSION) return undefined;
  const id = readI32(bytes, at + AT_KEY);
  return id < CHAIN_SECRET_KEY ? undefined : id;
}

export function holdsSeal(bytes: Uint8Array, fieldsBytes: number, body: number, at: number, key: BackupKey): boolean {
  return timingSafeEqual(
    digestOf(bytes, fieldsBytes, body, at, key),
    bytes.subarray(at + AT_DIGEST, at + AT_DIGEST + DIGEST_BYTES),
  );
}

function digestOf(bytes: Uint8Array, fieldsBytes: number, body: number, at: number, key: BackupKey): Buffer {
  return createHmac('sha256', key.bytes)
    .update(bytes.subarray(0, fieldsBytes))
    .update(bytes.subarray(body, at + AT_DIGEST))
    .digest();
}
