/**
 * The only source of chance in a simulation: sfc32 (Chris Doty-Humphrey's small fast counting generator, 128 bits of
 * state, passes PractRand), on integers, so that a seed means the same on every machine.
 *
 * Each part of a simulation draws from its own fork. Otherwise a change in one part (one more message) would reshuffle
 * all the others, and every change of the code would change the meaning of every seed.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter: number;

  /** @param seed any safe integer, 0 included */
  constructor(seed: number) {
    this.a = seed | 0;
    this.b = Math.floor(seed / 0x100000000) | 0;
    this.c = 0x6a09e667;
    this.counter = 1;
    // Sixteen rounds spread a small seed over the whole state.
    for (let i = 0; i < 16; i++) this.next();
  }

  /** An independent generator, determined by this one's state and `label`; draws once. */
  fork(label: string): Random {
    let hash = this.next();
    for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193);
    return new Random((hash >>> 0) * 0x200000 + (this.next() >>> 11));
  }

  /** 32 random bits, signed. */
  next(): number {
    const t = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + t) | 0;
    return t;
  }

  /** 0 ≤ x < 1. */
  unit(): number {
    return (this.next() >>> 0) / 0x100000000;
  }

  /** A whole number, 0 ≤ x < `below`. */
  below(below: number): number {
    return Math.floor(this.unit() * below);
  }

  /** A whole number, both ends included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** Exponentially distributed, for the gaps of a Poisson process. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.unit());
  }

  /** Log-normally distributed: half of the values lie below `median`. */
  logNormal(median: number, sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.unit()));
    return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.unit()));
  }

  /** Pareto distributed from `least` on; the smaller `shape`, the heavier the tail. */
  pareto(least: number, shape: number): number {
    return least / (1 - this.unit()) ** (1 / shape);
  }

  /** Shuffles in place and returns the array. */
  shuffle<T>(values: T[]): T[] {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const kept = values[i]!;
      values[i] = values[j]!;
      values[j] = kept;
    }
    return values;
  }
}
