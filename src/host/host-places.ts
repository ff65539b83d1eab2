/**
 * Writes to the hosts that the log says are members, where it says that they are. What the log says is taken up when it is
 * known to be committed (C2), in a replica's turn or when a client has learned it.
 */
import type { ListedHost, Membership } from '../protocol/membership/membership.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import { addressText, hostAndPortOf, type Cluster, type HostAndPort } from './cluster-config.js';
import type { MemberSearch } from './member-search.js';
import { canonicalHost } from './replica-address.js';
import type { TurnLoop } from './turn-loop.js';

/** Where a host is; undefined if the log has it from the cluster file, and this process's file does not. */
export function placeOf(
  { id, address }: Pick<ListedHost, 'id' | 'address'>,
  { replicas }: Pick<Cluster, 'replicas'>,
): HostAndPort | undefined {
  return address === '' ? replicas[id] : hostAndPortOf(address);
}

/**
 * Where one may ask for the members: the cluster file's replicas, but for the process's own places.
 * @param own where it is, as written and as resolved
 */
export function seedsOf(
  { replicas }: Pick<Cluster, 'replicas'>,
  own: readonly (HostAndPort | undefined)[],
): HostAndPort[] {
  const isSame = (a: HostAndPort, b: HostAndPort): boolean =>
    a.port === b.port && canonicalHost(a.host) === canonicalHost(b.host);
  return replicas.filter((seed) => !own.some((each) => each !== undefined && isSame(seed, each)));
}

export class HostPlaces {
  private applied: Membership;

  /** @param members what the loop was made with */
  constructor(
    private readonly loop: TurnLoop,
    private readonly cluster: Pick<Cluster, 'replicas'>,
    private readonly search: MemberSearch,
    members: Membership,
  ) {
    this.applied = members;
  }

  /** These are the members. Does nothing if they are the same object as before. */
  follow(members: Membership): void {
    if (members === this.applied) return;
    const before = this.applied;
    this.applied = members;
    // All that leave before any that come: two hosts may have changed their addresses.
    const bySlot = new Map(members.hosts.map((host) => [host.slot, host]));
    for (const host of before.hosts) {
      const now = bySlot.get(host.slot);
      const at = placeOf(host, this.cluster);
      const isSame = now?.id === host.id && now.address === host.address;
      if (!isSame && at !== undefined) this.search.remember(addressText(at));
      if (now?.id !== host.id) this.loop.place(host.slot, undefined);
    }
    for (let slot = 0; slot < HOST_PLACES; slot++) {
      const host = bySlot.get(slot);
      const at = host === undefined ? undefined : placeOf(host, this.cluster);
      if (host !== undefined && at !== undefined) this.loop.place(slot, { id: host.id, at });
      else if (host !== undefined) this.loop.place(slot, undefined);
    }
  }
}
