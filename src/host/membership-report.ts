/**
 * What a replica reports about the members of its cluster: who they are as far as it knows, and whether a change of them
 * is open (protocol/membership/).
 */
import { EPOCH_VIEWS } from '../protocol/configuration.js';
import type { Membership } from '../protocol/membership/membership.js';
import type { MemberList } from '../wire/member-list.js';

/** What a replica is in the epoch in force. `removed`: it is not listed any more. */
export const MEMBER_ROLES = ['voter', 'learner', 'removed'] as const;
export type MemberRole = (typeof MEMBER_ROLES)[number];

export interface MembershipReport {
  readonly role: MemberRole;
  /** The epoch in force, and the one that is decided: the same, or a later one if a change is open. */
  readonly epoch: number;
  readonly decided: number;
  /** The entry that made the list what it is; 0: the list is that of the cluster file. */
  readonly index: number;
  /** Ids ascending. `identity`: of the data directory, null if it is not known. */
  readonly hosts: readonly ReportedHost[];
  /**
   * How long this replica has known of the open change, seconds; null: none is open. A restart begins anew, so the
   * change may be older.
   */
  readonly openSeconds: number | null;
  /** View changes that are left in the epoch of this replica's view. */
  readonly viewsLeft: number;
  /**
   * By id of each learner: entries of the primary's log that it is not known to have; null if it confirmed nothing in
   * this view. Only at a primary.
   */
  readonly learnerLag?: Readonly<Record<string, number | null>>;
}

export interface ReportedHost {
  readonly id: number;
  readonly address: string;
  readonly identity: string | null;
  /** A voter of the epoch in force. */
  readonly votes: boolean;
  /** A voter of the decided epoch. */
  readonly willVote: boolean;
}

/** The part of a core's state that the report needs. */
export interface MemberState {
  readonly view: number;
  readonly configuration: { readonly last: number };
  readonly isPrimary: boolean;
  readonly log: { readonly lastIndex: number };
  readonly members: Pick<Membership, 'hosts'>;
}

/**
 * @param self id of the replica
 * @param openSeconds how long it has known of the change, if one is open
 * @param matched up to which entry the host in a slot is known to have the primary's log; 0: nothing is known
 */
export function membershipReport(
  list: MemberList,
  self: number,
  state: MemberState,
  openSeconds: number,
  matched: (slot: number) => number,
): MembershipReport {
  const own = list.hosts.find(({ id }) => id === self);
  const learners = list.hosts.filter(({ votes }) => !votes);
  const lagOf = (id: number): number | null => {
    const slot = state.members.hosts.find((host) => host.id === id)?.slot;
    const has = slot === undefined ? 0 : matched(slot);
    return has === 0 && state.log.lastIndex > 0 ? null : Math.max(0, state.log.lastIndex - has);
  };
  return {
    role: own === undefined ? 'removed' : own.votes ? 'voter' : 'learner',
    epoch: list.started,
    decided: list.decided,
    index: list.index,
    hosts: list.hosts.map(({ id, address, identity, votes, willVote }) => ({
      id,
      address,
      identity: identity ?? null,
      votes,
      willVote,
    })),
    openSeconds: list.decided > list.started ? openSeconds : null,
    viewsLeft: state.configuration.last - state.view,
    ...(state.isPrimary ? { learnerLag: Object.fromEntries(learners.map(({ id }) => [String(id), lagOf(id)])) } : {}),
  };
}

/** A view for people: its number in epoch 0, `3.12` for view 12 of epoch 3. */
export function viewText(view: number): string {
  const epoch = Math.floor(view / EPOCH_VIEWS);
  return epoch === 0 ? String(view) : `${epoch}.${view % EPOCH_VIEWS}`;
}

/** The core's transition to a decided change. */
const CHANGE_DECIDED = 'change-decided';

/** When this process heard of the newest decided change. */
export class OpenChange {
  private sinceMs: number;

  /** @param startedMs of the process, `performance.now()`: a change that is open then is at least that old */
  constructor(startedMs: number) {
    this.sinceMs = startedMs;
  }

  /** A transition of the core. */
  heard(event: string, nowMs: number): void {
    if (event === CHANGE_DECIDED) this.sinceMs = nowMs;
  }

  seconds(nowMs: number): number {
    return (nowMs - this.sinceMs) / 1000;
  }
}
