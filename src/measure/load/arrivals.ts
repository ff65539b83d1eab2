/**
 * When an open loop intends to send: fixed before anything is measured, by rate and seed alone, so that a slow server
 * cannot slow down its own load.
 *
 * Several client processes share a load. Poisson: each has its own arrivals at its share of the rate; together they are
 * Poisson again. Even: client i of C takes every C-th moment of one even grid, so that together they are even.
 */
import { seededRandom } from './random.js';

export type ArrivalKind = 'poisson' | 'even';

export interface ArrivalsOptions {
  readonly kind: ArrivalKind;
  /** For all clients together. */
  readonly ratePerSecond: number;
  readonly seed: number;
  /** Which of `clients` this is, from 0. */
  readonly client: number;
  readonly clients: number;
}

const NS_PER_SECOND = 1e9;

export class Arrivals {
  private readonly random: () => number;
  private readonly meanGapNs: number;
  /** How many moments of an even grid have passed. */
  private taken = 0;
  /** A field that holds a double from the start is written in place. */
  private nextAtNs = 0.5;

  constructor(private readonly options: ArrivalsOptions) {
    const { kind, ratePerSecond, seed, client, clients } = options;
    this.random = seededRandom(Math.imul(seed, 0x9e3779b1) + client);
    this.meanGapNs = (NS_PER_SECOND * clients) / ratePerSecond;
    this.nextAtNs = kind === 'even' ? this.onGrid() : this.exponential();
  }

  /** The next intended time, ns since the start. */
  get nextNs(): number {
    return this.nextAtNs;
  }

  /** Moves on to the arrival after `nextNs`. */
  advance(): void {
    if (this.options.kind === 'even') {
      this.taken += 1;
      this.nextAtNs = this.onGrid();
    } else this.nextAtNs += this.exponential();
  }

  /** Computed from the number of the moment, not by adding gaps, so it does not drift. */
  private onGrid(): number {
    return (this.taken + this.options.client / this.options.clients) * this.meanGapNs;
  }

  private exponential(): number {
    return -Math.log(1 - this.random()) * this.meanGapNs;
  }
}
