/**
 * What a client knows of epochs: who the members are, as the log says it, and which named view is one of theirs.
 *
 * A view says which quorum counts only when its epoch is known (commit-rule.ts, S). So a view of an epoch that is not
 * known is not entered: its number is kept until somebody says who the members are, or that they never changed.
 */
import { configurationsOf } from '../membership/configurations.js';
import { decodeMembership } from '../membership/membership.js';
import type { Views } from '../views.js';

export class Epochs {
  /** The newest members that are known, in the form of the log; undefined: none. */
  members: Uint8Array | undefined;
  /** The entry that made them what they are. */
  private index = 0;
  /** A view that a replica named and whose epoch was not known; −1: none. */
  private wanted = -1;

  constructor(private readonly views: Views) {}

  /** A replica names `view`, above the present one. False: its epoch is not known. */
  isKnown(view: number): boolean {
    if (this.views.of(view) !== undefined) return true;
    this.wanted = view;
    return false;
  }

  /**
   * The replica's word is enough to enter `view`, whose epoch is known. A host that left may wait for a view of the next
   * epoch that nobody else will ever be in: its voters name its views.
   */
  mayName(view: number, replica: number): boolean {
    const { epoch, voters } = this.views.of(view)!;
    return epoch === 0 || ((voters >>> replica) & 1) === 1;
  }

  /** The view that was named when its epoch was not known, if it is known now and above `view`; −1: there is none. */
  wantedAbove(view: number): number {
    return this.wanted > view && this.views.of(this.wanted) !== undefined ? this.wanted : -1;
  }

  /** These are the members, committed somewhere. False, and nothing changed, if they are none or not newer. */
  learn(bytes: Uint8Array): boolean {
    const members = decodeMembership(bytes, 0, bytes.length);
    if (members === undefined || members.index <= this.index) return false;
    this.index = members.index;
    this.members = bytes;
    this.views.learn(configurationsOf(members));
    return true;
  }

  /**
   * A replica in `view` knows of no change of the members: all views up to there are those of the cluster file's replicas
   * (Views.of). Replicas cross the last view of epoch 0 only while nothing can have been decided. False: here a change is
   * known.
   */
  cross(view: number): boolean {
    if (this.members !== undefined) return false;
    this.views.cross(view);
    return true;
  }
}
