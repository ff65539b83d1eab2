/**
 * Who the members are, as a replica tells others: what its log says and is known to be committed
 * (protocol/membership/). A host that the log has only from the cluster file has its address there. Until the log names
 * identities, a replica knows the identity of no data directory but its own. It tells that to tools; hosts take what they
 * are told for committed, so they are told only what the log says.
 *
 * The rule: every list can be read by others (memberListFault). A host whose address is not known here, cannot be one or is
 * another's has a name under `.invalid`, which nobody has.
 */
import { addressText, type Cluster } from '../host/cluster-config.js';
import { completeList } from '../protocol/membership/member-lists.js';
import type { Membership } from '../protocol/membership/membership.js';
import type { MemberList } from '../wire/member-list.js';

/** @param identity of the data directory of replica `self`; undefined if it is not durable yet, or there is none */
export function membersOf(
  membership: Membership,
  cluster: Pick<Cluster, 'replicas'>,
  self: number,
  identity: string | undefined,
): MemberList {
  const list = completeList(membership, (id) => {
    const at = cluster.replicas[id];
    return at === undefined ? undefined : addressText(at);
  });
  return {
    ...list,
    hosts: list.hosts.map((host) => (host.id === self ? { ...host, identity: host.identity ?? identity } : host)),
  };
}
