/**
 * Has the store remove what has ended, where nobody else sends operations: one for all watches of a client.
 *
 * The next operation of anybody removes what has ended, and those who watch are told then. Where there is no operation,
 * somebody has to send an empty one, a tick. The rule: it is an entry of the log, so it is sent only if a replica still says
 * that something has ended, or does not answer; never twice within 50 ms, unless it left something; and rarely, if it
 * changed nothing. Each client waits for a different time, so that usually one of them sends it for all.
 */
import { TIMER_MS_MAX, type Timers } from './lease-clock.js';

/** What the store says when it has removed what has ended: its time, and when the next key or lease ends; 0: none will. ms. */
export interface Ticked {
  readonly now: number;
  readonly nextEnd: number;
}

/** A watch of the client's. */
export interface EndWatch {
  /** It waits for an end, and few do: nothing is delayed by chance. */
  readonly isPrompt: boolean;
  /** Has its replica say how far the store is. The answer may not come. */
  ask(): void;
}

/** What the ticker asks of its client. Times in ms. */
export interface TickedStore {
  /** The agreed time, about. */
  agreedTime(): number;
  /** A clock that is never set. */
  monotonicTime(): number;
  /** Has the store remove what has ended. */
  tick(): Promise<Ticked>;
  /** From 0 to 1, by chance. */
  random(): number;
  /** @returns does not run it any more */
  after(ms: number, run: () => void): () => void;
}

/**
 * How long after an end a replica is asked: most of it by chance. The chance of a client to be early is small and grows
 * exponentially with the time, as in the feedback timers of multicast protocols. So, however many clients there are up to
 * some thousand, few of them are the first within the time that a tick takes; the others hear what it did.
 */
const LATER_MS = 2;
const LATER_SPREAD_MS = 20;
const LATER_CLIENTS = 1000;
const PROMPT_LATER_MS = 0.5;
/** How long its answer is waited for. */
const ANSWER_MS = 60;
const PROMPT_ANSWER_MS = 5;
/** Between two ticks; if one left something that has ended: a tick removes a bounded number. */
const BETWEEN_MS = 50;
const MORE_MS = 5;
/** After a tick that failed. */
const FAILED_MS = 250;
/** After one in vain, then twice as long. */
const VAIN_MS = 250;
const VAIN_MAX_MS = 16_000;

export class EndTicker {
  /** The first one was heard, or asked, longest ago. */
  private readonly watches = new Set<EndWatch>();
  /** When the next key or lease ends, and at which revision that was so. */
  private nextEnd = 0;
  private newest = 0;
  /** What a replica said of the next end while a tick was on its way, if it was another one. */
  private heardMeanwhile: number | undefined;
  private state: 'idle' | 'asking' | 'ticking' = 'idle';
  private cancel: (() => void) | undefined;
  private tickedMs = -Infinity;
  private vainMs = 0;

  constructor(private readonly store: TickedStore) {}

  join(watch: EndWatch): void {
    this.watches.add(watch);
  }

  leave(watch: EndWatch): void {
    this.watches.delete(watch);
    if (this.watches.size > 0) return;
    this.stop();
    // Whoever watches next is told anew.
    this.nextEnd = this.newest = 0;
    this.heardMeanwhile = undefined;
  }

  /**
   * A replica says when the next key or lease ends.
   * @param last revision of the store of which it knows
   */
  heard(watch: EndWatch, last: number, nextEnd: number): void {
    this.putLast(watch);
    if (last < this.newest) return;
    this.newest = last;
    if (this.state === 'ticking') {
      this.heardMeanwhile = nextEnd === this.nextEnd ? undefined : nextEnd;
      return;
    }
    if (nextEnd !== this.nextEnd) {
      this.nextEnd = nextEnd;
      this.vainMs = 0;
      this.wait();
    } else if (this.state === 'asking') this.tick();
  }

  private putLast(watch: EndWatch): void {
    if (this.watches.delete(watch)) this.watches.add(watch);
  }

