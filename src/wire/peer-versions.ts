/**
 * The version in which this process writes to each of the others. It reads both versions, so it understands every
 * answer. The rule: a peer that knows only the previous version is addressed in that version.
 *
 * - Every datagram states its own version and the newest that its sender speaks. From then on, this process writes to
 *   the sender in the newest version that both speak.
 * - A peer that this process has not heard from is written to in the previous version, which every peer reads.
 * - A client adds a *hello*, an empty datagram, to the first datagram for a replica. The replica answers it with an
 *   empty one, or with a Challenge (address-proofs.ts), so that the client has proven its address before it needs a
 *   long answer. While the client writes to the replica in the previous version, it repeats the hello after 1 s, 2 s, …
 *   32 s.
 * - Without keys, a replica that does not answer for 200 ms may have been replaced by an older one. This process writes
 *   to it in the previous version until it is heard again.
 * - With keys, a peer that is written to in an encrypted version is never written to in an older one again, whatever it
 *   says and however long it is silent: otherwise an attacker could bring this process to write in clear, by replaying
 *   an old datagram or by holding datagrams back.
 *
 * If a process reads no older version than the newest one, it writes to everyone in that version. A client still says
 * hello to a replica until it has heard it.
 *
 * Nothing here depends on an answer, waits, or allocates. Apart from the last rule, every possible mistake affects speed
 * only, because both versions say the same.
 */
import { ENCRYPTED_VERSION } from './envelope.js';
import { PREVIOUS_WIRE_VERSION } from './versions.js';

/** After this much silence, a replica is written to in the previous version again, ms. Without keys only. */
const DOUBT_MS = 200;
const HELLO_MS = 1_000;
const HELLO_MAX_MS = 32_000;

export class PeerVersions {
  /** By replica: the version in which it is written to. */
  private readonly written: Uint8Array;
  /** Replicas that were heard, and replicas that were written to, since the reader last cleared these. */
  readonly heardLately: Uint8Array;
  readonly spoken: Uint8Array;
  /** By replica: the newest version that its last datagram says it speaks; 0 before the first. */
  private readonly newestOf: Uint8Array;
  /** Since when a replica owes us a datagram; valid if `owes` is 1. Monotonic ms as int32, may wrap. */
  private readonly owesSinceMs: Int32Array;
  private readonly owes: Uint8Array;
  private readonly helloAtMs: Int32Array;
  private readonly helloWaitMs: Int32Array;
  /** Whether a replica is known to speak the newest version that this process speaks. */
  private readonly met: Uint8Array;

  /**
   * @param newest the newest version that this process speaks
   * @param isClient only a client sends hellos
   * @param now the current time, kept by the host
   * @param oldest the oldest version that this process writes
   * @param keeps whether a peer that was written to in an encrypted version is never written to in an older one again
   */
  constructor(
    private readonly newest: number,
    private readonly isClient: boolean,
    replicas: number,
    private readonly now: { readonly monotonicUs: number },
    private readonly oldest: number = PREVIOUS_WIRE_VERSION,
    private readonly keeps = false,
  ) {
    this.written = new Uint8Array(replicas).fill(oldest);
    this.met = new Uint8Array(replicas);
    this.heardLately = new Uint8Array(replicas);
    this.spoken = new Uint8Array(replicas);
    this.newestOf = new Uint8Array(replicas);
    this.owesSinceMs = new Int32Array(replicas);
    this.owes = new Uint8Array(replicas);
    this.helloAtMs = new Int32Array(replicas);
    this.helloWaitMs = new Int32Array(replicas);
  }

  /** Another process is there: it was never heard. */
  forget(replica: number): void {
    this.written[replica] = this.oldest;
    this.met[replica] = 0;
    this.heardLately[replica] = 0;
    this.spoken[replica] = 0;
    this.newestOf[replica] = 0;
    this.owes[replica] = 0;
    this.helloWaitMs[replica] = 0;
  }

  /** The version in which this process and a peer understand each other. */
  common(newest: number): number {
    return Math.max(this.oldest, Math.min(this.newest, newest));
  }

  /** The version in which a peer is written to that was written to in `written`, and speaks versions up to `newest`. */
  next(written: number, newest: number): number {
    const speaks = this.common(newest);
    return this.keeps && written >= ENCRYPTED_VERSION && speaks < written ? written : speaks;
  }

  /** Version of the next datagram to a replica. */
  versionFor(replica: number): number {
    this.spoken[replica] = 1;
    const version = this.written[replica]!;
    if (version === this.oldest || (this.keeps && version >= ENCRYPTED_VERSION)) return version;
    if (this.owes[replica] === 0) {
      this.owes[replica] = 1;
      this.owesSinceMs[replica] = this.nowMs();
    } else if (((this.nowMs() - this.owesSinceMs[replica]!) | 0) > DOUBT_MS) {
      this.written[replica] = this.oldest;
      this.met[replica] = 0;
      return this.oldest;
    }
    return version;
  }

  /** True if a hello is to accompany a datagram to a replica; the next one is then due later. */
  helloDue(replica: number): boolean {
    if (!this.isClient || this.newest === PREVIOUS_WIRE_VERSION || this.met[replica] === 1) return false;
    const waitMs = this.helloWaitMs[replica]!;
    if (waitMs > 0 && ((this.nowMs() - this.helloAtMs[replica]!) | 0) < 0) return false;
    this.helloWaitMs[replica] = Math.min(HELLO_MAX_MS, waitMs === 0 ? HELLO_MS : 2 * waitMs);
    this.helloAtMs[replica] = (this.nowMs() + this.helloWaitMs[replica]!) | 0;
    return true;
  }

  /** An authentic datagram of a replica arrived, which speaks versions up to `newest`. */
  heard(replica: number, newest: number): void {
    this.written[replica] = this.next(this.written[replica]!, newest);
    this.met[replica] = newest > PREVIOUS_WIRE_VERSION ? 1 : 0;
    this.newestOf[replica] = newest;
    this.heardLately[replica] = 1;
    this.owes[replica] = 0;
    // otherwise it is due again with every answer
    if (newest > PREVIOUS_WIRE_VERSION) this.helloWaitMs[replica] = 0;
  }

  private nowMs(): number {
    return (this.now.monotonicUs / 1000) | 0;
  }

  writtenTo(replica: number): number {
    return this.written[replica]!;
  }

  /** The newest version that a replica says it speaks; 0 if it was never heard. */
  spokenBy(replica: number): number {
    return this.newestOf[replica]!;
  }
}
