/**
 * What a process knows about each peer: the key that seals datagrams to it, the version of datagrams to it, and whether
 * it has proven its address.
 *
 * A replica is known by its slot. Datagrams to it are sealed with this process's own key, and their version follows
 * the rule in peer-versions.ts. Any other endpoint is a client, known by its place in the endpoint table. Datagrams to
 * it have its key and the version of its last authentic datagram, so only the replicas and the client itself need to
 * know its key. Before a client has proven its address, address-proofs.ts limits what may be sent to it. When another
 * endpoint takes over a place, its first datagram replaces all of this.
 *
 * The rule: the key of an endpoint is that of its first authentic datagram, and changes only by a Proof under another
 * key. Until then a datagram under another key is answered by a Challenge under that key, and nothing in it is handled
 * but a Proof. Anyone with a key, or a recording, can forge the source address of such a datagram; this rule keeps the
 * client at that address from losing its key, its proof and its answers.
 */
import { AddressProofs } from './address-proofs.js';
import { CLIENT_SENDER, NO_KEY, type Hash64 } from './envelope.js';
import { PeerVersions } from './peer-versions.js';
import { PREVIOUS_WIRE_VERSION } from './versions.js';

export interface PeersOptions {
  /** This replica's slot, or CLIENT_SENDER. */
  readonly self: number;
  /** Endpoints below this are replicas, or asked for the members as if they were (host-ids.ts). */
  readonly replicas: number;
  /** Places of the endpoint table, a power of two. */
  readonly endpoints: number;
  /** The newest version that this process speaks. */
  readonly newest: number;
  /** The oldest version that this process writes. Default: the previous one. */
  readonly oldest?: number;
  /** The current time, kept by the host. */
  readonly now: { readonly monotonicUs: number };
  /** Holds the slot of this process's own key, which changes when keys are rotated. Undefined without keys. */
  readonly keys?: { readonly own: number } | undefined;
  /**
   * Computes the numbers of challenges: a hash under a secret of this process. Not used by a client, which asks for no
   * proof.
   */
  readonly numbers: Hash64;
}

export class Peers {
  /** The newest version that this process speaks. */
  readonly newest: number;
  /** By replica; the reader clears both: it was heard, or written to, since then. */
  readonly heardLately: Uint8Array;
  readonly spoken: Uint8Array;
  private readonly oldest: number;
  private readonly self: number;
  private readonly replicas: number;
  private readonly placeMask: number;
  private readonly keys: { readonly own: number } | undefined;
  private readonly versions: PeerVersions;
  /** Undefined at a client. */
  private readonly proofs: AddressProofs | undefined;
  // Indexed by a client's place. `known` is the endpoint's number plus one.
  private readonly known: Int32Array;
  private readonly clientKeys: Int32Array;
  private readonly clientVersions: Uint8Array;

  constructor({ self, replicas, endpoints, newest, oldest = PREVIOUS_WIRE_VERSION, now, keys, numbers }: PeersOptions) {
    this.self = self;
    this.replicas = replicas;
    this.placeMask = endpoints - 1;
    this.newest = newest;
    this.oldest = oldest;
    this.keys = keys;
    this.versions = new PeerVersions(newest, self === CLIENT_SENDER, replicas, now, oldest, keys !== undefined);
    this.heardLately = this.versions.heardLately;
    this.spoken = this.versions.spoken;
    this.proofs = self === CLIENT_SENDER ? undefined : new AddressProofs(endpoints, numbers);
    this.known = new Int32Array(endpoints);
    this.clientKeys = new Int32Array(endpoints).fill(NO_KEY);
    this.clientVersions = new Uint8Array(endpoints).fill(oldest);
  }

  /**
   * An authentic datagram arrived. False if its endpoint has another key: its messages must then not be handled, since
   * their answers would leave under the endpoint's own key.
   * @param key slot of its key, or NO_KEY
   * @param newest the newest version that its sender speaks
   * @param length of the datagram, bytes
   */
  heard(endpoint: number, key: number, newest: number, length: number): boolean {
    if (endpoint < this.replicas) {
      this.versions.heard(endpoint, newest);
      return true;
    }
    const place = this.placeOf(endpoint);
    if (this.known[place] !== endpoint + 1) this.begin(place, endpoint, key);
    else if (this.clientKeys[place] !== key) return false;
    this.clientVersions[place] = this.versions.next(this.clientVersions[place]!, newest);
    this.proofs?.credit(place, length);
    return true;
  }

