/**
 * The members in a cluster that begins with a backup. The rule: who the hosts of the old cluster were says nothing of the
 * new one. It begins in epoch 0 with the replicas of its own file, whose data directories nobody has named yet.
 *
 * All replicas restore the same backup and change it in the same way, so they compute the same from it.
 */
import type { Hasher, Snapshot } from '../protocol/contract.js';
import { Entry, ENTRY_HEADER_BYTES } from '../protocol/log/entry.js';
import { Feature, featureOf, maskOf } from '../protocol/log/features.js';
import { featuresIn, withMembership } from '../protocol/log/snapshots.js';
import { firstMembership } from '../protocol/membership/membership.js';
import { decodeOperation } from '../protocol/membership/operations.js';
import { RequestFlag } from '../wire/messages.js';

/**
 * Takes the changes of the members out of entries, in place: they stay in the log, and are none any more. Returns the
 * snapshot with the first members of the new cluster.
 * @param replicas of the new cluster @param features that are on before the first entry if there is no snapshot, a mask
 * @param chain of the cluster that was backed up, or the one that the entries' features were carried to
 */
export function beginMembersAnew(
  snapshot: Snapshot | undefined,
  entries: readonly Uint8Array[],
  replicas: number,
  features: number,
  chain: Hasher,
): Snapshot | undefined {
  let on = snapshot === undefined ? features : featuresIn(snapshot);
  const entry = new Entry();
  for (const bytes of entries) {
    entry.pointAtEntry(bytes, 0, bytes.length);
    const length = bytes.length - ENTRY_HEADER_BYTES;
    if (entry.flags === RequestFlag.feature) {
      const number = featureOf(bytes, ENTRY_HEADER_BYTES, length, chain);
      if (number > 0) on |= maskOf(number);
    }
    // Before that the machine executed it, whatever it was.
    if (entry.flags !== RequestFlag.configure || (on & Feature.membership) === 0) continue;
    if (decodeOperation(bytes, ENTRY_HEADER_BYTES, length) !== undefined) bytes.fill(0, ENTRY_HEADER_BYTES);
  }
  return snapshot === undefined ? undefined : withMembership(snapshot, firstMembership(replicas));
}
