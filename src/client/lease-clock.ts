/** What a holder of a lease knows of time: see lease.ts. */
export interface LeaseClock {
  /** ms; goes on while the process is stopped. */
  monotonicMs(): number;
  /** This host's clock as it is read, ms. */
  wallMs(): number;
  /** How far the clock of a replica may be ahead of `wallMs` now, ms. Undefined: nothing tells. */
  aheadMs(): number | undefined;
  /** Calls `run` once, about `ms` from now, unless the returned function is called before. */
  after(ms: number, run: () => void): () => void;
  /** Calls `run` when the client is closed, or has failed. After that the clocks cannot be read. */
  whenClosed(run: () => void): void;
}

/** A reading that took longer is repeated: the process was stopped between the clocks. */
const PAIR_MS = 0.5;
const PAIR_TRIES = 4;

/** Both clocks, read as close to each other as it can be done. */
export function readBoth(clock: LeaseClock): { readonly monotonicMs: number; readonly wallMs: number } {
  let before = clock.monotonicMs();
  for (let tries = 1; ; tries++) {
    const wallMs = clock.wallMs();
    const after = clock.monotonicMs();
    // The later one: a lease ends earlier by it.
    if (after - before <= PAIR_MS || tries === PAIR_TRIES) return { monotonicMs: after, wallMs };
    before = after;
  }
}
