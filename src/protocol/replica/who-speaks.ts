/**
 * Which hosts speak the version of the wire that brings membership.
 *
 * Rule S, *switched on last* (docs/internals/decisions/versions.md): a member appends the entry that switches the feature
 * `membership` on when it has heard, in this life of its process, that every listed host speaks that version. Before that
 * entry no other changes the members. So no host that counts the quorums of a view otherwise is left behind by it. One that
 * was not heard yet is asked for a sign of life.
 */
import { AskMembers } from '../../wire/messages.js';
import { lowest } from '../masks.js';
import type { ReplicaState } from './replica-state.js';

/** Other hosts that were heard, and said that they speak an older version; a mask. */
export function olderHosts(state: ReplicaState): number {
  return hostsThat(state, (version) => version > 0 && version < AskMembers.since);
}

/** Other hosts that were not heard yet; a mask. */
export function unheardHosts(state: ReplicaState): number {
  return hostsThat(state, (version) => version === 0);
}

function hostsThat({ hosts, out }: ReplicaState, speak: (version: number) => boolean): number {
  let mask = 0;
  for (let rest = hosts.others; rest !== 0; rest &= rest - 1) if (speak(out.speaks(lowest(rest)))) mask |= rest & -rest;
  return mask;
}
