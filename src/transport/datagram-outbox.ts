/**
 * The outbox of a core over datagrams: messages to the same destination within a turn share one datagram.
 *
 * A message is written directly into the datagram that will carry it. Each destination has at most one open datagram.
 * If a message does not fit, that datagram is sent and another one is opened, so messages to one destination leave in
 * order. A message that is longer than `datagramBytes` allows travels alone, and the kernel fragments it.
 *
 * The version of a datagram is chosen when it is opened. If it is the previous version, each message is translated when
 * it is added.
 */
import type { Outbox } from '../protocol/contract.js';
import { MAX_DATAGRAM_BYTES, type Envelope } from '../wire/envelope.js';
import { copyWords, wordsOf } from '../wire/copy.js';
import type { Peers } from '../wire/peers.js';
import { Translator } from '../wire/translation.js';
import { WIRE_VERSION } from '../wire/versions.js';
import { TransportCounter, type Transport } from './transport.js';

/** Most destinations other than replicas with an open datagram. Before one more is opened, all datagrams are sent. */
const OPEN_MAX = 64;
const NOTHING = new Uint8Array(0);
/** Marks a set of replicas in the table of destinations: this, and the number of the last one. `masks` has the others. */
const EACH = 1 << 30;
/** Below this length only the datagram's bytes are copied; otherwise its whole array, which needs no DataView. */
const COPY_ALL_BYTES = 1024;

export class DatagramOutbox implements Outbox {
  bytes: Uint8Array = NOTHING;
  words: DataView = wordsOf(NOTHING);
  /** Messages for which there was no room. */
  dropped = 0;
  /** Datagrams not sent because the client's key was removed. */
  unsealed = 0;
  /** Messages committed. */
  messages = 0;
  /** Dropped messages that the peer's wire version does not have. */
  unknownToPeer = 0;

  private readonly arrays: Uint8Array[];
  /** The DataView of each array that the transport lends, made once. */
  private readonly wordsByArray = new Map<Uint8Array, DataView>();
  private readonly openWords: DataView[];
  private readonly lengths: Int32Array;
  private readonly destinations: Int32Array;
  /** Of a set of replicas: all of them but the last, one bit each; otherwise 0. */
  private readonly masks: Int32Array;
  private readonly written: Uint8Array;
  private opened = 0;
  /** Where the open reservation is: a position in the tables above, or `alone`. −1: there is no reservation. */
  private reserved = -1;
  private readonly alone: number;
  /** The array of which all lent ones are views, if there is one. */
  private readonly transmit: Uint8Array | undefined;
  private aloneTo = 0;
  /**
   * A message to several replicas that cannot share a datagram of one length and version, and its recipients. 0: there
   * is no such message.
   */
  private apart: Uint8Array = NOTHING;
  private apartWords: DataView = this.words;
  private apartTo = 0;
  private apartMask = 0;

  /**
   * @param datagramBytes the longest datagram of several messages, envelope included. At most the length that the
   * transport lends without fragmenting
   */
  constructor(
    private readonly transport: Transport,
    private readonly envelope: Envelope,
    private readonly datagramBytes: number,
    private readonly peers: Peers,
    private readonly translator: Translator = new Translator(),
  ) {
    this.arrays = new Array<Uint8Array>(OPEN_MAX + 1).fill(NOTHING);
    this.openWords = new Array<DataView>(OPEN_MAX + 1).fill(this.words);
    this.lengths = new Int32Array(OPEN_MAX + 1);
    this.destinations = new Int32Array(OPEN_MAX + 1).fill(-1);
    this.masks = new Int32Array(OPEN_MAX + 1);
    this.written = new Uint8Array(OPEN_MAX + 1);
    this.alone = OPEN_MAX;
    this.transmit = transport.memory?.transmit;
  }

  speaks(replica: number): number {
    return this.peers.sharedWith(replica);
  }

