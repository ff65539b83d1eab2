/**
 * Requests for a view that has not begun here, kept until it does. May be changed freely: a request that is not kept is sent
 * again by its client, after the wait for an answer.
 *
 * Clients learn of a view from the replica that begins it first, and send all that they have open to its members at once.
 * Whoever begins later would drop it all, and the client would wait for an answer from there: at each view change, for as long
 * as its longest round trip twice over.
 *
 * In the order in which they came. Bounded in requests and in their length, and no owner gets more than a part.
 */
import { copyBytes } from '../../wire/copy.js';
import { NO_OWNER } from '../log/session-owner.js';
import type { ArrivedRequest } from './arrived-request.js';

/** A longer message is not kept. */
const SLOT_BYTES = 512;
/** Once half of the places are taken, no owner gets more than this part of them. */
const OWNER_PART = 1 / 4;

export class EarlyRequests {
  count = 0;
  readonly bytes: Uint8Array;
  private readonly views: Int32Array;
  private readonly from: Int32Array;
  private readonly owners: Int32Array;
  /** Whose part each place counts to. */
  private readonly parties: Int32Array;

  /** @param places 0: nothing is kept */
  constructor(private readonly places: number) {
    this.bytes = new Uint8Array(places * SLOT_BYTES);
    this.views = new Int32Array(places);
    this.from = new Int32Array(places);
    this.owners = new Int32Array(places);
    this.parties = new Int32Array(places);
  }

  /** False when there is no place for it. */
  keep(arrived: ArrivedRequest): boolean {
    const { places, count } = this;
    const length = arrived.messageLength;
    // Without keys a session stands for its owner.
    const party = arrived.owner !== NO_OWNER ? arrived.owner : arrived.sessionHi ^ arrived.sessionLo || 1;
    if (length > SLOT_BYTES || count === places) return false;
    if (2 * count >= places && this.keptOf(party) >= places * OWNER_PART) return false;
    copyBytes(arrived.operationBytes, arrived.messageOffset, this.bytes, this.offsetOf(count), length);
    this.views[count] = arrived.view;
    this.from[count] = arrived.replyTo;
    this.owners[count] = arrived.owner;
    this.parties[count] = party;
    this.count++;
    return true;
  }

  offsetOf(place: number): number {
    return place * SLOT_BYTES;
  }

  viewOf(place: number): number {
    return this.views[place]!;
  }

  fromOf(place: number): number {
    return this.from[place]!;
  }

  ownerOf(place: number): number {
    return this.owners[place]!;
  }

  clear(): void {
    this.count = 0;
  }

  private keptOf(party: number): number {
    let kept = 0;
    for (let place = 0; place < this.count; place++) if (this.parties[place] === party) kept++;
    return kept;
  }
}
