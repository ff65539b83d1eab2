/**
 * What silence says. A replica answers no datagram that it cannot authenticate, so a wrong or removed key looks like a dead
 * cluster. But the operating system of a host where nobody listens says so (ICMP port unreachable); where it is silent as
 * well, somebody listens and drops what comes, or the host or the network between is down.
 */

export interface Silence {
  /** Replicas that say nothing, by index. */
  readonly silent: readonly number[];
  /** Of these, the ones whose hosts said that nobody listens there. */
  readonly refused: readonly number[];
  /** The transport hears what hosts say of it. */
  readonly tells: boolean;
  /** Id of the key under which this process speaks; undefined in a cluster without keys. */
  readonly key: number | undefined;
  /** Datagrams that came and were refused here, by reason, without zeros. */
  readonly dropped: Readonly<Record<string, number>>;
}

/** What it means and what to do, one sentence without its end; causes that can be told apart are. */
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
