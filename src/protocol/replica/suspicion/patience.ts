/**
 * How long silence is tolerated, and how long answers to a probe are waited for. May be changed freely: too short costs
 * needless view changes, too long a pause when a process has died.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import { ReplicaStatus } from '../../../wire/messages.js';
import type { Instant } from '../../contract.js';
import { Jitter } from '../../jitter.js';
import { lowest } from '../../masks.js';
import type { Synchronization } from '../agreement/synchronization.js';
import type { ReplicaState } from '../replica-state.js';
import { Experience } from './experience.js';

/** Silence that is tolerated, in multiples of the longest that turned out to be harmless recently (silence.ts). */
const SILENCE_TOLERATED = 3;
/** The longest that is tolerated, in multiples of `suspectUs`. */
const SUSPECT_MAX = 50;
/**
 * How much longer a promised view is waited for if nobody was suspected: its primary was alive just now, and is busy. Another
 * view would take at least as long.
 */
const CALM_FACTOR = 3;
/** Views left for silence that count: each one after the first doubles what is tolerated. */
const SILENCES_MAX = 6;
/** The longest wait for answers to a probe, in multiples of `probeWindowUs`. */
const WINDOW_MAX = 50;

export class Patience {
  /** Views in a row that were promised and did not start. */
  attempts = 0;
  /** Silence that is tolerated in the present view at least, with its jitter, µs. */
  drawnUs = DOUBLE_ZERO;
  /** Probe rounds since the last view began. */
  probeRounds = 0;
  /** Rounds in a row in which too few answered for a view. */
  undecided = 0;
  /** What `suspectUs` is multiplied by now, because views were left for silence. */
  silenceFactor = 1;
  private readonly jitter: Jitter;
  private readonly silences = new Experience(SILENCES_MAX);

  constructor(
    private readonly state: ReplicaState,
    private readonly synchronization: Synchronization,
  ) {
    this.jitter = new Jitter(state.config.seed);
  }

  tick(now: Instant): void {
    this.silenceFactor = 1 << Math.max(0, this.silences.at(now) - 1);
  }

  /** A view was left because some replica was silent. */
  leftForSilence(now: Instant): void {
    this.silences.changed(now);
  }

  /**
   * Drawn anew for each view, so that replicas do not ask for views at the same moment.
   * @param calm the view was asked for although no replica was suspected
   */
  draw(calm = false): void {
    const { status, config, views, id } = this.state;
    const { timings } = config;
    // One that leaves with the epoch leaves it to the voters of the epoch to ask for another view of it.
    const leaves = ((views.present.voters >>> id) & 1) === 0;
    const base =
      status !== ReplicaStatus.viewChange
        ? timings.suspectUs
        : leaves
          ? timings.viewChangeMaxUs
          : Math.min(
              timings.viewChangeUs * (calm ? CALM_FACTOR : 1) * 2 ** Math.min(this.attempts, 10),
              timings.viewChangeMaxUs,
            );
    this.drawnUs = base * (1 + 0.5 * this.jitter.next());
    this.probeRounds = 0;
    this.undecided = 0;
  }

  /** When the replica whose silence matters was last heard: the primary; at the primary the most silent member. */
  silentFromUs(): number {
    const { state } = this;
    const { heartbeat } = this.synchronization;
    if (!state.isPrimary) return heartbeat.primaryHeardUs;
    let silent = Infinity;
    for (let rest = state.views.memberMask(state.view) & ~(1 << state.id); rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (heartbeat.ackedUs[r]! < silent) silent = heartbeat.ackedUs[r]!;
    }
    return silent;
  }

  /** Silence that is tolerated in the present view, without the jitter. */
  toleratedUs(): number {
    const { suspectUs } = this.state.config.timings;
    const harmlessUs = this.synchronization.heartbeat.silence.worstUs;
    return Math.min(Math.max(SILENCE_TOLERATED * harmlessUs, suspectUs * this.silenceFactor), SUSPECT_MAX * suspectUs);
  }

  /**
   * An answer to a probe is waited for as long as half of the silence that turned out to be harmless. When too few answered
   * for a view they may be farther away: twice as long the next time.
   */
  windowUs(): number {
    const { probeWindowUs } = this.state.config.timings;
    const harmlessUs = this.synchronization.heartbeat.silence.worstUs;
    return probeWindowUs * Math.min(WINDOW_MAX, Math.max(2 ** this.undecided, harmlessUs / 2 / probeWindowUs));
  }

  /** An answer that comes later than this after its probe says nothing about now. */
  get longestWindowUs(): number {
    return WINDOW_MAX * this.state.config.timings.probeWindowUs;
  }

  /** True while nothing says that the primary, or at the primary a member, is gone. */
  heardPrimary(now: Instant): boolean {
    return this.state.status === ReplicaStatus.normal && now.monotonicUs < this.silentFromUs() + this.toleratedUs();
  }

  /** A replica has been silent for longer than is usual, if not yet for as long as is tolerated: what a plea may find. */
  isWorried(now: Instant): boolean {
    const { syncIntervalUs, suspectUs } = this.state.config.timings;
    const harmlessUs = this.synchronization.heartbeat.silence.worstUs;
    return (
      now.monotonicUs - this.silentFromUs() >=
      Math.max(3 * syncIntervalUs, 2 * harmlessUs, (suspectUs * (this.silenceFactor - 1)) / 2)
    );
  }
}
