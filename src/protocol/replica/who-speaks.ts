/**
 * Which hosts speak the version of the wire that brings membership.
 *
 * Rule S, *switched on last* (docs/internals/decisions/versions.md): a member appends the entry that switches the feature
 * `membership` on when it has heard, in this life of its process, that every listed host speaks that version. Before that
 * entry no other changes the members. So no host that counts the quorums of a view otherwise is left behind by it. One that
 * was not heard yet is asked for a sign of life. One that gives none while the operator goes on asking is down, as far as
 * anybody can tell: it may be the one that is to be replaced. Should it come back with an older version, nobody hears it
 * (wire/versions.ts), so it is in no quorum.
 */
import { MEMBERS_WIRE_VERSION } from '../../wire/versions.js';
import type { Instant } from '../contract.js';
import { lowest } from '../masks.js';
import type { ReplicaState } from './replica-state.js';

/** Hosts that were heard, and said that they speak an older version, and this one, if it is held back to one; a mask. */
export function olderHosts(state: ReplicaState): number {
  const isOlder = (version: number): boolean => version > 0 && version < MEMBERS_WIRE_VERSION;
  const own = isOlder(state.out.speaks(state.id)) ? 1 << state.id : 0;
  return own | hostsThat(state, isOlder);
}

/** Other hosts that were not heard yet; a mask. */
export function unheardHosts(state: ReplicaState): number {
  return hostsThat(state, (version) => version === 0);
}

/** How long a host that was not heard is asked for a sign of life before it counts as down. */
const SILENT_US = 3_000_000;
/** Whoever asks for the feature again after a longer time begins anew. */
const PAUSE_US = 5_000_000;

/** How long hosts that were not heard have been asked in vain. */
export class SignsOfLife {
  private sinceUs = -Infinity;
  private askedUs = -Infinity;

  /** An operator asks for the feature, and hosts were not heard. False: they are to be asked, and waited for. */
  areInVain(now: Instant): boolean {
    if (now.monotonicUs - this.askedUs > PAUSE_US) this.sinceUs = now.monotonicUs;
    this.askedUs = now.monotonicUs;
    return now.monotonicUs - this.sinceUs >= SILENT_US;
  }
}

function hostsThat({ hosts, out }: ReplicaState, speak: (version: number) => boolean): number {
  let mask = 0;
  for (let rest = hosts.others; rest !== 0; rest &= rest - 1) if (speak(out.speaks(lowest(rest)))) mask |= rest & -rest;
  return mask;
}
