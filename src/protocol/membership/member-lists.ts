/** What the log says of the hosts, as a list for others and for the disk (wire/member-list.ts), and back. */
import { isAddress } from '../../wire/host-address.js';
import type { MemberList } from '../../wire/member-list.js';
import { readI32, toHex, writeHex } from '../../wire/u64.js';
import type { ListedHost, Membership } from './membership.js';

/** @param addressOf the address of a host that the log has only from the cluster file */
function memberListOf(
  { started, decided, index, voters, nextVoters, hosts, nextId }: Membership,
  addressOf: (id: number) => string,
): MemberList {
  return {
    started,
    decided,
    index,
    nextId,
    hosts: hosts.map((host) => ({
      id: host.id,
      slot: host.slot,
      address: host.address === '' ? addressOf(host.id) : host.address,
      identity: identityOf(host),
      votes: voters.includes(host.id),
      willVote: nextVoters.includes(host.id),
    })),
  };
}

/**
 * The same, with an address for each host: where it is not known, cannot be one or is another's, a name under `.invalid`,
 * which nobody has. So every such list can be read by others (memberListFault).
 * @param ofFile the address of a host that the log has only from the cluster file, as far as it is known
 */
export function completeList(membership: Membership, ofFile: (id: number) => string | undefined): MemberList {
  const named = new Set(membership.hosts.map(({ address }) => address));
  return memberListOf(membership, (id) => {
    const address = ofFile(id) ?? '';
    return isAddress(address) && !named.has(address) ? address : `host-${id}.invalid:1`;
  });
}

/** Of the host's data directory; undefined if the log does not have it. */
export function identityOf({ identityHi, identityLo }: ListedHost): string | undefined {
  return (identityHi | identityLo) === 0 ? undefined : toHex(identityHi, identityLo);
}

/** The membership that a list in which `memberListFault` finds nothing wrong stands for. */
export function membershipOf({ started, decided, index, nextId, hosts }: MemberList): Membership {
  const words = new Uint8Array(8);
  const ids = (which: 'votes' | 'willVote'): number[] => hosts.filter((host) => host[which]).map(({ id }) => id);
  return {
    index,
    started,
    decided,
    voters: ids('votes'),
    nextVoters: ids('willVote'),
    hosts: hosts.map(({ id, slot, address, identity }) => {
      if (identity === undefined) words.fill(0);
      else writeHex(words, 0, identity);
      return { id, slot, identityHi: readI32(words, 0), identityLo: readI32(words, 4), address };
    }),
    nextId,
  };
}
