/**
 * A snapshot's bytes: everything that results from the entries up to its index. All big-endian.
 *
 *     version u32 | index u64 | chain u64 | key of that entry: timestamp u64, session u64 | sessions' length u32 |
 *     features u32, from version 2 on | membership's length u32 | membership, both in version 3 only | sessions |
 *     machine state
 *
 * Version 3 is written once the feature `membership` is on (features.ts), version 2 once another one is, and then all
 * replicas read it. Without features it stays version 1, byte for byte.
 */
import { readI32, readIndex, writeI32, writeIndex } from '../../wire/u64.js';
import type { Hasher, Snapshot } from '../contract.js';
import { decodeMembership, encodeMembership, type Membership } from '../membership/membership.js';
import { Feature, unknownIn } from './features.js';
import { keyFollows, type Log } from './log.js';
import type { SnapshotMemory } from './snapshot-memory.js';
import { sessionsFault, type SessionBounds, type SessionTable } from './sessions.js';
import { invariant } from '../invariant.js';

/**
 * All replicas of a cluster must write the same version: see docs/internals/decisions/versions.md before raising it.
 */
export const SNAPSHOT_FORMAT = { oldest: 1, newest: 3, written: 1 } as const;
/** Longest snapshot that can be handed to another replica: its offsets are read as int32. */
export const SNAPSHOT_BYTES_MAX = 0x7fffffff;
const HEADER_BYTES = 40;
const FEATURES_AT = 40;
const MEMBERSHIP_AT = 44;
/** Offset of the key in the header, as in an entry. */
const KEY = 20;

/**
 * @param features that are on behind entry `index`, a mask
 * @param membership behind that entry; it counts with the feature `membership` only
 */
export function encodeSnapshot(
  log: Log,
  index: number,
  features: number,
  membership: Membership,
  sessions: SessionTable,
  machine: Uint8Array,
): Snapshot {
  const snapshot = encodeHead(log, index, features, membership, sessions.encodedLength(), machine.length);
  const { bytes } = snapshot;
  const end = sessions.write(bytes, sessionsAt(snapshot));
  invariant(end + machine.length === bytes.length, 'the session table is as long as it said');
  bytes.set(machine, end);
  return snapshot;
}

/** All of it before the sessions, with room for the rest. @param memory where it is; what is there is written over */
export function encodeHead(
  log: Log,
  index: number,
  features: number,
  membership: Membership,
  sessionBytes: number,
  machineLength: number,
  memory?: SnapshotMemory,
): Snapshot {
  const hosts = (features & Feature.membership) === 0 ? undefined : encodeMembership(membership);
  const version = features === 0 ? SNAPSHOT_FORMAT.written : hosts === undefined ? 2 : SNAPSHOT_FORMAT.newest;
  const start = headerBytes(version) + (hosts === undefined ? 0 : hosts.length);
  invariant(
    (features & Feature.sessionQuotas) === 0 || sessionBytes <= SNAPSHOT_BYTES_MAX,
    'with quotas a session table fits a snapshot that can be offered',
  );
  const length = start + sessionBytes + machineLength;
  const bytes = memory?.take(length) ?? new Uint8Array(length);
  writeI32(bytes, 0, version);
  if (features !== 0) writeI32(bytes, FEATURES_AT, features);
  if (hosts !== undefined) {
    writeI32(bytes, MEMBERSHIP_AT, hosts.length);
    bytes.set(hosts, MEMBERSHIP_AT + 4);
  }
  writeIndex(bytes, 4, index);
  writeI32(bytes, 12, log.chainHi(index));
  writeI32(bytes, 16, log.chainLo(index));
  writeI32(bytes, 20, log.timestampHi(index));
  writeI32(bytes, 24, log.timestampLo(index));
  writeI32(bytes, 28, log.sessionHi(index));
  writeI32(bytes, 32, log.sessionLo(index));
  writeI32(bytes, 36, sessionBytes);
  return { index, chainHi: log.chainHi(index), chainLo: log.chainLo(index), bytes };
}

/** Reads the header. Undefined if the bytes are not a snapshot of this version. */
export function decodeSnapshot(bytes: Uint8Array): Snapshot | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const version = readI32(bytes, 0);
  if (version < SNAPSHOT_FORMAT.oldest || version > SNAPSHOT_FORMAT.newest) return undefined;
  if (bytes.length < headerBytes(version)) return undefined;
  const index = readIndex(bytes, 4);
  const sessionBytes = readI32(bytes, 36);
  if (
    !(index >= 0) ||
    sessionBytes < 0 ||
    hostsLength(bytes) < 0 ||
    startOfSessions(bytes) + sessionBytes > bytes.length
  )
    return undefined;
  return { index, chainHi: readI32(bytes, 12), chainLo: readI32(bytes, 16), bytes };
}

function headerBytes(version: number): number {
  return version === 1 ? HEADER_BYTES : version === 2 ? FEATURES_AT + 4 : MEMBERSHIP_AT + 4;
}

function hostsLength(bytes: Uint8Array): number {
  return readI32(bytes, 0) < 3 ? 0 : readI32(bytes, MEMBERSHIP_AT);
}

function startOfSessions(bytes: Uint8Array): number {
  return headerBytes(readI32(bytes, 0)) + hostsLength(bytes);
}

/** Where the sessions begin. */
export function sessionsAt({ bytes }: Snapshot): number {
  return startOfSessions(bytes);
}

