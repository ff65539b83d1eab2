/**
 * What the next step of a change of the members is: a pure function of what was asked for and what was seen.
 *
 * The rule: a tool keeps nothing. Each step is one entry of the log, or a wait, and follows from what the cluster says
 * now. So a tool that was killed after any step is continued by the same command, and two tools that ask for the same
 * are one. Everything that can be refused is refused before the first step. What a refused command leaves behind is a
 * learner; and if a host that is to leave was silent before the log had its identity, that host cannot return.
 */
import type { CommandErrorCode } from '../../errors.js';
import { identityFrom, type ConfigureOperation } from '../../protocol/membership/operations.js';
import type { Member, MemberList } from '../../wire/member-list.js';
import { MEMBERS_WIRE_VERSION } from '../../wire/versions.js';

export type MemberRequest =
  | ({ readonly kind: 'add'; readonly addresses: readonly string[] } & Allowed)
  | { readonly kind: 'add-learner'; readonly address: string }
  | ({ readonly kind: 'promote'; readonly ids: readonly number[] } & Allowed)
  | ({ readonly kind: 'replace'; readonly id: number; readonly address: string; readonly alive: boolean } & Allowed)
  | ({ readonly kind: 'remove'; readonly ids: readonly number[] } & Allowed)
  | { readonly kind: 'move'; readonly id: number; readonly address: string };

/** What the operator allows, as the flags of the same names say. */
interface Allowed {
  readonly allowEven: boolean;
  readonly force: boolean;
}

/** What a listed host says of itself. */
export interface HostSeen {
  /** As in a status report; `normal`: it serves, or hears what is committed. */
  readonly status: string;
  readonly version: string;
  /** It knows the feature `membership`. */
  readonly knows: boolean;
  /** The newest version of the wire that it says it speaks. */
  readonly speaks: number;
  /** Of its data directory, sixteen hexadecimal digits; undefined: it has none. */
  readonly identity: string | undefined;
  /** Committed entries that it lacks; undefined if that is not known. */
  readonly behind: number | undefined;
  /** Bytes that came to it since its process began. */
  readonly receivedBytes: number;
}

/** What answers at an address that the request names. */
export type Found =
  /** A process that waits to be added. */
  | { readonly kind: 'waits'; readonly identity: string }
  /** A replica of this cluster. */
  | {
      readonly kind: 'replica';
      readonly id: number;
      readonly identity: string | undefined;
      readonly version: string;
      /** It knows the feature `membership`. */
      readonly knows: boolean;
    }
  /** A replica that is not listed, or not under the id that was asked for: its directory is not empty. */
  | { readonly kind: 'other' }
  /** A process that cannot be added, and why. */
  | { readonly kind: 'unfit'; readonly why: string }
  /** Nobody, as far as is known, and why. */
  | { readonly kind: 'silent'; readonly why: string };

export interface Seen {
  /** The newest list, which a majority of its voters has. */
  readonly list: MemberList;
  /** The epoch that ran when the command began. */
  readonly began: number;
  /** The epoch of the highest view that a host is in. */
  readonly viewEpoch: number;
  /** The feature `membership` is on. */
  readonly isOn: boolean;
  /** Hosts of which the log does not have the identity. */
  readonly unnamed: ReadonlySet<number>;
  /** By id; a listed host that is missing does not answer. */
  readonly hosts: ReadonlyMap<number, HostSeen>;
  /** Ids of the hosts that a primary has heard within the last seconds, whether they answer this tool or not. */
  readonly heard: ReadonlySet<number>;
  /** By address of the request. */
  readonly found: ReadonlyMap<string, Found>;
  /** For a host that does not answer and is to leave: an identity that no directory has. Always the same one for an id. */
  readonly nobody: (id: number) => string;
}

export type Refusal = {
  readonly kind: 'refuse';
  readonly code: CommandErrorCode;
  readonly why: string;
  /**
   * True: it rests on the silence of a host, or on how far it is, and a moment later it may be otherwise. `soon`: what
   * was found at an address does not fit the list, which another operator's entry may have changed in between.
   */
  readonly mayPass: boolean | 'soon';
};

