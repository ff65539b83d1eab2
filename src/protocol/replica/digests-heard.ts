/** What each replica said of its state at an index, for the last few indexes. Index 0: its limits. */
import { StateDigest } from '../../wire/messages.js';
import { readI32, readIndex } from '../../wire/u64.js';
import { packLimits } from './limits-digest.js';
import type { Limits } from '../config.js';

/** Indexes whose digests are remembered, for each replica, besides index 0. */
export const INDEXES_KEPT = 4;

/** The chain of a log at an index, and the digest of the state there. Index 0: the limits of a replica. */
export interface DigestAt {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly digestHi: number;
  readonly digestLo: number;
}

/** The StateDigest at `bytes[o]`. */
export function readDigest(bytes: Uint8Array, o: number): DigestAt {
  const at = StateDigest.at;
  return {
    index: readIndex(bytes, o + at.index),
    chainHi: readI32(bytes, o + at.chain),
    chainLo: readI32(bytes, o + at.chain + 4),
    digestHi: readI32(bytes, o + at.digest),
    digestLo: readI32(bytes, o + at.digest + 4),
  };
}

/** @param features that the log began with, a mask */
export function limitsDigest(limits: Limits, features: number): DigestAt {
  return { index: 0, ...packLimits(limits, features) };
}

/** What two replicas are compared by: the state; at index 0 everything. */
export function comparedPart(said: DigestAt): string {
  return said.index === 0
    ? `${said.chainHi},${said.chainLo},${said.digestHi},${said.digestLo}`
    : `${said.digestHi},${said.digestLo}`;
}

/** True when both may be compared: a state is that behind a log, so the logs must be equal. */
export function areComparable(own: DigestAt, other: DigestAt): boolean {
  return own.index === 0 || (other.chainHi === own.chainHi && other.chainLo === own.chainLo);
}

export class DigestsHeard {
  private readonly said: DigestAt[][];

  constructor(replicas: number) {
    this.said = Array.from({ length: replicas }, () => []);
  }

  of(replica: number, index: number): DigestAt | undefined {
    return this.said[replica]!.find((one) => one.index === index);
  }

  /** Replicas that have said something of that index; a mask. */
  heardOf(index: number): number {
    let mask = 0;
    this.said.forEach((_, r) => {
      if (this.of(r, index) !== undefined) mask |= 1 << r;
    });
    return mask;
  }

  forget(replica: number): void {
    this.said[replica]!.length = 0;
  }

  take(replica: number, said: DigestAt): void {
    const list = this.said[replica]!;
    const before = list.findIndex(({ index }) => index === said.index);
    if (before >= 0) list[before] = said;
    else list.push(said);
    // The limits, which come first, stay.
    while (list.length > INDEXES_KEPT + 1)
      list.splice(
        list.findIndex(({ index }) => index !== 0),
        1,
      );
  }
}
