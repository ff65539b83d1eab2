/**
 * Keeps which clients have proven that they receive at the address they send from, as in QUIC (RFC 9000, section 8.1).
 * A recorded datagram can be replayed with any source address, and its answer goes there. The rule: an endpoint without
 * a proof gets at most AMPLIFICATION times the bytes of the authentic datagrams that came from it.
 *
 * A longer datagram is replaced by a Challenge, which holds a number drawn for this endpoint. A Proof that returns the
 * number, under the endpoint's key, came from a process that received it and has the key. The answer to a new client's
 * hello also holds a Challenge (peer-versions.ts), so normally no answer to an honest client is replaced. If one is,
 * the client's retry is answered.
 */
import { begin } from './layout.js';
import { Challenge, Proof } from './messages.js';
import { readI32, writeI32 } from './u64.js';

export const AMPLIFICATION = 3;
/** Credit does not grow beyond this, bytes. */
const CREDIT_MAX = 1 << 30;

const State = { unproven: 0, proven: 1 } as const;

export class AddressProofs {
  // Indexed by the client's place in the table of peers (peers.ts).
  private readonly state: Uint8Array;
  private readonly credits: Int32Array;
  /** The numbers of the challenges. Zero until the first challenge. */
  private readonly nonces: Int32Array;
  private readonly drawn: Int32Array<ArrayBuffer> = new Int32Array(2);

  /** @param draw fills an array with random bytes that outsiders cannot predict */
  constructor(
    places: number,
    private readonly draw: (target: Int32Array<ArrayBuffer>) => void,
  ) {
    this.state = new Uint8Array(places);
    this.credits = new Int32Array(places);
    this.nonces = new Int32Array(2 * places);
  }

  /** Another endpoint is now in this place, or the same one under another key. It has proven nothing yet. */
  begin(place: number): void {
    this.state[place] = State.unproven;
    this.credits[place] = 0;
    this.nonces[2 * place] = 0;
    this.nonces[2 * place + 1] = 0;
  }

  /** An authentic datagram of `length` bytes came from the endpoint. */
  credit(place: number, length: number): void {
    if (this.state[place] === State.proven) return;
    this.credits[place] = Math.min(CREDIT_MAX, this.credits[place]! + AMPLIFICATION * length);
  }

  /** Takes a Proof. Only the number that was drawn for its endpoint proves anything. */
  prove(place: number, bytes: Uint8Array, offset: number): void {
    const hi = this.nonces[2 * place]!;
    const lo = this.nonces[2 * place + 1]!;
    if (
      (hi | lo) === 0 ||
      readI32(bytes, offset + Proof.at.nonce) !== hi ||
      readI32(bytes, offset + Proof.at.nonce + 4) !== lo
    )
      return;
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

  /** Writes a Challenge. Returns its length, or 0 if the endpoint has proven its address. */
  writeChallenge(place: number, bytes: Uint8Array, offset: number): number {
    if (this.state[place] === State.proven) return 0;
    while ((this.nonces[2 * place]! | this.nonces[2 * place + 1]!) === 0) {
      this.draw(this.drawn);
      this.nonces[2 * place] = this.drawn[0]!;
      this.nonces[2 * place + 1] = this.drawn[1]!;
    }
    begin(Challenge, bytes, offset);
    writeI32(bytes, offset + Challenge.at.nonce, this.nonces[2 * place]!);
    writeI32(bytes, offset + Challenge.at.nonce + 4, this.nonces[2 * place + 1]!);
    return Challenge.size;
  }
}

/** Writes the Proof that answers the Challenge at `bytes[offset]`. Returns its length. */
export function writeProof(bytes: Uint8Array, offset: number, out: Uint8Array, outOffset: number): number {
  begin(Proof, out, outOffset);
  writeI32(out, outOffset + Proof.at.nonce, readI32(bytes, offset + Challenge.at.nonce));
  writeI32(out, outOffset + Proof.at.nonce + 4, readI32(bytes, offset + Challenge.at.nonce + 4));
  return Proof.size;
}
