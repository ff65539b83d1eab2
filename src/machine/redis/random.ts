/**
 * Random numbers of the commands that choose at random (xoshiro128**, Blackman and Vigna, public domain). The same seed
 * gives the same numbers at every replica. Not for secrets.
 */
export class CommandRandom {
  readonly #state = new Int32Array(4);

  /** Begins again. The words may be any, all zero too. */
  seed(a: number, b: number, c: number): void {
    const state = this.#state;
    let word = a | 0;
    for (let i = 0; i < 4; i++) {
      word = (word + 0x9e3779b9) | 0;
      let mixed = word ^ (i === 1 ? b : i === 2 ? c : 0);
      mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      state[i] = mixed ^ (mixed >>> 16);
    }
    // All zeros would stay zeros.
    state[3]! |= 1;
    for (let i = 0; i < 4; i++) this.u32();
  }

  u32(): number {
    const state = this.#state;
    const s1 = state[1]!;
    const five = Math.imul(s1, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9);
    const t = s1 << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= s1;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= t;
    state[3] = (state[3]! << 11) | (state[3]! >>> 21);
    return result >>> 0;
  }

  /** An integer from 0 to below the bound, which is at most 2^32. */
  below(bound: number): number {
    return Math.floor((this.u32() / 4294967296) * bound);
  }
}
