/**
 * Combines what single replicas say about the members of their cluster, for `jitpaxos member list`.
 *
 * The rule: what is unknown is never shown as good. A list counts as agreed if a majority of its own voters say so and
 * nobody says otherwise of the same epoch and entry. A replica that knows only an older list is behind; it contradicts
 * nobody.
 */
import type { KnownMembers } from '../../client/members-client.js';
import type { Answered } from '../../client/inquiry.js';
import type { Member, MemberList } from '../../wire/member-list.js';
import { Exit } from '../../console/exit.js';

export type Says =
  /** The same list as the others. */
  | 'same'
  /** Another list of the same epoch and entry. */
  | 'other'
  /** An older list. */
  | 'behind'
  /** No answer: nothing is known. */
  | 'unknown';

export interface ReplicaSays {
  readonly id: number;
  /** Where it was asked. */
  readonly address: string;
  readonly says: Says;
  readonly view: number | null;
  readonly started: number | null;
  readonly decided: number | null;
  /** The entry of the log that made its list what it is. */
  readonly index: number | null;
  readonly hosts: readonly Member[] | null;
}

export interface MembersSummary {
  readonly cluster: string;
  /** The epoch in force, and the decided one; null if nobody answers. */
  readonly started: number | null;
  readonly decided: number | null;
  /** The newest list, with the identities that any replica that agrees knows. */
  readonly members: readonly Member[];
  readonly answered: number;
  /** A majority of the voters have this list, and nobody has another of the same epoch. */
  readonly agreed: boolean;
  readonly replicas: readonly ReplicaSays[];
  /** What an operator should look at, one sentence each. */
  readonly remarks: readonly string[];
}

/** @param listed addresses of the cluster file, as `addressText` writes them */
export function summarizeMembers(
  cluster: string,
  listed: readonly string[],
  answers: readonly Answered<KnownMembers>[],
): MembersSummary {
  const known = answers.flatMap(({ id, answer }) => (answer === undefined ? [] : [{ id, ...answer }]));
  const newest = newestOf(known);
  const says = answers.map(({ id, address, answer }): ReplicaSays => {
    const list = answer?.list;
    return {
      id,
      address,
      says:
        list === undefined || newest === undefined
          ? 'unknown'
          : compare(list, newest) < 0
            ? 'behind'
            : differenceOf(list, newest) === undefined
              ? 'same'
              : 'other',
      view: answer?.view ?? null,
      started: list?.started ?? null,
      decided: list?.decided ?? null,
      index: list?.index ?? null,
      hosts: list?.hosts ?? null,
    };
  });
  const same = new Set(says.flatMap((each) => (each.says === 'same' ? [each.id] : [])));
  const lists = known.filter(({ id }) => same.has(id)).map(({ list }) => list);
  const identities = newest?.hosts.map((_, at) => identitiesOf(lists, at)) ?? [];
  const divided = newest?.hosts.filter((_, at) => identities[at]!.length > 1) ?? [];
  const voters = newest?.hosts.filter(({ votes }) => votes).map(({ id }) => id) ?? [];
  const having = voters.filter((id) => same.has(id)).length;
  const agreed = 2 * having > voters.length && divided.length === 0 && says.every((each) => each.says !== 'other');
  return {
    cluster,
    started: newest?.started ?? null,
    decided: newest?.decided ?? null,
    members:
      newest?.hosts.map((host, at) => ({
        ...host,
        identity: identities[at]!.length === 1 ? identities[at]![0] : undefined,
      })) ?? [],
    answered: known.length,
    agreed,
    replicas: says,
    remarks: [
      ...says.flatMap((each) => remarkOn(each, newest, answers)),
      ...divided.map(
        ({ id }) =>
          `host ${id} has two identities, ${identities[newest!.hosts.findIndex((host) => host.id === id)]!.join(' and ')}: two data directories speak under its id. Find out which is the right one, and stop the other`,
      ),
      ...(newest === undefined || 2 * having > voters.length || says.some((each) => each.says === 'other')
        ? []
        : [
            `${having} of ${voters.length} voters say that they have this list, which is no majority: it may be an old one`,
          ]),
      ...(newest === undefined || newest.started === newest.decided
        ? []
        : [`epoch ${newest.decided} is decided, and not in force yet`]),
      ...(newest === undefined ? [] : fileRemarks(newest, listed)),
    ],
  };
}

/** The exit code of the command: as that of `status`. */
export function exitOfMembers({ answered, agreed }: Pick<MembersSummary, 'answered' | 'agreed'>): number {
  if (answered === 0) return Exit.unanswered;
  return agreed ? Exit.done : Exit.unavailable;
}