  private stop(): void {
    this.cancel?.();
    this.cancel = undefined;
    if (this.state === 'asking') this.state = 'idle';
  }

  /** @param leastMs at least so long */
  private wait(leastMs = 0): void {
    const { store } = this;
    if (this.nextEnd === 0) return this.stop();
    const spaceMs = this.tickedMs + BETWEEN_MS - store.monotonicTime();
    const endMs = Math.max(0, this.nextEnd - store.agreedTime()) + this.laterMs();
    this.in(Math.max(endMs, spaceMs, leastMs), () => this.due());
  }

  private in(ms: number, run: () => void): void {
    this.stop();
    this.cancel = this.store.after(Math.min(TIMER_MS_MAX, ms), run);
  }

  private get isPrompt(): boolean {
    for (const { isPrompt } of this.watches) if (isPrompt) return true;
    return false;
  }

  private laterMs(): number {
    if (this.isPrompt) return PROMPT_LATER_MS;
    const share = 1 + Math.log(this.store.random()) / Math.log(LATER_CLIENTS);
    return LATER_MS + LATER_SPREAD_MS * Math.max(0, share);
  }

  private due(): void {
    // A timer has its longest time, and the clock may have been corrected.
    if (this.nextEnd > this.store.agreedTime()) return this.wait();
    const [first] = this.watches;
    if (first === undefined) return;
    this.putLast(first);
    this.in(this.isPrompt ? PROMPT_ANSWER_MS : ANSWER_MS, () => this.tick());
    this.state = 'asking';
    first.ask();
  }

  private tick(): void {
    this.stop();
    this.state = 'ticking';
    this.tickedMs = this.store.monotonicTime();
    this.store.tick().then(
      (ticked) => this.onTicked(ticked),
      // A client that may not write, or cannot now: others do, or it is tried again.
      () => this.onTicked(undefined),
    );
  }

  private onTicked(ticked: Ticked | undefined): void {
    this.state = 'idle';
    const heard = this.heardMeanwhile;
    this.heardMeanwhile = undefined;
    if (this.watches.size === 0) return;
    if (ticked === undefined) {
      this.nextEnd = heard ?? this.nextEnd;
      return this.wait(FAILED_MS);
    }
    const { now } = ticked;
    const nextEnd = soonest(ticked, heard);
    if (nextEnd === this.nextEnd && nextEnd > now) {
      this.vainMs = Math.min(VAIN_MAX_MS, this.vainMs === 0 ? VAIN_MS : 2 * this.vainMs);
      // The log's time may be behind this client's clock: its own time says how long.
      return this.wait(Math.max(this.vainMs, nextEnd - now));
    }
    this.vainMs = 0;
    this.nextEnd = nextEnd;
    if (nextEnd > 0 && nextEnd <= now) this.in(MORE_MS, () => this.tick());
    else this.wait();
  }
}

/**
 * What a replica said meanwhile may be older than the tick, or newer: a key that was put after it. So the sooner end counts;
 * if it is not there any more, the replica that is asked then says so. What ended before the tick, the tick has dealt with.
 */
function soonest({ now, nextEnd }: Ticked, heard = 0): number {
  return heard > now && (nextEnd === 0 || heard < nextEnd) ? heard : nextEnd;
}

const tickers = new WeakMap<object, EndTicker>();

/** The ticker of a client, for all of its watches, whichever StoreClient they are of. */
export function endTickerOf(client: { agreedTime(): number }, timers: Timers, tick: () => Promise<Ticked>): EndTicker {
  let ticker = tickers.get(client);
  if (ticker !== undefined) return ticker;
  ticker = new EndTicker({
    agreedTime: () => client.agreedTime(),
    monotonicTime: () => timers.monotonicMs(),
    tick,
    random: () => timers.random(),
    after: (ms, run) => timers.after(ms, run),
  });
  tickers.set(client, ticker);
  return ticker;
}