export type Next =
  | { readonly kind: 'switch-on' }
  | {
      readonly kind: 'send';
      readonly operation: ConfigureOperation;
      readonly says: string;
      /** This host has no way back from here on. */
      readonly gone?: number;
    }
  | {
      readonly kind: 'wait';
      readonly says: string;
      /** The host that copies the state, if it is that. */
      readonly copies?: { readonly id: number; readonly host: HostSeen | undefined };
    }
  | { readonly kind: 'done'; readonly says: string }
  | Refusal;

/** A host that lacks more committed entries does not become a voter. */
export const BEHIND_MAX = 1024;
const VOTERS_MAX = 13;

export function nextStep(request: MemberRequest, seen: Seen): Next {
  switch (request.kind) {
    case 'add':
      return add(request, seen);
    case 'add-learner':
      return addLearner(request.address, seen);
    case 'promote':
      return promote(request, seen);
    case 'replace':
      return replace(request, seen);
    case 'remove':
      return remove(request, seen);
    case 'move':
      return move(request, seen);
  }
}

function add(request: Extract<MemberRequest, { kind: 'add' }>, seen: Seen): Next {
  const { addresses } = request;
  const { list } = seen;
  const known = addresses.map((address) => at(list, address));
  const wanted = votersOf(list);
  for (const host of known) if (host !== undefined && !wanted.includes(host.id)) wanted.push(host.id);
  const whole = known.every((host) => host !== undefined);
  const over = changeOver(seen, whole ? wanted : undefined);
  if (over !== undefined) return over;
  if (known.every((host) => host?.votes === true))
    return (
      first(addresses, (address) => usurped(address, seen)) ??
      done(
        `${known.map((host) => `host ${host!.id} at ${host!.address}`).join(', ')} ${known.length === 1 ? 'votes' : 'vote'} in epoch ${list.started}`,
      )
    );
  const fault =
    first(addresses, (address) => candidateFault(address, seen, at(list, address))) ??
    votersFault(votersOf(list), addresses.filter((_, i) => known[i]?.votes !== true).length, request, seen);
  return (
    fault ??
    prepare(seen) ??
    first(addresses, (address) => learn(address, seen)) ??
    first(known, (host) => (host!.votes ? undefined : caughtUp(host!, seen))) ??
    change(wanted, seen)
  );
}

function addLearner(address: string, seen: Seen): Next {
  const host = at(seen.list, address);
  if (host?.votes === true)
    return refuse('member-listed', `host ${host.id} at ${address} is a voter already; choose another address`);
  return (
    candidateFault(address, seen, host) ??
    quorumFault(seen) ??
    prepare(seen) ??
    learn(address, seen) ??
    caughtUp(host!, seen) ??
    done(
      `host ${host!.id} at ${address} is a learner, and has caught up. jitpaxos member promote ${host!.id} makes it a voter`,
    )
  );
}

function promote(request: Extract<MemberRequest, { kind: 'promote' }>, seen: Seen): Next {
  const { ids } = request;
  const { list } = seen;
  const missing = ids.find((id) => of(list, id) === undefined);
  if (missing !== undefined) return unlisted(missing, list);
  const wanted = [...new Set([...votersOf(list), ...ids])];
  const over = changeOver(seen, wanted);
  if (over !== undefined) return over;
  const learners = ids.map((id) => of(list, id)!).filter(({ votes }) => !votes);
  if (learners.length === 0)
    return done(`host${s(ids.length)} ${ids.join(', ')} vote${ids.length === 1 ? 's' : ''} in epoch ${list.started}`);
  return (
    first(learners, (host) => behindFault(host, seen)) ??
    votersFault(votersOf(list), learners.length, request, seen) ??
    prepare(seen) ??
    change(wanted, seen)
  );
}

