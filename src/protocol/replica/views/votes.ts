/**
 * Votes for a view, and which of them the view starts from.
 *
 * Rule S, *choice* (`Candidates` in model/JITPaxos.tla): of the votes with the highest logView, the one of that view's
 * primary; else one of a member of that view's quorum; else any, because then no member can have acknowledged in it.
 */
import { Vote } from '../../../wire/messages.js';
import { readI32, readIndex } from '../../../wire/u64.js';
import { invariant } from '../../invariant.js';
import type { Views } from '../../views.js';

/** What a replica says of its log: that entry `committed` is committed, under that chain. */
export interface Claim {
  readonly from: number;
  readonly committed: number;
  readonly committedChainHi: number;
  readonly committedChainLo: number;
}

/** What replica `from` says of the log that stands for its vote. */
export interface CastVote extends Claim {
  readonly logView: number;
  readonly lastIndex: number;
  readonly chainHi: number;
  readonly chainLo: number;
}

/** The Vote at `bytes[o]`. */
export function readVote(bytes: Uint8Array, o: number, from: number): CastVote {
  const at = Vote.at;
  return {
    from,
    logView: readI32(bytes, o + at.logView),
    lastIndex: readIndex(bytes, o + at.lastIndex),
    chainHi: readI32(bytes, o + at.lastChain),
    chainLo: readI32(bytes, o + at.lastChain + 4),
    committed: readIndex(bytes, o + at.committedIndex),
    committedChainHi: readI32(bytes, o + at.committedChain),
    committedChainLo: readI32(bytes, o + at.committedChain + 4),
  };
}

export interface Choice {
  readonly vote: CastVote;
  /** The highest index that a vote says is committed. */
  readonly committed: number;
  /** The replica whose vote says so; −1: nothing is committed. */
  readonly claimant: number;
}

/** @param failed replicas that did not deliver their log: they are asked again last */
export function chooseVote(
  votes: ReadonlyMap<number, CastVote>,
  failed: ReadonlySet<number>,
  views: Views,
  self: number,
): Choice {
  let highest = 0;
  let committed = 0;
  let claimant = -1;
  for (const vote of votes.values()) {
    highest = Math.max(highest, vote.logView);
    if (vote.committed > committed) {
      committed = vote.committed;
      claimant = vote.from;
    }
  }
  const top = [...votes.values()].filter((vote) => vote.logView === highest);
  const primaries = top.filter((vote) => vote.from === views.primary(highest));
  const members = top.filter((vote) => views.isMember(highest, vote.from));
  const qualified = primaries.length > 0 ? primaries : members.length > 0 ? members : top;
  const candidates = qualified.filter((vote) => !failed.has(vote.from));
  const pool = candidates.length > 0 ? candidates : qualified;
  // All in the pool qualify alike. This replica's own log needs no fetch.
  const vote = pool.find((one) => one.from === self) ?? pool[0];
  invariant(
    vote !== undefined &&
      vote.logView === highest &&
      (vote.from === views.primary(highest) ||
        (primaries.length === 0 && (members.length === 0 || views.isMember(highest, vote.from)))),
    'a view starts from the newest log: that of its primary, else of a member, else of any replica',
  );
  return { vote, committed, claimant };
}
