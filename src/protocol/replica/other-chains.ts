/**
 * Notices replicas whose logs are chained by another function or under another secret: an operator's mistake, such as
 * another cluster's key file on one host.
 *
 * None of their chains ever equals one of ours, although the entries do. The consequences look like faults elsewhere:
 * members that never agree, fetches without an answer, votes that contradict. So messages that begin an exchange
 * between replicas carry a fingerprint of function and secret, and a replica with another one is ignored: to the others
 * it is as if it were down, and both sides report why.
 */
import { Probe, ProbeReply, Sync, Vote } from '../../wire/messages.js';
import { readI32 } from '../../wire/u64.js';
import type { ReplicaState } from './replica-state.js';

/** Position of the fingerprint, by message type; 0: the type has none. */
const FINGERPRINT_AT = new Int32Array(128);
for (const message of [Sync, Vote, Probe, ProbeReply]) FINGERPRINT_AT[message.type] = message.at.fingerprint;

export class OtherChains {
  constructor(private readonly state: ReplicaState) {}

  /** True if a message of replica `from` must be ignored. A Probe never is: its answer tells the other side. */
  refuses(type: number, bytes: Uint8Array, o: number, from: number): boolean {
    const { state } = this;
    const at = FINGERPRINT_AT[type]!;
    if (at > 0) {
      const theirs = readI32(bytes, o + at);
      // 0: a process of the previous wire version, which does not report it.
      const differs = theirs !== 0 && theirs !== state.chain.fingerprint;
      if (state.others.noteChain(from, differs)) this.changed(from, differs);
    }
    return ((state.others.otherChain >>> from) & 1) === 1 && type !== Probe.type;
  }

  private changed(from: number, differs: boolean): void {
    const { state } = this;
    if (differs)
      state.transition(
        'chain-differs',
        `replica ${state.hosts.idOf(from)} chains its log under another secret, or by another function, than this replica; neither hears the other`,
      );
    else
      state.transition('chain-agrees', `replica ${state.hosts.idOf(from)} chains its log as this replica does again`);
  }
}