function replace(request: Extract<MemberRequest, { kind: 'replace' }>, seen: Seen): Next {
  const { id, address } = request;
  const { list } = seen;
  const old = of(list, id);
  // A new machine often has the address of the one that was lost.
  const takesAddress = old?.address === address;
  const host = takesAddress ? undefined : at(list, address);
  const kept = votersOf(list).filter((voter) => voter !== id);
  const over = changeOver(seen, host === undefined ? undefined : [...new Set([...kept, host.id])]);
  if (over !== undefined) return over;
  if (old === undefined) {
    if (host?.votes === true) return done(`host ${host.id} at ${address} votes in the place of host ${id}`);
    return unlisted(id, list);
  }
  if (!old.votes)
    return refuse(
      'member-unfit',
      `host ${id} is a learner, and nobody takes its place; remove it with jitpaxos member remove ${id}`,
    );
  if (host?.votes === true)
    return refuse(
      'member-listed',
      `host ${host.id} at ${address} is a voter already; jitpaxos member remove ${id} needs no new host`,
    );
  if (takesAddress && seen.hosts.has(id))
    return refuse(
      'member-alive',
      `host ${id} answers at ${address} itself; give the address of the host that takes its place, or stop host ${id}`,
    );
  if (!request.alive && seen.hosts.get(id)?.status === 'normal')
    return refuse(
      'member-alive',
      `host ${id} answers and is well; if it is to leave all the same, say so with --alive`,
    );
  return (
    candidateFault(address, seen, host) ??
    votersFault(kept, 1, { ...request, allowEven: true }, seen) ??
    returnFault(id, takesAddress, seen) ??
    prepare(seen, [id]) ??
    (takesAddress
      ? send({ kind: 'move', id, address: nowhere(id) }, `${address} is free: host ${id} is not there any more`, id)
      : undefined) ??
    learn(address, seen) ??
    caughtUp(host!, seen) ??
    change([...kept, host!.id], seen)
  );
}

function remove(request: Extract<MemberRequest, { kind: 'remove' }>, seen: Seen): Next {
  const { list } = seen;
  const ids = request.ids.filter((id) => of(list, id) !== undefined);
  const voters = votersOf(list);
  const kept = voters.filter((id) => !ids.includes(id));
  const over = changeOver(seen, kept);
  if (over !== undefined) return over;
  if (ids.length === 0)
    return done(
      `${listed(request.ids)} ${isAre(request.ids.length)} not listed in epoch ${list.started}: ${request.ids.length === 1 ? 'its process' : 'their processes'} may be stopped. The voters are ${voters.join(', ')}`,
    );
  const fault = kept.length === voters.length ? quorumFault(seen) : votersFault(kept, 0, request, seen);
  if (fault !== undefined) return fault;
  const preparing = first(ids, (id) => returnFault(id, false, seen)) ?? prepare(seen, ids);
  if (preparing !== undefined) return preparing;
  const learner = ids.find((id) => !voters.includes(id));
  if (learner !== undefined)
    return send({ kind: 'forget', id: learner }, `host ${learner} is not listed any more: it was a learner`);
  return change(kept, seen);
}

function move({ id, address }: Extract<MemberRequest, { kind: 'move' }>, seen: Seen): Next {
  const { list } = seen;
  const host = of(list, id);
  if (host === undefined) return unlisted(id, list);
  if (host.address === address) return done(`host ${id} is at ${address}`);
  const there = at(list, address);
  if (there !== undefined) return refuse('member-listed', `host ${there.id} is at ${address}; choose another address`);
  if (seen.hosts.has(id))
    return refuse(
      'member-alive',
      `host ${id} still answers at ${host.address}; stop it there, move its data directory, and start it at ${address}`,
    );
  const found = seen.found.get(address);
  if (found?.kind === 'other' || found?.kind === 'waits')
    return refuse(
      'member-unfit',
      `at ${address} is ${found.kind === 'waits' ? 'an empty data directory' : 'the data directory of another host'}, not that of host ${id}; start host ${id} there on its own data directory (--listen ${address}), or give its place to another host: jitpaxos member replace ${id} ADDRESS`,
    );
  if (found?.kind !== 'replica')
    return found?.kind === 'unfit'
      ? notThere(address, found)
      : refuse(
          'member-unreachable',
          `host ${id} does not answer at ${address}: ${found?.why ?? 'it was not asked yet'}; start it there on its data directory: jitpaxos replica --listen ${address}`,
          true,
        );
  const { identity } = found;
  if (identity === undefined)
    return refuse(
      'member-unfit',
      `the replica at ${address} has no data directory, so it cannot be told from another; start it with the data directory of host ${id} (--data)`,
    );
  // A log that names nobody yet takes the word of each host for its identity.
  if (host.identity !== undefined && identity !== host.identity)
    return refuse(
      'member-unfit',
      `at ${address} is another data directory than that of host ${id} (identity ${identity} instead of ${host.identity}); start host ${id} there on its own data directory, or give its place to another host: jitpaxos member replace ${id} ADDRESS`,
    );
  if (!seen.isOn && !found.knows)
    return refuse(
      'member-unfit',
      `host ${id} at ${address} runs version ${found.version}, which does not know changes of the members; upgrade it first`,
      true, // whether the feature is on rests on who answers
    );
  return (
    quorumFault(seen) ??
    prepare(seen, [id]) ??
    send({ kind: 'move', id, address }, `host ${id} is listed at ${address}`)
  );
}

