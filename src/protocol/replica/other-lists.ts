/**
 * Notices replicas whose cluster files list others than this one's: each would count other quorums, or write to other
 * addresses. It is an operator's mistake, and only reported; other-chains.ts and the client's other-lists.ts act on theirs.
 */
import type { ReplicaState } from './replica-state.js';

/** The part of a `list` that is a digest; the rest is the number of replicas. */
const DIGEST = 0x0fffffff;

export class OtherLists {
  constructor(private readonly state: ReplicaState) {}

  /** @param list what replica `from` says that its cluster file lists; 0: a version of the wire that does not say */
  compare(from: number, list: number): void {
    const { state } = this;
    const { list: own } = state;
    const n = state.config.replicas;
    const replicas = list >>> 28;
    const isSame = replicas === n && (list === own || (list & DIGEST) === 0 || (own & DIGEST) === 0);
    if (list === 0 || !state.others.noteList(from, !isSame)) return;
    if (isSame)
      state.transition(
        'cluster-agrees',
        `the cluster file of replica ${state.hosts.idOf(from)} lists what this one's does again`,
      );
    else
      state.transition(
        'cluster-differs',
        replicas === n
          ? `the cluster file of replica ${state.hosts.idOf(from)} lists other addresses than this one's`
          : `the cluster file of replica ${state.hosts.idOf(from)} lists ${replicas} replicas, this one's ${n}`,
      );
  }
}
