/**
 * The replicas that a cluster was set up with, as a data directory remembers them.
 *
 * The rule: the number of replicas never changes, and no replica takes the place of another. Quorums follow from the
 * number and the ids, so two processes that count differently could both believe that they have one; and if two ids
 * exchange addresses, messages for one replica reach the other. An address that no replica had before is a replica that
 * moved. That is allowed and reported, because identity lies in the data directory and in the sender field of
 * datagrams, not in the address.
 */
import { JitPaxosError } from '../errors.js';

/** Throws JitPaxosError `cluster-file-changed`. `where`: the file that remembers `stored`, for the message. */
export function checkAddresses(where: string, stored: readonly string[], given: readonly string[]): void {
  if (stored.length !== given.length) {
    throw changed(
      where,
      `this cluster was set up with ${stored.length} replicas (${stored.join(', ')}), and its file now lists ${given.length}`,
      'the number of replicas of a cluster does not change; for another number, set up a new cluster with `jitpaxos init`, from a backup if needed',
    );
  }
  for (const [id, address] of given.entries()) {
    const before = stored.indexOf(address);
    if (before >= 0 && before !== id)
      throw changed(
        where,
        `the cluster file now gives replica ${id} the address ${address}, which belonged to replica ${before}`,
        'the order of the addresses tells which replica is which',
      );
  }
}

/** The replicas whose address has changed. Takes lists that `checkAddresses` accepts. */
export function movedReplicas(
  stored: readonly string[],
  given: readonly string[],
): { readonly replica: number; readonly from: string; readonly to: string }[] {
  return given.flatMap((to, replica) => (stored[replica] === to ? [] : [{ replica, from: stored[replica]!, to }]));
}

function changed(where: string, what: string, rule: string): JitPaxosError {
  return new JitPaxosError(
    'cluster-file-changed',
    `${what} (as ${where} remembers); ${rule}. Put the file back as it was, on all hosts`,
  );
}