/**
 * A change that is decided, or that ended since the command began: ours to wait for, or another operator's.
 * @param wanted voters that this command asks for; undefined: it cannot have asked yet
 */
function changeOver({ list, began }: Seen, wanted: readonly number[] | undefined): Next | undefined {
  const { started, decided, hosts } = list;
  const next = hosts.filter(({ willVote }) => willVote).map(({ id }) => id);
  if (decided > started) {
    if (wanted !== undefined && isSame(next, wanted))
      return {
        kind: 'wait',
        says: `epoch ${decided} is decided: voters ${next.join(', ')}. It begins when a majority of the old and of the new voters take part`,
      };
    return refuse(
      'change-pending',
      `another change is decided: epoch ${decided} with voters ${next.join(', ')}, and it has not begun; wait for it (jitpaxos member list), then run this again`,
    );
  }
  if (started <= began || (wanted !== undefined && isSame(next, wanted))) return undefined;
  return refuse(
    'epoch-mismatch',
    `epoch ${started} with voters ${next.join(', ')} has begun meanwhile, by another change; look with jitpaxos member list, and run this again if it is still wanted`,
  );
}

/** Why the process at an address cannot become a host, or a listed host there cannot become a voter. */
function candidateFault(address: string, seen: Seen, host: Member | undefined): Refusal | undefined {
  const { list } = seen;
  const found = seen.found.get(address);
  if (host !== undefined) {
    const taken = usurped(address, seen);
    if (taken !== undefined) return taken;
    if (seen.hosts.has(host.id) || found?.kind === 'waits') return undefined;
    return refuse(
      'member-unreachable',
      `host ${host.id} at ${address} does not answer any more${found?.kind === 'silent' ? `: ${found.why}` : ''}; start it again with its data directory, or give it up with jitpaxos member remove ${host.id}`,
      true,
    );
  }
  if (found?.kind === 'replica' || found?.kind === 'other')
    return refuse(
      'member-unfit',
      `at ${address} is the data directory of ${found.kind === 'replica' ? `host ${found.id}` : 'a replica that is, or was, a host'}; a host that is added begins with an empty one: jitpaxos replica --join`,
      'soon',
    );
  if (found?.kind !== 'waits') return notThere(address, found);
  const same = list.hosts.find(({ identity }) => identity === found.identity);
  if (same === undefined) return undefined;
  return refuse(
    'member-listed',
    `the data directory at ${address} is that of host ${same.id}, which is listed at ${same.address}; if it has moved, use jitpaxos member move ${same.id} ${address}`,
    'soon',
  );
}

/** Another data directory waits at the address of a listed host. */
function usurped(address: string, { list, found }: Seen): Refusal | undefined {
  const host = at(list, address);
  const there = found.get(address);
  if (host === undefined || there?.kind !== 'waits' || there.identity === host.identity) return undefined;
  return refuse(
    'member-listed',
    `${address} is the address of host ${host.id}, and another data directory waits there; start it at another address, or remove host ${host.id} first`,
    'soon',
  );
}

function notThere(address: string, found: Found | undefined): Refusal {
  if (found?.kind === 'unfit')
    return refuse(
      'member-unfit',
      `the process at ${address} cannot be a host of this cluster: ${found.why}; start one there that can`,
    );
  return refuse(
    'member-unreachable',
    `nobody answers at ${address}: ${found?.kind === 'silent' ? found.why : 'it was not asked yet'}; start it there with jitpaxos replica --join`,
    true,
  );
}

/**
 * Why these voters are not to be: how many there are, and what would be lost if more hosts failed.
 * @param kept voters that stay
 * @param added hosts that become voters; they have to catch up first, so they count as alive
 */
