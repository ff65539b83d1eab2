/**
 * Which clients have proven that they receive where they send from, after QUIC (RFC 9000, section 8.1). A datagram that was recorded
 * can be sent again with any source address, and its answer goes there. The rule: to an endpoint without a proof go at most
 * AMPLIFICATION times the bytes of the authentic datagrams that came from it.
 *
 * What is longer is replaced by a Challenge, which holds a number drawn for this endpoint. A Proof that brings it back, under the
 * endpoint's key, came from somebody who received it and has the key. The answer to the hello of a new client holds one too
 * (peer-versions.ts), so that nothing of an honest client is ever replaced; where something is, its retry is answered.
 */
import { begin } from './layout.js';
import { Challenge, Proof } from './messages.js';
import { readI32, writeI32 } from './u64.js';

export const AMPLIFICATION = 3;
/** Credit does not grow beyond this, bytes. */
const CREDIT_MAX = 1 << 30;

const State = { unproven: 0, proven: 1 } as const;

/** What an outbox asks before it sends. */
export interface Addresses {
  /** Whether a datagram so long may leave to an endpoint; it is counted. */
  mayCarry(endpoint: number, length: number): boolean;
  /** Writes a Challenge for an endpoint that has to prove itself. Its length, 0 for others. */
  writeChallenge(endpoint: number, bytes: Uint8Array, offset: number): number;
}

/** For whoever answers replicas only. */
export const NO_PROOFS: Addresses = { mayCarry: () => true, writeChallenge: () => 0 };

export class AddressProofs implements Addresses {
  /** Challenges written, and proofs that were right. */
  challenges = 0;
  proofs = 0;

  // By a client's place in the endpoint table. `known` is the endpoint's number plus one: another in its place begins anew.
  private readonly known: Int32Array;
  private readonly keys: Int32Array;
  private readonly state: Uint8Array;
  private readonly credit: Int32Array;
  /** Zero until the first challenge. */
  private readonly nonces: Int32Array;
  private readonly drawn: Int32Array<ArrayBuffer> = new Int32Array(2);

  /**
   * @param replicas endpoints below it are replicas, which prove nothing
   * @param endpoints places of the endpoint table, a power of two
   * @param draw fills an array at random, unforeseeable for anybody outside
   */
  constructor(
    private readonly replicas: number,
    private readonly endpoints: number,
    private readonly draw: (target: Int32Array<ArrayBuffer>) => void,
  ) {
    this.known = new Int32Array(endpoints);
    this.keys = new Int32Array(endpoints);
    this.state = new Uint8Array(endpoints);
    this.credit = new Int32Array(endpoints);
    this.nonces = new Int32Array(2 * endpoints);
  }

  /** An authentic datagram of `length` bytes, under the key of a slot, came from a client. */
  heard(endpoint: number, key: number, length: number): void {
    const place = (endpoint - this.replicas) & (this.endpoints - 1);
    if (this.known[place] !== endpoint + 1 || this.keys[place] !== key) {
      this.known[place] = endpoint + 1;
      this.keys[place] = key;
      this.state[place] = State.unproven;
      this.credit[place] = 0;
      this.nonces[2 * place] = 0;
      this.nonces[2 * place + 1] = 0;
    }
    if (this.state[place] === State.proven) return;
    this.credit[place] = Math.min(CREDIT_MAX, this.credit[place]! + AMPLIFICATION * length);
  }

  /** Takes a Proof. Only the number that was drawn for its endpoint proves anything. */
  prove(endpoint: number, bytes: Uint8Array, offset: number): void {
    const place = this.placeOf(endpoint);
    if (place < 0 || this.state[place] !== State.unproven) return;
    const hi = this.nonces[2 * place]!;
    const lo = this.nonces[2 * place + 1]!;
    if (
      (hi | lo) === 0 ||
      readI32(bytes, offset + Proof.at.nonce) !== hi ||
      readI32(bytes, offset + Proof.at.nonce + 4) !== lo
    )
      return;
    this.state[place] = State.proven;
    this.proofs++;
  }

  mayCarry(endpoint: number, length: number): boolean {
    const place = this.placeOf(endpoint);
    if (place < 0 || this.state[place] !== State.unproven) return true; // an endpoint that nobody is at any more is sent nothing
    if (length > this.credit[place]!) return false;
    this.credit[place]! -= length;
    return true;
  }

  writeChallenge(endpoint: number, bytes: Uint8Array, offset: number): number {
    const place = this.placeOf(endpoint);
    if (place < 0 || this.state[place] !== State.unproven) return 0;
    while ((this.nonces[2 * place]! | this.nonces[2 * place + 1]!) === 0) {
      this.draw(this.drawn);
      this.nonces[2 * place] = this.drawn[0]!;
      this.nonces[2 * place + 1] = this.drawn[1]!;
    }
    begin(Challenge, bytes, offset);
    writeI32(bytes, offset + Challenge.at.nonce, this.nonces[2 * place]!);
    writeI32(bytes, offset + Challenge.at.nonce + 4, this.nonces[2 * place + 1]!);
    this.challenges++;
    return Challenge.size;
  }

  /** −1 for a replica, and for a number whose place another endpoint has, or none. */
  private placeOf(endpoint: number): number {
    if (endpoint < this.replicas) return -1;
    const place = (endpoint - this.replicas) & (this.endpoints - 1);
    return this.known[place] === endpoint + 1 ? place : -1;
  }
}

/** Writes the Proof that answers the Challenge at `bytes[offset]`. Returns its length. */
export function writeProof(bytes: Uint8Array, offset: number, out: Uint8Array, outOffset: number): number {
  begin(Proof, out, outOffset);
  writeI32(out, outOffset + Proof.at.nonce, readI32(bytes, offset + Challenge.at.nonce));
  writeI32(out, outOffset + Proof.at.nonce + 4, readI32(bytes, offset + Challenge.at.nonce + 4));
  return Proof.size;
}
