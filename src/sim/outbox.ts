/**
 * The Outbox of a simulated host: puts the messages of a turn into as few datagrams as possible, like the real
 * transport, and seals them with the real envelope in the version used towards the destination.
 */
import type { Outbox } from '../protocol/contract.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES, MAX_DATAGRAM_BYTES } from '../wire/envelope.js';
import { writeProof } from '../wire/address-proofs.js';
import { Challenge, Proof } from '../wire/messages.js';
import { WIRE_VERSION } from '../wire/versions.js';
import type { Network } from './network.js';
import type { WireEnd } from './wire-end.js';

/** One datagram under construction; `length` 0 if there is none. */
interface Staging {
  bytes: Uint8Array;
  length: number;
  version: number;
}

/** Sees each message as it is committed: `bytes[offset … offset + length]`. */
export type MessageObserver = (to: number, bytes: Uint8Array, offset: number, length: number) => void;

export class SimulatedOutbox implements Outbox {
  bytes: Uint8Array = new Uint8Array(0);
  /** Set by a fault: decides for each reservation whether there is no room. */
  isFull: (() => boolean) | undefined;
  /** Datagrams sent in the previous version. */
  previousVersion = 0;
  /** Datagrams that were too long for a client that had proven nothing. */
  withheld = 0;
  private readonly stagings: Staging[] = [];
  private readonly waiting: number[] = [];
  private to = -1;
  private at = 0;
  private afterUs = 0;
  /** Replicas that also get the message being written for `to`, one bit each. */
  private others = 0;

  constructor(
    private readonly from: number,
    private readonly wire: WireEnd,
    private readonly network: Network,
    private readonly observe: MessageObserver,
    /** Longest datagram, unless a single message is longer. */
    private readonly datagramBytes = DEFAULT_DATAGRAM_BYTES,
  ) {}

  speaks(replica: number): number {
    return this.wire.speaks(replica);
  }

  reserve(to: number, messageLength: number): number {
    if (messageLength + ENVELOPE_BYTES > MAX_DATAGRAM_BYTES || this.isFull?.() === true) return -1;
    const staging = (this.stagings[to] ??= { bytes: new Uint8Array(DEFAULT_DATAGRAM_BYTES), length: 0, version: 0 });
    if (staging.length === 0) {
      staging.length = ENVELOPE_BYTES;
      staging.version = this.wire.versionFor(to);
      this.waiting.push(to);
    }
    const length = messageLength + this.wire.growth(staging.version);
    if (staging.length + length > staging.bytes.length) {
      const larger = new Uint8Array(2 * (staging.length + length));
      larger.set(staging.bytes.subarray(0, staging.length));
      staging.bytes = larger;
    }
    this.bytes = staging.bytes;
    this.to = to;
    this.others = 0;
    this.at = staging.length;
    return this.at;
  }

  /** Written for the last of them; at the commit the others get copies, each in its own version. */
  reserveEach(mask: number, last: number, messageLength: number): number {
    const at = this.reserve(last, messageLength);
    this.others = mask & ~(1 << last);
    return at;
  }

  commit(messageLength: number): void {
    if (this.others !== 0) {
      this.commitEach(messageLength);
      return;
    }
    const { to, at } = this;
    const staging = this.stagings[to]!;
    this.observe(to, staging.bytes, at, messageLength);
    const length = this.wire.rewrite(staging.version, staging.bytes, at, messageLength);
    if (at > ENVELOPE_BYTES && at + length > this.datagramBytes) {
      // The earlier content is sent; the new message begins the next datagram.
      this.emit(to, staging.bytes, at, staging.version);
      staging.bytes.copyWithin(ENVELOPE_BYTES, at, at + length);
      staging.length = ENVELOPE_BYTES + length;
    } else {
      staging.length = at + length;
    }
  }

  private commitEach(messageLength: number): void {
    const { to, at, others } = this;
    const message = this.bytes.slice(at, at + messageLength);
    for (let replica = 0; others >>> replica !== 0; replica++) {
      if (((others >>> replica) & 1) === 0) continue;
      const o = this.reserve(replica, messageLength);
      if (o < 0) continue;
      this.bytes.set(message, o);
      this.commit(messageLength);
    }
    // Nothing was committed to the last one meanwhile: its place is still as reserved.
    this.to = to;
    this.at = at;
    this.others = 0;
    this.commit(messageLength);
  }

  /**
   * Sends what has been committed.
   * @param limit at most this many datagrams; the rest is lost (the process died in between)
   * @param afterUs delay until the process gets to it
   */
  flush(limit = Infinity, afterUs = 0): void {
    let left = limit;
    this.afterUs = afterUs;
    for (const to of this.waiting) {
      const staging = this.stagings[to]!;
      if (staging.length > ENVELOPE_BYTES && left > 0) {
        left--;
        if (this.wire.helloDue(to)) this.hello(to);
        this.emit(to, staging.bytes, staging.length, staging.version);
      }
      staging.length = 0;
    }
    this.waiting.length = 0;
  }

  hello(to: number): void {
    const bytes = new Uint8Array(ENVELOPE_BYTES + Challenge.size);
    const length = this.wire.writeChallenge(to, bytes);
    if (!this.wire.mayCarryHello(to, length)) return;
    this.wire.seal(bytes, length, this.wire.versionFor(to));
    this.network.send(this.from, to, bytes, length, this.afterUs);
  }

  /** At a client: answers the Challenge at `bytes[offset]`. */
  prove(to: number, bytes: Uint8Array, offset: number): void {
    const proof = new Uint8Array(ENVELOPE_BYTES + Proof.size);
    writeProof(bytes, offset, proof, ENVELOPE_BYTES);
    this.wire.seal(proof, proof.length, this.wire.versionFor(to));
    this.network.send(this.from, to, proof, proof.length);
  }

  private emit(to: number, bytes: Uint8Array, length: number, version: number): void {
    if (!this.wire.mayCarry(to, length)) {
      this.withheld++;
      this.hello(to);
      return;
    }
    if (version !== WIRE_VERSION) this.previousVersion++;
    this.wire.seal(bytes, length, version);
    this.network.send(this.from, to, bytes, length, this.afterUs);
  }
}
