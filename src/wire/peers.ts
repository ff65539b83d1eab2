/**
 * What a process knows about each peer: the key that seals datagrams to it, the version of datagrams to it, and whether
 * it has proven its address.
 *
 * A replica is known by its index. Datagrams to it are sealed with this process's own key, and their version follows
 * the rule in peer-versions.ts. Any other endpoint is a client, known by its place in the endpoint table. Datagrams to
 * it have the key and the version of its last authentic datagram, so only the replicas and the client itself need to
 * know its key. Before a client has proven its address, address-proofs.ts limits what may be sent to it. When another
 * endpoint takes over a place, its first datagram replaces all of this.
 */
import { AddressProofs } from './address-proofs.js';
import { CLIENT_SENDER, NO_KEY } from './envelope.js';
import { PeerVersions } from './peer-versions.js';
import { PREVIOUS_WIRE_VERSION } from './versions.js';

export interface PeersOptions {
  /** Replica index, or CLIENT_SENDER. */
  readonly self: number;
  /** Endpoints below this are replicas. */
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
  /** Fills an array with random bytes that outsiders cannot predict. Not used by a client, which asks for no proof. */
  readonly draw: (target: Int32Array<ArrayBuffer>) => void;
}

export class Peers {
  /** The newest version that this process speaks. */
  readonly newest: number;
  /** By replica; the reader clears both: it was heard, or written to, since then. */
  readonly heardLately: Uint8Array;
  readonly spoken: Uint8Array;
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

  constructor({ self, replicas, endpoints, newest, oldest = PREVIOUS_WIRE_VERSION, now, keys, draw }: PeersOptions) {
    this.self = self;
    this.replicas = replicas;
    this.placeMask = endpoints - 1;
    this.newest = newest;
    this.keys = keys;
    this.versions = new PeerVersions(newest, self === CLIENT_SENDER, replicas, now, oldest);
    this.heardLately = this.versions.heardLately;
    this.spoken = this.versions.spoken;
    this.proofs = self === CLIENT_SENDER ? undefined : new AddressProofs(endpoints, draw);
    this.known = new Int32Array(endpoints);
    this.clientKeys = new Int32Array(endpoints).fill(NO_KEY);
    this.clientVersions = new Uint8Array(endpoints).fill(oldest);
  }

  /**
   * An authentic datagram arrived.
   * @param key slot of its key, or NO_KEY
   * @param newest the newest version that its sender speaks
   * @param length of the datagram, bytes
   */
  heard(endpoint: number, key: number, newest: number, length: number): void {
    if (endpoint < this.replicas) {
      this.versions.heard(endpoint, newest);
      return;
    }
    const place = this.placeOf(endpoint);
    if (this.known[place] !== endpoint + 1 || this.clientKeys[place] !== key) {
      this.known[place] = endpoint + 1;
      this.clientKeys[place] = key;
      this.proofs?.begin(place);
    }
    this.clientVersions[place] = this.versions.common(newest);
    this.proofs?.credit(place, length);
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

  /** Whether a datagram of this length may leave to an endpoint; if so, it is counted. */
  mayCarry(endpoint: number, length: number): boolean {
    return this.proofs === undefined || !this.isKnown(endpoint) || this.proofs.mayCarry(this.placeOf(endpoint), length);
  }

  /** Writes a Challenge for an endpoint that must prove its address. Returns its length, or 0 for other endpoints. */
  writeChallenge(endpoint: number, bytes: Uint8Array, offset: number): number {
    if (this.proofs === undefined || !this.isKnown(endpoint)) return 0;
    return this.proofs.writeChallenge(this.placeOf(endpoint), bytes, offset);
  }

  /** Takes a Proof from an endpoint. */
  prove(endpoint: number, bytes: Uint8Array, offset: number): void {
    if (this.proofs !== undefined && this.isKnown(endpoint)) this.proofs.prove(this.placeOf(endpoint), bytes, offset);
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
