/**
 * The shared memory segment of AWS's ClockBound daemon, layout version 2 (docs/PROTOCOL.md of aws/clock-bound): a bound
 * on the error of CLOCK_REALTIME, and the rate by which it grows.
 *
 *   0 magic u32 u32 · 8 size u32 · 12 version u16 · 14 generation u16 · 16 as-of s, ns · 32 void-after s, ns
 *   (CLOCK_MONOTONIC)
 *   48 bound ns i64 · 56 disruption marker u64 · 64 drift ppb u32 · 68 status i32 · 72 disruption support u8 · 73
 *   padding
 *
 * The rule: the daemon makes the generation odd while it writes. A reading counts only if the generation was even and
 * the same before and after. A segment with another magic, version or size is not ClockBound's and is not trusted.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { endianness } from 'node:os';
import { reasonOf, stated, statedError, unavailable, type ClockStatus, type Stated } from './statement.js';

const CLOCKBOUND_PATH = '/var/run/clockbound/shm0';

const SIZE = 80;
const VERSION = 2;
const MAGIC = [0x414d5a4e, 0x43420200] as const;
const STATUSES: readonly ClockStatus[] = ['unknown', 'synchronized', 'free-running', 'stepped'];
const ATTEMPTS = 5;
/** A daemon that has not written for this long may be restarting; later than that, its statement is too old. */
const GRACE_NS = 5_000_000_000n;
/** The daemon uses the coarse clock, which is up to a tick behind. */
const COARSE_NS = 10_000_000n;
const DRIFT_PPB_MAX = 1e9;

export function readClockBound(monotonicNs: bigint, path: string = CLOCKBOUND_PATH): Stated {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    return unavailable('clockbound', `${path}: ${reasonOf(error)}`);
  }
  try {
    const before = Buffer.alloc(SIZE);
    const segment = Buffer.alloc(SIZE);
    const after = Buffer.alloc(SIZE);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      for (const into of [before, segment, after])
        if (readSync(fd, into, 0, SIZE, 0) !== SIZE)
          return unavailable('clockbound', `${path} is shorter than the ${SIZE} bytes of layout ${VERSION}`);
      const generations = [before, segment, after].map((bytes) => u16(bytes, 14));
      if (generations[0]! % 2 === 0 && generations.every((generation) => generation === generations[0]))
        return interpretClockBound(segment, monotonicNs);
    }
    return unavailable('clockbound', `${path} was being written in each of ${ATTEMPTS} looks`);
  } catch (error) {
    return unavailable('clockbound', `${path}: ${reasonOf(error)}`);
  } finally {
    closeSync(fd);
  }
}

/** `segment`: 80 bytes read in one piece, in this host's byte order. */
function interpretClockBound(segment: Buffer, monotonicNs: bigint): Stated {
  if (u32(segment, 0) !== MAGIC[0] || u32(segment, 4) !== MAGIC[1])
    return unavailable('clockbound', 'the segment has another magic number');
  if (u16(segment, 12) !== VERSION)
    return unavailable('clockbound', `the segment has layout ${u16(segment, 12)}, and only ${VERSION} is known`);
  if (u32(segment, 8) !== SIZE)
    return unavailable(
      'clockbound',
      `the segment says that it has ${u32(segment, 8)} bytes, layout ${VERSION} has ${SIZE}`,
    );
  if (u16(segment, 14) === 0) return unavailable('clockbound', 'the segment has never been written');
  const asOf = i64(segment, 16) * 1_000_000_000n + i64(segment, 24);
  const voidAfter = i64(segment, 32) * 1_000_000_000n + i64(segment, 40);
  const driftPpb = u32(segment, 64);
  const status = STATUSES[u32(segment, 68)];
  if (status === undefined || driftPpb >= DRIFT_PPB_MAX)
    return unavailable('clockbound', `the segment makes no sense: status ${u32(segment, 68)}, drift ${driftPpb} ppb`);
  if (asOf > monotonicNs + COARSE_NS)
    return unavailable('clockbound', 'the segment is from the future: of another boot, or not of this host');
  const age = monotonicNs > asOf ? monotonicNs - asOf : 0n;
  const known =
    monotonicNs > voidAfter ? 'unknown' : age > GRACE_NS && status === 'synchronized' ? 'free-running' : status;
  const boundNs = Number(i64(segment, 48));
  const grown = boundNs > 0 ? boundNs + (Number(age) / 1e9) * driftPpb : NaN;
  return stated({
    source: 'clockbound',
    about: 'realtime',
    status: known,
    errorNs: known === 'unknown' || known === 'stepped' ? null : statedError(grown),
    found: known === status ? status : `${status} ${Math.round(Number(age) / 1e9)} s ago, silent since`,
    detail: {
      boundNs,
      maxDriftPpb: driftPpb,
      ageMs: Math.round(Number(age) / 1e6),
      status,
      disruptionSupport: segment[72] === 1,
    },
  });
}

const LITTLE = endianness() === 'LE';

function u16(bytes: Buffer, at: number): number {
  return LITTLE ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at);
}

function u32(bytes: Buffer, at: number): number {
  return LITTLE ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
}

function i64(bytes: Buffer, at: number): bigint {
  return LITTLE ? bytes.readBigInt64LE(at) : bytes.readBigInt64BE(at);
}
