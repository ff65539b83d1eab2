/**
 * The window: how many operations a client has on their way at once. Those beyond it wait in the client, in order. Speed
 * only: an operation that waits was never sent.
 *
 * An operation commits only after everything that the primary appended before it. So thousands of operations on their way
 * delay everybody's, and bring their own client nothing: once replicas always have something to do, more operations only
 * wait there instead of here. The window is therefore what fits the path, and QUEUED more that wait in replicas.
 *
 * - A *round* ends with the first commit of an operation that was sent after the round began. Of `size` operations on their
 *   way, `size × base ÷ mean` were on the path, and the others waited. `mean` is the round trip of that round, `base` the
 *   one without waiting (FAST TCP: Wei, Jin, Low and Hegde, 2006).
 * - `base` is the shortest round trip seen. If none was nearly as short for BASE_US, few operations are sent for one round,
 *   so that nothing waits, and `base` is measured anew.
 * - A replica that is too busy says so (`busy`). The window then halves, at most once a round, and comes back slowly.
 */
import { DOUBLE_ZERO } from '../double-zero.js';
import type { Instant } from '../contract.js';

/** Operations that may wait in replicas: enough that a replica always finds the next ones there. */
export const QUEUED = 512;
/** The smallest window; also the one in which `base` is measured. */
export const LEAST = 16;
/** How long `base` counts, µs. */
const BASE_US = 10_000_000;
/** A round trip that is longer by no more than this factor confirms it. */
const CONFIRMS = 1.1;
/** How far a round goes towards a larger window. */
const STEP = 0.5;
/** By what factor each round without `busy` raises what may wait again. */
const COMES_BACK = 33 / 32;

const Place = { none: 0, waiting: 1, onWay: 2 } as const;

export class SendWindow {
  /** Operations that may be on their way at once. A fraction. */
  size: number;
  onWay = 0;
  waiting = 0;
  /** One of Place, by slot. */
  private readonly place: Uint8Array;
  /** Waiting slots form a ring, which begins and ends at `head`. */
  private readonly after: Int32Array;
  private readonly before: Int32Array;
  private readonly head: number;

  /** Operations that may wait in replicas: QUEUED, unless they are too busy. */
  private queued: number;
  private baseUs = Infinity;
  /** When a round trip last was about as short as `baseUs`. */
  private baseSeenUs = DOUBLE_ZERO;
  private measuring = false;
  /** When the round began, the sum of its round trips, and their number. */
  private beganUs = DOUBLE_ZERO;
  private sumUs = DOUBLE_ZERO;
  private trips = 0;
  /** An operation had to wait in this round; a replica was too busy in it. */
  private wasFull = false;
  private wasBusy = false;

  private readonly least: number;

  /**
   * @param lanes operations that the application may have open
   * @param queuedMax operations that may wait in replicas
   */
  constructor(
    private readonly lanes: number,
    private readonly queuedMax: number = QUEUED,
  ) {
    this.least = Math.min(LEAST, queuedMax);
    this.head = lanes;
    this.place = new Uint8Array(lanes + 1);
    this.after = new Int32Array(lanes + 1).fill(lanes);
    this.before = new Int32Array(lanes + 1).fill(lanes);
    this.queued = Math.min(lanes, queuedMax) + DOUBLE_ZERO;
    this.size = this.queued;
  }

  /** The next operation has to wait. */
  get isFull(): boolean {
    return this.onWay + 1 > (this.measuring ? this.least : this.size);
  }

  /** An operation waits, and need not. */
  get isDue(): boolean {
    return this.waiting > 0 && !this.isFull;
  }

  isWaiting(slot: number): boolean {
    return this.place[slot] === Place.waiting;
  }

  /** The operation of `slot` waits, behind those that wait already. */
  wait(slot: number): void {
    const { after, before, head } = this;
    const last = before[head]!;
    after[last] = slot;
    before[slot] = last;
    after[slot] = head;
    before[head] = slot;
    this.place[slot] = Place.waiting;
    this.waiting++;
    this.wasFull = true;
  }

  /** The slot that has waited longest. */
  get first(): number {
    return this.after[this.head]!;
  }

  /** The operation of `slot` is sent. */
  depart(slot: number): void {
    if (this.isWaiting(slot)) this.unlink(slot);
    this.place[slot] = Place.onWay;
    this.onWay++;
  }

  /** The operation of `slot` ended, wherever it was. */
  end(slot: number): void {
    const place = this.place[slot];
    if (place === Place.waiting) this.unlink(slot);
    else if (place === Place.onWay) this.onWay--;
    this.place[slot] = Place.none;
  }

  /** A request that was sent once, at `sentUs[slot]`, was committed. The arguments are those of Retries.committed. */
  committed(sentUs: Float64Array, slot: number, now: Instant): void {
    const nowUs = now.monotonicUs;
    const us = Math.max(1, nowUs - sentUs[slot]!);
    if (us <= this.baseUs * CONFIRMS) this.baseSeenUs = nowUs;
    if (us < this.baseUs) this.baseUs = us;
    this.sumUs += us;
    this.trips++;
    if (sentUs[slot]! < this.beganUs) return;
    if (this.measuring) this.measured(sentUs, slot, nowUs);
    this.endRound(nowUs);
  }

  /** A replica is too busy. */
  busy(): void {
    if (this.wasBusy) return;
    this.wasBusy = true;
    this.queued = Math.max(this.least, this.queued / 2);
    this.size = Math.max(this.least, this.size / 2);
  }

  /** The few operations of this round did not wait in replicas. */
  private measured(sentUs: Float64Array, slot: number, nowUs: number): void {
    this.measuring = false;
    this.baseUs = Math.max(1, nowUs - sentUs[slot]!);
    this.baseSeenUs = nowUs;
  }

  private endRound(nowUs: number): void {
    if (!this.wasBusy && this.wasFull) {
      const meanUs = this.sumUs / this.trips;
      this.queued = Math.min(this.queuedMax, this.queued * COMES_BACK);
      const target = this.size * Math.min(1, this.baseUs / meanUs) + this.queued;
      this.size = Math.max(this.least, Math.min(this.lanes, this.size + STEP * (target - this.size)));
      this.measuring = nowUs - this.baseSeenUs > BASE_US;
    }
    this.beganUs = nowUs;
    this.sumUs = 0;
    this.trips = 0;
    this.wasFull = this.waiting > 0;
    this.wasBusy = false;
  }

  private unlink(slot: number): void {
    const { after, before } = this;
    after[before[slot]!] = after[slot]!;
    before[after[slot]!] = before[slot]!;
    this.waiting--;
  }
}
