/**
 * Explains why replicas are silent. A replica does not answer a datagram that it cannot authenticate, so a wrong or
 * removed key looks like a dead cluster. But if no process listens, the host's operating system says so (ICMP port
 * unreachable). If the host is silent as well, there are two possibilities: a process listens and drops all datagrams,
 * or the host or the network in between is down.
 */

export interface Silence {
  /** Indices of replicas that do not answer. */
  readonly silent: readonly number[];
  /** Silent replicas whose hosts reported that no process listens there. */
  readonly refused: readonly number[];
  /** Whether the transport receives such reports from hosts. */
  readonly tells: boolean;
  /** Id of this process's key; undefined in a cluster without keys. */
  readonly key: number | undefined;
  /** Datagrams that arrived and were refused here, by reason, without zeros. */
  readonly dropped: Readonly<Record<string, number>>;
}

/**
 * What the silence means and what to do, as one sentence without a full stop. It names the cause if the facts show it.
 */
export function explainSilence({ silent, refused, tells, key, dropped }: Silence): string {
  const mute = silent.filter((replica) => !refused.includes(replica));
  const parts: string[] = [];
  if (refused.length > 0)
    parts.push(
      `nothing listens at the address of ${named(refused)} (the host says so): start ${refused.length === 1 ? 'it' : 'them'} there`,
    );
  if (mute.length > 0) {
    const keys =
      key === undefined
        ? 'the "id" of the cluster file'
        : `key ${key}, which may have been removed from the replicas' key file or have another secret there (\`jitpaxos keys list\` on both hosts), and the "id" of the cluster file`;
    const there = tells
      ? `no host says that nothing listens at ${named(mute)} (ICMP is silent), so something may well run there and drop what this process sends: compare ${keys}; else`
      : `a replica that cannot authenticate a datagram does not answer it: compare ${keys}; else see whether ${named(mute)} run${mute.length === 1 ? 's' : ''}, and`;
    parts.push(`${there} see whether host and network are up and UDP passes`);
  }
  const drops = Object.entries(dropped);
  if (drops.length > 0)
    parts.push(
      `${drops.map(([reason, count]) => `${count} datagrams that came were refused here (${reason})`).join(', ')}: keys, secrets or cluster files differ`,
    );
  return parts.join('; ');
}

function named(replicas: readonly number[]): string {
  return `replica${replicas.length === 1 ? '' : 's'} ${replicas.join(', ')}`;
}
