/**
 * Clocks without the addon, from what Node offers: good enough to run, not to be fast.
 *
 * Each reading allocates BigInts (some 200 bytes) and takes several times as long as the addon's. `monotonic-js` has the
 * precision of process.hrtime. `realtime-js` joins two sources: Date.now() knows the time but only in whole milliseconds,
 * process.hrtime has nanoseconds but no date. It waits for a millisecond to begin, takes that moment as its anchor and
 * counts on from there: within some 10 µs of the system clock (1 ms where the process was never left running long enough to
 * see one begin). When the two sources come to disagree by more than 1 ms, because somebody set the clock, it
 * anchors anew. Less than that it cannot tell from the width of a millisecond: after a small step, or slow drift, it is
 * off by 2 ms at most.
 */

import { fits, invalidArgument, outOfBounds } from '../native/errors.js';
import type { Clock, ClockEpoch } from './clock.js';
import { ClockError } from './errors.js';

const NS_PER_MS = 1_000_000n;

/** How far the anchored reading may be from Date.now() before it is anchored anew. */
const DIVERGENCE_NS_MAX = NS_PER_MS;

/** Looking for the beginning of a millisecond blocks the process, so it ends after this time, found or not. */
const ANCHOR_SEARCH_NS_MAX = 3n * NS_PER_MS;

/** Two looks at the clock that are further apart than this did not see the millisecond begin: the process was not running. */
const ANCHOR_GAP_NS_MAX = 10_000n;

/** Where the readings come from; another one in tests. */
export interface TimeSources {
  /** Whole milliseconds since 1970, UTC. */
  dateMs(): number;
  /** Nanoseconds from any start, never going back. */
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
    if (!fits(bytes.length, offset, 8)) throw outOfBounds('clock: offset must be a whole number from 0 on and leave 8 bytes');
    const now = this.nowBigInt();
    new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).setBigUint64(offset, now);
  }

  writeHalves(out: Int32Array, index: number): void {
    if (!(out instanceof Int32Array)) throw invalidArgument('clock: out must be an Int32Array');
    if (!fits(out.length, index, 2)) throw outOfBounds('clock: index must be a whole number from 0 on and leave 2 elements');
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

/** UTC. Opening it blocks for up to 3 ms, and so does the first reading after the system clock was set. */
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
    // The date was taken between `before` and `after` and stands for [date, date + 1 ms): only what is outside of both by
    // more than the threshold is a divergence. A process that was suspended between the two has not diverged.
    const behind = dateNs - (after + this.#offsetNs);
    const ahead = before + this.#offsetNs - (dateNs + NS_PER_MS);
    if (behind > DIVERGENCE_NS_MAX || ahead > DIVERGENCE_NS_MAX) {
      this.#offsetNs = this.#anchor();
      return this.#sources.monotonicNs() + this.#offsetNs;
    }
    return after + this.#offsetNs;
  }

  #anchor(): bigint {
    const { dateMs, monotonicNs } = this.#sources;
    const start = monotonicNs();
    let seenMs = dateMs();
    let seenNs = start;
    for (;;) {
      const ms = dateMs();
      const ns = monotonicNs();
      const began = ms !== seenMs && ns - seenNs <= ANCHOR_GAP_NS_MAX;
      if (began) return BigInt(ms) * NS_PER_MS - ns;
      // The middle of the millisecond: wrong by half of one at most.
      if (ns - start > ANCHOR_SEARCH_NS_MAX) return BigInt(ms) * NS_PER_MS + NS_PER_MS / 2n - ns;
      seenMs = ms;
      seenNs = ns;
    }
  }
}
