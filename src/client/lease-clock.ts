import { onAbort } from './abort-listeners.js';

/** What a wait needs of time, and of chance: real, or simulated. */
export interface Timers {
  /** ms; goes on while the process is stopped, but not while the host is suspended. */
  monotonicMs(): number;
  /** Calls `run` once, about `ms` from now, unless the returned function is called before. At most TIMER_MS_MAX. */
  after(ms: number, run: () => void): () => void;
  /** 0 ≤ x < 1, for pauses that are not the same for all. */
  random(): number;
}

/** The longest timer, ms. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/** What a holder of a lease knows of time: see lease.ts. */
export interface LeaseClock extends Timers {
  /** This host's clock as it is read, ms. */
  wallMs(): number;
  /** The system's clock, ms: it goes on while the host is suspended, also where `wallMs` does not. */
  dateMs(): number;
  /**
   * How far the clock of a replica may be ahead of `wallMs` now, ms, as recent replies tell. Undefined: none was heard.
   * @param baseMs `wallMs` less `monotonicMs` now: a reply from before the host's clock was set back is corrected by it
   */
  heardAheadMs(baseMs: number): number | undefined;
  /** The same as the clock's source states it. Undefined: it states nothing. */
  statedAheadMs(): number | undefined;
  /**
   * When a suspension of the host, or a step forward of the system's clock, was noticed last, monotonic ms; −Infinity:
   * never. Replies from before it do not tell how far a replica's clock is ahead since.
   */
  suspendedMs(): number;
  /** Stamps the next operations as the replies tell, if these contradict the host's clock. */
  correct(): void;
  /** Calls `run` when the client is closed, or has failed; at once if it is. After that the clocks cannot be read. */
  whenClosed(run: () => void): void;
}

export interface LeaseInstant {
  readonly monotonicMs: number;
  readonly wallMs: number;
  readonly dateMs: number;
}

/**
 * Resolves after `ms`; at once when the signal is aborted, or is already.
 * @param signal the caller looks at it afterwards
 */
export function pause(timers: Timers, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const over = (): void => {
      cancel();
      forget();
      resolve();
    };
    const cancel = timers.after(ms, over);
    const forget = onAbort(signal, over);
  });
}

/** The system's clock, ms. Only here: it can be set, and is used beside two others. */
export function systemMs(): number {
  return Date.now();
}

/** A reading that took longer is repeated: the process was stopped between the clocks. */
const READING_MS = 0.5;
const READING_TRIES = 4;

/** All clocks, read as close to each other as it can be done. */
export function readClocks(clock: LeaseClock): LeaseInstant {
  let before = clock.monotonicMs();
  for (let tries = 1; ; tries++) {
    const wallMs = clock.wallMs();
    const dateMs = clock.dateMs();
    const after = clock.monotonicMs();
    // The later one: a lease ends earlier by it.
    if (after - before <= READING_MS || tries === READING_TRIES) return { monotonicMs: after, wallMs, dateMs };
    before = after;
  }
}

/** The system's clock went on by this much more than the monotonic one, or was set, ms; and what their drift explains. */
const SUSPENDED_MS = 2;
const DRIFT = 0.001;

/** Notices that the host was suspended, from the two clocks of which one stands still meanwhile. */
export class SuspensionWatch {
  private before: ClockPair | undefined;
  private lastMs = -Infinity;

  constructor(private readonly clock: Pick<LeaseClock, 'monotonicMs' | 'dateMs'>) {
    this.before = readPair(clock);
  }

  /** To be called often. When a suspension was noticed last, monotonic ms. */
  look(): number {
    const pair = readPair(this.clock);
    // The next look judges the time since the pair before.
    if (pair === undefined) return this.lastMs;
    const { before } = this;
    this.before = pair;
    if (before === undefined) return this.lastMs;
    const passedMs = pair.monotonicMs - before.monotonicMs;
    if (pair.dateMs - before.dateMs - passedMs > SUSPENDED_MS + DRIFT * passedMs) this.lastMs = pair.monotonicMs;
    return this.lastMs;
  }
}

interface ClockPair {
  readonly monotonicMs: number;
  readonly dateMs: number;
}

/** Undefined: the process was stopped between the clocks each time. That is not to look like a suspension. */
function readPair(clock: Pick<LeaseClock, 'monotonicMs' | 'dateMs'>): ClockPair | undefined {
  let before = clock.monotonicMs();
  for (let tries = 1; tries <= READING_TRIES; tries++) {
    const dateMs = clock.dateMs();
    const monotonicMs = clock.monotonicMs();
    if (monotonicMs - before <= READING_MS) return { monotonicMs, dateMs };
    before = monotonicMs;
  }
  return undefined;
}
