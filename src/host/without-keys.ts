/**
 * The warning about a cluster without keys. Every process of such a cluster gives it when it starts: a replica in its
 * log, a client once for its process, a command once on stderr. It never goes to stdout.
 */
import type { Cluster } from './cluster-config.js';

/** The event under which hosts log it. */
export const WITHOUT_KEYS_EVENT = 'cluster.without-keys';

export const WITHOUT_KEYS_REMEDY =
  'use such a cluster only for development, on a network of your own; jitpaxos init without --insecure makes one with keys';

let warned = false;

/** Undefined for a cluster with keys. */
export function withoutKeysWarning({ authentication }: Pick<Cluster, 'authentication'>): string | undefined {
  return authentication === 'keys'
    ? undefined
    : 'this cluster has no keys: nothing is encrypted, and anyone who can send a datagram to a replica can read and change everything';
}

/** The warning, the first time that this process asks for it; then undefined. */
export function firstWithoutKeysWarning(cluster: Pick<Cluster, 'authentication'>): string | undefined {
  if (warned) return undefined;
  const warning = withoutKeysWarning(cluster);
  warned = warning !== undefined;
  return warning;
}

/** For a process whose parent has given the warning. */
export function parentWarned(): void {
  warned = true;
}