/**
 * Who the hosts are behind its last entry; undefined if its version does not say, or if it says what cannot be. Takes a
 * snapshot that `decodeSnapshot` read.
 */
export function membershipIn({ bytes }: Snapshot): Membership | undefined {
  return readI32(bytes, 0) < 3 ? undefined : decodeMembership(bytes, MEMBERSHIP_AT + 4, startOfSessions(bytes));
}

/** The same state with other members; the snapshot itself if it does not say who they are. */
export function withMembership(snapshot: Snapshot, membership: Membership): Snapshot {
  const { bytes, index, chainHi, chainLo } = snapshot;
  if (readI32(bytes, 0) < 3) return snapshot;
  const hosts = encodeMembership(membership);
  const rest = bytes.subarray(startOfSessions(bytes));
  const changed = new Uint8Array(MEMBERSHIP_AT + 4 + hosts.length + rest.length);
  changed.set(bytes.subarray(0, MEMBERSHIP_AT));
  writeI32(changed, MEMBERSHIP_AT, hosts.length);
  changed.set(hosts, MEMBERSHIP_AT + 4);
  changed.set(rest, MEMBERSHIP_AT + 4 + hosts.length);
  // Not with a digest, which is that of the other bytes.
  return { index, chainHi, chainLo, bytes: changed };
}

/** Features that are on behind its last entry, a mask. */
export function featuresIn({ bytes }: Snapshot): number {
  return readI32(bytes, 0) === 1 ? 0 : readI32(bytes, FEATURES_AT);
}

/**
 * Where the machine's part begins in a snapshot of `length` bytes, of which `there` have come. -1: that does not show
 * yet; Infinity: these bytes are not a snapshot of this version.
 */
export function machineStart(bytes: Uint8Array, there: number, length: number): number {
  if (there < HEADER_BYTES) return -1;
  const version = readI32(bytes, 0);
  if (version < SNAPSHOT_FORMAT.oldest || version > SNAPSHOT_FORMAT.newest) return Infinity;
  if (there < headerBytes(version)) return -1;
  const sessionBytes = readI32(bytes, 36);
  if (sessionBytes < 0 || hostsLength(bytes) < 0) return Infinity;
  const start = startOfSessions(bytes) + sessionBytes;
  return start <= length ? start : Infinity;
}

/** The state machine's part. */
export function machineBytes(snapshot: Snapshot): Uint8Array {
  return snapshot.bytes.subarray(sessionsAt(snapshot) + readI32(snapshot.bytes, 36));
}

/** Why a snapshot cannot be installed if the state machine throws this when it restores its part. */
export function machineRefuses(error: unknown): string {
  return `the state machine refuses its part: ${error instanceof Error ? error.message : String(error)}`;
}

/**
 * Why no replica with these limits can have written it, in a few words; undefined if one can. Only the machine can
 * check its own part. Takes a snapshot that `decodeSnapshot` read.
 */
export function snapshotFault(snapshot: Snapshot, bounds: SessionBounds): string | undefined {
  const { bytes, index } = snapshot;
  const unknown = unknownIn(featuresIn(snapshot));
  if (unknown !== 0) return `feature ${unknown} is on, which only a newer version knows`;
  if (((featuresIn(snapshot) & Feature.membership) !== 0) !== (readI32(bytes, 0) === 3))
    return 'it does not say who the hosts are, or says it without the feature membership';
  if (readI32(bytes, 0) === 3) {
    const membership = membershipIn(snapshot);
    if (membership === undefined || membership.index > index) return 'its hosts cannot be those of a cluster';
  }
  const start = sessionsAt(snapshot);
  return sessionsFault(
    bytes,
    start,
    start + readI32(bytes, 36),
    index,
    readI32(bytes, KEY),
    readI32(bytes, KEY + 4),
    bounds,
    (featuresIn(snapshot) & Feature.sessionQuotas) !== 0,
  );
}

/** Writes XXH3-64 of its bytes to `out[offset]`: known already, or the work of milliseconds for a long one. */
export function writeDigest({ bytes, digest }: Snapshot, hasher: Hasher, out: Uint8Array, offset: number): void {
  if (digest === undefined) hasher.hash64(bytes, 0, bytes.length, out, offset);
  else out.set(digest, offset);
}

/** The timestamp of the snapshot's last entry: high and low half. */
export function stampOf({ bytes }: Snapshot): readonly [number, number] {
  return [readI32(bytes, KEY), readI32(bytes, KEY + 4)];
}

/** Whether the key of the entry in wire form at `source[offset]` is above that of the snapshot's last entry. */
export function followsSnapshot(snapshot: Snapshot, source: Uint8Array, offset: number): boolean {
  return keyFollows(snapshot.bytes, KEY, source, offset);
}

/** Takes this replica's own snapshot, or one in which `snapshotFault` found nothing. */
export function restoreSessions(snapshot: Snapshot, sessions: SessionTable): void {
  sessions.read(snapshot.bytes, sessionsAt(snapshot));
}

/** Starts the log again, empty, behind the snapshot. */
export function installBase(snapshot: Snapshot, log: Log): void {
  const { bytes, index, chainHi, chainLo } = snapshot;
  log.install({
    index,
    chainHi,
    chainLo,
    timestampHi: readI32(bytes, KEY),
    timestampLo: readI32(bytes, KEY + 4),
    sessionHi: readI32(bytes, KEY + 8),
    sessionLo: readI32(bytes, KEY + 12),
  });
}
