/**
 * A snapshot's bytes: everything that results from the entries up to its index. All big-endian.
 *
 *     version u32 | index u64 | chain u64 | key of that entry: timestamp u64, session u64 | sessions' length u32 |
 *     sessions | machine state
 */
import { readI32, readIndex, writeI32, writeIndex } from '../../wire/u64.js';
import type { Snapshot } from '../contract.js';
import { keyFollows, type Log } from './log.js';
import { sessionsFault, type SessionBounds, type SessionTable } from './sessions.js';
import { invariant } from '../invariant.js';

/**
 * All replicas of a cluster must write the same version: see docs/internals/decisions/versions.md before raising it.
 */
export const SNAPSHOT_FORMAT = { oldest: 1, newest: 1, written: 1 } as const;
const HEADER_BYTES = 40;
/** Offset of the key in the header, as in an entry. */
const KEY = 20;

export function encodeSnapshot(log: Log, index: number, sessions: SessionTable, machine: Uint8Array): Snapshot {
  const sessionBytes = sessions.encodedLength();
  const bytes = new Uint8Array(HEADER_BYTES + sessionBytes + machine.length);
  writeI32(bytes, 0, SNAPSHOT_FORMAT.written);
  writeIndex(bytes, 4, index);
  writeI32(bytes, 12, log.chainHi(index));
  writeI32(bytes, 16, log.chainLo(index));
  writeI32(bytes, 20, log.timestampHi(index));
  writeI32(bytes, 24, log.timestampLo(index));
  writeI32(bytes, 28, log.sessionHi(index));
  writeI32(bytes, 32, log.sessionLo(index));
  writeI32(bytes, 36, sessionBytes);
  const end = sessions.write(bytes, HEADER_BYTES);
  invariant(end === HEADER_BYTES + sessionBytes, 'the session table is as long as it said');
  bytes.set(machine, end);
  return { index, chainHi: log.chainHi(index), chainLo: log.chainLo(index), bytes };
}

/** Reads the header. Undefined if the bytes are not a snapshot of this version. */
export function decodeSnapshot(bytes: Uint8Array): Snapshot | undefined {
  if (bytes.length < HEADER_BYTES || readI32(bytes, 0) !== SNAPSHOT_FORMAT.written) return undefined;
  const index = readIndex(bytes, 4);
  const sessionBytes = readI32(bytes, 36);
  if (!(index >= 0) || sessionBytes < 0 || HEADER_BYTES + sessionBytes > bytes.length) return undefined;
  return { index, chainHi: readI32(bytes, 12), chainLo: readI32(bytes, 16), bytes };
}

/** The state machine's part. */
export function machineBytes(snapshot: Snapshot): Uint8Array {
  return snapshot.bytes.subarray(HEADER_BYTES + readI32(snapshot.bytes, 36));
}

/**
 * Why no replica with these limits can have written it, in a few words; undefined if one can. Only the machine can
 * check its own part. Takes a snapshot that `decodeSnapshot` read.
 */
export function snapshotFault(snapshot: Snapshot, bounds: SessionBounds): string | undefined {
  const { bytes, index } = snapshot;
  return sessionsFault(
    bytes,
    HEADER_BYTES,
    HEADER_BYTES + readI32(bytes, 36),
    index,
    readI32(bytes, KEY),
    readI32(bytes, KEY + 4),
    bounds,
  );
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
  sessions.read(snapshot.bytes, HEADER_BYTES);
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
