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
import type { ReplicaState } from '../protocol/replica/replica-state.js';
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

/** The list of one replica as it is now: the same object until it changes. */
export class KnownMembers {
  /** What the lists were made from. */
  private from: Membership | undefined;
  private identity: string | undefined;
  private tools!: MemberList;
  private hosts!: MemberList;

  constructor(
    private readonly id: number,
    private readonly cluster: Pick<Cluster, 'replicas'>,
    private readonly state: Pick<ReplicaState, 'members'>,
    /** Knows the identity of the replica's data directory, once it is durable. */
    private readonly directory: { readonly identity: string | undefined },
  ) {}

  forTools(): MemberList {
    this.refresh();
    return this.tools;
  }

  forHosts(): MemberList {
    this.refresh();
    return this.hosts;
  }

  private refresh(): void {
    const { id, cluster } = this;
    const { members } = this.state;
    const { identity } = this.directory;
    if (this.from === members && this.identity === identity) return;
    this.from = members;
    this.identity = identity;
    this.tools = membersOf(members, cluster, id, identity);
    this.hosts = membersOf(members, cluster, id, undefined);
  }
}
