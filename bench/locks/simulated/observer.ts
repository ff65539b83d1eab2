/**
 * What processes of a simulated cluster believed of a lock, judged on the one clock of the simulation.
 *
 * Rule: once a process was told that it holds the lock, none with a smaller token may be told so any more. And a write that
 * was sent after that, with a smaller token as its fence, is never executed.
 */
import { noLosses, type LossCause, type Losses } from '../losses.js';

export interface Observed {
  handOvers: number;
  /** Times that a process was told that it holds, although a later one had been told so before. */
  overlaps: number;
  /** Holds that ended before they were released, by cause; of processes that were not killed. */
  readonly losses: Losses;
  /** Writes that were refused. */
  fenced: number;
  /** Those of them that were sent after a later holder had been told that it holds; and those that were executed. */
  staleFenced: number;
  staleExecuted: number;
}

export class Observer {
  readonly observed: Observed = {
    handOvers: 0,
    overlaps: 0,
    losses: noLosses(),
    fenced: 0,
    staleFenced: 0,
    staleExecuted: 0,
  };
  /** The largest token that was held so far. */
  private latest = 0;
  /** The last write of each token is above the last one of all smaller tokens. */
  private lastWrite = { revision: 0, token: 0 };

  /** A process was told that it holds. */
  holds(token: number): void {
    if (token < this.latest) this.observed.overlaps++;
    else this.latest = token;
  }

  taken(token: number): void {
    this.observed.handOvers++;
    this.holds(token);
  }

  lost(cause: LossCause): void {
    this.observed.losses[cause]++;
  }

  /** Whether a write that is sent now is stale. */
  isStale(token: number): boolean {
    return token < this.latest;
  }

  executed(token: number, revision: number, wasStale: boolean): void {
    const { lastWrite } = this;
    const isBehind = revision > lastWrite.revision ? token < lastWrite.token : token > lastWrite.token;
    if (wasStale || isBehind) this.observed.staleExecuted++;
    if (revision > lastWrite.revision) this.lastWrite = { revision, token };
  }

  refused(wasStale: boolean): void {
    this.observed.fenced++;
    if (wasStale) this.observed.staleFenced++;
  }
}
