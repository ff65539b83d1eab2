/**
 * How long replicas take to answer the primary, and which member holds all others up. May be changed freely: a view without
 * a slow member is as safe as any other.
 *
 * The lag of a replica is the time from a Sync to its answer, smoothed; one that is not answered yet counts with its age.
 * It includes the queue in front of the Sync at that replica, and the queue in front of the answer at the primary. The second
 * part is in every lag. So a member as busy as the primary has about twice the lag of an idle spare, and a slow *primary* makes
 * no replica look slow. A member is slow when its lag exceeds SLOW_RATIO times that of the spare that would replace it,
 * and a floor, without a break for `slowAfterUs`, and few of its answers come promptly: a host that other programs share stands
 * still now and then and is prompt in between, and the spare's host does the same a moment later.
 *
 * Against flapping: each change for this reason, whichever replica asked for it, raises the bar (experience.ts). The next member has to be
 * slow for four times as long without a break, and a pause comes first, a second, then twice as long each time. While no
 * entry is appended no request is held up, and the bar is one step higher.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import { SLOTS } from '../../configuration.js';
import type { Instant } from '../../contract.js';
import { lowest } from '../../masks.js';
import { Experience } from './experience.js';
import type { ReplicaState } from '../replica-state.js';

/** Lag of a member in lags of the spare that would replace it, and least lag, above which it is slow. */
const SLOW_RATIO = 4;
const SLOW_FLOOR_US = 300;
/** Answers before the lag of a replica counts. */
const SAMPLES_MIN = 8;
const SMOOTHING = 1 / 8;
const CHECK_INTERVAL_US = 10_000;
/** A member more of whose answers than this came promptly is not slow; the share is that of the last answers, about this many. */
const PROMPT_SHARE = 0.25;
const PROMPT_SMOOTHING = 1 / 16;
/** Pause after a change: the first, and the longest. */
const PAUSE_US = 1_000_000;
const PAUSE_MAX_US = 64_000_000;
/** What each change that counts multiplies `slowAfterUs` by, and how many count: 64 s by default. */
const LONGER = 4;
const CHANGES_MAX = 4;
/** A host that stays busy looks slow again whenever the last time is forgotten: that takes up to 80 minutes then, not ten. */
const CALMS_MAX = 8;
/** Syncs whose sending time is remembered, a power of two. */
const SYNCS = 64;
/** A spare keeps up when it lacks no more committed entries than this many Syncs announce. */
const SPARE_SYNCS_BEHIND = 4;

export class MemberLag {
  private readonly lagUs: Float64Array;
  private readonly samples: Int32Array;
  private readonly answered: Int32Array;
  /** Since when a member has been slow without a break. */
  private readonly slowUs: Float64Array;
  /** Share of prompt answers among the last ones. */
  private readonly prompt: Float64Array;
  private limitUs = Infinity;
  private readonly sentUs = new Float64Array(SYNCS);
  /** When each Sync was really sent; `sentUs` is later by what was forgiven since. */
  private readonly writtenUs = new Float64Array(SYNCS);
  private sequence = 0;
  private checkUs = DOUBLE_ZERO;
  private checkedIndex = 0;
  private appendedUs = -Infinity;
  private readonly changes = new Experience(CHANGES_MAX, CALMS_MAX);

  constructor(private readonly state: ReplicaState) {
    this.lagUs = new Float64Array(SLOTS);
    this.samples = new Int32Array(SLOTS);
    this.answered = new Int32Array(SLOTS);
    this.slowUs = new Float64Array(SLOTS).fill(Infinity);
    this.prompt = new Float64Array(SLOTS).fill(1);
  }

  /** Another view: its Syncs are counted anew. What changes brought so far is remembered. */
  reset(): void {
    this.samples.fill(0);
    this.answered.fill(0);
    this.slowUs.fill(Infinity);
    this.prompt.fill(1);
    this.sequence = 0;
  }

  /** The host stood still: no answer was slow in that time. */
  forgive(gapUs: number): void {
    for (let i = 0; i < SYNCS; i++) this.sentUs[i]! += gapUs;
    this.slowUs.fill(Infinity);
  }

