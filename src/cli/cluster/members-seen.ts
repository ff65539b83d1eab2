/**
 * Who the members are, according to the replicas that answered, for `jitpaxos status`, `top` and `doctor`: the newest list
 * of any, an open change and what it waits for, and what an operator should look at. What nobody says is unknown.
 */
import type { MembershipReport, ReportedHost } from '../../host/membership-report.js';
import type { ReplicaStatusReport } from '../../host/status.js';
import { formatLongDuration } from '../../console/units.js';

/** A host, as `status` shows it. */
export interface MemberRow {
  /** That of a replica that does not answer is taken from its address. */
  readonly id: number;
  readonly address: string;
  /** False: the cluster file of this tool does not have it at its address. */
  readonly inFile: boolean;
  /** False: it is listed as a member, and could not be asked. */
  readonly asked: boolean;
  /**
   * Primary, member or spare, if it votes; removed: the cluster file has it, and the members that are known do not.
   * Undefined: a voter without a report.
   */
  readonly role: 'primary' | 'member' | 'spare' | 'learner' | 'removed' | undefined;
  /** What an open change of the members does to it. */
  readonly change?: 'joins' | 'leaves';
  readonly report: ReplicaStatusReport | undefined;
  /** Entries of the primary's log that this replica is not known to have. */
  readonly lag: number | undefined;
}

export interface MembersSeen {
  /** The epoch in force. */
  readonly epoch: number;
  /** The entry that made the list; 0: it is that of the cluster files. */
  readonly index: number;
  readonly hosts: readonly ReportedHost[];
  /** Null: no change is open. */
  readonly pending: PendingChange | null;
}

export interface PendingChange {
  /** The epoch that is decided and not yet in force. */
  readonly epoch: number;
  readonly voters: readonly number[];
  /** For how long a replica has known of it; it may be older. */
  readonly openSeconds: number;
}

/** A change that is open for longer deserves a remark: it takes milliseconds where enough hosts are up. */
const OPEN_SECONDS = 10;
/** A host of the next epoch has to be this close behind, before the epoch may begin. */
const READY_ENTRIES = 1024;

type Report = Pick<ReplicaStatusReport, 'id' | 'view' | 'membership'>;

/** By the newest list that a replica has; undefined if none says. */
export function membersSeen(reports: readonly Report[]): MembersSeen | undefined {
  const lists = reports.flatMap(({ view, membership }) => (membership === undefined ? [] : [{ view, ...membership }]));
  const [newest] = lists.sort((a, b) => newerFirst(a, b) || b.view - a.view);
  if (newest === undefined) return undefined;
  const { epoch, decided, index, hosts } = newest;
  return {
    epoch,
    index,
    hosts,
    pending:
      decided === epoch
        ? null
        : {
            epoch: decided,
            voters: hosts.filter(({ willVote }) => willVote).map(({ id }) => id),
            openSeconds: Math.max(
              ...lists.filter((list) => list.decided === decided).map(({ openSeconds }) => openSeconds ?? 0),
            ),
          },
  };
}

type Edition = Pick<MembershipReport, 'epoch' | 'decided' | 'index'>;

function newerFirst(a: Edition, b: Edition): number {
  return b.epoch - a.epoch || b.decided - a.decided || b.index - a.index;
}

/** What an operator should look at, one sentence each. @param before the rows of an earlier sample */
export function memberRemarks(
  seen: MembersSeen | undefined,
  rows: readonly MemberRow[],
  before: readonly MemberRow[] | undefined,
): string[] {
  if (seen === undefined) return [];
  return [
    ...openRemarks(seen, rows),
    ...evenRemarks(seen),
    ...rows.flatMap((row) => learnerRemarks(row, before)),
    ...rows.flatMap((row) => removedRemarks(row, seen)),
    ...listRemarks(seen, rows),
  ];
}

function openRemarks(seen: MembersSeen, rows: readonly MemberRow[]): string[] {
  const { epoch, pending, hosts } = seen;
  if (pending === null || pending.openSeconds <= OPEN_SECONDS) return [];
  const old = hosts.filter(({ votes }) => votes).map(({ id }) => id);
  const since = formatLongDuration(pending.openSeconds * 1e9);
  const waits = [
    // The first view of the next epoch starts from this many votes of each.
    lacking(`epoch ${epoch}`, old, votesOf(old.length), rows, Infinity),
    lacking(`epoch ${pending.epoch}`, pending.voters, quorumOf(pending.voters.length), rows, READY_ENTRIES),
  ].filter((text) => text !== undefined);
  return [
    `epoch ${pending.epoch} has been decided for ${since} and has not begun; epoch ${epoch} goes on. ${
      waits.length > 0
        ? `It waits for ${waits.join(', and for ')}`
        : 'Enough of its hosts answer: the log of the primary says what it waits for (replica.ask-view, replica.promise)'
    }`,
  ];
}

