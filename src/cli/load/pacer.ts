/**
 * Wakes an open loop when the next arrival is due, with the precision that the host has.
 *
 * Node's timers count whole milliseconds and come late by up to one more; arrivals come every few microseconds. `spin`:
 * a timer for all but the last two milliseconds, then turns of the event loop, which serve packets as they come; a
 * client that sends more than some 500 operations a second so keeps a core busy. `sleep`: timers only; arrivals then go out
 * in bursts, up to two milliseconds late, and the reported scheduling delay says so.
 */
export type PacingKind = 'spin' | 'sleep';

const NS_PER_MS = 1e6;
const SPIN_NS = 2 * NS_PER_MS;
/** Node's timers are int32 milliseconds. */
const LONGEST_MS = 0x3fffffff;

export class Pacer {
  private timeout: NodeJS.Timeout | undefined;
  private immediate: NodeJS.Immediate | undefined;

  /** @param wake finds out what is due, which may be nothing yet, and arms again */
  constructor(
    private readonly kind: PacingKind,
    private readonly wake: () => void,
  ) {}

  /** Calls `wake` once, as near to so many ns from now as may be; Infinity: not at all. Replaces what was armed. */
  arm(delayNs: number): void {
    if (this.immediate !== undefined && delayNs <= SPIN_NS) return; // comes with the next turn anyway
    this.stop();
    if (delayNs === Infinity) return;
    const spins = this.kind === 'spin' ? delayNs <= SPIN_NS : delayNs <= 0;
    if (spins) this.immediate = setImmediate(this.onImmediate);
    else this.timeout = setTimeout(this.onTimeout, Math.min(LONGEST_MS, this.kind === 'spin' ? Math.floor((delayNs - SPIN_NS) / NS_PER_MS) + 1 : Math.ceil(delayNs / NS_PER_MS)));
  }

  stop(): void {
    if (this.timeout !== undefined) clearTimeout(this.timeout);
    if (this.immediate !== undefined) clearImmediate(this.immediate);
    this.timeout = undefined;
    this.immediate = undefined;
  }

  private readonly onImmediate = (): void => {
    this.immediate = undefined;
    this.wake();
  };

  private readonly onTimeout = (): void => {
    this.timeout = undefined;
    this.wake();
  };
}
