/**
 * Which clients have proven that they receive at the address they send from, after QUIC (RFC 9000, section 8.1). A
 * recorded datagram can be replayed with any source address, and its answer goes there. The rule: an endpoint without a
 * proof gets at most AMPLIFICATION times the bytes of the authentic datagrams that came from it.
 *
 * A longer datagram is replaced by a Challenge, which holds a number drawn for this endpoint. A Proof that returns the
 * number, under the endpoint's key, came from a process that received it and has the key. The answer to a new client's
 * hello also holds one (peer-versions.ts), so nothing for an honest client is ever replaced; if something is, the
 * client's retry is answered.
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
  /** Whether a datagram of this length may leave to an endpoint; if so, it is counted. */
  mayCarry(endpoint: number, length: number): boolean;
  /** Writes a Challenge for an endpoint that must prove itself. Returns its length, 0 for other endpoints. */
  writeChallenge(endpoint: number, bytes: Uint8Array, offset: number): number;
}

/** For processes that answer replicas only. */
export const NO_PROOFS: Addresses = { mayCarry: () => true, writeChallenge: () => 0 };

export class AddressProofs implements Addresses {
  /** Challenges written, and correct proofs. */
  challenges = 0;
  proofs = 0;

  // By the client's place in the endpoint table. `known` is the endpoint's number plus one: a different endpoint in the
  // same place starts anew.
  private readonly known: Int32Array;
  private readonly keys: Int32Array;
  private readonly state: Uint8Array;
  private readonly credit: Int32Array;
  /** Zero until the first challenge. */
  private readonly nonces: Int32Array;
  private readonly drawn: Int32Array<ArrayBuffer> = new Int32Array(2);

  /**
   * @param replicas endpoints below this are replicas, which prove nothing
   * @param endpoints places of the endpoint table, a power of two
   * @param draw fills an array with random bytes that outsiders cannot predict
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

  /** An authentic datagram of `length` bytes, under the key in this slot, came from a client. */
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
    // an endpoint that no longer exists is sent nothing
    if (place < 0 || this.state[place] !== State.unproven) return true;
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

  /** −1 for a replica, and for a number whose place is empty or belongs to another endpoint. */
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
