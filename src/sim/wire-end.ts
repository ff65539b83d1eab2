/**
 * Where a simulated process meets the wire: the real envelope and the real translation. With the fault `versions` also
 * the real negotiation, between processes of which some speak only the previous version, and the real address proofs.
 */
import { CLIENT_SENDER, ENVELOPE_BYTES, Envelope, NO_KEY, type Hash64 } from '../wire/envelope.js';
import type { Hasher } from '../protocol/contract.js';
import { AMPLIFICATION } from '../wire/address-proofs.js';
import { Challenge, Proof, typeOf, validate } from '../wire/messages.js';
import { Peers } from '../wire/peers.js';
import { Translator } from '../wire/translation.js';
import { writeI32 } from '../wire/u64.js';
import { MEMBERS_WIRE_VERSION, PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../wire/versions.js';
import type { Random } from './random.js';

export interface Cluster {
  readonly idHi: number;
  readonly idLo: number;
  readonly replicas: number;
  /** Replicas and clients. */
  readonly endpoints: number;
}

/** How a process gets its version at each start. */
export interface VersionDraw {
  readonly random: Random;
  /** Probability of the previous one. */
  readonly previous: number;
  /** In place of a draw: a process that starts at this endpoint now speaks the present version (upgrade.ts). */
  readonly isPresent?: ((endpoint: number) => boolean) | undefined;
}

export type MessageHandler = (bytes: Uint8Array, offset: number, length: number, from: number) => void;

/**
 * Sent bytes count this many times: ordinary answers are longer than their requests, so much is withheld and must be
 * retried.
 */
const DEARNESS = AMPLIFICATION;

/** Translations happen one after another, so they share one scratch space. */
const translator = new Translator();

export class WireEnd {
  private envelope: Envelope;
  /** Undefined without the fault `versions`. */
  private peers: Peers | undefined;
  private lives = 0;
  /** Rule S: where members can change, senders that speak only an older version are not heard; see DatagramReader. */
  private oldestSpeaker = 0;
  /** Replicas that were heard in this life. */
  private readonly heard: Uint8Array;
  private readonly sender: number;

  /** @param draw undefined: every process speaks the present version and knows that of the others */
  constructor(
    private readonly endpoint: number,
    private readonly hasher: Hasher,
    private readonly cluster: Cluster,
    private readonly draw: VersionDraw | undefined,
  ) {
    this.sender = endpoint < cluster.replicas ? endpoint : CLIENT_SENDER;
    this.envelope = this.envelopeOf(WIRE_VERSION);
    this.heard = new Uint8Array(cluster.replicas);
  }

  /** The process begins, perhaps with another version than before. Returns the newest version that it speaks. */
  start(now: { readonly monotonicUs: number }): number {
    this.heard.fill(0);
    this.oldestSpeaker = 0;
    const { draw, endpoint } = this;
    if (draw === undefined) return WIRE_VERSION;
    const { replicas, endpoints } = this.cluster;
    const isPrevious = draw.isPresent === undefined ? draw.random.chance(draw.previous) : !draw.isPresent(endpoint);
    const newest = isPrevious ? PREVIOUS_WIRE_VERSION : WIRE_VERSION;
    this.envelope = this.envelopeOf(newest);
    this.peers = new Peers({
      self: this.sender,
      replicas,
      endpoints: powerOfTwo(endpoints),
      newest,
      now,
      numbers: this.numbersOf(++this.lives),
    });
    return newest;
  }

  /** The newest version that the present process speaks. */
  get newest(): number {
    return this.peers?.newest ?? WIRE_VERSION;
  }

  /**
   * The members can change, as far as the log here says: see `oldestSpeaker`. With the fault `versions` alone that is on
   * beside processes that stay what they are (see `speaks`), so the rule would leave them unheard for ever.
   */
  membersMayChange(may: boolean): void {
    this.oldestSpeaker = may && this.draw?.isPresent !== undefined ? MEMBERS_WIRE_VERSION : 0;
  }

  /**
   * See Outbox. With the fault `versions` alone processes of both know all features, and stay what they are: none is kept
   * from switching one on.
   */
  speaks(replica: number): number {
    if (this.draw?.isPresent !== undefined) return this.peers?.sharedWith(replica) ?? 0;
    return this.draw !== undefined || this.heard[replica] === 1 ? WIRE_VERSION : 0;
  }

  /** Version of the next datagram to an endpoint. */
  versionFor(to: number): number {
    return this.peers === undefined ? WIRE_VERSION : this.peers.versionFor(to);
  }

  helloDue(to: number): boolean {
    return this.peers?.helloDue(to) === true;
  }

  /** Whether a datagram of this length may leave; if not, `writeChallenge` writes its replacement. */
  mayCarry(to: number, length: number): boolean {
    return this.peers === undefined || this.peers.mayCarry(to, DEARNESS * length);
  }

  /** The same for an answer to a hello, and for a challenge. */
  mayCarryHello(to: number, length: number): boolean {
    return this.peers === undefined || this.peers.mayCarry(to, length);
  }

  /** Writes a datagram into `bytes` that asks `to` for a proof. Returns its length. */
  writeChallenge(to: number, bytes: Uint8Array): number {
    return ENVELOPE_BYTES + (this.peers?.writeChallenge(to, bytes, ENVELOPE_BYTES) ?? 0);
  }

  /** Bytes of room that a message needs beyond its own length. */
  growth(version: number): number {
    return version === WIRE_VERSION ? 0 : translator.growth;
  }

  /** Rewrites a message into a version. Returns its length, or 0 if that version lacks it. */
  rewrite(version: number, bytes: Uint8Array, offset: number, length: number): number {
    return version === WIRE_VERSION ? length : translator.rewrite(bytes, offset, length);
  }

  seal(bytes: Uint8Array, length: number, version: number): void {
    this.envelope.seal(bytes, 0, length, undefined, version);
  }

  /**
   * Passes on the messages of a datagram in their present form. False if it, or its rest, is refused.
   * @param origin endpoint that it came from
   * @param hello called if it is a hello
   * @param prove called with its Challenge, if it holds one
   */
  read(
    bytes: Uint8Array,
    length: number,
    origin: number,
    handle: MessageHandler,
    hello: (to: number) => void,
    prove: (to: number, bytes: Uint8Array, offset: number) => void,
  ): boolean {
    const sender = this.envelope.open(bytes, 0, length);
    if (sender < 0) return false;
    const from = sender === CLIENT_SENDER ? origin : sender;
    const { openedVersion, openedNewest } = this.envelope;
    if (openedNewest < this.oldestSpeaker) return false;
    if (from < this.heard.length) this.heard[from] = 1;
    this.peers?.heard(from, NO_KEY, openedNewest, length);
    if (length === ENVELOPE_BYTES && sender === CLIENT_SENDER) hello(from);
    for (let offset = ENVELOPE_BYTES; offset < length; ) {
      const present = openedVersion === WIRE_VERSION;
      const size = present ? validate(bytes, offset, length) : translator.read(bytes, offset, length);
      if (size < 0) return false;
      if (typeOf(bytes, offset) === Proof.type) {
        this.peers?.prove(from, NO_KEY, bytes, offset);
      } else if (typeOf(bytes, offset) === Challenge.type) {
        if (this.sender === CLIENT_SENDER) prove(from, bytes, offset);
      } else if (present) {
        handle(bytes, offset, size, from);
      } else {
        // The handler's own messages may be translated in the same scratch space.
        const message = translator.bytes === bytes ? bytes : translator.bytes.slice(0, translator.length);
        handle(message, translator.offset, translator.length, from);
      }
      offset += size;
    }
    return true;
  }

  /** Numbers of challenges that differ by process and by life. Nobody here tries to guess them. */
  private numbersOf(life: number): Hash64 {
    const { hasher, sender } = this;
    const input = new Uint8Array(20);
    return {
      hash64(bytes, offset, length, out, outOffset) {
        writeI32(input, 0, sender);
        writeI32(input, 4, life);
        input.set(bytes.subarray(offset, offset + length), 8);
        hasher.hash64(input, 0, input.length, out, outOffset);
      },
    };
  }

  private envelopeOf(newest: number): Envelope {
    return new Envelope(
      this.hasher,
      this.cluster.idHi,
      this.cluster.idLo,
      this.sender,
      this.cluster.replicas,
      undefined,
      newest,
    );
  }
}

function powerOfTwo(atLeast: number): number {
  let size = 1;
  while (size < atLeast) size *= 2;
  return size;
}
