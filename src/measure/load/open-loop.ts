/**
 * The open loop itself, without time, sockets or processes: the caller gives the time, and this says what to send, and
 * records how long it took.
 *
 * The rule that keeps it honest: an arrival's latency begins when it was *intended* to be sent, whether or not the
 * client was on time or a lane was free, and every arrival of the measured window ends up in the histogram. Failed
 * operations count with the time until they failed, unsent ones with the time they had waited: less than the truth, but
 * never left out. A stalled server therefore shows in the percentiles as it would to users who arrive independently
 * (leaving them out is known as coordinated omission).
 */
import { Histogram } from '../../metrics/histogram.js';
import type { Arrivals } from './arrivals.js';

/** Times are ns since the start of the step. */
export interface Window {
  /** Arrivals before this are sent and not recorded. */
  readonly measureFromNs: number;
  /** Arrivals from here on are not sent. */
  readonly endNs: number;
}

/** Sends the operation of a free lane. */
export type Send = (lane: number) => void;

/** Most sends in one turn: answers must be handled in between. */
const SENDS_A_TURN = 64;

// Positions in `counts`.
const OFFERED = 0;
const SENT = 1;
const SUCCEEDED = 2;
const FAILED = 3;
const UNSENT = 4;
const QUEUED = 5;
const COMPLETED_IN_WINDOW = 6;

export interface OpenLoopCounts {
  /** Arrivals of the window; at the end, the sum of `succeeded`, `failed` and `unsent`. */
  readonly offered: number;
  readonly sent: number;
  readonly succeeded: number;
  readonly failed: number;
  /** The end came before a lane was free for them. */
  readonly unsent: number;
  /** Sent later than the client could have, because every lane was in use. */
  readonly queued: number;
  /**
   * Operations that succeeded within the window, whenever they were sent; divided by its length this is the throughput.
   */
  readonly completedInWindow: number;
}

export class OpenLoop {
  /** From the intended time. */
  readonly latency = new Histogram();
  /** From the moment of sending, for operations that succeeded. */
  readonly service = new Histogram();
  /**
   * From the intended time until the client noticed it: the client's own delay. Excludes arrivals that found every lane
   * in use.
   */
  readonly pacing = new Histogram();
  /** Like `latency`, for operations that ended since the reader last reset it. */
  readonly interval = new Histogram();

  private readonly intended: Float64Array;
  private readonly sent: Float64Array;
  private readonly idle: Int32Array;
  private idleCount: number;
  private readonly numbers = new Float64Array(7);
  /** Arrivals up to this time have been looked at. */
  private lookedAtNs = -0.5;
  /** The last look ended because no lane was free: later arrivals are not delayed by the client. */
  private blocked = false;

  constructor(
    readonly lanes: number,
    private readonly send: Send,
    private readonly arrivals: Pick<Arrivals, 'nextNs' | 'advance'>,
    private window: Window,
  ) {
    this.intended = new Float64Array(lanes);
    this.sent = new Float64Array(lanes);
    this.idle = Int32Array.from({ length: lanes }, (_, lane) => lanes - 1 - lane);
    this.idleCount = lanes;
  }

  get counts(): OpenLoopCounts {
    const { numbers } = this;
    return {
      offered: numbers[OFFERED]!,
      sent: numbers[SENT]!,
      succeeded: numbers[SUCCEEDED]!,
      failed: numbers[FAILED]!,
      unsent: numbers[UNSENT]!,
      queued: numbers[QUEUED]!,
      completedInWindow: numbers[COMPLETED_IN_WINDOW]!,
    };
  }

  get openLanes(): number {
    return this.lanes - this.idleCount;
  }

  /** An arrival is due but no lane was free: call `pump` again after the next completion. */
  get isBlocked(): boolean {
    return this.blocked;
  }

  /**
   * Sends the arrivals that are due. Returns when to call again: a time that may already have passed, or Infinity if only the next
   * completion, or nothing at all, brings more to do.
   */
  pump(nowNs: number): number {
    const { arrivals, window, numbers } = this;
    if (this.blocked) this.lookedAtNs = nowNs;
    this.blocked = false;
    let budget = SENDS_A_TURN;
    while (arrivals.nextNs <= nowNs && arrivals.nextNs < window.endNs) {
      // After the end, only arrivals that the client itself delayed are still sent: a backlog would otherwise go on for
      // its whole length.
      if (nowNs >= window.endNs && arrivals.nextNs <= this.lookedAtNs) return Infinity;
      if (this.idleCount === 0) {
        this.blocked = true;
        return Infinity;
      }
      // later arrivals were not looked at: their wait is the client's own delay
      if (budget-- === 0) return arrivals.nextNs;
      const intended = arrivals.nextNs;
      arrivals.advance();
      const lane = this.idle[--this.idleCount]!;
      this.intended[lane] = intended;
      this.sent[lane] = nowNs;
      if (intended >= window.measureFromNs) {
        numbers[OFFERED]! += 1;
        numbers[SENT]! += 1;
        if (intended > this.lookedAtNs) this.pacing.record(nowNs - intended);
        else numbers[QUEUED]! += 1;
      }
      this.send(lane);
    }
    this.lookedAtNs = nowNs;
    return arrivals.nextNs < window.endNs ? arrivals.nextNs : Infinity;
  }

  /** Returns the latency that was recorded, ns; −1 if the operation arrived before the measured window. */
  completed(lane: number, succeeded: boolean, nowNs: number): number {
    const { window, numbers } = this;
    const intended = this.intended[lane]!;
    this.idle[this.idleCount++] = lane;
    if (succeeded && nowNs >= window.measureFromNs && nowNs < window.endNs) numbers[COMPLETED_IN_WINDOW]! += 1;
    if (intended < window.measureFromNs) return -1;
    const latencyNs = nowNs - intended;
    numbers[succeeded ? SUCCEEDED : FAILED]! += 1;
    this.latency.record(latencyNs);
    this.interval.record(latencyNs);
    if (succeeded) this.service.record(nowNs - this.sent[lane]!);
    return latencyNs;
  }

  /** Ends the window early. Open operations may still complete. */
  cutShort(nowNs: number): void {
    this.window = {
      measureFromNs: Math.min(this.window.measureFromNs, nowNs),
      endNs: Math.min(this.window.endNs, nowNs),
    };
  }

  /**
   * Call it once nothing is open and the end has passed: accounts for arrivals that were never sent, and calls `unsent`
   * with the latency that was recorded for each.
   */
  finish(unsent: (waitedNs: number) => void = () => undefined): void {
    const { arrivals, window, numbers } = this;
    for (; arrivals.nextNs < window.endNs; arrivals.advance()) {
      if (arrivals.nextNs < window.measureFromNs) continue;
      numbers[OFFERED]! += 1;
      numbers[UNSENT]! += 1;
      this.latency.record(window.endNs - arrivals.nextNs);
      unsent(window.endNs - arrivals.nextNs);
    }
  }

  /** When the window ends, as currently planned. */
  get endNs(): number {
    return this.window.endNs;
  }

  get measuredSeconds(): number {
    return (this.window.endNs - this.window.measureFromNs) / 1e9;
  }
}
