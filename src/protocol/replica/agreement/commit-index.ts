/**
 * What is committed in a view, as the primary knows it from its members, and as all others know it from the primary.
 *
 * Rule S guarded here (`Vouched` and `Chosen` in model/JITPaxos.tla): an entry of the primary's log is committed when
 * every other member of the view's quorum has confirmed, in this view, that its log equals the primary's up to there. A
 * replica that is not the primary takes for committed what its primary says is, and only as far as its own log is known
 * to equal the primary's.
 */
import { smallInteger } from '../../../wire/u64.js';
import { SLOTS } from '../../configuration.js';
import { Counter } from '../../counters.js';
import { invariant } from '../../invariant.js';
import { lowest } from '../../masks.js';
import type { ReplicaState } from '../replica-state.js';

export class CommitIndex {
  /** At the primary: up to which index each replica's log equals the primary's, as the replica last confirmed. */
  readonly matched: Float64Array;
  /** At the primary: each replica may still ask for entries behind this index. */
  private readonly needed: Float64Array;
  /** What the primary says is committed; the own log may not reach it yet. */
  private heard = 0;

  constructor(private readonly state: ReplicaState) {
    this.matched = new Float64Array(SLOTS);
    this.needed = new Float64Array(SLOTS);
  }

  /** What was confirmed in an earlier view says nothing of this one. */
  viewStarted(): void {
    this.matched.fill(0);
    this.needed.fill(this.state.committed);
    this.heard = 0;
  }

  /** Another host is there, and has confirmed nothing. */
  forget(replica: number): void {
    this.matched[replica] = 0;
    this.needed[replica] = this.state.committed;
  }

  /** At the primary: replica `from` confirms in this view that its log equals the primary's up to `matched`. */
  confirmed(from: number, matched: number, needed: number): void {
    invariant(
      this.state.isPrimary && matched <= this.state.log.lastIndex,
      "others confirm to the primary of a running view what stands in the primary's log",
    );
    this.needed[from] = needed;
    if (matched > this.matched[from]!) this.matched[from] = matched;
    this.advance();
  }

  /** At the primary: commits what all members have. */
  advance(): void {
    const { state, matched } = this;
    invariant(state.isPrimary, 'only the primary of a running view finds out what is committed in it');
    let committed = state.log.lastIndex;
    let needed = Infinity;
    let members = 1;
    // Listed or not: the epoch that follows may have forgotten some already.
    for (let rest = this.otherMembers; rest !== 0; rest &= rest - 1) {
      const of = smallInteger(matched[lowest(rest)]!);
      members++;
      if (of < committed) committed = of;
    }
    invariant(members === state.configuration.quorum, 'what is committed is in the log of every member of the quorum');
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1) {
      const of = this.needed[lowest(rest)]!;
      if (of < needed) needed = of;
    }
    state.keepFrom(needed);
    const before = state.committed;
    state.commitTo(committed);
    // Counted only here, at a primary: a log that was fetched or read from the disk is also committed, but was not
    // committed now.
    state.counters[Counter.entries_committed]! += state.committed - before;
  }

  /** Not at the primary: it says that entries up to `committed` are committed. */
  hear(committed: number): void {
    if (committed > this.heard) this.heard = committed;
    this.follow();
  }

  /** Not at the primary: commits what the primary said is committed and is known to stand here as it does there. */
  follow(): void {
    const { state } = this;
    invariant(
      !state.isPrimary && state.synced <= state.log.lastIndex,
      "a replica commits on its primary's word, and what is known to be the primary's stands in its log",
    );
    state.commitTo(Math.min(this.heard, state.synced));
  }

  /** At the primary: up to which index all members agree with it, as far as it knows. */
  agreed(): number {
    const { state } = this;
    let agreed = state.log.lastIndex;
    for (let rest = this.otherMembers; rest !== 0; rest &= rest - 1)
      agreed = Math.min(agreed, smallInteger(this.matched[lowest(rest)]!));
    return agreed;
  }

  /**
   * At the primary of a running view: members that have never confirmed anything in it, for example because they are
   * still fetching its log; a mask.
   */
  absentMembers(): number {
    const { state } = this;
    let mask = 0;
    if (!state.isPrimary || state.log.lastIndex === 0) return mask;
    for (let rest = this.otherMembers; rest !== 0; rest &= rest - 1)
      if (this.matched[lowest(rest)] === 0) mask |= rest & -rest;
    return mask;
  }

  private get otherMembers(): number {
    const { state } = this;
    return state.views.memberMask(state.view) & ~(1 << state.id);
  }
}
