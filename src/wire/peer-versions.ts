/**
 * In which version this process writes to each of the others. It reads both, so it understands every answer; the rule
 * is that a peer that knows only the previous version is addressed in that version.
 *
 * - Every datagram states its own version and the newest that its sender speaks. From then on the sender is written to
 *   in the newest version that both speak.
 * - A peer that this process has not heard from is written to in the previous version, which every peer reads.
 * - A client adds a *hello*, an empty datagram, to the first datagram for a replica. The replica answers it with an
 *   empty one, or with a Challenge (address-proofs.ts), so that the client has proven its address before an answer is
 *   long. While the replica is written to in the previous version, the hello is repeated after 1 s, 2 s, … 32 s.
 * - A replica that was written to and has been silent for 200 ms may have been replaced by an older one: it is written
 *   to in the previous version until it is heard again.
 *
 * Nothing here depends on an answer, waits, or allocates, and every mistake it can make affects speed only: both
 * versions say the same.
 */
import { CLIENT_SENDER } from './envelope.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from './versions.js';

/** What an outbox asks when it opens a datagram. */
export interface WriteVersions {
  /** Version of the next datagram to an endpoint. */
  versionFor(endpoint: number): number;
  /** True if a hello is to accompany it; the next one is then due later. */
  helloDue(endpoint: number): boolean;
}

/** For a process whose peers all speak the present version. */
export const PRESENT_VERSION: WriteVersions = { versionFor: () => WIRE_VERSION, helloDue: () => false };

/** After this silence a replica is written to in the previous version again, ms. */
const DOUBT_MS = 200;
const HELLO_MS = 1_000;
const HELLO_MAX_MS = 32_000;

export class PeerVersions implements WriteVersions {
  /** By replica: the version in which it is written to. */
  private readonly written: Uint8Array;
  /** Replicas that were heard, and replicas that were written to, since the reader last cleared these. */
  readonly heardLately: Uint8Array;
  readonly spoken: Uint8Array;
  /** Since when a replica owes us a datagram; valid if `owes` is 1. Monotonic ms as int32, may wrap. */
  private readonly owesSinceMs: Int32Array;
  private readonly owes: Uint8Array;
  private readonly helloAtMs: Int32Array;
  private readonly helloWaitMs: Int32Array;
  /**
   * By the client's place in the endpoint table; when another endpoint takes over a place, it has set its own version
   * by then.
   */
  private readonly clients: Uint8Array;

  /**
   * @param newest the newest version that this process speaks
   * @param self replica index, or CLIENT_SENDER
   * @param endpoints places of the endpoint table, a power of two
   * @param now the present moment, kept by the host
   */
  constructor(
    readonly newest: number,
    private readonly self: number,
    private readonly replicas: number,
    private readonly endpoints: number,
    private readonly now: { readonly monotonicUs: number },
  ) {
    this.written = new Uint8Array(replicas).fill(PREVIOUS_WIRE_VERSION);
    this.heardLately = new Uint8Array(replicas);
    this.spoken = new Uint8Array(replicas);
    this.owesSinceMs = new Int32Array(replicas);
    this.owes = new Uint8Array(replicas);
    this.helloAtMs = new Int32Array(replicas);
    this.helloWaitMs = new Int32Array(replicas);
    this.clients = new Uint8Array(endpoints).fill(PREVIOUS_WIRE_VERSION);
  }

  versionFor(endpoint: number): number {
    if (endpoint >= this.replicas) return this.clients[(endpoint - this.replicas) & (this.endpoints - 1)]!;
    this.spoken[endpoint] = 1;
    const version = this.written[endpoint]!;
    if (version === PREVIOUS_WIRE_VERSION) return version;
    if (this.owes[endpoint] === 0) {
      this.owes[endpoint] = 1;
      this.owesSinceMs[endpoint] = this.nowMs();
    } else if (((this.nowMs() - this.owesSinceMs[endpoint]!) | 0) > DOUBT_MS) {
      this.written[endpoint] = PREVIOUS_WIRE_VERSION;
      return PREVIOUS_WIRE_VERSION;
    }
    return version;
  }

  helloDue(endpoint: number): boolean {
    if (
      this.self !== CLIENT_SENDER ||
      this.newest === PREVIOUS_WIRE_VERSION ||
      this.written[endpoint] !== PREVIOUS_WIRE_VERSION
    )
      return false;
    const waitMs = this.helloWaitMs[endpoint]!;
    if (waitMs > 0 && ((this.nowMs() - this.helloAtMs[endpoint]!) | 0) < 0) return false;
    this.helloWaitMs[endpoint] = Math.min(HELLO_MAX_MS, waitMs === 0 ? HELLO_MS : 2 * waitMs);
    this.helloAtMs[endpoint] = (this.nowMs() + this.helloWaitMs[endpoint]!) | 0;
    return true;
  }

  /**
   * An intact datagram arrived.
   * @param newest the newest version that its sender speaks
   */
  heard(endpoint: number, newest: number): void {
    const speaks = Math.min(this.newest, newest);
    if (endpoint >= this.replicas) {
      this.clients[(endpoint - this.replicas) & (this.endpoints - 1)] = speaks;
    } else {
      this.written[endpoint] = speaks;
      this.heardLately[endpoint] = 1;
      this.owes[endpoint] = 0;
      // otherwise it is due again with every answer
      if (speaks !== PREVIOUS_WIRE_VERSION) this.helloWaitMs[endpoint] = 0;
    }
  }

  private nowMs(): number {
    return (this.now.monotonicUs / 1000) | 0;
  }

  /**
   * The version in which a replica is written to; for this process itself, if it is a replica, the newest that it
   * speaks.
   */
  writtenTo(replica: number): number {
    return replica === this.self ? this.newest : this.written[replica]!;
  }
}
