/**
 * Notices replicas whose cluster file lists another number of replicas than this client's.
 *
 * Which replicas are a quorum follows from their number and the view (views.ts). A client whose cluster file lists
 * fewer would accept fewer answers for a commit than the next view change relies on, and an acknowledged write could be
 * lost. So whatever completes a request states how many replicas its sender counts, and a replica with another count is
 * ignored (S): it completes no request and names no view, and its earlier acknowledgements no longer count. A single
 * replica's statement only excludes that replica: a client continues with any quorum that counts as it does.
 *
 * Addresses are not compared. They are not a replica's identity; the sender field of its datagrams is. A client may
 * reach a replica by another name, and a replica may move to another address while clients are connected.
 */
import { ProbeReply, ReadReply, Reply } from '../../wire/messages.js';
import { readI32 } from '../../wire/u64.js';
import { count } from '../masks.js';

/** Position of the list, by message type; 0: the type has none. */
const LIST_AT = new Int32Array(128);
for (const message of [Reply, ReadReply, ProbeReply]) LIST_AT[message.type] = message.at.list;

export class OtherLists {
  /** Replicas whose last message gave another count, one bit each. */
  mask = 0;
  private readonly said: Int32Array;

  /** @param places slots of replicas that there may be */
  constructor(
    private readonly replicas: number,
    places: number,
  ) {
    this.said = new Int32Array(places);
  }

  /** True if a message of replica `from` (below the number of replicas) must be ignored. */
  refuses(type: number, bytes: Uint8Array, o: number, from: number): boolean {
    const at = LIST_AT[type]!;
    if (at > 0) {
      const list = readI32(bytes, o + at);
      if (list !== this.said[from]) this.changed(from, list);
    }
    return ((this.mask >>> from) & 1) === 1;
  }

  /** How many replicas `from` counts, by its last message; 0: it did not say, as in the previous wire version. */
  countOf(from: number): number {
    return this.said[from]! >>> 28;
  }

  /** Too few replicas are left for any quorum. */
  get leavesNoQuorum(): boolean {
    return 2 * (this.replicas - count(this.mask)) < this.replicas;
  }

  private changed(from: number, list: number): void {
    this.said[from] = list;
    const replicas = list >>> 28;
    if (replicas !== 0 && replicas !== this.replicas) this.mask |= 1 << from;
    else this.mask &= ~(1 << from);
  }
}