  reserve(to: number, messageLength: number): number {
    return this.reserveFor(to, 0, messageLength);
  }

  private reserveFor(to: number, mask: number, messageLength: number): number {
    this.dropReservation();
    let at = this.find(to, mask);
    const version = at >= 0 ? this.written[at]! : to >= EACH ? WIRE_VERSION : this.peers.versionFor(to);
    const length = version === WIRE_VERSION ? messageLength : messageLength + this.translator.growth;
    if (this.envelope.bytesIn(version) + length > this.datagramBytes) return this.reserveAlone(at, to, length, version);
    if (at >= 0 && this.lengths[at]! + length > this.datagramBytes) {
      this.sendOpen(at);
      at = -1;
    }
    if (at < 0) {
      if (this.opened === OPEN_MAX) this.sendAll();
      if (to >= EACH) this.helloEach(mask);
      else if (this.peers.helloDue(to)) this.hello(to);
      const bytes = this.transport.acquire(this.datagramBytes);
      if (bytes === undefined) return this.noRoom();
      at = this.opened++;
      this.arrays[at] = bytes;
      this.openWords[at] = this.wordsFor(bytes);
      this.lengths[at] = this.envelope.bytesIn(version);
      this.destinations[at] = to;
      this.masks[at] = mask;
      this.written[at] = version;
    }
    this.reserved = at;
    const bytes = this.arrays[at]!;
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.words = this.openWords[at]!;
    }
    return this.lengths[at]!;
  }

  /** Reserves a message to several replicas. Its datagram is made and sealed once; other recipients get copies. */
  reserveEach(mask: number, last: number, messageLength: number): number {
    const to = EACH | last;
    if (
      this.envelope.bytesIn(WIRE_VERSION) + messageLength <= this.datagramBytes &&
      (this.find(to, mask) >= 0 || this.allPresent(mask))
    )
      return this.reserveFor(to, mask, messageLength);
    this.dropReservation();
    if (this.apart.length < messageLength) {
      this.apart = new Uint8Array(MAX_DATAGRAM_BYTES);
      this.apartWords = wordsOf(this.apart);
    }
    this.apartTo = to;
    this.apartMask = mask;
    this.bytes = this.apart;
    this.words = this.apartWords;
    return 0;
  }

  commit(messageLength: number): void {
    if (this.apartTo !== 0) {
      this.commitApart(messageLength);
      return;
    }
    const at = this.reserved;
    if (at < 0) return;
    const head = this.envelope.bytesIn(this.written[at]!);
    let length = messageLength;
    if (this.written[at] !== WIRE_VERSION) {
      length = this.translator.rewrite(this.arrays[at]!, at === this.alone ? head : this.lengths[at]!, messageLength);
      if (length === 0) {
        this.unknownToPeer++;
        this.dropReservation();
        return;
      }
    }
    this.reserved = -1;
    this.messages++;
    if (at === this.alone) {
      this.seal(this.arrays[at]!, head + length, this.aloneTo, 0, this.written[at]!);
      this.arrays[at] = NOTHING;
    } else {
      this.lengths[at]! += length;
    }
  }

  /** Ends a turn: sends every open datagram. */
  flush(): void {
    this.dropReservation();
    this.sendAll();
    this.transport.flush();
  }

  private helloEach(mask: number): void {
    for (let replica = 0; mask >>> replica !== 0; replica++)
      if (((mask >>> replica) & 1) === 1 && this.peers.helloDue(replica)) this.hello(replica);
  }

  /** Sends an empty datagram at once, in the version used towards the peer: see peer-versions.ts. */
  hello(to: number): void {
    const bytes = this.transport.acquire(this.datagramBytes);
    if (bytes === undefined) return;
    const version = this.peers.versionFor(to);
    const head = this.envelope.bytesIn(version);
    this.seal(bytes, head + this.peers.writeChallenge(to, bytes, head), to, 0, version);
    this.transport.flush();
  }

  /**
   * Sends a message that the previous version lacks, alone, in the newest version, whatever the peer is written to in. One
   * that does not read it drops it.
   */
  sendNewest(to: number, message: Uint8Array): void {
    const version = this.peers.newest;
    const head = this.envelope.bytesIn(version);
    const length = head + message.length;
    if (version !== WIRE_VERSION || !this.peers.mayCarry(to, length)) return;
    const bytes = this.transport.acquire(length);
    if (bytes === undefined) return;
    this.peers.noteWritten(to);
    bytes.set(message, head);
    this.leave(bytes, length, to, version);
  }

  /**
   * Asks an endpoint for a Proof under another key than its own, at the end of the turn: see peers.ts.
   * @param newest the newest version that the sender of the datagram under this key speaks
   */
  challengeUnder(key: number, to: number, newest: number): void {
    const bytes = this.transport.acquire(this.datagramBytes);
    if (bytes === undefined) return;
    const version = this.peers.commonVersion(newest);
    const head = this.envelope.bytesIn(version);
    this.leaveUnder(key, bytes, head + this.peers.writeChallengeUnder(key, to, bytes, head), to, version);
  }

  /** Asks an endpoint for a Proof of its address, unless that would be too much for what came from there. */
  challengeAddress(to: number): void {
    const bytes = this.transport.acquire(this.datagramBytes);
    if (bytes !== undefined) this.writeChallenge(bytes, to);
  }

  private find(to: number, mask: number): number {
    for (let at = this.opened - 1; at >= 0; at--)
      if (this.destinations[at] === to && this.masks[at] === mask) return at;
    return -1;
  }

  private reserveAlone(open: number, to: number, length: number, version: number): number {
    if (open >= 0) this.sendOpen(open);
    const head = this.envelope.bytesIn(version);
    const bytes = head + length <= MAX_DATAGRAM_BYTES ? this.transport.acquire(head + length) : undefined;
    if (bytes === undefined) return this.noRoom();
    this.arrays[this.alone] = bytes;
    this.written[this.alone] = version;
    this.aloneTo = to;
    this.reserved = this.alone;
    this.bytes = bytes;
    this.words = this.wordsFor(bytes);
    return head;
  }

  private wordsFor(bytes: Uint8Array): DataView {
    let words = this.wordsByArray.get(bytes);
    if (words === undefined) this.wordsByArray.set(bytes, (words = wordsOf(bytes)));
    return words;
  }

  private noRoom(): number {
    this.dropped++;
    return -1;
  }

  /** Whether each of these replicas is written to in the current version. */
  private allPresent(mask: number): boolean {
    let present = true;
    for (let replica = 0; mask >>> replica !== 0; replica++)
      if (((mask >>> replica) & 1) === 1 && this.peers.versionFor(replica) !== WIRE_VERSION) present = false;
    return present;
  }

  private commitApart(messageLength: number): void {
    const { apart, apartTo, apartMask } = this;
    this.apartTo = 0;
    const last = apartTo & ~EACH;
    for (let replica = 0; apartMask >>> replica !== 0; replica++)
      if (replica !== last && ((apartMask >>> replica) & 1) === 1) this.commitCopy(replica, apart, messageLength);
    this.commitCopy(last, apart, messageLength);
  }

  private commitCopy(to: number, message: Uint8Array, messageLength: number): void {
    const o = this.reserve(to, messageLength);
    if (o < 0) return;
    this.bytes.set(message.subarray(0, messageLength), o);
    this.commit(messageLength);
  }

  /** Drops a reservation that was never committed. The datagram keeps its earlier messages. */
  private dropReservation(): void {
    this.apartTo = 0;
    if (this.reserved === this.alone) {
      this.transport.release(this.arrays[this.alone]!);
      this.arrays[this.alone] = NOTHING;
    }
    this.reserved = -1;
  }

  /** Sends an open datagram, and moves the last open one to its place. */
  private sendOpen(at: number): void {
    const last = --this.opened;
    const bytes = this.arrays[at]!;
    const length = this.lengths[at]!;
    const to = this.destinations[at]!;
    const mask = this.masks[at]!;
    const version = this.written[at]!;
    this.arrays[at] = this.arrays[last]!;
    this.openWords[at] = this.openWords[last]!;
    this.lengths[at] = this.lengths[last]!;
    this.destinations[at] = this.destinations[last]!;
    this.masks[at] = this.masks[last]!;
    this.written[at] = this.written[last]!;
    this.arrays[last] = NOTHING;
    if (length === this.envelope.bytesIn(version)) this.transport.release(bytes);
    else this.seal(bytes, length, to, mask, version);
  }

  private sendAll(): void {
    for (let at = 0; at < this.opened; at++) {
      const bytes = this.arrays[at]!;
      const version = this.written[at]!;
      this.arrays[at] = NOTHING;
      if (this.lengths[at] === this.envelope.bytesIn(version)) this.transport.release(bytes);
      else this.seal(bytes, this.lengths[at]!, this.destinations[at]!, this.masks[at]!, version);
    }
    this.opened = 0;
  }

  private seal(bytes: Uint8Array, length: number, to: number, mask: number, version: number): void {
    if (to >= EACH) {
      this.sealEach(bytes, length, to & ~EACH, mask);
      return;
    }
    if (!this.peers.mayCarry(to, length)) {
      this.challenge(bytes, to);
      return;
    }
    this.leave(bytes, length, to, version);
  }

  /** Seals once for all: replicas share one key, this process's own, and their addresses count as proven. */
  private sealEach(bytes: Uint8Array, length: number, last: number, mask: number): void {
    if (!this.sealUnder(this.peers.keyFor(last), bytes, length, WIRE_VERSION)) {
      this.transport.release(bytes);
      this.unsealed++;
      return;
    }
    for (let replica = 0; mask >>> replica !== 0; replica++) {
      if (replica === last || ((mask >>> replica) & 1) === 0) continue;
      const copy = this.transport.acquire(bytes.length);
      if (copy === undefined) {
        this.dropped++;
        continue;
      }
      if (length < COPY_ALL_BYTES) copyWords(this.wordsFor(bytes), 0, this.wordsFor(copy), 0, length);
      else copy.set(bytes);
      this.transport.send(copy, length, replica);
    }
    this.transport.send(bytes, length, last);
  }

  private leave(bytes: Uint8Array, length: number, to: number, version: number): void {
    this.leaveUnder(this.peers.keyFor(to), bytes, length, to, version);
  }

  private leaveUnder(key: number, bytes: Uint8Array, length: number, to: number, version: number): void {
    if (this.sealUnder(key, bytes, length, version)) {
      this.transport.send(bytes, length, to);
    } else {
      this.transport.release(bytes);
      this.unsealed++;
    }
  }

  private sealUnder(key: number, bytes: Uint8Array, length: number, version: number): boolean {
    const { transmit } = this;
    return transmit === undefined
      ? this.envelope.seal(bytes, 0, length, key, version)
      : this.envelope.seal(transmit, bytes.byteOffset, length, key, version);
  }

  /** Replaces a datagram that is too long for an endpoint that has not proven its address. */
  private challenge(bytes: Uint8Array, to: number): void {
    this.transport.counters[TransportCounter.datagrams_withheld]!++;
    this.writeChallenge(bytes, to);
  }

  private writeChallenge(bytes: Uint8Array, to: number): void {
    const version = this.peers.versionFor(to);
    const head = this.envelope.bytesIn(version);
    const length = head + this.peers.writeChallenge(to, bytes, head);
    if (length > head && this.peers.mayCarry(to, length)) this.leave(bytes, length, to, version);
    else this.transport.release(bytes);
  }
}
