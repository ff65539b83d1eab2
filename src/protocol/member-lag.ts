/**
 * How long replicas take to answer the primary, and which member holds all others up. Speed only: a view without a slow
 * member is as safe as any other.
 *
 * The lag of a replica is the time from a Sync to its answer, smoothed; one that is not answered yet counts with its age.
 * It holds what waits before the Sync at that replica, and what waits at the primary before the answer; the second part
 * is in everybody's lag. So a member as busy as the primary has about twice the lag of an idle spare, and a slow *primary*
 * makes nobody look slow. A member is slow when its lag exceeds SLOW_RATIO times that of the spare that would replace it,
 * and a floor, all the time for `slowAfterUs`.
 *
 * Against flapping: after a change for this reason the next one waits, a second at first, twice as long each time.
 */
import type { Instant } from './contract.js';
import type { ReplicaState } from './replica-state.js';

/** Lag of a member in lags of the spare that would replace it, and least lag, above which it is slow. */
const SLOW_RATIO = 4;
const SLOW_FLOOR_US = 300;
/** Answers before the lag of a replica counts. */
const SAMPLES_MIN = 8;
const SMOOTHING = 1 / 8;
const CHECK_INTERVAL_US = 10_000;
/** Pause after a change: the first, the longest; and calm after which it is the first again. */
const PAUSE_US = 1_000_000;
const PAUSE_MAX_US = 64_000_000;
/** Syncs whose sending time is remembered, a power of two. */
const SYNCS = 64;
/** A spare keeps up when it lacks no more committed entries than so many Syncs announce. */
const SPARE_SYNCS_BEHIND = 4;

export class MemberLag {
  private readonly lagUs: Float64Array;
  private readonly samples: Int32Array;
  private readonly answered: Int32Array;
  /** Since when a member has been slow without a break. */
  private readonly slowUs: Float64Array;
  private readonly sentUs = new Float64Array(SYNCS);
  private sequence = 0;
  private checkUs = 0.5;
  private pauseUs = PAUSE_US + 0.5;
  private changedUs = -Infinity;

  constructor(private readonly state: ReplicaState) {
    const { n } = state;
    this.lagUs = new Float64Array(n);
    this.samples = new Int32Array(n);
    this.answered = new Int32Array(n);
    this.slowUs = new Float64Array(n).fill(Infinity);
  }

  /** Another view: its Syncs are counted anew. The pause between changes stays. */
  reset(): void {
    this.samples.fill(0);
    this.answered.fill(0);
    this.slowUs.fill(Infinity);
    this.sequence = 0;
  }

  /** The host stood still: nobody's answer was late in that time. */
  forgive(gapUs: number): void {
    for (let i = 0; i < SYNCS; i++) this.sentUs[i]! += gapUs;
    this.slowUs.fill(Infinity);
  }

  sent(sequence: number, now: Instant): void {
    this.sequence = sequence;
    this.sentUs[sequence & (SYNCS - 1)] = now.monotonicUs;
  }

  /** A replica answered, having heard the Syncs up to `sequence`. */
  heard(replica: number, sequence: number, now: Instant): void {
    if (sequence <= this.answered[replica]! || sequence > this.sequence) return;
    this.answered[replica] = sequence;
    const us = sequence > this.sequence - SYNCS ? now.monotonicUs - this.sentUs[sequence & (SYNCS - 1)]! : this.lagUs[replica]!;
    this.lagUs[replica] = this.samples[replica] === 0 ? us : this.lagUs[replica]! + (us - this.lagUs[replica]!) * SMOOTHING;
    this.samples[replica]!++;
  }

  /** Lag of a replica now, µs; Infinity when too little is known of it. */
  of(replica: number, now: Instant): number {
    if (this.samples[replica]! < SAMPLES_MIN) return Infinity;
    const lag = this.lagUs[replica]!;
    const open = Math.max(this.answered[replica]! + 1, this.sequence - SYNCS + 1);
    return open > this.sequence ? lag : Math.max(lag, now.monotonicUs - this.sentUs[open & (SYNCS - 1)]!);
  }

  /**
   * At the primary, now and then: the replicas that a view without slow members may have, when there is a slow member and
   * spares enough that keep up; else 0.
   * @param matched index up to which each replica's log equals the primary's
   */
  withoutSlow(matched: Float64Array, now: Instant): number {
    const { state } = this;
    const { slowAfterUs, syncEntries } = state.config.timings;
    if (slowAfterUs === 0 || now.monotonicUs < this.checkUs) return 0;
    this.checkUs = now.monotonicUs + CHECK_INTERVAL_US;
    let spareUs = Infinity;
    for (let r = 0; r < state.n; r++) {
      if (state.views.isMember(state.view, r) || matched[r]! < state.committed - SPARE_SYNCS_BEHIND * syncEntries) continue;
      spareUs = Math.min(spareUs, this.of(r, now));
    }
    const limitUs = Math.max(SLOW_FLOOR_US, SLOW_RATIO * spareUs);
    let due = false;
    let mask = 0;
    for (let r = 0; r < state.n; r++) {
      const member = r === state.id || state.views.isMember(state.view, r);
      const us = r === state.id ? 0 : this.of(r, now);
      // A member of whom too little is known is none that is slow: it was not there, or its answers are lost (`suspectUs`).
      const slow = member && us > limitUs && us !== Infinity;
      if (slow && this.slowUs[r] === Infinity) this.slowUs[r] = now.monotonicUs;
      else if (!slow) this.slowUs[r] = Infinity;
      if (slow && now.monotonicUs - this.slowUs[r]! >= slowAfterUs) due = true;
      else if (member ? !slow : us <= limitUs / SLOW_RATIO + SLOW_FLOOR_US / SLOW_RATIO && matched[r]! >= state.committed - SPARE_SYNCS_BEHIND * syncEntries) mask |= 1 << r;
    }
    if (!due) return 0;
    if (now.monotonicUs - this.changedUs < this.pauseUs) return 0;
    return mask;
  }

  /** A view without slow members was asked for. */
  changed(now: Instant): void {
    const calm = now.monotonicUs - this.changedUs > PAUSE_MAX_US;
    this.pauseUs = calm ? PAUSE_US + 0.5 : Math.min(PAUSE_MAX_US, this.pauseUs * 2);
    this.changedUs = now.monotonicUs;
  }
}
