/**
 * Who the members are, as a replica tells others: what its log says and is known to be committed
 * (protocol/membership/). A host that the log has only from the cluster file has its address there. Until the log names
 * identities, a replica knows the identity of no data directory but its own.
 */
import { addressText, type Cluster } from '../host/cluster-config.js';
import type { Membership } from '../protocol/membership/membership.js';
import type { MemberList } from '../wire/member-list.js';
import { toHex } from '../wire/u64.js';

/** @param identity of the data directory of replica `self`; undefined if it is not durable yet, or there is none */
export function membersOf(
  { started, decided, index, voters, nextVoters, hosts }: Membership,
  cluster: Pick<Cluster, 'replicas'>,
  self: number,
  identity: string | undefined,
): MemberList {
  return {
    started,
    decided,
    index,
    hosts: hosts.map(({ id, address, identityHi, identityLo }) => ({
      id,
      address: address === '' ? addressText(cluster.replicas[id]!) : address,
      identity: (identityHi | identityLo) !== 0 ? toHex(identityHi, identityLo) : id === self ? identity : undefined,
      votes: voters.includes(id),
      willVote: nextVoters.includes(id),
    })),
  };
}
