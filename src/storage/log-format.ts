/**
 * The layout of the files of the durable log. Numbers are big-endian; every checksum is XXH3-64.
 *
 * The log is a sequence of *frames*. Each frame is the net change of one write: entries from some index on, which
 * replace all stored entries from there on, and the whole hard state, so that a log is never on disk without its view.
 * A frame counts as a whole or not at all. Frames lie in *segments*: files of a fixed size that were filled with zeros
 * before use, so that a sync writes data and no metadata. Each frame begins at a sector boundary, so that no
 * acknowledged sector is ever written again.
 *
 * Segments belong to a *generation*. Every start, and every recovery from a disk error, begins a new generation with a
 * frame that has the whole log (flag `reset`). When that frame is durable, the older generations are removed. So a
 * replica never relies on data that an earlier process left in caches or behind a torn tail.
 *
 *   segment  log-GGGGGGGG-OOOOOOOO    (generation, ordinal in it; hex)
 *     0      4         8            16        20           24        28     32        48     56                 64  512
 *     | JPWL  | version | cluster id | replica | generation | ordinal | mode | boot id | salt | checksum of 0…55 | … | frames
 *
 *     Format 1, for a log without a keyed chain: the rest of the sector is zeros. Format 2, for a log with one:
 *     64                  68  504                 512
 *     | chain fingerprint | 0 | checksum of 0…503 | frames
 *
 *   frame
 *     0      4            8          16            20      24     28        32            36      40
 *     | JPFR | generation | sequence | body length | flags | view | logView | incarnation | count | …
 *     40     48           56           64          72     80                     88                 96
 *     | from | base index | base chain | committed | salt | checksum of the body | checksum of 0…87 | body …
 *
 *   flags: 1 reset, 2 clean, 4 the state behind the entries came from another replica and was not compared yet (HardState.isEcho)
 *
 *   body: `count` entries from index `from` on, each: length u32, entry as in protocol/log/log.ts
 *
 *   snapshot  snapshot-IIIIIIIIIIIIIIII-CCCCCCCCCCCCCCCC    (index, chain; hex)
 *     0      4         8            16        20      28      36       44                      52  56                 64
 *     | JPSN | version | cluster id | replica | index | chain | length | checksum of the bytes | … | checksum of 0…55 | bytes …
 *
 *     At 52: 0 in format 1, the chain fingerprint in format 2.
 */
import type { Hash64 } from '../native/hash64.js';
import { JitPaxosError } from '../errors.js';
import { UNKEYED_FINGERPRINT, type HardState, type Snapshot } from '../protocol/contract.js';
import { readI32, readIndex, toHex, writeI32, writeIndex } from '../wire/u64.js';
import { checkOwner, type Owner } from './hard-state.js';
import { checkFormat, FORMATS, KEYED_LOG_FORMAT } from './formats.js';

/** A disk writes this much completely or not at all. */
export const SECTOR_BYTES = 512;
export const SEGMENT_HEADER_BYTES = SECTOR_BYTES;
export const FRAME_HEADER_BYTES = 96;
export const SNAPSHOT_HEADER_BYTES = 64;
/** Size of the length field of an entry in a frame's body. */
export const ENTRY_LENGTH_BYTES = 4;
/** Suffix of unfinished files. A start removes them. */
export const UNFINISHED = '.new';
/** Prefix of segments of a damaged log. */
export const DAMAGED = 'damaged-';
/** Prefix of the files of a log that is intact, and counts as lost because its end may be missing. */
export const LOST = 'lost-';

/** Frames before this one do not count: the log begins after `baseIndex`. */
export const FRAME_RESET = 1;
/** Written last, at a clean stop: everything before it was synced, in every mode. */
export const FRAME_CLEAN = 2;
/** The hard state's `isEcho`. Older releases neither write nor read it. */
const FRAME_ECHO = 4;

const SEGMENT_MAGIC = 0x4a50574c;
const FRAME_MAGIC = 0x4a504652;
const SNAPSHOT_MAGIC = 0x4a50534e;
const BOOT_BYTES = 16;
const AT_SEGMENT_CHECKSUM = 56;
const AT_BODY_CHECKSUM = 80;
const AT_FRAME_CHECKSUM = 88;
const AT_SNAPSHOT_CHECKSUM = 56;
const AT_SEGMENT_CHAIN = 64;
const AT_SECTOR_CHECKSUM = 504;
const AT_SNAPSHOT_CHAIN = 52;

/** Whether a write is synced before it counts. */
export type LogMode = 'os' | 'fsync';
const MODES: readonly (LogMode | undefined)[] = [undefined, 'os', 'fsync'];

