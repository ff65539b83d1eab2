/**
 * Who the hosts are, as far as it is known at this replica to be committed, and what follows from it. Part of its state
 * (replica-state.ts), which says when something new has to be durable.
 *
 * Rules S guarded here: *C2* (nobody acts upon members before they are committed) and its parts of *C7* and `overflow`: what
 * a log, committed or not, may have decided.
 */
import type { Identity } from '../contract.js';
import { RequestFlag } from '../../wire/messages.js';
import type { Execution } from '../log/execution.js';
import { Feature } from '../log/features.js';
import type { Log } from '../log/log.js';
import { configurationsOf } from '../membership/configurations.js';
import { hostOf, type Membership } from '../membership/membership.js';
import type { Views } from '../views.js';
import type { DurableOutbox } from './durable-outbox.js';
import type { Hosts } from './hosts.js';
import type { OtherReplicas } from './others.js';

/** The parts of a replica's state that the members are about. */
export interface PartsOfState {
  readonly hosts: Hosts;
  readonly views: Views;
  readonly others: OtherReplicas;
  readonly log: Log;
  readonly execution: Execution;
  readonly out: DurableOutbox;
}

export class KnownMembers {
  /** This replica was a host, and is none any more. */
  removed = false;
  /** See Recovered.identity. */
  identity: Identity | undefined;
  /** The last membership of the executed entries that was looked at. */
  private followed: Membership | undefined;
  /** At a quorum of one: the members that it decided last, as long as the entry is not durable. */
  private unwritten: { readonly members: Membership; readonly token: number } | undefined;

  /**
   * @param present those of the cluster file. Later the newest; the entries may not be here yet. Durable
   * @param changed called when others are known than before
   * @param tell see ReplicaState.transition
   */
  constructor(
    public present: Membership,
    private readonly state: PartsOfState,
    private readonly changed: () => void,
    private readonly tell: (event: string, detail: string) => void,
  ) {}

  /**
   * Entries that were committed may have changed the members.
   * @param isCommitted false at a quorum of one: it has committed what is durable, and nothing else
   * @returns true if they are newer than those that were known
   */
  follow(isCommitted: boolean): boolean {
    const { execution, out } = this.state;
    const { committedMembership: members } = execution;
    if (members === this.followed) return false;
    this.followed = members;
    if (!isCommitted) this.unwritten = { members, token: out.awaited };
    const isNewer = isCommitted && this.learn(members);
    return this.learnWritten() || isNewer;
  }

  /** What a quorum of one decided of the members may be durable by now. Returns as `follow` does. */
  learnWritten(): boolean {
    const { unwritten } = this;
    if (unwritten === undefined || !this.state.out.isDurable(unwritten.token)) return false;
    this.unwritten = undefined;
    return this.learn(unwritten.members);
  }

  /** These are committed. Returns as `follow` does. */
  learn(members: Membership): boolean {
    const before = this.present;
    if (members.index <= before.index) return false;
    const { hosts, others, views } = this.state;
    this.present = members;
    others.reach(1 + Math.max(...members.hosts.map(({ slot }) => slot)));
    hosts.list(members);
    views.learn(configurationsOf(members));
    const wasRemoved = this.removed;
    this.removed = hostOf(members, hosts.self) === undefined;
    this.changed();
    this.tellOf(members, before, this.removed && !wasRemoved);
    return true;
  }

  private tellOf(members: Membership, before: Membership, isRemovedNow: boolean): void {
    const { started, decided, voters, nextVoters, hosts } = members;
    this.tell(
      'members',
      `epoch ${started}${decided > started ? `, then ${decided}` : ''}; hosts ${hosts.map(({ id }) => id).join(' ')}`,
    );
    if (started > before.started) this.tell('epoch-started', `epoch ${started}, voters ${voters.join(' ')}`);
    if (decided > Math.max(before.decided, started))
      this.tell('change-decided', `epoch ${decided}, voters ${nextVoters.join(' ')}; epoch ${started} goes on`);
    if (isRemovedNow) this.tell('removed', `not listed any more in epoch ${started}`);
  }

  /**
   * No epoch can have been decided: the feature `membership` is off, and no entry of the log, executed or not, switches it
   * on. An entry that is committed stands in the log of some replica among any that a view starts from, so they cannot
   * take a view of another epoch for one of theirs.
   */
  nothingIsDecided(): boolean {
    const { execution } = this.state;
    if (this.present.index > 0 || (execution.features & Feature.membership) !== 0) return false;
    return !this.mayHold(RequestFlag.feature);
  }

  /**
   * Rule S, C7: the log, committed or not, executed or not, may list the data directory of the host in `slot`. A listing
   * that is committed stands in the log of some replica among any that a view starts from.
   *
   * Rule S, of one that forgot its promises (introduction.ts): nor does it begin while that log may have decided an epoch that
   * has not begun. It may have voted for a view of that epoch, which is above any that it would leap to in this one.
   */
  mayBeNamed(slot: number): boolean {
    if (this.nothingIsDecided()) return false;
    const { membership } = this.state.execution;
    return (
      isNamed(this.present, slot) ||
      isNamed(membership, slot) ||
      membership.decided > membership.started ||
      this.mayHold(RequestFlag.configure)
    );
  }

  /**
   * Rule S, C7: the log, committed or not, lists another data directory under this replica's id. A directory that was empty
   * found out that none is listed before it began, and one may have been since.
   * @param commit commits what is known to be committed of the log: only the rest has to be rolled back
   */
  listsAnother(commit: () => void): boolean {
    if (this.identity === undefined || this.nothingIsDecided() || this.isNamedHere()) return false;
    commit();
    const { execution } = this.state;
    // Once a directory is listed under an id, no other one ever is.
    if (this.isNamedHere() || !this.mayHold(RequestFlag.configure)) return this.isAnothersIn(execution.membership);
    return this.isAnothersIn(execution.membershipAhead());
  }

  /** The executed entries list this data directory under this replica's id. */
  private isNamedHere(): boolean {
    const { state, identity } = this;
    const own = hostOf(state.execution.membership, state.hosts.self);
    return own !== undefined && own.identityHi === identity?.identityHi && own.identityLo === identity.identityLo;
  }

  /** The committed members list another data directory under this replica's id. */
  get isOfAnother(): boolean {
    return this.isAnothersIn(this.present);
  }

  /** These members list another data directory under this replica's id. A replica without one cannot tell. */
  private isAnothersIn(members: Membership): boolean {
    const { identity } = this;
    const own = hostOf(members, this.state.hosts.self);
    if (identity === undefined || own === undefined || (own.identityHi | own.identityLo) === 0) return false;
    return own.identityHi !== identity.identityHi || own.identityLo !== identity.identityLo;
  }

  /** Entries with that flag are in the log that are not executed. */
  private mayHold(flag: number): boolean {
    const { log, execution } = this.state;
    for (let i = execution.executed + 1; i <= log.lastIndex; i++) if (log.flags(i) === flag) return true;
    return false;
  }
}

/** The data directory of the host in `slot` is known. */
function isNamed({ hosts }: Membership, slot: number): boolean {
  return hosts.some((host) => host.slot === slot && (host.identityHi | host.identityLo) !== 0);
}
