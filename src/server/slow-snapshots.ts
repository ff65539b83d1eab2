/**
 * Warns of a machine that takes too long to give its whole state at once: the replica does nothing else meanwhile, and the
 * others soon take it for dead. Said once in a while, whatever happens in between.
 */
import type { Logger } from '../host/logger.js';

/** This part of the time after which the others suspect a silent replica. */
const WARNED_PART = 0.5;
const PAUSE_MS = 60_000;

export class SlowSnapshots {
  private beganMs = 0;
  private saidMs = -Infinity;
  /** Longest one since the last warning. */
  private longestMs = 0;
  private count = 0;

  /** @param nowMs a monotonic clock */
  constructor(
    private readonly id: number,
    private readonly logger: Logger,
    private readonly suspectMs: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** See ReplicaObserver. */
  wholeState(isOver: boolean): void {
    const now = this.nowMs();
    if (!isOver) {
      this.beganMs = now;
      return;
    }
    const took = now - this.beganMs;
    if (took < this.suspectMs * WARNED_PART) return;
    this.count++;
    this.longestMs = Math.max(this.longestMs, took);
    if (now - this.saidMs < PAUSE_MS) return;
    this.logger.warn('replica.snapshot-slow', {
      replica: this.id,
      ms: Math.round(this.longestMs),
      suspectedAfterMs: this.suspectMs,
      times: this.count,
      next: 'the machine gave its whole state at once, and this replica answered nobody meanwhile: give it beginSnapshot, or keep less in it',
    });
    this.saidMs = now;
    this.longestMs = 0;
    this.count = 0;
  }
}