export interface SegmentHeader {
  readonly generation: number;
  readonly ordinal: number;
  readonly mode: LogMode;
  /** Fingerprint of the log's chain secret (protocol/contract.ts). */
  readonly chain: number;
  /** Boot id under which the segment was written, 32 hex digits. */
  readonly bootId: string;
  /** Random, the same in every frame, so that no client can forge bytes that look like a frame. */
  readonly saltHi: number;
  readonly saltLo: number;
}

export interface FrameHeader {
  readonly generation: number;
  readonly sequence: number;
  readonly bodyBytes: number;
  readonly flags: number;
  readonly hardState: HardState;
  readonly count: number;
  readonly entriesFrom: number;
  readonly baseIndex: number;
  readonly baseChainHi: number;
  readonly baseChainLo: number;
  readonly committed: number;
  readonly saltHi: number;
  readonly saltLo: number;
}

/**
 * Used if the system has no boot id. The rule: it never counts as equal, not even to itself, because two boots may both
 * have it.
 */
export const NO_BOOT_ID = '0'.repeat(2 * BOOT_BYTES);

const SEGMENT_NAME = /^log-([0-9a-f]{8})-([0-9a-f]{8})$/;
const SNAPSHOT_NAME = /^snapshot-([0-9a-f]{16})-([0-9a-f]{16})$/;

export function segmentName(generation: number, ordinal: number): string {
  return `log-${hex(generation, 8)}-${hex(ordinal, 8)}`;
}

/** Returns undefined if `name` is not the name of a segment. */
export function parseSegmentName(name: string): { readonly generation: number; readonly ordinal: number } | undefined {
  const match = SEGMENT_NAME.exec(name);
  return match === null ? undefined : { generation: parseInt(match[1]!, 16), ordinal: parseInt(match[2]!, 16) };
}

export function snapshotName(index: number, chainHi: number, chainLo: number): string {
  return `snapshot-${hex(index, 16)}-${toHex(chainHi, chainLo)}`;
}

export function isSnapshotName(name: string): boolean {
  return SNAPSHOT_NAME.test(name);
}

/** Offset of the first sector boundary at or after `bytes`. */
export function toSector(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

export function encodeSegmentHeader(header: SegmentHeader, owner: Owner, hash: Hash64): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  begin(bytes, SEGMENT_MAGIC, owner, header.chain);
  writeI32(bytes, 20, header.generation);
  writeI32(bytes, 24, header.ordinal);
  writeI32(bytes, 28, MODES.indexOf(header.mode));
  bytes.set(Buffer.from(header.bootId, 'hex').subarray(0, BOOT_BYTES), 32);
  writeI32(bytes, 48, header.saltHi);
  writeI32(bytes, 52, header.saltLo);
  hash.hash64(bytes, 0, AT_SEGMENT_CHECKSUM, bytes, AT_SEGMENT_CHECKSUM);
  if (header.chain !== UNKEYED_FINGERPRINT) {
    writeI32(bytes, AT_SEGMENT_CHAIN, header.chain);
    hash.hash64(bytes, 0, AT_SECTOR_CHECKSUM, bytes, AT_SECTOR_CHECKSUM);
  }
  return bytes;
}

/**
 * Returns undefined if the bytes are not a header. Throws JitPaxosError `data-directory-foreign`, `chain-differs` or,
 * for another format, `data-directory-unusable`. `path` is for the message.
 * @param chain the fingerprint that the header must have; undefined: any
 */
export function decodeSegmentHeader(
  bytes: Uint8Array,
  owner: Owner,
  hash: Hash64,
  path: string,
  chain?: number,
): SegmentHeader | undefined {
  if (!isWhole(bytes, SEGMENT_MAGIC, AT_SEGMENT_CHECKSUM, owner, hash, path)) return undefined;
  const keyed = readI32(bytes, 4) === KEYED_LOG_FORMAT;
  if (keyed && (bytes.length < SECTOR_BYTES || !checksumHolds(bytes, 0, AT_SECTOR_CHECKSUM, AT_SECTOR_CHECKSUM, hash)))
    return undefined;
  const found = keyed ? readI32(bytes, AT_SEGMENT_CHAIN) : UNKEYED_FINGERPRINT;
  checkChain(path, chain, found);
  const mode = MODES[readI32(bytes, 28)];
  if (mode === undefined) return undefined;
  return {
    generation: readI32(bytes, 20),
    ordinal: readI32(bytes, 24),
    mode,
    chain: found,
    bootId: Buffer.from(bytes.subarray(32, 32 + BOOT_BYTES)).toString('hex'),
    saltHi: readI32(bytes, 48),
    saltLo: readI32(bytes, 52),
  };
}