  /** Another host has this slot: nothing is known of it. */
  forget(replica: number): void {
    this.versions.forget(replica);
  }

  /** Slot of the key that seals a datagram to an endpoint, or NO_KEY. */
  keyFor(endpoint: number): number {
    if (endpoint >= this.replicas) return this.clientKeys[this.placeOf(endpoint)]!;
    return this.keys === undefined ? NO_KEY : this.keys.own;
  }

  /** Version of the next datagram to an endpoint. */
  versionFor(endpoint: number): number {
    return endpoint < this.replicas ? this.versions.versionFor(endpoint) : this.clientVersions[this.placeOf(endpoint)]!;
  }

  /** A datagram leaves to a place whose version was not asked for here. Of one that stays silent the name is looked up again. */
  noteWritten(endpoint: number): void {
    if (endpoint < this.replicas) this.spoken[endpoint] = 1;
  }

  /** True if a hello is to accompany a datagram to a replica; the next one is then due later. */
  helloDue(endpoint: number): boolean {
    return endpoint < this.replicas && this.versions.helloDue(endpoint);
  }

  /**
   * The version in which a replica is written to; for this process itself, if it is a replica, the newest that it
   * speaks.
   */
  writtenTo(replica: number): number {
    return replica === this.self ? this.newest : this.versions.writtenTo(replica);
  }

  /** The newest version that a replica says it speaks; 0 if it was never heard, or is this process. */
  spokenBy(replica: number): number {
    return this.versions.spokenBy(replica);
  }

  /** The newest version that a replica and this process both speak; 0 if it was never heard. It may be this process. */
  sharedWith(replica: number): number {
    return replica === this.self ? this.newest : Math.min(this.newest, this.versions.spokenBy(replica));
  }

  /** Whether a datagram of this length may leave to an endpoint; if so, it is counted. */
  mayCarry(endpoint: number, length: number): boolean {
    return this.proofs === undefined || !this.isKnown(endpoint) || this.proofs.mayCarry(this.placeOf(endpoint), length);
  }

  /** Writes a Challenge for an endpoint that must prove its address. Returns its length, or 0 for other endpoints. */
  writeChallenge(endpoint: number, bytes: Uint8Array, offset: number): number {
    if (this.proofs === undefined || !this.isKnown(endpoint)) return 0;
    const place = this.placeOf(endpoint);
    if (this.proofs.isProven(place)) return 0;
    return this.proofs.writeChallenge(place, endpoint, this.clientKeys[place]!, bytes, offset);
  }

  /**
   * Writes the Challenge that answers a datagram under another key than its endpoint's, and returns its length. It is
   * shorter than AMPLIFICATION times any datagram, so it needs no credit.
   */
  writeChallengeUnder(key: number, endpoint: number, bytes: Uint8Array, offset: number): number {
    if (this.proofs === undefined || !this.isKnown(endpoint)) return 0;
    return this.proofs.writeChallenge(this.placeOf(endpoint), endpoint, key, bytes, offset);
  }

  /** The version in which this process and the sender of a datagram understand each other. */
  commonVersion(newest: number): number {
    return this.versions.common(newest);
  }

  /** Takes a Proof from an endpoint, which came under this key. The key is then the endpoint's. */
  prove(endpoint: number, key: number, bytes: Uint8Array, offset: number): void {
    if (this.proofs === undefined || !this.isKnown(endpoint)) return;
    const place = this.placeOf(endpoint);
    if (!this.proofs.isProof(place, endpoint, key, bytes, offset)) return;
    if (this.clientKeys[place] !== key) this.begin(place, endpoint, key);
    this.proofs.proven(place);
  }

  private begin(place: number, endpoint: number, key: number): void {
    this.known[place] = endpoint + 1;
    this.clientKeys[place] = key;
    this.clientVersions[place] = this.oldest;
    this.proofs?.begin(place);
  }

  /** Whether an endpoint has proven that it receives at its address, under `keyFor` it. False for a replica. */
  isProven(endpoint: number): boolean {
    return this.proofs !== undefined && this.isKnown(endpoint) && this.proofs.isProven(this.placeOf(endpoint));
  }

  private placeOf(endpoint: number): number {
    return (endpoint - this.replicas) & this.placeMask;
  }

  /** False for a replica, and for a number whose place is empty or belongs to another endpoint. */
  private isKnown(endpoint: number): boolean {
    return endpoint >= this.replicas && this.known[this.placeOf(endpoint)] === endpoint + 1;
  }
}
