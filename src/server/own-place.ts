/**
 * Where a replica is among the members, and where it listens.
 *
 * The rule: once the log has changed the members, the cluster file only says where one may ask for them. So the list that
 * the data directory remembers comes first. The replica listens where the others write to it, unless `listen` says
 * otherwise.
 */
import { AddressBook, unresolved } from '../host/address-book.js';
import { addressText, hostAndPortOf, type Cluster, type HostAndPort } from '../host/cluster-config.js';
import { placeOf } from '../host/host-places.js';
import type { Logger } from '../host/logger.js';
import { show } from '../host/options.js';
import { JitPaxosError } from '../errors.js';
import { firstMembership, hostOf, type ListedHost, type Membership } from '../protocol/membership/membership.js';
import { membershipOf } from '../protocol/membership/member-lists.js';
import type { Address } from '../transport/transport.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import type { MemberList } from '../wire/member-list.js';

export interface OwnPlace {
  /** The members that the data directory remembers; undefined: none. */
  readonly remembered: Membership | undefined;
  /** Those, or the replicas of the cluster file. */
  readonly listed: Membership;
  /** Undefined: the replica is listed no more. */
  readonly own: ListedHost | undefined;
  /** Its slot; if it is listed no more, one that no host has. */
  readonly slot: number;
  /** By slot: the host's id; -1: no host has the slot. */
  readonly ids: readonly number[];
  readonly book: AddressBook;
  /** Where it listens. */
  readonly address: Address;
  /** What says so. */
  readonly listenFrom: 'flag' | 'members' | 'file';
  readonly listen: string | undefined;
}

/**
 * Throws JitPaxosError `host-unresolved`, `replica-id-out-of-range` or `replica-removed`.
 * @param members that the data directory remembers
 * @param listen HOST:PORT, if an operator says where
 */
export async function findOwnPlace(
  id: number,
  cluster: Cluster,
  members: MemberList | undefined,
  listen: string | undefined,
): Promise<OwnPlace> {
  const replicas = cluster.replicas.length;
  const remembered = members === undefined ? undefined : membershipOf(members);
  if (remembered === undefined && id >= replicas) throw outOfRange(id, replicas);
  const listed = remembered ?? firstMembership(replicas);
  const slot = slotOf(listed, id);
  const bySlot = Array.from({ length: HOST_PLACES }, (_, at) => listed.hosts.find((host) => host.slot === at));
  const ids = bySlot.map((host) => host?.id ?? -1);
  const book = await AddressBook.open({
    replicas: bySlot.map((host) => (host === undefined ? undefined : placeOf(host, cluster))),
    ids,
  });
  const own = bySlot[slot];
  const address =
    listen !== undefined
      ? await addressAt(hostAndPortOf(listen)!)
      : own === undefined
        ? await addressOfRemoved(cluster, id, listed.started)
        : listeningAddress(cluster, book, slot);
  const listenFrom = listen !== undefined ? 'flag' : own?.address ? 'members' : 'file';
  return { remembered, listed, own, slot, ids, book, address, listenFrom, listen };
}

/** Logs where the replica listens, if it is not where the others write to it. */
export function sayPlace({ own, slot, book, listen }: OwnPlace, id: number, cluster: Cluster, logger: Logger): void {
  if (own === undefined) return;
  if (book.addresses[slot]!.host === '' && id < cluster.replicas.length)
    logger.warn('replica.listens-everywhere', {
      replica: id,
      name: cluster.replicas[id]!.host,
      next: 'the name of this replica does not resolve, so it listens at all addresses of this host; restart it when the name resolves',
    });
  const at = placeOf(own, cluster);
  if (listen !== undefined && at !== undefined && addressText(at) !== addressText(hostAndPortOf(listen)!))
    logger.warn('replica.listens-elsewhere', {
      replica: id,
      listed: addressText(at),
      listens: listen,
      next: `jitpaxos member move ${id} ${listen}, so that the others find it here. If replica ${id} still runs at its listed address, stop this one: a data directory may run once only`,
    });
}

/**
 * Where the replica in a slot listens: at its address. With keys, if its own name does not resolve: at its port on all addresses
 * of this host, because the others may know where it is. Throws JitPaxosError `host-unresolved`.
 */
function listeningAddress(cluster: Cluster, book: AddressBook, slot: number): Address {
  const own = book.addresses[slot]!;
  if (own.host !== '') return own;
  if (cluster.authentication === 'none')
    throw unresolved(
      book.unresolved().filter(({ replica }) => replica === slot),
      'this replica does not know where to listen',
    );
  const four = book.addresses.filter(({ host, family }) => host !== '' && family === 4).length;
  return four * 2 >= book.known
    ? { host: '0.0.0.0', port: own.port, family: 4 }
    : { host: '::', port: own.port, family: 6 };
}

/**
 * Where a host listens that is listed no more, and runs on to tell others who the members are: where an old cluster file
 * leads them. Throws JitPaxosError `host-unresolved`, or `replica-removed` if the cluster file does not have it.
 */
function addressOfRemoved({ replicas }: Cluster, id: number, epoch: number): Promise<Address> {
  const before = replicas[id];
  if (before !== undefined) return addressAt(before);
  throw new JitPaxosError(
    'replica-removed',
    `host ${id} is no member of this cluster any more, which is in epoch ${epoch}, and the cluster file does not say where it was; it may be stopped and wiped. ` +
      'To let it run on, and lead others to the members, start it with --listen HOST:PORT (library: listen), its former address',
  );
}

/** Throws JitPaxosError `host-unresolved`. */
async function addressAt(at: HostAndPort): Promise<Address> {
  const book = await AddressBook.open({ replicas: [at] });
  book.close();
  return book.addresses[0]!;
}

/** @param replicas how many the cluster file has */
export function outOfRange(id: number, replicas: number): JitPaxosError {
  return new JitPaxosError(
    'replica-id-out-of-range',
    `replica id is ${show(id)}; the cluster has replicas 0 to ${replicas - 1}, in the order of "replicas" in the cluster file`,
  );
}

/** The slot of host `id`; if it is not listed any more, one that no host has. */
function slotOf(members: Membership, id: number): number {
  const own = hostOf(members, id);
  if (own !== undefined) return own.slot;
  for (let slot = 0; slot < HOST_PLACES; slot++) if (members.hosts.every((host) => host.slot !== slot)) return slot;
  throw new JitPaxosError(
    'replica-id-out-of-range',
    `host ${id} is not a member any more; it may be stopped and wiped`,
  );
}
