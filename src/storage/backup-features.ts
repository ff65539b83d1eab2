/**
 * Features of the log (protocol/log/features.ts) in a cluster that begins with a backup. The rule: the new cluster
 * computes from the entries what the old one did. The entry that switches a feature on carries a token of the old
 * cluster's chain, which the new one does not take; so it gets a token of the new chain.
 */
import type { Hasher } from '../protocol/contract.js';
import { ENTRY_HEADER_BYTES } from '../protocol/log/entry.js';
import { featureOf, featureOperation, FeatureUnknownError, maskOf, unknownIn } from '../protocol/log/features.js';

/**
 * Changes the entries that switch a feature on, in place; all others, also those that only look like one, stay as they
 * are. Returns how many there are. Throws FeatureUnknownError.
 * @param index of the first entry @param from the chain of the cluster that was backed up @param to of the new one
 */
export function carryFeatures(entries: readonly Uint8Array[], index: number, from: Hasher, to: Hasher): number {
  let carried = 0;
  entries.forEach((entry, at) => {
    const number = featureOf(entry, ENTRY_HEADER_BYTES, entry.length - ENTRY_HEADER_BYTES, from);
    if (number === 0) return;
    if (unknownIn(maskOf(number)) !== 0)
      throw new FeatureUnknownError(number, `entry ${index + at} of the backup switches on`);
    entry.set(featureOperation(number, to), ENTRY_HEADER_BYTES);
    carried++;
  });
  return carried;
}