  sent(sequence: number, now: Instant): void {
    this.sequence = sequence;
    this.sentUs[sequence & (SYNCS - 1)] = now.monotonicUs;
    this.writtenUs[sequence & (SYNCS - 1)] = now.monotonicUs;
  }

  /** When a Sync was sent; NaN when that is not known any more. */
  sentAtUs(sequence: number): number {
    return sequence > 0 && sequence <= this.sequence && sequence > this.sequence - SYNCS
      ? this.writtenUs[sequence & (SYNCS - 1)]!
      : NaN;
  }

  /** Replicas that lack no more of what is committed than a few Syncs announce; a mask. */
  keepingUp(matched: Float64Array): number {
    const { state } = this;
    let mask = 1 << state.id;
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1)
      if (matched[lowest(rest)]! >= state.committed - SPARE_SYNCS_BEHIND * state.config.timings.syncEntries)
        mask |= rest & -rest;
    return mask;
  }

  /** A replica answered, having heard the Syncs up to `sequence`. */
  heard(replica: number, sequence: number, now: Instant): void {
    if (sequence <= this.answered[replica]! || sequence > this.sequence) return;
    this.answered[replica] = sequence;
    const us =
      sequence > this.sequence - SYNCS ? now.monotonicUs - this.sentUs[sequence & (SYNCS - 1)]! : this.lagUs[replica]!;
    this.lagUs[replica] =
      this.samples[replica] === 0 ? us : this.lagUs[replica]! + (us - this.lagUs[replica]!) * SMOOTHING;
    this.samples[replica]!++;
    this.prompt[replica] =
      this.prompt[replica]! + ((us <= this.limitUs ? 1 : 0) - this.prompt[replica]!) * PROMPT_SMOOTHING;
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
    for (let rest = state.configuration.voters; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (state.views.isMember(state.view, r) || matched[r]! < state.committed - SPARE_SYNCS_BEHIND * syncEntries)
        continue;
      spareUs = Math.min(spareUs, this.of(r, now));
    }
    const limitUs = Math.max(SLOW_FLOOR_US, SLOW_RATIO * spareUs);
    this.limitUs = limitUs;
    const afterUs = this.slowForUs(now);
    let due = false;
    let mask = 0;
    for (let rest = state.configuration.voters; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      const member = r === state.id || state.views.isMember(state.view, r);
      const us = r === state.id ? 0 : this.of(r, now);
      // A member of which too little is known is not slow: it was not there, or its answers are lost (`suspectUs`).
      const slow = member && us > limitUs && us !== Infinity && this.prompt[r]! <= PROMPT_SHARE;
      if (slow && this.slowUs[r] === Infinity) this.slowUs[r] = now.monotonicUs;
      else if (!slow) this.slowUs[r] = Infinity;
      if (slow && now.monotonicUs - this.slowUs[r]! >= afterUs) due = true;
      else if (
        member
          ? !slow
          : us <= limitUs / SLOW_RATIO + SLOW_FLOOR_US / SLOW_RATIO &&
            matched[r]! >= state.committed - SPARE_SYNCS_BEHIND * syncEntries
      )
        mask |= 1 << r;
    }
    return due && this.changes.sinceUs(now) >= this.pauseUs(now) ? mask : 0;
  }

  /** Some primary asked for a view without slow members. */
  changed(now: Instant): void {
    this.changes.changed(now);
  }

  /** How long a member has to be slow without a break. */
  private slowForUs(now: Instant): number {
    const { state } = this;
    if (state.log.lastIndex !== this.checkedIndex) {
      this.checkedIndex = state.log.lastIndex;
      this.appendedUs = now.monotonicUs;
    }
    const isIdle = now.monotonicUs - this.appendedUs > state.config.timings.slowAfterUs;
    return state.config.timings.slowAfterUs * LONGER ** (this.changes.at(now) + (isIdle ? 1 : 0));
  }

  private pauseUs(now: Instant): number {
    return Math.min(PAUSE_MAX_US, PAUSE_US * 2 ** Math.max(0, this.changes.at(now) - 1));
  }
}