function votersFault(
  kept: readonly number[],
  added: number,
  { allowEven, force }: Allowed,
  seen: Seen,
): Refusal | undefined {
  const before = votersOf(seen.list).length;
  const after = kept.length + added;
  if (after === 0)
    return refuse(
      'majority-needed',
      'the last voter cannot leave, since the state of the cluster would be gone; add another host first',
    );
  if (after > VOTERS_MAX)
    return refuse('members-count', `${after} voters are more than ${VOTERS_MAX}; remove some first`);
  if (after % 2 === 0 && !allowEven)
    return refuse(
      'members-count',
      `${after} voters survive no more failures than ${after - 1}, and are slower; ${after > before ? 'add another host in the same command' : 'remove another host in the same command'}, or say --allow-even`,
    );
  const fault = quorumFault(seen);
  if (fault !== undefined) return fault;
  const { up, down } = alive(kept, seen);
  const needed = (after >> 1) + 1;
  if (up.length + added < needed)
    return refuse(
      'majority-needed',
      `would lose the majority: of ${after} voters ${needed} are needed alive, and ${up.length + added} ${isAre(up.length + added)} (${listed(down)} ${down.length === 1 ? 'does' : 'do'} not serve); start ${down.length === 1 ? 'it' : 'them'} first, or replace ${down.length === 1 ? 'it' : 'one of them'}`,
      true,
    );
  const proven = after - (after >> 1);
  if (up.length < proven && !force)
    return refuse(
      'majority-needed',
      `only ${up.length} of the ${after} voters would be hosts that vote now and serve, and ${proven} should be: if the new ones failed soon, nothing would commit; change fewer at once, or say --force`,
      true,
    );
  return undefined;
}

/** Too few of the present voters serve to decide anything. */
function quorumFault(seen: Seen): Refusal | undefined {
  const voters = votersOf(seen.list);
  const { up, down } = alive(voters, seen);
  const needed = (voters.length >> 1) + 1;
  if (up.length >= needed) return undefined;
  return refuse(
    'majority-needed',
    `nothing can be decided: ${needed} of the ${voters.length} voters are needed, and ${up.length} serve${up.length === 1 ? 's' : ''} (not: ${listed(down)}); start them, or see docs/operate/recovery.md if they are lost`,
    true,
  );
}

/** A host that this tool does not reach, and the cluster does, would be locked out before another has its place. */
function returnFault(id: number, takesAddress: boolean, seen: Seen): Refusal | undefined {
  if (seen.hosts.has(id) || !seen.heard.has(id) || !(takesAddress || seen.unnamed.has(id))) return undefined;
  return refuse(
    'member-alive',
    `host ${id} at ${of(seen.list, id)!.address} does not answer this tool, and the primary hears it; run the command where that address can be reached, or stop host ${id} first`,
    true,
  );
}

/** The feature, and the identities of all hosts: what has to be there before the first change. @param leaving ids that this command removes, or that are elsewhere */
function prepare(seen: Seen, leaving: readonly number[] = []): Next | undefined {
  const { list, hosts, unnamed, found } = seen;
  if (!seen.isOn) {
    for (const { id, address } of list.hosts) {
      const host = hosts.get(id);
      if (host === undefined && !leaving.includes(id))
        return refuse(
          'member-unreachable',
          `host ${id} at ${address} does not answer, and the first change of the members needs to know that every host that stays understands it; start it, or begin with jitpaxos member replace ${id} or member remove ${id}`,
          true,
        );
      if (host?.knows === false)
        return refuse(
          'member-unfit',
          `host ${id} at ${address} runs version ${host.version}, which does not know changes of the members; upgrade it first`,
        );
      if (host !== undefined && host.speaks < MEMBERS_WIRE_VERSION)
        return refuse(
          'member-unfit',
          `host ${id} at ${address} speaks only version ${host.speaks} of the wire, and changes of the members need ${MEMBERS_WIRE_VERSION}; start it without --wire-version`,
          true,
        );
    }
    return { kind: 'switch-on' };
  }
  for (const { id, address } of list.hosts) {
    if (!unnamed.has(id)) continue;
    const there = [...found.values()].find((each) => each.kind === 'replica' && each.id === id);
    const host = hosts.get(id);
    const said = host?.identity ?? (there?.kind === 'replica' ? there.identity : undefined);
    const identity = said ?? (host === undefined && leaving.includes(id) ? seen.nobody(id) : undefined);
    if (identity === undefined)
      return host === undefined
        ? refuse(
            'member-unreachable',
            `host ${id} at ${address} does not answer, so the identity of its data directory is not known; start it, or begin with jitpaxos member replace ${id} or member remove ${id}`,
            true,
          )
        : refuse(
            'member-unfit',
            `host ${id} at ${address} has no data directory, so it cannot be told from another; start it with --data`,
          );
    const operation = { kind: 'name', id, address, ...identityFrom(identity) } as const;
    return said === undefined
      ? send(operation, `host ${id} can no longer return: the log lists another data directory in its place`, id)
      : send(operation, `the log knows the data directory of host ${id}`);
  }
  return undefined;
}

