/**
 * Notices replicas that count the cluster's replicas otherwise than this client does.
 *
 * Which replicas are a quorum follows from their number and the view (views.ts). A client whose cluster file lists fewer would take
 * fewer answers for a commit than the next view change relies on, and an acknowledged write could be gone. So whatever completes a
 * request says how many replicas its sender counts, and one that counts otherwise is not heard (S): it completes no request, names no
 * view, and what it acknowledged before counts no more. One replica's word only keeps that replica out: a client goes on with any quorum
 * that counts as it does.
 *
 * Addresses are not compared. They are not who a replica is, the sender field of its datagrams says that: a client may reach it by another
 * name, and a replica may move to another address while clients are connected.
 */
import { ProbeReply, ReadReply, Reply } from '../../wire/messages.js';
import { readI32 } from '../../wire/u64.js';
import { count } from '../masks.js';

/** Where the list stands, by message type; 0: nowhere. */
const LIST_AT = new Int32Array(128);
for (const message of [Reply, ReadReply, ProbeReply]) LIST_AT[message.type] = message.at.list;

export class OtherLists {
  /** Replicas that said last that they count otherwise, a bit each. */
  mask = 0;
  private readonly said: Int32Array;

  constructor(private readonly replicas: number) {
    this.said = new Int32Array(replicas);
  }

  /** True when a message of replica `from`, below the number of replicas, must not be heard. */
  refuses(type: number, bytes: Uint8Array, o: number, from: number): boolean {
    const at = LIST_AT[type]!;
    if (at > 0) {
      const list = readI32(bytes, o + at);
      if (list !== this.said[from]) this.changed(from, list);
    }
    return ((this.mask >>> from) & 1) === 1;
  }

  /** How many replicas `from` counts, as it said last; 0: it did not say, as with the previous version of the wire. */
  countOf(from: number): number {
    return this.said[from]! >>> 28;
  }

  /** Too few are left for any quorum. */
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
