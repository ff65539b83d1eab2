/**
 * Who the members are, as this replica knows. In epoch 0 they are the replicas of the cluster file; a replica then knows
 * the identity of no data directory but its own.
 */
import { addressText, type Cluster } from '../host/cluster-config.js';
import type { MemberList } from '../wire/member-list.js';

/** The list of epoch 0. @param identity of the data directory of replica `self`; undefined if it is not durable yet */
export function firstMembers(cluster: Cluster, self: number, identity: string | undefined): MemberList {
  return {
    started: 0,
    decided: 0,
    hosts: cluster.replicas.map((replica, id) => ({
      id,
      address: addressText(replica),
      identity: id === self ? identity : undefined,
      votes: true,
      willVote: true,
    })),
  };
}