function learn(address: string, { list, found }: Seen): Next | undefined {
  const there = found.get(address);
  if (at(list, address) !== undefined || there?.kind !== 'waits') return undefined;
  return send({ kind: 'learn', address, ...identityFrom(there.identity) }, `${address} is listed, as a learner`);
}

/** Undefined if it has; else the wait for it. */
function caughtUp({ id, address }: Member, { hosts }: Seen): Next | undefined {
  const host = hosts.get(id);
  if (host?.status === 'normal' && host.behind !== undefined && host.behind <= BEHIND_MAX) return undefined;
  return {
    kind: 'wait',
    says:
      host === undefined ? `host ${id} at ${address} has not begun yet` : `host ${id} at ${address} copies the state`,
    copies: { id, host },
  };
}

function behindFault({ id, address }: Member, { hosts }: Seen): Refusal | undefined {
  const host = hosts.get(id);
  if (host === undefined)
    return refuse(
      'member-unreachable',
      `host ${id} at ${address} does not answer; start it, then run this again`,
      true,
    );
  if (host.status === 'normal' && host.behind !== undefined && host.behind <= BEHIND_MAX) return undefined;
  return refuse(
    'member-behind',
    `host ${id} at ${address} ${host.behind === undefined || host.status !== 'normal' ? `is ${host.status}` : `lacks ${host.behind} entries, and ${BEHIND_MAX} are allowed`}; wait until it has caught up (jitpaxos status), then run this again`,
    true,
  );
}

function change(ids: readonly number[], { list, viewEpoch }: Seen): Next {
  const voters = [...ids].sort((a, b) => a - b);
  const to = Math.max(viewEpoch, list.started) + 1;
  return send(
    { kind: 'change', from: list.started, to, ids: voters },
    `epoch ${to} is decided: voters ${voters.join(', ')}`,
  );
}

/** An address that no name server knows (RFC 2606), for a host whose own is given to another. */
function nowhere(id: number): string {
  return `host-${id}-is-gone.invalid:1`;
}

function votersOf({ hosts }: MemberList): number[] {
  return hosts.filter(({ votes }) => votes).map(({ id }) => id);
}

function at({ hosts }: MemberList, address: string): Member | undefined {
  return hosts.find((host) => host.address === address);
}

function of({ hosts }: MemberList, id: number): Member | undefined {
  return hosts.find((host) => host.id === id);
}

function alive(ids: readonly number[], { hosts }: Seen): { readonly up: number[]; readonly down: number[] } {
  const up = ids.filter((id) => hosts.get(id)?.status === 'normal');
  return { up, down: ids.filter((id) => !up.includes(id)) };
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id) => b.includes(id));
}

function unlisted(id: number, { hosts }: MemberList): Refusal {
  return refuse(
    'member-unlisted',
    `host ${id} is not listed; the hosts are ${hosts.map((host) => host.id).join(', ')}`,
  );
}

function send(operation: ConfigureOperation, says: string, gone?: number): Next {
  return { kind: 'send', operation, says, ...(gone === undefined ? {} : { gone }) };
}

function done(says: string): Next {
  return { kind: 'done', says };
}

function refuse(code: CommandErrorCode, why: string, mayPass: Refusal['mayPass'] = false): Refusal {
  return { kind: 'refuse', code, why, mayPass };
}

function first<T, R>(items: readonly T[], use: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const result = use(item);
    if (result !== undefined) return result;
  }
  return undefined;
}

function listed(ids: readonly number[]): string {
  return `host${s(ids.length)} ${ids.join(', ')}`;
}

function s(count: number): string {
  return count === 1 ? '' : 's';
}

function isAre(count: number): string {
  return count === 1 ? 'is' : 'are';
}
