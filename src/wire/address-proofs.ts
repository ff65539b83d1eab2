/**
 * Keeps which clients have proven that they receive at the address they send from, as in QUIC (RFC 9000, section 8.1).
 * A recorded datagram can be replayed with any source address, and its answer goes there. The rule: an endpoint without
 * a proof gets at most AMPLIFICATION times the bytes of the authentic datagrams that came from it.
 *
 * A longer datagram is replaced by a Challenge, which holds a number for this endpoint and key. A Proof that returns the
 * number, under the same key, came from a process that received it and has the key. The answer to a new client's hello
 * also holds a Challenge (peer-versions.ts), so normally no answer to an honest client is replaced. If one is, the
 * client's retry is answered.
 *
 * The numbers are not kept but computed, by a keyed hash of endpoint, key and term. The *term* of a place grows when
 * another endpoint or another key takes over, and old Proofs are then worthless. So an attacker who sends under many
 * keys from another client's address changes no number.
 */
import { DEFAULT_DATAGRAM_BYTES, type Hash64 } from './envelope.js';
import { begin } from './layout.js';
import { Challenge, Proof } from './messages.js';
import { readI32, writeI32 } from './u64.js';

export const AMPLIFICATION = 3;
/**
 * Credit does not grow beyond this, bytes: what one full datagram brings. An honest client needs more only for a longer
 * answer, and that one is replaced by a Challenge anyway. Without this bound a replayed short datagram could save up
 * credit, and one question would then send all of it to a victim at once.
 */
export const CREDIT_MAX = AMPLIFICATION * DEFAULT_DATAGRAM_BYTES;

const NUMBER_BYTES = 8;
const State = { unproven: 0, proven: 1 } as const;

export class AddressProofs {
  // Indexed by the client's place in the table of peers (peers.ts).
  private readonly state: Uint8Array;
  private readonly credits: Int32Array;
  private readonly terms: Int32Array;
  /** What the number of a challenge is computed from: endpoint, key, term. And the number. */
  private readonly input = new Uint8Array(12);
  private readonly number = new Uint8Array(NUMBER_BYTES);

  /** @param numbers a hash under a secret that outsiders do not know, and that differs in each life of the process */
  constructor(
    places: number,
    private readonly numbers: Hash64,
  ) {
    this.state = new Uint8Array(places);
    this.credits = new Int32Array(places);
    this.terms = new Int32Array(places);
  }

  /** Another endpoint is now in this place, or the same one under another key. It has proven nothing yet. */
  begin(place: number): void {
    this.state[place] = State.unproven;
    this.credits[place] = 0;
    this.terms[place]!++;
  }

  /** An authentic datagram of `length` bytes came from the endpoint. */
  credit(place: number, length: number): void {
    if (this.state[place] === State.proven) return;
    this.credits[place] = Math.min(CREDIT_MAX, this.credits[place]! + AMPLIFICATION * length);
  }

  /** Whether a Proof is one of this endpoint and key, in the current term. */
  isProof(place: number, endpoint: number, key: number, bytes: Uint8Array, offset: number): boolean {
    this.compute(place, endpoint, key);
    const { number } = this;
    const at = offset + Proof.at.nonce;
    return ((readI32(bytes, at) ^ readI32(number, 0)) | (readI32(bytes, at + 4) ^ readI32(number, 4))) === 0;
  }

  /** The endpoint has proven that it receives. */
  proven(place: number): void {
    this.state[place] = State.proven;
  }

  /** Whether a datagram of this length may leave to the endpoint; if so, it is counted. */
  mayCarry(place: number, length: number): boolean {
    if (this.state[place] === State.proven) return true;
    if (length > this.credits[place]!) return false;
    this.credits[place]! -= length;
    return true;
  }

  isProven(place: number): boolean {
    return this.state[place] === State.proven;
  }

  /** Writes a Challenge. Returns its length. */
  writeChallenge(place: number, endpoint: number, key: number, bytes: Uint8Array, offset: number): number {
    this.compute(place, endpoint, key);
    begin(Challenge, bytes, offset);
    writeI32(bytes, offset + Challenge.at.nonce, readI32(this.number, 0));
    writeI32(bytes, offset + Challenge.at.nonce + 4, readI32(this.number, 4));
    return Challenge.size;
  }

  private compute(place: number, endpoint: number, key: number): void {
    const { input } = this;
    writeI32(input, 0, endpoint);
    writeI32(input, 4, key);
    writeI32(input, 8, this.terms[place]!);
    this.numbers.hash64(input, 0, input.length, this.number, 0);
  }
}

/** Writes the Proof that answers the Challenge at `bytes[offset]`. Returns its length. */
export function writeProof(bytes: Uint8Array, offset: number, out: Uint8Array, outOffset: number): number {
  begin(Proof, out, outOffset);
  writeI32(out, outOffset + Proof.at.nonce, readI32(bytes, offset + Challenge.at.nonce));
  writeI32(out, outOffset + Proof.at.nonce + 4, readI32(bytes, offset + Challenge.at.nonce + 4));
  return Proof.size;
}