/** Votes that a view of an epoch with this many voters starts from. */
function votesOf(voters: number): number {
  return voters - quorumOf(voters) + 1;
}

function quorumOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

/** What is missing, in words; undefined if enough of the voters are up and have the log. */
function lacking(
  of: string,
  voters: readonly number[],
  needed: number,
  rows: readonly MemberRow[],
  behindMax: number,
): string | undefined {
  const faults = voters.flatMap((id): string[] => {
    const row = rows.find((each) => each.id === id);
    if (row === undefined || !row.asked) return [`${id} was not asked`];
    if (row.report === undefined) return [`${id} does not answer`];
    return row.lag !== undefined && row.lag <= behindMax
      ? []
      : behindMax === Infinity
        ? []
        : [row.lag === undefined ? `how far ${id} is behind is unknown` : `${id} is ${row.lag} entries behind`];
  });
  if (voters.length - faults.length >= needed) return undefined;
  return `${needed} of the voters ${voters.join(', ')} of ${of} (${faults.join(', ')})`;
}

function evenRemarks({ epoch, hosts, pending }: MembersSeen): string[] {
  const voters = hosts.filter(({ votes }) => votes).length;
  const isEven = (count: number): boolean => count % 2 === 0;
  const next = pending?.voters.length ?? voters;
  return [
    ...(isEven(voters) && (pending === null || isEven(next)) ? [evenText(epoch, voters)] : []),
    ...(pending !== null && isEven(next) && !isEven(voters) ? [evenText(pending.epoch, next)] : []),
  ];
}

function evenText(epoch: number, voters: number): string {
  return `epoch ${epoch} has ${voters} voters, which survive no more failures than ${voters - 1}: add or remove one`;
}

function learnerRemarks(row: MemberRow, before: readonly MemberRow[] | undefined): string[] {
  const { id, role, lag } = row;
  const earlier = before?.find((each) => each.id === id)?.lag;
  if (role !== 'learner' || lag === undefined || earlier === undefined || lag <= READY_ENTRIES || lag < earlier)
    return [];
  return [`learner ${id} does not catch up: it is ${lag} entries behind, and was ${earlier} before`];
}

function removedRemarks({ id, address, role, report }: MemberRow, { epoch }: MembersSeen): string[] {
  if (role !== 'removed' || report === undefined) return [];
  return [
    `replica ${id} (${address}) is not a member any more in epoch ${epoch}, and still runs: it may be stopped, and its data directory removed`,
  ];
}

/** Replicas that know another list than the newest. */
function listRemarks(seen: MembersSeen, rows: readonly MemberRow[]): string[] {
  const newest = textOf(seen.hosts);
  return rows.flatMap(({ id, role, report }) => {
    const own = report?.membership;
    if (own === undefined || role === 'removed') return [];
    const decided = seen.pending?.epoch ?? seen.epoch;
    if (own.index === seen.index && own.epoch === seen.epoch && own.decided === decided)
      return textOf(own.hosts) === newest
        ? []
        : [`replica ${id} lists other members than the others do: jitpaxos member list shows both lists`];
    return [
      `replica ${id} is behind with the members: it knows ${own.epoch === seen.epoch ? `the list of entry ${own.index}, and the newest is of entry ${seen.index}` : `of epoch ${own.epoch}, and ${seen.epoch} is in force`}`,
    ];
  });
}

/** An identity that is not known to one is no difference. */
function textOf(hosts: readonly ReportedHost[]): string {
  return hosts.map(({ id, address, votes, willVote }) => `${id} ${address} ${votes} ${willVote}`).join('; ');
}

/** `epoch 3`; `epoch 3, 4 decided`; nothing while the members are still those of the cluster file. */
export function epochText(seen: Pick<MembersSeen, 'epoch' | 'pending'> | null): string | undefined {
  if (seen === null || (seen.epoch === 0 && seen.pending === null)) return undefined;
  return seen.pending === null ? `epoch ${seen.epoch}` : `epoch ${seen.epoch}, ${seen.pending.epoch} decided`;
}
