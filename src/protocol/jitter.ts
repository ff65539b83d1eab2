/**
 * Deterministic jitter for timeouts: the core draws nothing at random; its seed comes with the configuration.
 * Mulberry32.
 */
export class Jitter {
  /** The number that `step` drew, from 0 to below 1. An array, since a double that a call returns is allocated. */
  readonly value = new Float64Array(1);
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0;
  }

  /** A number from 0 to below 1. */
  next(): number {
    this.step();
    return this.value[0]!;
  }

  step(): void {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    this.value[0] = ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
}