type Age = Pick<MemberList, 'started' | 'decided' | 'index'>;

/** For sorting lists: the newest one first. */
export function newerFirst(a: Age, b: Age): number {
  return compare(b, a);
}

/** Negative, zero or positive as list a is older than b, as old, or newer. An epoch in force was decided before. */
function compare(a: Age, b: Age): number {
  return a.started - b.started || a.decided - b.decided || a.index - b.index;
}

/** Of the newest lists the one that most replicas have; of two, that of the replica with the higher view. */
function newestOf(known: readonly (KnownMembers & { readonly id: number })[]): MemberList | undefined {
  const support = (list: MemberList): number =>
    known.filter((other) => compare(other.list, list) === 0 && differenceOf(other.list, list) === undefined).length;
  return [...known].sort(
    (a, b) => compare(b.list, a.list) || support(b.list) - support(a.list) || b.view - a.view || a.id - b.id,
  )[0]?.list;
}

/** In what two lists that are as old as each other differ, in a few words; undefined if they agree. An identity that one lacks is none. */
function differenceOf(a: Pick<MemberList, 'hosts'>, b: Pick<MemberList, 'hosts'>): string | undefined {
  const ids = (list: Pick<MemberList, 'hosts'>): string => list.hosts.map(({ id }) => id).join(', ');
  if (ids(a) !== ids(b)) return `the hosts ${ids(a)} instead of ${ids(b)}`;
  for (const [at, host] of a.hosts.entries()) {
    const other = b.hosts[at]!;
    if (host.address !== other.address) return `host ${host.id} at ${host.address} instead of ${other.address}`;
    if (host.votes !== other.votes || host.willVote !== other.willVote)
      return `host ${host.id} as ${roleOf(host)} instead of ${roleOf(other)}`;
    if (host.identity !== undefined && other.identity !== undefined && host.identity !== other.identity)
      return `host ${host.id} with identity ${host.identity} instead of ${other.identity}`;
  }
  return undefined;
}

/** Voter, learner, or what becomes of it. */
export function roleOf({ votes, willVote }: Pick<Member, 'votes' | 'willVote'>): string {
  if (votes) return willVote ? 'voter' : 'voter, leaves';
  return willVote ? 'learner, joins' : 'learner';
}

/** All identities that lists with the same hosts have for the one at this place. */
function identitiesOf(lists: readonly MemberList[], at: number): readonly string[] {
  return [...new Set(lists.map(({ hosts }) => hosts[at]!.identity).filter((identity) => identity !== undefined))];
}

function remarkOn(
  { id, says, started, index, hosts }: ReplicaSays,
  newest: MemberList | undefined,
  answers: readonly Answered<KnownMembers>[],
): string[] {
  if (says === 'other')
    return [
      `replica ${id} lists ${differenceOf({ hosts: hosts! }, newest!)!}: ${
        index === 0
          ? 'give all replicas the same cluster file, and start this one again'
          : 'docs/operate/operations.md, "A replica that diverged"'
      }`,
    ];
  if (says === 'behind')
    return [
      `replica ${id} is behind: ${
        started === newest!.started
          ? `it knows the list of entry ${index}, and the newest is of entry ${newest!.index}`
          : `it knows of epoch ${started}, and ${newest!.started} is in force`
      }`,
    ];
  const speaks = answers.find((each) => each.id === id)?.speaks ?? 0;
  if (says === 'unknown' && speaks > 0 && speaks < MEMBERS_VERSION)
    return [`replica ${id} speaks version ${speaks} of the wire, which cannot say: upgrade it`];
  return [];
}

/** The first version of the wire that can ask for the members. */
const MEMBERS_VERSION = 5;

/** Where the cluster file of this tool says something else. */
function fileRemarks(newest: MemberList, listed: readonly string[]): string[] {
  const voters = newest.hosts.filter(({ votes }) => votes).map(({ address }) => address);
  const gone = listed.filter((address) => !voters.includes(address));
  const missing = voters.filter((address) => !listed.includes(address));
  if (gone.length === 0 && missing.length === 0) return [];
  return [
    `the cluster file differs: ${[
      ...(missing.length === 0 ? [] : [`it lacks ${missing.join(', ')}`]),
      ...(gone.length === 0 ? [] : [`it lists ${gone.join(', ')}, where the cluster has no voter`]),
    ].join('; ')}. member list --write FILE writes the addresses of the voters`,
  ];
}
