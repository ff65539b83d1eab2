/**
 * Changes of replicated behaviour, each with a name: what replicas compute from the log after the entry that switches it
 * on (docs/internals/decisions/versions.md, rule 2). A log without that entry gives the same results as ever.
 *
 * The rule (S), *all at the same index*: a feature is on for every entry behind the one that names it, and for none
 * before. Which ones are on is part of the snapshot. A replica that does not know the feature stops at that entry: what
 * it would compute from there on is not what the others compute.
 *
 * Only who has the secret of the chain can switch one on: the operation carries a token, the chain function over the
 * rest of it. Otherwise any client could stop the replicas that are not upgraded yet. A chain input is longer than these
 * 16 bytes, so that neither can be taken for the other. Without keys anyone can compute the token.
 */
import { JitPaxosError } from '../../errors.js';
import { readI32, writeI32 } from '../../wire/u64.js';
import type { Hasher } from '../contract.js';

/** In the order of their numbers, from 1. A number is never reused. */
export const FEATURE_NAMES = ['session-quotas', 'membership', 'store', 'redis'] as const;
export type FeatureName = (typeof FEATURE_NAMES)[number];
/** Those that an operator can switch on, and a cluster file can name. */
export const OFFERED_FEATURES: readonly FeatureName[] = ['session-quotas', 'membership', 'store', 'redis'];
/**
 * Those that a new cluster begins with: `jitpaxos init` writes them. Not `store`: it makes every write dearer, and who
 * needs it switches it on. Nor `redis`, which does nothing without `store`.
 */
export const FIRST_FEATURES: readonly FeatureName[] = ['session-quotas', 'membership'];

/** A set of features is a mask: bit n − 1 is the feature with number n. */
export const Feature = {
  /** The session table is shared by owners, and keeps a bounded number of bytes of results (sessions.ts). */
  sessionQuotas: 1,
  /** Entries change who the hosts are (membership/). */
  membership: 2,
  /** The state machine is of level 1 (machine/state-machine.ts, `raise`). */
  store: 4,
  /** Together with `store`: the state machine is of level 2. */
  redis: 8,
} as const;
export const KNOWN_FEATURES = (1 << FEATURE_NAMES.length) - 1;
/** Features that can ever be: as many as a mask has bits. */
const FEATURES_MAX = 31;

/** `features` in ASCII, the number, four zero bytes, the token. */
const FEATURE_BYTES = 24;
const NAMED_BYTES = 16;
const MAGIC_HI = 0x66656174;
const MAGIC_LO = 0x75726573;

export class FeatureUnknownError extends JitPaxosError {
  override readonly name = 'FeatureUnknownError';
  constructor(number: number, where: string) {
    super(
      'feature-unknown',
      `${where} feature ${number}, which this version does not know: what replicas compute has changed there. Start this replica with the version that the others run`,
    );
  }
}

/** The operation that switches a feature on. @param chain what chains the log of the cluster */
export function featureOperation(number: number, chain: Hasher): Uint8Array {
  const operation = new Uint8Array(FEATURE_BYTES);
  writeI32(operation, 0, MAGIC_HI);
  writeI32(operation, 4, MAGIC_LO);
  writeI32(operation, 8, number);
  chain.hash64(operation, 0, NAMED_BYTES, operation, NAMED_BYTES);
  return operation;
}

/** The number of the feature that an operation switches on; 0 if it is not such an operation, or not of this cluster. */
export function featureOf(bytes: Uint8Array, offset: number, length: number, chain: Hasher): number {
  if (length !== FEATURE_BYTES) return 0;
  const number = readI32(bytes, offset + 8);
  if (number < 1 || number > FEATURES_MAX) return 0;
  const expected = featureOperation(number, chain);
  // All bytes are compared in any case: how long it takes says nothing about the token.
  let difference = 0;
  for (let i = 0; i < FEATURE_BYTES; i++) difference |= bytes[offset + i]! ^ expected[i]!;
  return difference === 0 ? number : 0;
}

/** The mask of one feature. */
export function maskOf(number: number): number {
  return 1 << (number - 1);
}

/** The lowest number of a mask that is not known here; 0 if all are known. */
export function unknownIn(features: number): number {
  const unknown = features & ~KNOWN_FEATURES;
  return unknown === 0 ? 0 : 32 - Math.clz32(unknown & -unknown);
}

/** The mask of some features. */
export function featuresNamed(names: readonly FeatureName[]): number {
  return names.reduce((features, name) => features | maskOf(FEATURE_NAMES.indexOf(name) + 1), 0);
}

/** Names of the features of a mask; one that is not known by its number. */
export function featureNames(features: number): string[] {
  const names: string[] = [];
  for (let number = 1; number <= FEATURES_MAX; number++)
    if ((features & maskOf(number)) !== 0) names.push(FEATURE_NAMES[number - 1] ?? `feature ${number}`);
  return names;
}
