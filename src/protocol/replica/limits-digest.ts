/**
 * The limits that decide what is executed, in the form in which replicas compare them: in the place of chain and digest
 * of a StateDigest for index 0.
 */
import { DEFAULT_LIMITS, type Limits } from '../config.js';
import { featureNames } from '../log/features.js';

/** What a StateDigest says, besides its index. */
export interface PackedLimits {
  readonly chainHi: number;
  readonly chainLo: number;
  readonly digestHi: number;
  readonly digestLo: number;
}

/** Features that the upper half of the digest has room for. */
const FEATURES = 10;
const KEPT_DEFAULT = DEFAULT_LIMITS.keptResultBytes;

/**
 * In the chain: bits 0…20 maxSessions, 21…45 maxLanes, 46…61 lanesPerSession. In the digest: operationBytes and
 * resultBytes, 16 bits each, and above them what later versions added, zero if it is the default: in the upper ten bits the
 * features that the log began with, below them keptResultBytes in KiB.
 * @param features that the log began with, a mask
 */
export function packLimits(limits: Limits, features: number): PackedLimits {
  const { maxSessions, maxLanes, lanesPerSession, operationBytes, resultBytes } = limits;
  const packed = BigInt(maxSessions) | (BigInt(maxLanes) << 21n) | (BigInt(lanesPerSession) << 46n);
  return {
    chainHi: Number(BigInt.asIntN(32, packed >> 32n)),
    chainLo: Number(BigInt.asIntN(32, packed)),
    digestHi:
      (features << (32 - FEATURES)) | (limits.keptResultBytes === KEPT_DEFAULT ? 0 : limits.keptResultBytes >>> 10),
    digestLo: (operationBytes << 16) | resultBytes,
  };
}

function unpackLimits(said: PackedLimits): Record<string, number> {
  const packed = (BigInt.asUintN(32, BigInt(said.chainHi)) << 32n) | BigInt.asUintN(32, BigInt(said.chainLo));
  const bits = (from: bigint, width: number): number => Number(BigInt.asUintN(width, packed >> from));
  return {
    maxSessions: bits(0n, 21),
    maxLanes: bits(21n, 25),
    lanesPerSession: bits(46n, 16),
    operationBytes: said.digestLo >>> 16,
    resultBytes: said.digestLo & 0xffff,
    keptResultBytes: (said.digestHi & (-1 >>> FEATURES)) << 10 || KEPT_DEFAULT,
    features: said.digestHi >>> (32 - FEATURES),
  };
}

function show(name: string, value: number): string {
  return name === 'features' ? featureNames(value).join('+') || 'none' : String(value);
}

/** The limits that differ, with both values. @param there who has the others, as `there` or `at replica 1` */
export function compareLimits(own: PackedLimits, other: PackedLimits, there: string): string {
  const [mine, theirs] = [unpackLimits(own), unpackLimits(other)];
  return Object.keys(mine)
    .filter((name) => mine[name] !== theirs[name])
    .map((name) => `${name} is ${show(name, mine[name]!)} here and ${show(name, theirs[name]!)} ${there}`)
    .join(', ');
}
