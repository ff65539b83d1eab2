/**
 * The replicas that a cluster was set up with, as a data directory remembers them.
 *
 * The rule: their number never changes, and none of them takes the place of another. Which replicas are a quorum follows from
 * the number and the ids, so two processes that count differently may both believe to have one; and where two ids
 * exchange their addresses, what is said to the one reaches the other. An address that nobody had before is a replica that moved: allowed, and
 * said, because identity is in the data directory and in the sender field of datagrams, not in the address.
 */
import { JitPaxosError } from '../errors.js';

/** Throws JitPaxosError `cluster-file-changed`. `where`: what remembers `stored`, for the message. */
export function checkAddresses(where: string, stored: readonly string[], given: readonly string[]): void {
  if (stored.length !== given.length) {
    throw changed(
      where,
      `this cluster was set up with ${stored.length} replicas (${stored.join(', ')}), and its file now lists ${given.length}`,
      'the number of replicas of a cluster does not change; for another number set up a new cluster with `jitpaxos init`, from a backup if need be',
    );
  }
  for (const [id, address] of given.entries()) {
    const before = stored.indexOf(address);
    if (before >= 0 && before !== id)
      throw changed(
        where,
        `the cluster file now gives replica ${id} the address ${address}, which is that of replica ${before}`,
        'the order of the addresses is which replica is which',
      );
  }
}

/** The replicas whose address is another one now. Of lists that `checkAddresses` accepts. */
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
