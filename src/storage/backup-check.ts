/**
 * What the content of a backup has to be so that a replica can begin with it. The rule: a replica trusts its own log, and
 * a log that no replica wrote would end it at each start. A backup becomes that log, and may come from anybody, so it is
 * checked as strictly as what another replica sends.
 */
import { LIMITS_MAX } from '../protocol/config.js';
import type { Snapshot } from '../protocol/contract.js';
import { ENTRY_HEADER_BYTES } from '../protocol/log/entry.js';
import { keyFollows } from '../protocol/log/log.js';
import { decodeSnapshot, followsSnapshot, SNAPSHOT_FORMAT, snapshotFault } from '../protocol/log/snapshots.js';
import { readI32 } from '../wire/u64.js';
import { ENTRY_LENGTH_BYTES } from './log-format.js';

/** A million entries a second reach it after 142 years; the numbers above it, up to 2⁵³, keep room for more. */
export const MAX_INDEX = 2 ** 52;

/** The key in front of a log's first entry. */
const NO_KEY = new Uint8Array(16);

/**
 * Why no replica, whatever its limits, can have written this snapshot; undefined if one can. Only the machine can check
 * its own part.
 */
export function snapshotBytesFault(snapshot: Snapshot): string | undefined {
  const { bytes } = snapshot;
  if (bytes.length < 4) return `it has ${bytes.length} bytes`;
  const format = readI32(bytes, 0);
  if (format < SNAPSHOT_FORMAT.oldest || format > SNAPSHOT_FORMAT.newest)
    return `it is in format ${format}, and this version reads ${SNAPSHOT_FORMAT.oldest} to ${SNAPSHOT_FORMAT.newest}`;
  const decoded = decodeSnapshot(bytes);
  if (decoded === undefined) return 'its header is cut off, or its session table is longer than it is';
  if (decoded.index !== snapshot.index) return `it is of entry ${decoded.index}, and the backup says ${snapshot.index}`;
  if (decoded.chainHi !== snapshot.chainHi || decoded.chainLo !== snapshot.chainLo)
    return 'its chain is not the one that the backup says';
  return snapshotFault(decoded, LIMITS_MAX);
}

/**
 * Adds the `count` entries that lie from `from` on to `entries`. Returns the offset behind the last one, or in a few words
 * why no replica, whatever its limits, can have such entries behind this snapshot.
 */
export function takeEntries(
  bytes: Uint8Array,
  from: number,
  snapshot: Snapshot | undefined,
  count: number,
  entries: Uint8Array[],
): number | string {
  const first = (snapshot?.index ?? 0) + 1;
  const longest = ENTRY_HEADER_BYTES + LIMITS_MAX.operationBytes;
  if (count > LIMITS_MAX.logEntries) return `it has ${count} entries, and a log has at most ${LIMITS_MAX.logEntries}`;
  let at = from;
  let before: Uint8Array | undefined = snapshot === undefined ? NO_KEY : undefined;
  let beforeAt = 0;
  for (let i = 0; i < count; i++) {
    const name = `entry ${first + i}, at byte ${at},`;
    if (at + ENTRY_LENGTH_BYTES > bytes.length)
      return `${name} is missing: the backup says that entry ${first + count - 1} is the last`;
    const length = readI32(bytes, at);
    if (length < ENTRY_HEADER_BYTES || length > longest)
      return `${name} has ${length} bytes, instead of ${ENTRY_HEADER_BYTES} to ${longest}`;
    const entry = at + ENTRY_LENGTH_BYTES;
    if (entry + length > bytes.length)
      return `${name} has ${length} bytes, and is cut off after ${bytes.length - entry}`;
    const follows =
      before === undefined ? followsSnapshot(snapshot!, bytes, entry) : keyFollows(before, beforeAt, bytes, entry);
    if (!follows) return `${name} has a key that is not above the key before it`;
    entries.push(bytes.subarray(entry, entry + length));
    before = bytes;
    beforeAt = entry;
    at = entry + length;
  }
  return at;
}
