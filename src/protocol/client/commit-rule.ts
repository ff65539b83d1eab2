/**
 * The commit rule (S): when a client may tell its caller that an operation is committed.
 *
 * A request is committed when every member of the view's quorum, its primary included, has answered ok, in the same
 * view, with the primary's index and the primary's chain. The result is the primary's. Until then the caller is told
 * nothing.
 *
 * In the model (model/JITPaxos.tla) a member that has answered so is in `Vouched` for the log up to the request; what
 * all `Members` vouch for is `Chosen`.
 *
 * - *Every member.* Any f+1 votes that start a later view include one of them, so the request is in the log that the
 *   later view starts from. Fewer members are not enough.
 * - *In the same view.* `enter` forgets the answers of the view before.
 * - *The primary's index and chain.* Equal chains mean equal logs up to the request.
 * - *A set of answers.* A newer answer of a member does not erase an older one (acknowledgements.ts).
 * - *Members that count as this client does.* A replica whose cluster file lists another number of replicas completes
 *   nothing (other-lists.ts).
 *
 * A reject ends nothing: the request may still commit, so it keeps its number until it does, or until its caller gives
 * it up.
 *
 * The rule of a quorum read (S; `ReadResults` in the model) is the same, with the last index and chain of each member's
 * log in place of those of the request. Each answer was given after the read was sent: it repeats the number of the
 * read, which no earlier message had.
 */
import { invariant } from '../invariant.js';
import { count } from '../masks.js';
import type { Views } from '../views.js';
import { Acknowledgements } from './acknowledgements.js';
import type { OtherLists } from './other-lists.js';

export class CommitRule {
  /** The view whose answers count, its primary, and its members, one bit each. */
  view = 0;
  primary = 0;
  members = 0;
  /** What the members answered in this view. */
  readonly acks: Acknowledgements;

  constructor(
    slots: number,
    private readonly views: Views,
    private readonly lists: OtherLists,
  ) {
    this.acks = new Acknowledgements(slots);
    this.enter(0);
  }

  /** From now on only answers given in `view` count. */
  enter(view: number): void {
    const { views } = this;
    views.enter(view);
    this.view = view;
    this.primary = views.primary(view);
    this.members = views.memberMask(view);
    invariant(
      count(this.members) === views.present.quorum && this.isMember(this.primary),
      'the quorum of a view is its primary and f others',
    );
    this.acks.enter(this.members);
  }

  isMember(replica: number): boolean {
    return ((this.members >>> replica) & 1) === 1;
  }

  /** Answers to the request that was open before in `slot` no longer count. */
  forget(slot: number): void {
    this.acks.clear(slot);
  }

  /** A member says in `view` that its log has the request at `index`, with this chain up to it. */
  acknowledged(slot: number, view: number, from: number, index: number, chainHi: number, chainLo: number): void {
    invariant(view === this.view && this.isMember(from), 'an acknowledgement that counts is from a member of the view');
    if (from === this.primary) this.acks.setPrimary(slot, index, chainHi, chainLo);
    else this.acks.add(slot, from, index, chainHi, chainLo);
  }

  /** The primary has answered, and no member counts the replicas differently: `missing` decides. */
  isDecidable(slot: number): boolean {
    return this.acks.hasPrimary(slot) && (this.members & this.lists.mask) === 0;
  }

  /** Members that have not vouched for what the primary answered, one bit each. 0: committed. */
  missing(slot: number): number {
    return this.acks.missing(slot, this.members & ~(1 << this.primary));
  }

  /** Whether each of the missing members has answered, so that an equal answer is no longer to be expected. */
  haveAnswered(slot: number, missing: number): boolean {
    for (let r = 0; missing >>> r !== 0; r++)
      if (((missing >>> r) & 1) === 1 && !this.acks.hasAnswered(slot, r)) return false;
    return true;
  }

  /** The request of `slot` is committed: its caller is told. */
  commit(slot: number): void {
    invariant(
      this.isDecidable(slot) && this.missing(slot) === 0,
      'every member of the view vouches for a request that is committed',
    );
    this.acks.close(slot);
    invariant(!this.acks.hasPrimary(slot), 'a request is committed once');
  }
}
