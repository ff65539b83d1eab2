/**
 * Votes for a view, and which of them it starts from.
 *
 * Rule S, *choice* (`Candidates` in model/JITPaxos.tla): of those with the highest logView the vote of that view's primary, else of a member of its quorum,
 * else (no member can then have acknowledged in it) any.
 */
import { Vote } from '../../../wire/messages.js';
import { readI32, readIndex } from '../../../wire/u64.js';
import type { Claim } from './installation.js';
import { invariant } from '../../invariant.js';
import type { Views } from '../../views.js';

export interface Ballot extends Claim {
  readonly logView: number;
  readonly lastIndex: number;
  readonly chainHi: number;
  readonly chainLo: number;
}

/** The Vote at `bytes[o]`. */
export function readBallot(bytes: Uint8Array, o: number, from: number): Ballot {
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
  readonly vote: Ballot;
  /** The most that a vote says is committed, … */
  readonly committed: number;
  /** … and whose; −1: nothing is. */
  readonly accuser: number;
}

/** @param failed replicas that did not deliver their log: they are asked again last */
export function chooseVote(
  votes: ReadonlyMap<number, Ballot>,
  failed: ReadonlySet<number>,
  views: Views,
  self: number,
): Choice {
  let highest = 0;
  let committed = 0;
  let accuser = -1;
  for (const vote of votes.values()) {
    highest = Math.max(highest, vote.logView);
    if (vote.committed > committed) {
      committed = vote.committed;
      accuser = vote.from;
    }
  }
  const top = [...votes.values()].filter((vote) => vote.logView === highest);
  const primaries = top.filter((vote) => vote.from === views.primary(highest));
  const members = top.filter((vote) => views.isMember(highest, vote.from));
  const qualified = primaries.length > 0 ? primaries : members.length > 0 ? members : top;
  const candidates = qualified.filter((vote) => !failed.has(vote.from));
  const pool = candidates.length > 0 ? candidates : qualified;
  // All qualify alike; the own log spares the fetch.
  const vote = pool.find((one) => one.from === self) ?? pool[0];
  invariant(
    vote !== undefined &&
      vote.logView === highest &&
      (vote.from === views.primary(highest) ||
        (primaries.length === 0 && (members.length === 0 || views.isMember(highest, vote.from)))),
    'a view starts from the newest log: that of its primary, else of a member, else of any replica',
  );
  return { vote, committed, accuser };
}