/** Writes the header of a frame, with checksums. The frame's body must already be in place behind it. */
export function encodeFrameHeader(frame: FrameHeader, bytes: Uint8Array, hash: Hash64): void {
  writeI32(bytes, 0, FRAME_MAGIC);
  writeI32(bytes, 4, frame.generation);
  writeIndex(bytes, 8, frame.sequence);
  writeI32(bytes, 16, frame.bodyBytes);
  writeI32(bytes, 20, frame.flags | (frame.hardState.isEcho === true ? FRAME_ECHO : 0));
  writeI32(bytes, 24, frame.hardState.view);
  writeI32(bytes, 28, frame.hardState.logView);
  writeI32(bytes, 32, frame.hardState.incarnation);
  writeI32(bytes, 36, frame.count);
  writeIndex(bytes, 40, frame.entriesFrom);
  writeIndex(bytes, 48, frame.baseIndex);
  writeI32(bytes, 56, frame.baseChainHi);
  writeI32(bytes, 60, frame.baseChainLo);
  writeIndex(bytes, 64, frame.committed);
  writeI32(bytes, 72, frame.saltHi);
  writeI32(bytes, 76, frame.saltLo);
  hash.hash64(bytes, FRAME_HEADER_BYTES, frame.bodyBytes, bytes, AT_BODY_CHECKSUM);
  hash.hash64(bytes, 0, AT_FRAME_CHECKSUM, bytes, AT_FRAME_CHECKSUM);
}

/** The intact header at `offset`, if it has this segment's generation and salt. Says nothing about the body. */
export function decodeFrameHeader(
  bytes: Uint8Array,
  offset: number,
  segment: SegmentHeader,
  hash: Hash64,
): FrameHeader | undefined {
  if (
    offset + FRAME_HEADER_BYTES > bytes.length ||
    readI32(bytes, offset) !== FRAME_MAGIC ||
    readI32(bytes, offset + 4) !== segment.generation
  )
    return undefined;
  if (!checksumHolds(bytes, offset, AT_FRAME_CHECKSUM, offset + AT_FRAME_CHECKSUM, hash)) return undefined;
  const flags = readI32(bytes, offset + 20);
  const header: FrameHeader = {
    generation: segment.generation,
    sequence: readIndex(bytes, offset + 8),
    bodyBytes: readI32(bytes, offset + 16),
    flags: flags & ~FRAME_ECHO,
    hardState: {
      view: readI32(bytes, offset + 24),
      logView: readI32(bytes, offset + 28),
      incarnation: readI32(bytes, offset + 32),
      ...((flags & FRAME_ECHO) === 0 ? {} : { isEcho: true }),
    },
    count: readI32(bytes, offset + 36),
    entriesFrom: readIndex(bytes, offset + 40),
    baseIndex: readIndex(bytes, offset + 48),
    baseChainHi: readI32(bytes, offset + 56),
    baseChainLo: readI32(bytes, offset + 60),
    committed: readIndex(bytes, offset + 64),
    saltHi: readI32(bytes, offset + 72),
    saltLo: readI32(bytes, offset + 76),
  };
  return header.saltHi === segment.saltHi && header.saltLo === segment.saltLo ? header : undefined;
}

export function bodyIsWhole(bytes: Uint8Array, offset: number, frame: FrameHeader, hash: Hash64): boolean {
  const body = offset + FRAME_HEADER_BYTES;
  return (
    frame.bodyBytes >= 0 &&
    body + frame.bodyBytes <= bytes.length &&
    checksumHolds(bytes, body, frame.bodyBytes, offset + AT_BODY_CHECKSUM, hash)
  );
}

/** @param chain fingerprint of the chain secret of the log that begins with this snapshot */
export function encodeSnapshotHeader(snapshot: Snapshot, owner: Owner, hash: Hash64, chain: number): Uint8Array {
  const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES);
  begin(bytes, SNAPSHOT_MAGIC, owner, chain);
  if (chain !== UNKEYED_FINGERPRINT) writeI32(bytes, AT_SNAPSHOT_CHAIN, chain);
  writeIndex(bytes, 20, snapshot.index);
  writeI32(bytes, 28, snapshot.chainHi);
  writeI32(bytes, 32, snapshot.chainLo);
  writeIndex(bytes, 36, snapshot.bytes.length);
  if (snapshot.digest === undefined) hash.hash64(snapshot.bytes, 0, snapshot.bytes.length, bytes, 44);
  else bytes.set(snapshot.digest, 44);
  hash.hash64(bytes, 0, AT_SNAPSHOT_CHECKSUM, bytes, AT_SNAPSHOT_CHECKSUM);
  return bytes;
}

