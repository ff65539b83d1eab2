/**
 * How fast a snapshot in pieces is taken: a piece at the end of a turn, one every `everyUs`, so that it costs a replica a
 * part of its time and never all of it. If the log fills faster, pieces follow the log, several in one turn. The bytes
 * that are missing then fall as the square of the log's room up to LAST_FILL: a quarter of them is missing when half of
 * the room is left. At LAST_FILL the rest is taken at once (log-capacity.ts).
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import type { Instant } from '../contract.js';
import type { Execution } from '../log/execution.js';
import type { Log } from '../log/log.js';
import { LAST_FILL } from './log-capacity.js';

export class SnapshotPace {
  /** Of the snapshot that is being taken. */
  private index = -1;
  /** How full the log was when the last piece was taken. */
  private fill = DOUBLE_ZERO;
  private nextUs = DOUBLE_ZERO;

  constructor(
    private readonly log: Log,
    private readonly execution: Execution,
    private readonly everyUs: number,
  ) {}

  /** Ends a turn. True if the snapshot is whole now. */
  take({ monotonicUs }: Instant): boolean {
    const { log, execution } = this;
    const { unfinished, pieceBytes } = execution;
    if (!unfinished.isUnderway) return false;
    const fill = log.fill();
    if (unfinished.index !== this.index || fill < this.fill) {
      if (unfinished.index !== this.index) this.nextUs = monotonicUs;
      this.index = unfinished.index;
      this.fill = fill;
    }
    const room = Math.max(0, LAST_FILL - this.fill) / 2;
    const forLog = fill - this.fill < room ? (unfinished.left * (fill - this.fill)) / room : unfinished.left;
    if (monotonicUs < this.nextUs && forLog < pieceBytes) return false;
    this.fill = fill;
    this.nextUs = monotonicUs + this.everyUs;
    // In pieces of one length: a machine may need as much memory as a piece has.
    for (let due = Math.max(pieceBytes, forLog); due > 0 && unfinished.isUnderway; ) {
      const { left } = unfinished;
      execution.continueSnapshot(pieceBytes);
      due -= Math.max(pieceBytes, left - unfinished.left);
    }
    return !unfinished.isUnderway;
  }

  /** Lowers `out[0]` to the time of the next piece, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    if (this.execution.unfinished.isUnderway && this.nextUs < out[0]!) out[0] = this.nextUs;
  }
}
