/**
 * The members as far as a client knows: first those of its cluster file, then those that a replica names. The client
 * hears and writes to these.
 *
 * The rule: of two lists the one with the higher index counts. A host that cannot know who the members are is believed
 * only until one speaks that can (rule S: see `mayBeOfOthers`).
 */
import { EPOCH_VIEWS } from '../protocol/configuration.js';
import type { ClientEvents, Instant } from '../protocol/contract.js';
import type { ClientSessions } from '../protocol/client/client-sessions.js';
import { membershipOf } from '../protocol/membership/member-lists.js';
import { encodeMembership, firstMembership, type ListedHost } from '../protocol/membership/membership.js';
import { addressText, type Cluster } from '../host/cluster-config.js';
import { HostPlaces, placeOf } from '../host/host-places.js';
import type { Logger } from '../host/logger.js';
import { MemberSearch } from '../host/member-search.js';
import type { TurnLoop } from '../host/turn-loop.js';
import { loadHash } from '../native/hash64.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import type { MemberList } from '../wire/member-list.js';
import { WIRE_VERSION } from '../wire/versions.js';

export class FollowedMembers {
  /** The members by their ids and places. */
  hosts: readonly ListedHost[];
  /** Views from here on were taken for the cluster file's replicas' by the word of hosts that cannot know otherwise. */
  unsureFrom = Infinity;
  /** The members as last found; undefined: those of the cluster file. */
  private known: MemberList | undefined;
  private readonly isOn: boolean;
  private readonly search: MemberSearch;
  private readonly places: HostPlaces;

  constructor(
    private readonly loop: TurnLoop,
    private readonly cluster: Cluster,
    private readonly logger: Logger,
    private readonly sessions: () => ClientSessions,
    private readonly isClosed: () => boolean,
  ) {
    // A process that is held back can neither ask nor be told. Where members can have changed, nobody answers it.
    this.isOn = loop.peers.newest === WIRE_VERSION;
    const first = firstMembership(cluster.replicas.length);
    this.hosts = first.hosts;
    this.search = new MemberSearch(
      loop,
      cluster.replicas,
      loadHash(),
      () => this.known ?? first,
      (list, view, now) => this.found(list, view, now),
    );
    this.places = new HostPlaces(loop, cluster, this.search, first);
  }

  /** What a core asks of it. */
  events(): Pick<ClientEvents, 'unknownEpoch' | 'searchMembers'> {
    if (!this.isOn) return {};
    return {
      unknownEpoch: (from, view) => this.epochNamed(from, view, this.loop.instant),
      searchMembers: () => this.search.search(this.loop.instant),
    };
  }

  /**
   * Whom the client writes to, by id and address, and other addresses at which it asked for the members since then, for
   * messages. Since −Infinity: those of the cluster file too, which it wrote to at first. Allocates.
   */
  tried(sinceUs: number): { readonly isFile: boolean; readonly hosts: string[]; readonly others: string[] } {
    const places = this.hosts.map((host) => ({ id: host.id, at: placeOf(host, this.cluster) }));
    const addresses = places.map(({ at }) => (at === undefined ? 'an unknown address' : addressText(at)));
    const seeds = sinceUs === -Infinity ? this.cluster.replicas.map(addressText) : [];
    const others = [...new Set([...seeds, ...this.search.otherAddressesAsked(sinceUs)])];
    return {
      isFile: this.known === undefined,
      hosts: places.map(({ id }, index) => `${id} at ${addresses[index]!}`),
      others: others.filter((address) => !addresses.includes(address)),
    };
  }

  onMembers(bytes: Uint8Array, offset: number, now: Instant): void {
    if (this.isOn) this.search.onMembers(bytes, offset, now);
  }

  /** A host that is not listed here wrote a datagram of this length. */
  unlisted(id: number, endpoint: number, length: number, now: Instant): void {
    if (this.isOn) this.search.unlisted(id, endpoint, length, now);
  }

  /** The core asked for the members, and this is what some replica knows. */
  private found(list: MemberList, view: number, now: Instant): void {
    if (this.isClosed()) return;
    if (list.index === 0 && this.known === undefined) {
      if (view >= this.unsureFrom) this.unsureFrom = Infinity;
      this.sessions().takeFirstMembers(view, now);
    }
    if (list.index <= (this.known?.index ?? 0)) return;
    this.unsureFrom = Infinity;
    this.known = list;
    const membership = membershipOf(list);
    this.hosts = membership.hosts;
    this.places.follow(membership);
    this.sessions().takeMembers(encodeMembership(membership), now);
    this.logger.info('client.members', {
      epoch: list.started,
      decided: list.decided,
      hosts: list.hosts.map(({ id, address }) => `${id} at ${address}`),
    });
  }

  /**
   * Replica `from` speaks of a view of an epoch that is not known here. If it speaks the previous version of the wire, it
   * cannot say who the members are; and no change of them is decided among hosts that all do. So the view is taken for
   * one of the cluster file's replicas, but only among hosts of that version (rule S: see `mayBeOfOthers`).
   */
  private epochNamed(from: number, view: number, now: Instant): void {
    if (this.known !== undefined || this.loop.peers.spokenBy(from) === WIRE_VERSION) {
      this.search.ask(from, now);
      return;
    }
    this.unsureFrom = view - (view % EPOCH_VIEWS);
    this.sessions().takeFirstMembers(view, now);
  }

  /**
   * The view was taken for one of the cluster file's replicas, and `from` is a host that can tell whether it is. Until it
   * has, nothing that it says counts: it may be in a view of others with the same number, whose quorum is larger.
   */
  mayBeOfOthers(from: number, now: Instant): boolean {
    if (from >= HOST_PLACES || this.loop.peers.spokenBy(from) !== WIRE_VERSION) return false;
    this.search.ask(from, now);
    return true;
  }
}
