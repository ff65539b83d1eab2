/**
 * Two processes that speak under the id of one host at the same time: both have a copy of one data directory. A process
 * that goes on in another encrypted stream (wire/streams.ts) says nothing new in the one before; two processes take
 * turns. Datagrams that overtook each other return as well, but only for a moment. Datagrams without encryption show
 * nothing.
 *
 * It is no proof. Datagrams that this process has never received count as new, so whoever recorded an earlier life before
 * this process started, or held back what it sent, can imitate a second one. What is said names both causes.
 *
 * The rule: it only tells. Nothing here decides whom the replica hears, or whether one lives.
 */

/** How often it looks. */
export const LOOK_US = 10_000_000;
/** From this many returns on, a host has two lives in the time since the look before. */
const RETURNS = 3;
/** It is said after this many such times in a row, and no longer after as many quiet ones as follow. */
const LOOKS = 3;
const QUIET_LOOKS = 6;

export class TwoLives {
  /** The slots of the hosts in question, one bit each. */
  mask = 0;
  private readonly ids: Int32Array;
  private readonly seen: Float64Array;
  /** By slot: looks in a row at which two lives were seen, and at which none was. */
  private readonly twice: Int32Array;
  private readonly quiet: Int32Array;
  private lookedUs = -Infinity;

  constructor(slots: number) {
    this.ids = new Int32Array(slots).fill(-1);
    this.seen = new Float64Array(slots);
    this.twice = new Int32Array(slots);
    this.quiet = new Int32Array(slots);
  }

  /**
   * Returns the slots of hosts that are now in question and were not before, one bit each. Looks only once in LOOK_US.
   * @param returns by slot: how often an earlier stream of its host spoke anew
   */
  look(returns: Float64Array, hosts: { idOf(slot: number): number }, nowUs: number): number {
    if (nowUs - this.lookedUs < LOOK_US) return 0;
    this.lookedUs = nowUs;
    const before = this.mask;
    for (let slot = 0; slot < this.seen.length; slot++) {
      const isTwice = returns[slot]! - this.seen[slot]! >= RETURNS;
      this.seen[slot] = returns[slot]!;
      const id = hosts.idOf(slot);
      if (id !== this.ids[slot]) {
        this.ids[slot] = id;
        this.mask &= ~(1 << slot);
        this.twice[slot] = 0;
        continue;
      }
      this.twice[slot] = isTwice ? this.twice[slot]! + 1 : 0;
      this.quiet[slot] = isTwice ? 0 : this.quiet[slot]! + 1;
      if (this.twice[slot]! >= LOOKS) this.mask |= 1 << slot;
      else if (this.quiet[slot]! >= QUIET_LOOKS) this.mask &= ~(1 << slot);
    }
    return this.mask & ~before;
  }
}

/** What is found and what to do, for logs, status and doctor. @param ids of the hosts */
export function twoLivesText(ids: readonly number[]): { readonly found: string; readonly next: string } {
  const plural = ids.length > 1;
  return {
    found: `two processes seem to speak as host${plural ? 's' : ''} ${ids.join(', ')}: either ${plural ? 'their data directories were' : 'its data directory was'} copied and both copies run, or someone replays what an earlier process sent`,
    next: 'look for a second process on the hosts that may have a copy. If there is one, stop the process that is not at the listed address (jitpaxos member list), and never start its copy again: two copies of one directory can lose what was acknowledged. If there is none, stop nothing, and see docs/operate/security.md, "Replays"',
  };
}
