/**
 * Messages of a transfer that came before their turn: one answer is many messages, which may overtake each other. May be
 * changed freely: each is checked when its turn comes.
 */

/** Most messages that are kept. */
const MESSAGES_MAX = 512;
/** If this many came from beyond a place, the message that belongs there is lost rather than late. */
const OVERTAKING_MAX = 3;

export class EarlyMessages {
  /** By the index or the offset behind which each begins. */
  private readonly messages = new Map<number, Uint8Array>();
  private lostAt = -1;

  clear(): void {
    this.messages.clear();
    this.lostAt = -1;
  }

  keep(at: number, bytes: Uint8Array, o: number, length: number): void {
    if (this.messages.size >= MESSAGES_MAX) this.messages.clear();
    this.messages.set(at, bytes.slice(o, o + length));
  }

  /** The message that begins behind `at`, if it came early. */
  take(at: number): Uint8Array | undefined {
    const message = this.messages.get(at);
    this.messages.delete(at);
    return message;
  }

  /** Messages from beyond `at` are here. Those from before it, which are never taken, are forgotten. */
  hasBeyond(at: number): boolean {
    for (const each of this.messages.keys()) if (each < at) this.messages.delete(each);
    return this.messages.size > 0;
  }

  /** The message that begins behind `at` is taken for lost. True once for each place. */
  isLost(at: number): boolean {
    if (at === this.lostAt || !this.hasBeyond(at) || this.messages.size < OVERTAKING_MAX) return false;
    this.lostAt = at;
    return true;
  }

  /** Where the first of them begins. */
  first(): number {
    return Math.min(...this.messages.keys());
  }
}