/** Returns undefined if any byte of the file has changed. Throws the errors of `decodeSegmentHeader`. */
export function decodeSnapshotFile(
  bytes: Uint8Array,
  owner: Owner,
  hash: Hash64,
  path: string,
  chain?: number,
): Snapshot | undefined {
  if (bytes.length < SNAPSHOT_HEADER_BYTES || !isWhole(bytes, SNAPSHOT_MAGIC, AT_SNAPSHOT_CHECKSUM, owner, hash, path))
    return undefined;
  checkChain(
    path,
    chain,
    readI32(bytes, 4) === KEYED_LOG_FORMAT ? readI32(bytes, AT_SNAPSHOT_CHAIN) : UNKEYED_FINGERPRINT,
  );
  const length = readIndex(bytes, 36);
  if (length !== bytes.length - SNAPSHOT_HEADER_BYTES || !checksumHolds(bytes, SNAPSHOT_HEADER_BYTES, length, 44, hash))
    return undefined;
  return {
    index: readIndex(bytes, 20),
    chainHi: readI32(bytes, 28),
    chainLo: readI32(bytes, 32),
    bytes: bytes.subarray(SNAPSHOT_HEADER_BYTES),
    digest: bytes.slice(44, 52),
  };
}

/** The owner of a segment or snapshot file; undefined if its header is damaged. */
export function ownerOf(bytes: Uint8Array, hash: Hash64): Owner | undefined {
  if (bytes.length < AT_SEGMENT_CHECKSUM + 8) return undefined;
  const checkedBytes = readI32(bytes, 0) === SEGMENT_MAGIC ? AT_SEGMENT_CHECKSUM : AT_SNAPSHOT_CHECKSUM;
  return checksumHolds(bytes, 0, checkedBytes, checkedBytes, hash) ? ownerIn(bytes) : undefined;
}

function ownerIn(header: Uint8Array): Owner {
  return { clusterHi: readI32(header, 8), clusterLo: readI32(header, 12), replica: readI32(header, 16) };
}

function begin(bytes: Uint8Array, magic: number, owner: Owner, chain: number): void {
  writeI32(bytes, 0, magic);
  writeI32(bytes, 4, chain === UNKEYED_FINGERPRINT ? FORMATS.log.written : KEYED_LOG_FORMAT);
  writeI32(bytes, 8, owner.clusterHi);
  writeI32(bytes, 12, owner.clusterLo);
  writeI32(bytes, 16, owner.replica);
}

/** Checks magic and checksum, then version and owner. */
function isWhole(
  bytes: Uint8Array,
  magic: number,
  checkedBytes: number,
  owner: Owner,
  hash: Hash64,
  path: string,
): boolean {
  if (
    bytes.length < checkedBytes + 8 ||
    readI32(bytes, 0) !== magic ||
    !checksumHolds(bytes, 0, checkedBytes, checkedBytes, hash)
  )
    return false;
  checkFormat(FORMATS.log, readI32(bytes, 4), path);
  checkOwner(path, owner, ownerIn(bytes));
  return true;
}

/**
 * Throws JitPaxosError `chain-differs`: under another chain secret every entry would seem to differ from the others'
 * entries.
 */
function checkChain(path: string, expected: number | undefined, found: number): void {
  if (expected === undefined || found === expected) return;
  const [was, is] = [found, expected].map((fingerprint) =>
    fingerprint === UNKEYED_FINGERPRINT ? 'no secret' : `the secret with the fingerprint ${hex(fingerprint >>> 0, 8)}`,
  );
  const next =
    found === UNKEYED_FINGERPRINT
      ? 'take "chain" out of the cluster file again, and "chainSecret" out of the key file: a cluster goes on with the chain it began with, or moves to a new one by a backup'
      : 'use the cluster file and the replica.keys that the cluster was set up with: jitpaxos doctor shows the fingerprints of the other replicas';
  throw new JitPaxosError(
    'chain-differs',
    `${path} belongs to a log whose chain has ${was}, but by the cluster file and the replicas' key file it has ${is}; ${next}`,
  );
}

function checksumHolds(
  bytes: Uint8Array,
  offset: number,
  length: number,
  checksumOffset: number,
  hash: Hash64,
): boolean {
  const digest = new Uint8Array(8);
  hash.hash64(bytes, offset, length, digest, 0);
  return (
    readI32(digest, 0) === readI32(bytes, checksumOffset) && readI32(digest, 4) === readI32(bytes, checksumOffset + 4)
  );
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
