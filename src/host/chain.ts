/**
 * What chains the log of a cluster: the function that the cluster file names, and, in clusters with keys, a secret that
 * is only in the replicas' key file. Both are chosen when the cluster is set up and never change: the log, snapshots
 * and agreement between replicas depend on them. See docs/internals/decisions/keyed-chain.md.
 */
import { createHash } from 'node:crypto';
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../native/hash64.js';
import { loadSipHash, SIP_SECRET_BYTES } from '../native/siphash.js';
import { chainOf, UNKEYED_FINGERPRINT, unkeyedChain, type Chain } from '../protocol/contract.js';

/** The second one needs keys. */
export const CHAIN_FUNCTIONS = ['xxh3-64', 'siphash-2-4'] as const;
export type ChainFunction = (typeof CHAIN_FUNCTIONS)[number];

/** What a cluster file says about the chain. */
export interface ChainChoice {
  readonly authentication: 'none' | 'keys';
  readonly chain: ChainFunction;
}

/** The function for every new cluster with keys. */
export const KEYED_CHAIN: ChainFunction = 'siphash-2-4';

export { SIP_SECRET_BYTES as CHAIN_SECRET_BYTES };

/**
 * @param secret `chainSecret` of the replicas' key file, undefined if it has none. Throws the errors of
 * `checkChainSecret`.
 */
export function openChain(cluster: Pick<ChainChoice, 'chain'>, secret: string | undefined, hash: Hash64): Chain {
  checkChainSecret(cluster, secret);
  if (secret === undefined) return unkeyedChain(hash);
  const bytes = Buffer.from(secret, 'hex');
  const keyed = loadSipHash(bytes);
  bytes.fill(0);
  return chainOf(keyed, chainFingerprint(cluster.chain, secret));
}

/** The first four bytes of a SHA-256 of function and secret, for segments, snapshots and messages between replicas. */
function chainFingerprint(name: ChainFunction, secret: string | undefined): number {
  if (secret === undefined) return UNKEYED_FINGERPRINT;
  const digest = createHash('sha256').update(`jitpaxos chain ${name}\n`).update(Buffer.from(secret, 'hex')).digest();
  const fingerprint = digest.readInt32BE(0);
  return fingerprint === 0 || fingerprint === UNKEYED_FINGERPRINT ? UNKEYED_FINGERPRINT + 1 : fingerprint;
}

/** Eight hexadecimal digits, for display. */
export function showFingerprint(fingerprint: number): string {
  return (fingerprint >>> 0).toString(16).padStart(8, '0');
}

/**
 * Throws JitPaxosError `chain-secret-missing` or `chain-differs` if cluster file and key file do not belong together.
 */
export function checkChainSecret(cluster: Pick<ChainChoice, 'chain'>, secret: string | undefined): void {
  const keyed = cluster.chain === KEYED_CHAIN;
  if (keyed && secret === undefined) {
    throw new JitPaxosError(
      'chain-secret-missing',
      `the cluster file says "chain": "${cluster.chain}", and the replicas' key file has no "chainSecret"; copy the key file of a replica that has it. It was made by jitpaxos init, is the same on all replicas, and cannot be made again`,
    );
  }
  if (!keyed && secret !== undefined) {
    throw new JitPaxosError(
      'chain-differs',
      `the replicas' key file has a "chainSecret", and the cluster file does not say "chain": "${KEYED_CHAIN}"; use the cluster file that jitpaxos init wrote beside it: the chain of a cluster never changes`,
    );
  }
}

/**
 * With keys and the older chain, any client's key is enough to make replicas diverge. Undefined if there is nothing to
 * warn about.
 */
export function chainWarning({ authentication, chain }: ChainChoice): string | undefined {
  if (authentication === 'none' || chain === KEYED_CHAIN) return undefined;
  return 'the chain of this cluster has no secret: the holder of any of its keys, even a read-only one, can make replicas hold different data unnoticed';
}

export const CHAIN_REMEDY =
  'move to a cluster with a keyed chain by a backup: docs/operate/operations.md, "A keyed chain for an old cluster"';
