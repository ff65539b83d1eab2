/**
 * From which votes a view may start.
 *
 * Rule S, *C3* (`Enough` in JITReconfig.tla; mutations `newonly`, `oldonly`, `fewold`, `anyvoter`): V votes of voters of
 * the view's own epoch, and, unless the newest log among them is of that epoch already, V votes of voters of the epoch
 * before, which that log has to be of. So what was committed in either epoch is among them. It holds for every view of an
 * epoch, the first or not: one that came to nothing is repaired by the next.
 */
import { count } from '../../masks.js';
import type { Views } from '../../views.js';

interface Vote {
  readonly from: number;
  readonly logView: number;
}

/** @param votes one of each replica whose vote counts for the view (`Views.mayVote`) */
export function areEnough(votes: Iterable<Vote>, view: number, views: Views): boolean {
  const own = views.of(view);
  let voters = 0;
  let newest = -1;
  for (const { from, logView } of votes) {
    voters |= 1 << from;
    if (logView > newest) newest = logView;
  }
  if (own === undefined || count(voters & own.voters) < own.votes) return false;
  const of = views.of(newest);
  if (of === own) return true;
  return of !== undefined && of === views.before(own) && count(voters & of.voters) >= of.votes;
}
