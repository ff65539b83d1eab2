/**
 * What replicas find out about each other that cannot happen if all of them work correctly: logs that differ where both
 * are committed (contradictions.ts), different states after the same log, and different limits that decide what is
 * executed (state-digests.ts).
 *
 * Which one is at fault? One replica's word against another's decides nothing. A replica is in the wrong if a quorum of
 * the voters contradicts its committed log, or shares another state or other limits, since at most f voters are wrong: it
 * stops *itself*, by throwing DivergedError. So no replica, whatever it says, stops another, and of two that are alone
 * neither is stopped: each names the other, until a third decides. Hosts that do not vote stop nobody, however many they
 * are: nothing says how many of them may be wrong.
 *
 * `StateDigest` carries all three. With a digest it is about machine and session table at a snapshot's index; without
 * one (zero) it is about the log alone, and may ask for the other's digest; at index 0, where there is no state yet,
 * chain and digest hold the limits themselves (limits-digest.ts).
 */
import { StateDigest } from '../../wire/messages.js';
import { readI32 } from '../../wire/u64.js';
import type { Hasher, Instant } from '../contract.js';
import { Contradictions } from './contradictions.js';
import { readDigest } from './digests-heard.js';
import type { DivergedError } from './diverged-error.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './replica-sender.js';
import { StateDigests } from './state-digests.js';

/** Sync intervals for which a replica in the wrong waits until its last messages have left. */
const WAITS_MAX = 20;

export class Divergence {
  readonly contradictions: Contradictions;
  private readonly digests: StateDigests;
  /** Why this replica stops, and when. */
  private verdict: DivergedError | undefined;
  private verdictUs = Infinity;
  private waits = 0;

  constructor(
    private readonly state: ReplicaState,
    sender: Sender,
    hasher: Hasher,
  ) {
    this.digests = new StateDigests(state, sender, hasher, (error, now) => this.stop(error, now));
    this.contradictions = new Contradictions(state, sender, (index) => this.digests.at(index));
    state.hosts.onOther((slot) => {
      this.digests.forget(slot);
      this.contradictions.forget(slot);
    });
  }

  /** Replicas that differ from this one in committed entries, as far as it knows; a mask, as the next two. */
  get log(): number {
    return this.contradictions.replicas;
  }

  /** … in the state behind equal logs. */
  get states(): number {
    return this.digests.states;
  }

  /** … in the limits. */
  get limits(): number {
    return this.digests.limits;
  }

  /** A life begins: says what the limits are. */
  start(now: Instant): void {
    this.digests.start(now);
  }

  /** Ends a turn. */
  flush(now: Instant): void {
    this.digests.flush(now);
  }

  /** Lowers `out[0]` to the time of the next timed action, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    if (this.verdictUs < out[0]!) out[0] = this.verdictUs;
    this.digests.wakeBefore(out);
  }

  /** Throws DivergedError. */
  tick(now: Instant): void {
    if (this.verdict !== undefined && now.monotonicUs >= this.verdictUs) {
      // A hanging disk is no reason to continue with a wrong state.
      if (this.state.out.idle || ++this.waits > WAITS_MAX) throw this.verdict;
      this.verdictUs = now.monotonicUs + this.state.config.timings.syncIntervalUs;
    }
    this.digests.tick(now);
  }

  onStateDigest(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const said = readDigest(bytes, o);
    if (said.index > 0 && this.contradictions.contradicts(from, said.index, said.chainHi, said.chainLo, now)) return;
    const { asks, nonce } = StateDigest.at;
    this.digests.take(from, said, bytes[o + asks] === 1, readI32(bytes, o + nonce), now);
  }

  /**
   * This replica is in the wrong. It stops after its own messages have left, so that the others know from whom they
   * differ.
   */
  private stop(error: DivergedError, now: Instant): void {
    this.verdict = error;
    this.verdictUs = now.monotonicUs + this.state.config.timings.syncIntervalUs;
  }
}
