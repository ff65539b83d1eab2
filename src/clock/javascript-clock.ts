/**
 * Clocks without the addon, built from what Node offers: good enough to run, but not fast.
 *
 * Each reading allocates BigInts (about 200 bytes) and takes several times as long as the addon's. `monotonic-js` has
 * the precision of process.hrtime. `realtime-js` joins two sources: Date.now() knows the time but only in whole
 * milliseconds; process.hrtime has nanoseconds but no date. It watches both until a millisecond begins, takes that
 * moment as its anchor, and counts on from there: within 5 µs of the system clock, or half a millisecond if the process
 * hardly ran for 20 ms. If the two sources differ by more than 1 ms, because the clock was set, it takes a new anchor. It
 * cannot tell a smaller difference from the width of a millisecond: after a small step, or slow drift, it is off by 2
 * ms at most.
 */

import { fits, invalidArgument, outOfBounds } from '../native/errors.js';
import type { Clock, ClockEpoch } from './clock.js';
import { ClockError } from './errors.js';

const NS_PER_MS = 1_000_000n;

/** If the anchored reading differs from Date.now() by more than this, a new anchor is taken. */
const DIVERGENCE_NS_MAX = NS_PER_MS;

/**
 * Anchoring blocks the process, so it ends after this time with its best result. Long enough to outlast one or two time
 * slices of another process.
 */
const ANCHOR_SEARCH_NS_MAX = 20n * NS_PER_MS;

/** An anchor known to this width is good enough: two looks at the clocks take 1 µs. */
const ANCHOR_WIDTH_NS = 5_000n;

/** Where the readings come from; replaced in tests. */
export interface TimeSources {
  /** Whole milliseconds since 1970, UTC. */
  dateMs(): number;
  /** Nanoseconds from an arbitrary start; never goes back. */
  monotonicNs(): bigint;
}

const SYSTEM: TimeSources = { dateMs: Date.now, monotonicNs: process.hrtime.bigint };

abstract class JavaScriptClock implements Clock {
  abstract readonly source: string;
  abstract readonly epoch: ClockEpoch;
  #closed = false;

  protected abstract read(): bigint;

  nowBigInt(): bigint {
    if (this.#closed) throw new ClockError('clock-closed', `${this.source} was closed: open it again with openClock`);
    return BigInt.asUintN(64, this.read());
  }

  writeBE(bytes: Uint8Array, offset: number): void {
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('clock: bytes must be a Uint8Array');
    if (!fits(bytes.length, offset, 8))
      throw outOfBounds('clock: offset must be a whole number from 0 on and leave 8 bytes');
    const now = this.nowBigInt();
    new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).setBigUint64(offset, now);
  }

  writeHalves(out: Int32Array, index: number): void {
    if (!(out instanceof Int32Array)) throw invalidArgument('clock: out must be an Int32Array');
    if (!fits(out.length, index, 2))
      throw outOfBounds('clock: index must be a whole number from 0 on and leave 2 elements');
    const now = this.nowBigInt();
    out[index] = Number(BigInt.asIntN(32, now >> 32n));
    out[index + 1] = Number(BigInt.asIntN(32, now));
  }

  close(): void {
    this.#closed = true;
  }
}

/** process.hrtime: CLOCK_MONOTONIC on Linux. */
export class JavaScriptMonotonicClock extends JavaScriptClock {
  readonly source = 'monotonic-js';
  readonly epoch = 'boot';
  readonly #sources: TimeSources;

  constructor(sources: TimeSources = SYSTEM) {
    super();
    this.#sources = sources;
  }

  protected read(): bigint {
    return this.#sources.monotonicNs();
  }
}

/**
 * UTC. Opening it blocks for at most 1 ms (20 ms on an overloaded host), and so does the first reading after the system
 * clock was set.
 */
export class JavaScriptRealtimeClock extends JavaScriptClock {
  readonly source = 'realtime-js';
  readonly epoch = 'utc';
  readonly #sources: TimeSources;
  /** Realtime minus monotonic, ns. */
  #offsetNs: bigint;

  constructor(sources: TimeSources = SYSTEM) {
    super();
    this.#sources = sources;
    this.#offsetNs = this.#anchor();
  }

  protected read(): bigint {
    const before = this.#sources.monotonicNs();
    const dateNs = BigInt(this.#sources.dateMs()) * NS_PER_MS;
    const after = this.#sources.monotonicNs();
    // The date was taken between `before` and `after` and stands for [date, date + 1 ms). Only a reading outside of
    // both by more than the threshold is a divergence. A process that was suspended between the two has not diverged.
    const behind = dateNs - (after + this.#offsetNs);
    const ahead = before + this.#offsetNs - (dateNs + NS_PER_MS);
    if (behind > DIVERGENCE_NS_MAX || ahead > DIVERGENCE_NS_MAX) {
      this.#offsetNs = this.#anchor();
      return this.#sources.monotonicNs() + this.#offsetNs;
    }
    return after + this.#offsetNs;
  }

  /**
   * Each look says: realtime was in [date, date + 1 ms) at some moment between `before` and `after`. That bounds the
   * offset from both sides. Over many looks the bounds close in on it, at the latest when a millisecond begins.
   */
  #anchor(): bigint {
    const { dateMs, monotonicNs } = this.#sources;
    const start = monotonicNs();
    let before = start;
    let low: bigint | undefined;
    let high = 0n;
    for (;;) {
      const dateNs = BigInt(dateMs()) * NS_PER_MS;
      const after = monotonicNs();
      const lowest = dateNs - after;
      const highest = dateNs + NS_PER_MS - before;
      if (low === undefined || lowest > high || highest < low) {
        // The first look, or one that contradicts the earlier ones: the clock was set just now.
        low = lowest;
        high = highest;
      } else {
        if (lowest > low) low = lowest;
        if (highest < high) high = highest;
      }
      if (high - low <= ANCHOR_WIDTH_NS || after - start > ANCHOR_SEARCH_NS_MAX) return (low + high) / 2n;
      before = after;
    }
  }
}
